"""Metadata as JSON text: one way to write it, and no leniency in reading it."""

import json
from math import isinf
from typing import Any, NoReturn

from latq.container.limits import MAX_METADATA, MAX_METADATA_DEPTH
from latq.errors import CorruptError


def dump_canonical(obj: object) -> bytes:
    """Sorted keys, no whitespace, UTF-8: equal objects give equal bytes."""
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse_strict(raw: bytes) -> object:
    """The JSON value in ``raw``; whatever ``dump_canonical`` could not have meant is corrupt."""
    if len(raw) > MAX_METADATA:
        raise CorruptError(f"metadata: {len(raw)} bytes; the limit is {MAX_METADATA}")
    try:
        value: object = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=_integer
        )
        _check_depth(value, MAX_METADATA_DEPTH)
        # What passes the parser but cannot be written again: numbers like 1e999, lone surrogates.
        dump_canonical(value)
    except RecursionError as error:
        raise CorruptError("metadata: nested too deeply") from error
    except ValueError as error:
        raise CorruptError(f"metadata: {error}") from error
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def _integer(digits: str) -> int:
    """Integers that overflow a float are refused like other numbers that do."""
    if isinf(float(digits)):
        raise ValueError("a number is too large")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_depth(value: object, allowed: int) -> None:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if children is None:
        return
    if allowed == 0:
        raise ValueError(f"nested deeper than {MAX_METADATA_DEPTH}")
    for child in children:
        _check_depth(child, allowed - 1)
