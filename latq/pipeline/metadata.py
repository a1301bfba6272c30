"""The metadata of a file: which tensors it holds and how each is coded (spec section 3).

Structure is checked by msgspec, meaning by ``Metadata.parse``; whatever passes can be used without further checks.
The mathematics of a codec is imported when its values are asked for, so that a file is described without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from struct import Struct
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from latq.container import dump_canonical, parse_strict
from latq.dtypes import DTYPES
from latq.errors import CorruptError, UnsupportedError
from latq.limits import (
    INNER_HIGH,
    INNER_LOW,
    MAX_ALPHABET,
    MAX_BLOCKS,
    MAX_CHECK,
    MAX_CLASSES,
    MAX_GROUP,
    MAX_LEVEL,
    MAX_LEVEL_SHIFT,
    MAX_LEVELS,
    MAX_Q,
    MAX_SCALE,
    MAX_SCALES,
    MAX_SHIFT,
    MAX_STEP,
    MAX_WEIGHTS,
    MAX_WIDTH,
    MIN_WEIGHTS,
    MIN_WIDTH,
)
from latq.pipeline.tiling import Tiling

if TYPE_CHECKING:
    from latq.codecs.columns import Columns
    from latq.codecs.e8 import E8Params
    from latq.codecs.quantizer import Quantizer
    from latq.codecs.scalar import Levels
    from latq.coding.model import Density

QUANTIZABLE = ("float64", "float32", "float16", "bfloat16")
MAX_CHUNK_ENTRIES = 1 << 26
MAX_DIMENSIONS = 32
MAX_ENTRIES = 1 << 48
MAX_NAME_BYTES = 1024
MAX_TENSORS = 1 << 16
KEPT_ALL = 1 << 16
# In the place of the number of another tensor.
OWN = -1
# First in the payload of a chunk of vectors.
HEADER = Struct("<hHII")

Offset = Annotated[int, Meta(ge=-4, le=4)]
Scale = Annotated[int, Meta(ge=1, le=MAX_SCALE)]
Weight = Annotated[int, Meta(ge=0, le=255)]
Shift = Annotated[int, Meta(ge=0, le=MAX_SHIFT)]
Width = Annotated[int, Meta(ge=MIN_WIDTH, le=MAX_WIDTH)]
Step = Annotated[int, Meta(ge=1, le=MAX_STEP)]
Run = Annotated[int, Meta(ge=1, le=MAX_BLOCKS)]
Steps = Annotated[tuple[tuple[Step, Run], ...], Meta(min_length=1, max_length=MAX_BLOCKS)]
Check = Annotated[int, Meta(ge=2, le=MAX_CHECK)]
Level = Annotated[int, Meta(ge=-MAX_LEVEL, le=MAX_LEVEL)]
Dimension = Annotated[int, Meta(ge=0, le=MAX_ENTRIES)]
Energy = Annotated[float, Meta(ge=0)]


class MatrixCodec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every codec of rotated, scaled vectors has in common: enough, with shape and axis, to find and undo them.

    Scales belong to vectors if ``classes`` is 0, else to so many classes of them. Of the rotated coordinates of each
    vector the share ``kept`` / 65536, rounded up to a whole one, is coded.
    """

    rotation: Literal["hadamard", "none"]
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    centre: bool
    scale: Literal["float16", "float32"]
    classes: Annotated[int, Meta(ge=0, le=MAX_CLASSES)]
    group: Annotated[int, Meta(ge=1, le=MAX_GROUP)]
    chunk_vectors: Annotated[int, Meta(ge=1, le=MAX_CHUNK_ENTRIES)]
    alignment: Literal["vector", "class", "tensor"]
    kept: Annotated[int, Meta(ge=1, le=KEPT_ALL)]

    def kept_of(self, length: int) -> int:
        """Coded coordinates of a vector of ``length`` entries."""
        return -(-length * self.kept // KEPT_ALL)

    def scales_of(self, vectors: int) -> int:
        """Stored scales of a chunk."""
        return self.classes or vectors


class E8Codec(MatrixCodec, frozen=True, kw_only=True):
    """Nested-lattice digits of constant length, and a scale index per block."""

    codec: Literal["e8"] = "e8"
    coding: Literal["fixed"] = "fixed"
    q: Annotated[int, Meta(ge=2, le=MAX_Q)]
    scales: Annotated[tuple[Scale, ...], Meta(min_length=1, max_length=MAX_SCALES)]
    offset: Annotated[tuple[Offset, ...], Meta(min_length=8, max_length=8)]

    id = 2 | 3 << 8

    @property
    def parameters(self) -> "E8Params":
        from latq.codecs.e8 import E8Params

        return E8Params(self.q, self.scales, self.offset)

    @property
    def label(self) -> str:
        return f"e8 q={self.q}"


class DensityCodec(MatrixCodec, frozen=True, kw_only=True):
    """Integers at one step size, entropy-coded by the density of the tensor."""

    coding: Literal["entropy"] = "entropy"
    low: Annotated[int, Meta(ge=-MAX_WEIGHTS, le=INNER_LOW)]
    weights: Annotated[tuple[Weight, ...], Meta(min_length=MIN_WEIGHTS, max_length=MAX_WEIGHTS)]
    shifts: Annotated[tuple[Shift, ...], Meta(min_length=1, max_length=MAX_CLASSES)]
    widths: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MAX_CLASSES)]
    steps: Steps | msgspec.UnsetType = msgspec.UNSET

    @property
    def columns(self) -> "Columns | None":
        """Steps of coordinates; None where there is one step."""
        return None if self.steps is msgspec.UNSET else _columns(self.steps)

    def block_classes(self, vector_classes: npt.NDArray[np.integer], kept: int) -> npt.NDArray[np.intp]:
        """Class of each block of a stream of vectors (V,) with ``kept`` coded coordinates each."""
        from latq.codecs.blocks import lowest_classes

        return self.columns.classes(vector_classes) if self.columns else lowest_classes(vector_classes, kept)


