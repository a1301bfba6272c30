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
from latq.codecs import scalar
from latq.codecs.blocks import lowest_classes
from latq.codecs.e8_entropy import E8Points
from latq.codecs.scalar import Levels
from latq.coding import rans
from latq.coding.model import Density
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


@pytest.mark.parametrize("bits", ENTROPY_BITS)
def test_entropy_lengths(bits: float) -> None:
    for n in (4, 7, 8, 9, 100, 1023):
        check(matrix((n, max(2, 1600 // n)), seed=n), min(12, bits + 40 / n), coding="entropy")


def test_entropy_lanes() -> None:
    for blocks in (63, 64, 127, 128, 257, 2047, 2048, 2100):
        for bits in (6, 12):
            check(matrix((8, blocks), seed=blocks), bits, stored=None, coding="entropy")


def test_entropy_groups() -> None:
    for bits in (0.5, 9):
        check(matrix((40000, 2)), bits, coding="entropy")
    check(matrix((2, 40000)), 3, axis=1, coding="entropy")
    for axis in range(3):
        check(matrix((10, 14, 19)), 5, axis=axis, coding="entropy")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("centre", [True, False])
def test_entropy_options(dtype: Any, centre: bool) -> None:
    for bits in ENTROPY_BITS[FLOATS.index(dtype) % 2 + 2 * centre :: 4]:
        for rotation, array in (("hadamard", matrix((120, 15))), ("none", outliers((600, 3)))):
            shifted = (array + np.arange(array.shape[1], dtype=np.float32)).astype(dtype)
            check(shifted, min(12, bits + 1), rotation=rotation, centre=centre, seed=int(bits * 1e9), coding="entropy")


@pytest.mark.parametrize("coding", ["fixed", "entropy"])
@pytest.mark.parametrize("bits", [1.5, 3, 5.2, 8])
def test_scalar(coding: str, bits: float) -> None:
    for i, (n, m) in enumerate(((17, 120), (50, 31), (1023, 7), (40000, 1))):
        options = {"rotation": ("hadamard", "auto")[i % 2], "centre": i > 1, "rho": i / 3}
        check(matrix((n, m), FLOATS[i]), min(8, bits + 60 / n), "scalar", "scalar", coding=coding, **options)


@pytest.mark.parametrize("bits", [2, 9, 11])
def test_scalar_lanes_and_digits(bits: float) -> None:
    for count in (511, 512, 1025, 40000):
        check(matrix((count, 1)), bits, "scalar", None)
        check(matrix((count, 1)), min(bits, 8), "scalar", None, coding="entropy", pair=matrix((count, 3)))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("scalar", {"levels": [1]}),
        ("scalar", {"levels": []}),
        ("scalar", {"levels": [*range(9)]}),
        ("scalar", {"levels": [*range(4097)]}),
        ("scalar", {"levels": [0, 1.0]}),
        ("scalar", {"levels": [0, 0]}),
        ("scalar", {"levels": [1, 0]}),
        ("scalar", {"levels": [0, 2**20 + 1]}),
        ("scalar", {"levels": [-(2**20) - 1, 0]}),
        ("scalar", {"shift": 0}),
        ("scalar", {"q": 4}),
        ("scalar", {"group": 2**15, "chunk_vectors": 2**11 + 1}),
        ("scalar entropy", {"levels": [*range(256)], "shift": 0}),
        ("scalar entropy", {"levels": [*range(511)], "shift": 1}),
        ("scalar entropy", {"levels": [3, 2, 1], "shift": 0}),
        ("scalar entropy", {"shift": 9}),
        ("scalar entropy", {"shift": -1}),
        ("scalar entropy", {"weights": [0, 0, 0, 0]}),
    ],
)
def test_refused_levels(kind: str, change: dict[str, Any]) -> None:
    check_refused(crafted(small_files()[kind], with_codec(**change)), "Corrupt")


@pytest.mark.parametrize("kind", ["scalar", "scalar entropy"])
def test_scalar_damage_under_sound_checksums(kind: str) -> None:
    data = small_files()[kind]
    payload = ContainerReader(BytesSource(data)).payload(ContainerReader(BytesSource(data)).records[0])
    accepted = [
        check_alike(crafted(data, payload=lambda p, i=i: p[:i] + bytes([p[i] ^ 0x91]) + p[i + 1 :]))
        for i in range(len(payload))
    ]
    assert any(accepted)
    assert not all(accepted)
    for length in (*range(0, len(payload), 7), len(payload) - 1):
        check_refused(crafted(data, payload=lambda p, n=length: p[:n]), "Corrupt")
    check_refused(crafted(data, payload=lambda p: p + b"\0"), "Corrupt")
    if kind == "scalar":  # a first section, of bytes that would do for the second
        moved = crafted(data, payload=lambda p: p[:4] + struct.pack("<I", 1) + p[8:])
        check_refused(moved, "Corrupt")
    # Other levels decode to other numbers.
    levels = latq_min.open_file(data).codecs[0]["levels"]
    assert check_accepted(crafted(data, with_codec(levels=[v - 2**19 for v in levels]))).any()


@pytest.mark.parametrize("shift", [0, 3, 8])
def test_scalar_models(shift: int) -> None:
    """Any levels, shift and frequencies decode alike; an index beyond the levels is refused by both."""
    random = np.random.default_rng(shift)
    levels = Levels(tuple(sorted(random.choice(2**21, (255, 2039, 4095)[shift // 3], False) - 2**20)), shift)
    x = random.standard_normal(600).astype(np.float32)
    first, second, integers = scalar.encode_entropy(x, levels, 4e-6, 10**6)
    data = latq.encode(matrix((600, 1)), bits=6, codec="scalar", coding="entropy", centre=False)
    change = with_codec(levels=[int(v) for v in levels.integers], shift=shift)

    def with_sections(one: bytes, other: bytes) -> bytes:
        return crafted(data, change, lambda p: p[:8] + struct.pack("<I", len(one)) + p[12:14] + one + other)

    decoded = check_accepted(with_sections(first, second))
    assert np.argsort(decoded[:, 0], kind="stable").tolist() == np.argsort(integers, kind="stable").tolist()
    check_refused(with_sections(first, second + b"\0"), "Corrupt")
    last = rans.encode(np.full(600, levels.alphabet - 1, np.uint8), levels.alphabet, scalar.PRECISION)
    if shift:
        check_refused(with_sections(last, b"\xff" * len(second)), "Corrupt")
    else:
        assert np.unique(check_accepted(with_sections(last, b""))).size == 1


def test_scalar_example() -> None:
    """That of section 8.4."""
    codec = {"coding": "entropy", "levels": [-40, -22, -13, -6, 0, 6, 14, 25, 41], "shift": 2}
    sections = bytes.fromhex("3313672666069d75cd1e"), bytes.fromhex("1c2006")
    assert latq_min.level_integers(*sections, codec, 10).tolist() == [0, -6, 6, 41, 0, -40, 14, 0, -13, 6]


def test_entropy_several_tensors(tmp_path: Path) -> None:
    arrays = {"a": matrix((100, 7)), "b": matrix((7, 100), ml_dtypes.bfloat16), "ids": np.arange(12)}
    path = tmp_path / "several.latq"
    latq.save(path, arrays, bits=5, coding="entropy")
    decoded = latq_min.read(path.read_bytes())
    with latq.open(path) as file:
        assert set(decoded) == set(arrays)
        for name, array in decoded.items():
            check_same(array, file[name].decode())


@pytest.mark.parametrize(("bits", "n"), [(1, 2000), (9, 4000)])
def test_entropy_escapes(bits: float, n: int) -> None:
    """Whatever the escaped integers are, both readers make the same of them."""
    data = latq.encode(outliers((n, 4)), bits=bits, coding="entropy", rotation="none", centre=False)
    codec = codec_of(data)
    (shift,) = codec["shifts"]
    assert (shift > 0) == (bits == 9)

    def with_second(payload: bytes, change: Callable[[bytes], bytes]) -> bytes:
        at = class_section(payload, codec, 4) + sum(struct.unpack_from("<II", payload, 4))
        return payload[:at] + change(payload[at:])

    def replaced(second: bytes) -> bytes:
        count = (len(second) - n // 2 * shift) // 4
        assert count >= 4
        old = struct.unpack_from(f"<{count}i", second)
        # The residue modulo 4 chooses the tables of what follows.
        new = [limit & ~3 | value & 3 for limit, value in zip(limits, old, strict=False)]
        return struct.pack(f"<{len(new)}i", *new) + second[4 * len(new) :]

    numbers = [2**31 - 1, -(2**31), 2**31 - 2, 1 - 2**31, 2**24 + 1, 2**25 + 3, 2**30 + 2**6, -1, 0, 1]
    for k in range(len(numbers)):
        limits = numbers[k:] + numbers[:k]
        rotation = ("none", "hadamard")[k % 2]
        check_accepted(crafted(data, with_codec(rotation=rotation), lambda p: with_second(p, replaced)))
    for change in (lambda s: s[:-1], lambda s: s[4:], lambda s: s + bytes(4), lambda s: s + b"\0", lambda s: b""):
        check_refused(crafted(data, payload=lambda p, c=change: with_second(p, c)), "Corrupt")


@pytest.mark.parametrize(
    ("density", "first", "second", "points"),
    [
        (Density(-2, (40, 16, 0, 16, 40), -6), "5fed23000560", "fdffffff", [1, -1, 1, 1, -3, 1, 1, -1]),
        (
            Density(-4, (40, 20, 10, 0, 0, 10, 20, 40, 50), 0, (3,)),
            "c32d23f32344",
            "06000000527a3d",
            [5, -11, 3, 27, -1, 101, -33, 1],
        ),
    ],
)
def test_entropy_examples(density: Density, first: str, second: str, points: list[int]) -> None:
    """Those of section 8.3."""
    sections = bytes.fromhex(first), bytes.fromhex(second)
    assert latq_min.entropy_integers(*sections, members(density), [0]).tolist() == [points]
    (decoded,) = E8Points().decode([(*sections, np.zeros(1, np.intp))], density)
    assert decoded.tolist() == points


def members(density: Density) -> dict[str, Any]:
    """Of a codec."""
    return {
        "low": density.low,
        "weights": list(density.codes),
        "odd": density.odd,
        "shifts": list(density.shifts),
        "widths": list(density.widths),
    }


@pytest.mark.parametrize(
    ("density", "frequencies"),
    [
        (Density(-2, (40, 16, 0, 16, 40), -6), [1093, 4008, 6181, 4008, 1093]),
        (
            Density(-4, (40, 20, 10, 0, 0, 10, 20, 40, 50), 0, (3,)),
            [1002, 1919, 2960, 3677, 2960, 1919, 1002, 523, 421],
        ),
    ],
)
def test_entropy_example_tables(density: Density, frequencies: list[int]) -> None:
    """Those of section 8.3."""
    assert density.tables.rans.frequencies[0, 1 : 1 + len(frequencies)].tolist() == frequencies
    _, starts = latq_min.make_table(members(density), 0, 1, 0)
    assert np.diff(starts).tolist() == [1, *frequencies]


def test_entropy_example_widths() -> None:
    """Those of section 8.3."""
    density = Density(-2, (40, 16, 0, 16, 40), -6, (0, 0), (4, -12))
    for index, codes in enumerate(([40, 26, 0, 26, 40], [40, 34, 26, 17, 11, 6, 0, 6, 11, 17, 26, 34, 40])):
        reach = len(codes) // 2
        values, ours = density.of_class(index)
        assert (values.tolist(), ours.tolist()) == ([*range(-reach, reach + 1)], codes)
        assert latq_min.density(members(density), index) == [*zip(values.tolist(), codes, strict=True)]


def check_alike(data: bytes) -> bool:
    """Both readers refuse, or both decode the same; which."""
    try:
        ours = latq.decode(data)
    except latq.CorruptError:
        with pytest.raises(latq_min.Corrupt):
            latq_min.read(data)
        return False
    check_same(ours, next(iter(latq_min.read(data).values())))
    return True


@pytest.mark.parametrize(("n", "bits"), [(300, 1.5), (500, 3)])  # one escape; with one low bit
def test_entropy_damage_under_sound_checksums(n: int, bits: float) -> None:
    data = latq.encode(outliers((n, 1)), bits=bits, coding="entropy", rotation="none", centre=False)
    payload = ContainerReader(BytesSource(data)).payload(ContainerReader(BytesSource(data)).records[0])
    accepted = [
        check_alike(crafted(data, payload=lambda p, i=i: p[:i] + bytes([p[i] ^ 0x91]) + p[i + 1 :]))
        for i in (*range(24), *range(24, len(payload), 5))
    ]
    assert any(accepted)
    assert not all(accepted)
    for length in range(0, len(payload), 16):
        check_refused(crafted(data, payload=lambda p, n=length: p[:n]), "Corrupt")
    # Another model: nearly always another end state.
    low = codec_of(data)["low"]
    for change in (
        {"low": low + 1},
        {"low": low - 1},
        {"odd": -128},
        {"odd": 127},
        {"shifts": [0]},
        {"shifts": [16]},
        {"widths": [-128]},
        {"widths": [255]},
    ):
        check_alike(crafted(data, with_codec(**change)))


@pytest.mark.parametrize(
    ("shifts", "widths"),
    [
        ((0,), (0,)),
        ((0,), (-128,)),
        ((0,), (255,)),
        ((5,), (0,)),
        ((16,), (-37,)),
        ((0, 0, 0), (0, 8, 60)),
        ((3, 2, 0), (0, 5, 11)),
        ((0, 16, 1, 0, 7), (-128, 255, -1, 3, 127)),
        (tuple(range(16)) * 2, tuple(range(-128, 256, 12))),
    ],
)
def test_entropy_models(shifts: tuple[int, ...], widths: tuple[int, ...]) -> None:
    """Any density decodes the same symbols: random ones, with streams that a test encoder made for them."""
    n, m, kept, classes = 13, 120, 45000, len(shifts)
    random = np.random.default_rng((classes, shifts[0], widths[0] + 128))
    count = int(random.integers(5, 256))
    weights = random.integers(0, 256, count).tolist()
    weights[:16] = range(0, 16 * min(count, 16), 16) if shifts[0] else weights[:16]
    low = int(random.integers(max(-255, 3 - count), -1))
    density = Density(low, tuple(weights), int(random.integers(-128, 128)), shifts, widths)
    of_vector = random.integers(0, classes, m).astype(np.uint8)
    per_vector = -(-n * kept // 65536)
    of_block = lowest_classes(of_vector, per_vector)
    blocks, shift = of_block.size, np.array(shifts)[of_block]
    values = np.empty((8, blocks), np.int64)
    for block, c in enumerate(of_block.tolist()):
        known = density.of_class(c)[0]
        values[:, block] = random.integers(known[0] - 2, known[-1] + 3, 8) << (shifts[c] + 1 if shifts[c] else 0)
    values = values & ~1 | values[0] & 1  # One coset, and an even sum of halves.
    values += 2 * np.where(shift > 0, random.integers(0, 1 << shift, (8, blocks)), 0)
    values += np.where(shift > 0, random.integers(0, 2, blocks), 0)
    values[7] += 2 * ((values >> 1).sum(axis=0) & 1)
    first, second = E8Points().encode(values.astype(np.int32), density, of_block)
    named = rans.encode(of_vector, classes) if classes > 1 else b""
    data = latq.encode(matrix((n, m)), bits=8, coding="entropy", rotation="none", centre=False)
    changed = crafted(
        data,
        with_codec(**members(density), classes=classes, alignment="class", kept=kept, scale="float32", group=n),
        lambda _: (
            struct.pack("<hHII", 0, 0, len(named), len(first))
            + struct.pack(f"<{classes}f", *[1] * classes)
            + bytes(2 * classes)
            + named
            + first
            + second
        ),
    )
    decoded = check_accepted(changed)
    stream = values.T.reshape(-1)[: m * per_vector]
    assert (decoded[:per_vector].T.reshape(-1) == stream.astype(np.float32)).all()
    assert not decoded[per_vector:].any()


@pytest.mark.parametrize(
    "change",
    [
        {"shifts": [17]},
        {"shifts": [-1]},
        {"shifts": []},
        {"shifts": [0, 0]},
        {"shifts": 0},
        {"widths": [256]},
        {"widths": [-129]},
        {"widths": []},
        {"widths": [0, 0]},
        {"widths": [0.0]},
        {"shifts": [0, 0], "widths": [0, 0]},
        {"shift": 0},
        {"low": -1},
        {"low": -256},
        {"odd": 128},
        {"odd": -129},
        {"odd": 0.0},
        {"low": -2, "weights": [0, 0, 0, 0]},
        {"low": -3, "weights": [0, 0, 0, 0, 0]},
        {"low": -255, "weights": [0] * 255},
        {"weights": [0] * 256},
        {"weights": [256] + [0] * 99},
        {"weights": [-1] + [0] * 99},
        {"weights": [True] + [0] * 99},
        {"q": 8},
        {"classes": 2},
        {"group": 2**15, "chunk_vectors": 2**11 + 1},
    ],
)
def test_refused_density(change: dict[str, Any]) -> None:
    check_refused(crafted(small_files()["entropy"], with_codec(**change)), "Corrupt")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": -1},
        {"classes": 33},
        {"classes": 0.0},
        {"classes": True},
        {"alignment": "vectors"},
        {"alignment": "class"},
        {"kept": 0},
        {"kept": 65537},
        {"kept": 1.0},
    ],
)
@pytest.mark.parametrize("kind", ["e8", "entropy"])
def test_refused_classes(kind: str, change: dict[str, Any]) -> None:
    data = small_files()[kind]
    assert codec_of(data)["classes"] == 0
    check_refused(crafted(data, with_codec(**change)), "Corrupt")


@pytest.mark.parametrize("key", ["shifts", "widths", "low", "weights", "odd", "group", "classes", "kept"])
def test_missing_key(key: str) -> None:
    def without(m: Any) -> Any:
        return m | {"codecs": [{k: v for k, v in m["codecs"][0].items() if k != key}]}

    check_refused(crafted(small_files()["entropy"], without), "Corrupt")


@cache
def class_files() -> dict[str, tuple[bytes, int]]:
    """Files with classes, and how many vectors they have."""
    return {
        "fixed": (latq.encode(unequal((24, 300), 0.5), bits=4), 300),
        "entropy": (latq.encode(unequal((60, 150), 0.5), bits=4, coding="entropy", centre=False), 150),
    }


@pytest.mark.parametrize("coding", ["fixed", "entropy"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_classes(coding: str, dtype: Any) -> None:
    for bits, rotation, axis in ((1.5, "hadamard", 0), (3.5, "none", 1), (6.5, "hadamard", 1), (9, "none", 0)):
        array = unequal((40, 260), 0.4, np.float64, int(bits)).astype(dtype)
        array[:, 3] = 0
        if coding == "fixed":
            array[:, 100:] = array[:, 100:] * 40  # Most in one class.
        data = latq.encode(array if axis == 0 else array.T.copy(), bits, coding=coding, rotation=rotation, axis=axis)
        codec = codec_of(data)
        assert 1 < codec["classes"] < 33
        assert codec["alignment"] == "class"
        if coding == "entropy":
            assert len(set(codec["widths"])) > 1
            assert (max(codec["shifts"]) > 0) == (bits > 6)
        check_accepted(data)


@pytest.mark.parametrize("precision", ["balanced", "uniform", "relative"])
def test_classes_far_apart(precision: str) -> None:
    """Shifts differ, and some classes are nothing but zeros."""
    array = unequal((50, 200), 1 if precision == "relative" else 3)
    array[:, ::7] = 0
    data = latq.encode(array, 7, coding="entropy", precision=precision)
    codec = codec_of(data)
    assert codec["classes"] > 3
    assert len(set(codec["shifts"])) > (precision != "relative")
    check_accepted(data)


@pytest.mark.parametrize("coding", ["fixed", "entropy"])
def test_one_class(coding: str) -> None:
    data = latq.encode(matrix((30, 400)), 4, coding=coding)
    assert codec_of(data)["classes"] == 1
    check_accepted(data)


@pytest.mark.parametrize("shape", [(8, 500), (9, 500), (150, 40), (1000, 3), (33000, 1)])
def test_kept(shape: tuple[int, int]) -> None:
    """Of every group its own part, of which blocks may straddle vectors."""
    for array, bits in ((matrix(shape), 0.3), (unequal(shape, 1), 0.6)):
        data = latq.encode(array, bits + 1000 / array.size, coding="entropy", rotation="hadamard")
        assert codec_of(data)["kept"] < 65536
        check_accepted(data)
    for kept in (1, 65535, 32768, 12345):
        check_alike(crafted(data, with_codec(kept=kept)))


@pytest.mark.parametrize("coding", ["fixed", "entropy"])
def test_class_damage_under_sound_checksums(coding: str) -> None:
    data, vectors = class_files()[coding]
    codec = codec_of(data)
    reader = ContainerReader(BytesSource(data))
    payload = reader.payload(reader.records[0])
    class_len, first_len = struct.unpack_from("<II", payload, 4)
    begin = class_section(payload, codec, vectors)
    assert codec["classes"] > 1
    assert class_len > 2 * codec["classes"] + 4
    for flip in (0x91, 1, 0x80):
        for i in range(begin - 2, begin + class_len + 4, 7):
            check_alike(crafted(data, payload=lambda p, i=i, f=flip: p[:i] + bytes([p[i] ^ f]) + p[i + 1 :]))

    def lengths(named: int, first: int) -> Callable[[bytes], bytes]:
        return lambda p: p[:4] + struct.pack("<II", named, first) + p[12:]

    rest = len(payload) - begin
    for lens in ((0, first_len), (class_len - 2, first_len + 2), (class_len + 2, first_len - 2), (2**32 - 1, 0)):
        check_refused(crafted(data, payload=lengths(*lens)), "Corrupt")
    for lens in ((class_len, 2**32 - 1), (2**32 - class_len, first_len), (rest + 1, 0), (class_len, rest + 1)):
        check_refused(crafted(data, payload=lengths(*lens)), "Corrupt")
    for length in (4, 11, 12, begin - 1, begin, begin + 1, begin + 2 * codec["classes"], begin + class_len):
        check_refused(crafted(data, payload=lambda p, n=length: p[:n]), "Corrupt")
    # A class that no vector has, another number of kinds, other coordinates.
    for change in (
        {"classes": codec["classes"] - 1},
        {"classes": 1},
        {"classes": 0, "alignment": "vector"},
        {"alignment": "tensor"},
        {"kept": 60000},
    ):
        check_alike(crafted(data, with_codec(**change)))
    check_refused(crafted(data, with_codec(alignment="vector")), "Corrupt")
    check_refused(crafted(data, with_codec(classes=0)), "Corrupt")


@pytest.mark.parametrize("classes", [0, 1])
@pytest.mark.parametrize("coding", ["fixed", "entropy"])
def test_class_section_without_classes(coding: str, classes: int) -> None:
    array = matrix((30, 400)) if classes else matrix((9000, 1))
    vectors = array.shape[1]
    data = latq.encode(array, 4, coding=coding)
    codec = codec_of(data)
    assert codec["classes"] == classes

    def inserted(payload: bytes) -> bytes:
        begin = class_section(payload, codec, vectors)
        named = rans.encode(np.zeros(vectors, np.uint8), 1)
        return payload[:4] + struct.pack("<I", len(named)) + payload[8:begin] + named + payload[begin:]

    check_refused(crafted(data, payload=inserted), "Corrupt")
    check_refused(crafted(data, payload=lambda p: p[:4] + struct.pack("<I", 2) + p[8:]), "Corrupt")


def test_class_scales_and_alignments() -> None:
    """They are checked as those of vectors are, those of a class without vectors too."""
    for data, vectors in class_files().values():
        codec = codec_of(data)
        size, count = {"float16": 2, "float32": 4}[codec["scale"]], codec["classes"]
        scales = 12 + 4 * codec["centre"] * vectors
        for c in (0, count - 1):
            at, alignment = scales + size * c, scales + size * count + 2 * c
            for bits in (struct.pack("<f", np.nan), struct.pack("<f", np.inf), struct.pack("<f", -1)):
                changed = struct.pack("<e", *struct.unpack("<f", bits)) if size == 2 else bits
                check_refused(crafted(data, payload=lambda p, a=at, b=changed: p[:a] + b + p[a + len(b) :]), "Corrupt")
            for value in (1, -1, np.nan):
                bits = struct.pack("<e", value)
                check_refused(crafted(data, payload=lambda p, a=alignment, b=bits: p[:a] + b + p[a + 2 :]), "Corrupt")


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
