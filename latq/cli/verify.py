"""latq verify."""

import sys
from typing import Any

import click

from latq import api
from latq.cli.common import Console, console_options, input_path
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
    codes: list[int] = [r["code"] for r in results]
    console.result("verify", {"ok": not any(codes), "files": results})
    return max(codes)


def _verify(file: str, console: Console) -> dict[str, Any]:
    damaged: list[dict[str, Any]] = []
    error, code = None, 0
    try:
        with input_path(file) as path, api.open(path) as opened, console.progress(file, opened.size) as progress:
            for record, problem in opened.reader.damage():
                progress(record.payload_len)
                if problem is not None:
                    damaged.append(_place(opened, record.tensor, record.chunk, problem))
    except LatqError as failure:
        error, code = str(failure), failure.exit_code
    for place in damaged:
        print(f"latq: error: {place['message']}", file=sys.stderr)
    if error is not None:
        print(f"latq: error: {error}", file=sys.stderr)
    if damaged:
        code = CorruptError.exit_code
    if code == 0:
        console.say(f"{file}: ok")
    return {"file": file, "code": code, "error": error, "damaged": damaged}


def _place(file: File, number: int, chunk: int, problem: str) -> dict[str, Any]:
    """Which part of which tensor a damaged chunk holds."""
    entry = file.metadata.tensors[number]
    return {"tensor": entry.name, "chunk": chunk, "message": f"{problem} (tensor {entry.name!r})"}
