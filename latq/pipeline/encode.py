"""Arrays of a source into a file: each tensor is decided upon, then coded chunk by chunk in order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from msgspec import structs

from latq.container import CHUNK_RECORD_SIZE, MAX_METADATA, ContainerWriter, dump_canonical, parse_strict
from latq.errors import CorruptError, InputError
from latq.pipeline.calibrated import Known
from latq.pipeline.chunk import Energies, Scratch, encode_chunk
from latq.pipeline.decide import EncodeOptions, Lossless, decide
from latq.pipeline.metadata import MAX_TENSORS, Codec, Metadata, TensorEntry, significant, unfit
from latq.pipeline.panels import Array, Panels
from latq.pipeline.plan import Plan
from latq.pipeline.pool import ordered_map
from latq.pipeline.rates import allocated, asked_of
from latq.pipeline.raw import coded_pieces, raw_codec
from latq.pipeline.ties import ties
from latq.pipeline.tiling import Tile
from latq.sources import Kind, Source, SourceTensor

NO_ENERGIES = Energies()
# Tensors of at most so many entries are small.
SMALL_ENTRIES = 1 << 22

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
    and ``surprising`` whether a user who asked for a rate should be told. ``same_as`` is the name of the tensor that it
    is the same as, and has the bytes of, if there is one.
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
    same_as: str | None = None

    @property
    def bits_per_entry(self) -> float:
        return 8 * self.bytes / self.entries if self.entries else 0.0


@dataclass(frozen=True)
class EncodeReport:
    """Outcome of one ``encode``: the size of the file, and its tensors."""

    bytes: int
    tensors: list[TensorReport]

    @property
    def entries(self) -> int:
        """Of all tensors, once where several are the same."""
        return sum(t.entries for t in self.tensors if t.same_as is None)

    @property
    def bits_per_entry(self) -> float:
        return 8 * self.bytes / self.entries if self.entries else 0.0


def encode_source(
    source: Source, where: str, stream: BinaryIO, options: EncodeOptions, progress: Progress = lambda entries: None
) -> EncodeReport:
    """Write every tensor of ``source`` to ``stream``; ``where`` names the source in messages.

    Raises InputError for a tensor that cannot be coded, ParameterError for an axis or a rate that does not fit it.
    """
    _check_source(source, where)
    _check_calibration(source, options)
    asked = asked_of(source, where, options)
    tied = ties(source.tensors, [(each.codec, each.bits, each.error, each.allocate) for each in asked])
    asked = _with_inputs_of_ties(source, asked, tied)
    if options.allocate:
        asked = allocated(source, where, asked, tied)
    file = _FileBuilder(ContainerWriter(stream), progress)
    stored = [(source.tensors[i], asked[i]) for i in range(len(asked)) if i not in tied]
    coded = _coded_tensors(stored, source, where, options.threads)
    for number, tensor in enumerate(source.tensors):
        if number in tied:
            file.add_tied(tensor.name, tied[number])
        else:
            file.add(next(coded))
    metadata = Metadata(source.kind, dict(source.extras), list(file.codecs), file.entries)
    return EncodeReport(file.writer.finish(metadata.dump()), file.reports)


def source_of(arrays: Mapping[str, npt.NDArray[Any]], kind: Kind = "npy", axis: int = 0) -> Source:
    """A source over arrays in memory."""
    tensors = [SourceTensor.of(name, np.asarray(array), repr(name)) for name, array in sorted(arrays.items())]
    return Source(kind, tensors, axis)


def _check_calibration(source: Source, options: EncodeOptions) -> None:
    """Refuse inputs that are those of no tensor: encoding without them is not what was asked for."""
    calibration = options.calibration
    if calibration is None:
        return
    axis = source.default_axis if options.axis is None else options.axis
    lengths = {t.name: t.shape[axis] for t in source.tensors if -len(t.shape) <= axis < len(t.shape)}
    if not any(calibration.of(name, n) for name, n in lengths.items()):
        raise InputError(
            f"{calibration.where}: holds no inputs of any tensor; check the names of its arrays (an .npy file: their "
            "length), or choose the axis of the tensors with --axis"
        )


def _with_inputs_of_ties(source: Source, asked: Sequence[EncodeOptions], tied: dict[int, int]) -> list[EncodeOptions]:
    """``asked``, where a tensor without inputs of its own has those of one that is stored with it."""
    found = list(asked)
    for later, owner in tied.items():
        calibration, tensor, other = found[owner].calibration, source.tensors[owner], source.tensors[later].name
        axis = found[owner].axis
        axis = source.default_axis if axis is None else axis
        if calibration is None or not -len(tensor.shape) <= axis < len(tensor.shape):
            continue
        n = tensor.shape[axis]
        if not calibration.of(tensor.name, n) and calibration.of(other, n):
            found[owner] = replace(found[owner], calibration=calibration.named(tensor.name, other))
    return found


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
    try:
        parse_strict(dump_canonical({"extras": source.extras}))
    except (CorruptError, ValueError) as error:
        raise InputError(f"{where}: what it holds besides its tensors cannot be kept ({error})") from error


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


def _coded_tensors(
    tensors: Sequence[tuple[SourceTensor, EncodeOptions]], source: Source, where: str, threads: int
) -> Iterator[_Coded]:
    """Every tensor in order, as its options say. Threads share the chunks of a large tensor, and each take one of
    several small ones."""

    def whole(asked: tuple[SourceTensor, EncodeOptions]) -> _Coded:
        coded = _code(*asked, source, where, 1)
        return replace(coded, chunks=list(coded.chunks))

    for small, run in groupby(tensors, lambda asked: prod(asked[0].shape) <= SMALL_ENTRIES):
        together = list(run)
        if small and len(together) >= threads:
            yield from ordered_map(whole, together, threads)
        else:
            yield from (_code(*asked, source, where, threads) for asked in together)


def _code(tensor: SourceTensor, options: EncodeOptions, source: Source, where: str, threads: int) -> _Coded:
    decision = decide(tensor, source, where, options, threads)
    plan = decision.plan
    if isinstance(plan, Lossless):
        codec = raw_codec(tensor)
        payloads = coded_pieces(tensor, codec, threads)
        chunks = (_CodedChunk(payload, entries, entries) for entries, payload in payloads)
        return _Coded(tensor, decision.axis, codec, plan, chunks)
    return _Coded(tensor, decision.axis, plan.codec, None, _matrix_chunks(decision.panels, plan), plan, decision.known)


def _matrix_chunks(panels: Panels, plan: Plan) -> Iterator[_CodedChunk]:
    scratch = Scratch()

    def work(chunk: int, tile: Tile, x: Array) -> _CodedChunk:
        payload, energies = encode_chunk(x, plan.codec, plan.classes, plan.goals[chunk], scratch, plan.inputs)
        return _CodedChunk(payload, tile.vectors, tile.entries, energies)

    return panels.map(work)


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
        energies: dict[str, Any] = {} if lossless else {key: significant(value) for key, value in total.items()}
        if coded.known is None:  # Defaults, which a writer omits.
            energies = {key: value for key, value in energies.items() if not key.startswith("output_")}
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

    def add_tied(self, name: str, owner: int) -> None:
        """A tensor that is the same as an earlier one."""
        self.entries.append(structs.replace(self.entries[owner], name=name, same_as=owner))
        report = self.reports[owner]
        self.reports.append(replace(report, name=name, surprising=False, bytes=0, same_as=report.name))
        self._progress(report.entries)


def _calibrated(plan: Plan | None, entry: TensorEntry) -> Calibrated | None:
    if plan is None or plan.inputs is None:
        return None
    shaping = plan.inputs.shaping
    error = entry.output_error / entry.output_energy if entry.output_energy else 0.0
    return Calibrated(error, entry.output_bits_lost, shaping.damping if shaping else None)


def _distortion(energies: Mapping[str, float]) -> float:
    return energies["error"] / energies["energy"] if energies["energy"] else 0.0
