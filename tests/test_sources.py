"""Arrays in and out of .npy, HDF5 and safetensors files."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import h5py
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
    atomic_output,
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


# -- HDF5 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree.h5"
    with h5py.File(path, "w") as file:
        file["top"] = sample("float32").astype(">f4")
        file["deep/er/scalar"] = np.array(2.5)
        file["deep/mask"] = np.array([True, False])
        file.create_dataset("deep/chunked", data=sample("int16", (40, 6)), chunks=(8, 6), compression="gzip")
        file.create_group("empty/inner")
        file.attrs["title"] = "naïve"
        file["deep"].attrs["tags"] = ["a", "bé"]
        top = file["top"].attrs
        top["scale"] = np.array([[1.5, 2.5]], ">f8")
        top["count"] = 3
        top["flag"] = True
        top["fixed"] = np.array([b"ab", b"c"])
        top["none"] = np.zeros(0)
    return path


def contents(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        found: dict[str, Any] = {"/": dict(file.attrs)}
        file.visititems(
            lambda name, item: found.update(
                {name: (dict(item.attrs), item[()] if isinstance(item, h5py.Dataset) else None)}
            )
        )
        return found


def test_h5_round_trip_with_groups_and_attributes(tree, tmp_path):
    with open_source(str(tree)) as source:
        assert [tensor.name for tensor in source.tensors] == ["deep/chunked", "deep/er/scalar", "deep/mask", "top"]
        assert [tensor.dtype for tensor in source.tensors] == ["int16", "float64", "bool", "float32"]
        assert source.warnings == []
        extras = json.loads(json.dumps(source.extras))
    assert write_all(tmp_path / "copy.h5", "h5", read_all(tree), extras) == []
    np.testing.assert_equal(contents(tmp_path / "copy.h5"), contents(tree))
    with h5py.File(tmp_path / "copy.h5") as copy:
        assert copy["top"].chunks is None
        assert copy["top"].attrs["scale"].dtype == ">f8"


def test_h5_one_dataset(tree):
    assert list(read_all(f"{tree}:/deep/mask")) == ["deep/mask"]
    assert list(read_all(tree, tensors=["/deep/m*"])) == ["deep/mask"]
    with open_source(f"{tree}:/deep/mask") as source:
        assert source.extras["groups"] == ["deep"]
        assert list(source.extras["attributes"]) == ["/", "deep"]
    with pytest.raises(InputError, match="no tensor matches 'deep/maks'"):
        open_source(f"{tree}:/deep/maks")
    with pytest.raises(ParameterError, match="already named"):
        open_source(f"{tree}:/deep/mask", tensors=["top"])


def test_h5_blocks_of_a_chunked_dataset(tree):
    with open_source(str(tree), tensors=["deep/chunked"]) as source:
        (tensor,) = source.tensors
        block = MatrixView(tensor.array, tensor.shape, 0).read(1, 4, 5, 30)
    np.testing.assert_array_equal(block, sample("int16", (40, 6))[5:30, 1:4].T)


def test_h5_links_are_not_followed(tree):
    with h5py.File(tree, "a") as file:
        file["alias"] = file["deep/mask"]
        file["deep/loop"] = file["/"]
        file["soft"] = h5py.SoftLink("/top")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("other.h5", "/x")
    with open_source(str(tree)) as source:
        assert [tensor.name for tensor in source.tensors] == ["alias", "deep/chunked", "deep/er/scalar", "top"]
        external, aliases = source.warnings
    assert external.endswith("external links not followed: outside")
    assert aliases.endswith("ignored: dangling, soft, deep/loop, deep/mask")


def test_h5_attributes_that_cannot_be_kept(tree):
    with h5py.File(tree, "a") as file:
        file["top"].attrs["ref"] = file.ref
        file["top"].attrs["pair"] = np.zeros(1, [("a", "f4")])
        file["deep"].attrs["null"] = h5py.Empty("f4")
    with open_source(str(tree)) as source:
        assert source.warnings == [
            f"{tree}: attributes dropped, their type cannot be kept: deep@null, top@pair, top@ref"
        ]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("text", "words", "dtype object"),
        ("fixed", np.array([b"ab"]), r"S2"),
        ("pairs", np.zeros(2, [("a", "f4")]), "cannot be stored"),
        ("wave", np.array([1j]), "complex128"),
        ("null", h5py.Empty("f4"), "null dataspace"),
        ("ragged", np.array([np.arange(2), np.arange(3)], object), "object"),
    ],
)
def test_h5_datasets_that_cannot_be_stored(tree, name, value, message):
    with h5py.File(tree, "a") as file:
        if name == "ragged":
            file.create_dataset(name, data=value, dtype=h5py.vlen_dtype("i4"))
        else:
            file[name] = value
    assert list(read_all(tree, tensors=["top"])) == ["top"]
    with pytest.raises(UnsupportedError, match=rf":/{name}: .*{message}.*--tensor"):
        open_source(str(tree))


def test_h5_data_in_other_files_are_refused(tree, tmp_path):
    with h5py.File(tree, "a") as file:
        file.create_dataset("far", (4,), "u1", external=[(str(tmp_path / "raw"), 0, 4)])
    with pytest.raises(UnsupportedError, match="other files"):
        open_source(str(tree))


def test_bad_h5(tree):
    whole = tree.read_bytes()
    for content in (b"", b"not HDF5 at all", whole[: len(whole) // 2]):
        tree.write_bytes(content)
        with pytest.raises(InputError, match="not a sound HDF5"):
            open_source(str(tree))


def test_h5_damaged_chunk_is_an_input_error(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=sample("int16", (400,)), chunks=(400,), compression="gzip", fletcher32=True)
        chunk = file["x"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 2] ^= 0xFF
    path.write_bytes(content)
    with open_source(str(path)) as source, pytest.raises(InputError, match=r"a\.h5:/x: cannot be read"):
        source.tensors[0].read((slice(0, 400),))


@pytest.mark.parametrize("name", ["../up", "a//b", "/a", ".", "a\x00b", "a\nb", ""])
def test_h5_names_are_checked(tmp_path, name):
    with pytest.raises(ParameterError, match="cannot be a name"):
        write_all(tmp_path / "a.h5", "h5", {name: sample("int8")})


def test_h5_names_that_exclude_each_other(tmp_path):
    with pytest.raises(ParameterError, match="cannot create dataset 'a/b'"):
        write_all(tmp_path / "a.h5", "h5", {"a": sample("int8"), "a/b": sample("int8")})


@pytest.mark.parametrize(
    "value", [{}, {"dtype": "|O", "shape": [], "data": ""}, {"dtype": "<f8", "shape": [2], "data": "AAAA"}, {"text": 3}]
)
def test_h5_attributes_that_cannot_be_written(tmp_path, value):
    extras = {"attributes": {"data": {"bad": value}, "absent": {"x": {"text": "x"}}}}
    (warning,) = write_all(tmp_path / "a.h5", "h5", {"data": sample("int8")}, extras)
    assert warning.endswith("cannot be written: data@bad")


# -- outputs of any kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_narrow_floats_need_safetensors(tmp_path, kind):
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        with pytest.raises(ParameterError, match=rf"cannot hold {name} \(tensor 'x'\).*--dtype float32"):
            write_all(tmp_path / "a", kind, {"x": sample(name)})


def test_conversion_warns_once_about_what_is_left_out(tmp_path, tree):
    with open_source(str(tree)) as source:
        extras = source.extras
    arrays = {"x": sample("float32")}
    (warning,) = write_all(tmp_path / "a.safetensors", "safetensors", arrays, extras)
    assert warning == "HDF5 attributes left out: .safetensors cannot hold them"
    (warning,) = write_all(tmp_path / "a.h5", "h5", arrays, {"metadata": {"format": "pt"}})
    assert warning == "safetensors metadata left out: .h5 cannot hold them"
    assert write_all(tmp_path / "a.npy", "npy", arrays, {"metadata": {}, "groups": ["g"]}) == []


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


# -- atomic outputs ----------------------------------------------------------------------------------------------


def test_atomic_output_appears_whole(tmp_path):
    target = tmp_path / "out"
    with atomic_output(target, force=False) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".latq.{os.getpid()}.")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_atomic_output_keeps_the_old_file_on_failure(tmp_path, failure):
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def fail_halfway() -> None:
        with atomic_output(target, force=True) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(failure):
        fail_halfway()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_atomic_output_keeps_permissions_and_links(tmp_path):
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_output(link, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_atomic_output_refuses(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    (tmp_path / "same").symlink_to(target)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (target, {"force": False}, "exists; use -f"),
        (target, {"force": True, "inputs": [str(tmp_path / "same")]}, "also an input"),
        (target, {"force": True, "inputs": [f"{target}:/group/x"]}, "also an input"),
        (tmp_path, {"force": True}, "is a directory"),
        (tmp_path / "none" / "out", {"force": True}, "No such file or directory"),
    ]
    for path, options, message in cases:
        with pytest.raises(InputError, match=message), atomic_output(path, **options):
            pytest.fail("the block must not run")
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, InputError), (errno.EIO, InputError), (errno.ENOENT, FileNotFoundError)]
)
def test_atomic_output_explains_its_own_errors_only(tmp_path, code, expected):
    with pytest.raises(expected, match=os.strerror(code)), atomic_output(tmp_path / "out", force=False):
        raise OSError(code, os.strerror(code))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_atomic_output_writes_straight_to_devices():
    with atomic_output("/dev/null", force=False) as path:
        path.write_bytes(b"x")
    with (
        pytest.raises(InputError, match="cannot write /dev/full: No space left on device"),
        atomic_output("/dev/full", force=False) as path,
    ):
        path.write_bytes(b"x")


def test_columns_of_a_file_that_has_become_shorter_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((64, 64), np.float32))
    with open_source(path) as source:
        view = MatrixView(source.tensors[0].array, (64, 64), 0)
        os.truncate(path, 1000)
        with pytest.raises(InputError, match=r"a\.npy: has become shorter"):
            view.read(0, 8, 0, 64)
