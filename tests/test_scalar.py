"""Codec scalar: the densities and constants of the theory, rates, fits to pairs, damage."""

import math
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

import latq
from latq import limits
from latq.cli import main as entry
from latq.codecs import scalar, scalar_design
from latq.codecs.scalar import Levels
from latq.coding import rans
from latq.errors import CorruptError
from latq.kernels import elementary
from latq.pipeline.describe import accuracy_of

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
CONSTANTS = {0: 2.7207, 0.5: 3.6481, 0.7: 4.1776, 0.9: 4.4970, 1: 4.2164}  # C(rho), theory.md section 7


def gaussian(*shape: int, seed: int = 0) -> F32:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pair_of(rho: float, count: int, seed: int = 0) -> tuple[F32, F32]:
    x, z = gaussian(2, count, seed=seed)
    return x, (np.float32(rho) * x + np.float32(math.sqrt(1 - rho * rho)) * z).astype(np.float32)


def weighted_pair(rho: float, count: int) -> tuple[F64, F64, F64]:
    """Pairs of N(0, 1) of correlation rho and the mass of each: evenly spaced X, so that its tails are sampled too."""
    x = np.linspace(-8, 8, count)
    mass = np.exp(-(x**2) / 2)
    return x, rho * x + math.sqrt(1 - rho * rho) * gaussian(count).astype(np.float64), mass / mass.sum()


def quantized(x: Any, levels: Levels, unit: float) -> F64:
    packed, integers = scalar.encode_fixed(x.astype(np.float32), levels, unit)
    assert len(packed) == scalar.fixed_size(x.size, levels.count)
    return integers.astype(np.float64) * unit


def distortion(x: Any, y: Any) -> float:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(((a - b) ** 2).sum() / (a**2).sum())


def product_error(a: F32, b: F32, **options: Any) -> float:
    """Squared error of the product of two files, over the squared norm of the product."""
    partners = {"a": b, "b": a} if options.pop("paired", False) else {}
    data = [latq.encode(x, codec="scalar", pair=partners.get(k), **options) for k, x in (("a", a), ("b", b))]
    truth = a.astype(np.float64).T @ b
    return float(((latq.product(*data) - truth) ** 2).sum() / (truth**2).sum())


def peaks(values: F64) -> int:
    """Local maxima, plateaus counted once."""
    rises = np.sign(np.diff(values))
    turns = rises[rises != 0]
    return int(((turns[:-1] > 0) & (turns[1:] < 0)).sum())


class TestDensity:
    @pytest.mark.parametrize("rho", [0, 0.3, -0.5, 0.57, 0.577, 0.578, 0.585, 0.7, -0.9, 1])
    def test_closed_form_is_bimodal_exactly_above_one_over_root_three(self, rho: float) -> None:
        profile = scalar_design.gaussian(rho)
        density = scalar_design.fixed_density(profile)
        u = (np.arange(density.size) + 0.5) * profile.width - profile.reach
        formula = np.exp(-(u**2) / 6) * np.cbrt(1 - rho**2 + rho**2 * u**2)
        assert density == pytest.approx(formula / formula.max(), rel=1e-12)
        assert peaks(density) == (2 if abs(rho) > 1 / math.sqrt(3) else 1)
        if abs(rho) > 1 / math.sqrt(3):
            assert abs(u[density.argmax()]) == pytest.approx(math.sqrt(3 - 1 / rho**2), abs=2e-3)

    @pytest.mark.parametrize("rho", [0, 0.4, 0.55, 0.6, 0.75, 1])
    def test_levels_are_densest_where_the_density_is(self, rho: float) -> None:
        levels = scalar_design.fixed_levels(scalar_design.gaussian(rho), 1024)
        # From one level to the fourth after it, to be sure of what is rounding.
        assert peaks(1 / (levels[4:] - levels[:-4])[::4]) == (2 if rho > 1 / math.sqrt(3) else 1)

    def test_entropy_coding_wants_even_levels_for_independent_pairs_and_root_w_for_others(self) -> None:
        even = scalar_design.entropy_levels(scalar_design.gaussian(0), 0.1, 3, 3)
        assert np.diff(even[1:-1]) == pytest.approx(0.1, rel=2e-3)
        skewed = scalar_design.entropy_levels(scalar_design.gaussian(1), 0.01, 3, 3)
        beyond = skewed[skewed > 0.5]
        assert np.diff(beyond) * (beyond[1:] + beyond[:-1]) == pytest.approx(np.diff(beyond**2)[0], rel=0.02)

    def test_own_functions(self) -> None:
        x = np.concatenate([[0.0], np.logspace(-300, 300, 4001)])
        assert elementary.cube_root(x) == pytest.approx(np.cbrt(x), rel=1e-15)
        assert elementary.exp_minus(np.linspace(0, 700, 4001)) == pytest.approx(
            np.exp(-np.linspace(0, 700, 4001)), rel=1e-14
        )

    def test_levels_are_the_same_on_every_machine(self) -> None:
        profile = scalar_design.gaussian(0.9)
        found = [scalar.design_fixed(scalar_design.gaussian(r), k, 0.0)[0].integers for r, k in ((0.7, 256), (1, 16))]
        found.append(scalar_design.stored(scalar_design.entropy_levels(profile, 0.01, 4, 9), 0.0)[0])
        assert [zlib.crc32(np.array(i, "<i8").tobytes()) for i in found] == [3627305207, 773424192, 3056758991]

    @pytest.mark.parametrize("levels", [[-1.0, 0.0, 0.0, 1e-9, 1.0], [-1e9, 0.0, 1e-9, 1.0, 1e9]])
    def test_stored_levels_always_increase(self, levels: list[float]) -> None:
        integers, unit = scalar_design.stored(np.array(levels), 2.0**-12)
        assert all(a < b for a, b in pairwise(integers))
        assert max(map(abs, integers)) <= limits.MAX_LEVEL
        assert np.array(integers) * unit == pytest.approx(np.array(levels), abs=5 * unit)


