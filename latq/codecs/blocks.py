"""Blocks of 8: how a flat stream of entries is cut for codec e8 (spec section 4.1)."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from latq import kernels

BLOCK = kernels.BLOCK

F32 = npt.NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)
Classes = kernels.Classes


def count_of(entries: int) -> int:
    """Blocks that hold ``entries``; the last one is padded with zeros."""
    return -(-entries // BLOCK)


def blocks_of(x: F32) -> F32:
    """Blocks (8, N) of a flat stream, the last one padded with zeros."""
    if x.size % BLOCK:
        x = np.concatenate([x, np.zeros(-x.size % BLOCK, np.float32)])
    return x.reshape(-1, BLOCK).T


def stream_of(blocks: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """Blocks (8, N) as a flat stream."""
    return np.ascontiguousarray(blocks.T).reshape(-1)


def lowest_classes(vector_classes: npt.NDArray[np.integer], length: int) -> Classes:
    """Class of each block (N,) of a stream of vectors of ``length`` entries: the lowest of those with entries in it."""
    return _over_blocks(np.minimum, vector_classes, length)


def are_mixed(vector_classes: npt.NDArray[np.integer], length: int) -> npt.NDArray[np.bool_]:
    """Whether vectors of different classes have entries in each block (N,)."""
    mixed: npt.NDArray[np.bool_] = lowest_classes(vector_classes, length) != _over_blocks(
        np.maximum, vector_classes, length
    )
    return mixed


def _over_blocks(extreme: np.ufunc, vector_classes: npt.NDArray[np.integer], length: int) -> Classes:
    """The least or greatest class of the vectors with entries in each block."""
    blocks = count_of(vector_classes.size * length)
    if not vector_classes.any():
        return np.broadcast_to(np.intp(0), blocks)
    if length % BLOCK == 0:
        return np.repeat(vector_classes.astype(np.intp), length // BLOCK)
    first = np.arange(blocks + 1, dtype=np.intp) * BLOCK
    # Of each block the first vector, and the first behind it: ranges for reduceat, every other one of them wanted.
    ends = np.empty(2 * blocks, np.intp)
    ends[0::2] = first[:-1] // length
    ends[1::2] = np.minimum((first[1:] - 1) // length + 1, vector_classes.size)
    padded = np.append(vector_classes, vector_classes[-1:]).astype(np.intp)
    found: Classes = extreme.reduceat(padded, ends)[::2]
    return np.ascontiguousarray(found)
