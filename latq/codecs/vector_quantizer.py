"""Vectors one by one in memory, each in as many bytes: for activations and caches (NestQuant, Savkin et al. 2025).

The codebooks are those of fixed coding. A vector is a byte for its size, then digits packed like those of the format
(spec section 7), then the scale indices of its blocks: of as many as a number of 32 bits can tell, the number of their
sequence among all that cost no more in all.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import ceil, gcd, inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import e8_design, e8_scales
from latq.codecs.blocks import BLOCK
from latq.codecs.e8 import E8Params
from latq.coding import packing
from latq.coding.enumerative import MAX_WIDTH, BoundedSequences
from latq.errors import CorruptError, InputError, ParameterError
from latq.kernels.elementary import log2
from latq.limits import MAX_GROUP
from latq.transforms.sizes import power, sizes_of

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

# The byte of a size: 0 for a vector of zeros, else eighths of an octave beyond this.
_SIZE_OFFSET = 128
# Gaussian blocks on which prices and the best gain of a codebook are found; so many that tables of prices do not count.
_TRIAL_BLOCKS = 1 << 12
_MANY = 1 << 24
# Codebooks that are tried there: the ranking expects as much of few blocks as of many.
_TRIED = 8
# Of the rarest scale index, in units of the costs of indices.
_LARGEST_COST = 40
# What an index is charged where there is room for any: next to nothing.
_FREE = 0.04


class _Option(NamedTuple):
    """Effective bits per entry, of nesting ratio ``q`` with these scales, and the bytes that are left for indices."""

    effective: float
    q: int
    scales: tuple[int, ...]
    left: int


class VectorQuantizer:
    """Codes vectors of ``n`` entries at up to ``bits`` per entry, everything counted: see :func:`latq.quantizer`."""

    def __init__(self, bits: float, n: int, seed: int = 0) -> None:
        if not 1 <= n <= MAX_GROUP:
            raise ParameterError(f"vectors of {n} entries; use 1 to {MAX_GROUP}")
        if not 0 <= seed < 1 << 63:
            raise ParameterError(f"seed {seed} is out of range; use 0 to 2^63 - 1")
        if not 0 < bits < inf:
            raise ParameterError(f"{bits:g} bits per entry is no rate; use a positive number")
        self.n, self._seed, self._blocks = n, seed, -(-n // BLOCK)
        options = list(_options(self._blocks, int(bits * n / 8) - 1))
        if not options:
            raise ParameterError(f"{bits:g} bits are too little for vectors of {n} entries; use more")
        tried = [_Codebook.of(option, self._blocks) for option in heapq.nlargest(_TRIED, options)]
        self._book = min(tried, key=lambda book: book.error)
        self.bytes_per_vector = 1 + self._digits_size + ceil(self._book.groups * self._book.sequences.width / 8)

    @property
    def bits(self) -> float:
        """Bits per entry that a vector takes."""
        return 8 * self.bytes_per_vector / self.n

    def encode(self, x: npt.ArrayLike) -> U8:
        """Codes (vectors, bytes_per_vector) of vectors ``x`` (vectors, n); InputError if one is not finite."""
        vectors = np.ascontiguousarray(x, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.n:
            raise ParameterError(f"an array of shape {vectors.shape} where (vectors, {self.n}) is needed")
        if not np.isfinite(kernels.peak(vectors)):
            raise InputError("vectors with NaN or infinity cannot be coded; clean them first")
        rms = np.sqrt(kernels.row_squares(vectors, 0, np.zeros(len(vectors), np.float32)) / self.n)
        sizes = np.where(rms > 0, np.clip(sizes_of(rms), 1 - _SIZE_OFFSET, _SIZE_OFFSET - 1), -_SIZE_OFFSET)
        units = np.divide(vectors, _gains(sizes)[:, None], out=np.zeros_like(vectors), where=rms[:, None] > 0)
        rotated = np.zeros((len(vectors), self._blocks * BLOCK), np.float32)
        rotated[:, : self.n] = kernels.rotate(units, self._seed)
        found, digits, _ = self._book.nearest(rotated)
        sequences = self._book.sequences
        numbers = sequences.number(found).reshape(len(vectors), -1)
        digits = np.ascontiguousarray(digits.T).reshape(len(vectors), -1)
        parts = (_pack(digits, self._book.params.q), _pack_rows(numbers, sequences.width))
        return np.concatenate([(sizes + _SIZE_OFFSET).astype(np.uint8)[:, None], *parts], axis=1)

    def decode(self, codes: U8) -> F32:
        """Vectors (vectors, n), about those of least squared error; CorruptError for codes of no vector."""
        integers, gains = self._integers(codes)
        found: F32 = kernels.unrotate(integers * gains[:, None].astype(np.float32), self._seed)
        return found

    def dot(self, a: U8, b: U8) -> F32:
        """Inner products (vectors of a, vectors of b) of coded vectors, without undoing the rotation."""
        (left, left_gains), (right, right_gains) = self._integers(a), self._integers(b)
        out = np.empty((len(left), len(right)), np.float32)
        narrow = kernels.narrowed(left), kernels.narrowed(right)
        if narrow[0] is None or narrow[1] is None:
            out[...] = (left * left_gains[:, None]) @ (right * right_gains[:, None]).T
        else:
            kernels.put_products(narrow[0][0], narrow[1][0], left_gains, right_gains, out)
        return out

    @property
    def _digits_size(self) -> int:
        return packing.packed_size(self._blocks * BLOCK, self._book.params.q)

    def _integers(self, codes: U8) -> tuple[F32, npt.NDArray[np.float64]]:
        """Integers (vectors, n) in rotated coordinates and the gain of each vector."""
        codes = np.asarray(codes)
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.bytes_per_vector:
            raise CorruptError(f"codes of shape {codes.shape} where (vectors, {self.bytes_per_vector}) bytes belong")
        params, sequences, count = self._book.params, self._book.sequences, self._blocks * BLOCK
        end = 1 + self._digits_size
        digits = _unpack(codes[:, 1:end], params.q, count)
        numbers = _unpack_rows(codes[:, end:], sequences.width, self._book.groups)
        found = sequences.sequence(numbers.astype(np.int64).reshape(-1))
        if found is None:
            raise CorruptError("the number of a sequence of scale indices is out of range")
        index = np.ascontiguousarray(found.reshape(len(codes), -1)[:, : self._blocks]).reshape(-1)
        offset, scales = np.array(params.offset, np.int32), np.array(params.scales, np.int32)
        blocks = digits.reshape(-1, BLOCK).T
        words = kernels.scaled_codewords(blocks, params.q, offset, scales, index).T.astype(np.float32, copy=False)
        integers = np.ascontiguousarray(words.reshape(len(codes), count)[:, : self.n])
        return integers, _gains(codes[:, 0].astype(np.int64) - _SIZE_OFFSET) * self._book.unit


@dataclass(frozen=True)
class _Codebook:
    """``groups`` of blocks of a vector have a number each, which tells the scales of its blocks; a unit of their costs
    is worth ``price`` where bits are few."""

    params: E8Params
    groups: int
    sequences: BoundedSequences
    price: float

    @classmethod
    def of(cls, option: _Option, blocks: int) -> "_Codebook":
        """With the scales that pay where their indices take the bytes that are left, and costs by the lengths of codes
        for Gaussian blocks."""
        params = E8Params(option.q, option.scales, e8_design.offset_for(option.q))
        used, own = np.arange(len(option.scales)), [_FREE] * len(option.scales)
        if blocks * log2(len(option.scales)) > 8 * option.left:
            budget = option.left * _MANY // blocks
            charges, used = next(e8_scales.tariffs(_trial_blocks(1).T, _MANY, params.code, budget, "default"))
            own = [float(charge) for charge in charges[0]]
        price = max(own) / _LARGEST_COST or 1.0
        costs = [max(round((charge - min(own)) / price), 1) for charge in own]
        costs[own.index(min(own))] = 0
        params = E8Params(option.q, tuple(option.scales[i] for i in used.tolist()), params.offset)
        return cls(params, *_grouped(costs, blocks, 8 * option.left), price)

    def nearest(self, x: F32) -> tuple[U8, npt.NDArray[Any], F32]:
        """Scale indices (groups of all vectors, length) of about the least error, digits and integers (8, N) of the N
        blocks of vectors ``x`` (vectors, 8 blocks)."""
        code, per_vector, length = self.params.code, x.shape[1] // BLOCK, self.sequences.length
        blocks = x.reshape(-1, BLOCK).T
        free = kernels.choose_scales(blocks, code, np.zeros((kernels.PRICES, len(code.steps)), np.float32))[0]
        # Blocks that fill up the last group cost nothing.
        found = np.full((len(x), self.groups * length), self.sequences.cheapest_symbol, np.uint8)
        found[:, :per_vector] = free.reshape(len(x), -1)
        found = found.reshape(-1, length)
        over = np.flatnonzero(self.sequences.cost(found) > self.sequences.budget)
        padded = np.zeros((len(x), self.groups * length, BLOCK), np.float32)
        padded[:, :per_vector] = x.reshape(len(x), per_vector, BLOCK)
        tried = padded.reshape(-1, length, BLOCK)[over].reshape(-1, BLOCK).T
        errors = np.stack(
            [
                kernels.quantize(tried, np.full(tried.shape[1], scale, np.uint8), code)[2].reshape(-1, length)
                for scale in range(len(code.steps))
            ]
        )
        found[over] = self.sequences.cheapest(errors, self.price)
        index = np.ascontiguousarray(found.reshape(len(x), -1)[:, :per_vector]).reshape(-1)
        digits, integers, _ = kernels.quantize(blocks, index, code)
        return found, digits, integers

    @cached_property
    def _moments(self) -> tuple[float, float, float]:
        """Sums x x, x v, v v over Gaussian blocks x and their integers v."""
        x = _trial_blocks(self.groups * self.sequences.length)
        words = self.nearest(x)[2]
        xx, xv, vv = kernels.tree_sum(kernels.row_moments(np.ascontiguousarray(x.reshape(-1, BLOCK).T), words).T)
        return float(xx), float(xv), float(vv)

    @property
    def unit(self) -> float:
        """What an integer counts for in a vector of mean square 1: that of the least error for Gaussian ones."""
        _, xv, vv = self._moments
        return xv / vv

    @property
    def error(self) -> float:
        """Mean squared error of those, over their mean square."""
        xx, xv, vv = self._moments
        return 1 - xv * xv / (xx * vv)


def _options(blocks: int, room: int) -> Iterator[_Option]:
    """Those of which digits and indices of so many blocks fit ``room`` bytes."""
    for q in filter(packing.is_packable, range(2, 129)):
        left = room - packing.packed_size(blocks * BLOCK, q)
        if left >= 0:
            for table in e8_design.tables_for(q):
                yield _Option(log2(q) + table.gain(left / blocks), q, table.scales, left)


def _grouped(costs: list[int], blocks: int, bits: int) -> tuple[int, BoundedSequences]:
    """How many groups of blocks have a number each, and these numbers, of at most so many bits in all: few groups that
    have little to fill up."""

    def fits(groups: int) -> bool:
        return bits // groups <= MAX_WIDTH or len(costs) ** -(-blocks // groups) <= 1 << MAX_WIDTH

    fewest = next(filter(fits, count(1)))
    groups = min(range(fewest, 3 * fewest // 2 + 1), key=lambda groups: -blocks % groups)
    return groups, BoundedSequences(costs, -(-blocks // groups), min(bits // groups, MAX_WIDTH))


def _trial_blocks(blocks: int) -> F32:
    """Gaussian vectors of so many blocks, at least _TRIAL_BLOCKS of these in all."""
    vectors = -(-_TRIAL_BLOCKS // blocks)
    return np.random.default_rng(0).standard_normal((vectors, blocks * BLOCK)).astype(np.float32)


def _gains(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Root mean square of vectors of these sizes, 0 for those of zeros."""
    table = np.array([0.0 if size == -_SIZE_OFFSET else power(size) for size in range(-_SIZE_OFFSET, _SIZE_OFFSET)])
    return table[sizes + _SIZE_OFFSET]


