"""Outputs, arguments and pipes that will not do: one line that helps, the right exit code, nothing left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from failing import (
    FULL,
    assert_one_error_line,
    gaussian,
    latq,
    needs_full,
    save,
    snapshot,
    works,
)
from safetensors.numpy import load_file, save_file

pytestmark = pytest.mark.usefixtures("all_in_tmp_path")

# -- outputs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(capsys) -> None:
    save("a.npy", gaussian(64, 40))
    works("encode", "a.npy", "-o", "a.latq", "-q")
    capsys.readouterr()


def writing(output: str) -> list[list[str]]:
    return [
        ["encode", "a.npy", "-o", output],
        ["decode", "a.latq", "-o", output],
        ["product", "a.latq", "a.npy", "-o", output],
    ]


def test_names_that_clash_in_h5(fails):
    save_file({"a": gaussian(32, 32), "a/b": gaussian(32, 32)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "-q")
    err = fails("decode", "a.latq", "-o", "b.h5", code=2, says=("'a/b'", ".safetensors"))
    assert " b.h5:" in err


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "a//b", ".", "..", "\x9bcsi", "right\u202eleft"])
def test_names_that_are_no_paths(fails, tmp_path, name):
    """They stay names in .safetensors, are refused in .h5, and are shown without what a terminal would obey."""
    save_file({name: gaussian(32, 32)}, "a.safetensors")
    works("encode", "a.safetensors", "-q")
    before = os.listdir(tmp_path.parent)
    works("decode", "a.latq", "-o", "b.safetensors", "-q")
    assert list(load_file("b.safetensors")) == [name]
    err = fails("decode", "a.latq", "-o", "b.h5", code=2, says=("cannot be a name in an HDF5 file",))
    assert err.strip().isprintable()
    works("decode", "a.latq", "-o", "folder/", "-q")
    assert [path.suffix for path in Path("folder").iterdir()] == [".safetensors"]
    assert os.listdir(tmp_path.parent) == before
    assert {path.name for path in Path().glob("[!t]*")} == {"a.latq", "a.safetensors", "b.safetensors", "folder"}


def test_output_names_may_be_as_long_as_the_file_system_allows(pair):
    longest = os.pathconf(".", "PC_NAME_MAX")
    works("encode", "a.npy", "-o", "x" * (longest - 5) + ".latq", "-q")


@pytest.mark.parametrize("output", ["missing/out.npy", "a.npy/out.npy", "a.latq/deep/out.h5"])
def test_outputs_that_cannot_be_created(fails, pair, output):
    for arguments in writing(output):
        fails(*arguments, code=1, says=(output,))


def test_a_directory_is_no_output(fails, pair):
    Path("folder.npy").mkdir()
    for arguments in writing("folder.npy"):
        fails(*arguments, "-f", code=1, says=("folder.npy", "directory"))


def test_existing_outputs_are_kept_without_force(fails, pair):
    Path("out.npy").write_bytes(b"precious")
    for arguments in writing("out.npy"):
        fails(*arguments, code=1, says=("out.npy", "exists", "-f"))
    works("decode", "a.latq", "-o", "out.npy", "-f")
    assert np.load("out.npy").shape == (64, 40)


def test_the_default_output_is_kept_without_force(fails, pair):
    fails("encode", "a.npy", code=1, says=("a.latq", "exists", "-f"))


def test_existing_outputs_survive_a_failure_with_force(fails, pair, sound):
    Path("out.npy").write_bytes(b"precious")
    bad = gaussian(64, 40)
    bad[0, 0] = np.nan
    fails("encode", save("bad.npy", bad), "-o", "out.npy", "-f", code=1)
    damaged = bytearray(sound)
    damaged[150] ^= 1
    Path("bad.latq").write_bytes(damaged)
    fails("decode", "bad.latq", "-o", "out.npy", "-f", code=3)
    fails("product", "bad.latq", "a.npy", "-o", "out.npy", "-f", code=3)


def test_an_input_is_no_output(fails, pair):
    Path("link.npy").symlink_to("a.npy")
    os.link("a.latq", "hard.npy")
    with h5py.File("b.h5", "w") as file:
        file["x"] = gaussian(64, 4)
    for arguments in (
        ["encode", "a.npy", "-o", "a.npy"],
        ["encode", "a.npy", "-o", "./temporary/../a.npy"],
        ["encode", "a.npy", "-o", "link.npy"],
        ["encode", "b.h5:/x", "-o", "b.h5"],
        ["decode", "a.latq", "-o", "hard.npy"],
        ["product", "a.npy", "a.latq", "-o", "a.npy"],
        ["product", "a.latq", "a.npy", "-o", "a.npy"],
        ["product", "a.latq", "b.h5:/x", "-o", "b.h5"],
    ):
        fails(*arguments, "-f", code=1, says=(arguments[-1], "input"))


def test_a_shard_is_no_output(fails):
    save_file({"w": gaussian(64, 64)}, "model-1.safetensors")
    Path("model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "model-1.safetensors"}}))
    for source in ("model.safetensors.index.json", "."):
        fails("encode", source, "-o", "model-1.safetensors", "-f", code=1, says=("model-1.safetensors", "input"))


@needs_full
def test_full_disk(fails, pair):
    for arguments in writing(str(FULL)):
        err = fails(*arguments, code=1 if arguments[0] == "encode" else 2)
        assert str(FULL) in err
    for command in ("encode a.npy -o -", "decode a.latq -o -", "info a.latq", "info a.latq --json"):
        with FULL.open("wb") as full:
            ended = latq(*command.split(), stdout=full)
        assert ended.returncode == 1
        assert_one_error_line(ended.stderr.decode())
        assert "No space left" in ended.stderr.decode()


def test_a_full_disk_in_the_middle_of_writing(tmp_path):
    """Files may not grow beyond a limit: writing fails as on a full disk, whichever library writes."""
    works("encode", save("a.npy", gaussian(256, 100)), "-q")
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); "
    before = snapshot(tmp_path)
    for arguments in (
        ["encode", "a.npy", "-o", "out.latq"],
        ["decode", "a.latq", "-o", "out.npy"],
        ["decode", "a.latq", "-o", "out.h5"],
        ["decode", "a.latq", "-o", "out.safetensors"],
        ["product", "a.latq", "a.npy", "-o", "out.h5"],
    ):
        code = (
            f"{limited} import sys; sys.argv = {['latq', *arguments]!r}; runpy.run_module('latq', run_name='__main__')"
        )
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
        assert ended.returncode == 1, ended.stderr
        assert_one_error_line(ended.stderr.decode())
        assert arguments[-1] in ended.stderr.decode()
        assert ".tmp" not in ended.stderr.decode()
        assert snapshot(tmp_path) == before


# -- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--bits 0", "bits"),
        ("--bits -4", "bits"),
        ("--bits nan", "bits"),
        ("--bits inf", "bits"),
        ("--bits 99", "bits"),
        ("--bits many", "--bits"),
        ("--axis 7", "axis"),
        ("--axis -3", "axis"),
        ("--axis x", "--axis"),
        ("--seed -1", "seed"),
        ("--seed 9223372036854775808", "seed"),
        ("--codec zip", "--codec"),
        ("--coding none", "--coding"),
        ("--rotation dct", "--rotation"),
        ("--nonfinite drop", "--nonfinite"),
        ("--threads -1", "--threads"),
        ("--threads 99999", "--threads"),
        ("--frobnicate", "--frobnicate"),
        ("surplus.npy", "surplus.npy"),
    ],
)
def test_bad_options_of_encode(fails, options, says):
    save("a.npy", gaussian(64, 40))
    fails("encode", "a.npy", "-o", "a.latq", *options.split(), code=2, says=(says,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-o b.npy --columns x", "--columns"),
        ("-o b.npy --columns 3", "--columns"),
        ("-o b.npy --columns 1:2:3", "--columns"),
        ("-o b.npy --columns 5:5", "columns"),
        ("-o b.npy --columns 7:2", "columns"),
        ("-o b.npy --columns 40:50", "columns"),
        ("-o b.npy --dtype int8", "--dtype"),
        ("-o b.txt", "b.txt"),
        ("-o b", "b:"),
        ("", "-o"),
    ],
)
def test_bad_options_of_decode(fails, pair, options, says):
    fails("decode", "a.latq", *options.split(), code=2, says=(says,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("a.latq a.npy -o c.safetensors", "c.safetensors"),
        ("a.latq a.npy -o c.txt", "c.txt"),
        ("a.latq a.npy", "-o"),
        ("a.latq -o c.npy", "B"),
        ("a.latq a.npy -o c.npy --estimate best", "--estimate"),
    ],
)
def test_bad_options_of_product(fails, pair, options, says):
    fails("product", *options.split(), code=2, says=(says,))


def test_lengths_that_do_not_match(fails, pair):
    save("short.npy", gaussian(63, 5))
    works("encode", "short.npy", "-q")
    for a, b in (("a.latq", "short.latq"), ("a.latq", "short.npy"), ("short.npy", "a.latq"), ("short.npy", "a.npy")):
        fails("product", a, b, "-o", "c.npy", code=2, says=(a, b, "64", "63"))


def test_nonfinite_plain_operands_are_refused(fails, pair):
    bad = gaussian(64, 5)
    bad[2, 3] = np.nan
    save("bad.npy", bad)
    for sides in (("a.latq", "bad.npy"), ("bad.npy", "a.latq")):
        fails("product", *sides, "-o", "c.npy", code=1, says=("bad.npy", "NaN, infinity"))
    save("bad.npy", np.full((64, 5), 1e300))
    fails("product", "a.latq", "bad.npy", "-o", "c.npy", code=1, says=("bad.npy", "float32"))


def test_a_rate_below_what_the_scales_need(fails):
    # Sizes too different for classes.
    save("a.npy", (gaussian(4, 5000) * np.exp2(np.linspace(-50, 50, 5000))).astype(np.float32))
    fails(
        "encode",
        "a.npy",
        "-o",
        "a.latq",
        "--bits",
        "2",
        "--coding",
        "fixed",
        code=2,
        says=("a.npy", "--bits", "--codec raw"),
    )


@pytest.mark.parametrize("arguments", ["frobnicate", "encode", "info", "verify", "--frobnicate"])
def test_bad_command_lines(arguments):
    ended = latq(*arguments.split(), stdout=subprocess.PIPE)
    assert ended.returncode == 2
    assert_one_error_line(ended.stderr.decode())
    assert len(ended.stderr) < 200, "one line, not the whole help"


def test_json_and_data_cannot_share_standard_output(pair):
    for arguments in (["encode", "a.npy"], ["decode", "a.latq"], ["product", "a.latq", "a.npy"]):
        ended = latq(*arguments, "-o", "-", "--json", stdout=subprocess.PIPE)
        assert ended.returncode == 2
        assert_one_error_line(ended.stderr.decode())
        assert json.loads(ended.stdout)["ok"] is False


# -- pipes -------------------------------------------------------------------------------------------------------


def test_bad_data_on_standard_input(tmp_path):
    before = snapshot(tmp_path)
    for arguments, data, code in (
        (["encode", "-", "-o", "a.latq"], b"rubbish", 1),
        (["encode", "-"], b"", 2),
        (["decode", "-", "-o", "-"], b"rubbish", 3),
        (["info", "-"], b"", 3),
    ):
        ended = latq(*arguments, input=data, stdout=subprocess.PIPE)
        assert ended.returncode == code, ended.stderr
        assert ended.stdout == b""
        assert_one_error_line(ended.stderr.decode())
        assert str(tmp_path) not in ended.stderr.decode(), "the user knows no temporary file"
        assert snapshot(tmp_path) == before


@pytest.mark.parametrize("arguments", ["info a.latq", "info a.latq --json", "encode a.npy -o -", "decode a.latq -o -"])
def test_closed_pipe(pair, tmp_path, arguments):
    before = snapshot(tmp_path)
    read, write = os.pipe()
    os.close(read)
    ended = latq(*arguments.split(), stdout=write)
    os.close(write)
    assert ended.returncode == 141
    assert ended.stderr == b""
    assert snapshot(tmp_path) == before
