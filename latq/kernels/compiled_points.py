"""The native kernels for points of E8 and paths through a trellis, as those of compiled.py.

Native blocks are 8 numbers in a row: arrays (8, N) that come from here, or from a stream, are views of that.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from latq.kernels import _core, paths
from latq.kernels.compiled import as_int32, new_array
from latq.kernels.packed_model import packed, path_pairs
from latq.kernels.paths import Trellis
from latq.kernels.points import BLOCK, I64, WORTH, Classes, Decoded, PointModel, PointStream, shrinkage
from latq.kernels.reference import F32, I32

# --- points of E8 -------------------------------------------------------------------------------------------------


def choose_points(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, shrink: np.float32 | None = None
) -> tuple[I32, int]:
    rows = np.ascontiguousarray(x.T, np.float32)
    found = new_array(rows.shape, np.int32)
    inverse = float(np.float32(1) / step)
    if model is None:
        _core.nearest_points(rows, found, inverse)
        return found.T, 0
    factors = float(WORTH), float(shrinkage(step) if shrink is None else shrink)
    return found.T, _core.choose_points(rows, as_int32(classes), inverse, *factors, packed(model), found)


def point_costs(points: I32, classes: Classes, model: PointModel) -> I64:
    return _costs(_core.point_costs, points, classes, model)


def encode_points(points: I32, classes: Classes, model: PointModel, lanes: int) -> tuple[bytes, bytes]:
    return _encoded(_core.encode_points, points, classes, model, lanes)


def decode_points(streams: Sequence[PointStream], model: PointModel, narrow: bool = False) -> list[Decoded | None]:
    found: list[Decoded | None] = [None] * len(streams)
    left = list(range(len(streams)))
    # With low bits points are hardly ever within 8.
    narrower = (np.int16,) if model.shifts.any() else (np.int8, np.int16)
    for dtype in narrower if narrow else ():
        left = _decode(streams, left, model, dtype, found)
    _decode(streams, left, model, np.float32, found)
    return found


_DECODERS = {1: _core.decode_points8, 2: _core.decode_points16, 4: _core.decode_points}


def _decode(
    streams: Sequence[PointStream],
    numbers: list[int],
    model: PointModel,
    dtype: type[np.int8 | np.int16 | np.float32],
    found: list[Decoded | None],
) -> list[int]:
    """Into ``found`` those of the streams that are sound and within ``dtype``; returns those that are beyond it."""
    if not numbers:
        return []
    given = []
    for number in numbers:
        stream, rest, classes, lanes = streams[number]
        out = new_array((classes.size, BLOCK), dtype)
        found[number] = out.T
        own = as_int32(classes) if model.first.size > 1 else _zeros(classes.size)
        given.append((np.frombuffer(stream, np.uint8), np.frombuffer(rest, np.uint8), own, lanes, out))
    outcomes = _DECODERS[np.dtype(dtype).itemsize](given, packed(model))
    beyond = []
    for number, outcome in zip(numbers, outcomes, strict=True):
        if outcome != _core.Found.SOUND:
            found[number] = None
        if outcome == _core.Found.BEYOND:
            beyond.append(number)
    return beyond


@lru_cache(maxsize=2)
def _zeros(count: int) -> I32:
    """Classes of blocks where there is one class."""
    return np.zeros(count, np.int32)


def _costs(kernel: Callable[..., None], points: I32, classes: Classes, model: PointModel) -> I64:
    costs = np.empty(points.shape[1], np.int64)
    kernel(as_int32(points.T), as_int32(classes), packed(model), costs)
    return costs


def _encoded(
    kernel: Callable[..., tuple[int, int]], points: I32, classes: Classes, model: PointModel, lanes: int
) -> tuple[bytes, bytes]:
    states, escapes = np.empty(lanes, np.uint32), new_array((points.size,), np.int32)
    words = new_array((points.size + _core.WORDS_SLACK,), np.uint16)
    low = new_array((model.low_size(classes),), np.uint8)
    args = lanes, packed(model), states, words, escapes, low
    coded, escaped = kernel(as_int32(points.T), as_int32(classes), *args)
    stream = b"".join((states.data, words[words.size - coded :].data))
    return stream, escapes[escapes.size - escaped :].tobytes() + low.tobytes()


# --- paths through a trellis --------------------------------------------------------------------------------------


def choose_paths(
    x: F32, classes: Classes, step: np.float32, model: PointModel | None, trellis: Trellis, lanes: int
) -> tuple[I32, int]:
    if (trellis.h0, trellis.h1) not in _core.TRELLISES:
        return paths.choose_paths(x, classes, step, model, trellis, lanes)
    rows = np.ascontiguousarray(x.T, np.float32)
    found = new_array(rows.shape, np.int32)
    weights, tables = (path_pairs(model), packed(model)) if model else (None, None)
    which = _core.TRELLISES.index((trellis.h0, trellis.h1))
    inverse = float(np.float32(2) / step)
    return found.T, _core.choose_paths(rows, as_int32(classes), lanes, inverse, weights, tables, which, found)


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
    found = new_array((classes.size, BLOCK), np.float32)
    octets = np.frombuffer(stream, np.uint8), np.frombuffer(rest, np.uint8)
    checks = trellis.h0, trellis.h1
    return found.T if _core.decode_paths(*octets, as_int32(classes), lanes, packed(model), *checks, found) else None
