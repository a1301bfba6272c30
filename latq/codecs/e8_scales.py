"""Choice of a scale for every block under a budget for the coded indices: least error + price * bits.

The price and the code lengths are found on a sample. All blocks are then chosen for at a few prices about that one, and
the budget is met by changing over from the one to the next at the right place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs.effort import Effort
from latq.coding import rans

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]

# Blocks in the sample, at most. There, a scale is tried only if its estimated error is within this factor of the least.
_SAMPLE = 1 << 13
_NEAR = 2
# The price begins at this share of the mean error of a block and rises by this factor until the indices fit, then the
# last step is halved so often; at each price the code lengths are fitted to the choice in so many rounds.
_LOWEST, _RISE, _HALVINGS, _ROUNDS = 1 / 12, 1.7, 4, 8
# No scale is used at a price so many times the largest error.
_HIGHEST = 100
# Prices about the one found on the sample; while even the higher takes too many bits both rise, but so often at most.
_PRICES = np.array([1 / 1.1, 1.1])
_RAISES = 16
# Parts of a chunk between which the change-over from one price to the next may be.
_PARTS = 16


def choose(x: F32, code: kernels.NestedCode, budget: int, effort: Effort) -> U8:
    """Scale index of every block (8, N): about the least error whose coded indices fit ``budget`` bytes.

    With effort "fast" errors are estimated, not found by quantizing.
    """
    count, scales = x.shape[1], len(code.steps)
    single, tariff = _on_sample(x, code, budget, effort)
    if tariff is None:
        return np.full(count, single, np.uint8)
    used = np.flatnonzero(tariff.used)
    choose_at = kernels.guess_scales if effort == "fast" else kernels.choose_scales
    for raised in range(_RAISES):
        prices = tariff.price * _PRICES * (_PRICES[-1] / _PRICES[0]) ** raised
        charges = (prices[:, None] * tariff.lengths[used]).astype(np.float32)
        index = choose_at(x, code.only(used), charges)
        found = _fitted(index, used, scales, budget)
        if found is not None:
            return found
    return np.full(count, single, np.uint8)


def tariffs(
    x: F32, count: int, code: kernels.NestedCode, budget: int, effort: Effort
) -> Iterator[tuple[F32, npt.NDArray[np.intp]]]:
    """Charges (PRICES, K), all rows the same, for the K scales returned beside them, at rising prices of a bit.

    The first ones bring the indices of ``count`` blocks like ``x`` about to ``budget`` bytes, the last let but one
    scale be chosen. Which scales fall out of use when depends on where the search begins, so it begins from all of
    them, all but the finest, and so on.
    """
    errors = _sampled_errors(x, code, effort)
    single, least = _best_alone(errors)
    found = ((first, _tariff(errors[first:], count, budget)) for first in range(len(errors) - 1))
    better = [(first, tariff) for first, tariff in found if tariff is not None and tariff.error < least]
    if better:
        first, tariff = min(better, key=lambda item: item[1].error)
        used = np.flatnonzero(tariff.used)
        for raised in range(_RAISES):
            charges = tariff.price * _PRICES[-1] ** raised * tariff.lengths[used]
            yield np.tile(charges.astype(np.float32), (kernels.PRICES, 1)), first + used
    yield np.zeros((kernels.PRICES, 1), np.float32), np.array([single])


def _errors(x: F32, code: kernels.NestedCode, effort: Effort) -> F32:
    """Squared errors (K, N) of blocks (8, N) at every scale, but estimates where it is far from the best."""
    errors = kernels.estimated_errors(x, code)
    if effort != "fast":
        near = errors <= errors.min(axis=0) * np.float32(_NEAR)
        for j, tried in enumerate(map(np.flatnonzero, near)):
            index = np.full(tried.size, j, np.uint8)
            errors[j, tried] = kernels.quantize(x.T[tried].T, index, code)[2]
    return errors


@dataclass(frozen=True)
class _Tariff:
    """A price of a bit, the code lengths of all scales, which of them are used, and the total squared error."""

    price: float
    lengths: F64
    used: npt.NDArray[np.bool_]
    error: float


def _on_sample(x: F32, code: kernels.NestedCode, budget: int, effort: Effort) -> tuple[int, _Tariff | None]:
    """The scale that does best alone, and the tariff for ``budget``; None if no tariff does better than that scale."""
    errors = _sampled_errors(x, code, effort)
    single, least = _best_alone(errors)
    tariff = _tariff(errors, x.shape[1], budget)
    return single, tariff if tariff is not None and tariff.error < least else None


def _sampled_errors(x: F32, code: kernels.NestedCode, effort: Effort) -> F32:
    return _errors(np.ascontiguousarray(x.T[:: -(-x.shape[1] // _SAMPLE)]).T, code, effort)


def _best_alone(errors: F32) -> tuple[int, float]:
    """The scale that does best alone, and its total error."""
    totals = [_total(row) for row in errors]
    single = min(range(len(totals)), key=totals.__getitem__)
    return single, totals[single]


def _tariff(errors: F32, count: int, budget: int) -> _Tariff | None:
    """The lowest price, about, at which the indices of ``count`` blocks with ``errors`` (scales, N) of a sample fit.

    None if no price does. None below the first is sought, where bits buy next to nothing. Lengths are carried on from
    price to price, so a scale that falls out of use stays out.
    """
    low, price = 0.0, _total(errors.min(axis=0)) / errors.shape[1] * _LOWEST
    lengths = _lengths(rans.normalize(np.bincount(errors.argmin(axis=0), minlength=len(errors))))
    best: _Tariff | None = None
    halvings = 0
    while halvings < _HALVINGS and price < _HIGHEST * errors.max():
        found, at_price = _at_price(errors, price, lengths, count, budget)
        if found is None:
            low, lengths = price, at_price
        elif low == 0:
            return found
        best = found or best
        halvings += best is not None
        price = price * _RISE if best is None else (low + best.price) / 2
    return best


def _at_price(errors: F32, price: float, lengths: F64, count: int, budget: int) -> tuple[_Tariff | None, F64]:
    """The tariff of a price, if one fits, and its code lengths: they are fitted to the choice, beginning with some."""
    size = np.inf
    for _ in range(_ROUNDS):
        index = kernels.cheapest_scales(errors, (price * lengths[None]).astype(np.float32))[0]
        counts = kernels.count_symbols(index, len(errors)) * count // index.size
        frequencies = rans.normalize(counts)
        before, size = size, rans.size_bound(counts, frequencies)
        if size <= budget:
            error = _total(errors[index, np.arange(index.size)])
            return _Tariff(price, lengths, counts > 0, error), lengths
        lengths = _lengths(frequencies)
        if size - (before - size) > budget:  # Every round saves less than the one before.
            break
    return None, lengths


def _fitted(index: U8, used: npt.NDArray[np.intp], scales: int, budget: int) -> U8 | None:
    """Of choices (P, N) among the scales ``used``, at rising prices, the first that fits ``budget``, after as much of
    the one before as does."""
    size = -(-index.shape[1] // _PARTS)
    parts = [slice(begin, begin + size) for begin in range(0, index.shape[1], size)]
    counts = np.zeros((len(index), len(parts), scales), np.int64)
    for price, row in enumerate(index):
        counts[price][:, used] = [kernels.count_symbols(row[part], used.size) for part in parts]
    fitting = [_size(own.sum(axis=0)) <= budget for own in counts]
    if not any(fitting):
        return None
    best = fitting.index(True)
    low, high = 0, len(parts) if best else 1
    while high - low > 1:
        middle = (low + high) // 2
        mixed = counts[best - 1, :middle].sum(axis=0) + counts[best, middle:].sum(axis=0)
        low, high = (middle, high) if _size(mixed) <= budget else (low, middle)
    mixed_index = np.concatenate([index[best - 1, : low * size], index[best, low * size :]])
    found: U8 = used.astype(np.uint8)[mixed_index]
    return found


def _size(counts: I64) -> int:
    """Bytes of indices with these counts, at most."""
    return rans.size_bound(counts, rans.normalize(counts))


def _lengths(frequencies: rans.Frequencies) -> F64:
    """Bits of each scale index under the table that would be stored; an unused one costs 13."""
    return rans.COSTS[frequencies] / rans.COST_UNIT


def _total(errors: F32) -> float:
    return float(kernels.tree_sum(errors.astype(np.float64)))
