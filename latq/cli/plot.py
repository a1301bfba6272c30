"""Plots of rates against errors, drawn by matplotlib, which is loaded only when one is asked for."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from latq.errors import ParameterError
from latq.sources import atomic_output
from latq.theory import GAPS, R_STAR, product_limit, shannon_distortion, unbiased_limit

FORMATS = ("png", "svg", "pdf")
# More names than this would hide the rest.
NAMED_POINTS = 12
# Of names, in points: height of a line, width of a letter, distance from what they name.
LINE_HEIGHT, LETTER_WIDTH, NEAR = 10.0, 5.5, 5.0
CURVE_POINTS = 200

Point = tuple[str, float, float]
"""Name, rate, error."""


def plot_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--plot."""
    return click.option("--plot", metavar="OUT", help="Also draw a .png, .svg or .pdf; needs matplotlib.")(function)


@contextmanager
def figure(target: str | None, *, force: bool, inputs: Sequence[str] = ()) -> Iterator[Any]:
    """A figure that is saved to ``target`` at the end; None without a target."""
    if target is None:
        yield None
        return
    kind = Path(target).suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ParameterError(f"{target}: a plot must end in .png, .svg or .pdf")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ParameterError(f"--plot needs matplotlib ({error}): pip install 'latq[plot]'") from error
    with atomic_output(target, force=force, inputs=inputs) as path:
        drawing = Figure(figsize=(7, 5), layout="constrained")
        yield drawing
        with warnings.catch_warnings():
            # Letters of a tensor's name that the font lacks.
            warnings.simplefilter("ignore", UserWarning)
            drawing.savefig(path, format=kind, dpi=150)


def draw_rate_distortion(drawing: Any, points: Sequence[Point]) -> None:
    """Measured D against R, with the Shannon limit and the lines of the codecs with entropy coding."""
    axes = drawing.subplots()
    rates = _span([rate for _, rate, _ in points], margin=1.0)
    shannon = [shannon_distortion(rate) for rate in rates]
    axes.plot(rates, shannon, "k-", label="Shannon limit $4^{-R}$")
    _draw_codecs(axes, rates, shannon_distortion)
    _mark(axes, points, "measured")
    _finish(axes, "D, mean squared error over mean square")


def draw_product_limits(drawing: Any, points: Sequence[Point]) -> None:
    """Gamma(R), the unbiased limit and the lines of the codecs against R, with ``points`` on the first."""
    axes = drawing.subplots()
    rates = _span([R_STAR, *(rate for _, rate, _ in points)], margin=0.25)
    axes.plot(rates, [product_limit(rate) for rate in rates], "k-", label=r"$\Gamma(R)$, least $e^2$")
    axes.plot(rates, [unbiased_limit(rate, rate) for rate in rates], "k--", label="unbiased limit")
    _draw_codecs(axes, rates, product_limit)
    axes.axvline(R_STAR, color="0.6", linestyle=":", label=f"$R^* = {R_STAR:.4f}$: time sharing below")
    _mark(axes, points, "rates asked for")
    _finish(axes, "product error $e^2$")


def _draw_codecs(axes: Any, rates: Sequence[float], limit: Callable[[float], float]) -> None:
    """A codec at some rate comes to the limit of a rate that is lower by what it loses."""
    for i, (name, gap) in enumerate(GAPS.items()):
        shown = [rate for rate in rates if rate > gap]
        label = f"{name}, entropy-coded: {gap:.3f} bits above"
        axes.plot(shown, [limit(rate - gap) for rate in shown], color=f"C{i}", linewidth=1, label=label)


def _span(rates: Sequence[float], margin: float) -> list[float]:
    """Rates at even steps a little beyond the given ones, all above 0."""
    low, high = min(rates, default=1.0), max(rates, default=8.0)
    steps: list[float] = np.linspace(max(low - margin, 0.1), high + margin, CURVE_POINTS).tolist()
    return steps


def _mark(axes: Any, points: Sequence[Point], label: str) -> None:
    visible = [point for point in points if point[2] > 0]  # The others have no place on a logarithmic scale.
    axes.plot([rate for _, rate, _ in visible], [error for *_, error in visible], "o", color="C3", label=label)
    if len(visible) <= NAMED_POINTS:
        _name(axes, visible)


def _name(axes: Any, points: Sequence[Point]) -> None:
    """Write names beside points; those that would hide another one higher up, with a line."""
    axes.set_yscale("log")
    to_points = 72 / axes.figure.dpi
    taken: list[tuple[float, float, float]] = []
    for name, rate, error in sorted(points, key=lambda point: point[1:]):
        x, y = axes.transData.transform((rate, error)) * to_points
        width, rise = LETTER_WIDTH * len(name), NEAR
        while any(
            x < other_x + other_width and other_x < x + width and abs(y + rise - other_y) < LINE_HEIGHT
            for other_x, other_y, other_width in taken
        ):
            rise += LINE_HEIGHT / 2
        taken.append((x, y + rise, width))
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": "0.6", "relpos": (0, 0.5)} if rise > NEAR else None
        axes.annotate(
            name, (rate, error), (NEAR, rise), textcoords="offset points", fontsize="small", parse_math=False,
            arrowprops=line,
        )  # fmt: skip


def _finish(axes: Any, quantity: str) -> None:
    axes.set_yscale("log")
    axes.set_xlabel("R, bits per entry")
    axes.set_ylabel(quantity)
    axes.grid(alpha=0.3)
    axes.legend()
