"""latq decode."""

import sys
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any, get_args

import click
import numpy as np

from latq.cli.common import (
    STANDARD_STREAM,
    Columns,
    Console,
    Size,
    console_options,
    force_option,
    input_path,
    keep_freed_memory,
    open_file,
    output_path,
    tensor_option,
    threads_option,
)
from latq.container import source_at
from latq.errors import CorruptError, InputError, ParameterError
from latq.pipeline.decode import File, Tensor
from latq.pipeline.metadata import QUANTIZABLE
from latq.pipeline.restore import DEFAULT_MEMORY, chunks_in_memory, restore
from latq.pipeline.salvage import Fill, SalvagedFile
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
@click.option("--salvage", is_flag=True, help="Of a damaged FILE, save what is intact; exit with 3 if any is lost.")
@click.option(
    "--fill",
    type=click.Choice(get_args(Fill)),
    default="nan",
    show_default=True,
    help="What --salvage puts where entries are lost; of integers and booleans always zero.",
)
@tensor_option
@force_option
@click.option(
    "--max-memory",
    "memory",
    type=Size(at_least=1 << 20),
    default=DEFAULT_MEMORY,
    show_default="1GiB",
    help="Memory to work in, about; a file whose chunks take more is refused.",
)
@threads_option
@console_options
def command(
    file: str, output: str, columns: slice | None, dtype: str | None, salvage: bool, fill: Fill,
    tensors: tuple[str, ...], force: bool, memory: int, threads: int, as_json: bool, quiet: bool, verbose: bool,
) -> int:  # fmt: skip
    """Decode FILE to .npy, .h5, .safetensors or .zarr, with names, shapes, dtypes and attributes as they were.

    A folder gets the files of the checkpoint that FILE was made from, its index included; others stay as they are.

    Columns are the vectors along the contraction axis: columns of an n x m matrix encoded with axis 0.

    A damaged FILE fails with 3 and leaves no output. With --salvage there is one that holds every intact chunk; what
    is lost, chunk by chunk, is said on standard error and by --json, and the exit code is 3 as well. It is 0 where all
    that was asked for is intact.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    kind = "npy" if output == STANDARD_STREAM else output_kind_of(output)
    with input_path(file) as path, SalvagedFile(source_at(path), fill) if salvage else open_file(path) as opened:
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
                restore([(opened[name], sink.target(name)) for name in chosen], threads, progress, memory)
            else:
                chunks_in_memory(opened[chosen[0]], memory)
                _decode_columns(opened[chosen[0]], columns, sink.target(chosen[0]))
        shapes = {spec.name: list(spec.shape) for spec in specs}
        loss = _report_loss(opened, console) if isinstance(opened, SalvagedFile) else {}
    console.result("decode", {**loss, "output": output, "tensors": shapes})
    for name, shape in shapes.items():
        if console.verbose:
            console.say(f"  {name} {shape}")
    console.say(f"{output}: {len(shapes)} tensor{'s' * (len(shapes) != 1)} decoded")
    return CorruptError.exit_code if "error" in loss else 0


def _report_loss(file: SalvagedFile, console: Console) -> dict[str, Any]:
    """Say what could not be decoded; the same for --json."""
    if file.fault:
        console.warn(f"{file.fault}; its chunks were looked for")
    lost = file.lost
    for damage in lost:
        print(f"latq: error: {damage.line}: filled with {file.filling(damage.tensor):g}", file=sys.stderr)
    result = {"fault": str(file.fault) if file.fault else None, "lost": [asdict(damage) for damage in lost]}
    if not lost:
        return result
    message = f"{file.name}: {len(lost)} chunk{'s' * (len(lost) != 1)} lost, the others decoded"
    error = {"code": CorruptError.exit_code, "class": "CorruptError", "message": message}
    return {"ok": False, "error": error, **result}


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
