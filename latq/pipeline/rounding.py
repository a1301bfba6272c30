"""Lossless values in another dtype than their own."""

from typing import Any

import numpy as np
import numpy.typing as npt

from latq import kernels


def narrowed(x: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert lossless values: finite ones are clamped to the finite range of ``dtype``, others stay what they are."""
    if x.dtype == dtype:
        return x
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(wide), kernels.finite(wide, dtype), wide.astype(dtype))
