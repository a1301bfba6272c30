"""Containers and metadata that every reader refuses: damage of one kind each, under checksums that hold unless they
are it."""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pieces import (
    FIXED,
    POINTS,
    RAW,
    SCALAR,
    SCALAR_ENTROPY,
    TRELLIS,
    Bad,
    Built,
    Chunk,
    Codec,
    Error,
    Parts,
    Tensor,
    dump_canonical,
    parts_of,
)

U16, U32, U64 = (struct.Struct(f"<{letter}").pack for letter in "HIQ")


def vectors() -> Iterator[Bad]:
    yield from _ends()
    yield from _frames()
    yield from _index()
    yield from _json()
    yield from _members()
    yield from _chunk_lists()


def _raw_parts(rng: np.random.Generator) -> Parts:
    """Two tensors in three chunks."""
    codec = RAW | {"chunk_entries": 4}
    return parts_of([Tensor("a", (6,), dtype="uint8"), Tensor("b", (2,), dtype="int16")], [codec], rng)


def _file(change: Callable[[Built], object]) -> Callable[[np.random.Generator], Built]:
    """Bytes changed after the checksums were made."""

    def build(rng: np.random.Generator) -> Built:
        built = _raw_parts(rng).build()
        change(built)
        return built

    return build


def _sealed(place: str, at: int, new: bytes) -> Callable[[np.random.Generator], Built]:
    """Bytes changed, and the checksums made right again."""
    return _file(lambda built: built.put(place, at, new).seal())


def _parts(**changes: Any) -> Callable[[np.random.Generator], Built]:
    return lambda rng: replace(_raw_parts(rng), **changes).build()


# --- preamble and footer ------------------------------------------------------------------------------------------


def _ends() -> Iterator[Bad]:
    yield Bad("bad-signature", "the first byte is wrong", _sealed("preamble", 0, b"\x8a"))
    yield Bad("bad-text-mode", "CR LF of the signature became LF", _file(_without_cr))
    yield Bad("bad-preamble-checksum", "a bit of minor flipped", _file(lambda b: b.put("preamble", 10, b"\1")))
    yield Bad(
        "bad-preamble-major-flipped",
        "major 2 under a wrong checksum is damage",
        _file(lambda b: b.put("preamble", 8, b"\2")),
    )
    yield Bad("bad-preamble-reserved", "a reserved byte is 1", _sealed("preamble", 40, b"\1"))
    for value in (5, 17, 255):
        yield Bad(f"bad-align-{value}", f"align_log2 is {value}", _sealed("preamble", 28, bytes([value])))
    yield Bad(
        "bad-preamble-padding",
        "a byte between preamble and first frame is 1",
        lambda rng: replace(_raw_parts(rng), align_log2=7).build().put("preamble", 100, b"\1"),
    )
    yield Bad("unsupported-major", "major 2", _parts(major=2), "unsupported")
    yield Bad("unsupported-major-0", "major 0", _parts(major=0), "unsupported")
    yield Bad("unsupported-feature", "bit 63 of must_understand", _parts(must_understand=1 << 63), "unsupported")
    yield Bad(
        "unsupported-before-reserved",
        "major 2 and a reserved byte: the version comes first",
        lambda rng: replace(_raw_parts(rng), major=2).build().put("preamble", 40, b"\1").seal(),
        "unsupported",
    )
    yield Bad("bad-footer-missing", "the last byte is missing", _file(lambda b: b.data.pop()), "truncated", "footer")
    yield Bad(
        "bad-junk-after-end", "a byte follows the footer", _file(lambda b: b.data.append(0)), "truncated", "footer"
    )
    yield Bad("bad-preamble-only", "64 bytes", _file(lambda b: b.data.__delitem__(slice(64, None))), "truncated")
    yield Bad(
        "bad-footer-checksum", "a bit of file_len flipped", _file(lambda b: b.put("footer", 40, b"\1")), place="footer"
    )
    yield Bad(
        "bad-footer-major",
        "major differs from that of the preamble",
        _sealed("footer", 48, b"\2"),
        "unsupported",
        "footer",
    )
    yield Bad(
        "bad-footer-minor", "minor differs from that of the preamble", _sealed("footer", 50, b"\2"), place="footer"
    )
    yield Bad("bad-footer-reserved", "a reserved byte is 1", _sealed("footer", 100, b"\1"), place="footer")
    yield Bad(
        "bad-middle-missing",
        "64 bytes in the middle are missing",
        _file(lambda b: b.data.__delitem__(slice(64, 128))),
        "truncated",
        "footer",
    )
    yield Bad(
        "bad-middle-inserted",
        "64 bytes too many in the middle",
        _file(lambda b: b.data.__setitem__(slice(64, 64), bytes(64))),
        place="footer",
    )
    for at, what in ((0, "index_offset"), (8, "index_len"), (16, "metadata_offset"), (24, "metadata_len")):
        yield Bad(
            f"bad-footer-{what}",
            f"{what} is 64 too large",
            _file(lambda b, at=at: _add(b, "footer", at, 64)),
            place="footer",
        )
        yield Bad(
            f"bad-footer-{what}-wraps", f"{what} is 2^64 - 32", _sealed("footer", at, U64(2**64 - 32)), place="footer"
        )


