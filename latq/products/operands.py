"""What can stand on either side of a product: compressed tensors and plain arrays, vectors in a common rotation."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq.errors import InputError
from latq.pipeline.chunk import RotatedChunk, reconstruct
from latq.pipeline.decode import Tensor
from latq.pipeline.metadata import MAX_GROUP, MatrixCodec
from latq.sources import MatrixView
from latq.theory import unbiased_noise
from latq.transforms.rotation import Rotation, rotate, unrotate

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Frame:
    """The coordinates in which two operands meet: groups of entries and the rotation of each."""

    n: int
    group: int
    rotation: Rotation
    seed: int

    @property
    def groups(self) -> list[tuple[int, int]]:
        return [(e, min(e + self.group, self.n)) for e in range(0, self.n, max(self.group, 1))]


@dataclass(frozen=True)
class Panel:
    """Vectors of one group, rotated (vectors, length); ``means`` are what was taken out, None if nothing was."""

    rotated: F32
    means: F64 | None


class Operand(ABC):
    """n x m matrix that yields unbiased panels in a given frame."""

    n: int
    m: int

    @property
    @abstractmethod
    def frame(self) -> Frame | None:
        """The frame that it is stored in, or None if it takes any."""

    @abstractmethod
    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        """Vectors [v0, v1) of one group of ``frame``."""

    @property
    @abstractmethod
    def energy(self) -> float:
        """Sum of squares of all entries."""

    @property
    def centred(self) -> bool:
        """Whether means were taken out of the vectors."""
        return False

    @property
    def centred_energy(self) -> float:
        """The part of ``energy`` that quantization errors are relative to."""
        return self.energy

    @property
    def noise(self) -> float:
        """Energy of the error of the unbiased reconstruction, over the centred energy."""
        return 0.0

    @property
    def fitted(self) -> bool:
        """Whether every vector has a scale of its own, fitted to it: then its error is orthogonal to it."""
        return True

    def kept(self, frame: Frame, group: int) -> float:
        """Share of the coordinates of a group of ``frame`` that panels can differ from 0 in."""
        return 1.0

    @property
    def step(self) -> int:
        """Vectors that are best asked for together."""
        return 1

    def expecting(self, v0: int, v1: int) -> AbstractContextManager[None]:
        """A block that will ask for the panels of all groups of vectors [v0, v1)."""
        return nullcontext()


class PlainOperand(Operand):
    """An array in original coordinates, exact or decoded."""

    def __init__(self, view: MatrixView, where: str = "operand") -> None:
        self._view, self._where = view, where
        self.n, self.m = view.n, view.m

    @property
    def frame(self) -> Frame | None:
        return None

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        e0, e1 = frame.groups[group]
        x = self.entries(v0, v1, e0, e1).astype(np.float32)
        return Panel(rotate(x, frame.rotation, frame.seed), None)

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

    @property
    def frame(self) -> Frame:
        return Frame(self.n, self._codec.group, self._codec.rotation, self._codec.seed)

    @property
    def step(self) -> int:
        return self._codec.chunk_vectors

    def expecting(self, v0: int, v1: int) -> AbstractContextManager[None]:
        groups = range(self._tensor.tiling.groups)
        return self._tensor.expecting(c for group in groups for c in self._chunk_numbers(group, v0, v1))

    @property
    def energy(self) -> float:
        return self._tensor.entry.energy

    @property
    def centred_energy(self) -> float:
        return max(self._tensor.entry.energy - self._tensor.entry.mean_energy, 0.0)

    @property
    def noise(self) -> float:
        return unbiased_noise(self.centred_energy, self._tensor.entry.overlap, self._tensor.entry.error)

    @property
    def centred(self) -> bool:
        return self._codec.centre

    @property
    def fitted(self) -> bool:
        return self._codec.classes == 0

    def kept(self, frame: Frame, group: int) -> float:
        if frame != self.frame:
            return 1.0
        e0, e1 = frame.groups[group]
        return self._codec.kept_of(e1 - e0) / (e1 - e0)

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        same_groups = frame.group == self.frame.group
        if frame != self.frame and not same_groups:
            return self._regrouped(frame.groups[group], v0, v1, frame)
        rotated: list[F32] = []
        means: list[F64] = []
        for chunk, rows in self._chunks(group, v0, v1):
            gains = np.ldexp(chunk.scales * self._unbias(chunk), chunk.exponent)
            block = (chunk.padded * gains[:, None].astype(np.float32))[rows]
            if frame != self.frame:
                block = rotate(unrotate(block, self._codec.rotation, self._codec.seed), frame.rotation, frame.seed)
            rotated.append(block)
            means.append(np.ldexp(chunk.means, chunk.exponent)[rows])
        return Panel(np.concatenate(rotated), np.concatenate(means) if self.centred else None)

    def _regrouped(self, span: tuple[int, int], v0: int, v1: int, frame: Frame) -> Panel:
        """Entries of a span that cuts across the file's own groups: decoded, means included."""
        x = np.empty((v1 - v0, span[1] - span[0]), np.float32)
        for own, (s0, s1) in enumerate(self.frame.groups):
            low, high = max(span[0], s0), min(span[1], s1)
            at = 0
            for chunk, rows in self._chunks(own, v0, v1) if low < high else []:
                unbiased = replace(chunk, scales=chunk.scales * self._unbias(chunk))
                block = reconstruct(unbiased, self._codec, np.dtype(np.float64))[rows, low - s0 : high - s0]
                x[at : at + len(block), low - span[0] : high - span[0]] = block
                at += len(block)
        return Panel(rotate(x, frame.rotation, frame.seed), None)

    def _chunks(self, group: int, v0: int, v1: int) -> list[tuple[RotatedChunk, slice]]:
        """Chunks of a group that hold vectors [v0, v1), with the rows that are asked for."""
        found = []
        for number in self._chunk_numbers(group, v0, v1):
            first = self._tensor.tiling.tile(number).v0
            rows = slice(max(v0 - first, 0), v1 - first)
            found.append((self._tensor.rotated(number), rows))
        return found

    def _chunk_numbers(self, group: int, v0: int, v1: int) -> range:
        tiling = self._tensor.tiling
        first = group * tiling.runs
        return range(first + v0 // tiling.chunk_vectors, first - (-v1 // tiling.chunk_vectors))

    def _unbias(self, chunk: RotatedChunk) -> F64 | float:
        """Factor from the least-squares to the unbiased reconstruction."""
        if chunk.alignment is not None:
            return 1.0 / (1.0 - chunk.alignment)
        entry = self._tensor.entry
        return self.centred_energy / entry.overlap if entry.overlap > 0 else 1.0


def choose_frame(a: Operand, b: Operand) -> tuple[Frame, str]:
    """Where the two meet, and a note if that costs a decode."""
    if a.frame is not None and b.frame is not None and a.frame != b.frame:
        return a.frame, "the files differ in groups, rotation or seed: B is turned back and rotated again, tile by tile"
    frame = a.frame or b.frame or Frame(a.n, min(a.n, MAX_GROUP), "none", 0)
    return frame, ""
