"""The latq container: chunks of bytes in a checked, indexed file. It knows no mathematics.

A file is a preamble, one frame per chunk, a metadata frame, an index frame and a footer. Every byte is covered by a
checksum or must be zero; the end alone is enough to open it.
"""

from latq.container.index import ChunkIndex
from latq.container.json_text import dump_canonical, parse_strict
from latq.container.limits import MAX_CHUNK_PAYLOAD, MAX_CHUNKS, MAX_METADATA, MAX_METADATA_DEPTH
from latq.container.reader import ContainerReader
from latq.container.records import (
    CHUNK_RECORD_SIZE,
    SIGNATURE,
    ChunkRecord,
    Footer,
    FrameHeader,
    FrameKind,
    Preamble,
    crc32c,
)
from latq.container.recovery import RecoveredReader
from latq.container.source import ByteSource, BytesSource, FileSource, source_at
from latq.container.writer import ContainerWriter, container_overhead, file_size

__all__ = [
    "CHUNK_RECORD_SIZE",
    "MAX_CHUNKS",
    "MAX_CHUNK_PAYLOAD",
    "MAX_METADATA",
    "MAX_METADATA_DEPTH",
    "SIGNATURE",
    "ByteSource",
    "BytesSource",
    "ChunkIndex",
    "ChunkRecord",
    "ContainerReader",
    "ContainerWriter",
    "FileSource",
    "Footer",
    "FrameHeader",
    "FrameKind",
    "Preamble",
    "RecoveredReader",
    "container_overhead",
    "crc32c",
    "dump_canonical",
    "file_size",
    "parse_strict",
    "source_at",
]
