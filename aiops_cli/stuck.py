"""What does not move: task instances far beyond their own history, runs that should exist and
do not, and why, as far as Airflow can tell. Acts on nothing.

What is too long is measured against the task itself: three times the longest of its last runs
and at least ten minutes. Where it has no history, six hours of running or a quarter of an hour
of waiting.

When a scheduler hangs, thousands of tasks wait, and Airflow is ill already: histories and reasons
are read ahead politely, and only of so many, the longest stuck first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeVar

from aiops_cli.context import Snapshot
from aiops_cli.errors import AirflowForbidden, AirflowNotFound
from aiops_cli.incidents import Dag, DagRun, Pool, TaskInstance, TaskRef
from aiops_cli.pace import ahead
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
# A request each. Who has more than this does not read them one by one either.
MOST_HISTORIES = 300
MOST_REASONS = 20

K = TypeVar("K")
R = TypeVar("R")

Tick = Callable[[int, int | None], None]
History = tuple[str, str, bool]  # of a DAG, a task in it, and whether waiting is meant


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


class Found(NamedTuple):
    """What is stuck, the longest first, and a sentence for each thing that was left out."""

    stuck: list[Stuck]
    notes: list[str]


@dataclass
class _Facts:
    """What all of them share, each asked for once and only if needed."""

    snapshot: Snapshot
    _pools: Mapping[str, Pool] | None = None
    _active: Sequence[DagRun] | None = None
    _dags: Mapping[str, Dag] | None = None

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

    def dags(self) -> Mapping[str, Dag]:
        """Those that are not paused."""
        if self._dags is None:
            self._dags = {dag.dag_id: dag for dag in self.airflow.dags()}
        return self._dags

    def dag(self, dag_id: str) -> Dag | None:
        return self.dags().get(dag_id) or self.snapshot.dag(dag_id)

    def broken(self, dag: Dag | None) -> bool:
        failures = self.snapshot.import_errors() or ()
        return dag is not None and any(
            (one.bundle, one.file) == (dag.bundle, dag.file) for one in failures
        )


def find(
    airflow: Airflow,
    now: datetime,
    *,
    dag_id: str | None = None,
    after: timedelta | None = None,
    at_once: int = 1,
    tick: Tick = lambda _done, _of: None,
) -> Found:
    """Everything that is stuck. `dag_id` may be a glob. `after` holds all of it against one span
    of time instead of its own history. `at_once` questions are asked at once at most; `tick` is
    told how many of how many were answered."""
    facts = _Facts(Snapshot(airflow))
    notes: list[str] = []
    found = [
        *_tasks(facts, now, dag_id, after, _Asking(at_once, tick, notes)),
        *_queued_runs(facts, now, dag_id, after),
        *_missing_runs(facts, now, dag_id, after),
    ]
    return Found(sorted(found, key=lambda one: -one.seconds), notes)


class _Asking(NamedTuple):
    """How much is asked at once, and who is told."""

    at_once: int
    tick: Tick
    notes: list[str]

    def each(self, keys: Iterable[K], ask: Callable[[K], R], most: int, left: str) -> dict[K, R]:
        """The answers for the first `most` different keys; how many are `left` is noted."""
        all_keys = list(dict.fromkeys(keys))
        asked = all_keys[:most]
        if len(all_keys) > most:
            self.notes.append(left.format(asked=len(asked), all=len(all_keys)))
        answers = {}
        for key, answer in ahead(asked, ask, self.at_once):
            answers[key] = answer.result()
            self.tick(len(answers), len(asked))
        return answers


def _tasks(
    facts: _Facts, now: datetime, dag_id: str | None, after: timedelta | None, asking: _Asking
) -> Iterator[Stuck]:
    old: list[tuple[datetime, TaskInstance]] = []
    for task in facts.airflow.unfinished(dag_id=dag_id):
        since = _since(task)
        long = since and now - since > (LEAST if after is None else after)
        if since and (long or (after is None and _poolless(facts, task))):
            old.append((since, task))  # nothing more is asked for what is young
    old.sort(key=lambda one: one[0])
    # Of a mapped task the index that is stuck longest stands for all.
    indexes = {_history_of(task): task.ref.map_index for _, task in reversed(old)}
    usual = asking.each(
        (_history_of(task) for _, task in old),
        lambda key: _usual(facts.airflow, key, indexes[key]),
        MOST_HISTORIES,
        "{asked} of {all} tasks were held against their own history, the longest stuck; for the "
        "others the bounds of a task without history stand",
    )
    held = [
        (task, since, usual.get(_history_of(task)), limit)
        for since, task in old
        for limit in [_limit(facts, task, usual.get(_history_of(task))) if after is None else after]
        if now - since > limit
    ]
    blockers = asking.each(
        (task.ref for task, *_ in held if task.state == "scheduled" and not _full(facts, task)),
        lambda ref: _blockers(facts.airflow, ref),
        MOST_REASONS,
        "Airflow was asked what blocks {asked} of {all} scheduled tasks, the longest stuck",
    )
    for task, since, known, limit in held:
        yield Stuck(
            dag_id=task.ref.dag_id,
            state=str(task.state),
            since=since,
            seconds=(now - since).total_seconds(),
            limit=limit.total_seconds(),
            reasons=tuple(_why(facts, task, blockers.get(task.ref, ()))),
            task=task,
            usual=known,
        )


def _history_of(task: TaskInstance) -> History:
    return task.ref.dag_id, task.ref.task_id, task.state in WAITING


def _usual(airflow: Airflow, history: History, map_index: int) -> float | None:
    """The longest that the task's last runs took, or waited where this one waits."""
    dag_id, task_id, waits = history
    rows = airflow.history(dag_id, task_id, map_index=map_index, limit=HISTORY + 1)
    spans = [_waited(row) if waits else row.duration for row in rows if row.end_date]
    known = [span for span in spans if span is not None]
    return max(known) if len(known) >= ENOUGH else None


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


