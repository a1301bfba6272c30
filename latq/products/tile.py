"""One tile of a product: vectors of both sides multiplied, and how wrong the result may be."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.products.panel import Panel, is_integer
from latq.products.variance import (
    bounds,
    own_bounds,
    own_variances,
    sum_variances,
    total_variance,
    uncorrected_variances,
    variances,
)

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Coordinates that are multiplied at a time: as many as stay in the cache.
TOGETHER = 1 << 13

ErrorKind = Literal["standard error", "bound"]
Run = tuple[bytes, int, int]


class Statistics(NamedTuple):
    """Sums over the entries of a part of the output.

    ``error`` is the expected squared error of the unbiased estimate, ``centred_error`` the part of it in what shrinking
    acts on, ``centred_square`` the square of that part of the estimate, ``square`` that of all. ``scale`` is
    |x|^2 |y|^2 / L for the vectors x and y of every entry, ``centred_scale`` the same without their means.
    """

    error: float = 0.0
    centred_error: float = 0.0
    centred_square: float = 0.0
    square: float = 0.0
    scale: float = 0.0
    centred_scale: float = 0.0

    def plus(self, other: "Statistics") -> "Statistics":
        return Statistics(*(x + y for x, y in zip(self, other, strict=True)))


@dataclass
class Tile:
    """What one group or several add to a tile: (V_a, V_b) each.

    ``centred`` is the estimate that may be shrunk, ``known`` what is added to it: the part of the means, and squared
    norms of vectors that meet themselves. ``spread`` are variances, or bounds of the errors.
    """

    centred: F64
    known: F64 | None
    spread: F64 | None
    statistics: Statistics

    def add(self, other: "Tile", rows: slice, columns: slice) -> None:
        """Take in what other groups add to a part of the tile."""
        place = rows, columns
        self.centred[place] += other.centred
        if other.known is not None:
            if self.known is None:
                self.known = np.zeros_like(self.centred)
            self.known[place] += other.known
        if self.spread is not None and other.spread is not None:
            self.spread[place] += other.spread
        self.statistics = self.statistics.plus(other.statistics)

    def finish(self, shrink: float, kind: ErrorKind) -> tuple[F32, F32 | None, Statistics]:
        """The estimate, its errors, and sums over them."""
        centred_square = _dot(self.centred, self.centred)
        bars = None if self.spread is None else self._errors(self.spread, shrink, kind)
        estimate = self.centred if shrink == 1 else self.centred * shrink
        if self.known is not None:
            estimate = estimate + self.known
        square = centred_square
        if self.known is not None:
            square += _dot(self.known, self.known) + 2 * _dot(self.centred, self.known)
        squares = Statistics(centred_square=centred_square, square=square)
        return estimate.astype(np.float32), bars, self.statistics.plus(squares)

    def _errors(self, spread: F64, shrink: float, kind: ErrorKind) -> F32:
        lost = (1 - shrink) * np.abs(self.centred)
        if kind == "bound":
            return (shrink * spread + lost).astype(np.float32)
        if shrink == 1:
            return np.sqrt(spread).astype(np.float32)
        signal = np.maximum(self.centred**2 - spread, 0.0)
        return np.sqrt(shrink**2 * spread + (1 - shrink) ** 2 * signal).astype(np.float32)


def empty_tile(rows: int, columns: int, with_errors: bool) -> Tile:
    """To be added to."""
    return Tile(np.zeros((rows, columns)), None, np.zeros((rows, columns)) if with_errors else None, Statistics())


def multiply_panels(a: Panel, b: Panel, runs_a: list[Run], runs_b: list[Run], errors: ErrorKind | None) -> Tile:
    """The tile of two panels of one group; ``runs`` tell where the vectors come from."""
    centred = _inner_products(a, b)
    spread = None
    if errors == "bound":
        spread = bounds(a, b)
    elif errors:
        spread = variances(centred, a, b)
    error = total_variance(_dot(centred, centred), a, b)
    sums = Statistics(
        error=error,
        centred_error=error,
        scale=a.energy * b.energy / a.length,
        centred_scale=a.centred_energy * b.centred_energy / a.length,
    )
    tile = Tile(centred, _mean_part(a, b), spread, sums)
    for rows, columns in _meetings(runs_a, runs_b):
        _correct(tile, a[rows], rows, columns, errors)
    _add_mean_errors(tile, a, b, errors)
    return tile


def _dot(x: F64, y: F64) -> float:
    """Inner product. BLAS would use threads of its own, which wait in a loop afterwards."""
    return float(np.einsum("ij,ij->", x, y))


def _inner_products(a: Panel, b: Panel) -> F64:
    """Unbiased estimates of the products of the centred vectors; of integers, only a few sums are rounded.

    Sides that code only some of the coordinates code the same ones; what both reconstructions make up for is taken
    back once.
    """
    kept = min(a.values.shape[1], b.values.shape[1])
    x, y = a.values[:, :kept], b.values[:, :kept]
    gains = b.gains * max(a.kept, b.kept)
    if is_integer(x) and is_integer(y):
        found = np.zeros((len(a), len(b)))
        for part in (slice(k, k + TOGETHER) for k in range(0, kept, TOGETHER)):
            kernels.add_products(x[:, part], y[:, part], a.gains, gains, found)
        return found
    found = (x.astype(np.float32, copy=False) @ y.astype(np.float32, copy=False).T).astype(np.float64)
    found *= a.gains[:, None]
    found *= gains
    return found


def _mean_part(a: Panel, b: Panel) -> F64 | None:
    """What the means contribute, None if there are none."""
    found = None
    if a.means.any():
        found = np.outer(a.means, b.sums + b.length * b.means)
    if b.means.any() and a.whole.any():
        part = np.outer(a.sums, b.means)
        found = part if found is None else found + part
    return found


def _add_mean_errors(tile: Tile, a: Panel, b: Panel, errors: ErrorKind | None) -> None:
    """The errors of a side that is not centred meet the means of one that is."""
    for one, other, across in ((a, b, False), (b, a, True)):
        if not (one.means.any() and other.whole.any()):
            continue
        of_sums = sum_variances(other)
        tile.statistics = tile.statistics.plus(Statistics(error=float((one.means**2).sum() * of_sums.sum())))
        if tile.spread is not None:
            if errors == "bound":
                part = np.outer(np.abs(one.means), np.where(other.whole, other.radii, 0.0) * np.sqrt(other.length))
            else:
                part = np.outer(one.means**2, of_sums)
            tile.spread += part.T if across else part


def _meetings(runs_a: list[Run], runs_b: list[Run]) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a tile where vectors meet themselves, errors included."""
    for (at_a, (name_a, first_a, count_a)), (at_b, (name_b, first_b, count_b)) in product(
        _placed(runs_a), _placed(runs_b)
    ):
        first, last = max(first_a, first_b), min(first_a + count_a, first_b + count_b)
        if name_a and name_a == name_b and first < last:
            yield (
                slice(at_a + first - first_a, at_a + last - first_a),
                slice(at_b + first - first_b, at_b + last - first_b),
            )


def _placed(runs: list[Run]) -> Iterator[tuple[int, Run]]:
    place = 0
    for run in runs:
        yield place, run
        place += run[2]


def _correct(tile: Tile, panel: Panel, rows: slice, columns: slice, errors: ErrorKind | None) -> None:
    """Vectors that meet themselves: their errors are the same, so the product has all of its energy. But their norms
    are known."""
    place = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
    if tile.known is None:
        tile.known = np.zeros_like(tile.centred)
    tile.known[place] += panel.own_energies
    tile.centred[place] = 0.0
    own, former = own_variances(panel), uncorrected_variances(panel)
    shares = Statistics(error=float(own.sum() - former.sum()), centred_error=-float(former.sum()))
    tile.statistics = tile.statistics.plus(shares)
    if tile.spread is not None:
        tile.spread[place] = own_bounds(panel) if errors == "bound" else own
