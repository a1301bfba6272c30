"""Finding, probing and mapping the files behind sources and sinks."""

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal
from weakref import WeakKeyDictionary, finalize

import numpy as np

from latq.errors import InputError
from latq.sources.base import Array, Index

# Pages of mapped files that may be in the memory of the process, and how often that is looked at.
MAX_RESIDENT = 128 << 20
_STATUS = "/proc/self/statm"

# Every map and its file.
_MAPS: WeakKeyDictionary[mmap.mmap, BinaryIO] = WeakKeyDictionary()


def release_pages() -> None:
    """Let go of the pages of mapped files once there are many, so that memory stays bounded however large they are.

    What is needed again comes from the system's cache.
    """
    if _MAPS and _resident_bytes() > MAX_RESIDENT:
        for mapping in list(_MAPS):
            mapping.madvise(mmap.MADV_DONTNEED)


def _resident_bytes() -> int:
    """Bytes of files in the memory of the process; 0 where the system does not tell."""
    try:
        with open(_STATUS, "rb") as status:
            return int(status.read().split()[2]) * mmap.PAGESIZE
    except OSError:
        return 0


def split_spec(spec: str) -> tuple[Path, str]:
    """``FILE.h5:/group/data`` as (file, dataset); a path without a dataset, or one that exists, as (path, "")."""
    file, mark, dataset = spec.partition(":/")
    if mark and not os.path.exists(spec) and os.path.isfile(file):
        return Path(file), dataset
    return Path(spec), ""


def read_start(path: Path, size: int) -> bytes:
    """The first bytes of a file; this is also where a missing or unreadable file is reported."""
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; check the path and its permissions") from error


def map_bytes(path: Path) -> mmap.mmap:
    """A memory map of all bytes of a file."""
    try:
        with ExitStack() as stack:
            file = stack.enter_context(open(path, "rb", buffering=0))
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPS[mapping] = file
            finalize(mapping, stack.pop_all().close)
        return mapping
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be memory-mapped ({error}); use a regular file on a local disk") from error


def view(
    mapping: mmap.mmap, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Literal["C", "F"] = "C"
) -> Array:
    """An array lying at ``offset`` of a map; unlike np.memmap this permits empty arrays and any alignment."""
    return np.ndarray(shape, dtype, mapping, offset, order=order)


class FileArray:
    """An array of C order in a file, written and read by slices without being mapped.

    Pages written through a map would stay in the memory of the process, or be brought in again for every few columns.
    """

    def __init__(self, file: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self._file, self._offset = file, offset

    def __getitem__(self, index: Index, /) -> Array:
        block = np.empty([part.stop - part.start for part in index], self.dtype)
        for place, run in self._runs(index, block):
            done = 0
            while done < len(run):  # The system reads less than 2 GiB at a time.
                got = os.preadv(self._file.fileno(), [run[done:]], place + done)
                if not got:
                    raise InputError(f"{self._file.name}: has become shorter while it was read; try again")
                done += got
        return block

    def __setitem__(self, index: Index, block: Array, /) -> None:
        for place, run in self._runs(index, np.ascontiguousarray(block, self.dtype)):
            written = 0
            while written < len(run):  # The system writes less than 2 GiB at a time.
                written += os.pwrite(self._file.fileno(), run[written:], place + written)

    def _runs(self, index: Index, block: Array) -> Iterator[tuple[int, memoryview]]:
        """(position in the file, bytes of ``block``) of what lies together in both."""
        sizes = [part.stop - part.start for part in index]
        # Axes from here on are taken whole: they and the one before lie together.
        whole = len(sizes)
        while whole and sizes[whole - 1] == self.shape[whole - 1]:
            whole -= 1
        outer = max(whole - 1, 0)
        strides = np.cumprod([self.dtype.itemsize, *self.shape[:0:-1]], dtype=np.int64)[::-1].tolist()
        first = self._offset + sum(part.start * stride for part, stride in zip(index, strides, strict=False))
        runs = block.reshape(prod(sizes[:outer]), -1).view(np.uint8) if block.size else ()
        steps = (range(0, size * stride, stride) for size, stride in zip(sizes[:outer], strides, strict=False))
        for run, step in zip(runs, product(*steps), strict=False):
            yield first + sum(step), run.data


def unmapped(array: Array) -> Array | FileArray:
    """``array``, but read where it lies in C order in a mapped file: for parts of rows, each of which would bring many
    pages into the memory of the process."""
    mapping = array.base
    if not isinstance(mapping, mmap.mmap) or not array.flags.c_contiguous:
        return array
    offset = array.ctypes.data - np.ndarray((), np.uint8, mapping).ctypes.data
    return FileArray(_MAPS[mapping], offset, array.shape, array.dtype)


def allocate(file: BinaryIO, size: int) -> None:
    """Reserve room for ``file`` to grow to ``size`` bytes, which must not be zero."""
    file.flush()
    if hasattr(os, "posix_fallocate"):
        # A full disk is better noticed before the work than behind it.
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
