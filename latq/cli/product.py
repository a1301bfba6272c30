"""latq product."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import click

from latq.cli.common import (
    STANDARD_STREAM,
    Columns,
    Console,
    Size,
    console_options,
    force_option,
    keep_freed_memory,
    output_path,
    threads_option,
)
from latq.cli.factors import Shards, Side, open_pairs, reopen_pairs
from latq.cli.resume import resumable_outputs, task_of
from latq.errors import ParameterError
from latq.products.estimator import DEFAULT_MEMORY, Estimate, ProductReport, Workers, multiply
from latq.products.segment import Pair
from latq.sources import OutputKind, TensorSpec, WritableArray, kind_of, open_sink

EXAMPLES = """\b
Examples:
  latq product a.latq b.latq -o c.npy --error-bars e.npy
  latq product model.latq activations.npy -o out.h5 --tensor-a layers.0.wq
  latq product 'a-*.latq' 'b-*.latq' --shards sum -o c.npy --max-memory 4GB --resume
"""
# A shrunk estimate is mentioned where its error is smaller by a hundredth or more.
_WORTH_MENTIONING = 0.98


@click.command("product", epilog=EXAMPLES)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "-o", "--output", required=True, metavar="OUT", help="Output .npy, .h5 or .zarr; - is a .npy on standard output."
)
@click.option("--error-bars", metavar="OUT", help="Also write the standard error of every entry: .npy, .h5, .zarr.")
@click.option("--tensor-a", metavar="NAME", help="Tensor of A, if it holds several.")
@click.option("--tensor-b", metavar="NAME", help="Tensor of B, if it holds several.")
@click.option("--axis-a", type=int, help="Contraction axis of a plain A [default: the one that encode would take].")
@click.option("--axis-b", type=int, help="Contraction axis of a plain B.")
@click.option("--rows", type=Columns(), default=":", help="Only these rows of the product: vectors of A.")
@click.option("--columns", type=Columns(), default=":", help="Only these columns: vectors of B.")
@click.option(
    "--shards",
    type=click.Choice(["sum", "columns"]),
    help="Of patterns like 'a-*.latq': add up the products of the files of A and B in the order of their names, or put "
    "their vectors side by side [default where only one side is several files].",
)
@click.option(
    "--estimate",
    type=click.Choice(["unbiased", "shrunk", "auto"]),
    default="unbiased",
    show_default=True,
    help="Right on average in every entry; least expected Frobenius error; the second where that is lower by a "
    "hundredth or more.",
)
@click.option(
    "--max-memory",
    "memory",
    type=Size(at_least=1 << 26),
    default=DEFAULT_MEMORY,
    show_default="512MB",
    help="Memory to work in, about.",
)
@click.option("--resume", is_flag=True, help="Keep what is done if interrupted, and carry on with it the next time.")
@click.option(
    "--dask", metavar="ADDRESS",
    help="Multiply on the Dask cluster whose scheduler is there, tcp://host:port, or on a local one of as many "
    "processes as there are threads: local. Its workers must see the files at the same paths.",
)  # fmt: skip
@force_option
@threads_option
@console_options
def command(
    a: str, b: str, output: str, error_bars: str | None, tensor_a: str | None, tensor_b: str | None,
    axis_a: int | None, axis_b: int | None, rows: slice, columns: slice, shards: Shards | None, estimate: Estimate,
    memory: int, resume: bool, dask: str | None, force: bool, threads: int, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Estimate A^T B, summed over the contraction axes, without decoding the operands in full.

    Either side may also be a plain .npy, .h5 or .safetensors file, or a pattern in quotes that names several. The
    summary predicts the error of the estimate. Where an operand was encoded without a rotation, its errors may depend
    on the other side; then error bars are bounds.
    """
    keep_freed_memory(memory)
    console = Console(as_json, quiet, verbose)
    if error_bars is not None and os.path.realpath(error_bars) == os.path.realpath(output):
        raise ParameterError(f"{error_bars}: is the output as well; name another file for the error bars")
    outputs = [output] if error_bars is None else [output, error_bars]
    side_a, side_b = Side("a", a, tensor_a, axis_a), Side("b", b, tensor_b, axis_b)
    with ExitStack() as stack:
        pairs, files = stack.enter_context(open_pairs(side_a, side_b, shards, rows, columns))
        spec = TensorSpec("data", (pairs[0][0].m, pairs[0][1].m), "float32")
        journal = None
        if resume:
            task = task_of(
                pairs,
                files,
                estimate=estimate,
                memory=memory,
                dask=dask is not None,
                rows=repr(rows),
                columns=repr(columns),
            )
            targets, journal = stack.enter_context(resumable_outputs(outputs, spec, task, force=force, inputs=files))
            if journal.done:
                console.say(f"{output}: carrying on, {len(journal.done)} blocks are there already")
        else:
            targets = [stack.enter_context(_target(path, spec, console, force, files)) for path in outputs]
        progress = stack.enter_context(console.progress("multiplying", spec.shape[0] * spec.shape[1]))
        opened = partial(reopen_pairs, side_a.everywhere, side_b.everywhere, shards, rows, columns)
        workers = stack.enter_context(_workers(dask, threads, opened, pairs))
        report = multiply(
            pairs, targets[0], estimate=estimate, error_bars=targets[1] if error_bars else None, threads=threads,
            memory=memory, journal=journal, workers=workers, progress=progress,
        )  # fmt: skip
    if report.note:
        console.warn(report.note)
    console.result("product", {"output": output, "error_bars": error_bars, **_described(report)})
    _say(console, output, report)


