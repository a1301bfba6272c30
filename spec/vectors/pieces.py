"""Files put together piece by piece: payloads of random symbols, and a container whose every byte can be changed."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal

import numpy as np
import zstandard

from latq.codecs.blocks import lowest_classes
from latq.codecs.columns import Columns
from latq.codecs.e8_entropy import E8Points
from latq.codecs.trellis import TrellisPaths
from latq.coding import packing, rans
from latq.coding.model import Density
from latq.container import SIGNATURE, crc32c, dump_canonical
from latq.dtypes import DTYPES
from latq.kernels import Trellis, pack_bits
from latq.kernels.paths import paths_of

WORDS = {
    ("raw", "stored"): 0x0101, ("raw", "zstd"): 0x0201, ("e8", "fixed"): 0x0302, ("e8", "entropy"): 0x0402,
    ("scalar", "fixed"): 0x0303, ("scalar", "entropy"): 0x0403, ("trellis", "entropy"): 0x0404,
}  # fmt: skip
Codec = dict[str, Any]
Error = Literal["corrupt", "truncated", "unsupported", "limit"]

# --- codecs -------------------------------------------------------------------------------------------------------

RAW: Codec = {"codec": "raw", "coding": "stored", "chunk_entries": 1000}
MATRIX: Codec = {
    "rotation": "hadamard", "seed": 1, "centre": False, "scale": "float32", "classes": 0, "group": 2048,
    "chunk_vectors": 1024, "alignment": "tensor", "kept": 65536,
}  # fmt: skip
FIXED: Codec = MATRIX | {
    "codec": "e8", "coding": "fixed", "q": 8, "scales": [3, 5, 8], "offset": [1, 1, 1, 0, 0, 0, 0, 0]
}  # fmt: skip
# About the density of N(0, 6^2).
DENSITY: Codec = {"low": -12, "weights": [v * v // 3 for v in range(-12, 13)], "shifts": [0], "widths": [0]}
POINTS: Codec = MATRIX | DENSITY | {"codec": "e8", "coding": "entropy", "odd": -3}
LEVELS = [-900, -420, -200, -90, -30, 0, 31, 100, 210, 444]
SCALAR: Codec = MATRIX | {"codec": "scalar", "coding": "fixed", "levels": LEVELS}
SCALAR_ENTROPY: Codec = MATRIX | {"codec": "scalar", "coding": "entropy", "levels": LEVELS, "shift": 1}
TRELLIS: Codec = MATRIX | DENSITY | {"codec": "trellis", "coding": "entropy", "checks": [11, 4]}

# --- payloads -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Content:
    """What a random payload holds: coordinates of about ``spread``, in a unit of about 2^``exponent``."""

    spread: float = 6.0
    exponent: int = 0
    scale: float | None = None  # all scales, where they are not to be random
    mean: float | None = None  # all means, likewise


def random_payload(codec: Codec, vectors: int, length: int, content: Content, rng: np.random.Generator) -> bytes:
    """Vectors of a matrix codec, with symbols drawn at random."""
    kept = -(-length * codec["kept"] // 65536)
    of_vector = rng.integers(0, max(1, codec["classes"]), vectors).astype(np.uint8)
    named = rans.encode(of_vector, codec["classes"]) if codec["classes"] > 1 else b""
    first, second = _sections(codec, of_vector, kept, content, rng)
    count = codec["classes"] or vectors
    scales = 2.0 ** rng.uniform(-3, 3, count) if content.scale is None else np.full(count, content.scale)
    alignments = rng.uniform(-0.01, 0.3, count) if codec["alignment"] != "tensor" else np.empty(0)
    means = rng.normal(0, 5, vectors * codec["centre"]) if content.mean is None else np.full(vectors, content.mean)
    return b"".join([
        struct.pack("<hHII", content.exponent, 0, len(named), len(first)),
        means.astype("<f4").tobytes(),
        scales.astype("<f2" if codec["scale"] == "float16" else "<f4").tobytes(),
        alignments.astype("<f2").tobytes(),
        named, first, second,
    ])  # fmt: skip


def _sections(
    codec: Codec, of_vector: np.ndarray, kept: int, content: Content, rng: np.random.Generator
) -> tuple[bytes, bytes]:
    entries = of_vector.size * kept
    blocks = -(-entries // 8)
    if codec["codec"] == "scalar":
        return _level_sections(codec, entries, content, rng)
    if codec["coding"] == "fixed":
        digits = rng.integers(0, codec["q"], 8 * blocks).astype(np.uint16)
        index = rng.integers(0, len(codec["scales"]), blocks).astype(np.uint8)
        return rans.encode(index, len(codec["scales"])), packing.pack(digits, codec["q"])
    density = Density(codec["low"], tuple(codec["weights"]), codec.get("odd", 0), tuple(codec["shifts"]),
                      tuple(codec["widths"]))  # fmt: skip
    of_block = Columns(codec["steps"]).classes(of_vector) if "steps" in codec else lowest_classes(of_vector, kept)
    steps = np.array([2.0 ** (s + (s > 0) - w / 8) for s, w in zip(density.shifts, density.widths, strict=True)])
    x = rng.normal(0, content.spread, (8, blocks)) * steps[of_block]
    if codec["codec"] == "trellis":
        trellis = Trellis(*codec["checks"])
        return TrellisPaths(trellis).encode(_paths(x, trellis), density, of_block)
    return E8Points().encode(_points(x, rng), density, of_block)


def _level_sections(codec: Codec, entries: int, content: Content, rng: np.random.Generator) -> tuple[bytes, bytes]:
    count = len(codec["levels"])
    indices = np.clip(np.rint(rng.normal(count / 2, count * content.spread / 24, entries)), 0, count - 1)
    indices = indices.astype(np.uint16)
    if codec["coding"] == "fixed":
        return b"", packing.pack(indices, count)
    shift = codec["shift"]
    high = (indices >> np.uint16(shift)).astype(np.uint8)
    low = pack_bits(indices & np.uint16((1 << shift) - 1), shift) if shift else b""
    return rans.encode(high, -(-count >> shift), 14), low


def _points(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Doubled points of E8 near ``x`` (8, blocks)."""
    coset = rng.integers(0, 2, x.shape[1])
    halves = np.rint((x - coset) / 2).astype(np.int32)
    halves[7] += halves.sum(axis=0) & 1
    return 2 * halves + coset.astype(np.int32)


