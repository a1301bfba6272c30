"""Second moments of inputs, and encoding for them."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import latq
from latq.calibration.feedback import eliminate, of_blocks, rotated, solve, with_feedback
from latq.calibration.moments import BATCH, Moments, moments_of
from latq.calibration.shaping import shape
from latq.calibration.store import open_calibration, stem, write_moments
from latq.codecs.columns import Columns
from latq.errors import CorruptError, InputError, ParameterError
from latq.theory import waterfilling_rate
from latq.transforms.rotation import rotate

F64 = npt.NDArray[np.float64]


def inputs(count: int, n: int, seed: int = 0, decay: float = 0.93) -> npt.NDArray[np.float32]:
    """Far from white: geometric variances, seen through a random rotation, around a mean."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    x = rng.standard_normal((count, n)) * decay ** (np.arange(n) / 2) @ basis + 0.1
    return x.astype(np.float32)


def weights(m: int, n: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((m, n)).astype(np.float32)


def output_error(w: npt.NDArray[Any], coded: bytes, x: npt.NDArray[Any]) -> float:
    """Error energy of the products with inputs ``x`` over that of the products."""
    return float((((latq.decode(coded) - w) @ x.T) ** 2).sum() / ((w @ x.T) ** 2).sum())


class TestMoments:
    def test_are_those_of_the_inputs(self) -> None:
        x = inputs(700, 24)
        found = moments_of([x[:100], x[100:]], 24, threads=2)
        assert found.count == 700
        assert np.allclose(found.matrix, x.T.astype(float) @ x / 700, atol=1e-6)
        assert found.mean is not None
        assert np.allclose(found.mean, x.mean(axis=0), atol=1e-6)

    @pytest.mark.parametrize("cuts", [[700], [1, 2, 697], [350, 350]])
    def test_do_not_depend_on_pieces_and_threads(self, cuts: list[int]) -> None:
        x = inputs(700, 40)
        whole = moments_of([x], 40)
        found = moments_of(np.split(x, np.cumsum(cuts)[:-1]), 40, threads=3)
        assert found.matrix.tobytes() == whole.matrix.tobytes()
        assert found.spread == whole.spread

    def test_spread_tells_the_error(self) -> None:
        truth = moments_of([inputs(1 << 16, 16, seed=3)], 16).matrix
        errors, told = [], []
        for part in np.split(inputs(1 << 16, 16, seed=3), 16):
            found = moments_of([part], 16)
            errors.append(((found.matrix - truth) ** 2).sum())
            told.append(found.spread)
        assert 0.6 < np.mean(told) / np.mean(errors) < 1.6

    def test_damping_falls_with_the_count(self) -> None:
        x = inputs(BATCH * 64, 16)
        few, many = (moments_of([x[:count]], 16).damping for count in (BATCH * 6, BATCH * 64))
        assert 0 < many < few < 1

    def test_of_two_samples_add_up(self) -> None:
        x = inputs(1000, 8)
        both = moments_of([x[:300]], 8) + moments_of([x[300:]], 8)
        assert both.count == 1000
        assert np.allclose(both.matrix, moments_of([x], 8).matrix)


class TestFactors:
    @pytest.mark.parametrize("n", [8, 40, 96, 200])
    def test_make_the_matrix(self, n: int) -> None:
        found = moments_of([inputs(2 * n, n)], n)
        matrix = found.damped(found.matrix)
        pivots = eliminate(matrix)
        assert pivots is not None
        upper, diagonal = pivots
        assert np.allclose(upper * diagonal @ upper.T, matrix, atol=1e-9)
        right = np.random.default_rng(0).standard_normal((n, 3))
        assert np.allclose(matrix @ solve(upper, diagonal, right), right, atol=1e-6)
        blocks = of_blocks(upper, diagonal)
        for b in range(0, n, 8):
            assert np.array_equal(blocks.upper[b : b + 8, b : b + 8], np.eye(8))
            assert not blocks.upper[b + 8 :, b : b + 8].any()
        # What (e U)_b weighs: the blocks of U^-1 H U^-T, and nothing between different ones.
        inverse = np.linalg.inv(blocks.upper.astype(float))
        rest = inverse @ matrix @ inverse.T
        for k, b in enumerate(range(0, n, 8)):
            own = np.linalg.slogdet(rest[b : b + 8, b : b + 8])[1] / np.log(2) / 8
            assert blocks.log_weights[k] == pytest.approx(own, abs=1e-3)
            rest[b : b + 8, b : b + 8] = 0
        assert np.abs(rest).max() < 1e-5 * np.abs(matrix).max()

    def test_a_singular_matrix_has_none(self) -> None:
        x = inputs(3, 16).astype(float)
        assert eliminate(x.T @ x) is None

    @pytest.mark.parametrize("n", [8, 24, 50, 128])
    def test_rotated_moments_are_those_of_rotated_inputs(self, n: int) -> None:
        x = inputs(300, n)
        turned = rotate(x, "hadamard", 7).astype(float)
        assert np.allclose(rotated(x.T.astype(float) @ x, 7), turned.T @ turned, rtol=1e-5, atol=1e-3)

    def test_feedback_brings_the_error_to_its_weights(self) -> None:
        n = 64
        found = moments_of([inputs(400, n)], n)
        matrix = found.damped(found.matrix)
        pivots = eliminate(matrix)
        assert pivots is not None
        feedback = of_blocks(*pivots)
        x, y = weights(50, n), np.empty((50, n), np.float32)

        def rounded(block: int, target: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            y[:, 8 * block : 8 * block + 8] = np.rint(2 * target) / 2
            return y[:, 8 * block : 8 * block + 8]

        with_feedback(x, feedback, rounded)
        error, plain = y - x, np.rint(2 * x) / 2 - x
        # Every block of e U is a rounding error.
        assert np.abs(error.astype(float) @ feedback.upper).max() < 0.26
        assert ((error @ matrix) * error).sum() < 0.75 * ((plain @ matrix) * plain).sum()

    def test_rank_deficient_moments_are_damped_until_they_have_factors(self) -> None:
        x = inputs(2, 32).astype(float)
        found = shape(Moments(x.T @ x, None, 0, 0.0), "hadamard", 0, 32, 0.0, 0.0)
        assert found.shaping is not None
        assert found.shaping.damping > 0

    def test_a_matrix_of_zeros_weighs_all_alike(self) -> None:
        found = shape(Moments(np.zeros((16, 16)), None, 5, None), "hadamard", 0, 16, 0.0, 0.0)
        assert found.shaping is not None
        assert np.array_equal(found.shaping.feedback.upper, np.eye(16))


class TestColumns:
    @given(st.lists(st.integers(1, 255), min_size=1, max_size=20))
    def test_runs(self, multipliers: list[int]) -> None:
        columns = Columns.of(multipliers)
        assert columns.multipliers.tolist() == multipliers
        assert [columns.distinct[i] for i in columns.index] == multipliers
        classes = columns.classes(np.array([0, 2]))
        assert classes.tolist() == [c * len(columns.distinct) + i for c in (0, 2) for i in columns.index]


class TestWaterfilling:
    def test_white(self) -> None:
        assert waterfilling_rate([1.0] * 5, 2.0**-6) == pytest.approx(3)

    def test_components_below_the_level_cost_nothing(self) -> None:
        assert waterfilling_rate([0.1, 4.0], 0.5) == pytest.approx(0.25 * np.log2(4 / 0.9))

    def test_no_bits_where_the_error_is_all(self) -> None:
        assert waterfilling_rate([1.0, 2.0], 1.5) == 0


class TestEncode:
    @pytest.mark.parametrize("coding", ["entropy", "fixed"])
    @pytest.mark.parametrize("bits", [0.5, 1.0, 2.0, 3.0, 4.25])
    def test_makes_smaller_errors_in_products(self, coding: Any, bits: float) -> None:
        w, x = weights(256, 256), inputs(3000, 256)
        plain = latq.encode(w, bits, axis=1, coding=coding)
        coded = latq.encode(w, bits, axis=1, coding=coding, calibration=x)
        assert len(coded) <= len(plain) + 384  # its steps, and what it says of the products
        assert output_error(w, coded, x) < 0.5 * output_error(w, plain, x)

    def test_is_close_to_water_filling(self) -> None:
        w, x = weights(1024, 256), inputs(4000, 256, decay=0.985)
        with latq.open(latq.encode(w, 3, axis=1, calibration=x)) as file:
            entry = file["data"].entry
        assert entry.output_bits_lost is not None
        assert 0.1 < entry.output_bits_lost < 0.25
        assert entry.output_error / entry.output_energy == pytest.approx(
            output_error(w, latq.encode(w, 3, axis=1, calibration=x), x), rel=1e-3
        )

    def test_white_inputs_leave_little_to_gain(self) -> None:
        w, x = weights(4096, 64), np.random.default_rng(5).standard_normal((20000, 64)).astype(np.float32)
        plain, coded = latq.encode(w, 3, axis=1), latq.encode(w, 3, axis=1, calibration=x)
        assert output_error(w, coded, x) < 1.02 * output_error(w, plain, x)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_bytes_do_not_depend_on_threads(self, threads: int) -> None:
        w, x = weights(300, 64), inputs(500, 64)
        expected = latq.encode(w, 3, axis=1, calibration=x)
        assert latq.encode(w, 3, axis=1, calibration=x, threads=threads) == expected

    @pytest.mark.parametrize("bits", [0.85, 2.0])
    @pytest.mark.parametrize("rotation", ["hadamard", "none"])
    def test_means_zeros_and_small_vectors(self, bits: float, rotation: Any) -> None:
        w = weights(400, 72) * np.logspace(-4, 0, 400, dtype=np.float32)[:, None] + 0.3
        w[7] = 0
        x = inputs(1000, 72)
        coded = latq.encode(w, bits, axis=1, calibration=x, rotation=rotation)
        plain = latq.encode(w, bits, axis=1, rotation=rotation)
        assert output_error(w, coded, x) <= output_error(w, plain, x) * 1.001

    def test_chunks_and_columns_decode_alone(self) -> None:
        w, x = weights(5000, 256), inputs(600, 256)
        data = latq.encode(w, 2.5, axis=1, calibration=x)
        with latq.open(data) as file:
            assert len(file["data"].records) > 1
            assert np.array_equal(file["data"][100:4200], latq.decode(data)[100:4200])

    def test_products_take_calibrated_files(self) -> None:
        w, x = weights(200, 128), inputs(400, 128)
        data = latq.encode(w, 4, axis=1, calibration=x)
        c = latq.product(data, latq.encode(x, 6, axis=1))
        exact = w @ x.T
        assert np.linalg.norm(c - exact) < 0.1 * np.linalg.norm(exact)

    @pytest.mark.parametrize("coding", ["entropy", "fixed"])
    @pytest.mark.parametrize("bits", [1.0, 2.0, 4.0])
    def test_errors_of_products_with_others_are_predicted(self, coding: Any, bits: float) -> None:
        w, x, other = weights(400, 256), inputs(3000, 256, decay=0.97), weights(300, 256, seed=8)
        coded = latq.encode(w, bits, axis=1, coding=coding, calibration=x)
        c, report = latq.product(coded, latq.encode(other, 4, axis=1), report=True, estimate="unbiased")
        exact = w @ other.T
        assert np.linalg.norm(c - exact) / report.error == pytest.approx(1, abs=0.03)
        # Unbiased: its regression on the exact product is 1.
        assert (c * exact).sum() / (exact**2).sum() == pytest.approx(1, abs=0.02)

    def test_noise_of_the_inputs_is_reckoned_with(self) -> None:
        w, x = weights(256, 128), inputs(4000, 128, decay=0.9)
        noisy = latq.quantizer(3, 128)
        seen = noisy.decode(noisy.encode(x))

        def error(coded: bytes) -> float:
            return float(((latq.decode(coded) @ seen.T - w @ x.T) ** 2).sum())

        aware = latq.encode(w, 4, axis=1, calibration=x, activation_bits=3)
        assert error(aware) < 0.8 * error(latq.encode(w, 4, axis=1, calibration=x))

    @pytest.mark.parametrize("count", [1, 2, 40])
    def test_few_inputs(self, count: int) -> None:
        w, x = weights(64, 64), inputs(count, 64)
        plain, coded = latq.encode(w, 3, axis=1), latq.encode(w, 3, axis=1, calibration=x)
        assert output_error(w, coded, x) <= output_error(w, plain, x) * 1.001

    @pytest.mark.parametrize("coding", ["entropy", "fixed"])
    def test_few_bits_are_near_water_filling(self, coding: Any, tmp_path: Path) -> None:
        w, x = weights(400, 256), inputs(3000, 256, decay=0.97)
        latq.save(tmp_path / "w.latq", {"w": w}, 1.5, axis=1, coding=coding, calibration={"w": x})
        with latq.open(tmp_path / "w.latq") as file:
            lost = file["w"].entry.output_bits_lost
        assert lost is not None
        assert lost < {"entropy": 0.3, "fixed": 0.55}[coding]

    def test_errors_of_few_codewords_have_no_mean(self) -> None:
        w, x = weights(2000, 64), np.random.default_rng(4).standard_normal((3000, 64)).astype(np.float32)
        decoded = latq.decode(latq.encode(w, 1, axis=1, coding="fixed", calibration=x))
        unbiased = decoded * ((w * w).sum() / (w * decoded).sum())
        errors = rotate(unbiased - w, "hadamard", 0).astype(float)
        # That of 2000 errors without a mean is 0.0005; with the one of the codebook it was 0.0021.
        assert (errors.mean(axis=0) ** 2).mean() < 0.001 * (errors**2).mean()

    def test_tied_tensors_have_the_inputs_of_either(self, tmp_path: Path) -> None:
        w, x = weights(64, 32), inputs(300, 32)
        for name in ("a", "z"):
            latq.save(tmp_path / f"{name}.latq", {"a": w, "z": w}, 3, axis=1, calibration={name: x})
        assert (tmp_path / "a.latq").read_bytes() == (tmp_path / "z.latq").read_bytes()

    @pytest.mark.parametrize("entry", [-1.0, 5.0])
    def test_what_are_no_moments(self, entry: float) -> None:
        matrix = np.eye(16)
        matrix[0, 1] = matrix[1, 0] = entry * 2
        with pytest.raises(InputError, match="no matrix of second moments"):
            latq.encode(weights(16, 16), axis=1, calibration=matrix)
        with pytest.raises(InputError, match="no matrix of second moments"):
            latq.encode(weights(16, 16), axis=1, calibration=-np.eye(16))

    def test_vectors_of_no_whole_blocks_are_encoded_without(self) -> None:
        w = weights(64, 50)
        assert latq.encode(w, 4, axis=1, calibration=inputs(100, 50)) == latq.encode(w, 4, axis=1)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"codec": "trellis"}, "needs --codec e8"),
            ({"error": 0.1}, "exclude each other"),
            ({"activation_bits": 40.0}, "out of range"),
        ],
    )
    def test_refuses_what_does_not_go_together(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ParameterError, match=message):
            latq.encode(weights(16, 16), axis=1, calibration=inputs(20, 16), **options)

    def test_activation_bits_need_inputs(self) -> None:
        with pytest.raises(ParameterError, match="needs --calibration"):
            latq.encode(weights(16, 16), activation_bits=4)


