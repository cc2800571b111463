"""What the local Airflow of the tests knows of connections, variables, pools, XComs, triggered
runs and marked task instances; answers have the fields of the samples in tests/recorded.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

from tests.airflow_beside import Asked, Beside, Json, Key, Problem, stamp

RECORDED = Path(__file__).parent / "recorded"
_SECRET = re.compile("password|passwd|secret|token|api_?key|authorization", re.IGNORECASE)
_CONNECTION = ("host", "port", "schema", "login", "description", "password", "extra", "conn_type")


def recorded_objects(version: str) -> Json:
    """The samples of a real server that has these objects: name -> request, status, answer."""
    document: Json = json.loads((RECORDED / f"objects-{version}.json").read_text())
    return document


class Objects(Beside):
    """The third part of `World`, which inherits it."""

    instances: dict[Key, Json]
    tasks: dict[str, dict[str, Json]]

    def __init__(self, samples: Json, *, modern: bool) -> None:
        super().__init__(samples, modern=modern)
        self.object_samples = recorded_objects("3.3.2" if modern else "3.1.8")
        self.connections: dict[str, Json] = {}  # with their secrets
        self.connection_test: Json | None = None  # what a test answers; None: it is disabled
        self.variables: dict[str, Json] = {}
        self.xcoms: dict[Key, dict[str, Any]] = {}
        self.asset_events: dict[tuple[str, str], list[Json]] = {}

    # ---- its world ----

    def add_connection(self, connection_id: str, **fields: Any) -> Json:
        """`password` and `extra` (a dict) as they are; answers mask them."""
        row = {**dict.fromkeys(_CONNECTION), "conn_type": "postgres", "extra": {}, **fields}
        return self.connections.setdefault(connection_id, {"connection_id": connection_id, **row})

    def add_variable(self, key: str, value: str) -> Json:
        sample = self.object_samples["variable"]["answer"]
        return self.variables.setdefault(key, {**sample, "key": key, "value": value})

    def add_xcom(self, key: Key, name: str, value: Any) -> None:
        self.xcoms.setdefault(key, {})[name] = value

    def add_asset_event(self, dag_id: str, run_id: str, asset: str, source: Key) -> None:
        """That a task instance's update of the asset started this run, among others."""
        sample = self.object_samples["asset_events"]["answer"]["asset_events"][0]
        names = ("source_dag_id", "source_run_id", "source_task_id", "source_map_index")
        row = {
            **sample,
            "name": asset,
            "uri": f"x-test://{asset}",
            **dict(zip(names, source, strict=True)),
        }
        self.asset_events.setdefault((dag_id, run_id), []).append(row)

    # ---- connections ----

    def show_connection(self, _: Asked, name: str) -> Json:
        row = self._named(self.connections, name, f"The Connection with connection_id: `{name}`")
        sample = self.object_samples["connection"]["answer"]
        shown = {field: row.get(field) for field in sample}
        shown["password"] = row["password"] and "***"
        shown["extra"] = None if row["extra"] is None else json.dumps(_masked(row["extra"]))
        return shown

    def change_connection(self, request: Asked, name: str) -> Json:
        body = request.body
        if body["connection_id"] != name:
            raise Problem(
                400, "The connection_id in the request body does not match the URL parameter"
            )
        row = self._named(self.connections, name, f"The Connection with connection_id: `{name}`")
        _only(body, ("connection_id", *_CONNECTION))
        if not isinstance(body.get("port"), int | None):
            raise Problem(422, [_wrong("port", "Input should be a valid integer")])
        new = {**body}
        if isinstance(body.get("extra"), str):
            try:
                new["extra"] = _kept(json.loads(body["extra"]), row["extra"] or {})
            except (ValueError, AttributeError):
                raise Problem(
                    422, [_wrong("extra", "The `extra` field must be a valid JSON object")]
                ) from None
        if body.get("password") == "***":
            new["password"] = row["password"]
        masked = request.query.get("update_mask") or list(new)
        row |= {field: new[field] for field in _CONNECTION if field in new and field in masked}
        return self.show_connection(request, name)

    def test_connection(self, request: Asked) -> Json:
        if self.connection_test is None:
            raise Problem(403, "Testing connections is disabled in Airflow configuration.")
        name, kept = request.body["connection_id"], ("host", "port")
        stored = self.connections.get(name, {})
        changed = [f for f in kept if f in request.body and request.body[f] != stored.get(f)]
        if self.modern and changed and not request.body.get("password"):
            raise Problem(400, "The host or port to test differs from the stored connection.")
        return self.connection_test

    # ---- variables and pools ----

    def show_variable(self, _: Asked, key: str) -> Json:
        row = self._named(self.variables, key, f"The Variable with key: `{key}`")
        try:
            inner = json.loads(row["value"])
        except ValueError:
            return {**row, "value": _masked(row["value"], key)}
        # 3.1 looks at the names inside alone.
        return {**row, "value": json.dumps(_masked(inner, key if self.modern else ""))}

    def change_variable(self, request: Asked, key: str) -> Json:
        body = request.body
        _only(body, ("key", "value", "description"))
        if body["key"] != key:
            raise Problem(400, "Invalid body, key from request body doesn't match uri parameter")
        row = self._named(self.variables, key, f"The Variable with key: `{key}`")
        masked = request.query.get("update_mask") or list(body)
        row |= {field: value for field, value in body.items() if field in masked}
        return self.show_variable(request, key)

    def create_variable(self, request: Asked) -> Json:
        body = request.body
        _only(body, ("key", "value", "description"))
        if body["key"] in self.variables:
            raise Problem(409, {"reason": "Unique constraint violation"})
        self.add_variable(body["key"], body["value"])
        return self.show_variable(request, body["key"])

    def show_pool(self, _: Asked, name: str) -> Json:
        rows = {pool["name"]: pool for pool in self.pools}
        return self._named(rows, name, f"The Pool with name: `{name}`")

    def change_pool(self, request: Asked, name: str) -> Json:
        body = request.body
        if body.get("pool", name) != name:
            raise Problem(
                400, "Invalid body, pool name from request body doesn't match uri parameter"
            )
        row, masked = self.show_pool(request, name), request.query.get("update_mask")
        _only(body, ("pool", "slots", "description", "include_deferred"))
        if body.get("slots", 0) < -1:
            raise Problem(422, [_wrong("slots", "Input should be greater than or equal to -1")])
        if name == "default_pool":
            if not masked or set(masked) - {"slots", "include_deferred"}:
                raise Problem(
                    400, "Only slots and included_deferred can be modified on Default Pool"
                )
        elif self.modern or not masked:
            missing = [
                field for field in ("pool", "slots", "include_deferred") if field not in body
            ]
            if missing:
                raise Problem(422, [_wrong(field, "Field required") for field in missing])
        row |= {field: value for field, value in body.items() if field in (masked or body)}
        row.pop("pool", None)
        row["open_slots"] = row["slots"] - row["occupied_slots"] if row["slots"] >= 0 else -1
        return row

    # ---- XComs ----

    def list_xcoms(self, request: Asked, dag: str, run: str, task: str) -> Json:
        sample = self.object_samples["xcoms"]["answer"]["xcom_entries"][0]
        index = request.query.get("map_index", [""])[0]
        rows = [
            {**sample, "key": name, "map_index": key[3], "dag_id": dag, "run_id": run}
            for key, values in self.xcoms.items()
            if key[:3] == (dag, run, task) and index in ("", str(key[3]))
            for name in values
        ]
        return self.page(request, "xcom_entries", [{**row, "task_id": task} for row in rows])

    def delete_xcom(self, request: Asked, dag: str, run: str, task: str, name: str) -> None:
        key = (dag, run, task, int(request.query.get("map_index", ["-1"])[0]))
        if name not in self.xcoms.get(key, {}):
            raise Problem(
                404, f"The XCom with key: `{name}` with mentioned task instance doesn't exist."
            )
        del self.xcoms[key][name]

    # ---- runs ----

    def trigger(self, request: Asked, dag_id: str) -> Json:
        body = request.body
        if "logical_date" not in body:
            raise Problem(422, [_wrong("logical_date", "Field required")])
        self._named(self.dags, dag_id, f"Dag with dag_id: '{dag_id}'")
        run_id = body.get("dag_run_id") or f"manual__{uuid.uuid4()}"
        if (dag_id, run_id) in self.runs:
            raise Problem(409, {"reason": "Unique constraint violation", "statement": "hidden"})
        fields = {"conf": body.get("conf", {}), "note": body.get("note"), "logical_date": None}
        return self.add_run(dag_id, run_id, state="queued", run_type="manual", **fields)

    def change_run(self, request: Asked, dag_id: str, run_id: str) -> Json:
        row = self._named(self.runs, (dag_id, run_id), f"The DagRun with run_id: `{run_id}`")
        row |= {"state": request.body["state"], "end_date": None}
        return row

    def list_asset_events(self, request: Asked, dag_id: str, run_id: str) -> Json:
        self._named(self.runs, (dag_id, run_id), f"The DagRun with run_id: `{run_id}`")
        events = self.asset_events.get((dag_id, run_id), [])
        return {"asset_events": events, "total_entries": len(events)}

    def mark(self, rows: Sequence[Json], state: str) -> None:
        """Set the state of these, and clear what stands failed below them, as Airflow does."""
        if state not in ("success", "failed", "skipped"):
            raise Problem(422, [_wrong("new_state", f"'{state}' is not one of [...]")])
        if all(row["state"] == state for row in rows):
            raise Problem(409, f"Task id {rows[0]['task_id']} is already in {state} state")
        dag_id, run_id, task_id = (rows[0][name] for name in ("dag_id", "dag_run_id", "task_id"))
        for row in rows:
            row |= {
                "state": state,
                "end_date": row["end_date"] or stamp(datetime.now(timezone.utc)),
            }
        below, todo = set[str](), [task_id]
        while todo:
            found = set(self.tasks[dag_id][todo.pop()]["downstream_task_ids"]) - below
            below |= found
            todo += found
        for key, row in self.instances.items():
            stopped = row["state"] in ("failed", "upstream_failed")
            if key[:2] == (dag_id, run_id) and key[2] in below and stopped:
                row |= {"id": str(uuid.uuid4()), "state": None}
                self.runs[dag_id, run_id]["state"] = "queued"

    def _named(self, table: Mapping[Any, Json], key: Any, what: str) -> Json:
        if key not in table:
            raise Problem(404, f"{what} was not found")
        return table[key]


