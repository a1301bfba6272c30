"""Tables of numbers on standard output."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

import click

BAR_WIDTH = 10


def print_table(headings: Sequence[str], rows: Iterable[Iterable[str]], *, text_columns: Sequence[int] = (0,)) -> None:
    """Columns of numbers, to the right; ``text_columns`` are to the left, and the first column may fold."""
    from rich.console import Console as Terminal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for position, heading in enumerate(headings):
        justify: Literal["left", "right"] = "left" if position in text_columns else "right"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=position > 0)
    for row in rows:
        table.add_row(*map(Text, row))
    terminal = Terminal()
    if not terminal.is_terminal:
        terminal.width = 200
    with terminal.capture() as capture:
        terminal.print(table)
    encoding = sys.stdout.encoding or "ascii"
    for line in capture.get().splitlines():
        click.echo(line.rstrip().encode(encoding, "backslashreplace").decode(encoding))


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
