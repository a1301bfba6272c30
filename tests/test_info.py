"""What commands tell: --json, info, verify, and every number in them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_cli import CHECKPOINT, QUANTIZED, gaussian, relative, save

from latq.cli import main as entry
from latq.container import BytesSource, ContainerReader
from latq.container.records import FRAME_HEADER_SIZE

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def test_json_schemas(run_json):
    save("a.npy", gaussian(64, 80))
    assert list(run_json("encode", "a.npy")) == [
        *("ok", "schema", "output", "bytes", "original_bytes", "bits_per_entry", "seconds", "tensors"),
    ]
    decoded = run_json("decode", "a.latq", "-o", "b.npy")
    assert decoded == {"ok": True, "schema": "latq.decode/1", "output": "b.npy", "tensors": {"data": [64, 80]}}
    assert list(run_json("product", "a.latq", "a.npy", "-o", "c.npy")) == [
        "ok",
        "schema",
        "output",
        "error_bars",
        "shape",
        "predicted_error",
        "predicted_relative_error",
        "predicted_normalized_error",
        "error_kind",
        "error_bound",
        "limit",
        "guaranteed_error",
        "shrink",
        "best_shrink",
        "bits_a",
        "bits_b",
    ]
    info = run_json("info", "a.latq")
    assert list(info) == [
        *("ok", "schema", "file", "format", "kind", "bytes", "entries", "bits_per_entry", "bytes_by_part", "tensors"),
    ]
    assert list(info["tensors"][0]) == [
        *("name", "shape", "dtype", "axis", "entries", "codec", "label", "chunks", "bytes", "bits_per_entry"),
        *("bytes_by_part", "accuracy", "outputs", "same_as"),
    ]
    assert set(info["tensors"][0]["accuracy"]) == {"decode_error", "bits_lost", "product_error", "product_limit"}
    verified = run_json("verify", "a.latq")
    found = [{"file": "a.latq", "code": 0, "class": None, "message": None, "damaged": []}]
    assert verified == {"ok": True, "schema": "latq.verify/1", "files": found}


def test_json_of_encode(run_json):
    save_file(CHECKPOINT, "a.safetensors")
    report = run_json("encode", "a.safetensors")
    assert report["schema"] == "latq.encode/1"
    assert report["output"] == "a.latq"
    assert report["bytes"] == Path("a.latq").stat().st_size
    assert report["original_bytes"] == sum(array.nbytes for array in CHECKPOINT.values())
    for tensor in report["tensors"]:
        assert set(tensor) == {
            *("name", "shape", "dtype", "codec", "note", "surprising", "entries", "bytes", "error"),
            *("calibrated", "same_as", "bits_per_entry"),
        }
        assert tensor["entries"] == CHECKPOINT[tensor["name"]].size
        assert (tensor["error"] is None) == (tensor["name"] not in QUANTIZED)
        assert bool(tensor["note"]) == (tensor["name"] not in QUANTIZED)


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_numbers_of_info_add_up(run, run_json, kind):
    if kind == "npy":
        save("a.npy", gaussian(500, 77))
    else:
        save_file(CHECKPOINT, "a.safetensors")
    encoded = run_json("encode", f"a.{kind}")
    info = run_json("info", "a.latq")
    assert info["kind"] == kind
    assert info["bytes"] == encoded["bytes"] == Path("a.latq").stat().st_size
    assert info["entries"] == sum(t["entries"] for t in info["tensors"])
    assert info["bits_per_entry"] == pytest.approx(8 * info["bytes"] / info["entries"])
    assert sum(info["bytes_by_part"].values()) == info["bytes"]
    for part in ("indices", "scale_indices", "side_info"):
        assert info["bytes_by_part"][part] == sum(t["bytes_by_part"][part] for t in info["tensors"])


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
def test_numbers_of_a_tensor_add_up(run_json, kind):
    if kind == "npy":
        save("a.npy", gaussian(500, 77))
    else:
        save_file(CHECKPOINT, "a.safetensors")
    encoded = {t["name"]: t for t in run_json("encode", f"a.{kind}")["tensors"]}
    for tensor in run_json("info", "a.latq")["tensors"]:
        assert sum(tensor["bytes_by_part"].values()) == tensor["bytes"]
        assert tensor["bytes"] == encoded[tensor["name"]]["bytes"]
        if tensor["entries"]:
            # Of the whole file, where the tensor is alone in it.
            size = Path("a.latq").stat().st_size if kind == "npy" else tensor["bytes"]
            assert tensor["bits_per_entry"] == pytest.approx(8 * size / tensor["entries"])


def test_the_text_of_info_adds_up(run):
    save("a.npy", gaussian(500, 77))
    run("encode", "a.npy")
    out, _ = run("info", "a.latq")
    line = next(line for line in out.splitlines() if "bits each" in line)
    total, *parts = map(float, re.findall(r"\d+\.\d+", line))
    assert sum(parts) == pytest.approx(total, abs=3e-4)


def test_names_are_shown_as_they_are(run):
    names = [":smile:", "[bold]x[/bold]", "a" * 60]
    save_file({name: gaussian(32, 32) for name in names}, "a.safetensors")
    run("encode", "a.safetensors")
    out, _ = run("info", "a.latq")
    assert all(name in out for name in names)


@pytest.mark.parametrize("offset", [0.0, 5.0])
@pytest.mark.parametrize("options", ["--bits 2", "--bits 4", "--bits 9", "--no-centre", "--rotation none --axis 1"])
def test_info_knows_the_error_of_decoding(run, run_json, options, offset):
    array = gaussian(500, 77).astype(np.float64) + offset
    save("a.npy", array)
    (reported,) = run_json("encode", "a.npy", *options.split())["tensors"]
    run("decode", "a.latq", "-o", "b.npy")
    measured = relative(np.load("b.npy"), array) ** 2
    (tensor,) = run_json("info", "a.latq")["tensors"]
    assert tensor["accuracy"]["decode_error"] == pytest.approx(measured, rel=1e-4)
    assert reported["error"] == pytest.approx(measured, rel=1e-4)


# -- verify ------------------------------------------------------------------------------------------------------


def test_verify_names_tensor_and_chunk(run, capsys):
    save_file({"first": gaussian(64, 64), "second": gaussian(1100, 1000)}, "a.safetensors")
    run("encode", "a.safetensors")
    run("verify", "a.latq")
    data = bytearray(Path("a.latq").read_bytes())
    record = ContainerReader(BytesSource(bytes(data))).record(1, 1)
    data[record.offset + FRAME_HEADER_SIZE + 11] ^= 0x10
    Path("bad.latq").write_bytes(data)
    assert entry.run(["verify", "a.latq", "bad.latq", "-q"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("latq: error: bad.latq")
    assert "'second'" in err
    assert "chunk 1" in err
    assert entry.run(["verify", "bad.latq", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is False
    ((damaged,),) = [file["damaged"] for file in result["files"]]
    assert (damaged["tensor"], damaged["chunk"]) == ("second", 1)
    # The other tensor can still be had.
    run("decode", "bad.latq", "-o", "first.npy", "--tensor", "first")
    run("decode", "bad.latq", "-o", "part.npy", "--tensor", "second", "--columns", ":100")
    assert entry.run(["decode", "bad.latq", "-o", "second.npy", "--tensor", "second"]) == 3
    assert not Path("second.npy").exists()


def test_an_error_instead_of_a_rate(run, capsys):
    save("a.npy", gaussian(300, 200))
    for coding in (["--coding", "entropy"], []):  # The default is the only one that can.
        run("encode", "a.npy", "-f", *coding, "--error", "0.1")
        run("decode", "a.latq", "-f", "-o", "b.npy")
        a, b = np.load("a.npy"), np.load("b.npy")
        assert 0.098 < np.linalg.norm(a - b) / np.linalg.norm(a) <= 0.1
    for arguments in (["--error", "0.1", "--bits", "3"], ["--error", "0.1", "--coding", "fixed"]):
        assert entry.run(["encode", "a.npy", "-f", *arguments]) == 2
        assert "--error" in capsys.readouterr().err
