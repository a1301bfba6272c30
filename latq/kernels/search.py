"""The scale and the codeword for every block in a nested-lattice code: an encoder's search, in plain NumPy.

A block is nearest to some lattice point at every scale, and mostly that is a codeword: at large scales always, at the
smallest one that still holds the block often. Others are moved into the codebook, see :func:`_search`. For the smallest
nesting ratios all codewords are compared instead. Conway & Sloane 1983; NestQuant, Savkin et al. 2025.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq.kernels.codebook import Codebook, all_errors, codebook, nearest_word
from latq.kernels.reference import F32, I32, U8, Bits, add8, codeword, coset_points, digit_type, to_digits

# Blocks are worked on in slices that stay in the cache.
SLICE = 1 << 13
# Rows of charges in a choice of scales.
PRICES = 2
# Nesting ratios up to this have so few codewords that all are compared.
FEW = 3
# Of the search for a codeword: rounds, and how far each goes in at least (along the normal of a face, over its length).
ROUNDS = 8
PUSH = np.float32(1 / 8)
# Scales tried beside the smallest one that holds a block: the next on either side, and all within these factors.
NARROWER, WIDER = 0.8, 1.32
# Squared error, over that of the step, of blocks in the codebook, and how deep they lie in it: on average, and where it
# can be hoped for.
USUAL, DEPTH = np.float32(8 * 929 / 12960), np.float32(0.55)
HOPED, HOPED_DEPTH = np.float32(0.4), np.float32(0.2)


@dataclass(frozen=True, eq=False)
class NestedCode:
    """Nesting ratio, lattice offset (8,) in doubled coordinates, rising integer scales (K,), lattice step of each."""

    q: int
    offset: I32
    scales: I32
    steps: F32

    @property
    def inverses(self) -> F32:
        return np.float32(1) / self.steps

    @property
    def book(self) -> Codebook | None:
        """All codewords, if they are few."""
        return codebook(self.q, tuple(self.offset.tolist())) if self.q <= FEW else None

    def only(self, some: npt.NDArray[np.intp]) -> "NestedCode":
        """The code with some of its scales."""
        return NestedCode(self.q, self.offset, self.scales[some], self.steps[some])

    def windows(self) -> tuple[list[int], list[int]]:
        """First and last scale to try, by the smallest scale that holds the block."""
        last = len(self.steps) - 1
        first = [max(0, min(j - 1, int((self.steps < step * NARROWER).sum()))) for j, step in enumerate(self.steps)]
        final = [
            min(last, max(j + 1, int((self.steps <= step * WIDER).sum()) - 1)) for j, step in enumerate(self.steps)
        ]
        return first, final


def gauge(x: F32) -> F32:
    """The q at which each block (8, N) lies on the boundary of the Voronoi region of q E8.

    That is the largest inner product with one of the 240 shortest vectors: two coordinates +-1, or eight +-1/2.
    """
    a = np.abs(x)
    first, second, low = a[0], np.zeros_like(a[0]), a[0]
    odd = x[0] < 0
    for i in range(1, 8):
        second = np.maximum(second, np.minimum(first, a[i]))
        first, low = np.maximum(first, a[i]), np.minimum(low, a[i])
        odd = odd ^ (x[i] < 0)
    half = (add8(a) - np.where(odd, low + low, np.float32(0))) * np.float32(0.5)
    found: F32 = np.maximum(first + second, half)
    return found


def estimated_errors(x: F32, code: NestedCode) -> F32:
    """About the squared error of each block (8, N) at every scale, (K, N), by how far it is beyond the codebook."""
    size = gauge(x)
    return np.stack([_estimate(size, code, j, USUAL, DEPTH) for j in range(len(code.steps))])


def _estimate(size: F32, code: NestedCode, j: int, inside: np.float32, depth: np.float32) -> F32:
    """Squared error at scale ``j``, being ``inside`` in units of the step for blocks ``depth`` within the codebook."""
    beyond = np.maximum(size * code.inverses[j] - (np.float32(code.q) - depth), np.float32(0))
    error: F32 = (beyond * beyond * np.float32(0.5) + inside) * (code.steps[j] * code.steps[j])
    return error


def guess_scales(x: F32, code: NestedCode, charges: F32) -> U8:
    """Scale of least estimated error + charge for every block (8, N), as :func:`choose_scales`."""
    return cheapest_scales(estimated_errors(x, code), charges)


def cheapest_scales(errors: F32, charges: F32) -> U8:
    """Scale of least error (K, N) + charge, the smallest of equals, under each row of ``charges`` (P, K): (P, N)."""
    return np.stack([(errors + row[:, None]).argmin(axis=0).astype(np.uint8) for row in charges])


def choose_scales(x: F32, code: NestedCode, charges: F32) -> U8:
    """Scale of least squared error + charge for every block (8, N), under each row of ``charges`` (PRICES, K).

    Returns (PRICES, N).
    Tried are the scales in the window about the one that holds the block. Where the nearest point is no codeword the
    search for one is spared if even an error that it hardly gets below would not win.
    """
    index = np.empty((len(charges), x.shape[1]), np.uint8)
    for begin in range(0, x.shape[1], SLICE):
        part = slice(begin, begin + SLICE)
        index[:, part] = _choose(np.ascontiguousarray(x[:, part]), code, charges)
    return index


def _choose(x: F32, code: NestedCode, charges: F32) -> U8:
    if book := code.book:
        return cheapest_scales(all_errors(x, book, code.steps), charges)
    size = gauge(x)
    # The smallest scale at which a block lies in the codebook, rounding aside; the last if none does.
    holding = (size > (code.steps[:-1] * np.float32(code.q))[:, None]).sum(axis=0)
    first, final = (np.array(ends)[holding] for ends in code.windows())
    best = np.full((len(charges), x.shape[1]), np.inf, np.float32)
    index = np.zeros(best.shape, np.uint8)
    bounds = np.full((len(code.steps), x.shape[1]), np.inf, np.float32)

    def offer(j: int, some: npt.NDArray[np.intp], errors: F32) -> None:
        costs = errors + charges[:, [j]]
        better = costs < best[:, some]
        # Of equal costs the smallest scale: so the order in which they are offered does not matter.
        better |= (costs == best[:, some]) & (j < index[:, some])
        best[:, some] = np.where(better, costs, best[:, some])
        index[:, some] = np.where(better, np.uint8(j), index[:, some])

    for j, (step, inverse) in enumerate(zip(code.steps, code.inverses, strict=True)):
        tried = np.flatnonzero((holding <= j) & (j <= final))
        y = x[:, tried] * inverse
        point, word = _nearest(_shrunk(y, code.q), code)
        errors = _distance(y, point) * (step * step)
        found = (point == word).all(axis=0)
        offer(j, tried[found], errors[found])
        bounds[j, tried[~found]] = errors[~found]
        below = np.flatnonzero((first <= j) & (j < holding))
        bounds[j, below] = _estimate(size[below], code, j, HOPED, HOPED_DEPTH)
    wanted = np.any(bounds + charges[:, :, None] < best[:, None], axis=0)
    for j, (step, inverse) in enumerate(zip(code.steps, code.inverses, strict=True)):
        some = np.flatnonzero(wanted[j])
        _, distance = _search(x[:, some] * inverse, code)
        offer(j, some, distance * (step * step))
    return index


def quantize(x: F32, index: U8, code: NestedCode) -> tuple[Bits, F32, F32]:
    """Digits (8, N) for blocks (8, N) at the scale of each (N,), decoded integers (8, N) and squared errors (N,)."""
    digits: Bits = np.empty(x.shape, digit_type(code.q))
    integers = np.empty(x.shape, np.float32)
    errors = np.empty(x.shape[1], np.float32)
    for begin in range(0, x.shape[1], SLICE):
        part = slice(begin, begin + SLICE)
        steps = code.steps[index[part]]
        word, distance = _search(x[:, part] * code.inverses[index[part]], code)
        digits[:, part] = to_digits(word - code.offset[:, None], code.q)
        integers[:, part] = word * code.scales[index[part]]
        errors[part] = distance * (steps * steps)
    return digits, integers, errors


def _search(y: F32, code: NestedCode) -> tuple[I32, F32]:
    """Codewords (8, N) near blocks ``y``, given in steps, and squared distances.

    A target, the block at first, moves into the codebook until the lattice point nearest to it is a codeword. The
    difference between a point and the codeword of its digits is q times a lattice vector, the normal of a face of the
    Voronoi region that the point is beyond: the target moves onto that face or by a little at least. Of all codewords
    met on the way, nearest points of either coset, the one nearest to the block is taken.
    """
    target = _shrunk(y, code.q)
    if book := code.book:
        point, word = _nearest(target, code)
        missed = (point != word).any(axis=0)
        point[:, missed] = nearest_word(y[:, missed], book)
        return point, _distance(y, point)
    q = np.float32(code.q)
    words, least = np.zeros(y.shape, np.int32), np.full(y.shape[1], np.inf, np.float32)
    active = np.arange(y.shape[1])
    for _ in range(ROUNDS):
        whole, half, balance = coset_points(target - _half(code.offset))
        whole, half = whole + code.offset[:, None], half + code.offset[:, None]
        nearer = balance <= 0
        point, other = np.where(nearer, whole, half), np.where(nearer, half, whole)
        word = _decoded(point, code)
        missed = (point != word).any(axis=0)
        sound = missed & (_decoded(other, code) == other).all(axis=0)
        # At first any codeword will do, then points that are one: what is decoded far from the target is of no use.
        for candidate, allowed in (word, ~missed | np.isinf(least[active])), (other, sound):
            distance = _distance(y[:, active], candidate)
            better = np.flatnonzero(allowed & (distance < least[active]))
            words[:, active[better]] = candidate[:, better]
            least[active[better]] = distance[better]
        still = np.flatnonzero(missed)
        if still.size == 0:
            break
        active, target = active[still], target[:, still]
        normal = (point - word)[:, still].astype(np.float32) * np.float32(0.5)
        depth = add8(target * normal) * q / add8(normal * normal) - q * np.float32(0.5)
        target = target - normal * (np.maximum(depth, PUSH) / q)
    return words, least


def _nearest(y: F32, code: NestedCode) -> tuple[I32, I32]:
    """The point of the offset lattice nearest to each block (8, N), and the codeword of its digits."""
    whole, half, balance = coset_points(y - _half(code.offset))
    point = np.where(balance <= 0, whole, half) + code.offset[:, None]
    return point, _decoded(point, code)


def _decoded(point: I32, code: NestedCode) -> I32:
    """What the decoder makes of the digits of points (8, N) of the offset lattice; ties depend on the digits."""
    return codeword(to_digits(point - code.offset[:, None], code.q), code.q, code.offset)


def _shrunk(y: F32, q: int) -> F32:
    """Blocks far beyond the codebook moved near to it."""
    return y * np.minimum(np.float32(1), np.float32(2 * q) / np.maximum(gauge(y), np.float32(1)))


def _half(doubled: I32) -> F32:
    """A vector (8,) in doubled coordinates as a column of real ones."""
    return doubled.astype(np.float32)[:, None] * np.float32(0.5)


def _distance(y: F32, word: I32) -> F32:
    """Squared distance of blocks in units of the step to words in doubled coordinates."""
    residual = y - word.astype(np.float32) * np.float32(0.5)
    return add8(residual * residual)
