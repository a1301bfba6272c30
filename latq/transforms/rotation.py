"""Rotations that spread every vector evenly over its coordinates (spec section 5)."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from latq import kernels

Rotation = Literal["hadamard", "none"]
F32 = npt.NDArray[np.float32]


def rotate(x: F32, rotation: Rotation, seed: int, out: F32 | None = None) -> F32:
    """Rotate the rows of ``x`` (vectors, n), into ``out`` if given, which may be ``x``: ``x`` itself if not turned."""
    return x if rotation == "none" else kernels.rotate(x, seed, out)


def unrotate(x: F32, rotation: Rotation, seed: int, out: F32 | None = None) -> F32:
    """Undo :func:`rotate`."""
    return x if rotation == "none" else kernels.unrotate(x, seed, out)
