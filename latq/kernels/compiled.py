"""The native kernels under the names and signatures of their definitions.

``LATQ_ISA=baseline|avx2|avx512|avx512vnni`` forces an instruction set; all give the same bits.
"""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from latq.kernels import _core, matrices, paths, products, reference, search, vectors
from latq.kernels.codebook import Codebook
from latq.kernels.matrices import Matrix
from latq.kernels.packed_model import packed
from latq.kernels.paths import Trellis
from latq.kernels.points import BLOCK, I64, WORTH, Classes, PointModel, shrinkage
from latq.kernels.products import Integers
from latq.kernels.reference import F32, F64, I32, U8, Bits, RansTables, digit_type
from latq.kernels.search import NestedCode
from latq.kernels.vectors import Floats

U32 = npt.NDArray[np.uint32]


def instruction_sets() -> list[str]:
    """Those that this build and processor have, the best last."""
    return _core.available()


def instruction_set() -> str:
    """The one in use."""
    return _core.active()


def use(name: str) -> None:
    """Switch to another instruction set; ImportError if there is no such one here."""
    if name not in _core.available():
        raise ImportError(f"instruction set {name!r} is not available here; use one of {', '.join(_core.available())}")
    _core.use(name)


if forced := os.environ.get("LATQ_ISA"):
    use(forced)


# --- rotation -----------------------------------------------------------------------------------------------------


def fwht(x: F32) -> F32:
    y = np.array(x, np.float32, order="C")
    _core.fwht(y.reshape(-1, x.shape[-1]))
    return y


def rotate(x: F32, seed: int, out: F32 | None = None) -> F32:
    y = _aligned(x.shape, np.float32) if out is None else out
    n = x.shape[-1]
    _core.rotate(_rows(x), y.reshape(-1, n), _sign_bits(seed, n))
    return y


def unrotate(y: F32, seed: int, out: F32 | None = None) -> F32:
    x = _aligned(y.shape, np.float32) if out is None else out
    n = y.shape[-1]
    _core.unrotate(_rows(y), x.reshape(-1, n), _sign_bits(seed, n))
    return x


def _aligned(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A new array that begins at a whole line of the cache: else vectors straddle two of them, which takes longer."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    octets = np.empty(size + _LINE, np.uint8)
    start = -octets.ctypes.data % _LINE
    return octets[start : start + size].view(dtype).reshape(shape)


_LINE = 64


def _rows(x: F32) -> F32:
    return np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])


@lru_cache(maxsize=64)
def _sign_bits(seed: int, n: int) -> U8:
    """1 where a sign is -1: a row of bytes, the lowest bit first, for every stage."""
    window = 1 << (n.bit_length() - 1)
    stages = range(1 if window == n else 4)
    signs = np.stack([reference.signs(seed, stage, window) for stage in stages])
    return np.packbits(signs < 0, axis=-1, bitorder="little")


# --- points of E8 -------------------------------------------------------------------------------------------------
# Native blocks are 8 numbers in a row: arrays (8, N) that come from here, or from a stream, are views of that.


def choose_points(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, shrink: np.float32 | None = None
) -> tuple[I32, int]:
    rows = np.ascontiguousarray(x.T, np.float32)
    found = np.empty(rows.shape, np.int32)
    inverse = float(np.float32(1) / step)
    if model is None:
        _core.nearest_points(rows, found, inverse)
        return found.T, 0
    factors = float(WORTH), float(shrinkage(step) if shrink is None else shrink)
    return found.T, _core.choose_points(rows, _int32(classes), inverse, *factors, packed(model), found)


def point_costs(points: I32, classes: Classes, model: PointModel) -> I64:
    return _costs(_core.point_costs, points, classes, model)


def encode_points(points: I32, classes: Classes, model: PointModel, lanes: int) -> tuple[bytes, bytes]:
    return _encoded(_core.encode_points, points, classes, model, lanes)


def decode_points(
    stream: bytes | memoryview, rest: bytes | memoryview, classes: Classes, model: PointModel, lanes: int
) -> F32 | None:
    found = np.empty((classes.size, BLOCK), np.float32)
    octets = np.frombuffer(stream, np.uint8), np.frombuffer(rest, np.uint8)
    return found.T if _core.decode_points(*octets, _int32(classes), lanes, packed(model), found) else None


def _costs(kernel: Callable[..., None], points: I32, classes: Classes, model: PointModel) -> I64:
    costs = np.empty(points.shape[1], np.int64)
    kernel(_int32(points.T), _int32(classes), packed(model), costs)
    return costs


