"""latq verify."""

import sys
from typing import Any

import click

from latq.cli.common import Console, console_options, input_path, open_file
from latq.errors import CorruptError, LatqError
from latq.pipeline.decode import File


@click.command("verify")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@console_options
def command(files: tuple[str, ...], as_json: bool, quiet: bool, verbose: bool) -> int:
    """Check every byte of each FILE against its checksum, and name the chunks that are damaged.

    Exits with 3 if any file is damaged.
    """
    console = Console(as_json, quiet, verbose)
    results = [_verify(file, console) for file in files]
    worst = max(results, key=lambda r: int(r["code"]))
    failed = {"error": {key: worst[key] for key in ("code", "class", "message")}} if worst["code"] else {}
    console.result("verify", {"ok": not failed, **failed, "files": results})
    return int(worst["code"])


def _verify(file: str, console: Console) -> dict[str, Any]:
    damaged: list[dict[str, Any]] = []
    failure: LatqError | None = None
    try:
        with input_path(file) as path, open_file(path) as opened, console.progress(file, opened.size) as progress:
            for record, problem in opened.reader.damage():
                progress(record.payload_len)
                if problem is not None:
                    damaged.append(_place(opened, record.tensor, record.chunk, problem))
    except LatqError as error:
        failure = error
    messages = [place["message"] for place in damaged] + ([str(failure)] if failure else [])
    for message in messages:
        print(f"latq: error: {message}", file=sys.stderr)
    if not messages:
        console.say(f"{file}: ok")
    kind = CorruptError if damaged else type(failure)
    return {
        "file": file,
        "code": kind.exit_code if issubclass(kind, LatqError) else 0,
        "class": kind.__name__ if messages else None,
        "message": messages[0] if messages else None,
        "damaged": damaged,
    }


def _place(file: File, number: int, chunk: int, problem: str) -> dict[str, Any]:
    """Which part of which tensor a damaged chunk holds."""
    entry = file.metadata.tensors[number]
    return {"tensor": entry.name, "chunk": chunk, "message": f"{problem} (tensor {entry.name!r})"}
