"""Files behind URLs, read range by range through fsspec.

From a server that does not serve ranges, a file of moderate size is downloaded whole, once.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import IO, Any

from latq.container.ahead import ReadAhead
from latq.container.source import ByteSource, FileSource, check_range, truncated
from latq.errors import InputError

MAX_DOWNLOAD = 256 << 20
"""Bytes of a file that is downloaded whole where ranges are not served."""

# Enough to open most files.
_TAIL_READ = 64 << 10
# Seconds without a byte after which a server counts as gone.
_PATIENCE = 30
_COPIED_AT_ONCE = 1 << 20


def open_url(url: str) -> ByteSource:
    """The file at a URL. InputError if it cannot be read, or if a package that it takes is not installed."""
    remote = _remote_file(url)
    if remote.size:
        try:
            return RemoteSource(remote)
        except _NoRangesError:
            pass
    return _downloaded(remote)


class RemoteSource:
    """A file that is read by ranges; its last bytes are kept."""

    def __init__(self, remote: "_RemoteFile") -> None:
        assert remote.size is not None
        self.name, self.size = remote.url, remote.size
        self._tail_start = max(0, self.size - _TAIL_READ)
        self._tail = remote.fetch(self._tail_start, self.size)
        self._ahead = ReadAhead(remote.fetch)

    def read(self, offset: int, length: int) -> bytes:
        check_range(self, offset, length)
        if offset >= self._tail_start:
            begin = offset - self._tail_start
            data = self._tail[begin : begin + length]
        else:
            data = self._ahead.read(offset, length)
        if len(data) != length:
            raise truncated(self, offset, length)
        return data

    def expecting(self, ranges: Iterable[tuple[int, int]]) -> AbstractContextManager[None]:
        return self._ahead.expecting(r for r in ranges if r[0] < self._tail_start)

    def close(self) -> None:
        self._ahead.close()


class _NoRangesError(InputError):
    """The server sends whole files only."""


class _RemoteFile:
    """A file in a file system of fsspec; ``size`` is None or 0 where that cannot tell.

    Ranges are read without the caches of fsspec, which would read more than they are asked for.
    """

    def __init__(self, url: str, files: Any, path: str) -> None:
        self.url = url
        self._files, self._path = files, path
        info = files.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError("is a directory; name a file")
        self.size: int | None = info.get("size")
        self._lock = Lock()

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes start..stop, fewer where the file has ended; any thread may ask."""
        with _explained(self.url):
            return self._fetch(start, stop)

    def _fetch(self, start: int, stop: int) -> bytes:
        if self._files.async_impl:
            found: bytes = self._files.cat_file(self._path, start=start, end=stop)
            return found
        with self._lock:  # Other file systems may share a connection, or a position, among all their files.
            return self._read(start, stop)

    def _read(self, start: int, stop: int, **options: Any) -> bytes:
        with self._files.open(self._path, cache_type="none", **options) as file:
            file.seek(start)
            found: bytes = file.read(stop - start)
            return found

    def stream(self) -> IO[bytes]:
        """All bytes, from the first to the last."""
        stream: IO[bytes] = self._files.open(self._path)
        return stream


class _HttpFile(_RemoteFile):
    """A file of a web server."""

    def _fetch(self, start: int, stop: int) -> bytes:
        # Not cat_file(), which takes the whole file for the range if that is what the server sends.
        try:
            return self._read(start, stop, size=self.size)
        except ValueError as error:
            raise _NoRangesError(f"{self.url}: the server does not serve ranges of bytes") from error

    def stream(self) -> IO[bytes]:
        stream: IO[bytes] = self._files.open(self._path, block_size=0)
        return stream


def _remote_file(url: str) -> _RemoteFile:
    with _explained(url):
        import fsspec.core

        if not url.startswith(("http://", "https://")):
            return _RemoteFile(url, *fsspec.core.url_to_fs(url))
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=_PATIENCE, sock_read=_PATIENCE)
        return _HttpFile(url, *fsspec.core.url_to_fs(url, timeout=patience))


def _downloaded(remote: _RemoteFile) -> FileSource:
    """A copy on the local disk, that only the source which is returned still knows of."""
    with _explained(remote.url), NamedTemporaryFile() as copy:
        _check_download(remote.url, remote.size or 0)
        with remote.stream() as stream:
            while block := stream.read(_COPIED_AT_ONCE):
                copy.write(block)
                _check_download(remote.url, copy.tell())
        copy.flush()
        return FileSource(copy.name, remote.url)


def _check_download(url: str, size: int) -> None:
    if size > MAX_DOWNLOAD:
        raise InputError(
            f"{url}: the server does not serve ranges of bytes, and the file has more than "
            f"{MAX_DOWNLOAD >> 20} MiB; download it first"
        )


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Whatever the libraries of a protocol raise, as an InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"{url}: {error}; pip install 'latq[remote]' for https, and the package of any other protocol (s3: s3fs)"
        ) from error
    except Exception as error:
        raise InputError(f"{url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        # HTTP: this is all that fsspec makes of any failure to connect, too.
        cause = error.__cause__
        return _reason(cause) if isinstance(cause, Exception) else "no such file"
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    status = getattr(error, "status", None)
    if status is not None:
        return f"the server answers {status} {getattr(error, 'message', '')}".strip()
    return str(error) or type(error).__name__
