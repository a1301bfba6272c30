"""How much a model has lost: nats per token, and the likeness of sentence embeddings."""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Gap:
    """Nats per token beyond those of the exact model, paired by token, and its standard error over windows."""

    nats: float
    gap: float
    error: float


def gap(losses, exact):
    """Of losses (windows, tokens)."""
    by_window = (losses.double() - exact.double()).mean(1)
    return Gap(float(losses.double().mean()), float(by_window.mean()), float(by_window.std() / math.sqrt(len(losses))))


@dataclass(frozen=True)
class Likeness:
    """Of embeddings: relative error, rank correlation of all pairs' cosines, share of nearest neighbours kept."""

    relative_error: float
    spearman: float
    nearest: float


def likeness(embeddings, exact):
    """Of unit vectors (sentences, width)."""
    pairs = torch.triu_indices(len(exact), len(exact), 1)
    cosines = [x @ x.T for x in (embeddings, exact)]
    ranks = torch.stack([c[*pairs].argsort().argsort().double() for c in cosines])
    nearest = [c.fill_diagonal_(-2).argmax(1) for c in cosines]
    return Likeness(
        float((embeddings - exact).norm() / exact.norm()),
        float(torch.corrcoef(ranks)[0, 1]),
        float((nearest[0] == nearest[1]).double().mean()),
    )
