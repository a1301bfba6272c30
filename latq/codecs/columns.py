"""Steps of coordinates: runs of 8 coordinates of every vector are coded with a multiple of the step (spec section 8.3).

Where coordinates matter unequally, as those of weights do that are quantized one after the other, equal steps cost up
to 0.3 bit per entry; steps in inverse proportion to their weight cost nothing (Lifar et al. 2026, WaterSIC).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import numpy.typing as npt

from latq.codecs.blocks import BLOCK, F32, Classes, Number
from latq.kernels.elementary import log2

# The finest step, in units of which the others are whole numbers.
UNIT = 16


@dataclass(frozen=True)
class Columns:
    """``steps``: pairs of a multiplier and how many blocks of a vector in a row have it."""

    steps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, multipliers: Sequence[int]) -> "Columns":
        """From the multiplier of each block of a vector."""
        return cls(tuple((value, len(list(run))) for value, run in groupby(multipliers)))

    @cached_property
    def blocks(self) -> int:
        """Blocks of a vector."""
        return sum(count for _, count in self.steps)

    @cached_property
    def distinct(self) -> tuple[int, ...]:
        """The multipliers, rising."""
        return tuple(sorted({multiplier for multiplier, _ in self.steps}))

    @property
    def widths(self) -> tuple[int, ...]:
        """How much narrower entries are in units of each distinct step than in the finest, eighths of an octave."""
        return tuple(round(8 * log2(multiplier / self.distinct[0])) for multiplier in self.distinct)

    @cached_property
    def gains(self) -> F32:
        """(blocks of a vector,) the multipliers in finest steps of the encoder."""
        return self.multipliers.astype(np.float32) / np.float32(UNIT)

    @cached_property
    def multipliers(self) -> npt.NDArray[np.int32]:
        """(blocks of a vector,)"""
        return np.repeat(*np.array(self.steps, np.int32).T)

    @cached_property
    def index(self) -> npt.NDArray[np.intp]:
        """(blocks of a vector,) place among the distinct ones."""
        return np.searchsorted(np.array(self.distinct), self.multipliers)

    def classes(self, vector_classes: npt.NDArray[np.integer]) -> Classes:
        """Class of each block of the stream: those of a class of vectors (V,) have one for each multiplier."""
        of_vectors = vector_classes.astype(np.intp) * len(self.distinct)
        found: Classes = (of_vectors[:, None] + self.index).reshape(-1)
        return found

    def mean_rates(self, rates: Sequence[float | None]) -> list[float | None]:
        """Of each class of vectors, from those of its blocks with each distinct multiplier."""
        shares = np.bincount(self.index).tolist()
        count = len(shares)

        def mean(own: Sequence[float | None]) -> float | None:
            known = [(share, rate) for share, rate in zip(shares, own, strict=True) if rate is not None]
            total = sum(share for share, _ in known)
            return sum(share * rate for share, rate in known) / total if 2 * total >= sum(shares) else None

        return [mean(rates[first : first + count]) for first in range(0, len(rates), count)]

    def multiplied(self, integers: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Integers of a stream (count,) as they count, from those that are coded."""
        vectors = integers.reshape(-1, self.blocks, BLOCK)
        return (vectors * self.multipliers[:, None].astype(integers.dtype)).reshape(-1)
