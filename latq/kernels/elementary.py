"""Elementary functions that give the same bits on every machine, which libm does not: exact operations only."""

import math

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

LOG2_BITS = 32


def exp2(x: float) -> float:
    """2^x to a relative 1e-6, from the Taylor series."""
    whole = math.floor(x)
    f = (x - whole) * 0.6931471805599453
    series = 1.0
    for k in range(8, 0, -1):
        series = 1 + series * f / k
    return math.ldexp(series, whole)


def log2(x: float) -> float:
    """log2(x) of x > 0 to 2^-32, by repeated squaring."""
    mantissa, exponent = math.frexp(x)
    mantissa, result, bit = 2 * mantissa, float(exponent - 1), 1.0
    for _ in range(LOG2_BITS):
        mantissa, bit = mantissa * mantissa, bit / 2
        if mantissa >= 2:
            mantissa, result = mantissa / 2, result + bit
    return result


def cube_root(x: F64) -> F64:
    """Cube root of ``x`` >= 0, to a few units in the last place."""
    mantissa, exponent = np.frexp(x)
    third = -(-exponent // 3)
    mantissa = np.ldexp(mantissa, exponent - 3 * third)
    # In [1/8, 1) the parabola is within 3 %; each Newton step squares that.
    root = 0.37 + mantissa * (1.11 - 0.48 * mantissa)
    for _ in range(4):
        root = root - (root - mantissa / (root * root)) * (1 / 3)
    return np.where(x > 0, np.ldexp(root, third), 0.0)


def exp_minus(x: F64) -> F64:
    """exp(-x), 0 <= x <= 700, to a few units in the last place."""
    power = np.rint(x * 1.4426950408889634)
    # ln 2 in two parts, the first short enough for an exact product.
    rest = (power * 0.6931471803691238 - x) + power * 1.9082149292705877e-10
    series = np.ones_like(x)
    for k in range(14, 0, -1):
        series = 1 + series * rest * (1 / k)
    return np.ldexp(series, -power.astype(np.int64))