@lru_cache(maxsize=64)
def _columns(steps: tuple[tuple[int, int], ...]) -> "Columns":
    from latq.codecs.columns import Columns

    return Columns(steps)


class E8EntropyCodec(DensityCodec, frozen=True, kw_only=True):
    """Lattice points."""

    codec: Literal["e8"] = "e8"
    odd: Annotated[int, Meta(ge=-128, le=127)]

    id = 2 | 4 << 8
    label = "e8 entropy"

    @property
    def quantizer(self) -> "Quantizer":
        from latq.codecs.e8_entropy import E8Points

        return E8Points()

    @property
    def density(self) -> "Density":
        return _density(self, self.odd)


class TrellisCodec(DensityCodec, frozen=True, kw_only=True):
    """Integers along paths of a trellis, given by two parity-check polynomials."""

    codec: Literal["trellis"] = "trellis"
    checks: tuple[Check, Check]

    id = 4 | 4 << 8

    @property
    def label(self) -> str:
        return f"trellis S={1 << self.checks[0].bit_length() - 1}"

    @property
    def quantizer(self) -> "Quantizer":
        from latq.codecs.trellis import TrellisPaths
        from latq.kernels import Trellis

        return TrellisPaths(Trellis(*self.checks))

    @property
    def density(self) -> "Density":
        return _density(self, 0)


@lru_cache(maxsize=16)
def _density(codec: DensityCodec, odd: int) -> "Density":
    """One object per codec: its tables are made once. They take up to 8 MiB, so few are kept."""
    from latq.coding.model import Density

    return Density(codec.low, codec.weights, odd, codec.shifts, codec.widths)


class ScalarCodec(MatrixCodec, frozen=True, kw_only=True):
    """Entries at one of several levels, indices of constant length."""

    codec: Literal["scalar"] = "scalar"
    coding: Literal["fixed"] = "fixed"
    levels: Annotated[tuple[Level, ...], Meta(min_length=2, max_length=MAX_LEVELS)]

    id = 3 | 3 << 8

    @property
    def table(self) -> "Levels":
        return _levels(self.levels, 0)

    @property
    def label(self) -> str:
        return f"scalar K={len(self.levels)}"


