"""Open a container by reading its end, then any chunk by itself."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Self

from latq.container.index import ChunkIndex
from latq.container.limits import MAX_CHUNKS, MAX_METADATA
from latq.container.records import (
    CHUNK_RECORD_SIZE,
    FOOTER_SIZE,
    FRAME_HEADER_SIZE,
    PREAMBLE_SIZE,
    ChunkRecord,
    Footer,
    FrameHeader,
    Preamble,
    crc32c,
    frame_span,
)
from latq.container.source import ByteSource
from latq.errors import CorruptError, LimitError, TruncatedError

_TAIL_READ = 64 << 10


class ContainerReader:
    """An opened container: everything but the chunks themselves has been checked."""

    preamble: Preamble
    footer: Footer
    metadata: bytes
    records: ChunkIndex

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.name = source.name
        self.size = source.size
        # The preamble first: it says whether this is such a file at all, and whether its footer can be understood.
        self.preamble = Preamble.parse(source.read(0, min(PREAMBLE_SIZE, self.size)), self.name)
        tail = _Tail(source)
        self.footer = self._parse_footer(tail)
        self.metadata, self.records = self._parse_directory(tail)

    def record(self, tensor: int, chunk: int) -> ChunkRecord:
        record = self.records.find(tensor, chunk)
        if record is None:
            raise CorruptError(f"{self.name}: tensor {tensor} has no chunk {chunk}")
        return record

    def chunks_of(self, tensor: int) -> ChunkIndex:
        """The tensor's chunks in ascending order; none if the file does not have it."""
        return self.records.of_tensor(tensor)

    def payload(self, record: ChunkRecord) -> bytes:
        """The checked payload of a chunk, with a single read."""
        return self._read_chunk(record, FRAME_HEADER_SIZE + record.payload_len)

    def expecting(self, records: Iterable[ChunkRecord]) -> AbstractContextManager[None]:
        """A block that will ask for the payloads of ``records``, about in this order, each once."""
        return self._source.expecting((r.offset, FRAME_HEADER_SIZE + r.payload_len) for r in records)

    def damage(self) -> Iterator[tuple[ChunkRecord, str | None]]:
        """Every chunk in file order with what is wrong with it, or None.

        Raises at the end if the bytes between preamble and first chunk are damaged. With what opening has checked,
        this looks at every byte of the file.
        """
        with self._source.expecting((r.offset, self._span(r.payload_len)) for r in self.records):
            for record in self.records:
                yield record, self._damage_of(record)
        self._check_preamble_padding()

    def span_of(self, record: ChunkRecord) -> tuple[int, int]:
        """First byte of a chunk's frame, and the one after its padding."""
        return record.offset, record.offset + self._span(record.payload_len)

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parse_footer(self, tail: "_Tail") -> Footer:
        footer = Footer.parse(tail.read(max(0, self.size - FOOTER_SIZE), FOOTER_SIZE), self.name)
        if footer.file_len > self.size:
            raise TruncatedError(f"{self.name} is truncated: {self.size} of {footer.file_len} bytes")
        if footer.file_len < self.size:
            raise CorruptError(f"{self.name}: {self.size} bytes, but its footer ends a file of {footer.file_len}")
        if footer.preamble != self.preamble:
            raise CorruptError(f"{self.name}: preamble and footer disagree")
        return footer

    def _parse_directory(self, tail: "_Tail") -> tuple[bytes, ChunkIndex]:
        footer = self.footer
        metadata_span, index_span = self._span(footer.metadata_len), self._span(footer.index_len)
        index_end = footer.index_offset + index_span
        if (footer.metadata_offset + metadata_span, index_end) != (footer.index_offset, self.size - FOOTER_SIZE):
            raise CorruptError(f"{self.name}: metadata, index and footer do not follow each other")
        if footer.metadata_len > MAX_METADATA:
            raise LimitError(f"{self.name}: {footer.metadata_len} bytes of metadata; the limit is {MAX_METADATA}")
        if footer.index_len > MAX_CHUNKS * CHUNK_RECORD_SIZE:
            raise LimitError(f"{self.name}: {footer.index_len} bytes of index; this reader accepts {MAX_CHUNKS} chunks")

        where = self._where("metadata", footer.metadata_offset, metadata_span)
        metadata = _open_frame(tail.read(footer.metadata_offset, metadata_span), footer.metadata_header, where)
        where = self._where("index", footer.index_offset, index_span)
        index = ChunkIndex.parse(
            _open_frame(tail.read(footer.index_offset, index_span), footer.index_header, where), where
        )
        index.check_tiling(self.preamble.end, footer.metadata_offset, self.preamble.align_log2, where)
        return metadata, index

    def _read_chunk(self, record: ChunkRecord, length: int) -> bytes:
        what = f"tensor {record.tensor} chunk {record.chunk}"
        where = self._where(what, record.offset, self._span(record.payload_len))
        return _open_frame(self._source.read(record.offset, length), record.header, where)

    def _damage_of(self, record: ChunkRecord) -> str | None:
        try:
            self._read_chunk(record, self._span(record.payload_len))
        except CorruptError as error:
            return str(error)
        return None

    def _check_preamble_padding(self) -> None:
        if not _is_zero(self._source.read(PREAMBLE_SIZE, self.preamble.end - PREAMBLE_SIZE)):
            raise CorruptError(f"{self.name}: bytes {PREAMBLE_SIZE}..{self.preamble.end}: padding is not zero")

    def _span(self, payload_len: int) -> int:
        return frame_span(payload_len, self.preamble.align_log2)

    def _where(self, what: str, offset: int, span: int) -> str:
        return f"{self.name}: {what} (bytes {offset}..{offset + span})"


class _Tail:
    """The end of a source in memory, extended towards the front when more of it is asked for."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._start = max(0, source.size - _TAIL_READ)
        self._data = source.read(self._start, source.size - self._start)

    def read(self, offset: int, length: int) -> bytes:
        if offset < self._start:
            self._data = self._source.read(offset, self._start - offset) + self._data
            self._start = offset
        begin = offset - self._start
        return self._data[begin : begin + length]


def _open_frame(raw: bytes, expected: FrameHeader, where: str) -> bytes:
    """The payload of the frame at the start of ``raw``; what follows it there must be padding."""
    if FrameHeader.parse(raw[:FRAME_HEADER_SIZE], where) != expected:
        raise CorruptError(f"{where}: the frame header contradicts what points to it")
    end = FRAME_HEADER_SIZE + expected.payload_len
    payload = raw[FRAME_HEADER_SIZE:end]
    if crc32c(payload) != expected.payload_crc:
        raise CorruptError(f"{where}: checksum mismatch")
    if not _is_zero(raw[end:]):
        raise CorruptError(f"{where}: padding is not zero")
    return payload


def _is_zero(raw: bytes) -> bool:
    return raw.count(0) == len(raw)
