"""The fixed-size records of the container, byte for byte. All integers are little-endian.

``parse`` checks in one order everywhere: size, checksum, version and feature bits, reserved bytes, ranges. A record
whose checksum holds is what a writer meant, so only then may an unknown bit be called unsupported and not damage.
"""

from dataclasses import astuple, dataclass
from enum import IntEnum
from struct import Struct
from typing import Self

import google_crc32c
import numpy as np

from latq.errors import CorruptError, TruncatedError, UnsupportedError

SIGNATURE = bytes.fromhex("8B4C4154510D0A1A")
CLOSING_MAGIC = SIGNATURE[::-1]
FRAME_MAGIC = b"LQFR"

FORMAT_MAJOR = 1
FORMAT_MINOR = 0
KNOWN_FEATURES = 0
MIN_ALIGN_LOG2 = 6
MAX_ALIGN_LOG2 = 16

PREAMBLE_SIZE = 64
FRAME_HEADER_SIZE = 32
CHUNK_RECORD_SIZE = 40
FOOTER_SIZE = 128

_CRC = Struct("<I")
_PREAMBLE = Struct("<8s HHQQB 31x")
_FRAME_HEADER = Struct("<4s HHIIQI")
_CHUNK_RECORD = Struct("<QQ IIIHHII")
_FOOTER = Struct("<QQQQIIQ HHQQB 47x")

CHUNK_RECORD_DTYPE = np.dtype(
    [
        ("offset", "<u8"),
        ("payload_len", "<u8"),
        ("tensor", "<u4"),
        ("chunk", "<u4"),
        ("vectors", "<u4"),
        ("codec", "<u2"),
        ("flags", "<u2"),
        ("payload_crc", "<u4"),
        ("zero", "<u4"),
    ]
)


class FrameKind(IntEnum):
    CHUNK = 1
    INDEX = 2
    METADATA = 3


_FRAME_KINDS = frozenset(FrameKind)


