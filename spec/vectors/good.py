"""Files that every reader decodes to the same bytes."""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import encoded
import numpy as np
from pieces import (
    FIXED,
    LEVELS,
    POINTS,
    RAW,
    SCALAR,
    SCALAR_ENTROPY,
    TRELLIS,
    Codec,
    Content,
    Parts,
    Tensor,
    parts_of,
)

import latq

Build = Callable[[np.random.Generator], bytes]
SPEC = Path(__file__).parents[1]
FLOATS = ("float64", "float32", "float16", "bfloat16")
DTYPES = (*FLOATS, "float8_e4m3fn", "float8_e5m2", "bool", "int8", "int16", "int32", "int64")
DTYPES += ("uint8", "uint16", "uint32", "uint64")
CHECKPOINT = {
    "metadata": {"format": "pt"},
    "checkpoint": {
        "index": "model.safetensors.index.json",
        "metadata": {"total_size": 192},
        "shards": {
            "model-00001-of-00002.safetensors": {"tensors": ["a", "c"], "metadata": {"format": "pt"}},
            "model-00002-of-00002.safetensors": {"tensors": ["b"]},
        },
    },
}
STEEP: Codec = {"low": -2, "weights": [150, 90, 0, 90, 150], "shifts": [0], "widths": [0]}
THREE: Codec = {"classes": 3, "alignment": "class", "shifts": [0, 2, 0], "widths": [0, 5, -9]}
STEPS: Codec = {
    "steps": [[40, 1], [16, 2], [255, 1], [16, 1]], "shifts": [0, 2, 0], "widths": [0, 9, 32],
}  # fmt: skip
MANY: Codec = {"classes": 32, "alignment": "class", "shifts": [0, 1] * 16, "widths": list(range(-16, 16))}


def vectors() -> Iterator[tuple[str, str, Build]]:
    """(name, what it shows, how to build it)."""
    yield from _codings()
    yield from _matrices()
    yield from _raw()
    yield from _steps()
    yield from _outputs()
    yield from _ties()
    yield from _containers()
    yield from encoded.vectors()


def _one(codec: Codec, shape: tuple[int, ...], content: Content = Content(), **tensor: object) -> Build:  # noqa: B008
    return _some([Tensor("data", shape, content=content, **tensor)], [codec])


def _some(tensors: list[Tensor], codecs: list[Codec], **container: object) -> Build:
    return lambda rng: bytes(parts_of(tensors, codecs, rng, **container).build().data)