def _without_cr(built: Built) -> None:
    del built.data[5]


def _add(built: Built, place: str, at: int, more: int) -> None:
    start = built.places[place] + at
    (value,) = struct.unpack_from("<Q", built.data, start)
    built.put(place, at, U64(value + more)).seal()


# --- frames and index ---------------------------------------------------------------------------------------------


def _frames() -> Iterator[Bad]:
    for place in ("chunk 1", "metadata", "index"):
        name = place.replace(" 1", "")
        yield Bad(
            f"bad-{name}-frame-checksum",
            "a bit of the frame header flipped",
            _file(lambda b, p=place: b.put(p, 12, b"\xff")),
            place=place,
        )
        yield Bad(f"bad-{name}-frame-magic", "the magic is LQFS", _sealed(place, 0, b"LQFS"), place=place)
        yield Bad(f"bad-{name}-frame-kind", "kind 4", _sealed(place, 4, U16(4)), place=place)
        yield Bad(
            f"bad-{name}-frame-len",
            "payload_len is not that of what points to it",
            _file(lambda b, p=place: _add(b, p, 16, 1)),
            place=place,
        )
        yield Bad(
            f"bad-{name}-payload",
            "a bit of the payload flipped",
            _file(lambda b, p=place: b.put(p, 32, bytes([b.data[b.places[p] + 32] ^ 1]))),
            place=place,
        )
        yield Bad(
            f"bad-{name}-padding",
            "the last byte of the span is 1",
            _file(lambda b, p=place: b.data.__setitem__(_end(b, p) - 1, 1)),
            place=place,
        )
    for at, what in ((6, "codec"), (8, "tensor"), (12, "chunk")):
        yield Bad(
            f"bad-frame-{what}",
            f"{what} of the frame is not that of the index",
            _sealed("chunk 1", at, b"\7"),
            place="chunk 1",
        )


def _end(built: Built, place: str) -> int:
    return min(at for at in built.places.values() if at > built.places[place])


def _index() -> Iterator[Bad]:
    def record(number: int, at: int, new: bytes) -> Callable[[np.random.Generator], Built]:
        return _sealed("index", 32 + 40 * number + at, new)

    yield Bad("bad-index-flags", "flags of a record are 1", record(1, 30, U16(1)), place="index")
    yield Bad("bad-index-reserved", "the reserved field of a record is 1", record(1, 36, U32(1)), place="index")
    yield Bad("bad-index-order", "chunk 1 comes twice", record(0, 20, U32(1)), place="index")
    yield Bad("bad-index-tensor-order", "tensors descend", record(0, 16, U32(2)), place="index")
    yield Bad("bad-overlap", "two chunks at one offset", _file(_overlap), place="index")
    yield Bad("bad-index-gap", "an offset beyond the span before it", _file(_gap), place="index")
    yield Bad("bad-index-first", "the first chunk does not follow the preamble", record(0, 0, U64(128)), place="index")
    yield Bad("bad-index-payload-len", "a span that ends beyond the metadata", record(2, 8, U64(99)), place="index")
    yield Bad("bad-index-offset-wraps", "an offset of 2^64 - 64", record(1, 0, U64(2**64 - 64)), place="index")
    yield Bad("bad-payload-limit", "a payload of 2^30 + 1 bytes", record(1, 8, U64(2**30 + 1)), "limit", "index")
    yield Bad(
        "bad-payload-limit-wraps", "a payload of 2^64 - 32 bytes", record(1, 8, U64(2**64 - 32)), "limit", "index"
    )
    yield Bad("bad-index-length", "an index of 44 bytes", _long_index, place="index")
    yield Bad("bad-unindexed-chunk", "the index lacks the last chunk of the file", _short_index, place="index")


