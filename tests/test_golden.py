"""Files as encoders of their day wrote them decode to the same bytes for ever.

``golden.json`` has the SHA-256 of each file and of its decoded entries. It only ever grows: ``python
tests/test_golden.py`` adds the ``good-encoded-*`` that it lacks, and changes no line. What today's encoder writes is no
concern of it.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latq
from latq import kernels
from latq.pipeline.restore import restore

if kernels.IMPLEMENTATION == "reference":
    INSTRUCTION_SETS = ["reference"]
else:
    from latq.kernels import compiled

    INSTRUCTION_SETS = compiled.instruction_sets()

HERE = Path(__file__).parent
VECTORS = HERE.parent / "spec" / "vectors"
PINNED: dict[str, dict[str, Any]] = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def decoded(data: bytes, threads: int = 1) -> dict[str, str]:
    """Digests of the entries in C order, by tensor."""
    with latq.open(data) as file:
        arrays = {name: np.empty(tensor.shape, tensor.dtype) for name, tensor in file.items()}
        restore([(file[name], array) for name, array in arrays.items()], threads, memory=1 << 24)
    return {name: sha256(array.tobytes()) for name, array in arrays.items()}


def test_every_file_is_pinned() -> None:
    assert sorted(PINNED) == sorted(path.stem for path in VECTORS.glob("good-encoded-*.latq"))


@pytest.fixture(params=INSTRUCTION_SETS, scope="module")
def kernels_in_use(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "reference":
        yield request.param
        return
    before = compiled.instruction_set()
    compiled.use(request.param)
    yield request.param
    compiled.use(before)


@pytest.mark.parametrize("name", PINNED)
def test_golden(name: str, kernels_in_use: str) -> None:
    data, pinned = (VECTORS / f"{name}.latq").read_bytes(), PINNED[name]
    assert sha256(data) == pinned["file"], "a golden file is never made again"
    for threads in (1, 3):
        assert decoded(data, threads) == pinned["tensors"]


if __name__ == "__main__":
    for path in sorted(VECTORS.glob("good-encoded-*.latq")):
        data = path.read_bytes()
        PINNED.setdefault(path.stem, {"file": sha256(data), "tensors": decoded(data)})
    (HERE / "golden.json").write_text(json.dumps(PINNED, indent=1) + "\n", encoding="utf-8")