def _codings() -> Iterator[tuple[str, str, Build]]:
    """Digits, streams, tables, escapes, low bits."""
    kinds = {"e8-fixed": FIXED, "e8-entropy": POINTS, "scalar-fixed": SCALAR, "scalar-entropy": SCALAR_ENTROPY,
             "trellis": TRELLIS}  # fmt: skip
    for name, codec in kinds.items():
        yield name, f"{name.replace('-', ', ')}: 5 vectors of 24 entries", _one(codec, (24, 5))
        lengths = [Tensor(f"n = {n}", (n, 1 if n > 50 else 3)) for n in (1, 7, 9, 50, 1023)]
        yield f"{name}-lengths", "vectors of 1, 7, 9, 50 and 1023 entries share a codec", _some(lengths, [codec])
    for q, why in ((2, "low plane only"), (3, "high plane only"), (20, "radix 5"), (7, "radix 7"), (14, "radix 7"),
                   (4096, "12 bits a digit"), (3584, "the largest with radix 7")):  # fmt: skip
        yield f"e8-fixed-q{q}", f"digits of q = {q}: {why}", _one(FIXED | {"q": q}, (30, 3))
    yield (
        "e8-fixed-16-scales",
        "16 scales and every offset",
        _one(FIXED | {"scales": [*range(3, 34, 2)], "offset": [-4, -3, -1, 0, 1, 2, 3, 4]}, (64, 3)),
    )
    yield "e8-fixed-1-scale", "a stream of one symbol of frequency 4096", _one(FIXED | {"scales": [255]}, (64, 3))
    yield "low-start-state", "a start state of 1, which the first symbol mends with the word 0", _low_start_state
    yield "fill-bits", "the bit that fills the last byte of the digits is 1", _fill_bits
    yield "e8-fixed-lanes", "scale indices in 2 lanes, the last block shorter", _one(FIXED | {"q": 2}, (83, 99))
    for name, codec in (("e8-entropy", POINTS), ("trellis", TRELLIS)):
        yield f"{name}-escapes", "integers beyond the table", _one(codec, (40, 3), Content(16))
        yield f"{name}-far-escapes", "escapes above 2^24, rounded to f32", _one(codec, (16, 2), Content(3e8))
        low = codec | {"shifts": [5]}
        yield f"{name}-low-bits", "5 low bits beside each symbol", _one(low, (40, 3))
        yield f"{name}-low-bits-escapes", "low bits and escapes", _one(low, (40, 3), Content(16))
        yield f"{name}-16-low-bits", "the most low bits", _one(codec | {"shifts": [16]}, (24, 3), Content(4))
        steep = codec | STEEP
        yield (
            f"{name}-lanes",
            "17 of the 1023 blocks of a lane are missing: 8 lanes",
            _one(steep | {"group": 500}, (500, 13), Content(0.9)),
        )
        yield f"{name}-32-lanes", "the most lanes", _one(steep, (2048, 9), Content(0.4))
        yield f"{name}-classes", "3 classes; one has low bits; blocks straddle vectors", _one(codec | THREE, (13, 40))
        yield f"{name}-32-classes", "32 classes, each with a width of its own", _one(codec | MANY, (9, 70))
        yield (
            f"{name}-longest-table",
            "255 weights",
            _one(codec | {"low": -127, "weights": [abs(v) for v in range(-127, 128)]}, (30, 4), Content(40)),
        )
        yield (
            f"{name}-shortest-table",
            "5 weights, all of 255",
            _one(codec | {"low": -2, "weights": [255] * 5}, (30, 4), Content(1)),
        )
        yield (
            f"{name}-widest",
            "widths at both ends of their range",
            _one(
                codec | {"classes": 2, "alignment": "class", "shifts": [0, 0], "widths": [-128, 255]},
                (9, 20),
                Content(3),
            ),
        )
        yield f"{name}-needless-escapes", "escapes of values that the table has", _escapes(codec, lambda v: v & 3)
        yield f"{name}-odd-escape", "an escape that no lattice and no path has", _odd_escape(codec)
    for odd in (-128, 127):
        yield f"e8-entropy-odd{odd:+}", f"odd values tilted by {odd}", _one(POINTS | {"odd": odd}, (40, 3))
    for name, checks in (("4", [5, 2]), ("32", [37, 8]), ("256", [333, 242]), ("4096", [8191, 4094])):
        yield f"trellis-{name}-states", f"{name} states", _one(TRELLIS | {"checks": checks}, (40, 3))
    for count, shift in ((2, 0), (255, 0), (300, 1), (600, 8)):
        levels = [int(v) for v in np.linspace(-(2**20), 2**20, count)]
        yield (
            f"scalar-entropy-{count}-levels",
            f"{count} levels, shift {shift}",
            _one(SCALAR_ENTROPY | {"levels": levels, "shift": shift}, (40, 3)),
        )
    yield "scalar-fixed-3-levels", "radix 3", _one(SCALAR | {"levels": [-1, 0, 1]}, (50, 3))
    yield "scalar-entropy-lanes", "4 lanes", _one(SCALAR_ENTROPY | {"levels": LEVELS[3:7]}, (1023, 3))


def _escapes(codec: Codec, change: Callable[[np.ndarray], np.ndarray]) -> Build:
    """Other escapes: what follows them is decoded alike where they are the same modulo 4."""

    def build(rng: np.random.Generator) -> bytes:
        parts = parts_of([Tensor("data", (40, 1), content=Content(16))], [codec], rng)
        return bytes(parts.with_payload(lambda p: _with_escapes(p, change)).build().data)

    return build


