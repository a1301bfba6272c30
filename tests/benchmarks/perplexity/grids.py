"""Uniform grids for groups of numbers, the last axis of a tensor: integers, a float16 scale, a zero point."""

from dataclasses import dataclass

import torch

CLIPS = torch.linspace(1, 0.24, 20).tolist()  # ratios tried, of the range of a group
TINY = 2.0**-24  # the smallest float16: groups of zeros need some scale


@dataclass(frozen=True)
class Grid:
    """Values ``scale * (k - zero)`` for integers k of ``bits`` bits; one scale and zero per group."""

    bits: int
    scale: torch.Tensor
    zero: torch.Tensor

    def snap(self, x):
        return ((x / self.scale).round_().add_(self.zero).clamp_(0, 2**self.bits - 1).sub_(self.zero)).mul_(self.scale)


def symmetric(x, bits, clip=1.0):
    """Zero point in the middle; the largest magnitude times ``clip`` on the outermost positive value."""
    middle = 2 ** (bits - 1)
    return Grid(bits, _half(x.abs().amax(-1, keepdim=True) * (clip / (middle - 1))), torch.tensor(float(middle)))


def affine(x, bits, clip=1.0):
    """Integer zero point; from the least to the largest, times ``clip``, both made to enclose 0."""
    low, high = x.aminmax(dim=-1, keepdim=True)
    low, high = clip * low.clamp(max=0), clip * high.clamp(min=0)
    scale = _half((high - low) / (2**bits - 1))
    return Grid(bits, scale, (-low / scale).round())


def side_bits(fit, bits):
    """What a group takes beyond its integers: a scale, and for affine grids a zero point."""
    return 16 + (bits if fit is affine else 0)


def searched(fit, x, bits, clips=CLIPS):
    """The grid of ``fit`` with, in every group, the one of ``clips`` that has the least squared error."""
    best = fit(x, bits, clips[0])
    least = _error(best, x)
    for clip in clips[1:]:
        grid = fit(x, bits, clip)
        error = _error(grid, x)
        better = error < least
        least = torch.where(better, error, least)
        best = Grid(bits, torch.where(better, grid.scale, best.scale), torch.where(better, grid.zero, best.zero))
    return best


def gaussian_clip(fit, bits, n):
    """The one clip ratio that suits Gaussian vectors of n entries, which rotated ones resemble."""
    sample = torch.randn(512, n, generator=torch.Generator().manual_seed(0))
    return min(CLIPS, key=lambda clip: float(_error(fit(sample, bits, clip), sample).sum()))


def _error(grid, x):
    return (grid.snap(x) - x).square_().sum(-1, keepdim=True)


def _half(scale):
    return scale.half().float().clamp(min=TINY)
