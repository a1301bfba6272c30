"""How each tensor is to be coded: quantized by which plan, or kept lossless and why."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latq.codecs import scalar_design
from latq.errors import InputError, ParameterError
from latq.kernels.reference import tree_sum
from latq.pipeline import scalar_plan
from latq.pipeline.chunk import normalized_sample
from latq.pipeline.metadata import MAX_GROUP, QUANTIZABLE, MatrixCodec, Tile, Tiling, matrix_shape
from latq.pipeline.plan import (
    CHUNK_ENTRIES,
    F32_DYNAMIC_RANGE,
    WIDE_SCALES_FROM,
    Coding,
    Layout,
    Plan,
    check_bits,
    check_error,
    plan_entropy,
    plan_error,
    plan_fixed,
)
from latq.sources import MatrixView, Source, SourceTensor
from latq.transforms.rotation import Rotation

CodecName = Literal["e8", "scalar", "raw"]

# Entries, and chunks that they come from, to which the model of entropy coding is fitted.
SAMPLE_ENTRIES = 1 << 17
SAMPLE_CHUNKS = 16
# Entries read from a source at a time.
PANEL_ENTRIES = 1 << 24
# Tensors below this many bytes are kept lossless rather than refused where the rate leaves no room for their scales.
SMALL_TENSOR = 1 << 12
# Below this share of its energy, what is left of a constant vector without its mean is rounding.
ROUNDING = 1e-12
# The squares of smaller float64 values underflow; larger ones do not fit the arithmetic.
SMALLEST_PEAK = 1e-120
# Errors of no use to a product are not asked for; below the other, float16 scales would show.
LARGEST_DISTORTION = 0.9
WIDE_SCALES_BELOW = 5e-6
LARGEST = float(np.finfo(np.float32).max)
# Bytes of the container charged to a tensor: preamble, footer, headers, padding; its codec and entry in the metadata.
CONTAINER_BYTES = 384
METADATA_BYTES = 480


@dataclass(frozen=True)
class EncodeOptions:
    """What a user can ask of ``encode``; ``axis`` and ``centre`` are chosen per source and tensor when None.

    ``error`` takes the place of ``bits``: the relative Frobenius error of decoding each tensor, or of its product with
    an independent matrix coded alike (relative to ||A||_F ||B||_F / sqrt(n)).

    Levels of codec scalar suit a Gaussian partner of correlation ``rho`` (0 when None), or the matrix ``pair``.
    ``rotation`` is "none" for that codec and "hadamard" for others when None.
    """

    bits: float = 4.0
    codec: CodecName = "e8"
    coding: Coding = "fixed"
    error: float | None = None
    error_of: Literal["decode", "product"] = "decode"
    axis: int | None = None
    rotation: Rotation | None = None
    seed: int = 0
    centre: bool | None = None
    nonfinite: Literal["error", "raw"] = "error"
    threads: int = 1
    rho: float | None = None
    pair: MatrixView | None = None

    def __post_init__(self) -> None:
        if self.codec == "scalar":
            scalar_plan.check_options(self.coding, self.bits, self.error, self.rho, self.pair is not None)
        elif self.rho is not None or self.pair is not None:
            raise ParameterError("--rho and --pair need --codec scalar")
        if self.error is None:
            check_bits(self.bits, self.coding)
        else:
            check_error(self.error, self.coding)
        if not 0 <= self.seed < 1 << 63:
            raise ParameterError(f"seed {self.seed} is out of range; use 0 to 2^63 - 1")

    @property
    def chosen_rotation(self) -> Rotation:
        """A rotation destroys the correlation of entries that codec scalar is for."""
        return self.rotation or ("none" if self.codec == "scalar" else "hadamard")


@dataclass(frozen=True)
class Lossless:
    """Why a tensor is not quantized; ``surprising`` if a user who asked for a rate would want to be told."""

    reason: str
    surprising: bool = False


@dataclass(frozen=True)
class Decision:
    """Contraction axis and plan of one tensor."""

    axis: int
    plan: Plan | Lossless


def decide(tensor: SourceTensor, source: Source, where: str, options: EncodeOptions) -> Decision:
    """Look at one tensor of ``source`` and choose.

    Raises InputError for values that cannot be coded, ParameterError for an axis or a rate that does not fit.
    """
    place = f"{where}: tensor {tensor.name!r}"
    ndim = max(len(tensor.shape), 1)
    axis = source.default_axis if options.axis is None else options.axis
    lossless = _lossless(tensor, source, options)
    if -ndim <= axis < ndim:
        axis %= ndim
    elif lossless is None:
        raise ParameterError(f"{place} has {ndim} dimensions; --axis {axis} is out of range")
    else:
        axis = ndim - 1
    return Decision(axis, lossless or _plan(tensor, source, axis, place, options))


def blocks(view: MatrixView, tiling: Tiling) -> Iterator[tuple[Tile, npt.NDArray[Any]]]:
    """Chunks in order, read several at a time: sources that store rows dislike narrow columns."""
    together = max(1, PANEL_ENTRIES // (tiling.group * tiling.chunk_vectors))
    for group in range(tiling.groups):
        for first in range(group * tiling.runs, (group + 1) * tiling.runs, together):
            tiles = [tiling.tile(chunk) for chunk in range(first, min(first + together, (group + 1) * tiling.runs))]
            panel = view.read(tiles[0].v0, tiles[-1].v1, tiles[0].e0, tiles[0].e1)
            for tile in tiles:
                yield tile, panel[tile.v0 - tiles[0].v0 : tile.v1 - tiles[0].v0]


def _lossless(tensor: SourceTensor, source: Source, options: EncodeOptions) -> Lossless | None:
    """What can be said without reading the tensor."""
    if options.codec == "raw":
        return Lossless("asked for")
    if tensor.dtype not in QUANTIZABLE:
        return Lossless(f"dtype {tensor.dtype}")
    if 0 in tensor.shape:
        return Lossless("empty")
    if len(tensor.shape) < 2 and len(source.tensors) > 1:
        return Lossless("one-dimensional")
    return None


def _plan(tensor: SourceTensor, source: Source, axis: int, place: str, options: EncodeOptions) -> Plan | Lossless:
    n, m = matrix_shape(tensor.shape, axis)
    found = _scan(tensor, axis)
    if found.nonfinite is not None:
        if options.nonfinite == "error":
            position = ", ".join(str(int(i)) for i in found.nonfinite)
            raise InputError(f"{place} is not finite, first at [{position}]; clean it or use --nonfinite raw")
        return Lossless("not finite", surprising=True)
    if found.peak > LARGEST:
        raise InputError(f"{place} has values up to {found.peak:.3g}, beyond float32; rescale it or use --codec raw")
    if 0 < found.peak < SMALLEST_PEAK:
        return Lossless(f"no value above {found.peak:.3g}", surprising=True)
    if found.dynamic_range > F32_DYNAMIC_RANGE:
        return Lossless(f"vectors differ in size by a factor of {found.dynamic_range:.1g}", surprising=True)
    centre = found.centring_pays(min(n, MAX_GROUP)) if options.centre is None else options.centre
    metadata_bytes = CONTAINER_BYTES + METADATA_BYTES + 2 * len(tensor.name.encode())
    rotation = options.chosen_rotation
    layout = Layout(n, m, options.bits, rotation, options.seed, centre, found.dynamic_range, metadata_bytes)
    plan: Plan | None
    if options.codec == "scalar":
        plan = _plan_scalar(tensor, axis, layout, place, options)
    elif options.error is not None:
        plan = _plan_error(tensor, axis, layout, found, options)
    elif options.coding == "fixed":
        plan = plan_fixed(layout)
    else:
        plan = plan_entropy(layout, _sample(tensor, axis, layout))
    raw_bytes = n * m * np.dtype(tensor.array.dtype).itemsize
    if plan is None and raw_bytes > SMALL_TENSOR:
        reason = f"{options.bits:g} bits are too little for vectors of {n} entries"
        if source.kind == "npy" and len(source.tensors) == 1:
            raise ParameterError(f"{place}: {reason}; raise --bits, choose another --axis or use --codec raw")
        return Lossless(reason, surprising=True)
    if plan is None or plan.payload_bytes >= raw_bytes:
        return Lossless("too small to gain")
    return plan


def _plan_error(tensor: SourceTensor, axis: int, layout: Layout, found: "_Scan", options: EncodeOptions) -> Plan:
    """The plan that meets ``options.error``."""
    assert options.error is not None
    # Quantization errors are relative to what is left of the energy without the means.
    centred = found.centred / found.energy if layout.centre and found.energy > 0 else 1.0
    wanted = options.error * options.error
    share = (wanted, 0.0)
    if options.error_of == "product":
        # e^2 = 2 d + d^2 for unbiased reconstructions of relative noise d, which is D / (1 - D).
        noise = math.sqrt(1 + wanted / max(centred * centred, 1e-300)) - 1
        share = (0.0, min(noise / (1 + noise), LARGEST_DISTORTION))
    distortion = min(share[1] or wanted / max(centred, 1e-300), LARGEST_DISTORTION)
    layout = replace(layout, bits=WIDE_SCALES_FROM if distortion < WIDE_SCALES_BELOW else 1.0)
    return plan_error(layout, _sample(tensor, axis, layout), distortion, share)


def _plan_scalar(tensor: SourceTensor, axis: int, layout: Layout, place: str, options: EncodeOptions) -> Plan | None:
    """Levels for the correlation or the pair that was named; None where the rate leaves no room."""
    if options.pair is None:
        profile = scalar_design.gaussian(options.rho or 0.0)
    else:
        energies = scalar_plan.row_energies(options.pair, layout, place)
        profile = scalar_plan.fit(MatrixView(tensor.array, tensor.shape, axis), layout, energies)
    if options.coding == "fixed":
        return scalar_plan.plan_fixed(layout, profile)
    return scalar_plan.plan_entropy(layout, profile, _sample(tensor, axis, layout))


def _sample(tensor: SourceTensor, axis: int, layout: Layout) -> npt.NDArray[np.float32]:
    """Vectors from chunks all over the tensor, as the codec will see them."""
    view = MatrixView(tensor.array, tensor.shape, axis)
    codec = MatrixCodec(**layout.common)
    tiles = layout.tiles[:: -(-len(layout.tiles) // SAMPLE_CHUNKS)]
    parts = []
    for tile in tiles:
        vectors = min(tile.vectors, max(1, SAMPLE_ENTRIES // (len(tiles) * tile.length)))
        parts.append(normalized_sample(view.read(tile.v0, tile.v0 + vectors, tile.e0, tile.e1), codec))
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Scan:
    """What one pass over a tensor found: index of the first NaN or infinity, largest magnitude, energies."""

    nonfinite: tuple[int, ...] | None
    peak: float
    energy: float
    centred: float
    smallest_rms: float

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest root mean square of a vector (of one group) that is not zero."""
        return self.peak / self.smallest_rms

    def centring_pays(self, length: int) -> bool:
        """Whether taking the means out saves more than the 32 bits that each costs vectors of ``length`` entries."""
        return self.energy * length > self.centred * (length + 64)


