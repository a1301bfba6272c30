"""Outputs of a long product that an interruption does not lose.

Beside the output OUT.npy lies OUT.npy.part, which is written block by block, and a journal, OUT.npy.part.json: what is
multiplied, and a line for each block that is on the disk. When all are, OUT.npy.part becomes OUT.npy.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from latq.errors import InputError, ParameterError
from latq.products.blocks import Block
from latq.products.segment import Pair
from latq.products.tile import Statistics
from latq.sources import TensorSpec, WritableArray, check_output, open_sink, reopen_npy


class FileJournal:
    """The blocks that are finished, as lines of a file; ``outputs`` are brought to the disk before a line is."""

    def __init__(self, file: IO[str], lines: Sequence[str], outputs: Sequence[Path]) -> None:
        self._file, self._outputs = file, outputs
        try:
            found = [json.loads(line) for line in lines]
            self.done = {Block(*block): Statistics(*statistics) for block, statistics in found}
        except (ValueError, TypeError) as error:
            raise InputError(f"{file.name}: is damaged; delete it to begin anew") from error

    def finished(self, block: Block) -> Statistics | None:
        return self.done.get(block)

    def record(self, block: Block, statistics: Statistics) -> None:
        for path in self._outputs:
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        self._file.write(json.dumps([block, statistics]) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def resumable_outputs(
    outputs: Sequence[str], spec: TensorSpec, task: dict[str, Any], *, force: bool, inputs: Sequence[str]
) -> Iterator[tuple[list[WritableArray], FileJournal]]:
    """Arrays to be written, and what is there already; they become the outputs if the block succeeds, and stay for the
    next time if it does not. ``task`` says what is multiplied and how: only the same is carried on."""
    for output in outputs:
        if not output.endswith(".npy"):
            raise ParameterError(f"{output}: --resume writes .npy; name such a file")
        check_output(Path(output), output, force, inputs)
    parts = [Path(output + ".part") for output in outputs]
    path = Path(f"{outputs[0]}.part.json")
    lines = _lines_of(path, task) if all(part.exists() for part in (*parts, path)) else []
    with ExitStack() as stack:
        sinks = [
            stack.enter_context(reopen_npy(part, spec) if lines else open_sink(part, "npy", [spec])) for part in parts
        ]
        journal = stack.enter_context(open(path, "w", encoding="utf-8"))
        journal.writelines(lines or [json.dumps(task) + "\n"])
        journal.flush()
        yield [sink.target(spec.name) for sink in sinks], FileJournal(journal, lines[1:], parts)
    for part, output in zip(parts, outputs, strict=True):
        os.replace(part, output)
    path.unlink()


def task_of(pairs: Sequence[Pair], files: Sequence[str], **options: Any) -> dict[str, Any]:
    """What tells one product from another."""
    identities = [operand.identity.hex() for pair in pairs for operand in pair]
    states = [os.stat(file) for file in files if os.path.exists(file)]
    stamps = [[state.st_size, state.st_mtime_ns] for state in states]
    return {"files": list(files), "stamps": stamps, "identities": identities, "options": options}


def _lines_of(path: Path, task: dict[str, Any]) -> list[str]:
    """The sound lines of a journal; InputError if it belongs to another product."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    # The last one may have been cut off.
    lines = [line for line in lines if line.endswith("\n")]
    if not lines:
        return []
    if lines[0] != json.dumps(task) + "\n":
        raise InputError(f"{path}: an unfinished product of other files or options; finish that, or delete it")
    return lines
