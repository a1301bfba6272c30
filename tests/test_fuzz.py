"""A few seconds of tests/fuzz: hostile files give the right entries or a ``LatqError``."""

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))

from mutate import VECTORS, damaged, forged, parts_of_file  # noqa: E402
from sweep import Original, flipped, verified  # noqa: E402

import latq  # noqa: E402
from latq.pipeline.metadata import _columns  # noqa: E402

GOOD = sorted(VECTORS.glob("good-*.latq"))
EACH = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def originals() -> list[Original]:
    return [Original(path.read_bytes()) for path in GOOD]


@EACH
@given(st.integers(0), st.randoms(use_true_random=False))
def test_damage_is_noticed(originals: list[Original], number: int, random: Random) -> None:
    original = originals[number % len(originals)]
    original.check_damaged(damaged(original.data, random))


def test_one_bit_in_many(originals: list[Original]) -> None:
    for number, original in enumerate(originals):
        for changed in list(flipped(original.data))[number :: 8 * 389]:
            original.check_damaged(changed)


@EACH
@given(st.sampled_from(GOOD), st.randoms(use_true_random=False))
def test_sound_checksums(path: Path, random: Random) -> None:
    """Any other exception than a LatqError fails."""
    verified(forged(parts_of_file(path.read_bytes()), random))


@EACH
@given(st.sampled_from(GOOD), st.data())
def test_a_field_of_the_metadata(path: Path, draw: st.DataObject) -> None:
    parts = parts_of_file(path.read_bytes())
    where = draw.draw(st.sampled_from([*parts.metadata["codecs"], *parts.metadata["tensors"], parts.metadata]))
    key = draw.draw(st.sampled_from(sorted(where)))
    where[key] = draw.draw(ANYTHING)
    verified(bytes(parts.build().data))


NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=6,
)


def test_memory_is_bounded() -> None:
    """In a process that may take 512 MiB beyond its start: a MemoryError would be a finding."""
    command = [sys.executable, str(FUZZ / "sweep.py"), "forged", "1000", "--seed", "5000000", "--seconds", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 findings" in done.stdout


def test_steps_of_a_shared_codec_are_added_up_once() -> None:
    """However many tensors have it: each time takes as long as the codec has runs."""
    parts = parts_of_file((VECTORS / "good-trellis-steps.latq").read_bytes())
    (first, *_) = parts.metadata["tensors"]
    parts.metadata["tensors"] = [{**first, "name": f"{i}", "same_as": 0 if i else -1} for i in range(1000)]
    before = _columns.cache_info()
    with latq.open(bytes(parts.build().data)) as file:
        assert len(file) == 1000
    after = _columns.cache_info()
    assert after.hits + after.misses - before.hits - before.misses < 10
