"""The reference reader against latq: entropy coding of e8 and scalar, classes of vectors, models under attack."""

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from test_reference_reader import (
    ENTROPY_BITS,
    FLOATS,
    check,
    check_accepted,
    check_refused,
    check_same,
    class_section,
    codec_of,
    crafted,
    latq_min,
    matrix,
    outliers,
    small_files,
    unequal,
    with_codec,
)

import latq
from latq.codecs import scalar
from latq.codecs.blocks import lowest_classes
from latq.codecs.e8_entropy import E8Points
from latq.codecs.scalar import Levels
from latq.coding import rans
from latq.coding.model import Density
from latq.container import BytesSource, ContainerReader


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
