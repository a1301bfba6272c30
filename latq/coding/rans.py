"""Entropy coding of small symbols: static frequency table, then interleaved rANS (spec section 8)."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.errors import CorruptError

PRECISION = 12
TOTAL = 1 << PRECISION
MAX_LANES = 32
SYMBOLS_PER_LANE = 512
COST_UNIT = kernels.COST_UNIT

Frequencies = npt.NDArray[np.uint32]


def lanes_for(count: int) -> int:
    """Interleaved streams for ``count`` symbols: a power of two, at most 32, one per 512 symbols or more."""
    return min(MAX_LANES, 1 << max(0, (count // SYMBOLS_PER_LANE).bit_length() - 1))


def normalize(counts: npt.NDArray[np.int64], precision: int = PRECISION) -> Frequencies:
    """Integer frequencies that sum to 2^precision, none zero where the count is not; the most frequent takes the
    rest."""
    total, room = int(counts.sum()), 1 << precision
    freq = np.where(counts > 0, np.maximum(counts * room // total, 1), 0)
    while True:
        surplus = int(freq.sum()) - room
        top = int(freq.argmax())
        freq[top] -= min(surplus, int(freq[top]) - 1)
        if surplus <= 0 or int(freq.sum()) == room:
            return freq.astype(np.uint32)


@lru_cache
def cost_table(precision: int) -> npt.NDArray[np.int64]:
    """Cost of a symbol of frequency 0..2^precision: precision - log2(f) in units of 2^-16 bit; 0 costs one bit more
    than 1. By repeated squaring: libm is not the same everywhere."""
    total = 1 << precision
    table = np.full(total + 1, (precision + 1) * COST_UNIT, np.int64)
    f = np.arange(1, total + 1, dtype=np.uint64)
    exponent = np.zeros(total, np.int64)
    for shift in range(1, precision + 1):
        exponent += f >= 1 << shift
    mantissa = f << (np.uint64(31) - exponent.astype(np.uint64))
    log = exponent.copy()
    for _ in range(16):
        square = mantissa * mantissa >> np.uint64(31)
        carry = square >> np.uint64(32)
        log = log * 2 + carry.astype(np.int64)
        mantissa = square >> carry
    table[1:] = precision * COST_UNIT - log
    return table


COSTS = cost_table(PRECISION)


def size_bound(counts: npt.NDArray[np.int64], freq: Frequencies) -> int:
    """Bytes that :func:`encode` needs at most for symbols with these counts."""
    count = int(counts.sum())
    costs = cost_table(int(freq.sum()).bit_length() - 1)
    bits = int((counts * costs[freq]).sum()) // COST_UNIT
    return 2 * freq.size + 4 * lanes_for(count) + bits // 8 + 16 + count // 4096


def encode(symbols: npt.NDArray[np.uint8], alphabet: int, precision: int = PRECISION) -> bytes:
    """Frequency table (u16 each) and stream of ``symbols`` < ``alphabet``; symbol i in lane i mod the lanes."""
    freq = normalize(kernels.count_symbols(symbols, alphabet), precision)
    lanes = lanes_for(symbols.size)
    return freq.astype("<u2").tobytes() + kernels.rans_encode_symbols(symbols, freq, lanes)


def decode(data: bytes | memoryview, alphabet: int, count: int, precision: int = PRECISION) -> npt.NDArray[np.uint8]:
    """Inverse of :func:`encode`; CorruptError when the table or the stream is not one that it writes."""
    if len(data) < 2 * alphabet:
        raise CorruptError("an entropy-coded section is too short")
    freq = np.frombuffer(data, "<u2", alphabet).astype(np.uint32)
    if int(freq.sum()) != 1 << precision:
        raise CorruptError(
            f"the frequencies of an entropy-coded section sum to {int(freq.sum())}, not {1 << precision}"
        )
    lanes = lanes_for(count)
    symbols = kernels.rans_decode_symbols(data[2 * alphabet :], freq, count, lanes)
    if symbols is None:
        raise CorruptError("an entropy-coded section does not decode to its end state")
    return symbols
