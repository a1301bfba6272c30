"""The coordinates in which the two sides of a product meet."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latq.limits import MAX_GROUP
from latq.transforms.rotation import Rotation

if TYPE_CHECKING:
    from latq.products.operands import Operand


@dataclass(frozen=True)
class Frame:
    """Groups of entries and the rotation of each."""

    n: int
    group: int
    rotation: Rotation
    seed: int

    @property
    def groups(self) -> list[tuple[int, int]]:
        return [(e, min(e + self.group, self.n)) for e in range(0, self.n, max(self.group, 1))]


def choose_frame(a: "Operand", b: "Operand") -> tuple[Frame, str]:
    """Where the two meet, and a note if that costs a decode."""
    frames = a.frames + b.frames
    frame = frames[0] if frames else Frame(a.n, min(a.n, MAX_GROUP), "none", 0)
    if all(other == frame for other in frames):
        return frame, ""
    return frame, "files differ in groups, rotation or seed: some are turned back and rotated again, tile by tile"
