"""Arrays of a source into a file: decide how each tensor is coded, then code and write its chunks in order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import zstandard

from latq.container import MAX_METADATA, ContainerWriter, dump_canonical
from latq.errors import InputError, ParameterError
from latq.kernels.reference import tree_sum
from latq.pipeline.chunk import Energies, encode_chunk
from latq.pipeline.metadata import (
    MAX_GROUP,
    MAX_TENSORS,
    QUANTIZABLE,
    Codec,
    E8Codec,
    Metadata,
    RawCodec,
    TensorEntry,
    Tile,
    Tiling,
    chunk_count,
    matrix_shape,
    significant,
    unfit,
)
from latq.pipeline.plan import CHUNK_ENTRIES, F32_DYNAMIC_RANGE, Plan, check_bits, plan_e8
from latq.pipeline.pool import ordered_map
from latq.sources import Kind, MatrixView, Source, SourceTensor, boxes
from latq.transforms.rotation import Rotation

RAW_CHUNK_ENTRIES = 1 << 20
# Entries read from a source at a time.
PANEL_ENTRIES = 1 << 24
ZSTD_LEVEL = 3
# zstd must save this share of a tensor's first chunk to be used.
ZSTD_GAIN = 0.05
# Below this share of its energy, what is left of a constant vector without its mean is rounding.
ROUNDING = 1e-12
# The squares of smaller float64 values underflow.
SMALLEST_PEAK = 1e-120
LARGEST = float(np.finfo(np.float32).max)
# Preamble, footer, and headers and padding of metadata and index.
CONTAINER_BYTES = 384

Progress = Callable[[int], None]


@dataclass(frozen=True)
class EncodeOptions:
    """What a user can ask of ``encode``; ``axis`` and ``centre`` are chosen per source and tensor when None."""

    bits: float = 4.0
    codec: Literal["e8", "raw"] = "e8"
    axis: int | None = None
    rotation: Rotation = "hadamard"
    seed: int = 0
    centre: bool | None = None
    nonfinite: Literal["error", "raw"] = "error"
    threads: int = 1

    def __post_init__(self) -> None:
        check_bits(self.bits)
        if not 0 <= self.seed < 1 << 63:
            raise ParameterError(f"seed {self.seed} is out of range; use 0 to 2^63 - 1")


@dataclass(frozen=True)
class TensorReport:
    """How one tensor was coded. ``bytes`` counts its frames and index records; ``error`` is D, or None if lossless."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    codec: str
    note: str
    entries: int
    bytes: int
    error: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class EncodeReport:
    """Outcome of one ``encode``."""

    bytes: int
    tensors: list[TensorReport] = field(default_factory=list)


@dataclass(frozen=True)
class _Decision:
    codec: Codec
    axis: int
    plan: Plan | None = None
    note: str = ""


def encode_source(
    source: Source, where: str, stream: BinaryIO, options: EncodeOptions, progress: Progress = lambda entries: None
) -> EncodeReport:
    """Write every tensor of ``source`` to ``stream``; ``where`` names the source in messages.

    Raises InputError for a tensor that cannot be coded, ParameterError for an axis or a rate that does not fit it.
    """
    _check_source(source, where)
    writer = ContainerWriter(stream)
    codecs: dict[Codec, int] = {}
    entries: list[TensorEntry] = []
    reports: list[TensorReport] = []
    for number, tensor in enumerate(source.tensors):
        decision = _decide(tensor, source, where, options)
        before = writer.bytes_written
        number_of_codec = codecs.setdefault(decision.codec, len(codecs))
        energies = _write_tensor(writer, number, tensor, decision, options, progress)
        entry = TensorEntry(
            tensor.name,
            tensor.shape,
            tensor.dtype,
            number_of_codec,
            decision.axis,
            **{key: significant(value) for key, value in energies.items()},
        )
        entries.append(entry)
        chunks = chunk_count(entry, decision.codec)
        reports.append(_report(entry, decision, writer.bytes_written - before + 40 * chunks))
    metadata = Metadata(source.kind, dict(source.extras), list(codecs), entries)
    return EncodeReport(writer.finish(metadata.dump()), reports)


def source_of(arrays: Mapping[str, npt.NDArray[Any]], kind: Kind = "npy", axis: int = 0) -> Source:
    """A source over arrays in memory."""
    tensors = [SourceTensor.of(name, np.asarray(array), repr(name)) for name, array in sorted(arrays.items())]
    return Source(kind, tensors, axis)


def _check_source(source: Source, where: str) -> None:
    """Refuse what no reader would accept, before anything is written."""
    if len(source.tensors) > MAX_TENSORS:
        raise InputError(f"{where}: {len(source.tensors)} tensors, more than {MAX_TENSORS}; choose with --tensor")
    for tensor in source.tensors:
        if reason := unfit(tensor.name, tensor.shape):
            raise InputError(f"{where}: tensor {tensor.name!r}: {reason}; choose others with --tensor")
    # Tensors take their part of the metadata too.
    if len(dump_canonical(source.extras)) + 1024 * len(source.tensors) > MAX_METADATA:
        raise InputError(f"{where}: its attributes are larger than a file can hold; choose fewer with --tensor")


