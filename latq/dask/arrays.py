"""Tensors of .latq files as lazy Dask arrays."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from latq.container import source_at
from latq.errors import InputError
from latq.pipeline.decode import File, Tensor
from latq.pipeline.metadata import RawCodec
from latq.urls import is_url

# Bytes of a Dask chunk, about.
CHUNK_BYTES = 1 << 25


def open(place: str | os.PathLike[str], tensor: str | None = None) -> da.Array:
    """A tensor of the .latq file at a path or URL, as a lazy Dask array of its shape and dtype.

    ``tensor`` names it where there are several. Its chunks are some neighbouring chunks of the file. They are decoded
    by the worker that needs them, to the very entries that :func:`latq.decode` gives, so every worker must see the file
    at the same place. A slice decodes only what it touches.

    Raises InputError if there is no such file or tensor, or on a worker if the file is another by then; CorruptError,
    TruncatedError, UnsupportedError.
    """
    place = absolute(os.fspath(place))
    with File(source_at(place)) as file:
        chosen = file.only() if tensor is None else file[tensor]
        lazy = _LazyTensor(place, chosen.name, _stamp(file), chosen.shape, chosen.dtype)
        chunks = _chunks(chosen)
    meta = np.empty((0,) * lazy.ndim, lazy.dtype)
    array: da.Array = da.from_array(lazy, chunks, lock=False, meta=meta)
    return array


def absolute(place: str) -> str:
    """``place`` for a process in another directory."""
    return place if is_url(place) else os.path.abspath(place)


@dataclass(frozen=True)
class _LazyTensor:
    """What a worker needs to find a tensor; indices are those that Dask makes."""

    place: str
    name: str
    stamp: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> npt.NDArray[Any]:
        """Also lists and arrays of integers, and None."""
        file = _opened(self.place, self.stamp)
        parts = [_box_and_rest(part) for part in (index if isinstance(index, tuple) else (index,))]
        box = file[self.name][tuple(box for box, _ in parts if box is not None)]
        found: npt.NDArray[Any] = box[tuple(rest for _, rest in parts)]
        return found


def _box_and_rest(part: Any) -> tuple[slice | None, Any]:
    """What to decode along one axis for a part of an index, and how to index that."""
    if part is None:
        return None, None
    if isinstance(part, slice):
        return part, slice(None)
    if np.size(part) == 0:
        return slice(0, 0), part
    low, high = int(np.min(part)), int(np.max(part))
    return slice(low, high + 1), np.asarray(part) - low if np.ndim(part) else 0


@lru_cache(maxsize=16)
def _opened(place: str, stamp: tuple[int, ...]) -> File:
    """One open file for all tasks of a process."""
    file = File(source_at(place))
    if _stamp(file) != stamp:
        file.close()
        raise InputError(f"{place}: has changed since it was opened, or is another file on this machine; open it again")
    return file


def _stamp(file: File) -> tuple[int, ...]:
    """Tells a file from others: the checksums of its metadata and of its index, which holds those of all chunks."""
    footer = file.reader.footer
    return file.size, footer.metadata_crc, footer.index_crc


def _chunks(tensor: Tensor) -> tuple[tuple[int, ...], ...]:
    """Sizes of the Dask chunks along every axis."""
    return tuple(_cuts(size, step) for size, step in zip(tensor.shape, _steps(tensor), strict=True))


def _cuts(size: int, step: int) -> tuple[int, ...]:
    ends = [*range(0, size, max(step, 1)), size]
    return tuple(stop - start for start, stop in pairwise(ends)) or (0,)


def _steps(tensor: Tensor) -> list[int]:
    """Entries of a chunk along every axis."""
    if tensor.size == 0:
        return list(tensor.shape)
    entries = max(1, CHUNK_BYTES // tensor.dtype.itemsize)
    if isinstance(tensor.codec, RawCodec):
        # Its chunks are runs of the leading axis.
        return [*(max(1, entries * size // tensor.size) for size in tensor.shape[:1]), *tensor.shape[1:]]
    tiling = tensor.tiling
    vectors = min(tensor.m, _multiple(tiling.chunk_vectors, entries // tiling.group))
    length = min(tensor.n, _multiple(tiling.group, entries // vectors))
    others = [size for axis, size in enumerate(tensor.shape) if axis != tensor.axis]
    steps = list(_box(others, vectors))
    if tensor.shape:
        steps.insert(tensor.axis, length)
    return steps


def _multiple(step: int, most: int) -> int:
    """The largest multiple of ``step`` that is at most ``most``, but one at least."""
    return max(1, most // step) * step


def _box(shape: Sequence[int], entries: int) -> Iterator[int]:
    """The shape of about so many entries that lie together in C order."""
    for axis in range(len(shape)):
        inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        yield max(1, min(shape[axis], entries // inner))
