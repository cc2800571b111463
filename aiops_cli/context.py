"""What surrounds a failure, asked of Airflow without reading a log.

`context_of` is kept with every incident and costs a pass three requests a DAG and run at most.
`surroundings` is what a person wants on top, for the few incidents that are shown whole; with it
one incident costs six requests, and one more where it was tried before or where Airflow shows
deadlines. What a login may not read, or a server does not know, is left out; `unread` says so.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Generic, TypeVar

from aiops_cli.actions.graph import downstream_ids
from aiops_cli.actions.retry import blocked
from aiops_cli.changes import CHANGE_EVENTS, Change, changes
from aiops_cli.errors import AirflowAuth, AirflowError, AirflowForbidden, AirflowNotFound
from aiops_cli.incidents import (
    UNMAPPED,
    Asset,
    Dag,
    DagRun,
    Event,
    Health,
    ImportFailure,
    Incident,
    Task,
    TaskInstance,
    TaskRef,
)
from aiops_cli.published import utc
from aiops_cli.seams import Airflow

T = TypeVar("T")
K = TypeVar("K")

# What the scheduler writes of a try that vanished without a word in its own log, the one that
# says most first. Recorded on 3.1.8 and 3.3.2: a killed worker brings about the first two.
LOST_EVENTS = ("heartbeat timeout", "state mismatch", "stuck in queued tries exceeded")
# The row is written before the end date, and by another process.
LOST_BEFORE = timedelta(hours=1)
LOST_ROWS = 1000

MANY = 10  # DAGs, or runs, a pass asks for one by one; after that it reads on in their list
PAGE = 100  # rows of it

RUNS = 10  # of a task's history are shown
ASSETS = 20
MAPPED = 10  # tasks whose instances are counted for a table
DUE_TAG = re.compile(r"aiops:due:(\d\d:\d\d)")


class _List(Generic[K, T]):
    """A list of Airflow's, of which `read` has been read. It is read on by a page for each key
    that is looked for in vain: so a long list costs no more requests than it may save."""

    def __init__(self, ask: Callable[[], Iterator[T]], key: Callable[[T], K]) -> None:
        self.read: dict[K, T] = {}
        self._ask = ask
        self._key = key
        self._rest: Iterator[T] | None = None

    def found(self, key: K) -> T | None:
        if key not in self.read:
            if self._rest is None:
                self._rest = self._ask()
            try:
                self.read.update((self._key(row), row) for row in islice(self._rest, PAGE))
            except (AirflowNotFound, AirflowForbidden):
                self._rest = iter(())
        return self.read.get(key)


class Snapshot:
    """One pass's view of an Airflow: each DAG, its tasks, its assets and each run asked for once,
    and the event log's lost workers once for all that failed at or after `since`."""

    def __init__(self, airflow: Airflow, since: datetime | None = None) -> None:
        self.airflow = airflow
        self.since = since
        self._dags: dict[str, Dag | None] = {}
        self._dag_list = _List(airflow.dags, lambda dag: dag.dag_id)
        self._tasks: dict[str, Mapping[str, Task]] = {}
        self._runs: dict[tuple[str, str], DagRun | None] = {}
        self._run_list = _List(airflow.active_runs, lambda run: (run.dag_id, run.run_id))
        self._succeeded: dict[str, DagRun | None] = {}
        self._assets: dict[str, tuple[Asset, ...]] = {}
        self._mapped: dict[tuple[str, str, str], int | None] = {}
        self._broken: dict[str, tuple[ImportFailure, ...] | None] = {}
        self._health: Health | None = None
        self._lost: tuple[Event, ...] | None = None
        self._asking = threading.RLock()  # threads that read logs share the view

    def _once(self, known: dict[K, T], key: K, ask: Callable[[], T], absent: T) -> T:
        """Asked for the first time only; `absent` for what is gone or may not be read."""
        with self._asking:
            if key not in known:
                try:
                    known[key] = ask()
                except (AirflowNotFound, AirflowForbidden):
                    known[key] = absent
            return known[key]

    def _listed(
        self, asked: dict[K, T | None], listed: _List[K, T], key: K, ask: Callable[[], T]
    ) -> T | None:
        """As `_once`, but from the list where the key is on it, which after MANY questions is
        read on."""
        with self._asking:
            if key not in asked:
                row = listed.found(key) if len(asked) >= MANY else listed.read.get(key)
                if row is not None:
                    return row
            return self._once(asked, key, ask, None)

    def dag(self, dag_id: str, *, whole: bool = False) -> Dag | None:
        """None where the DAG is gone or may not be read. Its version and timeout are known of a
        `whole` one only."""

        def ask() -> Dag:
            return self.airflow.dag(dag_id)

        if whole:
            return self._once(self._dags, dag_id, ask, None)
        return self._listed(self._dags, self._dag_list, dag_id, ask)

    def tasks(self, dag_id: str) -> Mapping[str, Task]:
        return self._once(self._tasks, dag_id, lambda: self.airflow.tasks(dag_id), {})

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        key = dag_id, run_id
        return self._listed(
            self._runs, self._run_list, key, lambda: self.airflow.run(dag_id, run_id)
        )

    def newer_success(self, run: DagRun | None) -> DagRun | None:
        """The newest run of the same DAG that succeeded, where it is newer than this one."""
        if run is None or run.run_after is None:
            return None
        newest = self._once(
            self._succeeded, run.dag_id, lambda: self.airflow.newest_success(run.dag_id), None
        )
        newer = newest and newest.run_after and newest.run_after > run.run_after
        return newest if newer else None

    def assets(self, dag_id: str) -> tuple[Asset, ...]:
        return self._once(self._assets, dag_id, lambda: self.airflow.assets(dag_id), ())

    def mapped_count(self, ref: TaskRef) -> int | None:
        key = (ref.dag_id, ref.run_id, ref.task_id)
        return self._once(self._mapped, key, lambda: self.airflow.mapped_count(ref), None)

    def health(self) -> Health:
        with self._asking:
            if self._health is None:
                self._health = self.airflow.health()
            return self._health

    def failed_runs(self, since: datetime) -> Iterator[DagRun]:
        """The failed runs, none of which is asked for again."""
        for run in self.airflow.failed_runs(since=since):
            self._run_list.read[run.dag_id, run.run_id] = run
            yield run

    def import_errors(self) -> tuple[ImportFailure, ...] | None:
        """None where this login may not read them."""
        return self._once(self._broken, "", self.airflow.import_errors, None)

    def lost(self, failed: TaskInstance) -> Event | None:
        """What the scheduler noticed of a try that ended without a word of its own. Raises
        AirflowForbidden."""
        if failed.end_date is None:
            return None
        if self._lost is not None or (self.since and failed.end_date >= self.since):
            with self._asking:
                if self._lost is None:
                    self._lost = self._lost_since(self.since or failed.end_date, LOST_ROWS)
            rows: Sequence[Event] = self._lost
        else:
            rows = self._lost_since(failed.end_date, 100, failed.ref)
        return lost_of(rows, failed)

    def _lost_since(
        self, since: datetime, limit: int, ref: TaskRef | None = None
    ) -> tuple[Event, ...]:
        return self.airflow.events(
            since=since - LOST_BEFORE,
            dag_id=ref.dag_id if ref else None,
            run_id=ref.run_id if ref else None,
            task_id=ref.task_id if ref else None,
            names=LOST_EVENTS,
            limit=limit,
        )


