"""Safetensors files, memory-mapped."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open

from latq.dtypes import DTYPES
from latq.errors import InputError, ParameterError, UnsupportedError
from latq.sources.base import Array, Extras, Sink, Source, SourceTensor, TensorSpec
from latq.sources.files import FileArray, allocate, map_bytes, read_start, view
from latq.sources.select import select

# In the order of the format's own list of types, by which the official writer sorts the data.
_CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_CODE_OF = {name: code for code, name in _CODES.items()}
_RANK = {name: rank for rank, name in enumerate(_CODES.values())}
_METADATA = "__metadata__"
DEFAULT_AXIS = -1  # Checkpoints keep weights as (outputs, inputs): the product sums over the last axis.


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class SafetensorsFile:
    """The header of one safetensors file, and its bytes once a tensor is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header_size = int.from_bytes(read_start(path, 8), "little")
        try:
            # The official reader checks every size and offset; it is not used for the data, because it can
            # neither slice float8 nor empty tensors.
            with safe_open(path, framework="np"):
                pass
            header = json.loads(read_start(path, 8 + header_size)[8:])
            self.metadata: dict[str, str] = header.pop(_METADATA, None) or {}
            self.entries = msgspec.convert(header, dict[str, _Entry])
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(f"{path}: not a sound .safetensors file ({error}); copy or download it again") from error
        self._data_start = 8 + header_size
        self._mapping = map_bytes(path)

    def tensor(self, name: str) -> SourceTensor:
        entry = self.entries.get(name)
        if entry is None:
            raise InputError(f"{self.path}: tensor {name!r} of the index is missing; download the shard again")
        if entry.dtype not in _CODES:
            raise UnsupportedError(
                f"{self.path}: tensor {name!r} has dtype {entry.dtype}, which cannot be stored; "
                "choose others with --tensor"
            )
        return SourceTensor.of(name, self._array(entry), f"{self.path}: tensor {name!r}")

    def _array(self, entry: _Entry) -> Array:
        dtype = DTYPES[_CODES[entry.dtype]].newbyteorder("<")
        return view(self._mapping, dtype, entry.shape, self._data_start + entry.data_offsets[0])


def open_safetensors(path: Path, globs: Sequence[str] = ()) -> Source:
    file = SafetensorsFile(path)
    tensors = [file.tensor(name) for name in select(file.entries, globs, str(path))]
    return Source("safetensors", tensors, DEFAULT_AXIS, {"metadata": file.metadata}, files=[str(path)])


def create_safetensors(path: Path, tensors: Sequence[TensorSpec], extras: Extras) -> Sink:
    if any(spec.name == _METADATA for spec in tensors):
        raise ParameterError(f"{path}: a .safetensors file cannot hold a tensor named {_METADATA!r}; rename it")
    ordered = sorted(tensors, key=lambda spec: (-_RANK[spec.dtype], spec.name))
    bounds = list(accumulate((nbytes(spec) for spec in ordered), initial=0))
    header = _header(ordered, bounds, extras.metadata)
    lost = Extras(attributes=extras.attributes).left_out(".safetensors")
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "w+b"))
        file.write(header)
        allocate(file, len(header) + bounds[-1])
        targets = {
            spec.name: FileArray(file, len(header) + start, spec.shape, DTYPES[spec.dtype].newbyteorder("<"))
            for spec, start in zip(ordered, bounds, strict=False)
        }
        return Sink("safetensors", targets, lost, on_close=stack.pop_all().close)


def nbytes(spec: TensorSpec) -> int:
    """Bytes of its entries."""
    return prod(spec.shape) * DTYPES[spec.dtype].itemsize


def _header(ordered: Sequence[TensorSpec], bounds: Sequence[int], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    for spec, offsets in zip(ordered, pairwise(bounds), strict=True):
        entries[spec.name] = {"dtype": _CODE_OF[spec.dtype], "shape": spec.shape, "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
