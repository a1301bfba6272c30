"""Where arrays come from and go to: .npy, HDF5 and safetensors files, and to zarr directories.

What reads and writes a kind is imported when a file of that kind is met: h5py alone takes half as long as NumPy.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike, fspath
from os.path import exists, isdir, isfile
from pathlib import Path
from typing import Any, Literal

import msgspec

from latq.dtypes import NARROW_FLOATS
from latq.errors import CorruptError, InputError, ParameterError
from latq.sources import npy
from latq.sources.atomic import atomic_directory, atomic_files, atomic_output, check_output
from latq.sources.base import ArrayLike, Extras, Kind, OutputKind, Sink, Source, SourceTensor, TensorSpec, WritableArray
from latq.sources.files import read_start, split_spec
from latq.sources.matrix import MatrixView, boxes
from latq.sources.npy import reopen_npy
from latq.urls import is_url

__all__ = [
    "ArrayLike",
    "Kind",
    "MatrixView",
    "OutputKind",
    "Sink",
    "Source",
    "SourceTensor",
    "TensorSpec",
    "WritableArray",
    "atomic_output",
    "atomic_path",
    "boxes",
    "check_output",
    "files_of_sink",
    "kind_of",
    "open_sink",
    "open_source",
    "output_kind_of",
    "reopen_npy",
]

_Opener = Callable[[Path, Sequence[str]], Source]
_Creator = Callable[[Path, Sequence[TensorSpec], Extras], Sink]

_KINDS: dict[str, Kind | Literal["zarr"]] = {
    ".npy": "npy",
    ".h5": "h5",
    ".hdf5": "h5",
    ".safetensors": "safetensors",
    ".zarr": "zarr",
}
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def kind_of(path: str | PathLike[str]) -> Kind | Literal["zarr"] | None:
    """The kind of file that the extension of ``path`` announces."""
    return _KINDS.get(Path(path).suffix.lower())


def output_kind_of(path: str | PathLike[str]) -> OutputKind:
    """The same of a path to be written to, which may also be the folder of a checkpoint: one that exists, or ends in a
    slash. ParameterError if it is neither."""
    kind = kind_of(path)
    if (kind != "zarr" and fspath(path).endswith("/")) or (kind is None and isdir(path)):
        return "checkpoint"
    if kind is None:
        raise ParameterError(f"{path}: the output must end in .npy, .h5, .hdf5, .safetensors, .zarr or /")
    return kind


def open_source(spec: str | PathLike[str], *, tensors: Sequence[str] = ()) -> Source:
    """Open a file, a checkpoint directory or ``FILE.h5:/dataset``; ``tensors`` are patterns on names."""
    path, dataset = split_spec(fspath(spec))
    if not dataset and is_url(fspath(spec)):
        raise InputError(f"{spec}: arrays are read from local files, only .latq files from URLs; download it first")
    if dataset and tensors:
        raise ParameterError(f"{spec}: the dataset is already named; drop --tensor or the part after the colon")
    return _opener(path)(path, [dataset] if dataset else tensors)


def _opener(path: Path) -> _Opener:
    if path.name.endswith(".index.json") or (isdir(path) and kind_of(path) != "zarr"):
        from latq.sources import checkpoints

        return checkpoints.open_folder if isdir(path) else checkpoints.open_indexed
    kind = kind_of(path) or _kind_by_content(path)
    if kind == "zarr":
        raise InputError(f"{path}: zarr is written, not read; convert it to .npy or .h5 first")
    opener, _ = _functions(kind)
    return opener


def _creator(kind: OutputKind) -> _Creator:
    if kind == "zarr":
        from latq.sources import zarr_arrays

        return zarr_arrays.create_zarr
    if kind == "checkpoint":
        from latq.sources import checkpoints

        return checkpoints.create_checkpoint
    _, creator = _functions(kind)
    return creator


def _functions(kind: Kind) -> tuple[_Opener, _Creator]:
    """What opens and what creates files of a kind."""
    match kind:
        case "npy":
            return npy.open_npy, npy.create_npy
        case "h5":
            from latq.sources import h5

            return h5.open_h5, h5.create_h5
        case "safetensors":
            from latq.sources import safetensors_files

            return safetensors_files.open_safetensors, safetensors_files.create_safetensors


def _kind_by_content(path: Path) -> Kind:
    start = read_start(path, 9)
    if start.startswith(npy.MAGIC):
        return "npy"
    if start.startswith(_HDF5_MAGIC):
        return "h5"
    if start[8:] == b"{":
        return "safetensors"
    raise InputError(f"{path}: neither .npy nor HDF5 nor .safetensors; convert it to one of these first")


def atomic_path(
    target: str | PathLike[str], *, force: bool, inputs: Sequence[str] = (), files: Sequence[str] | None = None
) -> AbstractContextManager[Path]:
    """A temporary path that becomes ``target`` if the block succeeds, and is removed if it does not: that of a file, of
    a .zarr directory, or of a folder for ``files``, the names of those that are to come into ``target``."""
    if files is not None:
        return atomic_files(target, files, force=force, inputs=inputs)
    if kind_of(target) == "zarr":
        return atomic_directory(target, force=force, holds="zarr.json")
    return atomic_output(target, force=force, inputs=inputs)


def files_of_sink(
    path: str | PathLike[str], kind: OutputKind, tensors: Sequence[TensorSpec], extras: Mapping[str, Any]
) -> list[str] | None:
    """Names of the files that a sink will write into the folder ``path``; None if that is to be a single file or array.

    ParameterError for tensors that the kind has no room for.
    """
    if kind in ("npy", "zarr") and len(tensors) != 1:
        raise ParameterError(
            f"{path}: a .{kind} holds one array, the file {len(tensors)}; "
            "choose with --tensor, or use .h5 or .safetensors"
        )
    if kind != "checkpoint":
        return None
    from latq.sources import checkpoints

    return checkpoints.checkpoint_files([spec.name for spec in tensors], _typed(extras, path), str(path))


def open_sink(
    path: str | PathLike[str], kind: OutputKind, tensors: Sequence[TensorSpec], extras: Mapping[str, Any] | None = None
) -> Sink:
    """Create the file with room for ``tensors``; ``extras`` come from the source they were read from."""
    if kind not in ("zarr", "checkpoint") and exists(path) and not isfile(path):
        raise InputError(f"{path}: arrays cannot be written to a device or pipe; name a regular file")
    if len({spec.name for spec in tensors}) != len(tensors):
        raise ParameterError(f"{path}: two tensors have the same name; choose with --tensor")
    for spec in tensors:
        if kind not in ("safetensors", "checkpoint") and spec.dtype in NARROW_FLOATS:
            raise ParameterError(
                f"{path}: .{kind} cannot hold {spec.dtype} (tensor {spec.name!r}); "
                "use --dtype float32 or write .safetensors"
            )
    return _creator(kind)(Path(path), tensors, _typed(extras or {}, path))


def _typed(extras: Mapping[str, Any], path: str | PathLike[str]) -> Extras:
    try:
        return msgspec.convert(extras, Extras)
    except msgspec.ValidationError as error:
        raise CorruptError(f"{path}: the container's description is malformed ({error}); encode it again") from error
