"""What can stand on either side of a product: compressed tensors and plain arrays, vectors in a common rotation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from hashlib import sha256

import msgspec
import numpy as np
import numpy.typing as npt

from latq.errors import InputError
from latq.pipeline.chunk import RotatedChunk, reconstruct
from latq.pipeline.decode import Tensor
from latq.pipeline.metadata import KEPT_ALL, MatrixCodec
from latq.products.frame import Frame
from latq.products.noise import sizes_of
from latq.products.panel import Panel, narrowed, rotated_ones, squared_norms, together, widened
from latq.sources import MatrixView
from latq.theory import unbiased_noise
from latq.transforms.rotation import rotate, unrotate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)
# Entries of a plain array that are best read together.
_PIECE = 1 << 20


class Operand(ABC):
    """n x m matrix that yields unbiased panels in a given frame."""

    n: int
    m: int
    # Vectors that are stored together.
    _step: int
    # Whether its errors, if it has any, are turned at random, as those of rotated vectors are.
    random: bool
    # Share of the coordinates that are coded.
    kept: float
    # Per entry, of the file or of its share in one; infinite for an exact side.
    bits: float

    @property
    @abstractmethod
    def frames(self) -> list[Frame]:
        """The frames that it is stored in; none if it takes any."""

    @abstractmethod
    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        """Vectors [v0, v1) of one group of ``frame``."""

    def panels(self, group: int, v0: int, v1: int, frame: Frame) -> list[Panel]:
        """The same in several panels, where they are stored so."""
        return [self.panel(group, v0, v1, frame)]

    @property
    @abstractmethod
    def energy(self) -> float:
        """Sum of squares of all entries."""

    @property
    def error_energy(self) -> float:
        """Energy of the error of the unbiased reconstruction: of all vectors together it is known."""
        return 0.0

    def pieces(self, v0: int, v1: int) -> Iterator[tuple[int, int]]:
        """Vectors [v0, v1) in runs that are best asked for together."""
        for first in range(v0 - v0 % self._step, v1, self._step):
            yield max(first, v0), min(first + self._step, v1)

    @property
    def identity(self) -> bytes:
        """The same for two sides only if both have the same vectors and the same errors; empty if there are none."""
        return b""

    def expecting(self, group: int, v0: int, v1: int, frame: Frame) -> AbstractContextManager[None]:
        """A block that will ask for the panels of vectors [v0, v1), about in order, each once."""
        return nullcontext()

    def runs(self, v0: int, v1: int) -> Iterator[tuple[bytes, int, int]]:
        """Where vectors [v0, v1) come from: identity, first vector there, number of vectors."""
        yield self.identity, v0, v1 - v0


class PlainOperand(Operand):
    """An array in original coordinates, exact or decoded."""

    def __init__(self, view: MatrixView, where: str = "operand") -> None:
        self._view, self._where = view, where
        self.n, self.m = view.n, view.m
        self._step = max(1, _PIECE // max(view.n, 1))
        self.random, self.kept, self.bits = True, 1.0, math.inf

    @property
    def frames(self) -> list[Frame]:
        return []

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        e0, e1 = frame.groups[group]
        x = self.entries(v0, v1, e0, e1).astype(np.float32)
        values = rotate(x, frame.rotation, frame.seed)
        return _exact(values, frame)

    def entries(self, v0: int, v1: int, e0: int, e1: int) -> npt.NDArray[np.floating]:
        """Entries [e0, e1) of vectors [v0, v1); InputError if one is not finite in float32."""
        x = self._view.read(v0, v1, e0, e1)
        if x.size and not np.abs(x, dtype=np.float64, casting="unsafe").max() <= _LARGEST:
            raise InputError(f"{self._where} holds NaN, infinity or values beyond float32; clean or rescale it")
        return x

    @cached_property
    def energy(self) -> float:
        total = 0.0
        step = max(1, (1 << 22) // max(self.n, 1))
        for v0 in range(0, self.m, step):
            x = self.entries(v0, min(v0 + step, self.m), 0, self.n).astype(np.float64)
            total += float(np.vdot(x, x))
        return total


class CompressedOperand(Operand):
    """A quantized tensor, taken chunk by chunk without leaving the rotated domain."""

    def __init__(self, tensor: Tensor) -> None:
        assert isinstance(tensor.codec, MatrixCodec)
        self._tensor, self._codec = tensor, tensor.codec
        self.n, self.m = tensor.n, tensor.m
        self._step = tensor.codec.chunk_vectors
        self.random, self.kept = tensor.codec.rotation != "none", tensor.codec.kept / KEPT_ALL
        self.bits = tensor.bits_per_entry

    @property
    def frames(self) -> list[Frame]:
        return [self._frame]

    @property
    def _frame(self) -> Frame:
        return Frame(self.n, self._codec.group, self._codec.rotation, self._codec.seed)

    @property
    def energy(self) -> float:
        return self._tensor.entry.energy

    @property
    def centred_energy(self) -> float:
        return max(self._tensor.entry.energy - self._tensor.entry.mean_energy, 0.0)

    @property
    def error_energy(self) -> float:
        entry, centred = self._tensor.entry, self.centred_energy
        return centred * unbiased_noise(centred, entry.overlap, entry.error)

    @cached_property
    def identity(self) -> bytes:
        entry = self._tensor.entry
        told = (entry.shape, entry.axis, entry.energy, entry.overlap, entry.error, self._codec)
        return sha256(msgspec.msgpack.encode(told) + self._tensor.records.column("payload_crc").tobytes()).digest()

    def expecting(self, group: int, v0: int, v1: int, frame: Frame) -> AbstractContextManager[None]:
        if frame.group != self._frame.group:
            return nullcontext()
        return self._tensor.expecting(self._chunk_numbers(group, v0, v1))

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        return together(self.panels(group, v0, v1, frame))

    def panels(self, group: int, v0: int, v1: int, frame: Frame) -> list[Panel]:
        if frame.group != self._frame.group:
            return [self._regrouped(frame.groups[group], v0, v1, frame)]
        numbers = self._chunk_numbers(group, v0, v1)
        chunks = zip(self._tensor.narrow(numbers), self._rows_of(numbers, v0, v1), strict=True)
        panels = [self._panel(chunk)[rows] for chunk, rows in chunks]
        if frame != self._frame:
            panels = [self._turned(panel, frame) for panel in panels]
        return panels

    def _panel(self, chunk: RotatedChunk) -> Panel:
        """A whole chunk as it is stored."""
        alignment = self._alignment(chunk)
        gains = np.ldexp(chunk.scales / (1 - alignment), chunk.exponent)
        values, squares = narrowed(chunk.integers)
        sizes = sizes_of(_of_one_class(chunk), squares * gains**2, self._noise_share(chunk))
        return Panel(
            values,
            np.where(sizes.lost > 0, 0.0, gains),
            sizes.energies,
            sizes.noises,
            sizes.lost,
            np.minimum(sizes.radii, self._largest_error(chunk)),
            means=np.ldexp(chunk.means, chunk.exponent),
            whole=np.full(len(gains), not self._codec.centre),
            ones=rotated_ones(chunk.length, self._frame),
            fitted=self._codec.classes == 0,
        )

    def _turned(self, panel: Panel, frame: Frame) -> Panel:
        """In the coordinates of another frame of the same groups."""
        block = widened(panel.values, panel.length).astype(np.float32) * panel.gains[:, None].astype(np.float32)
        values = rotate(unrotate(block, self._codec.rotation, self._codec.seed), frame.rotation, frame.seed)
        return replace(panel, values=values, gains=np.ones(len(panel)), ones=rotated_ones(panel.length, frame))

    def _regrouped(self, span: tuple[int, int], v0: int, v1: int, frame: Frame) -> Panel:
        """Entries of a span that cuts across the file's own groups: decoded, means included."""
        length = span[1] - span[0]
        x = np.empty((v1 - v0, length), np.float32)
        noises, lost, most = np.zeros((3, v1 - v0))
        for own, (s0, s1) in enumerate(self._frame.groups):
            low, high = max(span[0], s0), min(span[1], s1)
            at = 0
            for chunk, rows in self._chunks(own, v0, v1) if low < high else []:
                panel = self._panel(chunk)[rows]
                unbiased = replace(chunk, scales=chunk.scales / (1 - self._alignment(chunk)))
                block = reconstruct(unbiased, self._codec, np.dtype(np.float64))[rows, low - s0 : high - s0]
                place = slice(at, at + len(block))
                x[place, low - span[0] : high - span[0]] = block
                noises[place] += panel.all_noises * ((high - low) / (s1 - s0))
                lost[place] += panel.lost * ((high - low) / (s1 - s0))
                most[place] += panel.radii**2
                at += len(block)
        panel = _exact(rotate(x, frame.rotation, frame.seed), frame)
        energies = np.maximum(panel.energies - noises, 0.0)
        return replace(panel, energies=energies, noises=noises, lost=lost, radii=np.sqrt(most), fitted=False)

    def _chunks(self, group: int, v0: int, v1: int) -> Iterator[tuple[RotatedChunk, slice]]:
        """Chunks of a group that hold vectors [v0, v1), with the rows that are asked for."""
        numbers = self._chunk_numbers(group, v0, v1)
        for number, rows in zip(numbers, self._rows_of(numbers, v0, v1), strict=True):
            yield self._tensor.rotated(number), rows

    def _rows_of(self, numbers: range, v0: int, v1: int) -> Iterator[slice]:
        """Rows of chunks that are vectors [v0, v1)."""
        for number in numbers:
            first = self._tensor.tiling.tile(number).v0
            yield slice(max(v0 - first, 0), v1 - first)

    def _chunk_numbers(self, group: int, v0: int, v1: int) -> range:
        tiling = self._tensor.tiling
        first = group * tiling.runs
        return range(first + v0 // tiling.chunk_vectors, first - (-v1 // tiling.chunk_vectors))

    def _alignment(self, chunk: RotatedChunk) -> F64:
        """(V,) 1 - <x, y> / |x|^2 of vectors x and their reconstructions y."""
        if chunk.alignment is not None:
            return chunk.alignment
        entry, centred = self._tensor.entry, self.centred_energy
        # Below 1, and 0 where nothing is left.
        return np.full(len(chunk.scales), 1 - entry.overlap / centred if entry.overlap > 0 and centred > 0 else 0.0)

    def _noise_share(self, chunk: RotatedChunk) -> F64:
        """(V,) what share of an unbiased reconstruction is noise: the alignment, where y is that of least squares. One
        that is made for inputs is not; then only the sums over the tensor tell."""
        if chunk.alignment is not None:
            return chunk.alignment
        noise = self.error_energy / self.centred_energy if self.centred_energy > 0 else 0.0
        return np.full(len(chunk.scales), noise / (1 + noise) if noise < math.inf else 0.0)

    def _largest_error(self, chunk: RotatedChunk) -> float:
        """Bound of the norm of the error of any vector, whatever the chunk tells."""
        if chunk.alignment is None:
            return float(np.sqrt(self.error_energy))
        return float(np.sqrt(self.centred_energy + self.error_energy))


def _of_one_class(chunk: RotatedChunk) -> RotatedChunk:
    """Where nothing is told of the classes and there is one step, the error is the same in every vector."""
    if chunk.alignment is None and chunk.classes is not None and chunk.block_steps is None:
        return replace(chunk, classes=np.zeros_like(chunk.classes))
    return chunk


def _exact(values: F32, frame: Frame) -> Panel:
    """Vectors without errors, rotated."""
    none = np.zeros(len(values))
    return Panel(
        values,
        gains=none + 1,
        energies=squared_norms(values),
        noises=none,
        lost=none,
        radii=none,
        means=none,
        whole=np.full(len(values), True),
        ones=rotated_ones(values.shape[1], frame),
        fitted=True,
    )


@contextmanager
def all_of(blocks: Iterable[AbstractContextManager[None]]) -> Iterator[None]:
    """One block for several."""
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(block)
        yield
