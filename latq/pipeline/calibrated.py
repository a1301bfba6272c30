"""Plans for matrices whose inputs are known (see ``latq.calibration``)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from math import ceil

import msgspec
import numpy as np

from latq.calibration.feedback import eliminate
from latq.calibration.moments import Moments
from latq.calibration.shaping import Inputs, Shaping, judge, shape
from latq.codecs.blocks import BLOCK, blocks_of
from latq.codecs.e8_entropy import E8Points
from latq.codecs.effort import Effort
from latq.codecs.entropy_design import Sample
from latq.kernels.elementary import exp2, log2
from latq.limits import MAX_CLASSES, MAX_GROUP
from latq.pipeline.chunk import Scratch, encode_chunk, prepare, stream_of
from latq.pipeline.metadata import KEPT_ALL
from latq.pipeline.panels import Array
from latq.pipeline.plan import Layout, Plan, plan_calibrated, plans_fixed
from latq.pipeline.scan import scattered
from latq.theory import R_STAR, waterfilling_rate
from latq.transforms.sizes import SizeClasses

# Entries of the vectors to which a plan is fitted.
SAMPLE_ENTRIES = 1 << 17
# What a quantizer of activations loses to the Shannon limit, about: that of fixed coding with a scale per vector.
ACTIVATION_GAP = 0.3
# Plans of fixed coding that are tried: targets are not quite Gaussian, as the ranking of plans assumes.
FIXED_TRIALS = 8
# Where the ridge lies: parts of an octave, and how far from the power of the inputs at most.
RIDGE_UNIT, MAX_RIDGE_OCTAVES = 8, 40


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the inputs of one matrix: their second moments, and how many bits each of their entries will
    have (None: they stay exact)."""

    moments: Moments
    activation_bits: float | None

    @property
    def noise(self) -> float:
        """Energy of the errors of the inputs over their own."""
        return 0.0 if self.activation_bits is None else exp2(2 * (ACTIVATION_GAP - self.activation_bits))

    @property
    def error_factor(self) -> float:
        """Error energy of products with the inputs over that with white ones of as much energy, at the same rate: the
        geometric over the arithmetic mean of the variances of their components."""
        pivots = eliminate(self.moments.damped(self.moments.matrix))
        if pivots is None:
            return 1.0
        logarithms = [log2(pivot) for pivot in pivots[1].tolist()]
        return exp2(sum(logarithms) / len(logarithms) - log2(self.moments.floor))

    @cached_property
    def spectrum(self) -> list[float]:
        """Variances of the uncorrelated components of inputs."""
        found: list[float] = np.linalg.eigvalsh(self.moments.matrix).tolist()
        return found

    def ridge(self, rate: float) -> float:
        """The water level of about ``rate`` bits per entry, over the power of the inputs, for vectors of unit mean
        square: that at which every component has the rate of a Gaussian one beside white noise."""
        power = self.moments.floor
        shares = [max(variance, 0.0) / power for variance in self.spectrum]
        # Of targets that allow for the noise of the inputs.
        seen = np.array([share * share / (share + self.noise) for share in shares if share])
        low, high = (-RIDGE_UNIT * MAX_RIDGE_OCTAVES, RIDGE_UNIT * MAX_RIDGE_OCTAVES)
        # Solvers of different machines differ in the last digits of the spectrum, which such a grid does not show.
        while high - low > 1:
            middle = (low + high) // 2
            bits = float(np.log2(1 + seen / exp2(middle / RIDGE_UNIT)).sum()) / 2 / len(shares)
            low, high = (middle, high) if bits > rate else (low, middle)
        return exp2(low / RIDGE_UNIT)

    def bits_lost(self, rate: float, energy: float, error: float) -> float | None:
        """Bits per entry above what a Gaussian matrix of as much ``energy`` per entry needs for outputs with an error
        energy of ``error`` per entry of the matrix; None where nothing is lost."""
        if error <= 0 or energy <= 0:
            return None
        # Solvers of different machines differ in the last digits.
        return round(rate - waterfilling_rate([energy * variance for variance in self.spectrum], error), 3)


def unfit(n: int) -> str | None:
    """Why vectors of ``n`` entries cannot be quantized for inputs, or None."""
    if n % BLOCK:
        return f"its vectors have {n} entries, no multiple of {BLOCK}"
    if n > MAX_GROUP:
        return f"its vectors have {n} entries, more than {MAX_GROUP}"
    return None


