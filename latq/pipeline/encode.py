"""Arrays of a source into a file: each tensor is decided upon, then coded chunk by chunk in order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import zstandard

from latq.container import CHUNK_RECORD_SIZE, MAX_METADATA, ContainerWriter, dump_canonical
from latq.errors import InputError
from latq.pipeline.chunk import Energies, Goal, encode_chunk
from latq.pipeline.decide import EncodeOptions, Lossless, blocks, decide
from latq.pipeline.metadata import MAX_TENSORS, Codec, Metadata, RawCodec, TensorEntry, Tile, Tiling, significant, unfit
from latq.pipeline.plan import Plan
from latq.pipeline.pool import ordered_map
from latq.sources import Kind, MatrixView, Source, SourceTensor, boxes

RAW_CHUNK_ENTRIES = 1 << 20
ZSTD_LEVEL = 3
# zstd must save this share of a tensor's first chunk to be used.
ZSTD_GAIN = 0.05

Progress = Callable[[int], None]


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
    file = _FileBuilder(ContainerWriter(stream), options.threads, progress)
    for tensor in source.tensors:
        decision = decide(tensor, source, where, options)
        if isinstance(decision.plan, Lossless):
            file.add_raw(tensor, decision.axis, decision.plan)
        else:
            file.add_matrix(tensor, decision.axis, decision.plan)
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


class _FileBuilder:
    """Writes tensors one after the other and keeps what the metadata and the report say of them."""

    def __init__(self, writer: ContainerWriter, threads: int, progress: Progress) -> None:
        self.writer = writer
        self.codecs: dict[Codec, int] = {}
        self.entries: list[TensorEntry] = []
        self.reports: list[TensorReport] = []
        self._threads, self._progress = threads, progress

    def add_raw(self, tensor: SourceTensor, axis: int, lossless: Lossless) -> None:
        codec = _raw_codec(tensor)
        before, chunk = self.writer.bytes_written, -1
        for chunk, (entries, piece) in enumerate(_raw_pieces(tensor, codec)):
            payload = _zstd(piece) if codec.coding == "zstd" else piece
            self._add_chunk(payload, chunk, entries, codec)
            self._progress(entries)
        self._describe(tensor, axis, codec, {})
        size = self.writer.bytes_written - before + CHUNK_RECORD_SIZE * (chunk + 1)
        self._report(codec.label, lossless, size, None)

    def add_matrix(self, tensor: SourceTensor, axis: int, plan: Plan) -> None:
        view = MatrixView(tensor.array, tensor.shape, axis)
        tiling = Tiling(view.n, view.m, plan.codec.group, plan.codec.chunk_vectors)

        def work(item: tuple[tuple[Tile, npt.NDArray[Any]], Goal]) -> tuple[Tile, bytes, Energies]:
            (tile, block), goal = item
            return tile, *encode_chunk(block, plan.codec, plan.classes, goal)

        before = self.writer.bytes_written
        total = dict.fromkeys(asdict(Energies()), 0.0)
        items = zip(blocks(view, tiling), plan.goals, strict=True)
        for chunk, (tile, payload, energies) in enumerate(ordered_map(work, items, self._threads)):
            self._add_chunk(payload, chunk, tile.vectors, plan.codec)
            for key, value in asdict(energies).items():
                total[key] += value
            self._progress(tile.entries)
        self._describe(tensor, axis, plan.codec, total)
        size = self.writer.bytes_written - before + CHUNK_RECORD_SIZE * tiling.count
        error = total["error"] / total["energy"] if total["energy"] else 0.0
        self._report(plan.codec.label, None, size, error)

    def _add_chunk(self, payload: bytes, chunk: int, vectors: int, codec: Codec) -> None:
        self.writer.add_chunk(payload, tensor=len(self.entries), chunk=chunk, vectors=vectors, codec=codec.id)

    def _describe(self, tensor: SourceTensor, axis: int, codec: Codec, energies: Mapping[str, float]) -> None:
        number = self.codecs.setdefault(codec, len(self.codecs))
        rounded = {key: significant(value) for key, value in energies.items()}
        self.entries.append(TensorEntry(tensor.name, tensor.shape, tensor.dtype, number, axis, **rounded))

    def _report(self, codec: str, lossless: Lossless | None, size: int, error: float | None) -> None:
        entry = self.entries[-1]
        note, surprising = (lossless.reason, lossless.surprising) if lossless else ("", False)
        self.reports.append(
            TensorReport(entry.name, entry.shape, entry.dtype, codec, note, surprising, entry.size, size, error)
        )


def _raw_codec(tensor: SourceTensor) -> RawCodec:
    """zstd if it pays on the first chunk."""
    for _, piece in _raw_pieces(tensor, RawCodec("stored", RAW_CHUNK_ENTRIES)):
        if len(_zstd(piece)) <= len(piece) * (1 - ZSTD_GAIN):
            return RawCodec("zstd", RAW_CHUNK_ENTRIES)
        break
    return RawCodec("stored", RAW_CHUNK_ENTRIES)


def _raw_pieces(tensor: SourceTensor, codec: RawCodec) -> Iterator[tuple[int, bytes]]:
    """(entries, little-endian bytes) of runs of entries in C order."""
    size = int(np.prod(tensor.shape, dtype=np.int64))
    for start in range(0, size, codec.chunk_entries):
        stop = min(start + codec.chunk_entries, size)
        parts = [tensor.read(box) for box in boxes(tensor.shape, start, stop)]
        little = [np.ascontiguousarray(p).astype(p.dtype.newbyteorder("<"), copy=False).tobytes() for p in parts]
        yield stop - start, b"".join(little)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=0, write_checksum=False).compress(data)
