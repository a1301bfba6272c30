"""What the benchmarks of compressors code: two matrices, and how far a decoded pair and its product are from them."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


def energy(x):
    parts = (part.astype(np.float64) for part in np.array_split(x.reshape(-1), 16))
    return sum(float(part @ part) for part in parts)


def rms(x):
    return math.sqrt(energy(x) / x.size)


@dataclass(frozen=True)
class Case:
    """A and B, vectors of n entries as rows. ``grid``: sides, but the first, of what SZ3 and zfp may see."""

    name: str
    a: np.ndarray
    b: np.ndarray
    columns_too: bool = False
    rotations: tuple[str, ...] = ("hadamard", "none")
    grid: tuple[int, ...] = ()

    @cached_property
    def truth(self):
        return self.a.astype(np.float64) @ self.b.astype(np.float64).T

    @cached_property
    def energies(self):
        return energy(self.a), energy(self.b), energy(self.truth)

    def distortion(self, a, b):
        return (energy(self.a - a) + energy(self.b - b)) / (self.energies[0] + self.energies[1])

    def product_errors(self, c):
        """Of an estimate, as it is and times the best scalar."""
        energy_a, energy_b, signal = self.energies
        scale = energy_a * energy_b / self.a.shape[1]
        overlap, size = float(np.vdot(self.truth, c.astype(np.float64))), energy(c)
        return energy(self.truth - c) / scale, (signal - (overlap * overlap / size if size else 0.0)) / scale

    def views(self, field):
        """The forms in which a coder may see A and B."""
        if field:
            return ["", "grid"] if self.grid else [""]
        return ["axis 1", "axis 0"] if self.columns_too else [""]

    def see(self, x, view):
        return {"grid": lambda: x.reshape(-1, *self.grid), "axis 0": lambda: x.T.copy()}.get(view, lambda: x)()

    def unsee(self, y, view):
        return y.T if view == "axis 0" else y.reshape(-1, self.a.shape[1])


def gaussian(shape):
    """Two independent N(0,1) matrices n x m, given as "n" x "m", their m vectors as rows."""
    n, m = map(int, shape.split("x"))
    sides = (np.random.default_rng(seed).standard_normal((n, m), np.float32).T for seed in (1, 2))
    return Case(f"gaussian {n}x{m}", *map(np.ascontiguousarray, sides), rotations=("hadamard",))
