"""latq encode."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from typing import Any

import click

from latq.calibration.store import Calibration, open_calibration
from latq.cli.common import (
    STANDARD_STREAM,
    Console,
    console_options,
    force_option,
    human_bytes,
    input_path,
    keep_freed_memory,
    output_stream,
    tensor_option,
    threads_option,
)
from latq.errors import ParameterError
from latq.pipeline.decide import EncodeOptions, Rate
from latq.pipeline.encode import Calibrated, EncodeReport, TensorReport, encode_source
from latq.sources import MatrixView, Source, open_source
from latq.sources.files import split_spec

# Rates that differ by less are about the same.
SAME_BITS = 0.5

EXAMPLES = """\b
Examples:
  latq encode weights.npy -o weights.latq --bits 4.25
  latq encode weights.npy -o weights.latq --error 0.05
  latq encode model.safetensors --tensor '*.weight'
  latq encode checkpoint/ -o model.latq --allocate --bits-for '*embed*=8'
  latq encode data.h5:/air/temperature -o air.latq --axis 1
  latq encode a.npy -o a.latq --codec scalar --pair b.npy
  latq encode model.safetensors --bits 3 --calibration activations/
"""


class RateOf(click.ParamType[tuple[str, Rate]]):
    """GLOB=R."""

    name = "GLOB=R"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Rate]:
        glob, _, rate = value.rpartition("=")
        if not glob:
            self.fail(f"{value!r} names no tensor; write GLOB=R", param, ctx)
        if rate == "raw":
            return glob, rate
        try:
            return glob, float(rate)
        except ValueError:
            self.fail(f"{rate!r} is neither a number of bits nor raw", param, ctx)


@click.command("encode", epilog=EXAMPLES)
@click.argument("source", metavar="IN")
@click.option(
    "-o", "--output", metavar="OUT", help="Output; by default IN with the suffix .latq; - is standard output."
)
@click.option("--bits", type=float, default=4.0, show_default=True, help="Bits per entry, counted over the whole file.")
@click.option(
    "--bits-for", "bits_for", type=RateOf(), multiple=True, metavar="GLOB=R",
    help="Bits per entry of the tensors whose names match, or raw; repeatable, the last match counts.",
)  # fmt: skip
@click.option(
    "--allocate", is_flag=True,
    help="Make --bits those of the whole file, lossless tensors included, and divide them among the other tensors so "
    "that the sum of their relative squared errors is least.",
)  # fmt: skip
@click.option("--error", type=float, help="Relative error to meet with the smallest file, instead of --bits.")
@click.option(
    "--error-of", type=click.Choice(["decode", "product"]), default="decode", show_default=True,
    help="What --error is of: each decoded tensor, or its product with an independent one coded alike.",
)  # fmt: skip
@click.option(
    "--codec", type=click.Choice(["e8", "trellis", "scalar", "raw"]), default="e8", show_default=True,
    help="trellis has less error than e8 at any rate and takes longer; scalar quantizes entry by entry, for products "
    "of strongly correlated matrices; raw is lossless.",
)  # fmt: skip
@click.option(
    "--coding",
    type=click.Choice(["fixed", "entropy"]),
    help="Of the indices: constant length, decoded fastest; or the best accuracy per bit [default: entropy; fixed for "
    "scalar].",
)
@click.option("--rho", type=float, help="scalar: correlation with the entries of the other factor [default: 0].")
@click.option("--pair", metavar="FILE", help="scalar: the other factor itself, of vectors as long; excludes --rho.")
@click.option("--pair-tensor", metavar="NAME", help="Tensor of --pair, if it holds several.")
@click.option("--pair-axis", type=int, help="Contraction axis of --pair [default: 0; the last for .safetensors].")
@click.option(
    "--calibration", metavar="FILE|DIR",
    help="Quantize for the inputs that the vectors will be multiplied by: activations by the name of their tensor "
    "(.npy, .h5, .safetensors, or a folder of these), or what latq calibrate wrote.",
)  # fmt: skip
@click.option("--activation-bits", type=float, help="Bits per entry that these inputs will have [default: exact].")
@click.option("--axis", type=int, help="Contraction axis [default: 0; the last for .safetensors].")
@click.option(
    "--rotation",
    type=click.Choice(["auto", "hadamard", "none"]),
    default="auto",
    show_default=True,
    help="Of the vectors before quantization; auto leaves it out where that saves bits.",
)
@click.option(
    "--precision", type=click.Choice(["balanced", "uniform", "relative"]), default="balanced", show_default=True,
    help="With entropy coding, of vectors of unequal size: uniform has the least error overall, relative the same "
    "relative error in each; balanced is uniform, but spends at most about a bit per entry less on small ones.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the rotation; both sides of a product share it."
)
@click.option("--centre/--no-centre", default=None, help="Store the mean of every vector apart [default: if it pays].")
@click.option(
    "--nonfinite", type=click.Choice(["error", "raw"]), default="error", show_default=True,
    help="Tensors with NaN or infinity: refuse, or keep lossless.",
)  # fmt: skip
@click.option(
    "--effort", type=click.Choice(["fast", "default", "best"]), default="default", show_default=True,
    help="Of trellis: 8, 32 or 256 states, which lose 0.08, 0.06 or 0.04 bit to the Shannon limit, decoded as fast. "
    "Of fixed coding: fast takes about a third less time and loses 0.02 to 0.05 bit. Elsewhere it changes nothing.",
)  # fmt: skip
@tensor_option
@force_option
@threads_option
@console_options
def command(
    source: str, output: str | None, tensors: tuple[str, ...], force: bool,
    pair: str | None, pair_tensor: str | None, pair_axis: int | None, calibration: str | None,
    as_json: bool, quiet: bool, verbose: bool, **options: Any,
) -> None:  # fmt: skip
    """Compress the arrays of IN (.npy, .h5, .safetensors, the folder or the index of a checkpoint, or - for a .npy on
    standard input).

    FILE.h5:/group/data takes one dataset. Integers, booleans, one-dimensional tensors of a checkpoint and tensors too
    small to gain are kept lossless. Tensors that are the same are stored once.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    given = click.get_current_context().get_parameter_source("bits")
    if options["error"] is not None and given is click.core.ParameterSource.COMMANDLINE:
        raise ParameterError("--bits and --error exclude each other; give one")
    if pair is None and (pair_tensor is not None or pair_axis is not None):
        raise ParameterError("--pair-tensor and --pair-axis need --pair")
    if pair is not None and options["codec"] != "scalar":
        raise ParameterError("--pair needs --codec scalar")
    if pair is not None and options["rho"] is not None:
        raise ParameterError("--rho and --pair exclude each other; give one")
    if calibration is None and options["activation_bits"] is not None:
        raise ParameterError("--activation-bits needs --calibration")
    activation_bits = options.pop("activation_bits")
    parameters = EncodeOptions(**options)
    target = output or _default_output(source)
    started = time.monotonic()
    with (
        _pair(pair, pair_tensor, pair_axis) as (partner, pair_files),
        _calibration(calibration) as inputs,
        input_path(source) as path,
        open_source(path, tensors=tensors) as arrays,
    ):
        parameters = replace(parameters, pair=partner, calibration=inputs, activation_bits=activation_bits)
        for warning in arrays.warnings:
            console.warn(warning)
        total = sum(_entries(arrays))
        with (
            output_stream(
                target,
                console,
                force=force,
                inputs=[source, *arrays.files, *pair_files, *(inputs.files if inputs else ())],
            ) as stream,
            console.progress("encoding", total) as progress,
        ):
            report = encode_source(arrays, _shown(source), stream, parameters, progress)
        original = sum(t.array.dtype.itemsize * n for t, n in zip(arrays.tensors, _entries(arrays), strict=True))
    _summarize(console, report, target, original, time.monotonic() - started)


