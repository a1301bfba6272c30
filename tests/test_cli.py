"""The command line on good input: what goes in comes out, and every number it prints is right."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from latq import __version__
from latq.cli import main as entry

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def latq(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "latq", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, **options)


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    found, exact = found.astype(np.float64), exact.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def save(path: str, array: np.ndarray) -> str:
    np.save(path, array)
    return path


# -- the command itself ------------------------------------------------------------------------------------------


def test_help_of_every_verb():
    for verb in ("", *entry.VERBS):
        ended = latq(*verb.split(), "-h")
        assert ended.returncode == 0
        assert ended.stdout.startswith(b"Usage: latq")
        assert ended.stderr == b""
    assert all(verb.encode() in latq("--help").stdout for verb in entry.VERBS)


def test_no_arguments_show_the_help_as_a_usage_error():
    ended = latq()
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr == latq("-h").stdout


def test_version():
    assert latq("--version").stdout.decode().startswith(f"latq {__version__} ")


# -- .npy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [">f8", "<f8", ">f4", "<f4", ">f2", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_round_trip(run, dtype, order):
    array = np.asarray(gaussian(96, 80).astype(dtype), order=order)
    save("a.npy", array)
    run("encode", "a.npy")
    run("decode", "a.latq", "-o", "b.npy")
    back = np.load("b.npy")
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    assert relative(back, array) < 0.12


def test_byte_order_memory_order_and_threads_do_not_change_a_byte(run):
    array = gaussian(1100, 1000)  # More than one chunk.
    files = []
    for position, (dtype, order, threads) in enumerate([("<f4", "C", 1), (">f4", "F", 2), ("<f4", "C", 2)]):
        save("a.npy", np.asarray(array.astype(dtype), order=order))
        run("encode", "a.npy", "-o", f"{position}.latq", "-j", threads)
        files.append(Path(f"{position}.latq").read_bytes())
    assert files[0] == files[1] == files[2]
    for threads in (1, 2):
        run("decode", "0.latq", "-o", f"back{threads}.npy", "-j", threads)
        run("product", "0.latq", "0.latq", "-o", f"product{threads}.npy", "-j", threads)
    for name in ("back", "product"):
        assert Path(f"{name}1.npy").read_bytes() == Path(f"{name}2.npy").read_bytes()


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_three_dimensions_along_any_axis(run, run_json, axis):
    array = gaussian(20, 24, 28)
    save("a.npy", array)
    run("encode", "a.npy", "--axis", axis)
    (tensor,) = run_json("info", "a.latq")["tensors"]
    assert tensor["axis"] == axis % 3
    assert tensor["shape"] == [20, 24, 28]
    run("decode", "a.latq", "-o", "b.npy")
    assert relative(np.load("b.npy"), array) < 0.17


@pytest.mark.parametrize("n", [1000, 40000])  # The second has vectors of more than one group.
def test_one_dimension(run, n):
    array = gaussian(n)
    save("a.npy", array)
    run("encode", "a.npy", "--bits", "5")
    run("decode", "a.latq", "-o", "b.npy")
    assert np.load("b.npy").shape == (n,)
    assert relative(np.load("b.npy"), array) < 0.08


@pytest.mark.parametrize(
    "array",
    [
        np.arange(-50, 50, dtype=np.int8),
        np.arange(100, dtype=">i4").reshape(4, 25),
        np.arange(7, dtype=np.uint64) + (1 << 63),
        np.array([[True, False], [False, True]]),
        np.array(-7, np.int16),
    ],
    ids=lambda a: str(a.dtype),
)
def test_npy_of_integers_is_lossless(run, array):
    save("a.npy", array)
    run("encode", "a.npy")
    run("decode", "a.latq", "-o", "b.npy")
    back = np.load("b.npy")
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_codec_raw_is_lossless(run):
    array = gaussian(300, 20).astype(np.float64)
    save("a.npy", array)
    run("encode", "a.npy", "--codec", "raw")
    run("decode", "a.latq", "-o", "b.npy")
    assert np.load("b.npy").tobytes() == array.tobytes()


@pytest.mark.parametrize("bits", [2, 3.3, 4.25, 6, 8, 12])
def test_more_bits_give_less_error(run, run_json, bits):
    array = gaussian(512, 200)
    save("a.npy", array)
    report = run_json("encode", "a.npy", "--bits", bits)
    assert report["bits_per_entry"] <= bits
    assert report["bits_per_entry"] == 8 * Path("a.latq").stat().st_size / array.size
    run("decode", "a.latq", "-o", "b.npy")
    assert 2.0**-bits < relative(np.load("b.npy"), array) < 2.0 ** (0.7 - bits)


def test_effort_spares_time_with_fixed_coding_only(run):
    x = gaussian(256, 256)
    save("a.npy", x)
    for effort in ("fast", "default"):
        run("encode", "a.npy", "-o", f"{effort}.latq", "--coding", "fixed", "--effort", effort)
        run("decode", f"{effort}.latq", "-o", f"{effort}.npy")
        run("encode", "a.npy", "-o", f"{effort}-entropy.latq", "--effort", effort)
    assert Path("fast.latq").read_bytes() != Path("default.latq").read_bytes()
    assert relative(np.load("default.npy"), x) < relative(np.load("fast.npy"), x) < 0.09
    assert Path("fast-entropy.latq").read_bytes() == Path("default-entropy.latq").read_bytes()


def test_rotation_and_seed(run):
    array = gaussian(512, 20)
    save("a.npy", array)
    files = {}
    for options in ("--rotation none", "--seed 0", "--seed 1", "--seed 9223372036854775807"):
        run("encode", "a.npy", "-f", *options.split())
        run("decode", "a.latq", "-o", "b.npy", "-f")
        assert relative(np.load("b.npy"), array) < 0.12
        files[options] = Path("a.latq").read_bytes()
    assert len(set(files.values())) == 4


# -- HDF5 --------------------------------------------------------------------------------------------------------

H5_DATA = {
    "weights": gaussian(64, 80),
    "air/temperature": gaussian(40, 50, seed=1).astype(np.float64) + 280,
    "air/half": gaussian(64, 64, seed=2).astype(np.float16),
    "air/deep/counts": np.arange(60, dtype=np.int32).reshape(3, 20),
    "air/deep/mask": np.arange(12).reshape(3, 4) % 3 == 0,
    "air/bytes": np.arange(256, dtype=np.uint8),
    "scalar": np.array(2.5, np.float64),
    "count": np.array(-3, np.int64),
    "bias": gaussian(100, seed=3),
    "nothing": np.zeros((0, 7), np.float32),
    "big": np.arange(10, dtype=">f8").reshape(2, 5),
}
LOSSLESS = {"air/deep/counts", "air/deep/mask", "air/bytes", "scalar", "count", "bias", "nothing", "big"}


def write_h5(path: str) -> None:
    with h5py.File(path, "w") as file:
        for name, array in H5_DATA.items():
            file[name] = array
        file.create_group("empty/group")
        file.attrs["title"] = "möglich"
        file["air"].attrs["levels"] = np.array([1.5, 2.5], np.float32)
        file["weights"].attrs["count"] = np.int16(7)
        file["weights"].attrs["names"] = ["one", "two"]
        file["air/temperature"].attrs["units"] = "K"


def assert_same_h5(path: str) -> None:
    with h5py.File(path) as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(found) == sorted(H5_DATA)
        for name, array in H5_DATA.items():
            back = file[name][()]
            assert back.shape == array.shape, name
            assert back.dtype == array.dtype.newbyteorder("="), name
            if name in LOSSLESS:
                np.testing.assert_array_equal(back, array, err_msg=name)
            else:
                assert relative(back, array) < 0.13, name
        assert isinstance(file["empty/group"], h5py.Group)
        assert file.attrs["title"] == "möglich"
        assert file["air"].attrs["levels"].tolist() == [1.5, 2.5]
        assert file["air"].attrs["levels"].dtype == np.float32
        assert file["weights"].attrs["count"] == 7
        assert file["weights"].attrs["count"].dtype == np.int16
        assert list(file["weights"].attrs["names"]) == ["one", "two"]
        assert file["air/temperature"].attrs["units"] == "K"


def test_h5_round_trip(run, run_json):
    write_h5("a.h5")
    report = run_json("encode", "a.h5")
    assert {t["name"] for t in report["tensors"] if t["codec"].startswith("raw")} == LOSSLESS
    run("verify", "a.latq")
    run("decode", "a.latq", "-o", "b.h5")
    assert_same_h5("b.h5")


def test_one_dataset_of_h5(run, run_json):
    write_h5("a.h5")
    run("encode", "a.h5:/air/temperature", "--axis", "1", "-o", "t.latq")
    (tensor,) = run_json("info", "t.latq")["tensors"]
    assert (tensor["name"], tensor["axis"]) == ("air/temperature", 1)
    run("decode", "t.latq", "-o", "t.npy")
    exact = H5_DATA["air/temperature"]
    assert relative(np.load("t.npy"), exact) < 0.01
    run("decode", "t.latq", "-o", "t.h5")
    with h5py.File("t.h5") as file:
        assert file["air/temperature"].attrs["units"] == "K"
    run("encode", "a.h5:/air/temperature")
    assert Path("a.air.temperature.latq").exists()


def test_tensors_by_pattern(run, run_json):
    write_h5("a.h5")
    run("encode", "a.h5", "--tensor", "air/deep/*", "--tensor", "weights")
    names = [t["name"] for t in run_json("info", "a.latq")["tensors"]]
    assert names == ["air/deep/counts", "air/deep/mask", "weights"]
    run("decode", "a.latq", "-o", "b.h5", "--tensor", "*mask", "--tensor", "w*")
    with h5py.File("b.h5") as file:
        assert set(file) == {"air", "weights"}
        assert set(file["air/deep"]) == {"mask"}


# -- safetensors -------------------------------------------------------------------------------------------------

CHECKPOINT = {
    "layer.weight": gaussian(64, 96),
    "layer.bias": gaussian(64, seed=1),
    "layer.half": gaussian(64, 64, seed=2).astype(np.float16),
    "layer.brain": gaussian(64, 64, seed=3).astype(ml_dtypes.bfloat16),
    "positions": np.arange(70, dtype=np.int64),
    "mask": np.eye(5, dtype=bool),
    "empty": np.zeros((0, 3), np.float32),
}
QUANTIZED = {"layer.weight", "layer.half", "layer.brain"}


def assert_same_checkpoint(found: dict[str, np.ndarray]) -> None:
    assert set(found) == set(CHECKPOINT)
    for name, array in CHECKPOINT.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        if name in QUANTIZED:
            assert relative(found[name], array) < 0.13, name
        else:
            assert found[name].tobytes() == array.tobytes(), name


def test_safetensors_round_trip(run, run_json):
    save_file(CHECKPOINT, "a.safetensors", metadata={"format": "pt", "who": "möglich"})
    report = run_json("encode", "a.safetensors")
    assert {t["name"] for t in report["tensors"] if t["codec"].startswith("e8")} == QUANTIZED
    run("decode", "a.latq", "-o", "b.safetensors")
    assert_same_checkpoint(load_file("b.safetensors"))
    with safe_open("b.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt", "who": "möglich"}


@pytest.mark.parametrize("source", ["model.safetensors.index.json", "."])
def test_sharded_checkpoint(run, run_json, source):
    names = sorted(CHECKPOINT)
    shard_of = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(names)}
    for shard in set(shard_of.values()):
        save_file({name: CHECKPOINT[name] for name in names if shard_of[name] == shard}, shard, {"format": "pt"})
    Path("model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    run("encode", source, "-o", "model.latq")
    assert [t["name"] for t in run_json("info", "model.latq")["tensors"]] == names
    run("decode", "model.latq", "-o", "b.safetensors")
    assert_same_checkpoint(load_file("b.safetensors"))


def test_axis_of_a_checkpoint_with_one_dimensional_tensors(run, run_json):
    save_file(CHECKPOINT, "a.safetensors")
    run("encode", "a.safetensors", "--axis", "1")
    axes = {t["name"]: t["axis"] for t in run_json("info", "a.latq")["tensors"]}
    assert axes["layer.weight"] == 1


# -- conversion --------------------------------------------------------------------------------------------------


def test_kinds_convert_into_each_other(run):
    array = gaussian(64, 80)
    save("a.npy", array)
    save_file({"w": array}, "b.safetensors")
    with h5py.File("c.h5", "w") as file:
        file["w"] = array
    for source, name in (("a.npy", "data"), ("b.safetensors", "w"), ("c.h5", "w")):
        run("encode", source, "-o", "x.latq", "-f", "--axis", "0")
        for output in ("x.npy", "x.h5", "x.hdf5", "x.safetensors"):
            run("decode", "x.latq", "-o", output, "-f")
        direct = np.load("x.npy")
        assert relative(direct, array) < 0.12
        np.testing.assert_array_equal(load_file("x.safetensors")[name], direct)
        for output in ("x.h5", "x.hdf5"):
            with h5py.File(output) as file:
                np.testing.assert_array_equal(file[name][()], direct)


def test_losing_attributes_is_said(run):
    write_h5("a.h5")
    run("encode", "a.h5:/weights", "-o", "a.latq")
    _, err = run("decode", "a.latq", "-o", "w.npy")
    assert "latq: warning:" in err
    assert "attributes" in err
    assert "w.npy" in err or ".npy" in err
    assert ".tmp" not in err


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_dtype_of_the_output(run, dtype):
    save_file({"w": gaussian(64, 80), "ids": np.arange(5)}, "a.safetensors")
    run("encode", "a.safetensors")
    run("decode", "a.latq", "-o", "b.safetensors", "--dtype", dtype)
    run("decode", "a.latq", "-o", "c.safetensors", "--dtype", "float64")
    back, exact = load_file("b.safetensors"), load_file("c.safetensors")
    assert back["w"].dtype == dtype
    assert back["ids"].dtype == np.int64
    np.testing.assert_array_equal(
        back["w"], exact["w"] if dtype == "float64" else exact["w"].astype(np.float32).astype(dtype)
    )


@pytest.mark.parametrize(
    ("columns", "part"), [("3:17", slice(3, 17)), (":5", slice(5)), ("70:", slice(70, None)), (":", slice(None))]
)
def test_columns(run, columns, part):
    save("a.npy", gaussian(64, 80))
    run("encode", "a.npy")
    run("decode", "a.latq", "-o", "all.npy")
    run("decode", "a.latq", "-o", "part.npy", "--columns", columns)
    np.testing.assert_array_equal(np.load("part.npy"), np.load("all.npy")[:, part])


def test_columns_along_the_last_axis_and_of_raw_tensors(run):
    save("a.npy", gaussian(64, 80))
    save("i.npy", np.arange(60).reshape(6, 10))
    run("encode", "a.npy", "--axis", "1")
    run("encode", "i.npy")
    run("decode", "a.latq", "-o", "all.npy")
    run("decode", "a.latq", "-o", "part.npy", "--columns", "10:20", "--dtype", "float16")
    assert np.load("part.npy").dtype == np.float16
    np.testing.assert_array_equal(np.load("part.npy"), np.load("all.npy")[10:20].astype(np.float16))
    run("decode", "i.latq", "-o", "ipart.npy", "--columns", "2:4")
    np.testing.assert_array_equal(np.load("ipart.npy"), np.arange(60).reshape(6, 10)[:, 2:4])


# -- streams -----------------------------------------------------------------------------------------------------


def test_pipes(run, tmp_path):
    array = gaussian(64, 80)
    save("a.npy", array)
    run("encode", "a.npy", "-o", "a.latq")
    run("decode", "a.latq", "-o", "b.npy")
    data = Path("a.npy").read_bytes()
    ended = latq("encode", "-", "-o", "-", input=data)
    assert (ended.returncode, ended.stdout) == (0, Path("a.latq").read_bytes()), ended.stderr
    ended = latq("decode", "-", "-o", "-", input=ended.stdout)
    assert (ended.returncode, ended.stdout) == (0, Path("b.npy").read_bytes()), ended.stderr
    assert latq("info", "-", input=Path("a.latq").read_bytes()).returncode == 0
    assert latq("verify", "-", input=Path("a.latq").read_bytes()).returncode == 0
    assert latq("product", "a.latq", "a.npy", "-o", "-").stdout[:6] == b"\x93NUMPY"


def test_quiet_is_silent(run):
    save("a.npy", gaussian(64, 80))
    for arguments in (
        ("encode", "a.npy"),
        ("decode", "a.latq", "-o", "b.npy"),
        ("product", "a.latq", "a.npy", "-o", "c.npy"),
        ("verify", "a.latq"),
    ):
        assert run(*arguments, "-q") == ("", "")


def test_people_are_told_on_standard_error(run):
    save("a.npy", gaussian(64, 80))
    for arguments, word in (
        (("encode", "a.npy"), "bits per entry"),
        (("decode", "a.latq", "-o", "b.npy"), "b.npy"),
        (("product", "a.latq", "a.npy", "-o", "c.npy"), "predicted relative error"),
        (("verify", "a.latq"), "ok"),
    ):
        out, err = run(*arguments)
        assert out == ""
        assert word in err
    out, err = run("info", "a.latq")
    assert "data" in out
    assert "64x80" in out
    assert err == ""


def test_verbose_names_every_tensor(run):
    save_file({"one": gaussian(64, 64), "two": gaussian(64, 64), "ids": np.arange(9)}, "a.safetensors")
    for arguments in (("encode", "a.safetensors", "-v"), ("decode", "a.latq", "-o", "b.safetensors", "-v")):
        _, err = run(*arguments)
        assert all(f" {name} [" in err for name in ("one", "two", "ids"))
