"""The native kernels under the names and signatures of their definitions.

``LATQ_ISA=baseline|avx2|avx512`` forces an instruction set; all give the same bits.
"""

import os
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latq.kernels import _core, reference
from latq.kernels.reference import F32

U32 = npt.NDArray[np.uint32]


def instruction_sets() -> list[str]:
    """Those that this build and processor have, the best last."""
    return _core.available()


def instruction_set() -> str:
    """The one in use."""
    return _core.active()


def use(name: str) -> None:
    """Switch to another instruction set; ImportError if there is no such one here."""
    if name not in _core.available():
        raise ImportError(f"instruction set {name!r} is not available here; use one of {', '.join(_core.available())}")
    _core.use(name)


if forced := os.environ.get("LATQ_ISA"):
    use(forced)


# --- rotation -----------------------------------------------------------------------------------------------------


def fwht(x: F32) -> F32:
    y = np.array(x, np.float32, order="C")
    _core.fwht(y.reshape(-1, x.shape[-1]))
    return y


def rotate(x: F32, seed: int) -> F32:
    y = np.empty(x.shape, np.float32)
    n = x.shape[-1]
    _core.rotate(_rows(x), y.reshape(-1, n), _sign_masks(seed, n))
    return y


def unrotate(y: F32, seed: int) -> F32:
    x = np.empty(y.shape, np.float32)
    n = y.shape[-1]
    _core.unrotate(_rows(y), x.reshape(-1, n), _sign_masks(seed, n))
    return x


def _rows(x: F32) -> F32:
    return np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])


@lru_cache(maxsize=64)
def _sign_masks(seed: int, n: int) -> U32:
    """The sign bits of every stage, (stages, window)."""
    window = 1 << (n.bit_length() - 1)
    stages = range(1 if window == n else 4)
    signs = np.stack([reference.signs(seed, stage, window) for stage in stages])
    return signs.view(np.uint32) & np.uint32(1 << 31)
