"""The payload of one chunk of a matrix: vectors in, bytes out, and back (spec section 4).

A payload holds all that belongs to its vectors; with the codec parameters of its tensor it can be decoded by itself:

    exponent i16 | zero u16 | length of the first code section u32
    means f32 each (when centred) | scales | alignments f16 each (per vector) | first code section | second
"""

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from latq.codecs import e8, e8_entropy, scalar
from latq.coding.model import Density
from latq.errors import CorruptError, ParameterError
from latq.kernels.reference import tree_sum
from latq.pipeline.metadata import (
    E8Codec,
    E8EntropyCodec,
    MatrixCodec,
    QuantizedCodec,
    ScalarCodec,
    ScalarEntropyCodec,
)
from latq.transforms.rotation import rotate, unrotate
from latq.transforms.scaling import Normalized, fit, normalize

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

HEADER = struct.Struct("<hHI")
MAX_EXPONENT = 1100
# Share of the error asked for that a chunk at least takes.
CLOSE = 0.99


@dataclass(frozen=True)
class Energies:
    """Sums over the entries of a chunk, in true units; added up over chunks in order."""

    energy: float = 0.0
    mean_energy: float = 0.0
    overlap: float = 0.0
    error: float = 0.0


@dataclass(frozen=True)
class RotatedChunk:
    """Decoded vectors before the inverse rotation: entry = 2^exponent * (scale * integer), mean in the same unit."""

    integers: F32
    scales: F64
    means: F64
    alignment: F64 | None
    exponent: int


def side_bytes(codec: MatrixCodec) -> int:
    """Bytes per vector of a chunk beside its indices."""
    return 4 * codec.centre + np.dtype(codec.scale).itemsize + 2 * (codec.alignment == "vector")


def normalized_sample(x: npt.NDArray[np.generic], codec: MatrixCodec) -> F32:
    """The flat stream of numbers that the codec would see for vectors ``x``."""
    return rotate(normalize(x, codec.centre).unit, codec.rotation, codec.seed).reshape(-1)


@dataclass(frozen=True)
class Goal:
    """What the encoder of a chunk is to reach: a size, or an error.

    ``budget`` bytes, of the scale indices for fixed coding, of all codes for entropy coding; or, where ``share`` is
    given, an error energy of at most (share of the whole energy, share of the centred energy). Entropy coding starts
    from ``step``; for scalars that is what an integer counts for.
    """

    budget: int = 0
    step: float = 0.0
    share: tuple[float, float] | None = None


def encode_chunk(x: npt.NDArray[np.generic], codec: QuantizedCodec, goal: Goal) -> tuple[bytes, Energies]:
    """Payload of vectors ``x`` (vectors, length), finite, and how well it represents them."""
    parts = normalize(x, codec.centre)
    unit = rotate(parts.unit, codec.rotation, codec.seed)
    if isinstance(codec, ScalarCodec):
        first = b""
        second, integers = scalar.encode_fixed(unit.reshape(-1), _levels(codec), goal.step)
    elif isinstance(codec, ScalarEntropyCodec):
        first, second, integers = scalar.encode_entropy(unit.reshape(-1), _levels(codec), goal.step, goal.budget)
    elif isinstance(codec, E8Codec):
        first, second, integers = e8.encode(unit.reshape(-1), _params(codec), goal.budget)
    else:
        density = _density(codec)
        if goal.share is None:
            points = e8_entropy.within_budget(unit.reshape(-1), density, goal.step, goal.budget)
        else:
            points = _within_error(unit, parts, codec, goal.step, goal.share)
        first, second = e8_entropy.encode(points, density)
        integers = e8_entropy.integers_of(points, unit.size)
    found = fit(unit, integers.reshape(unit.shape), parts.rms, np.dtype(codec.scale))
    sections = [
        HEADER.pack(parts.exponent, 0, len(first)),
        parts.means.astype("<f4").tobytes() if codec.centre else b"",
        found.scales.astype(_little(codec.scale)).tobytes(),
        found.alignment.astype("<f2").tobytes() if codec.alignment == "vector" else b"",
        first,
        second,
    ]
    unit_energy = float(np.ldexp(1.0, 2 * parts.exponent))
    mean_energy = float(tree_sum(parts.means.astype(np.float64) ** 2)) * x.shape[1]
    energies = Energies(
        (found.energy + mean_energy) * unit_energy,
        mean_energy * unit_energy,
        found.overlap * unit_energy,
        found.error * unit_energy,
    )
    return b"".join(sections), energies