def lost_of(rows: Sequence[Event], failed: TaskInstance) -> Event | None:
    """Of rows of the event log the one that says most of how this try was lost."""
    own = [row for row in rows if _is_about(row, failed)]
    return min(own, key=lambda row: LOST_EVENTS.index(row.event), default=None)


def _is_about(row: Event, failed: TaskInstance) -> bool:
    ref = failed.ref
    return (
        (row.dag_id, row.run_id, row.task_id) == (ref.dag_id, ref.run_id, ref.task_id)
        and row.map_index in (None, ref.map_index)
        and row.try_number in (None, failed.try_number)
        and row.event in LOST_EVENTS
    )


# ---- kept with an incident ----


def context_of(snapshot: Snapshot, failed: TaskInstance) -> dict[str, Any]:
    """What is known beside the log of a failed try; published as `context`."""
    ref = failed.ref
    tasks = snapshot.tasks(ref.dag_id)
    task = tasks.get(ref.task_id)
    mapped = ref.map_index != UNMAPPED
    return {
        "operator": failed.operator,
        "hostname": failed.hostname,
        "pool": failed.pool,
        "max_tries": failed.max_tries,
        "duration": _seconds(failed),
        "version": failed.version,
        "retries": task.retries if task else None,
        "blocks": sorted(downstream_ids(tasks, ref.task_id)),
        "place": place(tasks, ref.task_id) if task else None,
        "mapped": snapshot.mapped_count(ref) if mapped else None,
        "url": snapshot.airflow.link(ref, failed.try_number),
        **context_of_run(snapshot, ref.dag_id, ref.run_id),
    }