@pytest.mark.usefixtures("in_tmp_path")
class TestCommands:
    @pytest.fixture
    def model(self) -> None:
        """A checkpoint of two layers, and inputs of them in a folder."""
        save_file(
            {"a.weight": weights(64, 32), "b.weight": weights(64, 40), "b.bias": weights(1, 64)[0]}, "m.safetensors"
        )
        Path("acts").mkdir()
        np.save("acts/a.npy", inputs(300, 32))
        np.save("acts/b.act.npy", inputs(300, 40).reshape(30, 10, 40))

    def test_encode_info_and_compare(self, model: None, run: Callable[..., tuple[str, str]], run_json: Any) -> None:
        report = run_json("encode", "m.safetensors", "--bits", 4, "--calibration", "acts", "-o", "m.latq")
        errors = {t["name"]: t["calibrated"]["output_error"] for t in report["tensors"] if t["calibrated"]}
        assert set(errors) == {"a.weight", "b.weight"}
        described = {t["name"]: t["outputs"] for t in run_json("info", "m.latq")["tensors"]}
        assert described["b.bias"] is None
        assert described["a.weight"]["relative_error"] == pytest.approx(errors["a.weight"] ** 0.5, rel=1e-6)
        measured = run_json("compare", "m.safetensors", "m.latq", "--calibration", "acts")
        for t in measured["tensors"]:
            if t["outputs"]:
                assert t["outputs"]["relative_error"] == pytest.approx(errors[t["name"]] ** 0.5, rel=1e-3)
        assert "output error" in run("info", "m.latq")[0]
        assert "water-filling" in run("compare", "m.safetensors", "m.latq", "--calibration", "acts")[0]

    def test_allocation_knows_what_inputs_leave(self, run_json: Any) -> None:
        save_file({"a": weights(512, 128), "b": weights(512, 128, seed=2)}, "m.safetensors")
        white = np.random.default_rng(9).standard_normal((8000, 128)).astype(np.float32)
        save_file({"a": inputs(8000, 128), "b": white}, "acts.safetensors")
        report = run_json("encode", "m.safetensors", "--bits", 3, "--allocate", "--calibration", "acts.safetensors")
        bits = {t["name"]: 8 * t["bytes"] / t["entries"] for t in report["tensors"]}
        assert bits["b"] - bits["a"] > 1
        assert report["bits_per_entry"] == pytest.approx(3, abs=0.05)

    def test_calibrate_gives_the_same_file(self, model: None, run: Callable[..., tuple[str, str]]) -> None:
        run("calibrate", "acts", "-o", "moments.h5")
        run("encode", "m.safetensors", "--calibration", "acts", "-o", "a.latq")
        run("encode", "m.safetensors", "--calibration", "moments.h5", "-o", "b.latq")
        assert Path("a.latq").read_bytes() == Path("b.latq").read_bytes()
        with h5py.File("moments.h5") as file:
            assert file["b/second_moments"].attrs["count"] == 300

    def test_calibrate_adds_up(self, run_json: Any) -> None:
        x = inputs(500, 16)
        np.save("x.npy", x)
        save_file({"x": x[:200]}, "first.safetensors")
        with h5py.File("second.h5", "w") as file:
            file["x"] = x[200:]
        assert run_json("calibrate", "x.npy", "-o", "whole.h5")["tensors"] == [{"name": "x", "n": 16, "count": 500}]
        run_json("calibrate", "first.safetensors", "-o", "1.h5")
        assert run_json("calibrate", "1.h5", "second.h5", "-o", "2.h5")["tensors"][0]["count"] == 500
        with open_calibration("whole.h5") as a, open_calibration("2.h5") as b:
            assert np.allclose(a.entries[0].moments().matrix, b.entries[0].moments().matrix)

    def test_ready_made_moments(self, run: Callable[..., tuple[str, str]]) -> None:
        w, x = weights(128, 64), inputs(900, 64)
        np.save("w.npy", w)
        np.save("h.npy", x.T.astype(np.float64) @ x / 900)
        run("encode", "w.npy", "--axis", 1, "--bits", 3, "--calibration", "h.npy", "-o", "w.latq")
        assert output_error(w, Path("w.latq").read_bytes(), x) < 0.6 * output_error(w, latq.encode(w, 3, axis=1), x)

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("bad.npy", inputs(30, 16) * np.nan, "NaN"),
            ("bad.npy", inputs(30, 16)[0], "no inputs"),
            ("missing.npy", None, "No such file"),
        ],
    )
    def test_bad_inputs_are_named(self, name: str, content: Any, message: str, refused: Callable[..., str]) -> None:
        np.save("w.npy", weights(16, 16))
        if content is not None:
            np.save(name, content)
        for arguments in (("encode", "w.npy", "--calibration", name), ("calibrate", name)):
            error = refused(1, *arguments, "-o", "out")
            assert name in error
            assert message in error
            assert not Path("out").exists()

    def test_inputs_of_another_length_are_refused(self, model: None, refused: Callable[..., str]) -> None:
        np.save("acts/a.npy", inputs(300, 24))
        error = refused(1, "encode", "m.safetensors", "--calibration", "acts")
        assert "inputs of 24 entries for tensor 'a.weight'" in error
        assert not Path("m.latq").exists()

    def test_inputs_of_no_tensor_are_refused(self, refused: Callable[..., str]) -> None:
        np.save("w.npy", weights(16, 32))
        np.save("x.npy", inputs(20, 24))
        assert "x.npy: holds no inputs of any tensor" in refused(
            1, "encode", "w.npy", "--axis", 1, "--calibration", "x.npy"
        )

    def test_asymmetric_moments_are_refused(self, refused: Callable[..., str]) -> None:
        write_moments("h.h5", [("w", Moments(np.triu(np.ones((16, 16))), None, 9, None))])
        save_file({"w": weights(16, 16)}, "w.safetensors")
        assert "no matrix of second moments" in refused(1, "encode", "w.safetensors", "--calibration", "h.h5")

    def test_comparing_with_inputs_of_nothing_is_refused(
        self, model: None, run: Any, refused: Callable[..., str]
    ) -> None:
        run("encode", "m.safetensors", "-o", "m.latq")
        save_file({"other": inputs(20, 32)}, "other.safetensors")
        error = refused(2, "compare", "m.safetensors", "m.latq", "--calibration", "other.safetensors")
        assert "check their names" in error

    def test_an_input_is_no_output(self, model: None, run: Any, refused: Callable[..., str]) -> None:
        run("calibrate", "acts", "-o", "h.h5")
        assert "h.h5" in refused(1, "encode", "m.safetensors", "--calibration", "h.h5", "-o", "h.h5", "-f")

    def test_json_without_calibration_says_so(self, model: None, run_json: Any) -> None:
        report = run_json("encode", "m.safetensors", "-o", "m.latq")
        assert all(t["calibrated"] is None for t in json.loads(json.dumps(report))["tensors"])


