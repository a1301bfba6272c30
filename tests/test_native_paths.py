"""The native kernels for paths agree bit for bit with their definition, on every instruction set."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_native import compiled, compiled_points, crowded_model, isa, model_of, numbers, same  # noqa: F401

from latq.codecs.quantizer import lanes_for
from latq.codecs.trellis import TRELLISES
from latq.kernels import paths
from latq.kernels.paths import Trellis
from latq.kernels.points import PointModel

SHIFTS = st.sampled_from([None, (0,), (3,), (0, 0), (2, 1, 0, 0), (16, 5)])
RUNS = st.sampled_from([1, 50, 999])


def model_and_classes(
    shifts: tuple[int, ...] | None, spread: float, blocks: int, run: int, seed: int
) -> tuple[PointModel, npt.NDArray[np.intp]]:
    model = model_of(shifts, spread) if shifts else crowded_model()
    drawn = np.random.default_rng(seed).integers(0, model.first.size, blocks)
    return model, np.repeat(drawn, run)[:blocks]


def test_the_trellises_of_the_codec_are_native() -> None:
    assert [(code.h0, code.h1) for code in TRELLISES.values()] == compiled._core.TRELLISES


@pytest.mark.usefixtures("isa")
class TestPaths:
    @given(
        shifts=SHIFTS,
        spread=st.sampled_from([0.5, 3.0, 12.0, 20.0, 60.0]),
        blocks=st.one_of(st.integers(1, 70), st.integers(2040, 2200), st.just(4111)),
        run=RUNS,
        seed=st.integers(0, 99),
        code=st.sampled_from([*TRELLISES.values(), Trellis(5, 2), Trellis(8191, 4094)]),
    )
    @settings(max_examples=50, deadline=None)
    def test_cost_encode_decode(
        self, shifts: tuple[int, ...] | None, spread: float, blocks: int, run: int, seed: int, code: Trellis
    ) -> None:
        model, classes = model_and_classes(shifts, spread, blocks, run, seed)
        x = numbers(2 * seed, 8, blocks) * np.float32(spread) * (1 << model.shifts[classes]).astype(np.float32)
        lanes = lanes_for(blocks)
        # Paths of another trellis have wrong parities, which escapes may have too.
        found, _ = compiled_points.choose_paths(x, classes, np.float32(2), None, TRELLISES["fast"], lanes)
        costs = paths.path_costs(found, classes, model)
        stream, rest = paths.encode_paths(found, classes, model, lanes)
        assert same(compiled_points.path_costs(found, classes, model), costs)
        assert compiled_points.encode_paths(found, classes, model, lanes) == (stream, rest)
        decoded = paths.decode_paths(stream, rest, classes, model, code, lanes)
        again = compiled_points.decode_paths(stream, rest, classes, model, code, lanes)
        assert (decoded is None) == (again is None)
        if code == TRELLISES["fast"]:
            assert decoded is not None
            assert (decoded == found.astype(np.float32)).all()
        if decoded is not None:
            assert same(again, decoded)

    @given(
        step=st.sampled_from([4.0, 0.7, 0.05, 2.0**-10]),
        blocks=st.one_of(st.integers(1, 70), st.integers(195, 300), st.just(2085)),
        shifts=SHIFTS,
        spread=st.sampled_from([2.0, 6.0, 12.0, 20.0]),
        run=RUNS,
        seed=st.integers(0, 99),
        code=st.sampled_from([*TRELLISES.values(), Trellis(0o103, 0o24)]),
    )
    @settings(max_examples=30, deadline=None)
    def test_choice(
        self,
        step: float,
        blocks: int,
        shifts: tuple[int, ...] | None,
        spread: float,
        run: int,
        seed: int,
        code: Trellis,
    ) -> None:
        model, classes = model_and_classes(shifts, spread, blocks, run, seed)
        x = numbers(2 * seed, 8, blocks)
        for used in (model, None):
            expected, cost = paths.choose_paths(x, classes, np.float32(step), used, code, lanes_for(blocks))
            found, also = compiled_points.choose_paths(x, classes, np.float32(step), used, code, lanes_for(blocks))
            assert same(found, expected)
            assert also == cost

    @given(cut=st.integers(0, 2000), flip=st.integers(0, 10**6))
    @settings(max_examples=30, deadline=None)
    def test_damage_is_noticed_alike(self, cut: int, flip: int) -> None:
        model, classes, code = model_of((0, 2), 3.0), np.arange(2500) % 2, TRELLISES["fast"]
        values, _ = compiled_points.choose_paths(numbers(0, 8, 2500), classes, np.float32(0.7), None, code, 32)
        stream, rest = paths.encode_paths(values, classes, model, 32)
        damaged = bytearray(stream[: len(stream) - cut])
        damaged[flip % len(damaged)] ^= 1 << flip % 8
        expected = paths.decode_paths(bytes(damaged), rest, classes, model, code, 32)
        found = compiled_points.decode_paths(bytes(damaged), rest, classes, model, code, 32)
        assert (found is None) == (expected is None)
