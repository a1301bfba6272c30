"""Fit the scale sets of codec e8 to Gaussian blocks and print the tables of ``latq/codecs/e8_design.py``.

For each q, the error of every block is measured at the steps ``UNIT / q * b``, b a small integer. A set of such b grows
one by one, each time improved coordinate by coordinate on the Lagrangian error + slope * bits until nothing changes.
One set is made for each pair of a size and a slope in DESIGNS (from small to large rates of the scale indices), and
loses the scales that are hardly used. Then its effective bits beyond log2(q) are measured on other blocks, as the
encoder chooses at each of the RATES.
usage: python tests/benchmarks/design_e8_scales.py [BLOCKS=8000] [Q,Q,...]
"""

import math
import sys
import textwrap

import numpy as np

from latq import kernels
from latq.codecs import e8
from latq.codecs.e8 import E8Params
from latq.codecs.e8_design import offset_for
from latq.codecs.e8_scales import choose

NESTING_RATIOS = (2, 3, 4, 5, 6, 8, 12, 16, 32, 128)
GRID = np.array([b for b in range(15, 131) if b < 60 or b % 2 == 0])
DESIGNS = ((5, 1.3), (7, 0.9), (8, 0.55), (16, 0.1))
RATES = (0.0, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.21, 0.24, 0.27, 0.3, 0.34, 0.38, 0.42, 0.46, 0.5)
REACH = 10
RAREST = 9  # bits of an index above which a scale is not worth its time


def measure(blocks, q, scales):
    """Errors (scales, N) of the best codewords that the encoder finds."""
    code = E8Params(q, tuple(int(b) for b in scales), offset_for(q)).code
    every = np.arange(len(scales), dtype=np.uint8)[:, None] + np.zeros(blocks.shape[1], np.uint8)
    return np.array([kernels.quantize(blocks, index, code)[2] for index in every])


def operating_point(errors, slope, rounds=12):
    """(bits per entry of the scale indices, mean squared error per entry, code lengths) at one slope."""
    lengths = np.full(len(errors), math.log2(len(errors)))
    for _ in range(rounds):
        index = (errors + (slope * lengths)[:, None].astype(np.float32)).argmin(0)
        counts = np.bincount(index, minlength=len(errors)) + 0.5
        lengths = -np.log2(counts / counts.sum())
    used = np.bincount(index, minlength=len(errors)) / index.size
    entropy = -sum(p * math.log2(p) for p in used if p > 0)
    return entropy / 8, float(errors[index, np.arange(index.size)].mean(dtype=float)) / 8, lengths


def improve(errors, chosen, slope):
    """Coordinate descent over the grid rows ``chosen``: (cost, rows)."""
    best = (math.inf, chosen)
    while True:
        rate, distortion, lengths = operating_point(errors[chosen], slope)
        value = 8 * (distortion + slope * rate)
        if value >= best[0] * (1 - 1e-5):
            return best
        best = (value, list(chosen))
        charges = (slope * lengths).astype(np.float32)
        for place in range(len(chosen)):
            others = [i for i in range(len(chosen)) if i != place]
            floor = (errors[[chosen[i] for i in others]] + charges[others][:, None]).min(0, initial=np.float32(1e9))
            lower = max(chosen[place] - REACH, chosen[place - 1] + 1 if place else 0)
            upper = min(chosen[place] + REACH + 1, chosen[place + 1] if place + 1 < len(chosen) else len(errors))
            costs = [np.minimum(floor, errors[c] + charges[place]).mean(dtype=float) for c in range(lower, upper)]
            chosen[place] = lower + int(np.argmin(costs))


def grow(errors, size, slope):
    """Rows of a good set of ``size`` scales."""
    chosen = [int(errors.mean(1).argmin())]
    while len(chosen) < size:
        _, _, lengths = operating_point(errors[chosen], slope)
        floor = (errors[chosen] + (slope * lengths).astype(np.float32)[:, None]).min(0)
        costs = [np.minimum(floor, row + np.float32(5 * slope)).mean(dtype=float) for row in errors]
        new = min(set(range(len(errors))) - set(chosen), key=costs.__getitem__)
        _, chosen = improve(errors, sorted([*chosen, new]), slope)
    _, _, lengths = operating_point(errors[chosen], slope)
    return [row for row, length in zip(chosen, lengths, strict=True) if length < RAREST]


def gains(blocks, q, scales):
    """(bits per entry for the scale indices beyond the smallest section, effective bits beyond log2(q)), rising."""
    count = blocks.shape[1]
    code = E8Params(q, scales, offset_for(q)).code
    curve = []
    for rate in RATES:
        budget = e8.smallest_index_size(8 * count, len(scales)) + int(rate * count)
        errors = kernels.quantize(blocks, choose(blocks, code, budget, "default"), code)[2]
        gain = round(-0.5 * math.log2(float(errors.mean(dtype=float)) / 8) - math.log2(q), 3)
        if not curve or gain > curve[-1][1]:
            curve.append((rate, gain))
    return tuple(curve)


def main():
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    ratios = [int(q) for q in sys.argv[2].split(",")] if len(sys.argv) > 2 else NESTING_RATIOS
    rng = np.random.default_rng(2410)
    train, test = (rng.standard_normal((8, count)) for count in (blocks, 4 * blocks))
    train, test = ((x / np.sqrt((x * x).mean())).astype(np.float32) for x in (train, test))
    for q in ratios:
        errors = measure(train, q, GRID)
        slope = 2 * math.log(2) * 2.0 ** (-2 * (math.log2(q) + 0.1))
        print(f"    {q}: (")
        for size, factor in DESIGNS:
            scales = tuple(int(b) for b in GRID[grow(errors, size, factor * slope)])
            text = f"Table({scales}, {gains(test, q, scales)}),"
            print(textwrap.fill(text, 116, initial_indent=8 * " ", subsequent_indent=14 * " "), flush=True)
        print("    ),")


main()
