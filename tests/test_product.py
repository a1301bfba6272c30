"""The product estimator: right on average, as wrong as it says."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import latq
from latq.products.estimator import ProductReport
from latq.theory import product_limit

F32 = npt.NDArray[np.float32]


def pair(n: int, m: int = 300, mean: float = 0.0, seed: int = 0) -> tuple[F32, F32]:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((2, n, m)) + mean).astype(np.float32)
    return a, b


def exact(a: F32, b: F32) -> npt.NDArray[np.float64]:
    return a.astype(np.float64).T @ b.astype(np.float64)


def ratio(estimate: F32, report: ProductReport, truth: npt.NDArray[np.float64]) -> float:
    """Measured over predicted Frobenius error."""
    return float(np.linalg.norm(estimate - truth)) / report.error


@pytest.mark.parametrize("bits", [2.25, 4.25])
@pytest.mark.parametrize(("n", "m", "mean"), [(9, 400, 0.0), (50, 400, 0.0), (1016, 300, 1.0), (4096, 200, 0.0)])
def test_error_is_as_predicted(n: int, m: int, mean: float, bits: float) -> None:
    a, b = pair(n, m, mean)
    bits += 5 if n == 9 else 0
    estimate, report = latq.product(latq.encode(a, bits), latq.encode(b, bits), report=True)
    assert ratio(estimate, report, exact(a, b)) == pytest.approx(1.0, abs=0.03)


def test_close_to_the_limit() -> None:
    a, b = pair(2048, 600)
    data_a, data_b = latq.encode(a, 4.25), latq.encode(b, 4.25)
    estimate = latq.product(data_a, data_b)
    scale = float((a.astype(np.float64) ** 2).sum() * (b.astype(np.float64) ** 2).sum() / 2048)
    error = float(((estimate - exact(a, b)) ** 2).sum()) / scale
    limit = product_limit(8 * len(data_a) / a.size)
    assert limit < error < 1.6 * limit


def test_groups_and_partial_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latq.pipeline.tiling.CHUNK_ENTRIES", 1 << 17)
    a, b = pair(70_001, 25, mean=0.5)
    data = latq.encode(a, 3), latq.encode(b[:, :17], 3)
    assert len(latq.open(data[0])["data"].records) > 20
    estimate, report = latq.product(*data, threads=2, report=True)
    assert ratio(estimate, report, exact(a, b[:, :17])) == pytest.approx(1.0, abs=0.05)
    for memory in (1 << 12, 1 << 22):
        assert (latq.product(*data, memory=memory) == estimate).all()


def test_unbiased_over_rotations() -> None:
    """Mean over seeds, in standard errors; Gram diagonals and parallel vectors are where a bias would show."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((256, 12)).astype(np.float32)
    b = np.concatenate([a[:, :6], rng.standard_normal((256, 6)).astype(np.float32)], axis=1)
    seeds = range(60)
    estimates = np.array([latq.product(latq.encode(a, 4.5, seed=s), latq.encode(b, 3.8, seed=s)) for s in seeds])
    deviation = estimates.mean(axis=0) - exact(a, b)
    z = deviation / (estimates.std(axis=0, ddof=1) / len(seeds) ** 0.5)
    assert np.abs(z[:, 6:]).max() < 4.5
    # The same vector on both sides is quantized at two rates, but in the same rotation: a small common part stays.
    assert np.abs(np.diag(deviation)[:6] / np.diag(exact(a, b))[:6]).max() < 0.01


@pytest.mark.parametrize(
    ("options_a", "options_b", "note"),
    [
        ({}, {"seed": 5}, True),
        ({"rotation": "none"}, {}, True),
        ({"centre": True}, {"centre": False}, False),
        ({"centre": False}, {"centre": True}, False),
        ({"centre": True, "seed": 2}, {"centre": True}, True),
    ],
)
def test_files_coded_differently(options_a: dict[str, Any], options_b: dict[str, Any], note: bool) -> None:
    a, b = pair(800, 250, mean=1.0)
    coded = [latq.encode(x, 4, coding="fixed", **options) for x, options in ((a, options_a), (b, options_b))]
    estimate, report = latq.product(*coded, report=True)
    assert bool(report.note) == note
    assert ratio(estimate, report, exact(a, b)) == pytest.approx(1.0, abs=0.08)


def test_plain_operands() -> None:
    a, b = pair(500, 200)
    data_a = latq.encode(a, 3)
    estimate, report = latq.product(data_a, b, report=True)
    assert ratio(estimate, report, exact(a, b)) == pytest.approx(1.0, abs=0.03)
    assert latq.product(b, data_a) == pytest.approx(estimate.T, rel=1e-4, abs=1e-3)
    assert latq.product(a, b) == pytest.approx(exact(a, b), rel=1e-4, abs=1e-3)
    lossless = latq.encode(a, codec="raw")
    assert latq.product(lossless, b) == pytest.approx(exact(a, b), rel=1e-4, abs=1e-3)


def test_shrinking_lowers_the_error_by_the_predicted_amount() -> None:
    a, b = pair(1000, 400)
    data = latq.encode(a, 1.7), latq.encode(b, 1.7)
    truth = exact(a, b)
    plain, plain_report = latq.product(*data, report=True)
    shrunk, report = latq.product(*data, estimate="shrunk", report=True)
    assert report.shrink == pytest.approx(1 / (1 + plain_report.normalized), rel=0.03)
    assert np.linalg.norm(shrunk - truth) < 0.95 * np.linalg.norm(plain - truth)
    assert ratio(shrunk, report, truth) == pytest.approx(1.0, abs=0.03)


def test_shrinking_leaves_means_and_strong_signals_alone() -> None:
    a, b = pair(600, 100, mean=3.0)
    shrunk, report = latq.product(latq.encode(a, 2.2), latq.encode(b, 2.2), estimate="shrunk", report=True)
    assert report.shrink < 0.9
    assert shrunk.mean() == pytest.approx(exact(a, b).mean(), rel=1e-3)
    parallel = np.repeat(a[:, :1], 50, axis=1)
    assert latq.product(latq.encode(parallel, 2.5), parallel, estimate="shrunk", report=True)[1].shrink > 0.99


def test_zero_operand() -> None:
    a, b = pair(300, 20)
    estimate, report = latq.product(latq.encode(np.zeros_like(a), 4), latq.encode(b, 4), report=True)
    assert not estimate.any()
    assert report.error == 0.0


def test_lengths_must_agree() -> None:
    a, b = pair(300, 20)
    with pytest.raises(latq.ParameterError, match="300 entries, those of B 299"):
        latq.product(latq.encode(a, 4), b[:-1])
