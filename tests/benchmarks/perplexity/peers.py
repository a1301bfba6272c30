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

import latq
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


def shuffled(code):
    """``code`` for columns in another order, as a model has them whose channels were numbered otherwise.

    Weights that were published in 16 levels per 32 of them, as a GGUF file in Q4_1, lie on a grid that coders with such
    groups hit: next to lossless on those, which says nothing about others. Other groups break that grid up.
    """

    def apart(w, moment, bits):
        order = torch.randperm(w.shape[1], generator=torch.Generator().manual_seed(0))
        coded, size = code(w[:, order].contiguous(), moment, bits)
        return coded[:, order.argsort()], size

    return apart


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


def latq_calibrated(matrices, moments, bits, **options):
    """The same for inputs of these second moments, as ``latq encode --calibration`` does."""
    return latq_file(matrices, moments, bits, calibration={name: moments[name].numpy() for name in matrices}, **options)


class LatqVectors:
    """At most as many bits as integers of that many and a float16 scale per vector."""

    def __init__(self, bits, n):
        self.quantizer = latq.quantizer(bits + 16 / n, n)
        self.bits = self.quantizer.bits

    def __call__(self, x):
        return torch.from_numpy(self.quantizer.decode(self.quantizer.encode(x.numpy())))


# --- all of them


@dataclass(frozen=True)
class Method:
    """``cache`` codes keys and values, ``inputs`` those of linear layers, where the method has such. The weights of one
    that is ``aware`` also take ``activation_bits``, when inputs are quantized, too.

    """

    name: str
    weights: Callable
    cache: Callable | None = None
    inputs: Callable | None = None
    widths: tuple[int, ...] = (2, 3, 4)
    aware: bool = False


def nearest(name, fit, group):
    return Method(name, of_matrices(partial(round_to_nearest, fit, group)))


def rotated(name, by_gptq):
    vectors = {"cache": partial(RotatedVectors, affine), "inputs": partial(RotatedVectors, symmetric)}
    return Method(name, of_matrices(partial(rotated_matrix, by_gptq)), **vectors)


def latq_method(name, weights=latq_file, aware=False, **options):
    return Method(name, partial(weights, **options), cache=LatqVectors, inputs=LatqVectors, aware=aware)


METHODS = (
    *(
        Method(f"RTN symmetric {group}", of_matrices(partial(round_to_nearest, symmetric, group)))
        for group in (32, 128)
    ),
    Method("RTN affine 32", of_matrices(shuffled(partial(round_to_nearest, affine, 32)))),
    Method("RTN affine 128", of_matrices(partial(round_to_nearest, affine, 128))),
    Method("NF4", of_matrices(nf4), widths=(4,)),
    Method("ggml K", of_matrices(shuffled(ggml_k))),
    Method("GPTQ 128", of_matrices(gptq_groups)),
    rotated("rotated INT", by_gptq=False),
    rotated("rotated INT, GPTQ", by_gptq=True),
    latq_method("latq fixed", coding="fixed"),
    latq_method("latq entropy", coding="entropy"),
    latq_method("latq trellis", codec="trellis", effort="best"),
    latq_method("latq calibrated, fixed", latq_calibrated, aware=True, coding="fixed"),
    latq_method("latq calibrated", latq_calibrated, aware=True, coding="entropy"),
)