@contextmanager
def _pair(spec: str | None, tensor: str | None, axis: int | None) -> Iterator[tuple[MatrixView | None, Sequence[str]]]:
    """The matrix that --pair names, if it does, and the files that it reads."""
    if spec is None:
        yield None, []
        return
    with open_source(spec, tensors=[tensor] if tensor is not None else []) as found:
        if len(found.tensors) != 1:
            names = ", ".join([t.name for t in found.tensors][:8]) or "none"
            raise ParameterError(f"{spec}: holds {len(found.tensors)} tensors; choose with --pair-tensor: {names}")
        chosen = found.tensors[0]
        yield MatrixView(chosen.array, chosen.shape, found.default_axis if axis is None else axis), found.files


@contextmanager
def _calibration(path: str | None) -> Iterator[Calibration | None]:
    if path is None:
        yield None
        return
    with open_calibration(path) as found:
        yield found


def _default_output(source: str) -> str:
    if source == STANDARD_STREAM:
        raise ParameterError("standard input has no name; give the output with -o")
    path, dataset = split_spec(source)
    name = path.name.removesuffix(".index.json")
    stem = Path(name).stem if not path.is_dir() else name
    return str(path.with_name(f"{stem}.{dataset.strip('/').replace('/', '.')}.latq" if dataset else f"{stem}.latq"))


