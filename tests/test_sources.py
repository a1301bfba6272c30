"""Arrays in and out of .npy, HDF5 and safetensors files."""

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from latq.dtypes import DTYPES
from latq.errors import CorruptError, InputError, ParameterError, UnsupportedError
from latq.sources import (
    MatrixView,
    SourceTensor,
    TensorSpec,
    boxes,
    open_sink,
    open_source,
)

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


def full(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, size) for size in shape)


def read_all(spec: Any, **options: Any) -> dict[str, np.ndarray]:
    with open_source(str(spec), **options) as source:
        return {tensor.name: np.array(tensor.read(full(tensor.shape))) for tensor in source.tensors}


def write_all(path: Path, kind: Any, arrays: dict[str, np.ndarray], extras: dict[str, Any] | None = None) -> list[str]:
    specs = [TensorSpec(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with open_sink(path, kind, specs, extras) as sink:
        for name, array in arrays.items():
            sink.target(name)[full(array.shape)] = array
        return sink.warnings


def sample(name: str, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    return (np.arange(np.prod(shape, dtype=int)) % 7).reshape(shape).astype(DTYPES[name])


# -- boxes and matrices ------------------------------------------------------------------------------------------


@given(SHAPES, st.data())
def test_boxes_tile_the_range_in_order(shape, data):
    size = int(np.prod(shape, dtype=int))
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    flat = np.arange(size).reshape(shape)
    found = list(boxes(shape, start, stop))
    assert [i for box in found for i in flat[box].ravel()] == list(range(start, stop))
    assert len(found) <= max(1, 2 * len(shape) - 1)


def reference(array: np.ndarray, axis: int) -> np.ndarray:
    array = array.reshape(array.shape or (1,))
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(int(np.prod(moved.shape[:-1], dtype=int)), moved.shape[-1])


@given(SHAPES, st.sampled_from(["<f8", ">f4", "<i2"]), st.data())
def test_matrix_view_reads_and_writes_any_part(shape, dtype, data):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    axis = data.draw(st.integers(-max(len(shape), 1), max(len(shape), 1) - 1))
    view = MatrixView(array, shape, axis)
    expected = reference(array, axis)
    assert (view.m, view.n) == expected.shape
    v0, v1 = sorted(data.draw(st.tuples(st.integers(0, view.m), st.integers(0, view.m))))
    e0, e1 = sorted(data.draw(st.tuples(st.integers(0, view.n), st.integers(0, view.n))))
    block = view.read(v0, v1, e0, e1)
    assert block.dtype.isnative
    np.testing.assert_array_equal(block, expected[v0:v1, e0:e1])
    rows = view.rows(v0, v1, e0, e1)
    if rows is not None:
        np.testing.assert_array_equal(rows, block)
        assert np.shares_memory(rows, array)

    target = np.full_like(array, -1)
    MatrixView(target, shape, axis).write(v0, v1, e0, e1, block)
    wanted = np.full_like(expected, -1)
    wanted[v0:v1, e0:e1] = block
    np.testing.assert_array_equal(reference(target, axis), wanted)


def test_matrix_view_of_vectors_and_scalars():
    column = MatrixView(np.arange(3.0), (3,), 0)
    assert (column.n, column.m) == (3, 1)
    scalar = MatrixView(np.array(7.0), (), 0)
    assert (scalar.n, scalar.m) == (1, 1)
    assert scalar.read(0, 1, 0, 1).tolist() == [[7.0]]
    assert scalar.rows(0, 1, 0, 1) is None


def test_rows_that_lie_in_memory_are_a_view():
    array = np.zeros((6, 4), np.float32)
    assert np.shares_memory(MatrixView(array, (6, 4), 1).rows(2, 5, 0, 4), array)
    assert MatrixView(array, (6, 4), 1).rows(2, 5, 0, 3) is None
    assert MatrixView(array, (6, 4), 0).rows(1, 3, 0, 6) is None
    assert MatrixView(array.astype(">f4"), (6, 4), 1).rows(2, 5, 0, 4) is None


def test_matrix_view_reads_nothing_else():
    class Spy:
        shape, dtype = (4, 6, 5), np.dtype("f4")
        seen = 0

        def __getitem__(self, index):
            block = np.zeros(self.shape, self.dtype)[index]
            self.seen += block.size
            return block

    spy = Spy()
    MatrixView(spy, spy.shape, 1).read(3, 12, 2, 4)
    assert spy.seen == 9 * 2


@pytest.mark.parametrize("block", [(0, 4, 0, 1), (2, 1, 0, 1), (0, 1, -1, 1), (0, 1, 0, 3)])
def test_matrix_view_refuses_what_is_outside(block):
    with pytest.raises(ParameterError, match="outside"):
        MatrixView(np.zeros((2, 3)), (2, 3), 0).read(*block)


def test_matrix_view_refuses_a_missing_axis():
    with pytest.raises(ParameterError, match="axis 2 is out of range"):
        MatrixView(np.zeros((2, 3)), (2, 3), 2)


# -- npy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", ">i2", "|b1"])
def test_npy_layouts(tmp_path, version, order, dtype):
    array = np.asarray(sample("int64"), dtype, order=order)
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version)
    read = read_all(tmp_path / "a.npy")["data"]
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (3, 0, 2), (7,)])
@pytest.mark.parametrize("kind", ["npy", "h5", "safetensors"])
def test_odd_shapes_round_trip(tmp_path, kind, shape):
    array = sample("float32", shape)
    path = tmp_path / f"a.{kind}"
    write_all(path, kind, {"data": array})
    read = read_all(path)["data"]
    assert read.shape == shape
    np.testing.assert_array_equal(read, array)


