"""How each tensor is to be coded: quantized by which plan, or kept lossless and why."""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from latq.calibration.store import Calibration
from latq.codecs import scalar_design
from latq.codecs.blocks import are_mixed, blocks_of, lowest_classes
from latq.codecs.e8_entropy import E8Points
from latq.codecs.effort import Effort
from latq.codecs.entropy_design import Sample
from latq.codecs.quantizer import Quantizer
from latq.codecs.trellis import TRELLISES, TrellisPaths
from latq.errors import InputError, ParameterError
from latq.kernels.elementary import log2
from latq.limits import MAX_CLASSES, MAX_GROUP
from latq.pipeline import scalar_plan
from latq.pipeline.calibrated import Known, choose_plan
from latq.pipeline.calibrated import unfit as unfit_for_inputs
from latq.pipeline.chunk import Scratch, encode_chunk, prepare, stream_of
from latq.pipeline.metadata import QUANTIZABLE
from latq.pipeline.panels import Array, Panels
from latq.pipeline.plan import (
    F32_DYNAMIC_RANGE,
    WIDE_SCALES_FROM,
    Coding,
    Layout,
    Plan,
    check_bits,
    check_error,
    described,
    plan_entropy,
    plan_error,
    plan_fixed,
)
from latq.pipeline.scan import LARGEST, Scan, scan, scattered
from latq.sources import MatrixView, Source, SourceTensor
from latq.transforms.rotation import Rotation
from latq.transforms.sizes import Precision, SizeClasses, choose_classes

CodecName = Literal["e8", "trellis", "scalar", "raw"]
Rate = float | Literal["raw"]
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "codec": get_args(CodecName),
    "coding": (*get_args(Coding), None),
    "effort": get_args(Effort),
    "error_of": ("decode", "product"),
    "rotation": (*get_args(Rotation), "auto"),
    "precision": get_args(Precision),
    "nonfinite": ("error", "raw"),
}

# Entries of the sampled vectors to which a plan is fitted.
SAMPLE_ENTRIES = 1 << 17
# Tensors below this many bytes are kept lossless rather than refused where the rate leaves no room for their scales.
SMALL_TENSOR = 1 << 12
# The squares of smaller float64 values underflow; larger ones do not fit the arithmetic.
SMALLEST_PEAK = 1e-120
# Errors of no use to a product are not asked for; below the other, float16 scales would show.
LARGEST_DISTORTION = 0.9
WIDE_SCALES_BELOW = 5e-6
# Largest error energy, over that of the entries, of rounding to nearest: a twelfth of the squared spacing above 1.
ROUNDING_NOISE = {"float16": 2.0**-20 / 12, "bfloat16": 2.0**-14 / 12}
# Bytes of the container charged to a tensor beside its codec: preamble, footer, headers, padding; metadata entry.
CONTAINER_BYTES = 448
ENTRY_BYTES = 200
# What the metadata say of the products of a calibrated tensor.
OUTPUT_BYTES = 90
# Bits per entry that leaving out the rotation must save.
ROTATION_GAIN = 0.01
# Bits per entry by which the sample may mistake one quantizer for the better, of rotated entries and of others, and the
# chunks that then tell, at most.
CLOSE_PLANS: dict[Rotation, float] = {"hadamard": 0.06, "none": 0.3}
TRIED_CHUNKS = 8


