"""The sides of a product as a command names them: files, tensors in them, patterns for several files."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from glob import glob
from typing import Literal

from latq import api
from latq.cli.common import is_latq
from latq.errors import InputError, ParameterError
from latq.products.operands import Operand, PlainOperand
from latq.products.parts import Part, Stack
from latq.products.segment import Pair
from latq.sources import MatrixView, open_source
from latq.urls import is_url

Shards = Literal["sum", "columns"]


@dataclass(frozen=True)
class Side:
    """What was said of A or B: a file or a pattern, a tensor in it, and for a plain array the contraction axis."""

    letter: Literal["a", "b"]
    spec: str
    tensor: str | None
    axis: int | None

    @property
    def everywhere(self) -> "Side":
        """The same for a process in another directory."""
        return self if is_url(self.spec) else replace(self, spec=os.path.abspath(self.spec))

    @property
    def specs(self) -> list[str]:
        """The files of a pattern in the order of their names, or the one file."""
        pattern, *rest = self.spec.split(":", 1) if not is_url(self.spec) else (self.spec,)
        if os.path.exists(pattern) or is_url(self.spec) or not any(c in pattern for c in "*?["):
            return [self.spec]
        found = sorted(glob(pattern))
        if not found:
            raise InputError(f"{self.spec}: no file has a name like that")
        return [":".join([path, *rest]) for path in found]


@contextmanager
def open_pairs(
    a: Side, b: Side, shards: Shards | None, rows: slice, columns: slice
) -> Iterator[tuple[list[Pair], list[str]]]:
    """Pairs of operands whose products add up to the one asked for, and the files that are read."""
    specs_a, specs_b = a.specs, b.specs
    if len(specs_a) > 1 and len(specs_b) > 1 and shards is None:
        raise ParameterError(
            f"{a.spec} and {b.spec} are several files each; say --shards sum if their products are to be added up, "
            "--shards columns if their vectors stand side by side"
        )
    with ExitStack() as stack:
        opened_a, opened_b = ([stack.enter_context(_operand(side, spec)) for spec in side.specs] for side in (a, b))
        files = [file for _, names in (*opened_a, *opened_b) for file in names]
        left, right = ([operand for operand, _ in opened] for opened in (opened_a, opened_b))
        if shards == "sum":
            if len(left) != len(right):
                raise ParameterError(
                    f"{a.spec}: {len(left)} files, {b.spec}: {len(right)}; a sum takes as many of both"
                )
            pairs = list(zip(left, right, strict=True))
        else:
            pairs = [(_side_by_side(left, specs_a), _side_by_side(right, specs_b))]
        for (one, other), name_a, name_b in zip(pairs, specs_a, specs_b, strict=False):
            if one.n != other.n:
                raise ParameterError(
                    f"{name_a} has vectors of {one.n} entries, {name_b} of {other.n}; choose tensors that agree"
                )
        yield [(_part(one, rows, "rows"), _part(other, columns, "columns")) for one, other in pairs], files


@contextmanager
def reopen_pairs(a: Side, b: Side, shards: Shards | None, rows: slice, columns: slice) -> Iterator[list[Pair]]:
    """The pairs once more, in another process."""
    with open_pairs(a, b, shards, rows, columns) as (pairs, _):
        yield pairs


def _side_by_side(operands: Sequence[Operand], names: Sequence[str]) -> Operand:
    return operands[0] if len(operands) == 1 else Stack(operands, names)


def _part(operand: Operand, vectors: slice, name: str) -> Operand:
    start, stop, _ = vectors.indices(operand.m)
    if (start, stop) == (0, operand.m):
        return operand
    if stop <= start:
        raise ParameterError(f"--{name}: nothing in that range; the product has {operand.m} {name}")
    return Part(operand, start, stop)


@contextmanager
def _operand(side: Side, spec: str) -> Iterator[tuple[Operand, Sequence[str]]]:
    """One file as a side of the product, and the files that it reads."""
    if is_latq(spec):
        if side.axis is not None:
            raise ParameterError(f"{spec}: encode fixed the axis of a compressed operand; drop --axis-{side.letter}")
        with api.open(spec) as file:
            if side.tensor is None:
                _check_single(spec, side, list(file))
            chosen = file[side.tensor] if side.tensor is not None else file.only()
            yield api.operand_of(chosen, f"{spec}: tensor {chosen.name!r}"), [spec]
        return
    with open_source(spec, tensors=[side.tensor] if side.tensor is not None else []) as source:
        _check_single(spec, side, [t.name for t in source.tensors])
        found = source.tensors[0]
        axis = source.default_axis if side.axis is None else side.axis
        yield PlainOperand(MatrixView(found.array, found.shape, axis), f"{spec}: tensor {found.name!r}"), source.files


def _check_single(spec: str, side: Side, names: Sequence[str]) -> None:
    if len(names) != 1:
        some = ", ".join(names[:8]) or "none"
        raise ParameterError(f"{spec}: holds {len(names)} tensors; choose with --tensor-{side.letter}: {some}")
