"""Classes of vectors of about the same size, which share a scale and know how wide their entries spread (spec 4.2).

The size of a vector is its root mean square in eighths of an octave, an integer. Coding all classes with one step gives
every entry about the same error, which is the least total error (reverse water-filling, Cover & Thomas 2006, 10.3.3);
the class tells the entropy model the variance. Between that and the same relative error for every vector lies
"balanced": a vector below the average gets fewer bits, but not many fewer.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from latq.kernels.elementary import log2
from latq.limits import MAX_CLASSES

F64 = npt.NDArray[np.float64]
Precision = Literal["balanced", "uniform", "relative"]

EIGHTHS = 8
# Narrower than this is nothing but zeros.
MAX_WIDTH = 127
# Size of a vector of zeros: below that of any other.
ZERO_SIZE = -(1 << 15)
# "balanced": vectors are coded with at most this much (eighths of an octave: of a bit) less than those of average size.
_LARGEST_LOSS = 8
# Bits of a class in every chunk: scale, alignment and frequency.
_CLASS_BITS = 64
_SCALE_BITS = 16
# Gathering all vectors in one class costs this share of what a Gaussian of their mean variance would lose: the model
# is fitted to the mixture.
_MIXTURE_SHARE = 0.85

# 2^(i/8), and 2^((2i+1)/16): between sizes.
_STEPS = (
    1.0, 1.0905077326652577, 1.189207115002721, 1.2968395546510096,
    1.4142135623730951, 1.5422108254079407, 1.681792830507429, 1.8340080864093424,
)  # fmt: skip
_BOUNDARIES = (
    1.0442737824274138, 1.1387886347566916, 1.241857812073484, 1.3542555469368927,
    1.4768261459394993, 1.6104903319492543, 1.7562521603732995, 1.9152065613971474,
)  # fmt: skip


def sizes_of(rms: F64) -> npt.NDArray[np.int64]:
    """Size of each vector: 8 log2(rms), rounded; ZERO_SIZE where that is 0."""
    mantissa, exponent = np.frexp(rms)
    sizes: npt.NDArray[np.int64] = EIGHTHS * (exponent.astype(np.int64) - 1)
    for boundary in _BOUNDARIES:
        sizes += 2 * mantissa >= boundary
    return np.where(rms > 0, sizes, ZERO_SIZE)


def power(eighths: int) -> float:
    """2^(eighths / 8)."""
    return math.ldexp(_STEPS[eighths % EIGHTHS], eighths // EIGHTHS)


@dataclass(frozen=True)
class SizeClasses:
    """Class c holds the vectors of size ``floors[c]`` or more that no class before it took, the last one all the rest.

    Vectors are divided by 2^(norms[c] / 8); then those of class c have the root mean square 2^(-widths[c] / 8).
    """

    floors: tuple[int, ...]
    norms: tuple[int, ...]
    widths: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.floors)

    def with_zeros(self) -> "SizeClasses":
        """One more class, for vectors of zeros: of scale 0, and as narrow as can be, so that they cost nothing to a
        coding that has a model."""
        return SizeClasses((*self.floors, ZERO_SIZE), (*self.norms, self.norms[-1]), (*self.widths, MAX_WIDTH))

    def of(self, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Class of each size."""
        below: npt.NDArray[np.uint8] = (sizes[:, None] < np.array(self.floors[:-1], np.int64)).sum(
            axis=1, dtype=np.uint8
        )
        return below

    def divisors(self, exponent: int) -> F64:
        """What vectors of each class are divided by, in units of 2^exponent."""
        return np.array([power(norm - EIGHTHS * exponent) for norm in self.norms])


def choose_classes(
    counts: Mapping[int, int],
    length: int,
    chunks: int,
    precision: Precision,
    one_step: bool,
    most: int = MAX_CLASSES,
) -> SizeClasses | None:
    """Classes, at ``most`` so many, that cost the least for vectors of ``length`` entries, ``counts`` of each size;
    None: a scale per vector.

    ``one_step`` tells whether the coding has a model to profit from a common step; if not, as for "relative", every
    class is brought to the same size.
    """
    zeros = counts.get(ZERO_SIZE, 0)
    counts = {size: counts[size] for size in sorted(counts, reverse=True) if size != ZERO_SIZE} or {0: 1}
    relative = precision == "relative" or not one_step
    entries = sum(counts.values()) * length
    best_cost, best = _SCALE_BITS / length + (0.0 if relative else _spread(counts)), None
    for spacing in (1 << 16, 8, 4, 2, 1):
        bins = _bins(counts, spacing)
        cost = _cost(bins, length) + _CLASS_BITS * len(bins) * chunks / entries
        if len(bins) + bool(zeros) <= most and cost < best_cost:
            best_cost, best = cost, _classes(bins, counts, precision, relative)
    return best.with_zeros() if best and zeros else best


def _bins(counts: Mapping[int, int], spacing: int) -> list[Counter[int]]:
    """Sizes by distance from the largest; none is empty."""
    top = max(counts)
    bins: dict[int, Counter[int]] = {}
    for size in counts:
        bins.setdefault((top - size) // spacing, Counter())[size] = counts[size]
    return list(bins.values())


def _cost(bins: list[Counter[int]], length: int) -> float:
    """Bits per entry that the classes cost, and that their inner spread does."""
    total = sum(b.total() for b in bins)
    shares = [b.total() / total for b in bins]
    entropy = -sum(share * log2(share) for share in shares)
    inner = sum(share * _spread(b) for share, b in zip(shares, bins, strict=True))
    return entropy / length + inner * (_MIXTURE_SHARE if len(bins) == 1 else 1.0)


def _spread(counts: Mapping[int, int]) -> float:
    """Bits that one Gaussian of the mean variance costs more: log2(arithmetic / geometric mean of variances) / 2."""
    total = sum(counts.values())
    geometric = sum(count * size for size, count in counts.items()) / total / EIGHTHS
    return max(log2(_mean_square(counts)) / 2 - geometric, 0.0)


def _mean_square(counts: Mapping[int, int]) -> float:
    return sum(count * power(2 * size) for size, count in counts.items()) / sum(counts.values())


def _average_size(counts: Mapping[int, int]) -> int:
    return int(sizes_of(np.sqrt(np.array([_mean_square(counts)])))[0])


def _classes(bins: list[Counter[int]], counts: Mapping[int, int], precision: Precision, relative: bool) -> SizeClasses:
    centres = [_average_size(b) for b in bins]
    if relative:
        return SizeClasses(tuple(min(b) for b in bins), tuple(centres), (0,) * len(bins))
    least = centres[-1]
    if precision == "balanced":
        least = _average_size(counts) - _LARGEST_LOSS
    widths = [min(max(centres[0] - max(centre, least), 0), MAX_WIDTH) for centre in centres]
    norms = [centre + width for centre, width in zip(centres, widths, strict=True)]
    return SizeClasses(tuple(min(b) for b in bins), tuple(norms), tuple(widths))
