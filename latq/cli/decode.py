"""latq decode."""

from fnmatch import fnmatchcase
from typing import Any

import click
import numpy as np

from latq.cli.common import (
    STANDARD_STREAM,
    Columns,
    Console,
    console_options,
    force_option,
    input_path,
    keep_freed_memory,
    open_file,
    output_path,
    tensor_option,
    threads_option,
)
from latq.errors import InputError, ParameterError
from latq.pipeline.decode import File, Tensor
from latq.pipeline.metadata import QUANTIZABLE
from latq.pipeline.restore import restore
from latq.sources import TensorSpec, files_of_sink, open_sink, output_kind_of

EXAMPLES = """\b
Examples:
  latq decode weights.latq -o weights.npy
  latq decode model.latq -o model.safetensors
  latq decode model.latq -o restored/
  latq decode weights.latq -o part.npy --columns 0:128 --dtype float16
"""


@click.command("decode", epilog=EXAMPLES)
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="Output .npy, .h5, .safetensors or .zarr, or the folder DIR/ of a checkpoint; - is a .npy on standard output.",
)
@click.option("--columns", type=Columns(), help="Only these vectors of one tensor, as a matrix.")
@click.option("--dtype", type=click.Choice(QUANTIZABLE), help="Dtype of float tensors [default: the original one].")
@tensor_option
@force_option
@threads_option
@console_options
def command(
    file: str, output: str, columns: slice | None, dtype: str | None, tensors: tuple[str, ...], force: bool,
    threads: int, as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Decode FILE to .npy, .h5, .safetensors or .zarr, with names, shapes, dtypes and attributes as they were.

    A folder gets the files of the checkpoint that FILE was made from, its index included; others stay as they are.

    Columns are the vectors along the contraction axis: columns of an n x m matrix encoded with axis 0.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    kind = "npy" if output == STANDARD_STREAM else output_kind_of(output)
    with input_path(file) as path, open_file(path) as opened:
        chosen = choose(opened, tensors)
        specs = [_spec(opened[name], columns, dtype) for name in chosen]
        if columns is not None and len(chosen) != 1:
            raise ParameterError(f"{file}: --columns takes one tensor, not {len(chosen)}; choose with --tensor")
        extras = dict(opened.metadata.extras)
        total = sum(opened[name].size for name in chosen)
        files = files_of_sink(output, kind, specs, extras)
        with (
            output_path(output, console, force=force, inputs=[file], files=files) as temporary,
            console.progress("decoding", total) as progress,
            open_sink(temporary, kind, specs, extras) as sink,
        ):
            for warning in sink.warnings:
                console.warn(warning.replace(str(temporary), output))
            if columns is None:
                restore([(opened[name], sink.target(name)) for name in chosen], threads, progress)
            else:
                _decode_columns(opened[chosen[0]], columns, sink.target(chosen[0]))
        shapes = {spec.name: list(spec.shape) for spec in specs}
    console.result("decode", {"output": output, "tensors": shapes})
    for name, shape in shapes.items():
        if console.verbose:
            console.say(f"  {name} {shape}")
    console.say(f"{output}: {len(shapes)} tensor{'s' * (len(shapes) != 1)} decoded")


def choose(file: File, patterns: tuple[str, ...]) -> list[str]:
    """Names that match any of the patterns; InputError for a pattern that matches nothing."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in file):
            available = ", ".join(list(file)[:8])
            raise InputError(f"{file.name}: no tensor matches {pattern!r}; there are: {available or 'none'}")
    return [name for name in file if not patterns or any(fnmatchcase(name, p) for p in patterns)]


def _spec(tensor: Tensor, columns: slice | None, dtype: str | None) -> TensorSpec:
    name = dtype if dtype and tensor.entry.dtype in QUANTIZABLE else tensor.entry.dtype
    if columns is None:
        return TensorSpec(tensor.name, tensor.shape, name)
    count = len(range(*columns.indices(tensor.m)))
    if count == 0:
        raise ParameterError(f"tensor {tensor.name!r}: no columns in that range; it has {tensor.m}")
    last = tensor.ndim > 1 and tensor.axis == tensor.ndim - 1
    return TensorSpec(tensor.name, (count, tensor.n) if last else (tensor.n, count), name)


def _decode_columns(tensor: Tensor, columns: slice, target: Any) -> None:
    """Vectors as columns, or as rows where the contraction axis is the last of the original array."""
    start, stop, _ = columns.indices(tensor.m)
    last = tensor.ndim > 1 and tensor.axis == tensor.ndim - 1
    step = max(1, (1 << 22) // max(tensor.n, 1))
    for v0 in range(start, stop, step):
        v1 = min(v0 + step, stop)
        block = tensor.vectors(v0, v1, dtype=np.dtype(target.dtype))
        place = slice(v0 - start, v1 - start)
        target[(place, slice(0, tensor.n)) if last else (slice(0, tensor.n), place)] = block if last else block.T
