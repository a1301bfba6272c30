"""Integers at one step size, no overload, coded by a static model (spec sections 8.3 and 8.5): what the quantizers for
that, points of E8 and paths through a trellis, have in common.

Numbers enter as a flat stream in blocks of 8 and leave as integers half a step apart. The step is one for all blocks,
the tables are those of the block's class.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs.blocks import BLOCK, F32, Classes, Number, count_of, stream_of
from latq.coding import rans
from latq.coding.budget import rank
from latq.coding.model import Density
from latq.errors import CorruptError, ParameterError
from latq.kernels.elementary import exp2

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Sections = tuple[bytes, bytes]
# Share of the error asked for that a chunk at least takes.
CLOSE = 0.99
MAX_TRIALS = 12


class Chooser(ABC):
    """Chooses integers (8, N) for blocks."""

    @abstractmethod
    def choose(self, x: F32, classes: Classes, step: float, density: Density | None) -> tuple[I32, int]:
        """Integers for blocks ``x`` (8, N), and what they cost.

        Without a density the nearest ones, at no cost; with one, those for which error and bits together are least, by
        what a bit is worth at this step.
        """

    @property
    @abstractmethod
    def blockwise(self) -> "Quantizer":
        """What quantizes a block once it is known what it should become."""

    def seen(self, x: F32, classes: Classes, step: float, density: Density | None) -> tuple[F32, I32, int]:
        """What :meth:`blockwise` is given for ``x``, (8, N) of width 0, beside what :meth:`choose` returns."""
        return x, *self.choose(x, classes, step, density)

    @abstractmethod
    def costs(self, points: I32, density: Density, classes: Classes) -> I64:
        """Cost of each block in units of 2^-16 bit."""


class Quantizer(Chooser):
    """Chooses block by block, and codes the choice.

    ``noise`` is the error per entry in squared steps where these are small, ``error_at_r_star`` that over the energy at
    the rate R*, where time sharing begins.
    """

    noise: float
    error_at_r_star: float

    @property
    def blockwise(self) -> "Quantizer":
        return self

    @abstractmethod
    def encode(self, points: I32, density: Density, classes: Classes) -> Sections:
        """(rANS section, escapes and low bits) of integers (8, N) in blocks of ``classes`` (N,)."""

    @abstractmethod
    def _decoded(
        self, streams: Sequence[kernels.PointStream], density: Density, narrow: bool
    ) -> list[kernels.Decoded | None]:
        """Inverse of :meth:`encode`, or None, of each; what is behind a stream has a possible size."""

    def decode(
        self,
        coded: Sequence[tuple[bytes | memoryview, bytes | memoryview, Classes]],
        density: Density,
        narrow: bool = False,
    ) -> list[kernels.Decoded]:
        """Integers (8 N,) of pairs of sections with the classes of their blocks, exact; CorruptError when a section is
        damaged. As float32; where that is ``narrow``, in 8 or 16 bits if these hold them and the quantizer can."""
        streams = [kernels.PointStream(*parts, lanes_for(parts[2].size)) for parts in coded]
        for given in streams:
            low_size = density.tables.low_size(given.classes)
            if len(given.rest) < low_size or (len(given.rest) - low_size) % 4:
                raise CorruptError("the section behind the coded points has a wrong size")
        found = []
        for points in self._decoded(streams, density, narrow):
            if points is None:
                raise CorruptError("the coded points do not decode to their end state")
            found.append(stream_of(points))
        return found


def lanes_for(blocks: int) -> int:
    """Lanes of the stream: as for scale indices, but a block has eight symbols."""
    return rans.lanes_for(blocks * BLOCK)


def within_budget(chooser: Chooser, x: F32, classes: Classes, density: Density, step: float, budget: int) -> I32:
    """Integers (8, N) for blocks ``x`` whose sections take ``budget`` bytes or a little less.

    The step is adjusted until they do, to within two margins. Data that no step of this density brings below the
    budget is coded at the smallest size found.
    """
    chosen: I32 | None = None
    best = -math.inf
    finer, coarser = None, None
    rate = 8 * budget / x.size
    for _ in range(MAX_TRIALS):
        points, cost = chooser.choose(x, classes, step, density)
        excess = 8 * (size_of(cost, x.size) - budget) / x.size
        if chosen is None or rank(excess) > best:
            chosen, best = points, rank(excess)
        if -2 * margin(rate) <= excess <= 0:
            break
        aim = excess + margin(rate)
        finer, coarser = ((step, aim), coarser) if aim > 0 else (finer, (step, aim))
        if finer and coarser:
            # Between the two: by interpolation, but not too close to either.
            share = min(max(finer[1] / (finer[1] - coarser[1]), 0.1), 0.9)
            step = finer[0] + share * (coarser[0] - finer[0])
        else:
            step = coarsened(step, aim, rate)
    assert chosen is not None
    return chosen


def coarsened(step: float, bits: float, rate: float) -> float:
    """The step that saves ``bits`` per entry at about this rate, with the same density."""
    return step * exp2(max(-1.0, min(1.0, bits / octave_saves(rate))))


def margin(rate: float) -> float:
    """Bits per entry by which trials aim below a rate. Chunks differ in what they take at one step, at low rates more:
    with less of a margin many would need a second trial."""
    return 0.0005 + 0.0015 / max(rate, 0.5)


def octave_saves(rate: float) -> float:
    """Bits per entry that an octave of the step saves at about this rate, by measurement: less than 1 where many
    entries cost nothing anyway."""
    return max(1 - exp2(0.4 - 1.5 * rate), 0.3)


def within_error(
    chooser: Chooser,
    x: F32,
    classes: Classes,
    density: Density,
    step: float,
    limit: float,
    error_of: Callable[[I32], float],
) -> I32:
    """Integers (8, N) for blocks ``x`` whose error is at most ``limit``, and not much less.

    The step is adjusted until ``error_of`` says so. Raises ParameterError for a limit that no step meets.
    """
    chosen, best = None, -1.0
    for _ in range(MAX_TRIALS):
        points, _ = chooser.choose(x, classes, step, density)
        error = error_of(points)
        if best < error <= limit:
            chosen, best = points, error
        if CLOSE * limit <= error <= limit:
            break
        step *= min(max(math.sqrt((1 + CLOSE) / 2 * limit / max(error, 1e-300)), 0.25), 4.0)
    if chosen is None:
        raise ParameterError("the error asked for is beyond the precision of the arithmetic; ask for a larger one")
    return chosen


def integers_of(points: npt.NDArray[Number], count: int) -> npt.NDArray[Number]:
    """Integers (8, N) as a flat stream (count,)."""
    return stream_of(points)[:count]


def overhead(count: int) -> int:
    """Bytes that the two sections take beyond what the model says of ``count`` entries."""
    blocks = count_of(count)
    return 4 * lanes_for(blocks) + 16 + blocks // 4096


def size_of(cost: int, count: int) -> int:
    """Bytes of the two sections of ``count`` entries, from above; ``cost`` is the sum over their blocks."""
    return cost // (8 * rans.COST_UNIT) + overhead(count)
