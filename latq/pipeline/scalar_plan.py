"""From a wished rate to the levels of codec scalar, for a given correlation or for a given other factor."""

import math

import numpy as np
import numpy.typing as npt

from latq.codecs import blocks, scalar, scalar_design
from latq.codecs.scalar import Levels
from latq.codecs.scalar_design import Profile
from latq.errors import InputError, ParameterError
from latq.kernels import tree_sum
from latq.limits import MAX_LEVELS
from latq.pipeline.chunk import Goal, prepare, stream_of
from latq.pipeline.metadata import ScalarCodec, ScalarEntropyCodec
from latq.pipeline.panels import Array, Panels
from latq.pipeline.plan import NESTING_RATIOS, Coding, Layout, Plan, Sampler
from latq.pipeline.tiling import Tile, Tiling
from latq.sources import MatrixView
from latq.transforms.rotation import rotate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
# Scales in float16 are at full precision over the dynamic range that a layout allows them if levels are no finer.
FINEST_NARROW = 2.0**-12
FINEST_WIDE = 2.0**-20
# Rates of entropy coding: below, nearly every entry is 0 and steps are coarse; above, the levels are too many to list.
RATES: dict[Coding, tuple[float, float]] = {"fixed": (1.1, 12.0), "entropy": (1.0, 8.0)}
# A level takes about 50 bits of the metadata: no more of them are listed than entries can bear.
ENTRIES_PER_LEVEL, FEW_LEVELS = 64, 64
# Levels and frequency tables are charged to the rate up to this share: a tiny tensor could pay nothing else.
MAX_TABLE_SHARE = 0.5
# Members of the codec other than the levels, as JSON text.
CODEC_BYTES = 200
# Cells of a histogram of all entries.
ENTRIES_PER_CELL, MIN_CELLS, MAX_CELLS_LOG2 = 64, 128, 14
# The mean weight of an entry in a histogram: whole numbers, whose sums stay exact for 2^33 entries.
WEIGHT = 2.0**20


def check_options(coding: Coding, bits: float, error: float | None, rho: float | None, paired: bool) -> None:
    """ParameterError unless codec scalar can serve what was asked for."""
    if error is not None:
        raise ParameterError("--error needs --codec e8; give codec scalar a rate with --bits")
    low, high = RATES[coding]
    if not low <= bits <= high:
        raise ParameterError(
            f"{bits:g} bits per entry is out of range for scalars with {coding} coding; use {low:g} to {high:g}"
        )
    if rho is not None and paired:
        raise ParameterError("--rho and --pair exclude each other; give one")
    if rho is not None and not -1 <= rho <= 1:
        raise ParameterError(f"a correlation of {rho:g} is out of range; use -1 to 1")