@dataclass(frozen=True)
class EncodeOptions:
    """What a user can ask of ``encode``; ``axis``, ``coding`` and ``centre`` are chosen when None.

    ``error`` takes the place of ``bits``: the relative Frobenius error of decoding each tensor, or of its product with
    an independent matrix coded alike (relative to ||A||_F ||B||_F / sqrt(n)).

    Tensors whose names match a pattern of ``bits_for`` have the rate beside it, the last one where several match. With
    ``allocate`` the others share ``bits`` so that their errors are least.

    With ``calibration`` tensors are quantized for the inputs that it has for them, which will themselves be quantized
    with ``activation_bits`` per entry, if that is given.

    Levels of codec scalar suit a Gaussian partner of correlation ``rho`` (0 when None), or the matrix ``pair``.
    """

    bits: float = 4.0
    codec: CodecName = "e8"
    coding: Coding | None = None
    error: float | None = None
    error_of: Literal["decode", "product"] = "decode"
    axis: int | None = None
    rotation: Rotation | Literal["auto"] = "auto"
    seed: int = 0
    centre: bool | None = None
    precision: Precision = "balanced"
    nonfinite: Literal["error", "raw"] = "error"
    effort: Effort = "default"
    threads: int = 1
    rho: float | None = None
    pair: MatrixView | None = None
    calibration: Calibration | None = None
    activation_bits: float | None = None
    bits_for: tuple[tuple[str, Rate], ...] = ()
    allocate: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ParameterError(f"{name} {getattr(self, name)!r} is not one of {', '.join(map(repr, choices))}")
        if self.coding is None:
            object.__setattr__(self, "coding", "fixed" if self.codec == "scalar" else "entropy")
        assert self.coding is not None
        if self.codec == "scalar":
            scalar_plan.check_options(self.coding, self.bits, self.error, self.rho, self.pair is not None)
        elif self.rho is not None or self.pair is not None:
            raise ParameterError("--rho and --pair need --codec scalar")
        elif self.codec == "trellis" and self.coding != "entropy":
            raise ParameterError("codec trellis has entropy coding only; drop --coding or use --codec e8")
        self._check_calibration()
        if self.error is None:
            check_bits(self.bits, self.coding)
        else:
            check_error(self.error, self.coding)
        if not 0 <= self.seed < 1 << 63:
            raise ParameterError(f"seed {self.seed} is out of range; use 0 to 2^63 - 1")
        if self.bits_for and self.codec == "raw":
            raise ParameterError("--bits-for gives tensors a rate of their own: it takes no --codec raw")
        if self.allocate and (self.error is not None or self.codec == "raw"):
            raise ParameterError("--allocate divides --bits among tensors: it takes no --error and no --codec raw")

    def at(self, rate: Rate) -> "EncodeOptions":
        """The same for a tensor that has a rate of its own."""
        alone = replace(self, bits_for=(), allocate=False, error=None)
        if rate == "raw":
            return replace(alone, codec="raw", rho=None, pair=None, calibration=None, activation_bits=None)
        return replace(alone, bits=rate)

    def _check_calibration(self) -> None:
        if self.calibration is None:
            if self.activation_bits is not None:
                raise ParameterError("--activation-bits needs --calibration")
            return
        if self.codec != "e8":
            raise ParameterError(f"--calibration needs --codec e8, not {self.codec}")
        if self.error is not None:
            raise ParameterError("--calibration and --error exclude each other; give --bits")
        if self.activation_bits is not None:
            check_bits(self.activation_bits, "fixed")


@dataclass(frozen=True)
class Lossless:
    """Why a tensor is not quantized; ``surprising`` if a user who asked for a rate would want to be told."""

    reason: str
    surprising: bool = False


@dataclass(frozen=True)
class Decision:
    """Contraction axis, chunks and plan of one tensor."""

    axis: int
    panels: Panels
    plan: Plan | Lossless
    known: Known | None = None


def decide(tensor: SourceTensor, source: Source, where: str, options: EncodeOptions, threads: int) -> Decision:
    """Look at one tensor of ``source`` and choose.

    Raises InputError for values that cannot be coded, ParameterError for an axis or a rate that does not fit.
    """
    place = f"{where}: tensor {tensor.name!r}"
    ndim = max(len(tensor.shape), 1)
    axis = source.default_axis if options.axis is None else options.axis
    lossless = lossless_at_sight(tensor, source, options)
    if -ndim <= axis < ndim:
        axis %= ndim
    elif lossless is None:
        raise ParameterError(f"{place} has {ndim} dimensions; --axis {axis} is out of range")
    else:
        axis = ndim - 1
    panels = Panels(MatrixView(tensor.array, tensor.shape, axis), threads)
    if lossless is not None:
        return Decision(axis, panels, lossless)
    known = known_inputs(tensor.name, panels.view.n, options, threads)
    return Decision(axis, panels, _plan(tensor, source, axis, panels, place, options, known), known)


def known_inputs(name: str, n: int, options: EncodeOptions, threads: int) -> Known | None:
    """The inputs of a tensor whose vectors have ``n`` entries; None if it is not quantized for any."""
    calibration = options.calibration
    entry = calibration.of(name, n) if calibration else None
    if calibration is None or entry is None or unfit_for_inputs(n):
        return None
    return Known(calibration.moments(entry, threads), options.activation_bits)


