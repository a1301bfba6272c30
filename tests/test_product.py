"""The product estimator: right on average, as wrong as it says."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import latq
from latq.api import operand_of
from latq.products.estimator import ProductReport, multiply
from latq.products.parts import Part, Stack
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


def unequal(n: int, m: int, seed: int) -> F32:
    """Vectors of sizes that spread by a factor of e either way."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, m)) * np.exp(rng.standard_normal(m))).astype(np.float32)


def scores(a: F32, b: F32, options: dict[str, Any], rotations: int = 5) -> npt.NDArray[np.float64]:
    """Errors of all entries over their standard errors, in several rotations; b may be a."""
    found = []
    for seed in range(rotations):
        data_a = latq.encode(a, seed=seed, rotation="hadamard", **options)
        data_b = data_a if b is a else latq.encode(b, seed=seed, rotation="hadamard", **options)
        bars = np.empty((a.shape[1], b.shape[1]), np.float32)
        estimate = latq.product(data_a, data_b, error_bars=bars)
        found.append((estimate - exact(a, b)) / np.maximum(bars, 1e-30))
    return np.array(found)


@pytest.mark.parametrize("coding", ["entropy", "fixed"])
@pytest.mark.parametrize("bits", [1, 3])
@pytest.mark.parametrize("n", [16, 50, 600])
def test_error_bars_cover(n: int, bits: float, coding: str) -> None:
    z = scores(unequal(n, 200, 1), unequal(n, 150, 2), {"bits": max(bits, 2 if n == 16 else 0), "coding": coding})
    assert (np.abs(z) < 1.96).mean() == pytest.approx(0.95, abs=0.015)
    assert abs(z.mean()) < 0.1


@pytest.mark.parametrize("bits", [0.5, 1])
def test_long_vectors_of_few_bits_are_not_biased(bits: float) -> None:
    """A mean of the errors would add up over n: without care 0.4 standard errors here at 1 bit."""
    z = scores(*pair(1 << 15, 60), {"bits": bits, "coding": "fixed"}, rotations=1)
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1.0, abs=0.05)


def test_error_bars_of_groups_and_of_one_exact_side() -> None:
    a, b = pair(40_000, 20, mean=0.3)
    for other in (b, latq.encode(b, 2, centre=False, rotation="hadamard")):
        bars = np.empty((20, 20), np.float32)
        estimate = latq.product(latq.encode(a, 2, rotation="hadamard"), other, error_bars=bars)
        assert ((estimate - exact(a, b)) / bars).std() == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("options", [{"bits": 4}, {"bits": 1}, {"bits": 4.3, "coding": "fixed"}])
def test_gram_matrix(options: dict[str, Any]) -> None:
    """A vector's two errors are the same, but its norm is known."""
    a = unequal(512, 80, 3)
    z = scores(a, a, options)
    assert (np.abs(z) < 1.96).mean() > 0.93
    gram = latq.product(latq.encode(a, **options), latq.encode(a, **options))
    truth = exact(a, a)
    assert (gram == gram.T).all()
    above = options["bits"] > 1
    np.testing.assert_allclose(np.diag(gram), np.diag(truth), rtol=0.05 if above else 1.5)
    assert np.trace(gram) == pytest.approx(np.trace(truth), rel=0.005 if above else 0.05)


def test_part_of_a_gram_matrix_is_that_part() -> None:
    operand = operand_of(latq.encode(unequal(300, 90, 3), 3))
    whole, part = np.empty((90, 90), np.float32), np.empty((50, 30), np.float32)
    multiply([(operand, operand)], whole)
    multiply([(Part(operand, 20, 70), Stack([Part(operand, 0, 10), Part(operand, 40, 60)], ["a", "b"]))], part)
    assert (part == whole[20:70, [*range(10), *range(40, 60)]]).all()


def test_vectors_that_are_lost_add_no_noise() -> None:
    """At a common step, small vectors may be left with next to nothing: no factor makes that right."""
    rng = np.random.default_rng(0)
    sparse = rng.standard_normal((2, 512, 200)) * (rng.random((2, 512, 200)) < 0.02)
    a, b = sparse.astype(np.float32)
    estimate, report = latq.product(latq.encode(a, 1), latq.encode(b, 1), report=True)
    assert ratio(estimate, report, exact(a, b)) == pytest.approx(1.0, abs=0.1)
    assert report.normalized < 1.5


@pytest.mark.parametrize("options", [{}, {"coding": "fixed", "bits": 2.3}, {"bits": 0.5}, {"precision": "relative"}])
def test_bounds_without_rotation_hold(options: dict[str, Any]) -> None:
    a = unequal(128, 60, 4)
    data = latq.encode(a, **{"bits": 3, "rotation": "none", **options})
    bars = np.empty((60, 60), np.float32)
    estimate, report = latq.product(data, data, error_bars=bars, report=True)
    error = np.abs(estimate - exact(a, a))
    assert report.kind == "bound"
    assert (error <= bars).all()
    assert np.linalg.norm(error) <= report.bound


def test_auto_shrinks_where_it_pays() -> None:
    a, b = pair(600, 200)
    low, high = ([latq.encode(x, bits) for x in (a, b)] for bits in (1, 6))
    reports = {auto: latq.product(*low, estimate=auto, report=True)[1] for auto in ("auto", "shrunk", "unbiased")}
    assert reports["auto"] == reports["shrunk"]
    assert reports["unbiased"].best_shrink == pytest.approx(reports["auto"].shrink, rel=0.05)
    assert latq.product(*high, estimate="auto", report=True)[1].shrink == 1
    assert latq.product(*low, estimate="auto", error_bars=np.empty((200, 200), np.float32), report=True)[1].shrink == 1


def test_sum_of_products() -> None:
    a, b = pair(500, 60)
    halves = ((a[:200], b[:200]), (a[200:], b[200:]))
    parts = [(operand_of(latq.encode(x, 4)), operand_of(latq.encode(y, 4))) for x, y in halves]
    found = [np.empty((60, 60), np.float32) for _ in range(3)]
    report = multiply(parts, found[0])
    assert ratio(found[0], report, exact(a, b)) == pytest.approx(1.0, abs=0.05)
    multiply(parts, found[1], threads=2, memory=1 << 12)
    assert (found[0] == found[1]).all()
    with pytest.raises(latq.ParameterError, match="do not add up"):
        multiply([parts[0], (parts[1][0], Part(parts[1][1], 0, 30))], found[2])
