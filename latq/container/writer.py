"""Write a container in one pass, without seeking: a pipe will do."""

from collections.abc import Iterable
from typing import BinaryIO

from latq.container.limits import MAX_CHUNK_PAYLOAD, MAX_CHUNKS, MAX_METADATA
from latq.container.records import (
    CHUNK_RECORD_SIZE,
    FOOTER_SIZE,
    MAX_ALIGN_LOG2,
    MIN_ALIGN_LOG2,
    ChunkRecord,
    Footer,
    FrameHeader,
    FrameKind,
    Preamble,
    align_up,
    crc32c,
    frame_span,
)
from latq.errors import ParameterError

_MAX_U16 = (1 << 16) - 1
_MAX_U32 = (1 << 32) - 1


class ContainerWriter:
    """Chunks in ascending order of ``(tensor, chunk)``, then ``finish``; the caller opens and closes the stream."""

    def __init__(self, stream: BinaryIO, *, align_log2: int = 6) -> None:
        _check_range("align_log2", align_log2, MAX_ALIGN_LOG2, low=MIN_ALIGN_LOG2)
        self._stream = stream
        self._preamble = Preamble(align_log2=align_log2)
        self._index = bytearray()
        self._last = (-1, -1)
        self._offset = 0
        self._finished = False
        self._write_padded(self._preamble.pack())

    @property
    def bytes_written(self) -> int:
        return self._offset

    def add_chunk(
        self, payload: bytes | bytearray | memoryview, *, tensor: int, chunk: int, vectors: int, codec: int
    ) -> None:
        self._check_open()
        data = bytes(payload)
        _check_range("payload length", len(data), MAX_CHUNK_PAYLOAD)
        _check_range("tensor", tensor, _MAX_U32)
        _check_range("chunk", chunk, _MAX_U32)
        _check_range("vectors", vectors, _MAX_U32)
        _check_range("codec", codec, _MAX_U16)
        _check_range("number of chunks", len(self._index) // CHUNK_RECORD_SIZE + 1, MAX_CHUNKS)
        if (tensor, chunk) <= self._last:
            raise ParameterError(f"(tensor, chunk) must increase: {(tensor, chunk)} follows {self._last}")
        record = ChunkRecord(self._offset, len(data), tensor, chunk, vectors, codec, crc32c(data))
        self._write_padded(record.header.pack(), data)
        self._index += record.pack()
        self._last = (tensor, chunk)

    def finish(self, metadata: bytes) -> int:
        """Write metadata, index and footer; return the size of the whole file."""
        self._check_open()
        _check_range("metadata length", len(metadata), MAX_METADATA)
        self._finished = True
        metadata_offset, metadata_crc = self._write_frame(FrameKind.METADATA, metadata)
        index = bytes(self._index)
        index_offset, index_crc = self._write_frame(FrameKind.INDEX, index)
        footer = Footer(
            index_offset=index_offset,
            index_len=len(index),
            metadata_offset=metadata_offset,
            metadata_len=len(metadata),
            index_crc=index_crc,
            metadata_crc=metadata_crc,
            file_len=self._offset + FOOTER_SIZE,
            preamble=self._preamble,
        )
        self._write(footer.pack())
        return self._offset

    def _write_frame(self, kind: FrameKind, payload: bytes) -> tuple[int, int]:
        """Write a frame that belongs to no tensor; return its offset and its payload's checksum."""
        offset, crc = self._offset, crc32c(payload)
        self._write_padded(FrameHeader(kind, 0, 0, 0, len(payload), crc).pack(), payload)
        return offset, crc

    def _write_padded(self, *parts: bytes) -> None:
        for part in parts:
            self._write(part)
        self._write(bytes(align_up(self._offset, self._preamble.align_log2) - self._offset))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._offset += len(data)

    def _check_open(self) -> None:
        if self._finished:
            raise ParameterError("the container is finished")


def container_overhead(payload_len: int, align_log2: int = 6) -> int:
    """Bytes that a chunk costs beyond its payload: frame header, padding and index record."""
    return frame_span(payload_len, align_log2) - payload_len + CHUNK_RECORD_SIZE


def file_size(payload_lengths: Iterable[int], metadata_length: int, align_log2: int = 6) -> int:
    """Exact size of the file that holds chunks of these lengths."""
    spans = [frame_span(length, align_log2) for length in payload_lengths]
    metadata = frame_span(metadata_length, align_log2)
    index = frame_span(CHUNK_RECORD_SIZE * len(spans), align_log2)
    return Preamble(align_log2=align_log2).end + sum(spans) + metadata + index + FOOTER_SIZE


def _check_range(what: str, value: int, high: int, low: int = 0) -> None:
    if not low <= value <= high:
        raise ParameterError(f"{what} must be in {low}..{high}, not {value}")
