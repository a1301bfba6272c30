"""Codec scalar: every entry becomes one of K levels, with fixed or entropy coding of its index (spec section 8.4).

Numbers enter as a flat stream of unit mean square and leave as the integers that the levels are stored as; ``unit`` is
what an integer counts for in the encoder. Levels come from :mod:`latq.codecs.scalar_design`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import scalar_design
from latq.codecs.scalar_design import Profile
from latq.coding import packing, rans
from latq.coding.budget import rank
from latq.errors import CorruptError
from latq.limits import MAX_ALPHABET, MAX_LEVELS

# Finer than for scale indices: rare symbols cost a whole unit each.
PRECISION = 14
# What a bit is worth, in squares of the gap between two levels: D = gap^2 / 12 and -dD / dR = 2 ln 2 D.
PRICE = 0.1155
# Bits per entry by which a chunk may stay below its budget.
TOLERANCE = 0.004
# Mean distance of levels below which data of few values has no use for more.
LEAST_GAP = 2.0**-11
ROUNDS = 10

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U16 = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Levels:
    """K increasing integers, and how many low bits of their index are stored beside the coded high part."""

    integers: tuple[int, ...]
    shift: int = 0

    @cached_property
    def array(self) -> I64:
        return np.array(self.integers, np.int64)

    @property
    def count(self) -> int:
        return len(self.integers)

    @property
    def alphabet(self) -> int:
        """How many high parts there are."""
        return alphabet_of(self.count, self.shift)

    def at(self, indices: npt.NDArray[np.unsignedinteger]) -> F32:
        """Integers of indices (count,) as float32, exact."""
        found: F32 = self.array.astype(np.float32)[indices]
        return found


def alphabet_of(count: int, shift: int) -> int:
    """High parts of the indices of ``count`` levels."""
    return -(-count >> shift)


def fixed_size(entries: int, count: int) -> int:
    """Bytes of packed indices of ``count`` levels."""
    return packing.packed_size(entries, count)


def encode_fixed(x: F32, levels: Levels, unit: float) -> tuple[bytes, F32]:
    """(packed indices, integers (count,)) of the levels nearest to ``x`` (count,)."""
    indices = _indices(x, _thresholds(levels, None), unit)
    return packing.pack(indices, levels.count), levels.at(indices)


def decode_fixed(first: bytes | memoryview, second: bytes | memoryview, levels: Levels, entries: int) -> F32:
    """Integers (entries,) as float32, exact; CorruptError when a section is damaged."""
    if len(first):
        raise CorruptError(f"{len(first)} bytes before the indices, where none belong")
    if len(second) != fixed_size(entries, levels.count):
        raise CorruptError(f"{len(second)} bytes of indices where {fixed_size(entries, levels.count)} belong")
    return levels.at(packing.unpack(second, levels.count, entries))


def encode_entropy(x: F32, levels: Levels, unit: float, budget: int) -> tuple[bytes, bytes, F32]:
    """(section of high parts, low bits, integers (count,)) of ``x`` (count,), in ``budget`` bytes or a little less.

    The unit is adjusted until it is so; the scale of each vector takes that back. Data that no unit brings below the
    budget is coded at the smallest size found.
    """
    # No unit may be so small that an entry is beyond the last level.
    least = float(np.abs(x).max()) / min(-levels.integers[0], levels.integers[-1])
    chosen, best, lengths = np.zeros(x.size, np.uint16), -np.inf, None
    for _ in range(ROUNDS):
        unit = max(unit, least)
        indices = _indices(x, _thresholds(levels, lengths), unit)
        counts = _counts(indices, levels)
        excess = 8 * (_size(counts, levels) - budget) / x.size
        if rank(excess) > best:
            chosen, best = indices, rank(excess)
        if lengths is not None and (-TOLERANCE <= excess <= 0 or (unit == least and excess < 0)):
            break
        lengths = _lengths(counts)
        unit *= _correction(excess + TOLERANCE / 4)
    high = (chosen >> np.uint16(levels.shift)).astype(np.uint8)
    low = kernels.pack_bits(chosen & np.uint16((1 << levels.shift) - 1), levels.shift) if levels.shift else b""
    return rans.encode(high, levels.alphabet, PRECISION), low, levels.at(chosen)


def decode_entropy(first: bytes | memoryview, second: bytes | memoryview, levels: Levels, entries: int) -> F32:
    """Integers (entries,) as float32, exact; CorruptError when a section is damaged."""
    if len(second) != -(-entries * levels.shift // 8):
        raise CorruptError(f"{len(second)} bytes of low bits where {-(-entries * levels.shift // 8)} belong")
    indices = rans.decode(first, levels.alphabet, entries, PRECISION).astype(np.uint16) << np.uint16(levels.shift)
    if levels.shift:
        indices |= kernels.unpack_bits(second, levels.shift, entries)
    if indices.size and int(indices.max()) >= levels.count:
        raise CorruptError("an index is beyond the last level")
    return levels.at(indices)


def overhead(entries: int, alphabet: int) -> int:
    """Bytes of the entropy-coded sections beyond what the model says of ``entries`` entries."""
    return 2 * alphabet + 4 * rans.lanes_for(entries) + 16 + entries // 4096


def design_fixed(profile: Profile, count: int, finest: float) -> tuple[Levels, float]:
    """Levels for fixed coding, and their unit."""
    integers, unit = scalar_design.stored(scalar_design.fixed_levels(profile, count), finest)
    return Levels(integers), unit


def design_entropy(
    sample: F32, profile: Profile, rate: float, outer: float, finest: float, most: int = MAX_LEVELS
) -> tuple[Levels, float]:
    """Levels, about ``most`` or fewer, that reach ``outer`` and spend ``rate`` bits per entry on a sample (count,) of
    unit mean square; and their unit."""
    inner = float(np.abs(sample).max()) or 1.0
    gap, chosen, best = 4.0, (Levels((-1, 0, 1)), 1.0), -np.inf
    for _ in range(4 * ROUNDS):
        found = scalar_design.entropy_levels(profile, gap, inner, outer, most)
        integers, unit = scalar_design.stored(found, finest)
        levels = Levels(integers, _shift_for(len(integers)))
        lengths = _lengths(_counts(_indices(sample, _thresholds(levels, None), unit), levels))
        counts = _counts(_indices(sample, _thresholds(levels, lengths), unit), levels)
        excess = _bits(counts) / sample.size + levels.shift - rate
        if rank(excess - TOLERANCE) > best:
            chosen, best = (levels, unit), rank(excess - TOLERANCE)
        if abs(excess) < TOLERANCE / 4 or gap == LEAST_GAP:
            break
        gap = max(gap * _correction(excess), LEAST_GAP)
    return chosen


def _shift_for(count: int) -> int:
    """Fewest low bits that leave high parts of one byte."""
    return max(0, (-(-count // MAX_ALPHABET) - 1).bit_length())


def _thresholds(levels: Levels, lengths: F64 | None) -> F64:
    """Where each level gives way to the next, (K - 1,): in the middle, or moved so that error + price * bits is equal.

    A bit is priced in squares of the gap, as if the levels were densest where an error weighs most. Where low bits are
    stored the lengths say nothing of neighbours, and the gain would be nothing.
    """
    gaps = np.diff(levels.array).astype(np.float64)
    middles = levels.array[:-1] + 0.5 * gaps
    if lengths is None or levels.shift:
        return middles
    return np.maximum.accumulate(middles + gaps * np.diff(lengths) * (0.5 * PRICE))


def _indices(x: F32, thresholds: F64, unit: float) -> U16:
    return np.searchsorted(thresholds * unit, x.astype(np.float64)).astype(np.uint16)


def _counts(indices: U16, levels: Levels) -> I64:
    """How often each high part occurs."""
    return np.bincount(indices >> np.uint16(levels.shift), minlength=levels.alphabet).astype(np.int64)


def _lengths(counts: I64) -> F64:
    """Bits of each high part under the table that would be stored."""
    return rans.cost_table(PRECISION)[rans.normalize(counts, PRECISION)] / rans.COST_UNIT


def _bits(counts: I64) -> float:
    frequencies = rans.normalize(counts, PRECISION)
    return int((counts * rans.cost_table(PRECISION)[frequencies]).sum()) / rans.COST_UNIT


def _size(counts: I64, levels: Levels) -> int:
    """Bytes of both sections, from above."""
    return rans.size_bound(counts, rans.normalize(counts, PRECISION)) - (-int(counts.sum()) * levels.shift // 8)


def _correction(excess: float) -> float:
    """About 2^excess, within a factor of 2: how much wider the gaps must be to save ``excess`` bits per entry."""
    return min(max(1 + 0.69 * excess, 0.5), 2.0)