# --- rows of symbols in whole bytes -------------------------------------------------------------------------------


def _pack(symbols: npt.NDArray[Any], q: int) -> U8:
    """Rows (V, count) of symbols below q as bytes (V, :)."""
    radix, low_bits = packing.split_ratio(q)
    low = _pack_rows(symbols & symbols.dtype.type((1 << low_bits) - 1), low_bits)
    if radix == 1:
        return low
    per_word, width = packing.WORDS[radix]
    high = _widened((symbols >> symbols.dtype.type(low_bits)).astype(np.uint8), per_word)
    words = kernels.join_digits(high.reshape(-1), radix, per_word).reshape(len(symbols), -1)
    return np.concatenate([low, _pack_rows(words, width)], axis=1)


def _unpack(data: U8, q: int, count: int) -> npt.NDArray[Any]:
    """Inverse of :func:`_pack`; CorruptError on a word out of range."""
    radix, low_bits = packing.split_ratio(q)
    low_size = packing.packed_size(count, 1 << low_bits)
    low = _unpack_rows(data[:, :low_size], low_bits, count)
    if radix == 1:
        return low
    per_word, width = packing.WORDS[radix]
    words = _unpack_rows(data[:, low_size:], width, ceil(count / per_word)).astype(np.uint32)
    if words.size and int(words.max()) >= radix**per_word:
        raise CorruptError("a packed word is out of range")
    padded = words.shape[1] * per_word
    high = kernels.split_digits(words.reshape(-1), radix, per_word, words.size * per_word).reshape(-1, padded)
    found: npt.NDArray[Any] = (high[:, :count].astype(kernels.digit_type(q)) << low_bits) | low
    return found


def _pack_rows(values: npt.NDArray[Any], width: int) -> U8:
    """Rows of values of ``width`` bits, each in whole bytes."""
    if width == 0:
        return np.empty((len(values), 0), np.uint8)
    padded = _widened(values, 8 // gcd(8, width))
    data = np.frombuffer(kernels.pack_bits(padded.reshape(-1), width), np.uint8).reshape(len(values), -1)
    return data[:, : ceil(values.shape[1] * width / 8)]


def _unpack_rows(data: U8, width: int, count: int) -> npt.NDArray[Any]:
    if width == 0:
        return np.zeros((len(data), count), np.uint8)
    step = 8 // gcd(8, width)
    whole = -(-count // step) * step
    padded = np.zeros((len(data), whole * width // 8), np.uint8)
    padded[:, : data.shape[1]] = data
    return kernels.unpack_bits(padded.tobytes(), width, len(data) * whole).reshape(-1, whole)[:, :count]


def _widened(values: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Rows with zeros up to a multiple of ``step``."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % step)))
