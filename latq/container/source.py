"""Random access to bytes: the only thing that the reader needs from a file."""

import os
from typing import Protocol

from latq.errors import InputError, TruncatedError


class ByteSource(Protocol):
    """Bytes that can be read at any offset, by several threads at once."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; fewer are a ``TruncatedError``."""

    def close(self) -> None: ...


class BytesSource:
    """A file that is already in memory."""

    def __init__(self, data: bytes, name: str = "<bytes>") -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        _check_range(self, offset, length)
        return self._data[offset : offset + length]

    def close(self) -> None:
        self._data = b""


class FileSource:
    """A file on disk, read with ``pread``: no shared position, so threads need no lock."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (close() closes it)
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise self._input_error(error) from error

    def read(self, offset: int, length: int) -> bytes:
        _check_range(self, offset, length)
        try:
            data = os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise self._input_error(error) from error
        if len(data) != length:
            raise _truncated(self, offset, length)
        return data

    def close(self) -> None:
        self._file.close()

    def _input_error(self, error: OSError) -> InputError:
        return InputError(f"{self.name}: {error.strerror or error}")


def _check_range(source: ByteSource, offset: int, length: int) -> None:
    """Before anything is allocated for ``length``."""
    if offset < 0 or length < 0 or offset + length > source.size:
        raise _truncated(source, offset, length)


def _truncated(source: ByteSource, offset: int, length: int) -> TruncatedError:
    return TruncatedError(f"{source.name} is truncated: bytes {offset}..{offset + length} are not there")
