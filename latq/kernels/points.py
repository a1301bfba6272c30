"""The definition of the kernels that choose, encode and decode points of E8 under a model (spec section 8.3).

Points are doubled coordinates in blocks of 8, laid out (8, N). A block costs its first coordinate (which tells the
coset), six more given the coset, and the last given the parity that the others leave. A class of blocks with a shift
codes the high parts of its coordinates, all by one table, and keeps the low bits beside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import (
    F32,
    I32,
    U8,
    RansReader,
    RansTables,
    add8,
    coset_points,
    nearest_point,
    pack_bits,
    rans_encode,
    unpack_bits,
)

I64 = npt.NDArray[np.int64]
Classes = npt.NDArray[np.intp]
Decoded = npt.NDArray[np.float32 | np.int8 | np.int16]

BLOCK = 8
ESCAPE = 0
# Escaped values fit this many bits, sign included.
ESCAPE_BITS = 32
# Costs are in units of 2^-16 bit.
COST_UNIT = 1 << 16
# Coded values are at most so large.
REACH = 127
# Tables of a class of shift 0: any first coordinate; the next six by parity; the last by residue modulo 4.
FIRST, EVEN, LAST = 0, 1, 3
# Error of the nearest points per entry, in squared steps: the normalised second moment of E8.
G_E8 = 0.0717
# Squared steps that the unit of costs is worth: -dD / dR = 2 ln 2 D.
WORTH = np.float32(2 * 0.6931471805599453 * G_E8 / COST_UNIT)


class PointModel:
    """Tables (tables, alphabet) of frequencies of precision 14, costs and coded values; symbol 0 is the escape.

    ``first`` is the first table of each class, ``shifts`` how many low bits of its coordinates are stored as such. The
    costs are given for symbols; as attribute they count all that is stored beside them, too.
    """

    def __init__(
        self, frequencies: npt.NDArray[np.uint32], costs: I64, values: I32, first: Classes, shifts: I32
    ) -> None:
        self.rans = RansTables(frequencies)
        self.values, self.first, self.shifts = values, first, shifts
        of_tables = np.searchsorted(first, np.arange(len(frequencies)), side="right") - 1
        self.shift_of_tables = shifts[of_tables]
        self.costs = costs + COST_UNIT * self.shift_of_tables[:, None]
        self.costs[:, ESCAPE] += COST_UNIT * ESCAPE_BITS
        # Symbol of value v in table k is symbols[k, v + REACH]; values of other residues are never asked for.
        self.symbols = np.zeros((len(frequencies), 2 * REACH + 1), np.uint8)
        table, symbol = np.nonzero(frequencies[:, 1:])
        self.symbols[table, values[table, symbol + 1] + REACH] = symbol + 1

    def symbols_of(self, table: npt.NDArray[np.intp], values: I32) -> U8:
        """Symbols of values under the table of each; the escape where a table does not have the value."""
        known = (values >= -REACH) & (values <= REACH)
        found: U8 = self.symbols[table, np.where(known, values + REACH, 0)]
        return np.where(known, found, np.uint8(ESCAPE))

    def low_size(self, classes: Classes) -> int:
        """Bytes that the low bits of blocks take."""
        if self.shifts.size == 1:
            return classes.size * int(self.shifts[0])
        return int(np.bincount(classes, minlength=self.shifts.size) @ self.shifts) if self.shifts.any() else 0


# --- choice -------------------------------------------------------------------------------------------------------


def choose_points(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, shrink: np.float32 | None = None
) -> tuple[I32, int]:
    """Points (8, N) for blocks ``x`` (8, N), and what they cost.

    Without a model the nearest point, at no cost; with one, that point of either coset, or the origin, whose error
    and bits together weigh least, the error being that after the shrinkage which a decoder applies: ``shrink``, or
    what suits vectors of unit mean square.
    """
    y = x * (np.float32(1) / step)
    if model is None:
        return nearest_point(y), 0
    whole, half, balance = coset_points(y)
    origin = np.zeros_like(whole)
    table = weights(model, shrinkage(step) if shrink is None else shrink)
    # Beside the squared distance of the whole point, which all three have in common.
    w = (whole >> 1).astype(np.float32)
    found = [(c, _symbols(c, classes, model)) for c in (whole, half, origin)]
    weight = [add8(table[coded.tables, coded.symbols]) for _, coded in found]
    best = np.argmin([weight[0], weight[1] - balance, weight[2] + add8(w * (y + (y - w)))], axis=0)
    chosen = np.where(best == 0, whole, np.where(best == 1, half, origin))
    cost = [model.costs[coded.tables, coded.symbols].sum(axis=0) for _, coded in found]
    return chosen, int(np.choose(best, cost).sum())


def shrinkage(step: np.float32) -> np.float32:
    """Share by which the coordinates of nearest points are too large: 1 - 1 / (1 + D) for N(0, 1) where
    D = step^2 G(E8) is small, and by measurement a little less where it is not."""
    noise = step * step * np.float32(G_E8 * 0.9)
    return noise / (np.float32(1) + noise)


def weights(model: PointModel, shrink: np.float32) -> F32:
    """What each symbol (tables, alphabet) counts for beside the distance, in squared steps: its bits, and what a
    decoder that shrinks the point p, not the block y, gains by that.

    (y - (1 - s) p)^2 = (1 - s) ((y - p)^2 - s p^2) + s y^2, of which the last is the same for all p. Where low bits
    are stored as such steps are so small that nothing shrinks.
    """
    places: F32 = model.values.astype(np.float32) * np.float32(0.5)
    places[model.shift_of_tables > 0] = 0
    places[:, ESCAPE] = 0
    return model.costs.astype(np.float32) * WORTH - places * places * shrink


def point_costs(points: I32, classes: Classes, model: PointModel) -> I64:
    """Cost of each block (N,)."""
    coded = _symbols(points, classes, model)
    cost: I64 = model.costs[coded.tables, coded.symbols].sum(axis=0)
    return cost


# --- coding -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Coded:
    """Symbols (8, N), the table and the coded value of each."""

    symbols: U8
    tables: npt.NDArray[np.intp]
    values: I32


def encode_points(points: I32, classes: Classes, model: PointModel, lanes: int) -> tuple[bytes, bytes]:
    """(rANS stream, escaped values and low bits); a row is one coordinate of ``lanes`` blocks."""
    coded = _symbols(points, classes, model)
    parts = [
        (i, slice(begin, begin + lanes)) for begin in range(0, points.shape[1], lanes) for i in range(BLOCK)
    ]  # in the order of the stream
    stream = rans_encode([(coded.symbols[i, part], coded.tables[i, part]) for i, part in parts], model.rans, lanes)
    escaped = coded.symbols == ESCAPE
    escapes = [coded.values[i, part][escaped[i, part]] for i, part in parts] if escaped.any() else []
    shifts = model.shifts[classes]
    low = ((points >> 1) & ((1 << shifts) - 1)).astype(np.uint32)
    # The last coordinate's lowest bit follows from the others: the coset takes its place.
    low[7] = low[7] & ~np.uint32(1) | (points[0] & 1).astype(np.uint32)
    return stream, b"".join(e.astype("<i4").tobytes() for e in escapes) + pack_low(low, shifts)


class PointStream(NamedTuple):
    """A stream of points, what comes with it, and the class of every block (N,). ``rest`` is known to hold the low
    bits, and a whole number of escaped values before them."""

    stream: bytes | memoryview
    rest: bytes | memoryview
    classes: Classes
    lanes: int


def decode_points(streams: Sequence[PointStream], model: PointModel, narrow: bool = False) -> list[Decoded | None]:
    """Inverse of :func:`encode_points`: points (8, N) of every stream, None if it is damaged.

    As float32, rounded beyond 2^24. Where that is ``narrow``, in 8 or 16 bits if these hold all points of the stream.
    """
    return [_decode_stream(given, model, narrow) for given in streams]


def _decode_stream(given: PointStream, model: PointModel, narrow: bool) -> Decoded | None:
    stream, rest, classes, lanes = given
    shifts = model.shifts[classes]
    low_size = int(shifts.sum())
    escapes = np.frombuffer(rest, "<i4", (len(rest) - low_size) // 4)
    reader = RansReader(stream, model.rans, lanes)
    points = np.empty((BLOCK, classes.size), np.int32)
    taken = 0
    for begin in range(0, classes.size, lanes):
        part = slice(begin, begin + lanes)
        taken = _decode_row(reader, points[:, part], classes[part], escapes, taken, model)
    if not reader.sound or taken != escapes.size:
        return None
    if low_size:
        _join(points, unpack_low(rest[len(rest) - low_size :], shifts), shifts)
    if narrow:
        peak = np.abs(points.astype(np.int64)).max(initial=0)
        if peak < 1 << 15:
            narrowed: Decoded = points.astype(np.int8 if peak < 1 << 7 else np.int16)
            return narrowed
    return points.astype(np.float32)


def _decode_row(
    reader: RansReader, points: I32, classes: Classes, escapes: npt.NDArray[np.int32], taken: int, model: PointModel
) -> int:
    """One block per lane, into ``points``; escaped values come row by row, lane by lane. Returns how many are taken."""
    coset = parity = np.zeros(points.shape[1], np.int32)
    shifted = model.shifts[classes] > 0
    for i in range(BLOCK):
        table = model.first[classes] + _table(i, coset, parity, shifted)
        symbols = reader.row(table)
        value = model.values[table, symbols]
        escaped = np.flatnonzero(symbols == ESCAPE)
        given = escapes[taken : taken + escaped.size]
        value[escaped[: given.size]] = given
        taken += escaped.size
        points[i] = value
        coset = value & 1 if i == 0 else coset
        parity = parity ^ ((value - coset) >> 1 & 1)
    return taken


def _symbols(points: I32, classes: Classes, model: PointModel) -> _Coded:
    k = points >> 1
    coset = points[0] & 1
    parity = np.zeros_like(coset)
    symbols = np.empty(points.shape, np.uint8)
    chosen = np.empty(points.shape, np.intp)
    shifts = model.shifts[classes]
    values = np.where(shifts > 0, k >> shifts, points)
    for i in range(BLOCK):
        chosen[i] = model.first[classes] + _table(i, coset, parity, shifts > 0)
        symbols[i] = model.symbols_of(chosen[i], values[i])
        parity = parity ^ (k[i] & 1)
    return _Coded(symbols, chosen, values)


def _table(i: int, coset: I32, parity: I32, shifted: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Table of coordinate ``i`` of each block, among those of its class."""
    if i == 0:
        return np.full(coset.size, FIRST, np.intp)
    table = EVEN + coset if i < BLOCK - 1 else LAST + coset + 2 * parity
    return np.where(shifted, FIRST, table).astype(np.intp)


