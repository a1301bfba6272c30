"""Tensors that are the same, such as the embedding of a language model and its last layer: one of them is coded."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from hashlib import sha256

from latq.pipeline.raw import pieces, raw_bytes
from latq.sources import SourceTensor

# Entries by which tensors are told apart before they are read in full.
_FIRST_ENTRIES = 1 << 10


def ties(tensors: Sequence[SourceTensor], asked: Sequence[Hashable]) -> dict[int, int]:
    """Position of every tensor that has the bytes, shape and dtype of an earlier one, and that one's.

    Only tensors that begin alike, and of which the same is ``asked``, are read in full.
    """

    def start(i: int) -> bytes:
        return sha256(raw_bytes(tensors[i], *next(pieces(tensors[i], _FIRST_ENTRIES)))).digest()

    def whole(i: int) -> bytes:
        digest = sha256()
        for piece in pieces(tensors[i]):
            digest.update(raw_bytes(tensors[i], *piece))
        return digest.digest()

    groups = [[i for i, tensor in enumerate(tensors) if 0 not in tensor.shape]]
    for key in (lambda i: (tensors[i].shape, tensors[i].dtype, asked[i]), start, whole):
        groups = [alike for group in groups for alike in _alike(group, key)]
    return {later: group[0] for group in groups for later in group[1:]}


def _alike(group: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Those of ``group`` that share a key with others."""
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for i in group:
        found[key(i)].append(i)
    return [alike for alike in found.values() if len(alike) > 1]
