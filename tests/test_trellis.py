"""Codec trellis: the search for paths, the codec, files, and what the reference reader makes of them."""

import itertools
import math
import struct
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_entropy import distortion, gaussian, sample
from test_reference_entropy import check_alike, members
from test_reference_reader import (
    check_accepted,
    check_refused,
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
from latq.codecs.blocks import blocks_of, lowest_classes
from latq.codecs.e8_entropy import E8Points
from latq.codecs.entropy_design import design_for_rate
from latq.codecs.quantizer import integers_of, size_of, within_budget
from latq.codecs.trellis import TRELLISES, TrellisPaths
from latq.coding import rans
from latq.coding.model import Density
from latq.container import BytesSource, ContainerReader
from latq.errors import CorruptError
from latq.kernels import Trellis, paths
from latq.pipeline import decide, plan
from latq.pipeline.panels import Panels
from latq.pipeline.plan import Plan

F32 = npt.NDArray[np.float32]
FOUR_STATES = TrellisPaths(Trellis(0o5, 0o2))
FAST, BEST = TrellisPaths(TRELLISES["fast"]), TrellisPaths(TRELLISES["best"])


def parities(code: Trellis, values: npt.NDArray[np.int32]) -> list[int]:
    """Bit 0 of the states along a path from state 0."""
    state, found = np.zeros(1, np.int32), []
    for value in values:
        found.append(int(state[0]) & 1)
        state = code.step(state, value[None])
    return found


class TestPaths:
    @pytest.mark.parametrize("code", [Trellis(5, 2), *TRELLISES.values(), Trellis(8191, 4094)])
    def test_back_undoes_step(self, code: Trellis) -> None:
        states = np.arange(1 << code.memory, dtype=np.int32)
        for turn in (0, 1):
            before, values = code.back(states, np.full_like(states, turn))
            assert (code.step(before, values) == states).all()
            assert (before & 1 == values & 1).all()

    def test_parity_checks_hold(self) -> None:
        """The sum of the delayed bits, bit 0 by h0 and bit 1 by h1, is even at any time."""
        code = TRELLISES["best"]
        values, _ = BEST.choose(blocks_of(gaussian(800)), np.zeros(100, np.intp), 1.0, None)
        stream = integers_of(values, 800)
        for at in range(800):
            taps = [(stream[at - i] & 1) * (code.h0 >> i & 1) + (stream[at - i] >> 1 & 1) * (code.h1 >> i & 1)
                    for i in range(min(at, code.memory) + 1)]  # fmt: skip
            assert sum(taps) % 2 == 0

    @given(seed=st.integers(0, 999), step=st.sampled_from([0.5, 2.0, 4.0]))
    @settings(max_examples=20, deadline=None)
    def test_no_path_is_cheaper(self, seed: int, step: float) -> None:
        code, x = Trellis(5, 2), gaussian(8, seed=seed)
        model = Density(-20, tuple(abs(k) * 5 for k in range(-20, 21)), 0).tables
        found, _ = paths.choose_paths(x[:, None], np.zeros(1, np.intp), np.float32(step), model, code, 1)
        weights = paths.path_weights(model)[0]
        y = x * (np.float32(2) / np.float32(step))

        def weight(values: npt.NDArray[np.int32]) -> float:
            square = (y.astype(np.float64) - values) ** 2 * paths.FINE
            return float((square + weights[np.clip(values, -128, 127) + 128]).sum())

        least = math.inf
        for turns in itertools.product((0, 1), repeat=8):
            state, path = 0, []
            for target, turn in zip(y, turns, strict=True):
                residue = (state & 1) + 2 * turn
                floor = math.floor(target)
                path.append(floor - 1 + (residue - floor + 1) % 4)
                state = int(code.step(np.array([state], np.int32), np.array([residue], np.int32))[0])
            least = min(least, weight(np.array(path, np.int32)))
        # Distances are rounded to a 256th of the spacing.
        assert weight(found[:, 0]) <= least + 8 * 2

    def test_stretches_and_lanes(self) -> None:
        """Every lane has a path from state 0, whatever the stretches."""
        x, lanes = gaussian(8 * 2099), 32
        values, _ = paths.choose_paths(
            blocks_of(x), np.zeros(2099, np.intp), np.float32(0.5), None, FAST.trellis, lanes
        )
        rows = paths.paths_of(values, lanes)
        assert rows.shape == (8 * 66, 32)
        for lane in range(lanes):
            path = rows[: 8 * 53 if lane == 31 else None, lane]
            assert [int(v) & 1 for v in path] == parities(FAST.trellis, path)
        one, _ = paths.choose_paths(blocks_of(x[:2400]), np.zeros(300, np.intp), np.float32(0.5), None,
                                      FAST.trellis, 1)  # fmt: skip
        path = integers_of(one, 2400)
        assert [int(v) & 1 for v in path] == parities(FAST.trellis, path)


class TestCodec:
    @given(step=st.sampled_from([3.0, 1.0, 0.3, 0.05, 0.002]), blocks=st.integers(1, 300), seed=st.integers(0, 99))
    @settings(max_examples=30, deadline=None)
    def test_integers_round_trip_in_the_size_foretold(self, step: float, blocks: int, seed: int) -> None:
        x = gaussian(8 * blocks, seed=seed)
        x[::37] *= 50
        design = design_for_rate(FAST, sample(gaussian(2048), (0, 5, 40)), max(0.4, np.log2(4 / step)))
        classes = np.random.default_rng(seed).integers(0, 3, blocks)
        points, cost = FAST.choose(blocks_of(x), classes, design.step, design.density)
        assert cost == int(FAST.costs(points, design.density, classes).sum())
        stream, rest = FAST.encode(points, design.density, classes)
        (decoded,) = FAST.decode([(stream, rest, classes)], design.density)
        assert (decoded[: x.size] == integers_of(points, x.size)).all()
        assert len(stream) + len(rest) <= size_of(cost, points.size)

    @pytest.mark.parametrize(("quantizer", "most"), [(FOUR_STATES, 0.1), (FAST, 0.085), (BEST, 0.045)])
    def test_bits_lost(self, quantizer: TrellisPaths, most: float) -> None:
        x = gaussian(1 << 18)
        blocks, classes = blocks_of(x), np.zeros(x.size // 8, np.intp)
        for rate in (1.2, 3.0):
            design = design_for_rate(quantizer, sample(x[: 1 << 16]), rate)
            points = within_budget(quantizer, blocks, classes, design.density, design.step, int(rate * x.size / 8))
            stream, rest = quantizer.encode(points, design.density, classes)
            v = integers_of(points, x.size).astype(np.float64)
            gain = float(x @ v) / float(v @ v)
            error = float(((x - gain * v) ** 2).sum() / (x.astype(np.float64) ** 2).sum())
            lost = 8 * (len(stream) + len(rest)) / x.size + 0.5 * np.log2(error)
            assert most - 0.03 < lost < most

    def test_damage(self) -> None:
        x = gaussian(8 * 500)
        x[5] = 1000
        design, classes = design_for_rate(FAST, sample(gaussian(2048)), 3.0), np.zeros(500, np.intp)
        density = design.density
        points = within_budget(FAST, blocks_of(x), classes, density, design.step, 1600)
        stream, rest = FAST.encode(points, density, classes)
        assert len(rest) == 4
        for bad in ((stream[:-2], rest), (stream + b"\0\0", rest), (stream, b""), (stream, rest * 2), (b"", rest)):
            with pytest.raises(CorruptError):
                FAST.decode([(*bad, classes)], density)


class TestFiles:
    @pytest.mark.parametrize("bits", [0.5, 1.7, 3.6, 6.3, 12.0])
    def test_any_rate_is_met_from_below(self, bits: float) -> None:
        x = gaussian(1024, 200)
        data = latq.encode(x, bits, codec="trellis", effort="fast")
        rate = 8 * len(data) / x.size
        assert bits - 0.02 < rate <= bits
        e8 = latq.encode(x, bits, coding="entropy")
        gain = 0.02 if bits < 1 else 0.05
        assert distortion(x, latq.decode(data)) < 2 ** (-2 * gain) * distortion(x, latq.decode(e8))  # type: ignore[arg-type]

    @pytest.mark.parametrize("error", [0.3, 0.02])
    def test_error_is_met(self, error: float) -> None:
        x = gaussian(500, 100) + 0.5
        data = latq.encode(x, codec="trellis", error=error)
        assert 0.985 * error < distortion(x, latq.decode(data)) ** 0.5 <= error  # type: ignore[arg-type]
        assert len(data) < len(latq.encode(x, error=error))

    def test_random_access_and_threads(self) -> None:
        x = gaussian(40_000, 30)
        data = latq.encode(x, 2.5, codec="trellis", effort="fast", threads=2)
        assert data == latq.encode(x, 2.5, codec="trellis", effort="fast")
        assert (latq.open(data)["data"][35_000:, 20:] == latq.decode(data)[35_000:, 20:]).all()  # type: ignore[index]

    def test_product(self) -> None:
        a, b = gaussian(512, 100, seed=1), gaussian(512, 120, seed=2)
        files = [latq.encode(x, 4, codec="trellis") for x in (a, b)]
        for other in (files[1], latq.encode(b, 4)):
            estimate, report = latq.product(files[0], other, report=True)
            assert np.linalg.norm(estimate - a.T @ b) / report.error == pytest.approx(1.0, abs=0.04)

    def test_zeros(self) -> None:
        zeros = np.zeros((500, 20), np.float32)
        assert latq.decode(latq.encode(zeros, 3, codec="trellis")).tobytes() == zeros.tobytes()  # type: ignore[union-attr]

    @pytest.mark.parametrize("bits", [2, 7])
    def test_sparse_vectors_become_points(self, bits: float) -> None:
        x = gaussian(512, 100) * (np.random.default_rng(1).random((512, 100)) < 0.05)
        data = latq.encode(x, bits, codec="trellis", effort="fast", rotation="none")
        assert codec_of(data)["codec"] == "e8"
        check_accepted(data)

    def test_options(self) -> None:
        with pytest.raises(latq.ParameterError, match="entropy coding only"):
            latq.encode(gaussian(8, 8), codec="trellis", coding="fixed")
        assert codec_of(latq.encode(gaussian(300, 30), codec="trellis", effort="best"))["checks"] == [0o515, 0o362]


def sparse(n: int, m: int) -> F32:
    """Vectors that are 0 in nearly all places."""
    return gaussian(n, m) * (np.random.default_rng(1).random((n, m)) < 0.1).astype(np.float32)


class TestRivals:
    """Codec trellis gives way to e8 where that does better; where the sample leaves it open, chunks coded both ways
    tell."""

    @pytest.fixture
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("latq.pipeline.tiling.CHUNK_ENTRIES", 1 << 12)

    def rivals(self, x: F32, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Plan], Panels]:
        """The plans of both codecs, trellis first."""
        seen: list[tuple[list[Plan], Panels]] = []
        with monkeypatch.context() as patched:
            patched.setattr(plan, "GAUSSIAN", -1.0)
            patched.setattr(decide, "_best_tried", lambda *args: seen.append(args) or args[0][0])
            latq.encode(x, 1.5, codec="trellis", effort="fast", rotation="none")
        plans, panels = seen[0]
        return sorted(plans, key=lambda plan: plan.codec.codec, reverse=True), panels

    @pytest.mark.parametrize(("x", "better"), [(gaussian(64, 768), "trellis"), (sparse(64, 768), "e8")])
    def test_chunks_tell(self, x: F32, better: str, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
        plans, panels = self.rivals(x, monkeypatch)
        assert [plan.codec.codec for plan in plans] == ["trellis", "e8"]
        coded: list[str] = []
        encode_chunk = decide.encode_chunk

        def counted(x: Any, codec: Any, *args: Any) -> Any:
            coded.append(codec.codec)
            return encode_chunk(x, codec, *args)

        monkeypatch.setattr(decide, "encode_chunk", counted)
        for order in plans, plans[::-1]:
            # Whichever the sample holds to be the better one.
            claimed = [replace(plan, bits_lost=0.01 * i) for i, plan in enumerate(order)]
            coded.clear()
            chosen = decide._best_tried(claimed, panels)
            assert chosen is not None
            assert chosen.codec.codec == better
            assert panels.tiling.count == 12
            assert 0 < coded.count("e8") == coded.count("trellis") <= decide.TRIED_CHUNKS
            coded.clear()
            clear = [replace(order[0], bits_lost=-1.0), replace(order[1], bits_lost=0.0)]
            assert decide._best_tried(clear, panels) is clear[0]
            assert not coded

    @pytest.mark.parametrize("bits", [1.0, 2.0, 4.0])
    @pytest.mark.parametrize("rotation", ["auto", "none"])
    def test_never_worse(self, bits: float, rotation: Any, small_chunks: None) -> None:
        rng = np.random.default_rng(3)
        spread = gaussian(64, 300) * np.exp(rng.normal(0, 1.5, 300)).astype(np.float32)
        heavy = rng.standard_t(2, (64, 300)).astype(np.float32)
        for x in spread, heavy, sparse(64, 300), np.cumsum(gaussian(64, 300), axis=0), gaussian(16, 2):
            lost = [
                8 * len(data) / x.size + math.log2(distortion(x, latq.decode(data)) + 1e-300) / 2  # type: ignore[arg-type]
                for data in (
                    latq.encode(x, bits, rotation=rotation),
                    latq.encode(x, bits, codec="trellis", effort="fast", rotation=rotation),
                )
            ]
            assert lost[1] < lost[0] + 0.01


class TestReferenceReader:
    @pytest.mark.parametrize("n", [4, 7, 50, 100, 1023, 2048])
    def test_lengths(self, n: int) -> None:
        for bits in (1, 4, 7, 12):
            check_accepted(latq.encode(matrix((n, 5 if n > 100 else 800 // n)), min(12, bits + 34 / n),
                                       codec="trellis", effort="fast"))  # fmt: skip

    def test_lanes(self) -> None:
        for blocks in (127, 128, 129, 2047, 2049):
            check_accepted(latq.encode(matrix((8, blocks)), 8, codec="trellis", effort="fast"))

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
    @pytest.mark.parametrize(("bits", "rotation", "axis"), [(1.5, "hadamard", 0), (6.5, "none", 1), (9, "none", 0)])
    def test_classes(self, dtype: Any, bits: float, rotation: Any, axis: int) -> None:
        array = unequal((40, 260), 0.4, np.float64).astype(dtype)
        data = latq.encode(array if axis == 0 else array.T.copy(), bits, codec="trellis", rotation=rotation, axis=axis)
        codec = codec_of(data)
        assert 1 < codec["classes"] < 33
        assert (max(codec["shifts"]) > 0) == (bits > 6)
        check_accepted(data)

    @pytest.mark.parametrize("density", [((0,), (0,)), ((5,), (3,)), ((16, 0, 1, 0), (-128, 255, 3, 70))])
    @pytest.mark.parametrize("checks", [(5, 2), (0o515, 0o362), (8191, 4094), (4097, 2)])
    def test_models(self, density: tuple[tuple[int, ...], tuple[int, ...]], checks: tuple[int, int]) -> None:
        """Any density and any checks, and integers beyond the tables."""
        n, m, (shifts, widths) = 13, 120, density
        classes = len(shifts)
        random = np.random.default_rng((classes, *checks))
        of_vector = random.integers(0, classes, m).astype(np.uint8)
        of_block = lowest_classes(of_vector, n)
        model = Density(-20, tuple(random.integers(0, 99, 41).tolist()), 0, shifts, widths)
        quantizer = TrellisPaths(Trellis(*checks))
        spread = 2.0 ** np.array(shifts)[of_block] * 12
        x = (gaussian(8, of_block.size) * spread).astype(np.float32)
        values, _ = quantizer.choose(x, of_block, 2.0, None)
        first, second = quantizer.encode(values, model, of_block)
        named = rans.encode(of_vector, classes) if classes > 1 else b""
        head = struct.pack("<hHII", 0, 0, len(named), len(first)) + struct.pack(f"<{classes}f", *[1] * classes)
        payload = head + bytes(2 * classes) + named + first + second
        described = {key: value for key, value in members(model).items() if key != "odd"}
        data = latq.encode(matrix((n, m)), 8, codec="trellis", rotation="none", centre=False)
        changes = {"classes": classes, "alignment": "class", "scale": "float32", "checks": list(checks)}
        decoded = check_accepted(crafted(data, with_codec(**described, **changes), lambda _: payload))
        assert (decoded.T.reshape(-1) == integers_of(values, n * m)).all()

    @pytest.mark.parametrize(("bits", "n"), [(1, 800), (9, 1600)])
    def test_escapes(self, bits: float, n: int) -> None:
        """Whatever the escaped integers are, of either parity, both readers make the same of them."""
        data = latq.encode(outliers((n, 4)), bits, codec="trellis", rotation="none", centre=False)
        payload = ContainerReader(BytesSource(data)).payload(ContainerReader(BytesSource(data)).records[0])
        (shift,) = codec_of(data)["shifts"]
        assert (shift > 0) == (bits == 9)
        head = class_section(payload, codec_of(data), 4) + sum(struct.unpack_from("<II", payload, 4))
        count = (len(payload) - head - n // 2 * shift) // 4
        assert count >= 4
        at = len(payload) - n // 2 * shift - 4 * count
        old = struct.unpack_from(f"<{count}i", payload, at)
        for limits in ((2**31 - 1, -(2**31), 2**24 + 1), (2**30 + 2**6, -1, 0)):
            # Bit 1, or of a shifted class none, chooses the tables of what follows.
            new = [limit & ~2 | value & 2 for limit, value in zip(limits, old, strict=False)]
            changed = payload[:at] + struct.pack(f"<{len(new)}i", *new) + payload[at + 4 * len(new) :]
            check_accepted(crafted(data, payload=lambda _, p=changed: p))

    def test_damage_under_sound_checksums(self) -> None:
        for n, bits in ((300, 1.5), (500, 3)):
            data = latq.encode(outliers((n, 1)), bits, codec="trellis", rotation="none", centre=False)
            payload = ContainerReader(BytesSource(data)).payload(ContainerReader(BytesSource(data)).records[0])
            accepted = [
                check_alike(crafted(data, payload=lambda p, i=i: p[:i] + bytes([p[i] ^ 0x91]) + p[i + 1 :]))
                for i in (*range(24), *range(24, len(payload), 5))
            ]
            assert any(accepted)
            assert not all(accepted)
            for checks in ([5, 2], [7, 2], [4097, 4094]):
                check_alike(crafted(data, with_codec(checks=checks)))

    @pytest.mark.parametrize(
        "checks",
        [[], [5], [5, 2, 2], [3, 2], [4, 2], [5, 3], [5, 4], [5, 8], [5, 0], [8193, 2], [5.0, 2], [-5, 2], 5],
    )
    def test_refused_checks(self, checks: Any) -> None:
        check_refused(crafted(small_files()["trellis"], with_codec(checks=checks)), "Corrupt")

    @pytest.mark.parametrize("change", [{"odd": 0}, {"shifts": [0, 0]}, {"low": -1}, {"weights": [0] * 4}])
    def test_refused_density(self, change: dict[str, Any]) -> None:
        check_refused(crafted(small_files()["trellis"], with_codec(**change)), "Corrupt")

    @pytest.mark.parametrize(
        ("density", "first", "second", "integers"),
        [
            (
                Density(-2, (40, 16, 0, 16, 40), 0),
                "7e2a0a0000200960",
                "03000000fdffffff",
                [0, -2, 3, 1, -3, 1, 1, -1],
            ),
            (
                Density(-4, (40, 20, 10, 0, 0, 10, 20, 40, 50), 0, (3,)),
                "c32d23f32344",
                "06000000937a1d",
                [6, -11, 4, 27, -1, 100, -33, 1],
            ),
        ],
    )
    def test_examples(self, density: Density, first: str, second: str, integers: list[int]) -> None:
        """Those of section 8.5."""
        sections = bytes.fromhex(first), bytes.fromhex(second)
        codec = members(density) | {"checks": [5, 2]}
        assert latq_min.path_integers(*sections, codec, [0]).tolist() == integers
        (decoded,) = FOUR_STATES.decode([(*sections, np.zeros(1, np.intp))], density)
        assert decoded.tolist() == integers


def test_e8_stays_the_default() -> None:
    assert codec_of(latq.encode(gaussian(300, 30), 4))["codec"] == "e8"
    assert E8Points().noise > FAST.noise
