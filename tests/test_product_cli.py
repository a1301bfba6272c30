"""latq product on the command line: the estimate, its error bars, parts of it, and many files at once."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from latq.cli.main import run as run_command
from latq.cli.resume import FileJournal
from latq.products.blocks import Block
from latq.products.tile import Statistics

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    found, exact = found.astype(np.float64), exact.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def save(path: str, array: np.ndarray) -> str:
    np.save(path, array)
    return path


@pytest.fixture
def pair(run) -> tuple[np.ndarray, np.ndarray]:
    a, b = gaussian(512, 100), gaussian(512, 100, seed=1)
    for name, array in (("a", a), ("b", b)):
        save(f"{name}.npy", array)
        run("encode", f"{name}.npy")
    return a, b


def test_product_and_its_predicted_error(pair, run_json):
    a, b = pair
    exact = a.T.astype(np.float64) @ b
    for estimate in ("unbiased", "shrunk"):
        report = run_json("product", "a.latq", "b.latq", "-o", "c.npy", "-f", "--estimate", estimate)
        found = np.load("c.npy")
        assert found.dtype == np.float32
        assert found.shape == (100, 100)
        assert report["shape"] == [100, 100]
        error = np.linalg.norm(found - exact)
        assert report["predicted_error"] == pytest.approx(error, rel=0.1)
        assert report["predicted_relative_error"] == pytest.approx(error / np.linalg.norm(exact), rel=0.1)
        normalized = error**2 / (np.linalg.norm(a) ** 2 * np.linalg.norm(b) ** 2 / 512)
        assert report["predicted_normalized_error"] == pytest.approx(normalized, rel=0.2)
        assert report["limit"] < normalized < 3 * report["limit"]


@pytest.mark.parametrize("sides", ["a.latq b.npy", "a.npy b.latq", "a.npy b.npy", "a.latq b.h5:/x"])
@pytest.mark.parametrize("output", ["c.npy", "c.h5"])
def test_product_with_a_plain_side(pair, run, run_json, sides, output):
    a, b = pair
    with h5py.File("b.h5", "w") as file:
        file["x"] = b
        file["y"] = b
    report = run_json("product", *sides.split(), "-o", output)
    exact = a.T.astype(np.float64) @ b
    if output == "c.h5":
        with h5py.File(output) as file:
            found = file["data"][()]
    else:
        found = np.load(output)
    error = relative(found, exact)
    if sides == "a.npy b.npy":
        assert error < 1e-5
        assert (report["bits_a"], report["bits_b"]) == (None, None)
    else:
        assert report["predicted_relative_error"] == pytest.approx(error, rel=0.15)
        assert (report["bits_a"] is None) == sides.startswith("a.npy")
        assert (report["bits_b"] is None) == ("b.latq" not in sides)


def test_product_of_named_tensors_along_the_last_axis(run):
    save_file({"q": gaussian(40, 256), "k": gaussian(30, 256, seed=1), "bias": gaussian(30)}, "m.safetensors")
    x = gaussian(256, 20, seed=2)
    save("x.npy", x)
    run("encode", "m.safetensors", "-o", "m.latq")
    run("product", "m.latq", "m.latq", "--tensor-a", "q", "--tensor-b", "k", "-o", "qk.npy")
    run("product", "m.latq", "x.npy", "--tensor-a", "q", "-o", "qx.npy")
    run("product", "m.safetensors", "x.npy", "--tensor-a", "q", "-o", "plain.npy")
    weights = load_file("m.safetensors")
    assert relative(np.load("qk.npy"), weights["q"] @ weights["k"].T) < 0.2
    assert relative(np.load("qx.npy"), weights["q"] @ x) < 0.2
    assert relative(np.load("plain.npy"), weights["q"] @ x) < 1e-5


@pytest.mark.parametrize("means", [(0.0, 3.0), (3.0, 3.0), (-2.0, 0.5)])
def test_product_of_matrices_with_means(run, run_json, means):
    a, b = (gaussian(512, 60, seed=i) + np.float32(mean) for i, mean in enumerate(means))
    save("a.npy", a)
    save("b.npy", b)
    run("encode", "a.npy")
    run("encode", "b.npy")
    exact = a.T.astype(np.float64) @ b
    for sides in (("a.latq", "b.latq"), ("a.latq", "b.npy"), ("a.npy", "b.latq")):
        report = run_json("product", *sides, "-o", "c.npy", "-f")
        error = np.linalg.norm(np.load("c.npy") - exact)
        assert report["predicted_error"] == pytest.approx(error, rel=0.25)


def test_product_of_files_that_were_rotated_differently(run):
    a, b = gaussian(512, 60), gaussian(512, 50, seed=1)
    save("a.npy", a)
    save("b.npy", b)
    run("encode", "a.npy", "--seed", "1")
    for options in ("--seed 2", "--rotation none"):
        run("encode", "b.npy", "-f", *options.split())
        _, err = run("product", "a.latq", "b.latq", "-o", "c.npy", "-f")
        assert "latq: warning:" in err
        assert relative(np.load("c.npy"), a.T.astype(np.float64) @ b) < 0.16


def test_product_of_long_vectors(run, run_json):
    a, b = gaussian(40000, 6), gaussian(40000, 5, seed=1)
    save("a.npy", a)
    save("b.npy", b)
    run("encode", "a.npy")
    run("encode", "b.npy")
    report = run_json("product", "a.latq", "b.latq", "-o", "c.npy")
    error = np.linalg.norm(np.load("c.npy") - a.T.astype(np.float64) @ b)
    assert report["predicted_error"] == pytest.approx(error, rel=0.5)  # Only 30 entries.


def test_product_of_integers(run):
    a, b = np.arange(60).reshape(20, 3), np.arange(40).reshape(20, 2)
    save("a.npy", a)
    save("b.npy", b)
    run("encode", "a.npy")
    run("product", "a.latq", "b.npy", "-o", "c.npy")
    np.testing.assert_allclose(np.load("c.npy"), a.T @ b, rtol=1e-6)


def test_error_bars(pair, run, run_json):
    a, b = pair
    exact = a.T.astype(np.float64) @ b
    report = run_json("product", "a.latq", "b.latq", "-o", "c.npy", "--error-bars", "e.h5")
    assert (report["error_kind"], report["error_bars"]) == ("standard error", "e.h5")
    with h5py.File("e.h5") as file:
        scores = (np.load("c.npy") - exact) / file["data"][()]
    assert 0.93 < (abs(scores) < 1.96).mean() < 0.97
    assert report["error_bound"] is None
    assert report["guaranteed_error"] == pytest.approx(report["predicted_error"], rel=0.25)


def test_bounds_where_nothing_was_rotated(pair, run, run_json):
    _, b = pair
    run("encode", "b.npy", "-f", "--rotation", "none")
    report = run_json("product", "b.latq", "b.latq", "-o", "c.npy", "--error-bars", "e.npy")
    error = abs(np.load("c.npy") - b.T.astype(np.float64) @ b)
    assert report["error_kind"] == "bound"
    assert (error <= np.load("e.npy")).all()
    assert np.linalg.norm(error) <= report["error_bound"]
    _, err = run("product", "b.latq", "a.npy", "-o", "c.npy", "-f")
    assert "error at most" in err


def test_part_of_a_product(pair, run):
    run("product", "a.latq", "b.latq", "-o", "whole.npy", "--error-bars", "bars.npy")
    run("product", "a.latq", "b.latq", "-o", "c.npy", "--error-bars", "e.npy", "--rows", "10:50", "--columns", "-30:")
    assert (np.load("c.npy") == np.load("whole.npy")[10:50, -30:]).all()
    assert (np.load("e.npy") == np.load("bars.npy")[10:50, -30:]).all()


@pytest.mark.parametrize("memory", ["64MiB", "1.5GB"])
def test_memory_changes_no_byte(pair, run, memory):
    run("product", "a.latq", "b.latq", "-o", "c.npy")
    run("product", "a.latq", "b.latq", "-o", "d.npy", "--max-memory", memory, "-j", "2")
    assert Path("c.npy").read_bytes() == Path("d.npy").read_bytes()


@pytest.fixture
def shards(run) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices, each in two files of half the entries (n-...) and in two of half the vectors (v-...)."""
    a, b = gaussian(600, 40), gaussian(600, 30, seed=1)
    for name, x in (("a", a), ("b", b)):
        for part in range(2):
            save("x.npy", x[300 * part : 300 * (part + 1)])
            run("encode", "x.npy", "-o", f"n-{name}-{part}.latq")
            save("x.npy", np.array_split(x, 2, axis=1)[part])
            run("encode", "x.npy", "-o", f"v-{name}-{part}.latq")
    return a, b


