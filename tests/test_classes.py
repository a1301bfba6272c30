"""Classes of vectors of about the same size: what they are, what they save, and what precision they leave."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latq
from latq.kernels.elementary import exp2, log2
from latq.transforms.sizes import MAX_CLASSES, ZERO_SIZE, choose_classes, power, sizes_of

F32 = npt.NDArray[np.float32]


def vectors_of_sizes(n: int, sizes: npt.NDArray[np.float64], seed: int = 0) -> F32:
    """Gaussian columns with these standard deviations."""
    return (np.random.default_rng(seed).standard_normal((n, len(sizes))) * sizes).astype(np.float32)


def bits_lost(x: F32, bits: float, **options: Any) -> float:
    data = latq.encode(x, bits, coding="entropy", **options)
    return 8 * len(data) / x.size + float(0.5 * np.log2(distortion(x, latq.decode(data))))


def distortion(x: F32, y: Any) -> float:
    return float(((x.astype(np.float64) - y) ** 2).sum() / (x.astype(np.float64) ** 2).sum())


def codec_of(data: bytes) -> Any:
    return latq.open(data)["data"].codec


class TestElementary:
    @given(st.floats(1e-300, 1e300))
    def test_log2(self, x: float) -> None:
        assert log2(x) == pytest.approx(np.log2(x), abs=1e-9)

    @given(st.floats(-500, 500))
    def test_exp2(self, x: float) -> None:
        assert exp2(x) == pytest.approx(2.0**x, rel=2e-5)


class TestSizes:
    @given(st.floats(1e-100, 1e100))
    def test_nearest_eighth_of_an_octave(self, rms: float) -> None:
        assert sizes_of(np.array([rms]))[0] == pytest.approx(8 * np.log2(rms), abs=0.5 + 1e-9)

    def test_zero(self) -> None:
        assert sizes_of(np.zeros(1))[0] == ZERO_SIZE

    @given(st.integers(-200, 200))
    def test_power(self, eighths: int) -> None:
        assert power(eighths) == pytest.approx(2 ** (eighths / 8), rel=1e-14)


class TestChoice:
    @given(
        counts=st.dictionaries(st.integers(-400, 400) | st.just(ZERO_SIZE), st.integers(1, 10**6), max_size=60),
        n=st.integers(1, 32768),
        precision=st.sampled_from(["balanced", "uniform", "relative"]),
        one_step=st.booleans(),
    )
    @settings(deadline=None)
    def test_divided_vectors_have_the_width_of_their_class(
        self, counts: dict[int, int], n: int, precision: Any, one_step: bool
    ) -> None:
        classes = choose_classes(counts, n, 1, precision, one_step)
        if classes is None:
            return
        assert 1 <= len(classes) <= MAX_CLASSES
        assert all(width >= 0 for width in classes.widths)
        assert list(classes.floors) == sorted(classes.floors, reverse=True)
        if precision == "relative" or not one_step:
            assert set(classes.widths) <= {0, 127}
        index = classes.of(np.array(sorted(counts, reverse=True)))
        assert (np.diff(index.astype(int)) >= 0).all()

    def test_equal_sizes_need_one_class(self) -> None:
        classes = choose_classes({3: 1000}, 4096, 1, "balanced", True)
        assert classes is not None
        assert (classes.norms, classes.widths) == ((3,), (0,))

    def test_small_vectors_are_not_told_apart(self) -> None:
        """The classes of 16 entries would cost more than they save: what differs there is chance."""
        x = vectors_of_sizes(16, np.ones(20_000))
        assert codec_of(latq.encode(x, 4, coding="entropy")).classes == 1

    def test_small_sizes_share_scales_with_fixed_coding(self) -> None:
        x = vectors_of_sizes(48, np.exp(np.random.default_rng(1).normal(0, 0.3, 20_000)))
        assert 1 < codec_of(latq.encode(x, 4)).classes < 32
        assert codec_of(latq.encode(vectors_of_sizes(4096, np.ones(64)), 4)).classes == 1


class TestAccuracy:
    def test_unequal_vectors_gain_what_reverse_water_filling_promises(self) -> None:
        """log2 of the arithmetic over the geometric mean of the variances, / 2: 0.13 bits here."""
        sizes = np.exp(np.random.default_rng(2).normal(0, 0.3, 400))
        promised = 0.5 * np.log2((sizes**2).mean()) - np.log2(sizes).mean()
        equal = bits_lost(vectors_of_sizes(1024, np.ones(400)), 3)
        assert equal - bits_lost(vectors_of_sizes(1024, sizes), 3) == pytest.approx(promised, abs=0.025)

    @pytest.mark.parametrize("n", [16, 50, 128])
    def test_small_vectors_lose_no_more_than_long_ones(self, n: int) -> None:
        assert bits_lost(vectors_of_sizes(n, np.ones((1 << 19) // n)), 3) < 0.17

    @pytest.mark.parametrize(
        ("precision", "least", "most"), [("uniform", 1e3, 2e6), ("balanced", 2.0, 8.0), ("relative", 0.8, 1.3)]
    )
    def test_precision_of_small_vectors(self, precision: str, least: float, most: float) -> None:
        """Relative squared error of columns a thousand times smaller, over that of the others."""
        x = vectors_of_sizes(2048, np.where(np.arange(200) % 2, 1.0, 1e-3))
        y = latq.decode(latq.encode(x, 8, coding="entropy", precision=precision))  # type: ignore[call-overload]
        assert least < distortion(x[:, ::2], y[:, ::2]) / distortion(x[:, 1::2], y[:, 1::2]) < most

    def test_vectors_of_zeros_cost_nothing(self) -> None:
        x = vectors_of_sizes(512, np.where(np.arange(2000) % 4, 0.0, 1.0))
        some = latq.decode(latq.encode(x, 2, coding="entropy"))
        alone = latq.decode(latq.encode(x[:, ::4].copy(), 8, coding="entropy"))
        assert not np.asarray(some)[:, 1::4].any()
        assert distortion(x, some) < 1.2 * distortion(x[:, ::4], alone)

    def test_product_of_classes_is_unbiased_and_as_wrong_as_predicted(self) -> None:
        sizes = np.exp(np.random.default_rng(2).normal(0, 0.5, 200))
        a, b = vectors_of_sizes(1024, sizes, seed=3), vectors_of_sizes(1024, sizes[::-1], seed=4)
        b += 0.3 * a
        estimates = []
        for seed in range(4):
            coded = [latq.encode(x, 2, coding="entropy", seed=seed) for x in (a, b)]
            estimate, report = latq.product(*coded, report=True)
            estimates.append(estimate)
            assert np.linalg.norm(estimate - a.T @ b) / report.error == pytest.approx(1.0, abs=0.05)
        truth = np.diag(a.astype(np.float64).T @ b)
        assert np.diag(np.mean(estimates, axis=0)).sum() / truth.sum() == pytest.approx(1.0, abs=0.01)


class TestTimeSharing:
    """Below R* = 0.906 bits a part of the rotated coordinates is coded, the same in every file."""

    @pytest.mark.parametrize("bits", [0.25, 0.5, 0.75])
    @pytest.mark.parametrize("n", [1000, 1024])
    def test_on_the_line(self, bits: float, n: int) -> None:
        a, b = (vectors_of_sizes(n, np.ones(400), seed=seed) for seed in (1, 2))
        truth = a.astype(np.float64).T @ b
        at = {rate: [latq.encode(x, rate, coding="entropy") for x in (a, b)] for rate in (bits, 0.92)}
        errors = {}
        for rate, files in at.items():
            estimate, report = latq.product(*files, estimate="shrunk", report=True)
            scale = float((a**2).sum()) * float((b**2).sum()) / n
            errors[rate] = float(((truth - estimate) ** 2).sum()) / scale
            # At low rates the signal itself, which the shrinkage hangs on, is but estimated.
            assert errors[rate] == pytest.approx(report.normalized, rel=0.08)
        achieved = {rate: 8 * len(files[0]) / a.size for rate, files in at.items()}
        slope = (1 - errors[0.92]) / achieved[0.92]
        assert 1 - errors[bits] > slope * (achieved[bits] - 0.02)

    def test_different_rates_and_exact_sides(self) -> None:
        a, b = (vectors_of_sizes(600, np.ones(300), seed=seed) for seed in (1, 2))
        b += a
        truth = a.astype(np.float64).T @ b
        low = latq.encode(a, 0.4, coding="entropy")
        for other in (latq.encode(b, 0.7, coding="entropy"), latq.encode(b, 3, coding="entropy"), latq.encode(b, 4), b):
            estimate, report = latq.product(low, other, report=True)
            assert np.linalg.norm(estimate - truth) / report.error == pytest.approx(1.0, abs=0.06)
            assert np.trace(estimate) == pytest.approx(np.trace(truth), rel=0.05)

    def test_large_errors_are_met(self) -> None:
        x = vectors_of_sizes(700, np.ones(300))
        y = latq.decode(latq.encode(x, error=0.8))
        assert 0.98 * 0.8 < distortion(x, y) ** 0.5 <= 0.8

    def test_without_a_rotation_every_coordinate_stays(self) -> None:
        x = vectors_of_sizes(512, np.ones(300))
        codec = codec_of(latq.encode(x, 0.5, coding="entropy", rotation="none"))
        assert codec.kept == 65536


class TestRotation:
    def test_left_out_where_it_hurts(self) -> None:
        rng = np.random.default_rng(0)
        sparse = vectors_of_sizes(512, np.ones(400)) * (rng.random((512, 400)) < 0.1)
        data = latq.encode(sparse.astype(np.float32), 3, coding="entropy")
        assert codec_of(data).rotation == "none"
        worse = latq.encode(sparse.astype(np.float32), 3, coding="entropy", rotation="hadamard")
        assert distortion(sparse, latq.decode(data)) < 0.2 * distortion(sparse, latq.decode(worse))

    def test_kept_where_it_does_not(self) -> None:
        assert codec_of(latq.encode(vectors_of_sizes(512, np.ones(300)), 3, coding="entropy")).rotation == "hadamard"
        assert codec_of(latq.encode(vectors_of_sizes(512, np.ones(300)), 3)).rotation == "hadamard"
