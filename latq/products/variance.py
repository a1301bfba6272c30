"""Variances of estimated products, from the norms of the vectors and of their errors.

After a random rotation the error of a vector points anywhere: it meets a given vector y with variance |z|^2 |y|^2 / L.
Where every vector has a scale of its own the error is orthogonal to it, so it lies in L - 1 dimensions and meets only
the part of y across it. Without rotation nothing of that is certain, and what remains are bounds (Cauchy-Schwarz).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latq.products.panel import Panel

F64 = npt.NDArray[np.float64]
# Relative error of an energy that follows from a scale and an alignment of float16.
_ROUNDING = 2.0**-12


class Norms(NamedTuple):
    """Squared norms of vectors, of their errors within the coded coordinates, and of vectors that are lost: arrays that
    broadcast, or sums."""

    energy: F64
    noise: F64
    lost: F64

    @classmethod
    def of(cls, panel: Panel) -> "Norms":
        return cls(panel.energies, panel.noises, panel.lost)

    def column(self) -> "Norms":
        return Norms(*(part[:, None] for part in self))

    def summed(self) -> "Norms":
        return Norms(*(part.sum(keepdims=True) for part in self))


def variance(x: Norms, y: Norms, square: F64, a: Panel, b: Panel) -> F64:
    """Variance of the estimate of <x, y>, of which ``square`` is the true square; the panels tell the rest.

    It is linear in x, y and ``square``, so sums of norms give the sum over all pairs. Where only a share k of the
    coordinates is coded, the choice of these adds (|x|^2 |y|^2 + <x, y>^2) / L * (1 / k - 1). The product with a lost
    vector is all error, as large as that of two random directions.
    """
    length, kept = a.length, min(a.kept, b.kept)
    both = x.energy * y.energy
    across = np.maximum(both - square, 0.0) / max(length - 1, 1)
    of_a = across * _ratio(x.noise, x.energy) if a.fitted else x.noise * y.energy / length
    of_b = across * _ratio(y.noise, y.energy) if b.fitted else y.noise * x.energy / length
    if a.fitted and b.fitted:
        dimensions = max(length - 2, 0) + _ratio(square, both)
        of_both = x.noise * y.noise * dimensions / max(length - 1, 1) ** 2
    else:
        of_both = x.noise * y.noise / length
    unseen = x.lost * y.energy + x.energy * y.lost + x.lost * y.lost
    found: F64 = (of_a + of_b + of_both) / kept + ((both + square) * (1 / kept - 1) + unseen) / length
    return found


def variances(product: F64, a: Panel, b: Panel) -> F64:
    """(V_a, V_b) variances of the estimated ``product`` of the centred parts."""
    x, y = Norms.of(a).column(), Norms.of(b)
    noise = variance(x, y, np.zeros((1, 1)), a, b)
    return variance(x, y, np.clip(product**2 - noise, 0.0, x.energy * y.energy), a, b)


def total_variance(product_square: float, a: Panel, b: Panel) -> float:
    """Sum of all variances, from the sum of the squares of the estimated product."""
    x, y = Norms.of(a).summed(), Norms.of(b).summed()
    noise = variance(x, y, np.zeros(1), a, b)
    return variance(x, y, np.clip(product_square - noise, 0.0, x.energy * y.energy), a, b).item()


def own_variances(panel: Panel) -> F64:
    """(V,) variances of ``own_energies`` as estimates of <x, x>."""
    rounded = (panel.own_energies * _ROUNDING) ** 2
    if panel.fitted:
        return rounded
    return rounded + (4 * panel.energies + 2 * panel.all_noises) * panel.all_noises / panel.length


def uncorrected_variances(panel: Panel) -> F64:
    """(V,) what :func:`variances` has in their place."""
    own = Norms.of(panel)
    return variance(own, own, panel.energies**2, panel, panel)


def sum_variances(panel: Panel) -> F64:
    """(V,) variances of the sums of the entries of the reconstructions, 0 where means were taken out."""
    noises = panel.all_noises
    if panel.fitted:
        along = np.minimum(_ratio(panel.sums**2, panel.energies), panel.length)
        noises = noises * (panel.length - along) / max(panel.length - 1, 1)
    found: F64 = np.where(panel.whole, noises + panel.lost, 0.0)
    return found


def bounds(a: Panel, b: Panel) -> F64:
    """(V_a, V_b) bounds of the errors of the products of the centred parts, whatever the errors are."""
    u, v = np.sqrt(a.squares)[:, None], np.sqrt(b.squares)
    kept = max(a.kept, b.kept)
    found: F64 = a.radii[:, None] * (v + b.radii) + u * b.radii + (1 - kept) * u * v
    return found


def own_bounds(panel: Panel) -> F64:
    """(V,) bounds of the errors of ``own_energies``: the norms are at most the radius away from those of the
    reconstructions."""
    norms = np.sqrt(panel.squares)
    found: F64 = (norms + panel.radii) ** 2 - np.maximum(norms - panel.radii, 0.0) ** 2
    return found


def _ratio(part: F64, whole: F64) -> F64:
    """part / whole, and 0 where that is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.zeros(shape), where=whole > 0)
