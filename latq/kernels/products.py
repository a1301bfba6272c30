"""The definition of the products of rows of integers: sums of any length, exact, times a gain of each row."""

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import F32, F64, U8

Integers = npt.NDArray[np.int8] | npt.NDArray[np.int16]


def narrowed(x: F32) -> tuple[Integers, F64] | None:
    """Whole numbers in the narrower of 8 and 16 bits that holds them all, and the sum of the squares of each row.

    None if one is beyond both. Rows have at most 2^23 entries.
    """
    wide = x.astype(np.float64)
    peak, squares = np.abs(wide).max(initial=0.0), (wide * wide).sum(axis=1)
    if peak < 1 << 7:
        return x.astype(np.int8), squares
    return (x.astype(np.int16), squares) if peak < 1 << 15 else None


def squared_norms(x: Integers) -> F64:
    """(rows,) sums of the squares of each row, of at most 2^23 entries; none is -2^15."""
    wide = x.astype(np.float64)
    squares: F64 = (wide * wide).sum(axis=1)
    return squares


def summed_energies(index: U8, energies: npt.NDArray[np.int64]) -> F64:
    """(rows,) sums of what of the ``energies`` (256,) every ``index`` (rows, N) names."""
    sums: F64 = energies[index].sum(axis=1).astype(np.float64)
    return sums


def add_products(a: Integers, b: Integers, gains_a: F64, gains_b: F64, out: F64) -> None:
    """Add to ``out`` (rows of a, rows of b) the sums of ``a[i] * b[j]`` times ``gains_a[i] * gains_b[j]``.

    Rows have at most 2^23 entries.
    """
    out += _products(a, b, gains_a, gains_b)


def put_products(a: Integers, b: Integers, gains_a: F64, gains_b: F64, out: F32) -> None:
    """As :func:`add_products` to an ``out`` of zeros, rounded once."""
    with np.errstate(over="ignore"):
        out[...] = _products(a, b, gains_a, gains_b)


def _products(a: Integers, b: Integers, gains_a: F64, gains_b: F64) -> F64:
    # Whole numbers up to 2^53: no order of the sums rounds any. There is no -0 among them.
    sums = a.astype(np.float64) @ b.astype(np.float64).T + 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        products: F64 = sums * (gains_a[:, None] * gains_b)
    return products
