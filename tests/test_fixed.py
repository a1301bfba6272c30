"""Fixed coding: the search for codewords, the choice of scales, and the bits that they lose."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latq
from latq import kernels
from latq.codecs import e8, e8_design
from latq.coding import rans

F32 = npt.NDArray[np.float32]
SHRINKS = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)


def gaussian(count: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal((8, count)).astype(np.float32)


def unlimited(count: int) -> F32:
    return np.full(count, np.inf, np.float32)


def offset_of(q: int) -> npt.NDArray[np.int32]:
    return np.array(e8_design.offset_for(q), np.int32)


def nearest_of_shrunk(x: F32, step: np.float32, q: int, offset: npt.NDArray[np.int32]) -> F32:
    """Errors of a plain search: the block shrunk by several factors, each time the nearest point, scored decoded."""
    shift = offset.astype(np.float32)[:, None] / 2
    words = [
        kernels.codeword(kernels.to_digits(kernels.nearest_point(x / step * f - shift), q), q, offset) for f in SHRINKS
    ]
    errors: F32 = np.min([((x - w * step / 2) ** 2).sum(axis=0) for w in words], axis=0)
    return errors


class TestSearch:
    @given(
        q=st.sampled_from([2, 3, 4, 5, 7, 8, 14, 56, 1024, 4096]), scale=st.integers(20, 120), seed=st.integers(0, 99)
    )
    @settings(max_examples=40, deadline=None)
    def test_words_are_codewords_and_errors_theirs(self, q: int, scale: int, seed: int) -> None:
        x, step = gaussian(200, seed), np.float32(e8_design.UNIT / q * scale)
        words, errors = kernels.quantize(x, step, q, offset_of(q), unlimited(200))
        digits = kernels.to_digits(words - offset_of(q)[:, None], q)
        assert (kernels.codeword(digits, q, offset_of(q)) == words).all()
        assert errors == pytest.approx(((x - words * (step / 2)) ** 2).sum(axis=0), rel=1e-4, abs=1e-9)

    @pytest.mark.parametrize("scale", [30, 40, 55, 75])
    @pytest.mark.parametrize("q", [2, 3, 4, 7, 8, 16, 96, 1024])
    def test_beats_shrinking(self, q: int, scale: int) -> None:
        x, step = gaussian(8000, q), np.float32(e8_design.UNIT / q * scale)
        x = x[:, (x**2).sum(axis=0) < (e8_design.UNIT * scale) ** 2]  # blocks that this scale may be chosen for
        _, errors = kernels.quantize(x, step, q, offset_of(q), unlimited(x.shape[1]))
        plain = nearest_of_shrunk(x, step, q, offset_of(q))
        assert (errors <= plain * 1.0001 + 1e-6).mean() > 0.96
        assert errors.mean() <= plain.mean() * 1.00001

    @pytest.mark.parametrize("scale", [40, 55, 75])
    @pytest.mark.parametrize("q", [2, 3])
    def test_is_about_exhaustive_for_a_small_codebook(self, q: int, scale: int) -> None:
        x, step = gaussian(300), np.float32(e8_design.UNIT / q * scale)
        digits = np.array(list(itertools.product(range(q), repeat=8)), np.uint16).T
        words = kernels.codeword(digits, q, offset_of(q)) * (step / 2)
        best = (x**2).sum(axis=0) + ((words**2).sum(axis=0)[:, None] - 2 * words.T @ x).min(axis=0)
        _, errors = kernels.quantize(x, step, q, offset_of(q), unlimited(300))
        assert best.mean() - 1e-5 <= errors.mean() < 1.03 * best.mean()

    def test_limit_spares_only_what_is_far_above_it(self) -> None:
        x, step, limit = gaussian(3000), np.float32(e8_design.UNIT / 4 * 40), np.full(3000, 0.8, np.float32)
        _, full = kernels.quantize(x, step, 4, offset_of(4), unlimited(3000))
        _, spared = kernels.quantize(x, step, 4, offset_of(4), limit)
        assert (spared >= full).all()
        assert (spared == full)[full <= limit].mean() > 0.99
        assert np.isinf(spared).any()

    def test_far_outliers_stay_within_the_codebook(self) -> None:
        x = gaussian(100) * 1000
        words, errors = kernels.quantize(x, np.float32(0.1), 6, offset_of(6), unlimited(100))
        assert np.abs(words).max() <= 12
        assert (errors < (x**2).sum(axis=0)).mean() > 0.9


class TestScales:
    @given(budget=st.integers(0, 3000), scales=st.integers(1, 16), seed=st.integers(0, 99))
    @settings(max_examples=40, deadline=None)
    def test_keeps_its_budget(self, budget: int, scales: int, seed: int) -> None:
        errors = np.random.default_rng(seed).gamma(2, size=(scales, 2000)).astype(np.float32)
        budget += e8.smallest_index_size(8 * 2000, scales)
        index = e8.choose_scales(errors, budget)
        assert len(rans.encode(index, scales)) <= budget

    def test_more_bytes_less_error(self) -> None:
        params = e8.E8Params(4, e8_design.tables_for(4)[2].scales, e8_design.offset_for(4))
        x = gaussian(4096).T.reshape(-1)
        results = [e8.encode(x, params, budget) for budget in (300, 600, 900, 1200, 1500)]
        errors = []
        for section, digits, integers in results:
            assert (e8.decode(section, digits, params, x.size) == integers).all()
            gain = np.dot(x, integers) / np.dot(integers, integers)
            errors.append(float(((x - gain * integers) ** 2).mean()))
        assert errors == sorted(errors, reverse=True)

    def test_zeros_and_outliers(self) -> None:
        params = e8.E8Params(5, e8_design.tables_for(5)[1].scales, e8_design.offset_for(5))
        x = np.zeros(4096, np.float32)
        x[::512] = 22.6
        section, digits, integers = e8.encode(x, params, 400)
        assert (e8.decode(section, digits, params, x.size) == integers).all()


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
