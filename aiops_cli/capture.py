"""Airflow's failed tries → Incidents, with what stands around them.

A pass asks for each DAG, run and the server's health once, however many incidents they have
(`Snapshot`). What a try's own log does not say (a lost worker writes nothing) is taken from
the event log.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aiops_cli.actions.retry import downstream_ids
from aiops_cli.errors import AirflowError, AirflowForbidden, AirflowNotFound
from aiops_cli.incidents import Dag, DagRun, Event, Excerpt, Health, Incident, Task, TaskInstance
from aiops_cli.published import utc
from aiops_cli.seams import Airflow
from knowledge.records import incident_id
from knowledge.redact import clean, redact
from knowledge.signature import sign

# What the scheduler writes when a task's process or worker vanished without a trace in the log.
LOST_EVENTS = ("heartbeat timeout", "state mismatch", "stuck in queued reschedule")

# Changes that may explain a failure, as the API's audit log names them.
CHANGE_EVENTS = (
    "patch_connection",
    "post_connection",
    "delete_connection",
    "patch_variable",
    "post_variable",
    "delete_variable",
    "patch_pool",
    "post_pool",
    "delete_pool",
)


class Snapshot:
    """One pass's view of an Airflow: each DAG, its tasks, and each run asked for once."""

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self._dags: dict[str, Dag | None] = {}
        self._tasks: dict[str, Mapping[str, Task]] = {}
        self._runs: dict[tuple[str, str], DagRun | None] = {}
        self._health: Health | None = None

    def dag(self, dag_id: str) -> Dag | None:
        """None where the DAG is gone or may not be read."""
        if dag_id not in self._dags:
            try:
                self._dags[dag_id] = self.airflow.dag(dag_id)
            except (AirflowNotFound, AirflowForbidden):
                self._dags[dag_id] = None
        return self._dags[dag_id]

    def tasks(self, dag_id: str) -> Mapping[str, Task]:
        if dag_id not in self._tasks:
            try:
                self._tasks[dag_id] = self.airflow.tasks(dag_id)
            except (AirflowNotFound, AirflowForbidden):
                self._tasks[dag_id] = {}
        return self._tasks[dag_id]

    def run(self, dag_id: str, run_id: str) -> DagRun | None:
        if (dag_id, run_id) not in self._runs:
            try:
                self._runs[dag_id, run_id] = self.airflow.run(dag_id, run_id)
            except (AirflowNotFound, AirflowForbidden):
                self._runs[dag_id, run_id] = None
        return self._runs[dag_id, run_id]

    def health(self) -> Health:
        if self._health is None:
            self._health = self.airflow.health()
        return self._health


def build_incident(
    snapshot: Snapshot, failed: TaskInstance, *, instance: str, now: datetime
) -> Incident:
    """The incident of one failed try: its log as a signed excerpt, and its context."""
    try:
        excerpt = snapshot.airflow.log(failed.ref, failed.try_number)
    except AirflowNotFound:
        excerpt = Excerpt(text="", notice="Airflow has no log of this try")
    signature = sign(excerpt.text, excerpt.numbers)
    if not signature.error_class:
        lost = _lost_worker(snapshot.airflow, failed)
        if lost:
            excerpt = _with_line(excerpt, lost)
            signature = sign(excerpt.text, excerpt.numbers)
    return Incident(
        instance=instance,
        dag_id=failed.ref.dag_id,
        run_id=failed.ref.run_id,
        task_id=failed.ref.task_id,
        map_index=failed.ref.map_index,
        try_number=failed.try_number,
        failed_at=failed.end_date or now,
        seen_at=now,
        signature=signature,
        excerpt=excerpt,
        ti_id=failed.id,
        context=_context(snapshot, failed),
    )


def id_of(failed: TaskInstance, instance: str) -> str:
    """The id that the incident of this failed try has."""
    ref = failed.ref
    return incident_id(
        instance, ref.dag_id, ref.run_id, ref.task_id, ref.map_index, failed.try_number
    )