def test_shards(shards, run, run_json):
    a, b = shards
    exact = a.T.astype(np.float64) @ b
    report = run_json("product", "n-a-*.latq", "n-b-*.latq", "--shards", "sum", "-o", "c.npy", "--error-bars", "e.npy")
    scores = (np.load("c.npy") - exact) / np.load("e.npy")
    assert scores.std() == pytest.approx(1, abs=0.1)
    assert report["predicted_error"] == pytest.approx(np.linalg.norm(np.load("c.npy") - exact), rel=0.1)
    report = run_json("product", "v-a-*.latq", "v-b-*.latq", "--shards", "columns", "-o", "d.npy")
    assert report["shape"] == [40, 30]
    assert relative(np.load("d.npy"), exact) < 0.2
    run("product", "v-a-*.latq", "v-b-1.latq", "-o", "e.npy", "-f")
    assert (np.load("e.npy") == np.load("d.npy")[:, 15:]).all()


def test_shards_that_do_not_fit(shards, refused):
    assert "--shards sum" in refused(2, "product", "n-a-*.latq", "n-b-*.latq", "-o", "c.npy")
    assert "no file" in refused(1, "product", "q-*.latq", "n-b-0.latq", "-o", "c.npy")
    err = refused(2, "product", "n-a-*.latq", "v-b-*.latq", "--shards", "sum", "-o", "c.npy")
    assert "300 entries" in err
    os.rename("v-a-1.latq", "n-a-2.latq")
    assert "n-a-2.latq" in refused(2, "product", "n-a-*.latq", "n-b-0.latq", "-o", "c.npy")
    assert "as many" in refused(2, "product", "n-a-*.latq", "n-b-*.latq", "--shards", "sum", "-o", "c.npy")


