"""latq verify."""

import sys
from dataclasses import asdict
from typing import Any

import click

from latq.cli.common import Console, console_options, input_path
from latq.container import source_at
from latq.errors import CorruptError, LatqError
from latq.pipeline.salvage import Damage, SalvagedFile, damage_of


@click.command("verify")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@console_options
def command(files: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool) -> int:
    """Check every byte of each FILE against its checksum, and say which vectors of which tensors are damaged.

    Exits with 3 if any file is damaged; decode --salvage saves the rest of it.
    """
    console = Console(as_json, quiet, verbose)
    results = [_verify(file, console) for file in files]
    worst = max(results, key=lambda r: int(r["code"]))
    failed = {"error": {key: worst[key] for key in ("code", "class", "message")}} if worst["code"] else {}
    console.result("verify", {"ok": not failed, **failed, "files": results})
    return int(worst["code"])


def _verify(file: str, console: Console) -> dict[str, Any]:
    damaged: list[Damage] = []
    failure: LatqError | None = None
    try:
        with (
            input_path(file) as path,
            SalvagedFile(source_at(path)) as opened,
            console.progress(file, opened.size) as progress,
        ):
            failure = opened.fault
            if failure:
                damaged = list(opened.missing())
            else:
                for record, problem in opened.reader.damage():
                    progress(record.payload_len)
                    if problem is not None:
                        damaged.append(damage_of(opened, record.tensor, record.chunk, problem))
    except LatqError as error:
        failure = error
    messages = ([str(failure)] if failure else []) + [damage.line for damage in damaged]
    for message in messages:
        print(f"latq: error: {message}", file=sys.stderr)
    if not messages:
        console.say(f"{file}: ok")
    kind = type(failure) if failure else CorruptError if damaged else None
    return {
        "file": file,
        "code": kind.exit_code if kind else 0,
        "class": kind.__name__ if kind else None,
        "message": messages[0] if messages else None,
        "damaged": [asdict(damage) for damage in damaged],
    }
