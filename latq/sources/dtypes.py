"""The element types that latq reads and writes, under one name each whatever their byte order."""

from typing import Any

import ml_dtypes
import numpy as np

from latq.errors import UnsupportedError

NARROW_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")

DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name)
    for name in (
        *("float64", "float32", "float16", "bool"),
        *("int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
} | {name: np.dtype(getattr(ml_dtypes, name)) for name in NARROW_FLOATS}


def dtype_name(dtype: np.dtype[Any], where: str, advice: str = "convert it to a numeric dtype first") -> str:
    """Name of ``dtype`` without its byte order; ``where`` and ``advice`` word the refusal of any other type."""
    if dtype.name in DTYPES:
        return dtype.name
    if dtype.kind == "V" and dtype.names is None:
        # NumPy writes bfloat16 and float8 as anonymous bytes, so that the file no longer tells which one it was.
        advice = "give bfloat16 and float8 matrices as .safetensors, which names them"
    raise UnsupportedError(f"{where}: dtype {dtype} cannot be stored; {advice}")
