"""The test vectors of the specification: every reader makes of them what they say."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latq
from latq.cli.main import run as run_command
from latq.errors import LatqError

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))

import make  # noqa: E402
import pieces  # noqa: E402

FILES = sorted(VECTORS.glob("*.latq"))
GOOD = [path for path in FILES if path.name.startswith("good-")]
REFERENCE = make.reference_reader()


def name_of(path: Path) -> str:
    return path.stem


def told(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return found


def test_the_script_makes_them() -> None:
    """As many, under the same names, and described; their bytes may be those of an earlier encoder."""
    made = {vector.name: vector.told["shows"] for vector in make.vectors()}
    assert made == {path.stem: told(path)["shows"] for path in FILES}
    listed = (VECTORS / "README.md").read_text(encoding="utf-8").count("\n| `")
    assert listed == len(made) == len(list(VECTORS.glob("*.json")))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_both_readers(path: Path) -> None:
    """Of the files as they lie there, whatever the script and the encoder make now."""
    data, expected = path.read_bytes(), told(path)
    assert make.verdict_of_latq(data) == make.expected(expected)
    assert make.verdict_of_reference(data, REFERENCE) == make.expected(expected)
    if path in GOOD:
        assert json.loads(json.dumps(make.describe(data))) == {k: v for k, v in expected.items() if k != "shows"}


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_prefixes(path: Path) -> None:
    data = path.read_bytes()
    for length in range(len(data)):
        error = "Truncated" if length >= 8 else "Corrupt"
        with pytest.raises(LatqError) as ours:
            latq.open(data[:length])
        assert type(ours.value).__name__ == f"{error}Error"
        with pytest.raises(REFERENCE.Corrupt) as theirs:
            REFERENCE.open_file(data[:length])
        assert theirs.type.__name__ == error


@pytest.mark.parametrize("path", [path for path in FILES if path not in GOOD], ids=name_of)
def test_exit_codes(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``verify`` looks at every byte but does not decode; ``decode`` does."""
    codes = {run_command(["verify", str(path)])}
    codes.add(run_command(["decode", str(path), "-o", str(tmp_path / "out.h5")]))
    assert codes - {0} == {told(path)["exit_code"]}
    message = capsys.readouterr().err
    assert "Traceback" not in message
    if told(path)["place"].startswith("chunk"):
        offset = told(path)["offset"]
        assert f"at byte {offset})" in message or f"bytes {offset}.." in message


@pytest.mark.parametrize(
    ("words", "members", "says"),
    [
        ({}, {"codecs": {"coding": "waves"}}, "needs codec e8 with coding waves"),
        ({}, {"codecs": {"codec": "f9"}}, "needs codec f9 with coding fixed"),
        ({}, {"tensors": {"dtype": "float12"}}, "tensor 'a': unknown dtype 'float12'"),
        ({"must_understand": 8}, {}, "needs feature bit 3"),
        ({"major": 2}, {}, "needs format 2.7, not 1"),
    ],
)
def test_info_says_what_it_cannot_read(
    words: dict[str, int], members: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file of a later minor version, which alone does not matter."""

    def change(metadata: dict[str, Any]) -> dict[str, Any]:
        return metadata | {place: [metadata[place][0] | new] for place, new in members.items()}

    sound = pieces.parts_of([pieces.Tensor("a", (8, 2))], [pieces.FIXED], np.random.default_rng(0), minor=7)
    later = replace(sound.with_metadata(change), **words)
    path = tmp_path / "later.latq"
    path.write_bytes(later.build().data)
    assert run_command(["info", str(path)]) == 4
    message = capsys.readouterr().err
    assert f"{path}: {says}" in message
    assert "update latq" in message
    path.write_bytes(sound.build().data)
    assert run_command(["info", str(path)]) == 0
    assert "format 1.7" in capsys.readouterr().out
