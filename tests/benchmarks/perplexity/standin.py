"""Stands for ``latq.quantizer`` until latq has it: codec e8 with fixed coding, without the bytes.

Delete this file then, and import the real one in peers.py.
"""

from math import log2

import numpy as np

from latq.codecs import e8, e8_design
from latq.pipeline.plan import NESTING_RATIOS
from latq.transforms.rotation import rotate, unrotate

SEED = 0
SCALE_BITS = 16


def quantizer(bits, n):
    return Quantizer(bits, n)


class Quantizer:
    """Codes float32 arrays (vectors, n) at ``bits`` per entry, a float16 scale per vector included."""

    def __init__(self, bits, n):
        self.bits, self.n = bits, n
        room = bits - SCALE_BITS / n
        options = ((q, table) for q in NESTING_RATIOS if log2(q) <= room for table in e8_design.tables_for(q))
        q, table = max(options, key=lambda option: log2(option[0]) + option[1].gain(room - log2(option[0])))
        self.params = e8.E8Params(q, table.scales, e8_design.offset_for(q))
        self.index_bits = room - log2(q)

    def encode(self, x):
        """Integers (vectors, n) and scales (vectors, 1)."""
        turned = rotate(x, "hadamard", SEED, np.empty_like(x))
        sizes = np.sqrt(np.square(turned).mean(1, keepdims=True)) + np.float32(1e-30)
        budget = int(self.index_bits * x.size / 8)
        *_, integers = e8.encode((turned / sizes).reshape(-1), self.params, budget)
        integers = integers.reshape(x.shape)
        energy = np.square(integers).sum(1, keepdims=True) + np.float32(1e-30)
        return integers, ((turned * integers).sum(1, keepdims=True) / energy).astype(np.float16)

    def decode(self, code):
        integers, scales = code
        return unrotate(integers * scales.astype(np.float32), "hadamard", SEED)
