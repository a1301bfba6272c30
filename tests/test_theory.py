"""Formulas against the values tabulated from the papers."""

import math

import pytest

from latq.theory import R_STAR, bits_lost, product_error, product_limit, product_limit_of, unbiased_noise


def test_r_star_is_the_point_of_tangency() -> None:
    chord = 1 + 4 * R_STAR * math.log(2)
    assert math.pow(4, R_STAR) == pytest.approx(chord, rel=1e-12)


@pytest.mark.parametrize(
    ("rate", "gamma"),
    [(0, 1.0), (0.25, 0.858853), (0.5, 0.717706), (1, 0.4375), (2, 0.12109375), (4, 0.00779724), (8, 3.0518e-05)],
)
def test_product_limit(rate: float, gamma: float) -> None:
    assert product_limit(rate) == pytest.approx(gamma, rel=2e-6 if rate < 8 else 1e-4)
    assert product_limit_of(rate, rate) == product_limit(rate)


def test_limit_of_unequal_rates() -> None:
    assert product_limit_of(3, math.inf) == pytest.approx(2.0**-6)
    assert product_limit_of(0.5, 3) is None
    assert product_limit(2) > product_limit_of(2, 3) > product_limit(3)  # type: ignore[operator]


def test_the_ideal_quantizer_reaches_the_unbiased_limit() -> None:
    for rate in (1.0, 2.0, 4.0):
        t = 4**-rate
        noise = unbiased_noise(1.0, 1 - t, t)  # centroid reconstruction of the optimal test channel
        assert noise == pytest.approx(1 / (4**rate - 1))
        assert product_error(noise, noise) == pytest.approx((2 * 4**rate - 1) / (4**rate - 1) ** 2)


def test_edges() -> None:
    assert unbiased_noise(0.0, 0.0, 0.0) == 0.0
    assert unbiased_noise(1.0, 0.0, 1.0) == math.inf
    assert bits_lost(2.0, 1 / 16) == pytest.approx(0.0)
    assert bits_lost(2.0, 0.0) == -math.inf
