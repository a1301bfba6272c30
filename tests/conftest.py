"""Fixtures of the tests that run commands."""

import json
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from failing import Fails, assert_one_error_line, encoded, gaussian, snapshot

from latq.cli.main import run as run_command


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_counts() -> Iterator[None]:
    """A shell makes what it runs in the background ignore Ctrl-C, and commands that we start would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in ``tmp_path``, whatever number of threads the environment asks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LATQ_THREADS", raising=False)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with a code: its one line on standard error."""

    def call(code: int, *arguments: Any) -> str:
        capsys.readouterr()
        assert run_command([*map(str, arguments)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return call


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run a command that must succeed without a warning: (standard output, standard error)."""

    def call(*arguments: Any) -> tuple[str, str]:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = run_command([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out, err

    return call


@pytest.fixture
def run_json(run: Callable[..., tuple[str, str]]) -> Callable[..., dict[str, Any]]:
    """The same with --json: what it prints."""

    def call(*arguments: Any) -> dict[str, Any]:
        out, err = run(*arguments, "--json")
        assert err == ""
        assert out.count("\n") == 1
        found: dict[str, Any] = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        return found

    return call


@pytest.fixture
def all_in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in ``tmp_path``, with temporary files next to the rest, so that a snapshot sees all of them."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run a command that must fail, plainly and with --json: exit code, streams, and no trace in the directory."""

    def check(*arguments: Any, code: int, says: tuple[str, ...] = ()) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        err = ""
        for as_json in ([], ["--json"]):
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # A warning would be a second line on standard error.
                found = run_command([*map(str, arguments), *as_json])
            out, err = capsys.readouterr()
            assert_one_error_line(err)
            assert found == code, err
            for word in says:
                assert word in err
            assert snapshot(tmp_path) == before
            if as_json:
                result = json.loads(out)
                assert result["ok"] is False
                if arguments[0] == "verify":  # Tested apart: it reports on several files.
                    continue
                assert result["error"]["code"] == code
                assert result["error"]["message"] in err
                assert set(result["error"]) == {"code", "class", "message"}
            else:
                assert out == ""
        return err

    return check


@pytest.fixture
def sound(capsys: pytest.CaptureFixture[str]) -> bytes:
    """A file that is in order."""
    encoded("sound.latq", gaussian(64, 40))
    capsys.readouterr()
    return Path("sound.latq").read_bytes()
