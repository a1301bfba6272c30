"""Tables of numbers on standard output."""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from unicodedata import combining, east_asian_width

import click

BAR_WIDTH = 10
# Columns of a terminal that the first column of a table keeps, however little room the others leave.
MIN_FOLD = 12


def print_table(headings: Sequence[str], rows: Iterable[Iterable[str]], *, text_columns: Sequence[int] = (0,)) -> None:
    """Columns of numbers, to the right; ``text_columns`` are to the left. The first folds on a terminal too narrow."""
    table = [[_printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    room = _terminal_width() if sys.stdout.isatty() else sys.maxsize
    gap = "  " if sum(widths) + 2 * len(widths) <= room else " "
    widths[0] = min(widths[0], max(room - sum(widths[1:]) - len(gap) * len(widths), MIN_FOLD))
    for name, *others in table:
        first, *rest = _folded(name, widths[0])
        cells = zip((first, *others), widths, strict=True)
        padded = (_padded(cell, width, left=i in text_columns) for i, (cell, width) in enumerate(cells))
        click.echo(gap.join(padded).rstrip())
        for piece in rest:
            click.echo(piece)


def _terminal_width() -> int:
    from shutil import get_terminal_size  # Here, because it brings every compressor of the standard library.

    return get_terminal_size().columns


def _printable(text: str) -> str:
    """``text`` with escapes for the letters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _width(text: str) -> int:
    """Columns of a terminal that ``text`` takes."""
    return len(text) if text.isascii() else sum(map(_letter_width, text))


def _letter_width(letter: str) -> int:
    return 0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1


def _padded(text: str, width: int, *, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text


def _folded(text: str, width: int) -> Iterator[str]:
    """``text`` in pieces of at most ``width`` columns; an empty text is one piece."""
    piece, taken = "", 0
    for letter in text:
        if taken + _letter_width(letter) > width:
            yield piece
            piece, taken = "", 0
        piece, taken = piece + letter, taken + _letter_width(letter)
    yield piece


def bar(share: float) -> str:
    """A bar that is full at 1 and empty at 0 or below."""
    length = round(BAR_WIDTH * min(max(share, 0.0), 1.0))
    full, rest = "█·" if _is_unicode() else "#."
    return full * length + rest * (BAR_WIDTH - length)


def number(value: float | None, digits: int = 4) -> str:
    """A number in a table; nothing for None."""
    return "" if value is None else f"{value:.{digits}g}"


def finite(value: float) -> float | None:
    """None for what JSON has no number for."""
    return value if math.isfinite(value) else None


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
