"""Products of two compressed files beside those of plain ones; all are read anew each time.

square      4096 x 4096 by 4096 x 4096: the arithmetic takes longest
skinny      4096 x 65536 by 4096 x 8: reading does
gram        2000 of 100,000 vectors of 50 entries by all of them: writing does
/NumPy      seconds over those of np.load and @, round by round, with as many threads; a command, which also writes its
            result, over Python that loads, multiplies and saves
error       relative, in the Frobenius norm
blosc2 has arrays as its product wants them; it is left out of "gram", which takes it the better part of a minute. ggml
has vectors of both sides in one of its types, in whole blocks; B is decoded to float32, and ggml makes 8 bits of it
again.
"""

import importlib
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from cases import energy
from report import interleave, median_ratio, print_machine, print_table, write_csv
from rivals import ggml_product, load_ggml, load_ggml_products
from speed_peers import MANTISSA_BELOW_RATE

import latq
from latq.api import operand_of
from latq.products.estimator import multiply
from latq.products.parts import Part

COLUMNS = {"product": "s", "method": "s", "seconds": ".4f", "/NumPy": ".3f", "error": ".2e"}
SLOW = 50  # times as long as NumPy: run once only
BASE, COMMAND_BASE = "NumPy", "NumPy command"
PLAIN = "import sys, numpy as np; a, b, c = sys.argv[1:]; np.save(c, np.load(a).T @ np.load(b))"


@dataclass(frozen=True)
class Task:
    """A^T B, A of (n, m_a) and B of (n, m_b), from files in a directory. Of a ``gram`` matrix there is one file, of
    vectors as rows; A has the first of them."""

    name: str
    n: int
    m_a: int
    m_b: int
    gram: bool = False
    directory: Path = Path()

    def file(self, side, kind):
        return self.directory / f"{'b' if self.gram else side}.{kind}"

    def make(self):
        for side, m in (("b", self.m_b),) if self.gram else (("a", self.m_a), ("b", self.m_b)):
            shape = (m, self.n) if self.gram else (self.n, m)
            np.save(self.file(side, "npy"), np.random.default_rng(ord(side)).standard_normal(shape, np.float32))

    def vectors(self, side):
        """(m, n), of one side."""
        x = np.load(self.file(side, "npy"), mmap_mode="r")
        return x[: self.m_a if side == "a" else None] if self.gram else x.T

    def error(self, product):
        """Relative."""
        a, b = map(self.vectors, "ab")
        squares = np.zeros(2)
        for first in range(0, self.m_a, 1 << 10):
            exact = a[first : first + (1 << 10)].astype(np.float64) @ b.T.astype(np.float64)
            squares += energy(exact - product[first : first + (1 << 10)]), energy(exact)
        return math.sqrt(squares[0] / squares[1])


TASKS = Task("square", 4096, 4096, 4096), Task("skinny", 4096, 65536, 8), Task("gram", 50, 2000, 100_000, gram=True)


# --- methods: functions that are timed, and give the product


def plain(task):
    x, y = (np.load(task.file(side, "npy")) for side in ("bb" if task.gram else "ab"))
    return x[: task.m_a] @ y.T if task.gram else x.T @ y


def estimated(task, coding, threads):
    a, b = (task.file(side, f"{coding}.latq") for side in "ab")
    if not task.gram:
        return latq.product(a, b, threads=threads)
    whole, out = operand_of(b), np.empty((task.m_a, task.m_b), np.float32)
    multiply([(Part(whole, 0, task.m_a), whole)], out, threads=threads)
    return out


def command(task, *arguments):
    subprocess.run([sys.executable, *map(str, arguments)], check=True)
    return np.load(task.directory / "c.npy", mmap_mode="r")


