"""latq info."""

from typing import Any

import click

from latq.cli.common import Console, console_options, human_bytes, input_path, open_file
from latq.cli.table import print_table
from latq.pipeline.describe import describe


@click.command("info")
@click.argument("file", metavar="FILE")
@console_options
def command(file: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Say what FILE holds: tensors, codecs, where the bits go, and how accurate it is.

    Only the end of the file is read. The errors were measured by the encoder; the product error is predicted for an
    independent partner coded alike.
    """
    console = Console(as_json, quiet, verbose)
    with input_path(file) as path, open_file(path) as opened:
        described = {**describe(opened), "file": file}
    console.result("info", described)
    if not as_json:
        _print(described)


def _print(d: dict[str, Any]) -> None:
    major, minor = d["format"]
    click.echo(f"{d['file']}: format {major}.{minor}, from {d['kind']}, {human_bytes(d['bytes'])}")
    if d["entries"]:
        parts = ", ".join(f"{k.replace('_', ' ')} {8 * v / d['entries']:.4f}" for k, v in d["bytes_by_part"].items())
        click.echo(f"{d['entries']} entries at {d['bits_per_entry']:.4f} bits each: {parts}")
    headings = ("tensor", "shape", "dtype", "codec", "bits", "rel. error", "bits lost", "product e^2", "limit")
    if not any(t["outputs"] for t in d["tensors"]):
        print_table(headings, map(_row, d["tensors"]))
        return
    rows = ([*_row(t), *_outputs(t["outputs"])] for t in d["tensors"])
    print_table((*headings, "output error", "bits lost"), rows)


def _outputs(outputs: dict[str, Any] | None) -> list[str]:
    """Relative error of the products with the inputs of a calibrated tensor, and the bits above water-filling."""
    if outputs is None:
        return ["", ""]
    lost = outputs["bits_lost"]
    return [f"{outputs['relative_error']:.4g}", "" if lost is None else f"{lost:.3f}"]


def _row(t: dict[str, Any]) -> list[str]:
    accuracy = t["accuracy"]
    shape = "x".join(map(str, t["shape"])) or "scalar"
    label = t["label"] if t["same_as"] is None else f"same as {t['same_as']}"
    start = [t["name"], shape, t["dtype"], label, f"{t['bits_per_entry']:.3f}"]
    if accuracy is None:
        return [*start, "lossless", "", "", ""]
    lost = "" if accuracy["bits_lost"] is None else f"{accuracy['bits_lost']:.3f}"
    return [
        *start,
        f"{accuracy['decode_error'] ** 0.5:.4g}",
        lost,
        f"{accuracy['product_error']:.4g}",
        f"{accuracy['product_limit']:.4g}",
    ]
