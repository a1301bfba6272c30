"""Entropy coding of E8 points: the model, exact rates, outliers, damage."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latq
from latq.codecs.blocks import blocks_of
from latq.codecs.e8_entropy import E8Points
from latq.codecs.entropy_design import Sample, design_for_rate
from latq.codecs.quantizer import integers_of, size_of, within_budget
from latq.coding import model
from latq.coding.model import Density
from latq.errors import CorruptError
from latq.limits import MAX_WIDTH, MIN_WIDTH
from latq.pipeline.describe import accuracy_of

F32 = npt.NDArray[np.float32]

E8 = E8Points()


def gaussian(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sample(x: F32, widths: tuple[int, ...] = (0,)) -> Sample:
    """A Gaussian sample, as many blocks in each class."""
    classes = np.arange(x.size // 8) % len(widths)
    blocks = blocks_of(x) * (2.0 ** (-np.array(widths, np.float32) / 8))[classes]
    return Sample(blocks.astype(np.float32), classes, np.zeros(classes.size, np.bool_), widths, (1.0,) * len(widths))


def encoded(x: F32, bits: float, **options: Any) -> tuple[bytes, F32]:
    data = latq.encode(x, bits, coding="entropy", **options)
    y = latq.decode(data)
    assert isinstance(y, np.ndarray)
    return data, y


def distortion(x: F32, y: F32) -> float:
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    return float(((x64 - y64) ** 2).sum() / (x64**2).sum())


class TestModel:
    @given(
        codes=st.lists(st.integers(0, 255), min_size=5, max_size=255),
        low=st.floats(0, 1),
        odd=st.integers(-128, 127),
        classes=st.lists(st.tuples(st.sampled_from([0, 3]), st.integers(MIN_WIDTH, MAX_WIDTH)), min_size=1, max_size=4),
    )
    @settings(max_examples=60, deadline=None)
    def test_any_density_gives_sound_tables(
        self, codes: list[int], low: float, odd: int, classes: list[tuple[int, int]]
    ) -> None:
        first = round(3 - len(codes) + low * (len(codes) - 5))
        shifts, widths = zip(*classes, strict=True)
        tables = Density(first, tuple(codes), odd, shifts, widths).tables
        sizes = [1 if shift else 7 for shift in shifts]
        assert len(tables.values) == sum(sizes)
        assert tables.first.tolist() == [sum(sizes[:c]) for c in range(len(sizes))]
        frequencies = tables.rans.frequencies
        assert (frequencies.sum(axis=1) == model.TOTAL).all()
        assert (frequencies[:, 0] == 1).all()
        for row, values in zip(frequencies, tables.values, strict=True):
            used = np.count_nonzero(row)
            assert used >= 2
            assert (row[1:used] > 0).all()
            assert (np.diff(values[1:used]) > 0).all()

    def test_tables_split_the_coordinates_by_class(self) -> None:
        tables = Density(-5, (10,) * 11, 0).tables
        classes = [tables.values[k, 1 : np.count_nonzero(tables.rans.frequencies[k])].tolist() for k in range(7)]
        assert classes[0] == list(range(-5, 6))
        assert classes[1:3] == [[-4, -2, 0, 2, 4], [-5, -3, -1, 1, 3, 5]]
        assert classes[3:] == [[-4, 0, 4], [-3, 1, 5], [-2, 2], [-5, -1, 3]]

    @pytest.mark.parametrize(("deviation", "weights"), [(5, 43), (25, 61)])
    def test_fitted_tables_follow_the_counts(self, deviation: int, weights: int) -> None:
        """A wide density needs a weight for every other value only."""
        x = np.arange(-4 * deviation, 4 * deviation + 1)
        counts = (1e6 * np.exp(-(x**2) / (2 * deviation**2))).astype(np.int64)
        density = Density.fit(counts, 1, (0, 0))
        assert len(density.codes) <= weights
        used = density.tables.values[0][1:]
        fitted = dict(zip(used.tolist(), density.tables.rans.frequencies[0][1:].tolist(), strict=True))
        kept = np.array([fitted[v] for v in x.tolist()])
        assert kept / model.TOTAL == pytest.approx(counts / counts.sum(), rel=0.04, abs=2e-4)

    def test_narrower_classes_have_narrower_tables(self) -> None:
        x = np.arange(-90, 91)
        density = Density.fit((1e6 * np.exp(-(x**2) / 1000)).astype(np.int64), 1, (0, 0))
        density = density.with_classes((0, 8, 20), (1, 1, 1))
        spreads = []
        for values, frequencies in zip(density.tables.values, density.tables.rans.frequencies, strict=True):
            share = frequencies[1:] / frequencies[1:].sum()
            spreads.append(float(np.sqrt((share * (values[1:] + 0.5) ** 2).sum())))
        assert spreads[0] / spreads[1] == pytest.approx(2, rel=0.02)
        assert spreads[0] / spreads[2] == pytest.approx(2**2.5, rel=0.03)


class TestCodec:
    @given(step=st.sampled_from([3.0, 1.0, 0.3, 0.05, 0.002]), blocks=st.integers(1, 400), seed=st.integers(0, 99))
    @settings(max_examples=40, deadline=None)
    def test_points_round_trip_in_the_size_foretold(self, step: float, blocks: int, seed: int) -> None:
        x = gaussian(8 * blocks, seed=seed)
        x[::37] *= 50
        design = design_for_rate(E8, sample(gaussian(4096), (0, 5, 40)), max(0.4, np.log2(4 / step)))
        classes = np.random.default_rng(seed).integers(0, 3, blocks)
        points, _ = E8.choose(blocks_of(x), classes, design.step, design.density)
        stream, rest = E8.encode(points, design.density, classes)
        (decoded,) = E8.decode([(stream, rest, classes)], design.density)
        assert (decoded[: x.size] == integers_of(points, x.size)).all()
        assert len(stream) + len(rest) <= size_of(int(E8.costs(points, design.density, classes).sum()), points.size)

    def test_loses_an_eighth_and_a_half_of_a_bit(self) -> None:
        """0.146 is the bound of the lattice (2 pi e G(E8)), 0.2546 what entropy-coded scalars lose."""
        x = gaussian(1 << 18)
        for rate in (2.0, 4.0, 7.0):
            design = design_for_rate(E8, sample(x[: 1 << 16]), rate)
            classes = np.zeros(x.size // 8, np.intp)
            blocks = blocks_of(x)
            points = within_budget(E8, blocks, classes, design.density, design.step, int(rate * x.size / 8))
            stream, rest = E8.encode(points, design.density, classes)
            v = integers_of(points, x.size)
            gain = float(x @ v) / float(v @ v)
            lost = 8 * (len(stream) + len(rest)) / x.size + 0.5 * np.log2(((x - gain * v) ** 2).mean())
            assert 0.143 < lost < 0.158

    def test_damage(self) -> None:
        x = gaussian(8 * 500)
        x[5] = 1000
        design, classes = design_for_rate(E8, sample(gaussian(4096)), 3.0), np.zeros(500, np.intp)
        density = design.density
        points = within_budget(E8, blocks_of(x), classes, density, design.step, 1600)
        stream, rest = E8.encode(points, density, classes)
        assert len(rest) == 4
        for bad in ((stream[:-2], rest), (stream + b"\0\0", rest), (stream, b""), (stream, rest * 2), (b"", rest)):
            with pytest.raises(CorruptError):
                E8.decode([(*bad, classes)], density)
        flipped = bytearray(stream)
        flipped[40] ^= 1
        with pytest.raises(CorruptError):
            E8.decode([(bytes(flipped), rest, classes)], density)


class TestFiles:
    @pytest.mark.parametrize("bits", [0.5, 1.7, 3.6, 6.3, 12.0])
    def test_any_rate_is_met_from_below(self, bits: float) -> None:
        x = gaussian(4096, 260)
        data, y = encoded(x, bits)
        rate = 8 * len(data) / x.size
        assert bits - 0.02 < rate <= bits
        lost = rate + 0.5 * np.log2(distortion(x, y))
        assert lost < (0.2 if bits < 1 else 0.18)

    def test_beats_fixed_coding(self) -> None:
        x = gaussian(1024, 500)
        fixed = latq.encode(x, 4.25, coding="fixed")
        _, y = encoded(x, 8 * len(fixed) / x.size)
        assert distortion(x, y) < 0.9 * distortion(x, latq.decode(fixed))  # type: ignore[arg-type]

    @pytest.mark.parametrize("n", [1, 7, 8, 9, 50, 1023, 4096, 40_000])
    def test_lengths(self, n: int) -> None:
        x = gaussian(n, 37) + 1
        data, y = encoded(x, 7)
        accuracy = accuracy_of(latq.open(data)["data"])
        assert distortion(x, y) < (0.3 if n < 50 else 0.001)
        if accuracy:
            assert accuracy.decode_error == pytest.approx(distortion(x, y), rel=1e-3)

    def test_an_outlier_costs_only_itself(self) -> None:
        x = gaussian(2048, 300)
        spiked = x.copy()
        spiked[17, 5] = 1e6
        plain, y = encoded(x, 4, rotation="none")
        data, z = encoded(spiked, 4, rotation="none")
        assert len(data) <= len(plain) * 1.01
        others = np.delete(np.arange(300), 5)
        assert distortion(x[:, others], z[:, others]) < 1.05 * distortion(x[:, others], y[:, others])
        assert z[17, 5] == pytest.approx(1e6, rel=0.01)

    def test_random_access_and_threads(self) -> None:
        x = gaussian(40_000, 60)
        data, y = encoded(x, 2.5, threads=2)
        assert data == latq.encode(x, 2.5, coding="entropy")
        assert (latq.open(data)["data"][35_000:, 50:] == y[35_000:, 50:]).all()

    def test_zeros_and_constants(self) -> None:
        zeros = np.zeros((500, 20), np.float32)
        assert encoded(zeros, 3)[1].tobytes() == zeros.tobytes()
        constant = np.full((500, 20), 3.25, np.float32)
        assert encoded(constant, 3)[1] == pytest.approx(constant, rel=1e-6)

    @pytest.mark.parametrize("bits", [2.0, 4.0])
    def test_product_error_is_as_predicted(self, bits: float) -> None:
        a, b = gaussian(2048, 200, seed=1), gaussian(2048, 250, seed=2)
        data = encoded(a, bits)[0], encoded(b, bits)[0]
        estimate, report = latq.product(*data, report=True)
        truth = a.astype(np.float64).T @ b
        assert np.linalg.norm(estimate - truth) / report.error == pytest.approx(1.0, abs=0.03)

    def test_product_of_different_codings(self) -> None:
        a, b = gaussian(1500, 100, seed=1), gaussian(1500, 100, seed=2)
        estimate, report = latq.product(encoded(a, 3)[0], latq.encode(b, 4), report=True)
        assert not report.note
        assert np.linalg.norm(estimate - a.T @ b) / report.error == pytest.approx(1.0, abs=0.04)

    @pytest.mark.parametrize("bits", [0.2, 12.5])
    def test_impossible_rates(self, bits: float) -> None:
        with pytest.raises(latq.ParameterError, match=r"use 0\.25 to 12"):
            encoded(gaussian(64, 64), bits)


class TestTargetError:
    @pytest.mark.parametrize("error", [0.3, 0.05, 0.004, 1e-4])
    def test_decode_error_is_met_and_not_much_less(self, error: float) -> None:
        x = gaussian(1000, 300) + 0.5
        _, y = encoded(x, 4, error=error)
        assert 0.985 * error < distortion(x, y) ** 0.5 <= error

    def test_it_is_the_smallest_file(self) -> None:
        x = gaussian(2048, 400)
        data, y = encoded(x, 4, error=0.07)
        _, same_size = encoded(x, 8 * len(data) / x.size)
        assert distortion(x, y) < 1.02 * distortion(x, same_size)

    @pytest.mark.parametrize("error", [0.4, 0.05])
    def test_product_error(self, error: float) -> None:
        a, b = gaussian(2048, 300, seed=1), gaussian(2048, 300, seed=2)
        data = [encoded(x, 4, error=error, error_of="product")[0] for x in (a, b)]
        truth = a.astype(np.float64).T @ b
        scale = np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64)) / 2048**0.5
        assert float(np.linalg.norm(latq.product(*data) - truth) / scale) == pytest.approx(error, rel=0.02)

    def test_every_tensor_meets_it(self) -> None:
        x = np.concatenate([gaussian(512, 40), 1000 * gaussian(512, 40), np.ones((512, 9), np.float32)], axis=1)
        _, y = encoded(x, 4, error=0.02)
        assert distortion(x, y) ** 0.5 <= 0.02

    @pytest.mark.parametrize(("error", "options"), [(0, {}), (1.5, {}), (0.1, {"coding": "fixed"})])
    def test_impossible_errors(self, error: float, options: dict[str, Any]) -> None:
        with pytest.raises(latq.ParameterError, match="error"):
            latq.encode(gaussian(64, 64), error=error, **{"coding": "entropy", **options})
