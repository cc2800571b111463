"""Reading many things at once, politely: in order, a few at a time, fewer when the server is slow.

The work runs in threads, which end with the program: whoever presses Ctrl-C does not wait for a
log that is long in coming. What comes of it is handled by the caller, in its own thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from statistics import median
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

SAMPLE = 5  # answers whose median is the server's usual time, and then its time now
SLOWER = 3.0  # times the usual: then half as many are asked at once
BIG_BYTES = 4 * 1024 * 1024  # a log from here on is read while no other big one is


class Pace:
    """How many at once: `most`, halved down to one whenever the median time of the last SAMPLE
    answers is more than SLOWER times that of the first."""

    def __init__(self, most: int) -> None:
        self.limit = max(1, most)
        self._usual: float | None = None
        self._last: deque[float] = deque(maxlen=SAMPLE)

    def took(self, seconds: float) -> None:
        """One answer's time."""
        self._last.append(seconds)
        if len(self._last) < SAMPLE:
            return
        now = median(self._last)
        if self._usual is None:
            self._usual = now
        elif now > SLOWER * self._usual:
            self.limit = max(1, self.limit // 2)
        else:
            return
        self._last.clear()


def ahead(
    jobs: Iterable[T],
    work: Callable[[T], R],
    most: int,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[T, Future[R]]]:
    """Each job with what came of its work, which is done by then, in order; at most `most` are
    worked on at once. A job is taken from `jobs` when its work can begin."""
    pace = Pace(most)
    under_way: deque[tuple[T, Future[tuple[R, float]]]] = deque()

    def timed(job: T) -> tuple[R, float]:
        start = clock()
        return work(job), clock() - start

    def first() -> tuple[T, Future[R]]:
        job, future = under_way.popleft()
        done: Future[R] = Future()
        error = future.exception()
        if error is None:
            result, seconds = future.result()
            pace.took(seconds)
            done.set_result(result)
        else:
            done.set_exception(error)
        return job, done

    for job in jobs:
        while len(under_way) >= pace.limit:
            yield first()
        under_way.append((job, begun(timed, job)))
    while under_way:
        yield first()


def begun(work: Callable[[T], R], job: T) -> Future[R]:
    """The work on one job, in a thread that ends with the program."""
    future: Future[R] = Future()

    def run() -> None:
        try:
            future.set_result(work(job))
        except BaseException as error:  # noqa: BLE001 -- raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def one_big_at_a_time(
    pieces: Iterable[bytes], turn: threading.Lock
) -> Generator[bytes, None, None]:
    """The pieces of one log. From BIG_BYTES on they are read while no other log's are."""
    read, held = 0, False
    try:
        for piece in pieces:
            read += len(piece)
            if read > BIG_BYTES and not held:
                held = turn.acquire()
            yield piece
    finally:
        if held:
            turn.release()
