"""Scale sets of codec e8 for Gaussian blocks, and what they lose, measured by tests/benchmarks/design_e8_scales.py.

The lattice step of scale b is ``UNIT / q * b`` in units of the root mean square of the entries; b are the integers
stored in the file. ``OFFSET`` (doubled coordinates) moves the lattice off the symmetry points of the Voronoi region,
where the ties of an unshifted nested code lose most of its outer shell.
"""

from itertools import pairwise

UNIT = 0.2
OFFSET = (1, 1, 1, 0, 0, 0, 0, 0)
SHRINKS = (1.0, 0.93, 0.86, 0.79, 0.72, 0.65, 0.58)

_SCALES = {2: (15, 18, 22, 26, 31, 37, 46, 72), 4: (15, 17, 20, 23, 26, 30, 36, 64)}

# (bits per entry allowed for scale indices, what they gain less what the code loses: bits), by smallest q it holds for.
_GAINS = {
    2: ((0.0, -0.55), (0.08, -0.40), (0.14, -0.20), (0.17, -0.13), (0.25, -0.10)),
    4: ((0.0, -0.5), (0.04, -0.32), (0.08, -0.26), (0.12, -0.23), (0.16, -0.19), (0.19, -0.09), (0.3, 0.015)),
    10: ((0.0, -0.7), (0.08, -0.35), (0.12, -0.24), (0.16, -0.19), (0.19, -0.09), (0.23, -0.035), (0.3, 0.015)),
}


def scales_for(q: int) -> tuple[int, ...]:
    """Integer scales b_1 < ... < b_8 for nesting ratio ``q``."""
    return _SCALES[2 if q < 4 else 4]


def index_gain(q: int, index_bits: float) -> float:
    """Effective bits per entry beyond log2(q) on N(0, 1) when ``index_bits`` may be spent on scale indices."""
    gains = _GAINS[max(k for k in _GAINS if k <= q)]
    for (r0, g0), (r1, g1) in pairwise(gains):
        if index_bits < r1:
            return g0 + (g1 - g0) * (index_bits - r0) / (r1 - r0)
    return gains[-1][1]
