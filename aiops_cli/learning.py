"""Airflow's own history, walked politely: what ended each failure becomes a lesson.

Day by day, the oldest first, so that whoever stops it goes on where it was; a task instance costs
three requests and one for each log, and what stands above it is asked for where somebody ran it
again. Only what the logs that still exist can show is learned; what
could not be read is counted with its reason.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import NamedTuple

from aiops_cli.actions.graph import upstream_ids
from aiops_cli.capture import log_of, signed
from aiops_cli.changes import CHANGE_EVENTS, changes
from aiops_cli.context import LOST_BEFORE, LOST_EVENTS, lost_of
from aiops_cli.errors import (
    AirflowAuth,
    AirflowError,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
)
from aiops_cli.examine import Desk
from aiops_cli.incidents import Event, TaskInstance
from aiops_cli.mining import (
    ACT_EVENTS,
    Seen,
    acts_of,
    cleared,
    endings,
    lesson_of,
    stamped_tries,
)
from aiops_cli.pace import ahead
from aiops_cli.published import utc
from aiops_cli.seams import Airflow, Clock
from knowledge.lessons import told_apart
from knowledge.records import Lesson, incident_id
from knowledge.stores import PutCounts, Store

WINDOW = timedelta(days=1)  # read between two marks
PER_SECOND = 10  # task instances that are begun, at most
LATEST = timedelta(hours=1)  # Airflow writes an end date some time after the end
ROWS = 200  # of the event log that are read of one task instance
TASKS_KEPT = 64  # of which it is kept what ran above them: instances of one task come together

NO_ERROR = "its log names no error"
NO_RIGHT = "this login may not read all of its DAG"

Tick = Callable[[int, int | None], None]
Above = Callable[[str, str, str], datetime | None]  # `began_above` by DAG, run and task


@dataclass(frozen=True, slots=True)
class Reading:
    """What one task instance's history told: lessons, failed tries that taught nothing and why,
    and how many an aiops ran again or nobody did. `refused` says that a right was missing."""

    lessons: tuple[Lesson, ...] = ()
    unread: Counter[str] = field(default_factory=Counter)
    by_aiops: int = 0
    never: int = 0
    refused: bool = False


@dataclass(slots=True)
class Learned:
    """What a walk has read and learned so far. Bounded by the number of different failures.
    `refused` are DAGs that a right is missing for, with since when they are not read."""

    since: datetime
    until: datetime
    task_instances: int = 0
    lessons: int = 0
    never: int = 0
    by_aiops: int = 0
    refused: dict[str, datetime] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failures: dict[str, Counter[tuple[str, str, str]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    headlines: dict[str, str] = field(default_factory=dict)
    entries: PutCounts = field(default_factory=PutCounts)

    def take(self, reading: Reading) -> None:
        self.task_instances += 1
        self.lessons += len(reading.lessons)
        self.never += reading.never
        self.by_aiops += reading.by_aiops
        self.unread += reading.unread
        for one in reading.lessons:
            answer = (one.action or "not known", one.mode, one.outcome)
            self.answers[answer] += 1
            self.failures[one.signature.fingerprint][answer] += 1
            self.headlines.setdefault(one.signature.fingerprint, one.signature.headline)


def learn(
    desk: Desk,
    *,
    since: datetime,
    dag: str | None = None,
    dry_run: bool = False,
    tick: Tick = lambda _done, _of: None,
) -> Learned:
    """Read what failed from `since` on, in DAGs that fit the glob, and store its lessons and the
    entries they amount to; what an earlier walk has read is not read again. A `dry_run` reads all
    and stores nothing. `tick` is told how many of how many days are done.

    Raises AirflowUnreachable or AirflowAuth; what was read before is kept, and the next walk goes
    on from there.
    """
    store, now = desk.knowledge.store, desk.clock.now()
    name = f"learned {desk.instance} {dag or '*'}"
    mark = _left_to_read(None if dry_run else store.mark(name), since, now)
    learned = Learned(mark.until, now)
    days = -(-(now - mark.until) // WINDOW)
    for one, begin in mark.refused.items():
        tick(0, days)
        _read_again(desk, learned, one, max(begin, since), mark.until)
    for day in range(days):
        tick(day, days)
        begin = mark.until + day * WINDOW
        end = min(begin + WINDOW, now)
        _read_window(desk, learned, begin, end, dag, dry_run)
        if not dry_run:
            _set_mark(store, name, Mark(mark.since, min(end, now - LATEST), learned.refused))
    if not dry_run:
        learned.entries = desk.knowledge.learn_history(store.lesson_counts(), now)
    return learned


class Mark(NamedTuple):
    """What has been read: all from `since` to `until`, but of the DAGs `refused` nothing since
    their time, as a right was missing."""

    since: datetime
    until: datetime
    refused: Mapping[str, datetime]


def _left_to_read(text: str | None, since: datetime, now: datetime) -> Mark:
    known = json.loads(text) if text else None
    if known is not None:
        first, last = (datetime.fromisoformat(known[end]) for end in ("since", "until"))
        if first <= since <= last:
            refused = known.get("refused", {}).items()
            read = {dag: datetime.fromisoformat(begin) for dag, begin in refused}
            return Mark(first, min(last, now), read)
    return Mark(since, since, {})


def _set_mark(store: Store, name: str, mark: Mark) -> None:
    refused = {dag: begin.isoformat() for dag, begin in mark.refused.items()}
    told = {"since": mark.since.isoformat(), "until": mark.until.isoformat(), "refused": refused}
    store.set_mark(name, json.dumps(told))


def _read_again(desk: Desk, learned: Learned, dag: str, begin: datetime, until: datetime) -> None:
    """Read a DAG's days that a right was missing for, up to the first that it still is missing
    for: without it that is a task instance or two, and not all of them every night."""
    while begin < until and dag not in learned.refused:
        end = min(begin + WINDOW, until)
        try:
            _read_window(desk, learned, begin, end, dag, dry_run=False)
        except AirflowNotFound:  # gone from Airflow
            return
        except AirflowForbidden:
            learned.refused[dag] = begin
        begin = end


def _read_window(
    desk: Desk, learned: Learned, begin: datetime, end: datetime, dag: str | None, dry_run: bool
) -> None:
    """Read what ended in this time. Raises as `Airflow.troubled` does."""
    jobs = _spaced(_jobs(desk, learned, begin, end, dag), desk.clock)
    above = lru_cache(maxsize=TASKS_KEPT)(partial(began_above, desk.airflow))
    work = partial(_read, desk.airflow, above, desk.instance, desk.clock.now())
    for (live, _), reading in ahead(jobs, work, desk.settings.concurrency):
        try:
            read = reading.result()
        except (AirflowUnreachable, AirflowAuth):
            raise
        except AirflowForbidden as error:
            read = Reading(unread=Counter([error.message]), refused=True)
        except AirflowError as error:
            read = Reading(unread=Counter([f"{live.ref.dag_id}: {error.message}"]))
        if not dry_run and read.lessons:
            desk.knowledge.store.add_lessons(read.lessons)
        apart = told_apart(read.lessons, desk.knowledge.machine_logins)
        learned.take(replace(read, lessons=apart))
        if read.refused:
            learned.refused.setdefault(live.ref.dag_id, begin)


Job = tuple[TaskInstance, frozenset[int]]


def _jobs(
    desk: Desk, learned: Learned, begin: datetime, end: datetime, dag: str | None
) -> Iterator[Job]:
    """The task instances of which anything is left to learn, each with the tries to leave out: what
    was learned before, and what this knowledge base did itself."""
    store = desk.knowledge.store
    for live in desk.airflow.troubled(since=begin, until=end, dag_id=dag):
        if live.state == "failed" and live.try_number == 1:  # nothing came after it
            learned.take(Reading(never=1))
            continue
        if live.ref.dag_id in learned.refused:  # rights are given by DAG
            learned.take(Reading(unread=Counter([NO_RIGHT])))
            continue
        ids = _ids(desk.instance, live)
        known = {ids[one] for one in store.known_lessons(ids)}
        if known.issuperset(range(1, live.try_number)):
            continue
        ref = live.ref
        ours = {
            ids[trial.incident_id]
            for trial in store.trials(task=(desk.instance, ref.dag_id, ref.task_id))
            if trial.incident_id in ids and trial.outcome != "rejected"
        }
        yield live, frozenset(known | ours)


def _ids(instance: str, live: TaskInstance) -> dict[str, int]:
    """The id that each try has as an incident → its number."""
    ref = live.ref
    return {
        incident_id(instance, ref.dag_id, ref.run_id, ref.task_id, ref.map_index, number): number
        for number in range(1, live.try_number + 1)
    }


def _spaced(jobs: Iterator[Job], clock: Clock) -> Iterator[Job]:
    """No more than PER_SECOND a second."""
    free_at = clock.now()
    for job in jobs:
        clock.sleep(max(0.0, (free_at - clock.now()).total_seconds()))
        free_at = max(free_at, clock.now()) + timedelta(seconds=1 / PER_SECOND)
        yield job


# ---- one task instance ----


def _read(airflow: Airflow, above: Above, instance: str, now: datetime, job: Job) -> Reading:
    """What is to be learned of one task instance."""
    live, left_out = job
    try:
        seen, events = look(airflow, live, above)
    except AirflowNotFound:
        return Reading(unread=Counter(["it is gone from Airflow"]))
    lessons, unread, refused = [], Counter[str](), False
    for ending in endings(seen):
        if ending.failed.try_number in left_out:
            continue
        excerpt = log_of(airflow, ending.failed)
        excerpt, signature = signed(excerpt, lost_of(events, ending.failed))
        if signature.text:
            text = naming(excerpt.text, live)
            lessons.append(lesson_of(ending, signature, text, instance=instance, seen_at=now))
        else:
            unread[_why(excerpt.notice)] += 1
            refused |= excerpt.notice.startswith("the log cannot be read")
    failed = [one for one in seen.tries if one.state == "failed"]
    return Reading(
        lessons=tuple(lessons),
        unread=unread,
        by_aiops=sum(one.try_number in seen.stamped for one in failed),
        never=int(live.state == "failed"),
        refused=refused,
    )


def _why(notice: str) -> str:
    """Why a log taught nothing; without what differs from worker to worker, so that it can be
    counted."""
    return "its log is gone" if "not found" in notice.lower() else notice or NO_ERROR


def look(airflow: Airflow, live: TaskInstance, above: Above) -> tuple[Seen, Sequence[Event]]:
    """All tries of a task instance, and what people did and changed between them, with the rows of
    the event log about its run. Three requests; `above` is asked where somebody ran it again.
    Raises AirflowForbidden without a right to the event log: whether it was only run again is not
    known then."""
    ref, tries = live.ref, airflow.tries(live.ref)
    ends = [one.end_date for one in tries if one.state == "failed" and one.end_date]
    ends += [live.end_date] if not ends and live.end_date else []  # marked since
    if not ends:
        return Seen(live, tries), ()
    first = min(ends)
    events = airflow.events(
        since=first - LOST_BEFORE,
        dag_id=ref.dag_id,
        run_id=ref.run_id,
        names=(*ACT_EVENTS, *LOST_EVENTS),
        limit=ROWS,
    )
    last = max((one.start_date for one in tries if one.start_date), default=first)
    rows: Sequence[Event] = ()
    if last > first:
        rows = airflow.events(since=first, until=last, names=CHANGE_EVENTS, limit=ROWS)
    seen = Seen(
        live=live,
        tries=tries,
        acts=acts_of(events, ref),
        # Of a run with more rows the oldest are cut off, and with them who marked it or whose
        # stamp it bore: what was done is not known then.
        changes=None
        if ROWS in (len(rows), len(events))
        else [one for row in rows for one in changes(row)],
        stamped=stamped_tries(events, ref, live.note),
    )
    if cleared(seen):
        seen = replace(seen, above=above(ref.dag_id, ref.run_id, ref.task_id))
    return seen, events


def began_above(airflow: Airflow, dag_id: str, run_id: str, task_id: str) -> datetime | None:
    """When the newest try of anything above the task in its run began; of anything else in it
    where the DAG has no such task any more. Two requests."""
    try:
        tasks = airflow.tasks(dag_id)
    except AirflowNotFound:
        tasks = {}
    above = upstream_ids(tasks, task_id)
    if task_id in tasks and not above:
        return None
    began = [
        one.start_date
        for one in airflow.run_task_instances(dag_id, run_id)
        if one.start_date
        and (one.ref.task_id in above if task_id in tasks else one.ref.task_id != task_id)
    ]
    return max(began, default=None)


def naming(excerpt: str, live: TaskInstance) -> str:
    """All that may name what a task uses."""
    return "\n".join([excerpt, *map(str, live.rendered_fields.values())])


# ---- told ----


def document(desk: Desk, learned: Learned, *, top: int, dry_run: bool) -> dict[str, object]:
    """What a walk has read and learned, as JSON."""
    return {
        "instance": desk.instance,
        "since": utc(learned.since),
        "until": utc(learned.until),
        "stored": not dry_run,
        "task_instances": learned.task_instances,
        "lessons": learned.lessons,
        "never_run_again": learned.never,
        "by_aiops": learned.by_aiops,
        "refused": [
            {"dag_id": dag, "since": utc(since)} for dag, since in sorted(learned.refused.items())
        ],
        "entries": {"added": learned.entries.added, "changed": learned.entries.changed},
        "answers": _counted(learned.answers),
        "failures": [
            {
                "fingerprint": fingerprint,
                "headline": learned.headlines[fingerprint],
                "lessons": counts.total(),
                "answers": _counted(counts),
            }
            for fingerprint, counts in sorted(
                learned.failures.items(), key=lambda item: (-item[1].total(), item[0])
            )[:top]
        ],
        "unread": [
            {"reason": reason, "tries": count} for reason, count in learned.unread.most_common()
        ],
    }


def _counted(answers: Mapping[tuple[str, str, str], int]) -> list[dict[str, object]]:
    """How often each answer, by a person or by Airflow alone, ended it or did not."""
    told: dict[tuple[str, str], dict[str, int]] = {}
    for (action, mode, outcome), count in answers.items():
        counts = told.setdefault((action, mode), dict.fromkeys(("fixed", "failed", "unknown"), 0))
        counts[outcome] += count
    return [
        {"action": action, "by": mode, **counts}
        for (action, mode), counts in sorted(told.items(), key=lambda i: (-sum(i[1].values()), i))
    ]