def test_npy_output_is_what_numpy_writes(tmp_path):
    array = sample("float32")
    write_all(tmp_path / "a.npy", "npy", {"any": array})
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "signature"),
        (b"hello, this is text", "signature"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "version 9"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(20), "claims 2147483647 bytes"),
        (npy_bytes("{'descr': '<f4', 'fortran_order': False}"), "malformed"),
        (npy_bytes("(" * 5000), "malformed"),
        (npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "negative"),
        (npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(7)), "truncated"),
        (npy_bytes(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**30},)}}"), "truncated"),
        (npy_bytes(f"{{'descr': '<f4', 'fortran_order': False, 'shape': (0, {10**30})}}"), "shape"),
    ],
)
def test_bad_npy(tmp_path, content, message):
    path = tmp_path / "bad.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        open_source(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([None]), "object"),
        (np.array([1j]), "complex128"),
        (np.array(["text"]), "<U4"),
        (np.zeros(2, [("a", "f4"), ("b", "f4")]), "numeric"),
        (np.zeros(2, "V2"), "safetensors"),
        (np.zeros(2, "M8[s]"), "datetime64"),
    ],
)
def test_npy_dtypes_that_cannot_be_stored(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(UnsupportedError, match=message):
        open_source(str(tmp_path / "a.npy"))


def test_npy_holds_one_array(tmp_path):
    with pytest.raises(ParameterError, match="--tensor"):
        write_all(tmp_path / "a.npy", "npy", {"a": sample("int8"), "b": sample("int8")})


# -- finding inputs ----------------------------------------------------------------------------------------------


def test_missing_input(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        open_source(str(tmp_path / "none.npy"))


def test_kind_by_content(tmp_path):
    for kind in ("npy", "h5", "safetensors"):
        write_all(tmp_path / f"{kind}.bin", kind, {"data": sample("float32")})
        with open_source(str(tmp_path / f"{kind}.bin")) as source:
            assert source.kind == kind
            assert source.default_axis == (-1 if kind == "safetensors" else 0)
    (tmp_path / "text").write_text("neither of them")
    with pytest.raises(InputError, match="neither"):
        open_source(str(tmp_path / "text"))


def test_globs(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({name: sample("float32") for name in ("up.weight", "up.bias", "down.weight", "w[1]", "w1")}, path)
    assert list(read_all(path, tensors=["up.*", "*.weight"])) == ["down.weight", "up.bias", "up.weight"]
    assert list(read_all(path, tensors=["w[1]"])) == ["w[1]"]
    with pytest.raises(InputError, match=r"no tensor matches 'up\.wieght'; did you mean 'up\.weight'.*available: d"):
        open_source(str(path), tensors=["up.wieght"])


# -- safetensors -------------------------------------------------------------------------------------------------


def test_safetensors_every_dtype_round_trips_as_the_official_writer_writes(tmp_path):
    arrays = {f"{name}.x": sample(name) for name in DTYPES} | {"été/0": sample("float32", ()), "z": np.zeros((0, 2))}
    save_file(arrays, tmp_path / "official.safetensors", metadata={"format": "pt"})
    with open_source(str(tmp_path / "official.safetensors")) as source:
        extras = source.extras
        assert extras == {"metadata": {"format": "pt"}}
        assert [tensor.name for tensor in source.tensors] == sorted(arrays)
    read = read_all(tmp_path / "official.safetensors")
    for name, array in arrays.items():
        assert (read[name].dtype, read[name].tobytes()) == (array.dtype, array.tobytes())

    assert write_all(tmp_path / "ours.safetensors", "safetensors", read, extras) == []
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "official.safetensors").read_bytes()


def test_safetensors_output_loads_with_the_official_reader(tmp_path):
    arrays = {"f": sample("float32"), "b": sample("bfloat16"), "s": sample("int64", ()), "e": np.zeros((0, 2))}
    write_all(tmp_path / "a.safetensors", "safetensors", arrays)
    loaded = load_file(tmp_path / "a.safetensors")
    assert {name: array.tobytes() for name, array in loaded.items()} == {n: a.tobytes() for n, a in arrays.items()}


def test_safetensors_through_a_matrix_view(tmp_path):
    array = np.arange(24).reshape(2, 3, 4).astype(ml_dtypes.bfloat16)
    save_file({"w": array}, tmp_path / "a.safetensors")
    with open_source(str(tmp_path / "a.safetensors")) as source:
        (tensor,) = source.tensors
        assert tensor.dtype == "bfloat16"
        block = MatrixView(tensor.array, tensor.shape, source.default_axis).read(1, 5, 1, 3)
    np.testing.assert_array_equal(block.astype("f4"), array.reshape(6, 4)[1:5, 1:3].astype("f4"))


def sharded(directory: Path) -> Path:
    save_file({"a": sample("float32")}, directory / "model-1.safetensors", metadata={"format": "pt"})
    save_file({"b": sample("bfloat16")}, directory / "model-2.safetensors")
    index = directory / "model.safetensors.index.json"
    weight_map = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def test_sharded_checkpoint(tmp_path):
    index = sharded(tmp_path)
    assert list(read_all(index)) == list(read_all(tmp_path)) == ["a", "b"]
    with open_source(str(index)) as source:
        assert source.extras["metadata"] == {"format": "pt"}
    (tmp_path / "model-2.safetensors").unlink()
    assert list(read_all(index, tensors=["a"])) == ["a"]
    with pytest.raises(InputError, match=r"model-2\.safetensors.*missing"):
        open_source(str(index))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not a safetensors index"),
        ('{"weight_map": {"a": 3}}', "not a safetensors index"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', "outside"),
        ('{"weight_map": {"zz": "model-1.safetensors"}}', "'zz' of the index is missing"),
    ],
)
def test_bad_index(tmp_path, content, message):
    index = sharded(tmp_path)
    index.write_text(content)
    with pytest.raises(InputError, match=message):
        open_source(str(index))


def test_directory_without_a_checkpoint(tmp_path):
    with pytest.raises(InputError, match="directory holds no"):
        open_source(str(tmp_path))
    save_file({"a": sample("float32")}, tmp_path / "model.safetensors")
    assert list(read_all(tmp_path)) == ["a"]


def raw_safetensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 16,
        raw_safetensors(b"{asdf}"),
        raw_safetensors(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(7)),
        raw_safetensors(b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}', bytes(8)),
        raw_safetensors(b'{"a":{"dtype":"NEW","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    ],
)
def test_bad_safetensors(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.safetensors: not a sound"):
        open_source(str(path))


def test_safetensors_dtypes_that_cannot_be_stored(tmp_path):
    header = {
        "four": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
        "fine": {"dtype": "U8", "shape": [1], "data_offsets": [2, 3]},
    }
    path = tmp_path / "a.safetensors"
    path.write_bytes(raw_safetensors(json.dumps(header).encode(), bytes(3)))
    assert list(read_all(path, tensors=["fine"])) == ["fine"]
    with pytest.raises(UnsupportedError, match=r"'four' has dtype F4.*--tensor"):
        open_source(str(path))


# -- outputs of any kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_narrow_floats_need_safetensors(tmp_path, kind):
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        with pytest.raises(ParameterError, match=rf"cannot hold {name} \(tensor 'x'\).*--dtype float32"):
            write_all(tmp_path / "a", kind, {"x": sample(name)})


def test_sink_refuses(tmp_path):
    twice = [TensorSpec("x", (1,), "int8")] * 2
    with pytest.raises(ParameterError, match="same name"):
        open_sink(tmp_path / "a.h5", "h5", twice)
    with pytest.raises(CorruptError, match="malformed"):
        open_sink(tmp_path / "a.h5", "h5", twice[:1], {"groups": 3})
    with pytest.raises(InputError, match="device"):
        open_sink("/dev/null", "npy", twice[:1])
    with pytest.raises(ParameterError, match="__metadata__"):
        open_sink(tmp_path / "a.safetensors", "safetensors", [TensorSpec("__metadata__", (1,), "int8")])


def test_source_tensor_of_an_array_in_memory():
    tensor = SourceTensor.of("x", np.arange(4, dtype=">u4"), "memory")
    assert (tensor.dtype, tensor.shape) == ("uint32", (4,))
    assert tensor.read((slice(1, 3),)).dtype == np.dtype("=u4")
