"""Commands that must fail, and what they are tried on: fixtures and helpers of test_bad_*.py."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latq.cli.main import run

Fails = Callable[..., str]

FULL = Path("/dev/full")
PREFIX = "latq: error: "
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def snapshot(directory: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in directory.rglob("*")}


def assert_one_error_line(err: str) -> None:
    assert err.startswith(PREFIX), err
    assert err.endswith("\n"), err
    assert err.count("\n") == 1, err


def works(*arguments: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run([*map(str, arguments)]) == 0


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save(path: str, array: Any) -> str:
    np.save(path, array)
    return path


def encoded(path: str, array: Any, *options: str) -> str:
    """``array`` as a .latq file."""
    source = save(path.replace(".latq", ".source.npy"), array)
    works("encode", source, "-o", path, "-q", *options)
    return path


def decoded(path: str) -> np.ndarray:
    works("decode", path, "-o", "decoded.npy", "-q", "-f")
    return np.load("decoded.npy")


def latq(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "latq", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60, **options)
