"""The native kernels give the bits of their definition, whatever the instruction set."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latq import kernels
from latq.codecs.e8 import E8Params
from latq.codecs.e8_design import offset_for, tables_for
from latq.codecs.quantizer import lanes_for
from latq.coding import packing, rans
from latq.coding.model import Density
from latq.kernels import matrices, points, products, reference, search, vectors
from latq.kernels.points import PointModel, PointStream

if kernels.IMPLEMENTATION == "reference":
    pytest.skip("latq has no native kernels here", allow_module_level=True)

from latq.kernels import compiled, compiled_points

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
LENGTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 50, 64, 100, 128, 256, 512, 1016, 1023, 1024, 1025, 2040, 4096, 11008)


@pytest.fixture(params=compiled.instruction_sets(), scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = compiled.instruction_set()
    compiled.use(request.param)
    yield request.param
    compiled.use(before)


def same(a: npt.NDArray[np.generic] | None, b: npt.NDArray[np.generic]) -> bool:
    """Equal in dtype, shape and every bit."""
    return a is not None and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def numbers(seed: int, *shape: int) -> F32:
    """Of all sizes, with zeros of both signs and ties between them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 3 + 20 * (seed % 2), shape)
    x = np.where(rng.random(shape) < 0.2, np.round(2 * x) / 2, x)
    return np.where(rng.random(shape) < 0.05, rng.choice([0.0, -0.0], shape), x).astype(np.float32)


