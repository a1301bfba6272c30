"""Vectors of one group in the rotated domain, with what is known of their errors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.kernels import Integers
from latq.products.frame import Frame
from latq.transforms.rotation import Rotation, rotate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Panel:
    """Unbiased reconstructions: row i is ``values[i] * gains[i]``, zeros from there to ``length``.

    values
        (V, kept) integers, or floats of a plain array or where one is beyond 16 bits.
    energies, noises
        (V,) squared norms of the originals without their means, as far as they can be told, and of the errors that are
        expected within the coded coordinates, of reconstructions scaled to be unbiased there: the others are in neither
        side of a product. 0 for vectors of which nothing is left.
    lost
        (V,) squared norms of those, else 0.
    radii
        (V,) what the norms of those errors are at most.
    means, whole
        (V,) what was taken out of every entry, and whether nothing was, so that the mean is still there.
    ones
        (length,) the vector of ones, rotated.
    fitted
        Whether the scale of every vector is its own: then its error is orthogonal to it.
    """

    values: Integers | F32
    gains: F64
    energies: F64
    noises: F64
    lost: F64
    radii: F64
    means: F64
    whole: npt.NDArray[np.bool_]
    ones: F32
    fitted: bool

    def __len__(self) -> int:
        return len(self.gains)

    def __getitem__(self, rows: slice) -> "Panel":
        return replace(self, **{name: getattr(self, name)[rows] for name in _PER_VECTOR})

    @property
    def length(self) -> int:
        return len(self.ones)

    @property
    def kept(self) -> float:
        """Share of the coordinates that are coded."""
        return int(self.values.shape[1]) / self.length

    @cached_property
    def all_noises(self) -> F64:
        """(V,) squared norms of the errors, what is missed in the other coordinates included."""
        return (self.noises + (1 - self.kept) * self.energies) / self.kept

    @cached_property
    def own_energies(self) -> F64:
        """(V,) squared norms of all originals."""
        return self.energies + self.lost

    @cached_property
    def centred_energy(self) -> float:
        """Squared norm of all vectors without their means."""
        return float(self.own_energies.sum())

    @cached_property
    def energy(self) -> float:
        """Squared norm of all vectors."""
        return self.centred_energy + float((self.length * self.means**2).sum())

    @cached_property
    def squares(self) -> F64:
        """(V,) squared norms of the reconstructions."""
        return squared_norms(self.values) * self.gains**2

    @cached_property
    def sums(self) -> F64:
        """(V,) sums of the entries of the reconstructions before their rotation, 0 where means were taken out."""
        if not self.whole.any():
            return np.zeros(len(self))
        found: F64 = self.values.astype(np.float32, copy=False) @ self.ones[: self.values.shape[1]] * self.gains
        return np.where(self.whole, found, 0.0)


_PER_VECTOR = [field.name for field in fields(Panel) if field.name not in ("ones", "fitted")]


def rotated_ones(length: int, frame: Frame) -> F32:
    """(length,) the vector of ones in the coordinates of ``frame``."""
    return _rotated_ones(length, frame.rotation, frame.seed)


@lru_cache(maxsize=8)
def _rotated_ones(length: int, rotation: Rotation, seed: int) -> F32:
    ones: F32 = rotate(np.ones((1, length), np.float32), rotation, seed)[0]
    return ones


def widened(values: Integers | F32, length: int) -> Integers | F32:
    """Rows (V, K) with zeros up to ``length``."""
    out = np.zeros((len(values), length), values.dtype)
    out[:, : values.shape[1]] = values
    return out


def is_integer(values: kernels.Decoded) -> TypeGuard[Integers]:
    """Whether products of these values can be exact."""
    return values.dtype != np.float32


def squared_norms(values: Integers | F32) -> F64:
    """(V,) of rows (V, K)."""
    if is_integer(values):
        return kernels.squared_norms(values)
    return kernels.row_squares(values.astype(np.float32, copy=False), 0, np.zeros(len(values), np.float32))


def narrowed(values: kernels.Decoded) -> tuple[Integers | F32, F64]:
    """Whole numbers (V, K) in 8 or 16 bits where these hold them, and :func:`squared_norms` of them."""
    if is_integer(values):
        return values, kernels.squared_norms(values)
    wide = values.astype(np.float32, copy=False)
    return kernels.narrowed(wide) or (wide, squared_norms(wide))


def together(panels: Sequence[Panel]) -> Panel:
    """Panels of one group, one below the other."""
    if len(panels) == 1:
        return panels[0]
    kept = max(panel.values.shape[1] for panel in panels)
    padded = [replace(panel, values=widened(panel.values, kept)) for panel in panels]
    joined = {name: np.concatenate([getattr(panel, name) for panel in padded]) for name in _PER_VECTOR}
    return Panel(**joined, ones=panels[0].ones, fitted=all(panel.fitted for panel in panels))


def joined(panels: Sequence[Panel], enough: int) -> list[Panel]:
    """Neighbours of one group put together until they have ``enough`` vectors."""
    found: list[Panel] = []
    waiting: list[Panel] = []
    for panel in panels:
        waiting.append(panel)
        if sum(map(len, waiting)) >= enough:
            found.append(together(waiting))
            waiting = []
    return [*found, together(waiting)] if waiting else found
