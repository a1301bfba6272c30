"""Codec e8 with fixed coding: nested-lattice digits of constant length and a scale index per block of 8 entries.

Numbers enter as a flat stream of unit mean square and leave as integers in a common unit, so that a decoded entry is
one integer times one stored scale. Source: NestQuant (Savkin et al. 2025) section 3; scales by rate-distortion cost.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import e8_design
from latq.coding import packing, rans
from latq.errors import CorruptError

BLOCK = 8
MAX_SCALES = 16
MAX_SCALE = 255

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
# Blocks are quantized in slices that stay in the cache.
_SLICE = 1 << 13
# Blocks on which the price of a bit is searched, and the prices tried in units of 1/64 of the mean error.
_SAMPLE = 1 << 13
_PRICES = [2.0 * 1.5**k for k in range(19)]


@dataclass(frozen=True)
class E8Params:
    """Nesting ratio, integer scales and lattice offset (doubled coordinates): all that a decoder needs."""

    q: int
    scales: tuple[int, ...]
    offset: tuple[int, ...]


def blocks_of(count: int) -> int:
    """Blocks of 8 that hold ``count`` entries; the last one is padded with zeros."""
    return -(-count // BLOCK)


def digits_size(count: int, q: int) -> int:
    """Bytes of the packed digits of ``count`` entries."""
    return packing.packed_size(blocks_of(count) * BLOCK, q)


def smallest_index_size(count: int, scales: int) -> int:
    """Bytes below which no budget for the scale indices of ``count`` entries can be kept."""
    one_scale = np.array([blocks_of(count)] + [0] * (scales - 1), np.int64)
    return rans.size_bound(one_scale, rans.normalize(one_scale))


def encode(x: F32, params: E8Params, index_budget: int) -> tuple[bytes, bytes, F32]:
    """Code ``x`` (count,) of unit mean square: (scale-index section, digit section, decoded integers (count,)).

    The scale-index section is kept within ``index_budget`` bytes by charging its bits against the squared error.
    """
    padded = np.zeros(blocks_of(x.size) * BLOCK, np.float32)
    padded[: x.size] = x
    blocks = np.ascontiguousarray(padded.reshape(-1, BLOCK).T)
    digits, errors = _candidates(blocks, params)
    index = _choose_scales(errors, index_budget)
    chosen = np.take_along_axis(digits, index[None, None, :].astype(np.intp), axis=0)[0]
    section = rans.encode(index, len(params.scales))
    flat = np.ascontiguousarray(chosen.T).reshape(-1)
    return section, packing.pack(flat, params.q), _integers(chosen, index, params)[: x.size]


def decode(index_section: bytes | memoryview, digit_section: bytes | memoryview, params: E8Params, count: int) -> F32:
    """Integers (count,) as float32, exact; CorruptError when a section is damaged."""
    blocks = blocks_of(count)
    if len(digit_section) != digits_size(count, params.q):
        raise CorruptError(f"{len(digit_section)} bytes of digits where {digits_size(count, params.q)} belong")
    index = rans.decode(index_section, len(params.scales), blocks)
    digits = packing.unpack(digit_section, params.q, blocks * BLOCK)
    return _integers(digits.reshape(-1, BLOCK).T, index, params)[:count]


def _candidates(blocks: F32, params: E8Params) -> tuple[npt.NDArray[np.uint16], F32]:
    """Digits (scales, 8, N) and errors (scales, N) of every block at every scale."""
    count = blocks.shape[1]
    offset = np.array(params.offset, np.int32)
    digits = np.empty((len(params.scales), BLOCK, count), np.uint16)
    errors = np.empty((len(params.scales), count), np.float32)
    for begin in range(0, count, _SLICE):
        part = np.ascontiguousarray(blocks[:, begin : begin + _SLICE])
        for j, scale in enumerate(params.scales):
            step = np.float32(e8_design.UNIT / params.q * scale)
            c, e = kernels.quantize(part, step, params.q, offset, e8_design.SHRINKS)
            digits[j, :, begin : begin + _SLICE] = c
            errors[j, begin : begin + _SLICE] = e
    return digits, errors


def _choose_scales(errors: F32, budget: int) -> npt.NDArray[np.uint8]:
    """Scale index per block: about the least error whose coded indices fit ``budget`` bytes.

    Bits are charged at a price, at least a fraction of what a bit is worth elsewhere in the file. The size jumps as
    scales fall out of use, so a ladder of prices is tried (on every so many blocks) and the best refined.
    """
    scales, count = errors.shape
    totals = [_total(row) for row in errors]
    single = min(range(scales), key=totals.__getitem__)
    sample = errors[:, :: max(1, count // _SAMPLE)]
    sample_budget = budget * sample.shape[1] // count
    price = _total(sample.min(axis=0)) / sample.shape[1] / 64
    tried = [_at_price(sample, price * factor, sample_budget) for factor in _PRICES]
    best = min(range(len(_PRICES)), key=lambda i: tried[i].error)
    low, high = price * _PRICES[max(best - 1, 0)], price * _PRICES[best]
    choice = tried[best]
    for _ in range(5):
        middle = _at_price(sample, (low + high) / 2, sample_budget)
        if middle.error <= choice.error:
            choice, high = middle, (low + high) / 2
        else:
            low = (low + high) / 2
    for _ in range(40):
        index = _cheapest(errors, high * choice.lengths)
        if _index_size(index, scales) <= budget:
            better = _total(np.take_along_axis(errors, index[None].astype(np.intp), axis=0)[0]) < totals[single]
            return index if better else np.full(count, single, np.uint8)
        high *= 1.05
    return np.full(count, single, np.uint8)


@dataclass(frozen=True)
class _Choice:
    """Total squared error (infinite when over budget) and code lengths of one price."""

    error: float
    lengths: F64


def _at_price(errors: F32, price: float, budget: int) -> _Choice:
    """Least error + price * code length, with code lengths fitted to the choice in a few rounds."""
    scales = len(errors)
    lengths = np.full(scales, 3.0)
    index = np.empty(0, np.uint8)
    for _ in range(10):
        index = _cheapest(errors, price * lengths)
        lengths = _code_lengths(index, scales)
    if _index_size(index, scales) > budget:
        return _Choice(np.inf, lengths)
    return _Choice(_total(np.take_along_axis(errors, index[None].astype(np.intp), axis=0)[0]), lengths)


def _cheapest(errors: F32, charges: F64) -> npt.NDArray[np.uint8]:
    """Scale of least error + charge per block."""
    cost = errors + charges.astype(np.float32)[:, None]
    index: npt.NDArray[np.uint8] = cost.argmin(axis=0).astype(np.uint8)
    return index


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
    """Codewords times the scale of their block, as a flat stream."""
    offset, scales = np.array(params.offset, np.int32), np.array(params.scales, np.int32)
    words = kernels.scaled_codewords(digits, params.q, offset, scales[index])
    return np.ascontiguousarray(words.T).reshape(-1)
