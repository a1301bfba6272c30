"""The codeword of a nested-lattice code that is nearest to a block, or about: an encoder's search, in plain NumPy.

Conway & Sloane's decoder finds the lattice point; a block beyond the Voronoi region of the codebook has to be moved in.
"""

import numpy as np
import numpy.typing as npt

from latq.kernels.reference import add8, codeword, nearest_point, to_digits

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]

# Search for codewords: moves back into the codebook; exchanges, and neighbours tried in each (more where q < 4);
# radius of the codebook over q; by which factor a first candidate may lie above the error to beat.
ENTRIES = 6
EXCHANGES = 2
TRIALS = 6
MORE_TRIALS = 10
REACH = 0.87
HOPE = np.float32(3)


def quantize(x: F32, step: np.float32, q: int, offset: I32, limit: F32) -> tuple[I32, F32]:
    """Codewords (8, N) near blocks ``x`` (8, N) at one lattice step, doubled coordinates, and squared errors (N,).

    First the nearest lattice point. Where it is no codeword (the block lies beyond the codebook) the block is moved
    towards the codebook until it meets one, see :func:`_enter`, and that is exchanged for neighbours nearer to the
    block, see :func:`_improve`. The effort goes only to blocks that may come under the error ``limit`` (N,), roughly:
    others end early with a worse codeword, or none and an infinite error.
    """
    count = x.shape[1]
    words, errors = np.zeros((8, count), np.int32), np.full(count, np.inf, np.float32)
    y = x * (np.float32(1) / step)
    bound = limit * (HOPE / (step * step))
    tried = np.flatnonzero(_within_reach(y, q, bound))
    if tried.size == 0:
        return words, errors
    y, bound = y[:, tried], bound[tried]
    point = nearest_point(y - _half(offset)) + offset[:, None]
    word = _decoded(point, q, offset)
    missed = np.flatnonzero((word != point).any(axis=0))
    if missed.size:
        found, error = _enter(y[:, missed], point[:, missed], word[:, missed], q, offset)
        near = np.flatnonzero(error < bound[missed])
        found[:, near] = _improve(y[:, missed[near]], found[:, near], q, offset)
        word[:, missed] = found
    residual = x[:, tried] - word.astype(np.float32) * (step * np.float32(0.5))
    words[:, tried], errors[tried] = word, add8(residual * residual)
    return words, errors


def _decoded(point: I32, q: int, offset: I32) -> I32:
    """What the decoder makes of the digits of points (8, N) of the offset lattice; ties depend on the digits."""
    return codeword(to_digits(point - offset[:, None], q), q, offset)


def _half(doubled: I32) -> F32:
    """A vector (8,) in doubled coordinates as a column of real ones."""
    return doubled.astype(np.float32)[:, None] * np.float32(0.5)


def _distance(y: F32, word: I32) -> F32:
    """Squared distance of blocks in units of the step to words in doubled coordinates."""
    residual = y - word.astype(np.float32) * np.float32(0.5)
    return add8(residual * residual)


def _within_reach(y: F32, q: int, bound: F32) -> npt.NDArray[np.bool_]:
    """Whether the codebook, taken as a ball, comes within the squared distance ``bound``."""
    beyond = np.maximum(np.sqrt(add8(y * y)) - np.float32(REACH * q), np.float32(0))
    return beyond * beyond <= bound


