"""The container: round trips, and no damaged file that goes unnoticed."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latq.container import (
    MAX_CHUNK_PAYLOAD,
    SIGNATURE,
    BytesSource,
    ChunkRecord,
    ContainerReader,
    ContainerWriter,
    FileSource,
    Footer,
    FrameHeader,
    FrameKind,
    Preamble,
    container_overhead,
    crc32c,
    dump_canonical,
    file_size,
    parse_strict,
)
from latq.container.records import CHUNK_RECORD_DTYPE, CHUNK_RECORD_SIZE, FOOTER_SIZE, FRAME_HEADER_SIZE, PREAMBLE_SIZE
from latq.errors import CorruptError, InputError, LimitError, ParameterError, TruncatedError, UnsupportedError

Chunks = dict[tuple[int, int], bytes]

U32 = st.integers(0, 2**32 - 1)
SMALL: Chunks = {(0, 0): b"abc", (0, 1): b"", (3, 5): bytes(range(70))}


class Pipe(io.BytesIO):
    """A stream that can only be written to."""

    def seek(self, *_: int) -> int:
        raise io.UnsupportedOperation("seek")

    def tell(self) -> int:
        raise io.UnsupportedOperation("tell")


class CountingSource(BytesSource):
    reads = 0

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(offset, length)


def build(chunks: Chunks, metadata: bytes = b"{}", align_log2: int = 6, stream: io.BytesIO | None = None) -> bytes:
    stream = stream or io.BytesIO()
    writer = ContainerWriter(stream, align_log2=align_log2)
    for (tensor, chunk), payload in sorted(chunks.items()):
        writer.add_chunk(payload, tensor=tensor, chunk=chunk, vectors=len(payload), codec=7)
    assert writer.finish(metadata) == writer.bytes_written == len(stream.getvalue())
    return stream.getvalue()


def open_bytes(data: bytes) -> ContainerReader:
    return ContainerReader(BytesSource(data, "w.latq"))


def is_noticed(data: bytes) -> bool:
    try:
        return any(problem for _, problem in open_bytes(data).damage())
    except (CorruptError, UnsupportedError):
        return True


def rebuild(records: list[ChunkRecord], data: bytes) -> bytes:
    """``data`` with another index, and all checksums right."""
    return rebuild_raw(b"".join(record.pack() for record in records), data)


def rebuild_raw(index: bytes, data: bytes) -> bytes:
    old = open_bytes(data).footer
    footer = replace(old, index_len=len(index), index_crc=crc32c(index))
    frame = footer.index_header.pack() + index
    frame += bytes(-len(frame) % 64)
    footer = replace(footer, file_len=old.index_offset + len(frame) + FOOTER_SIZE)
    return data[: old.index_offset] + frame + footer.pack()


def with_words(data: bytes, words: Preamble) -> bytes:
    """``data`` with other words in preamble and footer, and all checksums right."""
    footer = replace(open_bytes(data).footer, preamble=words)
    return words.pack() + data[PREAMBLE_SIZE:-FOOTER_SIZE] + footer.pack()


@given(
    st.dictionaries(st.tuples(U32, U32), st.binary(max_size=200), max_size=8),
    st.binary(max_size=100),
    st.integers(6, 9),
)
def test_round_trip(chunks: Chunks, metadata: bytes, align_log2: int) -> None:
    data = build(chunks, metadata, align_log2)
    assert data == build(chunks, metadata, align_log2, Pipe())
    assert len(data) == file_size(map(len, chunks.values()), len(metadata), align_log2)
    reader = open_bytes(data)
    assert reader.metadata == metadata
    assert [(r.tensor, r.chunk) for r in reader.records] == sorted(chunks)
    for (tensor, chunk), payload in chunks.items():
        record = reader.record(tensor, chunk)
        assert (record.vectors, record.codec, record.offset % 2**align_log2) == (len(payload), 7, 0)
        assert reader.payload(record) == payload
        assert record in reader.chunks_of(tensor)
    assert not any(problem for _, problem in reader.damage())


@pytest.mark.parametrize("align_log2", [6, 16])
def test_no_chunks(align_log2: int) -> None:
    reader = open_bytes(build({}, align_log2=align_log2))
    assert len(reader.records) == len(reader.chunks_of(0)) == 0
    assert list(reader.damage()) == []


def test_layout() -> None:
    data = build({(2, 1): b"xy"}, b"[]")
    assert data[:14] == SIGNATURE + struct.pack("<HHH", 1, 0, 0)
    assert data[64:68] == b"LQFR"
    assert FrameHeader.parse(data[64:96], "") == FrameHeader(FrameKind.CHUNK, 7, 2, 1, 2, crc32c(b"xy"))
    assert data[96:128] == b"xy" + bytes(30)
    assert data[-8:] == SIGNATURE[::-1]
    assert Footer.parse(data[-128:], "").metadata_offset == 128
    assert CHUNK_RECORD_DTYPE.itemsize == CHUNK_RECORD_SIZE
    assert crc32c(b"123456789") == crc32c(memoryview(b"6789"), crc32c(b"12345")) == 0xE3069283


def test_payload_types_agree() -> None:
    files = []
    for payload in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd").cast("I")):
        stream = io.BytesIO()
        writer = ContainerWriter(stream)
        writer.add_chunk(payload, tensor=0, chunk=0, vectors=1, codec=1)
        writer.finish(b"")
        files.append(stream.getvalue())
    assert files[0] == files[1] == files[2]


def test_long_index_takes_one_more_read() -> None:
    source = CountingSource(build({(n // 100, n): b"x" for n in range(2000)}))
    reader = ContainerReader(source)
    assert source.reads == 3
    assert len(reader.records) == 2000
    assert [r.chunk for r in reader.chunks_of(19)] == list(range(1900, 2000))
    assert reader.payload(reader.record(7, 777)) == b"x"

    source = CountingSource(build({(0, n): bytes(1000) for n in range(200)}))
    ContainerReader(source)
    assert source.reads == 2


def test_sizes() -> None:
    assert container_overhead(32) == 32 + 40
    assert container_overhead(33) == 32 + 63 + 40
    assert container_overhead(0, align_log2=12) == 4096 + 40
    assert file_size([], 0) == 64 + 64 + 64 + 128


def test_file_source(tmp_path: Path) -> None:
    path = tmp_path / "w.latq"
    path.write_bytes(build(SMALL))
    with ContainerReader(FileSource(path)) as reader:
        assert reader.name == str(path)
        assert {(r.tensor, r.chunk): reader.payload(r) for r in reader.records} == SMALL
        path.write_bytes(b"")
        with pytest.raises(TruncatedError):
            reader.payload(reader.records[0])
    for unreadable in (tmp_path / "absent.latq", tmp_path):
        with pytest.raises(InputError, match=str(unreadable)):
            FileSource(unreadable)


@pytest.mark.parametrize("source", [BytesSource(b"abc"), BytesSource(b"")])
def test_source_refuses_what_is_not_there(source: BytesSource) -> None:
    for offset, length in [(0, 4), (3, 1), (2**63, 0), (-1, 1), (0, 2**63)]:
        with pytest.raises(TruncatedError):
            source.read(offset, length)


def test_every_prefix_is_truncated() -> None:
    data = build(SMALL)
    for length in range(len(data)):
        with pytest.raises(CorruptError) as caught:
            open_bytes(data[:length])
        if length < len(SIGNATURE):
            assert "not a latq file" in str(caught.value)
        else:
            assert caught.type is TruncatedError


@pytest.mark.parametrize("align_log2", [6, 7])
def test_every_flipped_bit_is_noticed(align_log2: int) -> None:
    data = build(SMALL, b'{"a":1}', align_log2)
    assert not is_noticed(data)
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert is_noticed(bytes(damaged)), f"byte {bit // 8}, bit {bit % 8}"


@given(st.data())
def test_garbage_raises_only_our_errors(draw: st.DataObject) -> None:
    data = bytearray(build(SMALL))
    start = draw.draw(st.integers(0, len(data)))
    data[start : start + draw.draw(st.integers(0, 64))] = draw.draw(st.binary(max_size=64))
    is_noticed(bytes(data))


def test_damage_names_the_chunk() -> None:
    data = bytearray(build(SMALL))
    record = open_bytes(bytes(data)).record(3, 5)
    data[record.offset + FRAME_HEADER_SIZE] ^= 1
    reader = open_bytes(bytes(data))
    expected = f"w.latq: tensor 3 chunk 5 (bytes {record.offset}..{record.offset + 128}): checksum mismatch"
    assert [problem for _, problem in reader.damage()] == [None, None, expected]
    with pytest.raises(CorruptError) as caught:
        reader.payload(record)
    assert str(caught.value) == expected


def test_other_files() -> None:
    data = build(SMALL)
    for other in (b"PK\x03\x04" + bytes(500), SIGNATURE[::-1] + data[8:], b""):
        with pytest.raises(CorruptError, match="not a latq file"):
            open_bytes(other)
    with pytest.raises(CorruptError, match="its footer ends a file of"):
        open_bytes(data + data)
    with pytest.raises(TruncatedError, match=f"of {len(data)} bytes"):
        open_bytes(data[:64] + data[128:])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (Preamble(major=2), "needs format 2.0, not 1; update latq"),
        (Preamble(must_understand=0b101000), "needs feature bit 3"),
        (Preamble(must_understand=1 << 63), "needs feature bit 63"),
    ],
)
def test_unsupported(words: Preamble, message: str) -> None:
    data = build(SMALL)
    with pytest.raises(UnsupportedError, match=message):
        open_bytes(with_words(data, words))
    footer = replace(open_bytes(data).footer, preamble=words)
    with pytest.raises(UnsupportedError, match=message):
        open_bytes(data[:-FOOTER_SIZE] + footer.pack())


def test_newer_minor_and_ignorable_bits_are_read() -> None:
    words = Preamble(minor=9, may_ignore=1 << 40)
    assert open_bytes(with_words(build(SMALL), words)).preamble == words


@pytest.mark.parametrize("align_log2", [5, 7, 17, 255])
def test_other_alignment_is_corrupt(align_log2: int) -> None:
    with pytest.raises(CorruptError):
        open_bytes(with_words(build(SMALL), Preamble(align_log2=align_log2)))


def test_preamble_and_footer_must_agree() -> None:
    data = build(SMALL)
    with pytest.raises(CorruptError, match="disagree"):
        open_bytes(Preamble(may_ignore=1).pack() + data[PREAMBLE_SIZE:])


def test_reserved_bytes_must_be_zero() -> None:
    data = build(SMALL)
    preamble = bytearray(data[:60])
    preamble[59] = 1
    with pytest.raises(CorruptError, match="preamble: reserved"):
        open_bytes(bytes(preamble) + struct.pack("<I", crc32c(preamble)) + data[64:])
    footer = bytearray(data[-128:-12])
    footer[-1] = 1
    with pytest.raises(CorruptError, match="footer: reserved"):
        open_bytes(data[:-128] + footer + struct.pack("<I", crc32c(footer)) + SIGNATURE[::-1])
    index = b"".join(record.pack() for record in open_bytes(data).records)
    for position in (30, 39):  # flags, zero
        changed = bytearray(index)
        changed[position] = 1
        with pytest.raises(CorruptError, match="reserved fields"):
            open_bytes(rebuild_raw(bytes(changed), data))
        with pytest.raises(CorruptError, match="reserved fields"):
            ChunkRecord.parse(bytes(changed[:40]), "")


def test_index_must_tile_the_file_in_order() -> None:
    data = build(SMALL)
    a, b, c = open_bytes(data).records
    assert rebuild([a, b, c], data) == data
    for records in (
        [b, a, c],
        [a, a, c],
        [b, c],
        [a, c],
        [a, b],
        [],
        [a, replace(b, offset=a.offset), c],
        [a, b, replace(c, offset=c.offset + 64)],
        [a, b, replace(c, payload_len=c.payload_len + 64)],
        [a, replace(b, offset=2**64 - 64), c],
    ):
        with pytest.raises(CorruptError, match=r"index .* (tile|increase)"):
            open_bytes(rebuild(records, data))
    for records in ([a, replace(b, chunk=0), c], [replace(a, tensor=1), b, c]):
        with pytest.raises(CorruptError, match="does not increase"):
            open_bytes(rebuild(records, data))
    with pytest.raises(LimitError):
        open_bytes(rebuild([a, b, replace(c, payload_len=MAX_CHUNK_PAYLOAD + 1)], data))
    with pytest.raises(CorruptError, match="multiple of 40"):
        open_bytes(rebuild_raw(bytes(41), data))


def test_index_must_agree_with_the_frames() -> None:
    data = build(SMALL)
    a, b, c = open_bytes(data).records
    for changed in (replace(a, codec=8), replace(a, payload_len=4), replace(a, payload_crc=0)):
        reader = open_bytes(rebuild([changed, b, c], data))
        with pytest.raises(CorruptError, match=r"tensor 0 chunk 0 .* contradicts"):
            reader.payload(changed)


def test_footer_must_place_everything() -> None:
    data = build(SMALL)
    footer = open_bytes(data).footer
    for changed in (
        replace(footer, index_offset=footer.index_offset + 64),
        replace(footer, metadata_offset=2**64 - 1),
        replace(footer, metadata_len=2**64 - 1),
        replace(footer, index_len=2**64 - 1),
        replace(footer, metadata_crc=footer.metadata_crc ^ 1),
        replace(footer, index_crc=footer.index_crc ^ 1),
    ):
        with pytest.raises(CorruptError):
            open_bytes(data[:-FOOTER_SIZE] + changed.pack())


def test_absent_chunk() -> None:
    reader = open_bytes(build(SMALL))
    assert len(reader.chunks_of(1)) == len(reader.chunks_of(2**32 - 1)) == 0
    for tensor, chunk in [(0, 2), (3, 0), (4, 0), (2, 2**32 + 5)]:
        with pytest.raises(CorruptError, match=f"tensor {tensor} has no chunk {chunk}"):
            reader.record(tensor, chunk)


@pytest.mark.parametrize("key", [(0, 0), (1, 2), (1, 1), (1, 2**32), (-1, 0)])
def test_writer_refuses_keys(key: tuple[int, int]) -> None:
    writer = ContainerWriter(io.BytesIO())
    writer.add_chunk(b"", tensor=1, chunk=2, vectors=0, codec=0)
    with pytest.raises(ParameterError):
        writer.add_chunk(b"", tensor=key[0], chunk=key[1], vectors=0, codec=0)


def test_writer_refuses_after_finish() -> None:
    writer = ContainerWriter(io.BytesIO())
    writer.finish(b"")
    with pytest.raises(ParameterError, match="finished"):
        writer.finish(b"")
    with pytest.raises(ParameterError, match="finished"):
        writer.add_chunk(b"", tensor=0, chunk=0, vectors=0, codec=0)


@pytest.mark.parametrize("align_log2", [5, 17])
def test_writer_refuses_alignment(align_log2: int) -> None:
    with pytest.raises(ParameterError, match="align_log2"):
        ContainerWriter(io.BytesIO(), align_log2=align_log2)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.text(), st.lists(SCALARS, max_size=4), max_size=4))
def test_json_round_trip(value: dict[str, list[object]]) -> None:
    raw = dump_canonical(value)
    assert parse_strict(raw) == value
    assert dump_canonical(dict(reversed(value.items()))) == raw


def test_json_is_canonical() -> None:
    assert dump_canonical({"b": [1, 0.5], "a": "é"}) == '{"a":"é","b":[1,0.5]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        dump_canonical(float("nan"))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} x",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"a":2}}]',
        b"NaN",
        b"[-Infinity]",
        b"[1e999]",
        rb'"\ud800"',
        b"1" * 5000,
        b"[" * 9 + b"]" * 9,
        b'{"a":' * 9 + b"1" + b"}" * 9,
        b"[" * 100_000,
        b" " * (2**24 + 1),
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_json_is_strict(raw: bytes) -> None:
    with pytest.raises(CorruptError, match=r"^metadata: "):
        parse_strict(raw)


def test_json_nesting_limit() -> None:
    assert parse_strict(b"[" * 8 + b"]" * 8) == [[[[[[[[]]]]]]]]