# --- decisions ----------------------------------------------------------------------------------------------------


def _decide(tensor: SourceTensor, source: Source, where: str, options: EncodeOptions) -> _Decision:
    """Codec, axis and plan of one tensor; the note says why it is kept lossless."""
    ndim = max(len(tensor.shape), 1)
    axis = source.default_axis if options.axis is None else options.axis
    place = f"{where}: tensor {tensor.name!r}"
    why = _lossless_reason(tensor, source, options)
    if not -ndim <= axis < ndim:
        if why is None:
            raise ParameterError(f"{place} has {ndim} dimensions; --axis {axis} is out of range")
        axis = -1
    axis %= ndim
    if why is None:
        why, plan = _plan_tensor(tensor, axis, place, options)
        if plan is not None:
            return _Decision(plan.codec, axis, plan)
        if len(source.tensors) == 1 and source.kind == "npy" and tensor.array.shape and why.startswith("--bits"):
            raise ParameterError(f"{place}: {why}; raise --bits, choose another --axis or use --codec raw")
    return _Decision(_raw_codec(tensor), axis, note=why)


def _lossless_reason(tensor: SourceTensor, source: Source, options: EncodeOptions) -> str | None:
    if options.codec == "raw":
        return "asked for"
    if tensor.dtype not in QUANTIZABLE:
        return f"dtype {tensor.dtype}"
    if 0 in tensor.shape:
        return "empty"
    if len(tensor.shape) < 2 and len(source.tensors) > 1:
        return "one-dimensional"
    return None


def _plan_tensor(tensor: SourceTensor, axis: int, place: str, options: EncodeOptions) -> tuple[str, Plan | None]:
    """Look at the data once; (reason to stay lossless, None) or ("", plan)."""
    n, m = matrix_shape(tensor.shape, axis)
    found = _scan(tensor, axis)
    if found.nonfinite is not None:
        if options.nonfinite == "error":
            position = ", ".join(str(int(i)) for i in found.nonfinite)
            raise InputError(f"{place} is not finite, first at [{position}]; clean it or use --nonfinite raw")
        return "not finite", None
    if found.peak > LARGEST:
        raise InputError(f"{place} has values up to {found.peak:.3g}, beyond float32; rescale it or use --codec raw")
    if 0 < found.peak < SMALLEST_PEAK:
        return f"no value above {found.peak:.3g}", None
    if found.dynamic_range > F32_DYNAMIC_RANGE:
        return f"vectors differ in size by a factor of {found.dynamic_range:.1g}", None
    group = min(n, MAX_GROUP)
    centre = options.centre if options.centre is not None else found.energy * group > found.centred * (group + 64)
    fixed_bytes = CONTAINER_BYTES + 2 * len(tensor.name.encode()) + 480
    plan = plan_e8(
        n,
        m,
        bits=options.bits,
        rotation=options.rotation,
        seed=options.seed,
        centre=centre,
        dynamic_range=found.dynamic_range,
        metadata_bytes=fixed_bytes,
    )
    raw_bytes = n * m * np.dtype(tensor.array.dtype).itemsize
    if plan is None and raw_bytes > 1 << 12:
        return f"--bits {options.bits:g} is too little for vectors of {n} entries", None
    if plan is None or plan.payload_bytes >= raw_bytes:
        return "too small to gain", None
    return "", plan


@dataclass(frozen=True)
class _Scan:
    """What one pass over a tensor found: index of the first NaN or infinity, largest magnitude, energies."""

    nonfinite: tuple[int, ...] | None
    peak: float
    energy: float
    centred: float
    smallest_rms: float

    @property
    def dynamic_range(self) -> float:
        """Largest magnitude over the smallest root mean square of a vector (of one group) that is not zero."""
        return self.peak / self.smallest_rms


