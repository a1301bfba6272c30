"""Random access to bytes: the only thing that the reader needs from a file."""

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from latq.errors import InputError, TruncatedError
from latq.urls import is_url


class ByteSource(Protocol):
    """Bytes that can be read at any offset, by several threads at once."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; fewer are a ``TruncatedError``."""

    def expecting(self, ranges: Iterable[tuple[int, int]]) -> AbstractContextManager[None]:
        """A block in which these ranges (offset, length) will be read, about in this order, each once: a slow source
        may fetch them ahead."""

    def close(self) -> None: ...


class _FastSource:
    """One that gains nothing from being told what will be read."""

    def expecting(self, ranges: Iterable[tuple[int, int]]) -> AbstractContextManager[None]:
        return nullcontext()


class BytesSource(_FastSource):
    """A file that is already in memory."""

    def __init__(self, data: bytes, name: str = "<bytes>") -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        return self._data[offset : offset + length]

    def close(self) -> None:
        self._data = b""


class FileSource(_FastSource):
    """A file on disk, read with ``pread``: no shared position, so threads need no lock. Messages call it ``name``."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.name = name or os.fspath(path)
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (close() closes it)
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise self._input_error(error) from error

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        try:
            data = os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise self._input_error(error) from error
        if len(data) != length:
            raise truncated(self, offset, length)
        return data

    def close(self) -> None:
        self._file.close()

    def _input_error(self, error: OSError) -> InputError:
        return InputError(f"{self.name}: {error.strerror or error}")


def source_at(place: str | os.PathLike[str]) -> ByteSource:
    """The file at a path or URL."""
    place = os.fspath(place)
    if not is_url(place):
        return FileSource(place)
    from latq.container.remote import open_url  # Here, because local files do without what it takes.

    return open_url(place)


def check_range(source: ByteSource, offset: int, length: int) -> None:
    """TruncatedError if the source is too short, before anything is allocated for ``length``."""
    if offset < 0 or length < 0 or offset + length > source.size:
        raise truncated(source, offset, length)


def truncated(source: ByteSource, offset: int, length: int) -> TruncatedError:
    return TruncatedError(f"{source.name} is truncated: bytes {offset}..{offset + length} are not there")