class TestConstant:
    @pytest.mark.parametrize("rho", list(CONSTANTS))
    @pytest.mark.parametrize("count", [64, 256])
    def test_it_is_that_of_the_theory(self, rho: float, count: int) -> None:
        """K^2 (E[Y^2 (X - Xq)^2] + E[X^2 (Y - Yq)^2]) is 2 C(rho)."""
        x, y, mass = weighted_pair(rho, 1 << 18)
        levels, unit = scalar.design_fixed(scalar_design.gaussian(rho), count, 0.0)
        ex, ey = x - quantized(x, levels, unit), y - quantized(y, levels, unit)
        # Both sides have the same distribution; that of X is the one sampled well.
        one_side = float((mass * (y * ex) ** 2).sum()) * count**2
        assert 2 * one_side == pytest.approx(2 * CONSTANTS[rho], rel=0.02)
        # The error of the product itself: the same where the two errors are uncorrelated. For X = Y they are equal, and
        # add up in amplitude: twice as much.
        plain = float((mass * (x * y - (x - ex) * (y - ey)) ** 2).sum()) * count**2
        assert plain == pytest.approx((4 if rho == 1 else 2) * CONSTANTS[rho], rel=0.03)

    def test_the_right_density_beats_the_plain_one(self) -> None:
        x, y, mass = weighted_pair(1, 1 << 18)
        error = []
        for rho in (0, 1):
            levels, unit = scalar.design_fixed(scalar_design.gaussian(rho), 256, 0.0)
            error.append(float((mass * (y * (x - quantized(x, levels, unit))) ** 2).sum()))
        assert error[0] / error[1] == pytest.approx(1.936, rel=0.04)

    def test_few_levels_are_those_of_lloyd_and_max(self) -> None:
        x = gaussian(1 << 18)
        for count, mse in ((2, 0.36338), (4, 0.11748), (8, 0.034548), (16, 0.009501), (32, 0.002505)):
            levels, unit = scalar.design_fixed(scalar_design.gaussian(0), count, 0.0)
            assert float(((x - quantized(x, levels, unit)) ** 2).mean()) == pytest.approx(mse, rel=0.015)