def choose_plan(
    plain: Plan | None,
    known: Known,
    layout: Layout,
    classes_of: Callable[[int], SizeClasses | None],
    sample: Sequence[Array],
    quantizer: E8Points | None,
    effort: Effort,
) -> Plan | None:
    """The plan that quantizes for the inputs, or ``plain`` if that makes smaller errors in the products of the sampled
    vectors with them; both judge them.

    ``classes_of(most)`` are the classes of vectors; ``quantizer`` is None for fixed coding.
    """

    @cache
    def inputs_for(kept: int) -> Inputs:
        ridge = known.ridge(layout.bits * layout.n / kept)
        return shape(known.moments, layout.rotation, layout.seed, kept, known.noise, ridge)

    layout = replace(layout, calibrated=True)
    shaped: list[Plan] = []
    if quantizer is None:
        for fixed in islice(plans_fixed(replace(layout, classes=classes_of(MAX_CLASSES)), None, effort), FIXED_TRIALS):
            kept = _whole_blocks(fixed.codec.kept_of(layout.n))
            codec = msgspec.structs.replace(fixed.codec, kept=kept * KEPT_ALL // layout.n)
            shaped.append(replace(fixed, codec=codec, inputs=inputs_for(kept)))
    else:
        timeshared = layout.bits < R_STAR and layout.rotation == "hadamard"
        kept = _whole_blocks(ceil(layout.n * layout.bits / R_STAR)) if timeshared else layout.n
        inputs = inputs_for(kept)
        assert inputs.shaping is not None
        most = MAX_CLASSES // len(inputs.shaping.columns.distinct)
        own = replace(layout, classes=classes_of(most), kept=kept * KEPT_ALL // layout.n)
        found = plan_calibrated(own, VectorSampler(sample, inputs.shaping), quantizer, inputs)
        shaped = [found] if found else []
    plans = shaped
    if plain is not None:
        plans = [*shaped, replace(plain, inputs=_judging(plain, shaped, known.moments))]
    if len(plans) < 2:
        return next(iter(plans), None)
    return min(plans, key=lambda plan: _trial(plan, sample, layout.entries))


def _judging(plain: Plan, shaped: list[Plan], moments: Moments) -> Inputs:
    """Inputs in the rotated coordinates of ``plain``, from another plan that has the same."""
    for plan in shaped:
        if plan.inputs and (plan.codec.rotation, plan.codec.seed) == (plain.codec.rotation, plain.codec.seed):
            return replace(plan.inputs, shaping=None)
    return judge(moments, plain.codec.rotation, plain.codec.seed)


def _whole_blocks(kept: int) -> int:
    """Coordinates in whole blocks, one at least."""
    return max(kept // BLOCK, 1) * BLOCK


def _trial(plan: Plan, sample: Sequence[Array], entries: int) -> float:
    """Error of the products of the sampled vectors with an input, by a plan for so many ``entries``."""
    x = np.concatenate(_spread(sample))
    goal = replace(plan.goals[0], budget=sum(goal.budget for goal in plan.goals) * x.size // entries)
    _, energies = encode_chunk(x, plan.codec, plan.classes, goal, Scratch(), plan.inputs)
    return energies.output_error


def _spread(sample: Sequence[Array]) -> list[Array]:
    """Some vectors of every part."""
    stride = -(-sum(x.size for x in sample) // SAMPLE_ENTRIES)
    return [x[scattered(len(x), stride)] for x in sample]


class VectorSampler:
    """Whole vectors from chunks all over the tensor, as the codec of any layout will see them."""

    def __init__(self, parts: Sequence[Array], shaping: Shaping) -> None:
        self._parts, self._shaping = _spread(parts), shaping

    def __call__(self, layout: Layout) -> Sample:
        columns = self._shaping.columns
        found, classes = [], []
        for x in self._parts:
            parts, rotated = prepare(x, layout.codec, layout.classes)
            found.append(blocks_of(stream_of(self._shaping.target(rotated), self._shaping.kept)))
            classes.append(columns.classes(parts.classes))
        norms = layout.classes.divisors(0) if layout.classes else np.ones(1)
        all_classes = np.concatenate(classes)
        return Sample(
            np.concatenate(found, axis=1),
            all_classes,
            np.zeros(all_classes.size, np.bool_),
            tuple(wide + own for wide in layout.widths for own in columns.widths),
            tuple(norm for norm in norms.tolist() for _ in columns.widths),
        )
