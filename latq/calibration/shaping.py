"""How vectors are quantized for the inputs that they will be multiplied by."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.calibration.feedback import Feedback, eliminate, of_blocks, rotated, solve
from latq.calibration.moments import Moments
from latq.codecs.blocks import BLOCK
from latq.codecs.columns import UNIT, Columns
from latq.kernels.elementary import exp2
from latq.transforms.rotation import Rotation

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Multiples of the step that there are at most, and how far apart they are in eighths of an octave: closer ones as long
# as so many reach all coordinates.
MAX_MULTIPLES = 8
_CLOSE, _WIDE = 2, 4
# Each time that rounding leaves no factors, damping grows by this factor.
_MORE_DAMPING = 10.0


@dataclass(frozen=True, eq=False)
class Shaping:
    """The error of making v of a vector w, of which the first ``kept`` rotated coordinates are coded, and ``ridge``
    times the energy of v are together (v - t) E (v - t)^T and what no v can change. ``effective`` is E (kept, kept), t
    is w times ``to_target`` (n, kept); ``feedback`` are factors of E."""

    effective: F32
    to_target: F32
    feedback: Feedback
    ridge: float
    damping: float

    @property
    def kept(self) -> int:
        return len(self.effective)

    @cached_property
    def columns(self) -> Columns:
        """Steps in inverse proportion to what the coordinates weigh."""
        widths = -BLOCK / 2 * self.feedback.log_weights
        widths = widths - widths.min()
        apart = _CLOSE if widths.max() <= _CLOSE * (MAX_MULTIPLES - 0.5) else _WIDE
        places = np.minimum(np.rint(widths / apart), MAX_MULTIPLES - 1).astype(int).tolist()
        return Columns.of([round(UNIT * exp2(place * apart / 8)) for place in places])

    @cached_property
    def shrinks(self) -> list[float]:
        """Of each block the share of E that is the ridge: of the energy of what it is made, not of its error."""
        return [min(self.ridge * exp2(-weight), 1.0) for weight in self.feedback.log_weights.tolist()]

    def target(self, vectors: F32) -> F32:
        """(vectors, kept) what rotated vectors (vectors, n) should become."""
        return times(vectors, self.to_target)

    def gain_moments(self, target: F32, integers: F32) -> F64:
        """(vectors, 2) sums t E v and v E v, the latter without the ridge: the best gain of v is the one over the
        other."""
        weighed = times(integers, self.effective)
        overlap = kernels.row_moments(weighed, target)[:, 1]
        _, energy, square = kernels.row_moments(weighed, integers).T
        return np.stack([overlap, energy - self.ridge * square], axis=1)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Second moments of inputs in the rotated coordinates of a tensor, as they were found; with ``shaping`` the tensor
    is quantized for them, without it is only judged by them."""

    second: F32
    shaping: Shaping | None

    def energy(self, vectors: F32) -> float:
        """Sum over vectors w (vectors, n) of w H w^T: the mean square of their products with an input, added up."""
        return float(kernels.tree_sum(kernels.row_moments(times(vectors, self.second), vectors)[:, 1]))


def times(vectors: F32, matrix: F32) -> F32:
    """``vectors`` (V, K) @ ``matrix`` (K, C), in one order of operations."""
    found = np.zeros((len(vectors), matrix.shape[1]), np.float32)
    kernels.subtract_product(found, -vectors, matrix)
    return found


def shape(moments: Moments, rotation: Rotation, seed: int, kept: int, noise: float, ridge: float) -> Inputs:
    """``noise`` is the energy of the error that the inputs will have themselves, over theirs: white once rotated.

    ``ridge`` is what energy of the reconstruction is charged, over the power of the inputs. Few bits tell little of the
    components that matter least, so that those are better left out than coded with large errors, which others would
    have to make up for. At the water level of the rate, over the variance of w, successive quantization loses nothing
    by that (Cioffi et al. 1995: decision feedback of minimum mean squared error).
    """
    second = _in_coordinates(moments, rotation, seed)
    damped = moments.damped(second)
    power, damping = moments.floor, moments.damping
    while (pivots := eliminate(effective := _with(damped, (noise + ridge) * power)[:kept, :kept])) is None:
        damped, damping = _with(damped, damping * _MORE_DAMPING * power), damping * (1 + _MORE_DAMPING)
    to_target = solve(*pivots, damped[:kept]).T.astype(np.float32)
    shaping = Shaping(effective.astype(np.float32), to_target, of_blocks(*pivots), ridge * power, damping)
    return Inputs(second.astype(np.float32), shaping)


def judge(moments: Moments, rotation: Rotation, seed: int) -> Inputs:
    """For a tensor that is quantized without regard to its inputs."""
    return Inputs(_in_coordinates(moments, rotation, seed).astype(np.float32), None)


def _in_coordinates(moments: Moments, rotation: Rotation, seed: int) -> F64:
    return rotated(moments.matrix, seed) if rotation == "hadamard" else moments.matrix


def _with(matrix: F64, share: float) -> F64:
    return matrix + share * np.eye(len(matrix)) if share else matrix
