"""Finding, probing and mapping the files behind sources and sinks."""

import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from latq.errors import InputError
from latq.sources.base import Array

Mapped = np.memmap[tuple[int, ...], np.dtype[np.uint8]]


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


def map_bytes(path: Path, mode: Literal["r", "r+"] = "r") -> Mapped:
    """All bytes of a file as a memory map."""
    try:
        return np.memmap(path, np.uint8, mode)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be memory-mapped ({error}); use a regular file on a local disk") from error


def view(
    mapping: Mapped, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, order: Literal["C", "F"] = "C"
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
