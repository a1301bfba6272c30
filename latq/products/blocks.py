"""How a product is cut so that it fits in memory: blocks of the output, and batches of what is summed over."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Bytes of a value of a panel, at most, and of one that sums are gathered in.
_VALUE, _SUM = 4, 8
# Entries of a block, so that not much is lost by an interruption, and of what one group adds to a block at a time.
_LARGEST_BLOCK, _LARGEST_PART = 1 << 24, 1 << 22


class Block(NamedTuple):
    """Rows [a0, a1) and columns [b0, b1) of the output."""

    a0: int
    a1: int
    b0: int
    b1: int

    @property
    def size(self) -> int:
        return (self.a1 - self.a0) * (self.b1 - self.b0)


@dataclass(frozen=True)
class Plan:
    """Blocks of ``rows`` by ``columns``; what is summed over comes in ``batch`` groups at a time.

    The columns of a block stay in memory while its rows pass by. A sum over several groups stays there, too. Blocks
    depend on the memory but not on the number of threads.
    """

    m_a: int
    m_b: int
    rows: int
    columns: int
    batch: int

    @classmethod
    def choose(cls, m_a: int, m_b: int, groups: int, length: int, together: int, memory: int) -> "Plan":
        """For ``groups`` of at most ``length`` entries and rows read so many ``together``; about ``memory`` bytes."""
        share = memory // 4
        columns = max(1, min(m_b, share // (_VALUE * max(length, 1))))
        if groups == 1:
            return cls(m_a, m_b, max(1, min(m_a, _LARGEST_BLOCK // columns)), columns, 1)
        columns = max(1, min(columns, _LARGEST_PART // together, math.isqrt(share // _SUM)))
        rows = max(1, min(m_a, share // (_SUM * columns)))
        return cls(m_a, m_b, rows, columns, max(1, share // max(_VALUE * length * columns, 1)))

    def blocks(self) -> Iterator[Block]:
        """Those with the same columns follow each other."""
        for b0 in range(0, self.m_b, self.columns):
            for a0 in range(0, self.m_a, self.rows):
                yield Block(a0, min(a0 + self.rows, self.m_a), b0, min(b0 + self.columns, self.m_b))
