"""Typed questions to one Airflow and acts on it: `seams.Airflow` over its REST API v2.

The facts that this rests on (page caps, cursors, clears, error bodies) were recorded from
running servers of 3.1.8 and 3.3.2; samples are in tests/recorded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any
from urllib.parse import quote

from aiops_cli.airflow import parse
from aiops_cli.airflow.logs import read_excerpt
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import AirflowAnswer, AirflowForbidden, AirflowNotFound, Refused
from aiops_cli.incidents import (
    UNMAPPED,
    Dag,
    DagRun,
    Event,
    Excerpt,
    Health,
    Task,
    TaskInstance,
    TaskRef,
)

OLDEST = (3, 1)
# Where clearTaskInstances knows `prevent_running_task`; 3.1 refuses the whole call for it.
PREVENTS_RUNNING = (3, 3)
NO_SUCH_DAG = "aiops.probe.no.such.dag"
PAGE = 100  # the server's default cap: it cuts a bigger page silently
NOTE_LENGTH = 1000

Query = list[tuple[str, str]]

_DAG = "/api/v2/dags/{dag_id}"
_RUN = _DAG + "/dagRuns/{run_id}"
_TASK = _RUN + "/taskInstances/{task_id}"


class Gateway:
    """One Airflow; `name` is the instance's name in the settings. See `seams.Airflow`."""

    def __init__(self, transport: Transport, name: str = "default") -> None:
        self.name = name
        self.url = transport.url
        self._transport = transport
        self._version = ""

    # ---- the server ----

    def version(self) -> str:
        if not self._version:
            try:
                answer = self._transport.get("/api/v2/version", "tell its version")
                version = Document(answer, "version").need("version")
            except (AirflowNotFound, AirflowAnswer) as error:
                raise AirflowAnswer(
                    f"there is no Airflow 3 at {self.url}: {error.message}",
                    "check airflow.url; Airflow 2 is too old for aiops, which needs 3.1 or newer",
                ) from error
            if _release(version) < OLDEST:
                raise AirflowAnswer(
                    f"{self.url} runs Airflow {version}; aiops needs 3.1 or newer",
                    "upgrade Airflow: older ones lack what a safe repair needs",
                )
            self._version = version
        return self._version

    def health(self) -> Health:
        return parse.health(
            Document(self._get("/api/v2/monitor/health", "tell its health"), "health")
        )

    def rights(self) -> tuple[tuple[str, str, bool], ...]:
        """(right, what needs it, whether this login has it), tried without changing anything:
        rights are checked before a name is looked up, so asking for a DAG that cannot exist is
        answered 404 to those who may and 403 to those who may not."""
        probes: tuple[tuple[str, str, Callable[[], object]], ...] = (
            ("read task instances", "everything", self._probe_read),
            ("read the event log", "what changed, lost workers", self._probe_events),
            ("clear task instances", "retry, approve", self._probe_clear),
        )
        return tuple((right, use, _allowed(probe)) for right, use, probe in probes)

    def _probe_read(self) -> object:
        query = [("limit", "1")]
        return self._get(
            f"{_RUN}/taskInstances", "list tasks", {"dag_id": "~", "run_id": "~"}, query
        )

    def _probe_events(self) -> object:
        return self._get("/api/v2/eventLogs", "list its event log", {}, [("limit", "1")])

    def _probe_clear(self) -> object:
        return self.clear(NO_SUCH_DAG, NO_SUCH_DAG, [NO_SUCH_DAG], dry_run=True)

    # ---- questions ----

    def failed(
        self,
        *,
        since: datetime,
        dag_id: str | None = None,
        task_id: str | None = None,
        run_id: str | None = None,
    ) -> Iterator[TaskInstance]:
        dag_name = dag_id if dag_id and not _is_glob(dag_id) else None
        ids = {"dag_id": dag_name or "~", "run_id": (run_id if dag_name else None) or "~"}
        query: Query = [
            ("state", "failed"),
            ("end_date_gte", since.isoformat()),
            ("order_by", "-end_date"),
        ]
        if task_id and not _is_glob(task_id):
            query.append(("task_id", task_id))
        # These only narrow what is sent (a case-blind "contains", where | means or and _ any
        # character), and 3.1 ignores them: the names are compared below in any case.
        if dag_id and not dag_name:
            query += _contains("dag_id_pattern", re.split(r"[*?\[]", dag_id)[0])
        if run_id and not dag_name:
            query += _contains("run_id_pattern", run_id)
        seen: set[str | None] = set()
        path = f"{_RUN}/taskInstances"
        for row in self._rows(path, "task_instances", "list failed tasks", ids, query):
            instance = parse.task_instance(row)
            ref = instance.ref
            if (
                fnmatchcase(ref.dag_id, dag_id or "*")
                and fnmatchcase(ref.task_id, task_id or "*")
                and run_id in (None, ref.run_id)
                # A new failure between two pages moves rows from one to the next.
                and (instance.id is None or instance.id not in seen)
            ):
                seen.add(instance.id)
                yield instance

    def task_instance(self, ref: TaskRef) -> TaskInstance:
        path, ids = _address(ref)
        answer = self._get(path, f"show {ref}", ids)
        return parse.task_instance(Document(answer, "task instance"))

    def tries(self, ref: TaskRef) -> tuple[TaskInstance, ...]:
        path, ids = _address(ref)
        answer = Document(self._get(f"{path}/tries", f"list the tries of {ref}", ids), "tries")
        tries: dict[int, TaskInstance] = {}
        for row in answer.rows("task_instances"):
            instance = parse.task_instance(row)
            # One that was cleared and waits repeats the number of its last try, after it.
            tries.setdefault(instance.try_number, instance)
        return tuple(tries[number] for number in sorted(tries))

    def history(self, dag_id: str, task_id: str, *, limit: int = 20) -> tuple[TaskInstance, ...]:
        ids = _ids(dag_id=dag_id) | {"run_id": "~"}
        query = [("task_id", task_id), ("order_by", "-run_after")]
        what = f"list the history of {dag_id}.{task_id}"
        rows = self._rows(f"{_RUN}/taskInstances", "task_instances", what, ids, query, limit)
        return tuple(parse.task_instance(row) for row in rows)

    def run(self, dag_id: str, run_id: str) -> DagRun:
        ids = _ids(dag_id=dag_id, run_id=run_id)
        answer = self._get(_RUN, f"show run {run_id} of {dag_id}", ids)
        return parse.dag_run(Document(answer, "run"))

    def run_task_instances(self, dag_id: str, run_id: str) -> tuple[TaskInstance, ...]:
        ids = _ids(dag_id=dag_id, run_id=run_id)
        what = f"list the tasks of run {run_id} of {dag_id}"
        rows = self._rows(f"{_RUN}/taskInstances", "task_instances", what, ids, [])
        return tuple(parse.task_instance(row) for row in rows)

    def dag(self, dag_id: str) -> Dag:
        answer = self._get(f"{_DAG}/details", f"show DAG {dag_id}", _ids(dag_id=dag_id))
        return parse.dag(Document(answer, "DAG"))

    def tasks(self, dag_id: str) -> Mapping[str, Task]:
        answer = self._get(f"{_DAG}/tasks", f"list the tasks of {dag_id}", _ids(dag_id=dag_id))
        tasks = map(parse.task, Document(answer, "tasks").rows("tasks"))
        return {task.task_id: task for task in tasks}

    def events(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        names: Sequence[str] = (),
        limit: int = 100,
    ) -> tuple[Event, ...]:
        query: Query = [("after", since.isoformat()), ("order_by", "-event_log_id")]
        if until:
            query.append(("before", until.isoformat()))
        for key, value in (("dag_id", dag_id), ("run_id", run_id), ("task_id", task_id)):
            if value:
                query.append((key, value))
        query += [("included_events", name) for name in names]
        rows = self._rows("/api/v2/eventLogs", "event_logs", "list its event log", {}, query, limit)
        return tuple(map(parse.event, rows))[::-1]

    def log(self, ref: TaskRef, try_number: int) -> Excerpt:
        self.version()
        ids = _ids(dag_id=ref.dag_id, run_id=ref.run_id, task_id=ref.task_id)
        return self._transport.stream(
            f"{_TASK}/logs/{int(try_number)}",
            f"send the log of {ref}, try {try_number}",
            ids,
            [("map_index", str(ref.map_index))],
            read_excerpt,
        )

    # ---- acts ----

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        dry_run: bool,
        only_failed: bool = True,
    ) -> tuple[TaskInstance, ...]:
        if not task_ids:
            return ()  # the API might take "none named" for "all"
        body: dict[str, Any] = {
            "dry_run": dry_run,
            # Without run and tasks it would clear the failed tasks of all runs.
            "dag_run_id": run_id,
            "task_ids": [_named(task) for task in task_ids],
            "only_failed": only_failed,
            "include_upstream": False,
            "include_downstream": False,
            "include_future": False,
            "include_past": False,
            "reset_dag_runs": True,
            "run_on_latest_version": True,
        }
        if _release(self.version()) >= PREVENTS_RUNNING:
            body["prevent_running_task"] = True
        ids = _ids(dag_id=dag_id)
        _ids(run_id=run_id)
        answer = self._transport.change(
            "POST",
            f"{_DAG}/clearTaskInstances",
            f"{'preview a clear in' if dry_run else 'clear tasks of'} {dag_id}",
            ids,
            body,
        )
        rows = Document(answer, "cleared tasks").rows("task_instances")
        return tuple(map(parse.task_instance, rows))

    def append_note(self, ref: TaskRef, text: str) -> None:
        note = self.task_instance(ref).note or ""
        if text in note:
            return
        room = NOTE_LENGTH - len(note) - (1 if note else 0)
        if len(text) > room:
            text = text[: room - 1] + "…" if room > 1 else ""
        if text:
            path, ids = _address(ref)
            body = {"note": f"{note}\n{text}" if note else text}
            self._transport.change("PATCH", path, f"write a note on {ref}", ids, body)

    def link(self, ref: TaskRef, try_number: int) -> str:
        dag_id, run_id, task_id = (quote(i, safe="") for i in (ref.dag_id, ref.run_id, ref.task_id))
        mapped = f"/mapped/{ref.map_index}" if ref.map_index != UNMAPPED else ""
        page = f"dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}"
        return f"{self.url}/{page}?try_number={int(try_number)}"

    # ---- the transport, asked ----

    def _get(
        self, path: str, what: str, ids: Mapping[str, str] | None = None, query: Iterable[Any] = ()
    ) -> Any:
        self.version()
        return self._transport.get(path, what, ids, query)

    def _rows(
        self,
        path: str,
        key: str,
        what: str,
        ids: Mapping[str, str],
        query: Query,
        limit: int | None = None,
    ) -> Iterator[Document]:
        """The rows under `key`, page by page, at most `limit`."""
        return islice(self._pages(path, key, what, ids, query, limit or PAGE), limit)

    def _pages(
        self, path: str, key: str, what: str, ids: Mapping[str, str], query: Query, size: int
    ) -> Iterator[Document]:
        """By cursor where the server gives one, else by offset. A page may be cut below `size`
        silently, and 3.1 ignores `cursor`, so only the count says whether that was all."""
        fixed = [*query, ("limit", str(min(size, PAGE)))]
        position, cursor, seen = ("cursor", ""), None, 0
        while True:
            answer = Document(self._get(path, what, ids, [*fixed, position]), key)
            rows = answer.rows(key)
            yield from rows
            seen += len(rows)
            last, cursor = cursor, answer.text("next_cursor")
            total = answer.whole("total_entries")
            if cursor and cursor != last and rows:
                position = ("cursor", cursor)
            elif last is None and cursor is None and rows and (total is None or seen < total):
                position = ("offset", str(seen))
            else:
                return


def _allowed(probe: Callable[[], object]) -> bool:
    try:
        probe()
    except (AirflowForbidden, Refused):  # Refused: read_only is set here
        return False
    except AirflowNotFound:
        return True
    return True


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _is_glob(name: str) -> bool:
    return any(char in name for char in "*?[")


def _contains(key: str, text: str) -> Query:
    return [(key, text)] if text and not re.search(r"[|~\\%]", text) else []


def _named(task: str | tuple[str, int]) -> str | list[str | int]:
    if isinstance(task, str):
        return task
    return task[0] if task[1] == UNMAPPED else list(task)


def _ids(**names: str) -> dict[str, str]:
    """The names, fit for a path. `~` would mean all of them, and dots another path."""
    for kind, name in names.items():
        if name in ("", ".", "..", "~"):
            raise AirflowNotFound(f"no {kind.replace('_', ' ')} is named {name!r}")
    return names


def _address(ref: TaskRef) -> tuple[str, dict[str, str]]:
    ids = _ids(dag_id=ref.dag_id, run_id=ref.run_id, task_id=ref.task_id)
    mapped = "" if ref.map_index == UNMAPPED else f"/{int(ref.map_index)}"
    return _TASK + mapped, ids
