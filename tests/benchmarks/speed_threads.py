"""latq with one thread and with several: arrays in memory through Python, .npy files on the command line."""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from cases import gaussian
from report import interleave, median_ratio, print_machine, print_table, write_csv

import latq

COLUMNS = {
    "through": "s", "verb": "s", "one thread M/s": ".1f", "threads": "d", "M/s": ".1f", "speedup": ".3f",
}  # fmt: skip


def command(*arguments):
    subprocess.run([sys.executable, "-m", "latq", *map(str, arguments), "-f", "-q"], check=True)


def run(options):
    case = gaussian(options.shape)
    print_machine(case.name, f"{options.coding}, axis {options.axis}", f"{options.rounds} rounds")
    x = case.a if options.axis else np.ascontiguousarray(case.a.T)
    settings = {"bits": options.bits, "axis": options.axis, "coding": options.coding}
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    data = latq.encode(x, **settings)
    with tempfile.TemporaryDirectory() as directory:
        plain, coded, back = (Path(directory) / name for name in ("x.npy", "x.latq", "back.npy"))
        np.save(plain, x)
        tasks = {}
        for threads in (1, options.threads):
            many = ["--threads", threads]
            tasks["array", "encode", threads] = partial(latq.encode, x, threads=threads, **settings)
            tasks["array", "decode", threads] = partial(latq.decode, data, threads=threads)
            tasks["command", "encode", threads] = partial(command, "encode", plain, "-o", coded, *flags, *many)
            tasks["command", "decode", threads] = partial(command, "decode", coded, "-o", back, *many)
        seconds = interleave(tasks, options.rounds)
    rows = []
    for through in ("array", "command"):
        for verb in ("encode", "decode"):
            one, many = (seconds[through, verb, threads] for threads in (1, options.threads))
            rates = [x.size / float(np.median(times)) / 1e6 for times in (one, many)]
            row = (through, verb, rates[0], options.threads, rates[1], median_ratio(one, many))
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    print_table(COLUMNS, rows)
    write_csv(options.csv, rows)