def _only(body: Json, known: Sequence[str]) -> None:
    if unknown := sorted(set(body) - set(known)):
        raise Problem(422, [_wrong(unknown[0], "Extra inputs are not permitted")])


def _wrong(field: str, why: str) -> Json:
    return {"type": "value_error", "loc": ["body", field], "msg": why, "input": "…"}


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner, key) for key, inner in value.items()}
    return "***" if _SECRET.search(name) else value


def _kept(new: Json, old: Json) -> Json:
    """What is sent as it was shown, masked, keeps its secret."""
    return {key: old.get(key) if value == "***" else value for key, value in new.items()}


_CONNECTIONS, _VARIABLES, _POOLS = "/api/v2/connections", "/api/v2/variables", "/api/v2/pools"
_RUNS = "/api/v2/dags/([^/]+)/dagRuns"
_RUN = _RUNS + "/([^/]+)"
_XCOMS = _RUN + "/taskInstances/([^/]+)/xcomEntries"
OBJECT_ROUTES = cast(
    "tuple[tuple[str, str, Callable[..., Any]], ...]",
    (
        ("POST", f"{_CONNECTIONS}/test", Objects.test_connection),
        ("GET", f"{_CONNECTIONS}/([^/]+)", Objects.show_connection),
        ("PATCH", f"{_CONNECTIONS}/([^/]+)", Objects.change_connection),
        ("GET", f"{_VARIABLES}/(.+)", Objects.show_variable),
        ("PATCH", f"{_VARIABLES}/(.+)", Objects.change_variable),
        ("POST", _VARIABLES, Objects.create_variable),
        ("GET", f"{_POOLS}/(.+)", Objects.show_pool),
        ("PATCH", f"{_POOLS}/(.+)", Objects.change_pool),
        ("GET", _XCOMS, Objects.list_xcoms),
        ("DELETE", f"{_XCOMS}/(.+)", Objects.delete_xcom),
        ("POST", _RUNS, Objects.trigger),
        ("PATCH", _RUN, Objects.change_run),
        ("GET", f"{_RUN}/upstreamAssetEvents", Objects.list_asset_events),
    ),
)
