"""Chunks that every reader refuses: payloads damaged under checksums that hold."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import zstandard
from pieces import FIXED, POINTS, RAW, SCALAR, SCALAR_ENTROPY, TRELLIS, Bad, Built, Codec, Content, Tensor, parts_of

U16, U32 = (struct.Struct(f"<{letter}").pack for letter in "HI")


def vectors() -> Iterator[Bad]:
    yield from _payload_heads()
    yield from _sections()
    yield from _raw()


def _payload(
    name: str,
    shows: str,
    codec: Codec,
    change: Callable[[bytes], bytes],
    shape: tuple[int, ...] = (8, 2),
    **tensor: Any,
) -> Bad:
    def build(rng: np.random.Generator) -> Built:
        parts = parts_of([Tensor("a", shape, **tensor)], [codec], rng)
        changed = change(parts.chunks[0].payload)
        assert changed != parts.chunks[0].payload
        return parts.with_payload(lambda p: changed).build()

    return Bad(f"bad-{name}", shows, build, place="chunk 0")


def _at(position: int, new: bytes) -> Callable[[bytes], bytes]:
    return lambda p: p[:position] + new + p[position + len(new) :]


def _payload_heads() -> Iterator[Bad]:
    """FIXED has the header, two scales from 12, frequencies from 20."""
    yield _payload("payload-empty", "no bytes", FIXED, lambda p: b"")
    yield _payload("payload-short", "the header only", FIXED, lambda p: p[:12])
    yield _payload("exponent", "1101", FIXED, _at(0, struct.pack("<h", 1101)))
    yield _payload("exponent-negative", "-1101", FIXED, _at(0, struct.pack("<h", -1101)))
    yield _payload("exponent-lowest", "-32768", FIXED, _at(0, struct.pack("<h", -32768)))
    yield _payload("payload-zero", "the field that is 0 is 1", FIXED, _at(2, U16(1)))
    yield _payload("class-len", "a class section without classes", FIXED, _at(4, U32(1)))
    classes = FIXED | {"classes": 2}
    yield _payload("class-len-beyond", "the class section ends beyond the payload", classes, _at(4, U32(2**32 - 1)))
    yield _payload("first-len-beyond", "the first section ends beyond the payload", FIXED, _at(8, U32(2**32 - 1)))
    yield _payload(
        "lens-wrap", "both lengths, whose sum is small modulo 2^32", classes, _at(4, U32(2**32 - 20) + U32(20))
    )
    for name, value in (("nan", np.nan), ("infinite", np.inf), ("negative", -1.0)):
        yield _payload(f"scale-{name}", f"a scale is {value}", FIXED, _at(12, struct.pack("<f", value)))
        yield _payload(
            f"scale-float16-{name}",
            f"a scale is {value}",
            FIXED | {"scale": "float16"},
            _at(12, struct.pack("<e", value)),
        )
    for name, value in (("nan", np.nan), ("infinite", -np.inf)):
        yield _payload(
            f"mean-{name}", f"a mean is {value}", FIXED | {"centre": True}, _at(16, struct.pack("<f", value))
        )
    for name, value in (("nan", np.nan), ("1", 1.0), ("minus-1", -1.0)):
        yield _payload(
            f"alignment-{name}",
            f"an alignment is {value}",
            FIXED | {"alignment": "vector"},
            _at(22, struct.pack("<e", value)),
        )
    yield _payload(
        "unused-class-scale",
        "a scale is NaN, of a class that has no vectors",
        classes | {"classes": 32},
        lambda p: _at(12 + 4 * 31, struct.pack("<f", np.nan))(p),
        shape=(8, 1),
    )


def _sections() -> Iterator[Bad]:
    state = 20 + 2 * 3
    yield _payload("frequencies", "their sum is 4097", FIXED, lambda p: _at(20, U16(p[20] + 256 * p[21] + 1))(p))
    yield _payload(
        "frequencies-missing", "a first section of 5 bytes", FIXED, lambda p: _at(8, U32(5))(p[:25] + p[-6:])
    )
    yield _payload("states-missing", "a section that ends within its start state", FIXED, _resized(20, 8))
    yield _payload("rans-odd", "an odd number of bytes after the states", FIXED, _resized(20, 11))
    yield _payload(
        "rans-end-state",
        "one symbol, of frequency 4096: the state stays 65537",
        FIXED | {"scales": [1]},
        _at(22, U32(65537)),
    )
    yield _payload("rans-word-left", "a word too many", FIXED, _resized(20, 12))
    yield _payload("rans-word-missing", "a stream that needs a word that it lacks", FIXED, _at(state, U32(4096)))
    yield _payload("rans-low-state", "a start state of 0", FIXED, _at(state, U32(0)))
    yield _payload("digits-short", "a byte too few", FIXED, lambda p: p[:-1])
    yield _payload("digits-long", "a byte too many", FIXED, lambda p: p + b"\0")
    for q, word in ((3, 243), (5, 125), (7, 1977326743)):
        yield _payload(f"word-radix-{q}", f"a word of the high plane is {word}", FIXED | {"q": q}, _high_word(q, word))
    yield _payload(
        "word-last",
        "the last word, in digits that nobody asked for",
        FIXED | {"q": 3},
        lambda p: p[:-1] + b"\xff",
        shape=(1, 1),
    )
    classes = FIXED | {"classes": 3}
    yield _payload("class-frequencies", "the sum is not 4096", classes, lambda p: _at(24, U16(5000))(p), (8, 9))
    yield _payload("class-section-cut", "a class section of 4 bytes", classes, _at(4, U32(4)), (8, 9))
    for name, codec in (("e8", POINTS), ("trellis", TRELLIS)):
        far, low = Content(16), codec | {"shifts": [5]}
        yield _payload(f"{name}-escape-missing", "4 bytes too few", codec, lambda p: p[:-4], (40, 2), content=far)
        yield _payload(f"{name}-escape-left", "4 bytes too many", codec, lambda p: p + bytes(4), (40, 2))
        yield _payload(f"{name}-escape-part", "2 bytes too many", codec, lambda p: p + bytes(2), (40, 2))
        yield _payload(f"{name}-low-bits-short", "no low bits", low, lambda p: p[:-50], (40, 2))
        yield _payload(f"{name}-low-bits-long", "a byte too many", low, lambda p: p + b"\0", (40, 2))
        yield _payload(f"{name}-stream-empty", "first_len is 0", codec, _at(8, U32(0)), (40, 2))
        yield _payload(
            f"{name}-stream-short",
            "a word too few in the stream",
            codec,
            lambda p: _at(8, U32(p[8] + 256 * p[9] - 2))(_cut_first(p)),
            (40, 2),
        )
    yield _payload(
        "scalar-first-section",
        "fixed coding with a first section",
        SCALAR,
        lambda p: _at(8, U32(1))(p[:20] + b"\0" + p[20:]),
    )
    yield _payload("scalar-word", "a word that is not below 125", SCALAR, lambda p: p[:-4] + b"\xff" * 4, (8, 3))
    entropy = SCALAR_ENTROPY | {"levels": list(range(9)), "shift": 2}
    yield _payload(
        "level-beyond",
        "an index of 11 of 9 levels",
        entropy,
        lambda p: p[:-12] + b"\xff" * 12,
        (24, 2),
        content=Content(20),
    )
    yield _payload("level-low-bits", "a byte too few", entropy, lambda p: p[:-1], (24, 2))
    yield _payload("level-frequencies", "their sum is not 16384", entropy, _at(20, U16(1)), (24, 2))


def _resized(start: int, length: int) -> Callable[[bytes], bytes]:
    """The first section from ``start`` made ``length`` bytes long, and its length made right."""

    def change(p: bytes) -> bytes:
        (old,) = struct.unpack_from("<I", p, 8)
        section = (p[start : start + old] + bytes(length))[:length]
        return _at(8, U32(length))(p[:start] + section + p[start + old :])

    return change


def _high_word(q: int, word: int) -> Callable[[bytes], bytes]:
    size = {3: 4, 5: 6, 7: 8}[q]  # of the 16 digits
    return lambda p: p[:-size] + U32(word)[: min(4, size)] + p[len(p) - size + min(4, size) :]


def _cut_first(p: bytes) -> bytes:
    """Without the last two bytes of the first section."""
    end = 20 + struct.unpack_from("<I", p, 8)[0]
    return p[: end - 2] + p[end:]


def _raw() -> Iterator[Bad]:
    yield _payload("raw-short", "a byte too few", RAW, lambda p: p[:-1])
    yield _payload("raw-long", "a byte too many", RAW, lambda p: p + b"\0")
    yield _payload("bool-2", "a boolean is 2", RAW, lambda p: b"\2" + p[1:], dtype="bool")
    zstd: Codec = RAW | {"coding": "zstd"}
    sizeless = zstandard.ZstdCompressor(write_content_size=False)
    content = bytes(range(40))
    for name, shows, payload in (
        ("zstd-empty", "no bytes", b""),
        ("zstd-cut", "a byte too few", _zstd_frame(content)[:-1]),
        ("zstd-junk", "a byte after the frame", _zstd_frame(content) + b"\0"),
        ("zstd-two-frames", "two frames of half the content", _zstd_frame(content[:20]) + _zstd_frame(content[20:])),
        ("zstd-skippable", "a skippable frame first", struct.pack("<II", 0x184D2A50, 2) + b"ab" + _zstd_frame(content)),
        ("zstd-skippable-last", "a skippable frame last", _zstd_frame(content) + struct.pack("<II", 0x184D2A50, 0)),
        ("zstd-only-skippable", "nothing but a skippable frame", struct.pack("<II", 0x184D2A50, 40) + content),
        ("zstd-size", "the frame declares 41 bytes", _zstd_frame(content, declared=41)),
        ("zstd-size-unknown", "the frame declares no size", sizeless.compress(content)),
        ("zstd-content-short", "39 bytes, declared and there", _zstd_frame(content[:39])),
        ("zstd-window", "a window of 9 MiB", _zstd_frame(content, window=13 << 3 | 1)),
        ("zstd-dictionary", "a dictionary with id 5", _zstd_frame(content, dictionary=b"\5")),
        ("zstd-block", "a block of the reserved type", _zstd_frame(content, block=3)),
        ("zstd-checksum", "a content checksum that is wrong", _zstd_frame(content, checksum=b"1234")),
    ):  # fmt: skip
        yield _payload(name, shows, zstd, lambda p, new=payload: new, (40,), dtype="uint8", data=content)


def _zstd_frame(
    content: bytes,
    window: int = 0,
    dictionary: bytes = b"",
    declared: int | None = None,
    block: int = 0,
    checksum: bytes = b"",
) -> bytes:
    """One block, stored; ``window`` is the descriptor: an exponent above 2^10 and three bits of mantissa."""
    flags = 0x80 | len(dictionary) | (4 if checksum else 0)
    head = struct.pack("<IBB", 0xFD2FB528, flags, window) + dictionary
    size = U32(len(content) if declared is None else declared)
    return head + size + (len(content) << 3 | block << 1 | 1).to_bytes(3, "little") + content + checksum
