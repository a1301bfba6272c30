"""What a product is summed over: groups of entries of one pair of operands, or of several whose products add up."""

from collections.abc import Sequence
from dataclasses import dataclass

from latq.errors import ParameterError
from latq.products.frame import Frame, choose_frame
from latq.products.operands import Operand
from latq.products.panel import Panel, joined

Pair = tuple[Operand, Operand]
# Vectors that are multiplied about as fast as more of them.
_ENOUGH = 1 << 7


@dataclass(frozen=True)
class Segment:
    """One group of entries of a pair of operands, in the frame in which they meet."""

    a: Operand
    b: Operand
    frame: Frame
    group: int

    @property
    def length(self) -> int:
        start, stop = self.frame.groups[self.group]
        return stop - start

    def left(self, v0: int, v1: int) -> Panel:
        """Vectors [v0, v1) of A."""
        return self.a.panel(self.group, v0, v1, self.frame)

    def left_panels(self, v0: int, v1: int) -> list[Panel]:
        """The same, in several panels where that saves joining large ones."""
        return joined(self.a.panels(self.group, v0, v1, self.frame), _ENOUGH)

    def right(self, v0: int, v1: int) -> Panel:
        """Vectors [v0, v1) of B."""
        return self.b.panel(self.group, v0, v1, self.frame)


def segments_of(pairs: Sequence[Pair]) -> tuple[list[Segment], str]:
    """All groups of all pairs in order, and a note if meeting costs a decode; ParameterError if shapes do not agree."""
    segments: list[Segment] = []
    notes = ""
    for a, b in pairs:
        if a.n != b.n:
            raise ParameterError(
                f"the vectors of A have {a.n} entries, those of B {b.n}; choose tensors or axes that agree"
            )
        if (a.m, b.m) != (pairs[0][0].m, pairs[0][1].m):
            raise ParameterError(
                f"products of {a.m} x {b.m} and of {pairs[0][0].m} x {pairs[0][1].m} do not add up; "
                "all parts of a sum must have the same numbers of vectors"
            )
        frame, note = choose_frame(a, b)
        notes = notes or note
        segments += [Segment(a, b, frame, group) for group in range(len(frame.groups))]
    return segments, notes
