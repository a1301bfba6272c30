"""latq compare: every figure against NumPy's, and what it refuses."""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latq.cli import main as entry
from latq.errors import CorruptError
from latq.pipeline.measure import Measured, measure
from latq.products import measure as product_measure
from latq.sources import SourceTensor
from latq.theory import product_limit_of

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def run(capsys):
    """Run a command that must succeed: its standard output."""

    def call(*arguments: Any) -> str:
        capsys.readouterr()
        code = entry.run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return call


@pytest.fixture
def compare(run):
    def call(*arguments: Any) -> dict[str, Any]:
        out = run("compare", *arguments, "--json")
        assert out.count("\n") == 1
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return call


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a.npy, of more than one chunk, and m.safetensors; their .latq files, and what these decode to."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "a.npy", gaussian(1100, 1000))
    save_file(CHECKPOINT, folder / "m.safetensors")
    for name, kind in (("a", "npy"), ("m", "safetensors")):
        assert entry.run(["encode", f"{folder}/{name}.{kind}", "-q"]) == 0
        assert entry.run(["decode", f"{folder}/{name}.latq", "-o", f"{folder}/back.{kind}", "-q"]) == 0
    return folder


@pytest.fixture
def single(made) -> np.ndarray:
    """The array of a.npy; a.latq and back.npy lie beside it."""
    for name in ("a.npy", "a.latq", "back.npy"):
        shutil.copy(made / name, name)
    return np.load("a.npy")


@pytest.fixture
def checkpoint(made) -> dict[str, np.ndarray]:
    """What m.latq, beside m.safetensors, decodes to."""
    for name in ("m.safetensors", "m.latq"):
        shutil.copy(made / name, name)
    return load_file(made / "back.safetensors")