def crc32c(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """CRC-32C (Castagnoli) of ``data``, continuing from ``crc``."""
    return int(google_crc32c.extend(crc, bytes(data)))


def align_up(offset: int, align_log2: int) -> int:
    """The first multiple of ``2**align_log2`` at or after ``offset``."""
    return -(-offset >> align_log2) << align_log2


def frame_span(payload_len: int, align_log2: int) -> int:
    """Bytes from the start of a frame to the start of whatever follows it."""
    return align_up(FRAME_HEADER_SIZE + payload_len, align_log2)


def _seal(body: bytes) -> bytes:
    return body + _CRC.pack(crc32c(body))


def _check_seal(raw: bytes, body_size: int, where: str) -> None:
    if _CRC.unpack_from(raw, body_size)[0] != crc32c(raw[:body_size]):
        raise CorruptError(f"{where}: checksum mismatch")


def _check_size(raw: bytes, size: int, where: str) -> None:
    if len(raw) != size:
        raise TruncatedError(f"{where}: {len(raw)} bytes instead of {size}")


@dataclass(frozen=True, slots=True)
class Preamble:
    """Version, feature bits and alignment: the first bytes of a file, repeated in its footer."""

    major: int = FORMAT_MAJOR
    minor: int = FORMAT_MINOR
    must_understand: int = 0
    may_ignore: int = 0
    align_log2: int = 6

    @property
    def end(self) -> int:
        """Where the first frame starts."""
        return align_up(PREAMBLE_SIZE, self.align_log2)

    def pack(self) -> bytes:
        return _seal(_PREAMBLE.pack(SIGNATURE, *astuple(self)))

    @classmethod
    def parse(cls, raw: bytes, name: str) -> Self:
        if raw[: len(SIGNATURE)] != SIGNATURE:
            raise CorruptError(f"{name}: not a latq file")
        where = f"{name}: preamble"
        _check_size(raw, PREAMBLE_SIZE, where)
        _check_seal(raw, _PREAMBLE.size, where)
        _, *words = _PREAMBLE.unpack_from(raw)
        preamble = cls(*words)
        preamble.check_supported(name)
        # Packing writes zeros into every reserved byte, so they are all that can differ.
        if preamble.pack() != raw:
            raise CorruptError(f"{where}: reserved bytes are not zero")
        preamble.check_range(where)
        return preamble

    def check_supported(self, name: str) -> None:
        if self.major != FORMAT_MAJOR:
            raise UnsupportedError(f"{name}: needs format {self.major}.{self.minor}, not {FORMAT_MAJOR}; update latq")
        unknown = self.must_understand & ~KNOWN_FEATURES
        if unknown:
            lowest = (unknown & -unknown).bit_length() - 1
            raise UnsupportedError(f"{name}: needs feature bit {lowest}; update latq")

    def check_range(self, where: str) -> None:
        if not MIN_ALIGN_LOG2 <= self.align_log2 <= MAX_ALIGN_LOG2:
            raise CorruptError(f"{where}: alignment 2**{self.align_log2} is out of range")


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What stands in front of every payload; enough to walk a file whose end is lost."""

    kind: int
    codec: int
    tensor: int
    chunk: int
    payload_len: int
    payload_crc: int

    def pack(self) -> bytes:
        return _seal(_FRAME_HEADER.pack(FRAME_MAGIC, *astuple(self)))

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        where = f"{where}: frame header"
        _check_size(raw, FRAME_HEADER_SIZE, where)
        _check_seal(raw, _FRAME_HEADER.size, where)
        magic, *fields = _FRAME_HEADER.unpack_from(raw)
        if magic != FRAME_MAGIC:
            raise CorruptError(f"{where}: wrong magic")
        header = cls(*fields)
        if header.kind not in _FRAME_KINDS:
            raise CorruptError(f"{where}: unknown kind {header.kind}")
        return header


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """One entry of the index: where a chunk's frame starts and what it holds."""

    offset: int
    payload_len: int
    tensor: int
    chunk: int
    vectors: int
    codec: int
    payload_crc: int

    @property
    def header(self) -> FrameHeader:
        """The frame header that must stand at ``offset``."""
        return FrameHeader(FrameKind.CHUNK, self.codec, self.tensor, self.chunk, self.payload_len, self.payload_crc)

    def pack(self) -> bytes:
        *front, payload_crc = astuple(self)
        flags = zero = 0
        return _CHUNK_RECORD.pack(*front, flags, payload_crc, zero)

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """The index as a whole has a checksum; a single record has none."""
        _check_size(raw, CHUNK_RECORD_SIZE, where)
        offset, payload_len, tensor, chunk, vectors, codec, flags, payload_crc, zero = _CHUNK_RECORD.unpack(raw)
        if flags or zero:
            raise CorruptError(f"{where}: reserved fields are not zero")
        return cls(offset, payload_len, tensor, chunk, vectors, codec, payload_crc)


@dataclass(frozen=True, slots=True)
class Footer:
    """The last bytes of a file: where index and metadata are, and a copy of the preamble's words."""

    index_offset: int
    index_len: int
    metadata_offset: int
    metadata_len: int
    index_crc: int
    metadata_crc: int
    file_len: int
    preamble: Preamble

    @property
    def metadata_header(self) -> FrameHeader:
        return FrameHeader(FrameKind.METADATA, 0, 0, 0, self.metadata_len, self.metadata_crc)

    @property
    def index_header(self) -> FrameHeader:
        return FrameHeader(FrameKind.INDEX, 0, 0, 0, self.index_len, self.index_crc)

    def pack(self) -> bytes:
        *front, preamble = astuple(self)
        return _seal(_FOOTER.pack(*front, *preamble)) + CLOSING_MAGIC

    @classmethod
    def parse(cls, raw: bytes, name: str) -> Self:
        if len(raw) != FOOTER_SIZE or not raw.endswith(CLOSING_MAGIC):
            raise TruncatedError(f"{name} is truncated: no footer")
        where = f"{name}: footer"
        _check_seal(raw, _FOOTER.size, where)
        fields = _FOOTER.unpack_from(raw)
        places, words = fields[:7], fields[7:]
        footer = cls(*(*places, Preamble(*words)))
        footer.preamble.check_supported(name)
        if footer.pack() != raw:
            raise CorruptError(f"{where}: reserved bytes are not zero")
        footer.preamble.check_range(where)
        return footer
