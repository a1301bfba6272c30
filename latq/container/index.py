"""The table of chunks: checked as a whole, turned into records one at a time."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from latq.container.limits import MAX_CHUNK_PAYLOAD, MAX_CHUNKS
from latq.container.records import CHUNK_RECORD_DTYPE, FRAME_HEADER_SIZE, ChunkRecord
from latq.errors import CorruptError, LimitError


class ChunkIndex(Sequence[ChunkRecord]):
    """Chunk records in file order, which is ascending ``(tensor, chunk)``."""

    def __init__(self, table: npt.NDArray[Any]) -> None:
        self._table = table

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        count, rest = divmod(len(raw), CHUNK_RECORD_DTYPE.itemsize)
        if rest:
            raise CorruptError(f"{where}: length {len(raw)} is not a multiple of {CHUNK_RECORD_DTYPE.itemsize}")
        if count > MAX_CHUNKS:
            raise LimitError(f"{where}: {count} chunks; this reader accepts {MAX_CHUNKS}")
        index = cls(np.frombuffer(raw, CHUNK_RECORD_DTYPE))
        if index._table["flags"].any() or index._table["zero"].any():
            raise CorruptError(f"{where}: reserved fields are not zero")
        if np.any(index._keys[1:] <= index._keys[:-1]):
            raise CorruptError(f"{where}: (tensor, chunk) does not increase")
        if np.any(index._table["payload_len"] > MAX_CHUNK_PAYLOAD):
            raise LimitError(f"{where}: a payload is longer than {MAX_CHUNK_PAYLOAD} bytes")
        return index

    def check_tiling(self, start: int, end: int, align_log2: int, where: str) -> None:
        """The frames must fill ``start..end`` without a hole or an overlap."""
        bounds = start + np.concatenate(([0], np.cumsum(self._spans(align_log2))))
        if bounds[-1] != end or np.any(self._table["offset"] != bounds[:-1].astype(np.uint64)):
            raise CorruptError(f"{where}: the chunks do not tile bytes {start}..{end}")

    def column(self, field: str) -> npt.NDArray[np.int64]:
        """One field of all records."""
        return self._table[field].astype(np.int64)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all payloads."""
        return int(self.column("payload_len").sum())

    def stored_bytes(self, align_log2: int) -> int:
        """Bytes of all chunks with their frames and records."""
        return int(self._spans(align_log2).sum()) + len(self) * CHUNK_RECORD_DTYPE.itemsize

    def _spans(self, align_log2: int) -> npt.NDArray[np.int64]:
        """Bytes of each frame; parse() bounded count and lengths, so sums stay far below 2**63."""
        return -(-(self.column("payload_len") + FRAME_HEADER_SIZE) >> align_log2) << align_log2

    def find(self, tensor: int, chunk: int) -> ChunkRecord | None:
        position = bisect_left(self._keys, (tensor << 32) + chunk)
        if position == len(self):
            return None
        record = self[position]
        return record if (record.tensor, record.chunk) == (tensor, chunk) else None

    def of_tensor(self, tensor: int) -> "ChunkIndex":
        return self[bisect_left(self._keys, tensor << 32) : bisect_left(self._keys, (tensor + 1) << 32)]

    @cached_property
    def _keys(self) -> npt.NDArray[np.uint64]:
        tensors: npt.NDArray[np.uint64] = self._table["tensor"].astype(np.uint64)
        return (tensors << np.uint64(32)) | self._table["chunk"].astype(np.uint64)

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, position: int) -> ChunkRecord: ...
    @overload
    def __getitem__(self, position: slice) -> "ChunkIndex": ...
    def __getitem__(self, position: int | slice) -> "ChunkRecord | ChunkIndex":
        if isinstance(position, slice):
            return ChunkIndex(self._table[position])
        return ChunkRecord.parse(self._table[position].tobytes(), f"index record {position}")
