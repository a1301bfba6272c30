"""Whole model checkpoints: shards and index, a rate for every tensor, tensors that are the same."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import latq
from latq.cli.main import run as run_command
from latq.pipeline.decide import EncodeOptions
from latq.pipeline.encode import encode_source
from latq.pipeline.rates import least_error_rates
from latq.pipeline.ties import ties
from latq.sources import Source, SourceTensor, open_source

pytestmark = pytest.mark.usefixtures("in_tmp_path")

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3)]


def gaussian(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


MODEL = {
    "embed.weight": gaussian(500, 64),
    "layers.0.norm.weight": gaussian(64, seed=1),
    "layers.0.up.weight": gaussian(128, 64, seed=2, dtype=ml_dtypes.bfloat16),
    "layers.0.up.bias": gaussian(128, seed=3),
    "layers.1.up.weight": gaussian(128, 64, seed=4),
    "positions": np.arange(64).reshape(1, 64),
    "lm_head.weight": gaussian(500, 64),
}
TIED = {"embed.weight", "lm_head.weight"}
SHARD_OF = {name: SHARDS[number % 3] for number, name in enumerate(sorted(MODEL))}


def write_checkpoint(folder: str = "model", index: bool = True) -> Path:
    path = Path(folder)
    path.mkdir()
    for number, shard in enumerate(SHARDS):
        held = {name: MODEL[name] for name in MODEL if SHARD_OF[name] == shard}
        save_file(held, path / shard, {"format": "pt", "shard": str(number)})
    if index:
        total = sum(array.nbytes for array in MODEL.values())
        text = {"metadata": {"total_size": total, "note": [1, {"x": None}]}, "weight_map": SHARD_OF}
        (path / INDEX).write_text(json.dumps(text))
    (path / "config.json").write_text("{}")
    return path


def read_checkpoint(folder: str) -> dict[str, np.ndarray]:
    return {name: array for shard in Path(folder).glob("*.safetensors") for name, array in load_file(shard).items()}


def contents(folder: str = ".") -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def check_same_model(found: dict[str, np.ndarray]) -> None:
    assert set(found) == set(MODEL)
    for name, array in MODEL.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        if array.ndim == 1 or array.dtype.kind == "i":
            assert found[name].tobytes() == array.tobytes()
        else:
            exact = array.astype(np.float64)
            assert 0.01 < np.linalg.norm(found[name].astype(np.float64) - exact) / np.linalg.norm(exact) < 0.1


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return file.metadata()


# -- shards and index --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["model", f"model/{INDEX}"])
def test_round_trip(run, run_json, source):
    write_checkpoint()
    run_json("encode", source, "-o", "model.latq")
    run("decode", "model.latq", "-o", "back/")
    check_same_model(read_checkpoint("back"))
    assert sorted(os.listdir("back")) == [*SHARDS, INDEX]
    assert json.loads(Path("back", INDEX).read_text()) == json.loads(Path("model", INDEX).read_text())
    for shard in SHARDS:
        assert set(load_file(Path("back", shard))) == set(load_file(Path("model", shard)))
        assert metadata_of(Path("back", shard)) == metadata_of(Path("model", shard))
    run("decode", "model.latq", "-o", "one.safetensors")
    check_same_model(load_file("one.safetensors"))
    run("compare", "back", "model.latq")


def test_round_trip_without_an_index(run):
    write_checkpoint(index=False)
    run("encode", "model")
    run("decode", "model.latq", "-o", "back/")
    assert sorted(os.listdir("back")) == SHARDS
    check_same_model(read_checkpoint("back"))


def test_python_interface():
    write_checkpoint()
    report = latq.save("a.latq", "model", 5, bits_for=[("layers.1.*", 7)])
    assert 6 < next(t.bits_per_entry for t in report.tensors if t.name == "layers.1.up.weight") < 7.1
    latq.export("a.latq", "back/")
    check_same_model(read_checkpoint("back"))
    latq.export(Path("a.latq").read_bytes(), "one.safetensors")
    check_same_model(load_file("one.safetensors"))
    with pytest.raises(latq.InputError, match="exists"):
        latq.export("a.latq", "back")
    latq.export("a.latq", "back", overwrite=True)
    with pytest.raises(latq.ParameterError, match="must end in"):
        latq.export("a.latq", "new")
    with pytest.raises(latq.InputError, match="is also an input"):
        latq.save(f"model/{SHARDS[0]}", "model", overwrite=True)


def test_part_of_a_checkpoint(run):
    write_checkpoint()
    run("encode", "model")
    run("decode", "model.latq", "-o", "back/", "--tensor", "layers.1.*", "--dtype", "float16")
    shard = SHARD_OF["layers.1.up.weight"]
    assert sorted(os.listdir("back")) == [shard, INDEX]
    index = json.loads(Path("back", INDEX).read_text())
    assert index["weight_map"] == {"layers.1.up.weight": shard}
    assert index["metadata"]["total_size"] == 2 * 128 * 64


def test_a_single_file_into_a_folder(run):
    save_file(MODEL, "a.safetensors", {"format": "pt"})
    run("encode", "a.safetensors")
    run("decode", "a.latq", "-o", "back/")
    assert os.listdir("back") == ["model.safetensors"]
    assert metadata_of(Path("back/model.safetensors")) == {"format": "pt"}
    run("encode", "back", "-o", "b.latq")


def test_other_files_stay_and_old_ones_need_force(run, refused):
    write_checkpoint()
    run("encode", "model")
    Path("back").mkdir()
    Path("back/config.json").write_text("mine")
    run("decode", "model.latq", "-o", "back")
    assert Path("back/config.json").read_text() == "mine"
    before = contents("back")
    assert "exists; use -f" in refused(1, "decode", "model.latq", "-o", "back")
    Path("back", SHARDS[1]).write_text("old")
    Path("back", INDEX).unlink()
    run("decode", "model.latq", "-o", "back", "-f")
    assert contents("back") == before


@pytest.mark.parametrize("fails_at", range(1, 9))
def test_an_interrupted_exchange_leaves_the_old_files(run, monkeypatch, fails_at):
    write_checkpoint()
    run("encode", "model")
    Path("back").mkdir()
    for name in [*SHARDS[:2], INDEX, "config.json"]:
        Path("back", name).write_text(f"old {name}")
    before, replace, calls = contents("back"), os.replace, iter(range(1, 100))

    def interrupted(source: Any, target: Any) -> None:
        if next(calls) == fails_at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_command(["decode", "model.latq", "-o", "back", "-f"])
    assert contents("back") == before


def test_what_fails_leaves_nothing(refused, run, monkeypatch):
    write_checkpoint()
    run("encode", "model")
    before = contents()
    monkeypatch.setattr("latq.sources.atomic._write_out", lambda path: (_ for _ in ()).throw(OSError(28, "full")))
    Path("there").mkdir()
    for folder in ("back/", "there"):
        refused(1, "decode", "model.latq", "-o", folder)
    assert contents() == before
    assert not Path("back").exists()
    assert not os.listdir("there")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index: Path("model", SHARDS[2]).unlink(), "is missing"),
        (lambda index: index["weight_map"].update(nowhere=SHARDS[0]), "'nowhere' of the index is missing"),
        (lambda index: index["weight_map"].pop("lm_head.weight"), "'lm_head.weight'"),
        (lambda index: index["weight_map"].update(positions=SHARDS[1]), "'positions'"),
        (lambda index: index["weight_map"].update(positions=f"../{SHARDS[0]}"), "outside"),
        (lambda index: index["weight_map"].update(positions=f"/{SHARDS[0]}"), "outside"),
        (lambda index: index["weight_map"].update(positions="pytorch_model.bin"), "'pytorch_model.bin'"),
        (lambda index: index["weight_map"].update(positions="a\n.safetensors"), "control characters"),
        (lambda index: index["weight_map"].update(positions=3), "not a safetensors index"),
        (lambda index: index["metadata"].update(deep=[[[[[[[[]]]]]]]]), "nested deeper"),
    ],
)
def test_bad_index(refused, change: Callable[[Any], Any], says: str):
    path = write_checkpoint() / INDEX
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    before = contents()
    assert says in refused(1, "encode", "model", "-o", "a.latq")
    assert contents() == before


def test_bad_folders(refused):
    write_checkpoint(index=False)
    save_file({"positions": gaussian(3)}, "model/zz.safetensors")
    message = refused(1, "encode", "model")
    assert "'positions'" in message
    assert "zz.safetensors" in message
    for name in ("a", "b"):
        Path(f"model/{name}.safetensors.index.json").write_text("{}")
    assert "name one of them" in refused(1, "encode", "model")
    Path("empty").mkdir()
    assert "holds no .safetensors" in refused(1, "encode", "empty")


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"shards": {"../a.safetensors": {"tensors": ["w"]}}},
        {"shards": {"/tmp/a.safetensors": {"tensors": ["w"]}}},
        {"shards": {"a\x07.safetensors": {"tensors": ["w"]}}},
        {"shards": {".a.safetensors": {"tensors": ["w"]}}},
        {"shards": {"config.json": {"tensors": ["w"]}}},
        {"shards": {"a" * 300 + ".safetensors": {"tensors": ["w"]}}},
        {"shards": {"a.safetensors": {"tensors": []}}},
        {"shards": {"a.safetensors": {"tensors": ["w"]}, "b.safetensors": {"tensors": ["w"]}}},
        {"shards": {"a.safetensors": {"tensors": ["w"]}}, "index": "../model.index.json"},
        {"shards": {"a.safetensors": {"tensors": ["w"]}}, "index": "config.json"},
        {"shards": {"a.safetensors": 3}},
        {"shards": 3},
        3,
    ],
)
def test_hostile_names(refused, checkpoint):
    with open("a.latq", "wb") as stream:
        tensors = [SourceTensor.of("w", gaussian(64, 64), "w")]
        encode_source(Source("safetensors", tensors, 1, {"checkpoint": checkpoint}), "a", stream, EncodeOptions())
    before = contents()
    Path("there").mkdir()
    for folder in ("back/", "there"):
        refused(3, "decode", "a.latq", "-o", folder)
    assert contents() == before
    assert latq.decode("a.latq").shape == (64, 64)


# -- rates -------------------------------------------------------------------------------------------------------


def rates_of(report: dict[str, Any]) -> dict[str, float]:
    return {tensor["name"]: tensor["bits_per_entry"] for tensor in report["tensors"]}


def test_rates_by_name(run_json, run):
    write_checkpoint()
    options = ("--bits", "4", "--bits-for", "*.up.weight=2.5", "--bits-for", "layers.1.*=raw", "--bits-for", "e*=6")
    rates = rates_of(run_json("encode", "model", *options))
    assert rates["embed.weight"] == pytest.approx(6, abs=0.4)
    assert rates["lm_head.weight"] == pytest.approx(4, abs=0.4)  # Not the same any more.
    assert rates["layers.0.up.weight"] == pytest.approx(2.5, abs=0.5)
    assert rates["layers.1.up.weight"] > 25
    shown = {tensor["name"]: tensor["bits_per_entry"] for tensor in run_json("info", "model.latq")["tensors"]}
    assert shown == rates
    _, err = run("encode", "model", *options, "-f")
    assert f"({rates['layers.0.up.weight']:.2f} to {rates['embed.weight']:.2f})" in err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--bits-for", "nope*=4"], 1, "'nope*'"),
        (["--bits-for", "*=much"], 2, "'much'"),
        (["--bits-for", "4"], 2, "GLOB=R"),
        (["--bits-for", "*=13"], 2, "out of range"),
        (["--bits-for", "*=nan"], 2, "out of range"),
        (["--bits-for", "*=4", "--codec", "raw"], 2, "--bits-for"),
        (["--allocate", "--codec", "raw"], 2, "--allocate"),
        (["--allocate", "--error", "0.1"], 2, "--allocate"),
        (["--allocate", "--bits", "0.5"], 2, "too little"),
        (["--allocate", "--bits", "4", "--bits-for", "layers.1.up.weight=raw"], 2, "too little"),
    ],
)
def test_rates_that_cannot_be(refused, options, code, says):
    write_checkpoint()
    before = contents()
    assert says in refused(code, "encode", "model", "-o", "a.latq", *options)
    assert contents() == before


def layers() -> dict[str, np.ndarray]:
    """Matrices of unequal sizes, and what is lossless."""
    shapes = {"embed": (8192, 256), "up": (1024, 256), "key": (64, 256), "twin": (64, 256), "norm": (40960,)}
    return {name: gaussian(*shape, seed=len(name)) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--codec", "trellis", "--effort", "fast"],
        ["--coding", "fixed"],
        ["--codec", "scalar", "--coding", "entropy"],
    ],
)
def test_allocated_rates(run_json, options):
    save_file(layers(), "a.safetensors")
    flat = run_json("encode", "a.safetensors", "-o", "flat.latq", "--bits", "4", *options)
    shared = run_json("encode", "a.safetensors", "-o", "shared.latq", "--bits", "4", "--allocate", *options)
    errors = [sum(t["error"] or 0 for t in report["tensors"]) for report in (flat, shared)]
    assert errors[1] < errors[0]
    # Without allocation what is lossless comes on top.
    assert flat["bits_per_entry"] > 4.3
    assert 3.9 < shared["bits_per_entry"] <= 4
    rates = rates_of(shared)
    assert rates["embed"] < rates["up"] < rates["key"]
    assert run_json("info", "shared.latq")["bits_per_entry"] == shared["bits_per_entry"]


def test_allocated_rates_beside_fixed_ones(run_json):
    save_file(layers(), "a.safetensors")
    report = run_json(
        "encode", "a.safetensors", "--bits", "4", "--allocate", "--bits-for", "up=7", "--bits-for", "t*=raw"
    )
    rates = rates_of(report)
    assert rates["up"] == pytest.approx(7, abs=0.1)
    assert rates["twin"] > 25
    assert 3.9 < report["bits_per_entry"] <= 4


def test_allocation_of_more_than_the_highest_rate(run_json):
    save_file({"a": gaussian(64, 256), "b": gaussian(512, 256)}, "a.safetensors")
    rates = rates_of(run_json("encode", "a.safetensors", "--bits", "12", "--allocate"))
    assert min(rates.values()) > 11.4


@given(
    st.lists(st.tuples(st.integers(1, 1 << 40), st.floats(1e-6, 1e6)), min_size=1, max_size=20),
    st.floats(0.25, 12),
)
def test_least_error_rates(tensors: list[tuple[int, float]], bits: float):
    entries, weights = [n for n, _ in tensors], [w for _, w in tensors]
    budget = bits * sum(entries)
    rates = least_error_rates(entries, weights, budget, 0.25, 12)
    assert 0.25 <= min(rates) <= max(rates) <= 12
    assert budget * (1 - 1e-6) <= sum(n * rate for n, rate in zip(entries, rates, strict=True)) <= budget * (1 + 1e-9)
    # A bit moved from one tensor to another gains nothing: errors fall as fast in all that are within their bounds.
    slopes = [w * 4**-rate / n for n, w, rate in zip(entries, weights, rates, strict=True)]
    inner = [slope for slope, rate in zip(slopes, rates, strict=True) if 0.25 < rate < 12]
    if inner:
        assert max(inner) <= min(inner) * (1 + 1e-6)
        assert all(slope <= min(inner) * (1 + 1e-6) for slope, rate in zip(slopes, rates, strict=True) if rate == 0.25)
        assert all(slope >= max(inner) * (1 - 1e-6) for slope, rate in zip(slopes, rates, strict=True) if rate == 12)


# -- tensors that are the same -----------------------------------------------------------------------------------


def test_tied_tensors_are_stored_once(run, run_json):
    write_checkpoint()
    report = run_json("encode", "model")
    found = {tensor["name"]: tensor for tensor in report["tensors"]}
    assert found["lm_head.weight"]["same_as"] == "embed.weight"
    assert (found["lm_head.weight"]["bytes"], found["embed.weight"]["same_as"]) == (0, None)
    described = {tensor["name"]: tensor for tensor in run_json("info", "model.latq")["tensors"]}
    assert described["lm_head.weight"]["same_as"] == "embed.weight"
    assert described["lm_head.weight"]["accuracy"] == described["embed.weight"]["accuracy"]
    once = {name: array for name, array in MODEL.items() if name != "lm_head.weight"}
    total = run_json("info", "model.latq")
    assert total["entries"] == sum(array.size for array in once.values())
    save_file(once, "once.safetensors")
    assert abs(run_json("encode", "once.safetensors")["bytes"] - total["bytes"]) < 1500  # The index of the shards.
    assert "same as embed.weight" in run("info", "model.latq")[0]
    assert "1 the same as another" in run("encode", "model", "-f")[1]
    with latq.open("model.latq") as file:
        assert file["lm_head.weight"].same_as == "embed.weight"
        np.testing.assert_array_equal(file["lm_head.weight"][3:5], file["embed.weight"][3:5])
    run("verify", "model.latq")


def test_tied_tensors_weigh_twice_in_an_allocation(run_json):
    arrays = {"a": gaussian(512, 256), "b": gaussian(512, 256, seed=1), "z": gaussian(512, 256)}
    save_file(arrays, "a.safetensors")
    rates = rates_of(run_json("encode", "a.safetensors", "--allocate"))
    assert rates["a"] - rates["b"] == pytest.approx(0.5, abs=0.05)
    assert rates["z"] == 0
    rates = rates_of(run_json("encode", "a.safetensors", "--allocate", "--bits-for", "z=4", "-f"))
    assert rates["z"] > 3.9


def test_ties_are_exact():
    base = gaussian(100, 200)
    later, negative_zero, zero = base.copy(), np.zeros((4, 4)), np.zeros((4, 4))
    later[-1, -1] += 1
    negative_zero[0, 0] = -0.0
    arrays = [base, later, base.copy(), base.T, base.astype(">f4"), base.reshape(200, 100), zero, negative_zero]
    arrays += [np.zeros((0, 3)), np.zeros((0, 3)), np.float32(1), np.float32(1), np.int32(0), np.float32(0)]
    tensors = [SourceTensor.of(f"{i:02d}", np.asarray(array), "here") for i, array in enumerate(arrays)]
    assert ties(tensors, [0] * len(tensors)) == {2: 0, 4: 0, 11: 10}
    assert ties(tensors, range(len(tensors))) == {}


def test_only_tensors_that_begin_alike_are_read():
    read: list[str] = []

    class Counted:
        def __init__(self, name: str, array: np.ndarray) -> None:
            self.name, self.array, self.shape, self.dtype = name, array, array.shape, array.dtype

        def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
            block = self.array[index]
            read.extend([self.name] * block.size)
            return block

    arrays = {"a": gaussian(64, 64), "b": gaussian(64, 64, seed=1), "c": gaussian(64, 65), "d": gaussian(64, 64)}
    tensors = [SourceTensor.of(name, Counted(name, array), "here") for name, array in arrays.items()]
    assert ties(tensors, [0] * 4) == {3: 0}
    assert read.count("c") == 0
    assert read.count("b") == 1024
    assert read.count("a") == read.count("d") == 1024 + 4096


def test_threads_do_not_change_the_file():
    write_checkpoint()
    files = set()
    for threads in (1, 2, 5):
        with open_source("model") as source:
            stream = io.BytesIO()
            options = EncodeOptions(bits=5, allocate=True, bits_for=(("*.up.*", 4.0),), threads=threads)
            encode_source(source, "model", stream, options)
        files.add(stream.getvalue())
    assert len(files) == 1
