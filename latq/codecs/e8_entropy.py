"""Codec e8 with entropy coding: points of E8 at one step size, no overload, coded by a static model (spec section 8.3).

Numbers enter as a flat stream and leave as the doubled coordinates of lattice points. A block of 8 costs its first
coordinate (which tells the coset), six more given the coset, and the last given the parity that the others leave. The
step is one for all blocks, the tables are those of the block's class. Loses 0.147 bits per entry to the Shannon limit
at every rate (2 pi e G(E8) = 0.146).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.coding import rans
from latq.coding.model import EVEN, FIRST, LAST, Density
from latq.errors import CorruptError
from latq.kernels.elementary import exp2

BLOCK = 8
F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
Classes = npt.NDArray[np.intp]
# Escaped values fit this many bits, sign included.
ESCAPE_BITS = 32
_SLICE = 1 << 13
# Bits per entry by which a chunk may stay below its budget.
TOLERANCE = 0.002
MAX_TRIALS = 12
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


def block_classes(vector_classes: npt.NDArray[np.integer], length: int) -> Classes:
    """Class of each block (N,) of a stream of vectors of ``length`` entries: that of its first entry's vector."""
    blocks = -(-vector_classes.size * length // BLOCK)
    return vector_classes[np.arange(blocks) * BLOCK // length].astype(np.intp)


def blocks_of(x: F32) -> F32:
    """Blocks (8, N) of a flat stream, the last one padded with zeros."""
    padded = np.zeros(-(-x.size // BLOCK) * BLOCK, np.float32)
    padded[: x.size] = x
    return np.ascontiguousarray(padded.reshape(-1, BLOCK).T)


def stream_of(blocks: npt.NDArray[np.generic]) -> F32:
    """Blocks (8, N) as a flat stream."""
    return np.ascontiguousarray(blocks.T).reshape(-1).astype(np.float32)


def quantize(x: F32, classes: Classes, step: float, density: Density | None) -> I32:
    """Doubled coordinates (8, N) of points for blocks ``x`` (8, N).

    Without a density the nearest point; with one, that point of either coset, or the origin, which has the least
    error + price * bits, the price being what a bit is worth at this step.
    """
    out = np.empty(x.shape, np.int32)
    for begin in range(0, x.shape[1], _SLICE):
        part = slice(begin, begin + _SLICE)
        out[:, part] = _choose(np.ascontiguousarray(x[:, part]), classes[part], np.float32(step), density)
    return out


def _choose(x: F32, classes: Classes, step: np.float32, density: Density | None) -> I32:
    if density is None:
        return kernels.nearest_point(x * (np.float32(1) / step))
    candidates = [*kernels.coset_points(x * (np.float32(1) / step)), np.zeros(x.shape, np.int32)]
    gain = step * np.float32(0.5) * _shrinkage(step)
    errors = [kernels.add8((x - c.astype(np.float32) * gain) ** 2) for c in candidates]
    nearest = np.minimum(errors[0], errors[1]).astype(np.float64)
    # d(8 D) / d(8 R) = -2 ln 2 D, with D measured on these very blocks.
    price = 2 * 0.6931471805599453 * float(kernels.tree_sum(nearest)) / (BLOCK * x.shape[1] * rans.COST_UNIT)
    costs = [
        error.astype(np.float64) + price * bit_cost(points, density, classes)
        for error, points in zip(errors, candidates, strict=True)
    ]
    best = np.argmin(costs, axis=0)
    return np.where(best == 0, candidates[0], np.where(best == 1, candidates[1], candidates[2]))


def _shrinkage(step: np.float32) -> np.float32:
    """About the least-squares gain of nearest points on N(0, 1): 1 / (1 + D) where D = step^2 G(E8) is small, and by
    measurement a little more where it is not."""
    noise = step * step * np.float32(0.0717)
    return np.float32(1) / (np.float32(1) + noise * np.float32(0.9))


def bit_cost(points: I32, density: Density, classes: Classes) -> npt.NDArray[np.int64]:
    """Cost of each block in units of 2^-16 bit."""
    tables = density.tables
    coded = _symbols(points, density, classes)
    escaped = (coded.symbols == 0).sum(axis=0, dtype=np.int64) * ESCAPE_BITS
    cost: npt.NDArray[np.int64] = tables.costs[coded.tables, coded.symbols].sum(axis=0)
    cost += (escaped + BLOCK * tables.shifts[classes]) * rans.COST_UNIT
    return cost


def within_budget(x: F32, classes: Classes, density: Density, step: float, budget: int) -> I32:
    """Points (8, N) for blocks ``x`` whose sections take ``budget`` bytes or a little less.

    The step is adjusted until they do. Data that no step of this density brings below the budget is coded at the
    smallest size found.
    """
    chosen, rank = np.zeros(x.shape, np.int32), -math.inf
    finer, coarser = None, None
    for _ in range(MAX_TRIALS):
        points = quantize(x, classes, step, density)
        excess = 8 * (size_of(points, density, classes) - budget) / x.size
        # Below the budget the largest is best, above it the smallest.
        if (new_rank := excess if excess <= 0 else -excess - MAX_EXCESS) > rank:
            chosen, rank = points, new_rank
        if -TOLERANCE <= excess <= 0:
            break
        aim = excess + TOLERANCE / 2
        finer, coarser = ((step, aim), coarser) if aim > 0 else (finer, (step, aim))
        if finer and coarser:
            # Between the two: by interpolation, but not too close to either.
            share = min(max(finer[1] / (finer[1] - coarser[1]), 0.1), 0.9)
            step = finer[0] + share * (coarser[0] - finer[0])
        else:
            step *= exp2(max(-1.0, min(1.0, aim)))
    return chosen


def integers_of(points: I32, count: int) -> F32:
    """Doubled coordinates as a flat stream (count,)."""
    return stream_of(points)[:count]


def encode(points: I32, density: Density, classes: Classes) -> tuple[bytes, bytes]:
    """(rANS section, escapes and low bits) of points (8, N) in blocks of ``classes`` (N,)."""
    coded = _symbols(points, density, classes)
    lanes, blocks = lanes_for(points.shape[1]), points.shape[1]
    rows = [
        (coded.symbols[i, begin : begin + lanes], coded.tables[i, begin : begin + lanes])
        for begin in range(0, blocks, lanes)
        for i in range(BLOCK)
    ]
    stream = kernels.rans_encode(rows, density.tables.rans, lanes)
    return stream, coded.escapes.astype("<i4").tobytes() + _pack_low(coded.low_bits, density.tables.shifts[classes])


def decode(stream: bytes | memoryview, rest: bytes | memoryview, density: Density, classes: Classes, count: int) -> F32:
    """Integers (count,) as float32, exact; CorruptError when a section is damaged."""
    return integers_of(_read(stream, rest, density, classes), count)


def overhead(count: int) -> int:
    """Bytes that the two sections take beyond what the model says of ``count`` entries."""
    blocks = -(-count // BLOCK)
    return 4 * lanes_for(blocks) + 16 + blocks // 4096


def size_of(points: I32, density: Density, classes: Classes) -> int:
    """Bytes of the two sections, from above."""
    return int(bit_cost(points, density, classes).sum()) // (8 * rans.COST_UNIT) + overhead(points.size)


def _read(stream: bytes | memoryview, rest: bytes | memoryview, density: Density, classes: Classes) -> I32:
    blocks, shifts = classes.size, density.tables.shifts[classes]
    low_size = int(shifts.sum())
    if len(rest) < low_size or (len(rest) - low_size) % 4:
        raise CorruptError("the section behind the coded points has a wrong size")
    escapes = np.frombuffer(rest, "<i4", (len(rest) - low_size) // 4)
    lanes = lanes_for(blocks)
    reader = kernels.RansReader(stream, density.tables.rans, lanes)
    points = np.empty((BLOCK, blocks), np.int32)
    taken = 0
    for begin in range(0, blocks, lanes):
        part = slice(begin, min(begin + lanes, blocks))
        taken = _decode_row(reader, points[:, part], classes[part], escapes, taken, density)
    if not reader.sound or taken != escapes.size:
        raise CorruptError("the coded points do not decode to their end state")
    if low_size:
        _join(points, _unpack_low(rest[len(rest) - low_size :], shifts), shifts)
    return points


def _decode_row(
    reader: kernels.RansReader,
    points: I32,
    classes: Classes,
    escapes: npt.NDArray[np.int32],
    taken: int,
    density: Density,
) -> int:
    """One block per lane, into ``points``; escaped values come row by row, lane by lane. Returns how many are taken."""
    tables = density.tables
    coset = parity = np.zeros(points.shape[1], np.int32)
    shifted = tables.shifts[classes] > 0
    for i in range(BLOCK):
        table = tables.first[classes] + _table(i, coset, parity, shifted)
        symbols = reader.row(table)
        value = tables.values[table, symbols]
        escaped = np.flatnonzero(symbols == 0)
        given = escapes[taken : taken + escaped.size]
        value[escaped[: given.size]] = given
        taken += escaped.size
        points[i] = value
        coset = value & 1 if i == 0 else coset
        parity = parity ^ ((value - coset) >> 1 & 1)
    return taken


def _symbols(points: I32, density: Density, classes: Classes) -> CodedPoints:
    """Symbols (8, N) of points, the table of each, and what is coded beside them."""
    tables = density.tables
    k = points >> 1
    coset = points[0] & 1
    parity = np.zeros_like(coset)
    symbols = np.empty(points.shape, np.uint8)
    chosen = np.empty(points.shape, np.intp)
    shifts = tables.shifts[classes]
    values = np.where(shifts > 0, k >> shifts, points)
    for i in range(BLOCK):
        chosen[i] = tables.first[classes] + _table(i, coset, parity, shifts > 0)
        symbols[i] = tables.symbols_of(chosen[i], values[i])
        parity = parity ^ (k[i] & 1)
    lanes = lanes_for(points.shape[1])
    escapes = _in_stream_order(values, symbols == 0, lanes) if (symbols == 0).any() else np.empty(0, np.int32)
    low = (k & ((1 << shifts) - 1)).astype(np.uint32)
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


def _table(i: int, coset: I32, parity: I32, shifted: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Table of coordinate ``i`` of each block, among those of its class."""
    if i == 0:
        return np.full(coset.size, FIRST, np.intp)
    table = EVEN + coset if i < BLOCK - 1 else LAST + coset + 2 * parity
    return np.where(shifted, FIRST, table).astype(np.intp)


def _pack_low(low: npt.NDArray[np.uint32], shifts: npt.NDArray[np.int32]) -> bytes:
    """Low bits (8, N), ``shifts`` (N,) of each: as many bytes per block."""
    ends = np.cumsum(shifts, dtype=np.int64)
    out = np.zeros(int(shifts.sum()), np.uint8)
    for shift in np.unique(shifts[shifts > 0]).tolist():
        blocks = np.flatnonzero(shifts == shift)
        octets = np.frombuffer(kernels.pack_bits(low[:, blocks].T.reshape(-1), shift), np.uint8)
        out[(ends[blocks] - shift)[:, None] + np.arange(shift)] = octets.reshape(-1, shift)
    return out.tobytes()


def _unpack_low(data: bytes | memoryview, shifts: npt.NDArray[np.int32]) -> I32:
    """Inverse of :func:`_pack_low`."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.cumsum(shifts, dtype=np.int64)
    low = np.zeros((BLOCK, shifts.size), np.int32)
    for shift in np.unique(shifts[shifts > 0]).tolist():
        blocks = np.flatnonzero(shifts == shift)
        own = octets[(ends[blocks] - shift)[:, None] + np.arange(shift)]
        low[:, blocks] = kernels.unpack_bits(own.tobytes(), shift, BLOCK * blocks.size).reshape(-1, BLOCK).T
    return low


def _join(points: I32, low: I32, shifts: npt.NDArray[np.int32]) -> None:
    """Turn high parts into doubled coordinates (8, N) where the shift is not 0, in place."""
    coset = low[7] & 1
    k = (points << shifts) | low
    k[7] ^= coset
    parity = k[0] & 1
    for i in range(1, BLOCK - 1):
        parity = parity ^ (k[i] & 1)
    k[7] |= parity
    np.copyto(points, 2 * k + coset, where=shifts > 0)
