"""Where encoding and decoding a file spend their time, against the bandwidth of the memory measured in the same run.

ns       per entry, of a stage with its kernels, or of one kernel of it; medians over the rounds
share    of the whole
bytes    per entry, of the arrays that come in and go out: what has to be moved at least
GB/s     those bytes over that time
of copy  that over the bandwidth of copying an array much larger than the caches
Files are read from and written to the page cache, and a decoded one is flushed to the disk, as by the command. What
lies in one chunk may stay in the processor's cache.
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from cases import gaussian
from report import figure, print_machine, print_table, write_csv
from tracing import Part, Stage, present, traced

import latq
from latq import kernels
from latq.pipeline.decide import EncodeOptions
from latq.pipeline.encode import encode_source
from latq.sources import TensorSpec, open_sink, open_source

LARGE, CHUNK = 1 << 26, 1 << 20  # entries of the arrays that are copied


def twice_result(arguments, result):
    return 2 * result.nbytes


def nothing(arguments, result):
    return 0


def twice_last(arguments, result):
    return 2 * memoryview(arguments[-1]).nbytes


ENCODE = [
    Stage("decide: scan", "latq.pipeline.decide:scan", closed=True),
    Stage("decide: sample, step, density", "latq.pipeline.decide:decide", closed=True),
    Stage("read", "latq.sources.matrix:MatrixView.read", moved=twice_result),
    Stage("normalize", "latq.transforms.scaling:normalize"),
    Stage("rotate", "latq.transforms.rotation:rotate"),
    Stage("choose points", "latq.codecs.quantizer:within_budget"),
    Stage("code points", "latq.codecs.e8_entropy:E8Points.encode"),
    Stage("points to integers", "latq.codecs.quantizer:integers_of"),
    Stage("fixed coding", "latq.codecs.e8:encode"),
    Stage("fit scales", "latq.transforms.scaling:fit"),
    Stage("chunk: the rest", "latq.pipeline.chunk:encode_chunk"),
    Stage("checksum", "latq.container.records:crc32c"),
    Stage("write", "latq.container.writer:ContainerWriter._write", moved=twice_last),
]
DECODE = [
    Stage("read", "latq.container.source:FileSource.read"),
    Stage("checksum", "latq.container.records:crc32c"),
    Stage("decode points", "latq.codecs.quantizer:Quantizer.decode"),
    Stage("points to integers", "latq.codecs.quantizer:integers_of", moved=nothing),
    Stage("fixed coding", "latq.codecs.e8:decode"),
    Stage("chunk: the rest", "latq.pipeline.chunk:decode_chunks"),
    Stage("unrotate", "latq.transforms.rotation:unrotate"),
    Stage("reconstruct", "latq.pipeline.chunk:reconstruct"),
    Stage("create the output", "latq.sources:open_sink"),
    Stage("write", "latq.sources.matrix:MatrixView.write", moved=twice_last),
    Stage("flush to the disk", "latq.sources.base:_Closing.close"),
]
COLUMNS = {
    "verb": "s", "stage": "s", "kernel": "s", "calls": "d", "ns": ".3f", "share": ".1%", "bytes": ".2f", "GB/s": ".1f",
    "of copy": ".2f",
}  # fmt: skip


class Bandwidth:
    """GB/s of NumPy: a large copy, a large sum of two arrays, and a copy of the size of a chunk."""

    def __init__(self):
        large = [np.ones(LARGE, np.float32) for _ in range(3)]
        small = [np.ones(CHUNK, np.float32) for _ in range(2)]
        self.tasks = {
            "copy": (lambda: np.copyto(large[0], large[1]), 8 * LARGE),
            "sum": (lambda: np.add(large[1], large[2], out=large[0]), 12 * LARGE),
            "copy of a chunk": (lambda: np.copyto(small[0], small[1]), 8 * CHUNK),
        }
        self.found = defaultdict(list)

    def measure(self):
        for name, (task, moved) in self.tasks.items():
            started = time.perf_counter()
            task()
            self.found[name].append(moved / (time.perf_counter() - started) / 1e9)

    def medians(self):
        return {name: float(np.median(rates)) for name, rates in self.found.items()}


def encode(plain, coded, options):
    parameters = EncodeOptions(bits=options.bits, coding=options.coding, axis=options.axis)
    with open_source(str(plain)) as source, open(coded, "wb") as stream:
        encode_source(source, str(plain), stream, parameters)


def decode(coded, back):
    with latq.open(coded) as file:
        tensor = file.only()
        with open_sink(back, "npy", [TensorSpec(tensor.name, tensor.shape, tensor.entry.dtype)]) as sink:
            tensor.decode_into(sink.target(tensor.name))


def profile(work, stages):
    """Seconds in all, and parts, of one run."""
    with traced(stages, kernels) as trace:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started, trace.parts


def table(verb, stages, runs, entries, copy):
    """A row per stage, and below it one per kernel, of several (seconds, parts)."""
    whole = float(np.median([seconds for seconds, _ in runs]))

    def row(stage, kernel, keys):
        found = [[parts.get(key, Part()) for key in keys] for _, parts in runs]
        seconds = float(np.median([sum(part.seconds for part in parts) for parts in found]))
        own = found[0][0] if kernel or found[0][0].bytes else Part()
        numbers = {"calls": found[0][0].calls, "ns": 1e9 * seconds / entries, "share": seconds / whole}
        if own.bytes and seconds:
            rate = own.bytes / seconds / 1e9
            numbers |= {"bytes": own.bytes / entries, "GB/s": rate, "of copy": rate / copy}
        return {"verb": verb, "stage": stage, "kernel": kernel, **numbers}

    rows, keys = [], runs[0][1].keys()
    called = {stage for stage, _ in keys}
    for stage in [*(s.label for s in stages if s.label in called), *called - {s.label for s in stages}]:
        inside = [(stage, kernel) for of, kernel in keys if of == stage and kernel]
        rows.append(row(stage, "", [(stage, ""), *inside]))
        rows += [row(stage, kernel, [(stage, kernel)]) for _, kernel in inside]
    listed = sum(r["ns"] for r in rows if not r["kernel"])
    rest = 1e9 * whole / entries - listed
    rows.append(
        {"verb": verb, "stage": "not in any stage", "kernel": "", "ns": rest, "share": rest * entries / 1e9 / whole}
    )
    return [*rows, {"verb": verb, "stage": "all", "kernel": "", "ns": 1e9 * whole / entries, "share": 1.0}]


def run(options):
    case = gaussian(options.shape)
    print_machine(case.name, f"{options.coding}, axis {options.axis}", f"{options.rounds} rounds, one thread")
    stages, bandwidth = {"encode": present(ENCODE), "decode": present(DECODE)}, Bandwidth()
    runs = {verb: [] for verb in stages}
    with tempfile.TemporaryDirectory() as directory:
        plain, coded, back = (Path(directory) / name for name in ("x.npy", "x.latq", "back.npy"))
        np.save(plain, case.a if options.axis else np.ascontiguousarray(case.a.T))
        for number in range(options.rounds + 1):  # The first one warms up.
            for path in (coded, back):
                path.unlink(missing_ok=True)
            found = {
                "encode": profile(lambda: encode(plain, coded, options), stages["encode"]),
                "decode": profile(lambda: decode(coded, back), stages["decode"]),
            }
            bandwidth.measure()
            if number:
                for verb, outcome in found.items():
                    runs[verb].append(outcome)
    rates = bandwidth.medians()
    print("bandwidth:", ", ".join(f"{name} {rate:.1f} GB/s" for name, rate in rates.items()))
    rows = [row for verb in runs for row in table(verb, stages[verb], runs[verb], case.a.size, rates["copy"])]
    print_table(COLUMNS, rows)
    write_csv(options.csv, [*rows, *({"verb": "bandwidth", "stage": n, "GB/s": rate} for n, rate in rates.items())])
    if options.plot:
        draw(options.plot, rows, f"{case.name}, {options.coding}, axis {options.axis}")


def draw(path, rows, title):
    with figure(path) as drawing:
        drawing.suptitle(f"{title}, one thread")
        for axes, verb in zip(drawing.subplots(1, 2), ("encode", "decode"), strict=True):
            shown = [row for row in rows if row["verb"] == verb and not row["kernel"] and row["stage"] != "all"][::-1]
            bars = axes.barh([row["stage"] for row in shown], [row["ns"] for row in shown], color="C0")
            labels = [f"{row['of copy']:.0%} of copy" if "of copy" in row else "" for row in shown]
            axes.bar_label(bars, labels, padding=3, fontsize=8)
            axes.set_xlabel(f"{verb}, ns per entry")
            axes.margins(x=0.25)
            axes.grid(axis="x", alpha=0.3)
