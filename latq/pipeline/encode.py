"""Arrays of a source into a file: each tensor is decided upon, then coded chunk by chunk in order."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import zstandard

from latq.container import CHUNK_RECORD_SIZE, MAX_METADATA, ContainerWriter, dump_canonical
from latq.errors import InputError
from latq.pipeline.calibrated import Known
from latq.pipeline.chunk import Energies, Scratch, encode_chunk
from latq.pipeline.decide import EncodeOptions, Lossless, decide
from latq.pipeline.metadata import MAX_TENSORS, Codec, Metadata, RawCodec, TensorEntry, significant, unfit
from latq.pipeline.panels import Array, Panels
from latq.pipeline.plan import Plan
from latq.pipeline.pool import ordered_map
from latq.pipeline.tiling import Tile
from latq.sources import Kind, Source, SourceTensor, boxes

RAW_CHUNK_ENTRIES = 1 << 20
NO_ENERGIES = Energies()
# Tensors of at most so many entries are small.
SMALL_ENTRIES = 1 << 22
ZSTD_LEVEL = 3
# zstd must save this share of a tensor's first chunk to be used.
ZSTD_GAIN = 0.05

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Calibrated:
    """What became of a tensor whose inputs are known: the error energy of its outputs over theirs, the bits per entry
    above reverse water-filling, and the damping of the second moments; None if it was quantized without regard to
    them, which made smaller errors."""

    output_error: float
    bits_lost: float | None
    damping: float | None


@dataclass(frozen=True)
class TensorReport:
    """How one tensor was coded.

    ``bytes`` counts its frames and index records; ``error`` is D, or None if it is lossless; then ``note`` says why,
    and ``surprising`` whether a user who asked for a rate should be told.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    codec: str
    note: str
    surprising: bool
    entries: int
    bytes: int
    error: float | None
    calibrated: Calibrated | None = None


@dataclass(frozen=True)
class EncodeReport:
    """Outcome of one ``encode``: the size of the file, and its tensors."""

    bytes: int
    tensors: list[TensorReport]


def encode_source(
    source: Source, where: str, stream: BinaryIO, options: EncodeOptions, progress: Progress = lambda entries: None
) -> EncodeReport:
    """Write every tensor of ``source`` to ``stream``; ``where`` names the source in messages.

    Raises InputError for a tensor that cannot be coded, ParameterError for an axis or a rate that does not fit it.
    """
    _check_source(source, where)
    file = _FileBuilder(ContainerWriter(stream), progress)
    for coded in _coded_tensors(source, where, options):
        file.add(coded)
    metadata = Metadata(source.kind, dict(source.extras), list(file.codecs), file.entries)
    return EncodeReport(file.writer.finish(metadata.dump()), file.reports)


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


@dataclass(frozen=True)
class _CodedChunk:
    """A payload, the vectors (of a raw chunk: entries) and the entries that it holds, how well it represents them."""

    payload: bytes
    vectors: int
    entries: int
    energies: Energies = NO_ENERGIES


@dataclass(frozen=True)
class _Coded:
    """A tensor on its way into the file; its chunks may not be coded before they are drawn."""

    tensor: SourceTensor
    axis: int
    codec: Codec
    lossless: Lossless | None
    chunks: Iterable[_CodedChunk]
    plan: Plan | None = None
    known: Known | None = None


def _coded_tensors(source: Source, where: str, options: EncodeOptions) -> Iterator[_Coded]:
    """Every tensor in order. Threads share the chunks of a large tensor, and each take one of several small ones."""

    def whole(tensor: SourceTensor) -> _Coded:
        coded = _code(tensor, source, where, options, 1)
        return replace(coded, chunks=list(coded.chunks))

    for small, run in groupby(source.tensors, lambda tensor: prod(tensor.shape) <= SMALL_ENTRIES):
        tensors = list(run)
        if small and len(tensors) >= options.threads:
            yield from ordered_map(whole, tensors, options.threads)
        else:
            yield from (_code(tensor, source, where, options, options.threads) for tensor in tensors)


def _code(tensor: SourceTensor, source: Source, where: str, options: EncodeOptions, threads: int) -> _Coded:
    decision = decide(tensor, source, where, options, threads)
    plan = decision.plan
    if isinstance(plan, Lossless):
        codec = _raw_codec(tensor)
        return _Coded(tensor, decision.axis, codec, plan, _raw_chunks(tensor, codec, threads))
    return _Coded(tensor, decision.axis, plan.codec, None, _matrix_chunks(decision.panels, plan), plan, decision.known)


