"""Codec e8 with entropy coding: points of E8 (spec section 8.3).

A block of 8 costs its first doubled coordinate (which tells the coset), six more given the coset, and the last given
the parity that the others leave. Loses 0.147 bits per entry to the Shannon limit at every rate (2 pi e G(E8) = 0.146).
"""

from collections.abc import Sequence

import numpy as np

from latq import kernels
from latq.codecs.blocks import F32, Classes
from latq.codecs.quantizer import I32, I64, Quantizer, Sections, lanes_for
from latq.coding.model import Density


class E8Points(Quantizer):
    """Doubled coordinates of points of E8: the nearest one of either coset, or the origin."""

    noise = 929 / 12960
    error_at_r_star = 0.36

    def choose(
        self, x: F32, classes: Classes, step: float, density: Density | None, shrink: float | None = None
    ) -> tuple[I32, int]:
        """``shrink`` is the share of the energy of a point that is taken off its squared distance; None: what suits
        vectors of unit mean square."""
        model, share = density.tables if density else None, None if shrink is None else np.float32(shrink)
        return kernels.choose_points(x, classes, np.float32(step), model, share)

    def costs(self, points: I32, density: Density, classes: Classes) -> I64:
        return kernels.point_costs(points, classes, density.tables)

    def encode(self, points: I32, density: Density, classes: Classes) -> Sections:
        return kernels.encode_points(points, classes, density.tables, lanes_for(classes.size))

    def _decoded(
        self, streams: Sequence[kernels.PointStream], density: Density, narrow: bool
    ) -> list[kernels.Decoded | None]:
        return kernels.decode_points(streams, density.tables, narrow)