def row_energies(pair: MatrixView, layout: Layout, place: str) -> F64:
    """Mean square of what each of the n entries of a vector meets in ``pair``, (n,), after the rotation of the layout.

    Raises ParameterError if the lengths differ, InputError for values that are not finite in float32.
    """
    if pair.n != layout.n or pair.m == 0:
        raise ParameterError(
            f"{place} has vectors of {layout.n} entries, its pair {pair.m} of {pair.n}; choose others with "
            "--tensor, --pair-tensor, --axis or --pair-axis"
        )
    energies = np.zeros(layout.n)
    group = layout.common["group"]
    tiling = Tiling(pair.n, pair.m, group, max(1, min(pair.m, (1 << 20) // group)))
    for tile in map(tiling.tile, range(tiling.count)):
        block = pair.read(tile.v0, tile.v1, tile.e0, tile.e1).astype(np.float64)
        if not float(np.abs(block).max()) <= LARGEST:
            raise InputError(f"the pair of {place} holds NaN, infinity or values beyond float32; clean or rescale it")
        turned = rotate(block.astype(np.float32), layout.rotation, layout.seed).astype(np.float64)
        energies[tile.e0 : tile.e1] += tree_sum(np.ascontiguousarray((turned * turned).T))
    return energies * (1 / pair.m)


def fit(panels: Panels, layout: Layout, energies: F64) -> Profile:
    """The profile of all entries of a matrix, each weighing the mean square of what it meets."""
    reach = _largest_entry(layout) * (1 + 2.0**-10)
    mean = float(tree_sum(energies)) / energies.size
    weights = np.rint(energies * (WEIGHT / mean)) if mean > 0 else energies
    cells = 1 << min(max(layout.entries // ENTRIES_PER_CELL, MIN_CELLS).bit_length(), MAX_CELLS_LOG2)
    number = total = np.zeros(cells)

    def work(chunk: int, tile: Tile, x: Array) -> tuple[F64, F64]:
        units = stream_of(prepare(x, layout.codec, None)[1], layout.codec.kept_of(tile.length))
        return scalar_design.histogram(units, np.tile(weights[tile.e0 : tile.e1], tile.vectors), reach, cells)

    for more, heavier in panels.map(work):
        number, total = number + more, total + heavier
    return scalar_design.fitted(number, total, reach)


def plan_fixed(layout: Layout, profile: Profile) -> Plan | None:
    """The greatest number of levels whose file has the rate; None when even two do not fit."""
    room, finest = layout.room(CODEC_BYTES), _finest(layout)
    for count in reversed(NESTING_RATIOS):
        size = sum(scalar.fixed_size(tile.entries, count) for tile in layout.tiles)
        if size > room:
            continue
        levels, unit = scalar.design_fixed(profile, count, finest)
        if size + _text_bytes(levels) <= room:
            codec = ScalarCodec(levels=levels.integers, **layout.common)
            return Plan(codec, None, (Goal(0, unit),) * len(layout.tiles), size + sum(layout.side))
    return None


def plan_entropy(layout: Layout, profile: Profile, sampler: Sampler) -> Plan | None:
    """Levels for a sample of the entries, and a budget for every chunk; None when there is no room at all."""
    sample = blocks.stream_of(sampler(layout).blocks)
    levels, unit, rate = Levels((0, 1)), 1.0, 0.0
    most = min(max(layout.entries // ENTRIES_PER_LEVEL, FEW_LEVELS), MAX_LEVELS)
    # What the levels themselves take is known once they are designed; of a large tensor it is next to nothing.
    for round_ in range(6):
        left = 8 * _spare(layout, levels) / layout.entries
        if left <= 0:
            return None
        if round_ and abs(left - rate) < scalar.TOLERANCE:
            break
        rate = (rate + left) / 2 if round_ > 1 else left
        levels, unit = scalar.design_entropy(sample, profile, rate, _largest_entry(layout), _finest(layout), most)
    spare = max(0, _spare(layout, levels))
    budgets = [
        side + scalar.overhead(tile.entries, levels.alphabet) + spare * tile.entries // layout.entries
        for side, tile in zip(layout.side, layout.tiles, strict=True)
    ]
    codec = ScalarEntropyCodec(levels=levels.integers, shift=levels.shift, **layout.common)
    return Plan(codec, None, tuple(Goal(budget, unit) for budget in budgets), sum(budgets))


def _spare(layout: Layout, levels: Levels) -> int:
    """Bytes left for the entries themselves."""
    room = layout.room(CODEC_BYTES)
    fixed = sum(scalar.overhead(tile.entries, levels.alphabet) for tile in layout.tiles)
    return room - min(fixed + _text_bytes(levels), int(room * MAX_TABLE_SHARE))


def _text_bytes(levels: Levels) -> int:
    """Length of the levels in the metadata."""
    return len(str(list(levels.integers)).replace(" ", ""))


def _finest(layout: Layout) -> float:
    return FINEST_NARROW if layout.common["scale"] == "float16" else FINEST_WIDE


def _largest_entry(layout: Layout) -> float:
    """No entry of a vector of unit mean square is larger."""
    length = layout.common["group"]
    if layout.rotation == "hadamard" or layout.dynamic_range == 0:
        return math.sqrt(length)
    return min(math.sqrt(length), layout.dynamic_range * (2 if layout.centre else 1))
