"""Vectors one by one in memory, each in as many bytes: for activations and caches (NestQuant, Savkin et al. 2025).

The codebooks are those of fixed coding. A vector is a byte for its size, then digits and scale indices packed like the
digits of the format (spec section 7), each row of symbols in whole bytes.
"""

from functools import cached_property
from itertools import product
from math import ceil, gcd
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import e8_design
from latq.codecs.blocks import BLOCK
from latq.codecs.e8 import E8Params
from latq.coding import packing
from latq.errors import CorruptError, InputError, ParameterError
from latq.kernels.elementary import log2
from latq.limits import MAX_GROUP
from latq.transforms.sizes import power, sizes_of

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

# The byte of a size: 0 for a vector of zeros, else eighths of an octave beyond this.
_SIZE_OFFSET = 128
# Gaussian blocks on which the best gain of a codebook is found.
_TRIAL_BLOCKS = 1 << 12


class _Option(NamedTuple):
    """Effective bits per entry, of nesting ratio ``q`` with these scales."""

    effective: float
    q: int
    scales: tuple[int, ...]


class VectorQuantizer:
    """Codes vectors of ``n`` entries at up to ``bits`` per entry, everything counted: see :func:`latq.quantizer`."""

    def __init__(self, bits: float, n: int, seed: int = 0) -> None:
        if not 1 <= n <= MAX_GROUP:
            raise ParameterError(f"vectors of {n} entries; use 1 to {MAX_GROUP}")
        if not 0 <= seed < 1 << 63:
            raise ParameterError(f"seed {seed} is out of range; use 0 to 2^63 - 1")
        self.n, self._seed, self._blocks = n, seed, -(-n // BLOCK)
        room = int(bits * n / 8) - 1
        options = [option for option in _options() if self._size(option) <= room]
        if not options:
            raise ParameterError(f"{bits:g} bits are too little for vectors of {n} entries; use more")
        best = max(options)
        self._params = E8Params(best.q, best.scales, e8_design.offset_for(best.q))
        self.bytes_per_vector = 1 + self._size(best)

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
        index, digits = self._quantized(kernels.rotate(units, self._seed))
        parts = (_pack(digits, self._params.q), _pack(index, len(self._params.scales)))
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

    def _size(self, option: _Option) -> int:
        """Bytes of digits and indices."""
        return packing.packed_size(self._blocks * BLOCK, option.q) + packing.packed_size(
            self._blocks, len(option.scales)
        )

    def _quantized(self, rotated: F32) -> tuple[U8, npt.NDArray[Any]]:
        """Scale indices (vectors, blocks) and digits (vectors, 8 blocks) of least error."""
        padded = np.zeros((len(rotated), self._blocks * BLOCK), np.float32)
        padded[:, : self.n] = rotated
        index, digits, _ = self._nearest(padded.reshape(-1, BLOCK).T)
        return index.reshape(len(rotated), -1), np.ascontiguousarray(digits.T).reshape(len(rotated), -1)

    def _nearest(self, blocks: F32) -> tuple[U8, npt.NDArray[Any], F32]:
        """Scale index (N,) of least error, digits and integers (8, N) of blocks (8, N)."""
        code = self._params.code
        index = kernels.choose_scales(blocks, code, np.zeros((kernels.PRICES, len(code.steps)), np.float32))[0]
        digits, integers, _ = kernels.quantize(blocks, index, code)
        return index, digits, integers

    def _integers(self, codes: U8) -> tuple[F32, npt.NDArray[np.float64]]:
        """Integers (vectors, n) in rotated coordinates and the gain of each vector."""
        codes = np.asarray(codes)
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != self.bytes_per_vector:
            raise CorruptError(f"codes of shape {codes.shape} where (vectors, {self.bytes_per_vector}) bytes belong")
        params, count = self._params, self._blocks * BLOCK
        end = 1 + packing.packed_size(count, params.q)
        digits = _unpack(codes[:, 1:end], params.q, count)
        index = _unpack(codes[:, end:], len(params.scales), self._blocks).astype(np.uint8, copy=False).reshape(-1)
        offset, scales = np.array(params.offset, np.int32), np.array(params.scales, np.int32)
        blocks = digits.reshape(-1, BLOCK).T
        words = kernels.scaled_codewords(blocks, params.q, offset, scales, index).T.astype(np.float32, copy=False)
        integers = np.ascontiguousarray(words.reshape(len(codes), count)[:, : self.n])
        return integers, _gains(codes[:, 0].astype(np.int64) - _SIZE_OFFSET) * self._unit

    @cached_property
    def _unit(self) -> float:
        """What an integer counts for in a vector of mean square 1: that of the least error for Gaussian ones."""
        blocks = np.random.default_rng(0).standard_normal((_TRIAL_BLOCKS, BLOCK)).astype(np.float32).T
        words = self._nearest(blocks)[2].astype(np.float64)
        return float((blocks * words).sum() / (words * words).sum())


def _options() -> list[_Option]:
    ratios = [q for q in range(2, 129) if packing.is_packable(q)]
    return [
        _Option(log2(q) + table.gains[-1][1], q, table.scales)
        for q, place in product(ratios, range(4))
        if packing.is_packable(len((table := e8_design.tables_for(q)[place]).scales))
    ]


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
