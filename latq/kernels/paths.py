"""The definition of the kernels that choose, encode and decode paths through a trellis (spec section 8.5).

Integers k, half a step apart, fall into four subsets by k mod 4. A systematic feedback code of rate 1/2 tells at every
state which parity the next integer has; bit 1 of the integer moves the state on. So the integers of one parity, a step
apart, are coded for, and the choice among all paths makes their cells rounder than intervals. Ungerboeck 1982; with
entropy coding: Marcellin & Fischer 1990, Fischer & Wang 1992.

Blocks of 8 integers are laid out (8, N); paths are runs of blocks, one for each lane of the stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from latq.kernels.points import (
    BLOCK,
    ESCAPE,
    EVEN,
    FIRST,
    I64,
    Classes,
    PointModel,
    pack_low,
    unpack_low,
)
from latq.kernels.reference import F32, I32, U8, RansReader, rans_encode

Number = TypeVar("Number", bound=np.generic)

# Squared distances are in units of a 256th of the squared spacing of the integers. What a step of a path costs beyond
# the least is at most CAP, so metrics of 16 bits hold all that two paths to one row can differ by.
FINE = 256
CAP = 2047
FAR = 1 << 14
# Paths are sought in stretches of so many integers, each by looking so many further ahead.
STRETCH, AHEAD = 768, 64
# Largest weight of an integer.
MOST = 7 * CAP
# Integers whose bits count in the choice are in -PLACES / 2 .. PLACES / 2 - 1.
PLACES = 256
# Error per entry, in squared steps, and what a unit of costs is worth in units of a metric: -dD / dR = 2 ln 2 D.
NOISE = 0.0635
WORTH = np.float32(2 * 0.6931471805599453 * 4 * NOISE * FINE / (1 << 16))
MOST_SHRINKAGE = np.float32(0.9)


@dataclass(frozen=True)
class Trellis:
    """A code by its parity-check polynomials as bit masks, bit i the coefficient of delay i.

    ``h0`` has its bit 0, ``h1`` neither that nor the highest of h0.
    """

    h0: int
    h1: int

    @property
    def memory(self) -> int:
        """Bits of a state."""
        return self.h0.bit_length() - 1

    def step(self, states: I32, values: I32) -> I32:
        """The states after integers whose parity is bit 0 of the states before."""
        moved: I32 = states >> 1 ^ -(states & 1) & self.h0 >> 1 ^ -(values >> 1 & 1) & self.h1 >> 1
        return moved

    def back(self, states: I32, turns: I32) -> tuple[I32, I32]:
        """The states before, and the integers modulo 4 that led from there, by bit 1 of those."""
        parity = states >> self.memory - 1
        before: I32 = 2 * (states ^ -parity & self.h0 >> 1 ^ -turns & self.h1 >> 1) + parity
        return before, parity + 2 * turns


# --- paths --------------------------------------------------------------------------------------------------------


def paths_of(x: npt.NDArray[Number], lanes: int) -> npt.NDArray[Number]:
    """Numbers given for blocks (B, N) as rows (T, lanes): of every path one number, zeros where the last has ended."""
    length = path_blocks(x.shape[1], lanes)
    padded = np.zeros((lanes * length, x.shape[0]), x.dtype)
    padded[: x.shape[1]] = x.T
    return np.ascontiguousarray(padded.reshape(lanes, -1).T)


def path_blocks(blocks: int, lanes: int) -> int:
    """Blocks of a path; the last may have fewer."""
    return -(-blocks // lanes)


def _blocks_of(rows: npt.NDArray[Number], blocks: int) -> npt.NDArray[Number]:
    """Inverse of :func:`paths_of`."""
    return np.ascontiguousarray(rows.T.reshape(-1, BLOCK)[:blocks].T)


def _widths(blocks: int, lanes: int) -> Iterator[int]:
    """Of every row how many lanes still have a path."""
    length = path_blocks(blocks, lanes)
    last = blocks - (lanes - 1) * length
    return (lanes if row < BLOCK * last else lanes - 1 for row in range(BLOCK * length))


# --- choice -------------------------------------------------------------------------------------------------------


def choose_paths(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, trellis: Trellis, lanes: int
) -> tuple[I32, int]:
    """Integers (8, N) for blocks ``x`` (8, N), and what they cost.

    Without a model the nearest path, at no cost; with one, that whose error and bits together weigh least. Where the
    last path has ended it goes on with zeros of the last class.
    """
    missing = lanes * path_blocks(classes.size, lanes) - classes.size
    padded = np.pad(x, ((0, 0), (0, missing)))
    padded_classes = np.pad(classes, (0, missing), mode="edge")
    y = padded * (np.float32(2) / step)
    below = np.floor(y)
    parts = np.rint((y - below) * np.float32(FINE)).astype(np.int32)
    floors = below.astype(np.int32)
    weights = path_weights(model) if model else np.zeros((1, PLACES), np.int32)
    costs = _branch_costs(floors, parts, weights[padded_classes if model else np.zeros_like(padded_classes)])
    found = _search(np.stack([paths_of(cost, lanes) for cost in costs]), trellis)
    values = (floors - 1 + (_blocks_of(found, padded_classes.size) - floors + 1 & 3))[:, : classes.size]
    return values, int(path_costs(values, classes, model).sum()) if model else 0


def path_weights(model: PointModel) -> I32:
    """What each integer (classes, PLACES) counts for beside the distance: its bits, and what a decoder that shrinks it
    gains by that (points.weights). Nothing where low bits are stored as such: there steps are small."""
    places = np.arange(-PLACES // 2, PLACES // 2, dtype=np.int32)
    weights = np.zeros((model.first.size, PLACES), np.int32)
    for of_class in np.flatnonzero(model.shifts == 0).tolist():
        tables, symbols = _coded(places, np.full(PLACES, of_class), model)
        squares: F32 = np.where(symbols == ESCAPE, 0, places * places).astype(np.float32)
        gains = squares * np.float32(_shrinkage(model, of_class) * np.float32(FINE))
        weights[of_class] = np.rint(model.costs[tables, symbols].astype(np.float32) * WORTH - gains)
    limited: I32 = np.clip(weights, -MOST, MOST)
    return limited


def _shrinkage(model: PointModel, of_class: int) -> np.float32:
    """Share by which integers of nearest paths are too large: the energy of their errors over that of all integers."""
    table = model.first[of_class] + FIRST
    frequencies = model.rans.frequencies[table].astype(np.int64)
    energy = int((frequencies[ESCAPE + 1 :] * model.values[table, ESCAPE + 1 :].astype(np.int64) ** 2).sum())
    return min(np.float32(4 * NOISE * (1 << 14)) / np.float32(max(energy, 1)), MOST_SHRINKAGE)


def path_costs(values: I32, classes: Classes, model: PointModel) -> I64:
    """Cost of each block (N,)."""
    cost: I64 = model.costs[_coded(values, classes, model)].sum(axis=0)
    return cost


def _branch_costs(floors: I32, parts: I32, weights: I32) -> list[I32]:
    """Costs (8, N) of the nearest integers that are 0, 1, 2 and 3 modulo 4, of those beside them, ``weights`` (N,
    PLACES) included: beyond the least, at most CAP.

    An integer j above the floor is farther than that by j^2 - 2 j e, with e the fractional part.
    """
    place = np.clip(floors, 1 - PLACES // 2, PLACES // 2 - 3) + PLACES // 2
    blocks = np.arange(len(weights))
    near = [FINE * j * j - 2 * j * parts + weights[blocks, place + j] for j in range(-1, 3)]
    least = np.minimum.reduce(near)
    beyond = [np.minimum(cost - least, CAP) for cost in near]
    return [np.choose(residue + 1 - floors & 3, beyond) for residue in range(4)]


def _search(costs: I32, trellis: Trellis) -> I32:
    """Residues modulo 4 (T, lanes) of the integers of the cheapest paths from state 0, by the costs (4, T, lanes)."""
    found = np.empty(costs.shape[1:], np.int32)
    start = np.zeros(costs.shape[2], np.int32)
    for begin in range(0, len(found), STRETCH):
        ahead = costs[:, begin : begin + STRETCH + AHEAD]
        found[begin : begin + STRETCH], start = _search_stretch(ahead, start, trellis)
    return found


def _search_stretch(costs: I32, start: I32, trellis: Trellis) -> tuple[I32, I32]:
    """Residues of the first STRETCH rows of the cheapest paths from states ``start``, and the states behind them.

    Of equal metrics the branch whose bit 1 is 0, and at the end the lowest state.
    """
    states = np.arange(1 << trellis.memory, dtype=np.int32)
    (left, even), (right, odd) = trellis.back(states, np.zeros_like(states)), trellis.back(states, np.ones_like(states))
    metrics = np.where(states == start[:, None], 0, FAR)
    turns = []
    for row in costs.transpose(1, 2, 0):
        from_left, from_right = metrics[:, left] + row[:, even], metrics[:, right] + row[:, odd]
        turns.append(from_right < from_left)
        metrics = np.minimum(from_left, from_right)
    lanes = np.arange(start.size)
    state, after = metrics.argmin(axis=1).astype(np.int32), start
    residues = np.empty((len(turns), start.size), np.int32)
    for i in reversed(range(len(turns))):
        if i == STRETCH - 1:
            after = state
        state, residues[i] = trellis.back(state, turns[i][lanes, state].astype(np.int32))
    return residues[:STRETCH], after


# --- coding -------------------------------------------------------------------------------------------------------


def encode_paths(values: I32, classes: Classes, model: PointModel, lanes: int) -> tuple[bytes, bytes]:
    """(rANS stream, escaped values and low bits) of integers (8, N); a row is one integer of every path."""
    tables, symbols = _coded(values, classes, model)
    shifts = model.shifts[classes]
    coded = np.where(shifts > 0, values >> (shifts + 1), values)
    symbols, tables, coded = paths_of(symbols, lanes), paths_of(tables, lanes), paths_of(coded, lanes)
    widths = list(enumerate(_widths(classes.size, lanes)))
    stream = rans_encode([(symbols[i, :width], tables[i, :width]) for i, width in widths], model.rans, lanes)
    escapes = b"".join(coded[i, :width][symbols[i, :width] == ESCAPE].astype("<i4").tobytes() for i, width in widths)
    low = (values >> 1 & (1 << shifts) - 1).astype(np.uint32)
    return stream, escapes + pack_low(low, shifts)


def decode_paths(
    stream: bytes | memoryview, rest: bytes | memoryview, classes: Classes, model: PointModel, trellis: Trellis,
    lanes: int,
) -> F32 | None:  # fmt: skip
    """Inverse of :func:`encode_paths`: integers (8, N) as float32, rounded beyond 2^24; None if damaged.

    ``rest`` is known to hold the low bits, and a whole number of escaped values before them.
    """
    shifts = model.shifts[classes]
    low_size = int(shifts.sum())
    escapes = np.frombuffer(rest, "<i4", (len(rest) - low_size) // 4)
    low_rows = paths_of(unpack_low(rest[len(rest) - low_size :], shifts), lanes)
    class_rows = paths_of(np.broadcast_to(classes, (BLOCK, classes.size)), lanes)
    reader = RansReader(stream, model.rans, lanes)
    values = np.zeros(low_rows.shape, np.int32)
    state, taken = np.zeros(lanes, np.int32), 0
    for i, width in enumerate(_widths(classes.size, lanes)):
        of_class, parity = class_rows[i, :width], state[:width] & 1
        shift = model.shifts[of_class]
        table = model.first[of_class] + np.where(shift > 0, FIRST, EVEN + parity)
        symbols = reader.row(table)
        value = model.values[table, symbols]
        escaped = np.flatnonzero(symbols == ESCAPE)
        given = escapes[taken : taken + escaped.size]
        value[escaped[: given.size]] = given
        taken += escaped.size
        values[i, :width] = np.where(shift > 0, 2 * (value << shift | low_rows[i, :width]) + parity, value)
        state[:width] = trellis.step(state[:width], values[i, :width])
    if not reader.sound or taken != escapes.size:
        return None
    return _blocks_of(values, classes.size).astype(np.float32)


def _coded(values: I32, classes: Classes, model: PointModel) -> tuple[npt.NDArray[np.intp], U8]:
    """Table and symbol of each of the integers (..., N) in blocks of ``classes`` (N,)."""
    shifts = model.shifts[classes]
    tables = model.first[classes] + np.where(shifts > 0, FIRST, EVEN + (values & 1))
    return tables, model.symbols_of(tables, np.where(shifts > 0, values >> (shifts + 1), values))
