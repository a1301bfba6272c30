"""Centring and normalisation of vectors, and the scale and alignment that undo it (spec section 4).

A chunk of vectors is first multiplied by a power of two, so that no later step overflows or underflows. Every vector
(of one group) is then centred and divided by its root mean square, or by the norm of its class. After quantization,
``fit`` finds the stored scales, one per vector or class, which make ``scale * integers`` the least-squares
reconstruction, and the alignments, from which the unbiased one and its error follow (RaBitQ, Gao & Long 2024, uses the
same factor for one-sided products).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.transforms.sizes import EIGHTHS, SizeClasses, sizes_of

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
F64 = npt.NDArray[np.float64]

# The largest entry of a chunk is brought to [2^14, 2^15): scales down to 2^-29 of it are normal float16 numbers.
HEADROOM = 15
LARGEST_ALIGNMENT = 1 - 2.0**-11  # The float16 below 1, which would make the unbiased factor infinite.


@dataclass(frozen=True)
class Normalized:
    """Vectors (vectors, n) divided by their ``divisors``, and what else was taken out, in units of 2^exponent.

    ``rms`` are the root mean squares of the divided vectors. ``classes`` is the class of each vector, all 0 where every
    vector has a scale of its own.
    """

    unit: F32
    exponent: int
    means: F32
    divisors: F64
    rms: F64
    classes: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Fit:
    """Stored numbers per vector or class, and the energies (sums of squares, in units of 4^exponent) that measure them.

    ``alignment`` is 1 - <x, x_hat> / ||x||^2 for the reconstruction with the stored scale (0 where that is 0).
    """

    scales: npt.NDArray[np.floating]
    alignment: npt.NDArray[np.float16]
    energy: float
    overlap: float
    error: float


def normalize(
    x: npt.NDArray[np.generic], centre: bool, classes: SizeClasses | None, out: F32 | None = None
) -> Normalized:
    """Split vectors ``x`` (vectors, n), finite, into exponent, means, divisors and about unit vectors.

    These go into ``out`` if it is given. The divisor is the root mean square of the vector without ``classes``, else
    the norm of its class.
    """
    x = kernels.widened(x)
    exponent = int(np.frexp(kernels.peak(x))[1]) - HEADROOM
    means = np.zeros(len(x), np.float32)
    if centre:
        means = (kernels.row_sums(x, exponent) / x.shape[1]).astype(np.float32)
    rms = np.sqrt(kernels.row_squares(x, exponent, means) / x.shape[1])
    index = np.zeros(len(x), np.uint8)
    divisors = rms
    if classes is not None:
        index = classes.of(sizes_of(rms) + EIGHTHS * exponent)
        divisors = classes.divisors(exponent)[index]
    inverse = np.divide(1.0, divisors, out=np.zeros_like(rms), where=rms > 0)
    return Normalized(
        kernels.divided(x, exponent, means, inverse, out), exponent, means, divisors, rms * inverse, index
    )


def fit(
    parts: Normalized,
    rotated: F32,
    integers: F32 | I32,
    classes: int,
    scale: npt.DTypeLike,
    gain_moments: F64 | None = None,
) -> Fit:
    """Scale and alignment of each of ``classes``, or of each vector if that is 0.

    ``rotated`` are the divided vectors after rotation (vectors, n), ``integers`` their first coordinates as decoded.
    The scales are those of least squares, or of another norm with ``gain_moments`` (vectors, 2): the inner products of
    the integers in it with what they should be, and with themselves.
    """

    def summed(per_vector: F64) -> F64:  # Vectors of one class have the same divisor.
        if not classes:
            return per_vector
        return np.array([_total(per_vector[parts.classes == c]) for c in range(classes)])

    xx, xv, vv = kernels.row_moments(rotated, integers).T
    energy, xv, vv = summed(parts.divisors * parts.divisors * xx), summed(parts.divisors * xv), summed(vv)
    # Nothing but zeros fits with any scale: there it tells readers how large the vectors were.
    sizes = summed(np.ones(len(rotated))) * rotated.shape[1]
    usual = np.sqrt(np.divide(energy, sizes, out=np.zeros_like(energy), where=sizes > 0))
    above, below = xv, vv
    if gain_moments is not None:
        above, below = summed(parts.divisors * gain_moments[:, 0]), summed(gain_moments[:, 1])
    scales = np.maximum(np.divide(above, below, out=usual, where=below > 0), 0.0).astype(scale)
    stored = scales.astype(np.float64)
    overlap = stored * xv
    alignment = np.divide(energy - overlap, energy, out=np.zeros_like(energy), where=overlap > 0)
    alignment = np.minimum(alignment, LARGEST_ALIGNMENT)
    error = np.maximum(energy - 2 * overlap + stored * stored * vv, 0.0)
    return Fit(scales, alignment.astype(np.float16), _total(energy), _total(overlap), _total(error))


def _total(x: F64) -> float:
    return float(kernels.tree_sum(x)) if x.size else 0.0