def own_methods(task, bits, threads):
    for coding in ("entropy", "fixed"):
        paths = [task.file(side, f"{coding}.latq") for side in "ab"]
        for side, path in zip("ab", paths, strict=True):
            if not path.exists():
                x, axis = np.load(task.file(side, "npy"), mmap_mode="r"), int(task.gram)
                path.write_bytes(latq.encode(x, bits=bits, coding=coding, axis=axis, threads=threads))
        yield f"latq {coding}", partial(estimated, task, coding, threads)
        if task.name == "square":
            flags = ["-o", task.directory / "c.npy", "--threads", threads, "-f", "-q"]
            yield f"latq {coding} command", partial(command, task, "-m", "latq", "product", *paths, *flags)


def blosc2_methods(task, bits, threads):
    library = importlib.import_module("blosc2")
    if task.gram:
        return
    library.set_nthreads(threads)
    mantissa = max(round(bits - MANTISSA_BELOW_RATE), 1)
    lossy = {"codec": library.Codec.ZSTD, "filters_meta": [mantissa, 0]}
    lossy["filters"] = [library.Filter.TRUNC_PREC, library.Filter.BITSHUFFLE]
    for name, parameters in (("default", {}), (f"{mantissa} bits of mantissa", lossy)):
        paths = [str(task.directory / f"{side} {name}.b2nd") for side in "ab"]
        for path, x in zip(paths, (task.vectors("a"), task.vectors("b").T), strict=True):
            library.asarray(np.ascontiguousarray(x), urlpath=path, mode="w", cparams=parameters)
        yield f"blosc2 {name}", partial(blosc2_product, library, paths)


def blosc2_product(library, paths):
    return library.matmul(*map(library.open, paths))[:]


def ggml_methods(task, threads):
    ggml, types = load_ggml()
    multiplier = load_ggml_products()
    for label in ("Q4_0", "Q4_K"):
        number, traits = types[label]
        if task.n % traits.block:
            continue
        paths = [task.directory / f"{side}.{label}" for side in "ab"]
        for path, x in zip(paths, map(np.ascontiguousarray, map(task.vectors, "ab")), strict=True):
            data = np.empty(x.size // traits.block * traits.size, np.uint8)
            ggml.ggml_quantize_chunk(number, x.ctypes.data, data.ctypes.data, 0, *x.shape, None)
            data.tofile(path)

        def product(number=number, traits=traits, paths=paths):
            codes, b = np.fromfile(paths[1], np.uint8), np.empty((task.m_b, task.n), np.float32)
            traits.to_float(codes.ctypes.data, b.ctypes.data, b.size)
            return ggml_product(multiplier, number, paths[0], task.m_a, b, threads).T

        yield f"ggml {label}", product


def methods(task, bits, threads):
    yield BASE, partial(plain, task)
    if task.name == "square":
        files = [task.directory / name for name in ("a.npy", "b.npy", "c.npy")]
        yield COMMAND_BASE, partial(command, task, "-c", PLAIN, *files)
    yield from own_methods(task, bits, threads)
    for family in (partial(blosc2_methods, task, bits, threads), partial(ggml_methods, task, threads)):
        try:
            yield from family()
        except (ImportError, OSError) as error:
            print(f"skipped: {error}")


def run(options):
    print_machine(f"{options.bits:g} bits", f"{options.rounds} rounds", f"{options.threads} thread(s)")
    rows = []
    for task in TASKS:
        if task.name in options.only.split(","):
            with tempfile.TemporaryDirectory(dir=options.work) as directory:
                rows += measured(replace(task, directory=Path(directory)), options)
    print_table(COLUMNS, rows)
    write_csv(options.csv, rows)


def measured(task, options):
    task.make()
    tasks = dict(methods(task, options.bits, options.threads))
    errors, slow = {}, {}
    for name, work in tasks.items():
        started = time.perf_counter()
        product = work()
        slow[name] = np.array([time.perf_counter() - started])
        errors[name] = task.error(product)
    quick = {name: work for name, work in tasks.items() if slow[name] < SLOW * slow[BASE]}
    seconds = slow | interleave(quick, options.rounds)
    for name, times in seconds.items():
        base = seconds[COMMAND_BASE if name.endswith("command") else BASE]
        row = (task.name, name, float(np.median(times)), median_ratio(times, base), errors[name])
        yield dict(zip(COLUMNS, row, strict=True))
