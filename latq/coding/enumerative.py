"""Sequences of symbols whose costs add up to a bounded total, numbered one after the other.

Each takes as many bits as any other, and rare symbols take room from each other only where they occur (Schalkwijk 1972;
enumerative shaping: Willems & Wuijts 1993).
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

# Numbers that are packed have at most so many bits.
MAX_WIDTH = 32


class BoundedSequences:
    """Sequences of ``length`` symbols 0, 1, ..., with ``costs`` of which one is 0 and the total is at most ``budget``:
    the largest for which a number of ``width`` bits tells one from another."""

    def __init__(self, costs: Sequence[int], length: int, width: int) -> None:
        self.costs, self.length = tuple(costs), length
        most = length * max(costs)
        # counts[l][c]: sequences of l symbols that cost at most c.
        counts = [[1] * (most + 1)]
        for _ in range(length):
            shorter = counts[-1]
            counts.append([sum(shorter[c - cost] for cost in costs if cost <= c) for c in range(most + 1)])
        self.budget = max(c for c in range(most + 1) if counts[length][c] <= 1 << width)
        self.count = counts[length][self.budget]
        self._counts = [row[: self.budget + 1] for row in counts]

    @property
    def width(self) -> int:
        """Bits of a number."""
        return (self.count - 1).bit_length()

    @cached_property
    def _before(self) -> I64:
        """(places, budget + 1, symbols + 1) sequences that go on with a smaller symbol at a place, by what is left."""
        table = [
            [
                list(accumulate((shorter[left - cost] if cost <= left else 0 for cost in self.costs), initial=0))
                for left in range(self.budget + 1)
            ]
            for shorter in reversed(self._counts[:-1])
        ]
        return np.array(table, np.int64)

    def number(self, symbols: U8) -> I64:
        """Numbers (N,) of sequences (N, length), all within the budget."""
        left, found = np.full(len(symbols), self.budget), np.zeros(len(symbols), np.int64)
        costs = np.array(self.costs)
        for place, column in enumerate(symbols.T):
            found += self._before[place, left, column]
            left -= costs[column]
        return found

    def sequence(self, numbers: I64) -> U8 | None:
        """Sequences (N, length) of numbers (N,); None if one is out of range."""
        if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < self.count:
            return None
        left, rest = np.full(len(numbers), self.budget), numbers.copy()
        symbols, costs = np.empty((len(numbers), self.length), np.uint8), np.array(self.costs)
        for place in range(self.length):
            before = self._before[place, left]
            chosen = (rest[:, None] >= before[:, 1:]).sum(axis=1)
            symbols[:, place] = chosen
            rest -= before[np.arange(len(rest)), chosen]
            left -= costs[chosen]
        return symbols

    @property
    def cheapest_symbol(self) -> int:
        """The one that costs nothing."""
        return self.costs.index(0)

    def cost(self, symbols: U8) -> I64:
        """Of sequences (N, length)."""
        found: I64 = np.array(self.costs, np.int64)[symbols].sum(axis=1)
        return found

    def cheapest(self, errors: npt.NDArray[np.float32], price: float) -> U8:
        """Sequences (N, length) within the budget of about the least sum of ``errors`` (symbols, N, length), by a price
        of a unit of cost from a ladder about ``price``; what is left then goes to the symbol that gains most."""
        count = errors.shape[1]
        ladder = np.array([price * 2.0 ** (rung / 2) for rung in range(-8, 16)], np.float32)
        chosen = np.full((count, self.length), self.cheapest_symbol, np.uint8)
        # The lowest rung that fits lies in (low, high]; beyond the last there is what costs nothing.
        low, high = np.full(count, -1), np.full(count, len(ladder))
        while (high - low > 1).any():
            middle = np.minimum((low + high + 1) // 2, len(ladder) - 1)
            tried = self._at(errors, ladder[middle])
            fits = self.cost(tried) <= self.budget
            better = fits & (middle < high)
            chosen[better] = tried[better]
            low, high = np.where(fits, low, np.maximum(low, middle)), np.where(fits, np.minimum(high, middle), high)
        self._spend(chosen, errors)
        return chosen

    def _at(self, errors: npt.NDArray[np.float32], prices: npt.NDArray[np.float32]) -> U8:
        """Least error + price * cost, for a price of each sequence (N,)."""
        best = np.full(errors.shape[1:], np.inf, np.float32)
        chosen = np.zeros(best.shape, np.uint8)
        for symbol, cost in enumerate(self.costs):
            offered = errors[symbol] + (prices * np.float32(cost))[:, None]
            better = offered < best
            np.copyto(best, offered, where=better)
            np.copyto(chosen, np.uint8(symbol), where=better)
        return chosen

    def _spend(self, chosen: U8, errors: npt.NDArray[np.float32]) -> None:
        """One more change in each sequence, that of the largest gain which its budget allows."""
        costs, rows = np.array(self.costs), np.arange(len(chosen))
        now = np.take_along_axis(errors, chosen[None].astype(np.intp), axis=0)[0]
        room = (self.budget - self.cost(chosen))[:, None] + costs[chosen]
        best, change = np.zeros(len(chosen), np.float32), np.zeros((2, len(chosen)), np.intp)
        for symbol, cost in enumerate(self.costs):
            gains = np.where(cost <= room, now - errors[symbol], np.float32(0))
            place = gains.argmax(axis=1)
            better = gains[rows, place] > best
            best = np.where(better, gains[rows, place], best)
            change = np.where(better, [np.full_like(place, symbol), place], change)
        some = np.flatnonzero(best > 0)
        chosen[some, change[1][some]] = change[0][some]