class ScalarEntropyCodec(MatrixCodec, frozen=True, kw_only=True):
    """Entries at one of several levels, indices entropy-coded but for their low bits."""

    codec: Literal["scalar"] = "scalar"
    coding: Literal["entropy"] = "entropy"
    levels: Annotated[tuple[Level, ...], Meta(min_length=2, max_length=MAX_LEVELS)]
    shift: Annotated[int, Meta(ge=0, le=MAX_LEVEL_SHIFT)]

    id = 3 | 4 << 8
    label = "scalar entropy"

    @property
    def table(self) -> "Levels":
        return _levels(self.levels, self.shift)


@lru_cache(maxsize=64)
def _levels(levels: tuple[int, ...], shift: int) -> "Levels":
    from latq.codecs.scalar import Levels

    return Levels(levels, shift)


class RawCodec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lossless: the entries in C order, little-endian, in chunks of ``chunk_entries``."""

    coding: Literal["stored", "zstd"]
    chunk_entries: Annotated[int, Meta(ge=1, le=MAX_CHUNK_ENTRIES)]
    codec: Literal["raw"] = "raw"

    @property
    def id(self) -> int:
        """Codec and coding in one number, as frames carry it."""
        return 1 | (1 if self.coding == "stored" else 2) << 8

    @property
    def label(self) -> str:
        """For people."""
        return f"raw {self.coding}"


QuantizedCodec = E8Codec | E8EntropyCodec | TrellisCodec | ScalarCodec | ScalarEntropyCodec
Codec = QuantizedCodec | RawCodec

_CODECS: dict[str, dict[str, type[Codec]]] = {
    "raw": {"stored": RawCodec, "zstd": RawCodec},
    "e8": {"fixed": E8Codec, "entropy": E8EntropyCodec},
    "scalar": {"fixed": ScalarCodec, "entropy": ScalarEntropyCodec},
    "trellis": {"entropy": TrellisCodec},
}


class TensorEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tensor. Energies are sums of squares over all entries; ``overlap`` and ``error`` compare the centred tensor
    with its least-squares reconstruction: sum of x * x_hat and sum of (x - x_hat)^2. If the tensor was calibrated,
    ``output_energy`` and ``output_error`` are those of its product with an input, and of the error of that, on average;
    ``output_bits_lost`` is what it is above reverse water-filling.

    A tensor that is the same as an earlier one has all but the name of that, and its number in ``same_as``.
    """

    name: str
    shape: Annotated[tuple[Dimension, ...], Meta(max_length=MAX_DIMENSIONS)]
    dtype: str
    codec: Annotated[int, Meta(ge=0)]
    axis: Annotated[int, Meta(ge=0, lt=MAX_DIMENSIONS)] = 0
    energy: Energy = 0.0
    mean_energy: Energy = 0.0
    overlap: Energy = 0.0
    error: Energy = 0.0
    output_energy: Energy = 0.0
    output_error: Energy = 0.0
    output_bits_lost: float | None = None
    same_as: Annotated[int, Meta(ge=OWN, lt=MAX_TENSORS)] = OWN

    @property
    def size(self) -> int:
        return prod(self.shape)


class _Outline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Literal["npy", "h5", "safetensors"]
    extras: dict[str, Any]
    codecs: list[dict[str, Any]]
    tensors: Annotated[list[TensorEntry], Meta(max_length=MAX_TENSORS)]


@dataclass(frozen=True)
class Metadata:
    """Everything in the metadata frame; ``kind`` and ``extras`` describe the container that the tensors came from."""

    kind: Literal["npy", "h5", "safetensors"]
    extras: dict[str, Any]
    codecs: list[Codec]
    tensors: list[TensorEntry]

    def dump(self) -> bytes:
        """Canonical JSON."""
        return dump_canonical(msgspec.to_builtins(self))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> "Metadata":
        """Read and check; CorruptError, or UnsupportedError for a codec, coding or dtype of a later version."""
        plain = parse_strict(raw)
        _refuse_unknown(plain, where)
        try:
            # Which structure a codec has depends on two of its keys: more than msgspec's tags can tell apart.
            outline = msgspec.convert(plain, _Outline)
            codecs = [_codec(element) for element in outline.codecs]
        except msgspec.ValidationError as error:
            raise CorruptError(f"{where}: metadata: {error}") from None
        metadata = cls(outline.kind, outline.extras, codecs, outline.tensors)
        # Blocks by the steps of a codec, once: many tensors may share one of many steps.
        blocks = [c.columns.blocks if isinstance(c, DensityCodec) and c.columns else None for c in codecs]
        for number, entry in enumerate(metadata.tensors):
            _check_tensor(entry, codecs, blocks, where)
            _check_tie(number, metadata.tensors, where)
        for codec in codecs:
            _check_codec(codec, where)
        if len({entry.name for entry in metadata.tensors}) != len(metadata.tensors):
            raise CorruptError(f"{where}: metadata: two tensors have the same name")
        return metadata


