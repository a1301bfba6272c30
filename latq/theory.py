"""Limits of quantized matrix multiplication (Ordentlich & Polyanskiy 2024, arXiv 2410.13780) and predictions from them.

Rates are bits per matrix entry; product errors are ||C - C_hat||_F^2 / (||A||_F^2 ||B||_F^2 / n).
"""

import math
from collections.abc import Sequence

R_STAR = 0.9063235369515509
"""Rate below which time sharing is optimal: the root of 4^R = 1 + 4 R ln 2."""

SCALAR_GAP = 0.5 * math.log2(math.pi * math.e / 6.0)
"""Bits that an entropy-coded uniform scalar quantizer loses at high rate: log2(2 pi e / 12) / 2 = 0.2546."""

E8_GAP = 0.5 * math.log2(2.0 * math.pi * math.e * 929 / 12960)
"""The same for points of E8, whose normalised second moment is 929 / 12960: 0.1464."""

TRELLIS_GAP = 0.035
"""What entropy-coded trellis-coded quantization with 256 states loses, by measurement."""

GAPS = {"trellis": TRELLIS_GAP, "e8": E8_GAP, "scalar": SCALAR_GAP}
"""Bits that each codec loses with entropy coding, the least first."""


def product_limit(rate: float) -> float:
    """Gamma(R): least product error for independent Gaussian matrices, both at ``rate`` >= 0."""
    if rate < R_STAR:
        return 1.0 - rate / R_STAR * (1.0 - product_limit(R_STAR))
    t = math.pow(4.0, -rate)
    return 2.0 * t - t * t


def product_limit_of(rate_a: float, rate_b: float) -> float | None:
    """The same for two rates, infinite for an exact side: 1 - (1 - 4^-R_a)(1 - 4^-R_b), the error of the optimal test
    channel. None where the rates differ and one is below R*, where no closed form is known."""
    if rate_a == rate_b:
        return product_limit(rate_a)
    if min(rate_a, rate_b) < R_STAR:
        return None
    return 1.0 - (1.0 - math.pow(4.0, -rate_a)) * (1.0 - math.pow(4.0, -rate_b))


def unbiased_limit(rate_a: float, rate_b: float) -> float:
    """Product error of the paper's scheme without shrinkage, whose estimate is right on average; both rates >= 0,
    infinite for an exact side. At one rate it is (2 * 4^R - 1) / (4^R - 1)^2, which is infinite at R = 0."""
    return product_error(_channel_noise(rate_a), _channel_noise(rate_b))


def _channel_noise(rate: float) -> float:
    """1 / (4^R - 1): noise over signal energy of the additive test channel of a Gaussian source at ``rate``."""
    if rate <= 0.0:
        return math.inf
    return math.pow(4.0, -rate) / -math.expm1(-rate * math.log(4.0))


def guarantee(limit: float, energy_a: float, energy_b: float, energy_product: float, length: float) -> float:
    """What the paper's scheme guarantees for any two matrices: a bound on E||A^T B - C_hat||_F^2, for large n.

    ``limit`` is Gamma, ``length`` n; the energies are squared Frobenius norms of A, B and A^T B, all vectors centred:
    ||A^T B||^2 Gamma^2 + ||A||^2 ||B||^2 / n * (Gamma - Gamma^2). For independent matrices, whose ||A^T B||^2 is
    ||A||^2 ||B||^2 / n, that is a product error of Gamma itself.
    """
    return energy_product * limit * limit + energy_a * energy_b / length * (limit - limit * limit)


def unbiased_guarantee(limit: float, energy_a: float, energy_b: float, length: float) -> float:
    """The same without shrinkage, ``limit`` being that of :func:`unbiased_limit`: free of ||A^T B||."""
    return energy_a * energy_b / length * limit


def product_error(noise_a: float, noise_b: float, kept: float = 1.0) -> float:
    """Product error of unbiased reconstructions whose error energies are ``noise`` times their own energies.

    The errors are uncorrelated with everything after a random rotation, so the energies add: d_a + d_b + d_a d_b.
    Sides that keep only a share of their rotated coordinates lack the same ones, up to the larger share ``kept``: the
    noise of that is in both, but in the product once, which makes it kept (1 + d_a) (1 + d_b) - 1.
    """
    return kept * (noise_a + noise_b + noise_a * noise_b) - (1.0 - kept)


def unbiased_noise(energy: float, overlap: float, error: float) -> float:
    """Error energy, relative to ``energy``, of a reconstruction rescaled to be unbiased.

    ``overlap`` is <x, x_hat> and ``error`` ||x - x_hat||^2 of the reconstruction at hand. Infinite if it is useless.
    """
    if energy <= 0.0:
        return 0.0
    if overlap <= 0.0:
        return math.inf
    return max((error - energy + 2.0 * overlap) * energy / (overlap * overlap) - 1.0, 0.0)


def shannon_distortion(rate: float) -> float:
    """4^-R: least mean squared error over the mean square, at ``rate``, of a Gaussian source."""
    return math.pow(4.0, -rate)


def bits_lost(rate: float, distortion: float) -> float:
    """Bits above the Shannon limit of a Gaussian source: R + log2(D) / 2; -inf for a lossless one."""
    return rate + 0.5 * math.log2(distortion) if distortion > 0 else -math.inf


def waterfilling_rate(spectrum: Sequence[float], error: float) -> float:
    """Bits per entry that a Gaussian source of independent components with variances ``spectrum`` needs for a mean
    squared error of ``error``, by reverse water-filling (Cover & Thomas 2006, section 10.3.3)."""
    rising = sorted(max(variance, 0.0) for variance in spectrum)
    below = 0.0
    for i, variance in enumerate(rising):
        # All components up to this one are below the level, if there is such a level.
        if below + variance * (len(rising) - i) >= error * len(rising):
            level = (error * len(rising) - below) / (len(rising) - i)
            if level <= 0:
                return math.inf
            return sum(math.log2(v / level) for v in rising[i:]) / 2 / len(rising)
        below += variance
    return 0.0