def _scan(tensor: SourceTensor, axis: int) -> _Scan:
    """Energies are summed per group of entries, as ``normalize`` centres them."""
    view = MatrixView(tensor.array, tensor.shape, axis)
    group = min(view.n, MAX_GROUP)
    tiling = Tiling(view.n, view.m, group, max(1, min(view.m, CHUNK_ENTRIES // group)))
    peak = energy = centred = 0.0
    smallest = np.inf
    bad: list[tuple[int, ...]] = []
    for tile, block in blocks(view, tiling):
        wide = block.astype(np.float64)
        finite = np.isfinite(wide)
        if not finite.all():
            bad.extend(_positions(tensor.shape, axis, tile, ~finite))
            continue
        peak = max(peak, float(np.abs(wide).max()))
        if peak > LARGEST:
            continue
        sums, squares = tree_sum(wide), tree_sum(wide * wide)
        spread = squares - sums * sums / tile.length
        varied = spread > squares * ROUNDING
        smallest = min(smallest, float(np.min(spread, initial=np.inf, where=varied)) / tile.length)
        energy += float(tree_sum(squares))
        centred += float(tree_sum(spread))
    return _Scan(min(bad) if bad else None, peak, energy, centred, float(np.sqrt(smallest)))


def _positions(shape: tuple[int, ...], axis: int, tile: Tile, bad: npt.NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Array index of the first bad entry of a tile in C order."""
    vectors, entries = np.nonzero(bad)
    if not shape:
        return [()]
    others = shape[:axis] + shape[axis + 1 :]
    unravelled = np.unravel_index(vectors + tile.v0, others) if others else ()
    index = [*unravelled[:axis], entries + tile.e0, *unravelled[axis:]]
    return [min(zip(*(i.tolist() for i in index), strict=True))]
