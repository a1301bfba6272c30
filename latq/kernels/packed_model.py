"""Tables of a model of points as the native kernels read them (native/kernels.hpp, PointModel)."""

from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from latq.kernels import _core
from latq.kernels.compiled import as_int32
from latq.kernels.paths import path_weights
from latq.kernels.points import BLOCK, ESCAPE, EVEN, FIRST, LAST, PointModel, point_costs
from latq.kernels.reference import I32

U32 = npt.NDArray[np.uint32]

# In 2^14: the share of values that are looked up in memory where they occur.
_RARE = 24
_PAIRS: WeakKeyDictionary[PointModel, I32] = WeakKeyDictionary()
_PACKED: WeakKeyDictionary[PointModel, _core.PointModel] = WeakKeyDictionary()


def packed(model: PointModel) -> _core.PointModel:
    """Made once per model."""
    if model not in _PACKED:
        _PACKED[model] = _pack(model)
    return _PACKED[model]


def path_pairs(model: PointModel) -> I32:
    """The weights of integers along paths: each in 16 bits, and above it the next one of its class; made once."""
    if model not in _PAIRS:
        weights = path_weights(model)
        _PAIRS[model] = as_int32((weights & 0xFFFF) | np.roll(weights, -1, axis=1) << 16)
    return _PAIRS[model]


def _pack(model: PointModel) -> _core.PointModel:
    """Entries of coded values are offset by 128, 0 being the escape and all that a table lacks."""
    frequencies, starts = model.rans.frequencies, model.rans.start.astype(np.uint32)
    tables = np.arange(len(frequencies))[:, None]
    # Entry of each symbol; those of frequency 0 fall on the escape, which is set last.
    entry = np.where(frequencies > 0, model.values + 128, 0)
    entry[:, ESCAPE] = 0
    of_values, costs = (np.repeat(x[:, [ESCAPE]], 256, axis=1) for x in (frequencies, model.costs))
    of_values[tables, entry] = frequencies | starts << np.uint32(16)
    costs[tables, entry] = model.costs
    of_values[:, 0], costs[:, 0] = frequencies[:, ESCAPE], model.costs[:, ESCAPE]
    slots = np.repeat(entry.astype(np.uint8).reshape(-1), frequencies.reshape(-1))
    padded = np.concatenate([slots, np.zeros(3, np.uint8)])
    shifted, place = (model.shifts > 0)[:, None, None], np.arange(256)
    value = np.where(shifted, place - 128, 2 * (place % 128 - 64) + place // 128)
    kinds = np.stack([np.full(256, FIRST), EVEN + place // 128, LAST + (2 * place + place // 128) % 4])
    at = model.first[:, None, None] + np.where(shifted, FIRST, kinds), value + 128
    classes = np.arange(model.first.size)
    origin = point_costs(np.zeros((BLOCK, classes.size), np.int32), classes, model)
    windows = _windows(of_values[at], shifted)
    ranges = _ranges(model, of_values, windows)
    of_classes = as_int32(model.first), as_int32(model.shifts), as_int32(origin), windows, ranges
    return _core.point_model(padded, of_values, of_values[at], as_int32(costs[at]), *of_classes)


def _windows(infos: U32, shifted: npt.NDArray[np.bool_]) -> I32:
    """Of each class how many entries about 0 hold nearly all: 32, 64 or 128."""
    place = np.arange(256)
    distance = np.where(shifted, place - 128, place % 128 - 64)
    windows = np.full(len(infos), 128, np.int32)
    for window in (64, 32):
        beyond = ((distance < -window // 2) | (distance >= window // 2)) & (infos >> 16 > 0)
        missed = np.where(beyond, infos & 0xFFFF, 0).sum(axis=2).max(axis=1)
        windows[missed <= _RARE] = window
    return windows


def _ranges(model: PointModel, of_values: U32, windows: I32) -> npt.NDArray[np.uint16]:
    """Starts and frequencies (classes, 2, 3, 256) of the values near 0: of all in ascending order, or of the tables for
    each residue modulo 2 or 4 in turn."""
    ranges = np.zeros((len(windows), 2, 3, 256), np.uint16)
    for c, (first, shift, window) in enumerate(zip(model.first, model.shifts, windows.tolist(), strict=True)):
        size = max(64, window) if shift else 2 * window
        place = np.arange(size)
        for kind, residues in enumerate((1, 1, 1) if shift else (1, 2, 4)):
            residue, rank = place // (size // residues), place % (size // residues) - size // (2 * residues)
            value = rank * residues + residue
            table = first + (0, EVEN, LAST)[kind if residues > 1 else 0] + residue
            found = of_values[table, value + 128]
            known = found >> 16 > 0
            # Values that a table does not have are empty ranges before or behind those that it has.
            ranges[c, 0, kind, :size] = np.where(known, found >> 16, np.where(value < 0, 1, 1 << 14))
            ranges[c, 1, kind, :size] = np.where(known, found & 0xFFFF, 0)
    return ranges
