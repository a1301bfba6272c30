"""Decoded values in the dtype that is asked for."""

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def to_dtype(x: F64, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """Round to ``dtype``: by way of float32 unless it is float64, ties to even, clamped to finite numbers."""
    if dtype not in (np.float64, np.float32):
        x = clamped(x, np.dtype(np.float32)).astype(np.float64)
    return clamped(x, dtype)


def narrowed(x: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Convert lossless values: finite ones are clamped to the finite range of ``dtype``, others stay what they are."""
    if x.dtype == dtype:
        return x
    wide = x.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.where(np.isfinite(wide), to_dtype(wide, dtype), wide.astype(dtype))


def clamped(x: F64, dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """Round to ``dtype``, ties to even, and clamp to its finite numbers."""
    import ml_dtypes  # Here, because opening and describing a file does without.

    largest = np.float64(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(x, -largest, largest).astype(dtype)
