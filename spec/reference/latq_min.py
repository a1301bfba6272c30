# Dedicated to the public domain under CC0 1.0.
"""A small reader of latq files, made from latq-1.md alone. Section numbers refer to that text."""

import hashlib
import json
import re
import struct
import sys
from collections import namedtuple
from itertools import accumulate, pairwise
from math import inf, isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np


# 1 Conventions
class Corrupt(Exception): ...


class Truncated(Corrupt): ...


class Unsupported(Exception): ...


class Limit(Exception): ...


def need(condition: object, message: str, error: type[Exception] = Corrupt) -> None:
    if not condition:
        raise error(message)


def divide_up(a: int, b: int) -> int:
    return -(-a // b)


CRC_TABLE = list(range(256))
for _ in range(8):
    CRC_TABLE = [value >> 1 ^ 0x82F63B78 * (value & 1) for value in CRC_TABLE]  # 0x1EDC6F41 with its bits reversed


def crc32c(data: bytes) -> int:
    crc, table = 0xFFFFFFFF, CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def bit_string(data: bytes, width: int, count: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * count, bitorder="little").reshape(count, width)
    return sum((bits[:, i].astype(np.int64) << i for i in range(width)), np.zeros(count, np.int64))


# 2 Container
SIGNATURE = bytes.fromhex("8b 4c 41 54 51 0d 0a 1a")
MAX_METADATA, MAX_PAYLOAD, MAX_CHUNKS, MAX_DECODED = 2**24, 2**30, 2**24, 2**34  # the last is this reader's own
Record = namedtuple("Record", "offset payload_len tensor chunk vectors codec flags payload_crc reserved")
File = namedtuple("File", "data align codecs tensors records")  # records: by tensor, then by chunk


def check_version(fields: bytes, reserved: bytes) -> int:
    major, _, must_understand, _, align_log2 = struct.unpack("<HHQQB", fields)
    need(major == 1 and must_understand == 0, f"version {major}, features {must_understand:#x}", Unsupported)
    need(not any(reserved) and 6 <= align_log2 <= 16, "reserved bytes or align_log2")
    return 1 << align_log2


def read_frame(data: bytes, align: int, offset: int, *expected: int) -> bytes:  # kind, ..., payload_crc
    *fields, checksum = struct.unpack_from("<4sHHIIQII", data, offset)
    need(crc32c(data[offset : offset + 28]) == checksum, "frame header checksum")
    need(fields == [b"LQFR", *expected], "frame header")
    start, end = offset + 32, offset + 32 + expected[4]
    need(crc32c(data[start:end]) == expected[5], "payload checksum")
    need(not any(data[end : divide_up(end, align) * align]), "bytes after a payload")
    return data[start:end]


def open_file(data: bytes) -> File:
    # 2.1
    need(data[:8] == SIGNATURE, "not a latq file")
    need(len(data) >= 64, "preamble incomplete", Truncated)
    need(crc32c(data[:60]) == int.from_bytes(data[60:64], "little"), "preamble checksum")
    align = check_version(data[8:29], data[29:60])
    # 2.5
    need(len(data) >= 128 and data[-8:] == SIGNATURE[::-1], "end of the file is missing", Truncated)
    need(crc32c(data[-128:-12]) == int.from_bytes(data[-12:-8], "little"), "footer checksum")
    index_at, index_len, text_at, text_len, index_crc, text_crc, file_len = struct.unpack("<QQQQIIQ", data[-128:-80])
    check_version(data[-80:-59], data[-59:-12])
    need(file_len <= len(data), "file is shorter than it says", Truncated)
    need(file_len == len(data) and data[-80:-59] == data[8:29], "footer fields")
    need(text_at + divide_up(32 + text_len, align) * align == index_at, "span of the metadata")
    need(index_at + divide_up(32 + index_len, align) * align == file_len - 128, "span of the index")
    need(text_len <= MAX_METADATA and index_len <= 40 * MAX_CHUNKS, "metadata or index too long", Limit)
    # 2.2, 2.3
    text = read_frame(data, align, text_at, 3, 0, 0, 0, text_len, text_crc)
    index = read_frame(data, align, index_at, 2, 0, 0, 0, index_len, index_crc)
    need(index_len % 40 == 0, "length of the index")
    records = [Record(*fields) for fields in struct.iter_unpack("<QQIIIHHII", index)]
    need(all(r.flags == 0 and r.reserved == 0 for r in records), "reserved fields of the index")
    need(all((a.tensor, a.chunk) < (b.tensor, b.chunk) for a, b in pairwise(records)), "order of the chunks")
    need(all(r.payload_len <= MAX_PAYLOAD for r in records), "payload too long", Limit)
    spans = [align, *(divide_up(32 + r.payload_len, align) * align for r in records)]
    need([*accumulate(spans)] == [*(r.offset for r in records), text_at], "gap or overlap")
    need(not any(data[64:align]), "bytes after the preamble")
    codecs, tensors = read_metadata(text)
    return File(data, align, codecs, tensors, chunk_lists(codecs, tensors, records))


# 3 Metadata. Rules: a type; a range; a set of strings; an object; an array (rule of its members, range of their number)
CODECS = {("raw", "stored"): 0x0101, ("raw", "zstd"): 0x0201, ("e8", "fixed"): 0x0302}
FLOATS = {"float64": inf, "float32": 2.0**128 - 2.0**104, "float16": 65504.0, "bfloat16": 2.0**128 - 2.0**120}  # maxima
DTYPES = {*FLOATS, "float8_e4m3fn", "float8_e5m2", "bool", *(f"{u}int{w}" for u in ("", "u") for w in (8, 16, 32, 64))}
ANY = range(2**64)
TOP = {"kind": {"npy", "h5", "safetensors"}, "extras": dict, "codecs": (dict, ANY), "tensors": (dict, range(65537))}
DEFAULTS = {"axis": 0, "energy": 0.0, "mean_energy": 0.0, "overlap": 0.0, "error": 0.0}
TENSOR = {"name": str, "shape": (range(2**48 + 1), range(33)), "dtype": str, "codec": ANY}
TENSOR |= {"axis": ANY, "energy": float, "mean_energy": float, "overlap": float, "error": float}
RAW = {"codec": {"raw"}, "coding": {"stored", "zstd"}, "chunk_entries": range(1, 2**26 + 1)}
E8 = {"codec": {"e8"}, "coding": {"fixed"}, "q": range(2, 4097), "scales": (range(1, 256), range(1, 17))}
E8 |= {"offset": (range(-4, 5), range(8, 9)), "rotation": {"hadamard", "none"}, "seed": range(2**63), "centre": bool}
E8 |= {"scale": {"float16", "float32"}, "group": range(1, 32769), "chunk_vectors": range(1, 2**26 + 1)}
E8 |= {"alignment": {"vector", "tensor"}}


def fits(value: Any, rule: Any) -> bool:
    match rule:
        case range():
            return type(value) is int and value in rule
        case set():
            return type(value) is str and value in rule
        case dict():
            return type(value) is dict and value.keys() == rule.keys() and all(fits(value[k], rule[k]) for k in rule)
        case (member, number):
            return type(value) is list and len(value) in number and all(fits(item, member) for item in value)
    return type(value) in (int, float) and value >= 0 if rule is float else type(value) is rule


def parse_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    need(len(dict(pairs)) == len(pairs), "repeated key")
    return dict(pairs)


def read_metadata(text: bytes) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    # 3.1
    try:
        whole = lambda digits: int(digits) if isfinite(float(digits)) else inf  # noqa: E731
        tree = json.loads(text.decode(), object_pairs_hook=parse_object, parse_int=whole)
        json.dumps(tree, allow_nan=False, ensure_ascii=False).encode()  # fails for NaN, inf and unpaired surrogates
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"metadata: {error}") from None
    brackets = re.sub(rb'"[^"\\]*(\\.[^"\\]*)*"', b"", text)
    need(max(accumulate((c in b"[{") - (c in b"]}") for c in brackets)) <= 8, "metadata nested too deep")
    # 3.7
    codecs = tree.get("codecs") if type(tree) is dict else None
    for codec in codecs if type(codecs) is list else []:
        pair = (codec.get("codec"), codec.get("coding")) if type(codec) is dict else (None, None)
        need({*map(type, pair)} != {str} or pair in CODECS, f"codec and coding {pair}", Unsupported)
    need(
        fits(tree, TOP) and all(fits(codec, RAW if codec.get("codec") == "raw" else E8) for codec in codecs), "metadata"
    )
    tensors = [DEFAULTS | tensor for tensor in tree["tensors"]]
    need(all(fits(tensor, TENSOR) for tensor in tensors), "tensors in the metadata")
    for name, shape, dtype, codec, axis in (
        (t["name"], t["shape"], t["dtype"], t["codec"], t["axis"]) for t in tensors
    ):
        need(1 <= len(name.encode()) <= 1024 and not re.search("[\0-\x1f\x7f]", name), "name of a tensor")
        need(dtype in DTYPES, f"dtype {dtype!r}", Unsupported)
        need(prod(shape) <= 2**48, "too many entries")
        need(codec < len(codecs) and axis < max(1, len(shape)), "codec or axis of a tensor")
        need(dtype in FLOATS or codecs[codec]["codec"] == "raw", "dtype of an e8 tensor")
    for codec in (c for c in codecs if c["codec"] == "e8"):
        q, scales = codec["q"], codec["scales"]
        need(q // (q & -q) in (1, 3, 5, 7) and all(a < b for a, b in pairwise(scales)), "q or scales")
        need(codec["group"] * codec["chunk_vectors"] <= 2**26, "size of chunks")
    need(len({tensor["name"] for tensor in tensors}) == len(tensors), "names not unique")
    return codecs, tensors


def matrix_of(tensor: dict[str, Any]) -> tuple[list[int], int, int]:  # the other dimensions, m, n
    shape, axis = tensor["shape"] or [1], tensor["axis"]
    others = shape[:axis] + shape[axis + 1 :]
    return others, prod(others), shape[axis]


def chunk_lists(codecs: list[dict], tensors: list[dict], index: list[Record]) -> list[list[Record]]:  # 3.8
    lists, start = [], 0
    for number, tensor in enumerate(tensors):
        codec, (_, m, n) = codecs[tensor["codec"]], matrix_of(tensor)
        total, most, groups = m * n, codec.get("chunk_entries"), 1
        if codec["codec"] == "e8":
            total, most, groups = m, codec["chunk_vectors"], divide_up(n, codec["group"])
        runs = divide_up(total, most)
        need(groups * runs <= 2**32, "too many chunks", Limit)
        lists.append(index[start : start + groups * runs])
        need(len(lists[-1]) == groups * runs, "chunk missing")
        for c, r in enumerate(lists[-1]):
            right = (number, c, CODECS[codec["codec"], codec["coding"]], min(most, total - c % runs * most))
            need((r.tensor, r.chunk, r.codec, r.vectors) == right, "chunk list")
        start += groups * runs
    need(start == len(index), "chunk of no tensor")
    return lists


def read_tensor(file: File, number: int) -> np.ndarray:
    tensor, codec = file.tensors[number], file.codecs[file.tensors[number]["codec"]]
    shape, (others, m, n) = tensor["shape"], matrix_of(tensor)
    if tensor["dtype"].startswith(("bfloat", "float8")):
        import ml_dtypes  # noqa: F401 (makes these names known to NumPy)
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    need(prod(shape) * dtype.itemsize <= MAX_DECODED and prod(d or 1 for d in shape) < 2**59, "tensor too large", Limit)
    result = np.empty(m * n if codec["codec"] == "raw" else (m, n), dtype)
    for c, r in enumerate(file.records[number]):
        payload = read_frame(
            file.data, file.align, r.offset, 1, r.codec, r.tensor, r.chunk, r.payload_len, r.payload_crc
        )
        if codec["codec"] == "raw":
            part = result[c * codec["chunk_entries"] :][: r.vectors]
            part[:] = np.frombuffer(raw_chunk(payload, codec["coding"], part.nbytes), dtype)
            need(tensor["dtype"] != "bool" or part.view(np.uint8).max() <= 1, "bool entry")
        else:
            g, u = divmod(c, divide_up(m, codec["chunk_vectors"]))
            part = result[u * codec["chunk_vectors"] :, g * codec["group"] :][: r.vectors, : codec["group"]]
            part[:] = e8_chunk(payload, codec, part.shape, dtype)
    if codec["codec"] == "e8":
        result = np.ascontiguousarray(np.moveaxis(result.reshape([*others, n]), -1, tensor["axis"]))
    return result.reshape(shape)


# 4 Chunk payload of e8
def e8_chunk(payload: bytes, codec: dict, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
    count = shape[0]
    layout = np.dtype([
        ("exponent", "<i2"), ("zero", "<u2"), ("index_len", "<u4"), ("means", "<f4", (count * codec["centre"],)),
        ("scales", "<f2" if codec["scale"] == "float16" else "<f4", (count,)),
        ("alignments", "<f2", (count * (codec["alignment"] == "vector"),)),
    ])  # fmt: skip
    need(len(payload) >= layout.itemsize, "payload too short")
    head = np.frombuffer(payload, layout, 1)[0]
    means, scales, digits_at = head["means"], head["scales"], layout.itemsize + int(head["index_len"])
    need(abs(int(head["exponent"])) <= 1100 and head["zero"] == 0 and digits_at <= len(payload), "head of the payload")
    need(np.isfinite(means).all() and np.isfinite(scales).all() and (scales >= 0).all(), "mean or scale")
    need((abs(head["alignments"]) < 1).all(), "alignment")
    # 4.2
    blocks = divide_up(prod(shape), 8)
    digits = read_digits(payload[digits_at:], 8 * blocks, codec["q"]).reshape(blocks, 8)
    symbols = read_symbols(payload[layout.itemsize : digits_at], blocks, len(codec["scales"]))
    integers = codewords(digits, codec["q"], codec["offset"]) * np.array(codec["scales"])[symbols, None]
    z = integers.reshape(-1)[: prod(shape)].reshape(shape).astype(np.float32)
    # 4.3
    if codec["rotation"] == "hadamard":
        unrotate(z, codec["seed"])
    means = means.astype(np.float64)[:, None] if codec["centre"] else 0.0
    with np.errstate(all="ignore"):
        y = np.ldexp(scales.astype(np.float64)[:, None] * z.astype(np.float64) + means, int(head["exponent"]))
        if dtype.name == "float64":
            return y
        single = np.clip(y, -FLOATS["float32"], FLOATS["float32"]).astype(np.float32)
        most = np.float32(FLOATS[dtype.name])
        return np.clip(single, -most, most).astype(dtype)


# 5 Rotation
def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def undo(window: np.ndarray, seed: int, stage: int) -> None:  # for every row
    x, (count, size) = window, window.shape
    for h in (1 << k for k in range(size.bit_length() - 1)):  # fwht
        pairs = x.reshape(count, -1, 2, h)
        a, b = pairs[:, :, 0], pairs[:, :, 1]
        x = np.stack((a + b, a - b), axis=2).reshape(count, size)
    start = mix(seed) + stage * 2**32
    words = [mix((start + (k + 1) * 0x9E3779B97F4A7C15) % 2**64) for k in range(divide_up(size, 64))]
    signs = 1 - 2 * bit_string(struct.pack(f"<{len(words)}Q", *words), 1, size).astype(np.float32)
    window[:] = x * (np.float32(1) / np.sqrt(np.float32(size))) * signs


def unrotate(x: np.ndarray, seed: int) -> None:
    length = x.shape[1]
    size, half, k = 1 << length.bit_length() - 1, length // 2, np.uint32(0x3F3504F3).view(np.float32)
    if size < length:
        undo(x[:, length - size :], seed, 3)
        undo(x[:, :size], seed, 2)
        f, g = x[:, :half].copy(), x[:, length - half :].copy()
        x[:, :half], x[:, length - half :] = (f + g) * k, (f - g) * k
        undo(x[:, length - size :], seed, 1)
    undo(x[:, :size], seed, 0)


# 6 E8 codewords
def codewords(c: np.ndarray, q: int, offset: list[int]) -> np.ndarray:
    z = 2 * c + c[:, 7:] + np.array(offset)
    z[:, 0] += 2 * c[:, 0]
    z[:, :6] -= 2 * c[:, 1:7]
    z[:, 7] -= 2 * c[:, 7]
    e = (z + q) % (2 * q) - q
    r = (z - e) // (2 * q)
    a, s = np.abs(e), np.where(e < 0, -1, 1)
    odd, odd2 = r.sum(1) % 2 == 1, (2 * r + s).sum(1) % 4 == 2
    rows, j, k = np.arange(len(c)), a.argmax(1), a.argmin(1)  # the lowest index in a tie
    t = a.sum(1) - 4 * q + 2 * (q - a[rows, j]) * odd - 2 * a[rows, k] * odd2
    w, other = e.copy(), e - q * s
    w[rows, j] -= 2 * q * s[rows, j] * odd
    other[rows, k] += 2 * q * s[rows, k] * odd2
    return np.where((t <= 0)[:, None], w, other)


# 7 Digits
def read_digits(data: bytes, count: int, q: int) -> np.ndarray:
    t = (q & -q).bit_length() - 1
    r = q >> t
    d, w = {1: (1, 0), 3: (5, 8), 5: (3, 7), 7: (11, 31)}[r]
    words, low_len = divide_up(count, d), divide_up(count * t, 8)
    need(len(data) == low_len + divide_up(words * w, 8), "length of the payload")
    word = bit_string(data[low_len:], w, words)
    need((word < r**d).all(), "word of the high plane")
    high = (word[:, None] // r ** np.arange(d) % r).reshape(-1)[:count]
    return bit_string(data[:low_len], t, count) + (high << t)


# 8 Scale indices
def read_symbols(data: bytes, count: int, size: int) -> list[int]:
    lanes = min(32, 1 << max(1, count // 512).bit_length() - 1)
    words_at = 2 * size + 4 * lanes
    need(len(data) >= words_at and len(data) % 2 == 0, "length of the scale indices")
    f, states = struct.unpack_from(f"<{size}H", data), [*struct.unpack_from(f"<{lanes}I", data, 2 * size)]
    words, symbols = np.frombuffer(data[words_at:], "<u2").tolist()[::-1], []
    need(sum(f) == 4096, "sum of the frequencies")
    table = [(f[s], rest, s) for s in range(size) for rest in range(f[s])]  # by slot; rest = slot - F_s
    for i in range(count):
        factor, rest, s = table[states[i % lanes] % 4096]
        x = factor * (states[i % lanes] // 4096) + rest
        if x < 65536:
            need(words, "scale indices too short")
            x = 65536 * x + words.pop()
        states[i % lanes] = x
        symbols.append(s)
    need(not words and all(x == 65536 for x in states), "end of the scale indices")
    return symbols


# 9 Raw tensors
def raw_chunk(payload: bytes, coding: str, size: int) -> bytes:
    if coding == "zstd":
        import zstandard

        try:
            head = zstandard.get_frame_parameters(payload)
            need(payload[:4] == bytes.fromhex("28 b5 2f fd"), "no zstd frame")
            need(head.content_size == size and head.window_size <= 2**23 and not head.dict_id, "zstd frame header")
            payload = zstandard.ZstdDecompressor(max_window_size=2**23).decompress(payload, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Corrupt(f"zstd: {error}") from None
    need(len(payload) == size, "size of a raw chunk")
    return payload


def read(data: bytes) -> dict[str, np.ndarray]:
    file = open_file(data)
    return {tensor["name"]: read_tensor(file, i) for i, tensor in enumerate(file.tensors)}


def main() -> None:
    for name, array in read(Path(sys.argv[1]).read_bytes()).items():
        print(ascii(name), list(array.shape), array.dtype, hashlib.sha256(array.tobytes()).hexdigest())


if __name__ == "__main__":
    main()
