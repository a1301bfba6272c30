"""How far a compressed tensor is from its original: decoded chunk by chunk, never held in full."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from latq.errors import CorruptError, InputError
from latq.pipeline.calibrated import Known
from latq.pipeline.decode import Tensor
from latq.pipeline.metadata import RawCodec
from latq.pipeline.pool import ordered_map
from latq.sources import MatrixView, SourceTensor, boxes
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
    """Hold ``tensor`` against an original of the same shape and dtype; ``where`` names both in messages.

    A lossless tensor has no energies, only a verdict: CorruptError if one bit differs. InputError if the original of a
    quantized one holds NaN, infinity or values beyond float32, which none can have been encoded from.
    """
    where = f"{where}: tensor {tensor.name!r}"
    work = _check_identity if is_lossless(tensor) else _distance
    energy = error = max_error = 0.0
    chunks = range(len(tensor.records))
    parts = ordered_map(lambda c: work(tensor, c, original, where), chunks, threads, within=tensor.expecting(chunks))
    for part in parts:
        energy, error, max_error = energy + part.energy, error + part.error, max(max_error, part.max_error)
        progress(part.entries)
    return Measured(tensor.size, tensor.bits_per_entry * tensor.size, energy, error, max_error)


@dataclass(frozen=True)
class Outputs:
    """Mean squares over inputs of the products with a tensor, and of their errors, each summed over all products;
    ``bits_lost`` is what the rate of the tensor is above reverse water-filling."""

    energy: float
    error: float
    bits_lost: float | None

    @property
    def relative_error(self) -> float:
        return sqrt(self.error / self.energy) if self.energy > 0 else 0.0


def measure_outputs(tensor: Tensor, original: SourceTensor, known: Known, *, threads: int = 1) -> Outputs:
    """Errors that a quantized tensor, whose vectors are whole chunks, makes in the products with its inputs."""
    view, second = MatrixView(original.array, tensor.shape, tensor.axis), known.moments.matrix

    def work(chunk: int) -> tuple[float, float, float]:
        tile, block = tensor.matrix_chunk(chunk, tensor.dtype)
        exact = view.read(tile.v0, tile.v1, tile.e0, tile.e1).astype(np.float64)
        error = exact - block.astype(np.float64)
        sums = [float(np.vdot(x @ second, x)) for x in (exact, error)]
        return float(np.vdot(exact, exact)), sums[0], sums[1]

    chunks = range(len(tensor.records))
    parts = list(ordered_map(work, chunks, threads, within=tensor.expecting(chunks)))
    own, energy, error = (sum(part[i] for part in parts) for i in range(3))
    size = tensor.size
    lost = known.bits_lost(tensor.bits_per_entry, own / size, error / size) if size else None
    return Outputs(energy, error, lost)


def is_lossless(tensor: Tensor) -> bool:
    """Whether the tensor is kept bit by bit."""
    return isinstance(tensor.codec, RawCodec)


class _Part(NamedTuple):
    """What one chunk adds."""

    entries: int
    energy: float = 0.0
    error: float = 0.0
    max_error: float = 0.0


def _distance(tensor: Tensor, chunk: int, original: SourceTensor, where: str) -> _Part:
    """Errors of one chunk of a quantized tensor."""
    tile, block = tensor.matrix_chunk(chunk, tensor.dtype)
    view = MatrixView(original.array, tensor.shape, tensor.axis)
    exact = view.read(tile.v0, tile.v1, tile.e0, tile.e1).astype(np.float64).ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        difference = exact - block.astype(np.float64).ravel()
        energy, error = float(np.vdot(exact, exact)), float(np.vdot(difference, difference))
    if not np.isfinite(energy + error):
        raise InputError(f"{where} holds NaN, infinity or huge values, so the file is not its twin")
    return _Part(tile.entries, energy, error, float(np.abs(difference).max(initial=0.0)))


def _check_identity(tensor: Tensor, chunk: int, original: SourceTensor, where: str) -> _Part:
    """Refuse a chunk of a lossless tensor at the first entry that differs."""
    start, values = tensor.raw_chunk(chunk)
    parts = [original.read(box).ravel() for box in boxes(tensor.shape, start, start + values.size)]
    exact = np.concatenate(parts)
    if exact.tobytes() != values.tobytes():
        at = start + int((_bytes(exact) != _bytes(values)).any(axis=1).argmax())
        first = [int(i) for i in np.unravel_index(at, tensor.shape)] if tensor.shape else []
        raise CorruptError(f"{where} is kept lossless, yet differs at {first}; one of the two was changed")
    return _Part(values.size)


def _bytes(block: Array) -> npt.NDArray[np.uint8]:
    """The bytes of every entry, which tell NaN from NaN and 0 from -0."""
    return np.frombuffer(block.tobytes(), np.uint8).reshape(block.size, -1)
