"""What the speed benchmarks say: interleaved timings, tables, CSV files and plots."""

import csv
import os
import platform
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import latq
from latq.kernels import IMPLEMENTATION


def interleave(tasks, rounds, clock=time.perf_counter):
    """Seconds of every task in every round, by name. A first round, which warms up, does not count.

    Rounds go A B C ... A B C ..., so that whatever else the machine does falls on all tasks alike; the ratio of two of
    them is then taken round by round.
    """
    seconds = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            started = clock()
            outcome = task()
            elapsed = clock() - started
            del outcome  # Not while the clock runs, and not beside the next one.
            if number:
                seconds[name].append(elapsed)
    return {name: np.array(times) for name, times in seconds.items()}


def median_ratio(above, below):
    return float(np.median(above / below))


def print_machine(*notes):
    """One line that says what the numbers below were measured on."""
    model = platform.machine()
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    load = f"load {os.getloadavg()[0]:.2f}"
    print("; ".join([f"latq {latq.__version__}, {IMPLEMENTATION}", f"{os.cpu_count()} x {model}", load, *notes]))


def print_table(columns, rows, title=""):
    """``columns``: how each is formatted, by heading. What a row does not have stays empty."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading, form in columns.items():
        table.add_column(heading, justify="left" if form == "s" else "right", no_wrap=True)
    for row in rows:
        cells = (row.get(heading) for heading in columns)
        table.add_row(*("" if c is None else f"{c:{form}}" for c, form in zip(cells, columns.values(), strict=True)))
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def write_csv(path, rows):
    """Every column that any row has; nothing without a path."""
    if path is None:
        return
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(heading for row in rows for heading in row)))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def figure(path):
    """A figure that is saved to ``path`` (.png, .svg or .pdf) at the end."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 6), layout="constrained")
    yield drawing
    drawing.savefig(Path(path), dpi=120)
