"""What does not move: task instances far beyond their own history, runs that should exist and
do not, and why, as far as Airflow can tell. Acts on nothing.

What is too long is measured against the task itself: three times the longest of its last runs
and at least ten minutes. Where it has no history, six hours of running or a quarter of an hour
of waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from aiops_cli.context import Snapshot
from aiops_cli.errors import AirflowForbidden, AirflowNotFound
from aiops_cli.incidents import Dag, DagRun, Pool, TaskInstance
from aiops_cli.published import utc
from aiops_cli.seams import Airflow

FACTOR = 3
LEAST = timedelta(minutes=10)
RUNNING_UNKNOWN = timedelta(hours=6)
WAITING_UNKNOWN = timedelta(minutes=15)
LATE = timedelta(minutes=15)  # a scheduler that is only busy makes its runs within this time

WAITING = frozenset({"scheduled", "queued"})
HISTORY = 10
ENOUGH = 3  # runs that tell what is usual


@dataclass(frozen=True, slots=True)
class Stuck:
    """A task instance or a `run` in its `state`, or a run that is `missing`, since a moment.

    `usual` is the longest of the last runs in seconds (None without a history), `limit` what it
    was held against. `reasons` are empty where Airflow knows none."""

    dag_id: str
    state: str
    since: datetime
    seconds: float
    limit: float
    reasons: tuple[str, ...]
    task: TaskInstance | None = None
    run: DagRun | None = None
    usual: float | None = None


@dataclass
class _Facts:
    """What all of them share, each asked for once and only if needed."""

    snapshot: Snapshot
    _pools: Mapping[str, Pool] | None = None
    _active: Sequence[DagRun] | None = None
    _usual: dict[tuple[str, str, bool], float | None] = field(default_factory=dict)

    @property
    def airflow(self) -> Airflow:
        return self.snapshot.airflow

    def pools(self) -> Mapping[str, Pool]:
        """Empty for a login that may not see them."""
        if self._pools is None:
            try:
                self._pools = self.airflow.pools()
            except (AirflowForbidden, AirflowNotFound):
                self._pools = {}
        return self._pools

    def active_runs(self) -> Sequence[DagRun]:
        if self._active is None:
            self._active = tuple(self.airflow.active_runs())
        return self._active

    def usual(self, task: TaskInstance) -> float | None:
        """The longest that the task's last runs took, or waited where this one waits."""
        ref, waits = task.ref, task.state in WAITING
        key = (ref.dag_id, ref.task_id, waits)
        if key not in self._usual:
            rows = self.airflow.history(
                ref.dag_id, ref.task_id, map_index=ref.map_index, limit=HISTORY + 1
            )
            spans = [_waited(row) if waits else row.duration for row in rows if row.end_date]
            known = [span for span in spans if span is not None]
            self._usual[key] = max(known) if len(known) >= ENOUGH else None
        return self._usual[key]

    def broken(self, dag: Dag | None) -> bool:
        failures = self.snapshot.import_errors() or ()
        return dag is not None and any(
            (one.bundle, one.file) == (dag.bundle, dag.file) for one in failures
        )


def find(
    airflow: Airflow, now: datetime, *, dag_id: str | None = None, after: timedelta | None = None
) -> list[Stuck]:
    """Everything that is stuck, the longest first. `dag_id` may be a glob. `after` holds all of
    it against one span of time instead of its own history."""
    facts = _Facts(Snapshot(airflow))
    found = [
        *_tasks(facts, now, dag_id, after),
        *_queued_runs(facts, now, dag_id, after),
        *_missing_runs(facts, now, dag_id, after),
    ]
    return sorted(found, key=lambda one: -one.seconds)


def _tasks(
    facts: _Facts, now: datetime, dag_id: str | None, after: timedelta | None
) -> Iterator[Stuck]:
    for task in facts.airflow.unfinished(dag_id=dag_id):
        since = _since(task)
        if since is None or now - since <= (LEAST if after is None else after):
            continue  # nothing is asked for what is young
        usual = facts.usual(task)
        limit = _limit(task, usual) if after is None else after
        if now - since > limit:
            yield Stuck(
                dag_id=task.ref.dag_id,
                state=str(task.state),
                since=since,
                seconds=(now - since).total_seconds(),
                limit=limit.total_seconds(),
                reasons=tuple(_why(facts, task)),
                task=task,
                usual=usual,
            )


def _since(task: TaskInstance) -> datetime | None:
    if task.state == "queued":
        return task.queued_at or task.scheduled_at
    if task.state == "scheduled":
        return task.scheduled_at
    return task.start_date


def _waited(past: TaskInstance) -> float | None:
    begun = past.scheduled_at or past.queued_at
    if begun is None or past.start_date is None:
        return None
    return max(0.0, (past.start_date - begun).total_seconds())


