"""The ``latq`` command: verbs loaded on demand, errors as one line, exit codes."""

import importlib
import sys
from errno import ENOSPC

import click

from latq import __version__
from latq.cli.failure import Stop, fail, forget_standard_output
from latq.errors import LatqError

VERBS = {
    "encode": "compress arrays into a .latq file",
    "decode": "bring the arrays of a .latq file back",
    "calibrate": "second moments of the inputs of layers, to encode their weights for",
    "product": "estimate A^T B from two compressed files",
    "info": "what a .latq file holds, and how accurate it is",
    "verify": "check every checksum",
    "compare": "measure a .latq file against its original",
    "limits": "what information theory allows at a rate",
}
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

    latq VERB -h explains a verb. A .latq file that is read may be a URL.
    """


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every failure is one line on standard error.

    KeyboardInterrupt and SystemExit, by which signals stop it, pass.
    """
    as_json = "--json" in arguments
    try:
        # Not cli.main(): that would handle closed pipes and Ctrl-C in its own way.
        with cli.make_context("latq", list(arguments)) as context:
            result = cli.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} -h" if error.ctx else ""
        return fail(error.format_message().rstrip(".") + hint, 2, as_json)
    except LatqError as error:
        return fail(str(error), error.exit_code, as_json, type(error).__name__)
    except BrokenPipeError:
        forget_standard_output()
        return EXIT_PIPE
    except OSError as error:
        place = f"{error.filename}: " if error.filename else "standard output: " if error.errno == ENOSPC else ""
        return fail(f"{place}{error.strerror or error}", 1, as_json, "OSError")
    except ImportError as error:
        if Stop.raised:
            raise Stop.raised from None
        # A setting that this installation cannot serve, such as LATQ_KERNELS=native without native kernels.
        return fail(str(error), 1, as_json, "ImportError")
    except MemoryError:
        return fail("out of memory; choose fewer columns or tensors", 1, as_json, "MemoryError")