def _enter(y: F32, point: I32, word: I32, q: int, offset: I32) -> tuple[I32, F32]:
    """Codewords near blocks ``y`` whose nearest ``point`` is none but reduces to ``word``, and squared distances.

    point - word is q times a lattice vector v, across the face of the Voronoi region that the block has crossed. The
    block moves back along v, onto that face but by v/2 at least, until its nearest point is a codeword. The best word
    met stays.
    """
    best, error = word.copy(), _distance(y, word)
    active, target = np.arange(y.shape[1]), y
    for _ in range(ENTRIES):
        v = ((point - word) // np.int32(q)).astype(np.float32) * np.float32(0.5)
        beyond = add8(target * v) / add8(v * v) - np.float32(q / 2)
        target = target - v * np.maximum(beyond, np.float32(0.5))
        point = nearest_point(target - _half(offset)) + offset[:, None]
        word = _decoded(point, q, offset)
        e = _distance(y[:, active], word)
        better = e < error[active]
        best[:, active[better]] = word[:, better]
        error[active[better]] = e[better]
        still = np.flatnonzero((word != point).any(axis=0))
        if still.size == 0:
            break
        active, target, point, word = active[still], target[:, still], point[:, still], word[:, still]
    return best, error


# Vectors of E8 that a residual may point along most, doubled, for residuals without signs and in descending order:
# with two large coordinates; with eight, for an even and for an odd number of negative residuals.
_PAIRS = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (2, 3), (1, 4), (0, 5), (2, 4), (1, 5), (0, 6))
_FLIPPED: tuple[tuple[int, ...], ...] = (
    *((), (6, 7), (5, 7), (5, 6), (4, 7), (4, 6), (3, 7), (4, 5), (3, 6), (2, 7), (4, 5, 6, 7), (3, 5)),
    *((7,), (6,), (5,), (4,), (5, 6, 7), (3,), (4, 6, 7), (2,), (4, 5, 7), (4, 5, 6), (3, 6, 7), (1,)),
)
_NEIGHBOURS = np.array(
    [[2 if i in pair else 0 for i in range(8)] for pair in _PAIRS]
    + [[-1 if i in flipped else 1 for i in range(8)] for flipped in _FLIPPED],
    np.int32,
)


def _improve(y: F32, word: I32, q: int, offset: I32) -> I32:
    """Exchange codewords (8, N) for neighbours nearer to blocks ``y``, of ``_NEIGHBOURS`` the nearest codeword first.

    The neighbour word + v is nearer by 2 <d, v> - 2, where d is the residual.
    """
    best = word.copy()
    active = np.arange(y.shape[1])
    for _ in range(EXCHANGES):
        d = y[:, active] - best[:, active].astype(np.float32) * np.float32(0.5)
        order = np.argsort(-np.abs(d), axis=0, kind="stable")
        d = np.take_along_axis(d, order, axis=0)
        odd = (add8((d < 0).astype(np.int32)) & 1) == 1
        gains = _gains(np.abs(d), odd)
        open_ = np.arange(active.size)
        moved = []
        for _ in range(TRIALS if q > 3 else MORE_TRIALS):
            row = gains[:, open_].argmax(axis=0)
            worth = gains[row, open_] > 1
            open_, row = open_[worth], row[worth]
            if open_.size == 0:
                break
            gains[row, open_] = 0
            signed = np.where(d[:, open_] < 0, -_NEIGHBOURS[row].T, _NEIGHBOURS[row].T)
            neighbour = np.empty_like(signed)
            np.put_along_axis(neighbour, order[:, open_], signed, axis=0)
            neighbour += best[:, active[open_]]
            valid = (_decoded(neighbour, q, offset) == neighbour).all(axis=0)
            best[:, active[open_[valid]]] = neighbour[:, valid]
            moved.append(open_[valid])
            open_ = open_[~valid]
        active = active[np.sort(np.concatenate(moved))] if moved else active[:0]
        if active.size == 0:
            break
    return best


def _gains(a: F32, odd: npt.NDArray[np.bool_]) -> F32:
    """<d, v> for every row v of ``_NEIGHBOURS``, 0 where its parity is not that of ``odd``."""
    gains = np.empty((len(_NEIGHBOURS), a.shape[1]), np.float32)
    for i, (first, second) in enumerate(_PAIRS):
        gains[i] = a[first] + a[second]
    half = add8(a) * np.float32(0.5)
    for i, flipped in enumerate(_FLIPPED):
        gain = half
        for k in flipped:
            gain = gain - a[k]
        gains[len(_PAIRS) + i] = np.where(odd == (len(flipped) % 2 == 1), gain, np.float32(0))
    return gains
