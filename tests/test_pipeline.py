"""Arrays through the Python interface: rates, accuracy, random access, every shape and dtype."""

import io
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latq
from latq.pipeline.describe import accuracy_of, describe

LENGTHS = (1, 2, 7, 8, 9, 50, 100, 1016, 1023, 4096, 11008, 100_000)


def gaussian(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def decoded(array: npt.NDArray[Any], bits: float = 4.0, **options: Any) -> npt.NDArray[Any]:
    result = latq.decode(latq.encode(array, bits, **options))
    assert isinstance(result, np.ndarray)
    return result


def distortion(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    return float(((x - y) ** 2).sum() / (x**2).sum())


class TestRate:
    @pytest.mark.parametrize(("bits", "most_lost"), [(2.25, 0.31), (3.25, 0.28), (4.25, 0.285), (10.3, 0.33)])
    def test_lands_under_the_rate_with_few_bits_lost(self, bits: float, most_lost: float) -> None:
        x = gaussian(4096, 257)
        data = latq.encode(x, bits, coding="fixed")
        rate = 8 * len(data) / x.size
        assert bits - 0.1 < rate <= bits
        lost = rate + 0.5 * np.log2(distortion(x, latq.decode(data)))  # type: ignore[arg-type]
        assert 0.2 < lost < most_lost  # no fixed-length E8 code loses less than 0.2

    @pytest.mark.parametrize("bits", [2.1, 2.6, 3.0, 3.4, 3.9, 4.4, 5.6, 7.1])
    def test_any_rate_from_two_bits(self, bits: float) -> None:
        x = gaussian(1000, 1100)
        assert bits - 0.11 < 8 * len(latq.encode(x, bits, coding="fixed")) / x.size <= bits

    def test_small_vectors_pay_for_their_scales(self) -> None:
        x = gaussian(50, 21000)
        data = latq.encode(x, 4)
        assert 3.89 < 8 * len(data) / x.size <= 4
        assert distortion(x, latq.decode(data)) < 0.0135  # type: ignore[arg-type]

    def test_more_bits_less_error(self) -> None:
        x = gaussian(700, 60)
        errors = [distortion(x, decoded(x, bits)) for bits in (1.3, 2, 3, 4, 6, 8, 10, 12)]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 3e-7

    @pytest.mark.parametrize("bits", [0, 0.2, 13, -1, float("nan"), float("inf")])
    def test_impossible_rates(self, bits: float) -> None:
        with pytest.raises(latq.ParameterError):
            latq.encode(gaussian(64, 64), bits)

    @pytest.mark.parametrize("name", ["codec", "coding", "error_of", "rotation", "precision", "nonfinite", "effort"])
    def test_unknown_choices(self, name: str) -> None:
        with pytest.raises(latq.ParameterError, match=f"{name} 'other' is not one of"):
            latq.encode(gaussian(64, 64), **{name: "other"})  # type: ignore[arg-type]

    def test_no_room_for_scales(self) -> None:
        unequal = (gaussian(3, 4000) * np.exp2(np.linspace(-50, 50, 4000))).astype(np.float32)
        for x, options in ((unequal, {}), (gaussian(3, 4000), {"centre": True})):
            with pytest.raises(latq.ParameterError, match="4 bits are too little for vectors of 3 entries"):
                latq.encode(x, 4, coding="fixed", **options)


class TestAccuracy:
    @pytest.mark.parametrize("n", LENGTHS)
    def test_every_length(self, n: int) -> None:
        x = gaussian(n, 40 if n < 50_000 else 12) + 1
        data = latq.encode(x, 6)
        y = latq.decode(data)
        assert isinstance(y, np.ndarray)
        assert y.shape == x.shape
        assert y.dtype == x.dtype
        assert distortion(x, y) < (0.3 if n < 50 else 0.0015)
        accuracy = accuracy_of(latq.open(data)["data"])
        if accuracy is not None:
            assert accuracy.decode_error == pytest.approx(distortion(x, y), rel=1e-3)

    @pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ml_dtypes.bfloat16])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_dtypes_and_orders(self, dtype: Any, order: Any) -> None:
        x = np.asarray(gaussian(300, 100), order=order).astype(dtype)
        y = decoded(x, 5)
        assert y.dtype == x.dtype
        assert distortion(x, y) < 0.003

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_axes(self, axis: int) -> None:
        x = gaussian(40, 50, 60)
        assert distortion(x, decoded(x, 5, axis=axis)) < 0.004
        moved = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
        assert (np.moveaxis(decoded(x, 5, axis=axis), axis, 0).reshape(moved.shape) == decoded(moved, 5)).all()

    @pytest.mark.parametrize("magnitude", [1e-44, 1e-30, 1.0, 1e30, 1e38])
    def test_magnitudes(self, magnitude: float) -> None:
        x = (gaussian(256, 30).clip(-3, 3).astype(np.float64) * magnitude).astype(np.float32)
        assert distortion(x, decoded(x, 6)) < (0.2 if magnitude < 1e-40 else 0.001)

    def test_vectors_of_very_different_size_keep_their_own_accuracy(self) -> None:
        x = gaussian(512, 24) * 10.0 ** np.linspace(-18, 18, 24).astype(np.float32)
        y = decoded(x, 5)
        assert all(distortion(x[:, i], y[:, i]) < 0.003 for i in range(24))

    def test_zeros_are_exact(self) -> None:
        x = np.zeros((300, 20), np.float32)
        assert decoded(x, 4).tobytes() == x.tobytes()
        x = gaussian(300, 20)
        x[:, 5:9] = 0
        y = decoded(x, 4)
        assert y[:, 5:9].tobytes() == x[:, 5:9].tobytes()

    def test_centring_makes_constants_exact(self) -> None:
        x = np.repeat(np.linspace(-5, 5, 40, dtype=np.float32)[None], 500, axis=0)
        assert decoded(x, 4) == pytest.approx(x, rel=1e-6)

    def test_centring_is_chosen_where_it_pays(self) -> None:
        with_mean, without = gaussian(600, 50) + 3, gaussian(600, 50)
        assert latq.open(latq.encode(with_mean, 4))["data"].codec.centre  # type: ignore[union-attr]
        assert not latq.open(latq.encode(without, 4))["data"].codec.centre  # type: ignore[union-attr]
        kept, taken_out = (distortion(with_mean, decoded(with_mean, centre=c, coding="fixed")) for c in (False, True))
        assert taken_out < kept / 5

    def test_rotation_spreads_outliers(self) -> None:
        x = gaussian(1024, 40)
        x[7] *= 100
        assert distortion(x, decoded(x, 4, coding="fixed")) < 0.01
        assert distortion(x, decoded(x, 4, coding="fixed", rotation="none")) > 0.01

    def test_same_bytes_from_any_thread_count(self) -> None:
        x = gaussian(3000, 380)
        assert latq.encode(x, 3.3, threads=3) == latq.encode(x, 3.3)


