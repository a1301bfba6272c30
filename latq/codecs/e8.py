"""Codec e8 with fixed coding: nested-lattice digits of constant length and a scale index per block of 8 entries.

Numbers enter as a flat stream of unit mean square and leave as integers in a common unit, so that a decoded entry is
one integer times one stored scale. Source: NestQuant (Savkin et al. 2025) section 3; scales by rate-distortion cost.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import e8_design
from latq.codecs.blocks import BLOCK, F32, blocks_of, count_of, stream_of
from latq.coding import packing, rans
from latq.errors import CorruptError

F64 = npt.NDArray[np.float64]
# Blocks are quantized in slices that stay in the cache.
_SLICE = 1 << 13
# Blocks on which the price of a bit is searched, the prices tried in units of 1/64 of the mean error, and how often the
# price is adjusted on all blocks.
_SAMPLE = 1 << 12
_PRICES = [0.25 * 1.5**k for k in range(24)]
_FITS = 7


@dataclass(frozen=True)
class E8Params:
    """Nesting ratio, integer scales and lattice offset (doubled coordinates): all that a decoder needs."""

    q: int
    scales: tuple[int, ...]
    offset: tuple[int, ...]


def digits_size(count: int, q: int) -> int:
    """Bytes of the packed digits of ``count`` entries."""
    return packing.packed_size(count_of(count) * BLOCK, q)


def smallest_index_size(count: int, scales: int) -> int:
    """Bytes below which no budget for the scale indices of ``count`` entries can be kept."""
    one_scale = np.array([count_of(count)] + [0] * (scales - 1), np.int64)
    return rans.size_bound(one_scale, rans.normalize(one_scale))


def encode(x: F32, params: E8Params, index_budget: int) -> tuple[bytes, bytes, F32]:
    """Code ``x`` (count,) of unit mean square: (scale-index section, digit section, decoded integers (count,)).

    The scale-index section is kept within ``index_budget`` bytes by charging its bits against the squared error.
    """
    words, errors = _candidates(np.ascontiguousarray(blocks_of(x)), params)
    index = choose_scales(errors, index_budget)
    chosen = np.take_along_axis(words, index[None, None, :].astype(np.intp), axis=0)[0].astype(np.int32)
    digits = kernels.to_digits(chosen - np.array(params.offset, np.int32)[:, None], params.q)
    section = rans.encode(index, len(params.scales))
    flat = np.ascontiguousarray(digits.T).reshape(-1)
    integers = chosen * np.array(params.scales, np.int32)[index]
    return section, packing.pack(flat, params.q), stream_of(integers)[: x.size]


def decode(index_section: bytes | memoryview, digit_section: bytes | memoryview, params: E8Params, count: int) -> F32:
    """Integers (count,) as float32, exact; CorruptError when a section is damaged."""
    blocks = count_of(count)
    if len(digit_section) != digits_size(count, params.q):
        raise CorruptError(f"{len(digit_section)} bytes of digits where {digits_size(count, params.q)} belong")
    index = rans.decode(index_section, len(params.scales), blocks)
    digits = packing.unpack(digit_section, params.q, blocks * BLOCK)
    return _integers(digits.reshape(-1, BLOCK).T, index, params)[:count]


def _candidates(blocks: F32, params: E8Params) -> tuple[npt.NDArray[np.int16], F32]:
    """Codewords (scales, 8, N) and errors (scales, N) of every block; infinite at a scale that is far too small."""
    count = blocks.shape[1]
    offset = np.array(params.offset, np.int32)
    words = np.empty((len(params.scales), BLOCK, count), np.int16)
    errors = np.empty((len(params.scales), count), np.float32)
    for begin in range(0, count, _SLICE):
        part = np.ascontiguousarray(blocks[:, begin : begin + _SLICE])
        least = np.full(part.shape[1], np.inf, np.float32)
        for j in range(len(params.scales) - 1, -1, -1):
            step = np.float32(e8_design.UNIT / params.q * params.scales[j])
            w, e = kernels.quantize(part, step, params.q, offset, least)
            words[j, :, begin : begin + _SLICE] = w
            errors[j, begin : begin + _SLICE] = e
            least = np.minimum(least, e)
    return words, errors


def choose_scales(errors: F32, budget: int) -> npt.NDArray[np.uint8]:
    """Scale index per block (of errors (scales, N)): about the least error whose coded indices fit ``budget`` bytes.

    Bits are charged at a price, at least a small fraction of what they can gain. The size jumps as scales fall out of
    use, so a ladder of prices is tried on every so many blocks, the best refined, and then fitted to all blocks.
    """
    scales, count = errors.shape
    totals = [_total(row) for row in errors]
    single = min(range(scales), key=totals.__getitem__)
    sample = errors[:, :: max(1, count // _SAMPLE)]
    sample_budget = budget * sample.shape[1] // count
    unit = _total(sample.min(axis=0)) / sample.shape[1] / 64
    tried = [_at_price(sample, unit * factor, sample_budget) for factor in _PRICES]
    best = min(range(len(_PRICES)), key=lambda i: tried[i].error)
    choice, dearer = tried[best], tried[max(best - 1, 0)]
    for _ in range(5):
        middle = _at_price(sample, (dearer.price + choice.price) / 2, sample_budget)
        if middle.error <= choice.error:
            choice = middle
        else:
            dearer = middle
    # What lies between the two is reached from the code lengths of the one that is too large.
    fitted = [_fit(errors, start, budget, unit * _PRICES[0]) for start in (choice, dearer)]
    rest = np.full(count, single, np.uint8)
    return min([rest, *(index for index in fitted if index is not None)], key=lambda i: _total(_chosen(errors, i)))


@dataclass(frozen=True)
class _Choice:
    """A price, the code lengths that go with it, and the total squared error (infinite when over budget)."""

    price: float
    lengths: F64
    error: float


def _at_price(errors: F32, price: float, budget: int) -> _Choice:
    """Least error + price * code length, with code lengths fitted to the choice in a few rounds."""
    scales = len(errors)
    lengths = np.full(scales, 3.0)
    for _ in range(10):
        index = _cheapest(errors, price * lengths)
        before, lengths = lengths, _code_lengths(index, scales)
        if (lengths == before).all():
            break
    fits = _index_size(index, scales) <= budget
    return _Choice(price, lengths, _total(_chosen(errors, index)) if fits else np.inf)


def _fit(errors: F32, start: _Choice, budget: int, floor: float) -> npt.NDArray[np.uint8] | None:
    """Scale indices within ``budget`` bytes at about the lowest price above ``floor``, for the code lengths given."""
    price, low, high, best = start.price, 0.0, np.inf, None
    for attempt in range(40):
        index = _cheapest(errors, price * start.lengths)
        if _index_size(index, len(errors)) <= budget:
            best, high = index, price
        else:
            low = price
        if best is not None and (high <= floor or attempt >= _FITS):
            break
        price = price * 1.06 if high == np.inf else max(price / 1.06, floor) if low == 0 else (low + high) / 2
    return best


def _cheapest(errors: F32, charges: F64) -> npt.NDArray[np.uint8]:
    """Scale of least error + charge per block."""
    cost = errors + charges.astype(np.float32)[:, None]
    index: npt.NDArray[np.uint8] = cost.argmin(axis=0).astype(np.uint8)
    return index


def _chosen(errors: F32, index: npt.NDArray[np.uint8]) -> F32:
    chosen: F32 = np.take_along_axis(errors, index[None].astype(np.intp), axis=0)[0]
    return chosen


def _total(errors: F32) -> float:
    return float(kernels.tree_sum(errors.astype(np.float64)))


def _code_lengths(index: npt.NDArray[np.uint8], scales: int) -> F64:
    """Bits of each scale index under the table that would be stored; an unused one costs 13."""
    counts = np.bincount(index, minlength=scales).astype(np.int64)
    return rans.COSTS[rans.normalize(counts)] / rans.COST_UNIT


def _index_size(index: npt.NDArray[np.uint8], scales: int) -> int:
    counts = np.bincount(index, minlength=scales).astype(np.int64)
    return rans.size_bound(counts, rans.normalize(counts))


def _integers(digits: npt.NDArray[np.uint16], index: npt.NDArray[np.uint8], params: E8Params) -> F32:
    """Codewords of ``digits`` times the scale of their block, as a flat stream."""
    offset, scales = np.array(params.offset, np.int32), np.array(params.scales, np.int32)
    return stream_of(kernels.scaled_codewords(digits, params.q, offset, scales[index]))
