"""Imports run one way: a package may use only the packages of lower layers."""

import ast
from pathlib import Path

import pytest

import latq

ROOT = Path(latq.__file__).parent
LAYERS = {
    "errors": 0, "limits": 0, "theory": 0, "kernels": 0, "urls": 0,
    "container": 1, "dtypes": 1, "coding": 1, "transforms": 1,
    "sources": 2, "codecs": 2,
    "calibration": 3,
    "pipeline": 4,
    "products": 5,
    "api": 6, "dask": 6,
    "cli": 7,
}  # fmt: skip
FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem in LAYERS)


def imported(path: Path) -> set[str]:
    """Packages of latq that a module imports, by name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "latq" else str(node.module) for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found.update(name.split(".")[1] for name in names if name.startswith("latq."))
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    relative = path.relative_to(ROOT)
    package = relative.parts[0].removesuffix(".py")
    for other in imported(path) - {package}:
        assert LAYERS[other] < LAYERS[package], f"{relative} imports latq.{other}"


def test_every_package_has_a_layer() -> None:
    packages = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in ROOT.rglob("*.py")}
    assert packages - set(LAYERS) == {"__init__", "__main__"}


def test_modules_stay_small() -> None:
    assert {str(p): n for p in ROOT.rglob("*.py") if (n := len(p.read_text().splitlines())) > 500} == {}
