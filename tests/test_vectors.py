"""The test vectors of the specification: every reader makes of them what they say."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import latq
from latq.cli.main import run as run_command
from latq.errors import LatqError

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
sys.path.insert(0, str(VECTORS))

import make  # noqa: E402

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
