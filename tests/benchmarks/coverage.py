"""Do the error bars of a product hold? Coverage of 95 % intervals, bias, and measured over predicted error.

    python tests/benchmarks/coverage.py [--rotations 200] [--only NAME] [--bits 0.5,1,2,4,8] [--glove FILE.npy]
                                        [--pairs FILE.h5]

Every case is encoded in many random rotations, both sides alike, and multiplied; all entries of all products count.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
import numpy.typing as npt

import latq

F32 = npt.NDArray[np.float32]
Pair = tuple[F32, F32]
HEADER = "| case | n | bits | coding | coverage % | bias | measured / predicted |\n|---|--:|--:|---|--:|--:|--:|"


@dataclass
class Tally:
    """Errors over standard errors, and Frobenius errors against those predicted."""

    covered: int = 0
    count: int = 0
    total: float = 0.0
    measured: float = 0.0
    predicted: float = 0.0
    seen: list[float] = field(default_factory=list)

    def add(self, a: F32, b: F32, truth: npt.NDArray[np.float64], options: dict[str, Any]) -> None:
        coded = latq.encode(a, **options)
        other = coded if b is a else latq.encode(b, **options)
        bars = np.empty(truth.shape, np.float32)
        estimate, report = latq.product(coded, other, error_bars=bars, report=True, threads=2)
        errors = estimate - truth
        scores = errors / np.maximum(bars, np.finfo(np.float32).tiny)
        self.covered += int((np.abs(scores) < 1.959964).sum())
        self.count += scores.size
        self.total += float(np.clip(scores, -10, 10).sum())
        self.measured += float((errors**2).sum())
        self.predicted += report.error**2

    def row(self, name: str, n: int, options: dict[str, Any]) -> str:
        coverage, bias = 100 * self.covered / self.count, self.total / self.count
        ratio = (self.measured / self.predicted) ** 0.5
        return (
            f"| {name} | {n} | {options['bits']} | {options['coding']} | {coverage:.2f} | {bias:+.3f} | {ratio:.3f} |"
        )


def gaussian(rng: np.random.Generator, n: int, m: int) -> Pair:
    a, b = rng.standard_normal((2, n, m)).astype(np.float32)
    return a, b


def heavy_tailed(rng: np.random.Generator, n: int, m: int) -> Pair:
    a, b = rng.standard_t(2.5, (2, n, m)).astype(np.float32)
    return a, b


def sparse(rng: np.random.Generator, n: int, m: int) -> Pair:
    nonzero = rng.random((2, n, m)) < max(0.02, 2 / n)
    a, b = (rng.standard_normal((2, n, m)) * nonzero).astype(np.float32)
    return a, b


def unequal(rng: np.random.Generator, n: int, m: int) -> Pair:
    """Vectors of sizes that spread by a factor of e either way."""
    a, b = (rng.standard_normal((2, n, m)) * np.exp(rng.standard_normal((2, 1, m)))).astype(np.float32)
    return a, b


SYNTHETIC: dict[str, Callable[[np.random.Generator, int, int], Pair]] = {
    "gaussian": gaussian, "heavy": heavy_tailed, "sparse": sparse, "unequal": unequal,
}  # fmt: skip
SIZES = {16: 120, 50: 100, 512: 60, 4096: 24, 100_000: 8}


def real_cases(glove: str | None, pairs: str | None) -> dict[str, Pair]:
    cases: dict[str, Pair] = {}
    if glove:
        words = np.load(glove)[:1000].T.astype(np.float32)
        cases["glove gram"] = words, words
    if pairs:
        import h5py

        with h5py.File(pairs) as file:
            for name in list(file)[:: max(1, len(file) // 6)]:
                # Vectors of both are rows: tokens, and outputs of a layer.
                cases[name] = file[name]["X"][:100].T.copy(), file[name]["W"][:100].T.copy()
    return cases


@click.command()
@click.option("--rotations", default=200, show_default=True)
@click.option("--only", default="", help="Cases whose name has this in it.")
@click.option("--bits", default="0.5,1,2,4,8", show_default=True)
@click.option("--glove", help="Word vectors, one per row.")
@click.option("--pairs", help="Activations and weights that meet in a model.")
def command(rotations: int, only: str, bits: str, glove: str | None, pairs: str | None) -> None:
    rng = np.random.default_rng(7)
    cases = {f"{name} {n}": make(rng, n, m) for n, m in SIZES.items() for name, make in SYNTHETIC.items()}
    cases |= real_cases(glove, pairs)
    print(HEADER)
    for name, (a, b) in cases.items():
        if only not in name:
            continue
        truth = a.astype(np.float64).T @ b.astype(np.float64)
        for rate in map(float, bits.split(",")):
            for coding in ("entropy", "fixed"):
                options = {"bits": rate, "coding": coding, "rotation": "hadamard"}
                tally = Tally()
                try:
                    for seed in range(rotations):
                        tally.add(a, b, truth, options | {"seed": seed})
                except latq.ParameterError as error:
                    print(f"| {name} | {len(a)} | {rate} | {coding} | {error} | | |")
                    continue
                print(tally.row(name, len(a), options), flush=True)


if __name__ == "__main__":
    command()
