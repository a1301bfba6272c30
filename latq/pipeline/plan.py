"""From a wished rate to codec parameters: how a matrix is laid out in chunks, and how many bytes go to what."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latq.codecs import e8, e8_design, e8_entropy
from latq.coding.model import Density
from latq.coding.packing import MAX_Q, is_packable
from latq.container import container_overhead
from latq.errors import ParameterError
from latq.pipeline.chunk import HEADER, Goal, side_bytes
from latq.pipeline.metadata import MAX_GROUP, E8Codec, E8EntropyCodec, MatrixCodec, Tile, Tiling
from latq.transforms.rotation import Rotation

Coding = Literal["fixed", "entropy"]

CHUNK_ENTRIES = 1 << 20
# Alignment per vector costs 16 bits; below this length one value for the tensor does as well.
VECTOR_ALIGNMENT_FROM = 8192
# Above this rate the rounding of a float16 scale is no longer far below the quantization error.
WIDE_SCALES_FROM = 9.0
# Scales are about rms * UNIT / q, and float16 is at full precision down to 2^-29 of the largest entry.
F16_DYNAMIC_RANGE = 2.0**29 * e8_design.UNIT / 2**10
F32_DYNAMIC_RANGE = 2.0**120
# What the container itself takes is charged to the rate up to this share: a tiny tensor could pay nothing else.
MAX_CONTAINER_SHARE = 0.05
SMALLEST_ERROR = 1e-6
# A weight of a density as JSON text.
WEIGHT_BYTES = 4
RATES: dict[Coding, tuple[float, float]] = {"fixed": (1.1, 12.0), "entropy": (0.3, 12.0)}

NESTING_RATIOS = tuple(q for q in range(2, MAX_Q + 1) if is_packable(q))


@dataclass(frozen=True)
class Layout:
    """An n x m matrix cut into chunks, and the bytes that ``bits`` per entry of the file allow it.

    ``dynamic_range`` is the largest magnitude over the smallest root mean square of a vector that is not zero.
    """

    n: int
    m: int
    bits: float
    rotation: Rotation
    seed: int
    centre: bool
    dynamic_range: float = 1.0
    metadata_bytes: int = 0

    @cached_property
    def common(self) -> dict[str, Any]:
        """The parameters that every codec of matrices takes."""
        group = min(self.n, MAX_GROUP)
        wide = self.bits >= WIDE_SCALES_FROM or self.dynamic_range > F16_DYNAMIC_RANGE
        return {
            "rotation": self.rotation,
            "seed": self.seed,
            "centre": self.centre,
            "scale": "float32" if wide else "float16",
            "group": group,
            "chunk_vectors": max(1, min(self.m, CHUNK_ENTRIES // group)),
            "alignment": "vector" if self.n >= VECTOR_ALIGNMENT_FROM else "tensor",
        }

    @cached_property
    def tiling(self) -> Tiling:
        return Tiling(self.n, self.m, self.common["group"], self.common["chunk_vectors"])

    @cached_property
    def tiles(self) -> list[Tile]:
        return [self.tiling.tile(chunk) for chunk in range(self.tiling.count)]

    @property
    def entries(self) -> int:
        return self.n * self.m

    @cached_property
    def side(self) -> int:
        """Bytes of chunk headers and side information."""
        per_vector = side_bytes(MatrixCodec(**self.common))
        return sum(HEADER.size + tile.vectors * per_vector for tile in self.tiles)

    def room(self, codec_bytes: int = 0) -> int:
        """Bytes that are left for the codes of all chunks, if the codec takes ``codec_bytes`` more of metadata."""
        allowed = int(self.bits * self.entries) // 8
        container = self.metadata_bytes + codec_bytes + sum(container_overhead(63) for _ in self.tiles)
        return allowed - self.side - min(container, int(allowed * MAX_CONTAINER_SHARE))


@dataclass(frozen=True)
class Plan:
    """How one matrix is coded: parameters for the file, what to reach in each chunk, and about how large that gets."""

    codec: E8Codec | E8EntropyCodec
    goals: tuple[Goal, ...]
    payload_bytes: int


def plan_fixed(layout: Layout) -> Plan | None:
    """The nesting ratio and scale set that promise the least error; None when even the smallest ones do not fit."""
    counts = [tile.entries for tile in layout.tiles]
    best: tuple[float, Plan] | None = None
    tail = layout.rotation == "none"
    for q, table in ((ratio, t) for ratio in NESTING_RATIOS for t in e8_design.tables_for(ratio, tail)):
        digits = sum(e8.digits_size(count, q) for count in counts)
        smallest = [e8.smallest_index_size(count, len(table.scales)) for count in counts]
        spare = layout.room() - digits - sum(smallest)
        if spare < 0:
            continue
        budgets = tuple(s + spare * count // layout.entries for s, count in zip(smallest, counts, strict=True))
        value = digits * 8 / layout.entries + table.gain(spare * 8 / layout.entries)
        if best is None or value > best[0]:
            codec = E8Codec(q=q, scales=table.scales, offset=e8_design.offset_for(q), **layout.common)
            goals = tuple(Goal(budget) for budget in budgets)
            best = value, Plan(codec, goals, digits + layout.side + sum(budgets))
    return best[1] if best else None


def plan_entropy(layout: Layout, sample: npt.NDArray[np.float32]) -> Plan | None:
    """Step and density for a sample of rotated entries of unit mean square; None when there is no room at all."""
    flushes = [e8_entropy.overhead(tile.entries) for tile in layout.tiles]
    spare = layout.room() - sum(flushes)
    if spare <= 0:
        return None
    step, density = e8_entropy.design(sample, spare * 8 / layout.entries)
    spare = max(0, layout.room(WEIGHT_BYTES * len(density.codes)) - sum(flushes))
    counts = [tile.entries for tile in layout.tiles]
    budgets = [f + spare * count // layout.entries for f, count in zip(flushes, counts, strict=True)]
    goals = tuple(Goal(budget, step) for budget in budgets)
    return Plan(_entropy_codec(density, layout), goals, layout.side + sum(budgets))


def plan_error(layout: Layout, sample: npt.NDArray[np.float32], distortion: float, share: tuple[float, float]) -> Plan:
    """Step and density for a mean squared error of ``distortion`` on the sample; ``share`` as in the goal."""
    step, density = e8_entropy.design_for_error(sample, distortion)
    bits = e8_entropy.bits_per_entry(sample, density, step)
    goals = (Goal(0, step, share),) * len(layout.tiles)
    return Plan(_entropy_codec(density, layout), goals, layout.side + int(bits * layout.entries) // 8)


def _entropy_codec(density: Density, layout: Layout) -> E8EntropyCodec:
    return E8EntropyCodec(shift=density.shift, low=density.low, weights=density.codes, odd=density.odd, **layout.common)


def check_error(error: float, coding: Coding) -> None:
    """ParameterError unless ``error`` is a relative error that can be asked for."""
    if coding != "entropy":
        raise ParameterError("--error needs --coding entropy: the steps of fixed coding are coarse")
    if not SMALLEST_ERROR <= error < 1:
        raise ParameterError(f"an error of {error:g} is out of range; use {SMALLEST_ERROR:g} to 1")


def check_bits(bits: float, coding: Coding) -> None:
    """ParameterError unless ``bits`` is a rate that the coding can serve."""
    low, high = RATES[coding]
    if not low <= bits <= high:
        raise ParameterError(f"{bits:g} bits per entry is out of range for {coding} coding; use {low:g} to {high:g}")
