"""The measured error of an estimated product, against the exact product of the originals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from latq.errors import ParameterError
from latq.products.estimator import Estimate, ProductReport, multiply
from latq.products.operands import Operand, PlainOperand

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Progress = Callable[[int], None]

ESTIMATES: tuple[Estimate, ...] = "unbiased", "shrunk"
# Vectors of one tile of the exact product, and entries of them multiplied at a time.
TILE_VECTORS = 1 << 10
PANEL_ENTRIES = 1 << 12


@dataclass(frozen=True)
class MeasuredProduct:
    """``error`` is ||C - C_hat||_F, ``relative`` the same over ||C||_F, ``normalized`` its square over
    ||A||_F^2 ||B||_F^2 / n; ``report`` is what the two files predicted."""

    error: float
    relative: float
    normalized: float
    report: ProductReport

    @property
    def over_predicted(self) -> float | None:
        """Measured over predicted error; None if none was predicted, as for two exact sides."""
        return self.error / self.report.error if self.report.error > 0 else None


def measure_product(
    a: Operand,
    b: Operand,
    exact_a: PlainOperand,
    exact_b: PlainOperand,
    *,
    threads: int = 1,
    progress: Progress = lambda entries: None,
) -> dict[Estimate, MeasuredProduct]:
    """Both estimates of A^T B from ``a`` and ``b``, against the float64 product of the originals.

    The estimates lie in temporary files meanwhile. ParameterError if the lengths n differ or a side is empty.
    """
    if not (a.n and a.m and b.m):
        raise ParameterError("an empty matrix has no product to compare")
    with TemporaryDirectory() as directory:
        estimates: dict[Estimate, F32] = {}
        reports: dict[Estimate, ProductReport] = {}
        for estimate in ESTIMATES:
            scratch = np.memmap(Path(directory, estimate), np.float32, "w+", shape=(a.m, b.m))
            reports[estimate] = multiply([(a, b)], scratch, estimate=estimate, threads=threads, progress=progress)
            estimates[estimate] = scratch
        square, errors = 0.0, dict.fromkeys(estimates, 0.0)
        for tile, exact in _exact_tiles(exact_a, exact_b):
            square += float(np.vdot(exact, exact))
            for estimate, product in estimates.items():
                difference = exact - product[tile]
                errors[estimate] += float(np.vdot(difference, difference))
            progress(exact.size)
    scale = exact_a.energy * exact_b.energy / a.n
    return {name: _measured(errors[name], square, scale, reports[name]) for name in reports}


def _measured(error: float, square: float, scale: float, report: ProductReport) -> MeasuredProduct:
    return MeasuredProduct(
        sqrt(error),
        sqrt(error / square) if square > 0 else 0.0,
        error / scale if scale > 0 else 0.0,
        report,
    )


def _exact_tiles(a: PlainOperand, b: PlainOperand) -> Iterator[tuple[tuple[slice, slice], F64]]:
    """(place, tile) of A^T B in float64."""
    for rows in _slices(a.m, TILE_VECTORS):
        for columns in _slices(b.m, TILE_VECTORS):
            tile: F64 = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
            for part in _slices(a.n, PANEL_ENTRIES):
                tile += _entries(a, rows, part) @ _entries(b, columns, part).T
            yield (rows, columns), tile


def _entries(operand: PlainOperand, vectors: slice, part: slice) -> F64:
    return operand.entries(vectors.start, vectors.stop, part.start, part.stop).astype(np.float64)


def _slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))
