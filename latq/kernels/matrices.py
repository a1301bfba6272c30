"""The definition of products of matrices in floating point: in one order of operations, which BLAS does not promise."""

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def subtract_product(c: Matrix, a: Matrix, b: Matrix) -> None:
    """``c`` (R, C) -= ``a`` (R, K) @ ``b`` (K, C), all float32 or all float64, in place.

    Every entry of ``c`` takes its products one after the other, each rounded before it is subtracted.
    """
    for k in range(len(b)):
        c -= a[:, k, None] * b[k]
