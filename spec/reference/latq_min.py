"""A small reader of latq files, made from the specification alone; numbers are its sections. CC0 1.0."""

import json
import re
import struct
from bisect import bisect
from collections import namedtuple
from itertools import accumulate, pairwise
from math import inf, isfinite, prod

import ml_dtypes
import numpy as np
import zstandard
from google_crc32c import value as crc32c

SIGNATURE = bytes.fromhex("8b 4c 41 54 51 0d 0a 1a")
class Corrupt(Exception): ...
class Truncated(Corrupt): ...
class Unsupported(Exception): ...
class Limit(Exception): ...
def need(condition: object, message: str, error: type[Exception] = Corrupt) -> None:
    if not condition:
        raise error(message)
def divide_up(a: int, b: int) -> int:
    return -(-a // b)
def bit_string(data: bytes, width: int, count: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=width * count, bitorder="little").reshape(count, width)
    return sum((bits[:, i].astype(np.int64) << i for i in range(width)), np.zeros(count, np.int64))
MAX_METADATA, MAX_INDEX, MAX_PAYLOAD, MAX_DECODED = 2**24, 40 * 2**24, 2**30, 2**34  # the last is this reader's own
Record = namedtuple("Record", "offset payload_len tensor chunk vectors codec flags payload_crc reserved")
File = namedtuple("File", "data align codecs tensors records")  # records: by tensor, then by chunk
def check_version(fields: bytes, reserved: bytes) -> int:
    major, _, must_understand, _, align_log2 = struct.unpack("<HHQQB", fields)
    need(major == 1 and must_understand == 0, f"version {major}, features {must_understand:#x}", Unsupported)
    need(not any(reserved) and 6 <= align_log2 <= 16, "reserved bytes or align_log2")
    return 1 << align_log2
def read_frame(data: bytes, align: int, offset: int, *expected: int) -> bytes:  # kind, ..., payload_crc
    *fields, checksum = struct.unpack_from("<4sHHIIQII", data, offset)
    need(crc32c(data[offset : offset + 28]) == checksum and fields == [b"LQFR", *expected], "frame header")
    start, end = offset + 32, offset + 32 + expected[4]
    need(crc32c(data[start:end]) == expected[5], "payload checksum")
    need(not any(data[end : divide_up(end, align) * align]), "bytes after a payload")
    return data[start:end]
def open_file(data: bytes) -> File:
    need(data[:8] == SIGNATURE, "not a latq file")  # 2.1
    need(len(data) >= 64, "preamble incomplete", Truncated)
    need(crc32c(data[:60]) == int.from_bytes(data[60:64], "little"), "preamble checksum")
    align = check_version(data[8:29], data[29:60])
    need(len(data) >= 128 and data[-8:] == SIGNATURE[::-1], "end of the file is missing", Truncated)  # 2.5
    need(crc32c(data[-128:-12]) == int.from_bytes(data[-12:-8], "little"), "footer checksum")
    index_at, index_len, text_at, text_len, index_crc, text_crc, file_len = struct.unpack("<QQQQIIQ", data[-128:-80])
    check_version(data[-80:-59], data[-59:-12])
    need(file_len <= len(data), "file is shorter than it says", Truncated)
    need(file_len == len(data) and data[-80:-59] == data[8:29], "footer fields")
    need(text_at + divide_up(32 + text_len, align) * align == index_at, "span of the metadata")
    need(index_at + divide_up(32 + index_len, align) * align == file_len - 128, "span of the index")
    need(text_len <= MAX_METADATA and index_len <= MAX_INDEX, "metadata or index too long", Limit)
    text = read_frame(data, align, text_at, 3, 0, 0, 0, text_len, text_crc)  # 2.2, 2.3
    index = read_frame(data, align, index_at, 2, 0, 0, 0, index_len, index_crc)
    need(index_len % 40 == 0, "length of the index")
    records = [Record(*fields) for fields in struct.iter_unpack("<QQIIIHHII", index)]
    need(not any(r.flags or r.reserved for r in records), "reserved fields of the index")
    need(all((a.tensor, a.chunk) < (b.tensor, b.chunk) for a, b in pairwise(records)), "order of the chunks")
    need(all(r.payload_len <= MAX_PAYLOAD for r in records), "payload too long", Limit)
    spans = [align, *(divide_up(32 + r.payload_len, align) * align for r in records)]
    need([*accumulate(spans)] == [*(r.offset for r in records), text_at], "gap or overlap")
    need(not any(data[64:align]), "bytes after the preamble")
    codecs, tensors = read_metadata(text)
    return File(data, align, codecs, tensors, chunk_lists(codecs, tensors, records))
# 3 Metadata. Rules: a type; a range; a set of strings; an object; an array (rule of its members, range of their number;
# or a list of the rule of each); None for a number or null
CODECS = {"raw": {"stored": 0x0101, "zstd": 0x0201}, "e8": {"fixed": 0x0302, "entropy": 0x0402}}
CODECS |= {"scalar": {"fixed": 0x0303, "entropy": 0x0403}, "trellis": {"entropy": 0x0404}}
FLOATS = {name: float(ml_dtypes.finfo(name).max) for name in ("float64", "float32", "float16", "bfloat16")}
ANY, CHUNK, GROUP = range(2**1024), range(1, 2**26 + 1), range(1, 2**15 + 1)
DTYPES = {*FLOATS, "float8_e4m3fn", "float8_e5m2", "bool", *(f"{u}int{w}" for u in ("", "u") for w in (8, 16, 32, 64))}
TOP = {"kind": {"npy", "h5", "safetensors"}, "extras": dict, "codecs": (dict, ANY), "tensors": (dict, range(65537))}
ENERGIES = dict.fromkeys(("energy", "mean_energy", "overlap", "error", "output_energy", "output_error"), 0.0)
DEFAULTS = ENERGIES | {"output_bits_lost": None, "axis": 0, "same_as": -1}
TENSOR = dict.fromkeys(ENERGIES, float) | {"output_bits_lost": None, "axis": range(32), "same_as": range(-1, 65536)}
TENSOR |= {"name": str, "shape": (range(2**48 + 1), range(33)), "dtype": str, "codec": ANY}
RAW = {"codec": str, "coding": str, "chunk_entries": CHUNK}
E8 = {"codec": str, "coding": str, "seed": range(2**63), "centre": bool, "group": GROUP, "chunk_vectors": CHUNK}
E8 |= {"rotation": {"hadamard", "none"}, "scale": {"float16", "float32"}, "alignment": {"vector", "class", "tensor"}}
E8 |= {"classes": range(33), "kept": range(1, 65537)}
FIXED = {"q": range(2, 4097), "scales": (range(1, 256), range(1, 17)), "offset": (range(-4, 5), range(8, 9))}
ENTROPY = {"low": range(-255, -1), "weights": (range(256), range(5, 256))}
ENTROPY |= {"shifts": (range(17), range(1, 33)), "widths": (range(-128, 256), range(1, 33))}
STEPS = {"steps": ([range(1, 256), range(1, 4097)], range(1, 4097))}
SCALAR = E8 | {"levels": (range(-(2**20), 2**20 + 1), range(2, 4097))}
RULES = {0x0302: E8 | FIXED, 0x0402: E8 | ENTROPY | {"odd": range(-128, 128)}, 0x0303: SCALAR}
RULES |= {0x0403: SCALAR | {"shift": range(9)}, 0x0404: E8 | ENTROPY | {"checks": (range(2, 8192), range(2, 3))}}
def fits(value: object, rule: object) -> bool:
    if isinstance(rule, range | set):
        return type(value) is (int if isinstance(rule, range) else str) and value in rule
    if isinstance(rule, dict):
        return type(value) is dict and value.keys() == rule.keys() and all(fits(value[k], rule[k]) for k in rule)
    if isinstance(rule, list):
        return type(value) is list and len(value) == len(rule) and all(map(fits, value, rule))
    if isinstance(rule, tuple):
        return type(value) is list and len(value) in rule[1] and all(fits(item, rule[0]) for item in value)
    if rule is None:
        return type(value) in (int, float, type(None))
    return type(value) in (int, float) and value >= 0 if rule is float else type(value) is rule
def unique(pairs: list[tuple]) -> dict:
    need(len(dict(pairs)) == len(pairs), "repeated key")
    return dict(pairs)
def word(codec: dict) -> int | None:  # of names that are known, or no strings
    return CODECS.get(str(codec.get("codec")), {}).get(str(codec.get("coding")))
def rule_of(codec: dict) -> dict:
    rule = RULES.get(word(codec), RAW)
    return rule | STEPS if "low" in rule and "steps" in codec else rule
def read_metadata(text: bytes) -> tuple[list[dict], list[dict]]:
    try:  # 3.1
        whole = lambda digits: int(digits) if isfinite(float(digits)) else inf  # noqa: E731
        tree = json.loads(text.decode(), object_pairs_hook=unique, parse_int=whole)
        json.dumps(tree, allow_nan=False, ensure_ascii=False).encode()  # fails for NaN, inf and unpaired surrogates
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"metadata: {error}") from None
    brackets = re.sub(rb'"[^"\\]*(\\.[^"\\]*)*"', b"", text)
    need(max(accumulate((c in b"[{") - (c in b"]}") for c in brackets), default=0) <= 8, "metadata nested too deep")
    codecs = tree.get("codecs") if type(tree) is dict else None  # 3.7
    for codec in codecs if type(codecs) is list else []:
        name, coding = (codec.get("codec"), codec.get("coding")) if type(codec) is dict else (None, None)
        sound = type(name) is not str or (name in CODECS and (type(coding) is not str or coding in CODECS[name]))
        need(sound, f"codec {name!r} with coding {coding!r}", Unsupported)
    need(fits(tree, TOP) and all(fits(c, rule_of(c)) for c in codecs), "metadata")
    tensors = [DEFAULTS | tensor for tensor in tree["tensors"]]
    need(all(fits(tensor, TENSOR) for tensor in tensors), "tensors in the metadata")
    for number, tensor in enumerate(tensors):
        name, shape, codec, owner = tensor["name"], tensor["shape"], tensor["codec"], tensor["same_as"]
        need(tensor["dtype"] in DTYPES, f"dtype {tensor['dtype']!r}", Unsupported)
        need(1 <= len(name.encode()) <= 1024 and not re.search("[\0-\x1f\x7f]", name), "name of a tensor")
        need(prod(d or 1 for d in shape) <= 2**48, "too many entries")
        need(codec < len(codecs) and tensor["axis"] < max(1, len(shape)), "codec or axis of a tensor")
        need(tensor["dtype"] in FLOATS or codecs[codec]["codec"] == "raw", "dtype of an e8 tensor")
        if "steps" in codecs[codec]:
            n, group = (shape or [1])[tensor["axis"]], codecs[codec]["group"]
            kept = {divide_up(length * codecs[codec]["kept"], 65536) for length in {min(n, group), n % group} - {0}}
            need(kept <= {8 * sum(count for _, count in codecs[codec]["steps"])}, "steps and coded coordinates")
        need(owner < number, "same_as of a tensor")
        tensor |= {key: float(tensor[key]) for key in (*ENERGIES, "output_bits_lost") if tensor[key] is not None}
        need(owner < 0 or tensor == tensors[owner] | {"name": name, "same_as": owner}, "tensor that is not the same")
        need(owner < 0 or tensors[owner]["same_as"] < 0, "same as a tensor that has no chunks")
    for codec in (c for c in codecs if c["codec"] != "raw"):
        increasing = codec.get("levels") or codec.get("scales", [])
        need(all(a < b for a, b in pairwise(increasing)), "order of scales or levels")
        if codec["coding"] == "fixed":
            q = codec.get("q") or len(increasing)
            need(q // (q & -q) in (1, 3, 5, 7), "q or number of levels")
        elif codec["codec"] == "scalar":
            need(divide_up(len(increasing), 1 << codec["shift"]) <= 255, "shift")
        else:
            need(codec["low"] + len(codec["weights"]) > 2, "last weight")
            steps = codec.get("steps", [[1, 1]])
            need(sum(count for _, count in steps) <= 4096, "blocks of steps")
            count = max(1, codec["classes"]) * len({multiplier for multiplier, _ in steps})
            need(len(codec["shifts"]) == len(codec["widths"]) == count, "shifts or widths")
            h0, h1 = codec.get("checks", (5, 2))
            need(h0 % 2 and h0 > 4 and h1 % 2 == 0 and h1 < 1 << h0.bit_length() - 1, "checks")
        need(codec["alignment"] != ("vector" if codec["classes"] else "class"), "alignments and classes")
        need(codec["group"] * codec["chunk_vectors"] <= 2**26, "size of chunks")
    need(len({tensor["name"] for tensor in tensors}) == len(tensors), "names not unique")
    return codecs, tensors
def tiling(tensor: dict, codec: dict) -> tuple:  # 3.4: the other dimensions, n, axis, vectors and entries of a chunk
    shape, axis = tensor["shape"] or [1], tensor["axis"]
    if codec["codec"] == "raw":  # as vectors of one entry
        return [prod(shape)], 1, 0, codec["chunk_entries"], 1
    return shape[:axis] + shape[axis + 1 :], shape[axis], axis, codec["chunk_vectors"], codec["group"]
def chunk_lists(codecs: list[dict], tensors: list[dict], index: list[Record]) -> list[list[Record]]:  # 3.8
    lists, start = [], 0
    for number, tensor in enumerate(tensors):
        codec = codecs[tensor["codec"]]
        if tensor["same_as"] >= 0:
            lists.append(lists[tensor["same_as"]])
            continue
        others, n, _, most, group = tiling(tensor, codec)
        runs = divide_up(prod(others), most)
        lists.append(index[start : start + runs * divide_up(n, group)])
        start += runs * divide_up(n, group)
        need(start <= len(index), "chunk missing")
        for c, r in enumerate(lists[-1]):
            right = (number, c, word(codec), min(most, prod(others) - c % runs * most))
            need((r.tensor, r.chunk, r.codec, r.vectors) == right, "chunk list")
    need(start == len(index), "chunk of no tensor")
    return lists
def read_tensor(file: File, number: int) -> np.ndarray:
    tensor, codec = file.tensors[number], file.codecs[file.tensors[number]["codec"]]
    others, n, axis, most, group = tiling(tensor, codec)
    m, dtype = prod(others), np.dtype(tensor["dtype"]).newbyteorder("<")
    need(m * n * dtype.itemsize <= MAX_DECODED, "tensor too large", Limit)
    result = np.empty((m, n), dtype)
    for c, r in enumerate(file.records[number]):
        data = read_frame(file.data, file.align, r.offset, 1, r.codec, r.tensor, r.chunk, r.payload_len, r.payload_crc)
        g, u = divmod(c, divide_up(m, most))
        part = result[u * most :, g * group :][: r.vectors, :group]
        part[:] = (raw_chunk if codec["codec"] == "raw" else e8_chunk)(data, codec, part.shape, dtype)
    return np.moveaxis(result.reshape([*others, n]), -1, axis).reshape(tensor["shape"])
def e8_chunk(payload: bytes, codec: dict, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:  # 4
    count, kept = codec["classes"] or shape[0], divide_up(shape[1] * codec["kept"], 65536)
    layout = np.dtype([
        ("exponent", "<i2"), ("zero", "<u2"), ("class_len", "<u4"), ("first_len", "<u4"),
        ("means", "<f4", (shape[0] * codec["centre"],)),
        ("scales", "<f2" if codec["scale"] == "float16" else "<f4", (count,)),
        ("alignments", "<f2", (count * (codec["alignment"] != "tensor"),))])
    need(len(payload) >= layout.itemsize, "payload too short")
    head = np.frombuffer(payload, layout, 1)[0]
    means, scales, begin = head["means"], head["scales"], layout.itemsize + int(head["class_len"])
    middle = begin + int(head["first_len"])
    need(abs(int(head["exponent"])) <= 1100 and head["zero"] == 0 and middle <= len(payload), "head of the payload")
    need(np.isfinite(means).all() and np.isfinite(scales).all() and (scales >= 0).all(), "mean or scale")
    need((abs(head["alignments"]) < 1).all(), "alignment")
    classes = np.zeros(shape[0], int)
    if codec["classes"] > 1:
        classes[:] = read_symbols(payload[layout.itemsize : begin], codec["classes"], 4096, shape[0])
    else:
        need(head["class_len"] == 0, "class section")
    if codec["classes"]:
        scales = scales[classes]
    first, second = payload[begin:middle], payload[middle:]
    of_entry = np.pad(np.repeat(classes, kept), (0, -shape[0] * kept % 8), mode="edge").reshape(-1, 8)
    if codec["codec"] == "scalar":
        integers = level_integers(first, second, codec, shape[0] * kept)
    elif codec["coding"] == "fixed":
        integers = fixed_integers(first, second, codec, len(of_entry))
    else:
        decode = path_integers if codec["codec"] == "trellis" else entropy_integers
        multipliers = np.repeat(*np.array(codec.get("steps", [[1, 1]])).T)  # 8.3: of the blocks of every vector
        distinct, places = np.unique(multipliers, return_inverse=True)
        of_block = of_entry.min(1) * len(distinct) + np.resize(places, len(of_entry))
        integers = decode(first, second, codec, of_block.tolist()).reshape(-1, 8).astype(np.float32)
        integers *= np.resize(multipliers, (len(of_entry), 1)).astype(np.float32)
    z = np.zeros(shape, np.float32)
    z[:, :kept] = integers.reshape(-1)[: shape[0] * kept].reshape(shape[0], kept)
    if codec["rotation"] == "hadamard":  # 4.3
        unrotate(z, codec["seed"])
    means = means.astype(np.float64)[:, None] if codec["centre"] else 0.0
    with np.errstate(all="ignore"):
        y = np.ldexp(scales.astype(np.float64)[:, None] * z.astype(np.float64) + means, int(head["exponent"]))
        if dtype.name != "float64":
            y = np.clip(y, -FLOATS["float32"], FLOATS["float32"]).astype(np.float32)
        return np.clip(y, -FLOATS[dtype.name], FLOATS[dtype.name]).astype(dtype)
def mix(z: int) -> int:  # 5.1
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31
def undo(window: np.ndarray, seed: int, stage: int) -> None:  # 5.3, for every row
    x, (count, size) = window, window.shape
    for h in (1 << k for k in range(size.bit_length() - 1)):  # fwht
        a, b = np.moveaxis(x.reshape(count, -1, 2, h), 2, 0)
        x = np.stack((a + b, a - b), axis=2).reshape(count, size)
    words = [mix((mix(seed) + stage * 2**32 + (k + 1) * 0x9E3779B97F4A7C15) % 2**64) for k in range(size // 64 + 1)]
    signs = 1 - 2 * bit_string(np.array(words, "<u8").tobytes(), 1, size).astype(np.float32)
    window[:] = x * (np.float32(1) / np.sqrt(np.float32(size))) * signs
def unrotate(x: np.ndarray, seed: int) -> None:
    length = x.shape[1]
    size, half, k = 1 << length.bit_length() - 1, length // 2, np.uint32(0x3F3504F3).view(np.float32)
    if size < length:
        undo(x[:, length - size :], seed, 3)
        undo(x[:, :size], seed, 2)
        f, g = x[:, :half], x[:, length - half :]
        f[:], g[:] = (f + g) * k, (f - g) * k
        undo(x[:, length - size :], seed, 1)
    undo(x[:, :size], seed, 0)
def codewords(c: np.ndarray, q: int, offset: list[int]) -> np.ndarray:  # 6
    z = c * (4, 2, 2, 2, 2, 2, 2, 0) + c[:, 7:] + offset
    z[:, :6] -= 2 * c[:, 1:7]
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
def read_digits(data: bytes, count: int, q: int) -> np.ndarray:  # 7
    t, r = (q & -q).bit_length() - 1, q // (q & -q)
    d, w = {1: (1, 0), 3: (5, 8), 5: (3, 7), 7: (11, 31)}[r]
    words, low_len = divide_up(count, d), divide_up(count * t, 8)
    need(len(data) == low_len + divide_up(words * w, 8), "length of the payload")
    word = bit_string(data[low_len:], w, words)
    need((word < r**d).all(), "word of the high plane")
    high = (word[:, None] // r ** np.arange(d) % r).reshape(-1)[:count]
    return bit_string(data[:low_len], t, count) + (high << t)
class Rans:  # 8.1
    def __init__(self, data: bytes, symbols: int) -> None:
        self.lanes = min(32, 1 << max(1, symbols // 512).bit_length() - 1)
        need(len(data) >= 4 * self.lanes and len(data) % 2 == 0, "length of a rANS stream")
        self.states = [*struct.unpack_from(f"<{self.lanes}I", data)]
        self.words = np.frombuffer(data[4 * self.lanes :], "<u2").tolist()[::-1]
    def symbol(self, lane: int, starts: list[int]) -> int:  # starts: F_0, F_1, ..., 2^precision
        factor, slot = divmod(self.states[lane], starts[-1])
        s = bisect(starts, slot) - 1
        x = (starts[s + 1] - starts[s]) * factor + slot - starts[s]
        if x < 65536:
            need(self.words, "rANS stream too short")
            x = 65536 * x + self.words.pop()
        self.states[lane] = x
        return s
    def end(self) -> None:
        need(not self.words and all(x == 65536 for x in self.states), "end of a rANS stream")
def read_symbols(section: bytes, size: int, total: int, count: int) -> list[int]:  # 8.2, 8.4
    need(len(section) >= 2 * size, "length of a table of frequencies")
    starts = [*accumulate(struct.unpack_from(f"<{size}H", section), initial=0)]
    need(starts[-1] == total, "sum of the frequencies")
    rans = Rans(section[2 * size :], count)
    symbols = [rans.symbol(i % rans.lanes, starts) for i in range(count)]
    rans.end()
    return symbols
def fixed_integers(first: bytes, second: bytes, codec: dict, blocks: int) -> np.ndarray:  # 4.2, 8.2
    digits = read_digits(second, 8 * blocks, codec["q"]).reshape(blocks, 8)
    scales = np.array(codec["scales"])[read_symbols(first, len(codec["scales"]), 4096, blocks)]
    return codewords(digits, codec["q"], codec["offset"]) * scales[:, None]
def level_integers(first: bytes, second: bytes, codec: dict, count: int) -> np.ndarray:  # 4.2, 7, 8.4
    levels, shift = np.array(codec["levels"]), codec.get("shift", 0)
    if codec["coding"] == "fixed":
        need(not first, "bytes before the indices")
        return levels[read_digits(second, count, len(levels))]
    high = read_symbols(first, divide_up(len(levels), 1 << shift), 16384, count)
    need(len(second) == divide_up(count * shift, 8), "length of the low bits")
    indices = (np.array(high) << shift) + bit_string(second, shift, count)
    need((indices < len(levels)).all(), "index beyond the levels")
    return levels[indices]
def density(codec: dict, c: int) -> list[tuple[int, int]]:  # 8.3: values of class c and their bytes
    weights, low, width, one = codec["weights"], codec["low"], codec["widths"][c], 1 << 16
    f, high = round(2 ** (16 + width % 8 / 8)) << 16 + width // 8 >> 16, low + len(weights) - 1
    middle = f // 2 if codec["shifts"][c] else 0
    pairs = []
    for v in range(max(-127, min(-2, one * low // f)), min(127, max(2, divide_up(one * high, f))) + 1):
        p = min(max(v * f + middle - one * low, 0), one * (high - low))
        i = min(p // one, high - low - 1)
        r = p - one * i
        pairs.append((v, (weights[i] * (one - r) + weights[i + 1] * r + one // 2) // one))
    return pairs
def make_table(codec: dict, c: int, modulus: int, residue: int) -> tuple[list[int], list[int]]:  # values, starts
    pairs = [(v, byte) for v, byte in density(codec, c) if v % modulus == residue]
    tilt = codec.get("odd", 0) if modulus == 1 and codec["shifts"][c] == 0 else 0
    codes = [max(0, byte + tilt * (v % 2)) for v, byte in pairs]
    weights = [round(2 ** (31 - code % 16 / 16)) >> code // 16 for code in codes]
    total = sum(weights)
    f = [max(1, (16383 * w + total // 2) // total) for w in weights]
    while sum(f) != 16383:
        f[f.index(max(f))] += 1 if sum(f) < 16383 else -1
    return [0, *(v for v, _ in pairs)], [*accumulate([1, *f], initial=0)]
def entropy_integers(first: bytes, second: bytes, codec: dict, classes: list[int]) -> np.ndarray:  # 8.3
    blocks, shifts = len(classes), [codec["shifts"][c] for c in classes]
    rans, points = Rans(first, 8 * blocks), [[] for _ in range(blocks)]
    low_at = len(second) - sum(shifts)
    need(low_at >= 0 and low_at % 4 == 0, "length of escapes and low bits")
    escapes = np.frombuffer(second[:low_at], "<i4").tolist()[::-1]
    tables = {(c, m, r): make_table(codec, c, m, r) for c in set(classes) for m in (1, 2, 4) for r in range(m)}
    runs = [range(b, min(b + rans.lanes, blocks)) for b in range(0, blocks, rans.lanes)]
    for i, b in ((i, b) for run in runs for i in range(8) for b in run):
        key, t = (1, 0), points[b]
        if i > 0 and shifts[b] == 0:
            c = t[0] % 2
            key = (2, c) if i < 7 else (4, (c + 2 * sum((v - c) // 2 for v in t)) % 4)
        values, starts = tables[classes[b], *key]
        s = rans.symbol(b % rans.lanes, starts)
        need(s > 0 or escapes, "escape missing")
        t.append(values[s] if s > 0 else escapes.pop())
    rans.end()
    need(not escapes, "escapes left over")
    for t, shift in zip(points, shifts, strict=True):
        if shift:
            low = bit_string(second[low_at : low_at + shift], shift, 8).tolist()
            c, low_at = low[7] % 2, low_at + shift
            k = [(h << shift) + bits for h, bits in zip(t, low, strict=True)]
            k[7] += sum(k[:7]) % 2 - c
            t[:] = (2 * i + c for i in k)
    return np.array(points).astype(np.int32)  # modulo 2^32
def path_integers(first: bytes, second: bytes, codec: dict, classes: list[int]) -> np.ndarray:  # 8.5
    blocks, shifts, (h0, h1) = len(classes), [codec["shifts"][c] for c in classes], codec["checks"]
    rans = Rans(first, 8 * blocks)
    starts, length = [*accumulate(shifts, initial=0)], 8 * divide_up(blocks, rans.lanes)
    low_at = len(second) - starts[-1]
    need(low_at >= 0 and low_at % 4 == 0, "length of escapes and low bits")
    escapes = np.frombuffer(second[:low_at], "<i4").tolist()[::-1]
    tables = {(c, m, r): make_table(codec, c, m, r) for c in set(classes) for m in (1, 2) for r in range(m)}
    integers, states = np.zeros(8 * blocks, np.int64), [0] * rans.lanes
    for t, lane in ((t, lane) for t in range(length) for lane in range(rans.lanes) if lane * length + t < 8 * blocks):
        (b, i), s = divmod(lane * length + t, 8), states[lane]
        shift, values = shifts[b], tables[classes[b], *((1, 0) if shifts[b] else (2, s % 2))]
        symbol = rans.symbol(lane, values[1])
        need(symbol > 0 or escapes, "escape missing")
        k = values[0][symbol] if symbol > 0 else escapes.pop()
        if shift:
            low = bit_string(second[low_at + starts[b] : low_at + starts[b + 1]], shift, 8)
            k = 2 * ((k << shift) + int(low[i])) + s % 2
        integers[8 * b + i] = k
        states[lane] = s // 2 ^ s % 2 * (h0 // 2) ^ k // 2 % 2 * (h1 // 2)
    rans.end()
    need(not escapes, "escapes left over")
    return integers.astype(np.int32)  # modulo 2^32
def raw_chunk(payload: bytes, codec: dict, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:  # 9
    size = prod(shape) * dtype.itemsize
    if codec["coding"] == "zstd":
        try:
            head = zstandard.get_frame_parameters(payload)  # of a skippable frame: window_size 0
            need(head.content_size == size and 0 < head.window_size <= 2**23 and not head.dict_id, "zstd frame header")
            payload = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise Corrupt(f"zstd: {error}") from None
    need(len(payload) == size, "size of a raw chunk")
    need(dtype != np.bool_ or max(payload) <= 1, "bool entry")
    return np.frombuffer(payload, dtype).reshape(shape)
def read(data: bytes) -> dict[str, np.ndarray]:
    file = open_file(data)
    return {tensor["name"]: read_tensor(file, i) for i, tensor in enumerate(file.tensors)}
