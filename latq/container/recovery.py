"""Containers whose preamble, footer, index or metadata is damaged: frames are found by looking through all bytes."""

from collections.abc import Iterator

import numpy as np

from latq.container.index import ChunkIndex
from latq.container.limits import MAX_CHUNK_PAYLOAD, MAX_METADATA
from latq.container.reader import ContainerReader
from latq.container.records import (
    CHUNK_RECORD_DTYPE,
    FRAME_HEADER_SIZE,
    FRAME_MAGIC,
    ChunkRecord,
    FrameHeader,
    FrameKind,
    Preamble,
    crc32c,
)
from latq.container.source import ByteSource
from latq.errors import CorruptError

_BLOCK = 1 << 20


class RecoveredReader(ContainerReader):
    """What is sound of such a container: its last metadata frame, and records of the chunks that are there.

    Frames may lie anywhere, so it does not matter whether bytes were lost or added. Where two of them claim to be the
    same chunk, neither counts. Records do not know their ``vectors``. CorruptError if there is no metadata frame.
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.name = source.name
        self.size = source.size
        self.preamble = Preamble()  # As good as any: frames have been found without it.
        metadata: bytes | None = None
        found: dict[tuple[int, int], ChunkRecord | None] = {}
        for offset, header in _sound_frames(source):
            if header.kind == FrameKind.METADATA and header.payload_len <= MAX_METADATA:
                metadata = source.read(offset + FRAME_HEADER_SIZE, header.payload_len)
            elif header.kind == FrameKind.CHUNK:
                key = header.tensor, header.chunk
                record = ChunkRecord(offset, header.payload_len, *key, 0, header.codec, header.payload_crc)
                found[key] = None if key in found else record
        if metadata is None:
            raise CorruptError(f"{self.name}: no metadata frame is sound, so nothing tells what the chunks hold")
        self.metadata = metadata
        self.keep([record for _, record in sorted(found.items()) if record])

    def keep(self, records: list[ChunkRecord]) -> None:
        """Forget all chunks but these, which ascend."""
        self.records = ChunkIndex(np.frombuffer(b"".join(record.pack() for record in records), CHUNK_RECORD_DTYPE))


def _sound_frames(source: ByteSource) -> Iterator[tuple[int, FrameHeader]]:
    """Offsets and headers of all frames whose checksums hold, but for those within the payload of another."""
    end = 0
    for offset in _places(source, FRAME_MAGIC):
        if offset < end or offset + FRAME_HEADER_SIZE > source.size:
            continue
        try:
            header = FrameHeader.parse(source.read(offset, FRAME_HEADER_SIZE), source.name)
        except CorruptError:
            continue
        start = offset + FRAME_HEADER_SIZE
        stop = start + header.payload_len
        fits = header.payload_len <= MAX_CHUNK_PAYLOAD and stop <= source.size
        if fits and _checksum(source, start, stop) == header.payload_crc:
            yield offset, header
            end = stop


def _places(source: ByteSource, pattern: bytes) -> Iterator[int]:
    """Every offset where ``pattern`` stands."""
    for start in range(0, source.size, _BLOCK):
        block = source.read(start, min(_BLOCK + len(pattern) - 1, source.size - start))
        position = block.find(pattern)
        while position >= 0:
            yield start + position
            position = block.find(pattern, position + 1)


def _checksum(source: ByteSource, start: int, stop: int) -> int:
    crc = 0
    for position in range(start, stop, _BLOCK):
        crc = crc32c(source.read(position, min(_BLOCK, stop - position)), crc)
    return crc