def _limit(task: TaskInstance, usual: float | None) -> timedelta:
    if usual is None:
        return WAITING_UNKNOWN if task.state in WAITING else RUNNING_UNKNOWN
    return max(LEAST, FACTOR * timedelta(seconds=usual))


def _why(facts: _Facts, task: TaskInstance) -> Iterator[str]:
    """Why it does not go on, as far as Airflow can tell; what is most telling first."""
    dag = facts.snapshot.dag(task.ref.dag_id)
    if dag and dag.is_paused:
        yield "the DAG is paused"
    if facts.broken(dag):
        yield f"{dag.file if dag else 'its file'} cannot be imported"
    pool = facts.pools().get(task.pool or "")
    if task.state in WAITING and pool and pool.open is not None and pool.open <= 0:
        yield f"pool {pool.name} has no free slot of {pool.slots}"
    elif task.state == "scheduled":
        yield from _blockers(facts, task)
    yield from _ill(facts, "triggerer" if task.state == "deferred" else "scheduler")
    if task.state == "queued" and not (pool and pool.open is not None and pool.open <= 0):
        yield f"no worker has taken it from queue {task.queue or 'default'}"


def _blockers(facts: _Facts, task: TaskInstance) -> Sequence[str]:
    try:
        return facts.airflow.blockers(task.ref)
    except (AirflowForbidden, AirflowNotFound):
        return ()


def _ill(facts: _Facts, *parts: str) -> Iterator[str]:
    """What /monitor/health says of the parts that this hangs on."""
    for problem in facts.snapshot.health().problems:
        if problem.partition(":")[0] in (*parts, "metadatabase"):
            yield problem


def _queued_runs(
    facts: _Facts, now: datetime, dag_id: str | None, after: timedelta | None
) -> Iterator[Stuck]:
    """Runs that were made and do not start: none of their tasks has been taken up."""
    limit = LATE if after is None else after
    for run in facts.active_runs():
        since = run.queued_at
        if run.state != "queued" or since is None or now - since <= limit:
            continue
        if fnmatchcase(run.dag_id, dag_id or "*"):
            dag = facts.snapshot.dag(run.dag_id)
            yield Stuck(
                dag_id=run.dag_id,
                state="queued",
                since=since,
                seconds=(now - since).total_seconds(),
                limit=limit.total_seconds(),
                reasons=tuple(_why_no_run(facts, dag)) if dag else (),
                run=run,
            )


def _missing_runs(
    facts: _Facts, now: datetime, dag_id: str | None, after: timedelta | None
) -> Iterator[Stuck]:
    limit = LATE if after is None else after
    for dag in facts.airflow.dags():
        due = dag.next_run
        if due is None or now - due <= limit or not fnmatchcase(dag.dag_id, dag_id or "*"):
            continue
        yield Stuck(
            dag_id=dag.dag_id,
            state="missing",
            since=due,
            seconds=(now - due).total_seconds(),
            limit=limit.total_seconds(),
            reasons=tuple(_why_no_run(facts, dag)),
        )


def _why_no_run(facts: _Facts, dag: Dag) -> Iterator[str]:
    if dag.is_paused:
        yield "the DAG is paused"
    if dag.has_import_errors or facts.broken(dag):
        yield f"{dag.file} cannot be imported"
    running = [
        run for run in facts.active_runs() if run.dag_id == dag.dag_id and run.state == "running"
    ]
    if dag.max_active_runs and len(running) >= dag.max_active_runs:
        yield f"max_active_runs {dag.max_active_runs} reached: {running[0].run_id} still runs"
    yield from _ill(facts, "scheduler", "dag_processor")


def document(stuck: Stuck, airflow: Airflow) -> dict[str, Any]:
    """One of `aiops stuck --json`; `kind` is task or run."""
    task, run = stuck.task, stuck.run
    if task:
        run_id, url = task.ref.run_id, airflow.link(task.ref, task.try_number)
    elif run:
        run_id, url = run.run_id, airflow.run_link(run.dag_id, run.run_id)
    else:
        run_id, url = None, None
    return {
        "kind": "task" if task else "run",
        "instance": airflow.name,
        "dag_id": stuck.dag_id,
        "run_id": run_id,
        "task_id": task.ref.task_id if task else None,
        "map_index": task.ref.map_index if task else None,
        "try_number": task.try_number if task else None,
        "state": stuck.state,
        "since": utc(stuck.since),
        "seconds": round(stuck.seconds),
        "limit_seconds": round(stuck.limit),
        "usual_seconds": None if stuck.usual is None else round(stuck.usual),
        "reasons": list(stuck.reasons),
        "url": url,
    }
