"""Make the test vectors again: ``python spec/vectors/make.py [directory]``, by default the one it is in.

Each vector has random numbers of its own, seeded by its name, so that one more changes no other. Files as latq writes
them (``good-encoded-*``) are made once and kept: later readers must read what the writers of their day wrote. Both
readers must agree with what is written down, and with what was before of files that stay, else nothing is written.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import bad  # noqa: E402
import bad_chunks  # noqa: E402
import good  # noqa: E402

import latq  # noqa: E402
from latq.errors import CorruptError, LatqError  # noqa: E402

CODES = {"corrupt": 3, "truncated": 3, "unsupported": 4, "limit": 5}


@dataclass(frozen=True)
class Vector:
    """A file and what its JSON says of it."""

    name: str
    data: bytes
    told: dict[str, Any]


def vectors() -> Iterator[Vector]:
    for name, shows, build in good.vectors():
        kept = HERE / f"good-{name}.latq"
        data = kept.read_bytes() if name.startswith("encoded-") and kept.exists() else build(_random(name))
        yield Vector(f"good-{name}", data, {"shows": shows, **describe(data)})
    for case in [*bad.vectors(), *bad_chunks.vectors()]:
        built = case.build(_random(case.name))
        footer = max(0, len(built.data) - 128)  # where readers look for it
        offset = footer if case.place == "footer" else built.places[case.place]
        told = {
            "shows": case.shows,
            "error": case.error,
            "exit_code": CODES[case.error],
            "place": case.place,
            "offset": offset,
        }
        yield Vector(case.name, bytes(built.data), told)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(crc32(name.encode()))


def describe(data: bytes) -> dict[str, Any]:
    """Parameters and digests of a file that decodes."""
    with latq.open(data) as file:
        codecs = json.loads(file.metadata.dump())["codecs"]
        tensors = [
            {"name": tensor.name, "dtype": tensor.entry.dtype, "shape": list(tensor.shape), "codec": tensor.entry.codec,
             "axis": tensor.entry.axis, "sha256": sha256(tensor.decode())}
            for tensor in file.values()
        ]  # fmt: skip
    return {"codecs": codecs, "tensors": tensors}


def sha256(array: np.ndarray) -> str:
    """Of the entries in C order, little-endian."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()


def verdict_of_latq(data: bytes) -> dict[str, str] | str:
    """Digests by tensor, or the class of the error, of a reader that looks at every byte."""
    try:
        with latq.open(data) as file:
            for _, problem in file.reader.damage():
                if problem is not None:
                    raise CorruptError(problem)
            return {name: sha256(tensor.decode()) for name, tensor in file.items()}
    except LatqError as error:
        return type(error).__name__.removesuffix("Error").lower()


def verdict_of_reference(data: bytes, reader: ModuleType) -> dict[str, str] | str:
    """The same of the reference reader."""
    try:
        return {name: sha256(array) for name, array in reader.read(data).items()}
    except (reader.Corrupt, reader.Unsupported, reader.Limit) as error:
        return type(error).__name__.lower()


def reference_reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("latq_min", HERE.parent / "reference" / "latq_min.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(vector: Vector, reader: ModuleType) -> None:
    """What the readers say, now and when the same bytes were written down, if they were."""
    old = HERE / f"{vector.name}.latq"
    told = [vector.told]
    if old.exists() and old.read_bytes() == vector.data:
        told.append(json.loads(old.with_suffix(".json").read_text(encoding="utf-8")))
    verdicts = [verdict_of_latq(vector.data), verdict_of_reference(vector.data, reader)]
    if any(verdict != expected(one) for verdict in verdicts for one in told):
        sys.exit(f"{vector.name} should be {[expected(one) for one in told]}, but the readers say {verdicts}")


def expected(told: dict[str, Any]) -> dict[str, str] | str:
    return told.get("error") or {tensor["name"]: tensor["sha256"] for tensor in told["tensors"]}


README = """# Test vectors

What a reader must make of these files, made by `python spec/vectors/make.py` (which needs latq). Beside every file is
a JSON object: `shows`, in words; of `good-*` the `codecs` and for every tensor the SHA-256 of its decoded bytes (C
order, little-endian); of the others the class of the `error` and its `exit_code` (section 11 of the specification),
and the `place` of the fault with its byte `offset`: where the preamble, the frame or the footer (the last 128 bytes)
begins. A proper prefix of any of the `good-*` is *truncated* from 8 bytes on. The `good-encoded-*` are as the encoder
of their day wrote them, and are not made again.

`bad-*` are refused by all readers, `unsupported-*` by those of version 1.0. Faults that a reader finds only by looking
at every byte (bytes between frames, 2) or by decoding a chunk (4 to 9) are among them.

| file | shows |
|---|---|
"""


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    reader, made = reference_reader(), list(vectors())
    names = [vector.name for vector in made]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    for vector in made:
        check(vector, reader)
    for old in [*target.glob("*.latq"), *target.glob("*.json")]:
        old.unlink()
    for vector in made:
        (target / f"{vector.name}.latq").write_bytes(vector.data)
        text = json.dumps(vector.told, indent=1, ensure_ascii=False)
        (target / f"{vector.name}.json").write_text(text + "\n", encoding="utf-8")
    rows = [f"| `{vector.name}` | {_cell(vector.told['shows'])} |\n" for vector in made]
    (target / "README.md").write_text(README + "".join(rows), encoding="utf-8")
    print(f"{len(made)} vectors, {sum(len(vector.data) for vector in made)} bytes")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
