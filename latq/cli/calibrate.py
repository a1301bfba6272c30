"""latq calibrate."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from latq.calibration.moments import Moments
from latq.calibration.store import Entry, open_calibration, stem, write_moments
from latq.cli.common import (
    Console,
    console_options,
    force_option,
    human_bytes,
    keep_freed_memory,
    threads_option,
)
from latq.errors import InputError, ParameterError
from latq.sources import atomic_output

EXAMPLES = """\b
Examples:
  latq calibrate activations/ -o moments.h5
  latq calibrate first.h5 second.h5 -o both.h5
  latq encode model.safetensors --bits 3 --calibration moments.h5
"""


@click.command("calibrate", epilog=EXAMPLES)
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option("-o", "--output", metavar="OUT.h5", required=True, help="Output, an HDF5 file.")
@force_option
@threads_option
@console_options
def command(
    inputs: tuple[str, ...], output: str, force: bool, threads: int, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Collect the second moments of the inputs of layers, for latq encode --calibration.

    IN is a .npy, .h5 or .safetensors file of activations (any number x n, the last axis being that of the layer), a
    folder of these, or a file that this verb wrote. Arrays are named after their tensor, .npy files by their own names;
    those of one name are taken together.
    """
    keep_freed_memory()
    console = Console(as_json, quiet, verbose)
    with ExitStack() as stack:
        found = [stack.enter_context(open_calibration(path)) for path in inputs]
        named: dict[str, list[Entry]] = {}
        for path, calibration in zip(inputs, found, strict=True):
            for entry in calibration.entries:
                name = stem(entry.name or Path(path).stem)
                named.setdefault(name, []).append(entry)
        for name, entries in named.items():
            _check(name, entries)
        files = [file for calibration in found for file in calibration.files]
        counts: dict[str, tuple[int, int]] = {}
        with (
            atomic_output(output, force=force, inputs=files) as temporary,
            console.progress("collecting", len(named)) as progress,
        ):

            def moments() -> Iterator[tuple[str, Moments]]:
                for name, entries in sorted(named.items()):
                    summed = _summed(entries, threads)
                    counts[name] = len(summed), summed.count
                    yield name, summed
                    progress(1)

            write_moments(temporary, moments())
            size = temporary.stat().st_size
    tensors = [{"name": name, "n": n, "count": count} for name, (n, count) in counts.items()]
    console.result("calibrate", {"output": output, "bytes": size, "tensors": tensors})
    for name, (n, count) in counts.items():
        if console.verbose:
            console.say(f"  {name}: {count} inputs of {n} entries")
    console.say(f"{output}: second moments of {len(counts)} layers, {human_bytes(size)}")


def _check(name: str, entries: list[Entry]) -> None:
    """Refuse what cannot be added up, before anything is read."""
    lengths = sorted({entry.n for entry in entries})
    if len(lengths) > 1:
        raise InputError(f"{entries[0].where}: inputs of {lengths} entries for {name!r}; give those of one layer")
    if len(entries) > 1 and any(entry.ready and not entry.attributes.get("count") for entry in entries):
        raise ParameterError(f"{name!r}: moments without a count of inputs cannot be added to others; give them alone")


def _summed(entries: list[Entry], threads: int) -> Moments:
    total = entries[0].moments(threads)
    for entry in entries[1:]:
        total = total + entry.moments(threads)
    return total
