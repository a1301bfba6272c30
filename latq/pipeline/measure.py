"""How far a compressed tensor is from its original: decoded chunk by chunk, never held in full."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from latq.errors import CorruptError, InputError
from latq.pipeline.decode import Tensor
from latq.pipeline.metadata import RawCodec
from latq.sources import SourceTensor
from latq.theory import bits_lost

Array = npt.NDArray[Any]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Measured:
    """``energy`` and ``error`` are the sums of x^2 and (x - x_hat)^2 over all entries, ``bits`` what they take in the
    file, ``max_error`` the largest |x - x_hat|."""

    entries: int
    bits: float
    energy: float
    error: float
    max_error: float

    @property
    def rate(self) -> float:
        """Bits per entry."""
        return self.bits / self.entries if self.entries else 0.0

    @property
    def mse(self) -> float:
        return self.error / self.entries if self.entries else 0.0

    @property
    def distortion(self) -> float:
        """D: MSE over the mean square of the entries."""
        if self.error == 0:
            return 0.0
        return self.error / self.energy if self.energy > 0 else np.inf

    @property
    def relative_error(self) -> float:
        return sqrt(self.distortion)

    @property
    def bits_lost(self) -> float:
        """Bits above the Shannon limit; -inf without an error."""
        return bits_lost(self.rate, self.distortion)

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """All of ``parts`` as if they were one tensor."""
        found = list(parts)
        return cls(
            sum(p.entries for p in found),
            sum(p.bits for p in found),
            sum(p.energy for p in found),
            sum(p.error for p in found),
            max((p.max_error for p in found), default=0.0),
        )


def measure(
    tensor: Tensor, original: SourceTensor, where: str, *, threads: int = 1, progress: Progress = lambda entries: None
) -> Measured:
    """Decode ``tensor`` against an original of the same shape and dtype; ``where`` names both in messages.

    A lossless tensor has no energies, only a verdict: CorruptError if one bit differs. InputError if the original of a
    quantized one holds NaN, infinity or values beyond float32, which none can have been encoded from.
    """
    target = _Identity(tensor, original, where) if is_lossless(tensor) else _Distance(tensor, original, where)
    tensor.decode_into(target, threads=threads, progress=progress)
    return Measured(tensor.size, tensor.bits_per_entry * tensor.size, target.energy, target.error, target.max_error)


def is_lossless(tensor: Tensor) -> bool:
    """Whether the tensor is kept bit by bit."""
    return isinstance(tensor.codec, RawCodec)


class _Comparison:
    """An array to decode into: instead of being kept, every block is held against the same block of the original."""

    def __init__(self, tensor: Tensor, original: SourceTensor, where: str) -> None:
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.energy = self.error = self.max_error = 0.0
        self._original = original
        self._where = f"{where}: tensor {tensor.name!r}"

    def __getitem__(self, index: tuple[slice, ...], /) -> Array:
        return self._original.read(index)

    def __setitem__(self, index: tuple[slice, ...], block: Array, /) -> None:
        raise NotImplementedError


class _Distance(_Comparison):
    """Sums up the errors of a quantized tensor."""

    def __setitem__(self, index: tuple[slice, ...], block: Array, /) -> None:
        exact = self[index].astype(np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            difference = exact - block.astype(np.float64).ravel()
            self.energy += float(np.vdot(exact, exact))
            self.error += float(np.vdot(difference, difference))
        if not np.isfinite(self.energy + self.error):
            raise InputError(f"{self._where} holds NaN, infinity or huge values, so the file is not its twin")
        self.max_error = max(self.max_error, float(np.abs(difference).max(initial=0.0)))


class _Identity(_Comparison):
    """Refuses a lossless tensor at the first entry that differs."""

    def __setitem__(self, index: tuple[slice, ...], block: Array, /) -> None:
        exact = self[index]
        if exact.tobytes() == block.tobytes():
            return
        differs = (_bytes(exact) != _bytes(block)).any(axis=1).reshape(block.shape)
        first = [int(at) + part.start for at, part in zip(np.argwhere(differs)[0], index, strict=True)]
        raise CorruptError(f"{self._where} is kept lossless, yet differs at {first}; one of the two was changed")


def _bytes(block: Array) -> npt.NDArray[np.uint8]:
    """The bytes of every entry, which tell NaN from NaN and 0 from -0."""
    return np.frombuffer(block.tobytes(), np.uint8).reshape(block.size, -1)
