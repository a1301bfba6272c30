"""Zarr arrays (version 3): each a directory that any number of processes may write to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from latq.dtypes import DTYPES
from latq.errors import InputError, ParameterError, UnsupportedError
from latq.sources.base import Array, Extras, Index, Sink, TensorSpec

try:
    import zarr
except ImportError as error:
    raise UnsupportedError(f".zarr takes a package more ({error}): pip install 'latq[dask]'") from error

# Entries of a chunk along the last axes.
_CHUNK = 1 << 8, 1 << 10
_LOCK = RLock()  # Threads may write parts of the same chunk.


@dataclass(frozen=True)
class _ZarrArray:
    """The array at a path, opened by every process for itself. No two of them may write parts of the same chunk."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]

    @cached_property
    def _array(self) -> Any:
        return zarr.open_array(self.path, mode="r+")

    def __getitem__(self, index: Index, /) -> Any:
        with _explained(self.path):
            return self._array[index]

    def __setitem__(self, index: Index, block: Array, /) -> None:
        with _explained(self.path), _LOCK:
            self._array[index] = block


def create_zarr(path: Path, tensors: Sequence[TensorSpec], extras: Extras) -> Sink:
    if len(tensors) != 1:
        raise ParameterError(f"{path}: .zarr holds one array, not {len(tensors)}; write .h5 or .safetensors")
    (spec,) = tensors
    most = (*[1] * len(spec.shape), *_CHUNK)[-len(spec.shape) :] if spec.shape else ()
    array = _ZarrArray(
        path, spec.shape, DTYPES[spec.dtype], tuple(max(1, min(x, y)) for x, y in zip(spec.shape, most, strict=True))
    )
    with _explained(path):
        # Not compressed: the low bits of estimates are noise.
        zarr.create_array(path, shape=array.shape, chunks=array.chunks, dtype=array.dtype, compressors=None)
    return Sink("zarr", {spec.name: array}, extras.left_out(".zarr"))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What zarr raises about a place that it cannot use, as an InputError."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be written as zarr ({error})") from error
