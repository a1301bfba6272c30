"""Step and density of a quantizer for a rate or an error, found on a sample."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs.blocks import BLOCK, F32, Classes
from latq.codecs.quantizer import I32, Chooser, Quantizer, octave_saves
from latq.coding import rans
from latq.coding.budget import rank
from latq.coding.model import Density
from latq.kernels import REACH
from latq.kernels.elementary import exp2, log2
from latq.limits import MAX_SHIFT

# Blocks from which the rate of a class can be told, and on which numbers of low bits are tried.
_ENOUGH = 64
_TRIAL = 1 << 12
# Negentropy (bits) from which entries are peaked enough for that.
_PEAKED = 0.2
# Bits per entry by which a design may miss its rate.
CLOSE = 0.001


@dataclass(frozen=True)
class Sample:
    """Blocks (8, N) as the codec will see them, their classes (N,), and whether they straddle vectors of ``mixed``
    classes; of each class its width and the norm that its vectors were divided by (all equal where every vector was
    divided by its own)."""

    blocks: F32
    classes: Classes
    mixed: npt.NDArray[np.bool_]
    widths: tuple[int, ...]
    norms: tuple[float, ...]

    @cached_property
    def energy(self) -> float:
        """Sum of squares of the blocks before that division, up to a common factor."""
        return self._moments(self.blocks)[0]

    @property
    def rms(self) -> float:
        """Root mean square of the entries, 1 if all are zero."""
        return math.sqrt(self.energy / self.blocks.size) or 1.0

    @cached_property
    def width_0_rms(self) -> float:
        """Root mean square of the entries, brought to width 0."""
        return math.sqrt(_moments(self.widened, self.widened)[0] / self.widened.size)

    @cached_property
    def negentropy(self) -> float:
        """Bits per entry by which the entries, brought to width 0, are easier to code than Gaussian ones of their
        variance; from a histogram in quarters of a standard deviation."""
        if self.width_0_rms == 0:
            return 0.0
        x = self.widened.T.reshape(-1)
        cells = np.rint(x * (4 / self.width_0_rms)).astype(np.int64)
        counts = np.bincount(cells - cells.min())
        entropy: float = sum(-count / x.size * log2(count / x.size) for count in counts[counts > 0].tolist()) - 2
        return 2.0470955851 - entropy

    @cached_property
    def widened(self) -> F32:
        """The blocks with all classes blown up to width 0, without those of nothing but zeros and those that straddle
        vectors of different classes."""
        if not any(self.widths):
            return self.blocks
        gains = np.array([exp2(width / 8) for width in self.widths], np.float32)
        shown = self.blocks.any(axis=0) & ~self.mixed
        return (self.blocks * gains[self.classes])[:, shown] if shown.any() else self.blocks

    def distortion(self, points: I32 | F32) -> float:
        """Error over energy of points for the blocks, with the best gain."""
        energy, xy, yy = self._moments(points)
        return 1 - (xy * xy / (yy * energy) if yy else 0.0) if energy else 0.0

    def _moments(self, points: I32 | F32) -> tuple[float, float, float]:
        """Sums of x x, x y and y y over all entries: of the blocks, and of points for them, before that division."""
        if len(self.norms) == 1:
            return _moments(self.blocks, points)
        gains = np.array(self.norms)[self.classes] / self.norms[0]
        of_blocks = kernels.row_moments(self.blocks.T, points.T) * (gains * gains)[:, None]
        xx, xy, yy = kernels.tree_sum(np.ascontiguousarray(of_blocks.T)).tolist()
        return xx, xy, yy


@dataclass(frozen=True)
class Design:
    """Step and density, and what they give on the sample: bits per entry (of each class too, None where the sample has
    too few blocks of it), error over energy."""

    step: float
    density: Density
    rate: float
    class_rates: tuple[float | None, ...]
    distortion: float


def design_for_rate(
    chooser: Chooser, sample: Sample, rate: float, start: Design | None = None, close: float = CLOSE
) -> Design:
    """Spend ``rate`` bits per entry, but for up to ``close``; ``start`` is what another quantizer does for that."""
    # At high rate entries of N(0, 1), sqrt(2 pi e) wide in the mean, cost the log2 of that over the step; what that is
    # off at low rates, by measurement; the iteration corrects the rest.
    step = start.step if start else sample.rms * 3.73 * exp2(0.147 - rate + 1.03 * exp2(-2 * rate))
    density = start.density if start else None
    best: Design | None = None
    octaves, slope, before = 0.0, octave_saves(rate), None
    for _ in range(10):
        found = _evaluate(chooser, sample, step, density)
        # At first a density is that of the nearest points, or of another quantizer.
        settled, density, excess = density is not None, found.density, found.rate - rate
        if best is None or rank(excess) > rank(best.rate - rate) or abs(excess) < close:
            best = found
        if abs(excess) < close and settled:
            break
        if before is not None and abs(octaves) > 0.1:
            slope = min(max((before - excess) / octaves, 0.1), 1.5)
        before, octaves = excess, max(-2.0, min(2.0, excess / slope))
        step *= exp2(octaves)
    assert best is not None
    return best


def design_for_error(chooser: Chooser, sample: Sample, distortion: float) -> Design:
    """Reach an error of ``distortion`` times the energy."""
    step = sample.rms * min(3.73 * math.sqrt(distortion), 4.0)
    density: Density | None = None
    for _ in range(8):
        found = _evaluate(chooser, sample, step, density)
        density = found.density
        step *= min(max(math.sqrt(distortion / max(found.distortion, 1e-300)), 0.25), 4.0)
    return replace(found, step=step)


def _evaluate(chooser: Chooser, sample: Sample, step: float, density: Density | None) -> Design:
    """Quantize the sample by the choices of ``density`` and fit a new one to the outcome."""
    seen, points, _ = chooser.seen(sample.blocks, sample.classes, step, density)
    own = sample if seen is sample.blocks else replace(sample, blocks=seen)
    fitted = _fit_density(chooser.blockwise, own, points, step, density)
    costs = chooser.costs(points, fitted, sample.classes)
    rates = [_rate(costs[sample.classes == c]) for c in range(len(sample.widths))]
    return Design(
        step, fitted, int(costs.sum()) / (rans.COST_UNIT * points.size), tuple(rates), sample.distortion(points)
    )


def _rate(costs: npt.NDArray[np.int64]) -> float | None:
    """Bits per entry of blocks of these costs."""
    return int(costs.sum()) / (rans.COST_UNIT * BLOCK * costs.size) if costs.size >= _ENOUGH else None


def _fit_density(quantizer: Quantizer, sample: Sample, points: I32, step: float, density: Density | None) -> Density:
    """The density of width 0: of all points, or where classes differ, of all blocks blown up to that width."""
    if any(sample.widths):
        # Class 0 is the widest.
        blocks = sample.widened
        points, _ = quantizer.choose(blocks, _zeros(blocks), step, _widest(density) if density else None)
    shifts = [_shift_for(step * exp2(width / 8)) for width in sample.widths]
    # Low bits are for entries that are about as large as their class: many small ones are better off without.
    fewer = range(max(shifts) + 1) if sample.negentropy > _PEAKED else (0,)
    fits = [_fit_points(points, sample.widths, [max(s - less, 0) for s in shifts]) for less in fewer]
    if len(fits) == 1:
        return fits[0]
    some = slice(None, None, -(-points.shape[1] // _TRIAL))
    return min(fits, key=lambda fit: int(quantizer.costs(points[:, some], _widest(fit), _zeros(points[:, some])).sum()))


def _fit_points(points: I32, widths: tuple[int, ...], shifts: list[int]) -> Density:
    """The density of points of class 0, for classes of these widths and shifts."""
    shift = shifts[0]
    values = points.T.reshape(-1) >> (shift + 1 if shift else 0)
    farthest = max(int(values.max(initial=0)), -int(values.min(initial=0)))
    reach = min(REACH, max(2, farthest + 1))
    inside = values[np.abs(values) <= reach] if farthest > reach else values
    counts = np.bincount(inside + reach, minlength=2 * reach + 1).astype(np.int64)
    if not inside.size:
        counts[:] = 1
    odd = int((points[0] & 1).sum())
    return Density.fit(counts, shift, (points.shape[1] - odd, odd)).with_classes(widths, tuple(shifts))


def _moments(x: F32, y: I32 | F32) -> tuple[float, float, float]:
    """Sums of x x, x y and y y over all entries of blocks (8, N)."""
    xx, xy, yy = kernels.row_moments(x.T.reshape(1, -1), y.T.reshape(1, -1))[0].tolist()
    return xx, xy, yy


def _widest(density: Density) -> Density:
    return replace(density, shifts=density.shifts[:1], widths=density.widths[:1])


def _zeros(blocks: I32 | F32) -> Classes:
    return np.zeros(blocks.shape[1], np.intp)


def _shift_for(step: float) -> int:
    """Low bits stored as such: high parts keep 6 to 12.5 values per standard deviation. Fewer lose 0.005 bits, more
    make long tables."""
    return min(max(0, int(np.frexp(0.16 / step)[1]) - 1), MAX_SHIFT)