def _encoded(
    kernel: Callable[..., tuple[int, int]], points: I32, classes: Classes, model: PointModel, lanes: int
) -> tuple[bytes, bytes]:
    states, escapes = np.empty(lanes, np.uint32), np.empty(points.size, np.int32)
    words = np.empty(points.size + _core.WORDS_SLACK, np.uint16)
    low = np.empty(model.low_size(classes), np.uint8)
    args = lanes, packed(model), states, words, escapes, low
    coded, escaped = kernel(_int32(points.T), _int32(classes), *args)
    stream = states.tobytes() + words[words.size - coded :].tobytes()
    return stream, escapes[escapes.size - escaped :].tobytes() + low.tobytes()


def _int32(x: npt.NDArray[np.signedinteger]) -> I32:
    return np.ascontiguousarray(x, np.int32)


# --- paths through a trellis --------------------------------------------------------------------------------------


def choose_paths(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, trellis: Trellis, lanes: int
) -> tuple[I32, int]:
    if (trellis.h0, trellis.h1) not in _core.TRELLISES:
        return paths.choose_paths(x, classes, step, model, trellis, lanes)
    rows = np.ascontiguousarray(x.T, np.float32)
    found = np.empty(rows.shape, np.int32)
    weights, tables = (_pairs(paths.path_weights(model, step)), packed(model)) if model else (None, None)
    which = _core.TRELLISES.index((trellis.h0, trellis.h1))
    inverse = float(np.float32(2) / step)
    return found.T, _core.choose_paths(rows, _int32(classes), lanes, inverse, weights, tables, which, found)


def path_costs(values: I32, classes: Classes, model: PointModel) -> I64:
    return _costs(_core.path_costs, values, classes, model)


def encode_paths(values: I32, classes: Classes, model: PointModel, lanes: int) -> tuple[bytes, bytes]:
    return _encoded(_core.encode_paths, values, classes, model, lanes)


def decode_paths(
    stream: bytes | memoryview,
    rest: bytes | memoryview,
    classes: Classes,
    model: PointModel,
    trellis: Trellis,
    lanes: int,
) -> F32 | None:
    found = _aligned((classes.size, BLOCK), np.float32)
    octets = np.frombuffer(stream, np.uint8), np.frombuffer(rest, np.uint8)
    checks = trellis.h0, trellis.h1
    return found.T if _core.decode_paths(*octets, _int32(classes), lanes, packed(model), *checks, found) else None


def _pairs(weights: I32) -> I32:
    """Every weight in 16 bits, and above it the next one of its class."""
    return _int32((weights & 0xFFFF) | np.roll(weights, -1, axis=1) << 16)


# --- fixed coding -------------------------------------------------------------------------------------------------

_PRECISIONS = (12, 14)
_MAX_Q = 4096
_WORDS = ((3, 5), (5, 3), (7, 11))


def scaled_codewords(digits: Bits, q: int, offset: I32, scales: I32, index: U8) -> F32:
    if q > _MAX_Q or len(scales) > _core.MAX_SCALES or int(np.abs(offset).max()) > q:
        return reference.scaled_codewords(digits, q, offset, scales, index)
    out = np.empty((digits.shape[1], BLOCK), np.float32)
    rows = np.ascontiguousarray(digits.T, digit_type(q))
    _core.codewords(rows, np.ascontiguousarray(index), _int32(scales), q, _int32(offset), out)
    return out.T


def estimated_errors(x: F32, code: NestedCode) -> F32:
    if not _fits(code):
        return search.estimated_errors(x, code)
    errors = np.empty((len(code.steps), x.shape[1]), np.float32)
    _core.estimated_errors(_blocks(x), _nested(code), errors)
    return errors


def cheapest_scales(errors: F32, charges: F32) -> U8:
    index = np.empty((len(charges), errors.shape[1]), np.uint8)
    _core.cheapest_scales(np.ascontiguousarray(errors), np.ascontiguousarray(charges), index)
    return index


def guess_scales(x: F32, code: NestedCode, charges: F32) -> U8:
    return _scales(_core.guess_scales, x, code, charges) if _fits(code) else search.guess_scales(x, code, charges)


def choose_scales(x: F32, code: NestedCode, charges: F32) -> U8:
    return _scales(_core.choose_scales, x, code, charges) if _fits(code) else search.choose_scales(x, code, charges)


def _scales(kernel: Callable[..., None], x: F32, code: NestedCode, charges: F32) -> U8:
    index = np.empty((search.PRICES, x.shape[1]), np.uint8)
    kernel(_blocks(x), _nested(code), np.ascontiguousarray(charges), index)
    return index


def quantize(x: F32, index: U8, code: NestedCode) -> tuple[Bits, F32, F32]:
    if not _fits(code):
        return search.quantize(x, index, code)
    count = x.shape[1]
    digits: Bits = np.empty((count, BLOCK), digit_type(code.q))
    integers = np.empty((count, BLOCK), np.float32)
    errors = np.empty(count, np.float32)
    _core.quantize(_blocks(x), np.ascontiguousarray(index), _nested(code), digits, integers, errors)
    return digits.T, integers.T, errors


