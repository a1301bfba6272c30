"""Arrays in and out of HDF5 files: groups, attributes, links, damage."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_sources import read_all, sample, write_all

from latq.errors import InputError, ParameterError, UnsupportedError
from latq.sources import (
    MatrixView,
    open_source,
)


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


def test_conversion_warns_once_about_what_is_left_out(tmp_path, tree):
    with open_source(str(tree)) as source:
        extras = source.extras
    arrays = {"x": sample("float32")}
    (warning,) = write_all(tmp_path / "a.safetensors", "safetensors", arrays, extras)
    assert warning == "HDF5 attributes left out: .safetensors cannot hold them"
    (warning,) = write_all(tmp_path / "a.h5", "h5", arrays, {"metadata": {"format": "pt"}})
    assert warning == "safetensors metadata left out: .h5 cannot hold them"
    assert write_all(tmp_path / "a.npy", "npy", arrays, {"metadata": {}, "groups": ["g"]}) == []