class TestRates:
    @pytest.mark.parametrize(("bits", "lost"), [(1, 0.265), (3.3, 0.285), (8, 0.34)])
    def test_entropy_coding_meets_any_rate_from_below(self, bits: float, lost: float) -> None:
        x = gaussian(2048, 256)
        data = latq.encode(x, bits, codec="scalar", coding="entropy")
        rate = 8 * len(data) / x.size
        assert bits - 0.02 < rate <= bits
        assert rate + 0.5 * np.log2(distortion(x, latq.decode(data))) < lost

    @pytest.mark.parametrize("rho", [0.8, -1])
    def test_also_with_uneven_levels(self, rho: float) -> None:
        x = gaussian(2048, 100)
        for bits in (1.5, 4):
            rate = 8 * len(latq.encode(x, bits, codec="scalar", coding="entropy", rho=rho)) / x.size
            assert bits - 0.02 < rate <= bits

    @pytest.mark.parametrize("bits", [1.1, 2.4, 5, 8, 12])
    def test_fixed_coding_takes_as_many_levels_as_fit(self, bits: float) -> None:
        x = gaussian(1024, 300)
        data = latq.encode(x, bits, codec="scalar")
        assert bits - 0.5 < 8 * len(data) / x.size <= bits

    def test_an_outlier_costs_only_itself(self) -> None:
        x = gaussian(2048, 60)
        spiked = x.copy()
        spiked[17, 5] = 1e6
        data = [latq.encode(a, 4, codec="scalar", coding="entropy") for a in (x, spiked)]
        assert len(data[1]) <= len(data[0]) * 1.01
        y, z = map(latq.decode, data)
        others = np.delete(np.arange(60), 5)
        assert distortion(x[:, others], z[:, others]) < 1.1 * distortion(x[:, others], y[:, others])
        assert z[17, 5] == pytest.approx(1e6, rel=0.1)

    @pytest.mark.parametrize("coding", ["fixed", "entropy"])
    def test_constants_and_few_values(self, coding: Any) -> None:
        for x in (np.full((300, 80), 3.25), np.sign(gaussian(300, 80)).astype(np.float64)):
            data = latq.encode(x, 3, codec="scalar", coding=coding)
            assert latq.decode(data) == pytest.approx(x, rel=1e-3)
            assert 8 * len(data) / x.size < 3.1


class TestPair:
    @pytest.mark.parametrize(("coding", "bits"), [("fixed", 6), ("entropy", 5)])
    def test_the_fit_finds_the_closed_form(self, coding: Any, bits: float) -> None:
        """One vector against its like: w is what the pair really is, and the fit as good as the right rho."""
        rho = 0.95
        x, y = pair_of(rho, 1 << 15)
        a, b = x[:, None], y[:, None]
        weights = y.astype(np.float64) ** 2

        def error(**options: Any) -> float:
            decoded = latq.decode(latq.encode(a, bits, codec="scalar", coding=coding, **options))
            assert isinstance(decoded, np.ndarray)
            return float((weights * (decoded[:, 0] - x).astype(np.float64) ** 2).sum())

        assert error(pair=b) < 1.1 * error(rho=rho)
        assert error(pair=b) < 0.8 * error()

    def test_rows_of_unlike_size(self) -> None:
        """Rows that are large in both matrices are what the product is made of."""
        size = np.exp(0.7 * gaussian(1024, 1, seed=3))
        a, b = size * gaussian(1024, 100, seed=1), size * gaussian(1024, 80, seed=2)
        for coding, bits, gain in (("fixed", 5, 5), ("entropy", 3, 1.08)):
            plain = product_error(a, b, bits=bits, coding=coding)
            assert product_error(a, b, bits=bits, coding=coding, paired=True) < plain / gain

    @pytest.mark.parametrize("pair", [np.zeros((300, 3)), np.ones((300, 1), np.int8), np.eye(300, dtype=bool)])
    def test_any_numbers_are_a_pair(self, pair: npt.NDArray[Any]) -> None:
        x = gaussian(300, 40)
        for rotation in ("none", "hadamard"):
            data = latq.encode(x, 6, codec="scalar", pair=pair, rotation=rotation)  # type: ignore[arg-type]
            assert distortion(x, latq.decode(data)) < 0.01

    @pytest.mark.parametrize("coding", ["fixed", "entropy"])
    def test_what_rounding_leaves_of_constant_vectors_may_be_any_size(self, coding: Any) -> None:
        x = gaussian(500, 40)
        x[:, ::4] = 1
        x[17, ::4] += np.float32(2.0**-23)
        data = latq.encode(x, 6, codec="scalar", coding=coding, pair=x, centre=True)
        assert distortion(x, latq.decode(data)) < 0.01

    def test_in_several_groups(self) -> None:
        x = gaussian(40_000, 4)
        data = latq.encode(x, 5, codec="scalar", coding="entropy", pair=x, threads=2)
        assert data == latq.encode(x, 5, codec="scalar", coding="entropy", pair=x)
        assert distortion(x, latq.decode(data)) < 0.01


