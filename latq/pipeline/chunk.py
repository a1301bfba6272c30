"""The payload of one e8 chunk: vectors in, bytes out, and back (spec section 4).

A payload holds all that belongs to its vectors; with the codec parameters of its tensor it can be decoded by itself:

    exponent i16 | zero u16 | length of the scale-index section u32
    means f32 each (when centred) | scales | alignments f16 each (per vector) | scale indices | digits
"""

import struct
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from latq.codecs import e8
from latq.errors import CorruptError
from latq.kernels.reference import tree_sum
from latq.pipeline.metadata import E8Codec
from latq.transforms.rotation import rotate, unrotate
from latq.transforms.scaling import fit, normalize

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

HEADER = struct.Struct("<hHI")
MAX_EXPONENT = 1100


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


def params_of(codec: E8Codec) -> e8.E8Params:
    return e8.E8Params(codec.q, codec.scales, codec.offset)


def side_bytes(codec: E8Codec) -> int:
    """Bytes per vector of a chunk beside its indices."""
    return 4 * codec.centre + np.dtype(codec.scale).itemsize + 2 * (codec.alignment == "vector")


def encode_chunk(x: npt.NDArray[np.generic], codec: E8Codec, index_budget: int) -> tuple[bytes, Energies]:
    """Payload of vectors ``x`` (vectors, length), finite, and how well it represents them."""
    parts = normalize(x, codec.centre)
    unit = rotate(parts.unit, codec.rotation, codec.seed)
    index, digits, integers = e8.encode(unit.reshape(-1), params_of(codec), index_budget)
    found = fit(unit, integers.reshape(unit.shape), parts.rms, np.dtype(codec.scale))
    sections = [
        HEADER.pack(parts.exponent, 0, len(index)),
        parts.means.astype("<f4").tobytes() if codec.centre else b"",
        found.scales.astype(_little(codec.scale)).tobytes(),
        found.alignment.astype("<f2").tobytes() if codec.alignment == "vector" else b"",
        index,
        digits,
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


def decode_chunk(payload: bytes, codec: E8Codec, vectors: int, length: int) -> RotatedChunk:
    """Take a payload apart; CorruptError when a size or a value is impossible."""
    if len(payload) < HEADER.size:
        raise CorruptError("the chunk is too short")
    exponent, zero, index_size = HEADER.unpack_from(payload)
    if zero or abs(exponent) > MAX_EXPONENT:
        raise CorruptError("the chunk header holds an impossible value")
    count = vectors * length
    digits_size = e8.digits_size(count, codec.q)
    expected = HEADER.size + vectors * side_bytes(codec) + index_size + digits_size
    if len(payload) != expected:
        raise CorruptError(f"the chunk has {len(payload)} bytes where {expected} belong")
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
    index = memoryview(payload)[position : position + index_size]
    digits = memoryview(payload)[position + index_size :]
    integers = e8.decode(index, digits, params_of(codec), count).reshape(vectors, length)
    return RotatedChunk(integers, scales, means, alignment, exponent)


def reconstruct(chunk: RotatedChunk, codec: E8Codec) -> F64:
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
