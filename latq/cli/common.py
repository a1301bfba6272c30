"""Options, progress and output that the verbs share."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import click

# First, from few frames: where a chunk of its stack ends, CPython maps and unmaps memory at every call, and deep down
# among the other imports that took 10 ms.
import numpy  # noqa: F401

from latq.container import SIGNATURE, source_at
from latq.errors import LatqError, ParameterError
from latq.pipeline.decode import File
from latq.urls import is_url

if TYPE_CHECKING:
    from pathlib import Path

STANDARD_STREAM = "-"
_SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*((?P<unit>[kmgt])(?P<binary>i)?)?b?", re.IGNORECASE)


@dataclass(frozen=True)
class Console:
    """Where a verb speaks: results to standard output, everything else to standard error."""

    as_json: bool
    quiet: bool
    verbose: bool

    def result(self, schema: str, value: dict[str, Any]) -> None:
        """The machine-readable result."""
        if self.as_json:
            print(json.dumps({"ok": True, "schema": f"latq.{schema}/1", **value}, allow_nan=False))

    def say(self, line: str) -> None:
        """A line for people."""
        if not self.quiet and not self.as_json:
            print(line, file=sys.stderr)

    def warn(self, line: str) -> None:
        """A warning; also said under ``--json``."""
        if not self.quiet:
            print(f"latq: warning: {line}", file=sys.stderr)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar on a terminal's standard error; a function that takes the entries done since the last call."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield lambda entries: None
            return
        from rich.console import Console as Terminal
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Terminal(stderr=True), transient=True) as bars:
            task = bars.add_task(label, total=max(total, 1))
            yield lambda entries: bars.advance(task, entries)


# Of mallopt, and what the GNU C library takes at most for the first.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGEST_THRESHOLD, _KEPT_MEMORY = 1 << 25, 1 << 28


def keep_freed_memory(memory: int = 1 << 29) -> None:
    """Let the C library keep the memory of large arrays for the next ones: what it has given back to the system comes
    back cleared, page by page, which took a quarter of the time of a command. Libraries should not decide that. Where
    there is little ``memory``, less is kept."""
    import ctypes

    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_MMAP_THRESHOLD, min(_LARGEST_THRESHOLD, memory // 32))
        library.mallopt(_TRIM_THRESHOLD, min(_KEPT_MEMORY, memory // 2))


def console_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--json, -q and -v."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Say more: one line per tensor."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors."),
        click.option("--json", "as_json", is_flag=True, help="Result as one JSON object on standard output."),
    ):
        function = option(function)
    return function


def threads_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """-j; the number never changes a byte of a file."""
    return click.option(
        "-j",
        "--threads",
        type=click.IntRange(0, 1024),
        default=0,
        envvar="LATQ_THREADS",
        show_envvar=True,
        help="Threads; 0 uses every core.",
        callback=lambda ctx, parameter, value: value or len(os.sched_getaffinity(0)),
    )(function)


def force_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """-f."""
    return click.option("-f", "--force", is_flag=True, help="Overwrite an existing output.")(function)


def tensor_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--tensor, repeatable."""
    return click.option(
        "--tensor", "tensors", multiple=True, metavar="GLOB", help="Only tensors whose name matches; repeatable."
    )(function)


class Columns(click.ParamType[slice]):
    """a:b, either end may be left out."""

    name = "a:b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> slice:
        try:
            start, stop = value.split(":")
            return slice(int(start) if start else None, int(stop) if stop else None)
        except ValueError:
            self.fail(f"{value!r} is not a range; write a:b", param, ctx)


class Size(click.ParamType[int]):
    """Bytes: a number, or one with kB, MB, GB (powers of 1000) or KiB, MiB, GiB."""

    name = "size"

    def __init__(self, at_least: int) -> None:
        self._least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        if not found:
            self.fail(f"{value!r} is not a size; write for instance 4GB or 512MiB", param, ctx)
        base = 1024 if found["binary"] else 1000
        size = int(float(found["number"]) * base ** " KMGT".index((found["unit"] or " ").upper()))
        if size < self._least:
            self.fail(f"{value} is too little; {human_bytes(self._least)} at least", param, ctx)
        return size


@contextmanager
def output_path(
    target: str, console: Console, *, force: bool, inputs: Sequence[str], files: Sequence[str] | None = None
) -> Iterator["Path"]:
    """A path to write to: what lands there becomes ``target`` at the end, or goes to standard output for "-". It is
    that of a folder where ``files``, the names of those that are to be in it, are given."""
    if target != STANDARD_STREAM:
        with _file_output(target, force, inputs, files) as path, _named(path, target):
            yield path
        return
    _check_standard_output(console, force)
    with _stand_in("standard output") as path:
        yield path
        with path.open("rb") as stream:
            _copy(stream, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@contextmanager
def output_stream(target: str, console: Console, *, force: bool, inputs: Sequence[str]) -> Iterator[BinaryIO]:
    """A stream to write once from front to back: a pipe is written straight, a file appears at the end."""
    if target == STANDARD_STREAM:
        _check_standard_output(console, force)
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with _file_output(target, force, inputs) as path, path.open("wb") as stream:
        yield stream


def _file_output(
    target: str, force: bool, inputs: Sequence[str], files: Sequence[str] | None = None
) -> AbstractContextManager["Path"]:
    """A path to write to: what lands there becomes ``target`` at the end."""
    from latq.sources import atomic_path  # Here, because verbs that write no file do without sources and kernels.

    return atomic_path(target, force=force, inputs=[i for i in inputs if i != STANDARD_STREAM], files=files)


def _check_standard_output(console: Console, force: bool) -> None:
    if console.as_json:
        raise ParameterError("--json and data cannot both go to standard output; name a file with -o")
    if sys.stdout.isatty() and not force:
        raise ParameterError("will not write binary data to a terminal; redirect it, or use -f")


@contextmanager
def input_path(source: str) -> Iterator[str]:
    """A path to read from: "-" is standard input, kept in a temporary file."""
    if source != STANDARD_STREAM:
        yield source
        return
    with _stand_in("standard input") as path:
        with path.open("wb") as stream:
            _copy(sys.stdin.buffer, stream)
        yield str(path)


@contextmanager
def _stand_in(shown: str) -> Iterator["Path"]:
    """A temporary file in the place of a pipe, which messages call ``shown``."""
    from pathlib import Path  # These here, because they would make every command start later.
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as directory:
        path = Path(directory, "data")
        with _named(path, shown):
            yield path


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while block := source.read(1 << 20):
        target.write(block)


@contextmanager
def _named(path: "Path", shown: str) -> Iterator[None]:
    """Name a temporary path by what it stands for in messages."""
    try:
        yield
    except LatqError as error:
        error.args = (str(error).replace(str(path), shown),)
        raise


def is_latq(path: str) -> bool:
    """Whether the file begins like a .latq file; of a URL, its name tells."""
    if is_url(path):
        from latq.sources import kind_of  # Here, because a file that is only described needs no sources.

        return kind_of(path) is None
    if not os.path.isfile(path):
        return path.endswith(".latq")
    with open(path, "rb") as stream:
        return stream.read(len(SIGNATURE)) == SIGNATURE


def open_file(path: str) -> File:
    """What ``latq.open`` does, without the encoder that comes with the whole interface."""
    return File(source_at(path))


def human_bytes(count: float) -> str:
    """1234567 -> '1.18 MiB'."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"
