"""From a wished rate to codec parameters: how a matrix is laid out in chunks, and how many bytes go to what."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np

from latq.calibration.shaping import Inputs
from latq.calibration.successive import Successive
from latq.codecs import blocks, e8, e8_design
from latq.codecs.columns import Columns
from latq.codecs.e8_entropy import E8Points
from latq.codecs.effort import Effort
from latq.codecs.entropy_design import Design, Sample, design_for_error, design_for_rate
from latq.codecs.quantizer import Quantizer, coarsened, margin, overhead
from latq.codecs.trellis import TrellisPaths
from latq.coding import rans
from latq.coding.model import Density
from latq.coding.packing import is_packable
from latq.container import container_overhead, dump_canonical
from latq.errors import ParameterError
from latq.kernels.elementary import exp2, log2
from latq.limits import MAX_Q
from latq.pipeline.chunk import Goal
from latq.pipeline.metadata import (
    KEPT_ALL,
    E8Codec,
    E8EntropyCodec,
    MatrixCodec,
    QuantizedCodec,
    TrellisCodec,
    side_bytes,
)
from latq.pipeline.tiling import Tile, Tiling
from latq.theory import R_STAR
from latq.transforms.rotation import Rotation
from latq.transforms.sizes import ZERO_SIZE, SizeClasses, power

Coding = Literal["fixed", "entropy"]


class Sampler(Protocol):
    """Gives vectors as the codec of a layout will see them, about so many entries of them."""

    def __call__(self, layout: "Layout", entries: int = ...) -> Sample: ...


# Alignment per vector costs 16 bits; below this length one value for the tensor does as well.
VECTOR_ALIGNMENT_FROM = 8192
# Above this rate the rounding of a float16 scale is no longer far below the quantization error.
WIDE_SCALES_FROM = 9.0
# Scales are about rms * UNIT / q, and float16 is at full precision down to 2^-29 of the largest entry.
F16_DYNAMIC_RANGE = 2.0**29 * e8_design.UNIT / 2**10
F32_DYNAMIC_RANGE = 2.0**120
# What the container itself takes is charged to the rate up to this share: a tiny tensor could pay nothing else.
MAX_CONTAINER_SHARE = 0.1
TYPICAL_CODEC_BYTES = 600
SMALLEST_ERROR = 1e-6
LOWEST_RATE, HIGHEST_RATE = 0.25, 12.0
# Negentropy (bits) up to which the entries of a sample are as good as Gaussian.
GAUSSIAN = 0.02
# Bits per entry by which a design may miss the rate where the step is corrected afterwards.
ROUGH = 0.005
# Entries of the sample for that: of fewer the rate is off by more than a chunk may be, which then takes a second trial.
START_ENTRIES = 1 << 19

NESTING_RATIOS = tuple(q for q in range(2, MAX_Q + 1) if is_packable(q))


@dataclass(frozen=True)
class Layout:
    """An n x m matrix cut into chunks, and the bytes that ``bits`` per entry of the file allow it.

    ``sizes`` tells for every chunk how many vectors it has of each size; ``dynamic_range`` is the largest magnitude
    over the smallest root mean square of a vector that is not zero.
    """

    n: int
    m: int
    bits: float
    rotation: Rotation
    seed: int
    centre: bool
    classes: SizeClasses | None
    sizes: tuple[dict[int, int], ...]
    dynamic_range: float = 1.0
    metadata_bytes: int = 0
    kept: int = KEPT_ALL
    calibrated: bool = False

    @cached_property
    def common(self) -> dict[str, Any]:
        """The parameters that every codec of matrices takes."""
        tiling = Tiling.choose(self.n, self.m)
        wide = self.classes or self.bits >= WIDE_SCALES_FROM or self.dynamic_range > F16_DYNAMIC_RANGE
        per_vector = "vector" if self.n >= VECTOR_ALIGNMENT_FROM else "tensor"
        return {
            "rotation": self.rotation,
            "seed": self.seed,
            "centre": self.centre,
            "scale": "float32" if wide else "float16",
            "classes": len(self.classes) if self.classes else 0,
            "group": tiling.group,
            "chunk_vectors": tiling.chunk_vectors,
            # Reconstructions made for inputs are not those of least squares: the sums over the tensor tell more.
            "alignment": "tensor" if self.calibrated else "class" if self.classes else per_vector,
            "kept": self.kept,
        }

    @cached_property
    def codec(self) -> MatrixCodec:
        return MatrixCodec(**self.common)

    @cached_property
    def tiles(self) -> list[Tile]:
        tiling = Tiling(self.n, self.m, self.codec.group, self.codec.chunk_vectors)
        return [tiling.tile(chunk) for chunk in range(tiling.count)]

    @property
    def entries(self) -> int:
        return self.n * self.m

    @cached_property
    def coded(self) -> list[int]:
        """Entries of each chunk that are coded."""
        return [tile.vectors * self.codec.kept_of(tile.length) for tile in self.tiles]

    @cached_property
    def widths(self) -> tuple[int, ...]:
        return self.classes.widths if self.classes else (0,)

    @cached_property
    def side(self) -> list[int]:
        """Bytes of each chunk beside its codes: header, side information, classes."""
        return [
            side_bytes(self.codec, tile.vectors) + self._class_bytes(sizes)
            for tile, sizes in zip(self.tiles, self.sizes, strict=True)
        ]

    def _class_bytes(self, sizes: dict[int, int]) -> int:
        if self.classes is None or len(self.classes) < 2:
            return 0
        counts = np.zeros(len(self.classes), np.int64)
        np.add.at(counts, self.classes.of(np.array(list(sizes))), list(sizes.values()))
        return rans.size_bound(counts, rans.normalize(counts))

    def room(self, codec: MatrixCodec | int = TYPICAL_CODEC_BYTES) -> int:
        """Bytes that are left for the codes of all chunks beside ``codec`` in the metadata, or so many bytes of it."""
        allowed = int(self.bits * self.entries) // 8
        container = self.metadata_bytes + sum(container_overhead(63) for _ in self.tiles)
        container += codec if isinstance(codec, int) else described(codec)
        return allowed - sum(self.side) - min(container, int(allowed * MAX_CONTAINER_SHARE))

    def shares(self, cost: Callable[[int, float, float], float]) -> list[float]:
        """Share of each chunk in the total of ``cost``(class, norm, rms of the divided vector) over all vectors."""
        costs: dict[int, float] = {ZERO_SIZE: 0.0}
        for size in {size for sizes in self.sizes for size in sizes if size != ZERO_SIZE}:
            index, norm, width = 0, size, 0
            if self.classes is not None:
                index = int(self.classes.of(np.array([size]))[0])
                norm, width = self.classes.norms[index], self.classes.widths[index]
            costs[size] = cost(index, power(norm), power(-width))
        totals = [
            tile.length * sum(count * costs[size] for size, count in sorted(sizes.items()))
            for tile, sizes in zip(self.tiles, self.sizes, strict=True)
        ]
        whole = sum(totals)
        return [total / whole for total in totals] if whole > 0 else [coded / sum(self.coded) for coded in self.coded]


@dataclass(frozen=True)
class Plan:
    """How one matrix is coded: parameters for the file, what to reach in each chunk, and about how large that gets.

    ``bits_lost`` compares plans of one tensor for codecs e8 and trellis: rate + log2(error) / 2, as foreseen from the
    sample. ``inputs`` are those that it is quantized for, or judged by, if known.
    """

    codec: QuantizedCodec
    classes: SizeClasses | None
    goals: tuple[Goal, ...]
    payload_bytes: int
    bits_lost: float = 0.0
    inputs: Inputs | None = None


def plan_fixed(layout: Layout, sampler: Sampler | None, effort: Effort) -> Plan | None:
    """The nesting ratio and scale set that promise the least error; None when even the smallest ones do not fit.

    Only with a ``sampler`` is it foreseen how well the plan does.
    """
    return next(plans_fixed(layout, sampler, effort), None)


def plans_fixed(layout: Layout, sampler: Sampler | None, effort: Effort) -> Iterator[Plan]:
    """Plans that fit, by the error that they promise."""
    for option in sorted(_fixed_options(layout), key=lambda option: option.error):
        kept = replace(layout, kept=option.kept)
        q, scales = option.q, option.table.scales
        codec = E8Codec(q=q, scales=scales, offset=e8_design.offset_for(q), **kept.common)
        digits = [e8.digits_size(count, q) for count in kept.coded]
        smallest = [e8.smallest_index_size(count, len(scales)) for count in kept.coded]
        spare = kept.room(codec) - sum(digits) - sum(smallest)
        if spare >= 0:
            coded = sum(kept.coded)
            index = [s + spare * count // coded for s, count in zip(smallest, kept.coded, strict=True)]
            yield _fixed_plan(kept, codec, digits, index, sampler, effort)


class _FixedOption(NamedTuple):
    """A nesting ratio and scale set, the coordinates kept, and the error expected of N(0, 1)."""

    error: float
    q: int
    table: e8_design.Table
    kept: int


def _fixed_options(layout: Layout) -> Iterator[_FixedOption]:
    """Those that fit the rate: with all coordinates, or, where the ratio takes more, with a part of them."""
    rate = max(layout.room(), 0) * 8 / layout.entries
    for q in NESTING_RATIOS:
        for table in e8_design.tables_for(q, layout.rotation == "none"):
            bits = log2(q)
            if rate >= bits:
                yield _FixedOption(exp2(-2 * (bits + table.gain(rate - bits))), q, table, KEPT_ALL)
            if layout.rotation == "hadamard" and bits < max(rate, R_STAR) + 1:  # Finer ones for fewer do worse.
                for index_bits, gain in table.gains:
                    share = rate / (bits + index_bits)
                    if share < 1:
                        error = 1 - share * (1 - exp2(-2 * (bits + gain)))
                        yield _FixedOption(error, q, table, max(1, int(KEPT_ALL * share)))


def _fixed_plan(
    layout: Layout, codec: E8Codec, digits: list[int], index: list[int], sampler: Sampler | None, effort: Effort
) -> Plan:
    budgets = [sum(parts) for parts in zip(layout.side, digits, index, strict=True)]
    goals = tuple(Goal(budget, effort=effort) for budget in budgets)
    if sampler is None:
        return Plan(codec, layout.classes, goals, sum(budgets))
    sample = sampler(layout)
    sample_budget = sum(index) * sample.blocks.size // sum(layout.coded)
    balanced = layout.rotation != "none"
    *_, integers = e8.encode(blocks.stream_of(sample.blocks), codec.parameters, sample_budget, effort, balanced)
    distortion = sample.distortion(blocks.blocks_of(integers))
    return Plan(
        codec,
        layout.classes,
        goals,
        sum(budgets),
        _bits_lost(layout, codec, sum(budgets) * 8 / sum(layout.coded), distortion),
    )


def plan_entropy(layout: Layout, sampler: Sampler, quantizers: Sequence[Quantizer]) -> list[Plan]:
    """Step and density for the rate of ``layout``, with each quantizer, or with the last one where it is clearly the
    best; none when there is no room at all.

    Below R* the rate goes to a part of the rotated coordinates, which gets R* (time sharing: Ordentlich & Polyanskiy
    2024 show that it is optimal for products).
    """
    spare = layout.room() - sum(map(overhead, layout.coded))
    if spare <= 0:
        return []
    rate = spare * 8 / layout.entries
    if rate < R_STAR and layout.rotation == "hadamard":
        layout = replace(layout, kept=ceil(KEPT_ALL * rate / R_STAR))
    sample, rate = sampler(layout), spare * 8 / sum(layout.coded)
    plans: list[Plan] = []
    design: Design | None = None
    # Entries of small classes are nearly all 0, as most of sparse vectors are.
    alike = not any(sample.widths) and sample.negentropy < GAUSSIAN and rate > R_STAR - ROUGH
    for quantizer in quantizers[-1:] if alike else quantizers:
        design = design_for_rate(quantizer, sample, rate, design, ROUGH)
        plan = _entropy_plan(layout, quantizer, design, None)
        plans.append(_started(plan, layout, sampler(layout, START_ENTRIES), quantizer, design))
    return plans


def _started(plan: Plan, layout: Layout, sample: Sample, quantizer: Quantizer, design: Design) -> Plan:
    """The plan with the step at which its density spends on the sample what there is for the codes."""
    room = plan.payload_bytes - sum(layout.side) - sum(map(overhead, layout.coded))
    rate = room * 8 / sum(layout.coded)
    _, cost = quantizer.choose(sample.blocks, sample.classes, design.step, design.density)
    excess = cost / (rans.COST_UNIT * sample.blocks.size) - rate
    step = coarsened(design.step, excess + margin(rate), rate)
    return replace(plan, goals=tuple(replace(goal, step=step, rms=sample.width_0_rms) for goal in plan.goals))


def plan_calibrated(
    layout: Layout, sampler: Callable[[Layout], Sample], quantizer: E8Points, inputs: Inputs
) -> Plan | None:
    """The same for vectors that are quantized for ``inputs``, whose shaping has the coordinates that are kept."""
    assert inputs.shaping is not None
    spare = layout.room() - sum(overhead(count) for count in layout.coded)
    if spare <= 0:
        return None
    columns = inputs.shaping.columns
    design = design_for_rate(Successive(quantizer, inputs.shaping), sampler(layout), spare * 8 / sum(layout.coded))
    return replace(_entropy_plan(layout, quantizer, design, columns), inputs=inputs)


def _entropy_plan(layout: Layout, quantizer: Quantizer, design: Design, columns: Columns | None) -> Plan:
    """What room there is goes to the chunks by what they are expected to need."""
    codec = _entropy_codec(quantizer, design.density, layout, columns)
    flushes = [overhead(count) for count in layout.coded]
    spare = max(0, layout.room(codec) - sum(flushes))
    noise = design.step * design.step * quantizer.noise
    class_rates = design.class_rates if columns is None else columns.mean_rates(design.class_rates)

    def expected(index: int, norm: float, rms: float) -> float:
        rate = class_rates[index]
        return log2(1 + rms * rms / noise) / 2 if rate is None else rate

    shares = layout.shares(expected)
    budgets = [sum(parts) for parts in zip(layout.side, flushes, (int(spare * share) for share in shares), strict=True)]
    goals = tuple(Goal(budget, design.step) for budget in budgets)
    return Plan(codec, layout.classes, goals, sum(budgets), _bits_lost(layout, codec, design.rate, design.distortion))


def plan_error(layout: Layout, sampler: Sampler, quantizer: Quantizer, distortion: float, error: float) -> Plan:
    """Step and density for a total squared error of ``error``, which is ``distortion`` of the centred energy."""
    share = 1.0
    if distortion > quantizer.error_at_r_star and layout.rotation == "hadamard":
        layout = replace(layout, kept=max(1, ceil(KEPT_ALL * (1 - distortion) / (1 - quantizer.error_at_r_star))))
        share = sum(layout.coded) / layout.entries
    design = design_for_error(quantizer, sampler(layout), max(distortion - (1 - share), distortion / 16) / share)
    noise = design.step * design.step * quantizer.noise

    def expected(index: int, norm: float, rms: float) -> float:
        energy = rms * rms
        return norm * norm * (share * energy * noise / (energy + noise) + (1 - share) * energy)

    goals = tuple(Goal(0, design.step, limit=error * part) for part in layout.shares(expected))
    size = sum(layout.side) + int(design.rate * sum(layout.coded)) // 8
    codec = _entropy_codec(quantizer, design.density, layout)
    return Plan(codec, layout.classes, goals, size, _bits_lost(layout, codec, design.rate, design.distortion))


def _bits_lost(layout: Layout, codec: MatrixCodec, rate: float, distortion: float) -> float:
    """Of all entries, from bits and error of the coordinates that are coded."""
    share = sum(layout.coded) / layout.entries
    return share * rate + 8 * described(codec) / layout.entries + log2(1 - share * (1 - distortion) + 1e-300) / 2


def described(codec: MatrixCodec) -> int:
    """Bytes of a codec in the metadata."""
    return len(dump_canonical(msgspec.to_builtins(codec)))


def _entropy_codec(
    quantizer: Quantizer, density: Density, layout: Layout, columns: Columns | None = None
) -> E8EntropyCodec | TrellisCodec:
    common = layout.common | {
        "low": density.low, "weights": density.codes, "shifts": density.shifts, "widths": density.widths
    }  # fmt: skip
    if columns is not None and len(columns.distinct) > 1:
        common["steps"] = columns.steps
    if isinstance(quantizer, TrellisPaths):
        return TrellisCodec(checks=(quantizer.trellis.h0, quantizer.trellis.h1), **common)
    return E8EntropyCodec(odd=density.odd, **common)


def check_error(error: float, coding: Coding) -> None:
    """ParameterError unless ``error`` is a relative error that can be asked for."""
    if coding != "entropy":
        raise ParameterError("--error needs --coding entropy: the steps of fixed coding are coarse")
    if not SMALLEST_ERROR <= error < 1:
        raise ParameterError(f"an error of {error:g} is out of range; use {SMALLEST_ERROR:g} to 1")


def check_bits(bits: float, coding: Coding) -> None:
    """ParameterError unless ``bits`` is a rate that the coding can serve."""
    if not LOWEST_RATE <= bits <= HIGHEST_RATE:
        raise ParameterError(
            f"{bits:g} bits per entry is out of range for {coding} coding; use {LOWEST_RATE:g} to {HIGHEST_RATE:g}"
        )