def _overlap(built: Built) -> None:
    first = bytes(built.data[built.places["index"] + 32 :][:8])
    built.put("index", 32 + 40, first).seal()


def _gap(built: Built) -> None:
    _add(built, "index", 32 + 40, 64)


def _with_index(change: Callable[[bytes], bytes], rng: np.random.Generator) -> Built:
    """An index of another length; one that fits the same span."""
    built = _raw_parts(rng).build()
    start, length = built.places["index"], built.lengths["index"]
    index = change(bytes(built.data[start + 32 : start + 32 + length]))
    assert -(-(32 + len(index)) // 64) == -(-(32 + length) // 64) or len(index) < length
    span = -(-(32 + len(index)) // 64) * 64
    footer = bytes(built.data[built.places["footer"] :])
    del built.data[start + 32 :]
    built.data += index + bytes(span - 32 - len(index)) + footer
    built.places["footer"], built.lengths["index"] = start + span, len(index)
    built.put("index", 16, U64(len(index))).put("footer", 8, U64(len(index)))
    return built.put("footer", 40, U64(len(built.data)))


def _long_index(rng: np.random.Generator) -> Built:
    return _with_index(lambda index: index + bytes(4), rng).seal()


def _short_index(rng: np.random.Generator) -> Built:
    built = _with_index(lambda index: index[:80], rng)
    del built.lengths["chunk 2"]  # seal() would write into its record
    return built.seal()


# --- metadata -----------------------------------------------------------------------------------------------------


def _metadata(
    name: str,
    shows: str,
    change: Callable[[Any], Any],
    error: Error = "corrupt",
    prefix: str = "bad",
    base: Codec = RAW,
) -> Bad:
    """A valid file whose metadata was changed: an object, or bytes."""

    def build(rng: np.random.Generator) -> Built:
        dtype = "uint8" if base is RAW else "float32"
        return parts_of([Tensor("a", (8, 2), dtype=dtype)], [base], rng).with_metadata(change).build()

    return Bad(f"{prefix}-{name}", shows, build, error, "metadata")


def _text(name: str, shows: str, change: Callable[[bytes], bytes]) -> Bad:
    return _metadata(f"json-{name}", shows, lambda m: change(dump_canonical(m)))


def _extras(name: str, shows: str, value: bytes) -> Bad:
    return _text(name, shows, lambda t: t.replace(b'"extras":{}', b'"extras":{"x":' + value + b"}"))


def _json() -> Iterator[Bad]:
    yield _text("empty", "no text", lambda t: b"")
    yield _text("bom", "a byte order mark", lambda t: b"\xef\xbb\xbf" + t)
    yield _text("trailing", "a second value", lambda t: t + b"{}")
    yield _text("nul", "a zero byte after the value", lambda t: t + b"\0")
    yield _text("cut", "the last brace is missing", lambda t: t[:-1])
    yield _text("comma", "a comma before the last brace", lambda t: t[:-1] + b",}")
    yield _text("array", "an array, no object", lambda t: b"[" + t + b"]")
    yield _text("comment", "a comment", lambda t: b"/**/" + t)
    yield _text("duplicate", "the key kind twice", lambda t: t[:-1] + b',"kind":"npy"}')
    yield _text("duplicate-escaped", "the key kind again, as k\\u0069nd", lambda t: t[:-1] + b',"k\\u0069nd":"npy"}')
    values = {
        "nan": b"NaN", "infinity": b"-Infinity", "overflow": b"1e309", "integer-overflow": b"1" + b"0" * 309,
        "leading-zero": b"01", "plus": b"+1", "point": b"1.", "no-digits": b".5", "exponent": b"1e", "hex": b"0x1",
        "surrogate": b'"\\ud800"', "surrogate-order": b'"\\udc00\\ud800"', "utf8": b'"\xc3"',
        "overlong": b'"\xc0\x80"', "utf8-surrogate": b'"\xed\xa0\x80"', "utf8-beyond": b'"\xf4\x90\x80\x80"',
        "control": b'"\n"', "escape": b'"\\x41"', "apostrophe": b"'a'", "word": b"True",
        "nested": b"[[[[[[[]]]]]]]", "deep": b"[" * 2000 + b"]" * 2000, "vertical-tab": b"\x0b1",
    }  # fmt: skip
    for name, value in values.items():
        shown = value.decode("latin-1").encode("unicode_escape").decode()
        yield _extras(name, f"a value {shown if len(shown) < 40 else shown[:12] + '...'}", value)


def _with(place: str, **changes: Any) -> Callable[[Any], Any]:
    return lambda m: m | {place: [m[place][0] | changes]}


def _members() -> Iterator[Bad]:
    yield _metadata("member-missing", "no kind", lambda m: {k: v for k, v in m.items() if k != "kind"})
    yield _metadata("member-unknown", "a member unknown to this version", lambda m: m | {"more": 1})
    yield _metadata("kind", "kind zip", lambda m: m | {"kind": "zip"})
    yield _metadata("extras", "extras is an array", lambda m: m | {"extras": []})
    yield _metadata("tensors-number", "tensors is a number", lambda m: m | {"tensors": 1})
    tensor = {
        "shape-negative": {"shape": [-8, 2]}, "shape-float": {"shape": [8.0, 2]}, "shape-null": {"shape": None},
        "shape-dimensions": {"shape": [1] * 33}, "shape-product": {"shape": [2**24, 2**25]},
        "shape-empty-product": {"shape": [0, 2**47, 4]}, "shape-dimension": {"shape": [2**48 + 1]},
        "tensor-codec": {"codec": 1}, "tensor-codec-negative": {"codec": -1}, "tensor-codec-bool": {"codec": False},
        "tensor-codec-huge": {"codec": 2**64}, "axis": {"axis": 2}, "axis-32": {"axis": 32},
        "output-energy-negative": {"output_energy": -1.0}, "output-error-null": {"output_error": None},
        "output-bits-lost-text": {"output_bits_lost": "1"}, "output-bits-lost-bool": {"output_bits_lost": False},
        "energy-negative": {"energy": -1.0}, "energy-text": {"energy": "1"}, "energy-bool": {"energy": True},
        "name-empty": {"name": ""}, "name-control": {"name": "a\tb"}, "name-delete": {"name": "\x7f"},
        "name-long": {"name": "\u00e9" * 513}, "tensor-unknown-member": {"strides": [1]},
    }  # fmt: skip
    for name, changes in tensor.items():
        yield _metadata(name, f"{json.dumps(changes)[:60]}", _with("tensors", **changes))
    yield _metadata("name-twice", "two tensors of one name", lambda m: m | {"tensors": 2 * m["tensors"]})
    yield _metadata("dtype", "dtype float4", _with("tensors", dtype="float4"), "unsupported", "unsupported")
    yield _metadata(
        "dtype-first",
        "float4, and a codec that there is not",
        _with("tensors", dtype="float4", codec=9),
        "unsupported",
        "unsupported",
    )
    yield _metadata("codec", "codec e9", _with("codecs", codec="e9"), "unsupported", "unsupported")
    yield _metadata("coding", "coding lz", _with("codecs", coding="lz"), "unsupported", "unsupported")
    yield _metadata(
        "unused-codec",
        "a second codec, e9, that no tensor uses, and tensors is a number",
        lambda m: m | {"codecs": [*m["codecs"], {"codec": "e9"}], "tensors": 3},
        "unsupported",
        "unsupported",
    )
    yield _metadata("coding-number", "coding 7", _with("codecs", coding=7))
    yield _metadata("codec-array", "a codec is an array", lambda m: m | {"codecs": [[], *m["codecs"]]})
    raw = {"chunk-entries-0": {"chunk_entries": 0}, "chunk-entries": {"chunk_entries": 2**26 + 1},
           "raw-member": {"seed": 0}}  # fmt: skip
    yield from _codec_members(RAW, raw)
    fixed = {
        "q-11": {"q": 11}, "q-1": {"q": 1}, "q-4097": {"q": 4097}, "scales-order": {"scales": [3, 8, 5]},
        "scales-equal": {"scales": [3, 3]}, "scales-none": {"scales": []}, "scales-17": {"scales": [*range(1, 18)]},
        "scales-256": {"scales": [256]}, "offset-7": {"offset": [0] * 7}, "offset-5": {"offset": [5] + [0] * 7},
        "group-0": {"group": 0}, "group": {"group": 32769}, "chunk-size": {"group": 2**15, "chunk_vectors": 2**12},
        "seed-negative": {"seed": -1}, "seed": {"seed": 2**63}, "centre": {"centre": 0},
        "rotation": {"rotation": "dct"},
        "scale": {"scale": "float64"}, "kept-0": {"kept": 0}, "kept": {"kept": 65537}, "classes": {"classes": 33},
        "alignment-class": {"alignment": "class"}, "alignment-vector": {"alignment": "vector", "classes": 2},
        "coding-of-other": {"weights": [0] * 5},
    }  # fmt: skip
    change = _with("tensors", dtype="int32")
    yield _metadata("dtype-of-codec", "int32 with codec e8", change, base=FIXED)
    yield from _codec_members(FIXED, fixed)
    points = {
        "low": {"low": -1}, "low-256": {"low": -256}, "weights-4": {"weights": [0] * 4},
        "weight-256": {"weights": [256] * 25},
        "weights-256": {"low": -128, "weights": [0] * 256}, "weights-end": {"low": -4, "weights": [0] * 6},
        "odd": {"odd": 128}, "shifts-none": {"shifts": []}, "shifts-2": {"shifts": [0, 0], "widths": [0, 0]},
        "shifts-17": {"shifts": [17]}, "widths-2": {"widths": [0, 0]}, "widths-256": {"widths": [256]},
    }  # fmt: skip
    yield from _codec_members(POINTS, points)
    yield from _steps()
    yield from _ties()
    scalar = {"levels-1": {"levels": [0]}, "levels-order": {"levels": [1, 0]}, "levels-11": {"levels": [*range(11)]},
              "levels-range": {"levels": [0, 2**20 + 1]}, "levels-4097": {"levels": [0] * 4097}}  # fmt: skip
    yield from _codec_members(SCALAR, scalar)
    entropy = {"level-shift": {"shift": 9}, "level-alphabet": {"levels": [*range(256)], "shift": 0}}
    yield from _codec_members(SCALAR_ENTROPY, entropy)
    checks = {"even": [10, 4], "short": [3, 2], "odd": [11, 5], "wide": [11, 8], "large": [8193, 4], "one": [11]}
    yield from _codec_members(TRELLIS, {f"checks-{name}": {"checks": c} for name, c in checks.items()})


def _codec_members(base: Codec, changes: dict[str, dict[str, Any]]) -> Iterator[Bad]:
    for name, change in changes.items():
        yield _metadata(name, json.dumps(change)[:60], _with("codecs", **change), base=base)


def _steps() -> Iterator[Bad]:
    """In tensors of (8, 2): vectors of one block."""
    two = {"shifts": [0, 0], "widths": [0, 0]}
    steps = {
        "none": {"steps": []}, "number": {"steps": 3}, "null": {"steps": None}, "no-pair": {"steps": [3, 1]},
        "single": {"steps": [[3]]}, "triple": {"steps": [[3, 1, 1]]}, "empty-pair": {"steps": [[]]},
        "multiplier-0": {"steps": [[0, 1]]}, "multiplier-256": {"steps": [[256, 1]]},
        "multiplier-float": {"steps": [[3.0, 1]]}, "count-0": {"steps": [[3, 1], [3, 0]]},
        "count-negative": {"steps": [[3, 2], [3, -1]]}, "count-4097": {"steps": [[3, 4097]]},
        "4097": {"steps": [[3, 1]] * 4097}, "blocks": {"steps": [[3, 2]]}, "shifts": {"steps": [[3, 1]]} | two,
        "kept": {"steps": [[3, 1]], "kept": 65536 * 7 // 8},
    }  # fmt: skip
    yield from _codec_members(POINTS, {f"steps-{name}": change for name, change in steps.items()})
    for name, base, change in (
        ("fixed", FIXED, {"steps": [[3, 1]]}),
        ("scalar", SCALAR_ENTROPY, {"steps": [[3, 1]]}),
        ("trellis", TRELLIS, {"steps": [[3, 2]]}),
    ):
        yield _metadata(f"steps-{name}", json.dumps(change), _with("codecs", **change), base=base)
    unused = POINTS | {"steps": [[3, 4096], [3, 1]]}
    yield _metadata(
        "steps-sum",
        "a codec that no tensor uses: steps of 4097 blocks",
        lambda m: m | {"codecs": [*m["codecs"], unused]},
    )
    many = POINTS | {"steps": [[m, 1] for m in range(1, 18)], "classes": 2, "alignment": "class"}
    many |= {"shifts": [0] * 34, "widths": [0] * 34}
    yield _metadata(
        "steps-34-classes",
        "a codec that no tensor uses: 2 classes of vectors by 17 multipliers",
        lambda m: m | {"codecs": [*m["codecs"], many]},
    )
    for name, shows, shape, multipliers in (
        ("last-group", "the last group is shorter than the steps", (24, 1), [3, 3]),
        ("no-vectors", "steps of 2 blocks, no vectors of 1", (8, 0), [3, 3]),
        ("distinct", "2 multipliers, one shift and one width", (16, 1), [3, 4]),
    ):
        yield Bad(f"bad-steps-{name}", shows, _with_steps(shape, multipliers), place="metadata")


def _with_steps(shape: tuple[int, int], multipliers: list[int]) -> Callable[[np.random.Generator], Built]:
    """A file of groups of 2 blocks, to which steps are added."""
    change = _with("codecs", steps=[[multiplier, 1] for multiplier in multipliers])
    plain = POINTS | {"group": 16}
    return lambda rng: parts_of([Tensor("a", shape)], [plain], rng).with_metadata(change).build()


def _ties() -> Iterator[Bad]:
    """Tensors a, b, c, of which b is the same as a."""

    a = Tensor("a", (8, 2), members={"error": 0.5})
    b, c = replace(a, name="b", same_as=0), replace(a, name="c")

    def tie(name: str, shows: str, number: int = 1, place: str = "metadata", **changes: Any) -> Bad:
        def change(m: Any) -> Any:
            m["tensors"][number] |= changes
            return m

        def build(rng: np.random.Generator) -> Built:
            return parts_of([a, b, c], [FIXED, FIXED], rng).with_metadata(change).build()

        return Bad(f"bad-same-as-{name}", shows, build, place=place)

    yield tie("itself", "tensor 1 is the same as tensor 1", same_as=1)
    yield tie("later", "tensor 1 is the same as tensor 2", same_as=2)
    yield tie("missing", "tensor 1 is the same as tensor 9", same_as=9)
    yield tie("negative", "same_as is -2", same_as=-2)
    yield tie("65536", "same_as is 65536", same_as=65536)
    yield tie("float", "same_as is 0.0", same_as=0.0)
    yield tie("null", "same_as is null", same_as=None)
    yield tie("shape", "another shape", shape=[4, 4])
    yield tie("dtype", "another dtype", dtype="float16")
    yield tie("codec", "an equal codec in another place", codec=1)
    yield tie("axis", "another axis", axis=1)
    yield tie("energy", "another error", error=0.25)
    yield tie("chain", "tensor 2 is the same as tensor 1, which has no chunks", number=2, same_as=1)
    yield tie("chunks", "tensor 2 is the same as tensor 0, but has chunks", number=2, place="index", same_as=0)
    yield tie("outputs", "output_bits_lost, which the other lacks", output_bits_lost=0.0)


# --- chunks -------------------------------------------------------------------------------------------------------


def _chunk_lists() -> Iterator[Bad]:
    def chunks(change: Callable[[list[Chunk]], list[Chunk]]) -> Callable[[np.random.Generator], Built]:
        return lambda rng: (lambda p: replace(p, chunks=change(p.chunks)).build())(_raw_parts(rng))

    def chunk(number: int, **changes: int) -> Callable[[np.random.Generator], Built]:
        return chunks(lambda c: [replace(k, **changes) if i == number else k for i, k in enumerate(c)])

    yield Bad("bad-chunk-missing", "a tensor lacks its last chunk", chunks(lambda c: [c[0], c[2]]), place="index")
    yield Bad(
        "bad-chunk-surplus",
        "a tensor has a chunk too many",
        chunks(lambda c: [*c, replace(c[2], chunk=1)]),
        place="index",
    )
    yield Bad("bad-chunk-number", "chunks 0 and 2", chunk(1, chunk=2), place="index")
    yield Bad("bad-chunk-vectors", "not the right number of entries", chunk(1, vectors=3), place="index")
    yield Bad("bad-chunk-codec", "not the codec of its tensor", chunk(1, codec=0x0201), place="index")
    yield Bad(
        "bad-chunk-tensor", "a chunk of no tensor", chunks(lambda c: [*c, replace(c[2], tensor=2)]), place="index"
    )