def chunk_count(entry: TensorEntry, codec: Codec) -> int:
    """Chunks that a tensor owns."""
    if entry.same_as != OWN:
        return 0
    if isinstance(codec, RawCodec):
        return -(-entry.size // codec.chunk_entries)
    return Tiling.of(entry, codec).count


def vectors_of_chunks(entry: TensorEntry, codec: Codec) -> npt.NDArray[np.int64]:
    """Vectors of each chunk that a tensor owns, entries of those of a lossless one."""
    if entry.same_as != OWN:
        return np.zeros(0, np.int64)
    if isinstance(codec, RawCodec):
        return _cut(entry.size, codec.chunk_entries)
    tiling = Tiling.of(entry, codec)
    return np.tile(_cut(tiling.m, tiling.chunk_vectors), tiling.groups)


def _cut(size: int, step: int) -> npt.NDArray[np.int64]:
    return np.minimum(step, size - np.arange(0, size, step, dtype=np.int64))


def side_bytes(codec: MatrixCodec, vectors: int) -> int:
    """Bytes of a chunk of ``vectors`` beside its indices and classes."""
    alignments = {"vector": vectors, "class": codec.classes, "tensor": 0}[codec.alignment]
    scales = codec.scales_of(vectors) * {"float16": 2, "float32": 4}[codec.scale]
    return HEADER.size + 4 * codec.centre * vectors + scales + 2 * alignments


def significant(x: float) -> float:
    """``x`` rounded to 9 significant digits, so that its JSON text is short."""
    return float(f"{x:.8e}")


def _codec(plain: dict[str, Any]) -> Codec:
    """The structure that a codec's two names call for; ValidationError if it is not kept."""
    names = msgspec.convert(plain, _CodecNames)
    return msgspec.convert(plain, _CODECS[names.codec][names.coding])


class _CodecNames(msgspec.Struct):
    codec: str
    coding: str


def _refuse_unknown(plain: Any, where: str) -> None:
    """Name what a later version added, before its structure is judged by the rules of this one."""
    codecs = plain.get("codecs") if isinstance(plain, dict) else None
    for codec in codecs if isinstance(codecs, list) else []:
        name, coding = (codec.get("codec"), codec.get("coding")) if isinstance(codec, dict) else (None, None)
        known = _CODECS.get(name) if isinstance(name, str) else None
        if isinstance(name, str) and (known is None or (isinstance(coding, str) and coding not in known)):
            raise UnsupportedError(f"{where}: needs codec {name} with coding {coding}; update latq")


def _check_codec(codec: Codec, where: str) -> None:
    if isinstance(codec, RawCodec):
        return
    if isinstance(codec, E8Codec) and not _is_packable(codec.q):
        raise CorruptError(f"{where}: metadata: {codec.q} is not a nesting ratio of the format")
    if isinstance(codec, E8Codec) and list(codec.scales) != sorted(set(codec.scales)):
        raise CorruptError(f"{where}: metadata: scales are not increasing")
    if codec.alignment == ("vector" if codec.classes else "class"):
        raise CorruptError(f"{where}: metadata: alignments per {codec.alignment}, but {codec.classes} classes")
    if isinstance(codec, DensityCodec):
        columns = codec.columns
        if columns and columns.blocks > MAX_BLOCKS:
            raise CorruptError(f"{where}: metadata: steps of {columns.blocks} blocks, more than {MAX_BLOCKS}")
        multipliers = len(columns.distinct) if columns else 1
        if not len(codec.shifts) == len(codec.widths) == max(codec.classes, 1) * multipliers:
            raise CorruptError(f"{where}: metadata: widths or shifts are not those of {codec.classes} classes")
        if codec.low + len(codec.weights) - 1 < INNER_HIGH:
            raise CorruptError(f"{where}: metadata: the weights end below {INNER_HIGH}")
    if isinstance(codec, TrellisCodec) and not _are_checks(*codec.checks):
        raise CorruptError(f"{where}: metadata: {list(codec.checks)} are no parity checks of a trellis")
    if isinstance(codec, ScalarCodec | ScalarEntropyCodec):
        _check_levels(codec, where)
    if codec.group * codec.chunk_vectors > MAX_CHUNK_ENTRIES:
        raise CorruptError(f"{where}: metadata: chunks of more than {MAX_CHUNK_ENTRIES} entries")


def _check_levels(codec: ScalarCodec | ScalarEntropyCodec, where: str) -> None:
    count = len(codec.levels)
    if any(a >= b for a, b in pairwise(codec.levels)):
        raise CorruptError(f"{where}: metadata: levels are not increasing")
    if isinstance(codec, ScalarCodec) and not _is_packable(count):
        raise CorruptError(f"{where}: metadata: {count} is not a number of levels for fixed coding")
    if isinstance(codec, ScalarEntropyCodec) and codec.table.alphabet > MAX_ALPHABET:
        raise CorruptError(f"{where}: metadata: a shift of {codec.shift} is too little for {count} levels")


def _are_checks(h0: int, h1: int) -> bool:
    """Whether h0 has both its ends, at least 2 apart, and h1 lies between them."""
    return h0 & 1 == 1 and h0 > 4 and h1 & 1 == 0 and h1 < 1 << h0.bit_length() - 1


def _is_packable(q: int) -> bool:
    from latq.coding.packing import is_packable

    return is_packable(q)


def unfit(name: str, shape: Sequence[int]) -> str | None:
    """Why the format cannot hold a tensor of this name and shape, or None."""
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        return f"a name must have 1 to {MAX_NAME_BYTES} bytes"
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        return "its name holds control characters"
    if len(shape) > MAX_DIMENSIONS:
        return f"{len(shape)} dimensions, more than {MAX_DIMENSIONS}"
    # Empty axes count as 1, so that the other sizes stay usable as well.
    if prod(max(s, 1) for s in shape) > MAX_ENTRIES:
        return f"shape {list(shape)} is beyond {MAX_ENTRIES} entries"
    return None


def _check_tensor(entry: TensorEntry, codecs: list[Codec], blocks: list[int | None], where: str) -> None:
    where = f"{where}: tensor {entry.name!r}"
    if entry.dtype not in DTYPES:
        raise UnsupportedError(f"{where}: unknown dtype {entry.dtype!r}; update latq")
    if reason := unfit(entry.name, entry.shape):
        raise CorruptError(f"{where}: {reason}")
    if entry.codec >= len(codecs):
        raise CorruptError(f"{where}: refers to codec {entry.codec} of {len(codecs)}")
    if entry.axis >= max(len(entry.shape), 1):
        raise CorruptError(f"{where}: axis {entry.axis} of {len(entry.shape)} dimensions")
    codec = codecs[entry.codec]
    if isinstance(codec, DensityCodec) and not _has_blocks(entry, codec, blocks[entry.codec]):
        raise CorruptError(f"{where}: the steps of its codec are not those of as many blocks as its vectors have")
    if isinstance(codec, MatrixCodec) and entry.dtype not in QUANTIZABLE:
        raise CorruptError(f"{where}: dtype {entry.dtype} cannot be quantized")


def _has_blocks(entry: TensorEntry, codec: DensityCodec, blocks: int | None) -> bool:
    """Whether all blocks of its vectors have a step, and no other."""
    return blocks is None or all(codec.kept_of(length) == 8 * blocks for length in Tiling.of(entry, codec).lengths)


def _check_tie(number: int, tensors: Sequence[TensorEntry], where: str) -> None:
    """A tensor without chunks of its own says of itself what the earlier one says that has them."""
    entry = tensors[number]
    if entry.same_as == OWN:
        return
    if entry.same_as >= number or msgspec.structs.replace(tensors[entry.same_as], name=entry.name) != (
        msgspec.structs.replace(entry, same_as=OWN)
    ):
        raise CorruptError(f"{where}: tensor {entry.name!r} is not the same as tensor {entry.same_as}")
