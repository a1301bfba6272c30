"""Tables of the command line: alignment, and first columns that do not fit a terminal."""

import sys

import pytest

from latq.cli.table import print_table

HEADINGS = ("tensor", "bits", "note")


def narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make standard output a terminal of 30 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")


def test_numbers_stand_right_and_text_left(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADINGS, iter([("a", "12.5", ""), ("weights", "3", "x")]), text_columns=(0, 2))
    lines = ["tensor   bits  note", "a        12.5", "weights     3  x"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_table_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADINGS, [])
    assert capsys.readouterr().out == "tensor  bits  note\n"


def test_letters_of_two_columns_and_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("t", "n"), [("重み", "1"), ("e\u0301e\u0301", "2")])
    assert capsys.readouterr().out.splitlines() == ["t     n", "重み  1", "e\u0301e\u0301    2"]


def test_long_names_fold_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_terminal(monkeypatch)
    name = "layers.0.attention.weights.of.the.query"
    print_table(HEADINGS, [(name, "4.000", "x")], text_columns=(0, 2))
    first, second, *rest = capsys.readouterr().out.splitlines()
    assert first == f"{'tensor':18} {'bits':>5} note"
    assert second == f"{name[:18]} 4.000 x"
    assert rest == [name[18:36], name[36:]]


def test_numbers_are_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    narrow_terminal(monkeypatch)
    print_table(("tensor", "error"), [("x" * 20, "9" * 40)])
    assert capsys.readouterr().out.splitlines()[1:] == ["x" * 12 + " " + "9" * 40, "x" * 8]
