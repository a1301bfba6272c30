"""Products on a Dask cluster: every worker opens the operands itself, and multiplies one block at a time."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from signal import SIG_BLOCK, SIGINT, pthread_sigmask
from threading import Lock
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from distributed import Client, LocalCluster, as_completed, get_worker

from latq.errors import InputError, LatqError
from latq.products.blocks import Block
from latq.products.estimator import Progress
from latq.products.multiplier import Multiplier, Outcome
from latq.products.segment import Pair, segments_of
from latq.products.tile import ErrorKind, Statistics
from latq.sources import WritableArray

LOCAL = "local"
# Seconds in which a scheduler has to answer, and to have a worker.
PATIENCE = 5
# Blocks for each worker that are under way.
_AHEAD = 2

F32 = npt.NDArray[np.float32]
Opened = Callable[[], AbstractContextManager[Sequence[Pair]]]
# What tells operands from others: vectors, their length, and of compressed ones their checksums.
_Identity = tuple[tuple[int, int, bytes], ...]


@contextmanager
def workers_at(address: str, threads: int, opened: Opened, pairs: Sequence[Pair]) -> Iterator["Cluster"]:
    """Those of the cluster whose scheduler is at ``address``, or "local" for one of so many processes here.

    They find the operands through ``opened``, which yields ``pairs`` wherever it is called. InputError if no scheduler
    answers or there are no workers.
    """
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # What goes wrong is said once, by an exception.
    with ExitStack() as stack:
        if address == LOCAL:
            address = stack.enter_context(_local_cluster(threads))
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE))
        except (OSError, ValueError) as error:
            raise InputError(f"{address}: no Dask scheduler answers; check the address") from error
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise InputError(f"{address}: the Dask cluster has no workers; start some") from error
        cluster = Cluster(client, opened, pairs)
        stack.callback(cluster.stop)
        yield cluster


@contextmanager
def _local_cluster(processes: int) -> Iterator[str]:
    """Its address. Its processes get no Ctrl-C: it is blocked in the thread that starts them, which they inherit."""
    resource_tracker.ensure_running()  # Else the first of them would start it, and unblock Ctrl-C.
    with ThreadPoolExecutor(1, initializer=pthread_sigmask, initargs=(SIG_BLOCK, {SIGINT})) as starter:
        starting = starter.submit(
            LocalCluster, processes, threads_per_worker=1, memory_limit=0, silence_logs=logging.CRITICAL,
            dashboard_address=None, scheduler_kwargs={"dashboard_address": ":0"},  # Not at a port that may be in use.
        )  # fmt: skip
        try:
            yield starting.result().scheduler_address
        finally:
            starting.result().close()


class Cluster:
    """Workers of a Dask cluster, which find the operands through ``opened``: what yields ``pairs``, on any of them."""

    def __init__(self, client: Client, opened: Opened, pairs: Sequence[Pair]) -> None:
        self._client, self._opened, self._identity = client, opened, _identity(pairs)
        self._key = uuid4().hex
        self._running = as_completed()

    def multiply(
        self, blocks: Sequence[Block], batch: int, outcome: Outcome, progress: Progress
    ) -> Iterator[tuple[Block, Statistics]]:
        """Write blocks, in any order; each with what was found for it.

        Arrays of chunks are written by the workers, others here. What latq raises on a worker is raised here, LatqError
        for anything else.
        """
        arrays = [array for array in (outcome.target, outcome.bars) if array is not None]
        shared = tuple(array if hasattr(array, "chunks") else None for array in arrays)
        job = _Job(self._key, self._opened, self._identity, outcome.kind, outcome.shrink, batch, shared)
        todo = iter(blocks)

        def submit(count: int) -> None:
            for block in islice(todo, count):
                self._running.add(self._client.submit(_multiply, job, block, pure=False))

        submit(_AHEAD * len(self._client.nthreads()))
        for future in self._running:
            block, statistics, values = _result(future)
            submit(1)
            for array, part in zip(arrays, values, strict=True):
                if part is not None:
                    array[block.place] = part
            progress(block.size)
            yield block, statistics

    def stop(self) -> None:
        """Cancel what is not begun, and wait for the blocks at work: nothing is written after that."""
        with suppress(OSError):  # Workers that are gone do nothing more.
            self._client.cancel(list(self._running.futures))
            self._client.run(_forget, self._key, on_error="ignore")


def _result(future: Any) -> Any:
    try:
        return future.result()
    except LatqError:
        raise
    except Exception as error:
        raise LatqError(f"a Dask worker failed: {type(error).__name__}: {error}") from error


def _identity(pairs: Sequence[Pair]) -> _Identity:
    return tuple((operand.m, operand.n, operand.identity) for pair in pairs for operand in pair)


@dataclass(frozen=True)
class _Job:
    """A product, as a worker is told of it. Of estimate and errors, those are ``shared`` that workers write."""

    key: str
    opened: Opened
    identity: _Identity
    kind: ErrorKind
    shrink: float
    batch: int
    shared: tuple[WritableArray | None, ...]


class _Window:
    """The array of one block after the other, addressed as part of the whole output."""

    shape, dtype = (0, 0), np.dtype(np.float32)

    def begin(self, block: Block) -> F32:
        self._first = block.a0, block.b0
        self._values = np.empty((block.a1 - block.a0, block.b1 - block.b0), self.dtype)
        return self._values

    def __getitem__(self, index: tuple[slice, ...], /) -> F32:
        return self._values[self._within(index)]

    def __setitem__(self, index: tuple[slice, ...], block: F32, /) -> None:
        self._values[self._within(index)] = block

    def _within(self, index: tuple[slice, ...]) -> tuple[slice, ...]:
        return tuple(slice(part.start - at, part.stop - at) for part, at in zip(index, self._first, strict=True))


class _Workplace:
    """A job in this process: its files stay open, and columns of B in memory, from one block to the next."""

    def __init__(self, job: _Job, threads: int) -> None:
        self._job = job
        self._windows = [_Window() for _ in job.shared]
        with ExitStack() as stack:
            pairs = stack.enter_context(job.opened())
            if _identity(pairs) != job.identity:
                raise InputError("the operands on a Dask worker are others than here; give all machines the same files")
            bars = self._windows[1] if len(self._windows) > 1 else None
            outcome = Outcome(self._windows[0], bars, job.kind, job.shrink)
            self._multiplier = Multiplier(segments_of(pairs)[0], outcome, threads, lambda entries: None)
            self.close = stack.pop_all().close

    def multiply(self, block: Block) -> tuple[Statistics, list[F32 | None]]:
        """What was found, and the arrays that are not shared."""
        values = [window.begin(block) for window in self._windows]
        statistics = self._multiplier.multiply(block, self._job.batch)
        kept: list[F32 | None] = []
        for array, part in zip(self._job.shared, values, strict=True):
            if array is not None:
                array[block.place] = part
            kept.append(part if array is None else None)
        return statistics, kept


# Of this process: it works on one block at a time, with all of its threads, so that their columns are there once.
_LOCK = Lock()
_WORKPLACES: dict[str, _Workplace] = {}
_FORGOTTEN: set[str] = set()


def _multiply(job: _Job, block: Block) -> tuple[Block, Statistics, list[F32 | None]]:
    with _LOCK:
        if job.key in _FORGOTTEN:
            raise LatqError("cancelled")
        if job.key not in _WORKPLACES:
            _WORKPLACES[job.key] = _Workplace(job, get_worker().state.nthreads)
        return block, *_WORKPLACES[job.key].multiply(block)


def _forget(key: str) -> None:
    """Wait for the block at work, and do no more."""
    with _LOCK:
        _FORGOTTEN.add(key)
        if workplace := _WORKPLACES.pop(key, None):
            workplace.close()
