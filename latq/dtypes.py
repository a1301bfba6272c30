"""The element types that latq reads and writes, under one name each whatever their byte order."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from latq.errors import UnsupportedError

NARROW_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_NAMES = (
    *("float64", "float32", "float16", "bool"),
    *("int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
    *NARROW_FLOATS,
)


class _DTypes(Mapping[str, np.dtype[Any]]):
    """The dtype of every name. Those that NumPy lacks come from ml_dtypes, imported when one of them is asked for."""

    def __getitem__(self, name: str) -> np.dtype[Any]:
        if name not in _NAMES:
            raise KeyError(name)
        if name in NARROW_FLOATS:
            import ml_dtypes  # noqa: F401 (NumPy knows their names once it is imported)

        return np.dtype(name)

    def __contains__(self, name: object) -> bool:
        return name in _NAMES

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


DTYPES = _DTypes()


def dtype_name(dtype: np.dtype[Any], where: str, advice: str = "convert it to a numeric dtype first") -> str:
    """Name of ``dtype`` without its byte order; ``where`` and ``advice`` word the refusal of any other type."""
    if dtype.name in DTYPES:
        return dtype.name
    if dtype.kind == "V" and dtype.names is None:
        # NumPy writes bfloat16 and float8 as anonymous bytes, so that the file no longer tells which one it was.
        advice = "give bfloat16 and float8 matrices as .safetensors, which names them"
    raise UnsupportedError(f"{where}: dtype {dtype} cannot be stored; {advice}")
