"""How large the vectors of a chunk and the errors of their unbiased reconstructions are, by what the file tells.

With x a vector without its mean and u its unbiased reconstruction, ``|u|^2 = |x|^2 + |u - x|^2`` on average, and the
alignment is the second part's share of the whole. It is known for each vector or only for a class of them; then the
errors are shared out as the quantizer made them: evenly where there is one step, by the squares of the steps where
every block has its own.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from latq.pipeline.chunk import RotatedChunk

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]

# Share of its energy within the coded coordinates below which a vector counts as lost: its unbiased reconstruction
# would have 16 times that energy, and the float16 hardly tells how much.
_FAINT = 1 / 16
# Scales and alignments are stored as float16: what bounds add for that, relative.
_ROUNDING = 2.0**-9


class Sizes(NamedTuple):
    """(V,) squared norms of vectors, of their errors within the coded coordinates (of reconstructions scaled to be
    unbiased there), and of vectors that are lost; 0 for all others. ``radii``: bounds of the norms of all errors."""

    energies: F64
    noises: F64
    lost: F64
    radii: F64


def sizes_of(chunk: RotatedChunk, squares: F64, alignment: F64) -> Sizes:
    """From ``squares`` (V,) of the reconstructions and ``alignment`` (V,), that of each vector or of its class.

    Where next to nothing of a vector was coded, zeros are a better reconstruction than an unbiased one: it is lost.
    """
    kept = chunk.integers.shape[1] / chunk.length
    usual = squares if chunk.classes is None else _mean(squares, chunk.classes)
    energies = (1 - alignment) * usual
    # kept |u|^2 = |x|^2 + noise; that the other coordinates are not coded is a part of the alignment.
    noises = np.maximum(kept * usual - energies, 0.0)
    # Of vectors that decode to zeros the scale is their root mean square.
    whole = np.where(usual == 0, np.ldexp(chunk.scales, chunk.exponent) ** 2 * chunk.length, energies)
    lost = (usual == 0) | (energies < _FAINT * kept * usual)
    if chunk.classes is not None:
        energies, noises = _shared_out(chunk, chunk.classes, kept * squares, energies, noises)
    return Sizes(
        np.where(lost, 0.0, energies),
        np.where(lost, 0.0, noises),
        np.where(lost, whole, 0.0),
        np.where(lost, np.inf, _radii(np.maximum(alignment * usual, 0.0), chunk.classes)),
    )


def _radii(noises: F64, classes: U8 | None) -> F64:
    """Of a class, only the sum of the squares of the errors is known."""
    most = noises if classes is None else noises * np.bincount(classes)[classes]
    found: F64 = np.sqrt(most) * (1 + _ROUNDING)
    return found


def _shared_out(chunk: RotatedChunk, classes: U8, squares: F64, energy: F64, noise: F64) -> tuple[F64, F64]:
    """Energies and noises of vectors, from ``squares``, their sum, where only the means over their class are known."""
    noises = noise
    if chunk.square_steps is not None:
        steps = _mean(chunk.square_steps, classes)
        noises = noise * np.divide(chunk.square_steps, steps, out=np.ones_like(steps), where=steps > 0)
    # Part of the differences of the squares is chance, which would make small vectors too small (James & Stein 1961):
    # the more so the more of a square is noise.
    coded = chunk.integers.shape[1]
    chance = (4 * energy * noise + 2 * noise**2 + 2 * energy**2 * (1 - coded / chunk.length)) / max(coded, 1)
    spread = _mean((squares - energy - noise) ** 2, classes)
    real = np.maximum(1 - np.divide(chance, spread, out=np.ones_like(spread), where=spread > 0), 0.0)
    real *= np.minimum(np.divide(energy, noise, out=np.ones_like(noise), where=noise > 0), 1.0)
    # What cannot be told from nothing may be as large as chance is.
    energies = np.maximum(energy + real * (squares - noises - energy), np.sqrt(chance) / 2)
    total = _mean(energies, classes)
    return energies * np.divide(energy, total, out=np.ones_like(total), where=total > 0), noises


def _mean(per_vector: F64, classes: U8) -> F64:
    """(V,) mean over the vectors of the class of each."""
    found: F64 = (np.bincount(classes, per_vector) / np.maximum(np.bincount(classes), 1))[classes]
    return found