def lossless_at_sight(tensor: SourceTensor, source: Source, options: EncodeOptions) -> Lossless | None:
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


def _plan(
    tensor: SourceTensor,
    source: Source,
    axis: int,
    panels: Panels,
    place: str,
    options: EncodeOptions,
    known: Known | None,
) -> Plan | Lossless:
    n, m = panels.view.n, panels.view.m
    found = scan(panels, tensor.shape, axis)
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
    metadata_bytes = CONTAINER_BYTES + ENTRY_BYTES + 2 * len(tensor.name.encode())
    metadata_bytes += OUTPUT_BYTES if known is not None else 0
    sizes = found.centred_sizes if centre else found.sizes
    one_step = options.coding == "entropy"

    def classes_of(most: int) -> SizeClasses | None:
        counts = sum(sizes, Counter())
        return choose_classes(counts, min(n, MAX_GROUP), len(sizes), options.precision, one_step, most)

    classes = classes_of(MAX_CLASSES) if options.codec in ("e8", "trellis") else None
    wanted, bits = None, options.bits
    if options.error is not None:
        wanted = _wanted_error(found, centre, tensor.dtype, place, options)
        # Scales as exact as the error asks for.
        bits = WIDE_SCALES_FROM if wanted[0] < WIDE_SCALES_BELOW else 1.0
    layout = Layout(
        n, m, bits, "hadamard", options.seed, centre, classes, tuple(sizes), found.dynamic_range, metadata_bytes
    )
    sampler = _Sampler(found.sample)
    if options.codec == "scalar":
        plan = _plan_scalar(panels, layout, sampler, place, options)
    else:
        plan = _best_plan(panels, layout, sampler, wanted, options)
    if known is not None:
        own = layout if options.rotation == "auto" else replace(layout, rotation=options.rotation)
        quantizer = E8Points() if one_step else None
        plan = choose_plan(plan, known, own, classes_of, found.sample, quantizer, options.effort)
    raw_bytes = n * m * np.dtype(tensor.array.dtype).itemsize
    if plan is None and raw_bytes > SMALL_TENSOR:
        reason = f"{options.bits:g} bits are too little for vectors of {n} entries"
        if source.kind == "npy" and len(source.tensors) == 1:
            raise ParameterError(f"{place}: {reason}; raise --bits, choose another --axis or use --codec raw")
        return Lossless(reason, surprising=True)
    if plan is None or plan.payload_bytes >= raw_bytes:
        return Lossless("too small to gain")
    return plan


def _best_plan(
    panels: Panels, layout: Layout, sampler: "_Sampler", wanted: tuple[float, float] | None, options: EncodeOptions
) -> Plan | None:
    """The plan for the rotation asked for, or for the one that does better on the sample; ``wanted`` is the error to
    meet, relative to the centred energy and absolute, in place of the rate.

    Codec trellis gives way to e8 where that does better: no state of odd parity has a path to 0, which most entries of
    sparse vectors are.
    """
    quantizers: list[Quantizer] = [E8Points()]
    if options.codec == "trellis":
        quantizers.append(TrellisPaths(TRELLISES[options.effort]))
    compare = options.rotation == "auto" and sampler(replace(layout, rotation="none")).negentropy > ROTATION_GAIN

    def ranked(rotation: Rotation) -> list[Plan]:
        rotated = replace(layout, rotation=rotation)
        if options.coding == "fixed":
            plan = plan_fixed(rotated, sampler if compare else None, options.effort)
            return [plan] if plan else []
        if wanted is not None:
            plans = [plan_error(rotated, sampler, quantizer, *wanted) for quantizer in quantizers]
        else:
            plans = plan_entropy(rotated, sampler, quantizers)
        return sorted(plans, key=lambda plan: plan.bits_lost)

    if options.rotation != "auto":
        return _best_tried(ranked(options.rotation), panels)
    best = ranked("hadamard")
    other = ranked("none") if best and compare else []
    if best and other and other[0].bits_lost < best[0].bits_lost - ROTATION_GAIN:
        best = other
    return _best_tried(best, panels)


def _best_tried(plans: list[Plan], panels: Panels) -> Plan | None:
    """The first of ranked plans, or, where others are nearly as good by the sample, the best one on some chunks."""
    close = [p for p in plans if p.bits_lost < plans[0].bits_lost + CLOSE_PLANS[p.codec.rotation]]
    return min(close, key=lambda plan: _bits_lost(plan, panels)) if len(close) > 1 else next(iter(close), None)


