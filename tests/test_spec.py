"""What stands beside the text of the specification agrees with the test vectors: schema, Kaitai Struct, links."""

import hashlib
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from kaitaistruct import KaitaiStructError
from ml_dtypes import bfloat16

from latq import kernels
from latq.container import BytesSource, ContainerReader
from latq.container.records import SIGNATURE
from latq.errors import LatqError

KAITAI = Path(__file__).parent / "kaitai"
SPEC = Path(__file__).parents[1] / "spec"
sys.path[:0] = [str(KAITAI), str(SPEC / "vectors")]

from latq_ksy import Latq  # noqa: E402
from make import reference_reader  # noqa: E402

FILES = sorted((SPEC / "vectors").glob("*.latq"))
GOOD = [path for path in FILES if path.name.startswith("good-")]
SCHEMA = json.loads((SPEC / "metadata.schema.json").read_text(encoding="utf-8"))

# What members ask of each other, and what JSON Schema cannot say of one.
BEYOND_THE_SCHEMA = {
    *("alignment-class", "alignment-vector", "axis", "chunk-size", "dtype-of-codec", "tensor-codec", "name-twice"),
    *("checks-even", "checks-odd", "checks-short", "checks-wide", "level-alphabet", "levels-11", "shifts-2"),
    *("levels-order", "scales-equal", "scales-order", "weights-end", "widths-2", "shape-product"),
    *("shape-empty-product", "shape-float", "name-long", "tensor-codec-huge"),
    *(f"steps-{name}" for name in ("blocks", "distinct", "kept", "last-group", "multiplier-float", "no-vectors")),
    *("steps-shifts", "steps-sum", "steps-trellis"),
    *(f"same-as-{name}" for name in ("axis", "chain", "codec", "dtype", "energy", "float", "itself", "later")),
    *("same-as-missing", "same-as-outputs", "same-as-shape"),
}


def metadata_of(path: Path) -> Any:
    return json.loads(ContainerReader(BytesSource(path.read_bytes())).metadata)


def test_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for path in GOOD:
        assert [error.message for error in validator.iter_errors(metadata_of(path))] == [], path.name
    passed = set()
    for path in (SPEC / "vectors").glob("*.json"):
        if json.loads(path.read_text(encoding="utf-8")).get("place") != "metadata":
            continue
        if not re.match("bad-(json|metadata)-", path.name) and validator.is_valid(
            metadata_of(path.with_suffix(".latq"))
        ):
            passed.add(path.stem.removeprefix("bad-"))
    assert passed == BEYOND_THE_SCHEMA


def container_of(data: bytes) -> ContainerReader | None:
    try:
        return ContainerReader(BytesSource(data))
    except LatqError:
        return None


def test_kaitai_is_compiled_from_what_is_there() -> None:
    digest = hashlib.sha256((SPEC / "latq.ksy").read_bytes()).hexdigest()
    head = (KAITAI / "latq_ksy.py").read_text(encoding="utf-8").partition("\n")[0]
    assert re.fullmatch(rf"# Of spec/latq.ksy, SHA-256 {digest}, by kaitai-struct-compiler [\d.]+\.", head), (
        "run tests/kaitai/generate.js"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_kaitai(path: Path) -> None:
    """The compiled parser finds what the container of a file holds, and at most an error where that is not sound."""
    data = path.read_bytes()
    parsed, reader = Latq.from_bytes(data) if data[:8] == SIGNATURE else None, container_of(data)
    if reader is None:
        assert path not in GOOD
        if parsed is not None:
            with suppress(KaitaiStructError, EOFError, ValueError, OverflowError):
                parsed._fetch_instances()
        return
    assert parsed is not None
    footer, words = parsed.footer, parsed.preamble.words
    assert (footer.file_len, footer.index_len) == (len(data), 40 * len(reader.records))
    for field in ("major", "minor", "must_understand", "may_ignore", "align_log2"):
        assert getattr(words, field) == getattr(footer.words, field)
    assert parsed.metadata.header.kind is Latq.FrameKind.metadata
    assert parsed.metadata.payload == reader.metadata
    for found, record in zip(parsed.index.records, reader.records, strict=True):
        for field in ("tensor", "chunk", "vectors", "codec"):
            assert getattr(found, field) == getattr(record, field)
        try:
            payload = reader.payload(record)
        except LatqError:
            assert path not in GOOD
        else:
            assert found.frame.payload == payload


def test_examples_of_reconstruction() -> None:
    """Those of 4.3: from scale, entry, mean and exponent to the bits of every type."""
    rows = re.findall(r"^\| [\dA-F]{8} \|.*\|$", (SPEC / "latq-1.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) == 7
    for row in rows:
        scale, entry, mean, exponent, y, *found = (cell.strip() for cell in row.strip("|").split("|"))
        s, z, mu = (np.array([int(bits or "0", 16)], np.uint32).view(np.float32) for bits in (scale, entry, mean))
        assert (s.astype(np.float64) * z + mu).view(np.uint64)[0] == int(y, 16)
        numbers = z[None], s.astype(np.float64), mu.astype(np.float64), int(exponent)
        for dtype, bits in zip((np.float64, np.float32, np.float16, bfloat16), found, strict=True):
            assert kernels.restored(*numbers, np.dtype(dtype)).tobytes()[::-1].hex().upper() == bits


MEMBERS = {"rotation": "none", "seed": 0, "centre": False, "scale": "float16", "classes": 0, "kept": 65536}
SCALAR = MEMBERS | {"codec": "scalar", "coding": "fixed", "alignment": "tensor", "levels": [-50, -20, -5, 5, 20, 50]}
DENSITY = {"low": -2, "weights": [40, 16, 0, 16, 40], "odd": -6, "shifts": [0, 0], "widths": [0, -12]}
E8 = (
    MEMBERS | {"codec": "e8", "coding": "entropy", "alignment": "class", "classes": 2, "rotation": "hadamard"} | DENSITY
)


@pytest.mark.parametrize(
    ("page", "codec", "entries"),
    [
        ("codec-scalar", SCALAR, [[-12.5, 1.25, 12.5], [-2.5, -2.5, 10]]),
        ("codec-e8", E8, [[-0.5, -0.5, 0.5, -0.5], [1.5, 1.5, 1.5, 4.5]]),
    ],
)
def test_examples_of_payloads(page: str, codec: dict[str, Any], entries: list[list[float]]) -> None:
    """The bytes of their tables, by the reference reader."""
    table = (
        (SPEC / f"{page}.md")
        .read_text(encoding="utf-8")
        .partition("whole payload of a chunk")[2]
        .partition("\n\n## ")[0]
    )
    payload = bytes.fromhex("".join(re.findall(r"^\| `([\da-f ]+)` \|", table, re.M)))
    found = reference_reader().e8_chunk(payload, codec, np.shape(entries), np.dtype(np.float32))
    assert found.tolist() == entries


def test_links() -> None:
    for page in [*SPEC.glob("*.md"), SPEC / "vectors" / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_section_has_its_page() -> None:
    """Numbers are those of the whole specification, and each stands at the head of one section with text."""
    numbers = [
        number
        for page in SPEC.glob("*.md")
        for number, text in re.findall(r"^##+ (\d+(?:\.\d)?) .*\n\n(.*)", page.read_text(encoding="utf-8"), re.M)
        if not re.match(r"(8\.1 to 8\.3: )?\[[\w.-]+\.md\]", text)
    ]
    assert len(set(numbers)) == len(numbers)
    assert {str(n) for n in range(1, 16)} <= {number.split(".")[0] for number in numbers}
