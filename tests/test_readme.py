"""The README's examples run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(info: str) -> str:
    found = re.findall(rf"```{info}\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"the README has no {info} block"
    return "\n".join(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    return tmp_path


def test_shell_tour(folder: Path) -> None:
    command = ["bash", "-euo", "pipefail", "-c", blocks("sh tour")]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = {p.name for p in folder.iterdir()}
    assert {"words.latq", "similarity.npy", "layer.safetensors", "some.npy"} <= written


def test_python_tour(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", blocks("python")], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_dask_tour(folder: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("zarr")
    words = "latq encode samples/glove_2000x50.npy --axis 1 --bits 5 -o words.latq"
    script = f"{words}\n{blocks('sh dask')}\npython - <<'END'\n{blocks('python dask')}END"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "c.zarr" / "zarr.json").exists()


def test_the_two_commands_are_single_lines() -> None:
    assert blocks("sh install").count("\n") == 1
    assert blocks("sh test").count("\n") == 1
