"""What one pass over a matrix tells about it, before it is decided how to code it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.pipeline.panels import Array, Panels
from latq.pipeline.tiling import Tile
from latq.transforms.sizes import sizes_of

# The sample of vectors: so many entries in all, from so many chunks.
SAMPLE_ENTRIES = 1 << 19
SAMPLE_CHUNKS = 16
# Below this share of its energy, what is left of a constant vector without its mean is rounding.
ROUNDING = 1e-12
# Larger values are not summed: they cannot be coded anyway.
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Scan:
    """Index of the first NaN or infinity, largest magnitude, energies, how many vectors of each size every chunk has,
    as they are and without their means, and some of the vectors (rows) of some chunks.

    Energies and means are per group of entries, as the encoder centres them.
    """

    nonfinite: tuple[int, ...] | None
    peak: float
    energy: float
    centred: float
    smallest_rms: float
    sizes: list[Counter[int]]
    centred_sizes: list[Counter[int]]
    sample: list[Array]

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest root mean square of a vector (of one group) that is not zero."""
        return self.peak / self.smallest_rms

    def centring_pays(self, length: int) -> bool:
        """Whether taking the means out saves more than the 32 bits that each costs vectors of ``length`` entries."""
        return self.energy * length > self.centred * (length + 64)


@dataclass(frozen=True)
class _Chunk:
    """What one chunk adds."""

    peak: float
    nonfinite: tuple[int, ...] | None = None
    energy: float = 0.0
    centred: float = 0.0
    smallest: float = np.inf
    sizes: Counter[int] | None = None
    centred_sizes: Counter[int] | None = None
    sample: Array | None = None


def scattered(count: int, stride: int) -> npt.NDArray[np.intp]:
    """One of every ``stride`` of ``count`` places, at irregular distances: data may have a period of their own."""
    number = np.arange(-(-count // stride), dtype=np.uint64)
    jitter = (number * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % np.uint64(stride)
    return np.minimum(number * np.uint64(stride) + jitter, np.uint64(count - 1)).astype(np.intp)


def scan(panels: Panels, shape: tuple[int, ...], axis: int) -> Scan:
    """Go through a matrix, the array of ``shape`` seen along ``axis``, once."""
    tiling = panels.tiling
    stride = -(-tiling.count // SAMPLE_CHUNKS)
    sampled = len(range(0, tiling.count, stride))

    def work(chunk: int, tile: Tile, stored: Array) -> _Chunk:
        x = kernels.widened(stored)
        peak = kernels.peak(x)
        if not np.isfinite(peak):
            return _Chunk(peak, _first_position(shape, axis, tile, ~np.isfinite(x.astype(np.float64))))
        if peak > LARGEST:
            return _Chunk(peak)
        sums = kernels.row_sums(x, 0)
        squares = kernels.row_squares(x, 0, np.zeros(len(x), np.float32))
        spread = squares - sums * sums / tile.length
        varied = spread > squares * ROUNDING
        vectors = max(1, SAMPLE_ENTRIES // (sampled * tile.length))
        return _Chunk(
            peak,
            None,
            float(kernels.tree_sum(squares)),
            float(kernels.tree_sum(spread)),
            float(np.min(spread, initial=np.inf, where=varied)) / tile.length,
            _size_counts(squares / tile.length),
            _size_counts(np.where(varied, spread, 0.0) / tile.length),
            _some(stored, scattered(tile.vectors, -(-tile.vectors // vectors))) if chunk % stride == 0 else None,
        )

    chunks = list(panels.map(work))
    bad = [chunk.nonfinite for chunk in chunks if chunk.nonfinite is not None]
    return Scan(
        nonfinite=min(bad) if bad else None,
        peak=max(chunk.peak for chunk in chunks),
        energy=sum(chunk.energy for chunk in chunks),
        centred=sum(chunk.centred for chunk in chunks),
        smallest_rms=float(np.sqrt(min(chunk.smallest for chunk in chunks))),
        sizes=[chunk.sizes for chunk in chunks if chunk.sizes is not None],
        centred_sizes=[chunk.centred_sizes for chunk in chunks if chunk.centred_sizes is not None],
        sample=[chunk.sample for chunk in chunks if chunk.sample is not None],
    )


def _some(rows: Array, index: npt.NDArray[np.intp]) -> Array:
    """A copy of some rows."""
    out = kernels.new_array((index.size, rows.shape[1]), rows.dtype)
    return rows.take(index, axis=0, out=out, mode="clip")


def _size_counts(mean_squares: npt.NDArray[np.float64]) -> Counter[int]:
    sizes, counts = np.unique(sizes_of(np.sqrt(mean_squares)), return_counts=True)
    return Counter(dict(zip(sizes.tolist(), counts.tolist(), strict=True)))


def _first_position(shape: tuple[int, ...], axis: int, tile: Tile, bad: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """Array index of the first bad entry of a tile in C order."""
    vectors, entries = np.nonzero(bad)
    if not shape:
        return ()
    others = shape[:axis] + shape[axis + 1 :]
    unravelled = np.unravel_index(vectors + tile.v0, others) if others else ()
    index = [*unravelled[:axis], entries + tile.e0, *unravelled[axis:]]
    return min(zip(*(i.tolist() for i in index), strict=True))
