"""Codec trellis: entropy-coded trellis-coded quantization (spec section 8.5).

Every entry costs an integer given its parity, which the path up to it tells. Bits lost to the Shannon limit, at every
rate: 0.08 with 8 states, 0.06 with 32, 0.04 with 256. Sources: Marcellin & Fischer 1990; Fischer & Wang 1992.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latq import kernels
from latq.codecs.blocks import F32, Classes
from latq.codecs.effort import Effort
from latq.codecs.quantizer import I32, I64, Quantizer, Sections, lanes_for
from latq.coding.model import Density
from latq.kernels import Trellis

# Of 8, 32 and 256 states: the best codes of Ungerboeck 1982 for amplitude modulation.
TRELLISES: dict[Effort, Trellis] = {
    "fast": Trellis(0o13, 0o4),
    "default": Trellis(0o45, 0o10),
    "best": Trellis(0o515, 0o362),
}


@dataclass(frozen=True)
class TrellisPaths(Quantizer):
    """Integers along paths of a trellis, one path for each lane of the stream."""

    trellis: Trellis

    noise = 0.0635
    error_at_r_star = 0.32

    def choose(self, x: F32, classes: Classes, step: float, density: Density | None) -> tuple[I32, int]:
        model = density.tables if density else None
        return kernels.choose_paths(x, classes, np.float32(step), model, self.trellis, lanes_for(classes.size))

    def costs(self, points: I32, density: Density, classes: Classes) -> I64:
        return kernels.path_costs(points, classes, density.tables)

    def encode(self, points: I32, density: Density, classes: Classes) -> Sections:
        return kernels.encode_paths(points, classes, density.tables, lanes_for(classes.size))

    def _decoded(
        self, streams: Sequence[kernels.PointStream], density: Density, narrow: bool
    ) -> list[kernels.Decoded | None]:
        return [
            kernels.decode_paths(stream, rest, classes, density.tables, self.trellis, lanes)
            for stream, rest, classes, lanes in streams
        ]
