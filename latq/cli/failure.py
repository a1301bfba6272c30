"""How a command says that it failed."""

import contextlib
import os
import sys


class Stop:
    """What a signal has raised, if one came: a library that it meets while it is imported may raise something else."""

    raised: BaseException | None = None


def fail(message: str, code: int, as_json: bool, kind: str = "UsageError") -> int:
    """One line on standard error; the same as an object on standard output for ``--json``. Returns ``code``."""
    line = " ".join(message.split())
    print(f"latq: error: {line}", file=sys.stderr)
    if as_json:
        import json

        try:
            print(json.dumps({"ok": False, "error": {"code": code, "class": kind, "message": line}}), flush=True)
        except OSError:
            forget_standard_output()
    return code


def forget_standard_output() -> None:
    """Nobody reads it, or it is full: keep Python from complaining again when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
