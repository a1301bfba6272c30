"""latq limits."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from latq.cli.common import Console, console_options, force_option, input_path, open_file
from latq.cli.plot import draw_product_limits, figure, plot_option
from latq.cli.table import bar, finite, number, print_table
from latq.errors import ParameterError
from latq.pipeline.decode import Tensor
from latq.pipeline.measure import is_lossless
from latq.theory import (
    R_STAR,
    guarantee,
    product_limit,
    product_limit_of,
    shannon_distortion,
    unbiased_guarantee,
    unbiased_limit,
)

EXAMPLES = """\b
Examples:
  latq limits
  latq limits --bits 4 --norms 640 640 640 --length 4096
  latq limits a.latq b.latq
"""
RATES = (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.25, 5, 6, 8)
MAX_RATE = 64.0
# Their fourth power must stay a float.
MAX_NORM = 1e70
# The bars show this many powers of ten below 1.
BAR_DECADES = 5
# Norms that a user computed are rounded.
ROUNDING = 1e-6


@dataclass(frozen=True)
class _Norms:
    """Energies of two centred matrices with ``length`` rows and of their product; ``label`` says which product."""

    label: str
    energy_a: float
    energy_b: float
    energy_product: float
    length: int

    @classmethod
    def independent(cls, a: float, b: float, length: int) -> "_Norms":
        return cls("independent", a, b, a * b / length, length)

    @classmethod
    def largest(cls, a: float, b: float, length: int) -> "_Norms":
        """The product of two matrices is at most as large as the product of their norms."""
        return cls("largest", a, b, a * b, length)


@click.command("limits", epilog=EXAMPLES)
@click.argument("a", metavar="[A.latq", required=False)
@click.argument("b", metavar="B.latq]", required=False)
@click.option("--bits", "rates", type=float, multiple=True, metavar="R", help="Bits per entry; repeatable.")
@click.option(
    "--norms", type=float, nargs=3, metavar="A B C",
    help="Frobenius norms of A, B and A^T B, vectors centred: what is guaranteed for such matrices.",
)  # fmt: skip
@click.option("--length", type=click.IntRange(1), metavar="N", help="Entries of every vector, for --norms.")
@click.option("--tensor-a", metavar="NAME", help="Tensor of A.latq, if it holds several.")
@click.option("--tensor-b", metavar="NAME", help="Tensor of B.latq, if it holds several.")
@plot_option
@force_option
@console_options
def command(
    a: str | None, b: str | None, rates: tuple[float, ...], norms: tuple[float, float, float] | None,
    length: int | None, tensor_a: str | None, tensor_b: str | None, plot: str | None, force: bool,
    as_json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Print what information theory allows: least errors of decoding and of products, at rates in bits per entry.

    D = 4^-R is the Shannon limit of decoding, Gamma(R) the least e^2 of a product of Gaussian matrices, e^2 being
    ||C - C_hat||^2 / (||A||^2 ||B||^2 / n) (Ordentlich & Polyanskiy 2024, arXiv 2410.13780). With --norms, or two files
    that give rates and norms, also print what the paper guarantees for such matrices, Gaussian or not.
    """
    console = Console(as_json, quiet, verbose)
    files = [path for path in (a, b) if path is not None]
    _check(files, rates, norms, length, (tensor_a, tensor_b))
    with figure(plot, force=force, inputs=files) as drawing:
        if a is not None and b is not None:
            sides = [_side(a, tensor_a), _side(b, tensor_b)]
            shown, guarantees = _of_files(sides)
        else:
            sides, shown = [], sorted(set(rates or RATES))
            given = _given(norms, length)
            guarantees = [_guarantee(rate, rate, given) for rate in shown if given is not None]
        if drawing is not None:
            draw_product_limits(drawing, [("", rate, product_limit(rate)) for rate in shown])
    result = {
        "r_star": R_STAR,
        "product_limit_at_r_star": product_limit(R_STAR),
        "limits": [_limits(rate) for rate in shown],
        "sides": sides,
        "guarantees": guarantees,
    }
    console.result("limits", result)
    if not as_json:
        _print(result)


def _check(
    files: Sequence[str],
    rates: Sequence[float],
    norms: tuple[float, float, float] | None,
    length: int | None,
    tensors: tuple[str | None, str | None],
) -> None:
    """Refuse options that contradict each other or are out of range."""
    if len(files) == 1:
        raise ParameterError(f"{files[0]}: one file has no product; give two, or only rates")
    if files and (rates or norms is not None or length is not None):
        raise ParameterError("two files give the rates and norms; drop --bits, --norms and --length")
    if not files and tensors != (None, None):
        raise ParameterError("--tensor-a and --tensor-b choose from files; give two files")
    if (norms is None) != (length is None):
        raise ParameterError("--norms and --length belong together; give both")
    for rate in rates:
        if not 0.0 <= rate <= MAX_RATE:
            raise ParameterError(f"--bits {rate:g} is out of range; use 0 to {MAX_RATE:g}")
    if norms is not None:
        _check_norms(*norms)


