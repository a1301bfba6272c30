"""How a matrix is cut into chunks (spec section 3.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from latq.limits import MAX_GROUP

if TYPE_CHECKING:
    from latq.pipeline.metadata import MatrixCodec, TensorEntry

# Entries of the chunks that the encoder makes, about.
CHUNK_ENTRIES = 1 << 20


@dataclass(frozen=True)
class Tile:
    """Vectors [v0, v1) by entries [e0, e1) of one chunk."""

    v0: int
    v1: int
    e0: int
    e1: int

    @property
    def vectors(self) -> int:
        return self.v1 - self.v0

    @property
    def length(self) -> int:
        return self.e1 - self.e0

    @property
    def entries(self) -> int:
        return self.vectors * self.length


def _pieces(size: int, step: int) -> dict[int, int]:
    """How many pieces of each length ``size`` is cut into, step by step."""
    whole, rest = divmod(size, step)
    return {length: count for length, count in ((step, whole), (rest, 1)) if length and count}


@dataclass(frozen=True)
class Tiling:
    """How chunks tile an n x m matrix: groups of entries, and in each of them runs of vectors."""

    n: int
    m: int
    group: int
    chunk_vectors: int

    @classmethod
    def of(cls, entry: "TensorEntry", codec: "MatrixCodec") -> "Tiling":
        n, m = matrix_shape(entry.shape, entry.axis)
        return cls(n, m, codec.group, codec.chunk_vectors)

    @classmethod
    def choose(cls, n: int, m: int) -> "Tiling":
        """The one that the encoder takes."""
        group = min(n, MAX_GROUP)
        return cls(n, m, group, max(1, min(m, CHUNK_ENTRIES // max(group, 1))))

    @property
    def groups(self) -> int:
        return -(-self.n // self.group)

    @property
    def runs(self) -> int:
        return -(-self.m // self.chunk_vectors)

    @property
    def count(self) -> int:
        return self.groups * self.runs if self.n and self.m else 0

    @property
    def lengths(self) -> list[int]:
        """Those that groups have."""
        return list(_pieces(self.n, self.group))

    def shapes(self) -> dict[tuple[int, int], int]:
        """How many chunks have each number of vectors and length."""
        return {
            (vectors, length): runs * groups
            for vectors, runs in _pieces(self.m, self.chunk_vectors).items()
            for length, groups in _pieces(self.n, self.group).items()
        }

    def tile(self, chunk: int) -> Tile:
        g, r = divmod(chunk, self.runs)
        v0, e0 = r * self.chunk_vectors, g * self.group
        return Tile(v0, min(v0 + self.chunk_vectors, self.m), e0, min(e0 + self.group, self.n))


def matrix_shape(shape: Sequence[int], axis: int) -> tuple[int, int]:
    """(n, m) of an array with contraction axis ``axis``; a 0-D array is 1 x 1."""
    if not shape:
        return 1, 1
    return shape[axis], prod(s for i, s in enumerate(shape) if i != axis)
