"""Outputs appear whole or not at all."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latq.errors import InputError
from latq.sources import (
    MatrixView,
    atomic_output,
    open_source,
)


def test_atomic_output_appears_whole(tmp_path):
    target = tmp_path / "out"
    with atomic_output(target, force=False) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".latq.{os.getpid()}.")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_atomic_output_keeps_the_old_file_on_failure(tmp_path, failure):
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def fail_halfway() -> None:
        with atomic_output(target, force=True) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(failure):
        fail_halfway()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_atomic_output_keeps_permissions_and_links(tmp_path):
    target, link = tmp_path / "out", tmp_path / "link"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_output(link, force=True) as temporary:
        temporary.write_bytes(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_atomic_output_refuses(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    (tmp_path / "same").symlink_to(target)
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (target, {"force": False}, "exists; use -f"),
        (target, {"force": True, "inputs": [str(tmp_path / "same")]}, "also an input"),
        (target, {"force": True, "inputs": [f"{target}:/group/x"]}, "also an input"),
        (tmp_path, {"force": True}, "is a directory"),
        (tmp_path / "none" / "out", {"force": True}, "No such file or directory"),
    ]
    for path, options, message in cases:
        with pytest.raises(InputError, match=message), atomic_output(path, **options):
            pytest.fail("the block must not run")
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, InputError), (errno.EIO, InputError), (errno.ENOENT, FileNotFoundError)]
)
def test_atomic_output_explains_its_own_errors_only(tmp_path, code, expected):
    with pytest.raises(expected, match=os.strerror(code)), atomic_output(tmp_path / "out", force=False):
        raise OSError(code, os.strerror(code))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_atomic_output_writes_straight_to_devices():
    with atomic_output("/dev/null", force=False) as path:
        path.write_bytes(b"x")
    with (
        pytest.raises(InputError, match="cannot write /dev/full: No space left on device"),
        atomic_output("/dev/full", force=False) as path,
    ):
        path.write_bytes(b"x")


def test_columns_of_a_file_that_has_become_shorter_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((64, 64), np.float32))
    with open_source(path) as source:
        view = MatrixView(source.tensors[0].array, (64, 64), 0)
        os.truncate(path, 1000)
        with pytest.raises(InputError, match=r"a\.npy: has become shorter"):
            view.read(0, 8, 0, 64)
