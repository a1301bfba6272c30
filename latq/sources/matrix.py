"""Any array seen as a matrix whose rows are the vectors along one contraction axis."""

from collections.abc import Iterator
from math import prod
from typing import cast

import numpy as np

from latq import kernels
from latq.errors import ParameterError
from latq.sources.base import Array, ArrayLike, Index, WritableArray
from latq.sources.files import release_pages, unmapped

# Rows that are read together: of those of usual width, what stays in a cache.
_SLAB_ROWS = 1 << 7


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Index]:
    """Split the flat C-order range [start, stop) over ``shape`` into few hyper-rectangles, in order."""
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    outer, inner = shape[0], shape[1:]
    first, head = divmod(start, prod(inner))
    last, tail = divmod(stop, prod(inner))
    if first == last:
        yield from _within(first, inner, head, tail)
        return
    if head:
        yield from _within(first, inner, head, prod(inner))
        first += 1
    if first < last:
        yield (slice(first, min(last, outer)), *(slice(0, size) for size in inner))
    yield from _within(last, inner, 0, tail)


def _within(position: int, inner: tuple[int, ...], start: int, stop: int) -> Iterator[Index]:
    return ((slice(position, position + 1), *box) for box in boxes(inner, start, stop))


def _slabs(array: ArrayLike, rows: slice, columns: slice) -> Iterator[tuple[slice, Array]]:
    """Part of a 2-D array, some rows at a time: their places among those asked for, and what is in them."""
    if isinstance(array, np.ndarray):
        array, first = unmapped(array), rows.start
    else:  # A source that may have to read more than is asked for is asked once.
        array, first, columns = np.asarray(array[rows, columns]), 0, slice(0, columns.stop - columns.start)
    count = rows.stop - rows.start
    for begin in range(0, count, _SLAB_ROWS):
        end = min(begin + _SLAB_ROWS, count)
        yield slice(begin, end), array[slice(first + begin, first + end), columns]


class MatrixView:
    """``m`` vectors of ``n`` entries each: the entries run along ``axis``, the vectors in C order over the others.

    A 1-D array is one vector, a 0-D array one vector of one entry. Nothing but the asked part is touched.
    """

    def __init__(self, array: ArrayLike, shape: tuple[int, ...], axis: int) -> None:
        ndim = max(len(shape), 1)
        if not -ndim <= axis < ndim:
            raise ParameterError(f"axis {axis} is out of range for shape {shape}; use {-ndim} to {ndim - 1}")
        self.array = array
        self._scalar = not shape
        shape = shape or (1,)
        self._axis = axis % ndim
        self._others = shape[: self._axis] + shape[self._axis + 1 :]
        self.n = shape[self._axis]
        self.m = prod(self._others)

    def read(self, v0: int, v1: int, e0: int, e1: int, scratch: Array | None = None) -> Array:
        """Entries [e0, e1) of the vectors [v0, v1): a C-order array of native byte order, a row per vector.

        It may be a view of the array, not to be changed, or of ``scratch``: as many entries or more of that dtype.
        """
        release_pages()
        if (whole := self.rows(v0, v1, e0, e1)) is not None:
            return whole
        pieces = self._pieces(v0, v1, e0, e1)
        if scratch is None:
            scratch = kernels.new_array(((v1 - v0) * (e1 - e0),), self.array.dtype.newbyteorder("="))
        out = scratch[: (v1 - v0) * (e1 - e0)].reshape(v1 - v0, e1 - e0)
        for rows, index, shape in pieces:
            if len(shape) == 2 and self._axis == 0:
                for entries, block in _slabs(self.array, *index):
                    kernels.copy_transposed(block, out[rows, entries])
                    release_pages()
            else:
                block = np.asarray(self.array[index]).reshape(self._spread(shape))
                out[rows].reshape(shape)[...] = np.moveaxis(block, self._axis, -1)
        return out

    def rows(self, v0: int, v1: int, e0: int, e1: int) -> Array | None:
        """A view of the entries that ``read`` returns, if they lie in memory as it would return them."""
        self._check(v0, v1, e0, e1)
        pieces = list(self._pieces(v0, v1, e0, e1))
        if len(pieces) != 1 or self._scalar or not isinstance(self.array, np.ndarray):
            return None
        _, index, shape = pieces[0]
        found = np.moveaxis(self.array[index].reshape(self._spread(shape)), self._axis, -1)
        if not (found.flags.c_contiguous and found.dtype.isnative):
            return None
        return found.reshape(v1 - v0, e1 - e0)

    def write(self, v0: int, v1: int, e0: int, e1: int, block: Array) -> None:
        """Assign ``block``, laid out as ``read`` returns it."""
        self._check(v0, v1, e0, e1)
        release_pages()
        target = cast(WritableArray, self.array)
        for rows, index, shape in self._pieces(v0, v1, e0, e1):
            if isinstance(target, np.ndarray) and target.ndim == 2 and self._axis == 0:
                kernels.copy_transposed(block[rows], target[index])
                continue
            piece = np.moveaxis(block[rows].reshape(shape), -1, self._axis)
            target[index] = piece.reshape(()) if self._scalar else piece

    def _check(self, v0: int, v1: int, e0: int, e1: int) -> None:
        if not (0 <= v0 <= v1 <= self.m and 0 <= e0 <= e1 <= self.n):
            raise ParameterError(f"block [{v0}:{v1}, {e0}:{e1}] lies outside the {self.m} x {self.n} matrix")

    def _pieces(self, v0: int, v1: int, e0: int, e1: int) -> Iterator[tuple[slice, Index, tuple[int, ...]]]:
        """For every box: its rows in the block, its index in the array, its shape with the entries last."""
        if e0 == e1:
            return
        row = 0
        for box in boxes(self._others, v0, v1):
            sizes = tuple(part.stop - part.start for part in box)
            rows = slice(row, row + prod(sizes))
            index = (*box[: self._axis], slice(e0, e1), *box[self._axis :])
            yield rows, () if self._scalar else index, (*sizes, e1 - e0)
            row = rows.stop

    def _spread(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """``shape`` of a box with its entries moved from the last axis back to the contraction axis."""
        return (*shape[: self._axis], shape[-1], *shape[self._axis : -1])
