"""Centring and normalisation of vectors, and the scale and alignment that undo it (spec section 4).

A chunk of vectors is first multiplied by a power of two, so that no later step overflows or underflows. Every vector
(of one group) is then centred and divided by its root mean square. After quantization, ``fit`` finds the stored scale,
which makes ``scale * integers`` the least-squares reconstruction, and the alignment, from which the unbiased one and
its error follow (RaBitQ, Gao & Long 2024, uses the same factor for one-sided products).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq.kernels import reference as kernels

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# The largest entry of a chunk is brought to [2^14, 2^15): scales down to 2^-29 of it are normal float16 numbers.
HEADROOM = 15
LARGEST_ALIGNMENT = 1 - 2.0**-11  # The float16 below 1, which would make the unbiased factor infinite.


@dataclass(frozen=True)
class Normalized:
    """Vectors of unit mean square (vectors, n) and what was taken out of them, in units of 2^exponent."""

    unit: F32
    exponent: int
    means: F32
    rms: F64


@dataclass(frozen=True)
class Fit:
    """Stored numbers per vector, and the energies (sums of squares, in units of 4^exponent) that measure them.

    ``alignment`` is 1 - <x, x_hat> / ||x||^2 for the reconstruction with the stored scale (0 where that is 0).
    """

    scales: npt.NDArray[np.floating]
    alignment: npt.NDArray[np.float16]
    energy: float
    overlap: float
    error: float


def normalize(x: npt.NDArray[np.generic], centre: bool) -> Normalized:
    """Split vectors ``x`` (vectors, n), finite, into exponent, means, root mean squares and unit vectors."""
    wide = x.astype(np.float64)
    peak = float(np.abs(wide).max(initial=0.0))
    exponent = int(np.frexp(peak)[1]) - HEADROOM
    wide = np.ldexp(wide, -exponent)
    means = np.zeros(len(x), np.float32)
    if centre:
        means = (kernels.tree_sum(wide) / x.shape[1]).astype(np.float32)
        wide -= means[:, None]
    rms = np.sqrt(kernels.tree_sum(wide * wide) / x.shape[1])
    inverse = np.divide(1.0, rms, out=np.zeros_like(rms), where=rms > 0)
    return Normalized((wide * inverse[:, None]).astype(np.float32), exponent, means, rms)


def fit(unit: F32, integers: F32, rms: F64, scale: np.dtype[np.floating]) -> Fit:
    """Scale and alignment of each vector from its rotated unit form and its decoded integers (both (vectors, n))."""
    u, v = unit.astype(np.float64), integers.astype(np.float64)
    uv, vv, uu = kernels.tree_sum(u * v), kernels.tree_sum(v * v), kernels.tree_sum(u * u)
    exact = rms * np.maximum(np.divide(uv, vv, out=np.zeros_like(uv), where=vv > 0), 0.0)
    scales = exact.astype(scale)
    stored = scales.astype(np.float64)
    energy, overlap = rms * rms * uu, rms * stored * uv
    alignment = np.divide(energy - overlap, energy, out=np.zeros_like(energy), where=overlap > 0)
    alignment = np.minimum(alignment, LARGEST_ALIGNMENT)
    error = np.maximum(energy - 2 * overlap + stored * stored * vv, 0.0)
    return Fit(scales, alignment.astype(np.float16), _total(energy), _total(overlap), _total(error))


def _total(x: F64) -> float:
    return float(kernels.tree_sum(x))
