"""What an Airflow is asked: the reading half of `seams.Airflow`, over its REST API v2.

The facts that this rests on (page caps, cursors, states, what a login may see) were recorded
from running servers of 3.1.8 and 3.3.2; samples are in tests/recorded.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import chain, islice
from typing import Any
from urllib.parse import quote

from aiops_cli.airflow import parse
from aiops_cli.airflow.logs import read_excerpt
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import AirflowAnswer, AirflowNotFound
from aiops_cli.incidents import (
    UNMAPPED,
    Asset,
    AssetEvent,
    Dag,
    DagRun,
    Event,
    Excerpt,
    Health,
    ImportFailure,
    Pool,
    Task,
    TaskInstance,
    TaskRef,
)
from aiops_cli.pace import one_big_at_a_time

OLDEST = (3, 1)
# Where a run's deadlines can be asked for; older servers answer with their start page.
SHOWS_DEADLINES = (3, 3)
UNFINISHED = ("scheduled", "queued", "running", "restarting", "deferred", "up_for_reschedule")
# The list can be narrowed to try numbers, but not to those from one on.
SEVERAL_TRIES = range(2, 51)
PAGE = 100  # the server's default cap: it cuts a bigger page silently

Query = list[tuple[str, str]]

DAG = "/api/v2/dags/{dag_id}"
RUN = DAG + "/dagRuns/{run_id}"
TASK = RUN + "/taskInstances/{task_id}"


class Questions:
    """One Airflow, read; `name` is the instance's name in the settings. See `seams.Airflow`."""

    def __init__(self, transport: Transport, name: str = "default") -> None:
        self.name = name
        self.url = transport.url
        self._transport = transport
        self._version = ""
        self._big_log = threading.Lock()

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
            if release(version) < OLDEST:
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

    # ---- questions ----

    def failed(
        self,
        *,
        since: datetime,
        dag_id: str | None = None,
        task_id: str | None = None,
        run_id: str | None = None,
        behind: timedelta = timedelta(0),
    ) -> Iterator[TaskInstance]:
        dag_name = dag_id if dag_id and not _is_glob(dag_id) else None
        ids = {"dag_id": dag_name or "~", "run_id": (run_id if dag_name else None) or "~"}
        query: Query = [("state", "failed"), ("order_by", "-end_date")]
        ended: list[Query] = [[("end_date_gte", since.isoformat())]]
        if behind:  # an end date is the worker's word, `updated_at` is of the server's own clock
            earlier = [("end_date_gte", (since - behind).isoformat())]
            earlier += [("end_date_lt", since.isoformat()), ("updated_at_gte", since.isoformat())]
            ended.append(earlier)
        if task_id and not _is_glob(task_id):
            query.append(("task_id", task_id))
        # These only narrow what is sent (a case-blind "contains", where | means or and _ any
        # character), and 3.1 ignores them: the names are compared below in any case.
        if dag_id and not dag_name:
            query += _contains("dag_id_pattern", re.split(r"[*?\[]", dag_id)[0])
        if run_id and not dag_name:
            query += _contains("run_id_pattern", run_id)
        seen: set[str | None] = set()
        path, what = f"{RUN}/taskInstances", "list failed tasks"
        pages = (self._rows(path, "task_instances", what, ids, query + one) for one in ended)
        for row in chain.from_iterable(pages):
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

    def troubled(
        self, *, since: datetime, until: datetime, dag_id: str | None = None
    ) -> Iterator[TaskInstance]:
        dag_name = dag_id if dag_id and not _is_glob(dag_id) else None
        ids = {"dag_id": dag_name or "~", "run_id": "~"}
        ended: Query = [
            ("end_date_gte", since.isoformat()),
            ("end_date_lt", until.isoformat()),
            ("order_by", "end_date"),
        ]
        if dag_id and not dag_name:
            ended += _contains("dag_id_pattern", re.split(r"[*?\[]", dag_id)[0])
        several = [("try_number", str(number)) for number in SEVERAL_TRIES]
        for chosen in ([("state", "failed")], several):
            what = "list what failed before"
            rows = self._rows(f"{RUN}/taskInstances", "task_instances", what, ids, chosen + ended)
            for instance in map(parse.task_instance, rows):
                told_below = len(chosen) == 1 and instance.try_number in SEVERAL_TRIES
                if fnmatchcase(instance.ref.dag_id, dag_id or "*") and not told_below:
                    yield instance

    def task_instance(self, ref: TaskRef) -> TaskInstance:
        path, ids = address(ref)
        answer = self._get(path, f"show {ref}", ids)
        return parse.task_instance(Document(answer, "task instance"))

    def tries(self, ref: TaskRef) -> tuple[TaskInstance, ...]:
        path, ids = address(ref)
        answer = Document(self._get(f"{path}/tries", f"list the tries of {ref}", ids), "tries")
        tries: dict[int, TaskInstance] = {}
        for row in answer.rows("task_instances"):
            instance = parse.task_instance(row)
            # One that was cleared and waits repeats the number of its last try, after it.
            tries.setdefault(instance.try_number, instance)
        return tuple(tries[number] for number in sorted(tries))

    def history(
        self,
        dag_id: str,
        task_id: str,
        *,
        map_index: int = UNMAPPED,
        until: datetime | None = None,
        limit: int = 20,
    ) -> tuple[TaskInstance, ...]:
        ids = checked_ids(dag_id=dag_id) | {"run_id": "~"}
        query = [("task_id", task_id), ("map_index", str(map_index)), ("order_by", "-run_after")]
        query += [("run_after_lte", until.isoformat())] if until else []
        what = f"list the history of {dag_id}.{task_id}"
        rows = self._rows(f"{RUN}/taskInstances", "task_instances", what, ids, query, limit)
        return tuple(parse.task_instance(row) for row in rows)

    def run(self, dag_id: str, run_id: str) -> DagRun:
        ids = checked_ids(dag_id=dag_id, run_id=run_id)
        answer = self._get(RUN, f"show run {run_id} of {dag_id}", ids)
        return parse.dag_run(Document(answer, "run"))

    def failed_runs(self, *, since: datetime) -> Iterator[DagRun]:
        query = [
            ("state", "failed"),
            ("end_date_gte", since.isoformat()),
            ("order_by", "-end_date"),
        ]
        return self._runs("~", "list failed runs", query)

    def newest_success(self, dag_id: str) -> DagRun | None:
        query = [("state", "success"), ("order_by", "-run_after")]
        path, ids = RUN.removesuffix("/{run_id}"), checked_ids(dag_id=dag_id)
        rows = self._rows(path, "dag_runs", f"list the runs of {dag_id}", ids, query, limit=1)
        return next((parse.dag_run(row) for row in rows), None)

    def run_count(self, dag_id: str, *, since: datetime) -> int | None:
        ids = checked_ids(dag_id=dag_id)
        query = [("end_date_gte", since.isoformat()), ("limit", "1")]
        path, what = RUN.removesuffix("/{run_id}"), f"count the runs of {dag_id}"
        return Document(self._get(path, what, ids, query), "dag_runs").whole("total_entries")

    def active_runs(self, *, dag_id: str | None = None) -> Iterator[DagRun]:
        query = [("state", "running"), ("state", "queued"), ("order_by", "id")]
        return self._runs(dag_id or "~", "list active runs", query)

    def _runs(self, dag_id: str, what: str, query: Query) -> Iterator[DagRun]:
        path = RUN.removesuffix("/{run_id}")
        for row in self._rows(path, "dag_runs", what, {"dag_id": dag_id}, query):
            yield parse.dag_run(row)

    def run_task_instances(
        self, dag_id: str, run_id: str, *, states: Sequence[str] = (), limit: int | None = None
    ) -> tuple[TaskInstance, ...]:
        ids = checked_ids(dag_id=dag_id, run_id=run_id)
        what = f"list the tasks of run {run_id} of {dag_id}"
        query = [("state", state) for state in states]
        query += [("order_by", "state")] if states else []
        rows = self._rows(f"{RUN}/taskInstances", "task_instances", what, ids, query, limit)
        return tuple(parse.task_instance(row) for row in rows)

    def mapped_count(self, ref: TaskRef) -> int | None:
        ids = checked_ids(dag_id=ref.dag_id, run_id=ref.run_id)
        query = [("task_id", ref.task_id), ("limit", "1")]
        what = f"count the instances of {ref.dag_id}.{ref.task_id}"
        answer = Document(self._get(f"{RUN}/taskInstances", what, ids, query), "task_instances")
        return answer.whole("total_entries")

    def unfinished(self, *, dag_id: str | None = None) -> Iterator[TaskInstance]:
        dag_name = dag_id if dag_id and not _is_glob(dag_id) else None
        query = [*(("state", state) for state in UNFINISHED), ("order_by", "id")]
        ids = {"dag_id": dag_name or "~", "run_id": "~"}
        what = "list unfinished tasks"
        for row in self._rows(f"{RUN}/taskInstances", "task_instances", what, ids, query):
            instance = parse.task_instance(row)
            if fnmatchcase(instance.ref.dag_id, dag_id or "*"):
                yield instance

    def blockers(self, ref: TaskRef) -> tuple[str, ...]:
        path, ids = address(ref)
        answer = self._get(f"{path}/dependencies", f"say what {ref} waits for", ids)
        return tuple(
            row.text("reason") or row.need("name")
            for row in Document(answer, "dependencies").items("dependencies")
        )

    def import_errors(self) -> tuple[ImportFailure, ...]:
        what = "list import errors"
        query = [("order_by", "id")]
        rows = self._rows("/api/v2/importErrors", "import_errors", what, {}, query)
        return tuple(map(parse.import_failure, rows))

    def assets(self, dag_id: str) -> tuple[Asset, ...]:
        query = [("dag_ids", dag_id)]
        what = f"list the assets of {dag_id}"
        rows = self._rows("/api/v2/assets", "assets", what, {}, query, PAGE)
        return tuple(map(parse.asset, rows))

    def consumed_assets(self, dag_id: str, run_id: str) -> tuple[AssetEvent, ...]:
        ids = checked_ids(dag_id=dag_id, run_id=run_id)
        what = f"list the asset events of run {run_id} of {dag_id}"
        answer = Document(self._get(f"{RUN}/upstreamAssetEvents", what, ids), "asset events")
        return tuple(map(parse.asset_event, answer.rows("asset_events")))

    def deadlines(self, dag_id: str, run_id: str) -> tuple[datetime, ...]:
        if release(self.version()) < SHOWS_DEADLINES:
            return ()
        ids = checked_ids(dag_id=dag_id, run_id=run_id)
        path = "/ui/dags/{dag_id}/dagRuns/{run_id}/deadlines"
        answer = self._get(path, f"list the deadlines of {run_id}", ids, [("limit", str(PAGE))])
        rows = Document(answer, "deadlines").items("deadlines")
        return tuple(sorted(filter(None, (row.time("deadline_time") for row in rows))))

    def pools(self) -> Mapping[str, Pool]:
        rows = self._rows("/api/v2/pools", "pools", "list its pools", {}, [])
        return {pool.name: pool for pool in map(parse.pool, rows)}

    def dag(self, dag_id: str) -> Dag:
        answer = self._get(f"{DAG}/details", f"show DAG {dag_id}", checked_ids(dag_id=dag_id))
        return parse.dag(Document(answer, "DAG"))

    def dags(self) -> Iterator[Dag]:
        query = [("paused", "false"), ("exclude_stale", "true"), ("order_by", "dag_id")]
        for row in self._rows("/api/v2/dags", "dags", "list its DAGs", {}, query):
            yield parse.dag(row)

    def tasks(self, dag_id: str) -> Mapping[str, Task]:
        answer = self._get(
            f"{DAG}/tasks", f"list the tasks of {dag_id}", checked_ids(dag_id=dag_id)
        )
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
        ids = checked_ids(dag_id=ref.dag_id, run_id=ref.run_id, task_id=ref.task_id)
        return self._transport.stream(
            f"{TASK}/logs/{int(try_number)}",
            f"send the log of {ref}, try {try_number}",
            ids,
            [("map_index", str(ref.map_index))],
            self._excerpt,
        )

    def _excerpt(self, pieces: Iterable[bytes]) -> Excerpt:
        # Closed here: an error that is kept would keep the turn.
        with closing(one_big_at_a_time(pieces, self._big_log)) as polite:
            return read_excerpt(polite)

    def link(self, ref: TaskRef, try_number: int) -> str:
        dag_id, run_id, task_id = (quote(i, safe="") for i in (ref.dag_id, ref.run_id, ref.task_id))
        mapped = f"/mapped/{ref.map_index}" if ref.map_index != UNMAPPED else ""
        page = f"dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}"
        return f"{self.url}/{page}?try_number={int(try_number)}"

    def run_link(self, dag_id: str, run_id: str) -> str:
        return f"{self.url}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"

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


def release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _is_glob(name: str) -> bool:
    return any(char in name for char in "*?[")


def _contains(key: str, text: str) -> Query:
    return [(key, text)] if text and not re.search(r"[|~\\%]", text) else []


def checked_ids(**names: str) -> dict[str, str]:
    """The names, fit for a path. `~` would mean all of them, and dots another path."""
    for kind, name in names.items():
        if name in ("", ".", "..", "~"):
            raise AirflowNotFound(f"no {kind.replace('_', ' ')} is named {name!r}")
    return names


def address(ref: TaskRef) -> tuple[str, dict[str, str]]:
    ids = checked_ids(dag_id=ref.dag_id, run_id=ref.run_id, task_id=ref.task_id)
    mapped = "" if ref.map_index == UNMAPPED else f"/{int(ref.map_index)}"
    return TASK + mapped, ids
