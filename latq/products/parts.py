"""Operands made of others: some vectors of one, or the vectors of several."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate

from latq.errors import ParameterError
from latq.products.frame import Frame
from latq.products.operands import Operand, all_of
from latq.products.panel import Panel, together


class Part(Operand):
    """Vectors [v0, v1) of another operand. Its energies are those of the whole: what they are at most."""

    def __init__(self, whole: Operand, v0: int, v1: int) -> None:
        self._whole, self._first = whole, v0
        self.n, self.m = whole.n, v1 - v0
        self.random, self.kept, self.bits = whole.random, whole.kept, whole.bits

    @property
    def frames(self) -> list[Frame]:
        return self._whole.frames

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        return self._whole.panel(group, self._first + v0, self._first + v1, frame)

    def expecting(self, group: int, v0: int, v1: int, frame: Frame) -> AbstractContextManager[None]:
        return self._whole.expecting(group, self._first + v0, self._first + v1, frame)

    @property
    def energy(self) -> float:
        return self._whole.energy

    @property
    def error_energy(self) -> float:
        return self._whole.error_energy

    def runs(self, v0: int, v1: int) -> Iterator[tuple[bytes, int, int]]:
        return self._whole.runs(self._first + v0, self._first + v1)

    def pieces(self, v0: int, v1: int) -> Iterator[tuple[int, int]]:
        for first, last in self._whole.pieces(self._first + v0, self._first + v1):
            yield first - self._first, last - self._first


class Stack(Operand):
    """The vectors of several operands, one after the other; ParameterError if their lengths differ."""

    def __init__(self, operands: Sequence[Operand], names: Sequence[str]) -> None:
        for operand, name in zip(operands, names, strict=True):
            if operand.n != operands[0].n:
                raise ParameterError(
                    f"{name} has vectors of {operand.n} entries, {names[0]} of {operands[0].n}; "
                    "vectors to be put side by side must agree"
                )
        self._operands = list(operands)
        self._ends = list(accumulate(operand.m for operand in operands))
        self.n, self.m = operands[0].n, self._ends[-1]
        self.random = all(operand.random for operand in operands)
        self.kept = min(operand.kept for operand in operands)
        self.bits = sum(operand.bits * operand.m for operand in operands) / max(self.m, 1)

    @property
    def frames(self) -> list[Frame]:
        return [frame for operand in self._operands for frame in operand.frames]

    def panel(self, group: int, v0: int, v1: int, frame: Frame) -> Panel:
        return together([operand.panel(group, w0, w1, frame) for operand, w0, w1, _ in self._within(v0, v1)])

    def expecting(self, group: int, v0: int, v1: int, frame: Frame) -> AbstractContextManager[None]:
        return all_of(operand.expecting(group, w0, w1, frame) for operand, w0, w1, _ in self._within(v0, v1))

    @property
    def energy(self) -> float:
        return sum(operand.energy for operand in self._operands)

    @property
    def error_energy(self) -> float:
        return sum(operand.error_energy for operand in self._operands)

    def runs(self, v0: int, v1: int) -> Iterator[tuple[bytes, int, int]]:
        for operand, w0, w1, _ in self._within(v0, v1):
            yield from operand.runs(w0, w1)

    def pieces(self, v0: int, v1: int) -> Iterator[tuple[int, int]]:
        for operand, w0, w1, first in self._within(v0, v1):
            for p0, p1 in operand.pieces(w0, w1):
                yield first + p0, first + p1

    def _within(self, v0: int, v1: int) -> Iterator[tuple[Operand, int, int, int]]:
        """(operand, its vectors [w0, w1), where its first vector stands) of all that have some of [v0, v1)."""
        for operand, end in zip(self._operands, self._ends, strict=True):
            first = end - operand.m
            if v0 < end and first < v1:
                yield operand, max(v0 - first, 0), min(v1, end) - first, first
