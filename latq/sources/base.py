"""What every source and sink of arrays has in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from latq.dtypes import dtype_name

Kind = Literal["npy", "h5", "safetensors"]
OutputKind = Kind | Literal["zarr", "checkpoint"]
Index = tuple[slice, ...]
Array = NDArray[Any]


class ArrayLike(Protocol):
    """An array that may live in a file: only basic slices are asked of it, one for every axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __getitem__(self, index: Index, /) -> Any: ...


class WritableArray(ArrayLike, Protocol):
    """An array whose slices can also be assigned."""

    def __setitem__(self, index: Index, block: Array, /) -> None: ...


@dataclass(frozen=True)
class SourceTensor:
    """One array of a source; nothing of it is read before ``read``."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    array: ArrayLike

    @classmethod
    def of(cls, name: str, array: ArrayLike, where: str) -> Self:
        """Describe ``array``; ``where`` names it in the refusal of a dtype that cannot be stored."""
        return cls(name, tuple(array.shape), dtype_name(array.dtype, where), array)

    def read(self, index: Index) -> Array:
        """The asked part in native byte order."""
        block = np.asarray(self.array[index])
        return block.astype(block.dtype.newbyteorder("="), copy=False)


class Shard(msgspec.Struct, omit_defaults=True):
    """One file of a checkpoint: the names of its tensors, and its own metadata."""

    tensors: list[str]
    metadata: dict[str, str] = {}


class Checkpoint(msgspec.Struct, omit_defaults=True):
    """A folder of safetensors files, by file name; ``index`` is the name of the one that lists where every tensor is,
    if there is one, and ``metadata`` its own."""

    shards: dict[str, Shard]
    index: str = ""
    metadata: dict[str, Any] = {}


class Extras(msgspec.Struct):
    """The grammar of ``Source.extras``: what a container holds besides its arrays; each kind fills its own fields."""

    groups: list[str] = []
    attributes: dict[str, dict[str, dict[str, Any]]] = {}
    metadata: dict[str, str] = {}
    checkpoint: Checkpoint | None = None

    def left_out(self, suffix: str) -> list[str]:
        """At most one warning about what a container of another kind, ``suffix``, cannot hold."""
        held = {"HDF5 attributes": self.attributes, "safetensors metadata": self.metadata}
        lost = [label for label, value in held.items() if value]
        return [f"{' and '.join(lost)} left out: {suffix} cannot hold them"] if lost else []


@dataclass(frozen=True)
class TensorSpec:
    """An array to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def _nothing() -> None:
    pass


@dataclass
class _Closing:
    """A context manager that calls ``on_close`` once at its end."""

    on_close: Callable[[], None] = field(default=_nothing, kw_only=True, repr=False)

    def close(self) -> None:
        on_close, self.on_close = self.on_close, _nothing
        on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Source(_Closing):
    """The arrays of one input, sorted by name, and in ``extras`` what else its container holds (JSON-able).

    ``files`` are the paths that are read: none of them may be an output.
    """

    kind: Kind
    tensors: list[SourceTensor]
    default_axis: int
    extras: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


@dataclass
class Sink(_Closing):
    """The arrays of one output, to be filled piece by piece: ``sink.target(name)[index] = block``."""

    kind: OutputKind
    targets: Mapping[str, WritableArray]
    warnings: list[str] = field(default_factory=list)

    def target(self, name: str) -> WritableArray:
        return self.targets[name]
