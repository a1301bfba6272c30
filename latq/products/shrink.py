"""One factor for the whole product: what makes it unbiased adds noise, and less of it may be nearer to the truth.

The factor c* = S / (S + V), with the energy S of the product and V of its expected error, minimises
(1 - c)^2 S + c^2 V (the MMSE factor of Ordentlich & Polyanskiy 2024). It is estimated on a sample of both sides, so
that every block can be written once.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from latq.pipeline.scan import scattered
from latq.products.operands import Operand
from latq.products.segment import Segment
from latq.products.tile import multiply_panels

Estimate = Literal["auto", "unbiased", "shrunk"]

# "auto" shrinks by no less than this: then the expected error falls by a hundredth or more.
_WORTHWHILE = 0.98
# Runs of vectors in the sample of each side, and vectors of each at most.
_RUNS, _VECTORS = 4, 256


def choose_shrink(segments: Sequence[Segment], estimate: Estimate) -> float:
    """The factor for what is estimated of the centred parts; 1 leaves them unbiased."""
    if estimate == "unbiased" or not segments:
        return 1.0
    square = error = 0.0
    for segment in segments:
        columns = [(segment.right(b0, b1), list(segment.b.runs(b0, b1))) for b0, b1 in _sample(segment.b)]
        for a0, a1 in _sample(segment.a):
            panel, runs = segment.left(a0, a1), list(segment.a.runs(a0, a1))
            for other, other_runs in columns:
                tile = multiply_panels(panel, other, runs, other_runs, None)
                square += float((tile.centred**2).sum())
                error += tile.statistics.centred_error
    found = max(square - error, 0.0) / square if square > 0 else 1.0
    return found if estimate == "shrunk" or found < _WORTHWHILE else 1.0


def _sample(operand: Operand) -> Iterator[tuple[int, int]]:
    """Vectors from a few places."""
    pieces = list(operand.pieces(0, operand.m))
    for number in scattered(len(pieces), -(-len(pieces) // _RUNS)) if pieces else ():
        first, last = pieces[number]
        yield first, min(last, first + _VECTORS)
