"""NumPy .npy files: one memory-mapped array each."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from latq.dtypes import DTYPES, dtype_name
from latq.errors import InputError, ParameterError
from latq.sources.base import Array, Extras, Sink, Source, SourceTensor, TensorSpec
from latq.sources.files import FileArray, allocate, map_bytes, read_start, view
from latq.sources.select import select

MAGIC = b"\x93NUMPY"
NAME = "data"  # An .npy file does not name its array.

_MAX_HEADER = 1 << 16


def open_npy(path: Path, globs: Sequence[str] = ()) -> Source:
    names = select([NAME], globs, str(path))
    array = _map_array(path)
    return Source("npy", [SourceTensor.of(name, array, str(path)) for name in names], default_axis=0, files=[str(path)])


def _map_array(path: Path) -> Array:
    _check_start(path)
    with open(path, "rb") as file:
        shape, fortran, dtype = _read_header(file, path)
        offset = file.tell()
    dtype_name(dtype, str(path))
    mapping = map_bytes(path)
    need = offset + prod(shape) * dtype.itemsize
    if need > len(mapping):
        raise InputError(f"{path}: truncated, {need} bytes expected but {len(mapping)} found; copy the file again")
    try:
        return view(mapping, dtype, shape, offset, "F" if fortran else "C")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: shape {shape} is not usable ({error}); write the file again") from error


def _check_start(path: Path) -> None:
    """Cap the declared header length, because NumPy reads that much before it looks at any limit."""
    start = read_start(path, 12)
    if not start.startswith(MAGIC) or len(start) < 12:
        raise InputError(f"{path}: not an .npy file, its signature is missing; check that it is the right file")
    if start[6] not in (1, 2, 3):
        raise InputError(f"{path}: .npy version {start[6]} is unknown; save the array again with numpy.save")
    length = int.from_bytes(start[8:10] if start[6] == 1 else start[8:12], "little")
    if length > min(_MAX_HEADER, path.stat().st_size):
        raise InputError(f"{path}: the header claims {length} bytes, more than any sound one; the file is corrupt")


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        # Version 3 differs from 2 only in how it spells structured dtypes, which are refused anyway.
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # The header is a Python literal: a hostile one makes its parser raise almost anything.
        raise InputError(f"{path}: the .npy header is malformed; save the array again with numpy.save") from error
    if any(size < 0 for size in shape):
        raise InputError(f"{path}: shape {shape} has a negative size; save the array again with numpy.save")
    return shape, fortran, dtype


def create_npy(path: Path, tensors: Sequence[TensorSpec], extras: Extras) -> Sink:
    if len(tensors) != 1:
        raise ParameterError(
            f"{path}: .npy holds one array, not {len(tensors)}; choose one with --tensor or write .h5 or .safetensors"
        )
    (spec,) = tensors
    dtype = DTYPES[spec.dtype]
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": spec.shape}
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "w+b"))
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        allocate(file, offset + prod(spec.shape) * dtype.itemsize)
        target = FileArray(file, offset, spec.shape, dtype)
        return Sink("npy", {spec.name: target}, extras.left_out(".npy"), on_close=stack.pop_all().close)


def reopen_npy(path: Path, spec: TensorSpec) -> Sink:
    """Go on writing an array that ``create_npy`` began; InputError if it is another one."""
    _check_start(path)
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "r+b"))
        shape, fortran, dtype = _read_header(file, path)
        offset = file.tell()
        whole = os.fstat(file.fileno()).st_size == offset + prod(shape) * dtype.itemsize
        if (shape, fortran, dtype, whole) != (spec.shape, False, DTYPES[spec.dtype], True):
            raise InputError(f"{path}: is not the {spec.dtype} array of shape {spec.shape} that was begun; delete it")
        target = FileArray(file, offset, shape, dtype)
        return Sink("npy", {spec.name: target}, on_close=stack.pop_all().close)
