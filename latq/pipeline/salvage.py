"""Damaged files: which parts of which tensors are lost, and the others with a filling in place of these."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from latq.container import ByteSource, ChunkRecord, ContainerReader, RecoveredReader
from latq.errors import CorruptError, LimitError
from latq.pipeline.decode import File, Tensor
from latq.pipeline.metadata import RawCodec, chunk_count
from latq.pipeline.tiling import Tile

Array = npt.NDArray[Any]
Fill = Literal["nan", "zero"]

# Frames take at least as much.
_LEAST_FRAME = 64


@dataclass(frozen=True)
class Damage:
    """A chunk that is lost.

    It holds ``entries`` [e0, e1) of ``vectors`` [v0, v1); of a lossless tensor, whose ``vectors`` are None, those
    ``entries`` in C order. ``tied`` tensors have the same chunk. ``bytes`` is where the frame is, if that is known.
    """

    tensor: str
    tied: list[str]
    chunk: int
    vectors: tuple[int, int] | None
    entries: tuple[int, int]
    bytes: tuple[int, int] | None
    message: str

    @property
    def line(self) -> str:
        """For people."""
        entries = f"entries {self.entries[0]}..{self.entries[1]}"
        what = f"vectors {self.vectors[0]}..{self.vectors[1]}, {entries}" if self.vectors else f"{entries} in C order"
        also = f", shared by {', '.join(map(repr, self.tied))}" if self.tied else ""
        return f"{self.message} (tensor {self.tensor!r}, {what}{also})"


def damage_of(file: File, number: int, chunk: int, message: str) -> Damage:
    """What is lost with a chunk of tensor ``number``, which owns it."""
    tensors = file.metadata.tensors
    tensor = file[tensors[number].name]
    tied = [entry.name for entry in tensors if entry.same_as == number]
    record = file.reader.records.find(number, chunk)
    place = file.reader.span_of(record) if record else None
    if isinstance(tensor.codec, RawCodec):
        start = chunk * tensor.codec.chunk_entries
        entries = start, min(start + tensor.codec.chunk_entries, tensor.size)
        return Damage(tensor.name, tied, chunk, None, entries, place, message)
    tile = tensor.tiling.tile(chunk)
    return Damage(tensor.name, tied, chunk, (tile.v0, tile.v1), (tile.e0, tile.e1), place, message)


class SalvagedTensor(Tensor):
    """A tensor whose damaged chunks come as fillings."""

    _file: "SalvagedFile"

    def matrix_chunk(self, chunk: int, dtype: np.dtype[Any], out: Array | None = None) -> tuple[Tile, Array]:
        try:
            return super().matrix_chunk(chunk, dtype, out)
        except CorruptError as error:
            self._file.lose(self._number, chunk, str(error))
            tile = self.tiling.tile(chunk)
            block = np.empty((tile.vectors, tile.length), dtype) if out is None else out
            block[...] = self._file.filling(self.name)
            return tile, block

    def raw_chunk(self, chunk: int) -> tuple[int, Array]:
        assert isinstance(self.codec, RawCodec)
        try:
            return super().raw_chunk(chunk)
        except CorruptError as error:
            self._file.lose(self._number, chunk, str(error))
            start = chunk * self.codec.chunk_entries
            entries = min(self.codec.chunk_entries, self.size - start)
            return start, np.full(entries, self._file.filling(self.name), self.dtype)


class SalvagedFile(File):
    """An open file, damaged or not, of which everything can be decoded: entries of lost chunks are NaN or 0.

    ``fault`` is the error in what describes the file, if there is one; then chunks are looked for in the whole of it.
    CorruptError if its metadata is lost.
    """

    tensor_type = SalvagedTensor

    def __init__(self, source: ByteSource, fill: Fill = "nan") -> None:
        self._fill = fill
        self.fault: CorruptError | None = None
        self._lost: dict[tuple[int, int], str] = {}
        super().__init__(source)

    def lose(self, number: int, chunk: int, message: str) -> None:
        """Note that a chunk could not be decoded; threads may do so at once."""
        self._lost[number, chunk] = message

    @property
    def lost(self) -> list[Damage]:
        """The chunks that were asked for and are lost, in the order of the file."""
        return [damage_of(self, *key, message) for key, message in sorted(self._lost.items())]

    def filling(self, name: str) -> float:
        """What stands for lost entries of a tensor; integers and booleans have no NaN."""
        return nan if self._fill == "nan" and "float" in self[name].entry.dtype else 0.0

    def missing(self) -> Iterator[Damage]:
        """All chunks that are not there."""
        for number, entry in enumerate(self.metadata.tensors):
            for chunk in range(chunk_count(entry, self.metadata.codecs[entry.codec])):
                if self.reader.records.find(number, chunk) is None:
                    message = f"{self.name}: tensor {number} chunk {chunk}: no sound frame"
                    yield damage_of(self, number, chunk, message)

    def _opened(self, source: ByteSource) -> ContainerReader:
        try:
            return super()._opened(source)
        except CorruptError as error:
            self.fault = error
        try:
            return RecoveredReader(source)
        except CorruptError:
            raise type(self.fault)(f"{self.fault}, and no metadata can be found in it") from None

    def _check_chunks(self) -> None:
        """Of chunks that were looked for, those count which some tensor asks for."""
        if not isinstance(self.reader, RecoveredReader):
            super()._check_chunks()
            return
        tensors, codecs = self.metadata.tensors, self.metadata.codecs
        counts = [chunk_count(entry, codecs[entry.codec]) for entry in tensors]
        if sum(counts) > self.size // _LEAST_FRAME:  # Else a small file could ask for fillings without end.
            raise LimitError(f"{self.name}: {sum(counts)} chunks are said to be in {self.size} bytes")

        def belongs(record: ChunkRecord) -> bool:
            number = record.tensor
            if number >= len(tensors) or record.chunk >= counts[number]:
                return False
            return record.codec == codecs[tensors[number].codec].id

        self.reader.keep([record for record in self.reader.records if belongs(record)])