@contextmanager
def _target(
    path: str, spec: TensorSpec, console: Console, force: bool, inputs: Sequence[str]
) -> Iterator[WritableArray]:
    kind: OutputKind | None = "npy" if path == STANDARD_STREAM else kind_of(path)
    if kind not in ("npy", "h5", "zarr"):
        raise ParameterError(f"{path}: the output must end in .npy, .h5 or .zarr")
    with (
        output_path(path, console, force=force, inputs=inputs) as temporary,
        open_sink(temporary, kind, [spec]) as sink,
    ):
        yield sink.target(spec.name)


def _workers(
    dask: str | None, threads: int, opened: Callable[[], AbstractContextManager[list[Pair]]], pairs: list[Pair]
) -> AbstractContextManager[Workers | None]:
    """Those of the Dask cluster, which open the same operands."""
    if dask is None:
        return nullcontext()
    from latq.dask.cluster import workers_at  # Here, because it takes long, and a package more.

    return workers_at(dask, threads, opened, pairs)


def _described(report: ProductReport) -> dict[str, Any]:
    bits_a, bits_b = (bits if math.isfinite(bits) else None for bits in report.bits)
    return {
        "shape": list(report.shape),
        "predicted_error": report.error,
        "predicted_relative_error": report.relative if math.isfinite(report.relative) else None,
        "predicted_normalized_error": report.normalized,
        "error_kind": report.kind,
        "error_bound": report.bound,
        "limit": report.limit,
        "guaranteed_error": report.guarantee,
        "shrink": report.shrink,
        "best_shrink": report.best_shrink,
        "bits_a": bits_a,
        "bits_b": bits_b,
    }


def _say(console: Console, output: str, report: ProductReport) -> None:
    shape = f"{output}: {report.shape[0]} x {report.shape[1]}"
    if report.bound is not None:
        console.say(f"{shape}, error at most {report.bound:.4g} (Frobenius norm)")
        console.say(
            "  an operand was encoded without a rotation, so its errors may depend on the other side; if they do not, "
            f"the relative error is {report.relative:.4g} (encode with --rotation hadamard for a prediction that holds)"
        )
    else:
        console.say(f"{shape}, predicted relative error {report.relative:.4g}")
    if report.limit is not None:
        console.say(
            f"  e^2 = {report.normalized:.4g}; the limit for Gaussian matrices at these rates is {report.limit:.4g}"
        )
    if report.guarantee:
        console.say(f"  the error is {report.error / report.guarantee:.2f} times what theory guarantees at these norms")
    if report.shrink < 1:
        console.say(f"  estimate shrunk by {report.shrink:.3f}")
    elif report.best_shrink < _WORTH_MENTIONING:
        console.say(
            f"  --estimate shrunk would lower the error by {100 * (1 - math.sqrt(report.best_shrink)):.0f} %, "
            f"making all entries {report.best_shrink:.3f} times as large"
        )
