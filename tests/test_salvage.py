"""Damaged files: ``verify`` says what is lost, ``decode --salvage`` saves the rest."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import latq
from latq.cli.main import run as run_command
from latq.container import BytesSource, FrameHeader, FrameKind, crc32c
from latq.container.records import FOOTER_SIZE, FRAME_HEADER_SIZE
from latq.errors import LatqError, LimitError
from latq.pipeline.restore import chunks_in_memory, restore
from latq.pipeline.salvage import SalvagedFile

pytestmark = pytest.mark.usefixtures("in_tmp_path")

Arrays = dict[str, npt.NDArray[Any]]
Change = Callable[[bytes], bytes]
VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))

from pieces import POINTS, Chunk, Parts  # noqa: E402


def gaussian(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Quantized along either axis in groups and runs, tied, and lossless ones of floats and integers; many chunks."""
    monkeypatch.setattr("latq.pipeline.tiling.CHUNK_ENTRIES", 1 << 10)
    monkeypatch.setattr("latq.pipeline.tiling.MAX_GROUP", 64)
    monkeypatch.setattr("latq.pipeline.raw.CHUNK_ENTRIES", 1000)
    rows = gaussian(40, 150)
    arrays = {"w": gaussian(150, 40), "tied": gaussian(150, 40), "ids": np.arange(2500), "b": gaussian(2500)}
    arrays |= {"half": gaussian(60, 50).astype(ml_dtypes.bfloat16), "rows": rows}
    latq.save("sound.latq", arrays, 5)
    return Path("sound.latq").read_bytes()