@pytest.mark.usefixtures("isa")
class TestRotation:
    @pytest.mark.parametrize("n", [*LENGTHS, 6, 33, 127, 129, 255, 8192, 16384, 40000, 65536])
    @pytest.mark.parametrize("rows", [3, 37])
    def test_rotate_and_unrotate(self, n: int, rows: int) -> None:
        x = numbers(n, rows if n < 2000 else 2, n)
        assert same(compiled.rotate(x, n), reference.rotate(x, n))
        assert same(compiled.unrotate(x, n), reference.unrotate(x, n))
        for turn in ("rotate", "unrotate"):
            expected, own = getattr(reference, turn)(x, n), x.copy()
            assert getattr(compiled, turn)(own, n, out=own) is own
            assert same(own, expected)

    @given(log=st.integers(0, 13), seed=st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_fwht(self, log: int, seed: int) -> None:
        x = numbers(seed, 2, 1 << log)
        assert same(compiled.fwht(x), reference.fwht(x))

    def test_views_are_not_written_to(self) -> None:
        x = numbers(1, 64, 6).T
        before = x.copy()
        assert same(compiled.rotate(x, 3), reference.rotate(x, 3))
        assert same(x, before)


def test_constants_agree() -> None:
    assert compiled._core.SLICE == search.SLICE
    assert compiled._core.PRICES == search.PRICES


def model_of(shifts: tuple[int, ...], spread: float) -> PointModel:
    """A model whose classes have these shifts, wide enough for values of about ``spread``."""
    x = np.arange(-100, 101)
    counts = (1e6 * np.exp(-(x**2) / (2 * spread**2))).astype(np.int64)
    density = Density.fit(counts, shifts[0], (3, 4))
    return density.with_classes(tuple(8 * k for k in range(len(shifts))), shifts).tables


def crowded_model() -> PointModel:
    """Values -127..127 of frequency 1, but for those next to 0, which take the rest."""
    everything = np.arange(-127, 128)
    of_tables = [everything, *(everything[everything % 2 == c] for c in (0, 1))]
    of_tables += [everything[everything % 4 == r] for r in range(4)]
    frequencies, values = np.zeros((7, 256), np.uint32), np.zeros((7, 256), np.int32)
    for k, of_table in enumerate(of_tables):
        values[k, 1 : 1 + of_table.size], frequencies[k, : 1 + of_table.size] = of_table, 1
        frequencies[k, 1 + int(np.abs(of_table).argmin())] += (1 << 14) - 1 - of_table.size
    costs = rans.cost_table(14)[frequencies]
    return PointModel(frequencies, costs, values, np.zeros(1, np.intp), np.zeros(1, np.int32))


def lattice_points(seed: int, blocks: int, spread: float) -> I32:
    """Points (8, N) of E8, a few of them far out."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((8, blocks)) * spread * np.where(rng.random(blocks) < 0.03, 1e4, 1)
    return reference.nearest_point(y.astype(np.float32))


@pytest.mark.usefixtures("isa")
class TestPoints:
    @given(
        shifts=st.sampled_from([None, (0,), (3,), (0, 0), (2, 1, 0, 0), (16, 5)]),
        spread=st.sampled_from([0.5, 3.0, 12.0, 20.0, 60.0]),
        blocks=st.one_of(st.integers(1, 70), st.integers(2040, 2200), st.just(8269)),
        run=st.sampled_from([1, 50, 999]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_cost_encode_decode(
        self, shifts: tuple[int, ...] | None, spread: float, blocks: int, run: int, seed: int
    ) -> None:
        model = model_of(shifts, spread) if shifts else crowded_model()
        classes = np.repeat(np.random.default_rng(seed).integers(0, model.first.size, blocks), run)[:blocks]
        found = lattice_points(seed, blocks, spread)
        found <<= model.shifts[classes]
        lanes = lanes_for(blocks)
        costs = points.point_costs(found, classes, model)
        stream, rest = points.encode_points(found, classes, model, lanes)
        assert same(compiled_points.point_costs(found, classes, model), costs)
        assert compiled_points.encode_points(found, classes, model, lanes) == (stream, rest)
        given = [PointStream(stream, rest, classes, lanes)]
        (decoded,), (again,) = points.decode_points(given, model), compiled_points.decode_points(given, model)
        assert decoded is not None
        assert again is not None
        assert same(again, decoded)
        assert (decoded == found.astype(np.float32)).all()

    @given(
        shifts=st.sampled_from([None, (0,), (3,), (0, 0), (2, 1, 0, 0), (16, 5)]),
        spread=st.sampled_from([0.5, 3.0, 12.0, 60.0]),
        lengths=st.lists(st.sampled_from([1, 70, 2500, 2048, 2081, 4099]), min_size=2, max_size=5),
        run=st.sampled_from([1, 50, 5000]),
        outlier=st.sampled_from([0, 126, 128, 40_000, 2**30]),
        damaged=st.integers(0, 5),
    )
    @settings(max_examples=60, deadline=None)
    def test_several_streams(
        self,
        shifts: tuple[int, ...] | None,
        spread: float,
        lengths: list[int],
        run: int,
        outlier: int,
        damaged: int,
    ) -> None:
        """Decoded together they are what each is, in as few bits as hold it; damage stays with its stream."""
        model = model_of(shifts, spread) if shifts else crowded_model()
        given, expected = [], []
        for seed, blocks in enumerate(lengths):
            classes = np.repeat(np.random.default_rng(seed).integers(0, model.first.size, blocks), run)[:blocks]
            found = lattice_points(seed, blocks, spread) << model.shifts[classes]
            if seed == 1 and not model.shifts.any():
                found[:, blocks // 2] = 2 * (outlier // 2)
            stream, rest = points.encode_points(found, classes, model, lanes_for(blocks))
            if seed == damaged:
                stream = stream[:-2]
            given.append(PointStream(stream, rest, classes, lanes_for(blocks)))
            expected.append(None if seed == damaged else found)
        for narrow in (False, True):
            again = compiled_points.decode_points(given, model, narrow)
            assert len(again) == len(given)
            for own, true, defined in zip(again, expected, points.decode_points(given, model, narrow), strict=True):
                assert (own is None) == (true is None) == (defined is None)
                if own is None or true is None or defined is None:
                    continue
                assert (own == true.astype(np.float32)).all()
                assert (own == defined).all()
                peak = np.abs(true.astype(np.int64)).max()
                assert (own.dtype == np.float32) == (not narrow or peak >= 1 << 15)
                if not model.shifts.any():
                    assert own.dtype == defined.dtype

    @given(
        step=st.sampled_from([4.0, 0.7, 0.05, 2.0**-10]),
        blocks=st.one_of(st.integers(1, 70), st.just(8269)),
        shifts=st.sampled_from([None, (0,), (3,), (0, 2), (0, 2, 3)]),
        spread=st.sampled_from([2.0, 6.0, 12.0, 20.0]),
        run=st.sampled_from([1, 50, 999]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_choice(
        self, step: float, blocks: int, shifts: tuple[int, ...] | None, spread: float, run: int, seed: int
    ) -> None:
        model = model_of(shifts, spread) if shifts else crowded_model()
        of = np.repeat(np.random.default_rng(seed).integers(0, model.first.size, blocks), run)[:blocks]
        x = numbers(2 * seed, 8, blocks)
        for used in (model, None):
            expected, cost = points.choose_points(x, of, np.float32(step), used)
            found, also = compiled_points.choose_points(x, of, np.float32(step), used)
            assert same(found, expected)
            assert also == cost

    def test_all_zero(self) -> None:
        x, classes = np.zeros((8, 100), np.float32), np.zeros(100, np.intp)
        expected, cost = points.choose_points(x, classes, np.float32(1), model_of((0,), 2.0))
        assert not expected.any()
        assert compiled_points.choose_points(x, classes, np.float32(1), model_of((0,), 2.0))[1] == cost

    @given(cut=st.integers(0, 2000), flip=st.integers(0, 10**6))
    @settings(max_examples=60, deadline=None)
    def test_damage_is_noticed_alike(self, cut: int, flip: int) -> None:
        model, classes = model_of((0, 2), 3.0), np.arange(2500) % 2
        stream, rest = points.encode_points(lattice_points(1, 2500, 3.0), classes, model, 32)
        damaged = bytearray(stream[: len(stream) - cut])
        damaged[flip % len(damaged)] ^= 1 << flip % 8
        given = [PointStream(bytes(damaged), rest, classes, 32), PointStream(stream, rest[4:], classes, 32)]
        expected, _ = points.decode_points(given, model)
        found, short = compiled_points.decode_points(given, model)
        assert (found is None) == (expected is None)
        assert short is None

    def test_bounds(self) -> None:
        model, x = model_of((0,), 2.0), np.zeros((8, 40), np.float32)
        for classes in (np.ones(40, np.intp), np.full(40, -1), np.zeros(39, np.intp)):
            with pytest.raises(ValueError, match="class"):
                compiled_points.choose_points(x, classes, np.float32(1), model)
        empty = PointStream(b"", b"", np.zeros(4, np.intp), 1)
        assert compiled_points.decode_points([empty, empty], model) == [None, None]
        with pytest.raises(ValueError, match="shapes"):
            compiled_points.decode_points([empty._replace(lanes=3)], model)
        with pytest.raises(ValueError, match="class"):
            compiled_points.decode_points([empty, empty._replace(classes=np.full(4, 2))], model_of((0, 0), 2.0))


@pytest.mark.usefixtures("isa")
class TestFixed:
    @given(
        q=st.sampled_from([2, 3, 4, 5, 7, 10, 12, 14, 16, 24, 56, 1024, 4096]),
        blocks=st.integers(1, 300),
        offset=st.sampled_from([(0,) * 8, offset_for(8)]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_codewords(self, q: int, blocks: int, offset: tuple[int, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        digits = rng.integers(0, q, (8, blocks)).astype(reference.digit_type(q))
        index = rng.integers(0, 16, blocks).astype(np.uint8)
        scales = rng.integers(1, 256, 16).astype(np.int32)
        args = digits, q, np.array(offset, np.int32), scales, index
        assert same(compiled.scaled_codewords(*args), reference.scaled_codewords(*args))
        few = np.minimum(scales, ((1 << 15) - 1) // (2 * q))
        args = digits, q, np.array(offset, np.int32), few, index, np.int16
        assert same(compiled.scaled_codewords(*args), reference.scaled_codewords(*args))

    @pytest.mark.parametrize("q", [2, 3, 4, 5])
    def test_every_codeword(self, q: int) -> None:
        """Of all ties of small codebooks."""
        digits = np.stack(np.meshgrid(*[np.arange(q, dtype=np.uint8)] * 6), axis=0).reshape(6, -1)
        digits = np.concatenate([digits, digits[:2][::-1]])
        index = np.arange(digits.shape[1]).astype(np.uint8) % 16
        for offset in (np.zeros(8, np.int32), np.array(offset_for(q), np.int32)):
            args = digits, q, offset, np.arange(1, 17, dtype=np.int32), index
            assert same(compiled.scaled_codewords(*args), reference.scaled_codewords(*args))
            assert same(compiled.scaled_codewords(*args, np.int16), reference.scaled_codewords(*args, np.int16))

    @given(
        radix=st.sampled_from([1, 3, 5, 7]),
        low_bits=st.integers(0, 9),
        count=st.one_of(st.integers(0, 300), st.sampled_from([10_560, 10_567, 21_121])),
        damaged=st.booleans(),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_planes_of_digits(self, radix: int, low_bits: int, count: int, damaged: bool, seed: int) -> None:
        q = radix << low_bits
        if q < 2:
            return
        digits = np.random.default_rng(seed).integers(0, q, count).astype(reference.digit_type(q))
        data = packing.pack(digits, q)
        if damaged and radix > 1 and data:
            data = data[: -(-count * low_bits // 8)] + b"\xff" * (len(data) - -(-count * low_bits // 8))
        found = compiled.unpack_digits(data, radix, low_bits, count)
        expected = reference.unpack_digits(data, radix, low_bits, count)
        assert (found is None) == (expected is None)
        if expected is not None:
            assert same(found, expected)
            assert damaged or (expected == digits).all()
        if data:
            with pytest.raises(ValueError, match="too few"):
                compiled.unpack_digits(data[:-1], radix, low_bits, count)

    @given(
        q=st.sampled_from([2, 3, 4, 5, 7, 10, 12, 14, 16, 24, 56, 1024, 4096]),
        table=st.integers(0, 3),
        blocks=st.one_of(st.integers(1, 300), st.just(search.SLICE + 77)),
        spread=st.sampled_from([0.1, 1.0, 30.0, 1e6]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_search(self, q: int, table: int, blocks: int, spread: float, seed: int) -> None:
        code = E8Params(q, tables_for(q)[table].scales, offset_for(q)).code
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((8, blocks)).astype(np.float32)
        some = rng.random(blocks) < 0.2
        x[:, some] = np.round(x[:, some] * 4) / 4  # with ties
        x[:, rng.random(blocks) < 0.1] *= np.float32(spread)
        charges = (rng.random((search.PRICES, code.steps.size)) / q**2).astype(np.float32)
        errors = search.estimated_errors(x, code)
        assert same(compiled.estimated_errors(x, code), errors)
        assert same(compiled.cheapest_scales(errors, charges), search.cheapest_scales(errors, charges))
        assert same(compiled.guess_scales(x, code, charges), search.guess_scales(x, code, charges))
        index = search.choose_scales(x, code, charges)
        assert same(compiled.choose_scales(x, code, charges), index)
        for found, expected in zip(
            compiled.quantize(x, index[0], code), search.quantize(x, index[0], code), strict=True
        ):
            assert same(found, expected)

    def test_search_bounds(self) -> None:
        code, x = E8Params(4, (40, 50), offset_for(4)).code, np.zeros((8, 40), np.float32)
        with pytest.raises(ValueError, match="scale is out of range"):
            compiled.quantize(x, np.full(40, 2, np.uint8), code)
        with pytest.raises(ValueError, match="charges"):
            compiled.choose_scales(x, code, np.zeros((search.PRICES, 3), np.float32))
        with pytest.raises(ValueError, match="shapes"):
            compiled.quantize(x, np.zeros(39, np.uint8), code)

    @given(alphabet=st.integers(1, 256), count=st.integers(0, 3000), seed=st.integers(0, 99))
    @settings(max_examples=20, deadline=None)
    def test_counts(self, alphabet: int, count: int, seed: int) -> None:
        symbols = np.random.default_rng(seed).integers(0, alphabet, count).astype(np.uint8)
        assert same(compiled.count_symbols(symbols, alphabet), reference.count_symbols(symbols, alphabet))

    @given(radix=st.sampled_from([(3, 5), (5, 3), (7, 11)]), count=st.integers(0, 300), seed=st.integers(0, 99))
    @settings(deadline=None)
    def test_digits(self, radix: tuple[int, int], count: int, seed: int) -> None:
        digits = np.random.default_rng(seed).integers(0, radix[0], count).astype(np.uint8)
        words = reference.join_digits(digits, *radix)
        assert same(compiled.join_digits(digits, *radix), words)
        assert same(compiled.split_digits(words, *radix, count), digits)

    @given(width=st.integers(1, 32), count=st.integers(0, 300), seed=st.integers(0, 99))
    @settings(deadline=None)
    def test_bits(self, width: int, count: int, seed: int) -> None:
        values = np.random.default_rng(seed).integers(0, 1 << width, count).astype(np.uint32)
        data = reference.pack_bits(values, width)
        assert compiled.pack_bits(values, width) == data
        assert same(compiled.unpack_bits(data, width, count), reference.unpack_bits(data, width, count))
        if count:
            with pytest.raises(ValueError, match="too few"):
                compiled.unpack_bits(data[:-1], width, count)

    @pytest.mark.parametrize("precision", [12, 14])
    def test_every_frequency(self, precision: int) -> None:
        """The encoder divides by frequencies by way of float32."""
        rng = np.random.default_rng(0)
        for f in {*range(1, 40), *range(97, 1 << precision, 97), (1 << precision) - 1}:
            freq = np.array([f, (1 << precision) - f], np.uint32)
            symbols = rng.integers(0, 2, 3000).astype(np.uint8)
            data = compiled.rans_encode_symbols(symbols, freq, 32)
            assert data == reference.rans_encode_symbols(symbols, freq, 32)

    @given(
        alphabet=st.sampled_from([1, 2, 8, 200, 255]),
        count=st.one_of(st.integers(1, 3000), st.just(40_000)),
        precision=st.sampled_from([12, 14]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=40, deadline=None)
    def test_symbols(self, alphabet: int, count: int, precision: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        symbols = (rng.integers(0, alphabet, count) * rng.random(count)).astype(np.uint8)
        freq = rans.normalize(np.bincount(symbols, minlength=alphabet).astype(np.int64), precision)
        lanes = rans.lanes_for(count)
        data = reference.rans_encode_symbols(symbols, freq, lanes)
        assert compiled.rans_encode_symbols(symbols, freq, lanes) == data
        assert same(compiled.rans_decode_symbols(data, freq, count, lanes), symbols)
        for bad in (data[:-2], data + b"\0\0", data[:-1], b""):
            assert compiled.rans_decode_symbols(bad, freq, count, lanes) is None


def test_quotients_by_way_of_float32() -> None:
    """native/rans.hpp, quotient_of: at the multiples of every divisor, where it is hardest."""
    rng = np.random.default_rng(0)
    for precision in (12, 14):
        f = np.arange(1, 1 << precision, dtype=np.uint32)[:, None]
        inverse = np.float32(1 - 2.0**-22) / f.astype(np.float32)
        largest = (1 << (32 - precision)) - 1
        q = np.concatenate([rng.integers(1, largest, 40), [1, 2, largest - 1, largest]]).astype(np.uint32)
        for x in (q * f - np.uint32(1), q * f, q * f + f - np.uint32(1)):
            estimate = (x.astype(np.float32) * inverse).astype(np.uint32)
            assert (estimate + (x - estimate * f >= f) == x // f).all()


@pytest.mark.usefixtures("isa")
class TestVectors:
    @given(
        rows=st.integers(1, 5),
        n=st.one_of(st.integers(1, 70), st.sampled_from([1023, 1024, 1025, 5000])),
        kept=st.floats(0.1, 1),
        dtype=st.sampled_from(["float32", "float64", "float16", "bfloat16", "float8_e5m2", ">f4"]),
        exponent=st.sampled_from([0, 3, -7, 140, -140, 1001]),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_rows(self, rows: int, n: int, kept: float, dtype: str, exponent: int, seed: int) -> None:
        x = numbers(2 * seed, rows, n).astype(dtype)
        means, inverses = numbers(seed + 1, rows), numbers(seed + 2, rows).astype(np.float64)
        assert compiled.peak(x) == vectors.peak(x)
        assert same(compiled.row_sums(x, exponent), vectors.row_sums(x, exponent))
        assert same(compiled.row_squares(x, exponent, means), vectors.row_squares(x, exponent, means))
        u, v = numbers(seed + 3, rows, n), numbers(seed + 4, rows, max(1, int(kept * n)))
        assert same(compiled.row_moments(u, v), vectors.row_moments(u, v))
        whole = np.random.default_rng(seed).integers(-(2**31), 2**31, v.shape).astype(np.int32)
        assert same(compiled.row_moments(u, whole), vectors.row_moments(u, whole))
        assert same(compiled.tree_sum(x.astype(np.float64)), reference.tree_sum(x.astype(np.float64)))
        with np.errstate(over="ignore"):
            assert same(compiled.divided(x, exponent, means, inverses), vectors.divided(x, exponent, means, inverses))
            for kind in ("float64", "float32", "float16", "bfloat16", ">f4", "float8_e5m2"):
                args = inverses, means.astype(np.float64), exponent, np.dtype(kind)
                assert same(compiled.restored(u, *args), vectors.restored(u, *args))
            args, own = (inverses, means.astype(np.float64), exponent, np.dtype(np.float32)), u.copy()
            assert compiled.restored(own, *args, out=own) is own
            assert same(own, vectors.restored(u, *args))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_every_number_of_16_bits(self, dtype: str) -> None:
        """Widened to itself; narrowed from itself, from every tie beside it and from both sides of the tie."""
        x = np.arange(1 << 16, dtype=np.uint16).view(dtype)
        assert same(compiled.widened(x), vectors.widened(x))
        values = vectors.widened(x)
        values = np.unique(values[np.isfinite(values)])
        ties = np.add(values[1:], values[:-1], dtype=np.float64) / 2
        extremes = np.float32([np.inf, np.nan, 3.4e38, 65519.9, 65520.0, 1e-45])
        beside = np.nextafter(ties.astype(np.float32), np.float32([[np.inf], [-np.inf]]))
        y = np.concatenate([values, ties.astype(np.float32), beside.reshape(-1), extremes])
        one, zero = np.ones(1), np.zeros(1)
        for sign in (np.float32(1), np.float32(-1)):
            args = sign * y[None], one, zero, 0, np.dtype(dtype)
            assert same(compiled.restored(*args), vectors.restored(*args))

    @given(
        rows=st.one_of(st.integers(1, 40), st.integers(1, 300)),
        columns=st.one_of(st.integers(1, 40), st.integers(1, 300)),
        dtype=st.sampled_from(["f2", "f4", "f8", ">f4", "i4", "bfloat16", "float8_e5m2"]),
        before=st.integers(0, 20),
        apart=st.integers(0, 20),
    )
    @settings(max_examples=100, deadline=None)
    def test_transpose(self, rows: int, columns: int, dtype: str, before: int, apart: int) -> None:
        source = numbers(0, rows, before + columns + apart).astype(np.dtype(dtype))[:, before : before + columns]
        target = np.zeros((columns, apart + rows + before), np.dtype(dtype))[:, apart : apart + rows]
        compiled.copy_transposed(source, target)
        assert same(target, source.T)

    @pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_peak_tells_what_is_not_finite(self, bad: float, dtype: type) -> None:
        x = np.ones((3, 40), dtype)
        x[2, 17] = bad
        assert not np.isfinite(compiled.peak(x))
        assert compiled.peak(np.empty((0, 5), dtype)) == 0


@pytest.mark.usefixtures("isa")
class TestProducts:
    @pytest.mark.parametrize(
        ("outlier", "dtype"),
        [(127, np.int8), (-127, np.int8), (128, np.int16), (-32767, np.int16), (32768, None), (-(2.0**31), None)],
    )
    @pytest.mark.parametrize("shape", [(1, 1), (7, 50), (3, 4100)])
    def test_narrowed(self, outlier: float, dtype: type | None, shape: tuple[int, int]) -> None:
        x = np.random.default_rng(0).integers(-127, 128, shape).astype(np.float32)
        x[-1, -1] = outlier
        found, expected = compiled.narrowed(x), products.narrowed(x)
        if dtype is None:
            assert found is None
            assert expected is None
            return
        assert found is not None
        assert expected is not None
        assert found[0].dtype == dtype
        assert (found[0] == x).all()
        assert same(found[0], expected[0])
        assert same(found[1], expected[1])
        assert same(compiled.squared_norms(found[0]), expected[1])
        assert same(products.squared_norms(found[0]), expected[1])

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (5, 1), (2, 5000)])
    def test_summed_energies(self, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        index, energies = rng.integers(0, 256, shape).astype(np.uint8), rng.integers(0, 1 << 40, 256)
        assert same(compiled.summed_energies(index, energies), products.summed_energies(index, energies))

    @given(
        shape=st.tuples(st.integers(0, 70), st.integers(0, 70), st.integers(1, 140)),
        peaks=st.tuples(*[st.sampled_from([0, 1, 30, 127, 2000, 32767])] * 2),
        apart=st.integers(0, 3),
        seed=st.integers(0, 99),
    )
    @settings(max_examples=60, deadline=None)
    def test_both_forms(self, shape: tuple[int, int, int], peaks: tuple[int, int], apart: int, seed: int) -> None:
        rows, columns, n = shape
        rng = np.random.default_rng(seed)
        a, b = (
            rng.integers(-peak, peak + 1, (count, n + apart), np.int8 if peak < 128 else np.int16)[:, apart:]
            for count, peak in zip((rows, columns), peaks, strict=True)
        )
        gains = numbers(seed, rows).astype(np.float64), numbers(seed + 1, columns).astype(np.float64)
        for name, dtype in (("add_products", np.float64), ("put_products", np.float32)):
            before = numbers(seed, rows, columns + apart).astype(dtype)
            found, expected = before.copy(), before.copy()
            getattr(compiled, name)(a, b, *gains, found[:, apart:])
            getattr(products, name)(a, b, *gains, expected[:, apart:])
            assert same(found, expected)

    @pytest.mark.parametrize("shape", [(3, 300, 33), (300, 3, 33), (600, 40, 5), (9, 9, 70), (2, 2, 140_000)])
    @pytest.mark.parametrize("dtype", ["int8", "int16"])
    @pytest.mark.parametrize("ends", [("min", "min"), ("min", "max"), ("max", "min"), ("max", "max")])
    def test_extremes(self, shape: tuple[int, int, int], dtype: str, ends: tuple[str, str]) -> None:
        """Where a sum of two products may already fill 32 bits; in some rows only."""
        rows, columns, n = shape
        x, y = (int(getattr(np.iinfo(dtype), end)) for end in ends)
        a, b = np.full((rows, n), x, dtype), np.full((columns, n), y, dtype)
        a[::2] = 1
        out = np.zeros((rows, columns))
        compiled.add_products(a, b, np.ones(rows), np.ones(columns), out)
        assert (out[1::2] == float(n * x * y)).all()
        assert (out[::2] == float(n * y)).all()

    def test_a_gram_matrix_is_symmetric(self) -> None:
        a = np.random.default_rng(0).integers(-99, 100, (50, 70), np.int16)
        gains, out = numbers(0, 50).astype(np.float64), np.empty((50, 50), np.float32)
        compiled.put_products(a, a, gains, gains, out)
        assert same(out, out.T)

    def test_any_view_will_do(self) -> None:
        a = np.random.default_rng(0).integers(-99, 100, (20, 30), np.int16)
        found, expected, ones = np.zeros((30, 30), order="F"), np.zeros((30, 30)), np.ones(30)
        compiled.add_products(a.T, a.T[::-1], ones, ones, found)
        products.add_products(a.T, a.T[::-1], ones, ones, expected)
        assert (found == expected).all()

    def test_bounds(self) -> None:
        a, ones, out = np.ones((4, 6), np.int16), np.ones(4), np.zeros((4, 4))
        for args in ((a, a[:, :5], ones, ones, out), (a[:3], a, ones, ones, out), (a, a, ones[:3], ones, out)):
            with pytest.raises(ValueError, match="products"):
                compiled.add_products(*args)


ENCODE = """
import hashlib, sys
import numpy as np
import latq
x = np.random.default_rng(0).standard_normal((1100, 1200)).astype(np.float32) * np.float32(3) + 1
x[:, 7] *= 1000
for options in ({"coding": "entropy"}, {"coding": "entropy", "bits": 9.5, "axis": 1}, {"coding": "fixed"},
                {"coding": "fixed", "bits": 2.3, "effort": "fast"}, {"bits": 3.2}):
    data = latq.encode(x[:, :80] if "coding" not in options else x, threads=int(sys.argv[1]), **options)
    y = latq.decode(data)
    print(hashlib.sha256(data).hexdigest(), hashlib.sha256(y.tobytes()).hexdigest())
"""


def test_files_are_the_same_bytes() -> None:
    """Whatever runs, and in however many threads."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATQ_")}

    def hashes(threads: int, **variables: str) -> str:
        command = [sys.executable, "-P", "-c", ENCODE, str(threads)]
        return subprocess.run(command, env=environment | variables, check=True, capture_output=True, text=True).stdout

    expected = hashes(1, LATQ_KERNELS="reference")
    for name in compiled.instruction_sets():
        assert hashes(2, LATQ_ISA=name) == expected


