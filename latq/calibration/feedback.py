"""Block by block, with feedback: factors of a matrix of second moments for successive quantization.

The error e of a vector costs e H e^T. With H = U D U^T, U unit upper triangular in blocks of 8 and D of blocks, that
is the sum over blocks b of (e U)_b D_b (e U)_b^T, and (e U)_b is the error of block b and what the errors of the blocks
before it leave there: known when block b is quantized, which can make up for it. Chee et al. 2023 (QuIP: LDLQ), Tseng
et al. 2024 (QuIP#: blocks of a lattice), Lifar et al. 2026 (WaterSIC: steps by the weight of a coordinate).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.kernels import BLOCK, reference
from latq.kernels.elementary import log2

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Columns that are eliminated together, and rows that are rotated together.
_PANEL = 32
_STRIP = 512
_ROWS = 64
# Columns whose errors reach those behind them together.
_REACH = 128


@dataclass(frozen=True, eq=False)
class Feedback:
    """Factors of H: ``upper`` (n, n) is U, ``log_weights`` (n / 8,) log2 of the geometric mean of the eigenvalues of
    each block of D."""

    upper: F32
    log_weights: F64


def with_feedback(x: F32, feedback: Feedback, quantize: Callable[[int, F32], F32]) -> None:
    """Go through the blocks of vectors ``x`` (vectors, n) in order.

    ``quantize(block, target)`` is given what the block should be (vectors, 8), errors before it considered, and returns
    what it is made.
    """
    n = x.shape[1]
    targets = x.copy()
    for start in range(0, n, _REACH):
        stop = min(start + _REACH, n)
        errors = np.empty((len(x), stop - start), np.float32)
        for begin in range(start, stop, BLOCK):
            own, end = slice(begin, begin + BLOCK), begin + BLOCK
            error = errors[:, begin - start : end - start]
            error[...] = quantize(begin // BLOCK, targets[:, own]) - x[:, own]
            kernels.subtract_product(targets[:, end:stop], error, feedback.upper[own, end:stop])
        kernels.subtract_product(targets[:, stop:], errors, feedback.upper[start:stop, stop:])


def rotated(matrix: F64, seed: int) -> F64:
    """Second moments (n, n) of rotated inputs, from those of inputs as they are."""
    half = _rotate_rows(matrix, seed)
    both = _rotate_rows(np.ascontiguousarray(half.T), seed)
    upper = np.triu(both)
    return upper + np.triu(upper, 1).T


def _rotate_rows(matrix: F64, seed: int) -> F64:
    # The definition takes doubles as well, which the native kernel does not.
    rows: Any = matrix
    parts = [reference.rotate(rows[begin : begin + _ROWS], seed) for begin in range(0, len(matrix), _ROWS)]
    return np.concatenate(parts)


def of_blocks(upper: F64, diagonal: F64) -> Feedback:
    """Factors in blocks from those in single entries, of ``eliminate``; n is a multiple of 8."""
    n = len(upper)
    upper = upper.copy()
    own = np.stack([upper[b : b + BLOCK, b : b + BLOCK] for b in range(0, n, BLOCK)])
    # U of blocks is that of entries times the inverse of its own diagonal blocks.
    blocks = upper.reshape(n, n // BLOCK, BLOCK)
    for j in range(BLOCK):
        for i in range(j):
            blocks[:, :, j] -= blocks[:, :, i] * own[:, i, j]
    log_weights = np.array([sum(map(log2, d)) / BLOCK for d in diagonal.reshape(-1, BLOCK).tolist()])
    return Feedback(upper.astype(np.float32), log_weights)


def eliminate(matrix: F64) -> tuple[F64, F64] | None:
    """``matrix`` = U diag(d) U^T with U unit upper triangular (n, n) and d (n,) > 0, from the last row to the first."""
    n = len(matrix)
    rest = matrix.copy()
    upper, diagonal = np.eye(n), np.zeros(n)
    least = np.finfo(np.float64).eps * n * float(np.max(np.diag(matrix), initial=0.0))
    for stop in range(n, 0, -_PANEL):
        start = max(stop - _PANEL, 0)
        panel = rest[:stop, start:stop]
        for j in reversed(range(start, stop)):
            pivot = panel[j, j - start]
            if not pivot > least:
                return None
            row = panel[:j, j - start]
            diagonal[j] = pivot
            upper[:j, j] = row / pivot
            panel[:j, : j - start] -= upper[:j, j, None] * row[start:j]
        weighted = np.ascontiguousarray((upper[:start, start:stop] * diagonal[start:stop]).T)
        for begin in range(0, start, _STRIP):
            end = min(begin + _STRIP, start)
            kernels.subtract_product(rest[:end, begin:end], upper[:end, start:stop], weighted[:, begin:end])
    return upper, diagonal


def solve(upper: F64, diagonal: F64, right: F64) -> F64:
    """X of U diag(d) U^T X = ``right`` (n, any)."""
    n = len(upper)
    x = right.copy()
    for stop in range(n, 0, -_PANEL):
        start = max(stop - _PANEL, 0)
        for j in reversed(range(start, stop)):
            x[start:j] -= upper[start:j, j, None] * x[j]
        kernels.subtract_product(x[:start], upper[:start, start:stop], x[start:stop])
    x /= diagonal[:, None]
    lower = np.ascontiguousarray(upper.T)
    for start in range(0, n, _PANEL):
        stop = min(start + _PANEL, n)
        for j in range(start, stop):
            x[j + 1 : stop] -= lower[j + 1 : stop, j, None] * x[j]
        kernels.subtract_product(x[stop:], lower[stop:, start:stop], x[start:stop])
    return x
