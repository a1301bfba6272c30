"""The estimate of A^T B from compressed operands, tile by tile, and its predicted error."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from latq.errors import ParameterError
from latq.pipeline.pool import ordered_map
from latq.products.operands import Frame, Operand, Panel, choose_frame
from latq.sources import WritableArray
from latq.theory import product_error
from latq.transforms.rotation import rotate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Entries of the panels of an operand, and of a tile of the product, that are in memory at a time.
PANEL_ENTRIES = 1 << 23
TILE_ENTRIES = 1 << 22


Estimate = Literal["unbiased", "shrunk"]


@dataclass(frozen=True)
class ProductReport:
    """Outcome of one product.

    ``error`` is the predicted root mean square of ||C - C_hat||_F, ``relative`` the same over ||C_hat||_F, and
    ``normalized`` its square over ||A||_F^2 ||B||_F^2 / n, to be compared with the limit Gamma(R). ``shrink`` is the
    factor that the centred part of the estimate was multiplied by.
    """

    shape: tuple[int, int]
    error: float
    relative: float
    normalized: float
    shrink: float
    note: str


def multiply(
    a: Operand,
    b: Operand,
    target: WritableArray,
    *,
    estimate: Estimate = "unbiased",
    threads: int = 1,
    progress: Callable[[int], None] = lambda entries: None,
) -> ProductReport:
    """Write the estimate of A^T B, (m_a, m_b), into ``target``.

    With A = A_c + 1 mean_A^T (and B likewise), A^T B = A_c^T B_c + n mean_A mean_B^T where both are centred; a side
    that is not contributes the sums of its vectors instead. Sides that keep only some of the rotated coordinates keep
    the same ones, so what both unbiased reconstructions make up for is taken back once.

    "shrunk" multiplies the centred part by the one factor that minimises the expected Frobenius error. Raises
    ParameterError if the lengths n differ.
    """
    if a.n != b.n:
        raise ParameterError(
            f"the vectors of A have {a.n} entries, those of B {b.n}; choose tensors or axes that agree"
        )
    frame, note = choose_frame(a, b)
    sums_a, sums_b = _VectorSums(a, frame), _VectorSums(b, frame)
    shared = [max(a.kept(frame, group), b.kept(frame, group)) for group in range(len(frame.groups))]
    square = centred_square = 0.0
    for a0, a1 in _spans(a, frame):
        panels_a = list(_panels(a, a0, a1, frame, threads))
        sums_a.record(a0, panels_a)
        for b0, b1 in _spans(b, frame):
            panels_b = list(_panels(b, b0, b1, frame, threads))
            sums_b.record(b0, panels_b)
            for columns in _tiles(a1 - a0, b0, b1):
                tile = _centred_tile(panels_a, panels_b, shared, a1 - a0, slice(columns.start - b0, columns.stop - b0))
                centred_square += float(np.vdot(tile, tile))
                tile = (tile + _mean_part(sums_a, sums_b, slice(a0, a1), columns)).astype(np.float32, copy=False)
                square += float(np.vdot(tile, tile))
                target[a0:a1, columns] = tile
                progress(tile.size)
    errors = _expected(a, b, frame, square, centred_square)
    shrink = _shrink_factor(centred_square, errors[1]) if estimate == "shrunk" else 1.0
    if shrink < 1.0:
        for a0, a1 in _spans(a, frame):
            for columns in _tiles(a1 - a0, 0, b.m):
                means = _mean_part(sums_a, sums_b, slice(a0, a1), columns)
                target[a0:a1, columns] = shrink * (target[a0:a1, columns] - means) + means
    return _report(a, b, errors, square, centred_square, shrink, note)


def _centred_tile(panels_a: list[Panel], panels_b: list[Panel], shared: list[float], rows: int, columns: slice) -> F32:
    """Product of the rotated vectors, summed over the groups; all rows, some columns."""
    tile = np.zeros((rows, columns.stop - columns.start), np.float32)
    for panel_a, panel_b, share in zip(panels_a, panels_b, shared, strict=True):
        part = panel_a.rotated @ panel_b.rotated[columns].T
        tile += part if share == 1.0 else part * np.float32(share)
    return tile


class _VectorSums:
    """Means of the vectors of a centred operand, sums of those of one that is not; (groups, m) each."""

    def __init__(self, operand: Operand, frame: Frame) -> None:
        self.means = np.zeros((len(frame.groups), operand.m))
        self.sums = np.zeros_like(self.means)
        self.lengths = np.array([e1 - e0 for e0, e1 in frame.groups], np.float64)
        self._frame = frame

    def record(self, v0: int, panels: list[Panel]) -> None:
        for group, panel in enumerate(panels):
            place = group, slice(v0, v0 + len(panel.rotated))
            if panel.means is not None:
                self.means[place] = panel.means
            else:
                ones = np.ones((1, panel.rotated.shape[1]), np.float32)
                self.sums[place] = panel.rotated @ rotate(ones, self._frame.rotation, self._frame.seed)[0]


def _mean_part(a: _VectorSums, b: _VectorSums, rows: slice, columns: slice) -> F64 | float:
    """What the means contribute to a tile of the product, 0 where none were taken out."""
    mean_a, mean_b = a.means[:, rows], b.means[:, columns]
    if not (mean_a.any() or mean_b.any()):
        return 0.0
    both = (mean_a * a.lengths[:, None]).T @ mean_b
    result: F64 = both + mean_a.T @ b.sums[:, columns] + a.sums[:, rows].T @ mean_b
    return result


def _spans(operand: Operand, frame: Frame) -> Iterator[tuple[int, int]]:
    """Runs of vectors whose panels fit in memory, whole chunks where possible."""
    most = max(1, PANEL_ENTRIES // max(frame.n, 1))
    size = max(most // operand.step, 1) * operand.step if most >= operand.step else most
    for v0 in range(0, operand.m, size):
        yield v0, min(v0 + size, operand.m)


def _tiles(rows: int, b0: int, b1: int) -> Iterator[slice]:
    """Columns [b0, b1) in slices that make tiles of ``rows`` rows fit in memory."""
    width = max(1, TILE_ENTRIES // rows)
    for start in range(b0, b1, width):
        yield slice(start, min(start + width, b1))


def _panels(operand: Operand, v0: int, v1: int, frame: Frame, threads: int) -> Iterator[Panel]:
    groups = range(len(frame.groups))
    return ordered_map(lambda g: operand.panel(g, v0, v1, frame), groups, threads, within=operand.expecting(v0, v1))


def _expected(a: Operand, b: Operand, frame: Frame, square: float, centred_square: float) -> tuple[float, float]:
    """Expected error energy of the unbiased estimate, and the part of it in the product of the centred parts alone.

    The error of one vector of B is orthogonal to that vector and otherwise isotropic, so it meets each vector of A
    with energy (||a||^2 ||b||^2 - <a, b>^2) / (n - 1) * d_b; where classes share a scale, it is isotropic, which makes
    it ||a||^2 ||b||^2 / n * d_b. Where only the share k of the coordinates is kept, that holds within it, the whole
    counts 1 / k times, and which coordinates these are adds (||a||^2 ||b||^2 + <a, b>^2) / n * (1 / k - 1). Where B is
    not centred, it also meets the means of A.
    """
    n = max(a.n - 1, 1)
    if math.isinf(a.noise) or math.isinf(b.noise):
        # Nothing is left of one side: the product is all error.
        nothing = a.energy * b.energy / n
        return nothing, nothing
    kept_a, kept_b = (operand.kept(frame, 0) if frame.groups else 1.0 for operand in (a, b))
    kept = min(kept_a, kept_b)
    noise_a, noise_b = (max(k * (1 + x.noise) - 1, 0.0) for k, x in ((kept_a, a), (kept_b, b)))
    both = a.centred_energy * b.centred_energy
    all_noise = product_error(a.noise, b.noise, max(kept_a, kept_b))
    estimated = max(centred_square - both / n * all_noise, 0.0)
    across, all_over = max(both - estimated, 0.0) / n, both / max(a.n, 1)
    centred = (across if a.fitted else all_over) * noise_a + (across if b.fitted else all_over) * noise_b
    centred += both / n * noise_a * noise_b
    centred = centred / kept + (both + estimated) / n * (1 / kept - 1)
    total = centred
    for one, other in ((a, b), (b, a)):
        if one.centred and not other.centred:
            parallel = max(square - centred_square, 0.0) if other.fitted else 0.0
            means = (one.energy - one.centred_energy) * other.energy
            total += max(means - parallel, 0.0) / n * other.noise
    return total, centred


def _shrink_factor(centred_square: float, error: float) -> float:
    """c* = signal / (signal + error), which minimises (1 - c)^2 signal + c^2 error."""
    return max(centred_square - error, 0.0) / centred_square if centred_square > 0 else 1.0


def _report(
    a: Operand, b: Operand, errors: tuple[float, float], square: float, centred_square: float, shrink: float, note: str
) -> ProductReport:
    total, centred = errors
    signal = max(centred_square - centred, 0.0)
    expected = (total - centred) + shrink * shrink * centred + (1 - shrink) ** 2 * signal
    scale = a.energy * b.energy / max(a.n, 1)
    return ProductReport(
        (a.m, b.m),
        math.sqrt(expected),
        math.sqrt(expected / square) if square > 0 else 0.0,
        expected / scale if scale > 0 else 0.0,
        shrink,
        note,
    )
