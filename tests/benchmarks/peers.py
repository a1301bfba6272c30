"""Accuracy per bit of latq beside its peers, in one run, at real stored bytes.

usage: python tests/benchmarks/peers.py gaussian           N(0,1) 4096 x 1024, and the product of two such arrays
       python tests/benchmarks/peers.py files FILE...      every matrix: its halves A and B coded apart, and A B^T
       python tests/benchmarks/peers.py pairs pairs.h5     X (tokens x in) times W (in x out) for every layer
options: --bits 2,4   --peers sz3,ggml   --axis K   --tensor GLOB   --grid 145,200   --max-entries 1e6   --csv OUT.csv
The libraries come with `pip install '.[bench]'`, but for bitsandbytes, which wants PyTorch: NF4 is NumPy without it. A
peer whose library is missing is said to be skipped.

A and B hold vectors as rows, and one method codes both. Columns:
want       bits asked for, by a coder that has a rate to choose; it lands at or under that
bits, D    8 * stored bytes / entries, scales, norms and tables included; squared error over the energy of A and B
lost       bits + log2(D) / 2
e2, /G     ||A B^T - C||_F^2 / (||A||_F^2 ||B||_F^2 / n) of the product C of the decoded arrays, and the same over
           Gamma(bits); of latq, the unbiased estimate of `latq product`
best, /G   the same for C times the one best scalar, found with the exact product in hand; of latq, its shrunk
           estimate, which sees the two files only
latq       bits of `latq --coding entropy` of at most as many bytes as the peer
D/, e2/, best/  the peer over that: e2 and best over the shrunk estimate; above 1, latq is the more accurate
For `files`, all but SZ3 and zfp see vectors along the rows (axis 1) and along the columns (axis 0: the product is then
that of the decoded arrays, for latq too); SZ3 and zfp see the matrix, and with --grid its sides but the first. latq is
tried with and without its rotation, but for gaussian. What is worse than another such choice of the same coder in both
D and product is left out, and the ratios are to the best of latq's in each.
"""

import argparse
import csv
import math
from contextlib import suppress
from fnmatch import fnmatch
from functools import partial
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from cases import Case, energy, gaussian, rms
from rivals import FAMILIES, SLACK, Unreachable, fit, make_peers

import latq
from latq.errors import LatqError
from latq.sources import open_source
from latq.theory import bits_lost, product_limit

RATES = "0.5,0.75,1,2,3,4,5,6,8"
REUSE = 0.01  # a latq file at most this many bits smaller than a peer's stands for one of its size


# --- what they code


def gaussian_cases(options):
    yield gaussian(options.shape)


