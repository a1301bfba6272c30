"""From a wished rate to codec parameters: which nesting ratio, how many bytes for what."""

from dataclasses import dataclass
from typing import Literal

from latq.codecs import e8, e8_design
from latq.coding.packing import MAX_Q, is_packable
from latq.container import container_overhead
from latq.errors import ParameterError
from latq.pipeline.chunk import HEADER, side_bytes
from latq.pipeline.metadata import MAX_GROUP, E8Codec, Tiling
from latq.transforms.rotation import Rotation

CHUNK_ENTRIES = 1 << 20
# Alignment per vector costs 16 bits; below this length one value for the tensor does as well.
VECTOR_ALIGNMENT_FROM = 2048
# Above this rate the rounding of a float16 scale is no longer far below the quantization error.
WIDE_SCALES_FROM = 9.0
# Scales are about rms * UNIT / q, and float16 is at full precision down to 2^-29 of the largest entry.
F16_DYNAMIC_RANGE = 2.0**29 * e8_design.UNIT / 2**10
F32_DYNAMIC_RANGE = 2.0**120
# What the container itself takes is charged to the rate up to this share: a tiny tensor could pay nothing else.
MAX_CONTAINER_SHARE = 0.05

NESTING_RATIOS = tuple(q for q in range(2, MAX_Q + 1) if is_packable(q))


@dataclass(frozen=True)
class Plan:
    """How one matrix is coded: parameters for the file, and limits for the encoder."""

    codec: E8Codec
    index_budgets: tuple[int, ...]
    payload_bytes: int


def plan_e8(
    n: int,
    m: int,
    *,
    bits: float,
    rotation: Rotation,
    seed: int,
    centre: bool,
    dynamic_range: float = 1.0,
    metadata_bytes: int = 0,
) -> Plan | None:
    """The nesting ratio that promises the least error for an n x m matrix at ``bits`` per entry of the file.

    ``dynamic_range`` is the largest magnitude over the smallest root mean square of a vector that is not zero. None
    when even the smallest nesting ratio does not fit.
    """
    group = min(n, MAX_GROUP)
    wide = bits >= WIDE_SCALES_FROM or dynamic_range > F16_DYNAMIC_RANGE
    scale: Literal["float16", "float32"] = "float32" if wide else "float16"
    chunk_vectors = max(1, min(m, CHUNK_ENTRIES // group))
    tiling = Tiling(n, m, group, chunk_vectors)
    alignment: Literal["vector", "tensor"] = "vector" if n >= VECTOR_ALIGNMENT_FROM else "tensor"
    entries = [tiling.tile(c).entries for c in range(tiling.count)]
    vectors = [tiling.tile(c).vectors for c in range(tiling.count)]
    allowed = int(bits * n * m) // 8
    container = metadata_bytes + sum(container_overhead(63) for _ in entries)
    best: tuple[float, Plan] | None = None
    for q in NESTING_RATIOS:
        scales = e8_design.scales_for(q)
        codec = E8Codec(
            "fixed", q, scales, e8_design.OFFSET, rotation, seed, centre, scale, group, chunk_vectors, alignment
        )
        digits = sum(e8.digits_size(count, q) for count in entries)
        side = sum(HEADER.size + v * side_bytes(codec) for v in vectors)
        left = allowed - digits - side - min(container, int(allowed * MAX_CONTAINER_SHARE))
        smallest = [e8.smallest_index_size(count, len(scales)) for count in entries]
        spare = left - sum(smallest)
        if spare < 0:
            continue
        budgets = tuple(s + spare * count // (n * m) for s, count in zip(smallest, entries, strict=True))
        value = digits * 8 / (n * m) + e8_design.index_gain(q, spare * 8 / (n * m))
        if best is None or value > best[0]:
            best = value, Plan(codec, budgets, digits + side + sum(budgets))
    return best[1] if best else None


def check_bits(bits: float) -> None:
    """ParameterError unless ``bits`` is a rate that fixed coding can serve."""
    if not 1.0 < bits <= 12.3:
        raise ParameterError(f"{bits:g} bits per entry is out of range for fixed coding; use 1.2 to 12")
