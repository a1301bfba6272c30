"""The quantizers: what makes of weights, and of vectors on their way, what is left of them at so many bits.

A quantizer of weights takes matrices (out, in) by name, second moments of their inputs by name, and bits; it returns
the matrices decoded, and what they take per entry, everything included. A quantizer of vectors takes bits and n, and
returns an object with ``bits`` and a call on tensors (vectors, n).
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from gptq import gptq
from grids import TINY, affine, gaussian_clip, searched, side_bits, symmetric
from standin import quantizer

import latq
from latq.calibration.store import Calibration, Entry
from latq.sources import SourceTensor
from latq.transforms.rotation import rotate, unrotate

sys.path.append(str(Path(__file__).parents[1]))
from rivals import NF4_LEVELS, ggml_type, load_ggml

ROTATION = "hadamard", 0  # the one of latq, by seed
GROUP = 128


def of_matrices(code):
    """A quantizer of weights from one of matrices: ``code(w, moment, bits)`` gives a matrix, and bits of storage."""

    def weights(matrices, moments, bits):
        coded = {name: code(w, moments[name], bits) for name, w in matrices.items()}
        stored = sum(size for _, size in coded.values())
        return {name: w for name, (w, _) in coded.items()}, stored / sum(w.numel() for w in matrices.values())

    return weights


# --- uniform grids


def grouped(w, group):
    """Groups (..., group) of the rows; the last ones of rows that do not divide are padded with zeros."""
    return torch.nn.functional.pad(w, (0, -w.shape[1] % group)).unflatten(1, (-1, group))


def grid_size(w, group, fit, bits):
    return w.numel() * bits + len(w) * -(-w.shape[1] // group) * side_bits(fit, bits)


def round_to_nearest(fit, group, w, moment, bits):
    groups = grouped(w, group)
    return fit(groups, bits).snap(groups).flatten(1)[:, : w.shape[1]], grid_size(w, group, fit, bits)


def gptq_groups(w, moment, bits):
    """Stores the group of every column beside the grids."""
    out = gptq(w, moment, lambda x: affine(x, bits), GROUP)
    return out, grid_size(w, GROUP, affine, bits) + 16 * w.shape[1]


def rotated_matrix(by_gptq, w, moment, bits):
    """QuaRot (Ashkboos et al. 2024): rotated rows, a symmetric grid each, whose clip ratio is searched."""
    n, fit = w.shape[1], partial(searched, symmetric, bits=bits)
    turned = turn(w)
    if by_gptq:
        rotation = torch.from_numpy(rotate(np.eye(n, dtype=np.float32), *ROTATION)).double()
        coded = gptq(turned, rotation.T @ moment @ rotation, fit, n)
    else:
        coded = fit(turned).snap(turned)
    return turn_back(coded), grid_size(w, n, symmetric, bits)


class RotatedVectors:
    """As QuaRot: symmetric grids for inputs; affine ones for keys and values, which are short.

    Where QuaRot has one clip ratio for all, a vector has the better of two: one for Gaussian vectors, and none, for
    those of a few huge entries (the first token's), which are all of one magnitude when rotated.
    """

    def __init__(self, fit, bits, n):
        self.bits = bits + side_bits(fit, bits) / n
        self.grid_of = partial(searched, fit, bits=bits, clips=(1.0, gaussian_clip(fit, bits, n)))

    def __call__(self, x):
        turned = turn(x)
        return turn_back(self.grid_of(turned).snap(turned))


def turn(x):
    x = x.numpy()
    return torch.from_numpy(rotate(x, *ROTATION, np.empty_like(x)))


def turn_back(x):
    return torch.from_numpy(unrotate(x.contiguous().numpy(), *ROTATION))


# --- other formats


def nf4(w, moment, bits):
    """Blocks of 64 over their largest magnitude; that in 8 bits over its largest of 256 (Dettmers et al. 2023)."""
    levels = torch.from_numpy(NF4_LEVELS)
    blocks = grouped(w, 64)
    sizes = blocks.abs().amax(-1, keepdim=True)
    mean, flat = sizes.mean(), (sizes - sizes.mean()).reshape(1, -1)
    largest = grouped(flat, 256)
    sizes = symmetric(largest, 8).snap(largest).flatten()[: flat.numel()].view_as(sizes) + mean
    sizes = sizes.clamp(min=TINY)
    nearest = torch.bucketize(blocks / sizes, (levels[1:] + levels[:-1]) / 2)
    size = 4 * w.numel() + 8 * sizes.numel() + 32 * -(-sizes.numel() // 256) + 32
    return (levels[nearest] * sizes).flatten(1)[:, : w.shape[1]], size


def ggml_k(w, moment, bits):
    """ggml's Q2_K, Q3_K or Q4_K, without an importance matrix."""
    ggml, types = load_ggml()
    size, decode = ggml_type(ggml, *types[f"Q{bits}_K"], w.numpy())(0.0)
    return torch.from_numpy(decode()), 8 * size


# --- latq


def latq_file(matrices, moments, bits, **options):
    """One file with all matrices, as ``latq encode`` makes it of a checkpoint."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.latq"
        arrays = {name: w.numpy() for name, w in matrices.items()}
        latq.save(path, arrays, bits, axis=1, threads=torch.get_num_threads(), **options)
        with latq.open(path) as file:
            decoded = {name: torch.from_numpy(file[name][:]) for name in matrices}
        return decoded, 8 * path.stat().st_size / sum(w.numel() for w in decoded.values())


def latq_calibrated(matrices, moments, bits):
    """The same for inputs of these second moments, as ``latq encode --calibration`` does."""
    entries = [Entry(name, SourceTensor.of(name, moments[name].numpy(), name), name, True, {}) for name in matrices]
    return latq_file(matrices, moments, bits, calibration=Calibration(entries, "moments"))


class LatqVectors:
    """As many bits as integers of that many and a float16 scale per vector."""

    def __init__(self, bits, n):
        self.quantizer = quantizer(bits + 16 / n, n)
        self.bits = self.quantizer.bits

    def __call__(self, x):
        return torch.from_numpy(self.quantizer.decode(self.quantizer.encode(x.numpy())))


# --- all of them


@dataclass(frozen=True)
class Method:
    """``cache`` codes keys and values, ``inputs`` those of linear layers, where the method has such.

    ``spared`` are the widths at which it can hit the grid of 16 levels per 32 weights on which some published models
    already lie: its figures on those say nothing about others. (RTN cannot: its zero points are integers.)
    """

    name: str
    weights: Callable
    cache: Callable | None = None
    inputs: Callable | None = None
    widths: tuple[int, ...] = (2, 3, 4)
    spared: tuple[int, ...] = ()


def nearest(name, fit, group):
    return Method(name, of_matrices(partial(round_to_nearest, fit, group)))


def rotated(name, by_gptq):
    vectors = {"cache": partial(RotatedVectors, affine), "inputs": partial(RotatedVectors, symmetric)}
    return Method(name, of_matrices(partial(rotated_matrix, by_gptq)), **vectors)


def latq_method(name, weights):
    return Method(name, weights, cache=LatqVectors, inputs=LatqVectors)


METHODS = (
    *(
        Method(f"RTN symmetric {group}", of_matrices(partial(round_to_nearest, symmetric, group)))
        for group in (32, 128)
    ),
    Method("RTN affine 32", of_matrices(partial(round_to_nearest, affine, 32)), spared=(4,)),
    Method("RTN affine 128", of_matrices(partial(round_to_nearest, affine, 128))),
    Method("NF4", of_matrices(nf4), widths=(4,)),
    Method("ggml K", of_matrices(ggml_k), spared=(4,)),
    Method("GPTQ 128", of_matrices(gptq_groups)),
    rotated("rotated INT", by_gptq=False),
    rotated("rotated INT, GPTQ", by_gptq=True),
    latq_method("latq fixed", partial(latq_file, coding="fixed")),
    latq_method("latq entropy", partial(latq_file, coding="entropy")),
    latq_method("latq trellis", partial(latq_file, codec="trellis", effort="best")),
    latq_method("latq calibrated", latq_calibrated),
)
