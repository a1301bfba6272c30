"""Sequences of bounded cost, and their numbers."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latq.coding.enumerative import BoundedSequences


@st.composite
def sequences(draw: st.DrawFn) -> BoundedSequences:
    costs = draw(st.permutations([0, *draw(st.lists(st.integers(1, 9), min_size=0, max_size=3))]))
    return BoundedSequences(costs, draw(st.integers(1, 5)), draw(st.integers(0, 12)))


@settings(deadline=None)
@given(sequences())
def test_numbers_are_those_of_all_sequences_within_the_budget(found: BoundedSequences) -> None:
    symbols = range(len(found.costs))
    all_of_them = [s for s in product(symbols, repeat=found.length) if sum(found.costs[i] for i in s) <= found.budget]
    assert len(all_of_them) == found.count <= 1 << found.width
    listed = np.array(all_of_them, np.uint8)
    assert found.number(listed).tolist() == list(range(found.count))
    decoded = found.sequence(np.arange(found.count))
    assert decoded is not None
    assert np.array_equal(decoded, listed)
    assert found.sequence(np.array([found.count])) is None


def test_the_budget_is_the_largest_for_the_width() -> None:
    found = BoundedSequences([3, 0, 1], 20, 24)
    larger = BoundedSequences([3, 0, 1], 20, 25)
    assert found.count <= 1 << 24 < larger.count
    assert BoundedSequences([0, 1], 4, 32).count == 16  # All there are.
    assert BoundedSequences([0], 7, 5).width == 0


@pytest.mark.parametrize("price", [0.01, 0.1, 2.0])
def test_cheapest_comes_near_the_best_of_all(price: float) -> None:
    found = BoundedSequences([4, 0, 1, 2], 5, 6)
    errors = np.random.default_rng(0).exponential(size=(4, 300, 5)).astype(np.float32)
    chosen = found.cheapest(errors, price)
    assert (found.cost(chosen) <= found.budget).all()
    listed = found.sequence(np.arange(found.count))
    assert listed is not None
    totals = sum(errors[listed[:, place], :, place] for place in range(5))
    best = totals.min(axis=0).sum()
    own = np.take_along_axis(errors, chosen[None].astype(np.intp), axis=0).sum()
    assert best - 1e-3 <= own < 1.1 * best
