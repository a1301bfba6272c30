"""How each tensor is to be coded: quantized by which plan, or kept lossless and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latq.errors import InputError, ParameterError
from latq.kernels.reference import tree_sum
from latq.pipeline.metadata import MAX_GROUP, QUANTIZABLE, Tile, Tiling, matrix_shape
from latq.pipeline.plan import CHUNK_ENTRIES, F32_DYNAMIC_RANGE, Plan, check_bits, plan_e8
from latq.sources import MatrixView, Source, SourceTensor
from latq.transforms.rotation import Rotation

# Entries read from a source at a time.
PANEL_ENTRIES = 1 << 24
# Tensors below this many bytes are kept lossless rather than refused where the rate leaves no room for their scales.
SMALL_TENSOR = 1 << 12
# Below this share of its energy, what is left of a constant vector without its mean is rounding.
ROUNDING = 1e-12
# The squares of smaller float64 values underflow; larger ones do not fit the arithmetic.
SMALLEST_PEAK = 1e-120
LARGEST = float(np.finfo(np.float32).max)
# Bytes of the container charged to a tensor: preamble, footer, headers, padding; its codec and entry in the metadata.
CONTAINER_BYTES = 384
METADATA_BYTES = 480


@dataclass(frozen=True)
class EncodeOptions:
    """What a user can ask of ``encode``; ``axis`` and ``centre`` are chosen per source and tensor when None."""

    bits: float = 4.0
    codec: Literal["e8", "raw"] = "e8"
    axis: int | None = None
    rotation: Rotation = "hadamard"
    seed: int = 0
    centre: bool | None = None
    nonfinite: Literal["error", "raw"] = "error"
    threads: int = 1

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if not 0 <= self.seed < 1 << 63:
            raise ParameterError(f"seed {self.seed} is out of range; use 0 to 2^63 - 1")


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
    plan = plan_e8(
        n,
        m,
        bits=options.bits,
        rotation=options.rotation,
        seed=options.seed,
        centre=found.centring_pays(min(n, MAX_GROUP)) if options.centre is None else options.centre,
        dynamic_range=found.dynamic_range,
        metadata_bytes=CONTAINER_BYTES + METADATA_BYTES + 2 * len(tensor.name.encode()),
    )
    raw_bytes = n * m * np.dtype(tensor.array.dtype).itemsize
    if plan is None and raw_bytes > SMALL_TENSOR:
        reason = f"{options.bits:g} bits are too little for vectors of {n} entries"
        if source.kind == "npy" and len(source.tensors) == 1:
            raise ParameterError(f"{place}: {reason}; raise --bits, choose another --axis or use --codec raw")
        return Lossless(reason, surprising=True)
    if plan is None or plan.payload_bytes >= raw_bytes:
        return Lossless("too small to gain")
    return plan


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