def _bits_lost(plan: Plan, panels: Panels) -> float:
    """Rate + log2(error) / 2 of chunks from all over the tensor, as :attr:`Plan.bits_lost`."""
    size = entries = 0
    energy = error = 0.0
    for chunk in scattered(panels.tiling.count, -(-panels.tiling.count // TRIED_CHUNKS)):
        tile = panels.tiling.tile(int(chunk))
        x = panels.view.read(tile.v0, tile.v1, tile.e0, tile.e1)
        payload, energies = encode_chunk(x, plan.codec, plan.classes, plan.goals[chunk], Scratch())
        size, entries = size + len(payload), entries + tile.entries
        energy, error = energy + energies.energy, error + energies.error
    rate = 8 * (size / entries + described(plan.codec) / (panels.view.n * panels.view.m))
    return rate + log2((error + 1e-300) / (energy + 1e-300)) / 2


def _wanted_error(found: Scan, centre: bool, dtype: str, place: str, options: EncodeOptions) -> tuple[float, float]:
    """Error energy that meets ``options.error``, over the centred energy and absolute."""
    assert options.error is not None
    # Quantization errors are relative to what is left of the energy without the means.
    centred = found.centred if centre else found.energy
    if centred <= 0:
        return LARGEST_DISTORTION, 0.0
    wanted = options.error * options.error
    if options.error_of == "product":
        # e^2 = 2 d + d^2 for unbiased reconstructions of relative noise d, which is D / (1 - D).
        share = centred / found.energy
        noise = math.sqrt(1 + wanted / (share * share)) - 1
        error = noise / (1 + noise) * centred
    else:
        # Decoding rounds to the dtype of the tensor once more.
        rounding = ROUNDING_NOISE.get(dtype, 0.0)
        if wanted < 2 * rounding:
            raise ParameterError(
                f"{place}: rounding to {dtype} alone may cost an error of {rounding**0.5:.2g}; ask for a larger one"
            )
        error = (wanted - rounding) * found.energy
    distortion = min(error / centred, LARGEST_DISTORTION)
    return distortion, distortion * centred


def _plan_scalar(
    panels: Panels, layout: Layout, sampler: "_Sampler", place: str, options: EncodeOptions
) -> Plan | None:
    """Levels for the correlation or the pair that was named; None where the rate leaves no room.

    A rotation destroys the correlation of entries that this codec is for.
    """
    layout = replace(layout, rotation="none" if options.rotation == "auto" else options.rotation)
    if options.pair is None:
        profile = scalar_design.gaussian(options.rho or 0.0)
    else:
        profile = scalar_plan.fit(panels, layout, scalar_plan.row_energies(options.pair, layout, place))
    if options.coding == "fixed":
        return scalar_plan.plan_fixed(layout, profile)
    return scalar_plan.plan_entropy(layout, profile, sampler)


class _Sampler:
    """Vectors from chunks all over the tensor, as the codec of any layout will see them."""

    def __init__(self, parts: list[Array]) -> None:
        self._parts = parts
        self._seen: tuple[Layout, Sample] | None = None

    def __call__(self, layout: Layout, entries: int = SAMPLE_ENTRIES) -> Sample:
        if self._seen is None or self._seen[0] != layout:
            self._seen = layout, self._whole(layout)
        whole = self._seen[1]
        some = scattered(whole.classes.size, -(-whole.blocks.size // entries))
        if some.size == whole.classes.size:
            return whole
        return replace(whole, blocks=whole.blocks.T[some].T, classes=whole.classes[some], mixed=whole.mixed[some])

    def _whole(self, layout: Layout) -> Sample:
        found, classes, mixed = [], [], []
        for x in self._parts:
            parts, rotated = prepare(x, layout.codec, layout.classes)
            kept = layout.codec.kept_of(rotated.shape[1])
            found.append(blocks_of(stream_of(rotated, kept)))
            classes.append(lowest_classes(parts.classes, kept))
            mixed.append(are_mixed(parts.classes, kept))
        norms = layout.classes.divisors(0) if layout.classes else np.ones(1)
        return Sample(
            np.concatenate(found, axis=1),
            np.concatenate(classes),
            np.concatenate(mixed),
            layout.widths,
            tuple(norms.tolist()),
        )
