"""Multiplies the blocks of a product on several threads.

The columns of a block stay in memory while its rows pass by, piece by piece. Where the sum has one group, rows are
finished as they pass; else what each group adds is gathered in order, so that threads never change a bit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from latq.pipeline.pool import ordered_map
from latq.products.blocks import Block, Plan
from latq.products.operands import Operand, all_of
from latq.products.panel import Panel
from latq.products.segment import Segment
from latq.products.tile import ErrorKind, Run, Statistics, Tile, empty_tile, multiply_panels
from latq.sources import WritableArray

F32 = npt.NDArray[np.float32]

# Entries of a tile that is worked on at a time, and of one that is written at a time.
TILE_ENTRIES = 1 << 17
WRITTEN_ENTRIES = 1 << 20
# Vectors that are best decoded together, and entries of a group of them at most: chunks of long ones hold few.
TOGETHER, TOGETHER_ENTRIES = 1 << 9, 1 << 21


@dataclass(frozen=True)
class _Piece:
    """Vectors from ``first`` on of one side, and where they come from."""

    first: int
    panel: Panel
    runs: list[Run]

    @property
    def end(self) -> int:
        return self.first + len(self.panel)


@dataclass(frozen=True)
class Outcome:
    """Where a product goes: the estimate, and if there is ``bars``, errors of ``kind``; shrunk by a factor."""

    target: WritableArray
    bars: WritableArray | None
    kind: ErrorKind
    shrink: float

    @property
    def errors(self) -> ErrorKind | None:
        return None if self.bars is None else self.kind


class Multiplier:
    """Multiplies blocks of the sum over ``segments``."""

    def __init__(
        self, segments: Sequence[Segment], outcome: Outcome, threads: int, progress: Callable[[int], None]
    ) -> None:
        self._segments, self._outcome, self._threads, self._progress = segments, outcome, threads, progress
        self._columns: tuple[int, int] | None = None
        self._right: list[_Piece] = []

    def plan(self, memory: int) -> Plan:
        m_a, m_b = self._outcome.target.shape
        length = max((segment.length for segment in self._segments), default=0)
        together = max((b - a for s in self._segments for a, b in _pieces(s, s.a, 0, m_a)), default=1)
        return Plan.choose(m_a, m_b, len(self._segments), length, together, memory)

    def multiply(self, block: Block, batch: int) -> Statistics:
        """Write a block, ``batch`` groups of its columns being in memory at a time."""
        if len(self._segments) == 1:
            return self._straight(self._segments[0], block)
        return self._gathered(block, batch)

    def _straight(self, segment: Segment, block: Block) -> Statistics:
        if self._columns != block[2:]:
            self._right, self._columns = self._columns_of([segment], block)[0], block[2:]
        pieces = _pieces(segment, segment.a, block.a0, block.a1)
        total = Statistics()
        work = partial(self._rows, segment, block)
        within = segment.a.expecting(segment.group, block.a0, block.a1, segment.frame)
        for found in ordered_map(work, pieces, self._threads, within=within):
            total = total.plus(found)
        return total

    def _rows(self, segment: Segment, block: Block, rows: tuple[int, int]) -> Statistics:
        """Rows [a0, a1) of a block, finished."""
        total = Statistics()
        for left in _left(segment, *rows):
            total = total.plus(self._finished(left, block))
        self._progress((rows[1] - rows[0]) * (block.b1 - block.b0))
        return total

    def _finished(self, left: _Piece, block: Block) -> Statistics:
        total, count = Statistics(), len(left.panel)
        width = max(1, WRITTEN_ENTRIES // count)
        for b0 in range(block.b0, block.b1, width):
            b1 = min(b0 + width, block.b1)
            estimate = np.empty((count, b1 - b0), np.float32)
            bars = None if self._outcome.bars is None else np.empty_like(estimate)
            for right in _between(self._right, b0, b1, max(1, TILE_ENTRIES // count)):
                tile = multiply_panels(left.panel, right.panel, left.runs, right.runs, self._outcome.errors)
                place = slice(right.first - b0, right.end - b0)
                estimate[:, place], errors, found = tile.finish(self._outcome.shrink, self._outcome.kind)
                if bars is not None and errors is not None:
                    bars[:, place] = errors
                total = total.plus(found)
            self._write(Block(left.first, left.end, b0, b1), estimate, bars)
        return total

    def _gathered(self, block: Block, batch: int) -> Statistics:
        width = block.b1 - block.b0
        tile = empty_tile(block.a1 - block.a0, width, self._outcome.bars is not None)
        for first in range(0, len(self._segments), batch):
            segments = self._segments[first : first + batch]
            items = [(i, *piece) for i, s in enumerate(segments) for piece in _pieces(s, s.a, block.a0, block.a1)]
            work = partial(self._parts, segments, self._columns_of(segments, block))
            within = all_of(s.a.expecting(s.group, block.a0, block.a1, s.frame) for s in segments)
            for (_, a0, a1), parts in zip(items, ordered_map(work, items, self._threads, within=within), strict=True):
                for left, right, part in parts:
                    rows = slice(left.first - block.a0, left.end - block.a0)
                    tile.add(part, rows, slice(right.first - block.b0, right.end - block.b0))
                self._progress((a1 - a0) * width // len(self._segments))
        estimate, bars, statistics = tile.finish(self._outcome.shrink, self._outcome.kind)
        self._write(block, estimate, bars)
        return statistics

    def _parts(
        self, segments: Sequence[Segment], columns: list[list[_Piece]], item: tuple[int, int, int]
    ) -> list[tuple[_Piece, _Piece, Tile]]:
        """Some rows of one group, and what they add to all columns."""
        number, a0, a1 = item
        errors = self._outcome.errors
        return [
            (left, right, multiply_panels(left.panel, right.panel, left.runs, right.runs, errors))
            for left in _left(segments[number], a0, a1)
            for right in columns[number]
        ]

    def _columns_of(self, segments: Sequence[Segment], block: Block) -> list[list[_Piece]]:
        """The columns of a block for each of some segments, read by all threads."""
        items = [(i, *piece) for i, s in enumerate(segments) for piece in _pieces(s, s.b, block.b0, block.b1)]

        def read(item: tuple[int, int, int]) -> _Piece:
            number, b0, b1 = item
            return _Piece(b0, segments[number].right(b0, b1), list(segments[number].b.runs(b0, b1)))

        found: list[list[_Piece]] = [[] for _ in segments]
        within = all_of(s.b.expecting(s.group, block.b0, block.b1, s.frame) for s in segments)
        for (number, _, _), piece in zip(items, ordered_map(read, items, self._threads, within=within), strict=True):
            found[number].append(piece)
        return found

    def _write(self, block: Block, estimate: F32, bars: F32 | None) -> None:
        self._outcome.target[block.place] = estimate
        if self._outcome.bars is not None and bars is not None:
            self._outcome.bars[block.place] = bars


def _pieces(segment: Segment, operand: Operand, v0: int, v1: int) -> Iterator[tuple[int, int]]:
    """Vectors [v0, v1) in runs of those that are stored together, small runs joined."""
    enough = min(TOGETHER, TOGETHER_ENTRIES // max(segment.length, 1))
    first = v0
    for start, stop in operand.pieces(v0, v1):
        if stop - first > max(enough, stop - start):
            yield first, start
            first = start
    if first < v1:
        yield first, v1


def _left(segment: Segment, a0: int, a1: int) -> Iterator[_Piece]:
    """Rows [a0, a1), decoded together."""
    for panel in segment.left_panels(a0, a1):
        yield _Piece(a0, panel, list(segment.a.runs(a0, a0 + len(panel))))
        a0 += len(panel)


def _between(pieces: Sequence[_Piece], first: int, end: int, width: int) -> Iterator[_Piece]:
    """Vectors [first, end) in pieces of at most ``width``."""
    for piece in pieces:
        if first <= piece.first and piece.end <= end and len(piece.panel) <= width:
            yield piece  # With what is known of its panel already.
            continue
        for start in range(max(first, piece.first), min(end, piece.end), width):
            stop = min(start + width, end, piece.end)
            yield _Piece(start, piece.panel[start - piece.first : stop - piece.first], _cut(piece, start, stop))


def _cut(piece: _Piece, start: int, stop: int) -> list[Run]:
    """Where vectors [start, stop) of a piece come from."""
    found, place = [], piece.first
    for name, origin, count in piece.runs:
        low, high = max(start, place), min(stop, place + count)
        if low < high:
            found.append((name, origin + low - place, high - low))
        place += count
    return found
