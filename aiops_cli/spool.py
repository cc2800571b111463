"""The folder in which Airflow's plugin leaves a small file for each failure.

A file only wakes the watch: what has failed is asked of Airflow, as in every pass. So whatever
lies there, and whoever put it there, can make nobody believe or do anything; and where it is
deleted or full, or on a mount that hangs, the next pass finds everything all the same.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from aiops_cli.pace import begun
from knowledge.records import incident_id

T = TypeVar("T")

MOST = 2_000  # names looked at; the plugin keeps 500
LARGEST = 8_192  # bytes of a file that may be the plugin's
PATIENCE = 1.0  # seconds for a folder that hangs, such as one on a network, once in each hang
# Only such names are ever deleted: the folder may be somebody's home by mistake.
_NAME = re.compile(r"aiops-[0-9]{20}-[0-9a-f]{8}\.json")

# A task says that it has failed before Airflow knows: on a busy machine 5 s before, as Airflow's
# supervisor may look that late whether its process has ended. And a run's failure has no id of its
# own. A file whose incident is not known is looked after again and again, a quarter as long again
# after each time: at 0, 0.5, 1.5, 2.5, 4, 5.5, 7.5, 10, 13 and 17 seconds, and then no more.
LAST = 15.0


@dataclass(slots=True)
class _Held:
    """A file that was seen: when first, how old it was when the last pass began, in seconds."""

    first: datetime
    looked: float = 0.0
    stuck: bool = False  # it cannot be deleted

    def age(self, now: datetime) -> float:
        return (now - self.first).total_seconds()


@dataclass
class Spool:
    """`due` says whether a pass is worth making before its time; each pass is told of by `begin`
    and, where it was whole, `end`."""

    folder: Path
    instance: str
    warn: Callable[[str], None]
    _held: dict[str, _Held] = field(default_factory=dict)
    _hung: Future[Any] | None = None  # that was waited for in vain
    _unreadable: bool = False

    def due(self, now: datetime) -> bool:
        """Whether there is a new file, or one whose failure should be known by now."""
        return any(
            (held := self._held.get(name)) is None
            or (not held.stuck and not 0 <= held.age(now) < 1.25 * held.looked + 0.5)
            for name in self._names()
        )

    def begin(self, now: datetime) -> None:
        there = self._names()
        self._held = {name: self._held.get(name) or _Held(now) for name in there}
        for held in self._held.values():
            held.looked = held.age(now)

    def end(self, known: Callable[[Collection[str]], Collection[str]]) -> None:
        """Delete the files that were there when the pass began and whose incidents are `known`
        now, those that are nothing, and those that were waited for long enough."""
        names = [name for name, held in self._held.items() if not held.stuck]
        try:
            ids = self._in_time(partial(_ids, names, self.instance))
            there = known({id_ for id_ in ids.values() if id_})
            # A clock that was set back would keep a file for ever.
            over = [
                name
                for name, id_ in ids.items()
                if id_ is None or id_ in there or not 0 <= self._held[name].looked < LAST
            ]
            for name in self._in_time(partial(_removed, over)):
                self._held[name].stuck = True
        except TimeoutError:  # told of at the next look at the folder; the files stay held
            return

    def _names(self) -> list[str]:
        try:
            names = self._in_time(_names)
        except FileNotFoundError:  # the plugin makes it
            return []
        except OSError as error:
            if not self._unreadable:
                self.warn(f"the spool {self.folder} cannot be read: {error.strerror}; polling only")
            self._unreadable = True
            return []
        self._unreadable = False
        return names

    def _in_time(self, work: Callable[[Path], T]) -> T:
        """What `work` on the folder comes to. It is done in another thread: a folder that hangs is
        waited for a moment, and then left alone until it answers. Raises what `work` does, and
        TimeoutError."""
        if self._hung is None or self._hung.done():
            future = begun(work, self.folder)
            if wait([future], PATIENCE).done:
                return future.result()
            self._hung = future
        raise TimeoutError(errno.ETIMEDOUT, "it does not answer")


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [one.name for one in islice(entries, MOST) if _NAME.fullmatch(one.name)]


def _removed(names: Collection[str], folder: Path) -> list[str]:
    """Those of the files that cannot be removed."""
    stuck = []
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError:
            stuck.append(name)
    return stuck


def _ids(names: Collection[str], instance: str, folder: Path) -> Mapping[str, str | None]:
    return {name: _id(folder / name, instance) for name in names}


def _id(file: Path, instance: str) -> str | None:
    """The id of the incident that a file is about, "" where that cannot be said, None for
    something that is not the plugin's."""
    try:
        said = _document(file)
    except OSError:
        return ""
    except (ValueError, RecursionError):
        return None
    match said:
        case {"kind": "run" | "import"}:
            return ""
        case {
            "kind": "task",
            "dag_id": str(dag_id),
            "run_id": str(run_id),
            "task_id": str(task_id),
            "map_index": int(index),
            "try_number": int(number),
        }:
            return incident_id(instance, dag_id, run_id, task_id, index, number)
    return None


def _document(path: Path) -> object:
    """The JSON of a file. Raises OSError where it cannot be read, ValueError where it is not a
    small plain file with JSON in it."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("a link, a folder or a pipe")
    # Never a link, never a wait for a pipe's other end: it may have been exchanged just now.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError("larger than the plugin writes")
    return json.loads(data)