def count_mapped(airflow: Airflow, failed: Sequence[TaskInstance]) -> dict[int, int]:
    """How many instances a mapped task has in its run, by the place in `failed` of the first of
    several that failed. One request for each such task, for the first MAPPED of them."""
    first: dict[tuple[str, str, str], int] = {}
    several: dict[int, TaskRef] = {}
    for place, one in enumerate(failed):
        ref = one.ref
        if ref.map_index != UNMAPPED:
            start = first.setdefault((ref.dag_id, ref.run_id, ref.task_id), place)
            if start != place:
                several.setdefault(start, ref)
    counted = {place: airflow.mapped_count(ref) for place, ref in list(several.items())[:MAPPED]}
    return {place: count for place, count in counted.items() if count}


def context_of_run(snapshot: Snapshot, dag_id: str, run_id: str) -> dict[str, Any]:
    """Whose DAG it is, when it is due, and what kind of run it was."""
    dag, run = snapshot.dag(dag_id), snapshot.run(dag_id, run_id)
    tags = list(dag.tags) if dag else []
    due = next((found[1] for tag in tags if (found := DUE_TAG.fullmatch(tag))), None)
    return {
        "run_type": run.run_type if run else None,
        "run_after": utc(run.run_after) if run else None,
        "owners": list(dag.owners) if dag else [],
        "tags": tags,
        "due": due,
    }


def place(tasks: Mapping[str, Task], task_id: str) -> dict[str, Any]:
    """Where the task stands in its DAG: `role` root, leaf, middle or only; how many tasks stand
    `upstream` and `downstream` of it, and how many run beside it (`parallel`)."""
    below = downstream_ids(tasks, task_id) & tasks.keys()
    above = _upstream_ids(tasks, task_id)
    roles = {(True, True): "middle", (False, True): "root", (True, False): "leaf"}
    return {
        "role": roles.get((bool(above), bool(below)), "only"),
        "upstream": len(above),
        "downstream": len(below),
        "parallel": len(tasks) - len(above) - len(below) - 1,
    }


def _upstream_ids(tasks: Mapping[str, Task], task_id: str) -> frozenset[str]:
    """Airflow names only what comes after a task; this walks the other way."""
    parents: dict[str, list[str]] = {}
    for name, task in tasks.items():
        for below in task.downstream:
            parents.setdefault(below, []).append(name)
    found: set[str] = set()
    todo = [task_id]
    while todo:
        for above in parents.get(todo.pop(), ()):
            if above not in found:
                found.add(above)
                todo.append(above)
    return frozenset(found - {task_id})


def _seconds(instance: TaskInstance) -> int | None:
    return None if instance.duration is None else round(instance.duration)


# ---- for the few that are shown whole ----


def newer_code(snapshot: Snapshot, incident: Incident) -> dict[str, Any]:
    """`newer_version`: the DAG's version of now, where the failed try ran on an older one."""
    dag, ran = snapshot.dag(incident.dag_id, whole=True), incident.context.get("version")
    now = dag.version if dag else None
    return {"newer_version": now if ran and now and now > ran else None}