CHECKPOINT = {
    "layer.weight": gaussian(64, 96),
    "layer.three": gaussian(5, 40, 64, seed=4),
    "layer.half": gaussian(64, 64, seed=2).astype(np.float16),
    "layer.brain": gaussian(64, 64, seed=3).astype(ml_dtypes.bfloat16),
    "layer.zero": np.zeros((64, 64), np.float32),
    "bias": gaussian(64, seed=1),
    "positions": np.arange(70, dtype=np.int64),
    "mask": np.eye(5, dtype=bool),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
LOSSLESS = {"bias", "positions", "mask", "scalar", "empty"}


def assert_figures(found: dict[str, Any], exact: np.ndarray, back: np.ndarray) -> None:
    exact, back = exact.astype(np.float64), back.astype(np.float64)
    mse = ((exact - back) ** 2).mean()
    assert found["entries"] == exact.size
    assert found["mse"] == pytest.approx(mse)
    assert found["max_error"] == np.abs(exact - back).max()
    if mse == 0:
        assert (found["distortion"], found["relative_error"], found["bits_lost"]) == (0, 0, None)
        return
    distortion = mse / (exact**2).mean()
    assert found["distortion"] == pytest.approx(distortion)
    assert found["relative_error"] == pytest.approx(np.linalg.norm(exact - back) / np.linalg.norm(exact))
    assert found["bits_lost"] == pytest.approx(found["bits_per_entry"] + 0.5 * math.log2(distortion))


# -- distances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_one_matrix(compare, single, threads):
    result = compare("a.npy", "a.latq", "-j", threads)
    assert list(result) == ["ok", "schema", "original", "file", "tensors", "total", "product"]
    assert result["schema"] == "latq.compare/1"
    assert (result["original"], result["file"], result["product"]) == ("a.npy", "a.latq", None)
    (tensor,) = result["tensors"]
    assert list(tensor) == [
        *("name", "shape", "dtype", "codec", "lossless", "entries", "bits_per_entry", "mse", "distortion"),
        *("bits_lost", "relative_error", "max_error"),
    ]
    assert (tensor["name"], tensor["shape"], tensor["dtype"]) == ("data", [1100, 1000], "float32")
    assert tensor["bits_per_entry"] == 8 * Path("a.latq").stat().st_size / single.size
    assert_figures(tensor, single, np.load("back.npy"))
    assert 0.1 < tensor["bits_lost"] < 0.6
    assert result["total"] == {"tensors": 1, **{key: tensor[key] for key in result["total"] if key != "tensors"}}


def test_byte_order_and_memory_order_do_not_matter(compare, single):
    expected = compare("a.npy", "a.latq")["tensors"]
    np.save("b.npy", np.asfortranarray(single.astype(">f4")))
    assert compare("b.npy", "a.latq")["tensors"] == expected


def test_a_checkpoint(compare, run, checkpoint):
    result = compare("m.safetensors", "m.latq")
    rates = {t["name"]: t["bits_per_entry"] for t in json.loads(run("info", "m.latq", "--json"))["tensors"]}
    assert {t["name"] for t in result["tensors"]} == set(CHECKPOINT)
    for tensor in result["tensors"]:
        name = tensor["name"]
        assert tensor["lossless"] == (name in LOSSLESS)
        assert tensor["bits_per_entry"] == pytest.approx(rates[name])
        if tensor["lossless"]:
            assert (tensor["mse"], tensor["max_error"], tensor["bits_lost"]) == (0, 0, None)
        else:
            assert_figures(tensor, CHECKPOINT[name], checkpoint[name])
    quantized = sorted(set(CHECKPOINT) - LOSSLESS)
    exact, back = (
        np.concatenate([x[name].astype(np.float64).ravel() for name in quantized]) for x in (CHECKPOINT, checkpoint)
    )
    assert result["total"]["tensors"] == len(quantized)
    assert_figures(result["total"], exact, back)
    bits = sum(rates[name] * CHECKPOINT[name].size for name in quantized)
    assert result["total"]["bits_per_entry"] == pytest.approx(bits / exact.size)


def test_chosen_tensors(compare, checkpoint):
    result = compare("m.safetensors", "m.latq", "--tensor", "layer.h*", "--tensor", "bias")
    assert [t["name"] for t in result["tensors"]] == ["bias", "layer.half"]
    assert compare("m.safetensors", "m.latq", "--tensor", "bias")["total"] is None


@pytest.mark.parametrize("original", ["a.h5", "a.h5:/air/t"])
def test_hdf5(compare, run, original):
    array = gaussian(80, 70).astype(np.float64) + 280
    with h5py.File("a.h5", "w") as file:
        file["air/t"] = array
        file["air/text"] = "not numeric"
    run("encode", "a.h5:/air/t", "-o", "t.latq", "--axis", "1")
    run("decode", "t.latq", "-o", "t.npy")
    (tensor,) = compare(original, "t.latq")["tensors"]
    assert_figures(tensor, array, np.load("t.npy"))


def test_a_lossless_tensor_tells_nan_and_signed_zero_apart(compare, refused, run):
    array = np.array([[0.0, np.nan], [1.0, -0.0]], np.float32)
    np.save("a.npy", array)
    run("encode", "a.npy", "--codec", "raw")
    assert compare("a.npy", "a.latq")["tensors"][0]["lossless"]
    np.save("a.npy", np.abs(array))
    message = refused(3, "compare", "a.npy", "a.latq")
    assert "a.npy against a.latq: tensor 'data' is kept lossless, yet differs at [1, 1]" in message


def test_a_lossless_tensor_of_many_chunks(refused, run):
    array = np.zeros((3, 1 << 20), np.int8)
    np.save("a.npy", array)
    run("encode", "a.npy")
    run("compare", "a.npy", "a.latq")
    array[2, 77777] = 1
    np.save("a.npy", array)
    assert "differs at [2, 77777]" in refused(3, "compare", "a.npy", "a.latq")


def test_text(run, checkpoint):
    out = run("compare", "m.safetensors", "m.latq")
    assert out.count("identical") == len(LOSSLESS)
    assert "█" in out
    assert all(name in out for name in CHECKPOINT)
    assert "\nquantized " in out


def test_text_is_ascii_where_the_terminal_is(run, monkeypatch):
    save_file({"wörld": gaussian(64, 64)}, "a.safetensors")
    run("encode", "a.safetensors")
    with open("out", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert entry.run(["compare", "a.safetensors", "a.latq"]) == 0
    out = Path("out").read_text()
    assert "w\\xf6rld" in out
    assert "###" in out


def test_measured_sums():
    parts = [Measured(4, 16.0, 8.0, 2.0, 0.5), Measured(12, 16.0, 8.0, 0.0, 0.0)]
    total = Measured.total(parts)
    assert (total.entries, total.rate, total.mse, total.distortion) == (16, 2.0, 0.125, 0.125)
    assert (total.max_error, total.bits_lost) == (0.5, 0.5)
    assert Measured.total([]).rate == 0
    assert Measured(1, 1.0, 0.0, 1.0, 1.0).distortion == math.inf


def test_measure_streams(single):
    """Only blocks of the size of a chunk are asked of the original."""
    from latq import api

    class Watched:
        shape, dtype, largest = single.shape, single.dtype, 0

        def __getitem__(self, index: Any) -> np.ndarray:
            block = single[index]
            self.largest = max(self.largest, block.size)
            return block

    watched = Watched()
    with api.open("a.latq") as file:
        seen: list[int] = []
        found = measure(file.only(), SourceTensor("data", single.shape, "float32", watched), "", progress=seen.append)
    assert 0 < watched.largest < single.size
    assert sum(seen) == single.size
    assert found.entries == single.size


# -- products ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [16, 1 << 10])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_product(compare, run, monkeypatch, tile, mean):
    monkeypatch.setattr(product_measure, "TILE_VECTORS", tile)
    monkeypatch.setattr(product_measure, "PANEL_ENTRIES", 300)
    arrays = {"a": gaussian(512, 90) + np.float32(mean), "b": gaussian(512, 70, seed=1) + np.float32(mean)}
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
        run("encode", f"{name}.npy")
    product = compare("a.npy", "a.latq", "--pair", "b.npy", "b.latq")["product"]
    assert list(product) == [
        *("original_b", "file_b", "tensor_a", "tensor_b", "shape", "limit", "unbiased", "shrunk"),
    ]
    assert (product["original_b"], product["file_b"], product["shape"]) == ("b.npy", "b.latq", [90, 70])
    rates = (8 * Path(f"{name}.latq").stat().st_size / array.size for name, array in arrays.items())
    assert product["limit"] == pytest.approx(product_limit_of(*rates))
    a, b = (array.astype(np.float64) for array in arrays.values())
    exact = a.T @ b
    for estimate in ("unbiased", "shrunk"):
        run("product", "a.latq", "b.latq", "-o", "c.npy", "-f", "--estimate", estimate)
        error = np.linalg.norm(np.load("c.npy") - exact)
        found = product[estimate]
        assert found["error"] == pytest.approx(error)
        assert found["relative_error"] == pytest.approx(error / np.linalg.norm(exact))
        normalized = error**2 / ((a**2).sum() * (b**2).sum() / 512)
        assert found["normalized_error"] == pytest.approx(normalized)
        assert found["over_limit"] == pytest.approx(normalized / product["limit"])
        assert found["over_predicted"] == pytest.approx(1, abs=0.1)
    assert product["unbiased"]["shrink"] == 1
    assert 0 < product["shrunk"]["shrink"] < 1


def test_product_of_tensors_of_one_file(compare, run):
    save_file({"q": gaussian(40, 256), "k": gaussian(30, 256, seed=1), "ids": np.arange(256)[None]}, "m.safetensors")
    run("encode", "m.safetensors")
    pair = ("m.safetensors", "m.latq", "--tensor", "q", "--pair", "m.safetensors", "m.latq", "--tensor-b")
    product = compare(*pair, "k")["product"]
    assert (product["tensor_a"], product["tensor_b"], product["shape"]) == ("q", "k", [40, 30])
    assert product["unbiased"]["over_predicted"] == pytest.approx(1, abs=0.15)
    product = compare(*pair, "ids")["product"]  # Exact on one side.
    assert product["unbiased"]["over_limit"] > 0.5
    assert "product of q and k: 40 x 30" in run("compare", *pair, "k")


def test_product_of_exact_sides(compare, run):
    np.save("a.npy", np.arange(60).reshape(20, 3))
    run("encode", "a.npy")
    product = compare("a.npy", "a.latq", "--pair", "a.npy", "a.latq")["product"]
    assert product["limit"] == 0
    assert product["unbiased"]["relative_error"] < 1e-6
    assert (product["unbiased"]["over_limit"], product["unbiased"]["over_predicted"]) == (None, None)


# -- what is refused ---------------------------------------------------------------------------------------------


def test_mismatches(refused, run):
    np.save("a.npy", gaussian(64, 80))
    run("encode", "a.npy")
    for name, array in {"shape": gaussian(64, 81), "dtype": gaussian(64, 80).astype(np.float64)}.items():
        np.save(f"{name}.npy", array)
    for name, words in {
        "shape": "float32 of shape [64, 81] in the original, but float32 of shape [64, 80] in the file",
        "dtype": "float64 of shape [64, 80] in the original, but float32 of shape [64, 80] in the file",
    }.items():
        message = refused(1, "compare", f"{name}.npy", "a.latq")
        assert f"{name}.npy against a.latq: tensor 'data' is {words}" in message
    save_file({"other": gaussian(64, 80)}, "name.safetensors")
    message = refused(1, "compare", "name.safetensors", "a.latq")
    assert all(word in message for word in ("name.safetensors", "'data'", "other", "a.latq"))
    with h5py.File("name.h5", "w") as file:
        file["other"] = gaussian(64, 80)
    message = refused(1, "compare", "name.h5:/other", "a.latq")
    assert all(word in message for word in ("name.h5:/other", "'data'", "other", "a.latq"))


def test_an_original_that_is_not_finite(refused, run):
    array = gaussian(64, 80)
    np.save("a.npy", array)
    run("encode", "a.npy")
    for value in (np.nan, np.inf):
        array[3, 3] = value
        np.save("a.npy", array)
        assert "a.npy against a.latq: tensor 'data' holds NaN" in refused(1, "compare", "a.npy", "a.latq")


def test_bad_arguments(refused, run):
    np.save("a.npy", gaussian(64, 80))
    np.save("short.npy", gaussian(48, 80))
    save_file({"x": gaussian(64, 64), "y": gaussian(64, 64)}, "two.safetensors")
    for name in ("a.npy", "short.npy", "two.safetensors"):
        run("encode", name)
    assert "none.npy: No such file" in refused(1, "compare", "none.npy", "a.latq")
    assert "none.latq" in refused(1, "compare", "a.npy", "none.latq")
    assert "no tensor matches 'z*'" in refused(1, "compare", "a.npy", "a.latq", "--tensor", "z*")
    assert "standard input" in refused(2, "compare", "-", "-")
    assert "--tensor-b" in refused(2, "compare", "a.npy", "a.latq", "--tensor-b", "x")
    two = ("two.safetensors", "two.latq")
    assert "choose with --tensor: x, y" in refused(2, "compare", *two, "--pair", "a.npy", "a.latq")
    assert "choose with --tensor-b: x, y" in refused(2, "compare", "a.npy", "a.latq", "--pair", *two)
    assert "64 entries" in refused(2, "compare", "a.npy", "a.latq", "--pair", "short.npy", "short.latq")
    assert "p.gif: a plot must end in" in refused(2, "compare", "a.npy", "a.latq", "--plot", "p.gif")


def test_a_damaged_file(refused, single):
    data = bytearray(Path("a.latq").read_bytes())
    data[5000] ^= 1
    Path("a.latq").write_bytes(data)
    assert "a.latq" in refused(CorruptError.exit_code, "compare", "a.npy", "a.latq")


# -- plots -------------------------------------------------------------------------------------------------------


def test_plot(compare, refused, run, checkpoint):
    pytest.importorskip("matplotlib")
    compare("m.safetensors", "m.latq", "--plot", "m.png")
    assert Path("m.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert Path("m.png").stat().st_size > 1000
    assert "m.png: exists" in refused(1, "compare", "m.safetensors", "m.latq", "--plot", "m.png")
    save_file({"$x$": gaussian(64, 64), "_日本": gaussian(64, 64)}, "names.safetensors")
    run("encode", "names.safetensors")
    run("compare", "names.safetensors", "names.latq", "--plot", "names.svg")
    assert Path("names.svg").stat().st_size > 1000
    run("compare", "m.safetensors", "m.latq", "--tensor", "bias", "--plot", "nothing.pdf")
    assert Path("nothing.pdf").read_bytes().startswith(b"%PDF")


def test_a_failed_comparison_leaves_no_plot(refused, single):
    pytest.importorskip("matplotlib")
    np.save("a.npy", single[:, 1:])
    refused(1, "compare", "a.npy", "a.latq", "--plot", "p.png")
    assert sorted(p.name for p in Path().iterdir()) == ["a.latq", "a.npy", "back.npy"]


def test_without_matplotlib(compare, refused, single, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'latq[plot]'" in refused(2, "compare", "a.npy", "a.latq", "--plot", "p.png")
    assert compare("a.npy", "a.latq")["ok"]
