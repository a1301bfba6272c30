"""Ranges of a slow source fetched before they are read: neighbours in one request, several requests at once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock

from latq.errors import InputError

Range = tuple[int, int]
"""Offset, length."""

REQUESTS = 8
"""Requests at the same time."""

JOINED_BYTES = 4 << 20
"""Bytes of ranges that one request is to fetch; a longer range has one of its own."""

AHEAD_BYTES = 32 << 20
"""Bytes that are fetched before they are asked for."""

# Bytes between two ranges that may be fetched for nothing: what lies between the payloads of neighbouring chunks.
_GAP = 64 << 10


@dataclass(eq=False)
class _Batch:
    """Neighbouring ranges that one request fetches; ``unread`` are those still to be asked for."""

    start: int
    stop: int
    unread: set[Range]
    started: bool = False
    data: Future[bytes] = field(default_factory=Future)

    @property
    def size(self) -> int:
        return self.stop - self.start

    def add(self, offset: int, length: int) -> bool:
        """Take in a range that follows and fits."""
        stop = offset + length
        fits = self.stop <= offset <= self.stop + _GAP and stop - self.start <= JOINED_BYTES
        if fits:
            self.stop = stop
            self.unread.add((offset, length))
        return fits


class ReadAhead:
    """Reads through ``fetch(start, stop)``, which several threads may call at once."""

    def __init__(self, fetch: Callable[[int, int], bytes]) -> None:
        self._fetch = fetch
        self._pool = ThreadPoolExecutor(REQUESTS)
        self._lock = Lock()
        self._expected: dict[Range, _Batch] = {}
        self._waiting: deque[_Batch] = deque()
        self._ahead = 0  # Bytes of the batches that were started and not read to their end.
        self._abandoned: set[Range] = set()

    @contextmanager
    def expecting(self, ranges: Iterable[Range]) -> Iterator[None]:
        """While the block runs, ``ranges`` are fetched ahead in their order, each for one ``read``.

        Where it ends with an exception, threads that wait for one of them, or are about to, get an InputError at once.
        """
        wanted = list(ranges)
        with self._lock:
            self._abandoned.clear()
            batches = self._batches(wanted)
            self._waiting.extend(batches)
            self._start_waiting()
        try:
            yield
        except BaseException:
            with self._lock:
                self._abandoned.update(*(batch.unread for batch in batches))
            raise
        finally:
            with self._lock:
                for batch in batches:
                    self._drop(batch)
                self._start_waiting()

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range; fewer if ``fetch`` gave fewer."""
        with self._lock:
            if (offset, length) in self._abandoned:
                raise _abandoned()
            batch = self._expected.pop((offset, length), None)
            if batch is not None:
                if not batch.started:
                    self._start(batch)
                batch.unread.discard((offset, length))
                if not batch.unread:
                    self._ahead -= batch.size
                    self._start_waiting()
        if batch is None:
            return self._fetch(offset, offset + length)
        begin = offset - batch.start
        return batch.data.result()[begin : begin + length]

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _batches(self, ranges: Iterable[Range]) -> list[_Batch]:
        batches: list[_Batch] = []
        for offset, length in ranges:
            if (offset, length) in self._expected:  # By another thread; one of the two will have to fetch it itself.
                continue
            if not (batches and batches[-1].add(offset, length)):
                batches.append(_Batch(offset, offset + length, {(offset, length)}))
            self._expected[offset, length] = batches[-1]
        return batches

    def _start_waiting(self) -> None:
        """Start batches in order, as far as there is room for them."""
        while self._waiting and (not self._ahead or self._ahead + self._waiting[0].size <= AHEAD_BYTES):
            self._start(self._waiting[0])

    def _start(self, batch: _Batch) -> None:
        self._waiting.remove(batch)
        self._ahead += batch.size
        batch.started = True
        self._pool.submit(self._fill, batch)

    def _fill(self, batch: _Batch) -> None:
        with suppress(InvalidStateError):  # It was dropped in the meantime.
            try:
                data = self._fetch(batch.start, batch.stop)
            except Exception as error:
                batch.data.set_exception(error)
            else:
                batch.data.set_result(data)

    def _drop(self, batch: _Batch) -> None:
        """Let go of a batch, whatever has become of it; a signal may have come at any point."""
        for place in batch.unread:
            self._expected.pop(place, None)
        if batch.started and batch.unread:
            self._ahead -= batch.size
        with suppress(ValueError):  # It was started.
            self._waiting.remove(batch)
        with suppress(InvalidStateError):  # It is there.
            batch.data.set_exception(_abandoned())


def _abandoned() -> InputError:
    return InputError("these bytes were to be read by an operation that has ended")
