"""Fit the scale sets of codec e8 to Gaussian blocks and print the rows of ``latq/codecs/e8_design.py``.

For each q, the error of every block is measured on a grid of steps ``UNIT / q * b``, b a small integer; then the 8
integers are improved one at a time on the Lagrangian error + slope * bits until nothing changes, from a few starts.
usage: python tests/benchmarks/design_e8_scales.py [BLOCKS=40000]
"""

import math
import sys

import numpy as np

from latq.codecs.e8_design import OFFSET, SHRINKS, UNIT
from latq.kernels import reference as kernels

NESTING_RATIOS = (2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512, 1024, 4096)
GRID = np.arange(9, 101)
SCALES = 8


def assign(errors, lengths, slope):
    cost = errors + slope * lengths[:, None]
    return cost.argmin(0)


def operating_point(errors, slope, rounds=12):
    """(bits per entry of the scale indices, mean squared error per entry, probabilities) at one slope."""
    lengths = np.full(len(errors), math.log2(len(errors)))
    for _ in range(rounds):
        counts = np.bincount(assign(errors, lengths, slope), minlength=len(errors)) + 0.5
        lengths = -np.log2(counts / counts.sum())
    index = assign(errors, lengths, slope)
    used = np.bincount(index, minlength=len(errors)) / index.size
    entropy = -sum(p * math.log2(p) for p in used if p > 0)
    return entropy / 8, float(errors[index, np.arange(index.size)].mean()) / 8, lengths


def improve(errors, chosen, slope):
    """Coordinate descent over the grid rows ``chosen``."""
    best = None
    while True:
        rate, distortion, lengths = operating_point(errors[chosen], slope)
        value = 8 * (distortion + slope / 8 * rate)
        if best is not None and value >= best[0] - 1e-9:
            return best
        best = (value, list(chosen), rate, distortion)
        for place in range(len(chosen)):
            others = [c for i, c in enumerate(chosen) if i != place]
            floor = (errors[others] + slope * np.delete(lengths, place)[:, None]).min(0)
            lower = chosen[place - 1] + 1 if place else 0
            upper = chosen[place + 1] if place + 1 < len(chosen) else len(errors)
            gains = [np.minimum(floor, errors[c] + slope * lengths[place]).mean() for c in range(lower, upper)]
            chosen[place] = lower + int(np.argmin(gains))


def main():
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 40000
    x = np.random.default_rng(2410).standard_normal((8, blocks)).astype(np.float32)
    offset = np.array(OFFSET, np.int32)
    for q in NESTING_RATIOS:
        steps = (GRID * UNIT / q).astype(np.float32)
        errors = np.array([kernels.quantize(x, s, q, offset, SHRINKS)[1] for s in steps], np.float64)
        slope = 2 * math.log(2) * 2.0 ** (-2 * (math.log2(q) - 0.05))
        starts = [np.linspace(a, b, SCALES).astype(int) for a, b in ((4, 30), (5, 40), (6, 24), (6, 60), (8, 90))]
        _, chosen, _, _ = min(improve(errors, list(s), 1.5 * slope) for s in starts)
        curve = []
        for factor in (0.02, 0.1, 0.25, 0.5, 1, 2, 4, 8, 30):
            h, d, _ = operating_point(errors[chosen], factor * slope)
            curve.append((round(float(h), 3), round(float(math.log2(q) + h + 0.5 * math.log2(d)), 3)))
        print(f"    {q}: ({tuple(int(b) for b in GRID[chosen])}, {tuple(curve)}),", flush=True)


main()
