"""How soon the command answers, beside the interpreter alone and with what any such command has to import."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from report import interleave, median_ratio, print_machine, print_table, write_csv

import latq
from latq.container import ContainerWriter
from latq.pipeline.metadata import Metadata, RawCodec, TensorEntry

# About the chunks of a file at 4 bits per entry: 1 M entries each.
CHUNK_BYTES = 1 << 19
COLUMNS = {"command": "s", "ms": ".1f", "fastest ms": ".1f", "/ interpreter": ".3f", "/ numpy, click": ".3f"}


class Sparse:
    """A stream that skips what is all zero, so that a large file of zeros takes no time and no space."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        if len(data) == CHUNK_BYTES and data.count(0) == CHUNK_BYTES:
            self.file.seek(CHUNK_BYTES, 1)
        else:
            self.file.write(data)


def large_file(path, gigabytes):
    """A valid file of zeros, kept lossless, with as many chunks as a compressed one of that size."""
    chunks, entries = max(round(gigabytes * 1e9 / CHUNK_BYTES), 1), CHUNK_BYTES // 4
    codec, zeros = RawCodec("stored", entries), bytes(CHUNK_BYTES)
    with open(path, "wb") as file:
        writer = ContainerWriter(Sparse(file))
        for chunk in range(chunks):
            writer.add_chunk(zeros, tensor=0, chunk=chunk, vectors=entries, codec=codec.id)
        writer.finish(Metadata("npy", {}, [codec], [TensorEntry("data", (chunks * entries,), "float32", 0)]).dump())


def call(*arguments):
    subprocess.run([sys.executable, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def run(options):
    print_machine(f"{options.rounds} rounds")
    with tempfile.TemporaryDirectory() as directory:
        small, big = Path(directory) / "small.latq", Path(directory) / "big.latq"
        latq.save(small, np.random.default_rng(1).standard_normal((256, 64), np.float32))
        calls = {
            "python -c pass": ["-c", "pass"],
            "import numpy, click": ["-c", "import numpy, click"],
            "latq --version": ["-m", "latq", "--version"],
            "latq info, small file": ["-m", "latq", "info", small],
        }
        if options.big:
            large_file(big, options.big)
            calls[f"latq info, {big.stat().st_size / 1e9:.1f} GB"] = ["-m", "latq", "info", big]
        seconds = interleave({name: partial(call, *arguments) for name, arguments in calls.items()}, options.rounds)
    alone, least = seconds["python -c pass"], seconds["import numpy, click"]
    rows = []
    for name, times in seconds.items():
        row = (name, 1e3 * np.median(times), 1e3 * times.min(), median_ratio(times, alone), median_ratio(times, least))
        rows.append(dict(zip(COLUMNS, row, strict=True)))
    print_table(COLUMNS, rows)
    write_csv(options.csv, rows)
