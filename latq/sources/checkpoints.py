"""Checkpoints: a folder of safetensors files that hold the tensors of one model, often with an index of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from latq.errors import CorruptError, InputError
from latq.sources.base import Checkpoint, Extras, Shard, Sink, Source, TensorSpec, WritableArray
from latq.sources.files import read_start
from latq.sources.safetensors_files import DEFAULT_AXIS, SafetensorsFile, create_safetensors, nbytes
from latq.sources.select import select

INDEX_SUFFIX = ".index.json"
SHARD_SUFFIX = ".safetensors"
# What holds the tensors of a file that was not made from a checkpoint.
ONLY_SHARD = "model.safetensors"
MAX_FILE_NAME_BYTES = 255
_TOTAL = "total_size"


class _Index(msgspec.Struct):
    weight_map: dict[str, str]
    metadata: dict[str, Any] = {}


def open_indexed(path: Path, globs: Sequence[str] = ()) -> Source:
    """A checkpoint through its ``*.index.json``; only the shards that hold selected tensors are opened."""
    index = _read_index(path)
    names = select(index.weight_map, globs, str(path))
    shards = {shard: _open_shard(path, shard) for shard in sorted({index.weight_map[name] for name in names})}
    source = _source(names, index.weight_map, shards, Checkpoint({}, path.name, index.metadata), [str(path)])
    for shard, file in shards.items():
        for name in file.entries:
            if index.weight_map.get(name) != shard:
                raise InputError(f"{path}: tensor {name!r} of {shard} is not in the weight_map; download both again")
    return source


def open_folder(folder: Path, globs: Sequence[str] = ()) -> Source:
    """The checkpoint of the index in a folder; without one all its safetensors files, which share one namespace.

    Of several indexes that of ``model.safetensors`` counts.
    """
    indexes = sorted(folder.glob(f"*{SHARD_SUFFIX}{INDEX_SUFFIX}"))
    indexes = [path for path in indexes if path.name == ONLY_SHARD + INDEX_SUFFIX] or indexes
    if len(indexes) > 1:
        raise InputError(f"{folder}: holds {indexes[0].name} and {indexes[1].name}; name one of them instead")
    return open_indexed(indexes[0], globs) if indexes else _open_shards(folder, globs)


def _open_shards(folder: Path, globs: Sequence[str]) -> Source:
    """All safetensors files of a folder."""
    paths = sorted(path for path in folder.glob(f"*{SHARD_SUFFIX}") if path.is_file() and path.name[0] != ".")
    if not paths:
        raise InputError(f"{folder}: the directory holds no {SHARD_SUFFIX} files; name a file instead")
    shards = {path.name: SafetensorsFile(path) for path in paths}
    shard_of: dict[str, str] = {}
    for shard, file in shards.items():
        if reason := _unfit(shard, SHARD_SUFFIX):
            raise InputError(f"{folder}: file {shard!r}: {reason}; rename it")
        for name in file.entries:
            if shard_of.setdefault(name, shard) != shard:
                raise InputError(
                    f"{folder}: tensor {name!r} is in {shard_of[name]} and in {shard}; name one of the files instead"
                )
    return _source(select(shard_of, globs, str(folder)), shard_of, shards, Checkpoint({}), [])


def _source(
    names: Sequence[str],
    shard_of: Mapping[str, str],
    shards: Mapping[str, SafetensorsFile],
    checkpoint: Checkpoint,
    read: list[str],
) -> Source:
    """The named tensors; ``checkpoint`` has no shards yet."""
    for name in names:
        file = shards[shard_of[name]]
        checkpoint.shards.setdefault(file.path.name, Shard([], file.metadata)).tensors.append(name)
    used = [shards[shard] for shard in sorted(checkpoint.shards)]
    extras = {
        "metadata": {key: value for file in used for key, value in file.metadata.items()},
        "checkpoint": msgspec.to_builtins(checkpoint),
    }
    tensors = [shards[shard_of[name]].tensor(name) for name in names]
    return Source("safetensors", tensors, DEFAULT_AXIS, extras, files=[*read, *(str(file.path) for file in used)])


def _read_index(path: Path) -> _Index:
    try:
        return msgspec.json.decode(read_start(path, -1), type=_Index)
    except msgspec.MsgspecError as error:
        raise InputError(f"{path}: not a safetensors index ({error}); download it again") from error


def _open_shard(index: Path, shard: str) -> SafetensorsFile:
    if reason := _unfit(shard, SHARD_SUFFIX):
        raise InputError(f"{index}: shard {shard!r} {reason}; correct the index")
    path = index.parent / shard
    if not path.is_file():
        raise InputError(f"{index}: shard {shard!r} is missing; download it into the directory of the index")
    return SafetensorsFile(path)


def _unfit(name: str, suffix: str) -> str | None:
    """Why a file of a checkpoint cannot have this name, or None."""
    if "/" in name or "\\" in name:
        return "lies outside the directory of the checkpoint"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "has control characters in its name"
    if name.startswith(".") or not name.endswith(suffix):
        return f"is no name of a {suffix} file"
    if len(name.encode(errors="surrogatepass")) > MAX_FILE_NAME_BYTES:
        return f"has a name of more than {MAX_FILE_NAME_BYTES} bytes"
    return None


def checkpoint_files(names: Iterable[str], extras: Extras, where: str) -> list[str]:
    """Names of the files that ``create_checkpoint`` writes for the named tensors, the index last."""
    shards, checkpoint = set(_shards_of(names, extras, where).values()), extras.checkpoint
    return [*sorted(shards), *([checkpoint.index] if checkpoint and checkpoint.index else [])]


def _shards_of(names: Iterable[str], extras: Extras, where: str) -> dict[str, str]:
    """The shard of every tensor. CorruptError, with ``where``, for shards that no checkpoint has."""
    checkpoint = extras.checkpoint
    if checkpoint is None:
        return dict.fromkeys(names, ONLY_SHARD)
    wanted = [(shard, SHARD_SUFFIX) for shard in checkpoint.shards]
    wanted += [(checkpoint.index, INDEX_SUFFIX)] if checkpoint.index else []
    for file, suffix in wanted:
        if reason := _unfit(file, suffix):
            raise CorruptError(f"{where}: file {file!r} of the checkpoint {reason}; write a single file instead")
    held = [(name, shard) for shard, held in checkpoint.shards.items() for name in held.tensors]
    shard_of = dict(held)
    missing = [name for name in names if name not in shard_of]
    if missing or len(shard_of) < len(held):
        what = f"tensor {missing[0]!r} is in no shard" if missing else "a tensor is in two shards"
        raise CorruptError(f"{where}: {what} of the checkpoint; write a single file instead")
    return {name: shard_of[name] for name in names}


def create_checkpoint(folder: Path, tensors: Sequence[TensorSpec], extras: Extras) -> Sink:
    """Write the shards and the index into an empty folder."""
    shard_of = _shards_of([spec.name for spec in tensors], extras, str(folder))
    targets: dict[str, WritableArray] = {}
    with ExitStack() as stack:
        for shard in sorted(set(shard_of.values())):
            held = [spec for spec in tensors if shard_of[spec.name] == shard]
            metadata = extras.checkpoint.shards[shard].metadata if extras.checkpoint else extras.metadata
            targets |= stack.enter_context(create_safetensors(folder / shard, held, Extras(metadata=metadata))).targets
        if extras.checkpoint and extras.checkpoint.index:
            index = _index_of(extras.checkpoint, shard_of, sum(map(nbytes, tensors)))
            (folder / extras.checkpoint.index).write_text(index, encoding="utf-8")
        lost = Extras(attributes=extras.attributes).left_out(SHARD_SUFFIX)
        return Sink("checkpoint", targets, lost, on_close=stack.pop_all().close)


def _index_of(checkpoint: Checkpoint, shard_of: Mapping[str, str], total: int) -> str:
    """The index as transformers lays it out; the total is that of the tensors that were chosen, in their dtypes."""
    metadata = checkpoint.metadata | ({_TOTAL: total} if _TOTAL in checkpoint.metadata else {})
    text = json.dumps({"metadata": metadata, "weight_map": dict(sorted(shard_of.items()))}, indent=2)
    return text + "\n"
