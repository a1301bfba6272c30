"""What stands beside the text of the specification agrees with the test vectors: schema, Kaitai Struct, links."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from latq.container import BytesSource, ContainerReader

SPEC = Path(__file__).parents[1] / "spec"
GOOD = sorted((SPEC / "vectors").glob("good-*.latq"))
KAITAI = yaml.safe_load((SPEC / "latq.ksy").read_text(encoding="utf-8"))
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


class Parsed(dict[str, Any]):
    """A structure of latq.ksy by an interpreter of the little that it uses; attributes are found while others are."""

    def __init__(self, data: bytes, of: dict[str, Any], at: int = 0) -> None:
        self.data = data
        for field in of["seq"]:
            count = self.value(field["repeat-expr"]) if "repeat" in field else None
            values = []
            for _ in range(1 if count is None else count):
                value, at = self.field(field, at)
                values.append(value)
            self[field["id"]] = values if count is not None else values[0]
        for name, instance in of.get("instances", {}).items():
            self[name], _ = self.field(instance, self.value(instance["pos"]))
        self.end = at

    def field(self, field: dict[str, Any], at: int) -> tuple[Any, int]:
        if "contents" in field:
            expected = field["contents"]
            expected = expected.encode() if isinstance(expected, str) else bytes(expected)
            assert self.data[at : at + len(expected)] == expected
            return expected, at + len(expected)
        if "size" in field:
            end = at + self.value(field["size"])
            assert end <= len(self.data)
            return self.data[at:end], end
        if field["type"] in KAITAI["types"]:
            inner = Parsed(self.data, KAITAI["types"][field["type"]], at)
            return inner, inner.end
        size = int(field["type"][1])
        return int.from_bytes(self.data[at : at + size], "little"), at + size

    def value(self, expression: int | str) -> int:
        """A number, a path of names, either less or divided by a number."""
        path, operator, number = re.fullmatch(r"([\w.]+)(?: ([-/]) (\d+))?", str(expression)).groups()  # type: ignore[union-attr]
        found: Any = len(self.data) if path == "_io.size" else int(path) if path.isdigit() else self
        for name in path.split(".") if found is self else ():
            found = found[name]
        return found - int(number) if operator == "-" else found // int(number) if operator else found


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_kaitai(path: Path) -> None:
    data = path.read_bytes()
    reader, parsed = ContainerReader(BytesSource(data)), Parsed(data, KAITAI)
    assert parsed["footer"].end == parsed["footer"]["file_len"] == len(data)
    assert parsed["metadata"]["payload"] == reader.metadata
    assert parsed["preamble"]["words"] == parsed["footer"]["words"]
    assert len(parsed["index"]["records"]) == len(reader.records)
    for found, record in zip(parsed["index"]["records"], reader.records, strict=True):
        assert found["frame"]["payload"] == reader.payload(record)
        assert struct.pack("<IIIH", *(found[name] for name in ("tensor", "chunk", "vectors", "codec"))) == struct.pack(
            "<IIIH", record.tensor, record.chunk, record.vectors, record.codec
        )


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
