"""A command loads what it needs and reads what it shows, and no more: it starts at once, whatever the file's size."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

import latq
from latq.cli import main as entry
from latq.container import CHUNK_RECORD_SIZE, ChunkRecord, FileSource, Footer, FrameHeader, FrameKind, Preamble, crc32c
from latq.container.records import FOOTER_SIZE, frame_span
from latq.pipeline.decode import File
from latq.pipeline.describe import describe
from latq.pipeline.metadata import Metadata, RawCodec, TensorEntry

HEAVY = {"aiohttp", "concurrent.futures", "fsspec", "google_crc32c", "h5py", "matplotlib", "ml_dtypes", "msgspec",
         "numpy", "rich", "safetensors", "tempfile", "zstandard"}  # fmt: skip
READ = {"google_crc32c", "msgspec", "numpy"}  # What it takes to read the end of a file.


def loaded(*arguments: str) -> set[str]:
    """The modules that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "latq", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.fixture
def encoded(tmp_path: Path) -> dict[str, str]:
    """A file of every codec and coding, by name."""
    array = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    options: dict[str, dict[str, Any]] = {
        "entropy": {},
        "fixed": {"coding": "fixed", "bits": 6},
        "scalar": {"codec": "scalar", "bits": 6},
        "raw": {"codec": "raw"},
    }
    for name, chosen in options.items():
        latq.save(tmp_path / name, array, **chosen)
    return {name: str(tmp_path / name) for name in options}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_the_command_itself_loads_nothing_heavy(option: str) -> None:
    assert loaded(option) & HEAVY == set()


def test_info_loads_what_reads_the_end_of_a_file(encoded: dict[str, str]) -> None:
    for path in encoded.values():
        assert loaded("info", path) & HEAVY == READ


@pytest.mark.parametrize("name", ["entropy", "raw"])
def test_info_loads_neither_mathematics_nor_sources(name: str, encoded: dict[str, str]) -> None:
    found = {module for module in loaded("info", encoded[name]) if module.startswith("latq.")}
    assert {module.split(".")[1] for module in found} & {"api", "codecs", "coding", "kernels", "sources"} == set()


def test_each_kind_of_source_loads_its_own_library(tmp_path: Path) -> None:
    array = np.zeros((8, 8), np.float32)
    np.save(tmp_path / "a.npy", array)
    save_file({"a": array}, tmp_path / "a.safetensors")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = array
    for suffix, library in {"npy": set(), "safetensors": {"safetensors"}, "h5": {"h5py"}}.items():
        found = loaded("encode", str(tmp_path / f"a.{suffix}"), "-o", str(tmp_path / f"{suffix}.latq"))
        assert found & {"h5py", "safetensors"} == library


def test_the_package_loads_its_interface_on_first_use() -> None:
    code = "import sys, latq; assert 'numpy' not in sys.modules; assert set(latq.__all__) <= set(dir(latq)); latq.open"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        latq.nothing  # noqa: B018


class Counted(FileSource):
    """A file that counts the bytes read."""

    total = 0

    def read(self, offset: int, length: int) -> bytes:
        self.total += length
        return super().read(offset, length)


def test_info_reads_no_chunk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, chunks = tmp_path / "large.latq", 40
    size = _write_with_holes(path, chunks)
    assert size > 10 << 30
    source = Counted(path)
    with File(source) as file:
        assert describe(file)["bytes"] == size
    assert source.total < 70_000
    assert entry.run(["info", str(path)]) == 0
    assert "10.00 GiB" in capsys.readouterr().out


def _write_with_holes(path: Path, chunks: int) -> int:
    """A file whose end is sound, and whose chunks are holes that take no room on the disk: its size."""
    entries = 1 << 26
    preamble, codec = Preamble(), RawCodec("stored", entries)
    span = frame_span(4 * entries, preamble.align_log2)
    records = [ChunkRecord(preamble.end + i * span, 4 * entries, 0, i, entries, codec.id, 0) for i in range(chunks)]
    metadata = Metadata("npy", {}, [codec], [TensorEntry("data", (chunks * entries,), "float32", 0)]).dump()
    index = b"".join(record.pack() for record in records)
    at_metadata = preamble.end + chunks * span
    at_index = at_metadata + frame_span(len(metadata), preamble.align_log2)
    size = at_index + frame_span(chunks * CHUNK_RECORD_SIZE, preamble.align_log2) + FOOTER_SIZE
    crcs = crc32c(index), crc32c(metadata)
    footer = Footer(at_index, len(index), at_metadata, len(metadata), *crcs, size, preamble)
    with path.open("wb") as stream:
        stream.write(preamble.pack())
        for offset, kind, payload in (at_metadata, FrameKind.METADATA, metadata), (at_index, FrameKind.INDEX, index):
            stream.seek(offset)
            stream.write(FrameHeader(kind, 0, 0, 0, len(payload), crc32c(payload)).pack() + payload)
        stream.seek(size - FOOTER_SIZE)
        stream.write(footer.pack())
    return size
