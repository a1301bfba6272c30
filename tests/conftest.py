"""Fixtures of the tests that run commands."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latq.cli.main import run as run_command


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
