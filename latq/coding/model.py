"""Frequency tables for the coordinates of E8 points, derived from one density (spec section 8.3).

The density is a list of weights over the doubled coordinate t, each stored as one byte: its distance from the largest
in sixteenths of a power of two. From it follow the table of the first coordinate (any t: it tells the coset), those of
the next six (even t or odd t), and those of the last (t of one residue modulo 4: the parity of the others tells which).
Where coordinates are large, only their high parts are modelled, all by one table, and the low bits are stored as such.
Vectors of smaller classes have the same density, narrower by so many eighths of an octave: each class has its tables.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq.coding import rans
from latq.kernels import REACH, PointModel
from latq.limits import INNER_HIGH, INNER_LOW

# Finer than for scale indices: the floor of 1 under rare values costs 0.003 bits per entry at 12 bits.
PRECISION = 14
TOTAL = 1 << PRECISION
COSTS = rans.cost_table(PRECISION)
# floor(2^31 * 2^(-i/16) + 1/2) for i = 0..15.
SIXTEENTHS = (
    2147483648, 2056437387, 1969251188, 1885761398, 1805811301, 1729250827, 1655936265, 1585730000,
    1518500250, 1454120821, 1392470869, 1333434672, 1276901417, 1222764986, 1170923762, 1121280436,
)  # fmt: skip
# Beyond so many values on either side of 0, weights are kept for every 2nd, 4th, ... value only.
NODES = 20
ONE = 1 << 16
# floor(2^16 * 2^(i/8) + 1/2) for i = 0..7.
STRETCHES = (65536, 71468, 77936, 84990, 92682, 101070, 110218, 120194)


@dataclass(frozen=True)
class Density:
    """Weights as bytes, at the places ``low``, ``low + 1``, ..., and how each class of vectors spreads values there.

    A value of a class is a coordinate t or, where its shift is > 0, the high part t >> (shift + 1), which stands for an
    interval of t. Its place, or that of the middle of the interval, is v * 2^(width / 8); the byte of a value lies
    between those of two weights on a straight line. So a class of half the size is 8 wider, and a smooth density needs
    no weight of its own for every value. ``odd`` is what is added to the bytes of odd t in the table of the first
    coordinate: the share of the cosets.
    """

    low: int
    codes: tuple[int, ...]
    odd: int
    shifts: tuple[int, ...] = (0,)
    widths: tuple[int, ...] = (0,)

    def of_class(self, index: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Values and codes of a class: the values whose places are on the list, at least -2..2, at most -127..127."""
        width = self.widths[index]
        stretch = STRETCHES[width % 8] << 16 + width // 8 >> 16
        middle = stretch >> 1 if self.shifts[index] else 0
        high = self.low + len(self.codes) - 1
        first = max(min(INNER_LOW, self.low * ONE // stretch), -REACH)
        last = min(max(INNER_HIGH, -(-high * ONE // stretch)), REACH)
        values = np.arange(first, last + 1, dtype=np.int64)
        place = np.clip(values * stretch + middle - self.low * ONE, 0, (len(self.codes) - 1) * ONE)
        left = np.minimum(place // ONE, len(self.codes) - 2)
        part = place - left * ONE
        codes = np.array(self.codes, np.int64)
        return values, (codes[left] * (ONE - part) + codes[left + 1] * part + ONE // 2) // ONE

    @cached_property
    def tables(self) -> PointModel:
        return _tables(self)

    @classmethod
    def fit(cls, counts: npt.NDArray[np.int64], shift: int, odd_share: tuple[int, int]) -> "Density":
        """The density, with one class, of values -reach..reach seen ``counts`` times; ``odd_share``: even and odd first
        coordinates."""
        octaves = max(0, (len(counts) // 2 // NODES).bit_length() - 1)
        codes = _codes_of(_at_nodes(counts, 1 << octaves, shift > 0))
        fitted = cls(-(len(codes) // 2), tuple(codes.tolist()), 0, (shift,), (-8 * octaves,))
        if shift:
            return fitted
        values, codes = fitted.of_class(0)
        weights = _weights(codes)
        odd = (values & 1) == 1
        even_sum, odd_sum = int(weights[~odd].sum()), int(weights[odd].sum())
        # How many sixteenths more an odd t must be discounted to give the cosets their shares.
        wanted = _log16(odd_share[0] + 1) - _log16(odd_share[1] + 1)
        given = _log16(even_sum) - _log16(odd_sum)
        return replace(fitted, odd=max(-128, min(127, wanted - given)))

    def with_classes(self, narrower: tuple[int, ...], shifts: tuple[int, ...]) -> "Density":
        """The same for classes that are narrower than the one fitted by so many eighths of an octave."""
        finer = [_interval(self.shifts[0]) - _interval(shift) for shift in shifts]
        widths = [self.widths[0] + width - 8 * octaves for width, octaves in zip(narrower, finer, strict=True)]
        return replace(self, shifts=shifts, widths=tuple(widths))


def _interval(shift: int) -> int:
    """Values of t that a value stands for: log2."""
    return shift + 1 if shift else 0


def _tables(density: Density) -> PointModel:
    """Seven tables for a class of shift 0, one for any other; symbol i > 0 is the i-th value of its table."""
    of_classes = [_groups(density, index) for index in range(len(density.widths))]
    groups = [group for of_class in of_classes for group in of_class]
    first = np.cumsum([0, *map(len, of_classes)], dtype=np.intp)[:-1]
    size = 1 + max(len(values) for values, _ in groups)
    frequencies = np.zeros((len(groups), size), np.uint32)
    of_symbols = np.zeros((len(groups), size), np.int32)
    for k, (values, weights) in enumerate(groups):
        frequencies[k, : 1 + len(values)] = _frequencies(weights)
        of_symbols[k, 1 : 1 + len(values)] = values
    return PointModel(frequencies, COSTS[frequencies], of_symbols, first, np.array(density.shifts, np.int32))


def _groups(density: Density, index: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(values, weights) of the tables of one class."""
    values, codes = density.of_class(index)
    weights = _weights(codes)
    if density.shifts[index]:
        return [(values, weights)]
    groups = [(values, _weights(codes + np.where(values & 1, density.odd, 0)))]
    groups += [(values[(values & 1) == c], weights[(values & 1) == c]) for c in (0, 1)]
    groups += [(values[(values & 3) == r], weights[(values & 3) == r]) for r in range(4)]
    return groups


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


def _at_nodes(counts: npt.NDArray[np.int64], stride: int, intervals: bool) -> npt.NDArray[np.int64]:
    """Twice the counts around every ``stride``-th place; what lies between two belongs to both.

    ``counts`` are of -reach..reach: of these places, or of the ``intervals`` from each to the next.
    """
    reach = len(counts) // 2
    nodes = -(-reach // stride) + intervals
    # The counts of half places -1/2, 0, 1/2, 1, ...: values at even, intervals at odd ones.
    halves = np.zeros(2 * (2 * (nodes + 1) * stride) + 1, np.int64)
    middle = len(halves) // 2
    halves[middle - 2 * reach + intervals : middle + 2 * reach + intervals + 1 : 2] = counts
    sums = np.concatenate([[0], np.cumsum(halves)])
    centres = middle + 2 * stride * np.arange(-nodes, nodes + 1)
    around: npt.NDArray[np.int64] = sums[centres + stride + 1] - sums[centres - stride]
    around += sums[centres + stride] - sums[centres - stride + 1]
    return around


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