def _paths(x: np.ndarray, trellis: Trellis) -> np.ndarray:
    """Integers near ``x`` (8, blocks) of the parities that the trellis asks for."""
    values = np.zeros(x.shape, np.int32)
    blocks = x.shape[1]
    lanes = rans.lanes_for(8 * blocks)
    per_lane = -(-blocks // lanes)
    for start in range(0, blocks, per_lane):
        state = np.zeros(1, np.int32)
        for at in range(8 * start, 8 * min(start + per_lane, blocks)):
            b, i = divmod(at, 8)
            parity = int(state[0]) & 1
            values[i, b] = 2 * np.rint((x[i, b] - parity) / 2) + parity
            state = trellis.step(state, values[i, b : b + 1])
    assert paths_of(values, lanes).size >= values.size
    return values


# --- tensors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunk:
    """One chunk as frame and index tell of it."""

    tensor: int
    chunk: int
    vectors: int
    codec: int
    payload: bytes


@dataclass(frozen=True)
class Tensor:
    """A tensor to be filled at random; ``data`` are the bytes of a raw one, where they matter."""

    name: str
    shape: tuple[int, ...]
    codec: int = 0
    dtype: str = "float32"
    axis: int = 0
    content: Content = Content()
    data: bytes | None = None
    same_as: int = -1
    members: dict[str, Any] = field(default_factory=dict)  # of its metadata, beside these

    def entry(self) -> dict[str, Any]:
        entry = {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "codec": self.codec}
        defaults = {"axis": 0, "same_as": -1}
        return entry | {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v} | self.members

    def chunks(self, number: int, codec: Codec, rng: np.random.Generator) -> list[Chunk]:
        if self.same_as >= 0:
            return []
        pieces = self._raw_pieces(codec, rng) if codec["codec"] == "raw" else self._matrix_pieces(codec, rng)
        word = WORDS[codec["codec"], codec["coding"]]
        return [Chunk(number, c, vectors, word, payload) for c, (vectors, payload) in enumerate(pieces)]

    def _matrix_pieces(self, codec: Codec, rng: np.random.Generator) -> list[tuple[int, bytes]]:
        n = self.shape[self.axis] if self.shape else 1
        m = prod(s for i, s in enumerate(self.shape) if i != self.axis)
        if n * m == 0:
            return []
        return [
            (vectors, random_payload(codec, vectors, length, self.content, rng))
            for length in _cut(n, codec["group"])
            for vectors in _cut(m, codec["chunk_vectors"])
        ]

    def _raw_pieces(self, codec: Codec, rng: np.random.Generator) -> list[tuple[int, bytes]]:
        size = DTYPES[self.dtype].itemsize
        data = self.data if self.data is not None else rng.bytes(prod(self.shape) * size)
        if self.dtype == "bool":
            data = bytes(b & 1 for b in data)
        pieces, at = [], 0
        for entries in _cut(prod(self.shape), codec["chunk_entries"]):
            piece = data[at : at + entries * size]
            pieces.append((entries, zstandard.compress(piece) if codec["coding"] == "zstd" else piece))
            at += len(piece)
        return pieces


def _cut(size: int, step: int) -> list[int]:
    return [min(step, size - start) for start in range(0, size, step)]


# --- files --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """A file in pieces: change them with ``dataclasses.replace``, then ``build``."""

    chunks: list[Chunk]
    metadata: Any
    align_log2: int = 6
    minor: int = 0
    may_ignore: int = 0
    must_understand: int = 0
    major: int = 1

    def build(self) -> "Built":
        return Built(self)

    def with_metadata(self, change: Callable[[Any], Any]) -> "Parts":
        return replace(self, metadata=change(json.loads(dump_canonical(self.metadata))))

    def with_payload(self, change: Callable[[bytes], bytes], position: int = 0) -> "Parts":
        chunks = list(self.chunks)
        chunks[position] = replace(chunks[position], payload=change(chunks[position].payload))
        return replace(self, chunks=chunks)


def parts_of(
    tensors: list[Tensor], codecs: list[Codec], rng: np.random.Generator, kind: str = "npy", **container: int
) -> Parts:
    """Tensors filled at random. ``container`` are fields of the preamble."""
    chunks = [c for i, tensor in enumerate(tensors) for c in tensor.chunks(i, codecs[tensor.codec], rng)]
    metadata = {"kind": kind, "extras": {}, "codecs": codecs, "tensors": [tensor.entry() for tensor in tensors]}
    return Parts(chunks, metadata, **container)


class Built:
    """The bytes of a file, and where its structures begin: ``preamble``, ``chunk 0`` ..., ``metadata``, ``index``,
    ``footer``. After ``put``, ``seal`` makes all checksums right again."""

    def __init__(self, parts: Parts) -> None:
        self.align = 1 << parts.align_log2
        self.data = bytearray()
        self.places = {"preamble": 0}
        self.lengths: dict[str, int] = {}
        words = struct.pack("<HHQQB", parts.major, parts.minor, parts.must_understand, parts.may_ignore,
                            parts.align_log2)  # fmt: skip
        self._append(SIGNATURE + words + bytes(35))
        index = b""
        for number, c in enumerate(parts.chunks):
            index += struct.pack("<QQIIIHHII", len(self.data), len(c.payload), c.tensor, c.chunk, c.vectors, c.codec,
                                 0, 0, 0)  # fmt: skip
            self._append_frame(f"chunk {number}", (1, c.codec, c.tensor, c.chunk), c.payload)
        text = parts.metadata if isinstance(parts.metadata, bytes) else dump_canonical(parts.metadata)
        self._append_frame("metadata", (3, 0, 0, 0), text)
        self._append_frame("index", (2, 0, 0, 0), index)
        self.places["footer"] = len(self.data)
        self.data += struct.pack("<QQQQIIQ", self.places["index"], len(index), self.places["metadata"], len(text), 0, 0,
                                 len(self.data) + 128)  # fmt: skip
        self.data += words + bytes(51) + SIGNATURE[::-1]
        self.seal()

    def put(self, place: str, at: int, new: bytes) -> "Built":
        start = self.places[place] + at
        self.data[start : start + len(new)] = new
        return self

    def seal(self) -> "Built":
        for number, (place, length) in enumerate(self.lengths.items()):
            start = self.places[place]
            crc = struct.pack("<I", crc32c(self.data[start + 32 : start + 32 + length]))
            if place.startswith("chunk"):  # before the index, which comes last
                self.put("index", 32 + 40 * number + 32, crc)
            else:
                self.put("footer", 32 if place == "index" else 36, crc)
            self.put(place, 24, crc)
            self._seal(place, 28)
        self._seal("preamble", 60)
        self._seal("footer", 116)
        return self

    def _seal(self, place: str, size: int) -> None:
        start = self.places[place]
        self.put(place, size, struct.pack("<I", crc32c(self.data[start : start + size])))

    def _append_frame(self, place: str, words: tuple[int, ...], payload: bytes) -> None:
        self.places[place], self.lengths[place] = len(self.data), len(payload)
        self._append(b"LQFR" + struct.pack("<HHIIQII", *words, len(payload), 0, 0) + payload)

    def _append(self, data: bytes) -> None:
        self.data += data + bytes(-len(data) % self.align)


@dataclass(frozen=True)
class Bad:
    """A file to be refused with ``error``; ``place`` is the structure in which the fault is."""

    name: str
    shows: str
    build: Callable[[np.random.Generator], Built]
    error: Error = "corrupt"
    place: str = "preamble"
