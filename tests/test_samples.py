"""The samples: the same bytes on every machine, and what the README of the folder says of them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import latq
from latq.cli.main import run
from latq.sources import open_source

SAMPLES = Path(__file__).parent.parent / "samples"
TWINS = {
    "glove_2000x50.npy": ["--axis", "1", "--bits", "4"],
    "air_temperature.h5": ["--bits", "5", "--coding", "fixed"],
    "minilm_layer0.safetensors": ["--bits", "4"],
}


def test_checksums() -> None:
    listed = dict(line.split("  ")[::-1] for line in (SAMPLES / "SHA256SUMS").read_text().splitlines())
    found = {p.name: p for suffix in ("npy", "h5", "safetensors", "latq") for p in SAMPLES.glob(f"*.{suffix}")}
    assert set(listed) == set(found)
    for name, path in found.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name


@pytest.mark.parametrize("name", TWINS)
def test_encoding_again_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    out = tmp_path / "again.latq"
    assert run(["encode", str(SAMPLES / name), "-o", str(out), "-q", *TWINS[name]]) == 0
    assert out.read_bytes() == (SAMPLES / name).with_suffix(".latq").read_bytes()


@pytest.mark.parametrize("name", TWINS)
def test_twin_is_close_to_its_source(name: str) -> None:
    with open_source(SAMPLES / name) as source, latq.open((SAMPLES / name).with_suffix(".latq")) as twin:
        assert [t.name for t in source.tensors] == list(twin)
        for tensor in source.tensors:
            x, y = tensor.read(tuple(slice(0, s) for s in tensor.shape)), twin[tensor.name].decode()
            assert (x.shape, x.dtype) == (y.shape, y.dtype)
            assert np.linalg.norm(x - y) <= 0.13 * np.linalg.norm(x)
