"""Rate and accuracy of the installed ``latq`` command at real file bytes.

usage: python tests/benchmarks/accuracy.py gaussian                N(0,1) 4096 x 1024, and the product of two such files
       python tests/benchmarks/accuracy.py files FILE...           each file: rate, D, bits lost, seconds
       python tests/benchmarks/accuracy.py codecs FILE...          each matrix: bits lost by e8 and by trellis
       python tests/benchmarks/accuracy.py pairs pairs.h5          X (tokens x in) times W (in x out) for every layer
       python tests/benchmarks/accuracy.py requests                30 random shapes, 5 dtypes: asked for and achieved
options: --bits 2.25,3.25,4.25   --axis K   --coding fixed|entropy   --codec e8|trellis   --effort E
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np

import latq as library
from latq.codecs.trellis import TRELLISES
from latq.pipeline.describe import accuracy_of
from latq.sources import open_source
from latq.theory import bits_lost, product_limit


def latq(*arguments):
    """The JSON result of one call of the command."""
    done = subprocess.run(["latq", *map(str, arguments), "--json"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def energy(x):
    wide = x.astype(np.float64).reshape(-1)
    return float(wide @ wide)


def round_trip(path, bits, options, work):
    """Encode, decode, and compare every float tensor with the original."""
    coded, back = work / "coded.latq", work / ("back" + Path(path).suffix)
    encoded = latq("encode", path, "-o", coded, "-f", "--bits", bits, *options)
    latq("decode", coded, "-o", back, "-f")
    error = signal = 0.0
    entries = size = 0
    with open_source(path) as original, open_source(back) as decoded:
        for report, x, y in zip(encoded["tensors"], original.tensors, decoded.tensors, strict=True):
            whole = tuple(slice(0, s) for s in x.shape)
            assert (x.name, x.shape, x.dtype) == (y.name, y.shape, y.dtype)
            if report["error"] is None:
                assert x.read(whole).tobytes() == y.read(whole).tobytes()
                continue
            a = x.read(whole)
            error += energy(a.astype(np.float64) - y.read(whole).astype(np.float64))
            signal += energy(a)
            entries += report["entries"]
            size += report["bytes"]
    rate = 8 * (encoded["bytes"] if len(encoded["tensors"]) == 1 else size) / entries
    distortion = error / signal
    overall = 8 * encoded["bytes"] / sum(t["entries"] for t in encoded["tensors"])
    print(
        f"{Path(path).name:36s} {bits:5.2f} {rate:8.4f} {distortion:11.4e} {bits_lost(rate, distortion):7.4f}"
        f" {overall:8.4f} {encoded['seconds']:7.1f}",
        flush=True,
    )


def multiply(a, b, bits, options, work, label):
    """Product of two .npy files against the exact one."""
    for name, path in (("a", a), ("b", b)):
        latq("encode", path, "-o", work / f"{name}.latq", "-f", "--bits", bits, *options)
    x, y = np.load(a).astype(np.float64), np.load(b).astype(np.float64)
    truth = x.T @ y
    scale = energy(x) * energy(y) / len(x)
    promised = latq("info", work / "a.latq")["tensors"][0]["accuracy"]["product_error"]
    for estimate in ("unbiased", "shrunk"):
        report = latq("product", work / "a.latq", work / "b.latq", "-o", work / "c.npy", "-f", "--estimate", estimate)
        error = energy(np.load(work / "c.npy") - truth)
        limit = product_limit((report["bits_a"] + report["bits_b"]) / 2)
        print(
            f"{label:44s} {bits:5.2f} {estimate:9s} e^2 {error / scale:10.4e} /Gamma {error / scale / limit:7.3f}"
            f" measured/predicted {(error**0.5) / report['predicted_error']:7.4f}"
            f" e^2/info {error / scale / promised:7.4f} relative {(error / energy(truth)) ** 0.5:8.5f}",
            flush=True,
        )


def requests():
    """Rates and errors asked for, and what came of them, for random shapes and values of every dtype."""
    rng = np.random.default_rng(0)
    dtypes = [np.dtype(t) for t in ("f4", "f8", "f2", ml_dtypes.bfloat16, ">f4")]
    worst_rate = worst_error = 0.0
    for i in range(30):
        n = round(2 ** rng.uniform(4, 16.6))
        m = -(-(1 << 20) // n) + int(rng.integers(0, 50))
        x = (rng.standard_normal((n, m)) * np.exp(rng.normal(0, 0.3, m)) + rng.choice([0, 1])).astype(dtypes[i % 5])
        bits, error = 2 ** rng.uniform(-2, 3.58), 2 ** rng.uniform(-8, -1)
        wide = x.astype(np.float64)
        rate = 8 * len(library.encode(x, bits, coding="entropy")) / x.size
        data = library.encode(x, error=error)
        reached = (energy(wide - library.decode(data).astype(np.float64)) / energy(wide)) ** 0.5
        worst_rate = max(worst_rate, bits - rate, 1e9 * (rate - bits))
        worst_error = max(worst_error, 1 - reached / error, 1e9 * (reached - error))
        print(
            f"{n:7d} x {m:<7d} {x.dtype!s:9s} bits {bits:7.4f} -> {rate:7.4f} ({rate - bits:+.4f})   "
            f"error {error:.5f} -> {reached:.5f} ({reached / error - 1:+.2%}) at {8 * len(data) / x.size:.3f} bits",
            flush=True,
        )
    print(f"farthest below the rate {worst_rate:.4f} bits, below the error {worst_error:.2%}")


def codecs(paths, rates, axis, named):
    """Bits lost by e8 at the real bytes of a file with one matrix, and how many more trellis loses at every effort; e8
    beside that is what trellis gave way to."""
    print(f"{'matrix':56s} {'shape':>14s}  bits      e8" + "".join(f"{effort:>13s}" for effort in TRELLISES))
    for path in paths:
        with open_source(path) as source:
            for tensor in source.tensors:
                if len(tensor.shape) < 2 or named not in tensor.name:
                    continue
                x = tensor.read(tuple(slice(0, s) for s in tensor.shape))
                own = source.default_axis if axis is None else axis
                for bits in rates:
                    lost, _ = lost_by(x, bits, own, "e8", "default")
                    found = [lost_by(x, bits, own, "trellis", effort) for effort in TRELLISES]
                    print(
                        f"{f'{Path(path).stem} {tensor.name}'[-56:]:56s} {'x'.join(map(str, x.shape)):>14s} {bits:5.2f}"
                        + f" {lost:7.4f}"
                        + "".join(f"{more - lost:+10.4f} {'e8' if codec == 'e8' else '  '}" for more, codec in found)
                        + " worse" * any(more > lost + 0.001 for more, _ in found),
                        flush=True,
                    )


def lost_by(x, bits, axis, codec, effort):
    """Bits lost by a matrix, none if it is kept lossless, and the codec that it was given."""
    data = library.encode(x, bits, axis=axis, codec=codec, coding="entropy", effort=effort)
    with library.open(data) as file:
        tensor = file.only()
        accuracy = accuracy_of(tensor)
        return bits_lost(8 * len(data) / x.size, accuracy.decode_error) if accuracy else 0.0, tensor.codec.codec


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gaussian", "files", "codecs", "pairs", "requests"))
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--bits", default="2.25,3.25,4.25")
    parser.add_argument("--axis", type=int)
    parser.add_argument("--coding", default="fixed")
    parser.add_argument("--codec", default="e8")
    parser.add_argument("--effort", default="default")
    parser.add_argument("--named", default="", help="of codecs: only the tensors with this in their names")
    options = parser.parse_args()
    if options.what == "requests":
        requests()
        return
    coding = ["--coding", options.coding, "--codec", options.codec, "--effort", options.effort]
    axis = ["--axis", options.axis] if options.axis is not None else []
    rates = [float(b) for b in options.bits.split(",")]
    if options.what == "codecs":
        codecs(options.paths, rates, options.axis, options.named)
        return
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if options.what == "gaussian":
            for name, seed in (("x", 1), ("y", 2)):
                np.save(work / f"{name}.npy", np.random.default_rng(seed).standard_normal((4096, 1024), np.float32))
        if options.what != "pairs":
            print(f"{'file':36s}  bits     rate           D    lost  overall seconds")
            for path in options.paths or [work / "x.npy"]:
                for bits in rates:
                    round_trip(path, bits, [*coding, *axis], work)
        for bits in rates:
            if options.what == "gaussian":
                multiply(work / "x.npy", work / "y.npy", bits, coding, work, "gaussian 4096x1024")
            if options.what == "pairs":
                with h5py.File(options.paths[0]) as file:
                    for layer in file:
                        np.save(work / "x.npy", file[layer]["X"][:2000].T)
                        np.save(work / "y.npy", file[layer]["W"][()])
                        multiply(work / "x.npy", work / "y.npy", bits, coding, work, layer)


main()
