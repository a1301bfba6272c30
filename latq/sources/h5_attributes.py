"""HDF5 attributes as JSON-able values, and back."""

from base64 import b64decode, b64encode
from typing import Any

import h5py
import numpy as np

_KEPT = {"b", "i", "u", "f", "c", "S"}
_MAX_ITEMSIZE = {"f": 8, "c": 16}  # Wider floats mean something else on every platform.


def encode_attributes(attributes: h5py.AttributeManager) -> tuple[dict[str, Any], list[str]]:
    """The attributes that can be kept, and the names of the others."""
    encoded = {name: _encode(attributes, name) for name in sorted(attributes)}
    kept = {name: value for name, value in encoded.items() if value is not None}
    return kept, [name for name in encoded if name not in kept]


def _encode(attributes: h5py.AttributeManager, name: str) -> dict[str, Any] | None:
    try:
        return encode_value(attributes[name])
    except (OSError, TypeError, ValueError):  # A type that h5py cannot read, or text that is not UTF-8.
        return None


def encode_value(value: Any) -> dict[str, Any] | None:
    """One attribute, or None if it is of a kind that cannot be kept."""
    if isinstance(value, str):
        return {"text": _utf8(value)}
    if isinstance(value, h5py.Empty):
        return None
    array = np.asarray(value)
    if array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        return {"texts": [_utf8(item) for item in array.flat], "shape": list(array.shape)}
    if not _is_kept(array.dtype):
        return None
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": b64encode(array.tobytes()).decode()}


def decode_value(value: dict[str, Any]) -> Any:
    """What ``encode_value`` was given; ValueError, TypeError or KeyError for anything it does not return."""
    if "text" in value:
        return _utf8(value["text"])
    if "texts" in value:
        texts = np.empty(len(value["texts"]), h5py.string_dtype())
        texts[:] = [_utf8(item) for item in value["texts"]]
        return texts.reshape(value["shape"])
    dtype = np.dtype(value["dtype"])
    if not _is_kept(dtype):
        raise ValueError(f"dtype {dtype} is not one of an attribute")
    return np.frombuffer(b64decode(value["data"], validate=True), dtype).reshape(value["shape"])


def _is_kept(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in _KEPT and dtype.itemsize <= _MAX_ITEMSIZE.get(dtype.kind, dtype.itemsize)


def _utf8(text: str) -> str:
    """``text`` itself; UnicodeEncodeError (a ValueError) for the lone surrogates of broken UTF-8."""
    str.encode(text)
    return text