class TestOptions:
    def test_no_rotation_unless_asked_for(self) -> None:
        x = gaussian(300, 40)
        for given, chosen in (("auto", "none"), ("none", "none"), ("hadamard", "hadamard")):
            tensor = latq.open(latq.encode(x, 5, codec="scalar", rotation=given))["data"]  # type: ignore[arg-type]
            assert tensor.codec.rotation == chosen  # type: ignore[union-attr]
        assert latq.open(latq.encode(x, 5))["data"].codec.rotation == "hadamard"  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rho": 1.01}, "out of range"),
            ({"rho": math.nan}, "out of range"),
            ({"rho": 0.0, "pair": gaussian(64, 2)}, "exclude each other"),
            ({"rho": 0.5, "codec": "e8"}, "need --codec scalar"),
            ({"pair": gaussian(64, 2), "codec": "raw"}, "need --codec scalar"),
            ({"error": 0.1, "coding": "entropy"}, "needs --codec e8"),
            ({"bits": 9, "coding": "entropy"}, "use 1 to 8"),
            ({"bits": 0.9, "coding": "entropy"}, "use 1 to 8"),
            ({"bits": 1, "coding": "fixed"}, r"use 1\.1 to 12"),
            ({"pair": gaussian(65, 2)}, "vectors of 64 entries, its pair 2 of 65"),
            ({"pair": gaussian(64, 0)}, "its pair 0 of 64"),
        ],
    )
    def test_refused(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(latq.ParameterError, match=message):
            latq.encode(gaussian(64, 64), **{"codec": "scalar", **options})

    @pytest.mark.parametrize("bad", [math.nan, math.inf, 1e300])
    def test_a_pair_must_be_finite(self, bad: float) -> None:
        with pytest.raises(latq.InputError, match=r"the pair of .* holds NaN"):
            latq.encode(gaussian(64, 64), codec="scalar", pair=np.full((64, 2), bad))

    def test_product_error_is_as_predicted_for_independent_matrices(self) -> None:
        a, b = gaussian(1500, 150, seed=1), gaussian(1500, 150, seed=2)
        for one, other in (("fixed", "fixed"), ("entropy", "fixed")):
            data = [latq.encode(x, 4, codec="scalar", coding=c) for x, c in ((a, one), (b, other))]  # type: ignore[arg-type]
            estimate, report = latq.product(*data, report=True)
            assert not report.note
            assert np.linalg.norm(estimate - a.T @ b) / report.error == pytest.approx(1.0, abs=0.04)

    def test_random_access_and_threads(self) -> None:
        x = gaussian(40_000, 8)
        data = latq.encode(x, 2.5, codec="scalar", coding="entropy", threads=2)
        assert data == latq.encode(x, 2.5, codec="scalar", coding="entropy")
        whole = latq.decode(data)
        assert (latq.open(data)["data"][35_000:, 5:] == whole[35_000:, 5:]).all()  # type: ignore[index]


class TestDamage:
    LEVELS = Levels((-40, -22, -13, -6, 0, 6, 14, 25, 41), 2)

    def test_fixed(self) -> None:
        levels = Levels(tuple(range(6)))
        section, integers = scalar.encode_fixed(gaussian(1001) + 3, levels, 1.0)
        assert (scalar.decode_fixed(b"", section, levels, 1001) == integers).all()
        for first, second in (
            (b"\0", section),
            (b"", section[:-1]),
            (b"", section + b"\0"),
            (b"", b"\xff" * len(section)),
        ):
            with pytest.raises(CorruptError):
                scalar.decode_fixed(first, second, levels, 1001)

    def test_entropy(self) -> None:
        x = gaussian(1001) * 15
        stream, low, integers = scalar.encode_entropy(x, self.LEVELS, 1.0, 500)
        assert (scalar.decode_entropy(stream, low, self.LEVELS, 1001) == integers).all()
        changed = bytearray(stream)
        changed[0] ^= 1
        beyond = rans.encode(np.full(1001, 2, np.uint8), 3, scalar.PRECISION), bytes([255]) * 251
        for first, second in (
            (bytes(changed), low), (stream[:5], low), (stream[:-2], low), (stream + b"\0\0", low),
            (stream, low[:-1]), (stream, low + b"\0"), (b"", low), beyond,
        ):  # fmt: skip
            with pytest.raises(CorruptError):
                scalar.decode_entropy(first, second, self.LEVELS, 1001)

    def test_example_of_the_specification(self) -> None:
        """That of section 8.4."""
        sections = bytes.fromhex("3313672666069d75cd1e"), bytes.fromhex("1c2006")
        integers = [0, -6, 6, 41, 0, -40, 14, 0, -13, 6]
        assert scalar.decode_entropy(*sections, self.LEVELS, 10).tolist() == integers


class TestCommand:
    @pytest.fixture
    def call(self, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
        """Run a command: (exit code, standard error)."""

        def call(*arguments: Any) -> tuple[int, str]:
            capsys.readouterr()
            code = entry.run([*map(str, arguments)])
            return code, capsys.readouterr().err

        return call

    @pytest.mark.parametrize("coding", ["fixed", "entropy"])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
    def test_round_trip(self, call: Any, coding: str, dtype: Any, tmp_path: Path) -> None:
        x = gaussian(333, 37).astype(dtype)
        path, out, back = tmp_path / "x.safetensors", tmp_path / "x.latq", tmp_path / "y.safetensors"
        save_file({"x": x, "bias": gaussian(5)}, path)
        options = ("--codec", "scalar", "--coding", coding, "--bits", 6, "--axis", 0, "--rho", 0.5)
        encode = ("encode", path, "-o", out, *options)
        for command in (encode, ("decode", out, "-o", back), ("verify", out), ("info", out), ("compare", path, out)):
            assert call(*command)[0] == 0
        decoded = load_file(back)["x"]
        assert (decoded.dtype, decoded.shape) == (x.dtype, x.shape)
        assert distortion(x, decoded) < 0.003
        with latq.open(out) as file:
            assert (file["x"].decode() == decoded).all()
            assert file["x"].codec.label == ("scalar entropy" if coding == "entropy" else "scalar K=32")
            accuracy = accuracy_of(file["x"])
            assert accuracy is not None
            assert accuracy.decode_error == pytest.approx(distortion(x, decoded), rel=0.02)

    def test_pair(self, call: Any, tmp_path: Path) -> None:
        a, b = pair_of(0.9, 50 * 60)
        np.save(tmp_path / "a.npy", a.reshape(50, 60))
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["b"], file["c"] = b.reshape(50, 60).T, np.zeros((7, 7))
        encode = ("encode", tmp_path / "a.npy", "-o", tmp_path / "a.latq", "-f", "--codec", "scalar")
        pair = ("--pair", tmp_path / "b.h5", "--pair-tensor", "b", "--pair-axis", 1)
        assert call(*encode, *pair)[0] == 0
        assert latq.decode(tmp_path / "a.latq").shape == (50, 60)  # type: ignore[union-attr]
        assert call("product", tmp_path / "a.latq", tmp_path / "b.h5", "-o", tmp_path / "c.npy",
                    "--tensor-b", "b", "--axis-b", 1)[0] == 0  # fmt: skip
        for wrong in (
            (*pair, "--rho", 0.5), (*pair[:4], "--pair-axis", 0), pair[:2], pair[2:], ("--pair-axis", 0), ("--rho", 2),
        ):  # fmt: skip
            code, error = call(*encode, *wrong)
            assert (code, error.startswith("latq: error: ")) == (2, True)
            assert error.count("\n") == 1
        for wrong in (("--codec", "scalar", "--rho", 0), ("--codec", "e8")):
            assert call("encode", "missing.npy", "--pair", "missing.npy", *wrong)[0] == 2
        code, error = call(*encode[:3], tmp_path / "b.h5", *encode[4:], *pair)
        assert code == 1
        assert (tmp_path / "b.h5").read_bytes()[:4] == b"\x89HDF"
