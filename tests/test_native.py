"""The native kernels give the bits of their definition, whatever the instruction set."""

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latq import kernels
from latq.kernels import reference

if kernels.IMPLEMENTATION == "reference":
    pytest.skip("latq has no native kernels here", allow_module_level=True)

from latq.kernels import compiled

F32 = npt.NDArray[np.float32]
LENGTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 50, 64, 100, 128, 256, 512, 1016, 1023, 1024, 1025, 2040, 4096, 11008)


@pytest.fixture(params=compiled.instruction_sets(), autouse=True, scope="module")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = compiled.instruction_set()
    compiled.use(request.param)
    yield request.param
    compiled.use(before)


def same(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> bool:
    """Equal in dtype, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def numbers(seed: int, *shape: int) -> F32:
    """Of all sizes, with zeros of both signs and ties between them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 3 + 20 * (seed % 2), shape)
    x = np.where(rng.random(shape) < 0.2, np.round(2 * x) / 2, x)
    return np.where(rng.random(shape) < 0.05, rng.choice([0.0, -0.0], shape), x).astype(np.float32)


class TestRotation:
    @pytest.mark.parametrize("n", LENGTHS)
    def test_rotate_and_unrotate(self, n: int) -> None:
        x = numbers(n, 3, n)
        assert same(compiled.rotate(x, n), reference.rotate(x, n))
        assert same(compiled.unrotate(x, n), reference.unrotate(x, n))

    @given(log=st.integers(0, 13), seed=st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_fwht(self, log: int, seed: int) -> None:
        x = numbers(seed, 2, 1 << log)
        assert same(compiled.fwht(x), reference.fwht(x))

    def test_views_are_not_written_to(self) -> None:
        x = numbers(1, 64, 6).T
        before = x.copy()
        assert same(compiled.rotate(x, 3), reference.rotate(x, 3))
        assert same(x, before)


class TestChoice:
    """The environment decides which kernels run."""

    @pytest.mark.parametrize(
        ("variables", "expected"),
        [
            ({}, "native"),
            ({"LATQ_KERNELS": "native"}, "native"),
            ({"LATQ_KERNELS": "reference"}, "reference"),
            ({"LATQ_ISA": "baseline"}, "native baseline"),
            ({"LATQ_ISA": "quantum"}, "is not available here"),
            ({"LATQ_KERNELS": "fast"}, "use native or reference"),
        ],
    )
    def test_environment(self, variables: dict[str, str], expected: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("LATQ_")} | variables
        code = "from latq import kernels; print(kernels.IMPLEMENTATION)"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert expected in done.stdout + done.stderr