# --- low bits -----------------------------------------------------------------------------------------------------


def pack_low(low: npt.NDArray[np.uint32], shifts: I32) -> bytes:
    """Low bits (8, N), ``shifts`` (N,) of each: as many bytes per block."""
    ends = np.cumsum(shifts, dtype=np.int64)
    out = np.zeros(int(shifts.sum()), np.uint8)
    for shift in np.unique(shifts[shifts > 0]).tolist():
        blocks = np.flatnonzero(shifts == shift)
        octets = np.frombuffer(pack_bits(low[:, blocks].T.reshape(-1), shift), np.uint8)
        out[(ends[blocks] - shift)[:, None] + np.arange(shift)] = octets.reshape(-1, shift)
    return out.tobytes()


def unpack_low(data: bytes | memoryview, shifts: I32) -> I32:
    """Inverse of :func:`pack_low`."""
    octets = np.frombuffer(data, np.uint8)
    ends = np.cumsum(shifts, dtype=np.int64)
    low = np.zeros((BLOCK, shifts.size), np.int32)
    for shift in np.unique(shifts[shifts > 0]).tolist():
        blocks = np.flatnonzero(shifts == shift)
        own = octets[(ends[blocks] - shift)[:, None] + np.arange(shift)]
        low[:, blocks] = unpack_bits(own.tobytes(), shift, BLOCK * blocks.size).reshape(-1, BLOCK).T
    return low


def _join(points: I32, low: I32, shifts: I32) -> None:
    """Turn high parts into doubled coordinates (8, N) where the shift is not 0, in place."""
    coset = low[7] & 1
    k = (points << shifts) | low
    k[7] ^= coset
    parity = k[0] & 1
    for i in range(1, BLOCK - 1):
        parity = parity ^ (k[i] & 1)
    k[7] |= parity
    np.copyto(points, 2 * k + coset, where=shifts > 0)
