"""GPTQ (Frantar et al. 2023): columns are rounded one by one, the later ones make up for the errors of the earlier."""

import torch

DAMPING = 0.01
BLOCK = 128  # columns between updates of all later ones


def gptq(w, moment, fit, group):
    """``w`` (out, in) on grids ``fit(x)`` of ``group`` columns each, for inputs of second moments (in, in).

    Columns of large inputs come first (act-order). ``group`` is a multiple of BLOCK, or all columns.
    """
    order = moment.diagonal().argsort(descending=True)
    factor = _inverse_factor(moment[order][:, order]).to(w.dtype)
    left, out = w[:, order], torch.empty_like(w)
    for start in range(0, w.shape[1], BLOCK):
        if start % group == 0:
            grid = fit(left[:, start : start + group])
        block, within = left[:, start : start + BLOCK], factor[start : start + BLOCK, start : start + BLOCK]
        errors = torch.empty_like(block)
        for i in range(block.shape[1]):
            rounded = grid.snap(block[:, i : i + 1])
            out[:, start + i] = rounded[:, 0]
            errors[:, i] = (block[:, i] - rounded[:, 0]) / within[i, i]
            block[:, i + 1 :] -= errors[:, i : i + 1] * within[i, i + 1 :]
        left[:, start + BLOCK :] -= errors @ factor[start : start + BLOCK, start + BLOCK :]
    return out[:, order.argsort()]


def _inverse_factor(moment):
    """Upper Cholesky factor of the inverse of the damped moments."""
    damped = moment + DAMPING * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
