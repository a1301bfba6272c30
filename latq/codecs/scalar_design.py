"""Levels of codec scalar: product-optimal point densities, closed-form for a Gaussian pair or fitted to two matrices.

Let f be the density of the entries u (unit mean square) and w(u) the mean square of what they are multiplied by. Levels
of density lambda leave the product error Int f w / (12 lambda^2) per side. It is least, with Int lambda = K fixed, for
lambda ~ (f w)^(1/3); with the entropy h(f) + Int f log2(lambda) of the indices fixed, for lambda ~ w^(1/2), where the
derivative of the Lagrangian, mu f / lambda - f w / (6 lambda^3), vanishes. For constant w that is the uniform
quantizer, which loses 0.2546 bits. A Gaussian pair of correlation rho has w(u) = 1 - rho^2 + rho^2 u^2.

Source: asymptotic theory of companding (Bennett 1948, Gersho 1979) with the weight w of a product of correlated pairs.
Only elementwise IEEE operations and sums of integers decide a level.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq.kernels import tree_sum
from latq.kernels.elementary import cube_root, exp_minus
from latq.limits import MAX_LEVEL, MAX_LEVELS

F64 = npt.NDArray[np.float64]

# The closed form reaches so far, in cells so fine.
GAUSSIAN_REACH = 12.0
GAUSSIAN_CELLS = 1 << 15
# Rounds of smoothing of a fitted profile, the share of the mean mass of a cell that counts as entries of mean weight,
# and the least mass of a cell over the greatest.
SMOOTHINGS = 16
FEW = 2.0**-10
LEAST_MASS = 2.0**-30
# Stored steps between the two closest levels: rounding adds at most 1/256 to the error there.
STEPS_PER_GAP = 16
# For fewer levels the asymptotic density is only a start, which weighted Lloyd rounds improve.
LLOYD_BELOW = 64
LLOYD_ROUNDS = 40
# Outside the range of the density, each gap is so much wider than the one before.
GROWTH = 1.125


@dataclass(frozen=True)
class Profile:
    """Entries over [-reach, reach] in an even number of cells of one width: their mass in each (cells,), at any scale,
    and their mean weight w (cells,)."""

    reach: float
    mass: F64
    weight: F64

    @property
    def width(self) -> float:
        return 2 * self.reach / self.mass.size


def gaussian(rho: float) -> Profile:
    """Entries N(0, 1) that meet entries of correlation ``rho``, -1 to 1."""
    u = (np.arange(GAUSSIAN_CELLS) + 0.5) * (2 * GAUSSIAN_REACH / GAUSSIAN_CELLS) - GAUSSIAN_REACH
    return Profile(GAUSSIAN_REACH, exp_minus(u * u * 0.5), (1 - rho * rho) + rho * rho * (u * u))


def histogram(units: npt.NDArray[np.floating], weights: F64, reach: float, cells: int) -> tuple[F64, F64]:
    """Number of entries (count,) and sum of their weights (count,), whole numbers, in each cell of [-reach, reach];
    what is outside belongs to the first or the last one."""
    cell = np.floor((units.astype(np.float64) + reach) * (cells / (2 * reach))).clip(0, cells - 1).astype(np.int64)
    number = np.bincount(cell, minlength=cells).astype(np.float64)
    return number, np.bincount(cell, weights, cells).astype(np.float64)


def fitted(number: F64, total: F64, reach: float) -> Profile:
    """The profile of histograms, smoothed; without any weight, all entries weigh the same."""
    entries, weight = int(number.astype(np.int64).sum()), int(total.astype(np.int64).sum())
    # What holds no entry at either end is cut off.
    used = np.flatnonzero(number)
    margin = min(int(used[0]), number.size - 1 - int(used[-1]))
    inside = slice(margin, number.size - margin)
    mass = _smooth(number[inside])
    weighted = _smooth(total[inside] * (entries / weight)) if weight else mass
    few = FEW * entries / number[inside].size
    least = LEAST_MASS * float(mass.max())
    return Profile(reach * (1 - 2 * margin / number.size), mass + least, (weighted + few) / (mass + few))


def fixed_density(profile: Profile) -> F64:
    """Best density of levels for a given number of them, (cells,), its maximum 1."""
    density = cube_root(profile.mass * profile.weight)
    return density * (1 / float(density.max()))


def entropy_density(profile: Profile) -> F64:
    """Best density of levels for a given entropy of their indices, (cells,), its maximum 1."""
    density = np.sqrt(profile.weight)
    return density * (1 / float(density.max()))


def fixed_levels(profile: Profile, count: int) -> F64:
    """``count`` levels, increasing: at the quantiles (i - 1/2) / count of the density, improved if they are few."""
    integral = _integral(fixed_density(profile), profile.width)
    levels = _inverse(profile, integral, (np.arange(count, dtype=np.float64) + 0.5) * (float(integral[-1]) / count))
    for _ in range(LLOYD_ROUNDS if count < LLOYD_BELOW else 0):
        levels = _lloyd(profile, levels)
    return levels


def entropy_levels(profile: Profile, gap: float, inner: float, outer: float, most: int = MAX_LEVELS) -> F64:
    """Levels, increasing, 0 among them, on average about ``gap`` apart: by the density where |u| <= ``inner``, from
    there to ``outer`` in ever wider gaps. At most about ``most``: where there would be more, ``inner`` is drawn in."""
    density = entropy_density(profile)
    integral = _integral(density, profile.width)
    step = gap * float(tree_sum(density * profile.mass) / tree_sum(profile.mass))
    centre = float(integral[integral.size // 2])
    below, above = int(centre / step), int((float(integral[-1]) - centre) / step)
    whole = _inverse(profile, integral, centre + np.arange(-below, above + 1, dtype=np.float64) * step)
    while True:
        # The first level outside is still of the density, and in its place.
        core = whole[max(0, int(np.searchsorted(whole, -inner)) - 1) : int(np.searchsorted(whole, inner)) + 1].copy()
        core[1:-1] = _lloyd(profile, core)[1:-1]
        levels = np.concatenate([-_outwards(-core[::-1], gap, outer)[::-1], core, _outwards(core, gap, outer)])
        if levels.size <= most or core.size <= 3:
            return levels
        inner *= 0.9


def stored(levels: F64, finest: float) -> tuple[tuple[int, ...], float]:
    """Levels as strictly increasing integers, and the unit that they count, at least ``finest``."""
    gap, largest = float(np.diff(levels).min()), float(np.abs(levels).max())
    unit = max(gap / STEPS_PER_GAP, finest, largest / (MAX_LEVEL - MAX_LEVELS))
    order = np.arange(levels.size)
    # Levels that fall together, or whose order a Lloyd round has spoilt, are moved apart.
    whole = np.maximum.accumulate(np.rint(levels * (1 / unit)).astype(np.int64) - order) + order
    return tuple(whole.tolist()), unit


def _smooth(x: F64) -> F64:
    """``x`` (cells,) spread by binomial weights; nothing leaves at the ends."""
    for _ in range(SMOOTHINGS):
        padded = np.concatenate([x[:1], x, x[-1:]])
        x = 0.25 * padded[:-2] + 0.5 * x + 0.25 * padded[2:]
    return x


def _integral(density: F64, width: float) -> F64:
    """Integral of a density (cells,) of maximum 1 up to each edge of a cell, (cells + 1,)."""
    whole = np.rint(density * 2.0**32).astype(np.int64)
    return np.concatenate([[0], np.cumsum(whole)]).astype(np.float64) * (width * 2.0**-32)


def _inverse(profile: Profile, integral: F64, targets: F64) -> F64:
    """Where an integral, linear between the edges, reaches ``targets`` (count,), none of them beyond its end."""
    cell = np.minimum(np.searchsorted(integral, targets, side="right"), profile.mass.size) - 1
    part: F64 = (targets - integral[cell]) / (integral[cell + 1] - integral[cell])
    return (cell + part) * profile.width - profile.reach


def _lloyd(profile: Profile, levels: F64) -> F64:
    """Levels moved to the weighted centroids of their cells, E[w u | cell] / E[w | cell]; empty ones stay."""
    density = profile.mass * profile.weight
    size = density.size
    whole = np.rint(density * (2.0**28 / float(density.max()))).astype(np.int64)
    # Sums up to each edge of the grid, of the mass and of mass * u, u in half cells; both even within a cell.
    mass, moment = (np.concatenate([[0], np.cumsum(x)]) for x in (whole, whole * (np.arange(size) * 2 + 1 - size)))
    middles = ((levels[1:] + levels[:-1]) * 0.5 + profile.reach) * (1 / profile.width)
    ends = np.clip(np.concatenate([[0.0], middles, [float(size)]]), 0.0, float(size))
    cell = np.minimum(ends.astype(np.int64), size - 1)
    part = ends - cell
    inside = part * whole[cell]
    held = np.diff(mass[cell] + inside)
    moved = np.diff(moment[cell] + inside * (2 * cell + part - size))
    centroids = moved / np.maximum(held, 1.0) * (profile.width * 0.5)
    return np.where(held >= 1, centroids, levels)


def _outwards(levels: F64, gap: float, end: float) -> F64:
    """Further levels above the last of ``levels`` (count,), each gap wider than the one before, as far as ``end``."""
    last = float(levels[-1])
    if levels.size > 1:
        gap = last - float(levels[-2])
    found: list[float] = []
    while last < end:
        gap *= GROWTH
        last += gap
        found.append(last)
    return np.array(found)
