"""Limits of quantized matrix multiplication (Ordentlich & Polyanskiy 2024, arXiv 2410.13780) and predictions from them.

Rates are bits per matrix entry; product errors are ||C - C_hat||_F^2 / (||A||_F^2 ||B||_F^2 / n).
"""

import math

R_STAR = 0.9063235369515509
"""Rate below which time sharing is optimal: the root of 4^R = 1 + 4 R ln 2."""


def product_limit(rate: float) -> float:
    """Gamma(R): least product error for independent Gaussian matrices, both at ``rate`` >= 0 (Theorem 1)."""
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


def product_error(noise_a: float, noise_b: float) -> float:
    """Product error of unbiased reconstructions whose error energies are ``noise`` times their own energies.

    The errors are uncorrelated with everything after a random rotation, so the energies add: d_a + d_b + d_a d_b.
    """
    return noise_a + noise_b + noise_a * noise_b


def unbiased_noise(energy: float, overlap: float, error: float) -> float:
    """Error energy, relative to ``energy``, of a reconstruction rescaled to be unbiased.

    ``overlap`` is <x, x_hat> and ``error`` ||x - x_hat||^2 of the reconstruction at hand. Infinite if it is useless.
    """
    if energy <= 0.0:
        return 0.0
    if overlap <= 0.0:
        return math.inf
    return max((error - energy + 2.0 * overlap) * energy / (overlap * overlap) - 1.0, 0.0)


def bits_lost(rate: float, distortion: float) -> float:
    """Bits above the Shannon limit of a Gaussian source: R + log2(D) / 2; -inf for a lossless one."""
    return rate + 0.5 * math.log2(distortion) if distortion > 0 else -math.inf
