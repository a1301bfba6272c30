"""The chunks of a matrix, read several at a time by the threads that work on them.

Sources that store rows dislike narrow columns, so neighbouring chunks of a group are read together, as one panel. A
matrix whose panels all fit in memory is read once, however often it is gone through.
"""

from collections.abc import Callable, Iterator
from threading import local
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from latq.pipeline.pool import ordered_flat_map
from latq.pipeline.tiling import Tile, Tiling
from latq.sources import MatrixView

Array = npt.NDArray[Any]
R = TypeVar("R")

# Bytes of the panels that all threads work on, and of those that are kept for the next time.
WORKING_BYTES = 1 << 27
KEPT_BYTES = 1 << 26
# Panels that each thread gets at least, where there are as many chunks.
SHARE = 4


class Panels:
    """A matrix cut into chunks, to be gone through more than once."""

    def __init__(self, view: MatrixView, threads: int) -> None:
        self.view = view
        self.tiling = Tiling.choose(view.n, view.m)
        self._threads = threads
        self._kept: dict[int, Array] = {}
        self._own = local()
        self._keeps = view.n * view.m * np.dtype(view.array.dtype).itemsize <= KEPT_BYTES

    def map(self, work: Callable[[int, Tile, Array], R]) -> Iterator[R]:
        """``work(chunk, tile, vectors)`` of every chunk in order; vectors are rows, not to be changed or kept."""

        def of_panel(chunks: range) -> Iterator[R]:
            tiles = [self.tiling.tile(chunk) for chunk in chunks]
            panel = self._panel(chunks, tiles)
            for chunk, tile in zip(chunks, tiles, strict=True):
                yield work(chunk, tile, panel[tile.v0 - tiles[0].v0 : tile.v1 - tiles[0].v0])

        return ordered_flat_map(of_panel, self._chunks_of_panels(), self._threads)

    def _panel(self, chunks: range, tiles: list[Tile]) -> Array:
        if chunks[0] in self._kept:
            return self._kept[chunks[0]]
        place = tiles[0].v0, tiles[-1].v1, tiles[0].e0, tiles[0].e1
        if not self._keeps:
            return self.view.read(*place, self._scratch(sum(tile.entries for tile in tiles)))
        self._kept[chunks[0]] = self.view.read(*place)
        return self._kept[chunks[0]]

    def _scratch(self, entries: int) -> Array:
        """The same memory for every panel of a thread: that of a new array must first be cleared by the system."""
        scratch: Array = getattr(self._own, "scratch", np.empty(0))
        if scratch.size < entries:
            scratch = self._own.scratch = np.empty(entries, np.dtype(self.view.array.dtype).newbyteorder("="))
        return scratch

    def _chunks_of_panels(self) -> Iterator[range]:
        tiling = self.tiling
        size = tiling.group * tiling.chunk_vectors * np.dtype(self.view.array.dtype).itemsize
        together = min(WORKING_BYTES // (self._threads * size), tiling.count // (SHARE * self._threads))
        for group in range(tiling.groups if tiling.count else 0):
            chunks = range(group * tiling.runs, (group + 1) * tiling.runs)
            for first in range(0, len(chunks), max(together, 1)):
                yield chunks[first : first + max(together, 1)]
