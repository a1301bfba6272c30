"""The estimate of A^T B from compressed operands, with its errors."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

from latq.products.blocks import Block
from latq.products.multiplier import Multiplier, Outcome
from latq.products.operands import Operand
from latq.products.segment import Pair, segments_of
from latq.products.shrink import Estimate, choose_shrink
from latq.products.tile import ErrorKind, Statistics
from latq.sources import WritableArray
from latq.theory import guarantee, product_limit_of, unbiased_guarantee, unbiased_limit

__all__ = ["DEFAULT_MEMORY", "Estimate", "Journal", "Pair", "ProductReport", "Progress", "Workers", "multiply"]

DEFAULT_MEMORY = 1 << 29
Progress = Callable[[int], None]


@dataclass(frozen=True)
class ProductReport:
    """Outcome of one product.

    error
        Predicted root mean square of ||C - C_hat||_F over random rotations.
    relative
        The same over ||C||_F as estimated; infinite if nothing can be seen of it.
    normalized
        The square of ``error`` over ||A||_F^2 ||B||_F^2 / n.
    bits, limit
        Bits per entry of both sides, infinite for an exact one; what the square is at least for Gaussian matrices at
        these rates, None where that is not known.
    guarantee
        Root mean square error that the paper's scheme guarantees at these rates for any matrices of these norms, for
        large n; None where it is not known.
    kind, bound
        "bound" where a side was quantized without a rotation: then its errors may depend on the other side, ``error``
        is what holds if they do not, and error bars are bounds. ``bound`` is what ||C - C_hat||_F is at most; None
        where it is not needed.
    shrink, best_shrink
        The factor that the centred part of the estimate was multiplied by, and the one of least expected error.
    """

    shape: tuple[int, int]
    error: float
    relative: float
    normalized: float
    bits: tuple[float, float]
    limit: float | None
    guarantee: float | None
    kind: ErrorKind
    bound: float | None
    shrink: float
    best_shrink: float
    note: str


class Journal(Protocol):
    """What an earlier run has finished."""

    def finished(self, block: Block) -> Statistics | None:
        """What was found for a block; None if that is still to be done."""

    def record(self, block: Block, statistics: Statistics) -> None:
        """A block is in the output now."""


class Workers(Protocol):
    """Other processes, which can open the operands themselves."""

    def multiply(
        self, blocks: Sequence[Block], batch: int, outcome: Outcome, progress: Progress
    ) -> Iterable[tuple[Block, Statistics]]:
        """Write blocks, in any order; each with what was found for it."""


def multiply(
    pairs: Sequence[Pair],
    target: WritableArray,
    *,
    estimate: Estimate = "unbiased",
    error_bars: WritableArray | None = None,
    threads: int = 1,
    memory: int = DEFAULT_MEMORY,
    journal: Journal | None = None,
    workers: Workers | None = None,
    progress: Progress = lambda entries: None,
) -> ProductReport:
    """Write the estimate of A^T B, (m_a, m_b), into ``target``; several pairs (A, B) are summed.

    With A = A_c + 1 mean_A^T (and B likewise), A^T B = A_c^T B_c + n mean_A mean_B^T where both are centred; a side
    that is not contributes the sums of its vectors instead.

    "unbiased" is right on average over rotations in every entry; "shrunk" multiplies the centred part by the factor
    that minimises the expected Frobenius error; "auto" does so where that error falls by a hundredth or more, but not
    when ``error_bars`` are asked for; these are the standard error of every entry, or a bound where the report says so.
    About ``memory`` bytes are used, by each of the ``workers`` if there are any, which then do the work instead of
    ``threads``. The result does not depend on the number of either. ParameterError if shapes do not agree.
    """
    segments, note = segments_of(pairs)
    kind: ErrorKind = "standard error" if all(map(_is_random, (x for pair in pairs for x in pair))) else "bound"
    if estimate == "auto" and (error_bars is not None or kind == "bound"):
        estimate = "unbiased"
    outcome = Outcome(target, error_bars, kind, choose_shrink(segments, estimate))
    multiplier = Multiplier(segments, outcome, threads, progress)
    plan = multiplier.plan(memory)
    if workers:
        plan = plan.shared(getattr(target, "chunks", None) or getattr(error_bars, "chunks", None))
    blocks = list(plan.blocks())
    found = {block: earlier for block in blocks if journal and (earlier := journal.finished(block))}
    progress(sum(block.size for block in found))
    left = [block for block in blocks if block not in found]
    multiplied: Iterable[tuple[Block, Statistics]]
    if workers:
        multiplied = workers.multiply(left, plan.batch, outcome, progress)
    else:
        multiplied = ((block, multiplier.multiply(block, plan.batch)) for block in left)
    for block, statistics in multiplied:
        found[block] = statistics
        if journal:
            journal.record(block, statistics)
    total = reduce(Statistics.plus, (found[block] for block in blocks), Statistics())
    return _report(pairs, total, outcome, note)


def _is_random(operand: Operand) -> bool:
    return operand.random or operand.error_energy == 0


def _report(pairs: Sequence[Pair], total: Statistics, outcome: Outcome, note: str) -> ProductReport:
    signal = max(total.centred_square - total.centred_error, 0.0)
    rest = max(total.error - total.centred_error, 0.0)
    expected = rest + outcome.shrink**2 * total.centred_error + (1 - outcome.shrink) ** 2 * signal
    square = max(total.square - total.error, 0.0)
    bits = _bits([a for a, _ in pairs]), _bits([b for _, b in pairs])
    m_a, m_b = outcome.target.shape
    return ProductReport(
        (m_a, m_b),
        math.sqrt(expected),
        math.sqrt(expected / square) if square > 0 else math.inf if expected > 0 else 0.0,
        expected / total.scale if total.scale > 0 else 0.0,
        bits,
        product_limit_of(*bits),
        _guarantee(bits, total.centred_scale, signal, outcome.shrink),
        outcome.kind,
        sum(_bound(a, b, outcome.shrink) for a, b in pairs) if outcome.kind == "bound" else None,
        outcome.shrink,
        signal / total.centred_square if total.centred_square > 0 else 1.0,
        note,
    )


def _bits(operands: Sequence[Operand]) -> float:
    """Per entry of all of them."""
    return sum(operand.bits * operand.n for operand in operands) / max(sum(operand.n for operand in operands), 1)


def _guarantee(bits: tuple[float, float], scale: float, signal: float, shrink: float) -> float | None:
    """Root of the mean squared error that is guaranteed; ``scale`` and ``signal`` are of the centred parts."""
    if shrink == 1:
        found = unbiased_guarantee(unbiased_limit(*bits), scale, 1.0, 1.0)
        return math.sqrt(found) if math.isfinite(found) else None
    limit = product_limit_of(*bits)
    return None if limit is None else math.sqrt(guarantee(limit, scale, 1.0, signal, 1.0))


def _bound(a: Operand, b: Operand, shrink: float) -> float:
    """What the Frobenius norm of the error is at most: |Z_a||B| + |A||Z_b| + |Z_a||Z_b| of the unbiased estimate, and
    the part of |A_hat||B_hat| that is taken back where not all coordinates are coded."""
    (norm_a, error_a), (norm_b, error_b) = (
        (math.sqrt(operand.energy), math.sqrt(operand.error_energy)) for operand in (a, b)
    )
    taken_back = (1 - max(a.kept, b.kept)) * (norm_a + error_a) * (norm_b + error_b)
    unbiased = error_a * norm_b + norm_a * error_b + error_a * error_b + taken_back
    return shrink * unbiased + (1 - shrink) * norm_a * norm_b