def _fits(code: NestedCode) -> bool:
    return code.q <= _MAX_Q and len(code.steps) <= _core.MAX_SCALES and int(np.abs(code.offset).max()) <= code.q


def _nested(code: NestedCode) -> _core.NestedCode:
    args = code.q, code.offset, code.scales, code.steps, code.inverses, *code.windows()
    return _core.nested_code(*args, _native_book(code.book) if code.book else None)


@lru_cache(maxsize=8)
def _native_book(book: Codebook) -> _core.Codebook:
    groups = np.append(book.groups, np.int32(book.members.size))
    shells = np.append(book.shells, np.int32(len(book.entries)))
    halves = book.lefts.reshape(-1), book.rights.reshape(-1)
    return _core.codebook(
        book.pairs.reshape(-1), *halves, book.members, groups, book.entries.reshape(-1), shells, book.norms
    )


def _blocks(x: F32) -> F32:
    return np.ascontiguousarray(x.T, np.float32)


def pack_bits(values: Bits, width: int) -> bytes:
    data = np.zeros(-(-values.size * width // 8), np.uint8)
    _core.pack_bits(np.ascontiguousarray(values, _container(width)), width, data)
    return data.tobytes()


def unpack_bits(data: bytes | memoryview, width: int, count: int) -> Bits:
    values: Bits = np.empty(count, _container(width))
    _core.unpack_bits(np.frombuffer(data, np.uint8), width, values)
    return values


def join_digits(digits: U8, radix: int, per_word: int) -> U32:
    if (radix, per_word) not in _WORDS:
        return reference.join_digits(digits, radix, per_word)
    words = np.empty(-(-digits.size // per_word), np.uint32)
    _core.join_digits(np.ascontiguousarray(digits), radix, per_word, words)
    return words


def split_digits(words: U32, radix: int, per_word: int, count: int) -> U8:
    if (radix, per_word) not in _WORDS:
        return reference.split_digits(words, radix, per_word, count)
    digits = np.empty(count, np.uint8)
    _core.split_digits(np.ascontiguousarray(words, np.uint32), radix, per_word, digits)
    return digits


def _container(width: int) -> str:
    return "u1" if width <= 8 else "u2" if width <= 16 else "u4"


def count_symbols(symbols: U8, alphabet: int) -> I64:
    counts = np.zeros(256, np.int64)
    _core.count_symbols(np.ascontiguousarray(symbols), counts)
    return counts[:alphabet]


def rans_encode_symbols(symbols: U8, frequencies: U32, lanes: int) -> bytes:
    tables = RansTables(frequencies[None])
    if tables.precision not in _PRECISIONS:
        return reference.rans_encode_symbols(symbols, frequencies, lanes)
    states, words = np.empty(lanes, np.uint32), np.empty(symbols.size + _core.WORDS_SLACK, np.uint16)
    octets = np.ascontiguousarray(symbols)
    count = _core.encode_symbols(octets, lanes, tables.precision, _infos(tables), states, words)
    return states.tobytes() + words[words.size - count :].tobytes()


def rans_decode_symbols(data: bytes | memoryview, frequencies: U32, count: int, lanes: int) -> U8 | None:
    tables = RansTables(frequencies[None])
    if tables.precision not in _PRECISIONS:
        return reference.rans_decode_symbols(data, frequencies, count, lanes)
    symbols = np.empty(count, np.uint8)
    slots = np.concatenate([tables.symbol_of[0], np.zeros(3, np.uint8)])
    octets = np.frombuffer(data, np.uint8)
    sound = _core.decode_symbols(octets, lanes, tables.precision, slots, _infos(tables), symbols)
    return symbols if sound else None


def _infos(tables: RansTables) -> U32:
    """frequency | start << 16 of each symbol of the only table, (256,)."""
    infos = np.zeros(256, np.uint32)
    used = tables.frequencies[0] > 0
    infos[: used.size][used] = (tables.freq[0] | tables.start[0] << np.uint64(16))[used]
    return infos


# --- vectors ------------------------------------------------------------------------------------------------------

# 2^e is a number for |e| up to this; multiplying by it is then what ldexp does.
_MAX_EXPONENT = 1000
# By name: who only describes a file does without the package that defines bfloat16.
_NARROW = ("float16", "bfloat16")


def tree_sum(x: F64) -> F64:
    sums = np.empty(x.shape[:-1], np.float64)
    _core.row_sums(np.ascontiguousarray(x).reshape(-1, x.shape[-1]), 1.0, sums.reshape(-1))
    return sums


def peak(x: Floats) -> float:
    return _core.peak(widened(x).reshape(1, -1))


def row_sums(x: Floats, exponent: int) -> F64:
    if abs(exponent) > _MAX_EXPONENT:
        return vectors.row_sums(x, exponent)
    sums = np.empty(len(x), np.float64)
    _core.row_sums(widened(x), 2.0**-exponent, sums)
    return sums


def row_squares(x: Floats, exponent: int, means: F32) -> F64:
    if abs(exponent) > _MAX_EXPONENT:
        return vectors.row_squares(x, exponent, means)
    sums = np.empty(len(x), np.float64)
    _core.row_squares(widened(x), 2.0**-exponent, means, sums)
    return sums


def divided(x: Floats, exponent: int, means: F32, inverses: F64, out: F32 | None = None) -> F32:
    if abs(exponent) > _MAX_EXPONENT:
        return vectors.divided(x, exponent, means, inverses, out)
    if out is None:
        out = _aligned(x.shape, np.float32)
    _core.divided(widened(x), 2.0**-exponent, means, inverses, out)
    return out


def row_moments(u: F32, v: F32 | I32) -> F64:
    sums = np.empty((len(v), 3), np.float64)
    _core.row_moments(np.ascontiguousarray(u), v if v.flags.c_contiguous else v.copy(), sums)
    return sums


def restored(
    x: F32, scales: F64, means: F64, exponent: int, dtype: np.dtype[Any], out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    narrow = _is_narrow(dtype)
    if abs(exponent) > _MAX_EXPONENT or not (narrow or dtype in (np.float32, np.float64)):
        return vectors.restored(x, scales, means, exponent, dtype, out)
    if out is None:
        out = _aligned(x.shape, dtype)
    args = np.ascontiguousarray(x), scales, means, 2.0**exponent
    if not narrow:
        _core.restored(*args, out)
    elif dtype == np.float16:
        _core.restored_float16(*args, out.view(np.uint16))
    else:
        _core.restored_bfloat16(*args, out.view(np.uint16))
    return out


def widened(x: Floats) -> F32 | F64:
    if not _is_narrow(x.dtype):
        return vectors.widened(x)
    out = _aligned(x.shape, np.float32)
    widen = _core.widen_float16 if x.dtype == np.float16 else _core.widen_bfloat16
    widen(np.ascontiguousarray(x).view(np.uint16).reshape(-1), out.reshape(-1))
    return out


def _is_narrow(dtype: np.dtype[Any]) -> bool:
    return dtype.isnative and dtype.name in _NARROW


def copy_transposed(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    size = source.dtype.itemsize
    alike = source.dtype == target.dtype and size in (1, 2, 4, 8) and source.dtype.kind in "fV"
    if not (alike and _rows_apart(source) and _rows_apart(target)):
        vectors.copy_transposed(source, target)
        return
    _core.transpose(source.view(f"u{size}"), target.view(f"u{size}"))


def _rows_apart(x: npt.NDArray[Any]) -> bool:
    """Whether entries of a row are neighbours, and rows follow each other by whole entries."""
    size = x.dtype.itemsize
    return x.size > 0 and x.strides[1] == size and x.strides[0] >= size * x.shape[1] and x.strides[0] % size == 0


# --- products -----------------------------------------------------------------------------------------------------


def narrowed(x: F32) -> tuple[Integers, F64] | None:
    x, squares = np.ascontiguousarray(x), np.empty(len(x), np.float64)
    for dtype in (np.int8, np.int16):
        values: Integers = np.empty(x.shape, dtype)
        if _core.narrowed(x, values, squares):
            return values, squares
    return None


def add_products(a: Integers, b: Integers, gains_a: F64, gains_b: F64, out: F64) -> None:
    if _rows_apart(out):
        _core.add_products(*_alike(a, b), gains_a, gains_b, out)
    else:
        products.add_products(a, b, gains_a, gains_b, out)


def put_products(a: Integers, b: Integers, gains_a: F64, gains_b: F64, out: F32) -> None:
    if _rows_apart(out):
        _core.put_products(*_alike(a, b), gains_a, gains_b, out)
    else:
        products.put_products(a, b, gains_a, gains_b, out)


def _alike(a: Integers, b: Integers) -> tuple[Integers, Integers]:
    """Both in the wider dtype of the two, in rows whose entries are neighbours."""
    dtype = np.result_type(a, b)
    a, b = (x if x.dtype == dtype and _rows_apart(x) else np.ascontiguousarray(x, dtype) for x in (a, b))
    return a, b


# --- matrices -----------------------------------------------------------------------------------------------------


def subtract_product(c: Matrix, a: Matrix, b: Matrix) -> None:
    if not c.size or not len(b):
        return
    if _rows_apart(c):
        rows: list[Any] = [x if _rows_apart(x) else np.ascontiguousarray(x) for x in (a, b)]
        _core.subtract_product(c, *rows)
    else:
        matrices.subtract_product(c, a, b)
