"""Blocks of a vector quantized one after the other, each making up for the errors before it (see ``feedback``)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.calibration.feedback import Feedback, with_feedback
from latq.calibration.shaping import Shaping
from latq.codecs import e8, e8_scales
from latq.codecs.blocks import BLOCK, F32, Classes, blocks_of
from latq.codecs.e8 import E8Params
from latq.codecs.e8_entropy import E8Points
from latq.codecs.effort import Effort
from latq.codecs.quantizer import I32, I64, Chooser, Quantizer
from latq.coding import packing, rans
from latq.coding.model import Density
from latq.kernels import NestedCode

# Blocks of vectors that tell how large targets are.
_SAMPLE = 1 << 13


@dataclass(frozen=True, eq=False)
class Successive(Chooser):
    """``inner`` with feedback; every vector is a whole number of blocks."""

    inner: E8Points
    shaping: Shaping

    @property
    def blockwise(self) -> Quantizer:
        return self.inner

    def choose(self, x: F32, classes: Classes, step: float, density: Density | None) -> tuple[I32, int]:
        _, points, cost = self.seen(x, classes, step, density)
        return points, cost

    def seen(self, x: F32, classes: Classes, step: float, density: Density | None) -> tuple[F32, I32, int]:
        gains, shrinks = self.shaping.columns.gains, self.shaping.shrinks
        columns = self.shaping.columns.blocks
        of_vectors = np.ascontiguousarray(x.T).reshape(-1, columns * BLOCK)
        of_columns = classes.reshape(-1, columns)
        seen = np.empty((len(of_vectors), columns, BLOCK), np.float32)
        points = np.empty(seen.shape, np.int32)
        cost = 0

        def quantize(block: int, target: F32) -> F32:
            nonlocal cost
            own, own_step = np.ascontiguousarray(target).T, step * float(gains[block])
            own_classes = np.ascontiguousarray(of_columns[:, block])
            found, own_cost = self.inner.choose(own, own_classes, own_step, density, shrinks[block])
            seen[:, block], points[:, block] = target * (np.float32(1) / gains[block]), found.T
            cost += own_cost
            reconstruction: F32 = found.T * np.float32(own_step / 2)
            return reconstruction

        with_feedback(of_vectors, self.shaping.feedback, quantize)
        return seen.reshape(-1, BLOCK).T, points.reshape(-1, BLOCK).T, cost

    def costs(self, points: I32, density: Density, classes: Classes) -> I64:
        return self.inner.costs(points, density, classes)


def encode_fixed(
    x: F32, params: E8Params, index_budget: int, effort: Effort, feedback: Feedback, balanced: bool
) -> tuple[bytes, bytes, F32]:
    """``e8.encode`` with feedback: the scale of each block is chosen when it is known what the block should become, at
    a price of bits that rises until all fit."""
    vectors = np.ascontiguousarray(x).reshape(-1, len(feedback.upper))
    count, code = x.size // BLOCK, params.code
    # What blocks should become is larger than what they are: a first round tells, over some of the vectors.
    some = np.ascontiguousarray(vectors[:: -(-count // _SAMPLE)])
    charges, scales = next(e8_scales.tariffs(blocks_of(some.reshape(-1)), count, code, index_budget, effort))
    sample = _Choice.of(some, code, scales, charges, effort, feedback)
    shift = e8.balance(sample.targets, sample.index.reshape(-1), params) if balanced else None
    for charges, scales in e8_scales.tariffs(sample.targets, count, code, index_budget, effort):
        choice = _Choice.of(vectors, code, scales, charges, effort, feedback, shift)
        section = rans.encode(choice.index.reshape(-1), len(params.scales))
        if len(section) <= index_budget:
            break
    return section, packing.pack(choice.digits.reshape(-1), params.q), choice.integers.reshape(-1)


@dataclass(frozen=True, eq=False)
class _Choice:
    """Of blocks (vectors, blocks, 8): digits and integers, scale indices (vectors, blocks), and what the blocks should
    have become (8, vectors blocks)."""

    digits: npt.NDArray[Any]
    integers: F32
    index: npt.NDArray[np.uint8]
    targets: F32

    @classmethod
    def of(
        cls,
        vectors: F32,
        code: NestedCode,
        scales: npt.NDArray[np.intp],
        charges: F32,
        effort: Effort,
        feedback: Feedback,
        shift: F32 | None = None,
    ) -> "_Choice":
        """At scales among those given, which cost ``charges``; with ``shift`` (8, 1) added to what is quantized."""
        blocks = vectors.reshape(len(vectors), -1, BLOCK)
        digits = np.empty(blocks.shape, kernels.digit_type(code.q))
        integers, targets = np.empty(blocks.shape, np.float32), np.empty(blocks.shape, np.float32)
        index = np.empty(blocks.shape[:2], np.uint8)
        choose = kernels.guess_scales if effort == "fast" else kernels.choose_scales
        only, names = code.only(scales), scales.astype(np.uint8)
        # What an integer of the code counts for.
        unit = np.float32(float(code.steps[0]) / 2 / float(code.scales[0]))

        def quantize(block: int, target: F32) -> F32:
            own = np.ascontiguousarray(target).T
            chosen = names[choose(own, only, charges)[0]]
            found, whole, _ = kernels.quantize(own if shift is None else own + shift, chosen, code)
            digits[:, block], integers[:, block], targets[:, block] = found.T, whole.T, target
            index[:, block] = chosen
            reconstruction: F32 = whole.T * unit
            return reconstruction

        with_feedback(vectors, feedback, quantize)
        return cls(digits, integers, index, targets.reshape(-1, BLOCK).T)