def _within_error(
    unit: F32, parts: Normalized, codec: E8EntropyCodec, step: float, share: tuple[float, float]
) -> npt.NDArray[np.int32]:
    """Points whose error energy is at most the share, and not much less: the step is adjusted until it is so."""
    density, length = _density(codec), unit.shape[1]
    centred = float(tree_sum(parts.rms * parts.rms)) * length
    whole = centred + float(tree_sum(parts.means.astype(np.float64) ** 2)) * length
    limit = share[0] * whole + share[1] * centred
    chosen, best = None, -1.0
    for _ in range(12):
        points = e8_entropy.points_at(unit.reshape(-1), density, step)
        integers = e8_entropy.integers_of(points, unit.size).reshape(unit.shape)
        error = fit(unit, integers, parts.rms, np.dtype(codec.scale)).error
        if best < error <= limit:
            chosen, best = points, error
        if CLOSE * limit <= error <= limit:
            break
        step *= min(max(math.sqrt((1 + CLOSE) / 2 * limit / max(error, 1e-300)), 0.25), 4.0)
    if chosen is None:
        raise ParameterError("the error asked for is beyond the precision of the arithmetic; ask for a larger one")
    return chosen


def decode_chunk(payload: bytes, codec: QuantizedCodec, vectors: int, length: int) -> RotatedChunk:
    """Take a payload apart; CorruptError when a size or a value is impossible."""
    if len(payload) < HEADER.size:
        raise CorruptError("the chunk is too short")
    exponent, zero, first_size = HEADER.unpack_from(payload)
    if zero or abs(exponent) > MAX_EXPONENT:
        raise CorruptError("the chunk header holds an impossible value")
    least = HEADER.size + vectors * side_bytes(codec) + first_size
    if len(payload) < least:
        raise CorruptError(f"the chunk has {len(payload)} bytes where at least {least} belong")
    position = HEADER.size

    def take(dtype: np.dtype[np.floating] | str) -> F64:
        nonlocal position
        values = np.frombuffer(payload, dtype, vectors, position).astype(np.float64)
        position += vectors * np.dtype(dtype).itemsize
        return values

    means = take("<f4") if codec.centre else np.zeros(vectors)
    scales = take(_little(codec.scale))
    alignment = take("<f2") if codec.alignment == "vector" else None
    if not (np.isfinite(means).all() and np.isfinite(scales).all() and (scales >= 0).all()):
        raise CorruptError("a mean or a scale is not a finite number")
    if alignment is not None and not ((alignment > -1) & (alignment < 1)).all():
        raise CorruptError("an alignment is out of range")
    first = memoryview(payload)[position : position + first_size]
    second = memoryview(payload)[position + first_size :]
    if isinstance(codec, ScalarCodec):
        integers = scalar.decode_fixed(first, second, _levels(codec), vectors * length)
    elif isinstance(codec, ScalarEntropyCodec):
        integers = scalar.decode_entropy(first, second, _levels(codec), vectors * length)
    elif isinstance(codec, E8Codec):
        integers = e8.decode(first, second, _params(codec), vectors * length)
    else:
        integers = e8_entropy.decode(first, second, _density(codec), vectors * length)
    return RotatedChunk(integers.reshape(vectors, length), scales, means, alignment, exponent)


def _params(codec: E8Codec) -> e8.E8Params:
    return e8.E8Params(codec.q, codec.scales, codec.offset)


@lru_cache(maxsize=64)
def _levels(codec: ScalarCodec | ScalarEntropyCodec) -> scalar.Levels:
    return scalar.Levels(codec.levels, codec.shift if isinstance(codec, ScalarEntropyCodec) else 0)


@lru_cache(maxsize=64)
def _density(codec: E8EntropyCodec) -> Density:
    """One object per codec: its tables are made once."""
    return Density(codec.shift, codec.low, codec.weights, codec.odd)


def reconstruct(chunk: RotatedChunk, codec: MatrixCodec) -> F64:
    """Decoded vectors (vectors, length): 2^exponent * (scale * unrotated + mean), rounded once in float64."""
    turned = unrotate(chunk.integers, codec.rotation, codec.seed).astype(np.float64)
    with np.errstate(over="ignore"):  # A damaged exponent overflows to infinity, which rounding clamps.
        return np.ldexp(turned * chunk.scales[:, None] + chunk.means[:, None], chunk.exponent)


def _little(dtype: str) -> np.dtype[np.floating]:
    return np.dtype(dtype).newbyteorder("<")


def to_dtype(x: F64, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """Round to ``dtype``: by way of float32 unless it is float64, ties to even, clamped to finite numbers."""
    if dtype not in (np.float64, np.float32):
        x = _clamped(x, np.dtype(np.float32)).astype(np.float64)
    return _clamped(x, dtype)


def narrowed(x: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert lossless values: finite ones are clamped to the finite range of ``dtype``, others stay what they are."""
    if x.dtype == dtype:
        return x
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(wide), to_dtype(wide, dtype), wide.astype(dtype))


def _clamped(x: F64, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    largest = np.float64(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(x, -largest, largest).astype(dtype)
