"""Outputs that appear whole or not at all."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from latq.errors import InputError
from latq.sources.files import split_spec
from latq.urls import is_url

# Names of what is temporary, and of the folder in it of the files that an exchange replaces.
_PREFIX, _SUFFIX, _FORMER = ".latq.", ".tmp", "former"
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}


@contextmanager
def atomic_output(path: str | os.PathLike[str], *, force: bool, inputs: Sequence[str] = ()) -> Iterator[Path]:
    """A temporary path that becomes ``path`` if the block succeeds, and is removed if it does not.

    A device or pipe cannot be replaced, so it is yielded itself and written straight.
    """
    if is_url(os.fspath(path)):
        raise InputError(f"{path}: outputs are local files; write to a path and upload it")
    target = Path(os.path.realpath(path))  # Renaming over a symbolic link would cut it from its file.
    if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
        with _explained(path):
            yield Path(path)
        return
    check_output(target, str(path), force, inputs)
    # Named before it is made: a signal may come as soon as it is there.
    temporary = _temporary(target)
    try:
        _reserve(temporary, str(path))
        with _explained(path):
            yield temporary
            _commit(temporary, target)
    finally:
        with suppress(OSError):  # Renamed already, or never made.
            temporary.unlink()


@contextmanager
def atomic_directory(path: str | os.PathLike[str], *, force: bool, holds: str) -> Iterator[Path]:
    """The same for an output that is a directory of files; one is only replaced if it ``holds`` that file."""
    if is_url(os.fspath(path)):
        raise InputError(f"{path}: outputs are local files; write to a path and upload it")
    target = Path(os.path.realpath(path))
    if os.path.exists(target):
        if not (target / holds).is_file():
            raise InputError(f"{path}: exists and is something else; choose another output")
        if not force:
            raise InputError(f"{path}: exists; use -f to overwrite")
    temporary, former = _temporary(target), _temporary(target)
    try:
        try:
            temporary.mkdir()
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; check the directory") from error
        with _explained(path):
            yield temporary
            with suppress(FileNotFoundError):
                os.replace(target, former)
            os.replace(temporary, target)
    finally:
        if os.path.exists(former) and not os.path.exists(target):  # A signal came in between.
            os.replace(former, target)
        for left in temporary, former:
            rmtree(left, ignore_errors=True)


@contextmanager
def atomic_files(
    folder: str | os.PathLike[str], names: Sequence[str], *, force: bool, inputs: Sequence[str] = ()
) -> Iterator[Path]:
    """A temporary folder whose files, called ``names``, come into ``folder`` together if the block succeeds.

    A new folder appears whole. In one that exists other files stay as they are, and the last of ``names`` is the first
    to go and the last to come: whatever happens in between, an index is never there without its files.
    """
    if is_url(os.fspath(folder)):
        raise InputError(f"{folder}: outputs are local files; write to a path and upload it")
    target = Path(os.path.realpath(folder))
    if os.path.exists(target) and not target.is_dir():
        raise InputError(f"{folder}: exists and is no directory; choose another output")
    for name in names:
        check_output(target / name, os.path.join(folder, name), force, inputs)
    is_new = not target.exists()
    temporary = _temporary(target if is_new else target / "checkpoint")
    try:
        try:
            temporary.mkdir()
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}; check the directory") from error
        with _explained(folder):
            yield temporary
            for name in names:
                _write_out(temporary / name)
            if is_new:
                os.rename(temporary, target)
            else:
                with _alone_in(target):
                    _exchange(temporary, target, names)
    finally:
        rmtree(temporary, ignore_errors=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Others who exchange files of ``folder`` wait, so that its files are all from one; where the file system knows no
    locks, they do not. What a process left that was killed in the middle is undone first."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _undo_exchanges(folder)
        yield
    finally:
        os.close(descriptor)


def _undo_exchanges(folder: Path) -> None:
    """Old files come back from exchanges that did not end, and go for good after those that did: only they have a
    folder of such files, which nobody else has while we alone exchange."""
    for fresh in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        former = fresh / _FORMER
        if not former.is_dir():
            continue
        if any(path != former for path in fresh.iterdir()):
            for path in former.iterdir():
                os.replace(path, folder / path.name)
        rmtree(fresh, ignore_errors=True)


def _exchange(fresh: Path, target: Path, names: Sequence[str]) -> None:
    """Move files from ``fresh`` to ``target``: all of them, or, after an error or a signal, none."""
    former = fresh / _FORMER
    former.mkdir()
    try:
        for name in reversed(names):
            with suppress(FileNotFoundError):
                os.replace(target / name, former / name)
        for name in names:
            os.replace(fresh / name, target / name)
    except BaseException:
        for name in names:
            if os.path.lexists(former / name):
                os.replace(former / name, target / name)
            elif not os.path.lexists(fresh / name):
                os.unlink(target / name)
        raise


def _temporary(target: Path) -> Path:
    """A name beside ``target`` that nobody else has."""
    return target.with_name(f"{_PREFIX}{os.getpid()}.{os.urandom(4).hex()}{_SUFFIX}")


def check_output(target: Path, shown: str, force: bool, inputs: Sequence[str]) -> None:
    """InputError if ``target`` may not be written: a directory, one of the ``inputs``, or there without ``force``."""
    if os.path.isdir(target):
        raise InputError(f"{shown}: is a directory; name a file")
    if not os.path.exists(target):
        return
    for spec in inputs:
        source, _ = split_spec(spec)
        if os.path.exists(source) and source.samefile(target):
            raise InputError(f"{shown}: is also an input; choose another output")
    if not force:
        raise InputError(f"{shown}: exists; use -f to overwrite")


def _reserve(temporary: Path, shown: str) -> None:
    """Create the temporary file; being the first write to the directory, this also tells whether it may be written."""
    try:
        # Exclusive, so that neither another writer's file nor a planted link is ever opened.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(f"cannot write {shown}: {error.strerror}; check the directory") from error


def _commit(temporary: Path, target: Path) -> None:
    _write_out(temporary)
    if os.path.exists(target):
        os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
    os.replace(temporary, target)


def _write_out(path: Path) -> None:
    """Bring what was written to the disk. A thread waits for that, because no signal ends the wait: it takes long for a
    large file, and Ctrl-C must not."""
    from concurrent.futures import ThreadPoolExecutor

    waiting = ThreadPoolExecutor(1)
    with open(path, "rb") as file:
        try:
            waiting.submit(os.fsync, file.fileno()).result()
        finally:
            waiting.shutdown(wait=False)


@contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        raise InputError(f"cannot write {path}: {os.strerror(error.errno)}") from error
