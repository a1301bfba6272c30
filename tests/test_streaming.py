"""Threads, panels and files larger than memory: the same bytes and arrays as without them."""

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import latq
from latq.errors import InputError
from latq.pipeline.decide import EncodeOptions
from latq.pipeline.encode import encode_source, source_of
from latq.pipeline.pool import ordered_flat_map, ordered_map
from latq.pipeline.restore import restore
from latq.sources import TensorSpec, files, open_sink, open_source


def gaussian(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def encoded(arrays: dict[str, npt.NDArray[Any]], **options: Any) -> bytes:
    stream = io.BytesIO()
    encode_source(source_of(arrays), "arrays", stream, EncodeOptions(**options))
    return stream.getvalue()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, and panels of few of them, for arrays of some thousand entries."""
    monkeypatch.setattr("latq.pipeline.tiling.CHUNK_ENTRIES", 1 << 10)
    monkeypatch.setattr("latq.pipeline.raw.CHUNK_ENTRIES", 1000)
    monkeypatch.setattr("latq.pipeline.restore.PANEL_BYTES", 3 << 12)


# --- threads ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("small", [0, 1 << 22])
def test_threads_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr("latq.pipeline.encode.SMALL_ENTRIES", small)
    arrays: dict[str, npt.NDArray[Any]] = {f"m{i}": gaussian(64 + i, 50, seed=i) for i in range(9)}
    arrays["n"] = np.arange(7000)
    assert encoded(arrays, threads=1) == encoded(arrays, threads=3)


@pytest.mark.usefixtures("small_chunks")
def test_kept_panels_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    x = gaussian(70, 90)
    kept = encoded({"x": x})
    monkeypatch.setattr("latq.pipeline.panels.KEPT_BYTES", 0)
    assert encoded({"x": x}) == kept


def test_the_first_bad_tensor_is_named() -> None:
    arrays = {f"m{i}": gaussian(32, 32, seed=i) for i in range(8)}
    arrays["m3"][1, 2] = np.nan
    arrays["m6"][1, 2] = np.nan
    with pytest.raises(InputError, match=r"'m3' is not finite, first at \[1, 2\]"):
        encoded(arrays, threads=4)


def test_order_and_laziness_of_a_map() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            drawn.append(i)
            yield i

    found = ordered_map(lambda i: i * i, items(), threads=3, ahead=2)
    assert next(found) == 0
    assert len(drawn) <= 3 + 2
    assert list(found) == [i * i for i in range(1, 100)]


def test_an_abandoned_map_stops_its_threads() -> None:
    # The second item would go on for ever.
    found = ordered_flat_map(lambda item: [item] if item == 0 else itertools.count(), range(5), threads=2)
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]


def test_an_error_stops_the_other_threads() -> None:
    def work(item: int) -> Iterator[int]:
        if item == 0:
            raise InputError("the first")
        return itertools.count()

    with pytest.raises(InputError, match="the first"):
        list(ordered_flat_map(work, range(5), threads=2))


# --- decoding into files ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("suffix", [".npy", ".h5", ".safetensors"])
@pytest.mark.parametrize(("shape", "axis"), [((60, 101), 0), ((60, 101), 1), ((30, 7, 40), 1), ((33, 9, 20), 0)])
def test_decoding_into_files(tmp_path: Path, shape: tuple[int, ...], axis: int, suffix: str, threads: int) -> None:
    data = latq.encode(gaussian(*shape), 5, axis=axis)
    path = tmp_path / f"out{suffix}"
    with latq.open(data) as file:
        tensor = file.only()
        expected = tensor.decode()
        done: list[int] = []
        with open_sink(path, suffix[1:], [TensorSpec("data", shape, "float32")]) as sink:  # type: ignore[arg-type]
            restore([(tensor, sink.target("data"))], threads, done.append)
    assert sum(done) == tensor.size
    assert len(done) > 2
    np.testing.assert_array_equal(_loaded(path), expected)


@pytest.mark.usefixtures("small_chunks")
def test_decoding_a_lossless_tensor_into_a_file(tmp_path: Path) -> None:
    x = np.arange(3 * 50 * 41).reshape(3, 50, 41)
    spec = TensorSpec("data", x.shape, "int64")
    with latq.open(latq.encode(x)) as file, open_sink(tmp_path / "x.npy", "npy", [spec]) as sink:
        restore([(file.only(), sink.target("data"))], 2)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x)


def _loaded(path: Path) -> npt.NDArray[Any]:
    if path.suffix == ".npy":
        return np.asarray(np.load(path))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return np.asarray(file["data"][...])
    return np.asarray(load_file(path)["data"])


@given(st.data())
def test_slices_of_an_array_in_a_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 5), max_size=4)))
    path = tmp_path_factory.mktemp("slices") / "x.npy"
    with open_sink(path, "npy", [TensorSpec("data", shape, "float64")]) as sink:
        target = sink.target("data")
        expected = np.zeros(shape)
        for value in range(1, 4):
            bounds = [sorted(data.draw(st.tuples(st.integers(0, s), st.integers(0, s)))) for s in shape]
            index = tuple(slice(*pair) for pair in bounds)
            block = np.arange(expected[index].size, dtype=np.float64).reshape(expected[index].shape) + 100 * value
            target[index] = block
            expected[index] = block
            np.testing.assert_array_equal(target[index], block)
    np.testing.assert_array_equal(np.load(path), expected)


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1])
def test_mapped_pages_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    x = gaussian(3000, 500)
    np.save(tmp_path / "x.npy", x)
    expected = encoded({"data": x}, axis=axis)
    monkeypatch.setattr(files, "MAX_RESIDENT", 0)
    stream = io.BytesIO()
    with open_source(tmp_path / "x.npy") as source:
        encode_source(source, "x", stream, EncodeOptions(axis=axis))
        files.release_pages()
        before = files._resident_bytes()
        np.asarray(source.tensors[0].array).sum()
        touched = files._resident_bytes()
        files.release_pages()
        released = files._resident_bytes()
    assert stream.getvalue() == expected
    if before:  # Where the system tells.
        assert touched - before > x.nbytes // 2
        assert released <= before + x.nbytes // 8
