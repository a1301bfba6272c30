"""The definition of every kernel, in plain NumPy; whatever runs instead must agree bit for bit.

Only elementwise IEEE operations in a stated order are used on numbers that decide a bit of a file or of a decode: no
BLAS, no libm, no reduction whose order NumPy may choose. Blocks of 8 entries are laid out coordinate-major, ``(8, N)``.
Lattice points are held in *doubled* coordinates, so that every point of E8 is a vector of integers.

Sources: E8 oracle and nested-lattice (Voronoi) code: Conway & Sloane 1982 and 1983; NestQuant, Savkin et al. 2025.
"""

from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.unsignedinteger]
Blocks = TypeVar("Blocks", F32, I32)

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
SQRT_HALF = np.float32(0.70710678118654752)

# --- results ------------------------------------------------------------------------------------------------------


def placed(x: npt.NDArray[Any], out: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """``x``, or ``out`` filled with it."""
    if out is None:
        return x
    out[...] = x
    return out


# --- sums ---------------------------------------------------------------------------------------------------------


def tree_sum(x: F64) -> F64:
    """Sum over the last axis by halving: entry i takes entry i + half, until one is left (zero-padded to 2^k)."""
    length = x.shape[-1]
    width = 1 << max(length - 1, 0).bit_length()
    half = width // 2
    if half == 0:
        return x[..., 0].copy()
    s = x[..., :half].copy()
    s[..., : length - half] += x[..., half:]
    while half > 1:
        half //= 2
        s = s[..., :half] + s[..., half : 2 * half]
    return s[..., 0]


# --- rotation (spec section 5) ------------------------------------------------------------------------------------


def mix64(z: int) -> int:
    """Finalizer of SplitMix64 (Steele, Lea & Flood 2014) on a 64-bit integer."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return z ^ (z >> 31)


def signs(seed: int, stage: int, length: int) -> F32:
    """``length`` values +1 or -1 of one rotation stage: bit i mod 64 of word i // 64 of a counter-based generator."""
    base = mix64(seed) + (stage << 32)
    words = [mix64((base + (k + 1) * _GOLDEN) & _MASK64) for k in range(-(-length // 64))]
    bits = np.unpackbits(np.array(words, dtype="<u8").view(np.uint8), bitorder="little")[:length]
    return np.where(bits == 1, np.float32(-1), np.float32(1))


def fwht(x: F32) -> F32:
    """Unnormalised Walsh-Hadamard transform of the last axis (a power of two), stages of span 1, 2, 4, ..."""
    length = x.shape[-1]
    span = 1
    while span < length:
        pairs = x.reshape(*x.shape[:-1], length // (2 * span), 2, span)
        out = np.empty_like(pairs)
        np.add(pairs[..., 0, :], pairs[..., 1, :], out=out[..., 0, :])
        np.subtract(pairs[..., 0, :], pairs[..., 1, :], out=out[..., 1, :])
        x = out.reshape(x.shape)
        span *= 2
    return x


def _normalizer(length: int) -> np.float32:
    return np.float32(np.float32(1) / np.sqrt(np.float32(length)))


def rotate(x: F32, seed: int, out: F32 | None = None) -> F32:
    """Randomized Hadamard rotation of the rows of ``x`` (vectors, n), any n >= 1. Returns ``out``, which may be ``x``,
    or a new array."""
    return placed(_rotated(x, seed), out)


def _rotated(x: F32, seed: int) -> F32:
    n = x.shape[-1]
    window = 1 << (n.bit_length() - 1)
    scale = _normalizer(window)
    if window == n:
        return fwht(x * signs(seed, 0, n)) * scale
    y = x.copy()
    for stage in (0, 2):
        y[..., :window] = fwht(y[..., :window] * signs(seed, stage, window)) * scale
        y[..., n - window :] = fwht(y[..., n - window :] * signs(seed, stage + 1, window)) * scale
        if stage == 0:
            _butterfly(y)
    return y


def unrotate(y: F32, seed: int, out: F32 | None = None) -> F32:
    """Inverse of :func:`rotate`: the same steps backwards. Returns ``out``, which may be ``y``, or a new array."""
    return placed(_unrotated(y, seed), out)


def _unrotated(y: F32, seed: int) -> F32:
    n = y.shape[-1]
    window = 1 << (n.bit_length() - 1)
    scale = _normalizer(window)
    if window == n:
        return fwht(y) * scale * signs(seed, 0, n)
    x = y.copy()
    for stage in (2, 0):
        x[..., n - window :] = fwht(x[..., n - window :]) * scale * signs(seed, stage + 1, window)
        x[..., :window] = fwht(x[..., :window]) * scale * signs(seed, stage, window)
        if stage == 2:
            _butterfly(x)
    return x


def _butterfly(y: F32) -> None:
    """Rotate entry i against entry i of the last half by 45 degrees, in place; its own inverse."""
    half = y.shape[-1] // 2
    first, last = y[..., :half].copy(), y[..., -half:].copy()
    y[..., :half] = (first + last) * SQRT_HALF
    y[..., -half:] = (first - last) * SQRT_HALF


# --- E8 (spec section 6) ------------------------------------------------------------------------------------------


def nearest_point(y: F32) -> I32:
    """Nearest point of E8 to each column of ``y`` (8, N), in doubled coordinates.

    With d = y - rint(y) and a = abs(d), the integer coset costs sum(a^2), plus 1 - 2 max(a) when its parity needs
    repair; the half-integer coset costs sum((1/2 - a)^2), plus 2 min(a). Ties: integer coset, lowest coordinate.
    """
    whole, half, balance = coset_points(y)
    return np.where(balance <= 0, whole, half)


def coset_points(y: F32) -> tuple[I32, I32, F32]:
    """Nearest point of either coset of E8, integer and half-integer, in doubled coordinates, and how much farther the
    first is than the second (squared)."""
    r = np.rint(y)
    d = y - r
    side = np.where(d < 0, np.float32(-1), np.float32(1))
    a = np.abs(d)
    whole = r.astype(np.int32)
    half = whole * 2 + side.astype(np.int32)
    whole_odd = (add8(whole) & 1) == 1
    half_odd = (add8(half) & 3) == 2
    high, low = a.max(axis=0), a.min(axis=0)
    balance = add8(a) - np.float32(2)
    balance = balance + np.where(whole_odd, np.float32(1) - high - high, np.float32(0))
    balance = balance - np.where(half_odd, low + low, np.float32(0))
    _flip(whole, side, a.argmax(axis=0), whole_odd, 1)
    _flip(half, -side, a.argmin(axis=0), half_odd, 2)
    return whole * 2, half, balance


def representative(point: I32, q: int) -> I32:
    """Point (8, N) of the offset lattice reduced modulo q E8 to the nested (Voronoi) codebook; all doubled integers.

    The nearest point of q E8 is subtracted. With e = ((p + q) mod 2q) - q and a = abs(e), the even coset wins when
    sum(a) - 4q + 2 [odd] (q - max a) - 2 [odd'] min a <= 0: the same rule as :func:`nearest_point`, in integers.
    """
    e = (point + np.int32(q)) % np.int32(2 * q) - np.int32(q)
    r = (point - e) // np.int32(2 * q)
    a = np.abs(e)
    side: I32 = np.where(e < 0, np.int32(-1), np.int32(1))
    whole_odd = (add8(r) & 1) == 1
    half_odd = (add8(r * 2 + side) & 3) == 2
    high, low = a.max(axis=0), a.min(axis=0)
    balance = add8(a) - np.int32(4 * q)
    balance = balance + np.where(whole_odd, 2 * (q - high), 0) - np.where(half_odd, 2 * low, 0)
    half: I32 = e - side * np.int32(q)
    _flip(e, -side, a.argmax(axis=0), whole_odd, 2 * q)
    _flip(half, side, a.argmin(axis=0), half_odd, 2 * q)
    return np.where(balance <= 0, e, half)


def add8(x: Blocks) -> Blocks:
    """Sum of the 8 rows, left to right."""
    total: Blocks = x[0] + x[1]
    for i in range(2, 8):
        total = total + x[i]
    return total


def _flip(x: I32, side: F32 | I32, where: npt.NDArray[np.intp], needed: npt.NDArray[np.bool_], by: int) -> None:
    """Move coordinate ``where`` of each needed column by ``by`` in the direction ``side``, in place."""
    columns = np.flatnonzero(needed)
    rows = where[columns]
    x[rows, columns] += side[rows, columns].astype(np.int32) * np.int32(by)


def digit_type(q: int) -> np.dtype[np.unsignedinteger]:
    """The smallest dtype that holds digits in [0, q)."""
    return np.dtype(np.uint8 if q <= 1 << 8 else np.uint16)


def to_digits(point: I32, q: int) -> Bits:
    """Digits c in [0, q)^8 of E8 points (8, N) given in doubled coordinates: G^-1 p mod q."""
    c = np.empty_like(point)
    last = point[7]
    c[7] = last
    c[6] = (point[6] - last) >> 1
    for i in range(5, 0, -1):
        c[i] = ((point[i] - last) >> 1) + c[i + 1]
    c[0] = (((point[0] - last) >> 1) + c[1]) >> 1
    digits: Bits = (c % np.int32(q)).astype(digit_type(q))
    return digits


def from_digits(digits: npt.NDArray[np.integer]) -> I32:
    """Doubled coordinates of G c for digits (8, N)."""
    c = digits.astype(np.int32)
    p = np.empty_like(c)
    p[0] = 4 * c[0] - 2 * c[1] + c[7]
    for i in range(1, 6):
        p[i] = 2 * c[i] - 2 * c[i + 1] + c[7]
    p[6] = 2 * c[6] + c[7]
    p[7] = c[7]
    return p


def codeword(digits: npt.NDArray[np.integer], q: int, offset: I32) -> I32:
    """Codewords (8, N), doubled integers with absolute value at most 2q, of digits (8, N); ``offset`` is (8,)."""
    return representative(from_digits(digits) + offset[:, None], q)


def scaled_codewords(
    digits: Bits, q: int, offset: I32, scales: I32, index: U8, dtype: type[np.float32 | np.int16] = np.float32
) -> npt.NDArray[np.float32 | np.int16]:
    """Codewords (8, N) of digits (8, N) times that of the ``scales`` (K,) which each ``index`` (N,) names; in int16
    only where 2 q times the largest of these is in its range."""
    out: npt.NDArray[np.float32 | np.int16] = np.empty(digits.shape, dtype)
    for begin in range(0, digits.shape[1], 1 << 13):  # In slices that stay in the cache.
        part = slice(begin, begin + (1 << 13))
        out[:, part] = codeword(digits[:, part], q, offset) * scales[index[part]]
    return out


# --- bit packing (spec section 7) ---------------------------------------------------------------------------------


def pack_bits(values: npt.NDArray[np.unsignedinteger], width: int) -> bytes:
    """Values of ``width`` bits (1 to 32), least significant bit first, without gaps; zero bits fill the last byte."""
    container = np.dtype("u1" if width <= 8 else "<u2" if width <= 16 else "<u4")
    octets = values.astype(container).view(np.uint8).reshape(-1, container.itemsize)
    bits = np.unpackbits(octets, axis=1, bitorder="little")[:, :width]
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_bits(data: bytes | memoryview, width: int, count: int) -> Bits:
    """Inverse of :func:`pack_bits`; ``data`` holds at least ``count * width`` bits."""
    container = np.dtype("u1" if width <= 8 else "<u2" if width <= 16 else "<u4")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * width, bitorder="little").reshape(count, width)
    padded = np.zeros((count, container.itemsize * 8), np.uint8)
    padded[:, :width] = bits
    values: Bits = np.packbits(padded, axis=1, bitorder="little").view(container)[:, 0]
    return values


def join_digits(digits: U8, radix: int, per_word: int) -> npt.NDArray[np.uint32]:
    """Words of ``per_word`` digits, the first digit least significant; the last word is filled with zeros."""
    padded = np.zeros(-(-digits.size // per_word) * per_word, np.uint32)
    padded[: digits.size] = digits
    columns = padded.reshape(-1, per_word)
    words = np.zeros(columns.shape[0], np.uint32)
    for i in range(per_word - 1, -1, -1):
        words = words * np.uint32(radix) + columns[:, i]
    return words


def split_digits(words: npt.NDArray[np.uint32], radix: int, per_word: int, count: int) -> U8:
    """Inverse of :func:`join_digits`."""
    rest = words
    columns = np.empty((words.size, per_word), np.uint8)
    for i in range(per_word):
        columns[:, i] = rest % np.uint32(radix)
        rest = rest // np.uint32(radix)
    return columns.reshape(-1)[:count]


# Of each radix: digits in a word, and bits of that.
WORDS = {3: (5, 8), 5: (3, 7), 7: (11, 31)}


def unpack_digits(data: bytes | memoryview, radix: int, low_bits: int, count: int) -> Bits | None:
    """Digits (count,) in [0, radix 2^low_bits) from a plane of low bits and, unless the radix is 1, one of words; None
    if a word is out of range. ``data`` holds both."""
    dtype = digit_type(radix << low_bits)
    low_size = -(-count * low_bits // 8)
    digits: Bits = np.zeros(count, dtype)
    if low_bits:
        digits[:] = unpack_bits(data[:low_size], low_bits, count)
    if radix > 1:
        per_word, width = WORDS[radix]
        words = unpack_bits(data[low_size:], width, -(-count // per_word)).astype(np.uint32)
        if words.size and int(words.max()) >= radix**per_word:
            return None
        digits |= split_digits(words, radix, per_word, count).astype(dtype) * dtype.type(1 << low_bits)
    return digits


# --- rANS (spec section 8; Duda 2014, interleaved as in Giesen 2014) ----------------------------------------------

RANS_LOW = 1 << 16


class RansTables:
    """Frequency tables (tables, alphabet), each summing to the same power of two, and what coding derives from them."""

    def __init__(self, frequencies: npt.NDArray[np.uint32]) -> None:
        self.frequencies = frequencies
        self.precision = int(frequencies[0].sum()).bit_length() - 1
        self.freq = frequencies.astype(np.uint64)
        self.start = np.cumsum(self.freq, axis=1) - self.freq

    @cached_property
    def symbol_of(self) -> U8:
        """(tables, 2^precision): the symbol of each slot."""
        symbols = np.arange(self.frequencies.shape[1], dtype=np.uint8)
        return np.stack([np.repeat(symbols, row) for row in self.frequencies])


Row = tuple[U8, npt.NDArray[np.intp]]


def rans_encode(rows: list[Row], tables: RansTables, lanes: int) -> bytes:
    """Final states (u32 per lane), then 16-bit words in the order in which the decoder reads them.

    A row is (symbols, table of each), at most one symbol per lane, lane 0 first. No used symbol has frequency 0.
    """
    precision = np.uint64(tables.precision)
    states = np.full(lanes, RANS_LOW, np.uint64)
    emitted: list[npt.NDArray[np.uint16]] = []
    for symbols, table in reversed(rows):
        f, x = tables.freq[table, symbols], states[: symbols.size]
        full = x >= f << (np.uint64(32) - precision)
        emitted.append(x[full].astype(np.uint16))
        x = np.where(full, x >> np.uint64(16), x)
        start = tables.start[table, symbols]
        states[: symbols.size] = ((x // f) << precision) + x % f + start
    words = np.concatenate(emitted[::-1]) if emitted else np.empty(0, np.uint16)
    return states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


class RansReader:
    """Inverse of :func:`rans_encode`, a row at a time. ``sound`` at the end tells whether the stream was intact."""

    def __init__(self, data: bytes | memoryview, tables: RansTables, lanes: int) -> None:
        self._tables = tables
        whole = len(data) >= 4 * lanes and (len(data) - 4 * lanes) % 2 == 0
        self._states = np.frombuffer(data, "<u4", lanes if whole else 0).astype(np.uint64)
        self._words = np.frombuffer(data, "<u2", offset=4 * lanes if whole else len(data)).astype(np.uint64)
        self._position = 0
        self._intact = whole

    def row(self, table: npt.NDArray[np.intp]) -> U8:
        """Symbols of one row, given the table of each; zeros once the stream has run dry."""
        tables, precision = self._tables, np.uint64(self._tables.precision)
        x = self._states[: table.size]
        slot = x & np.uint64((1 << tables.precision) - 1)
        if x.size < table.size:
            return np.zeros(table.size, np.uint8)
        symbols: U8 = tables.symbol_of[table, slot]
        x = tables.freq[table, symbols] * (x >> precision) + slot - tables.start[table, symbols]
        empty = np.flatnonzero(x < RANS_LOW)
        if self._position + empty.size > self._words.size:
            self._intact, self._states = False, self._states[:0]
            return np.zeros(table.size, np.uint8)
        x[empty] = (x[empty] << np.uint64(16)) | self._words[self._position : self._position + empty.size]
        self._position += empty.size
        self._states[: table.size] = x
        return symbols

    @property
    def sound(self) -> bool:
        """All words used, every lane back in the state it began with."""
        return self._intact and self._position == self._words.size and bool((self._states == RANS_LOW).all())


def count_symbols(symbols: U8, alphabet: int) -> npt.NDArray[np.int64]:
    """How often each of the ``symbols`` < ``alphabet`` occurs."""
    return np.bincount(symbols, minlength=alphabet).astype(np.int64)


def rans_encode_symbols(symbols: U8, frequencies: npt.NDArray[np.uint32], lanes: int) -> bytes:
    """Stream of symbols by one table (alphabet,); symbol i in lane i mod the lanes."""
    rows = [(row, np.zeros(row.size, np.intp)) for row in np.split(symbols, range(lanes, symbols.size, lanes))]
    return rans_encode(rows, RansTables(frequencies[None]), lanes)


def rans_decode_symbols(
    data: bytes | memoryview, frequencies: npt.NDArray[np.uint32], count: int, lanes: int
) -> U8 | None:
    """Inverse of :func:`rans_encode_symbols`; None if damaged."""
    reader = RansReader(data, RansTables(frequencies[None]), lanes)
    table = np.zeros(lanes, np.intp)
    symbols = [reader.row(table[: count - begin]) for begin in range(0, count, lanes)]
    return np.concatenate(symbols) if reader.sound else None
