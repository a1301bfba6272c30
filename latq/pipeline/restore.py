"""Tensors decoded into arrays by several threads.

Arrays in memory are filled chunk by chunk. A file that stores rows dislikes the narrow columns of a chunk: neighbouring
chunks are gathered in a panel in the layout of the file, which is written when it is full, while others are decoded.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from latq.errors import LimitError
from latq.pipeline.decode import Tensor, expecting_whole
from latq.pipeline.metadata import MatrixCodec
from latq.pipeline.pool import ordered_map
from latq.pipeline.rounding import narrowed
from latq.pipeline.tiling import Tile
from latq.sources import MatrixView, WritableArray, boxes

DEFAULT_MEMORY = 1 << 30
"""Bytes that decoding may take beside its output."""

PANEL_BYTES = 1 << 26
# Chunks that are decoded ahead, beyond one for each thread: about a panel.
AHEAD = 16
# What decoding a chunk takes at most, measured over all codecs and shapes: bytes per entry, vector and payload byte.
_PER_ENTRY, _PER_VECTOR, _PER_PAYLOAD_BYTE = 24, 64, 3


class _Done(NamedTuple):
    """Entries that a job has decoded, and what is left to be done in order."""

    entries: int
    finish: Callable[[], None] | None = None


_Job = Callable[[], _Done]


def restore(
    tensors: Sequence[tuple[Tensor, WritableArray]],
    threads: int,
    progress: Callable[[int], None] = lambda entries: None,
    memory: int | None = None,
) -> None:
    """Fill the target of every tensor: of its shape, and of any float dtype if the tensor is one of floats.

    The tensors are those of one file. Fewer threads work where the chunks of all would take more than ``memory`` bytes;
    LimitError where one does.
    """
    ahead = AHEAD
    if memory is not None:
        fitting = min((chunks_in_memory(tensor, memory) for tensor, _ in tensors), default=threads)
        threads, ahead = min(threads, fitting), min(AHEAD, max(0, fitting - threads))
    jobs = (job for tensor, target in tensors for job in _jobs(tensor, target))
    chunks = expecting_whole([tensor for tensor, _ in tensors])
    for done in ordered_map(lambda job: job(), jobs, threads, ahead, within=chunks):
        if done.finish:
            done.finish()
        progress(done.entries)


def chunks_in_memory(tensor: Tensor, memory: int) -> int:
    """How many chunks of ``tensor`` may be decoded at once, in ``memory`` bytes; LimitError if not even one.

    A small file can have a chunk of 2^26 entries, so this is asked before anything is allocated.
    """
    if isinstance(tensor.codec, MatrixCodec):
        vectors = min(tensor.codec.chunk_vectors, tensor.m)
        entries = vectors * min(tensor.codec.group, tensor.n)
    else:
        vectors, entries = 0, min(tensor.codec.chunk_entries, tensor.size)
    payload = int(tensor.records.column("payload_len").max(initial=0))
    needed = _PER_ENTRY * entries + _PER_VECTOR * vectors + _PER_PAYLOAD_BYTE * payload
    if needed > memory:
        raise LimitError(
            f"{tensor.file_name}: tensor {tensor.name!r}: a chunk of {entries} entries takes about "
            f"{needed >> 20} MiB to decode; --max-memory allows {memory >> 20} MiB"
        )
    return memory // max(needed, 1)


def _jobs(tensor: Tensor, target: WritableArray) -> Iterator[_Job]:
    chunks = range(tensor.chunk_count)
    if not isinstance(tensor.codec, MatrixCodec):
        yield from (partial(_raw, tensor, target, chunk) for chunk in chunks)
    elif isinstance(target, np.ndarray) or tensor.axis == len(tensor.shape) - 1:
        yield from (partial(_straight, tensor, target, chunk) for chunk in chunks)
    else:
        tiling, size = tensor.tiling, np.dtype(target.dtype).itemsize
        together = max(1, PANEL_BYTES // (tiling.group * tiling.chunk_vectors * size))
        for group in range(tiling.groups):
            own = chunks[group * tiling.runs : (group + 1) * tiling.runs]
            for first in range(0, len(own), together):
                panel = _Panel(tensor, target, own[first : first + together])
                yield from (partial(panel.fill, chunk) for chunk in own[first : first + together])


def _straight(tensor: Tensor, target: WritableArray, chunk: int) -> _Done:
    """Into memory from any thread; into a file, where vectors lie together, in order."""
    dtype = np.dtype(target.dtype)
    if not isinstance(target, np.ndarray):
        tile, block = tensor.matrix_chunk(chunk, dtype)
        return _Done(tile.entries, partial(_write, tensor, target, tile, block))
    place = tensor.tiling.tile(chunk)
    rows = MatrixView(target, tensor.shape, tensor.axis).rows(place.v0, place.v1, place.e0, place.e1)
    tile, block = tensor.matrix_chunk(chunk, dtype, rows)
    if rows is None:
        _write(tensor, target, tile, block)
    return _Done(tile.entries)


def _write(tensor: Tensor, target: WritableArray, tile: Tile, block: np.ndarray) -> None:
    MatrixView(target, tensor.shape, tensor.axis).write(tile.v0, tile.v1, tile.e0, tile.e1, block)


def _raw(tensor: Tensor, target: WritableArray, chunk: int) -> _Done:
    start, values = tensor.raw_chunk(chunk)

    def write() -> None:
        position = 0
        for box in boxes(tensor.shape, start, start + values.size):
            shape = tuple(part.stop - part.start for part in box)
            piece = values[position : position + prod(shape)]
            target[box] = narrowed(piece, np.dtype(target.dtype)).reshape(shape)
            position += piece.size

    return _Done(values.size, write)


class _Panel:
    """Neighbouring chunks on their way into a file."""

    def __init__(self, tensor: Tensor, target: WritableArray, chunks: range) -> None:
        self._tensor, self._target, self._last = tensor, target, chunks[-1]
        first, last = tensor.tiling.tile(chunks[0]), tensor.tiling.tile(chunks[-1])
        self._tile = Tile(first.v0, last.v1, first.e0, first.e1)
        # In the layout of a file whose rows cross the vectors, which is the common one.
        self._rows = np.empty((self._tile.length, self._tile.vectors), target.dtype)

    def fill(self, chunk: int) -> _Done:
        tile, block = self._tensor.matrix_chunk(chunk, self._rows.dtype)
        first = self._tile.v0
        MatrixView(self._rows, self._rows.shape, 0).write(tile.v0 - first, tile.v1 - first, 0, tile.length, block)
        return _Done(tile.entries, self._finish if chunk == self._last else None)

    def _finish(self) -> None:
        _write(self._tensor, self._target, self._tile, self._rows.T)
