"""The kernels that define the format: exact properties of E8, rotation, packing and rANS."""

import contextlib
import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latq.coding import packing, rans
from latq.errors import CorruptError
from latq.kernels import products
from latq.kernels import reference as kernels

NO_OFFSET = np.zeros(8, np.int32)
OFFSET = (2, 2, 2, 1, 1, 1, 0, 0)
LENGTHS = (1, 2, 3, 5, 7, 8, 9, 31, 50, 100, 104, 1016, 1023, 1024, 1025, 2040, 4096)


def minimal_vectors() -> npt.NDArray[np.int32]:
    """The 240 shortest vectors of E8 in doubled coordinates, (8, 240)."""
    pairs = [
        [2 * s if k == i else 2 * t if k == j else 0 for k in range(8)]
        for i, j in itertools.combinations(range(8), 2)
        for s in (1, -1)
        for t in (1, -1)
    ]
    halves = [v for v in itertools.product((1, -1), repeat=8) if v.count(-1) % 2 == 0]
    return np.array(pairs + list(map(list, halves)), np.int32).T


def is_e8(point: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Doubled coordinates of one parity, with a sum divisible by 4."""
    parity = point & 1
    return (parity == parity[0]).all(axis=0) & (point.sum(axis=0) % 4 == 0)


class TestE8:
    @pytest.mark.parametrize(
        ("x", "q_of_x", "digits"),
        [
            ((0.3, -1.2, 2.42, 0.7, -0.1, 1.9, -2.61, 0.05), (0, -1, 3, 1, 0, 2, -3, 0), (1, 2, 3, 0, 13, 13, 11, 0)),
            (
                (3.7, -0.2, 0.1, 0.4, 0.9, -1.4, 2.2, -0.6),
                (3.5, -0.5, -0.5, 0.5, 0.5, -1.5, 2.5, -0.5),
                (4, 4, 4, 4, 3, 2, 3, 13),
            ),
            ((0.5,) * 7 + (0.45,), (0.5,) * 8, (0, 0, 0, 0, 0, 0, 0, 1)),
        ],
    )
    def test_published_vectors(self, x: tuple[float, ...], q_of_x: tuple[float, ...], digits: tuple[int, ...]) -> None:
        point = kernels.nearest_point(np.array(x, np.float32)[:, None])
        assert (point[:, 0] / 2).tolist() == list(q_of_x)
        assert kernels.to_digits(point, 14)[:, 0].tolist() == list(digits)

    def test_nearest_point_beats_its_neighbours(self) -> None:
        y = np.random.default_rng(0).normal(scale=3, size=(8, 2000)).astype(np.float32)
        point = kernels.nearest_point(y)
        assert is_e8(point).all()
        own = ((y - point / 2) ** 2).sum(axis=0)
        for v in minimal_vectors().T:
            assert (own <= ((y - (point + v[:, None]) / 2) ** 2).sum(axis=0) + 1e-5).all()

    def test_second_moment(self) -> None:
        y = np.random.default_rng(1).uniform(-8, 8, size=(8, 100_000)).astype(np.float32)
        moment = ((y - kernels.nearest_point(y) / 2) ** 2).mean()
        assert moment == pytest.approx(929 / 12960, rel=4e-3)

    @pytest.mark.parametrize(
        ("q", "census"), [(2, {0: 1, 2: 120, 4: 135}), (3, {0: 1, 2: 240, 4: 2160, 6: 2240, 8: 1920})]
    )
    def test_census_of_the_unshifted_codebook(self, q: int, census: dict[int, int]) -> None:
        digits = np.array(list(itertools.product(range(q), repeat=8)), np.uint16).T
        norms, counts = np.unique((kernels.codeword(digits, q, NO_OFFSET) ** 2).sum(axis=0) // 4, return_counts=True)
        assert dict(zip(norms.tolist(), counts.tolist(), strict=True)) == census

    @pytest.mark.parametrize("q", [2, 3])
    @pytest.mark.parametrize("offset", [(0,) * 8, OFFSET])
    def test_every_code_round_trips(self, q: int, offset: tuple[int, ...]) -> None:
        shift = np.array(offset, np.int32)
        digits = np.array(list(itertools.product(range(q), repeat=8)), np.uint16).T
        word = kernels.codeword(digits, q, shift)
        assert (kernels.to_digits(word - shift[:, None], q) == digits).all()
        assert np.abs(word).max() <= 2 * q

    @given(q=st.sampled_from([2, 3, 4, 5, 7, 12, 14, 56, 1024, 4096]), seed=st.integers(0, 1000))
    @settings(max_examples=40, deadline=None)
    def test_codewords_are_shortest_in_their_coset(self, q: int, seed: int) -> None:
        digits = np.random.default_rng(seed).integers(0, q, (8, 50)).astype(np.uint16)
        shift = np.array(OFFSET, np.int32)
        word = kernels.codeword(digits, q, shift).astype(np.int64)
        assert is_e8((word - shift[:, None]).astype(np.int32)).all()
        assert (kernels.to_digits((word - shift[:, None]).astype(np.int32), q) == digits).all()
        own = (word**2).sum(axis=0)
        for v in minimal_vectors().T.astype(np.int64):
            assert (own <= ((word + q * v[:, None]) ** 2).sum(axis=0)).all()


class TestRotation:
    @pytest.mark.parametrize("n", LENGTHS)
    def test_is_orthogonal_and_inverts(self, n: int) -> None:
        x = np.random.default_rng(n).standard_normal((4, n)).astype(np.float32)
        y = kernels.rotate(x, 7)
        assert (y**2).sum(axis=1) == pytest.approx((x**2).sum(axis=1), rel=1e-5)
        assert y @ y.T == pytest.approx(x @ x.T, rel=1e-4, abs=1e-4 * n)
        assert kernels.unrotate(y, 7) == pytest.approx(x, abs=2e-5)

    @pytest.mark.parametrize("n", [104, 384, 1016, 1023, 1536, 2040, 3000])
    def test_spreads_spikes(self, n: int) -> None:
        rng = np.random.default_rng(n)
        spikes = np.eye(n, dtype=np.float32)[np.r_[0, n // 2, n - 1, rng.integers(0, n, 5)]]
        kurtosis = np.mean([(kernels.rotate(spikes, seed) ** 4).mean(axis=1) * n * n for seed in range(20)], axis=0)
        assert kurtosis.max() < 3.7

    def test_seeds_and_stages_differ(self) -> None:
        base = kernels.signs(0, 0, 4096)
        for other in (kernels.signs(1, 0, 4096), kernels.signs(0, 1, 4096)):
            assert abs(float((base * other).mean())) < 5 / 64
        assert set(np.unique(base)) == {-1.0, 1.0}
        assert (kernels.signs(0, 0, 100) == base[:100]).all()

    def test_hadamard_of_integers_is_exact(self) -> None:
        x = np.random.default_rng(0).integers(-500, 500, (3, 1024)).astype(np.float32)
        assert (kernels.fwht(kernels.fwht(x)) == x * 1024).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=70))
def test_tree_sum(values: list[float]) -> None:
    x = np.array(values)
    assert float(kernels.tree_sum(x)) == pytest.approx(float(x.sum()), abs=1e-6)


def test_products_are_exact() -> None:
    """Sums whose terms reach 2^30, next to those that cancel."""
    rng = np.random.default_rng(0)
    a, b = rng.choice(np.array([-32768, -32767, 1, 32767], np.int16), (2, 5, 4099))
    b[0], gains = -a[0], np.ones(5)
    out = np.ones((5, 5))
    products.add_products(a, b, gains, gains, out)
    assert (out == 1 + a.astype(np.int64) @ b.astype(np.int64).T).all()


class TestPacking:
    @given(width=st.integers(1, 32), count=st.integers(0, 200), seed=st.integers(0, 99))
    def test_bits(self, width: int, count: int, seed: int) -> None:
        values = np.random.default_rng(seed).integers(0, 1 << width, count).astype(np.uint32)
        data = kernels.pack_bits(values, width)
        assert len(data) == -(-width * count // 8)
        assert (kernels.unpack_bits(data, width, count) == values).all()

    def test_bit_order(self) -> None:
        assert kernels.pack_bits(np.array([1, 2, 3, 4], np.uint8), 3) == bytes([0b11010001, 0b1000])

    @given(q=st.sampled_from([q for q in range(2, 4097) if packing.is_packable(q)]), blocks=st.integers(1, 60))
    def test_digits(self, q: int, blocks: int) -> None:
        digits = np.random.default_rng(q).integers(0, q, 8 * blocks).astype(np.uint16)
        data = packing.pack(digits, q)
        assert len(data) == packing.packed_size(digits.size, q)
        assert (packing.unpack(data, q, digits.size) == digits).all()

    @pytest.mark.parametrize("q", [q for q in range(2, 4097) if packing.is_packable(q)])
    def test_loss_is_under_a_fiftieth_of_a_bit(self, q: int) -> None:
        assert packing.packed_size(1 << 20, q) * 8 / (1 << 20) - np.log2(q) < 0.02

    def test_word_out_of_range(self) -> None:
        with pytest.raises(CorruptError, match="out of range"):
            packing.unpack(b"\xff\xff", 3, 8)


class TestRans:
    @given(
        symbols=st.lists(st.integers(0, 7), min_size=1, max_size=3000),
        repeat=st.sampled_from([1, 3]),
    )
    @settings(max_examples=60, deadline=None)
    def test_round_trip(self, symbols: list[int], repeat: int) -> None:
        flat = np.array(symbols * repeat, np.uint8)
        data = rans.encode(flat, 8)
        counts = np.bincount(flat, minlength=8).astype(np.int64)
        assert len(data) <= rans.size_bound(counts, rans.normalize(counts))
        assert (rans.decode(data, 8, flat.size) == flat).all()

    def test_reaches_the_entropy(self) -> None:
        p = np.array([0.55, 0.25, 0.1, 0.05, 0.03, 0.02])
        flat = np.random.default_rng(0).choice(6, size=100_000, p=p).astype(np.uint8)
        entropy = -(p * np.log2(p)).sum()
        assert 8 * len(rans.encode(flat, 6)) / flat.size == pytest.approx(entropy, rel=0.01)

    def test_costs_are_logarithms(self) -> None:
        f = np.arange(1, rans.TOTAL + 1)
        assert rans.COSTS[1:] / rans.COST_UNIT == pytest.approx(12 - np.log2(f), abs=1e-4)

    @given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=16).filter(any))
    def test_frequencies(self, counts: list[int]) -> None:
        freq = rans.normalize(np.array(counts, np.int64))
        assert int(freq.sum()) == rans.TOTAL
        assert ((freq > 0) == (np.array(counts) > 0)).all()

    @pytest.mark.parametrize("position", [0, 5, 20, 60, -1])
    def test_damage_is_noticed_or_changes_symbols(self, position: int) -> None:
        flat = np.random.default_rng(1).integers(0, 4, 2000).astype(np.uint8)
        data = bytearray(rans.encode(flat, 4))
        data[position] ^= 0x10
        with contextlib.suppress(CorruptError):
            assert (rans.decode(bytes(data), 4, flat.size) != flat).any()

    def test_truncated_and_overlong_streams(self) -> None:
        flat = np.random.default_rng(1).integers(0, 4, 2000).astype(np.uint8)
        data = rans.encode(flat, 4)
        for bad in (b"", data[:7], data[:-2], data[:-1], data + b"\0\0"):
            with pytest.raises(CorruptError):
                rans.decode(bad, 4, flat.size)
