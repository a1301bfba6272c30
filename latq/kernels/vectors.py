"""The definition of the kernels over whole vectors, the rows of a matrix: sums, division, restoring (spec section 4).

Numbers of any float dtype enter; all arithmetic is in float64. An ``exponent`` multiplies them by 2^-exponent first.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import F32, F64, tree_sum

Floats = npt.NDArray[np.floating] | npt.NDArray[np.generic]
LARGEST = float(np.finfo(np.float32).max)


def peak(x: Floats) -> float:
    """Largest magnitude, 0 of nothing; not finite if any entry is not."""
    return float(np.abs(x.astype(np.float64)).max(initial=0.0))


def row_sums(x: Floats, exponent: int) -> F64:
    """Sum of each row (rows,)."""
    shifted: F64 = np.ldexp(x.astype(np.float64), -exponent)
    return tree_sum(shifted)


def row_squares(x: Floats, exponent: int, means: F32) -> F64:
    """Sum of the squares of each row (rows,) less its mean."""
    centred: F64 = np.ldexp(x.astype(np.float64), -exponent) - means[:, None]
    return tree_sum(centred * centred)


def divided(x: Floats, exponent: int, means: F32, inverses: F64) -> F32:
    """Rows less their means, times ``inverses``, rounded."""
    centred = np.ldexp(x.astype(np.float64), -exponent) - means[:, None]
    return (centred * inverses[:, None]).astype(np.float32)


def row_dots(u: F32, v: F32) -> F64:
    """Inner product (rows,) of each row of ``v`` with as many first entries of that of ``u``."""
    return tree_sum(u[:, : v.shape[1]].astype(np.float64) * v.astype(np.float64))


def restored(x: F32, scales: F64, means: F64, exponent: int) -> F32:
    """Rows times their scale, plus their mean, times 2^exponent, clamped and rounded."""
    with np.errstate(over="ignore"):  # Infinity is clamped.
        wide = np.ldexp(x.astype(np.float64) * scales[:, None] + means[:, None], exponent)
    return np.clip(wide, -LARGEST, LARGEST).astype(np.float32)


def copy_transposed(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Fill ``target`` (columns, rows) with the transpose of ``source`` (rows, columns)."""
    target[...] = source.T
