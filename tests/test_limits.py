"""latq limits: the values of the paper's functions, its guarantees, and what it refuses."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latq import save
from latq.cli import main as entry
from latq.theory import R_STAR, SCALAR_GAP, guarantee, product_limit, unbiased_guarantee, unbiased_limit

pytestmark = pytest.mark.usefixtures("in_tmp_path")

# Rate, Gamma, 4^-R, unbiased limit.
TABLE = [
    (0.25, 0.858853, 0.707107, 10.6569),
    (0.5, 0.717706, 0.5, 3.0),
    (0.75, 0.576559, 0.353553, 1.392956),
    (1, 0.4375, 0.25, 0.777778),
    (1.5, 0.234375, 0.125, 0.306122),
    (2, 0.12109375, 0.0625, 0.137778),
    (2.5, 0.06152344, 0.03125, 0.065557),
    (3, 0.03100586, 0.015625, 0.031998),
    (3.5, 0.01556396, 0.0078125, 0.015810),
    (4, 0.00779724, 0.00390625, 0.0078585),
    (4.25, 0.00551664, 0.00276214, 0.00554724),
    (5, 0.00195217, 0.00097656, 0.00195599),
    (6, 0.00048822, 0.00024414, 0.00048846),
    (8, 3.05173e-05, 1.52588e-05, 3.05183e-05),
]


@pytest.fixture
def limits(capsys):
    def call(*arguments: Any) -> dict[str, Any]:
        assert entry.run(["limits", *map(str, arguments), "--json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    return call


def save_pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((256, 30)).astype("f4"), random.standard_normal((256, 20)).astype("f4") + 3
    save("a.latq", a, 4)
    save("b.latq", b, 3)
    return a, b


# -- rates -------------------------------------------------------------------------------------------------------


def test_the_default_table(limits):
    result = limits()
    assert list(result) == [
        *("ok", "schema", "r_star", "product_limit_at_r_star", "limits", "sides", "guarantees"),
    ]
    assert result["schema"] == "latq.limits/1"
    assert result["r_star"] == R_STAR
    assert result["product_limit_at_r_star"] == pytest.approx(0.4883003258, abs=1e-10)
    assert (result["sides"], result["guarantees"]) == ([], [])
    for row, (rate, gamma, distortion, unbiased) in zip(result["limits"], TABLE, strict=True):
        assert row["bits_per_entry"] == rate
        assert row["product_limit"] == pytest.approx(gamma, rel=2e-5)
        assert row["distortion"] == pytest.approx(distortion, rel=2e-5)
        assert row["unbiased_limit"] == pytest.approx(unbiased, rel=4e-5)
        assert row["product_limit_root"] == math.sqrt(row["product_limit"])
        assert row["unbiased_limit_root"] == math.sqrt(row["unbiased_limit"])
        assert row["time_sharing"] == (rate < 0.9)


def test_chosen_rates_are_sorted_and_may_be_extreme(limits):
    rows = limits("--bits", 64, "--bits", 0, "--bits", 1e-300, "--bits", 0)["limits"]
    assert [row["bits_per_entry"] for row in rows] == [0, 1e-300, 64]
    assert rows[0]["product_limit"] == 1
    assert (rows[0]["unbiased_limit"], rows[0]["unbiased_limit_root"]) == (None, None)
    assert 0 < rows[2]["product_limit"] < 1e-37


def test_text(capsys):
    assert entry.run(["limits", "--bits", "0.5", "--bits", "4", "--norms", "10", "10", "5", "--length", "64"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "R* = 0.9063" in out
    assert "Gamma(R*) = 0.4883" in out
    assert out.count("below R*") == 1
    assert "0.00779724" in out
    assert "█" in out
    assert "error^2" in out


def test_text_is_ascii_where_the_terminal_is(monkeypatch, tmp_path):
    with open("out", "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert entry.run(["limits"]) == 0
    assert "####" in Path("out").read_text()


def test_unequal_rates_and_an_exact_side():
    for rate, _, _, unbiased in TABLE:
        assert unbiased_limit(rate, rate) == pytest.approx(unbiased, rel=4e-5)
    assert unbiased_limit(3, math.inf) == pytest.approx(1 / 63)
    assert unbiased_limit(3, 3) > unbiased_limit(3, 4) > unbiased_limit(4, 4)
    assert pytest.approx(0.2546, abs=5e-5) == SCALAR_GAP


# -- guarantees --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.5, 1, 4])
def test_independent_matrices_meet_gamma(limits, rate):
    a, b, n = 30.0, 40.0, 512
    (found,) = limits("--bits", rate, "--norms", a, b, a * b / math.sqrt(n), "--length", n)["guarantees"]
    gamma = product_limit(rate)
    assert found["product"] == "given"
    assert found["squared_error"] == pytest.approx(a * a * b * b / n * gamma)
    assert found["relative_error"] == pytest.approx(math.sqrt(gamma))
    assert found["unbiased_squared_error"] == pytest.approx(a * a * b * b / n * unbiased_limit(rate, rate))
    assert found["unbiased_relative_error"] == pytest.approx(math.sqrt(unbiased_limit(rate, rate)))


def test_guarantees_at_the_extremes_of_the_product():
    gamma = product_limit(2)
    assert guarantee(gamma, 3.0, 5.0, 0.0, 10) == pytest.approx(1.5 * (gamma - gamma**2))
    assert guarantee(gamma, 3.0, 5.0, 15.0, 10) == pytest.approx(1.5 * (gamma + 9 * gamma**2))
    assert unbiased_guarantee(gamma, 3.0, 5.0, 10) == pytest.approx(1.5 * gamma)


def test_one_guarantee_for_every_rate(limits):
    found = limits("--norms", 1, 2, 0, "--length", 8)["guarantees"]
    assert [g["bits_a"] for g in found] == [rate for rate, *_ in TABLE]
    assert all(g["relative_error"] is None for g in found)


def test_two_files(limits):
    arrays = save_pair()
    result = limits("a.latq", "b.latq")
    for side, array, name in zip(result["sides"], arrays, "ab", strict=True):
        centred = array.astype(np.float64) - (array.mean(0) if name == "b" else 0)
        assert side["file"] == f"{name}.latq"
        assert side["length"] == 256
        assert side["energy"] == pytest.approx((centred**2).sum(), rel=1e-3)
        assert side["bits_per_entry"] == 8 * Path(f"{name}.latq").stat().st_size / array.size
    rates = [side["bits_per_entry"] for side in result["sides"]]
    assert [row["bits_per_entry"] for row in result["limits"]] == sorted(rates)
    independent, largest = result["guarantees"]
    assert (independent["product"], largest["product"]) == ("independent", "largest")
    assert [independent["bits_a"], independent["bits_b"]] == rates
    assert product_limit(rates[0]) < independent["product_limit"] < product_limit(rates[1])
    assert independent["relative_error"] == pytest.approx(math.sqrt(independent["product_limit"]))
    assert independent["squared_error"] < largest["squared_error"]
    assert independent["unbiased_squared_error"] == largest["unbiased_squared_error"]


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--bits -1", "--bits -1 is out of range"),
        ("--bits nan", "--bits nan is out of range"),
        ("--bits 65", "--bits 65 is out of range"),
        ("--norms 1 1 1", "--length"),
        ("--length 5", "--norms"),
        ("--norms 1 1 2 --length 5", "at most ||A|| ||B|| = 1"),
        ("--norms 0 1 0 --length 5", "must be positive"),
        ("--norms 1 nan 0 --length 5", "must be positive"),
        ("--norms 1e200 1 0 --length 5", "below 1e+70"),
        ("a.latq", "a.latq: one file"),
        ("a.latq b.latq --bits 3", "drop --bits"),
        ("a.latq short.latq", "short.latq of 128"),
        ("a.latq whole.latq", "whole.latq: tensor 'data' is lossless"),
        ("--tensor-a x", "give two files"),
        ("--plot p.jpeg", "p.jpeg: a plot must end in .png"),
    ],
)
def test_usage_errors(refused, arguments, words):
    if ".latq" in arguments:
        save_pair()
        save("short.latq", np.random.default_rng(0).standard_normal((128, 50)))
        save("whole.latq", np.arange(2560).reshape(256, 10))
    assert words in refused(2, "limits", *arguments.split())


def test_bad_files(refused):
    save_pair()
    assert "none.latq" in refused(1, "limits", "a.latq", "none.latq")
    assert "no tensor 'x'" in refused(1, "limits", "a.latq", "b.latq", "--tensor-b", "x")


# -- plots -------------------------------------------------------------------------------------------------------


def test_plot(limits):
    pytest.importorskip("matplotlib")
    save_pair()
    limits("--plot", "rates.png")
    limits("--bits", 0, "--plot", "zero.PNG")
    limits("a.latq", "b.latq", "--plot", "files.png")
    for name in ("rates.png", "zero.PNG", "files.png"):
        data = Path(name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n")
        assert len(data) > 1000


def test_a_plot_is_not_overwritten(limits, refused):
    pytest.importorskip("matplotlib")
    Path("p.svg").write_text("mine")
    assert "p.svg: exists" in refused(1, "limits", "--plot", "p.svg")
    assert Path("p.svg").read_text() == "mine"
    limits("--plot", "p.svg", "-f")
    assert "<svg" in Path("p.svg").read_text()


def test_without_matplotlib(limits, refused, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'latq[plot]'" in refused(2, "limits", "--plot", "p.png")
    assert not Path("p.png").exists()
    assert limits("--bits", 4)["ok"]
