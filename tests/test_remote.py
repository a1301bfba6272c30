"""Files behind URLs: the bytes that are asked for, the same results as from the disk, and what goes wrong."""

import io
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latq
from latq.cli.main import run
from latq.container import remote
from latq.container.ahead import AHEAD_BYTES, JOINED_BYTES, ReadAhead

fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("in_tmp_path")

TAIL = 64 << 10
PREAMBLE = 64


class Web(ThreadingHTTPServer):
    """A web server of files in memory that counts what it sends."""

    daemon_threads = True
    block_on_close = False
    ranges = True
    announced = True  # Whether it says how long a file is.
    status = 200
    cut_after = 1 << 40  # Bytes of a body before the connection is cut.

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.goes_on, self.stalled = threading.Event(), threading.Event()
        self.goes_on.set()  # Cleared: chunks are not sent.
        self.requests: list[tuple[str, int]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may leave when they like."""

    def put(self, name: str, data: bytes) -> str:
        self.files[f"/{name}"] = data
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def sizes(self, method: str = "GET") -> list[int]:
        return [size for m, size in self.requests if m == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Web

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        body = self._answer()
        if not self.server.announced:
            self.close_connection = True
        if len(body) > self.server.cut_after:
            body = body[: self.server.cut_after]
            self.close_connection = True
        if len(body) > TAIL and not self.server.goes_on.is_set():
            self.server.stalled.set()
            self.server.goes_on.wait()
        self.wfile.write(body)

    def _answer(self) -> bytes:
        data = self.server.files.get(self.path)
        status = 404 if data is None else self.server.status
        body = b"" if data is None or status != 200 else data
        asked = self.headers["Range"]
        if asked and self.server.ranges and status == 200:
            start, stop = map(int, asked.removeprefix("bytes=").split("-"))
            status, body = 206, body[start : stop + 1]
        self.server.requests.append((self.command, len(body)))
        self.send_response(status)
        if self.server.announced:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    pytest.importorskip("aiohttp")
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def memory() -> Iterator[Callable[[str, bytes], str]]:
    files = fsspec.filesystem("memory")

    def put(name: str, data: bytes) -> str:
        files.pipe_file(f"/latq/{name}", data)
        return f"memory://latq/{name}"

    yield put
    files.rm("/latq", recursive=True)


@pytest.fixture(params=["memory", "http"])
def put(request: pytest.FixtureRequest) -> Callable[[str, bytes], str]:
    """Publish a file: its URL."""
    if request.param == "memory":
        return request.getfixturevalue("memory")
    return request.getfixturevalue("web").put


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((256, 20000)).astype(np.float32)


@pytest.fixture(scope="module")
def data(array: np.ndarray) -> bytes:
    """5 chunks of 4096 vectors, about half a megabyte each."""
    return latq.encode(array, bits=4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Quantized and lossless tensors, some of them tiny."""
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("checkpoint") / "c.latq"
    arrays: dict[str, Any] = {f"w{i}": rng.standard_normal((64, 300)).astype(np.float32) for i in range(12)}
    latq.save(path, {**arrays, "ids": np.arange(300_000), "one": np.float64(3.5), "none": np.zeros((0, 3))})
    return path.read_bytes()


def chunk_sizes(data: bytes) -> list[int]:
    with latq.open(data) as file:
        return [32 + record.payload_len for record in file.reader.records]


# The same as from the disk.


def test_decodes_as_from_memory(put: Callable[[str, bytes], str], data: bytes, checkpoint: bytes) -> None:
    for name, content in (("a.latq", data), ("c.latq", checkpoint)):
        url = put(name, content)
        with latq.open(content) as here, latq.open(url) as there:
            assert there.size == here.size == len(content)
            assert there.name == url
            for threads in (1, 3):
                for key, tensor in there.items():
                    np.testing.assert_array_equal(tensor.decode(threads), here[key].decode())
            for key, tensor in there.items():
                if tensor.ndim == 2:
                    np.testing.assert_array_equal(tensor[3:9, 50:290], here[key][3:9, 50:290])


def test_commands_read_urls(
    put: Callable[[str, bytes], str], data: bytes, array: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    url = put("a.latq", data)
    Path("a.latq").write_bytes(data)
    np.save("a.npy", array)
    for verb in (
        ["info", "{}"],
        ["verify", "{}"],
        ["decode", "{}", "-o", "out.npy", "-f"],
        ["decode", "{}", "-o", "out.h5", "-f", "--columns", "4000:4200", "-j", "3"],
        ["compare", "a.npy", "{}"],
    ):
        found = []
        for place in (url, "a.latq"):
            assert run([part.format(place) for part in verb]) == 0
            written = [path.read_bytes() for path in sorted(Path().glob("out.*"))]
            found.append((capsys.readouterr().out.replace(place, "FILE"), written))
        assert found[0] == found[1]


def test_product_reads_urls(put: Callable[[str, bytes], str], array: np.ndarray) -> None:
    content = latq.encode(array[:, :600], bits=5)
    expected = latq.product(content, content)
    url = put("b.latq", content)
    np.testing.assert_array_equal(latq.product(url, content, threads=2), expected)
    assert run(["product", url, url, "-o", "c.npy"]) == 0
    np.testing.assert_array_equal(np.load("c.npy"), expected)


def test_chained_urls(memory: Callable[[str, bytes], str], data: bytes) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/a.latq", data)
    url = memory("a.zip", archive.getvalue())
    for chained in (f"zip://in/a.latq::{url}", f"simplecache::{memory('a.latq', data)}"):
        np.testing.assert_array_equal(latq.decode(chained, threads=3), latq.decode(data))


# Only what is needed.


def test_opening_reads_the_tail_once(web: Web, data: bytes) -> None:
    url = web.put("a.latq", data)
    assert run(["info", url]) == 0
    assert web.sizes() == [TAIL, PREAMBLE]
    assert len(web.sizes("HEAD")) == 1


def test_a_small_file_is_one_request(web: Web, array: np.ndarray) -> None:
    content = latq.encode(array[:, :300], bits=4)
    assert len(content) < TAIL
    latq.decode(web.put("a.latq", content))
    assert web.sizes() == [len(content)]


def test_a_column_range_reads_its_chunk(web: Web, data: bytes) -> None:
    assert run(["decode", web.put("a.latq", data), "-o", "out.npy", "--columns", "100:200"]) == 0
    assert web.sizes() == [TAIL, PREAMBLE, chunk_sizes(data)[0]]


def test_neighbouring_chunks_are_joined(web: Web, data: bytes) -> None:
    assert sum(chunk_sizes(data)) < JOINED_BYTES
    latq.decode(web.put("a.latq", data))
    assert len(web.sizes()) == 3
    assert sum(web.sizes()) < len(data) + TAIL


def test_chunks_of_different_tensors_are_joined(web: Web, checkpoint: bytes) -> None:
    latq.decode(web.put("c.latq", checkpoint))
    assert len(web.sizes()) == 3


# What goes wrong.


def test_servers_without_ranges_send_a_file_once(web: Web, data: bytes) -> None:
    web.ranges = False
    url = web.put("a.latq", data)
    # All but the download are abandoned at their headers: a range, or two looks at how long the file is.
    for announced, requests in ((True, 2), (False, 3)):
        web.announced = announced
        web.requests.clear()
        with latq.open(url) as file:
            assert file.name == url
            np.testing.assert_array_equal(file["data"].decode(2), latq.decode(data))
        assert len(web.sizes()) == requests


def test_large_files_need_ranges(
    web: Web, data: bytes, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_DOWNLOAD", 1 << 20)
    web.ranges = False
    url = web.put("a.latq", data)
    for announced in (True, False):
        web.announced = announced
        assert "does not serve ranges of bytes" in refused(1, "info", url)


@pytest.mark.parametrize(("status", "says"), [(403, "403 Forbidden"), (500, "500 Internal Server Error")])
def test_refusals(web: Web, data: bytes, refused: Callable[..., str], status: int, says: str) -> None:
    url = web.put("a.latq", data)
    web.status = status
    assert f"{url}: the server answers {says}" in refused(1, "info", url)


def test_missing_files(web: Web, memory: Callable[..., str], refused: Callable[..., str]) -> None:
    web.put("a.latq", b"")
    memory("a.latq", b"")
    port = web.server_port
    assert "404 Not Found" in refused(1, "info", f"http://127.0.0.1:{port}/b.latq")
    assert "no such file" in refused(1, "info", "memory://latq/b.latq")
    assert "is a directory" in refused(1, "info", "memory://latq")
    with pytest.raises(latq.InputError):
        latq.open("memory://latq/b.latq")


def test_connection_refused(web: Web, refused: Callable[..., str]) -> None:
    url = web.put("a.latq", b"")
    web.server_close()
    assert "Cannot connect" in refused(1, "info", url)


@pytest.mark.parametrize("place", ["opening", "decoding"])
def test_a_connection_that_is_cut(web: Web, data: bytes, refused: Callable[..., str], place: str) -> None:
    url = web.put("a.latq", data)
    web.cut_after = {"opening": TAIL // 2, "decoding": 2 * TAIL}[place]
    assert url in refused(1, "decode", url, "-o", "out.npy", "-j", "3")
    assert list(Path().iterdir()) == []


def test_a_file_that_changes(
    put: Callable[[str, bytes], str], data: bytes, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = put("a.latq", data)
    for other in (latq.encode(array + 1, bits=4), data[: len(data) // 2], b""):
        put("a.latq", data)
        with latq.open(url) as file:
            put("a.latq", other)
            with pytest.raises((latq.CorruptError, latq.InputError)):
                file["data"].decode()


@pytest.mark.parametrize("content", [b"", b"x", bytes(100_000)])
def test_what_is_no_latq_file(put: Callable[[str, bytes], str], refused: Callable[..., str], content: bytes) -> None:
    assert "not a latq file" in refused(3, "info", put("a.latq", content))


def test_damage_is_found(put: Callable[[str, bytes], str], data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    assert run(["verify", put("a.latq", bytes(damaged))]) == 3
    assert "chunk 2" in capsys.readouterr().err
    with latq.open(put("a.latq", bytes(damaged))) as file:
        for threads in (1, 2):
            with pytest.raises(latq.CorruptError):
                file["data"].decode(threads)
        np.testing.assert_array_equal(file["data"][:, 15000:], latq.decode(data)[:, 15000:])


def test_unknown_protocols_and_missing_packages(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Protocol not known" in refused(1, "info", "nothing://a.latq")
    for package in ("fsspec.core", "fsspec"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "latq[remote]" in refused(1, "info", "https://example.org/a.latq")


def test_only_latq_files_come_from_urls(memory: Callable[[str, bytes], str], refused: Callable[..., str]) -> None:
    url = memory("a.npy", b"")
    assert "only .latq files" in refused(1, "encode", url)
    assert "only .latq files" in refused(1, "product", url, url, "-o", "c.npy")
    np.save("a.npy", np.ones((8, 8), np.float32))
    assert "local files" in refused(1, "encode", "a.npy", "-o", "memory://latq/out.latq")


@pytest.mark.parametrize("columns", [[], ["--columns", "0:9"]])
def test_signals_stop_a_command_that_waits(web: Web, data: bytes, columns: list[str]) -> None:
    url = web.put("a.latq", data)
    web.goes_on.clear()
    command = [sys.executable, "-m", "latq", "decode", url, "-o", "out.npy", "-j", "3", *columns]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        web.stalled.wait(timeout=60)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    web.goes_on.set()
    assert process.returncode == 143
    assert err == "latq: error: terminated\n"
    assert list(Path().iterdir()) == []


def test_a_command_ends_with_its_connections() -> None:
    """Threads and connections of the libraries neither hold a process nor say anything at its end."""
    command = [sys.executable, "-m", "latq", "info", "http://127.0.0.1:9/a.latq"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


# Reading ahead.


class Slow:
    """Bytes 0, 1, ..., 250, 0, ... and what was fetched of them."""

    def __init__(self) -> None:
        self.fetched: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> bytes:
        self.fetched.append((start, stop))
        return self.content(start, stop)

    @staticmethod
    def content(start: int, stop: int) -> bytes:
        first = start % 251
        return (bytes(range(251)) * ((stop - start) // 251 + 2))[first : first + stop - start]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def ahead(slow: Slow) -> Iterator[ReadAhead]:
    reader = ReadAhead(slow)
    yield reader
    reader.close()


def test_what_is_expected_is_fetched_once(slow: Slow, ahead: ReadAhead) -> None:
    ranges = [(i * 1_000_064, 1_000_000) for i in range(100)]
    with ahead.expecting(ranges), ThreadPoolExecutor(4) as pool:
        for place, found in zip(ranges, pool.map(lambda r: ahead.read(*r), ranges), strict=True):
            assert found == Slow.content(place[0], sum(place))
    assert len(slow.fetched) == 25
    assert max(stop - start for start, stop in slow.fetched) <= JOINED_BYTES


def test_what_is_ahead_is_bounded_and_forgotten(slow: Slow, ahead: ReadAhead) -> None:
    ranges = [(i << 20, 1 << 20) for i in range(200)]
    with ahead.expecting(ranges):
        ahead.read(*ranges[0])
    ahead.read(*ranges[-1])
    assert sum(stop - start for start, stop in slow.fetched) <= AHEAD_BYTES + (1 << 20)
    with ahead.expecting(ranges[:3]):
        assert ahead.read(*ranges[1]) == Slow.content(*(x << 20 for x in (1, 2)))


def test_any_order_and_the_unexpected(slow: Slow, ahead: ReadAhead) -> None:
    ranges = [(i << 21, 1 << 20) for i in range(60)]
    with ahead.expecting(ranges), ahead.expecting(ranges[:10]):
        for offset, length in [*reversed(ranges), *ranges[:5], (7, 0), (3, 5)]:
            assert ahead.read(offset, length) == Slow.content(offset, offset + length)
    assert len(slow.fetched) == 67


def test_nobody_waits_for_what_is_not_expected_any_more() -> None:
    asked, answered = threading.Event(), threading.Event()

    def fetch(start: int, stop: int) -> bytes:
        asked.set()
        answered.wait()
        return bytes(stop - start)

    ahead = ReadAhead(fetch)
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(KeyError), ahead.expecting([(0, 5), (5, 5)]):  # noqa: PT012
            waiting = pool.submit(ahead.read, 0, 5)
            asked.wait()
            raise KeyError
        with pytest.raises(latq.InputError):
            waiting.result()
    with pytest.raises(latq.InputError):
        ahead.read(5, 5)
    answered.set()
    with ahead.expecting([(5, 5)]):
        assert ahead.read(5, 5) == ahead.read(0, 5) == bytes(5)
    ahead.close()


def test_failures_reach_every_reader() -> None:
    def fail(start: int, stop: int) -> bytes:
        raise latq.InputError(f"{start}..{stop}")

    failing = ReadAhead(fail)
    with failing.expecting([(0, 5), (5, 5)]):
        for offset in (0, 5, 10):
            with pytest.raises(latq.InputError):
                failing.read(offset, 5)
    failing.close()


def test_a_range_longer_than_all_that_is_ahead(slow: Slow, ahead: ReadAhead) -> None:
    long = AHEAD_BYTES + 1
    with ahead.expecting([(0, long), (long, long)]):
        assert len(ahead.read(0, long)) == len(ahead.read(long, long)) == long
    assert len(slow.fetched) == 2