class TestLossless:
    @pytest.mark.parametrize("dtype", ["int8", "uint64", "bool", "int32", ml_dtypes.float8_e4m3fn])
    def test_other_dtypes(self, dtype: Any) -> None:
        x = np.random.default_rng(0).integers(0, 2, (37, 11)).astype(dtype)
        assert decoded(x).tobytes() == x.tobytes()

    @given(shape=st.lists(st.integers(0, 5), max_size=4).map(tuple))
    @settings(max_examples=30, deadline=None)
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        x = np.asarray(gaussian(*shape))
        y = decoded(x, codec="raw")
        assert y.shape == shape
        assert y.tobytes() == x.tobytes()

    def test_not_finite(self) -> None:
        x = gaussian(200, 30)
        x[3, 4], x[150, 2] = np.nan, -np.inf
        with pytest.raises(latq.InputError, match=r"first at \[3, 4\]"):
            latq.encode(x)
        assert decoded(x, nonfinite="raw").tobytes() == x.tobytes()

    def test_several_chunks(self) -> None:
        x = np.arange(2_500_000, dtype=np.int64).reshape(50, -1)
        data = latq.encode(x)
        assert len(data) < x.nbytes / 2
        tensor = latq.open(data)["data"]
        assert (tensor.decode() == x).all()
        assert (tensor[20:23, ::-7] == x[20:23, ::-7]).all()


