"""Files as latq writes them, energies included. What is there once is not made again: tests/golden.json pins it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import safetensors.numpy

import latq
from latq.dtypes import DTYPES

Build = Callable[[np.random.Generator], bytes]
CODINGS: dict[str, dict[str, Any]] = {
    "e8-entropy": {"bits": 4}, "e8-fixed": {"bits": 4, "coding": "fixed"}, "trellis": {"bits": 4, "codec": "trellis"},
    "scalar": {"bits": 4, "codec": "scalar"}, "scalar-entropy": {"bits": 4, "codec": "scalar", "coding": "entropy"},
}  # fmt: skip


def vectors() -> Iterator[tuple[str, str, Build]]:
    """(name, what it shows, how to build it)."""
    for name, options in {
        "e8-entropy": {"bits": 4}, "e8-fixed": {"bits": 4, "coding": "fixed"},
        "below-r-star": {"bits": 0.4, "rotation": "hadamard"}, "trellis": {"bits": 3, "codec": "trellis"},
        "scalar": {"bits": 4, "codec": "scalar"},
        "scalar-entropy": {"bits": 4, "codec": "scalar", "coding": "entropy"},
    }.items():  # fmt: skip
        yield (
            f"encoded-{name}",
            f"latq.encode(N(0, 1) of 50 x 40, {options})",
            lambda rng, options=options: latq.encode(rng.standard_normal((50, 40)).astype(np.float32), **options),
        )
    for name, bits in (("calibrated", 3), ("calibrated-kept", 0.5)):
        yield f"encoded-{name}", f"24 x 64 of unequal sizes for inputs of unequal sizes, {bits} bits", _calibrated(bits)
    for name, options in CODINGS.items():
        yield f"encoded-{name}-types", f"every float type, {options}", _types(options)
    yield "encoded-raw-types", "every element type, lossless", _lossless
    yield "encoded-classes", "vectors of unequal sizes, 48 x 60", _spread({"bits": 3})
    yield "encoded-trellis-classes", "the same, trellis", _spread({"bits": 3, "codec": "trellis"})
    yield "encoded-relative", "the same, precision relative", _spread({"bits": 3, "precision": "relative"})
    yield "encoded-uniform", "the same, precision uniform", _spread({"bits": 3, "precision": "uniform"})
    yield "encoded-centred", "vectors with means of their own", _centred
    yield "encoded-groups", "two vectors of 40,000 entries: two groups, 32 lanes", _groups
    yield "encoded-axis", "5 x 30 x 7 along axis 1, seed 7", _axis
    for bits in (1, 8, 12):
        yield f"encoded-{bits}-bits", f"60 x 16, {bits} bits", _rate({"bits": bits})
    for effort in ("fast", "best"):
        yield (
            f"encoded-trellis-{effort}",
            f"60 x 16, trellis, effort {effort}",
            _rate({"bits": 2, "codec": "trellis", "effort": effort}),
        )
    yield "encoded-fixed-2-bits", "60 x 16, fixed, 2 bits", _rate({"bits": 2, "coding": "fixed"})
    yield "encoded-h5", "from a .h5 with groups, attributes and an empty dataset", _h5
    yield "encoded-checkpoint", "from a folder of two .safetensors with an index and tied tensors", _checkpoint


def _saved(what: dict[str, np.ndarray] | Path, **options: Any) -> bytes:
    """Of several tensors, or of a file."""
    with TemporaryDirectory() as folder:
        target = Path(folder, "out.latq")
        latq.save(target, what, **options)
        return target.read_bytes()


def _types(options: dict[str, Any]) -> Build:
    def build(rng: np.random.Generator) -> bytes:
        types = (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
        return _saved({np.dtype(t).name: rng.standard_normal((32, 24)).astype(t) for t in types}, axis=0, **options)

    return build


def _lossless(rng: np.random.Generator) -> bytes:
    arrays = {name: (rng.integers(0, 2, (9, 5)) * rng.standard_normal((9, 5))).astype(t) for name, t in DTYPES.items()}
    return _saved(arrays | {"zeros": np.zeros(700, np.float32)}, codec="raw")


def _spread(options: dict[str, Any]) -> Build:
    def build(rng: np.random.Generator) -> bytes:
        sizes = np.exp(rng.normal(0, 1.5, 60))
        sizes[::17] = 0
        return latq.encode((rng.standard_normal((48, 60)) * sizes).astype(np.float32), **options)

    return build


def _centred(rng: np.random.Generator) -> bytes:
    return latq.encode(rng.standard_normal((60, 16)) + 10 * rng.standard_normal(16), 5, centre=True)


def _groups(rng: np.random.Generator) -> bytes:
    return latq.encode(rng.standard_normal((40000, 2)).astype(np.float16), 0.75)


def _axis(rng: np.random.Generator) -> bytes:
    return latq.encode(rng.standard_normal((5, 30, 7)).astype(np.float32), 4, axis=1, seed=7)


def _rate(options: dict[str, Any]) -> Build:
    return lambda rng: latq.encode(rng.standard_normal((60, 16)).astype(np.float32), **options)


def _h5(rng: np.random.Generator) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "in.h5")
        with h5py.File(path, "w") as file:
            file["air/temperature"] = rng.standard_normal((40, 24)).astype(np.float32)
            file["air/count"], file["air/none"] = np.arange(30), np.zeros((0, 4), np.float32)
            file["air/temperature"].attrs["units"] = "K"
            file.attrs["levels"] = np.arange(3.0)
            file.create_group("nothing")
        return _saved(path)


def _checkpoint(rng: np.random.Generator) -> bytes:
    embedding = rng.standard_normal((40, 24)).astype(np.float32)
    shards = {
        "model-1.safetensors": {"embed.weight": embedding, "norm.weight": np.ones(24, np.float32)},
        "model-2.safetensors": {"head.weight": embedding, "up.weight": rng.standard_normal((24, 24)).astype("f2")},
    }
    with TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint")
        checkpoint.mkdir()
        for name, tensors in shards.items():
            safetensors.numpy.save_file(tensors, checkpoint / name, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {name: shard for shard, tensors in shards.items() for name in tensors}}
        Path(checkpoint, "model.safetensors.index.json").write_text(json.dumps(index))
        return _saved(checkpoint)


def _calibrated(bits: float) -> Build:
    def build(rng: np.random.Generator) -> bytes:
        weights = rng.standard_normal((24, 64)) * np.repeat([1, 8, 64], 8)[:, None]
        inputs = rng.standard_normal((200, 64)) * np.geomspace(0.05, 3, 64)
        return latq.encode(weights.astype(np.float32), bits, axis=1, calibration=inputs.astype(np.float32))

    return build
