"""Encode and decode speed of every compressor beside its accuracy, in one interleaved run.

bits, D     8 * stored bytes / entries; squared error over energy, of A and B together
lost        bits + log2(D) / 2
e2/G        squared error of the product of the decoded arrays over ||A||^2 ||B||^2 / n and over Gamma(bits)
/SZ3, /IQ4  speed over that of SZ3 NOPRED, of ggml IQ4_XS
Vectors are rows (axis 1), so that latq has nothing to transpose, but for "axis 0". "kernels only" chooses points and
codes them with tables and a step made before, in blocks as they lie: what SZ3 NOPRED does too, without the search for
the rate, rotation, scales, checksums and container of a file.
"""

from fnmatch import fnmatch
from functools import partial

import msgspec
import numpy as np
from cases import gaussian
from report import figure, interleave, median_ratio, print_machine, print_table, write_csv
from rivals import FAMILIES, SLACK, Peer, Unreachable, fit, make_peers

import latq
from latq import kernels
from latq.codecs.quantizer import lanes_for
from latq.container import dump_canonical
from latq.kernels.points import PointStream, shrinkage
from latq.pipeline.decide import EncodeOptions, decide
from latq.pipeline.encode import source_of
from latq.pipeline.tiling import CHUNK_ENTRIES
from latq.theory import bits_lost, product_limit

ENCODE_BASE, DECODE_BASE = "SZ3 NOPRED", "ggml IQ4_XS"
SHOWN = (
    "latq*", "SZ3*", "zfp rate", "blosc2*", "ggml IQ4_XS", "ggml Q4_0", "ggml Q4_K", "ggml Q8_0", "TurboQuant {width}",
    "RaBitQ {width}", "NF4*", "int8*", "float*",
)  # fmt: skip
# faiss decodes the sign bits of RaBitQ only; what stands in for a decoder, to see the accuracy, is not worth timing.
WITHOUT_DECODER = "RaBitQ*"
# The mantissa bits that truncate to about the error of so many bits per entry: blosc2 has no rate to ask for.
MANTISSA_BELOW_RATE = 1.44

COLUMNS = {
    "method": "s", "encode M/s": ".1f", "decode M/s": ".1f", "encode /SZ3": ".3f", "decode /SZ3": ".3f",
    "decode /IQ4": ".3f", "bits": ".4f", "D": ".4e", "lost": ".3f", "e2/G": ".3f",
}  # fmt: skip


def whole_file(options, x):
    def code(level):
        data = latq.encode(x, **options)
        return len(data), lambda: latq.decode(data, threads=options["threads"])

    return code


def transposed_file(options, x):
    """The same vectors as columns of a C-order matrix."""
    columns = np.ascontiguousarray(x.T)

    def code(level):
        data = latq.encode(columns, **options)
        return len(data), lambda: latq.decode(data, threads=options["threads"]).T

    return code


def kernels_only(bits, x):
    """Of a matrix whose entries have about unit variance."""
    source = source_of({"data": x}, axis=1)
    plan = decide(source.tensors[0], source, "data", EncodeOptions(bits=bits, axis=1, rotation="none"), 1).plan
    tables, step = plan.codec.density.tables, np.float32(plan.goals[0].step)
    gain = step * np.float32(0.5) * (1 - shrinkage(step))
    tables_size = len(dump_canonical(msgspec.to_builtins(plan.codec)))
    chunks = [
        part.reshape(-1, kernels.BLOCK) for part in np.split(x.reshape(-1), range(CHUNK_ENTRIES, x.size, CHUNK_ENTRIES))
    ]
    classes = [np.zeros(len(blocks), np.intp) for blocks in chunks]

    def code(level):
        coded = []
        for blocks, index in zip(chunks, classes, strict=True):
            points, _ = kernels.choose_points(blocks.T, index, step, tables)
            coded.append(kernels.encode_points(points, index, tables, lanes_for(len(blocks))))

        def decode():
            out = np.empty(x.shape, np.float32)
            rows = out.reshape(-1, kernels.BLOCK)
            streams = [
                PointStream(*sections, index, lanes_for(len(index)))
                for sections, index in zip(coded, classes, strict=True)
            ]
            for i, points in enumerate(kernels.decode_points(streams, tables)):
                start = i * CHUNK_ENTRIES // kernels.BLOCK
                np.multiply(points.T, gain, out=rows[start : start + points.shape[1]])
            return out

        return sum(len(section) for sections in coded for section in sections) + tables_size, decode

    return code