@pytest.fixture(scope="module")
def stored() -> tuple[latq.File, dict[str, npt.NDArray[Any]]]:
    """A file of several tensors, many chunks, with its decoded arrays."""
    arrays = {
        "wide": gaussian(40_000, 70),
        "cube": gaussian(30, 80, 90),
        "line": gaussian(40_000),
        "flags": np.random.default_rng(1).integers(0, 2, (300, 5)).astype(bool),
    }
    buffer = io.BytesIO()
    from latq.pipeline.decide import EncodeOptions
    from latq.pipeline.encode import encode_source, source_of

    encode_source(source_of(arrays), "arrays", buffer, EncodeOptions(bits=3))
    file = latq.open(buffer.getvalue())
    return file, {name: tensor.decode() for name, tensor in file.items()}


INDICES = st.one_of(
    st.integers(-30, 29),
    st.builds(slice, *[st.none() | st.integers(-100, 100)] * 2, st.none() | st.sampled_from([1, 2, -1, -3])),
)


class TestRandomAccess:
    @given(data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_indexing_is_that_of_numpy(self, stored: Any, data: st.DataObject) -> None:
        file, arrays = stored
        name = data.draw(st.sampled_from(["cube", "line", "flags"]))
        key = tuple(data.draw(st.lists(INDICES, max_size=arrays[name].ndim)))
        if data.draw(st.booleans()):
            key = (*key[:1], ..., *key[1:])
        try:
            expected = arrays[name][key]
        except IndexError:
            with pytest.raises(IndexError):
                file[name][key]
            return
        got = file[name][key]
        assert got.shape == expected.shape
        assert (got == expected).all()

    def test_only_the_needed_chunks_are_read(self, stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        file, arrays = stored
        seen: list[int] = []
        payload = file.reader.payload
        monkeypatch.setattr(file.reader, "payload", lambda record: seen.append(record.chunk) or payload(record))
        tensor = file["wide"]
        assert len(tensor.records) > 4
        assert (tensor[33_000:, 2:4] == arrays["wide"][33_000:, 2:4]).all()
        assert len(seen) == 1

    def test_vectors(self, stored: Any) -> None:
        file, arrays = stored
        assert (file["wide"].vectors(10, 20) == arrays["wide"][:, 10:20].T).all()
        assert (file["cube"].vectors(79, 175, 3, 9) == arrays["cube"].reshape(30, -1)[3:9, 79:175].T).all()
        assert (file["flags"].vectors(1, 3) == arrays["flags"][:, 1:3].T).all()

    def test_fancy_indexing_is_refused(self, stored: Any) -> None:
        with pytest.raises(TypeError, match="decode"):
            stored[0]["cube"][[1, 2]]

    def test_names(self, stored: Any) -> None:
        file, _ = stored
        assert sorted(file) == ["cube", "flags", "line", "wide"]
        with pytest.raises(latq.InputError, match="no tensor 'x'; there are: cube"):
            file["x"]

    def test_description_adds_up(self, stored: Any) -> None:
        file, _ = stored
        described = describe(file)
        assert sum(described["bytes_by_part"].values()) == described["bytes"] == file.size
        for tensor in described["tensors"]:
            assert sum(tensor["bytes_by_part"].values()) == tensor["bytes"]


def test_save_and_open(tmp_path: Path) -> None:
    path = tmp_path / "two.latq"
    report = latq.save(path, {"a": gaussian(300, 40), "b": gaussian(50, 30)}, bits=5)
    assert report.bytes == path.stat().st_size
    with latq.open(path) as file:
        assert np.asarray(file["a"]).shape == (300, 40)
    with pytest.raises(latq.InputError, match="exists"):
        latq.save(path, gaussian(3, 4))
    latq.save(path, gaussian(300, 4), overwrite=True)
    with path.open("rb") as stream:
        assert latq.decode(stream).shape == (300, 4)  # type: ignore[union-attr]
    assert [p.name for p in tmp_path.iterdir()] == ["two.latq"]
