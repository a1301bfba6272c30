"""Bad input through the command line: one line that helps, the right exit code, and nothing left behind."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
from failing import (
    PREFIX,
    Fails,
    assert_one_error_line,
    decoded,
    encoded,
    gaussian,
    save,
    works,
)
from safetensors.numpy import save_file

from latq.cli.main import run
from latq.container import BytesSource, ContainerReader
from latq.container.records import FOOTER_SIZE, FRAME_HEADER_SIZE, PREAMBLE_SIZE, Footer, Preamble

pytestmark = pytest.mark.usefixtures("all_in_tmp_path")

# -- values that cannot be quantized -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_nonfinite_is_refused_and_its_first_position_named(fails, value, dtype):
    array = gaussian(40, 30).astype(dtype)
    array[20, 3] = array[7, 12] = array[7, 29] = value
    save("a.npy", array)
    fails("encode", "a.npy", "-o", "a.latq", code=1, says=("a.npy", "'data'", "[7, 12]", "--nonfinite raw"))


def test_nonfinite_position_does_not_depend_on_the_axis(fails):
    array = gaussian(6, 7, 8)
    array[5, 0, 0] = array[2, 6, 1] = np.nan
    save("a.npy", array)
    for axis in (0, 1, 2, -1):
        fails("encode", "a.npy", "-o", "a.latq", "--axis", axis, code=1, says=("[2, 6, 1]",))


def test_nonfinite_tensor_of_several_is_named(fails):
    bad = gaussian(16, 16)
    bad[3, 4] = np.inf
    with h5py.File("a.h5", "w") as file:
        file["one"], file["group/two"] = gaussian(16, 16), bad
    fails("encode", "a.h5", "-o", "a.latq", code=1, says=("a.h5", "group/two", "[3, 4]"))
    save_file({"one": gaussian(16, 16), "w.two": bad}, "a.safetensors")
    fails("encode", "a.safetensors", "-o", "a.latq", code=1, says=("a.safetensors", "w.two", "[3, 4]"))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_nonfinite_raw_keeps_every_bit(dtype):
    array = gaussian(64, 50).astype(dtype)
    array[0, 0], array[1, 1], array[2, 2], array[3, 3] = np.nan, np.inf, -np.inf, -0.0
    bits = array.view(f"u{array.itemsize}")
    bits[4, 4] = bits[0, 0] | 1  # A NaN with a payload.
    back = decoded(encoded("a.latq", array, "--nonfinite", "raw"))
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def test_nonfinite_raw_leaves_finite_tensors_quantized(capsys):
    bad = gaussian(64, 64)
    bad[1, 2] = np.nan
    save_file({"bad": bad, "good": gaussian(64, 64)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "--nonfinite", "raw", "--json")
    codecs = {t["name"]: t["codec"] for t in json.loads(capsys.readouterr().out)["tensors"]}
    assert codecs["bad"].startswith("raw")
    assert codecs["good"].startswith("e8")


@pytest.mark.parametrize("value", [3.5e38, -1e39, 1e200, -1.7e308])
def test_values_beyond_float32_are_refused(fails, value):
    array = gaussian(30, 40).astype(np.float64)
    array[4, 5] = value
    save("a.npy", array)
    fails("encode", "a.npy", "-o", "a.latq", code=1, says=("a.npy", "'data'", "float32", "--codec raw"))


def test_codec_raw_carries_values_beyond_float32():
    array = gaussian(30, 40).astype(np.float64) * 1e300
    assert decoded(encoded("a.latq", array, "--codec", "raw")).tobytes() == array.tobytes()


def test_raw_values_beyond_the_asked_dtype_decode_without_noise(capsys):
    array = np.array([[1e300, -1e300], [1.0, 2.0]])
    encoded("a.latq", array, "--codec", "raw")
    capsys.readouterr()
    works("decode", "a.latq", "-o", "a.npy", "--dtype", "float32", "-q")
    assert capsys.readouterr().err == ""
    assert np.load("a.npy")[1].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4)])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_empty_arrays_round_trip(shape, dtype):
    back = decoded(encoded("a.latq", np.zeros(shape, dtype)))
    assert back.shape == shape
    assert back.dtype == dtype
    works("info", "a.latq")
    works("verify", "a.latq")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("value", [0.0, 1.5, -3e-30])
def test_tiny_arrays_round_trip(shape, value):
    array = np.full(shape, value, np.float32)
    back = decoded(encoded("a.latq", array))
    assert back.shape == shape
    np.testing.assert_allclose(back, array, rtol=1e-3)


@pytest.mark.parametrize("axis", ["0", "1"])
def test_products_of_empty_operands(axis):
    works("encode", save("a.npy", np.zeros((0, 4), np.float32)), "-o", "a.latq", "--axis", axis)
    works("product", "a.latq", "a.latq", "-o", "c.npy")
    expected = np.zeros((4, 4) if axis == "0" else (0, 0), np.float32)
    np.testing.assert_array_equal(np.load("c.npy"), expected)


@pytest.mark.parametrize("options", [(), ("--centre",), ("--no-centre",), ("--rotation", "none")])
def test_zero_vectors_decode_to_positive_zero(options):
    everything = np.zeros((64, 40), np.float32)
    assert decoded(encoded("zero.latq", everything, *options)).tobytes() == everything.tobytes()
    some = gaussian(64, 40)
    some[:, 3] = some[:, 39] = 0.0
    some[0, 3] = -0.0
    back = decoded(encoded("some.latq", some, *options))
    assert back[:, [3, 39]].tobytes() == np.zeros((64, 2), np.float32).tobytes()


def test_products_with_zero_vectors_are_zero():
    encoded("zero.latq", np.zeros((64, 40), np.float32))
    encoded("a.latq", gaussian(64, 40))
    works("product", "zero.latq", "a.latq", "-o", "c.npy")
    assert not np.load("c.npy").any()


@pytest.mark.parametrize("value", [1.0, -3.25, 1e-20, 3e38])
def test_constants_are_nearly_exact_with_centring(value):
    array = np.full((256, 32), value, np.float32)
    for options in ((), ("--centre",)):
        back = decoded(encoded("a.latq", array, "-f", *options))
        np.testing.assert_allclose(back, array, rtol=1e-6)


def test_vectors_of_different_constants_are_nearly_exact():
    array = np.repeat(gaussian(1, 32), 256, axis=0)
    np.testing.assert_allclose(decoded(encoded("a.latq", array)), array, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "factor"), [("float32", 1e-41), ("float16", 1e-6), ("float64", 1e-310)])
def test_subnormals_survive(dtype, factor):
    array = (gaussian(128, 64).astype(np.float64) * factor).astype(dtype)
    back = decoded(encoded("a.latq", array)).astype(np.float64) / factor
    exact = array.astype(np.float64) / factor
    assert np.linalg.norm(back - exact) < 0.12 * np.linalg.norm(exact)


def test_subnormal_vectors_next_to_large_ones():
    array = gaussian(128, 64)
    array[:, 7] *= np.float32(1e-41)
    back = decoded(encoded("a.latq", array))
    for column in (0, 7):
        exact = array[:, column].astype(np.float64)
        assert np.linalg.norm(back[:, column] - exact) < 0.2 * np.linalg.norm(exact), column


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_largest_finite_values_stay_finite(dtype):
    array = np.where(gaussian(128, 64) > 0, np.finfo(dtype).max, -np.finfo(dtype).max).astype(dtype)
    back = decoded(encoded("a.latq", array))
    assert np.isfinite(back).all()
    assert (np.sign(back) == np.sign(array)).mean() > 0.99


# -- dtypes that cannot be stored --------------------------------------------------------------------------------

ODD = {
    "object": np.array([{"a": 1}, None], dtype=object),
    "complex": np.ones((4, 4), np.complex64),
    "text": np.array(["one", "two"]),
    "bytes": np.array([b"one", b"two"]),
    "structured": np.zeros(4, [("x", "f4"), ("y", "i4")]),
    "date": np.zeros(3, "datetime64[s]"),
}


@pytest.mark.parametrize("kind", ODD)
def test_npy_of_an_odd_dtype(fails, kind):
    np.save("a.npy", ODD[kind], allow_pickle=True)
    fails("encode", "a.npy", "-o", "a.latq", code=4, says=("a.npy", "dtype"))


def test_npy_of_bfloat16_asks_for_safetensors(fails):
    np.save("a.npy", np.zeros((4, 4), ml_dtypes.bfloat16))
    fails("encode", "a.npy", "-o", "a.latq", code=4, says=("a.npy", "safetensors"))


@pytest.mark.parametrize("kind", ["object", "complex", "text", "structured"])
def test_h5_of_an_odd_dtype(fails, kind):
    good = gaussian(32, 32)
    with h5py.File("a.h5", "w") as file:
        file["group/good"] = good
        if kind in ("object", "text"):
            file.create_dataset("group/odd", data=["one", "two"], dtype=h5py.string_dtype())
        else:
            file["group/odd"] = ODD[kind]
    fails("encode", "a.h5", "-o", "a.latq", code=4, says=("a.h5", "group/odd", "--tensor"))
    works("encode", "a.h5", "-o", "a.latq", "--tensor", "group/good", "-q")
    back = decoded("a.latq")
    assert np.linalg.norm(back - good) < 0.3 * np.linalg.norm(good)


# -- what is not there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none.npy", "none.h5", "none.safetensors", "none", "none.h5:/x", "deep/none.npy"])
def test_missing_inputs_of_encode(fails, name):
    fails("encode", name, "-o", "a.latq", code=1, says=(name, "No such file"))


@pytest.mark.parametrize("verb", ["decode", "info", "verify"])
def test_missing_latq(fails, verb):
    output = ["-o", "a.npy"] if verb == "decode" else []
    fails(verb, "none.latq", *output, code=1, says=("none.latq", "No such file"))


def test_missing_operands(fails):
    save("a.npy", gaussian(8, 8))
    for pair in (("a.npy", "none.latq"), ("none.npy", "a.npy")):
        fails("product", *pair, "-o", "c.npy", code=1, says=("none", "No such file"))


def test_missing_tensors_of_an_input(fails):
    save("a.npy", gaussian(8, 8))
    with h5py.File("a.h5", "w") as file:
        file["group/data"] = gaussian(8, 8)
    save_file({"w": gaussian(8, 8)}, "a.safetensors")
    for name, held in (("a.npy", "data"), ("a.h5", "group/data"), ("a.safetensors", "w")):
        fails("encode", name, "-o", "a.latq", "--tensor", "none*", code=1, says=(name, "none*", held))
    fails("encode", "a.h5:/nothing", "-o", "a.latq", code=1, says=("a.h5", "nothing", "group/data"))
    fails("encode", "a.h5:/group/data", "-o", "a.latq", "--tensor", "x", code=2, says=("a.h5",))


def test_missing_tensors_of_a_latq(fails):
    save_file({"one": gaussian(32, 32), "two": gaussian(32, 32)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "-q")
    save("x.npy", gaussian(32, 4))
    fails("decode", "a.latq", "-o", "b.safetensors", "--tensor", "none", code=1, says=("a.latq", "none", "one"))
    fails("decode", "a.latq", "-o", "b.safetensors", "--tensor", "o*", "--tensor", "z*", code=1, says=("z*",))
    for arguments in (("a.latq", "x.npy", "--tensor-a", "none"), ("x.npy", "a.latq", "--tensor-b", "none")):
        fails("product", *arguments, "-o", "c.npy", code=1, says=("a.latq", "none", "one, two"))
    fails("product", "x.npy", "x.npy", "-o", "c.npy", "--tensor-a", "none", code=1, says=("x.npy", "none"))


def test_product_of_files_with_several_tensors_asks_which(fails):
    save_file({"one": gaussian(32, 32), "two": gaussian(32, 32)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "-q")
    save("x.npy", gaussian(32, 4))
    for side in (("a.latq", "x.npy"), ("x.npy", "a.latq")):
        fails("product", *side, "-o", "c.npy", code=2, says=("a.latq", "2 tensors", "one, two", "--tensor-"))
    for side in (("a.safetensors", "x.npy"), ("x.npy", "a.safetensors")):
        fails("product", *side, "-o", "c.npy", code=2, says=("a.safetensors", "2 tensors", "one, two", "--tensor-"))


def test_several_tensors_do_not_fit_a_npy(fails):
    save_file({"one": gaussian(32, 32), "two": gaussian(32, 32)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "-q")
    fails("decode", "a.latq", "-o", "b.npy", code=2, says=("b.npy", "--tensor", ".h5"))
    fails("decode", "a.latq", "-o", "-", code=2, says=("--tensor",))


def test_bfloat16_does_not_fit_npy_or_h5(fails):
    save_file({"w": gaussian(32, 32).astype(ml_dtypes.bfloat16)}, "a.safetensors")
    works("encode", "a.safetensors", "-o", "a.latq", "-q")
    for output in ("b.npy", "b.h5"):
        err = fails("decode", "a.latq", "-o", output, code=2, says=("bfloat16", "'w'", "--dtype float32"))
        assert f" {output}:" in err, "the message must name the output that was asked for, not a temporary file"


# -- damaged files -----------------------------------------------------------------------------------------------


def refuses(fails: Fails, data: bytes, code: int, verbs: str = "info decode product verify") -> None:
    Path("bad.latq").write_bytes(data)
    save("x.npy", gaussian(64, 2))
    for verb in verbs.split():
        before = ["x.npy"] if verb == "product" else []
        output = ["-o", "out.npy"] if verb in ("decode", "product") else []
        fails(verb, *before, "bad.latq", *output, code=code, says=("bad.latq",))


@pytest.mark.parametrize("part", ["preamble", "metadata", "index", "footer", "closing"])
def test_flipped_byte_at_the_ends(fails, sound, part):
    footer = Footer.parse(sound[-FOOTER_SIZE:], "sound")
    position = {
        "preamble": 20,
        "metadata": footer.metadata_offset + FRAME_HEADER_SIZE + 5,
        "index": footer.index_offset + FRAME_HEADER_SIZE + 5,
        "footer": len(sound) - 60,
        "closing": len(sound) - 1,
    }[part]
    damaged = bytearray(sound)
    damaged[position] ^= 0x20
    refuses(fails, bytes(damaged), 3)


@pytest.mark.parametrize("place", ["frame header", "payload", "last"])
def test_flipped_byte_in_a_chunk(fails, sound, place):
    (record,) = ContainerReader(BytesSource(sound)).records
    payload = record.offset + FRAME_HEADER_SIZE
    position = {"frame header": record.offset + 9, "payload": payload, "last": payload + record.payload_len - 1}[place]
    damaged = bytearray(sound)
    damaged[position] ^= 1
    refuses(fails, bytes(damaged), 3, "decode product verify")
    works("info", "bad.latq")  # It reads the end only.


def test_every_byte_matters_to_verify(sound, capsys):
    for position in range(0, len(sound), 41):
        damaged = bytearray(sound)
        damaged[position] ^= 4
        Path("bad.latq").write_bytes(damaged)
        assert run(["verify", "bad.latq", "-q"]) == 3, position
        assert_one_error_line(capsys.readouterr().err)


@pytest.mark.parametrize("keep", [0, 1, 8, 63, 64, 200, -129, -128, -64, -1])
def test_truncated_latq(fails, sound, keep):
    refuses(fails, sound[:keep], 3, "info decode verify")


def test_surplus_bytes(fails, sound):
    refuses(fails, sound + b"\0", 3, "info decode verify")


@pytest.mark.parametrize("data", [b"hello", b"\x93NUMPY\x01\x00" + bytes(200), bytes(1000)])
def test_not_a_latq_file(fails, data):
    Path("bad.latq").write_bytes(data)
    for verb in ("info", "verify"):
        fails(verb, "bad.latq", code=3, says=("bad.latq", "not a latq file"))
    fails("decode", "bad.latq", "-o", "x.npy", code=3, says=("bad.latq", "not a latq file"))


def with_preamble(sound: bytes, **words: int) -> bytes:
    """The file with other words in its preamble and footer, and checksums that hold."""
    preamble = replace(Preamble.parse(sound[:PREAMBLE_SIZE], "sound"), **words)
    footer = replace(Footer.parse(sound[-FOOTER_SIZE:], "sound"), preamble=preamble)
    return preamble.pack() + sound[PREAMBLE_SIZE:-FOOTER_SIZE] + footer.pack()


def test_features_and_versions_of_the_future(fails, sound):
    refuses(fails, with_preamble(sound, must_understand=1 << 5), 4)
    refuses(fails, with_preamble(sound, major=2), 4)
    for words in ({"may_ignore": 1 << 9}, {"minor": 7}):
        Path("fine.latq").write_bytes(with_preamble(sound, **words))
        works("verify", "fine.latq")


def test_verify_goes_on_after_a_damaged_file(sound, capsys):
    Path("bad.latq").write_bytes(sound[:-1])
    Path("alien.latq").write_bytes(with_preamble(sound, must_understand=1))
    assert run(["verify", "bad.latq", "sound.latq"]) == 3
    out, err = capsys.readouterr()
    assert "sound.latq: ok" in out + err
    assert err.count(PREFIX) == 1
    assert run(["verify", "alien.latq", "sound.latq", "-q"]) == 4
    assert run(["verify", "none.latq", "sound.latq", "-q"]) == 1


@pytest.mark.parametrize(("keep", "code"), [(-1, 3), (400, 3), (None, 1)])
def test_verify_failures_as_json(sound, capsys, keep, code):
    path = "bad.latq"
    if keep:
        Path(path).write_bytes(sound[:keep])
    assert run(["verify", path, "sound.latq", "--json"]) == code
    out, err = capsys.readouterr()
    assert_one_error_line(err)
    result = json.loads(out)
    assert result["ok"] is False
    assert [f["file"] for f in result["files"]] == [path, "sound.latq"]
    assert [f["code"] for f in result["files"]] == [code, 0]
    assert result["error"]["code"] == code
    assert result["error"]["message"] in err


def compressed_h5(path: str) -> bytes:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.zeros((64, 64), np.float32), chunks=(8, 8), compression="gzip")
    return Path(path).read_bytes()


def test_truncated_inputs_of_encode(fails):
    save("a.npy", gaussian(64, 64))
    compressed_h5("a.h5")
    save_file({"w": gaussian(64, 64)}, "a.safetensors")
    for name in ("a.npy", "a.h5", "a.safetensors"):
        whole = Path(name).read_bytes()
        for size in (0, 5, 9, 40, 100, len(whole) // 2, len(whole) - 1):
            Path(name).write_bytes(whole[:size])
            fails("encode", name, "-o", "a.latq", code=1, says=(name,))


def test_corrupt_inputs_of_encode(fails):
    save("a.npy", gaussian(64, 64))
    save_file({"w": gaussian(64, 64)}, "a.safetensors")
    npy, h5, tensors = Path("a.npy").read_bytes(), compressed_h5("a.h5"), Path("a.safetensors").read_bytes()
    position = h5.index(b"x\x5e") if b"x\x5e" in h5 else h5.index(b"x\x9c")
    cases = {
        "a.npy": [npy.replace(b"'shape': (64, 64)", b"'shape': (64, -4)"), npy.replace(b"{", b"["), b"\x93NUMPY" * 9],
        "a.h5": [h5[:8] + bytes(300), h5[: position + 2] + b"\xff" * 12 + h5[position + 14 :]],
        "a.safetensors": [
            b"\xff" * 8 + tensors[8:],
            tensors.replace(b'"F32"', b'"F99"'),
            tensors.replace(b"[64,64]", b"[64,65]"),
            tensors[:8] + b"\xff" * 20 + tensors[28:],
        ],
    }
    for name, contents in cases.items():
        for data in contents:
            Path(name).write_bytes(data)
            fails("encode", name, "-o", "a.latq", code=1, says=(name,))


def test_input_of_no_known_kind(fails):
    Path("a.txt").write_text("1 2 3\n")
    fails("encode", "a.txt", "-o", "a.latq", code=1, says=("a.txt", ".npy", ".safetensors"))
    Path("folder").mkdir()
    fails("encode", "folder", "-o", "a.latq", code=1, says=("folder",))


def test_broken_checkpoint_index(fails):
    save_file({"w": gaussian(8, 8)}, "model-1.safetensors")
    index = Path("model.safetensors.index.json")
    index.write_text("{")
    fails("encode", index, "-o", "a.latq", code=1, says=(index.name,))
    index.write_text(json.dumps({"weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}))
    fails("encode", index, "-o", "a.latq", code=1, says=(index.name, "model-2.safetensors"))
    index.write_text(json.dumps({"weight_map": {"w": "model-1.safetensors", "v": "model-1.safetensors"}}))
    fails("encode", index, "-o", "a.latq", code=1, says=("model-1.safetensors", "'v'"))
    index.write_text(json.dumps({"weight_map": {"w": "../model-1.safetensors"}}))
    fails("encode", index, "-o", "a.latq", code=1, says=(index.name, "../model-1.safetensors"))


@pytest.mark.parametrize("name", ["line\nbreak", "nul\x00", "", "x" * 1100])
def test_names_that_the_format_cannot_hold(fails, name):
    save_file({name: gaussian(32, 32), "other": gaussian(32, 32)}, "a.safetensors")
    fails("encode", "a.safetensors", "-o", "a.latq", code=1, says=("a.safetensors", "--tensor"))


def test_more_dimensions_than_the_format_holds(fails):
    save("a.npy", np.zeros((1,) * 40, np.float32))
    fails("encode", "a.npy", "-o", "a.latq", code=1, says=("a.npy", "40"))


def test_more_attributes_than_the_format_holds(fails):
    with h5py.File("a.h5", "w") as file:
        file["x"] = gaussian(32, 32)
        for number in range(300):
            file["x"].attrs[f"table {number}"] = np.zeros(7000)
    fails("encode", "a.h5", "-o", "a.latq", code=1, says=("a.h5", "attributes"))
