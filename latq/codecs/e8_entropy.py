"""Codec e8 with entropy coding: points of E8 at one step size, no overload, coded by a static model (spec section 8.3).

Numbers enter as a flat stream of unit mean square and leave as the doubled coordinates of lattice points. A block of 8
costs its first coordinate (which tells the coset), six more given the coset, and the last given the parity that the
others leave. Loses 0.147 bits per entry to the Shannon limit at every rate (2 pi e G(E8) = 0.146).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq.coding import rans
from latq.coding.model import EVEN, FIRST, LAST, Density
from latq.errors import CorruptError
from latq.kernels import reference as kernels

BLOCK = 8
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
# Escaped values fit this many bits, sign included.
ESCAPE_BITS = 32
_SLICE = 1 << 13
# Bits per entry by which a chunk may stay below its budget.
TOLERANCE = 0.004
# More than any chunk can stay below its budget.
MAX_EXCESS = 1000.0


@dataclass(frozen=True)
class CodedPoints:
    """Symbols (8, N) and the table of each, escaped values in the order of the stream, low bits (8, N)."""

    symbols: npt.NDArray[np.uint8]
    tables: npt.NDArray[np.intp]
    escapes: I32
    low_bits: npt.NDArray[np.uint32]


def lanes_for(blocks: int) -> int:
    """One lane per block of a row; as for scale indices, but eight symbols long."""
    return rans.lanes_for(blocks * BLOCK)


def quantize(x: F32, step: np.float32, density: Density | None) -> I32:
    """Doubled coordinates (8, N) of points for blocks ``x`` (8, N).

    Without a density the nearest point; with one, that point of either coset, or the origin, which has the least
    error + price * bits, the price being what a bit is worth at this step.
    """
    out = np.empty(x.shape, np.int32)
    for begin in range(0, x.shape[1], _SLICE):
        part = np.ascontiguousarray(x[:, begin : begin + _SLICE])
        out[:, begin : begin + _SLICE] = _choose(part, step, density)
    return out


def _choose(x: F32, step: np.float32, density: Density | None) -> I32:
    if density is None:
        return kernels.nearest_point(x * (np.float32(1) / step))
    candidates = [*kernels.coset_points(x * (np.float32(1) / step)), np.zeros(x.shape, np.int32)]
    gain = step * np.float32(0.5) * _shrinkage(step)
    errors = [kernels.add8((x - c.astype(np.float32) * gain) ** 2) for c in candidates]
    nearest = np.minimum(errors[0], errors[1]).astype(np.float64)
    # d(8 D) / d(8 R) = -2 ln 2 D, with D measured on these very blocks.
    price = 2 * 0.6931471805599453 * float(kernels.tree_sum(nearest)) / (BLOCK * x.shape[1] * rans.COST_UNIT)
    costs = [e.astype(np.float64) + price * bit_cost(c, density) for e, c in zip(errors, candidates, strict=True)]
    best = np.argmin(costs, axis=0)
    return np.where(best == 0, candidates[0], np.where(best == 1, candidates[1], candidates[2]))


def _shrinkage(step: np.float32) -> np.float32:
    """About the least-squares gain of nearest points on N(0, 1): 1 / (1 + D) where D = step^2 G(E8) is small, and by
    measurement a little more where it is not."""
    noise = step * step * np.float32(0.0717)
    return np.float32(1) / (np.float32(1) + noise * np.float32(0.9))


def bit_cost(points: I32, density: Density) -> npt.NDArray[np.int64]:
    """Cost of each block in units of 2^-16 bit."""
    tables = density.tables
    coded = _symbols(points, density)
    escaped = (coded.symbols == 0).sum(axis=0, dtype=np.int64) * ESCAPE_BITS
    cost: npt.NDArray[np.int64] = tables.costs[coded.tables, coded.symbols].sum(axis=0)
    cost += (escaped + BLOCK * density.shift) * rans.COST_UNIT
    return cost


def fit_density(points: I32, shift: int) -> Density:
    """The model of sampled points (8, N)."""
    first = points[0] & 1
    values = points >> (shift + 1) if shift else points
    reach = min(127, max(2, int(np.abs(values).max(initial=0)) + 1))
    counts = np.bincount((values + reach).clip(0, 2 * reach).reshape(-1), minlength=2 * reach + 1).astype(np.int64)
    odd = int(first.sum())
    return Density.fit(counts, -reach, shift, (first.size - odd, odd))


def design(sample: F32, rate: float) -> tuple[float, Density]:
    """Step and density that spend ``rate`` bits per entry on a flat sample of unit mean square."""
    blocks = _blocks(sample)
    # High-rate D = step^2 G(E8) = 4^-(rate - 0.147); the iteration corrects what that is off at low rates.
    step = 3.73 * _exp2(0.147 - rate)
    density: Density | None = None
    for _ in range(10):
        points = quantize(blocks, np.float32(step), density)
        density = fit_density(points, _shift_for(step))
        excess = _rate(points, density) - rate
        if abs(excess) < TOLERANCE / 4:
            break
        step *= _exp2(max(-1.0, min(1.0, excess)))
    assert density is not None
    return step, density


def design_for_error(sample: F32, distortion: float) -> tuple[float, Density]:
    """Step and density that reach a mean squared error of ``distortion`` on a flat sample of unit mean square."""
    blocks = _blocks(sample)
    step = min(3.73 * math.sqrt(distortion), 4.0)
    density: Density | None = None
    for _ in range(8):
        points = quantize(blocks, np.float32(step), density)
        density = fit_density(points, _shift_for(step))
        u, v = blocks.astype(np.float64).reshape(-1), points.astype(np.float64).reshape(-1)
        uv, vv = float(kernels.tree_sum(u * v)), float(kernels.tree_sum(v * v))
        reached = float(kernels.tree_sum(u * u)) - (uv * uv / vv if vv else 0.0)
        step *= min(max(math.sqrt(distortion * sample.size / max(reached, 1e-300)), 0.25), 4.0)
    assert density is not None
    return step, density


def within_budget(x: F32, density: Density, step: float, budget: int) -> I32:
    """Points (8, N) for ``x`` (count,) of unit mean square whose sections take ``budget`` bytes or a little less.

    The step is adjusted until they do. Data that no step of this density brings below the budget is coded at the
    smallest size found.
    """
    blocks = _blocks(x)
    chosen, rank = np.zeros(blocks.shape, np.int32), -math.inf
    for _ in range(8):
        points = quantize(blocks, np.float32(step), density)
        excess = 8 * (size_of(points, density) - budget) / blocks.size
        # Below the budget the largest is best, above it the smallest.
        if (new_rank := excess if excess <= 0 else -excess - MAX_EXCESS) > rank:
            chosen, rank = points, new_rank
        if -TOLERANCE <= excess <= 0:
            break
        step *= _exp2(max(-1.0, min(1.0, excess + TOLERANCE / 4)))
    return chosen


def points_at(x: F32, density: Density, step: float) -> I32:
    """Points (8, N) for ``x`` (count,) at one step."""
    return quantize(_blocks(x), np.float32(step), density)


def integers_of(points: I32, count: int) -> F32:
    """Doubled coordinates as a flat stream (count,)."""
    return np.ascontiguousarray(points.T).reshape(-1)[:count].astype(np.float32)


def decode(stream: bytes | memoryview, rest: bytes | memoryview, density: Density, count: int) -> F32:
    """Integers (count,) as float32, exact; CorruptError when a section is damaged."""
    return integers_of(_read(stream, rest, density, -(-count // BLOCK)), count)


def overhead(count: int) -> int:
    """Bytes that the two sections take beyond what the model says of ``count`` entries."""
    blocks = -(-count // BLOCK)
    return 4 * lanes_for(blocks) + 16 + blocks // 4096


def size_of(points: I32, density: Density) -> int:
    """Bytes of the two sections, from above."""
    return int(bit_cost(points, density).sum()) // (8 * rans.COST_UNIT) + overhead(points.size)


def bits_per_entry(sample: F32, density: Density, step: float) -> float:
    """What the model says that a flat sample costs at one step."""
    return _rate(points_at(sample, density, step), density)


def _rate(points: I32, density: Density) -> float:
    return float(bit_cost(points, density).sum()) / (rans.COST_UNIT * points.size)


def _shift_for(step: float) -> int:
    """Low bits stored as such: high parts keep 6 to 12.5 values per standard deviation. Fewer lose 0.005 bits, more
    make long tables."""
    return max(0, int(np.frexp(0.16 / step)[1]) - 1)


def _blocks(x: F32) -> F32:
    padded = np.zeros(-(-x.size // BLOCK) * BLOCK, np.float32)
    padded[: x.size] = x
    return np.ascontiguousarray(padded.reshape(-1, BLOCK).T)


def _exp2(x: float) -> float:
    """2^x to 1e-5, by multiplication alone: libm is not the same everywhere."""
    whole = math.floor(x)
    f = x - whole
    series = 1 + f * (0.69315 + f * (0.24023 + f * (0.0555 + f * (0.0096 + f * 0.0013))))
    return math.ldexp(series, whole)


def encode(points: I32, density: Density) -> tuple[bytes, bytes]:
    """(rANS section, escapes and low bits) of points (8, N)."""
    coded = _symbols(points, density)
    lanes, blocks = lanes_for(points.shape[1]), points.shape[1]
    rows = [
        (coded.symbols[i, begin : begin + lanes], coded.tables[i, begin : begin + lanes])
        for begin in range(0, blocks, lanes)
        for i in range(BLOCK)
    ]
    stream = kernels.rans_encode(rows, density.tables.rans, lanes)
    low = kernels.pack_bits(coded.low_bits.T.reshape(-1), density.shift) if density.shift else b""
    return stream, coded.escapes.astype("<i4").tobytes() + low


def _read(stream: bytes | memoryview, rest: bytes | memoryview, density: Density, blocks: int) -> I32:
    low_size = -(-blocks * BLOCK * density.shift // 8)
    if len(rest) < low_size or (len(rest) - low_size) % 4:
        raise CorruptError("the section behind the coded points has a wrong size")
    escapes = np.frombuffer(rest, "<i4", (len(rest) - low_size) // 4)
    low = kernels.unpack_bits(rest[len(rest) - low_size :], density.shift, blocks * BLOCK) if density.shift else None
    lanes = lanes_for(blocks)
    reader = kernels.RansReader(stream, density.tables.rans, lanes)
    points = np.empty((BLOCK, blocks), np.int32)
    taken = 0
    for begin in range(0, blocks, lanes):
        part = slice(begin, min(begin + lanes, blocks))
        bits = None if low is None else low[BLOCK * part.start : BLOCK * part.stop].reshape(-1, BLOCK).T
        taken = _decode_row(reader, points[:, part], bits, escapes, taken, density)
    if not reader.sound or taken != escapes.size:
        raise CorruptError("the coded points do not decode to their end state")
    return points


def _decode_row(
    reader: kernels.RansReader,
    points: I32,
    low: npt.NDArray[np.unsignedinteger] | None,
    escapes: npt.NDArray[np.int32],
    taken: int,
    density: Density,
) -> int:
    """One block per lane, into ``points``; escaped values come row by row, lane by lane. Returns how many are taken."""
    tables = density.tables
    coset = parity = np.zeros(points.shape[1], np.int32)
    for i in range(BLOCK):
        table = _table(i, coset, parity, density)
        symbols = reader.row(table)
        value = tables.values[table, symbols]
        escaped = np.flatnonzero(symbols == 0)
        given = escapes[taken : taken + escaped.size]
        value[escaped[: given.size]] = given
        taken += escaped.size
        points[i] = value
        if not density.shift:
            coset = value & 1 if i == 0 else coset
            parity = parity ^ ((value - coset) >> 1 & 1)
    if low is not None:
        points[:] = _join(points, low.astype(np.int32), density.shift)
    return taken


def _symbols(points: I32, density: Density) -> CodedPoints:
    """Symbols (8, N) of points, the table of each, and what is coded beside them."""
    tables = density.tables
    k = points >> 1
    coset = points[0] & 1
    parity = np.zeros_like(coset)
    symbols = np.empty(points.shape, np.uint8)
    chosen = np.empty(points.shape, np.intp)
    values = k >> density.shift if density.shift else points
    for i in range(BLOCK):
        chosen[i] = _table(i, coset, parity, density)
        symbols[i] = tables.symbols_of(chosen[i], values[i])
        parity = parity ^ (k[i] & 1)
    lanes = lanes_for(points.shape[1])
    escapes = _in_stream_order(values, symbols == 0, lanes) if (symbols == 0).any() else np.empty(0, np.int32)
    low = np.empty((BLOCK, 0), np.uint32)
    if density.shift:
        low = (k & ((1 << density.shift) - 1)).astype(np.uint32)
        # The last coordinate's lowest bit follows from the others: the coset takes its place.
        low[7] = low[7] & ~np.uint32(1) | coset.astype(np.uint32)
    return CodedPoints(symbols, chosen, escapes, low)


def _in_stream_order(values: I32, escaped: npt.NDArray[np.bool_], lanes: int) -> I32:
    rows = [
        values[i, begin : begin + lanes][escaped[i, begin : begin + lanes]]
        for begin in range(0, values.shape[1], lanes)
        for i in range(BLOCK)
    ]
    return np.concatenate(rows)


def _table(i: int, coset: I32, parity: I32, density: Density) -> npt.NDArray[np.intp]:
    """Table of coordinate ``i`` of each block."""
    if density.shift or i == 0:
        return np.full(coset.size, FIRST, np.intp)
    if i < BLOCK - 1:
        return (EVEN + coset).astype(np.intp)
    return (LAST + coset + 2 * parity).astype(np.intp)


def _join(high: I32, low: I32, shift: int) -> I32:
    """Doubled coordinates from high parts and low bits (8, N)."""
    coset = low[7] & 1
    k = (high << shift) | low
    k[7] ^= coset
    parity = k[0] & 1
    for i in range(1, BLOCK - 1):
        parity = parity ^ (k[i] & 1)
    k[7] |= parity
    points: I32 = 2 * k + coset
    return points
