"""Second moments of the inputs that a matrix is multiplied by."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq import kernels

F64 = npt.NDArray[np.float64]

# Inputs in a row that are summed together: neighbours are alike, so what a sample tells is judged by such batches.
BATCH = 256
# Fewer of them tell nothing about that.
_ENOUGH_BATCHES = 4
# Damping where nothing is known of the sample: the share that GPTQ (Frantar et al. 2023) takes.
_USUAL_DAMPING = 0.01
# More would be no calibration, less is below the precision of factors in float32.
_LARGEST_DAMPING, _LEAST_DAMPING = 1.0, 1e-5
# Columns of the matrix that are summed at a time.
_STRIP = 512


@dataclass(frozen=True, eq=False)
class Moments:
    """``matrix`` (n, n), the mean of x x^T over ``count`` inputs x (0: not known how many), and ``mean`` (n,), that of
    x, if known. ``spread`` is the expected squared error of ``matrix`` (Frobenius norm) as an estimate, if known."""

    matrix: F64
    mean: F64 | None
    count: int
    spread: float | None

    def __len__(self) -> int:
        return len(self.matrix)

    @cached_property
    def power(self) -> float:
        """Mean square of the entries of an input."""
        return float(kernels.tree_sum(np.ascontiguousarray(np.diag(self.matrix)))) / len(self)

    @property
    def floor(self) -> float:
        """What damping adds a share of: the power, 1 where that is 0."""
        return self.power or 1.0

    @cached_property
    def damping(self) -> float:
        """Share of the identity in the best mixture of both (Ledoit & Wolf 2004), from the scatter of the inputs; where
        that is unknown, of as many Gaussian ones (Chen et al. 2010); or 1 %."""
        n = len(self)
        square = _square(self.matrix)
        centre = n * self.power**2
        apart = max(square - centre, 0.0)
        if self.spread is not None:
            share = self.spread / apart if apart else _LARGEST_DAMPING
        elif self.count > 1:
            trace = centre * n  # its square
            share = ((1 - 2 / n) * square + trace) / ((self.count + 1 - 2 / n) * apart) if apart else _LARGEST_DAMPING
        else:
            share = _USUAL_DAMPING
        return min(max(share, _LEAST_DAMPING), _LARGEST_DAMPING)

    def damped(self, matrix: F64) -> F64:
        """The mixture; ``matrix`` is that of these moments, in any orthonormal coordinates."""
        share = self.damping
        return matrix * (1 - share) + np.eye(len(self)) * (share * self.floor)

    def __add__(self, other: "Moments") -> "Moments":
        """Of the inputs of both."""
        if not (self.count and other.count):
            raise ValueError("moments of an unknown number of inputs cannot be added up")
        count = self.count + other.count
        own, theirs = self.count / count, other.count / count
        return Moments(
            self.matrix * own + other.matrix * theirs,
            None if self.mean is None or other.mean is None else self.mean * own + other.mean * theirs,
            count,
            None if self.spread is None or other.spread is None else self.spread * own**2 + other.spread * theirs**2,
        )


def moments_of(pieces: Iterable[npt.NDArray[np.floating]], n: int, threads: int = 1) -> Moments:
    """Of inputs (any number, n), finite, in pieces; the sums have one order, whatever the pieces and ``threads``."""
    sums, mean, count = np.zeros((n, n)), np.zeros(n), 0
    squares, batches = 0.0, 0
    with ThreadPoolExecutor(threads) as pool:
        for batch in _batches(pieces):
            x = batch.astype(np.float64)
            mean += kernels.tree_sum(np.ascontiguousarray(x.T))
            turned = np.ascontiguousarray(x.T)
            minus = -turned
            list(pool.map(lambda part: _add_square(sums, minus, x, part), _strips(n)))  # noqa: B023
            count += len(x)
            if len(x) == BATCH:
                # ||x^T x|| = ||x x^T||, which is smaller.
                products = np.zeros((BATCH, BATCH))
                kernels.subtract_product(products, -x, turned)
                squares, batches = squares + _square(products), batches + 1
    total = max(count, 1)
    matrix = np.triu(sums) + np.triu(sums, 1).T
    spread = None
    if batches >= _ENOUGH_BATCHES:
        # The variance of the mean of the batches.
        spread = max(squares / (BATCH * BATCH) / batches - _square(sums) / total**2, 0.0) / (batches - 1)
    return Moments(matrix / total, mean / total, count, spread)


def _batches(pieces: Iterable[npt.NDArray[np.floating]]) -> Iterator[npt.NDArray[np.floating]]:
    """The same inputs, BATCH at a time."""
    rest = None
    for piece in pieces:
        rest = piece if rest is None else np.concatenate([rest, piece])
        whole = len(rest) - len(rest) % BATCH
        yield from (rest[begin : begin + BATCH] for begin in range(0, whole, BATCH))
        rest = rest[whole:]
    if rest is not None and len(rest):
        yield rest


def _add_square(matrix: F64, minus: F64, x: F64, part: slice) -> None:
    """Add x^T x to the columns ``part`` of ``matrix``, from its top to the diagonal."""
    kernels.subtract_product(matrix[: part.stop, part], minus[: part.stop], x[:, part])


def _square(matrix: F64) -> float:
    """Sum of the squares of a symmetric matrix whose upper half is given."""
    upper = np.triu(matrix)
    own = np.diag(matrix)
    return 2 * float(kernels.tree_sum((upper * upper).reshape(-1))) - float(kernels.tree_sum(own * own))


def _strips(n: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _STRIP, n)) for begin in range(0, n, _STRIP))
