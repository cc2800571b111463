"""Reading what is new in a pass: a few at a time, without waiting for ever for what Airflow never
sends, and how far the next pass has to look back.

A log that Airflow cannot send is asked for again on each pass for an hour. Then its failure is
captured without it, for a person: nobody would ever hear of it otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from aiops_cli import capture
from aiops_cli.context import Snapshot
from aiops_cli.errors import AirflowError, AirflowUnreachable
from aiops_cli.examine import Desk, read, take_in
from aiops_cli.incidents import ImportFailure, Incident, TaskInstance
from aiops_cli.pace import ahead
from aiops_cli.respond import Warn
from aiops_cli.settle import away
from knowledge.records import Case

# Looked at again on every pass: clocks differ, and Airflow writes an end date some time after
# the end. What is known already costs no request.
OVERLAP = timedelta(hours=1)

# A worker has sent a log to an object store by then, or never will.
LOG_COMES = timedelta(seconds=30)

# What Airflow cannot send is asked for again so long. A store of logs that is away is back by then.
UNREAD_FOR = timedelta(hours=1)

# So many that Airflow cannot send are waited for at once: a store of logs that is away answers
# each question after minutes only.
MOST_UNREAD = 5


class Tried(NamedTuple):
    """When a failure was asked for in vain, first and last."""

    first: datetime
    last: datetime


@dataclass
class Reading:
    """How far a pass has come with what is new. `tried` is what could not be read, by id; `oldest`
    the oldest end among what is an incident, `left` among what is still to be read."""

    desk: Desk
    snapshot: Snapshot
    warn: Warn
    tick: Callable[[int], None]
    tried: dict[str, Tried] = field(default_factory=dict)
    done: int = 0
    oldest: datetime | None = None
    left: datetime | None = None
    unread: int = 0

    @property
    def enough(self) -> bool:
        """Whether so many could not be read that the others are for a later pass."""
        return self.unread >= MOST_UNREAD

    def leave(self, failures: Iterable[capture.Failure]) -> None:
        """They are for a later pass."""
        for failure in failures:
            at = end(failure, self.desk.clock.now())
            self.left = at if self.left is None else min(at, self.left)


def begun(
    desk: Desk,
    snapshot: Snapshot,
    warn: Warn,
    tick: Callable[[int], None],
    new: Mapping[str, capture.Failure],
) -> Reading:
    """With what is remembered of earlier passes about what is `new`."""
    before = json.loads(desk.knowledge.store.mark(_unread(desk)) or "{}")
    tried = {
        id_: Tried(*map(datetime.fromisoformat, times))
        for id_, times in before.items()
        if id_ in new
    }
    return Reading(desk, snapshot, warn, tick, tried)


def captured(
    reading: Reading, new: Sequence[capture.Failure]
) -> Iterator[tuple[Case, capture.Failure]]:
    """Read new failures, store and judge them. What cannot be read is left for a later pass; after
    UNREAD_FOR it is stored without what should have been read."""
    desk, snapshot, reading.unread = reading.desk, reading.snapshot, 0
    readings = ahead(new, partial(read, desk, snapshot), desk.settings.concurrency)
    for place, (failure, built) in enumerate(readings):
        reading.tick(reading.done)
        reading.done += 1
        try:
            seen = built.result()
            if seen is not None and _log_may_come(seen, desk.clock.now()):
                reading.leave([failure])
                continue
            case = take_in(desk, snapshot, failure, seen)
            reading.tried.pop(capture.id_of(failure, desk.instance), None)
        except AirflowError as error:
            if away(desk, error):
                raise
            case = _given_up(reading, failure, error)
            reading.unread += isinstance(error, AirflowUnreachable)
        if case is not None:
            at = case.incident.failed_at
            reading.oldest = at if reading.oldest is None else min(at, reading.oldest)
            yield case, failure
        if reading.enough and place + 1 < len(new):
            reading.leave(new[place + 1 :])
            reading.warn("what else is new is left for the next pass")
            return


def ended(reading: Reading, seen: Iterable[capture.Failure]) -> None:
    """Remember how far the pass has come; `seen` is all that Airflow told of."""
    desk = reading.desk
    tried = {id_: [at.isoformat() for at in times] for id_, times in reading.tried.items()}
    text = json.dumps(tried, sort_keys=True)
    if (desk.knowledge.store.mark(_unread(desk)) or "{}") != text:
        desk.knowledge.store.set_mark(_unread(desk), text)
    _advance(desk, seen, reading.oldest, reading.left)


def end(failure: capture.Failure, now: datetime) -> datetime:
    """When it failed; an import error fails now."""
    return now if isinstance(failure, ImportFailure) else failure.end_date or now


def _unread(desk: Desk) -> str:
    return f"unread {desk.instance}"


def _log_may_come(seen: Incident, now: datetime) -> bool:
    """Whether a try that has just failed says nothing because its log is still on its way: Airflow
    says that a task has failed, and then sends its log to where logs are kept."""
    fresh = abs(now - seen.failed_at) < LOG_COMES
    return seen.kind == "task" and not seen.excerpt.text and fresh


def _given_up(reading: Reading, failure: capture.Failure, error: AirflowError) -> Case | None:
    """The failure captured without what Airflow does not send; None while it is waited for, which
    is told once."""
    desk, now = reading.desk, reading.desk.clock.now()
    id_, name = capture.id_of(failure, desk.instance), capture.name_of(failure)
    before = reading.tried.get(id_)
    waited = before is not None and now - before.first >= UNREAD_FOR
    # For an import error nothing had to be read: it is stored.
    if isinstance(failure, ImportFailure) or not waited:
        reading.leave([failure])
        reading.tried[id_] = Tried(before.first if before else now, now)
        if before is None:
            reading.warn(f"{name}: not read yet: {error.message}")
        return None
    hours = UNREAD_FOR.total_seconds() / 3600
    what = "log" if isinstance(failure, TaskInstance) else "tasks"
    why = f"Airflow did not send its {what} within {hours:.0f} h: {error.message}"
    reading.warn(f"{name}: captured without its {what}: {error.message}")
    incident = capture.unread(
        reading.snapshot, failure, instance=desk.instance, now=now, notice=why
    )
    with suppress(AirflowError):  # of what the gate looks at: it is judged when that can be read
        take_in(desk, reading.snapshot, failure, incident)
    del reading.tried[id_]
    return desk.knowledge.store.case(id_)


def _advance(
    desk: Desk, seen: Iterable[capture.Failure], oldest: datetime | None, left: datetime | None
) -> None:
    """Move the mark to the newest end that Airflow told of: by Airflow's clock, so that a host
    whose own clock is wrong hides nothing from anybody. An end in the future, which a worker's
    wrong clock has written, is not believed: until then nothing else would be listed.

    No further than to what is `left` to be read. Not yet where something new is older than the
    next look's overlap (`oldest` is the oldest of what is new): while one page follows the other
    rows may move from the next to the last, where nobody reads them, so a second look at the
    whole time has to find nothing new."""
    store, now = desk.knowledge.store, desk.clock.now()
    ends = [one.end_date for one in seen if isinstance(one, TaskInstance) and one.end_date]
    mark = store.watermark(desk.instance)
    newest = max([*ends, *([mark] if mark else [])], default=None)
    if newest is None:
        return
    newest = min(newest, now, left or now)
    if mark is not None:  # never back, but from the future
        newest = max(newest, min(mark, now))
    if oldest is not None and oldest < newest - OVERLAP:
        return
    if newest != mark:
        store.set_watermark(desk.instance, newest)