def own_methods(bits, threads):
    options = {"bits": bits, "threads": threads, "axis": 1}
    yield Peer("latq entropy", {"": partial(whole_file, {**options, "coding": "entropy"})})
    yield Peer("latq entropy", {"axis 0": partial(transposed_file, {**options, "coding": "entropy", "axis": 0})})
    yield Peer("latq entropy", {"unrotated": partial(whole_file, {**options, "coding": "entropy", "rotation": "none"})})
    yield Peer("latq entropy", {"kernels only": partial(kernels_only, bits)})
    yield Peer("latq fixed", {"": partial(whole_file, {**options, "coding": "fixed"})})


def prepared(peers, case, bits, shown):
    """(name, coders of A and B at the level that suits) of every method that is wanted and can do it."""
    for peer in peers:
        for mode, coder in peer.coders.items():
            name = f"{peer.name} {mode}".strip()
            if not any(fnmatch(name, pattern.format(width=round(bits))) for pattern in shown):
                continue
            codes, level = [coder(x) for x in (case.a, case.b)], 0.0
            try:
                if peer.name == "blosc2":
                    level = max(round(bits - MANTISSA_BELOW_RATE), 1)
                elif peer.levels:
                    level, _ = fit(codes[0], case.a.size, peer.levels, bits + SLACK)
            except Unreachable as error:
                print(f"skipped: {name}: {error}")
                continue
            yield name, [partial(code, level) for code in codes]


def accuracy(case, coded):
    """Of (size, decode) of A and B."""
    bits = 8 * sum(size for size, _ in coded) / (case.a.size + case.b.size)
    a, b = (np.asarray(decode(), np.float32) for _, decode in coded)
    distortion = case.distortion(a, b)
    product = case.product_errors(a @ b.T)[0] / product_limit(bits)
    lossy = {"D": distortion, "lost": bits_lost(bits, distortion), "e2/G": product}
    return {"bits": bits, **(lossy if distortion else {"D": 0.0})}


def run(options):
    case = gaussian(options.shape)
    print_machine(case.name, f"{options.rounds} rounds", f"{options.threads} thread(s)")
    peers = list(own_methods(options.bits, options.threads))
    for family in FAMILIES:
        try:
            peers += make_peers(family, options.threads)
        except (ImportError, OSError) as error:
            print(f"skipped: {family}: {error}")
    shown = options.only.split(",") if options.only else SHOWN
    tasks, rows = {}, {}
    for name, encoders in prepared(peers, case, options.bits, shown):
        coded = [encode() for encode in encoders]
        rows[name] = {"method": name, **accuracy(case, coded)}
        tasks[name, "encode"] = encoders[0]
        if not fnmatch(name, WITHOUT_DECODER):
            tasks[name, "decode"] = coded[0][1]
    seconds = interleave(tasks, options.rounds)
    for (name, verb), times in seconds.items():
        rows[name][f"{verb} M/s"] = case.a.size / np.median(times) / 1e6
        rows[name][f"{verb} spread"] = float(np.subtract(*np.percentile(times, (75, 25))) / np.median(times))
        for base, label in ((ENCODE_BASE, "SZ3"), (DECODE_BASE, "IQ4")):
            if (base, verb) in seconds:
                rows[name][f"{verb} /{label}"] = median_ratio(seconds[base, verb], times)
    print_table(COLUMNS, rows.values())
    write_csv(options.csv, list(rows.values()))
    if options.plot:
        draw(options.plot, list(rows.values()), f"{case.name}, {options.threads} thread(s)")


def draw(path, rows, title):
    with figure(path) as drawing:
        drawing.suptitle(f"{title}: up is faster, left is more accurate per bit")
        for axes, verb in zip(drawing.subplots(1, 2), ("encode", "decode"), strict=True):
            for row in rows:
                if "lost" in row and f"{verb} M/s" in row:
                    colour = "C3" if row["method"].startswith("latq") else "C0"
                    at = row["lost"], row[f"{verb} M/s"]
                    axes.plot(*at, "o", color=colour)
                    axes.annotate(row["method"], at, (5, 3), textcoords="offset points", fontsize=8, color=colour)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("bits lost: bits per entry + log2(D) / 2")
            axes.set_ylabel(f"{verb}, million entries per second")
            axes.margins(x=0.15)
            axes.grid(alpha=0.3)