def file_cases(options):
    grid = tuple(int(side) for side in options.grid.split(",") if side)
    for path in options.paths:
        with open_source(path) as source:
            for tensor in source.tensors:
                if len(tensor.shape) != 2 or "float" not in tensor.dtype or not fnmatch(tensor.name, options.tensor):
                    continue
                x = np.moveaxis(tensor.read(tuple(slice(0, side) for side in tensor.shape)), options.axis, -1)
                plane = max(math.prod(grid) // x.shape[1], 1) if grid else 1
                half = int(min(len(x), options.max_entries // x.shape[1])) // 2 // plane * plane
                sides = (np.array(x[start : start + half], np.float32, order="C") for start in (0, half))
                yield Case(
                    f"{Path(path).name} {tensor.name}: 2 x ({half} x {x.shape[1]})", *sides, columns_too=True, grid=grid
                )


def pair_cases(options):
    for path in options.paths:
        with h5py.File(path) as file:
            for layer in (name for name in file if fnmatch(name, options.tensor)):
                x, w = file[layer]["X"], file[layer]["W"][()].T
                x = x[: int(min(len(x), options.max_entries // x.shape[1]))]
                sides = (np.ascontiguousarray(side / rms(side), dtype=np.float32) for side in (x, w))
                yield Case(f"{layer}: {len(x)} x {x.shape[1]} x {len(w)}", *sides)


# --- one row of the table

WIDE, NARROW = "10.4e", "7.3f"
MEASURED = {"bits": "7.4f", "D": WIDE, "lost": NARROW, "e2": WIDE, "e2/G": NARROW, "best": WIDE, "best/G": NARROW}
BESIDE = {"latq": "7.4f", "D/": NARROW, "e2/": NARROW, "best/": NARROW}
OWN = ("latq D", "latq e2", "latq best")
COLUMNS = ("case", "method", "want", *MEASURED, *BESIDE, *OWN, "note")


def line(row):
    cells = [f"{row['method']:15s}", " " * 5 if row["want"] is None else f"{row['want']:>5}"]
    for column, form in {**MEASURED, **BESIDE}.items():
        value = row.get(column, "")
        cells.append(f"{value:>{form.split('.')[0]}}" if isinstance(value, str) else f"{value:{form}}")
    return " ".join([*cells, "", row["note"]]).rstrip()


def make_row(case, method, want, size, distortion, errors, note):
    bits = 8 * size / (case.a.size + case.b.size)
    numbers = bits, distortion, bits_lost(bits, distortion)
    limited = (number for error in errors for number in (error, error / product_limit(bits)))
    measured = dict(zip(MEASURED, [*numbers, *limited], strict=True))
    return {"case": case.name, "method": method, "want": want, **measured, "note": note}


def best_mode(peer, x, want):
    """Bytes, decoded array and name of the mode with the least error."""
    outcomes = []
    for mode, coder in peer.coders.items():
        with suppress(Unreachable):
            code = coder(x)
            size, decode = fit(code, x.size, peer.levels, want + SLACK)[1] if peer.levels else code(0.0)
            y = np.asarray(decode(), np.float32)
            outcomes.append((energy(x - y), size, y, mode))
    if not outcomes:
        raise Unreachable
    return min(outcomes, key=lambda outcome: outcome[0])[1:]


def front(rows):
    """Those (row, rates) that no other beats in both D and product."""
    kept = []
    for row, rates in sorted(rows, key=lambda outcome: outcome[0]["lost"]):
        if not kept or row["best/G"] < kept[-1][0]["best/G"]:
            kept.append((row, rates))
    return kept


def run_peer(peer, case, want):
    """A row, and the rates of both sides, for every view worth showing."""
    rows = []
    for view in case.views(peer.field):
        with suppress(Unreachable):
            sides = [best_mode(peer, case.see(x, view), want) for x in (case.a, case.b)]
            a, b = (case.unsee(y, view) for _, y, _ in sides)
            note = f"{'/'.join(dict.fromkeys(mode for _, _, mode in sides))} {view}".strip()
            accuracy = case.distortion(a, b), case.product_errors(a @ b.T)
            row = make_row(case, peer.name, want, sum(size for size, _, _ in sides), *accuracy, note)
            rows.append((row, [8 * size / y.size for size, y, _ in sides]))
    if not rows:
        raise Unreachable("it cannot be that small")
    return front(rows)


class Latq:
    """The files of one case, their vectors along the rows (axis 1) and, for files, along the columns (axis 0).

    With axis 1, e2 and best are the estimates of `latq product`; with axis 0, the product of the decoded arrays.
    """

    def __init__(self, case, threads):
        self.case, self.threads, self.made = case, threads, []

    def encode(self, x, rate, **options):
        """A file of at most ``rate``: a small array lands above the bits asked for, so ask for less."""
        bits = rate
        for attempt in range(10):
            data = latq.encode(x, bits=min(bits, 12.0), threads=self.threads, **options)
            over = 8 * len(data) / x.size - rate
            if over <= 0:
                return data
            bits -= over * (attempt + 2) / 4 + 0.001
        raise Unreachable(f"the file lands {over:.3f} bits above")

    def row(self, axis, rotation, coding, rates, want):
        case, options = self.case, {"axis": axis, "rotation": rotation, "coding": coding}
        files = [self.encode(x, rate, **options) for x, rate in zip((case.a, case.b), rates, strict=True)]
        decoded = [latq.decode(data, threads=self.threads) for data in files]
        if axis == 1:
            products = (latq.product(*files, estimate=e, threads=self.threads) for e in ("unbiased", "shrunk"))
            errors = [case.product_errors(c)[0] for c in products]
        else:
            errors = [case.product_errors(decoded[0] @ decoded[1].T)[0]] * 2
        note = (f"axis {axis} " if case.columns_too else "") + ("not rotated" if rotation == "none" else "")
        row = make_row(case, f"latq {coding}", want, sum(map(len, files)), case.distortion(*decoded), errors, note)
        return row, [8 * len(data) / x.size for data, x in zip(files, decoded, strict=True)]

    def rows(self, coding, rates, want=None):
        found, refusal = [], None
        for axis, rotation in product((1, 0) if self.case.columns_too else (1,), self.case.rotations):
            try:
                found.append(self.row(axis, rotation, coding, rates, want))
            except (LatqError, Unreachable) as error:
                refusal = refusal or error
        if not found:
            raise refusal
        rows = [row for row, _ in front(found)]
        if coding == "entropy":
            self.made.append(([max(sides) for sides in zip(*(reached for _, reached in found), strict=True)], rows))
        return rows

    def beside(self, row, rates):
        """``row`` of a peer with the best figures of entropy coding at its bytes."""

        def near(others):
            return all(-1e-9 <= rate - other <= REUSE for rate, other in zip(rates, others, strict=True))

        try:
            own = next((found for reached, found in self.made if near(reached)), None) or self.rows("entropy", rates)
        except (LatqError, Unreachable) as error:
            return {**row, "note": f"{row['note']} latq: {error}".strip()}
        least = {column: min(r[column.split()[1]] for r in own) for column in OWN}
        ratios = row["D"] / least["latq D"], row["e2"] / least["latq best"], row["best"] / least["latq best"]
        return {**row, **dict(zip(BESIDE, (max(r["bits"] for r in own), *ratios), strict=True)), **least}


def compare(case, peers, rates, threads):
    print(f"\n{case.name}\n{line({column: column for column in COLUMNS})}", flush=True)
    rows, ours = [], Latq(case, threads)

    def attempt(name, want, work):
        try:
            for row in work():
                rows.append(row)
                print(line(row), flush=True)
        except (LatqError, Unreachable, RuntimeError) as error:
            print(f"{name:15s} {'' if want is None else want:>5} skipped: {error}", flush=True)

    def with_peer(peer, want):
        return (ours.beside(*outcome) for outcome in run_peer(peer, case, want))

    for coding in ("fixed", "entropy"):
        for rate in rates:
            attempt(f"latq {coding}", rate, partial(ours.rows, coding, (rate, rate), rate))
    for peer in peers:
        for want in rates if peer.levels else [None]:
            attempt(peer.name, want, partial(with_peer, peer, want))
    compared = [row for row in rows if "D/" in row]
    for column in ("D/", "e2/", "best/") if compared else ():
        ahead = [f"{row['method']} at {row['bits']:.2f} ({row[column]:.3f})" for row in compared if row[column] < 1]
        behind = f"; behind {', '.join(ahead)}" if ahead else ""
        print(f"verdict, {column} latq first at {len(compared) - len(ahead)} of {len(compared)} points{behind}")
    return rows


def main():
    names = [family for family in FAMILIES if family != "cast"]  # Casts are beyond the rates of all others.
    modes = {"gaussian": gaussian_cases, "files": file_cases, "pairs": pair_cases}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=modes)
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--bits", default=RATES)
    parser.add_argument("--peers", default=",".join(names), help="default: %(default)s")
    parser.add_argument("--axis", type=int, default=-1, help="contraction axis of files")
    parser.add_argument("--tensor", default="*", help="pattern on the names of tensors or layers")
    parser.add_argument("--grid", default="", help="sides but the first of what SZ3 and zfp see, beside the matrix")
    parser.add_argument("--shape", default="4096x1024", help="of the gaussian arrays")
    parser.add_argument("--max-entries", type=float, default=math.inf, help="take the first rows only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv")
    options = parser.parse_args()
    peers = []
    for name in options.peers.split(","):
        if name not in names:
            parser.error(f"no peer {name!r}")
        try:
            peers += make_peers(name, options.threads)
        except (ImportError, OSError) as error:
            print(f"skipped: {name}: {error}")
    rates = [float(bits) for bits in options.bits.split(",")]
    rows = [row for case in modes[options.what](options) for row in compare(case, peers, rates, options.threads)]
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
