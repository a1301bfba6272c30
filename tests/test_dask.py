"""Lazy Dask arrays and products on a cluster: the same entries as here, only what is needed, and what goes wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latq
from latq.cli.factors import Side, reopen_pairs
from latq.cli.main import run
from latq.errors import InputError, LatqError
from latq.pipeline.decode import Tensor
from latq.products.blocks import Block, Plan
from latq.products.estimator import multiply
from latq.products.tile import Statistics
from latq.sources import atomic_directory

pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")

import dask  # noqa: E402
from distributed import Client, LocalCluster, Scheduler, SpecCluster  # noqa: E402

import latq.dask  # noqa: E402
from latq.dask import arrays, cluster  # noqa: E402

WIDTH = 1600  # Two blocks of products.
pytestmark = pytest.mark.usefixtures("in_tmp_path")
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two processes."""
    with LocalCluster(2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as two:
        yield two.scheduler_address


@pytest.fixture
def here() -> Iterator[None]:
    """Without a cluster, in this thread."""
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def decoded_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that get decoded."""
    found: list[int] = []
    decode = Tensor.rotated

    def counted(self: Tensor, chunk: int) -> Any:
        found.append(chunk)
        return decode(self, chunk)

    monkeypatch.setattr(Tensor, "rotated", counted)
    return found


ARRAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "matrix": (rng.standard_normal((300, 500)).astype(np.float32), {}),
    "last axis": (rng.standard_normal((500, 300)).astype(np.float64), {"axis": 1}),
    "three axes": (rng.standard_normal((20, 40, 30)).astype(np.float16), {"axis": 1}),
    "vector": (rng.standard_normal(70_000).astype(np.float32), {}),
    "lossless": (rng.integers(0, 99, (50, 7, 11)), {}),
    "empty": (np.zeros((0, 5), np.float32), {}),
    "scalar": (np.array(1.5, np.float32), {}),
}


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ARRAYS)
def test_the_same_entries_as_decode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array, options = ARRAYS[name]
    monkeypatch.setattr("latq.pipeline.tiling.CHUNK_ENTRIES", 1 << 12)
    latq.save("a.latq", array, bits=6, **options)
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 1 << 14)
    lazy, decoded = latq.dask.open(Path("a.latq")), latq.decode("a.latq")
    assert isinstance(decoded, np.ndarray)
    assert (lazy.shape, lazy.dtype) == (decoded.shape, decoded.dtype)
    assert lazy.npartitions > 1 or array.size < 2
    np.testing.assert_array_equal(lazy.compute(), decoded, strict=True)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "index",
    [np.s_[3, 10:20], np.s_[::-2, -5:], np.s_[[5, 1], 3:9], np.s_[:, None, 7], np.s_[..., [0, 499]], np.s_[[]]],
)
def test_indices(index: Any) -> None:
    latq.save("a.latq", rng.standard_normal((300, 500)).astype(np.float32))
    np.testing.assert_array_equal(latq.dask.open("a.latq")[index].compute(), latq.decode("a.latq")[index], strict=True)


@pytest.mark.usefixtures("here")
def test_a_slice_decodes_only_its_chunks(decoded_chunks: list[int]) -> None:
    latq.save("a.latq", rng.standard_normal((4096, 2048)).astype(np.float32))  # Chunks of 256 vectors.
    lazy = latq.dask.open("a.latq")
    assert lazy.chunks == ((4096,), (2048,))
    lazy[:, 300:310].compute()
    assert decoded_chunks == [1]


def test_chunks_are_groups_of_those_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    latq.save("a.latq", rng.standard_normal((4096, 2048)).astype(np.float32))
    monkeypatch.setattr(arrays, "CHUNK_BYTES", 9 << 20)
    assert latq.dask.open("a.latq").chunks == ((4096,), (512, 512, 512, 512))


@pytest.mark.usefixtures("here")
def test_a_tensor_by_name() -> None:
    latq.save("two.latq", {"x": np.ones((8, 8), np.float32), "y": np.zeros(5, np.float32)})
    assert latq.dask.open("two.latq", "y").shape == (5,)
    with pytest.raises(InputError, match="holds 2 tensors"):
        latq.dask.open("two.latq")
    with pytest.raises(InputError, match="no tensor 'z'"):
        latq.dask.open("two.latq", "z")
    with pytest.raises(InputError, match=r"nothing\.latq"):
        latq.dask.open("nothing.latq")


@pytest.mark.usefixtures("here")
def test_a_file_that_changes_is_noticed() -> None:
    latq.save("a.latq", np.ones((8, 8), np.float32))
    lazy = latq.dask.open("a.latq")
    latq.save("a.latq", np.zeros((8, 8), np.float32), overwrite=True)
    with pytest.raises(InputError, match="has changed since it was opened"):
        lazy.compute()
    assert not latq.dask.open("a.latq").compute().any()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(tmp_path))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_workers_open_paths_and_urls(address: str, web: str) -> None:
    latq.save("a.latq", rng.standard_normal((300, 500)).astype(np.float32))
    with Client(address, set_as_default=False) as client:
        for place in "a.latq", f"{web}/a.latq":
            found = client.compute(latq.dask.open(place)[:, ::2]).result()
            np.testing.assert_array_equal(found, latq.decode("a.latq")[:, ::2])


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("factors")
    a, b = rng.standard_normal((2, 700, WIDTH)).astype(np.float32)
    latq.save(folder / "a.latq", a)
    latq.save(folder / "b.latq", b)
    latq.save(folder / "low.latq", b, bits=0.5)
    np.save(folder / "b.npy", b)
    long = rng.standard_normal((33_000, 100)).astype(np.float32)
    latq.save(folder / "long.latq", long)
    return folder


def same(one: Path, other: Path) -> bool:
    if one.is_dir():
        files = [sorted(p.relative_to(folder) for p in folder.rglob("*")) for folder in (one, other)]
        return files[0] == files[1] and all(same(one / p, other / p) for p in files[0] if (one / p).is_file())
    return one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("suffix", ["npy", "h5", "zarr"])
def test_a_product_has_the_bytes_of_a_local_one(
    suffix: str, address: str, factors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["product", f"{factors}/a.latq", f"{factors}/b.latq", "--json", "-o"]
    assert run([*arguments, f"here.{suffix}"]) == 0
    said = capsys.readouterr().out
    assert run([*arguments, f"there.{suffix}", "--dask", address]) == 0
    assert same(Path(f"here.{suffix}"), Path(f"there.{suffix}"))
    assert capsys.readouterr().out.replace("there", "here")[:100] == said[:100]
    if suffix == "zarr":
        assert run([*arguments, "c.npy"]) == 0
        np.testing.assert_array_equal(zarr.open_array("there.zarr", mode="r")[:], np.load("c.npy"))


@pytest.mark.parametrize("pair", ["a.latq b.npy", "low.latq a.latq", "long.latq long.latq"])
def test_other_operands(pair: str, address: str, factors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(factors)
    assert run(["product", *pair.split(), "-o", "here.npy", "-f"]) == 0
    assert run(["product", *pair.split(), "-o", "there.npy", "-f", "--dask", address]) == 0
    here, there = np.load("here.npy"), np.load("there.npy")
    if "npy" in pair:  # How BLAS rounds depends on its number of threads.
        np.testing.assert_allclose(there, here, rtol=0, atol=1e-6 * np.abs(here).max())
    else:
        np.testing.assert_array_equal(there, here)


def pair_of(a: Path, b: Path) -> cluster.Opened:
    sides = Side("a", str(a), None, None), Side("b", str(b), None, None)
    return partial(reopen_pairs, *sides, None, slice(None), slice(None))


def test_error_bars_and_report(address: str, factors: Path) -> None:
    opened = pair_of(factors / "a.latq", factors / "b.latq")
    (out, bars), (there, bars_there) = np.empty((2, 2, WIDTH, WIDTH), np.float32)
    with opened() as pairs:
        report = multiply(pairs, out, error_bars=bars)
        with cluster.workers_at(address, 1, opened, pairs) as workers:
            report_there = multiply(pairs, there, error_bars=bars_there, workers=workers)
    np.testing.assert_array_equal(out, there)
    np.testing.assert_array_equal(bars, bars_there)
    assert report_there.shrink == report.shrink
    assert report_there.error == pytest.approx(report.error, rel=1e-6)
    assert report_there.relative == pytest.approx(report.relative, rel=1e-6)


def test_finished_blocks_are_left_alone(address: str, factors: Path) -> None:
    class Earlier:
        def __init__(self) -> None:
            self.recorded: dict[Block, Statistics] = {}

        def finished(self, block: Block) -> Statistics | None:
            return Statistics(1.0) if block.a0 == 0 else None

        def record(self, block: Block, statistics: Statistics) -> None:
            self.recorded[block] = statistics

    opened, journal, told = pair_of(factors / "a.latq", factors / "b.latq"), Earlier(), list[int]()
    out = np.zeros((WIDTH, WIDTH), np.float32)
    with opened() as pairs, cluster.workers_at(address, 1, opened, pairs) as workers:
        multiply(pairs, out, workers=workers, journal=journal, progress=told.append)
    first = min(block.a0 for block in journal.recorded)
    assert 0 < first < WIDTH
    assert not out[:first].any()
    assert out[first:].any(axis=1).all()
    assert sum(told) == out.size


@pytest.mark.parametrize(
    ("a", "message"), [("nowhere.latq", "nowhere.latq: No such file"), ("low.latq", "are others than here")]
)
def test_workers_that_see_other_files(a: str, message: str, address: str, factors: Path) -> None:
    opened = pair_of(factors / "a.latq", factors / "b.latq")
    with (
        opened() as pairs,
        cluster.workers_at(address, 1, pair_of(factors / a, factors / "b.latq"), pairs) as workers,
        pytest.raises(InputError, match=message),
    ):
        multiply(pairs, np.empty((WIDTH, WIDTH), np.float32), workers=workers)


def test_what_is_wrong_on_a_worker_is_one_line(address: str, factors: Path, refused: Callable[..., str]) -> None:
    data = bytearray((factors / "a.latq").read_bytes())
    data[len(data) - len(data) // 3] ^= 1  # Not in what the client samples.
    Path("bad.latq").write_bytes(data)
    options = "-o", "c.zarr", "--dask", address, "--estimate", "unbiased"
    assert "bad.latq: tensor 0 chunk" in refused(3, "product", "bad.latq", factors / "b.latq", *options)
    assert os.listdir() == ["bad.latq"]


def test_a_failure_that_is_not_of_latq(address: str, factors: Path) -> None:
    with (
        pair_of(factors / "a.latq", factors / "b.latq")() as pairs,
        cluster.workers_at(address, 1, divmod, pairs) as workers,  # type: ignore[arg-type]
        pytest.raises(LatqError, match="a Dask worker failed: TypeError: divmod expected 2 arguments"),
    ):
        multiply(pairs, np.empty((WIDTH, WIDTH), np.float32), workers=workers)


def test_clusters_that_are_not_there(
    factors: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE", 0.3)
    product = "product", factors / "a.latq", factors / "b.latq", "-o", "c.npy", "--dask"
    assert "tcp://127.0.0.1:1: no Dask scheduler answers" in refused(1, *product, "tcp://127.0.0.1:1")
    assert "nonsense: no Dask scheduler answers" in refused(1, *product, "nonsense")
    with SpecCluster(scheduler={"cls": Scheduler, "options": {"dashboard_address": ":0"}}) as idle:
        assert "the Dask cluster has no workers" in refused(1, *product, idle.scheduler_address)
    assert os.listdir() == []


def test_the_extra_that_is_missing(factors: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    product = "product", factors / "a.latq", factors / "b.latq"
    for name, arguments in {"distributed": ("-o", "c.npy", "--dask", "local"), "zarr": ("-o", "c.zarr")}.items():
        for loaded in "latq.dask", "latq.dask.cluster", "latq.sources.zarr_arrays":
            monkeypatch.delitem(sys.modules, loaded, raising=False)
        monkeypatch.delattr(latq.sources, "zarr_arrays", raising=False)
        monkeypatch.setitem(sys.modules, name, None)
        assert "pip install 'latq[dask]'" in refused(4, *product, *arguments)
    assert os.listdir() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_local_cluster_and_signals(number: signal.Signals, factors: Path) -> None:
    """It stops in one line and leaves nothing, whatever it was at; its processes share the terminal's Ctrl-C."""
    command = [sys.executable, "-m", "latq", "product", f"{factors}/a.latq", f"{factors}/b.latq", "-o", "c.zarr"]
    with subprocess.Popen(
        [*command, "--dask", "local", "-j", "1"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and not os.listdir():
            time.sleep(0.01)
        time.sleep(0.7)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == f"latq: error: {'interrupted' if number == signal.SIGINT else 'terminated'}\n"
    assert os.listdir() == []


def test_blocks_that_travel_are_of_whole_chunks() -> None:
    plan = Plan.choose(10_000, 9_999, 1, 5_000, 209, 1 << 27).shared((256, 1024))
    assert (plan.rows % 256, plan.columns % 1024) == (0, 0)
    assert sum(block.size for block in plan.blocks()) == 10_000 * 9_999
    assert max(block.size for block in plan.blocks()) <= 1 << 22
    assert Plan.choose(100_000, 100_000, 1, 1, 1 << 20, 1 << 29).shared(None).rows == 4096


def test_a_signal_keeps_the_former_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.zarr").mkdir()
    Path("a.zarr/zarr.json").write_text("former")
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if (source / "new").exists():
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_directory("a.zarr", force=True, holds="zarr.json") as temporary:
        (temporary / "new").touch()
    assert os.listdir() == ["a.zarr"]
    assert Path("a.zarr/zarr.json").read_text() == "former"


def test_zarr_outputs(factors: Path, refused: Callable[..., str]) -> None:
    assert run(["decode", f"{factors}/b.latq", "-o", "b.zarr"]) == 0
    np.testing.assert_array_equal(zarr.open_array("b.zarr", mode="r")[:], latq.decode(factors / "b.latq"))
    decode = "decode", factors / "a.latq", "-o"
    assert "b.zarr: exists; use -f" in refused(1, *decode, "b.zarr")
    assert run([*map(str, decode), "b.zarr", "-f"]) == 0
    np.testing.assert_array_equal(zarr.open_array("b.zarr", mode="r")[:], latq.decode(factors / "a.latq"))
    Path("other.zarr").mkdir()
    assert "other.zarr: exists and is something else" in refused(1, *decode, "other.zarr", "-f")
    assert "zarr is written, not read" in refused(1, "encode", "b.zarr", "-o", "b.latq")
    latq.save("two.latq", {"x": np.ones((8, 8), np.float32), "y": np.zeros(5, np.float32)})
    assert "a .zarr holds one array" in refused(2, "decode", "two.latq", "-o", "two.zarr")
    assert "outputs are local files" in refused(1, *decode, "s3://bucket/c.zarr")
    assert sorted(os.listdir()) == ["b.zarr", "other.zarr", "two.latq"]