def _limit(facts: _Facts, task: TaskInstance, usual: float | None) -> timedelta:
    if _poolless(facts, task):
        return timedelta(0)
    if usual is None:
        return WAITING_UNKNOWN if task.state in WAITING else RUNNING_UNKNOWN
    return max(LEAST, FACTOR * timedelta(seconds=usual))


def _poolless(facts: _Facts, task: TaskInstance) -> bool:
    """Whether it waits for a slot of a pool that there is not: no time will help."""
    if task.state not in WAITING or not task.pool:
        return False
    pools = facts.pools()  # none at all: this login may not see them
    return bool(pools) and task.pool not in pools


def _full(facts: _Facts, task: TaskInstance) -> Pool | None:
    """The pool that has no slot for a task that waits for one."""
    pool = facts.pools().get(task.pool or "")
    waits = task.state in WAITING and pool and pool.open is not None and pool.open <= 0
    return pool if waits else None


def _why(facts: _Facts, task: TaskInstance, blockers: Sequence[str]) -> Iterator[str]:
    """Why it does not go on, as far as Airflow can tell; what is most telling first."""
    dag = facts.dag(task.ref.dag_id)
    if dag and dag.is_paused:
        yield "the DAG is paused"
    if facts.broken(dag):
        yield f"{dag.file if dag else 'its file'} cannot be imported"
    full = _full(facts, task)
    if full:
        yield f"pool {full.name} has no free slot of {full.slots}"
    if not blockers and _poolless(facts, task):
        yield f"there is no pool {task.pool}"
    yield from blockers
    yield from _ill(facts, "triggerer" if task.state == "deferred" else "scheduler")
    if task.state == "queued" and not full:
        yield f"no worker has taken it from queue {task.queue or 'default'}"


def _blockers(airflow: Airflow, ref: TaskRef) -> Sequence[str]:
    try:
        return airflow.blockers(ref)
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
            dag = facts.dag(run.dag_id)
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
    for dag in facts.dags().values():
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
