"""What the local Airflow of the tests knows, and what it answers to a request.

Answers are filled into the samples recorded from a real server of the same version
(tests/recorded), so they have the same fields.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.airflow_beside import Json, Key, Problem
from tests.airflow_beside import stamp as _stamp
from tests.airflow_beside import when as _when
from tests.airflow_objects import OBJECT_ROUTES, Objects

Lines = Callable[[], Iterable[bytes]]

RECORDED = Path(__file__).parent / "recorded"
RUN = "scheduled__2026-01-01T00:00:00+00:00"
_CLEAR_FIELDS = {
    *("dry_run", "dag_run_id", "task_ids", "only_failed", "only_running", "reset_dag_runs"),
    *("include_upstream", "include_downstream", "include_future", "include_past"),
    *("run_on_latest_version", "start_date", "end_date"),
}


def recorded(version: str) -> Json:
    """The samples of a real server: name -> request, status, answer (or text)."""
    document: Json = json.loads((RECORDED / f"airflow-{version}.json").read_text())
    return document


def exception(kind: str, text: str, *, file: str = "orders.py", function: str = "load") -> Json:
    """The event of a log that tells of a task's exception."""
    frame = {"filename": f"/opt/airflow/dags/{file}", "lineno": 13, "name": function}
    detail = {"exc_type": kind, "exc_value": text, "exc_notes": [], "is_cause": False}
    chain = [{**detail, "syntax_error": None, "frames": [frame], "is_group": False}]
    event = {"event": "Task failed with exception", "level": "error", "logger": "task"}
    return {**event, "error_detail": chain}


@dataclass(frozen=True)
class Request:
    method: str
    path: str  # as sent, percent-encoded
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Any