def _matrix_chunks(panels: Panels, plan: Plan) -> Iterator[_CodedChunk]:
    scratch = Scratch()

    def work(chunk: int, tile: Tile, x: Array) -> _CodedChunk:
        payload, energies = encode_chunk(x, plan.codec, plan.classes, plan.goals[chunk], scratch, plan.inputs)
        return _CodedChunk(payload, tile.vectors, tile.entries, energies)

    return panels.map(work)


def _raw_chunks(tensor: SourceTensor, codec: RawCodec, threads: int) -> Iterator[_CodedChunk]:
    def work(piece: tuple[int, int]) -> _CodedChunk:
        data = _raw_bytes(tensor, *piece)
        entries = piece[1] - piece[0]
        return _CodedChunk(_zstd(data) if codec.coding == "zstd" else data, entries, entries)

    return ordered_map(work, _raw_pieces(tensor, codec), threads)


class _FileBuilder:
    """Writes tensors one after the other and keeps what the metadata and the report say of them."""

    def __init__(self, writer: ContainerWriter, progress: Progress) -> None:
        self.writer = writer
        self.codecs: dict[Codec, int] = {}
        self.entries: list[TensorEntry] = []
        self.reports: list[TensorReport] = []
        self._progress = progress

    def add(self, coded: _Coded) -> None:
        before, count, number = self.writer.bytes_written, 0, len(self.entries)
        total = asdict(NO_ENERGIES)
        for count, chunk in enumerate(coded.chunks, 1):
            self.writer.add_chunk(
                chunk.payload, tensor=number, chunk=count - 1, vectors=chunk.vectors, codec=coded.codec.id
            )
            for key, value in asdict(chunk.energies).items():
                total[key] += value
            self._progress(chunk.entries)
        tensor, lossless = coded.tensor, coded.lossless
        used = self.codecs.setdefault(coded.codec, len(self.codecs))
        energies = {} if lossless else {key: significant(value) for key, value in total.items()}
        size = self.writer.bytes_written - before + CHUNK_RECORD_SIZE * count
        lost = None
        if coded.known is not None and (entries := prod(tensor.shape)):
            lost = coded.known.bits_lost(8 * size / entries, total["energy"] / entries, total["output_error"] / entries)
        entry = TensorEntry(
            tensor.name, tensor.shape, tensor.dtype, used, coded.axis, **energies, output_bits_lost=lost
        )
        self.entries.append(entry)
        self.reports.append(
            TensorReport(
                entry.name,
                entry.shape,
                entry.dtype,
                coded.codec.label,
                lossless.reason if lossless else "",
                lossless.surprising if lossless else False,
                entry.size,
                size,
                _distortion(total) if lossless is None else None,
                _calibrated(coded.plan, entry),
            )
        )


def _calibrated(plan: Plan | None, entry: TensorEntry) -> Calibrated | None:
    if plan is None or plan.inputs is None:
        return None
    shaping = plan.inputs.shaping
    error = entry.output_error / entry.output_energy if entry.output_energy else 0.0
    return Calibrated(error, entry.output_bits_lost, shaping.damping if shaping else None)


def _distortion(energies: Mapping[str, float]) -> float:
    return energies["error"] / energies["energy"] if energies["energy"] else 0.0


def _raw_codec(tensor: SourceTensor) -> RawCodec:
    """zstd if it pays on the first chunk."""
    for piece in _raw_pieces(tensor, RawCodec("stored", RAW_CHUNK_ENTRIES)):
        data = _raw_bytes(tensor, *piece)
        if len(_zstd(data)) <= len(data) * (1 - ZSTD_GAIN):
            return RawCodec("zstd", RAW_CHUNK_ENTRIES)
        break
    return RawCodec("stored", RAW_CHUNK_ENTRIES)


def _raw_pieces(tensor: SourceTensor, codec: RawCodec) -> Iterator[tuple[int, int]]:
    """Runs [start, stop) of entries in C order."""
    size = prod(tensor.shape)
    return ((start, min(start + codec.chunk_entries, size)) for start in range(0, size, codec.chunk_entries))


def _raw_bytes(tensor: SourceTensor, start: int, stop: int) -> bytes:
    """Entries [start, stop) in C order, little-endian."""
    parts = [np.ascontiguousarray(tensor.read(box)) for box in boxes(tensor.shape, start, stop)]
    return b"".join(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes() for part in parts)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=0, write_checksum=False).compress(data)
