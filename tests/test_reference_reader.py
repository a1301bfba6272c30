"""The reference reader, made from the text of the specification alone, decodes bit for bit what latq decodes."""

import importlib.util
import io
import json
import math
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import latq
from latq.container import BytesSource, ContainerReader, ContainerWriter

ROOT = Path(__file__).parents[1]
FLOATS = [np.dtype(t) for t in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
FLOAT8 = [np.dtype(t) for t in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)]
MOST = float(np.finfo(np.float32).max)  # the encoder takes no larger numbers for e8
BITS = (1.3, 2.25, 3, 4.25, 6, 9.5)
ENTROPY_BITS = (0.5, 1, 2.25, 4, 6, 8, 12)  # from 6.5 or so there are low bits
KINDS = ("e8", "raw", "entropy", "scalar", "scalar entropy", "trellis")
OTHERS = [np.dtype(t) for t in ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "spec" / "reference" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


latq_min = load("latq_min")
ERRORS = (latq_min.Corrupt, latq_min.Truncated, latq_min.Unsupported, latq_min.Limit)


def matrix(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def check_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert ours.tobytes() == theirs.tobytes()


def outliers(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """One entry of each vector that no density covers: without rotation it is escaped."""
    array = matrix(shape, np.float64)
    array[5] = 1000
    return array.astype(dtype)


def unequal(shape: tuple[int, int], spread: float, dtype: Any = np.float32, seed: int = 1) -> np.ndarray:
    """Columns of sizes that are log-normal with ``spread``."""
    sizes = np.exp(np.random.default_rng(seed).normal(0, spread, shape[1]))
    return (matrix(shape, np.float64, seed) * sizes).astype(dtype)


def codec_of(data: bytes) -> dict[str, Any]:
    (codec,) = latq_min.open_file(data).codecs
    return codec


def class_section(payload: bytes, codec: dict[str, Any], vectors: int) -> int:
    """Where it begins: 4.1."""
    count = codec["classes"] or vectors
    scale = 2 if codec["scale"] == "float16" else 4
    return 12 + 4 * vectors * codec["centre"] + count * (scale + 2 * (codec["alignment"] != "tensor"))


def check(array: np.ndarray, bits: float, codec: str = "e8", stored: str | None = "e8", **options: Any) -> np.ndarray:
    """Encode; compare the two decodes; see to it that the file has the codec meant (the encoder may choose raw)."""
    data = latq.encode(array, bits=bits, codec=codec, **{"coding": "fixed", **options})
    if stored is not None:
        (params,) = latq_min.open_file(data).codecs
        assert params["codec"] == stored
        assert stored == "raw" or params["coding"] == options.get("coding", "fixed")
    (decoded,) = latq_min.read(data).values()
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
    check_same(decoded, latq.decode(data))
    return decoded


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("n", [4, 7, 8, 9, 50, 100, 1016, 1023, 2048, 4096])
def test_lengths(n: int, bits: float) -> None:
    count = 5 if n > 100 else 1600 // n
    check(matrix((n, count)), min(12, bits + 34 / n))  # what a vector costs comes on top


@pytest.mark.parametrize("bits", [1.3, 4.25])
def test_groups(bits: float) -> None:
    check(matrix((40000, 2)), bits)
    check(matrix((2, 40000)), bits, axis=1)


def test_lanes() -> None:
    for blocks in (511, 512, 1023, 1024, 2047, 2048, 16384):
        check(matrix((8, blocks), seed=blocks), 8)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rotation", ["hadamard", "none"])
@pytest.mark.parametrize("centre", [True, False])
def test_options(dtype: Any, rotation: str, centre: bool) -> None:
    for bits in BITS[::2] if centre else BITS[1::2]:
        array = matrix((120, 20)) + np.arange(20, dtype=np.float32)
        check(array.astype(dtype), bits + 0.7, rotation=rotation, centre=centre, seed=int(bits * 1e9))


@pytest.mark.parametrize("axis", range(4))
def test_axes(axis: int) -> None:
    check(matrix((10, 14, 9, 11)), 8, axis=axis)
    shape = [1, 1, 1, 1]
    shape[axis] = 1500
    check(matrix(tuple(shape)), 3, axis=axis)
    check(matrix((1500,)), 3)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_seeds(seed: int) -> None:
    check(matrix((100, 30)), 3, seed=seed)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("centre", [True, False])
def test_magnitudes(dtype: Any, centre: bool) -> None:
    limits = ml_dtypes.finfo(dtype)
    most = min(float(limits.max), MOST)
    for size in (most, most / 9, float(limits.tiny), float(limits.smallest_subnormal)):
        units = np.clip(matrix((70, 50), np.float64), -1, 1)
        units[0, :3] = (1, -1, -0.0)
        array = (units * size).astype(dtype)
        array[:, 3] = 0
        array[:, 4] = -array[:, 3]
        check(array, 2.5, stored=None, centre=centre)
        check(array.T.copy(), 9.5, stored=None, axis=1, centre=centre)


@pytest.mark.parametrize("dtype", FLOATS)
def test_mixed_magnitudes(dtype: Any) -> None:
    limits = ml_dtypes.finfo(dtype)
    low, high = math.log2(float(limits.smallest_subnormal)), math.log2(min(float(limits.max), MOST))
    for span, stored in ((np.linspace(low, high - 1, 50), None), (np.linspace(-5, 5, 50), "e8")):
        array = (matrix((100, 50), np.float64).clip(-1, 1) * 2.0**span).astype(dtype)
        for bits in (2.5, 9.5) if stored else (4,):
            check(array, bits, stored=stored)
            check(array, bits, stored=None, axis=1)
            check(array, bits, stored=stored, rotation="none")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("centre", [None, True, False])
def test_zeros_and_constants(dtype: Any, centre: bool | None) -> None:
    assert not check(np.zeros((50, 4), dtype), 3, stored=None, centre=centre).any()
    for value in (-0.0, -0.1):
        check(np.full((50, 4), value, dtype), 3, stored=None, centre=centre)
        array = matrix((100, 30), dtype)
        array[:, ::2] = value
        check(array, 3, centre=centre)


def test_sparse() -> None:
    array = np.zeros((200, 40), np.float32)
    array[::17, ::3] = -5
    for rotation in ("hadamard", "none"):
        check(array, 2.25, rotation=rotation)


@pytest.mark.parametrize("dtype", FLOATS + FLOAT8 + OTHERS)
def test_raw(dtype: Any) -> None:
    random = np.random.default_rng(1)
    data = random.bytes(600 * dtype.itemsize)  # all bit patterns, NaN payloads too
    array = np.frombuffer(data, np.uint8) % 2 == 1 if dtype.kind == "b" else np.frombuffer(data, dtype)
    check_same(check(array.reshape(10, 60), 4, "raw", "raw"), array.reshape(10, 60))
    check_same(check(array[:1].reshape(()), 4, "raw", "raw"), array[:1].reshape(()))
    check_same(check(np.zeros((100, 50), dtype), 4, "raw", "raw"), np.zeros((100, 50), dtype))


@pytest.mark.parametrize("codec", ["raw", "e8"])
@pytest.mark.parametrize("shape", [(), (0,), (0, 5), (5, 0), (3, 0, 2), (1,), (1, 1, 1)])
def test_small_shapes(shape: tuple[int, ...], codec: str) -> None:
    for dtype in FLOATS:
        for axis in range(max(1, len(shape))):
            check(np.full(shape, 1.5, dtype), 3, codec, None, axis=axis)


def test_several_tensors(tmp_path: Path) -> None:
    arrays = {
        "a": matrix((100, 7)),
        "layer/0.weight": matrix((7, 100), ml_dtypes.bfloat16),
        "ids \u03b1\u2028": np.arange(12, dtype=np.int64).reshape(3, 4),
        "empty": np.zeros((0, 4), np.float16),
        "mask": np.array([True, False]),
        "scalar": np.array(2.5),
        "deep": matrix((2, 3, 4, 50), np.float64),
    }
    path = tmp_path / "several.latq"
    latq.save(path, arrays, bits=3)
    decoded = latq_min.read(path.read_bytes())
    file = latq.open(path)
    assert set(decoded) == set(arrays)
    for name, array in decoded.items():
        assert array.shape == arrays[name].shape
        assert array.dtype == arrays[name].dtype
        check_same(array, file[name].decode())


@pytest.mark.parametrize("path", sorted((ROOT / "samples").rglob("*.latq")), ids=lambda path: path.name)
def test_samples(path: Path) -> None:
    file = latq.open(path)
    for name, array in latq_min.read(path.read_bytes()).items():
        check_same(array, file[name].decode())


@cache
def small_files() -> dict[str, bytes]:
    return {
        "e8": latq.encode(matrix((70, 2), np.float64), bits=5, coding="fixed", centre=True),
        "raw": latq.encode(np.arange(5, dtype=np.int16), codec="raw"),
        "entropy": latq.encode(outliers((500, 1)), bits=4, coding="entropy", rotation="none", centre=True),
        "scalar": latq.encode(matrix((70, 2), np.float64), bits=5, codec="scalar", centre=True),
        "scalar entropy": latq.encode(matrix((99, 2)), bits=5, codec="scalar", coding="entropy", rho=0.8),
        "trellis": latq.encode(outliers((500, 1)), bits=4, codec="trellis", rotation="none", centre=True),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_byte(kind: str) -> None:
    data = bytearray(small_files()[kind])
    latq_min.read(bytes(data))
    for position in range(len(data)):
        for flip in (1, 0x80, 0xFF) if kind == "raw" else (1 << position % 8,):
            data[position] ^= flip
            with pytest.raises(ERRORS):
                latq_min.read(bytes(data))
            data[position] ^= flip


@pytest.mark.parametrize("kind", KINDS)
def test_prefix(kind: str) -> None:
    data = small_files()[kind]
    for length in range(len(data)):
        with pytest.raises(latq_min.Truncated if length >= 8 else latq_min.Corrupt):
            latq_min.read(data[:length])


def crafted(
    data: bytes,
    metadata: Callable[[Any], Any] = lambda m: m,
    payload: Callable[[bytes], bytes] = lambda p: p,
    vectors: int | None = None,
) -> bytes:
    """The file with its metadata and payloads changed, and all checksums made right again."""
    reader = ContainerReader(BytesSource(data))
    stream = io.BytesIO()
    writer = ContainerWriter(stream)
    for r in reader.records:
        changed = payload(reader.payload(r))
        writer.add_chunk(changed, tensor=r.tensor, chunk=r.chunk, vectors=vectors or r.vectors, codec=r.codec)
    writer.finish(json.dumps(metadata(json.loads(reader.metadata))).encode())
    return stream.getvalue()


def check_refused(data: bytes, error: str) -> None:
    with pytest.raises(getattr(latq_min, error)) as theirs:
        latq_min.read(data)
    with pytest.raises(getattr(latq, f"{error}Error")) as ours:
        latq.decode(data)
    assert (theirs.type.__name__, ours.type.__name__) == (error, f"{error}Error")


def check_accepted(data: bytes) -> np.ndarray:
    (decoded,) = latq_min.read(data).values()
    check_same(latq.decode(data), decoded)
    return decoded


def with_codec(**changes: Any) -> Callable[[Any], Any]:
    return lambda m: m | {"codecs": [m["codecs"][0] | changes]}


def with_tensor(**changes: Any) -> Callable[[Any], Any]:
    return lambda m: m | {"tensors": [m["tensors"][0] | changes]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("error", "change"),
    [
        ("Unsupported", with_codec(codec="e9", coding=7)),
        ("Unsupported", with_codec(codec="later", coding="fixed", q=[])),
        ("Unsupported", with_codec(coding="later")),
        ("Unsupported", lambda m: m | {"codecs": [*m["codecs"], {"codec": "later"}], "tensors": 3}),
        ("Corrupt", with_codec(coding=7)),
        ("Corrupt", with_codec(codec=7, coding="later")),
        ("Corrupt", lambda m: m | {"codecs": {}}),
        ("Corrupt", lambda m: m | {"codecs": [[], *m["codecs"]]}),
        ("Unsupported", with_tensor(dtype="float4", shape=[2**40, 2**40])),
        ("Unsupported", with_tensor(dtype="float4", name="", codec=9, axis=9)),
        ("Corrupt", with_tensor(dtype="float4", shape=[2**49])),
        ("Corrupt", with_tensor(dtype="float4", shape=[1] * 33)),
        ("Corrupt", with_tensor(shape=[0, 2**47, 4])),
        ("Corrupt", with_tensor(shape=[2**48])),
        ("Corrupt", with_tensor(axis=9)),
        ("Corrupt", with_tensor(energy=-1)),
        ("Corrupt", with_tensor(energy=10**400)),
        ("Corrupt", lambda m: m | {"extras": {"x": 10**400}}),
        ("Corrupt", lambda m: m | {"extras": {"x": [-(10**399)]}}),
        ("Corrupt", lambda m: m | {"extras": {"x": [[[[[[[]]]]]]]}}),
        ("Corrupt", lambda m: "text"),
        ("Corrupt", lambda m: 1),
    ],
)
def test_refused_metadata(kind: str, error: str, change: Callable[[Any], Any]) -> None:
    check_refused(crafted(small_files()[kind], change), error)


@pytest.mark.parametrize("kind", KINDS)
def test_accepted_metadata(kind: str) -> None:
    data = small_files()[kind]
    for change in (
        lambda m: m | {"extras": {"x": [[[[[[]]]]]], "groups": 10**300}},
        lambda m: m | {"codecs": m["codecs"] + m["codecs"]},
        with_tensor(energy=-0.0, error=3),
    ):
        check_same(check_accepted(crafted(data, change)), latq.decode(data))


@pytest.mark.parametrize("codec", ["e8", "raw"])
def test_tied_tensors(codec: str, tmp_path: Path) -> None:
    array, path = matrix((64, 20)), tmp_path / "a.latq"
    latq.save(path, {"a": array, "b": array, "c": array[::-1], "d": array}, codec=codec)
    data = path.read_bytes()
    assert [tensor["same_as"] for tensor in latq_min.open_file(data).tensors] == [-1, 0, -1, 0]
    ours, theirs = latq.decode(data), latq_min.read(data)
    for name in "abcd":
        check_same(ours[name], theirs[name])
    check_same(ours["a"], ours["d"])

    def changed(number: int, **changes: Any) -> bytes:
        def change(m: Any) -> Any:
            m["tensors"][number] |= changes
            return m

        return crafted(data, change)

    assert latq_min.read(changed(1, name="bb"))["bb"].tobytes() == ours["b"].tobytes()
    assert set(latq.decode(changed(1, name="bb"))) == {"a", "bb", "c", "d"}
    for number, changes in (
        *((1, {"same_as": owner}) for owner in (-2, -1, 1, 2, 4, 65536, "0", None, 0.5)),
        *((number, {"same_as": owner}) for number in (0, 2, 3) for owner in (1, 3)),
        *((1, change) for change in ({"shape": [20, 64]}, {"dtype": "int32"}, {"axis": 1}, {"error": 7}, {"codec": 1})),
    ):
        check_refused(changed(number, **changes), "Corrupt")


def test_huge_empty_shape() -> None:
    data = latq.encode(np.zeros((0, 3), np.float32), codec="raw")
    assert check_accepted(crafted(data, with_tensor(shape=[0, 2**46, 4]))).shape == (0, 2**46, 4)
    check_refused(crafted(data, with_tensor(shape=[0, 2**46, 5])), "Corrupt")


@pytest.mark.parametrize("dtype", FLOATS)
def test_overflow_is_clamped(dtype: Any) -> None:
    data = latq.encode(matrix((70, 20), dtype), bits=3, codec="e8")
    most = float(ml_dtypes.finfo(dtype).max)
    for exponent in (1010, 1100):
        changed = crafted(data, payload=lambda p, x=exponent: struct.pack("<h", x) + p[2:])
        decoded = check_accepted(changed).astype(np.float64)
        assert decoded.max() == most
        assert decoded.min() == -most


def zstd_frame(content: bytes, window: int, dictionary: bytes = b"") -> bytes:
    """One stored block; ``window`` is the descriptor, exponent above 2^10 and three bits of mantissa."""
    head = struct.pack("<IBB", 0xFD2FB528, 0x80 | len(dictionary), window) + dictionary
    return head + struct.pack("<I", len(content)) + (len(content) << 3 | 1).to_bytes(3, "little") + content


def test_zstd_header() -> None:
    data = latq.encode(np.zeros(1000, np.uint8), codec="raw")
    assert latq_min.open_file(data).codecs[0]["coding"] == "zstd"
    content = bytes(range(250)) * 4

    def stored(frame: bytes) -> bytes:
        return crafted(data, payload=lambda p: frame)

    for sound in (zstd_frame(content, 13 << 3), zstd_frame(content, 0, b"\0")):
        assert check_accepted(stored(sound)).tobytes() == content
    skipped = struct.pack("<II", 0x184D2A50, 1000) + content
    for bad in (zstd_frame(content, 14 << 3), zstd_frame(content, 13 << 3 | 1), zstd_frame(content, 0, b"\5")):
        check_refused(stored(bad), "Corrupt")
    for bad in (b"", content[:5], skipped, skipped + sound, sound + skipped, sound + sound, sound[:-1]):
        check_refused(stored(bad), "Corrupt")


def test_zstd_single_segment() -> None:
    data = latq.encode(np.zeros(1000, np.uint8), codec="raw")
    change = with_codec(chunk_entries=1 << 26)
    for blocks in (64, 65):  # of 2^17 bytes, each one byte repeated; the window of such a frame is its content
        size = blocks << 17
        headers = [size // blocks << 3 | 2] * (blocks - 1) + [size // blocks << 3 | 3]
        frame = struct.pack("<IBI", 0xFD2FB528, 0xA0, size) + b"".join(h.to_bytes(4, "little") for h in headers)
        changed = crafted(data, lambda m, s=size: with_tensor(shape=[s])(change(m)), lambda p, f=frame: f, size)
        if size <= 8 << 20:
            assert not check_accepted(changed).any()
        else:
            check_refused(changed, "Corrupt")


def test_annex_a() -> None:
    annex = (ROOT / "spec" / "annex-a.md").read_text(encoding="utf-8")
    text = annex[annex.index('{"codecs"') :].partition("\n```")[0].replace("\n", "").encode()
    data = bytearray(896)
    for offset, line in re.findall(r"^ *(\d+) ((?: [0-9a-f]{2}){16})", annex, re.M):
        data[int(offset) : int(offset) + 16] = bytes.fromhex(line)
    data[224 : 224 + len(text)] = text
    columns = re.findall(r"^\| \d \|.*\| ([0-9A-F]{8}) \| ([0-9A-F]{8}) \|$", annex, re.M)
    expected = np.array([[int(bits, 16) for bits in row] for row in columns], np.uint32)
    decoded = latq_min.read(bytes(data))["W"]
    assert decoded.view(np.uint32).tolist() == expected.tolist()
    check_same(decoded, latq.decode(bytes(data)))
