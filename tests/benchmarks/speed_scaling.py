"""Time per entry and peak memory of the command for matrices of 1 M to 4 G entries on disk.

Each run is a process of its own, observed from outside. Columns, beside the entries and the verb:
seconds, ns      wall clock, also per entry; the start of the interpreter, syncing the output to the disk included
cpu s            of all its threads, in the program and in the system
memory MB        peak of what the process has allocated (RssAnon)
resident MB      peak of all its pages (VmHWM): with those of mapped files, which the system may take back at any time
beyond MB        memory beyond that of an interpreter with NumPy and click
The product is with 64 vectors, A^T B of m x 64. Sizes that the disk has no room for are left out.
"""

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import figure, print_machine, print_table, write_csv

POLL = 0.01  # seconds
WRITTEN_AT_ONCE = 1 << 24  # entries
NARROW = 64  # vectors of the other factor
STEP = 4
COLUMNS = {
    "entries": ",d", "verb": "s", "seconds": ".2f", "ns": ".2f", "cpu s": ".2f", "memory MB": ".0f", "beyond MB": ".0f",
    "resident MB": ".0f",
}  # fmt: skip
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def entries_of(text):
    """Of a number with a unit: 16M is 16 * 2^20."""
    return int(float(text[:-1]) * UNITS[text[-1]]) if text[-1] in UNITS else int(text)


def observed(*arguments):
    """Wall and CPU seconds of a Python process and, in MB, the peaks of what it has allocated and of all its pages."""
    peaks = {"RssAnon": 0, "VmHWM": 0}
    started, used = time.perf_counter(), cpu_of_children()
    with subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for name, kilobytes in status(process.pid):
                if name in peaks:
                    peaks[name] = max(peaks[name], kilobytes)
            time.sleep(POLL)
        elapsed = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit code {process.returncode}")
    return elapsed, cpu_of_children() - used, peaks["RssAnon"] / 1e3, peaks["VmHWM"] / 1e3


def cpu_of_children():
    """Seconds of all that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def status(pid):
    """The lines of /proc/PID/status that are sizes; none when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return [(line.split(":")[0], int(line.split()[1])) for line in lines if line.endswith("kB")]


def write_matrix(path, rows, columns, seed):
    """Standard normal entries, a part at a time."""
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)})
        for start in range(0, rows * columns, WRITTEN_AT_ONCE):
            file.write(rng.standard_normal(min(WRITTEN_AT_ONCE, rows * columns - start), np.float32).tobytes())


def shape_of(length, vectors, axis):
    return (vectors, length) if axis else (length, vectors)


def measure(entries, work, options, narrow):
    """(verb, figures) of one size."""
    plain, coded, back, out = (work / name for name in ("x.npy", "x.latq", "back.npy", "product.npy"))
    write_matrix(plain, *shape_of(options.rows, entries // options.rows, options.axis), seed=entries)
    settings = ["--bits", options.bits, "--coding", options.coding, "--axis", options.axis]
    yield "encode", observed("-m", "latq", "encode", plain, "-o", coded, "-q", *settings)
    plain.unlink()
    yield "info", observed("-m", "latq", "info", coded)
    yield "product", observed("-m", "latq", "product", coded, narrow, "-o", out, "-q")
    out.unlink()
    yield "decode", observed("-m", "latq", "decode", coded, "-o", back, "-q")
    for path in (coded, back):
        path.unlink()


def run(options):
    least, most = entries_of(options.least), entries_of(options.most)
    print_machine(f"{options.rows} entries per vector", f"{options.coding}, {options.bits:g} bits, axis {options.axis}")
    with tempfile.TemporaryDirectory(dir=options.work) as directory:
        work = Path(directory)
        plain, narrow = work / "narrow.npy", work / "narrow.latq"
        write_matrix(plain, *shape_of(options.rows, NARROW, options.axis), seed=0)
        observed("-m", "latq", "encode", plain, "-o", narrow, "-q", "--axis", options.axis)
        # Long enough that its peak is seen.
        *_, floor, pages = observed("-c", f"import numpy, click, time; time.sleep({10 * POLL})")
        print(f"an interpreter with NumPy and click: memory {floor:.0f} MB, resident {pages:.0f} MB")
        rows = []
        while least <= most:
            # The matrix and its codes, then the codes and the decoded matrix; some to spare.
            needed, free = least * (4.1 + options.bits / 8) + (1 << 28), shutil.disk_usage(work).free
            if needed > free:
                print(f"left out: {least:,} entries need {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free")
                break
            for verb, (seconds, cpu, memory, resident) in measure(least, work, options, narrow):
                row = (least, verb, seconds, 1e9 * seconds / least, cpu, memory, memory - floor, resident)
                rows.append(dict(zip(COLUMNS, row, strict=True)))
                print(f"{least:14,d} {verb:8s} {seconds:9.2f} s {memory:8.0f} MB", flush=True)
                write_csv(options.csv, rows)  # Whatever comes of the larger ones.
            least *= STEP
    print_table(COLUMNS, rows)
    if options.plot and rows:
        draw(options.plot, rows)


def draw(path, rows):
    with figure(path) as drawing:
        times, memory = drawing.subplots(1, 2)
        for verb in dict.fromkeys(row["verb"] for row in rows):
            mine = [row for row in rows if row["verb"] == verb]
            sizes = [row["entries"] for row in mine]
            times.plot(sizes, [row["ns"] for row in mine], "o-", label=verb)
            (line,) = memory.plot(sizes, [row["memory MB"] for row in mine], "o-", label=verb)
            memory.plot(sizes, [row["resident MB"] for row in mine], ":", color=line.get_color())
        times.set_ylabel("ns per entry, with the start of the command")
        memory.set_ylabel("peak MB: allocated (solid), with mapped files (dotted)")
        for axes in (times, memory):
            axes.set(xscale="log", yscale="log", xlabel="entries")
            axes.grid(alpha=0.3)
            axes.legend()
