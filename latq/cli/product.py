"""latq product."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import click

from latq import api
from latq.cli.common import (
    Console,
    console_options,
    force_option,
    is_latq,
    keep_freed_memory,
    output_path,
    threads_option,
)
from latq.errors import ParameterError
from latq.products.estimator import Estimate, Workers, multiply
from latq.products.operands import Operand, PlainOperand
from latq.products.segment import Pair
from latq.sources import MatrixView, TensorSpec, kind_of, open_sink, open_source
from latq.theory import product_limit_of
from latq.urls import is_url

EXAMPLES = """\b
Examples:
  latq product a.latq b.latq -o c.npy
  latq product model.latq activations.npy -o out.h5 --tensor-a layers.0.wq
"""


@click.command("product", epilog=EXAMPLES)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help="Output .npy, .h5 or .zarr; - is a .npy on standard output."
)
@click.option("--tensor-a", metavar="NAME", help="Tensor of A, if it holds several.")
@click.option("--tensor-b", metavar="NAME", help="Tensor of B, if it holds several.")
@click.option("--axis-a", type=int, help="Contraction axis of a plain A [default: the one that encode would take].")
@click.option("--axis-b", type=int, help="Contraction axis of a plain B.")
@click.option(
    "--estimate", type=click.Choice(["auto", "unbiased", "shrunk"]), default="auto", show_default=True,
    help="Right on average in every entry, or least expected Frobenius error.",
)  # fmt: skip
@click.option(
    "--dask", metavar="ADDRESS",
    help="Multiply on the Dask cluster whose scheduler is there, tcp://host:port, or on a local one of as many "
    "processes as there are threads: local. Its workers must see the files at the same paths.",
)  # fmt: skip
@force_option
@threads_option
@console_options
def command(
    a: str, b: str, output: str, tensor_a: str | None, tensor_b: str | None, axis_a: int | None, axis_b: int | None,
    estimate: Estimate, dask: str | None, force: bool,
    threads: int, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Estimate A^T B, summed over the contraction axes, without decoding the operands in full.

    Either side may also be a plain .npy, .h5 or .safetensors file. The summary predicts the error of the estimate.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    kind = "npy" if output == "-" else kind_of(output)
    if kind not in ("npy", "h5", "zarr"):
        raise ParameterError(f"{output}: the output must end in .npy, .h5 or .zarr")
    with (
        _operand(a, "a", tensor_a, axis_a) as (left, rate_a, files_a),
        _operand(b, "b", tensor_b, axis_b) as (right, rate_b, files_b),
    ):
        if left.n != right.n:
            raise ParameterError(f"{a} has vectors of {left.n} entries, {b} of {right.n}; choose tensors that agree")
        spec = TensorSpec("data", (left.m, right.m), "float32")
        with (
            output_path(output, console, force=force, inputs=[a, b, *files_a, *files_b]) as temporary,
            console.progress("multiplying", left.m * right.m) as progress,
            open_sink(temporary, kind, [spec]) as sink,
            _workers(dask, threads, (a, "a", tensor_a, axis_a), (b, "b", tensor_b, axis_b), (left, right)) as workers,
        ):
            report = multiply(
                [(left, right)], sink.target("data"), estimate=estimate, threads=threads, workers=workers,
                progress=progress,
            )  # fmt: skip
    if report.note:
        console.warn(report.note)
    limit = product_limit_of(rate_a, rate_b)
    console.result(
        "product",
        {
            "output": output,
            "shape": list(report.shape),
            "predicted_error": report.error,
            "predicted_relative_error": report.relative,
            "predicted_normalized_error": report.normalized,
            "limit": limit,
            "shrink": report.shrink,
            "bits_a": rate_a if math.isfinite(rate_a) else None,
            "bits_b": rate_b if math.isfinite(rate_b) else None,
        },
    )
    console.say(f"{output}: {report.shape[0]} x {report.shape[1]}, predicted relative error {report.relative:.4g}")
    if limit is not None:
        console.say(f"  e^2 = {report.normalized:.4g}; the limit for Gaussian matrices at these rates is {limit:.4g}")


@contextmanager
def _operand(
    spec: str, side: str, tensor: str | None, axis: int | None
) -> Iterator[tuple[Operand, float, Sequence[str]]]:
    """One side of the product, its bits per entry (infinite for a plain array), and the files that it reads."""
    if is_latq(spec):
        if axis is not None:
            raise ParameterError(f"{spec}: encode fixed the axis of a compressed operand; drop --axis-{side}")
        with api.open(spec) as file:
            if tensor is None:
                _check_single(spec, side, list(file))
            chosen = file[tensor] if tensor is not None else file.only()
            operand = api.operand_of(chosen, f"{spec}: tensor {chosen.name!r}")
            yield operand, math.inf if isinstance(operand, PlainOperand) else chosen.bits_per_entry, [spec]
        return
    with open_source(spec, tensors=[tensor] if tensor is not None else []) as source:
        _check_single(spec, side, [t.name for t in source.tensors])
        found = source.tensors[0]
        axis = source.default_axis if axis is None else axis
        view = MatrixView(found.array, found.shape, axis)
        yield PlainOperand(view, f"{spec}: tensor {found.name!r}"), math.inf, source.files


_Choice = tuple[str, str, str | None, int | None]


def _workers(
    dask: str | None, threads: int, a: _Choice, b: _Choice, pair: Pair
) -> AbstractContextManager[Workers | None]:
    """Those of the Dask cluster, which open the same operands."""
    if dask is None:
        return nullcontext()
    from latq.dask.cluster import workers_at  # Here, because it takes long, and a package more.

    return workers_at(dask, threads, partial(_opened, *map(_everywhere, (a, b))), [pair])


def _everywhere(choice: _Choice) -> _Choice:
    """The same for a process in another directory."""
    spec = choice[0]
    return spec if is_url(spec) else os.path.abspath(spec), *choice[1:]


@contextmanager
def _opened(a: _Choice, b: _Choice) -> Iterator[list[Pair]]:
    with _operand(*a) as (left, *_), _operand(*b) as (right, *_):
        yield [(left, right)]


def _check_single(spec: str, side: str, names: Sequence[str]) -> None:
    if len(names) != 1:
        some = ", ".join(names[:8]) or "none"
        raise ParameterError(f"{spec}: holds {len(names)} tensors; choose with --tensor-{side}: {some}")
