"""Ordered maps over threads with a bounded number of items in flight."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int,
    ahead: int = 1,
    within: AbstractContextManager[None] | None = None,
) -> Iterator[R]:
    """``work(item)`` for every item, in order; items are drawn lazily by the calling thread."""
    return ordered_flat_map(lambda item: [work(item)], items, threads, ahead, within)


def ordered_flat_map(
    work: Callable[[T], Iterable[R]],
    items: Iterable[T],
    threads: int,
    ahead: int = 1,
    within: AbstractContextManager[None] | None = None,
) -> Iterator[R]:
    """Everything in ``work(item)`` of every item, in order.

    ``ahead`` more items than there are threads are in flight. When the caller abandons the map, for an error or Ctrl-C,
    threads stop at the next result. The block ``within`` which they work ends before they are waited for.
    """
    within = within or nullcontext()
    if threads <= 1:
        with within:
            for item in items:
                yield from work(item)
        return
    stopped = Event()

    def results(item: T) -> list[R]:
        found: list[R] = []
        for result in work(item):
            found.append(result)
            if stopped.is_set():
                break
        return found

    pending: deque[Future[list[R]]] = deque()
    with ThreadPoolExecutor(threads) as pool, within:
        try:
            for item in items:
                pending.append(pool.submit(results, item))
                if len(pending) >= threads + ahead:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            stopped.set()
            for future in pending:
                future.cancel()