def run_json(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> tuple[dict[str, Any], list[str]]:
    capsys.readouterr()
    assert run_command([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err.splitlines()


def with_damage(sound: bytes, *chunks: tuple[str, int]) -> bytes:
    """One bit flipped in the payload of each of these chunks (tensor, chunk)."""
    data = bytearray(sound)
    for name, chunk in chunks:
        data[place_of(sound, name, chunk)[0] + FRAME_HEADER_SIZE + 3] ^= 1
    return bytes(data)


def place_of(sound: bytes, name: str, chunk: int) -> tuple[int, int]:
    with latq.open(sound) as file:
        return file.reader.span_of(file[name].records[chunk])


def salvaged(data: bytes, threads: int = 1, **options: Any) -> tuple[Arrays, SalvagedFile]:
    with SalvagedFile(BytesSource(data), **options) as file:
        arrays = {name: np.empty(tensor.shape, tensor.dtype) for name, tensor in file.items()}
        restore([(file[name], array) for name, array in arrays.items()], threads)
    return arrays, file


def equal(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.tobytes() == b.tobytes()


def without_end(data: bytes) -> bytes:
    return data[:-FOOTER_SIZE]


def without_beginning(data: bytes) -> bytes:
    return bytes(len(data[:64])) + data[64:]


def with_hole(data: bytes) -> bytes:
    """Bytes are missing, so that nothing after them is where the index says."""
    start, _ = place_of(data, "ids", 1)
    return data[: start + 50] + data[start + 83 :]


def with_growth(data: bytes) -> bytes:
    start, _ = place_of(data, "ids", 1)
    return data[: start + 50] + b"LQFR" * 9 + data[start + 50 :]


def with_bad_index(data: bytes) -> bytes:
    with latq.open(data) as file:
        position = file.reader.footer.index_offset + FRAME_HEADER_SIZE + 7
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


ENDS: dict[str, Change] = {
    "sound": lambda data: data,
    "end": without_end,
    "beginning": without_beginning,
    "both": lambda data: without_end(without_beginning(data)),
    "index": with_bad_index,
}


def test_verify_maps_damage(sound: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.latq").write_bytes(with_damage(sound, ("tied", 4), ("ids", 2)))
    result, err = run_json(capsys, 3, "verify", "bad.latq")
    (file,) = result["files"]
    lossless, quantized = file["damaged"]
    assert {key: quantized[key] for key in quantized if key != "message"} == {
        "tensor": "tied", "tied": ["w"], "chunk": 4, "vectors": [16, 32], "entries": [64, 128],
        "bytes": [*place_of(sound, "tied", 4)],
    }  # fmt: skip
    assert "checksum mismatch" in quantized["message"]
    assert (lossless["tensor"], lossless["vectors"], lossless["entries"]) == ("ids", None, [2000, 2500])
    assert len(err) == 2
    assert "(tensor 'ids', entries 2000..2500 in C order)" in err[0]
    assert "(tensor 'tied', vectors 16..32, entries 64..128, shared by 'w')" in err[1]


def test_verify_names_what_is_missing_where_the_index_is_lost(sound: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.latq").write_bytes(without_end(with_damage(sound, ("rows", 1))))
    result, err = run_json(capsys, 3, "verify", "bad.latq")
    (damaged,) = result["files"][0]["damaged"]
    assert (damaged["tensor"], damaged["chunk"], damaged["bytes"]) == ("rows", 1, None)
    assert "no footer" in err[0]
    assert len(err) == 2
    assert result["error"]["class"] == "TruncatedError"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("end", ENDS)
def test_intact_chunks_are_saved(sound: bytes, end: str, threads: int) -> None:
    whole = latq.decode(sound)
    arrays, file = salvaged(ENDS[end](with_damage(sound, ("w", 4), ("ids", 1), ("half", 0))), threads)
    assert (file.fault is None) == (end == "sound")
    assert [(lost.tensor, lost.chunk) for lost in file.lost] == [("half", 0), ("ids", 1), ("tied", 4)]
    for name in ("w", "tied"):
        assert np.isnan(arrays[name][64:128, 16:32]).all()
        arrays[name][64:128, 16:32] = whole[name][64:128, 16:32]
    (v0, v1), (e0, e1) = file.lost[0].vectors or (0, 0), file.lost[0].entries
    assert np.isnan(arrays["half"][e0:e1, v0:v1].astype("f4")).all()
    arrays["half"][e0:e1, v0:v1] = whole["half"][e0:e1, v0:v1]
    assert not arrays["ids"][1000:2000].any()
    arrays["ids"][1000:2000] = whole["ids"][1000:2000]
    for name, array in arrays.items():
        assert equal(array, whole[name]), name


@pytest.mark.parametrize("damage", [with_hole, with_growth])
@pytest.mark.parametrize("end", [lambda data: data, without_end, without_beginning])
def test_frames_that_have_moved(sound: bytes, damage: Change, end: Change) -> None:
    whole = latq.decode(sound)
    arrays, file = salvaged(end(damage(sound)))
    assert [(lost.tensor, lost.chunk) for lost in file.lost] == [("ids", 1)]
    assert all(equal(array, whole[name]) for name, array in arrays.items() if name != "ids")


def test_zeros_instead(sound: bytes) -> None:
    arrays, _ = salvaged(with_damage(sound, ("w", 4)), fill="zero")
    assert not arrays["w"][64:128, 16:32].any()


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".safetensors", ".zarr"])
def test_command(sound: bytes, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.latq").write_bytes(with_damage(sound, ("rows", 2)))
    output = f"out{suffix}"
    arguments = ["decode", "bad.latq", "-o", output, "--tensor", "rows" if suffix in (".npy", ".zarr") else "[!h]*"]
    assert run_command(arguments) == 3
    assert not Path(output).exists()
    result, err = run_json(capsys, 3, *arguments, "--salvage")
    assert result["ok"] is False
    assert result["error"]["code"] == 3
    assert result["output"] == output
    (lost,) = result["lost"]
    assert (lost["tensor"], lost["chunk"]) == ("rows", 2)
    assert len(err) == 1
    assert err[0].endswith("filled with nan")
    assert Path(output).exists()
    if suffix == ".npy":
        found = np.load(output)
        (v0, v1), (e0, e1) = lost["vectors"], lost["entries"]
        assert np.isnan(found[e0:e1, v0:v1]).all()
        assert np.isnan(found).sum() == (v1 - v0) * (e1 - e0)


def test_what_was_asked_for_is_intact(sound: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code tells of the output, a warning of the file."""
    Path("bad.latq").write_bytes(without_end(with_damage(sound, ("rows", 2), ("w", 0))))
    result, err = run_json(capsys, 0, "decode", "bad.latq", "-o", "out.npy", "--tensor", "ids", "--salvage")
    assert result["lost"] == []
    assert "no footer" in result["fault"]
    assert len(err) == 1
    assert "warning" in err[0]
    assert equal(np.load("out.npy"), np.arange(2500))
    part = ["--tensor", "w", "--columns", "16:40"]
    assert run_json(capsys, 0, "decode", "bad.latq", "-o", "part.npy", *part, "--salvage")[0]["lost"] == []
    assert equal(np.load("part.npy"), latq.decode(sound)["w"][:, 16:40])
    result, _ = run_json(
        capsys, 3, "decode", "bad.latq", "-o", "all.npy", "--tensor", "w", "--columns", ":", "--salvage"
    )
    assert [lost["chunk"] for lost in result["lost"]] == [0]


@pytest.mark.parametrize("keep", [0, 5, 64, 3000, -3000])
def test_without_metadata_nothing_can_be_saved(sound: bytes, keep: int, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.latq").write_bytes(sound[:keep])
    _, err = run_json(capsys, 3, "decode", "bad.latq", "-o", "out.h5", "--salvage")
    assert "no metadata can be found" in err[0]
    assert len(err) == 1
    assert not Path("out.h5").exists()


def test_what_is_no_damage_stays_an_error(sound: bytes) -> None:
    """A version that is not known, or a description that the chunks do not fit."""
    for path in (VECTORS / "unsupported-major.latq", VECTORS / "bad-chunk-codec.latq"):
        with pytest.raises(LatqError):
            SalvagedFile(BytesSource(path.read_bytes()))


def test_chunks_that_stand_there_twice_do_not_count(sound: bytes) -> None:
    _, stop = place_of(sound, "ids", 1)
    other, end = place_of(sound, "ids", 0)
    forged = FrameHeader.parse(sound[other : other + FRAME_HEADER_SIZE], "frame")
    double = replace(forged, chunk=1).pack() + sound[other + FRAME_HEADER_SIZE : end]
    _, file = salvaged(without_end(sound[:stop] + double + sound[stop:]))
    assert [(lost.tensor, lost.chunk) for lost in file.lost] == [("ids", 1)]


def test_a_small_file_cannot_ask_for_fillings_without_end(sound: bytes) -> None:
    with latq.open(sound) as file:
        text = file.reader.metadata.replace(b'"shape":[2500]', b'"shape":[%d]' % (1 << 40))
    header = FrameHeader(FrameKind.METADATA, 0, 0, 0, len(text), crc32c(text)).pack()
    with pytest.raises(LimitError):
        SalvagedFile(BytesSource(sound[:5000] + header + text))


def test_a_file_that_contains_another(sound: bytes) -> None:
    """Its frames are not taken for those of the file around it."""
    inner = np.frombuffer(sound, np.uint8)
    stream = latq.encode(inner)
    arrays, file = salvaged(without_end(stream))
    assert list(arrays) == ["data"]
    assert equal(arrays["data"], inner)
    assert not file.lost


# --- memory -------------------------------------------------------------------------------------------------------


def test_a_huge_chunk_is_refused_before_it_is_decoded(capsys: pytest.CaptureFixture[str]) -> None:
    codec = POINTS | {"group": 1 << 13, "chunk_vectors": 1 << 13, "classes": 1, "alignment": "class"}
    entry = {"name": "data", "shape": [1 << 13, 1 << 13], "dtype": "float32", "codec": 0}
    metadata = {"kind": "npy", "extras": {}, "codecs": [codec], "tensors": [entry]}
    data = bytes(Parts([Chunk(0, 0, 1 << 13, 0x0402, bytes(200))], metadata).build().data)
    assert len(data) < 2000
    Path("huge.latq").write_bytes(data)
    with pytest.raises(LimitError, match=r"a chunk of 67108864 entries takes about 15.. MiB"):
        latq.export("huge.latq", "out.npy")
    for more in ([], ["--salvage"], ["--columns", ":4"]):
        assert run_command(["decode", "huge.latq", "-o", "out.npy", *more]) == 5
        assert "latq: error: huge.latq: tensor 'data': a chunk of" in capsys.readouterr().err
    assert run_command(["decode", "huge.latq", "-o", "out.npy", "--max-memory", "4GiB"]) == 3
    assert not Path("out.npy").exists()


def test_fewer_threads_in_little_memory(sound: bytes) -> None:
    whole = latq.decode(sound)
    with latq.open(sound) as file:
        needed = (1 << 30) // chunks_in_memory(file["w"], 1 << 30) + 1
    few = latq.decode(sound, threads=4, memory=3 * needed)
    assert all(equal(few[name], whole[name]) for name in whole)