def test_options_that_cannot_be(pair, refused):
    product = "product", "a.latq", "b.latq", "-o", "c.npy"
    assert "64.00 MiB" in refused(2, *product, "--max-memory", "1MB")
    assert "not a size" in refused(2, *product, "--max-memory", "much")
    assert "--rows" in refused(2, *product, "--rows", "200:")
    assert "e.txt" in refused(2, *product, "--error-bars", "e.txt")
    assert ".npy" in refused(2, *product[:-1], "c.h5", "--resume")
    assert not [path for path in os.listdir() if path.startswith(("c.", "e."))]


def test_an_interrupted_product_is_carried_on(pair, run, refused, monkeypatch):
    monkeypatch.setattr("latq.products.blocks._LARGEST_BLOCK", 2000)
    product = ["product", "a.latq", "b.latq", "-o", "c.npy", "--error-bars", "e.npy", "--resume"]
    recorded = []

    def record_few(journal: FileJournal, block: Block, statistics: Statistics) -> None:
        record(journal, block, statistics)
        recorded.append(block)
        if len(recorded) == 2:
            raise KeyboardInterrupt

    record = FileJournal.record
    monkeypatch.setattr(FileJournal, "record", record_few)
    with pytest.raises(KeyboardInterrupt):
        run_command(product)
    assert {"c.npy.part", "c.npy.part.json", "e.npy.part"} <= {*os.listdir()}
    assert not Path("c.npy").exists()
    journal = Path("c.npy.part.json")
    assert journal.read_text().count("\n") == 3
    # As if it had been killed while it wrote a line.
    journal.write_text(journal.read_text() + "[[1, 2")
    assert "other files or options" in refused(1, *product, "--rows", "5:")
    _, err = run(*product)
    assert "carrying on, 2 blocks" in err
    assert len(recorded) == 5
    assert not list(Path().glob("*.part*"))
    run("product", "a.latq", "b.latq", "-o", "d.npy", "--error-bars", "f.npy")
    assert Path("c.npy").read_bytes() == Path("d.npy").read_bytes()
    assert Path("e.npy").read_bytes() == Path("f.npy").read_bytes()
    assert "exists" in refused(1, *product)


def test_a_journal_that_is_damaged(pair, run, refused):
    product = ["product", "a.latq", "b.latq", "-o", "c.npy", "--resume"]
    Path("c.npy.part").write_bytes(b"")
    Path("c.npy.part.json").write_text("{}\n")
    assert "delete it" in refused(1, *product)
    Path("c.npy.part.json").write_text("")
    run(*product)


def test_error_bars_do_not_replace_the_product(run, pair, capsys: pytest.CaptureFixture[str]) -> None:
    for other in ("c.npy", "./c.npy"):
        assert run_command(["product", "a.latq", "b.latq", "-o", "c.npy", "--error-bars", other, "-f"]) == 2
        assert "name another file" in capsys.readouterr().err
    assert not Path("c.npy").exists()
