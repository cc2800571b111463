"""Passes over several Airflows side by side: one that is slow to answer holds up no other.

Each pass runs in a thread of its own. What it tells is handed to the thread that owns the turns,
which alone writes, draws and counts. The store and the advisor take questions from any thread.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait

from aiops_cli.commands.watch_ops import Terminated
from aiops_cli.pace import begun

Do = Callable[[], object]
Tell = Callable[[Do], None]  # has it done by the thread that owns the turns

LOOK = 0.2  # seconds between two looks at whether the watch is to end
# What is in the middle of something may come to its end, as long as nobody who stops a service
# would notice. After that it is as if it had been killed: the next pass settles it.
LAST = 5.0


def at_once(do: Do) -> None:
    """For a pass in the thread that does what is told."""
    do()


class Turns:
    """The passes that are under way, by the Airflow's name."""

    def __init__(self) -> None:
        self._told: queue.SimpleQueue[Do] = queue.SimpleQueue()
        self._under_way: dict[str, Future[None]] = {}
        self._ended = False

    @property
    def under_way(self) -> Collection[str]:
        return self._under_way.keys()

    def begin(self, name: str, work: Callable[[Tell], None]) -> None:
        future = begun(work, self._tell)
        self._under_way[name] = future
        future.add_done_callback(lambda _: self._told.put(lambda: None))  # wakes who waits

    def over(
        self, seconds: float | None, check: Callable[[], None]
    ) -> Iterator[tuple[str, Future[None]]]:
        """Each pass that is over, as soon as it is; no longer than so many seconds. What the
        others tell is done meanwhile. `check` is asked again and again: what it raises ends the
        wait."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            done = [name for name, future in self._under_way.items() if future.done()]
            self._do_what_is_told()
            for name in done:
                yield name, self._under_way.pop(name)
            left = LOOK if until is None else min(LOOK, until - time.monotonic())
            if not self._under_way or left <= 0:
                return
            check()
            self._do_what_is_told(left)

    def end(self) -> None:
        """Ends what is under way at the next thing that it tells, and waits for that a little."""
        self._ended = True
        wait(self._under_way.values(), LAST)
        self._do_what_is_told()

    def _tell(self, do: Do) -> None:
        if self._ended:
            raise Terminated
        self._told.put(do)

    def _do_what_is_told(self, seconds: float = 0.0) -> None:
        """All that is there; for the first one it waits so long."""
        try:
            do = self._told.get(timeout=seconds) if seconds else self._told.get_nowait()
            while True:
                do()
                do = self._told.get_nowait()
        except queue.Empty:
            return
