"""Finding, probing and mapping the files behind sources and sinks."""

import mmap
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal
from weakref import WeakSet

import numpy as np

from latq.errors import InputError
from latq.sources.base import Array

# Pages of mapped files that may be in the memory of the process, and how often that is looked at.
MAX_RESIDENT = 320 << 20
_STATUS = "/proc/self/statm"


class FileMap(mmap.mmap):
    """All bytes of a file, shared with it."""

    def __hash__(self) -> int:
        return id(self)


_MAPS: WeakSet[FileMap] = WeakSet()


def release_pages() -> None:
    """Let go of the pages of mapped files once there are many, so that memory stays bounded however large they are.

    What was written stays with the file, and what is needed again comes from the system's cache.
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


def map_bytes(path: Path, mode: Literal["r", "r+"] = "r") -> FileMap:
    """A memory map of all bytes of a file."""
    access = mmap.ACCESS_READ if mode == "r" else mmap.ACCESS_WRITE
    try:
        with open(path, f"{mode}b") as file:
            mapping = FileMap(file.fileno(), 0, access=access)
        _MAPS.add(mapping)
        return mapping
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be memory-mapped ({error}); use a regular file on a local disk") from error


def view(
    mapping: FileMap, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Literal["C", "F"] = "C"
) -> Array:
    """An array lying at ``offset`` of a map; unlike np.memmap this permits empty arrays and any alignment."""
    return np.ndarray(shape, dtype, mapping, offset, order=order)


def allocate(file: BinaryIO, size: int) -> None:
    """Reserve room for ``file`` to grow to ``size`` bytes, which must not be zero."""
    file.flush()
    if hasattr(os, "posix_fallocate"):
        # A sparse file would turn a full disk into SIGBUS, at the first write through the map, instead of an OSError.
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
