"""The definition of the kernels over whole vectors, the rows of a matrix: sums, division, restoring (spec section 4).

Numbers of any float dtype enter and leave; all arithmetic is in float64. An ``exponent`` multiplies what enters by
2^-exponent first, and what leaves by 2^exponent last.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import F32, F64, I32, placed, tree_sum

Floats = npt.NDArray[np.floating] | npt.NDArray[np.generic]


def widened(x: Floats) -> F32 | F64:
    """float64 as it is, all narrower numbers in float32, which holds them."""
    return np.ascontiguousarray(x, np.float64) if x.dtype == np.float64 else np.ascontiguousarray(x, np.float32)


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


def divided(x: Floats, exponent: int, means: F32, inverses: F64, out: F32 | None = None) -> F32:
    """Rows less their means, times ``inverses``, rounded: in ``out`` or a new array."""
    centred = np.ldexp(x.astype(np.float64), -exponent) - means[:, None]
    return placed((centred * inverses[:, None]).astype(np.float32), out)


def new_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array that is not cleared."""
    return np.empty(shape, dtype)


def row_moments(u: F32, v: F32 | I32) -> F64:
    """Sums (rows, 3) of u * u, u * v and v * v of each row, where ``v`` has as many entries as ``u`` or fewer."""
    a, b = u.astype(np.float64), v.astype(np.float64)
    return np.stack([tree_sum(a * a), tree_sum(a[:, : b.shape[1]] * b), tree_sum(b * b)], axis=1)


def restored(
    x: F32, scales: F64, means: F64, exponent: int, dtype: np.dtype[Any], out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Rows times their scale, plus their mean, times 2^exponent, as :func:`finite` numbers of ``dtype``: in ``out``,
    which may be ``x``, or a new array."""
    with np.errstate(over="ignore"):  # Infinity is limited.
        return placed(finite(np.ldexp(x.astype(np.float64) * scales[:, None] + means[:, None], exponent), dtype), out)


def finite(x: F64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Round to finite numbers of ``dtype``: by way of float32 unless it is float64, ties to even."""
    if dtype not in (np.float64, np.float32):
        x = _limited(x, np.dtype(np.float32)).astype(np.float64)
    return _limited(x, dtype)


def _limited(x: F64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    import ml_dtypes  # Here, because opening and describing a file does without.

    largest = np.float64(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]
    return np.clip(x, -largest, largest).astype(dtype)


def copy_transposed(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Fill ``target`` (columns, rows) with the transpose of ``source`` (rows, columns)."""
    target[...] = source.T
