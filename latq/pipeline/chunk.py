"""The payload of one chunk of a matrix: vectors in, bytes out, and back (spec section 4).

A payload holds all that belongs to its vectors; with the codec parameters of its tensor it can be decoded by itself:

    exponent i16 | zero u16 | length of the class section u32 | length of the first code section u32
    means f32 each (when centred) | scales | alignments f16 each | classes | first code section | second
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.calibration import successive
from latq.calibration.shaping import Inputs, Shaping
from latq.codecs import e8, quantizer, scalar
from latq.codecs.blocks import BLOCK, blocks_of
from latq.codecs.e8_entropy import E8Points
from latq.codecs.effort import Effort
from latq.codecs.quantizer import Chooser
from latq.coding import rans
from latq.errors import CorruptError
from latq.kernels.elementary import exp2
from latq.pipeline.metadata import (
    HEADER,
    E8Codec,
    E8EntropyCodec,
    MatrixCodec,
    QuantizedCodec,
    ScalarCodec,
    ScalarEntropyCodec,
    TrellisCodec,
    side_bytes,
)
from latq.transforms.rotation import rotate, unrotate
from latq.transforms.scaling import Normalized, fit, normalize
from latq.transforms.sizes import SizeClasses

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

MAX_EXPONENT = 1100


@dataclass(frozen=True)
class Energies:
    """Sums over the entries of a chunk, in true units; added up over chunks in order."""

    energy: float = 0.0
    mean_energy: float = 0.0
    overlap: float = 0.0
    error: float = 0.0
    output_energy: float = 0.0
    output_error: float = 0.0


@dataclass(frozen=True)
class RotatedChunk:
    """Decoded vectors before the inverse rotation: entry = 2^exponent * (scale * integer), mean in the same unit.

    ``integers`` (vectors, kept) are those of the coordinates that are coded; the others are 0. Scales, means and
    alignments are given for every vector, whatever the file has them for: ``classes`` of vectors, or each if None.
    ``block_steps`` is the step of each block of the stream, by an index into a table, up to a factor; None where there
    is one step.
    """

    integers: kernels.Decoded
    length: int
    scales: F64
    means: F64
    alignment: F64 | None
    exponent: int
    classes: U8 | None
    block_steps: tuple[U8, F64] | None

    @cached_property
    def square_steps(self) -> F64 | None:
        """(V,) sums of the squares of the steps over the coded coordinates; None where there is one step."""
        if self.block_steps is None:
            return None
        index, steps = self.block_steps
        vectors, kept = self.integers.shape
        if kept % BLOCK == 0:
            energies = np.zeros(256, np.int64)
            energies[: steps.size] = steps**2
            return kernels.summed_energies(index.reshape(vectors, -1), energies) * BLOCK
        squares = (steps**2)[index]
        # Blocks straddle vectors: of each the sum over what lies before its end, less that before its begin.
        whole, part = np.divmod(np.arange(vectors + 1) * kept, BLOCK)
        before = np.concatenate([[0.0], np.cumsum(squares) * BLOCK])[whole] + part * np.append(squares, 0.0)[whole]
        summed: F64 = np.diff(before)
        return summed

    @property
    def padded(self) -> F32:
        """The integers of all coordinates (vectors, length)."""
        integers = self.integers.astype(np.float32, copy=False)
        if integers.shape[1] == self.length:
            return integers
        return np.pad(integers, ((0, 0), (0, self.length - integers.shape[1])))


@dataclass(frozen=True)
class Goal:
    """What the encoder of a chunk is to reach: a payload of at most ``budget`` bytes, or, where ``limit`` is given, an
    error energy of at most that. Entropy coding starts from ``step``, which suits vectors that have this ``rms`` when
    brought to width 0, or any if that is 0; for scalars the step is what an integer counts for. Fixed coding of codec
    e8 searches with ``effort``.
    """

    budget: int = 0
    step: float = 0.0
    rms: float = 0.0
    limit: float | None = None
    effort: Effort = "default"


class Scratch(local):
    """Memory that each thread uses for one chunk after the other: that of a new array the system must clear first."""

    unit: F32 | None = None


def prepare(
    x: npt.NDArray[np.generic], codec: MatrixCodec, classes: SizeClasses | None, scratch: Scratch | None = None
) -> tuple[Normalized, F32]:
    """Vectors ``x``, divided and rotated, and what was taken out of them; valid until ``scratch`` is used again."""
    unit = scratch.unit if scratch and scratch.unit is not None and scratch.unit.shape == x.shape else None
    parts = normalize(x, codec.centre, classes, unit)
    if scratch:
        scratch.unit = parts.unit
    return parts, rotate(parts.unit, codec.rotation, codec.seed, out=parts.unit)


def stream_of(rotated: F32, kept: int) -> F32:
    """The first ``kept`` coordinates of all vectors, as a flat stream."""
    return np.ascontiguousarray(rotated[:, :kept]).reshape(-1)


def encode_chunk(
    x: npt.NDArray[np.generic],
    codec: QuantizedCodec,
    classes: SizeClasses | None,
    goal: Goal,
    scratch: Scratch,
    inputs: Inputs | None = None,
) -> tuple[bytes, Energies]:
    """Payload of vectors ``x`` (vectors, length), finite, and how well it represents them, also in products with
    ``inputs`` where these are known."""
    parts, rotated = prepare(x, codec, classes, scratch)
    kept, shaping = codec.kept_of(x.shape[1]), inputs.shaping if inputs else None
    target = shaping.target(rotated) if shaping else rotated
    stream = stream_of(target, kept)
    named = rans.encode(parts.classes, codec.classes) if codec.classes > 1 else b""
    integers: F32 | npt.NDArray[np.int32]
    budget = goal.budget - side_bytes(codec, len(x)) - len(named)
    if isinstance(codec, ScalarCodec):
        first = b""
        second, integers = scalar.encode_fixed(stream, codec.table, goal.step)
    elif isinstance(codec, ScalarEntropyCodec):
        first, second, integers = scalar.encode_entropy(stream, codec.table, goal.step, budget)
    elif isinstance(codec, E8Codec):
        index_budget = budget - e8.digits_size(stream.size, codec.q)
        balanced = codec.rotation != "none"
        if shaping:
            first, second, integers = successive.encode_fixed(
                stream, codec.parameters, index_budget, goal.effort, shaping.feedback, balanced
            )
        else:
            first, second, integers = e8.encode(stream, codec.parameters, index_budget, goal.effort, balanced)
    else:

        def error_of(integers: npt.NDArray[np.int32]) -> float:
            return fit(parts, rotated, integers.reshape(-1, kept), codec.classes, codec.scale).error

        first, second, integers = _code_by_density(stream, codec, parts, classes, goal, budget, shaping, error_of)
    integers = integers.reshape(-1, kept)
    gain_moments = shaping.gain_moments(target, integers.astype(np.float32)) if shaping else None
    found = fit(parts, rotated, integers, codec.classes, codec.scale, gain_moments)
    sections = [
        HEADER.pack(parts.exponent, 0, len(named), len(first)),
        parts.means.astype("<f4").tobytes() if codec.centre else b"",
        found.scales.astype(_little(codec.scale)).tobytes(),
        found.alignment.astype("<f2").tobytes() if codec.alignment != "tensor" else b"",
        named,
        first,
        second,
    ]
    unit_energy = float(np.ldexp(1.0, 2 * parts.exponent))
    mean_energy = float(kernels.tree_sum(parts.means.astype(np.float64) ** 2)) * x.shape[1]
    energies = [found.energy + mean_energy, mean_energy, found.overlap, found.error]
    if inputs:
        energies += _output_energies(inputs, parts, rotated, integers, found.scales, codec)
    return b"".join(sections), Energies(*(energy * unit_energy for energy in energies))


def _code_by_density(
    stream: F32,
    codec: E8EntropyCodec | TrellisCodec,
    parts: Normalized,
    classes: SizeClasses | None,
    goal: Goal,
    budget: int,
    shaping: Shaping | None,
    error_of: Callable[[npt.NDArray[np.int32]], float],
) -> tuple[bytes, bytes, F32 | npt.NDArray[np.int32]]:
    """Both sections of coordinates (count,) coded by a density, and the integers that they stand for."""
    kept = stream.size // len(parts.classes)
    density, blocks, block_classes = codec.density, blocks_of(stream), codec.block_classes(parts.classes, kept)
    chooser: Chooser = codec.quantizer
    if shaping:
        chooser = successive.Successive(E8Points(), shaping)
    if goal.limit is None:
        step = goal.step * _relative_rms(stream.reshape(-1, kept), parts, classes, goal.rms)
        points = quantizer.within_budget(chooser, blocks, block_classes, density, step, budget)
    else:
        limit = float(np.ldexp(goal.limit, -2 * parts.exponent))
        points = quantizer.within_error(
            chooser, blocks, block_classes, density, goal.step, limit,
            lambda points: error_of(quantizer.integers_of(points, stream.size)),
        )  # fmt: skip
    first, second = codec.quantizer.encode(points, density, block_classes)
    integers = quantizer.integers_of(points, stream.size)
    # As a reader has them, which 32 bits may not hold.
    return first, second, codec.columns.multiplied(integers.astype(np.float32)) if codec.columns else integers


def _output_energies(
    inputs: Inputs,
    parts: Normalized,
    rotated: F32,
    integers: F32 | npt.NDArray[np.int32],
    scales: npt.NDArray[np.floating],
    codec: MatrixCodec,
) -> list[float]:
    """Of the products of the vectors with an input, and of the errors of these."""
    centred = rotated * parts.divisors.astype(np.float32)[:, None]
    own = scales[parts.classes] if codec.classes else scales
    errors = -centred
    errors[:, : integers.shape[1]] += own.astype(np.float32)[:, None] * integers
    ones = rotate(np.ones((1, rotated.shape[1]), np.float32), codec.rotation, codec.seed)
    return [inputs.energy(centred + parts.means[:, None] * ones), inputs.energy(errors)]


def _relative_rms(rows: F32, parts: Normalized, classes: SizeClasses | None, rms: float) -> float:
    """Root mean square of vectors, or of what is kept of them, brought to width 0, over ``rms``; 1 where either is
    0."""
    if not rms:
        return 1.0
    if rows.shape[1] == parts.unit.shape[1]:  # A rotation leaves them as large.
        means = parts.rms * parts.rms
    else:
        means = kernels.row_squares(rows, 0, np.zeros(len(rows), np.float32)) / rows.shape[1]
    if classes:
        means = means * np.array([exp2(width / 4) for width in classes.widths])[parts.classes]
    found = math.sqrt(float(kernels.tree_sum(means)) / len(rows))
    return found / rms if found else 1.0


@dataclass(frozen=True)
class _Parts:
    """A payload taken apart: side information of its vectors, and the sections that hold their integers."""

    exponent: int
    means: F64
    scales: F64
    alignment: F64 | None
    classes: U8
    first: memoryview
    second: memoryview

    @classmethod
    def of(cls, payload: bytes, codec: QuantizedCodec, vectors: int) -> "_Parts":
        if len(payload) < HEADER.size:
            raise CorruptError("the chunk is too short")
        exponent, zero, named_size, first_size = HEADER.unpack_from(payload)
        if zero or abs(exponent) > MAX_EXPONENT or (named_size and codec.classes < 2):
            raise CorruptError("the chunk header holds an impossible value")
        least = side_bytes(codec, vectors) + named_size + first_size
        if len(payload) < least:
            raise CorruptError(f"the chunk has {len(payload)} bytes where at least {least} belong")
        position = HEADER.size

        def take(dtype: np.dtype[np.floating] | str, count: int) -> F64:
            nonlocal position
            with np.errstate(invalid="ignore"):  # A signalling NaN, which is refused below.
                values = np.frombuffer(payload, dtype, count, position).astype(np.float64)
            position += count * np.dtype(dtype).itemsize
            return values

        means = take("<f4", vectors) if codec.centre else np.zeros(vectors)
        scales = take(_little(codec.scale), codec.scales_of(vectors))
        alignment = take("<f2", scales.size) if codec.alignment != "tensor" else None
        if not (np.isfinite(means).all() and np.isfinite(scales).all() and (scales >= 0).all()):
            raise CorruptError("a mean or a scale is not a finite number")
        if alignment is not None and not ((alignment > -1) & (alignment < 1)).all():
            raise CorruptError("an alignment is out of range")
        body = memoryview(payload)[position:]
        named, first, second = body[:named_size], body[named_size:][:first_size], body[named_size + first_size :]
        classes = rans.decode(named, codec.classes, vectors) if codec.classes > 1 else np.zeros(vectors, np.uint8)
        if codec.classes:
            scales, alignment = scales[classes], None if alignment is None else alignment[classes]
        return cls(exponent, means, scales, alignment, classes, first, second)


def decode_chunks(
    payloads: Sequence[tuple[bytes, int]], codec: QuantizedCodec, length: int, narrow: bool = False
) -> list[RotatedChunk]:
    """Take payloads apart, each of so many vectors; CorruptError when a size or a value is impossible.

    Integers are float32; where they are to be ``narrow``, those of codec e8 have 8 or 16 bits if that holds them.
    """
    kept = codec.kept_of(length)
    parts = [_Parts.of(payload, codec, vectors) for payload, vectors in payloads]
    integers: list[kernels.Decoded]
    block_steps: list[tuple[U8, F64] | None] = [None] * len(parts)
    if isinstance(codec, E8Codec):
        integers = []
        for i, (own, (_, vectors)) in enumerate(zip(parts, payloads, strict=True)):
            points, index = e8.decode(own.first, own.second, codec.parameters, vectors * kept, narrow)
            integers.append(points)
            block_steps[i] = index, np.array(codec.scales, np.float64)
    elif isinstance(codec, E8EntropyCodec | TrellisCodec):
        coded = [(own.first, own.second, codec.block_classes(own.classes, kept)) for own in parts]
        integers = codec.quantizer.decode(coded, codec.density, narrow and not codec.columns)
        if codec.columns:
            integers = [codec.columns.multiplied(values) for values in integers]
    else:
        decode = scalar.decode_fixed if isinstance(codec, ScalarCodec) else scalar.decode_entropy
        integers = [
            decode(own.first, own.second, codec.table, vectors * kept)
            for own, (_, vectors) in zip(parts, payloads, strict=True)
        ]
    return [
        RotatedChunk(
            values[: vectors * kept].reshape(vectors, kept), length, own.scales, own.means, own.alignment, own.exponent,
            own.classes if codec.classes else None, steps,
        )
        for own, (_, vectors), values, steps in zip(parts, payloads, integers, block_steps, strict=True)
    ]  # fmt: skip


def reconstruct(
    chunk: RotatedChunk, codec: MatrixCodec, dtype: np.dtype[Any], out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Decoded vectors (vectors, length): 2^exponent * (scale * unrotated + mean), rounded to ``dtype``: by way of
    float32 unless that is float64, ties to even, clamped to finite numbers. In ``out``, of C order, if given."""
    turned = unrotate(chunk.padded, codec.rotation, codec.seed, out if dtype == np.float32 else None)
    return kernels.restored(turned, chunk.scales, chunk.means, chunk.exponent, dtype, out)


def _little(dtype: str) -> np.dtype[np.floating]:
    return np.dtype(dtype).newbyteorder("<")