class World(Objects):
    """Its world is made of the JSON that it answers with; change it freely between requests."""

    username, password = "oncall", "oncall-password"
    viewer = ("viewer", "viewer-password")
    user = ("user", "user-password")  # may clear, but not touch connections, variables, pools
    client: tuple[str, str] | None = None  # an id and secret, as Keycloak's auth manager takes them

    def __init__(self, version: str = "3.3.2") -> None:
        # Which knows cursors, deadlines and prevent_running_task.
        super().__init__(recorded(version), modern=version != "3.1.8")
        self.tasks: dict[str, dict[str, Json]] = {}
        self.instances: dict[Key, Json] = {}
        self.past: dict[Key, list[Json]] = {}
        self.changed: dict[Key, datetime] = {}  # no answer tells it, but lists are narrowed by it
        self.logs: dict[tuple[Key, int], Lines] = {}
        self.events: list[Json] = []
        self.health: Json = self.samples["health"]["answer"]
        self.tokens: dict[str, str] = {}  # token -> user name; put your own in for a static one
        self.expired: set[str] = set()

    # ---- its world ----

    def add_dag(
        self,
        dag_id: str,
        edges: Mapping[str, Sequence[str]],
        *,
        tags: Sequence[str] = (),
        retries: int = 0,
        **fields: Any,
    ) -> None:
        """A DAG whose `edges` name each task's downstream tasks."""
        sample = self.samples["dag"]["answer"]
        named = [{"name": tag, "dag_id": dag_id, "dag_display_name": dag_id} for tag in tags]
        self.dags[dag_id] = {**sample, "dag_id": dag_id, "tags": named, **fields}
        task = self.samples["tasks"]["answer"]["tasks"][0]
        names = {**edges, **{name: edges.get(name, ()) for ends in edges.values() for name in ends}}
        self.tasks[dag_id] = {
            name: {**task, "task_id": name, "downstream_task_ids": list(ends), "retries": retries}
            for name, ends in names.items()
        }

    def add_failure(
        self,
        dag_id: str,
        task_id: str,
        *,
        run_id: str = RUN,
        map_index: int = -1,
        try_number: int = 1,
        events: Sequence[Json] = (),
        blocks: Sequence[str] = (),
        ended: datetime | None = None,
        **fields: Any,
    ) -> Json:
        """A failed task instance with its log, in a failed run; `blocks` names the downstream
        tasks that are upstream_failed. Returns the instance, whose fields may be changed."""
        if dag_id not in self.dags:
            self.add_dag(dag_id, {task_id: blocks})
        elif task_id not in self.tasks[dag_id]:
            other = next(iter(self.tasks[dag_id].values()))
            new = {"task_id": task_id, "downstream_task_ids": list(blocks)}
            self.tasks[dag_id][task_id] = {**other, **new}
        ended = ended or datetime.now(timezone.utc) - timedelta(minutes=5)
        self.add_run(dag_id, run_id, end_date=_stamp(ended))
        row = self._instance(dag_id, run_id, task_id, map_index)
        started = _stamp(ended - timedelta(seconds=3))
        row |= {"state": "failed", "try_number": try_number, "max_tries": try_number - 1}
        row |= {"start_date": started, "end_date": _stamp(ended), "duration": 3.0, **fields}
        self.set_log(row, try_number, [*events] or [exception("ValueError", "no reason given")])
        for blocked in blocks:
            symptom = self._instance(dag_id, run_id, blocked, -1)
            symptom |= {"state": "upstream_failed", "try_number": 0, "max_tries": 0}
            symptom |= {"start_date": _stamp(ended), "end_date": _stamp(ended), "duration": 0.0}
        return row

    def add_instance(
        self, dag_id: str, task_id: str, state: str | None, *, run_id: str = RUN, **fields: Any
    ) -> Json:
        """A task instance in any state, without a log; its run is there already or running."""
        if dag_id not in self.dags:
            self.add_dag(dag_id, {task_id: ()})
        self.add_run(dag_id, run_id, state="running")
        row = self._instance(dag_id, run_id, task_id, fields.pop("map_index", -1))
        row |= {"state": state, "end_date": None, "duration": None, **fields}
        return row

    def set_log(self, row: Json, try_number: int, log: Sequence[Json] | Lines) -> None:
        """The log of a try: its events, or a function that gives the stream's bytes anew."""
        lines = log
        if not callable(lines):
            data = "".join(json.dumps(event) + "\n" for event in lines).encode()
            self.logs[_key(row), try_number] = lambda: [data]
        else:
            self.logs[_key(row), try_number] = lines

    def finish(self, row: Json, state: str = "success", events: Sequence[Json] = ()) -> None:
        """A cleared instance starts its next try and ends it at once."""
        now = _stamp(datetime.now(timezone.utc))
        row |= {"try_number": row["try_number"] + 1, "state": state}
        row |= {"start_date": now, "end_date": now, "duration": 0.0}
        self.set_log(row, row["try_number"], events)
        siblings = [i for k, i in self.instances.items() if k[:2] == _key(row)[:2]]
        states = {sibling["state"] for sibling in siblings}
        ended = {"state": "failed" if "failed" in states else "success", "end_date": now}
        self.runs[_key(row)[:2]] |= ended

    def add_event(self, event: str, *, when: datetime | None = None, **fields: Any) -> None:
        sample = dict.fromkeys(self.samples["events"]["answer"]["event_logs"][0])
        number = len(self.events) + 1
        stamp = _stamp(when or datetime.now(timezone.utc))
        self.events.append(
            {**sample, "event_log_id": number, "when": stamp, "event": event, **fields}
        )

    def _instance(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Json:
        ids = {"dag_id": dag_id, "dag_run_id": run_id, "task_id": task_id, "map_index": map_index}
        run = {"note": None, "run_after": "2026-01-01T00:00:00Z", "id": str(uuid.uuid4())}
        row = {**self.samples["task_instance"]["answer"], **ids, **run, "rendered_fields": {}}
        return self.instances.setdefault((dag_id, run_id, task_id, map_index), row)

    # ---- its answers ----

    def answer(self, request: Request) -> Json | Lines | None:
        """The body of a 2xx answer (None: an empty one), or the log's stream. Raises Problem."""
        path = request.path
        if path == "/api/v2/version":
            return dict(self.samples["version"]["answer"])
        if path == "/api/v2/monitor/health":
            return self.health
        if path == "/auth/token":
            return self._login(request.body)
        self._authorise(request)
        for method, pattern, act in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and method == request.method:
                return act(self, request, *(unquote(part or "") for part in found.groups()))
        raise Problem(404, "Not Found")

    def _login(self, body: Any) -> Json:
        if body.get("grant_type") == "client_credentials" and self.client:
            login = body["client_id"], body["client_secret"]
        elif "username" in body:
            login = body["username"], body["password"]
        else:
            raise Problem(422, "1 validation error for LoginBody\nusername\n  Field required")
        if login not in ((self.username, self.password), self.viewer, self.user, self.client):
            raise Problem(401, "Invalid credentials")
        token = f"token-{len(self.tokens)}-{uuid.uuid4()}"
        self.tokens[token] = login[0]
        return {"access_token": token}

    def _authorise(self, request: Request) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token:
            raise Problem(401, "Not authenticated")
        if token in self.expired:
            raise Problem(401, "Token Expired")
        if token not in self.tokens:
            raise Problem(403, "Invalid JWT token")
        who, changes = self.tokens[token], request.method != "GET"
        kept = (
            ("connections", "variables") if not changes else ("connections", "variables", "pools")
        )
        if who in (self.viewer[0], self.user[0]) and request.path.split("/")[3] in kept:
            raise Problem(403, "Forbidden")
        if request.method == "DELETE" and not self.modern:
            raise Problem(405, "Method Not Allowed")
        if changes and who == self.viewer[0]:
            raise Problem(403, "Forbidden")

    def _find(self, dag_id: str, run_id: str, task_id: str, index: str) -> Json:
        row = self.instances.get((dag_id, run_id, task_id, int(index.strip("/") or -1)))
        if row is None:
            if not index and any(key[:3] == (dag_id, run_id, task_id) for key in self.instances):
                raise Problem(404, "Task instance is mapped, add the map_index value to the URL")
            raise Problem(404, f"The Task Instance of task_id: `{task_id}` was not found")
        return row

    def list_instances(self, request: Request, dag_id: str, run_id: str) -> Json:
        query = request.query
        if dag_id == "~" and run_id != "~" and self.modern:
            raise Problem(400, "dag_id is required when dag_run_id is specified")
        if dag_id not in ("~", *self.dags):
            raise Problem(404, f"The Dag with ID: `{dag_id}` was not found")
        rows = [
            row
            for row in self.instances.values()
            if dag_id in ("~", row["dag_id"])
            and run_id in ("~", row["dag_run_id"])
            and row["state"] in query.get("state", [row["state"]])
            and row["task_id"] in query.get("task_id", [row["task_id"]])
            and str(row["map_index"]) in query.get("map_index", [str(row["map_index"])])
            and str(row["try_number"]) in query.get("try_number", [str(row["try_number"])])
            and _ended_since(row, query.get("end_date_gte"))
            and _ended_before(row, query.get("end_date_lt"))
            and _changed_since(row, self.changed.get(_key(row)), query.get("updated_at_gte"))
            and _due_by(row, query.get("run_after_lte"))
            and (not self.modern or _narrowed(row, query))
        ]
        order = query.get("order_by", ["map_index"])[0]
        rows.sort(key=lambda row: str(row[order.lstrip("-")]), reverse=order.startswith("-"))
        return self.page(request, "task_instances", rows, by_cursor=True)

    def clear(self, request: Request, dag_id: str) -> Json:
        body = request.body
        known = _CLEAR_FIELDS | ({"prevent_running_task", "note"} if self.modern else set())
        if extra := sorted(set(body) - known):
            message = {"type": "extra_forbidden", "msg": "Extra inputs are not permitted"}
            raise Problem(422, [{**message, "loc": ["body", extra[0]], "input": body[extra[0]]}])
        if (dag_id, body["dag_run_id"]) not in self.runs:
            raise Problem(404, f"Dag Run id {body['dag_run_id']} not found in dag {dag_id}")
        wanted = body.get("task_ids")
        rows = [
            row
            for key, row in self.instances.items()
            if key[:2] == (dag_id, body["dag_run_id"])
            and (wanted is None or key[2] in wanted or [key[2], key[3]] in wanted)
            and (not body.get("only_failed", True) or row["state"] in ("failed", "upstream_failed"))
        ]
        if body.get("dry_run", True):
            return {"task_instances": [dict(row) for row in rows], "total_entries": len(rows)}
        if body.get("prevent_running_task") and any(row["state"] == "running" for row in rows):
            raise Problem(409, "AirflowClearRunningTaskException: a task is running")
        for row in rows:
            if row["try_number"]:
                self.past.setdefault(_key(row), []).append(dict(row))
            retries = self.tasks[dag_id][row["task_id"]]["retries"]
            row |= {"id": str(uuid.uuid4()), "state": None}
            row |= {"max_tries": row["try_number"] + int(retries)}
            row |= {"note": body["note"]} if "note" in body else {}
            self.runs[_key(row)[:2]]["state"] = "queued"
        return {"task_instances": [dict(row) for row in rows], "total_entries": len(rows)}

    def tries(self, request: Request, dag: str, run: str, task: str, index: str) -> Json:
        row = self._find(dag, run, task, index)
        fields = self.samples["tries"]["answer"]["task_instances"][0]
        rows = [*self.past.get(_key(row), []), *([row] if row["state"] != "up_for_retry" else [])]
        tries = [{name: one[name] for name in fields} for one in rows]
        return {"task_instances": tries, "total_entries": len(tries)}

    def patch(self, request: Request, dag: str, run: str, task: str, index: str) -> Json:
        """Without an index, all instances of a mapped task are patched."""
        rows = [row for key, row in self.instances.items() if key[:3] == (dag, run, task)]
        rows = [self._find(dag, run, task, index)] if index or not rows else rows
        if len(request.body.get("note") or "") > 1000:
            raise Problem(422, "note: String should have at most 1000 characters")
        if "new_state" in request.body:
            self.mark(rows, request.body["new_state"])
        for row in rows:
            row |= {"note": request.body["note"]} if "note" in request.body else {}
        fields = dict.fromkeys(self.object_samples["marked"]["answer"])
        return {**fields, "task_instances": rows, "total_entries": len(rows)}

    def log(self, request: Request, dag: str, run: str, task: str, number: str) -> Lines:
        key = (dag, run, task, int(request.query.get("map_index", ["-1"])[0]))
        if (key, int(number)) not in self.logs:
            raise Problem(404, "TaskInstance not found")
        return self.logs[key, int(number)]

    def list_events(self, request: Request) -> Json:
        query = {name: values for name, values in request.query.items() if values != [""]}
        rows = [
            row
            for row in self.events
            if all(row[name] == query.get(name, [row[name]])[0] for name in _EVENT_NAMES)
            and row["event"] in query.get("included_events", [row["event"]])
            and _when(row["when"]) > _when(query.get("after", ["2000-01-01Z"])[0])
            and _when(row["when"]) < _when(query.get("before", ["2100-01-01Z"])[0])
        ]
        if query.get("order_by") == ["-event_log_id"]:
            rows.reverse()
        return self.page(request, "event_logs", rows)

    def list_tasks(self, request: Request, dag_id: str) -> Json:
        tasks = list(self.one(self.tasks, dag_id).values())
        return {"tasks": tasks, "total_entries": len(tasks)}

    def one(self, table: Mapping[Any, Json], key: Any) -> Json:
        if key not in table:
            raise Problem(404, f"`{key}` was not found")
        return table[key]


_EVENT_NAMES = ("dag_id", "run_id", "task_id")
_DAG = "/api/v2/dags/([^/]+)"
_TI = _DAG + "/dagRuns/([^/]+)/taskInstances"
_ROUTES: tuple[tuple[str, str, Callable[..., Json | Lines]], ...] = (
    ("GET", _TI, World.list_instances),
    ("GET", _TI + r"/([^/]+)(/\d+)?", lambda world, _, *ids: world._find(*ids)),
    ("PATCH", _TI + r"/([^/]+)(/\d+)?", World.patch),
    ("GET", _TI + r"/([^/]+)(/\d+)?/tries", World.tries),
    ("GET", _TI + r"/([^/]+)/logs/(\d+)", World.log),
    ("POST", _DAG + "/clearTaskInstances", World.clear),
    ("GET", _TI + r"/([^/]+)(/\d+)?/dependencies", World.say_what_blocks),
    ("GET", _DAG + "/dagRuns", World.list_runs),
    ("GET", "/ui/dags/([^/]+)/dagRuns/([^/]+)/deadlines", World.list_deadlines),
    ("GET", "/api/v2/dags", World.list_dags),
    ("GET", "/api/v2/importErrors", World.list_import_errors),
    ("GET", "/api/v2/assets", World.list_assets),
    ("GET", "/api/v2/pools", World.list_pools),
    ("GET", _DAG + "/details", lambda world, _, dag: world.one(world.dags, dag)),
    ("GET", _DAG + "/tasks", World.list_tasks),
    ("GET", _DAG + "/dagRuns/([^/]+)", lambda world, _, *ids: world.one(world.runs, ids)),
    ("GET", "/api/v2/eventLogs", World.list_events),
    *OBJECT_ROUTES,
)


def _key(row: Json) -> Key:
    return row["dag_id"], row["dag_run_id"], row["task_id"], row["map_index"]


def _ended_since(row: Json, since: list[str] | None) -> bool:
    return since is None or (row["end_date"] and _when(row["end_date"]) >= _when(since[0]))


def _ended_before(row: Json, until: list[str] | None) -> bool:
    return until is None or (row["end_date"] and _when(row["end_date"]) < _when(until[0]))


def _due_by(row: Json, until: list[str] | None) -> bool:
    return until is None or _when(row["run_after"]) <= _when(until[0])


def _changed_since(row: Json, changed: datetime | None, since: list[str] | None) -> bool:
    """`changed` is when the server wrote the row, by its own clock; else when its task ended."""
    if since is None:
        return True
    at = changed or (row["end_date"] and _when(row["end_date"]))
    return bool(at and at >= _when(since[0]))


def _narrowed(row: Json, query: Mapping[str, list[str]]) -> bool:
    """The patterns that 3.3 knows: a case-blind "contains"."""
    names = (("dag_id_pattern", "dag_id"), ("run_id_pattern", "dag_run_id"))
    return all(query.get(key, [""])[0].lower() in row[name].lower() for key, name in names)