class TestChoice:
    """The environment decides which kernels run."""

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({}, "native"),
            ({"LATQ_KERNELS": "native"}, "native"),
            ({"LATQ_KERNELS": "reference"}, "reference"),
            ({"LATQ_ISA": "baseline"}, "native baseline"),
            ({"LATQ_ISA": "quantum"}, "is not available here"),
            ({"LATQ_KERNELS": "fast"}, "use native or reference"),
        ],
    )
    def test_environment(self, variables: dict[str, str], expected: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LATQ_")} | variables
        code = "from latq import kernels; print(kernels.IMPLEMENTATION)"
        done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)
        assert expected in done.stdout + done.stderr


@pytest.mark.usefixtures("isa")
class TestMatrices:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 3), (13, 130, 300), (64, 65, 257), (3, 200, 0), (0, 4, 4)])
    def test_subtract_product(self, dtype: npt.DTypeLike, shape: tuple[int, int, int]) -> None:
        rows, columns, depth = shape
        rng = np.random.default_rng(columns)
        c = rng.standard_normal((rows, 2 * columns)).astype(dtype)[:, columns:]
        a = rng.standard_normal((rows, depth)).astype(dtype)
        b = rng.standard_normal((depth, columns + 3)).astype(dtype)[:, 3:]
        expected = c.copy()
        matrices.subtract_product(expected, a, b)
        compiled.subtract_product(c, a, b)
        assert same(np.ascontiguousarray(c), expected)
