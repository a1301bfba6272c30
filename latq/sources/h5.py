"""HDF5 files: every numeric dataset of every group."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import h5py
import numpy as np

from latq.dtypes import DTYPES, dtype_name
from latq.errors import InputError, ParameterError, UnsupportedError
from latq.sources.base import Array, Extras, Index, Sink, Source, SourceTensor, TensorSpec
from latq.sources.files import read_start
from latq.sources.h5_attributes import decode_value, encode_attributes
from latq.sources.select import select

_LOCK = RLock()  # The HDF5 library is not safe to call from several threads.
_ROOT = "/"
_ADVICE = "choose other datasets with --tensor"


@contextmanager
def _guarded(message: str) -> Iterator[None]:
    """Hold the lock, and turn what h5py raises about a bad file into an InputError."""
    with _LOCK:
        try:
            yield
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{message} ({error})") from error


@dataclass(frozen=True)
class _H5Array:
    """A dataset whose failures name the file."""

    dataset: h5py.Dataset
    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: Index, /) -> Any:
        with _guarded(f"{self.where}: cannot be read, the file may be corrupt; copy it again"):
            return self.dataset[index]

    def __setitem__(self, index: Index, block: Array, /) -> None:
        with _guarded(f"{self.where}: cannot be written; check the room on the disk"):
            self.dataset[index] = block


def open_h5(path: Path, globs: Sequence[str] = ()) -> Source:
    read_start(path, 1)
    with ExitStack() as stack:
        with _guarded(f"{path}: not a sound HDF5 file; copy or download it again"):
            file = stack.enter_context(h5py.File(path, "r"))
            tree = _walk(file)
        names = select(tree.datasets, [glob.lstrip("/") for glob in globs], str(path))
        tensors = [_tensor(tree.datasets[name], name, path) for name in names]
        groups = [name for name in sorted(tree.groups) if not globs or any(n.startswith(f"{name}/") for n in names)]
        with _guarded(f"{path}: attributes cannot be read; copy the file again"):
            attributes, dropped = _attributes(file, [_ROOT, *groups, *names])
        warnings = [
            *_warning(path, "external links not followed", tree.external),
            *_warning(path, "further names of the same objects ignored", tree.aliases),
            *_warning(path, "attributes dropped, their type cannot be kept", dropped),
        ]
        close = stack.pop_all().close
    return Source("h5", tensors, 0, {"attributes": attributes, "groups": groups}, warnings, [str(path)], on_close=close)


@dataclass
class _Tree:
    """What the hard links of a file lead to, each object under the first of its names."""

    datasets: dict[str, h5py.Dataset] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


def _walk(file: h5py.File) -> _Tree:
    tree = _Tree()
    seen = {_address(file)}
    pending: list[tuple[str, h5py.Group]] = [("", file)]
    for prefix, group in pending:  # It grows while it is walked: shorter names come first.
        for key in sorted(group):
            name = prefix + key
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                tree.external.append(name)
            elif isinstance(link, h5py.SoftLink):
                # Never opened: what it names is found by its hard link, or is not in this file.
                tree.aliases.append(name)
            elif (address := _address(item := group[key])) in seen:
                tree.aliases.append(name)
            else:
                seen.add(address)
                if isinstance(item, h5py.Dataset):
                    tree.datasets[name] = item
                elif isinstance(item, h5py.Group):
                    tree.groups.append(name)
                    pending.append((f"{name}/", item))
    return tree


def _address(item: h5py.HLObject) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _tensor(dataset: h5py.Dataset, name: str, path: Path) -> SourceTensor:
    where = f"{path}:/{name}"
    with _guarded(f"{where}: cannot be read; copy the file again"):
        if dataset.shape is None:
            raise UnsupportedError(f"{where}: the dataset has no shape (a null dataspace); {_ADVICE}")
        if dataset.is_virtual or dataset.external:
            raise UnsupportedError(f"{where}: its data lie in other files; copy them into this one first")
        try:
            dtype = dataset.dtype
        except TypeError as error:
            raise UnsupportedError(f"{where}: its type has no NumPy equivalent; {_ADVICE}") from error
    return SourceTensor(
        name, dataset.shape, dtype_name(dtype, where, _ADVICE), _H5Array(dataset, where, dataset.shape, dtype)
    )


def _attributes(file: h5py.File, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The attributes of the named objects that have any, and the paths of those that cannot be kept."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for name in names:
        encoded, lost = encode_attributes(file[name].attrs)
        dropped += [f"{name}@{key}" for key in lost]
        if encoded:
            kept[name] = encoded
    return kept, dropped


def _warning(path: Path, reason: str, names: Sequence[str]) -> list[str]:
    return [f"{path}: {reason}: {', '.join(names)}"] if names else []


def create_h5(path: Path, tensors: Sequence[TensorSpec], extras: Extras) -> Sink:
    with ExitStack() as stack:
        with _LOCK:
            file = stack.enter_context(h5py.File(path, "w"))
            for name in extras.groups:
                file.require_group(_checked(name, path))
            targets = {spec.name: _create(file, spec, path) for spec in tensors}
            dropped = _restore_attributes(file, extras.attributes)
        warnings = Extras(metadata=extras.metadata).left_out(".h5")
        warnings += _warning(path, "attributes dropped, they cannot be written", dropped)
        close = stack.pop_all().close

    def finish() -> None:
        with _guarded(f"{path}: cannot be written; check the room on the disk"):
            close()

    return Sink("h5", targets, warnings, on_close=finish)


def _create(file: h5py.File, spec: TensorSpec, path: Path) -> _H5Array:
    try:
        dataset = file.create_dataset(_checked(spec.name, path), shape=spec.shape, dtype=DTYPES[spec.dtype])
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, ParameterError):
            raise
        # For instance "a" and "a/b": HDF5 cannot have a dataset where a group is needed.
        raise ParameterError(f"{path}: cannot create dataset {spec.name!r} ({error}); write .safetensors") from error
    return _H5Array(dataset, f"{path}:/{spec.name}", spec.shape, DTYPES[spec.dtype])


def _checked(name: str, path: Path) -> str:
    if any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable():
        raise ParameterError(f"{path}: {name!r} cannot be a name in an HDF5 file; write .safetensors instead")
    return name


def _restore_attributes(file: h5py.File, attributes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Set the attributes of the objects that are there; the paths of those that cannot be set."""
    dropped = []
    for name, values in attributes.items():
        if name not in file:
            continue
        for key, value in values.items():
            try:
                file[name].attrs[key] = decode_value(value)
            except (OSError, KeyError, RuntimeError, TypeError, ValueError):
                dropped.append(f"{name}@{key}")
    return dropped