def _with_escapes(payload: bytes, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    """Of one vector whose scale is an f32: they are all that follows the first section."""
    start = 16 + struct.unpack_from("<I", payload, 8)[0]
    return payload[:start] + change(np.frombuffer(payload[start:], "<i4")).astype("<i4").tobytes()


def _odd_escape(codec: Codec) -> Build:
    """The first escape with another bit 0, where the stream still comes to its end."""

    def flipped(values: np.ndarray, at: int) -> np.ndarray:
        return values ^ (np.arange(values.size) == at)

    def build(rng: np.random.Generator) -> bytes:
        for at in range(20):
            data = _escapes(codec, lambda values, at=at: flipped(values, at))(deepcopy(rng))
            with suppress(latq.CorruptError):
                latq.decode(data)
                return data
        raise AssertionError("no escape can be changed")

    return build


def _low_start_state(rng: np.random.Generator) -> bytes:
    """Behind the header: one scale, the frequency 4096, the state, which then has a word."""
    parts = parts_of([Tensor("data", (8, 1))], [FIXED | {"scales": [7]}], rng)
    changed = parts.with_payload(
        lambda p: p[:8] + struct.pack("<I", 8) + p[12:16] + struct.pack("<HIH", 4096, 1, 0) + p[22:]
    )
    return bytes(changed.build().data)


def _fill_bits(rng: np.random.Generator) -> bytes:
    """One coded entry, 7 more in its block: 8 digits of 7, in a word of 31 bits."""
    parts = parts_of([Tensor("data", (1, 1))], [FIXED | {"q": 7}], rng)
    return bytes(parts.with_payload(lambda p: p[:-1] + bytes([p[-1] | 0x80])).build().data)


def _matrices() -> Iterator[tuple[str, str, Build]]:
    """Rotation, scales, means, classes, chunks, output types."""
    dtypes = [Tensor(dtype, (21, 4), dtype=dtype) for dtype in FLOATS]
    yield "dtypes", "the four element types of lossy codecs", _some(dtypes, [FIXED | {"centre": True}])
    for name, exponents in (
        ("clamped", (1023, 128, 15, 127)),
        ("subnormal", (-1073, -150, -26, -135)),
        ("exponents", (-1100, 1100, 1100, -1100)),
    ):
        tensors = [Tensor(d, (9, 3), dtype=d, content=Content(6, x)) for d, x in zip(FLOATS, exponents, strict=True)]
        yield (
            name,
            f"exponents {exponents}: every type at the ends of its range",
            _some(tensors, [FIXED | {"centre": True}]),
        )
    yield "centre", "a mean for every vector", _one(POINTS | {"centre": True}, (33, 7))
    yield "no-rotation", "rotation none", _one(FIXED | {"rotation": "none"}, (33, 3))
    yield "seed", "the largest seed, more than one word of signs", _one(FIXED | {"seed": 2**63 - 1, "q": 3}, (200, 2))
    yield "scale-float16", "scales of 2 bytes", _one(FIXED | {"scale": "float16"}, (16, 5))
    yield "alignment-vector", "an alignment for every vector", _one(POINTS | {"alignment": "vector"}, (16, 5))
    yield "classes-fixed", "fixed coding with 3 classes", _one(FIXED | {"classes": 3, "alignment": "class"}, (8, 40))
    yield "one-class", "one class: no class section", _one(FIXED | {"classes": 1, "alignment": "tensor"}, (8, 9))
    yield (
        "class-lanes",
        "the class section has 2 lanes",
        _one(FIXED | {"q": 2, "classes": 2, "alignment": "class", "chunk_vectors": 2048}, (1, 1100)),
    )
    yield (
        "zero-scales",
        "scales of 0 and -0: zeros, and the means",
        _some(
            [Tensor("plus", (9, 3), content=Content(scale=0.0)), Tensor("minus", (9, 3), content=Content(scale=-0.0))],
            [FIXED | {"centre": True}],
        ),
    )
    plain = FIXED | {"centre": True, "rotation": "none", "q": 3}
    yield (
        "zero-means",
        "means of -0: +0 where the integer is 0, but -0 by a scale of -0 where it is not less than 0",
        _some(
            [
                Tensor("plus", (40, 2), content=Content(scale=1.0, mean=-0.0)),
                Tensor("minus", (40, 2), content=Content(scale=-0.0, mean=-0.0)),
            ],
            [plain],
        ),
    )
    yield (
        "zero-vectors",
        "all integers are 0, without rotation and means",
        _one(POINTS | {"rotation": "none"}, (16, 2), Content(1e-9)),
    )
    for kept in (1, 20000, 65535):
        yield f"kept-{kept}", f"{kept} of 65536 coordinates are coded", _one(POINTS | {"kept": kept}, (50, 6))
    yield "kept-fixed", "fixed coding of a part of the coordinates", _one(FIXED | {"kept": 30000}, (50, 4))
    yield "kept-trellis", "paths over a part of the coordinates", _one(TRELLIS | {"kept": 30000}, (50, 4))
    yield (
        "groups",
        "40000 entries: a group of 32768, one of 7232, most coordinates not coded",
        _one(POINTS | {"group": 32768, "kept": 2000}, (40000, 1)),
    )
    small = {"group": 16, "chunk_vectors": 3}
    yield "chunks", "4 groups, the last of 2 entries, by 3 runs, the last of 1 vector", _one(FIXED | small, (50, 7))
    yield "chunks-trellis", "the same with paths", _one(TRELLIS | small, (50, 7))
    yield "axis-1", "vectors are rows", _one(FIXED, (5, 24), axis=1)
    yield "axis-middle", "vectors along the middle axis of three, in chunks", _one(FIXED | small, (2, 20, 4), axis=1)
    yield "matrix-scalar", "a scalar as a 1 x 1 matrix", _one(FIXED, ())
    yield (
        "matrix-empty",
        "no vectors, and vectors of no entries",
        _some([Tensor("no vectors", (5, 0)), Tensor("no entries", (0, 5))], [POINTS]),
    )


def _steps() -> Iterator[tuple[str, str, Build]]:
    """Multiples of the step, by blocks of every vector."""
    for name, codec in (("e8-entropy", POINTS), ("trellis", TRELLIS)):
        own = codec | STEPS
        yield f"{name}-steps", "3 multipliers in 4 runs; one has low bits", _one(own, (40, 5))
        classes = {"classes": 2, "alignment": "class", "shifts": [0, 2, 0] * 2, "widths": [0, 9, 32, 4, 13, 36]}
        yield f"{name}-steps-classes", "2 classes of vectors by 3 multipliers", _one(own | classes, (40, 20))
        yield f"{name}-steps-kept", "steps of 40 coded coordinates of 64", _one(own | {"kept": 40 << 10}, (64, 5))
        one = codec | {"steps": [[3, 2], [3, 3]]}
        yield f"{name}-steps-equal", "one multiplier in two runs: the integers times 3", _one(one, (40, 3))
        yield (
            f"{name}-steps-far-escapes",
            "escapes above 2^24 are rounded to f32 before they are multiplied, and again after",
            _one(codec | {"steps": [[255, 1], [7, 1]], "shifts": [0, 0], "widths": [0, 0]}, (16, 6), Content(3e8)),
        )
        many = [[7 * m % 32 + 1, 1] for m in range(32)]
        yield (
            f"{name}-32-steps",
            "32 multipliers, in no order",
            _one(codec | {"steps": many, "shifts": [0, 1] * 16, "widths": list(range(-16, 16))}, (256, 2)),
        )
        steep = codec | STEEP | {"steps": [[2, 3], [5, 1]], "shifts": [0, 0], "widths": [0, 0]}
        yield f"{name}-steps-lanes", "560 blocks in 8 lanes, 4 in a vector", _one(steep, (32, 140), Content(0.9))
        small = own | {"group": 40, "chunk_vectors": 3}
        yield f"{name}-steps-chunks", "2 groups of as many blocks, by 2 runs", _one(small, (80, 5))
    yield (
        "steps-4096",
        "the most blocks with steps",
        _one(POINTS | STEEP | {"group": 32768, "chunk_vectors": 1, "steps": [[1, 4095], [2, 1]], "shifts": [0, 0],
                       "widths": [0, 0]}, (32768, 1), Content(0.3)),
    )  # fmt: skip
    yield (
        "steps-empty",
        "vectors of no entries have no groups, so any steps",
        _some([Tensor("no entries", (0, 5)), Tensor("no vectors", (40, 0))], [POINTS | STEPS]),
    )


def _outputs() -> Iterator[tuple[str, str, Build]]:
    tensors = [
        Tensor("all", (8, 2), members={"output_energy": 7.5, "output_error": 0.25, "output_bits_lost": -0.125}),
        Tensor("null", (8, 2), members={"output_energy": 10**30, "output_error": 0, "output_bits_lost": None}),
        Tensor("integer", (8, 2), members={"output_bits_lost": 3}),
    ]
    yield "outputs", "what is known of products with the inputs of a calibration", _some(tensors, [POINTS])


def _ties() -> Iterator[tuple[str, str, Build]]:
    def tied(first: Tensor, *others: dict[str, Any]) -> list[Tensor]:
        names = (replace(first, name=f"tied {i}", same_as=0) for i in range(len(others)))
        ties = [replace(tensor, **changes) for tensor, changes in zip(names, others, strict=True)]
        return [first, ties[0], Tensor("between", (8, 1)), *ties[1:]]

    runs = tied(Tensor("a", (8, 20)), {}, {})
    yield "same-as", "two tensors have the chunks of the first", _some(runs, [FIXED | {"chunk_vectors": 9}])
    raw = tied(Tensor("a", (3, 8), 1, data=bytes(range(96))), {}, {})
    yield "same-as-raw", "the same with codec raw", _some(raw, [FIXED, RAW])
    yield "same-as-steps", "the same with steps", _some(tied(Tensor("a", (40, 3), 1), {}), [FIXED, POINTS | STEPS])
    empty = tied(Tensor("a", (0, 8)), {})
    yield "same-as-empty", "a tensor that has no chunks, and one that is the same", _some(empty, [FIXED])
    energies = {"energy": 5.0, "error": 2.0**60, "output_error": 0.1, "output_bits_lost": 2.0}
    forms = {"energy": 5, "error": 2**60 + 1, "output_error": 0.1, "output_bits_lost": 2, "overlap": 0, "axis": 0}
    zeros = energies | {"mean_energy": -0.0, "output_energy": 0}
    several = tied(Tensor("a", (8, 3), members=energies), {"members": forms}, {"members": zeros})
    yield "same-as-forms", "equal numbers in other forms, defaults written out", _some(several, [FIXED])


def _raw() -> Iterator[tuple[str, str, Build]]:
    for coding in ("stored", "zstd"):
        tensors = [Tensor(dtype, (3, 5), dtype=dtype) for dtype in DTYPES]
        yield f"raw-{coding}", f"every element type, {coding}", _some(tensors, [RAW | {"coding": coding}])
    patterns = struct.pack("<8I", 0x7FC00000, 0xFFC00001, 0x7F800001, 0x7F800000, 0xFF800000, 0x80000000, 1, 0x7FFFFFFF)
    yield "raw-nan", "NaN payloads, infinities, -0 and a subnormal stay as they are", _one(RAW, (8,), data=patterns)
    yield "raw-chunks", "3 chunks, the last of 6 entries", _one(RAW | {"chunk_entries": 7}, (4, 5), dtype="int16")
    yield (
        "raw-zeros",
        "1000 zeros in a few bytes of zstd",
        _one(RAW | {"coding": "zstd"}, (1000,), dtype="float64", data=bytes(8000)),
    )
    yield "raw-zstd-window", "a window of 8 MiB, the largest", lambda rng: _zstd_windowed()
    yield "raw-scalar", "no dimensions: one entry", _one(RAW, (), dtype="float64")
    yield "raw-empty", "no entries: no chunks", _one(RAW, (3, 0, 2), dtype="int64")


def _zstd_windowed() -> bytes:
    content = bytes(range(40))
    frame = struct.pack("<IBBI", 0xFD2FB528, 0x80, 13 << 3, 40) + (40 << 3 | 1).to_bytes(3, "little") + content
    parts = parts_of([Tensor("data", (40,), dtype="uint8", data=content)], [RAW | {"coding": "zstd"}], None)
    return bytes(parts.with_payload(lambda p: frame).build().data)


def _containers() -> Iterator[tuple[str, str, Build]]:
    yield "empty", "no tensors at all", _some([], [])
    yield "unused-codecs", "codecs that no tensor uses", _one_of_three
    yield (
        "minor",
        "a later minor version, and features that may be ignored",
        _some([Tensor("data", (6,), dtype="uint8")], [RAW], minor=9, may_ignore=2**63 + 5),
    )
    yield (
        "align",
        "frames at multiples of 256",
        _some([Tensor("a", (6,), dtype="uint8"), Tensor("b", (24, 2), 1)], [RAW, FIXED], align_log2=8),
    )
    names = ["a", "layer/0.weight", "../up", "with space", '"quoted" \\ \U0001f600', "\u03b1\u2028", "x" * 1024]
    yield (
        "names",
        "names are any text",
        _some([Tensor(name, (2,), dtype="uint8") for name in names], [RAW], kind="safetensors"),
    )
    yield "tensors", "tensors of several codecs in one file", _some(
        [Tensor("e8", (9, 3)), Tensor("ids", (4,), 1, "int64"), Tensor("paths", (9, 3), 2), Tensor("flat", (3, 9), 3)],
        [FIXED, RAW, TRELLIS, SCALAR], kind="h5",
    )  # fmt: skip
    yield (
        "huge-empty-shape",
        "[0, 2^46, 4]: as many entries as a shape may have, were it not for the 0",
        _one(RAW, (0, 2**46, 4)),
    )
    yield "32-dimensions", "the most dimensions", _one(RAW, (1,) * 31 + (3,), dtype="uint8")
    yield "metadata-form", "JSON that is not canonical: order, white space, escapes, exponents, -0", _free_form
    yield "extras", "extras that no reader knows, nested 8 deep", _extras
    yield "checkpoint", "the files of a checkpoint in the extras", _with_extras(CHECKPOINT)
    yield (
        "checkpoint-malformed",
        "a checkpoint in the extras that is none: tensors are read as ever",
        _with_extras({"checkpoint": {"shards": {"../a": 3}, "index": 7}}),
    )
    yield "annex-a", "the file of Annex A, explained there byte by byte", lambda rng: annex_a()


def _one_of_three(rng: np.random.Generator) -> bytes:
    return _some([Tensor("data", (4,), 1, dtype="uint8")], [TRELLIS, RAW, SCALAR])(rng)


def _base(rng: np.random.Generator) -> Parts:
    return parts_of([Tensor("data", (8, 2))], [FIXED], rng)


def _with_extras(extras: dict[str, Any]) -> Build:
    tensors = [Tensor(name, (8, 2)) for name in ("a", "b", "c")]
    return lambda rng: bytes(
        parts_of(tensors, [FIXED], rng, "safetensors").with_metadata(lambda m: m | {"extras": extras}).build().data
    )


def _extras(rng: np.random.Generator) -> bytes:
    deep = {"x": [[[[[[]]]]]], "groups": 10**300, "metadata": None, "text": "\u00fc\u0000\U0010ffff"}
    return bytes(_base(rng).with_metadata(lambda m: m | {"extras": deep}).build().data)


def _free_form(rng: np.random.Generator) -> bytes:
    parts = _base(rng)
    codec = ",\r\n ".join(f'"{k}" :\t{str(v).lower() if v is False else repr(v)}' for k, v in FIXED.items())
    text = f"""
    {{"tensors": [{{"shape": [8, 2], "dtype": "float32", "codec": -0, "axis": 0, "name": "d\\u0061t\\u0061",
      "energy": 1.5E+2, "error": -0.0, "overlap": 1e-400}}],
      "codecs": [{{{codec}}}],
      "kind": "np\\u0079", "extras": {{"pair": "\\ud83d\\ude00 \\/ \\b\\f\\n\\r\\t", "1e308": 1E308, "n": -1.25e-05}}
    }} """.replace("'", '"')
    return bytes(Parts(parts.chunks, text.encode()).build().data)


def annex_a() -> bytes:
    """The file that Annex A of the specification dumps."""
    annex = (SPEC / "annex-a.md").read_text(encoding="utf-8")
    text = annex[annex.index('{"codecs"') :].partition("\n```")[0].replace("\n", "").encode()
    data = bytearray(896)
    for offset, line in re.findall(r"^ *(\d+) ((?: [0-9a-f]{2}){16})", annex, re.M):
        data[int(offset) : int(offset) + 16] = bytes.fromhex(line)
    data[224 : 224 + len(text)] = text
    return bytes(data)
