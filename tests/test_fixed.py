"""Fixed coding: the search for codewords, the choice of scales, and the bits that they lose."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latq
from latq import kernels
from latq.codecs import e8, e8_design, e8_scales
from latq.coding import rans

F32 = npt.NDArray[np.float32]
SHRINKS = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)


def gaussian(count: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((8, count)).astype(np.float32)


def offset_of(q: int) -> npt.NDArray[np.int32]:
    return np.array(e8_design.offset_for(q), np.int32)


def code_of(q: int, *scales: int) -> kernels.NestedCode:
    return e8.E8Params(q, scales, e8_design.offset_for(q)).code


def quantized(x: F32, code: kernels.NestedCode) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32], F32]:
    """Digits, codewords and errors at the only scale of ``code``."""
    digits, integers, errors = kernels.quantize(x, np.zeros(x.shape[1], np.uint8), code)
    return digits, (integers / code.scales[0]).astype(np.int32), errors


def nearest_of_shrunk(x: F32, step: np.float32, q: int, offset: npt.NDArray[np.int32]) -> F32:
    """Errors of a plain search: the block shrunk by several factors, each time the nearest point, scored decoded."""
    shift = offset.astype(np.float32)[:, None] / 2
    words = [
        kernels.codeword(kernels.to_digits(kernels.nearest_point(x / step * f - shift), q), q, offset) for f in SHRINKS
    ]
    errors: F32 = np.min([((x - w * step / 2) ** 2).sum(axis=0) for w in words], axis=0)
    return errors


class TestGauge:
    @pytest.mark.parametrize("q", [1, 3, 8])
    def test_tells_the_voronoi_region(self, q: int) -> None:
        x = gaussian(4000) * np.float32(q / 3.5)
        inside = ~kernels.nearest_point(x / np.float32(q)).any(axis=0)
        assert 0.1 < inside.mean() < 0.9
        assert ((kernels.gauge(x) < q) == inside).all()


class TestSearch:
    @given(
        q=st.sampled_from([2, 3, 4, 5, 7, 8, 14, 56, 1024, 4096]), scale=st.integers(20, 120), seed=st.integers(0, 99)
    )
    @settings(max_examples=40, deadline=None)
    def test_words_are_codewords_and_errors_theirs(self, q: int, scale: int, seed: int) -> None:
        x, code = gaussian(200, seed), code_of(q, scale)
        digits, words, errors = quantized(x, code)
        assert (kernels.codeword(digits, q, offset_of(q)) == words).all()
        assert errors == pytest.approx(((x - words * (code.steps[0] / 2)) ** 2).sum(axis=0), rel=2e-3, abs=1e-9)

    @pytest.mark.parametrize("scale", [30, 40, 55, 75])
    @pytest.mark.parametrize("q", [2, 3, 4, 7, 8, 16, 96, 1024])
    def test_beats_shrinking(self, q: int, scale: int) -> None:
        x, code = gaussian(8000, q), code_of(q, scale)
        x = x[:, (x**2).sum(axis=0) < (e8_design.UNIT * scale) ** 2]  # blocks that this scale may be chosen for
        *_, errors = quantized(x, code)
        plain = nearest_of_shrunk(x, code.steps[0], q, offset_of(q))
        assert (errors <= plain * 1.0001 + 1e-6).mean() > 0.9
        assert errors.mean() <= plain.mean() * 1.00001

    @pytest.mark.parametrize("scale", [30, 40, 55, 75])
    @pytest.mark.parametrize("q", [2, 3])
    def test_is_exhaustive_for_a_small_codebook(self, q: int, scale: int) -> None:
        x, code = gaussian(300), code_of(q, scale)
        digits = np.array(list(itertools.product(range(q), repeat=8)), np.uint16).T
        words = kernels.codeword(digits, q, offset_of(q)) * (code.steps[0] / 2)
        best = (x**2).sum(axis=0) + ((words**2).sum(axis=0)[:, None] - 2 * words.T @ x).min(axis=0)
        *_, errors = quantized(x, code)
        assert errors == pytest.approx(best, rel=1e-4, abs=1e-4)

    def test_far_outliers_stay_within_the_codebook(self) -> None:
        x = gaussian(100) * 1000
        _, words, errors = quantized(x, e8.E8Params(6, (8,), e8_design.offset_for(6)).code)
        assert np.abs(words).max() <= 12
        assert (errors < (x**2).sum(axis=0)).mean() > 0.9


class TestScales:
    @given(
        budget=st.integers(0, 1500),
        scales=st.lists(st.integers(15, 120), min_size=1, max_size=16, unique=True),
        effort=st.sampled_from(["fast", "default"]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=40, deadline=None)
    def test_keeps_its_budget(self, budget: int, scales: list[int], effort: e8_scales.Effort, seed: int) -> None:
        x, code = gaussian(2000, seed), code_of(4, *sorted(scales))
        budget += e8.smallest_index_size(8 * 2000, len(scales))
        index = e8_scales.choose(x, code, budget, effort)
        assert len(rans.encode(index, len(scales))) <= budget

    @pytest.mark.parametrize("effort", ["fast", "default"])
    def test_more_bytes_less_error(self, effort: e8_scales.Effort) -> None:
        params = e8.E8Params(4, e8_design.tables_for(4)[2].scales, e8_design.offset_for(4))
        x = gaussian(4096).T.reshape(-1)
        results = [e8.encode(x, params, budget, effort) for budget in (300, 600, 900, 1200, 1500)]
        errors = []
        for section, digits, integers in results:
            assert (e8.decode(section, digits, params, x.size)[0] == integers).all()
            gain = np.dot(x, integers) / np.dot(integers, integers)
            errors.append(float(((x - gain * integers) ** 2).mean()))
        assert errors == sorted(errors, reverse=True)

    def test_estimates_are_about_right(self) -> None:
        x, code = gaussian(20_000), code_of(8, 50, 60, 70)
        estimated = kernels.estimated_errors(x, code).mean(axis=1)
        for j in range(3):
            found = kernels.quantize(x, np.full(20_000, j, np.uint8), code)[2]
            assert estimated[j] == pytest.approx(found.mean(), rel=0.1)

    def test_zeros_and_outliers(self) -> None:
        params = e8.E8Params(5, e8_design.tables_for(5)[1].scales, e8_design.offset_for(5))
        x = np.zeros(4096, np.float32)
        x[::512] = 22.6
        section, digits, integers = e8.encode(x, params, 400)
        assert (e8.decode(section, digits, params, x.size)[0] == integers).all()

    @pytest.mark.parametrize("q", [2, 3])
    def test_errors_have_no_mean(self, q: int) -> None:
        """What a codebook of few points leaves of it is taken out, at next to no cost."""
        blocks, table = gaussian(1 << 16), e8_design.tables_for(q)[0]
        x, params = blocks.T.reshape(-1), e8.E8Params(q, table.scales, e8_design.offset_for(q))
        means, errors = {}, {}
        for balanced in (False, True):
            *_, integers = e8.encode(x, params, int(table.gains[-1][0] * x.size / 8), balanced=balanced)
            unbiased = integers * (np.dot(x, x) / np.dot(x, integers))
            means[balanced] = float(((unbiased - x).reshape(-1, 8).mean(axis=0) ** 2).sum())
            errors[balanced] = 1 - np.dot(x, integers) ** 2 / np.dot(integers, integers) / np.dot(x, x)
        assert means[True] < means[False] / 2
        assert means[True] < 8e-4
        assert errors[True] < 1.01 * errors[False]


@pytest.mark.parametrize("q", [2, 3, 5, 7, 8, 24, 4096])
def test_tables(q: int) -> None:
    for table in e8_design.tables_for(q):
        rates, gains = zip(*table.gains, strict=True)
        assert list(table.scales) == sorted(set(table.scales))
        assert list(rates) == sorted(set(rates))
        assert list(gains) == sorted(set(gains))
        assert table.gain(1.0) == gains[-1]
        tail = e8_design.with_tail(table.scales)
        assert tail[: len(table.scales)] == table.scales
        assert len(tail) <= e8_design.MAX_SCALES
        assert tail[-1] <= e8_design.MAX_SCALE


@pytest.mark.parametrize(("bits", "most_lost"), [(1.1, 0.31), (2.25, 0.31), (3.25, 0.29), (5.3, 0.3), (10.3, 0.38)])
def test_bits_lost(bits: float, most_lost: float) -> None:
    x = gaussian(512 * 128).reshape(1024, 512)
    data = latq.encode(x, bits)
    y = latq.decode(data)
    assert isinstance(y, np.ndarray)
    rate = 8 * len(data) / x.size
    assert rate <= bits
    assert rate + 0.5 * np.log2(float(((x - y) ** 2).mean() / (x**2).mean())) < most_lost


def test_fast_loses_little() -> None:
    x = gaussian(512 * 64).reshape(512, 512)
    lost = {}
    for effort in ("fast", "default"):
        data = latq.encode(x, 4, coding="fixed", effort=effort)
        y = latq.decode(data)
        lost[effort] = 8 * len(data) / x.size + 0.5 * np.log2(float(((x - y) ** 2).mean()))
    assert lost["default"] < lost["fast"] < lost["default"] + 0.06
