"""Second moments by the name of a tensor: from a file that ``latq calibrate`` wrote, or from inputs themselves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from latq.calibration.moments import BATCH, F64, Moments, moments_of
from latq.errors import InputError
from latq.sources import MatrixView, Source, SourceTensor, kind_of, open_source

# In a file of moments: of every name.
SECOND, MEAN = "second_moments", "mean"
# What names of inputs may end in, beside those of the tensors that they are multiplied by.
_ENDINGS = (".weight", ".act", ".input", "/X", ".X")
# Entries of inputs that are read at a time.
_PIECE = 1 << 22
# How far a matrix may be from symmetric, over its largest entry, to be one of second moments.
_ASYMMETRY = 1e-5
# Rows that are looked at to tell moments from inputs.
_LINES = 8
# By which share the square of a moment may exceed the product of those on the diagonal.
_EXCESS = 1e-2
# Bytes of moments that are kept when they were computed, for those who ask again.
_KEPT = 1 << 28


@dataclass(frozen=True)
class Entry:
    """Inputs of a layer, or their second moments if ``ready``; vectors of ``n`` entries in ``dtype``."""

    name: str
    tensor: SourceTensor
    where: str
    ready: bool
    attributes: Mapping[str, Any]
    mean: SourceTensor | None = None

    @property
    def n(self) -> int:
        return self.tensor.shape[-1]

    def moments(self, threads: int = 1) -> Moments:
        """InputError if a value is not finite, or moments are not those of anything."""
        if self.ready:
            return self._stored()
        view = MatrixView(self.tensor.array, self.tensor.shape, -1)
        if not view.m:
            raise InputError(f"{self.where}: holds no inputs; give at least one")
        return moments_of((self._finite(x) for x in _pieces(view)), self.n, threads)

    def _stored(self) -> Moments:
        n = self.n
        matrix = self._finite(self.tensor.read((slice(0, n), slice(0, n)))).astype(np.float64)
        if not (_is_symmetric(matrix) and _may_be_moments(matrix)):
            raise InputError(f"{self.where}: is no matrix of second moments of any inputs; collect it again")
        mean = self.mean.read((slice(0, n),)).astype(np.float64) if self.mean else None
        count, spread = self.attributes.get("count", 0), self.attributes.get("spread")
        return Moments(
            (matrix + matrix.T) / 2, mean, int(count), None if spread is None or spread != spread else float(spread)
        )

    def _finite(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if not np.isfinite(x.astype(np.float32, copy=False)).all():
            raise InputError(f"{self.where}: holds NaN, infinity or values beyond float32; leave these inputs out")
        return x


def _pieces(view: MatrixView) -> Iterator[npt.NDArray[Any]]:
    step = max(_PIECE // max(view.n, 1) // BATCH, 1) * BATCH
    return (view.read(v0, min(v0 + step, view.m), 0, view.n) for v0 in range(0, view.m, step))


class Calibration:
    """All entries of a file or folder, by name."""

    def __init__(self, entries: Sequence[Entry], where: str, files: Sequence[str]) -> None:
        self.entries, self.where, self.files = list(entries), where, list(files)
        self._kept: dict[str, Moments] = {}
        self._others: dict[str, str] = {}

    def moments(self, entry: Entry, threads: int = 1) -> Moments:
        """Those of ``entry``, which are kept if they took time and there is room."""
        if entry.where in self._kept:
            return self._kept[entry.where]
        found = entry.moments(threads)
        if not entry.ready and found.matrix.nbytes + sum(kept.matrix.nbytes for kept in self._kept.values()) <= _KEPT:
            self._kept[entry.where] = found
        return found

    def named(self, name: str, other: str) -> "Calibration":
        """The same, with the entry of the tensor ``other`` for ``name``."""
        found = copy(self)
        found._others = {**self._others, name: other}
        return found

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "Calibration":
        """Inputs or second moments in memory, by the name of their tensor."""
        found = {name: SourceTensor.of(name, array, f"inputs of {name!r}") for name, array in arrays.items()}
        for name, tensor in found.items():
            if len(tensor.shape) < 2 or 0 in tensor.shape:
                raise InputError(f"inputs of {name!r} have shape {tensor.shape}; give an array (any number, n)")
        entries = [Entry(n, t, f"inputs of {n!r}", _looks_ready(t), {}) for n, t in found.items()]
        return cls(entries, "calibration", [])

    def of(self, name: str, n: int) -> Entry | None:
        """The entry for the tensor ``name``, whose vectors have ``n`` entries; None if there is none.

        Its name is that of the tensor, or the end of that, endings like .weight aside; the array of an .npy file has no
        name, and serves every tensor of its length. InputError if it has another length.
        """
        if len(self.entries) == 1 and not self.entries[0].name:
            only = self.entries[0]
            return only if only.n == n else None
        wanted = stem(self._others.get(name, name))
        found = [entry for entry in self.entries if wanted == stem(entry.name)]
        found = found or [entry for entry in self.entries if wanted.endswith("." + stem(entry.name))]
        if not found:
            return None
        best = max(found, key=lambda entry: len(entry.name))
        if best.n != n:
            raise InputError(
                f"{best.where}: inputs of {best.n} entries for tensor {name!r}, whose vectors have {n}; choose its "
                "axis with --axis, or collect them again"
            )
        return best


def stem(name: str) -> str:
    """A name without what tells inputs from weights."""
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name


@contextmanager
def open_calibration(path: str | PathLike[str]) -> Iterator[Calibration]:
    """Inputs (any number, n) or second moments (n, n) in .npy, .h5 and .safetensors, or a folder of such files."""
    with ExitStack() as stack:
        entries, files = [], []
        for file in _files(Path(fspath(path))):
            source = stack.enter_context(open_source(file))
            files += source.files
            entries += list(_entries(source, file, file.stem if file != Path(path) else ""))
        if not entries:
            raise InputError(f"{path}: holds no inputs of layers: arrays of two dimensions or more")
        yield Calibration(entries, fspath(path), files)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.is_file() and kind_of(file))
    if not found:
        raise InputError(f"{path}: the folder holds no .npy, .h5 or .safetensors file; name one that does")
    return found


def _entries(source: Source, file: Path, stem_of_file: str) -> Iterator[Entry]:
    """``stem_of_file`` names the array of an .npy file."""
    from latq.sources.h5_attributes import decode_value

    tensors = {tensor.name: tensor for tensor in source.tensors}
    for name, tensor in tensors.items():
        where = {"npy": str(file), "h5": f"{file}:/{name}"}.get(source.kind, f"{file}: {name}")
        encoded = source.extras.get("attributes", {}).get(name, {})
        attributes = {key: decode_value(value) for key, value in encoded.items()}
        if name.endswith(f"/{SECOND}"):
            own = name.removesuffix(f"/{SECOND}")
            yield Entry(own, tensor, where, True, attributes, tensors.get(f"{own}/{MEAN}"))
        elif not name.endswith(f"/{MEAN}") and len(tensor.shape) >= 2 and 0 not in tensor.shape:
            shown = stem_of_file if source.kind == "npy" else name
            yield Entry(shown, tensor, where, _looks_ready(tensor), attributes)


def _looks_ready(tensor: SourceTensor) -> bool:
    """Whether an array holds second moments rather than inputs: square and, as far as some rows tell, symmetric."""
    shape = tensor.shape
    if len(shape) != 2 or shape[0] != shape[1] or tensor.dtype not in ("float64", "float32"):
        return False
    n = shape[0]
    lines = [slice(i, i + 1) for i in range(0, n, -(-n // _LINES))]
    pairs = [(tensor.read((line, slice(0, n)))[0], tensor.read((slice(0, n), line))[:, 0]) for line in lines]
    largest = max(float(np.abs(row).max()) for row, _ in pairs)
    return all(np.array_equal(*pair) or np.abs(pair[0] - pair[1]).max() <= _ASYMMETRY * largest for pair in pairs)


def _may_be_moments(matrix: F64) -> bool:
    """Whether the diagonal allows for the rest: (x y)^2 <= x^2 y^2."""
    power = np.diag(matrix)
    return bool((power >= 0).all() and (matrix**2 <= np.multiply.outer(power, power) * (1 + _EXCESS)).all())


def _is_symmetric(matrix: npt.NDArray[Any]) -> bool:
    return bool(np.abs(matrix - matrix.T).max(initial=0.0) <= _ASYMMETRY * np.abs(matrix).max(initial=0.0))


def write_moments(path: str | PathLike[str], items: Iterable[tuple[str, Moments]]) -> None:
    """Write moments by name to a new HDF5 file."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, moments in items:
            dataset = file.create_dataset(f"{name}/{SECOND}", data=moments.matrix)
            dataset.attrs["count"] = moments.count
            if moments.spread is not None:
                dataset.attrs["spread"] = moments.spread
            if moments.mean is not None:
                file[f"{name}/{MEAN}"] = moments.mean
