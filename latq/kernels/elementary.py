"""Elementary functions that give the same bits on every machine, which libm does not: exact operations only."""

import math

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