def _scan(tensor: SourceTensor, axis: int) -> _Scan:
    """Energies are summed per group of entries, as ``normalize`` centres them."""
    view = MatrixView(tensor.array, tensor.shape, axis)
    group = min(view.n, MAX_GROUP)
    tiling = Tiling(view.n, view.m, group, max(1, min(view.m, CHUNK_ENTRIES // group)))
    peak = energy = centred = 0.0
    smallest = np.inf
    bad: list[tuple[int, ...]] = []
    for tile, block in _blocks(view, tiling):
        wide = block.astype(np.float64)
        finite = np.isfinite(wide)
        if not finite.all():
            bad.extend(_positions(tensor.shape, axis, tile, ~finite))
            continue
        peak = max(peak, float(np.abs(wide).max()))
        if peak > LARGEST:
            continue
        sums, squares = tree_sum(wide), tree_sum(wide * wide)
        spread = squares - sums * sums / tile.length
        varied = spread > squares * ROUNDING
        smallest = min(smallest, float(np.min(spread, initial=np.inf, where=varied)) / tile.length)
        energy += float(tree_sum(squares))
        centred += float(tree_sum(spread))
    return _Scan(min(bad) if bad else None, peak, energy, centred, float(np.sqrt(smallest)))


def _positions(shape: tuple[int, ...], axis: int, tile: Tile, bad: npt.NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Array index of the first bad entry of a tile in C order."""
    vectors, entries = np.nonzero(bad)
    if not shape:
        return [()]
    others = shape[:axis] + shape[axis + 1 :]
    unravelled = np.unravel_index(vectors + tile.v0, others) if others else ()
    index = [*unravelled[:axis], entries + tile.e0, *unravelled[axis:]]
    return [min(zip(*(i.tolist() for i in index), strict=True))]


def _raw_codec(tensor: SourceTensor) -> RawCodec:
    codec = RawCodec("stored", RAW_CHUNK_ENTRIES)
    for piece in _raw_pieces(tensor, codec):
        small = len(_zstd(piece)) <= len(piece) * (1 - ZSTD_GAIN)
        return RawCodec("zstd", RAW_CHUNK_ENTRIES) if small else codec
    return codec


# --- writing ------------------------------------------------------------------------------------------------------


def _write_tensor(
    writer: ContainerWriter,
    number: int,
    tensor: SourceTensor,
    decision: _Decision,
    options: EncodeOptions,
    progress: Progress,
) -> dict[str, float]:
    if decision.plan is None:
        assert isinstance(decision.codec, RawCodec)
        _write_raw(writer, number, tensor, decision.codec, progress)
        return {}
    return _write_e8(writer, number, tensor, decision.axis, decision.plan, options.threads, progress)


def _write_raw(writer: ContainerWriter, number: int, tensor: SourceTensor, codec: RawCodec, progress: Progress) -> None:
    itemsize = np.dtype(tensor.array.dtype).itemsize
    for chunk, piece in enumerate(_raw_pieces(tensor, codec)):
        entries = len(piece) // itemsize
        payload = _zstd(piece) if codec.coding == "zstd" else piece
        writer.add_chunk(payload, tensor=number, chunk=chunk, vectors=entries, codec=codec.id)
        progress(entries)


def _write_e8(
    writer: ContainerWriter,
    number: int,
    tensor: SourceTensor,
    axis: int,
    plan: Plan,
    threads: int,
    progress: Progress,
) -> dict[str, float]:
    view = MatrixView(tensor.array, tensor.shape, axis)
    tiling = Tiling(view.n, view.m, plan.codec.group, plan.codec.chunk_vectors)

    def work(item: tuple[tuple[Tile, npt.NDArray[Any]], int]) -> tuple[Tile, bytes, Energies]:
        (tile, block), budget = item
        return tile, *encode_chunk(block, plan.codec, budget)

    total = {"energy": 0.0, "mean_energy": 0.0, "overlap": 0.0, "error": 0.0}
    items = zip(_blocks(view, tiling), plan.index_budgets, strict=True)
    for chunk, (tile, payload, energies) in enumerate(ordered_map(work, items, threads)):
        writer.add_chunk(payload, tensor=number, chunk=chunk, vectors=tile.vectors, codec=plan.codec.id)
        for key, value in asdict(energies).items():
            total[key] += value
        progress(tile.entries)
    return total


def _blocks(view: MatrixView, tiling: Tiling) -> Iterator[tuple[Tile, npt.NDArray[Any]]]:
    """Chunks in order, read several at a time: sources that store rows dislike narrow columns."""
    together = max(1, PANEL_ENTRIES // (tiling.group * tiling.chunk_vectors))
    for group in range(tiling.groups):
        for first in range(group * tiling.runs, (group + 1) * tiling.runs, together):
            tiles = [tiling.tile(chunk) for chunk in range(first, min(first + together, (group + 1) * tiling.runs))]
            panel = view.read(tiles[0].v0, tiles[-1].v1, tiles[0].e0, tiles[0].e1)
            for tile in tiles:
                yield tile, panel[tile.v0 - tiles[0].v0 : tile.v1 - tiles[0].v0]


def _raw_pieces(tensor: SourceTensor, codec: RawCodec) -> Iterator[bytes]:
    """Little-endian bytes of runs of entries in C order."""
    size = int(np.prod(tensor.shape, dtype=np.int64))
    for start in range(0, size, codec.chunk_entries):
        stop = min(start + codec.chunk_entries, size)
        parts = [tensor.read(box) for box in boxes(tensor.shape, start, stop)]
        yield b"".join(np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<"), copy=False).tobytes() for p in parts)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=0, write_checksum=False).compress(data)


def _report(entry: TensorEntry, decision: _Decision, size: int) -> TensorReport:
    codec = decision.codec
    label = f"e8 q={codec.q}" if isinstance(codec, E8Codec) else f"raw {codec.coding}"
    error = entry.error / entry.energy if decision.plan and entry.energy > 0 else None
    if decision.plan and entry.energy == 0:
        error = 0.0
    return TensorReport(entry.name, entry.shape, entry.dtype, label, decision.note, entry.size, size, error)
