"""The ``latq`` command: verbs loaded on demand, errors as one line, exit codes."""

import contextlib
import importlib
import json
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from latq import __version__
from latq.errors import LatqError

VERBS = {
    "encode": "compress arrays into a .latq file",
    "decode": "bring the arrays of a .latq file back",
    "product": "estimate A^T B from two compressed files",
    "info": "what a .latq file holds, and how accurate it is",
    "verify": "check every checksum",
}
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_PIPE = 141


class _Verbs(click.Group):
    """Commands that are imported only when they run, so that the command starts at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"latq.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", message="latq %(version)s (format 1.0)")
def cli() -> None:
    """Compress matrices for multiplication.

    latq VERB -h explains a verb.
    """


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        result = cli.main(arguments, prog_name="latq", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED, False)
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} -h" if error.ctx else ""
        return _fail(error.format_message().rstrip(".") + hint, 2, as_json)
    except LatqError as error:
        return _fail(str(error), error.exit_code, as_json, type(error).__name__)
    except BrokenPipeError:
        # Nobody reads: keep Python from complaining again when it flushes at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}", 1, as_json)
    except MemoryError:
        return _fail("out of memory; choose fewer columns or tensors", 1, as_json)


def _fail(message: str, code: int, as_json: bool, kind: str = "UsageError") -> int:
    """One line on standard error; the same as an object on standard output for ``--json``."""
    line = " ".join(message.split())
    if as_json:
        print(json.dumps({"ok": False, "error": {"code": code, "class": kind, "message": line}}))
    print(f"latq: error: {line}", file=sys.stderr)
    return code


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Unwind on SIGTERM, so that temporary files are removed."""
    raise SystemExit(EXIT_TERMINATED)
