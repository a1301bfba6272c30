"""Codec e8 with fixed coding: nested-lattice digits of constant length and a scale index per block of 8 entries.

Numbers enter as a flat stream of unit mean square and leave as integers in a common unit, so that a decoded entry is
one integer times one stored scale. Source: NestQuant (Savkin et al. 2025) section 3; scales by rate-distortion cost.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latq import kernels
from latq.codecs import e8_design, e8_scales
from latq.codecs.blocks import BLOCK, F32, blocks_of, count_of, stream_of
from latq.codecs.effort import Effort
from latq.coding import packing, rans
from latq.errors import CorruptError

# Codebooks up to this q have so few points that these are off centre: the mean error of rotated entries, small as it is
# (0.003 in mean square at q = 2, below 0.00001 beyond 3), adds up in products of long vectors.
_UNEVEN = 3
# Blocks in the sample that tells that mean.
_SAMPLE = 1 << 13


@dataclass(frozen=True)
class E8Params:
    """Nesting ratio, integer scales and lattice offset (doubled coordinates): all that a decoder needs."""

    q: int
    scales: tuple[int, ...]
    offset: tuple[int, ...]

    @property
    def code(self) -> kernels.NestedCode:
        """For the encoder, whose lattice steps are in units of the root mean square of the entries."""
        scales = np.array(self.scales, np.int32)
        steps = (scales * (e8_design.UNIT / self.q)).astype(np.float32)
        return kernels.NestedCode(self.q, np.array(self.offset, np.int32), scales, steps)


def digits_size(count: int, q: int) -> int:
    """Bytes of the packed digits of ``count`` entries."""
    return packing.packed_size(count_of(count) * BLOCK, q)


def smallest_index_size(count: int, scales: int) -> int:
    """Bytes below which no budget for the scale indices of ``count`` entries can be kept."""
    one_scale = np.array([count_of(count)] + [0] * (scales - 1), np.int64)
    return rans.size_bound(one_scale, rans.normalize(one_scale))


def encode(
    x: F32, params: E8Params, index_budget: int, effort: Effort = "default", balanced: bool = False
) -> tuple[bytes, bytes, F32]:
    """Code ``x`` (count,) of unit mean square: (scale-index section, digit section, decoded integers (count,)).

    The scale-index section is kept within ``index_budget`` bytes by charging its bits against the squared error.
    ``balanced`` takes the mean out of the errors, for entries that a rotation has made all alike.
    """
    blocks, code = blocks_of(x), params.code
    index = e8_scales.choose(blocks, code, index_budget, effort)
    shift = balance(blocks, index, params) if balanced else None
    if shift is not None:
        blocks = blocks + shift
    digits, integers, _ = kernels.quantize(blocks, index, code)
    section = rans.encode(index, len(params.scales))
    return section, packing.pack(stream_of(digits), params.q), stream_of(integers)[: x.size]


def balance(x: F32, index: npt.NDArray[np.uint8], params: E8Params) -> F32 | None:
    """What to add (8, 1) to blocks (8, N), to be quantized at scales ``index`` (N,), so that the errors of their
    unbiased reconstructions have about mean zero: the opposite of the mean that they have in a sample. None where
    codebooks are large enough to be even."""
    if params.q > _UNEVEN:
        return None
    step = -(-x.shape[1] // _SAMPLE)
    x, index = np.ascontiguousarray(x[:, ::step]), np.ascontiguousarray(index[::step])
    integers = kernels.quantize(x, index, params.code)[1]
    energy, overlap, _ = kernels.tree_sum(kernels.row_moments(x, integers).T)
    if overlap <= 0:
        return None
    errors = integers * (energy / overlap) - x
    return (kernels.tree_sum(errors) / -len(index)).astype(np.float32)[:, None]


def decode(
    index_section: bytes | memoryview,
    digit_section: bytes | memoryview,
    params: E8Params,
    count: int,
    narrow: bool = False,
) -> tuple[npt.NDArray[np.float32 | np.int16], npt.NDArray[np.uint8]]:
    """Integers (count,), exact, and the scale index of each block; CorruptError if a section is damaged.

    Integers are float32; where that is ``narrow``, int16 if that holds them all.
    """
    blocks = count_of(count)
    if len(digit_section) != digits_size(count, params.q):
        raise CorruptError(f"{len(digit_section)} bytes of digits where {digits_size(count, params.q)} belong")
    index = rans.decode(index_section, len(params.scales), blocks)
    digits = packing.unpack(digit_section, params.q, blocks * BLOCK).reshape(-1, BLOCK).T
    offset, scales = np.array(params.offset, np.int32), np.array(params.scales, np.int32)
    dtype = np.int16 if narrow and 2 * params.q * max(params.scales) < 1 << 15 else np.float32
    return stream_of(kernels.scaled_codewords(digits, params.q, offset, scales, index, dtype))[:count], index
