"""Choosing tensors by name."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from latq.errors import InputError

_SHOWN = 8


def select(names: Collection[str], globs: Sequence[str], where: str) -> list[str]:
    """The ``names`` that match any of ``globs`` (all of them without globs), sorted."""
    if not globs:
        return sorted(names)
    return sorted({name for glob in globs for name in _matches(names, glob, where)})


def _matches(names: Collection[str], glob: str, where: str) -> list[str]:
    if glob in names:  # A name may itself hold the characters of a pattern.
        return [glob]
    found = [name for name in names if fnmatchcase(name, glob)]
    if not found:
        raise InputError(f"{where}: no tensor matches {glob!r}; {_hint(names, glob)}")
    return found


def _hint(names: Collection[str], glob: str) -> str:
    if not names:
        return "the file holds none"
    from difflib import get_close_matches  # Here, because only mistakes need it.

    close = get_close_matches(glob, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    rest = f", ... ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{meant}available: {', '.join(sorted(names)[:_SHOWN])}{rest}"