def test_stems() -> None:
    assert {stem(name) for name in ("l.0.wq", "l.0.wq.weight", "l.0.wq.act", "l.0.wq/X")} == {"l.0.wq"}


class TestVectorQuantizer:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 300), st.floats(1.5, 9), st.integers(1, 5), st.integers(0, 1 << 32))
    def test_round_trip(self, n: int, bits: float, count: int, seed: int) -> None:
        try:
            q = latq.quantizer(bits, n, seed=seed)
        except ParameterError:
            assert bits * n < 40
            return
        x = np.random.default_rng(seed).standard_normal((count, n)).astype(np.float32)
        codes = q.encode(x)
        assert codes.shape == (count, q.bytes_per_vector)
        assert q.bits <= bits
        assert np.array_equal(codes[-1:], q.encode(x[-1:]))  # vector by vector
        y = q.decode(codes)
        assert ((y - x) ** 2).sum() < (x**2).sum()
        assert np.allclose(q.dot(codes, codes), y @ y.T, rtol=1e-4, atol=1e-3)

    @pytest.mark.parametrize(
        ("bits", "n", "most"), [(4, 576, 0.0068), (4.25, 64, 0.0052), (3, 1536, 0.024), (2.03, 576, 0.1)]
    )
    def test_error_on_gaussian_vectors(self, bits: float, n: int, most: float) -> None:
        q = latq.quantizer(bits, n)
        x = np.random.default_rng(2).standard_normal((200, n)).astype(np.float32)
        assert ((q.decode(q.encode(x)) - x) ** 2).mean() < most

    def test_sizes_of_all_kinds(self) -> None:
        q = latq.quantizer(4, 64)
        x = weights(60, 64) * np.logspace(-4, 4, 60, dtype=np.float32)[:, None]
        x[3] = 0
        y = q.decode(q.encode(x))
        assert not y[3].any()
        relative = ((y - x) ** 2).sum(axis=1) / np.maximum((x**2).sum(axis=1), 1e-30)
        assert relative.max() < 0.03

    def test_refuses(self) -> None:
        with pytest.raises(ParameterError, match="too little"):
            latq.quantizer(1, 8)
        with pytest.raises(ParameterError, match="use 1 to"):
            latq.quantizer(4, 0)
        q = latq.quantizer(4, 16)
        with pytest.raises(ParameterError, match="shape"):
            q.encode(np.zeros((3, 15)))
        with pytest.raises(InputError, match="NaN"):
            q.encode(np.full((1, 16), np.nan))
        with pytest.raises(CorruptError, match="bytes belong"):
            q.decode(np.zeros((2, 3), np.uint8))
        for bits in (math.nan, math.inf, 0.0, -1.0):
            with pytest.raises(ParameterError, match="no rate"):
                latq.quantizer(bits, 16)

    def test_numbers_of_no_sequence_are_refused(self) -> None:
        q = latq.quantizer(4, 64)
        codes = q.encode(weights(3, 64))
        codes[:, 1 + 64 * 3 // 8 :] = 255
        with pytest.raises(CorruptError, match="out of range"):
            q.decode(codes)


def test_a_file_in_memory_keeps_no_inputs_open() -> None:
    buffer = io.BytesIO(latq.encode(weights(16, 16), axis=1, calibration=inputs(50, 16)))
    with latq.open(buffer) as file:
        assert file["data"].entry.output_energy > 0
