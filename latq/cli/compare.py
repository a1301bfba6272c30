"""latq compare."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from latq import api
from latq.cli.common import (
    STANDARD_STREAM,
    Console,
    console_options,
    force_option,
    input_path,
    keep_freed_memory,
    tensor_option,
    threads_option,
)
from latq.cli.decode import choose
from latq.cli.plot import draw_rate_distortion, figure, plot_option
from latq.cli.table import bar, finite, number, print_table
from latq.errors import InputError, ParameterError
from latq.pipeline.calibrated import Known, unfit
from latq.pipeline.decode import Tensor
from latq.pipeline.measure import Measured, is_lossless, measure, measure_outputs
from latq.products.measure import measure_product
from latq.products.operands import Operand, PlainOperand
from latq.sources import MatrixView, SourceTensor, open_source
from latq.sources.files import split_spec
from latq.theory import product_limit_of

EXAMPLES = """\b
Examples:
  latq compare weights.npy weights.latq
  latq compare model.safetensors model.latq --tensor '*.weight' --plot model.png
  latq compare a.npy a.latq --pair b.npy b.latq
  latq compare model.safetensors model.latq --calibration moments.h5
"""
TOTAL = "quantized"


@dataclass(frozen=True)
class _Twin:
    """A tensor of a file and its original; ``where`` names both files."""

    tensor: Tensor
    original: SourceTensor
    where: str

    @property
    def exact(self) -> PlainOperand:
        """The original as a side of a product, along the axis of the tensor."""
        view = MatrixView(self.original.array, self.original.shape, self.tensor.axis)
        return PlainOperand(view, f"{self.where}: tensor {self.tensor.name!r}")

    @property
    def estimate(self) -> tuple[Operand, float]:
        """The tensor as a side of a product, and its bits per entry, infinite if it is lossless."""
        operand = api.operand_of(self.tensor, f"{self.where}: tensor {self.tensor.name!r}")
        return operand, math.inf if is_lossless(self.tensor) else self.tensor.bits_per_entry


@click.command("compare", epilog=EXAMPLES)
@click.argument("original", metavar="ORIGINAL")
@click.argument("file", metavar="FILE")
@click.option("--pair", nargs=2, metavar="ORIGINAL_B FILE_B", help="Measure the product A^T B as well, with this as B.")
@click.option("--tensor-b", metavar="NAME", help="Tensor of FILE_B, if it holds several.")
@click.option(
    "--calibration", metavar="FILE|DIR",
    help="Measure the products with these inputs as well: activations, or what latq calibrate wrote.",
)  # fmt: skip
@plot_option
@tensor_option
@force_option
@threads_option
@console_options
def command(
    original: str, file: str, pair: tuple[str, str] | None, tensor_b: str | None, calibration: str | None,
    plot: str | None, tensors: tuple[str, ...], force: bool, threads: int, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Measure the tensors of FILE against those of the same names in ORIGINAL (.npy, .h5, .safetensors).

    The rate counts real bytes of the file. D is the mean squared error over the mean square, and the bits lost are
    those above the Shannon limit of a Gaussian source at that D. Lossless tensors must agree bit by bit.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    paths = [original, file, *(pair or ())]
    if paths.count(STANDARD_STREAM) > 1:
        raise ParameterError("only one file can come from standard input")
    if tensor_b is not None and pair is None:
        raise ParameterError("--tensor-b is a tensor of FILE_B; give that with --pair")
    with figure(plot, force=force, inputs=paths) as drawing, _twins(original, file, tensors) as twins:
        product = _product(twins, pair, tensor_b, console, threads) if pair else None
        result = {"original": original, "file": file, **_distances(twins, console, threads), "product": product}
        if calibration is not None:
            _add_outputs(result, twins, calibration, threads)
        if drawing is not None:
            draw_rate_distortion(drawing, _points(result["tensors"]))
    console.result("compare", result)
    if not as_json:
        _print(result)


@contextmanager
def _twins(original: str, file: str, patterns: tuple[str, ...]) -> Iterator[list[_Twin]]:
    """The tensors of ``file`` that match, each with its original; InputError if that is missing or looks different."""
    with input_path(file) as path, api.open(path) as opened, input_path(original) as source_path:
        names = choose(opened, patterns)
        where = f"{source_path} against {path}"
        dataset = split_spec(source_path)[1]
        try:
            source = open_source(source_path, tensors=[] if dataset else names)
        except InputError as error:
            raise InputError(f"{error} (wanted for {path})") from error
        with source:
            originals = {tensor.name: tensor for tensor in source.tensors}
            yield [_twin(opened[name], originals, where) for name in names]


def _twin(tensor: Tensor, originals: dict[str, SourceTensor], where: str) -> _Twin:
    found = originals.get(tensor.name)
    if found is None:
        raise InputError(f"{where}: no original named {tensor.name!r}; there are: {', '.join(list(originals)[:8])}")
    ours, theirs = (f"{x.dtype} of shape {list(x.shape)}" for x in (tensor.entry, found))
    if ours != theirs:
        raise InputError(f"{where}: tensor {tensor.name!r} is {theirs} in the original, but {ours} in the file")
    return _Twin(tensor, found, where)


def _distances(twins: list[_Twin], console: Console, threads: int) -> dict[str, Any]:
    """Tensor by tensor, and all quantized ones together."""
    with console.progress("comparing", sum(t.tensor.size for t in twins)) as progress:
        found = [measure(t.tensor, t.original, t.where, threads=threads, progress=progress) for t in twins]
    quantized = [m for twin, m in zip(twins, found, strict=True) if not is_lossless(twin.tensor)]
    return {
        "tensors": [_described(twin.tensor, m) for twin, m in zip(twins, found, strict=True)],
        "total": {"tensors": len(quantized), **_figures(Measured.total(quantized))} if quantized else None,
    }


def _add_outputs(result: dict[str, Any], twins: list[_Twin], calibration: str, threads: int) -> None:
    """Errors of the products with inputs, for the tensors that have any."""
    from latq.calibration.store import open_calibration

    found = 0
    with open_calibration(calibration) as inputs:
        for twin, described in zip(twins, result["tensors"], strict=True):
            n = twin.tensor.n if not is_lossless(twin.tensor) else 0
            entry = inputs.of(twin.tensor.name, n) if n and not unfit(n) else None
            described["outputs"] = None
            if entry is not None:
                known = Known(entry.moments(threads), None)
                outputs = measure_outputs(twin.tensor, twin.original, known, threads=threads)
                described["outputs"] = {"relative_error": outputs.relative_error, "bits_lost": outputs.bits_lost}
                found += 1
    if not found:
        raise ParameterError(f"{calibration}: holds no inputs of the tensors compared; check their names")


def _described(tensor: Tensor, measured: Measured) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.entry.dtype,
        "codec": msgspec.to_builtins(tensor.codec),
        "lossless": is_lossless(tensor),
        **_figures(measured),
    }


def _figures(measured: Measured) -> dict[str, Any]:
    return {
        "entries": measured.entries,
        "bits_per_entry": measured.rate,
        "mse": measured.mse,
        "distortion": finite(measured.distortion),
        "bits_lost": finite(measured.bits_lost),
        "relative_error": finite(measured.relative_error),
        "max_error": measured.max_error,
    }


def _product(
    twins: list[_Twin], pair: tuple[str, str], tensor_b: str | None, console: Console, threads: int
) -> dict[str, Any]:
    """Measured error of A^T B, A being the only one of ``twins``."""
    with _twins(*pair, (tensor_b,) if tensor_b is not None else ()) as others:
        a, b = _only(twins, "--tensor"), _only(others, "--tensor-b")
        if a.tensor.n != b.tensor.n:
            raise ParameterError(
                f"the vectors of {a.tensor.name!r} have {a.tensor.n} entries, those of {b.tensor.name!r} {b.tensor.n}; "
                "choose tensors that agree"
            )
        (left, rate_a), (right, rate_b) = a.estimate, b.estimate
        with console.progress("multiplying", 3 * left.m * right.m) as progress:
            measured = measure_product(left, right, a.exact, b.exact, threads=threads, progress=progress)
    limit = product_limit_of(rate_a, rate_b)
    described: dict[str, Any] = {
        "original_b": pair[0],
        "file_b": pair[1],
        "tensor_a": a.tensor.name,
        "tensor_b": b.tensor.name,
        "shape": [left.m, right.m],
        "limit": limit,
    }
    for name, m in measured.items():
        described[name] = {
            "error": m.error,
            "relative_error": m.relative,
            "normalized_error": m.normalized,
            "over_limit": m.normalized / limit if limit else None,
            "over_predicted": m.over_predicted,
            "shrink": m.report.shrink,
        }
    return described


def _only(twins: list[_Twin], option: str) -> _Twin:
    if len(twins) != 1:
        names = ", ".join(t.tensor.name for t in twins[:8]) or "none"
        raise ParameterError(f"a product takes one tensor of each file; choose with {option}: {names}")
    return twins[0]


def _points(tensors: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    return [(t["name"], t["bits_per_entry"], t["distortion"]) for t in tensors if t["distortion"]]


def _print(result: dict[str, Any]) -> None:
    rows = [_row(t["name"], t, lossless=t["lossless"]) for t in result["tensors"]]
    if result["total"] is not None and len(rows) > 1:
        rows.append(_row(TOTAL, result["total"]))
    headings = ("tensor", "bits", "MSE", "D", "rel. error", "max error", "lost", "0 to 1 bit")
    print_table(headings, rows, text_columns=(0, 7))
    if outputs := [(t["name"], t["outputs"]) for t in result["tensors"] if t.get("outputs")]:
        click.echo("\nproducts with the inputs:")
        lines = [[name, number(o["relative_error"]), number(o["bits_lost"])] for name, o in outputs]
        print_table(("tensor", "rel. error", "bits lost to water-filling"), lines)
    if result["product"] is not None:
        _print_product(result["product"])


def _row(name: str, t: dict[str, Any], *, lossless: bool = False) -> list[str]:
    start = [name, f"{t['bits_per_entry']:.3f}"]
    if lossless:
        return [*start, *[""] * 5, "identical"]
    lost = t["bits_lost"]
    errors = (t["mse"], t["distortion"], t["relative_error"], t["max_error"])
    return [*start, *map(number, errors), "" if lost is None else f"{lost:.3f}", bar(lost or 0.0)]


def _print_product(product: dict[str, Any]) -> None:
    rows, columns = product["shape"]
    limit = "" if product["limit"] is None else f", limit e^2 = {product['limit']:.4g}"
    click.echo(f"\nproduct of {product['tensor_a']} and {product['tensor_b']}: {rows} x {columns}{limit}")
    keys = ("relative_error", "normalized_error", "over_limit", "over_predicted", "shrink")
    estimates = [[name, *(number(product[name][key]) for key in keys)] for name in ("unbiased", "shrunk")]
    print_table(("estimate", "rel. error", "e^2", "e^2 / limit", "measured / predicted", "shrink"), estimates)