def _check_norms(a: float, b: float, product: float) -> None:
    if not (0.0 < a < MAX_NORM and 0.0 < b < MAX_NORM and product >= 0.0):
        raise ParameterError(f"--norms must be positive and below {MAX_NORM:g}")
    if product > a * b * (1.0 + ROUNDING):
        raise ParameterError(f"no matrices have these --norms: ||A^T B|| is at most ||A|| ||B|| = {a * b:g}")


def _given(norms: tuple[float, float, float] | None, length: int | None) -> _Norms | None:
    if norms is None or length is None:
        return None
    a, b, product = norms
    return _Norms("given", a * a, b * b, product * product, length)


def _side(path: str, name: str | None) -> dict[str, Any]:
    """What the metadata of a file tell about one of its tensors."""
    with input_path(path) as readable, open_file(readable) as file:
        tensor = file[name] if name is not None else file.only()
        return {
            "file": path,
            "tensor": tensor.name,
            "length": tensor.n,
            "bits_per_entry": tensor.bits_per_entry,
            "energy": _centred_energy(tensor, readable),
        }


def _centred_energy(tensor: Tensor, path: str) -> float:
    if is_lossless(tensor):
        raise ParameterError(f"{path}: tensor {tensor.name!r} is lossless: it has no limit, and its norm is not stored")
    return max(tensor.entry.energy - tensor.entry.mean_energy, 0.0)


def _of_files(sides: Sequence[dict[str, Any]]) -> tuple[list[float], list[dict[str, Any]]]:
    """(rates, guarantees) of two tensors. Their product is not known: it may be as large as any, or as small as that
    of independent matrices."""
    a, b = sides
    if a["length"] != b["length"]:
        raise ParameterError(
            f"{a['file']} has vectors of {a['length']} entries, {b['file']} of {b['length']}; choose tensors that agree"
        )
    rates = a["bits_per_entry"], b["bits_per_entry"]
    energies = a["energy"], b["energy"], a["length"]
    norms = _Norms.independent(*energies), _Norms.largest(*energies)
    return sorted(set(rates)), [_guarantee(*rates, n) for n in norms]


def _limits(rate: float) -> dict[str, Any]:
    unbiased = finite(unbiased_limit(rate, rate))
    return {
        "bits_per_entry": rate,
        "distortion": shannon_distortion(rate),
        "product_limit": product_limit(rate),
        "product_limit_root": math.sqrt(product_limit(rate)),
        "unbiased_limit": unbiased,
        "unbiased_limit_root": None if unbiased is None else math.sqrt(unbiased),
        "time_sharing": rate < R_STAR,
    }


def _guarantee(rate_a: float, rate_b: float, norms: _Norms) -> dict[str, Any]:
    """Bounds on the expected squared error, and the root of each over the norm of the product. No Gamma is known for
    unequal rates below R*."""
    limit = product_limit_of(rate_a, rate_b)
    energies = norms.energy_a, norms.energy_b
    shrunk = None if limit is None else guarantee(limit, *energies, norms.energy_product, norms.length)
    unbiased = unbiased_guarantee(unbiased_limit(rate_a, rate_b), *energies, norms.length)
    return {
        "bits_a": rate_a,
        "bits_b": rate_b,
        "product": norms.label,
        "product_limit": limit,
        "squared_error": shrunk,
        "relative_error": _relative(shrunk, norms.energy_product),
        "unbiased_squared_error": finite(unbiased),
        "unbiased_relative_error": _relative(finite(unbiased), norms.energy_product),
    }


def _relative(squared_error: float | None, energy: float) -> float | None:
    return None if squared_error is None or energy <= 0 else finite(math.sqrt(squared_error / energy))


def _print(result: dict[str, Any]) -> None:
    headings = ("bits", "D = 4^-R", "Gamma", "e", "unbiased", "e unbiased", f"1e-{BAR_DECADES} to 1", "")
    print_table(headings, map(_row, result["limits"]), text_columns=(6, 7))
    click.echo(f"R* = {R_STAR:.10f}, Gamma(R*) = {result['product_limit_at_r_star']:.10f}")
    for side in result["sides"]:
        norm = math.sqrt(side["energy"])
        click.echo(f"{side['file']}: {side['tensor']}, {side['bits_per_entry']:.4f} bits per entry, norm {norm:.6g}")
    if result["guarantees"]:
        click.echo("\nGuaranteed E||C - C_hat||^2, its root over ||A^T B||, and the same without shrinkage:")
        print_table(
            ("bits of A", "of B", "||A^T B||", "error^2", "relative", "unbiased", "relative"),
            map(_guarantee_row, result["guarantees"]),
            text_columns=(2,),
        )


def _row(limits: dict[str, Any]) -> Iterator[str]:
    yield f"{limits['bits_per_entry']:.4g}"
    for key in ("distortion", "product_limit", "product_limit_root", "unbiased_limit", "unbiased_limit_root"):
        yield number(limits[key], 6)
    yield bar(1.0 + math.log10(limits["product_limit"]) / BAR_DECADES)
    yield "below R*" if limits["time_sharing"] else ""


def _guarantee_row(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['bits_a']:.4g}"
    yield f"{found['bits_b']:.4g}"
    yield found["product"]
    for key in ("squared_error", "relative_error", "unbiased_squared_error", "unbiased_relative_error"):
        yield number(found[key], 6)