def surroundings(snapshot: Snapshot, incident: Incident) -> dict[str, Any]:
    """What is different since the task last succeeded (`last_success`, `changed` as sentences,
    `changes`), how it went before (`history`, `tries`), which assets wait for it, what of that
    which stands below it (`blocks`) it keeps from running now (`blocked`, None where unread), and
    the deadlines that Airflow knows of. Each part that could not be read is named in `unread`."""
    if incident.kind != "task":
        return {}
    airflow, unread = snapshot.airflow, list(incident.context.get("unread", ()))
    ref = TaskRef(incident.dag_id, incident.run_id, incident.task_id, incident.map_index)

    def asked(what: str, ask: Callable[[], Sequence[T]]) -> Sequence[T]:
        try:
            return ask()
        except AirflowAuth:
            raise
        except AirflowError as error:
            if not isinstance(error, AirflowNotFound):
                unread.append(f"{what}: {error.message}")
            return ()

    past = asked("history", lambda: _history(airflow, incident, ref))
    success = next((one for one in past if _had_succeeded(one, incident.failed_at)), None)
    changed = asked("event log", lambda: _changed(airflow, incident, success))
    tries = asked("tries", lambda: airflow.tries(ref)) if incident.try_number > 1 else ()
    deadlines = asked("deadlines", lambda: airflow.deadlines(ref.dag_id, ref.run_id))
    assets = asked("assets", lambda: snapshot.assets(ref.dag_id))
    below = frozenset(incident.context.get("blocks", ()))
    stopped = asked("tasks below", lambda: [_stopped(snapshot, ref, below)])
    return {
        **newer_code(snapshot, incident),
        "last_success": utc(success.end_date) if success else None,
        "changed": [str(one) for one in changed] + _moved(incident, success),
        "changes": [
            {"kind": c.kind, "name": c.name, "did": c.did, "at": utc(c.at), "by": c.by}
            for c in changed
        ],
        "earlier": [one.state for one in past],
        "history": [_past(one) for one in past[:RUNS]],
        "tries": [_past(one) for one in tries if one.try_number < incident.try_number],
        "deadlines": [utc(deadline) for deadline in deadlines],
        "assets": _waiting_assets(assets, incident),
        "blocked": stopped[0] if stopped else None,
        "unread": unread,
    }


def _stopped(snapshot: Snapshot, ref: TaskRef, below: Set[str]) -> list[str]:
    """The tasks `below` it that the failure keeps from running now, as in the plan."""
    if not below:
        return []
    stopped, _ = blocked(snapshot.airflow, ref, snapshot.tasks(ref.dag_id), below)
    return sorted({one.ref.task_id for one in stopped})


def _history(airflow: Airflow, incident: Incident, ref: TaskRef) -> tuple[TaskInstance, ...]:
    """The task in earlier runs, the newest first: what came after the failure explains nothing."""
    due = incident.context.get("run_after")
    rows = airflow.history(
        ref.dag_id,
        ref.task_id,
        map_index=ref.map_index,
        until=datetime.fromisoformat(due.replace("Z", "+00:00")) if due else None,
        limit=20,
    )
    return tuple(row for row in rows if row.ref.run_id != ref.run_id)


def _had_succeeded(past: TaskInstance, by: datetime) -> bool:
    """An earlier run may have been mended after this one failed."""
    return past.state == "success" and past.end_date is not None and past.end_date < by


def _changed(airflow: Airflow, incident: Incident, success: TaskInstance | None) -> list[Change]:
    """What was changed between the last success and the failure, oldest first. Of the pools only
    the task's own: no other can have stopped it."""
    if success is None or success.end_date is None:
        return []
    rows = airflow.events(
        since=success.end_date, until=incident.failed_at, names=CHANGE_EVENTS, limit=20
    )
    found = [change for row in rows for change in changes(row)]
    pool = incident.context.get("pool")
    return [one for one in found if one.kind != "pool" or one.name in (pool, "?")]


def _moved(incident: Incident, success: TaskInstance | None) -> list[str]:
    """The DAG's code, where the failed try ran on another version of it."""
    version = incident.context.get("version")
    if success is None or not version or success.version in (None, version):
        return []
    return [f"DAG version v{success.version} → v{version}"]


def _past(one: TaskInstance) -> dict[str, Any]:
    return {
        "run_id": one.ref.run_id,
        "try_number": one.try_number,
        "state": one.state,
        "duration": _seconds(one),
        "ended": utc(one.end_date),
    }


def _waiting_assets(assets: Sequence[Asset], incident: Incident) -> list[dict[str, Any]]:
    """What this task and those that it blocks would have produced, and which DAGs run on it."""
    silent = {incident.task_id, *incident.context.get("blocks", ())}
    missing = [
        {"name": asset.name, "uri": asset.uri, "dags": list(asset.scheduled_dags)}
        for asset in assets
        if any(dag == incident.dag_id and task in silent for dag, task in asset.producers)
    ]
    return missing[:ASSETS]