def _lost_worker(airflow: Airflow, failed: TaskInstance) -> str:
    """What the scheduler noticed of a try whose own log says nothing of its end, or ""."""
    if failed.end_date is None:
        return ""
    events = airflow.events(
        since=failed.start_date or failed.end_date - timedelta(hours=1),
        dag_id=failed.ref.dag_id,
        run_id=failed.ref.run_id,
        task_id=failed.ref.task_id,
        names=LOST_EVENTS,
    )
    for event in reversed(events):
        if event.map_index in (None, failed.ref.map_index):
            return redact(clean(f"{event.event}: {event.extra or ''}")).replace("\n", " ")
    return ""


def _with_line(excerpt: Excerpt, line: str) -> Excerpt:
    text = f"{excerpt.text}\n{line}" if excerpt.text else line
    return Excerpt(
        text=text,
        numbers=(*excerpt.numbers, 0),
        total_lines=excerpt.total_lines,
        cut=excerpt.cut,
        notice=excerpt.notice,
    )


def _context(snapshot: Snapshot, failed: TaskInstance) -> dict[str, Any]:
    ref = failed.ref
    dag = snapshot.dag(ref.dag_id)
    run = snapshot.run(ref.dag_id, ref.run_id)
    tasks = snapshot.tasks(ref.dag_id)
    task = tasks.get(ref.task_id)
    return {
        "operator": failed.operator,
        "hostname": failed.hostname,
        "pool": failed.pool,
        "max_tries": failed.max_tries,
        "duration": None if failed.duration is None else round(failed.duration),
        "version": failed.version,
        "run_type": run.run_type if run else None,
        "run_after": utc(run.run_after) if run else None,
        "owners": list(dag.owners) if dag else [],
        "tags": list(dag.tags) if dag else [],
        "retries": task.retries if task else None,
        "blocks": sorted(downstream_ids(tasks, ref.task_id)),
        "url": snapshot.airflow.link(ref, failed.try_number),
    }


def what_changed(airflow: Airflow, incident: Incident) -> dict[str, Any]:
    """What is different since the task last succeeded: `last_success`, `changed` (sentences),
    `earlier` (states of the task in earlier runs, newest first). Two or three requests."""
    history = airflow.history(incident.dag_id, incident.task_id, limit=20)
    history = tuple(past for past in history if past.ref.run_id != incident.run_id)
    success = next((past for past in history if past.state == "success" and past.end_date), None)
    earlier = [past.state for past in history]
    if success is None or success.end_date is None:
        return {"last_success": None, "changed": [], "earlier": earlier}
    changed = []
    version = incident.context.get("version")
    if version and success.version and version != success.version:
        changed.append(f"DAG version v{success.version} → v{version}")
    try:
        events = airflow.events(
            since=success.end_date, until=incident.failed_at, names=CHANGE_EVENTS, limit=20
        )
    except AirflowError as error:
        events = ()
        changed.append(f"(event log not readable: {error.message})")
    changed.extend(_sentence(event) for event in events)
    return {"last_success": utc(success.end_date), "changed": changed, "earlier": earlier}


def _sentence(event: Event) -> str:
    verb, _, what = event.event.partition("_")
    done = {"patch": "edited", "post": "created", "delete": "deleted"}.get(verb, verb)
    names = _names(event.extra)
    return clean(
        f"{what} {names or '?'} {done} {event.when:%Y-%m-%d %H:%MZ} by {event.owner or 'unknown'}"
    )


def _names(extra: str | None) -> str:
    """The object's name out of an audit row's JSON `extra`."""
    import json

    try:
        data = json.loads(extra or "")
    except ValueError:
        return ""
    if not isinstance(data, dict):
        return ""
    for key in ("connection_id", "variable_key", "key", "pool_name", "pool", "name"):
        if isinstance(data.get(key), str):
            return str(data[key])
    return ""