def _shown(source: str) -> str:
    return "standard input" if source == STANDARD_STREAM else source


def _entries(source: Source) -> list[int]:
    return [prod(t.shape) for t in source.tensors]


def _shown_bits(coded: Sequence[TensorReport], mean: float) -> str:
    """Their mean rate, and their range where they are not about the same."""
    rates = [t.bits_per_entry for t in coded]
    spread = f" ({min(rates):.2f} to {max(rates):.2f})" if max(rates) - min(rates) > SAME_BITS else ""
    return f"{mean:.3f} bits per entry{spread}"


def _summarize(console: Console, report: EncodeReport, target: str, original: int, seconds: float) -> None:
    coded = [t for t in report.tensors if t.error is not None and t.same_as is None]
    entries = sum(t.entries for t in coded)
    coded_bits = 8 * sum(t.bytes for t in coded) / entries if entries else 0.0
    same = sum(t.same_as is not None for t in report.tensors)
    console.result(
        "encode",
        {
            "output": target,
            "bytes": report.bytes,
            "original_bytes": original,
            "bits_per_entry": report.bits_per_entry,
            "seconds": seconds,
            "tensors": [{**asdict(t), "bits_per_entry": t.bits_per_entry} for t in report.tensors],
        },
    )
    for t in report.tensors:
        if console.verbose:
            accuracy = f"relative error {t.error**0.5:.4g}" if t.error is not None else f"lossless ({t.note})"
            accuracy += f"; {_outputs(t.calibrated)}" if t.calibrated else ""
            how = f"{t.codec}, {t.bits_per_entry:.3f} bits per entry" if t.same_as is None else f"same as {t.same_as}"
            console.say(f"  {t.name} {list(t.shape)} {t.dtype}: {how}, {accuracy}")
        elif t.surprising:
            console.warn(f"{t.name}: {t.note}; kept lossless")
    rate = f"{report.bits_per_entry:.3f} bits per entry" if report.entries else "empty"
    line = f"{target}: {human_bytes(original)} -> {human_bytes(report.bytes)}, {rate}"
    if len(report.tensors) == 1 and coded:
        line += f", relative error {(coded[0].error or 0.0) ** 0.5:.4g}"
    elif len(report.tensors) > 1:
        line += f"; {len(coded)} of {len(report.tensors)} tensors quantized"
        line += f" at {_shown_bits(coded, coded_bits)}" if coded else ""
        line += f", {same} the same as another" if same else ""
    console.say(f"{line} ({seconds:.1f} s)")
    calibrated = [t.calibrated for t in coded if t.calibrated]
    if len(coded) == len(calibrated) == 1:
        console.say(_outputs(calibrated[0]))
    elif calibrated:
        error = (sum(c.output_error for c in calibrated) / len(calibrated)) ** 0.5
        console.say(f"{len(calibrated)} of them calibrated: relative error {error:.4g} of their products, on average")


def _outputs(calibrated: Calibrated) -> str:
    line = f"relative error {calibrated.output_error**0.5:.4g} of its products with the inputs"
    if calibrated.bits_lost is not None:
        line += f", {calibrated.bits_lost:.3f} bits above water-filling"
    if calibrated.damping is None:
        return f"{line}, not quantized for them: errors would be larger"
    return f"{line}, damping {calibrated.damping:.2g}"
