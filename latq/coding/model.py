"""Frequency tables for the coordinates of E8 points, derived from one density (spec section 8.3).

The density is a list of weights over the doubled coordinate t, each stored as one byte: its distance from the largest
in sixteenths of a power of two. From it follow the table of the first coordinate (any t: it tells the coset), those of
the next six (even t or odd t), and those of the last (t of one residue modulo 4: the parity of the others tells which).
Where coordinates are large, only their high parts are modelled, all by one table, and the low bits are stored as such.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq.coding import rans
from latq.kernels import reference as kernels

# Finer than for scale indices: the floor of 1 under rare values costs 0.003 bits per entry at 12 bits.
PRECISION = 14
TOTAL = 1 << PRECISION
COSTS = rans.cost_table(PRECISION)
ESCAPE = 0
MIN_WEIGHTS, MAX_WEIGHTS = 4, 255
MAX_SHIFT = 16
# floor(2^31 * 2^(-i/16) + 1/2) for i = 0..15.
SIXTEENTHS = (
    2147483648, 2056437387, 1969251188, 1885761398, 1805811301, 1729250827, 1655936265, 1585730000,
    1518500250, 1454120821, 1392470869, 1333434672, 1276901417, 1222764986, 1170923762, 1121280436,
)  # fmt: skip
FIRST, EVEN, LAST = 0, 1, 3


@dataclass(frozen=True)
class Density:
    """Weights of t = low, low + 1, ... as bytes; for shift > 0, of the high parts t >> (shift + 1).

    ``odd`` is what is added to the bytes of odd t in the table of the first coordinate: the share of the cosets.
    """

    shift: int
    low: int
    codes: tuple[int, ...]
    odd: int

    @property
    def values(self) -> npt.NDArray[np.int64]:
        return np.arange(self.low, self.low + len(self.codes))

    @cached_property
    def tables(self) -> "Tables":
        return Tables(self)

    @classmethod
    def fit(cls, counts: npt.NDArray[np.int64], low: int, shift: int, odd_share: tuple[int, int]) -> "Density":
        """The density of values ``low`` ... seen ``counts`` times; ``odd_share``: even and odd first coordinates."""
        codes = _codes_of(counts)
        if shift:
            return cls(shift, low, tuple(codes.tolist()), 0)
        weights = _weights(codes)
        odd = (np.arange(low, low + len(codes)) & 1) == 1
        even_sum, odd_sum = int(weights[~odd].sum()), int(weights[odd].sum())
        # How many sixteenths more an odd t must be discounted to give the cosets their shares.
        wanted = _log16(odd_share[0] + 1) - _log16(odd_share[1] + 1)
        given = _log16(even_sum) - _log16(odd_sum)
        return cls(0, low, tuple(codes.tolist()), max(-128, min(127, wanted - given)))


class Tables:
    """Frequencies, costs and value maps of a density. Symbol 0 is the escape, symbol i the i-th value of its table."""

    def __init__(self, density: Density) -> None:
        values, weights = density.values, _weights(np.array(density.codes))
        if density.shift:
            groups = [(values, weights)]
        else:
            tilted = _weights(np.array(density.codes) + np.where(values & 1, density.odd, 0))
            groups = [(values, tilted)]
            groups += [(values[(values & 1) == c], weights[(values & 1) == c]) for c in (0, 1)]
            groups += [(values[(values & 3) == r], weights[(values & 3) == r]) for r in range(4)]
        size = 1 + max(len(v) for v, _ in groups)
        self.low, self.high = int(values[0]), int(values[-1])
        frequencies = np.zeros((len(groups), size), np.uint32)
        self.values = np.zeros((len(groups), size), np.int32)
        # Symbol of value v in table k is symbols[k, v - low]; values of other classes are never asked for.
        self.symbols = np.zeros((len(groups), len(values)), np.uint8)
        for k, (v, w) in enumerate(groups):
            frequencies[k, : 1 + len(v)] = _frequencies(w)
            self.values[k, 1 : 1 + len(v)] = v
            self.symbols[k, v - self.low] = np.arange(1, 1 + len(v))
        self.rans = kernels.RansTables(frequencies)
        self.costs = COSTS[frequencies]

    def symbols_of(self, table: npt.NDArray[np.intp], values: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
        """Symbols of values under the table of each; the escape where a table does not have the value."""
        known = (values >= self.low) & (values <= self.high)
        found: npt.NDArray[np.uint8] = self.symbols[table, np.where(known, values - self.low, 0)]
        return np.where(known, found, np.uint8(ESCAPE))


def _weights(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Integer weight of each code: 2^31 * 2^(-code / 16), at least 1."""
    clipped = np.clip(codes, 0, 16 * 31)
    weights: npt.NDArray[np.int64] = np.maximum(np.array(SIXTEENTHS, np.int64)[clipped & 15] >> (clipped >> 4), 1)
    return weights


def _frequencies(weights: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Frequencies of the escape, always 1, and of the values: rounded, at least 1 each.

    What is missing or too much is given to or taken from the most frequent value (the first of equals), 1 at a time.
    """
    room, total = TOTAL - 1, int(weights.sum())
    share = np.maximum((weights * room + total // 2) // total, 1)
    while (surplus := int(share.sum()) - room) != 0:
        share[int(share.argmax())] -= 1 if surplus > 0 else -1
    return np.concatenate([[1], share]).astype(np.uint32)


def _codes_of(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes whose weights are about proportional to ``counts``."""
    top = _log16(int(counts.max()) * 256)
    return np.array([min(255, top - _log16(max(int(c) * 256, 64))) for c in counts], np.int64)


def _log16(x: int) -> int:
    """round(16 * log2(x)) of a positive integer, in integers."""
    exponent = x.bit_length() - 1
    mantissa = (x << 31) >> exponent
    return 16 * exponent + sum(mantissa * step >= 1 << 62 for step in _HALF_STEPS)


# floor(2^31 * 2^(-(2i - 1)/32) + 1/2) for i = 1..16: where a mantissa rounds up to the next sixteenth.
_HALF_STEPS = (
    2101467502, 2012372174, 1927054196, 1845353420, 1767116489, 1692196547, 1620452965, 1551751076,
    1485961921, 1422962010, 1362633090, 1304861917, 1249540052, 1196563654, 1145833280, 1097253708,
)  # fmt: skip
