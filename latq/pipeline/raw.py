"""Lossless tensors: their bytes, piece by piece."""

from collections.abc import Iterator
from math import prod

import numpy as np
import zstandard

from latq.pipeline.metadata import RawCodec
from latq.pipeline.pool import ordered_map
from latq.sources import SourceTensor, boxes
from latq.sources.files import release_pages

CHUNK_ENTRIES = 1 << 20
ZSTD_LEVEL = 3
# zstd must save this share of a tensor's first chunk to be used.
ZSTD_GAIN = 0.05


def raw_codec(tensor: SourceTensor) -> RawCodec:
    """zstd if it pays on the first chunk."""
    for piece in pieces(tensor):
        data = raw_bytes(tensor, *piece)
        if len(_zstd(data)) <= len(data) * (1 - ZSTD_GAIN):
            return RawCodec("zstd", CHUNK_ENTRIES)
        break
    return RawCodec("stored", CHUNK_ENTRIES)


def coded_pieces(tensor: SourceTensor, codec: RawCodec, threads: int) -> Iterator[tuple[int, bytes]]:
    """(entries, payload) of every chunk in order."""

    def work(piece: tuple[int, int]) -> tuple[int, bytes]:
        data = raw_bytes(tensor, *piece)
        return piece[1] - piece[0], _zstd(data) if codec.coding == "zstd" else data

    return ordered_map(work, pieces(tensor), threads)


def pieces(tensor: SourceTensor, entries: int = 0) -> Iterator[tuple[int, int]]:
    """Runs [start, stop) of so many entries in C order; those of the chunks if 0."""
    size, step = prod(tensor.shape), entries or CHUNK_ENTRIES
    return ((start, min(start + step, size)) for start in range(0, size, step))


def raw_bytes(tensor: SourceTensor, start: int, stop: int) -> bytes:
    """Entries [start, stop) in C order, little-endian."""
    release_pages()
    parts = [np.ascontiguousarray(tensor.read(box)) for box in boxes(tensor.shape, start, stop)]
    return b"".join(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes() for part in parts)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=0, write_checksum=False).compress(data)
