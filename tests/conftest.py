"""Fixtures of the tests that run commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latq.cli.main import run


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
        assert run([*map(str, arguments)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    return call
