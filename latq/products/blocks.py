"""How a product is cut so that it fits in memory: blocks of the output, and batches of what is summed over."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

# Bytes of a value of a panel, at most, and of one that sums are gathered in.
_VALUE, _SUM = 4, 8
# Entries of a block, so that not much is lost by an interruption, and of what one group adds to a block at a time.
_LARGEST_BLOCK, _LARGEST_PART = 1 << 24, 1 << 22
# Entries of a block that travels, about and at most, and rows that none is cut below.
_SHARED_BLOCK, _LARGEST_SHARED, _SHARED_ROWS = 1 << 22, 1 << 24, 1 << 12


class Block(NamedTuple):
    """Rows [a0, a1) and columns [b0, b1) of the output."""

    a0: int
    a1: int
    b0: int
    b1: int

    @property
    def size(self) -> int:
        return (self.a1 - self.a0) * (self.b1 - self.b0)

    @property
    def place(self) -> tuple[slice, slice]:
        return slice(self.a0, self.a1), slice(self.b0, self.b1)


@dataclass(frozen=True)
class Plan:
    """Blocks of ``rows`` by ``columns``; what is summed over comes in ``batch`` groups at a time, and rows are read so
    many ``together``.

    The columns of a block stay in memory while its rows pass by. A sum over several groups stays there, too. Blocks
    depend on the memory but not on the number of threads.
    """

    m_a: int
    m_b: int
    rows: int
    columns: int
    batch: int
    together: int

    @classmethod
    def choose(cls, m_a: int, m_b: int, groups: int, length: int, together: int, memory: int) -> "Plan":
        """For ``groups`` of at most ``length`` entries and rows read so many ``together``; about ``memory`` bytes."""
        share = memory // 4
        columns = max(1, min(m_b, share // (_VALUE * max(length, 1))))
        if groups == 1:
            return cls(m_a, m_b, max(1, min(m_a, _LARGEST_BLOCK // columns)), columns, 1, together)
        columns = max(1, min(columns, _LARGEST_PART // together, math.isqrt(share // _SUM)))
        rows = max(1, min(m_a, share // (_SUM * columns)))
        return cls(m_a, m_b, rows, columns, max(1, share // max(_VALUE * length * columns, 1)), together)

    def shared(self, chunks: tuple[int, int] | None) -> "Plan":
        """Smaller blocks for many workers: of whole ``chunks`` where the output has some, which two must not write."""
        tall, wide = chunks or (min(self.together, _SHARED_ROWS), 1)
        columns = min(self.m_b, _rounded(min(self.columns, _LARGEST_SHARED // tall), wide))
        rows = min(self.m_a, _rounded(_SHARED_BLOCK // max(columns, 1), tall))
        return replace(self, rows=max(1, rows), columns=max(1, columns))

    def blocks(self) -> Iterator[Block]:
        """Those with the same columns follow each other."""
        for b0 in range(0, self.m_b, self.columns):
            for a0 in range(0, self.m_a, self.rows):
                yield Block(a0, min(a0 + self.rows, self.m_a), b0, min(b0 + self.columns, self.m_b))


def _rounded(size: int, step: int) -> int:
    """Down to a multiple of ``step``, but one at least."""
    return max(1, size // step) * step
