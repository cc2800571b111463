"""What the local Airflow of the tests knows beside task instances: runs, import errors, assets,
deadlines, pools, and why something waits."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Protocol

Json = dict[str, Any]
Key = tuple[str, str, str, int]  # dag, run, task, map index


class Asked(Protocol):
    """As much of a request as is looked at here."""

    @property
    def query(self) -> Mapping[str, list[str]]: ...

    @property
    def body(self) -> Any: ...


class Problem(Exception):
    """An answer outside 2xx."""

    def __init__(self, status: int, detail: Any) -> None:
        self.status = status
        self.body = {"detail": detail}


class Beside:
    """The other half of `World`, which inherits it."""

    def __init__(self, samples: Json, *, modern: bool) -> None:
        self.samples = samples
        self.modern = modern
        self.page_limit = 100
        self.dags: dict[str, Json] = {}
        self.runs: dict[tuple[str, str], Json] = {}
        self.import_errors: list[Json] = []
        self.assets: list[Json] = []
        self.deadlines: dict[tuple[str, str], list[datetime]] = {}
        self.pools: list[Json] = []
        self.blockers: dict[Key, list[str]] = {}

    def add_run(self, dag_id: str, run_id: str, *, state: str = "failed", **fields: Any) -> Json:
        """A run without task instances, ended now where its state says so."""
        ids = {"dag_id": dag_id, "dag_run_id": run_id, "state": state, "run_type": "scheduled"}
        ended = stamp(datetime.now(timezone.utc)) if state in ("failed", "success") else None
        row = {**self.samples["run"]["answer"], **ids, "end_date": ended, **fields}
        return self.runs.setdefault((dag_id, run_id), row)

    def add_import_error(self, file: str, stack_trace: str, **fields: Any) -> Json:
        row = {**self.samples["import_errors"]["answer"]["import_errors"][0], "filename": file}
        number = 1 + max((error["import_error_id"] for error in self.import_errors), default=0)
        row |= {"import_error_id": number, "stack_trace": stack_trace, **fields}
        self.import_errors.append(row)
        return row

    def add_asset(self, name: str, producer: tuple[str, str], consumers: Sequence[str]) -> None:
        """An asset that the task `producer` (DAG, task) updates and `consumers` run on."""
        sample = self.samples["assets"]["answer"]["assets"][0]
        made, used = sample["producing_tasks"][0], sample["scheduled_dags"][0]
        produced = [{**made, "dag_id": producer[0], "task_id": producer[1]}]
        scheduled = [{**used, "dag_id": dag_id} for dag_id in consumers]
        row = {**sample, "name": name, "uri": f"x-test://{name}"}
        self.assets.append({**row, "producing_tasks": produced, "scheduled_dags": scheduled})

    def add_pool(self, name: str, slots: int, open_slots: int, **fields: Any) -> None:
        sample = self.samples["pools"]["answer"]["pools"][0]
        taken = {"open_slots": open_slots, "occupied_slots": slots - open_slots}
        self.pools.append({**sample, "name": name, "slots": slots, **taken, **fields})

    # ---- answers ----

    def page(
        self, request: Asked, key: str, rows: Sequence[Json], *, by_cursor: bool = False
    ) -> Json:
        """By offset, or by cursor where this list and version know it; cut silently."""
        query, cursors = request.query, {}
        limit = min(int(query.get("limit", ["50"])[0]), self.page_limit)
        if by_cursor and self.modern and "cursor" in query:
            start = int(query["cursor"][0].removeprefix("after-") or 0)
            more = f"after-{start + limit}" if start + limit < len(rows) else None
            cursors = {"next_cursor": more, "previous_cursor": None, "total_entries_limit": 50000}
        else:
            start = int(query.get("offset", ["0"])[0])
            if by_cursor and self.modern:
                cursors = dict.fromkeys(("next_cursor", "previous_cursor", "total_entries_limit"))
        return {key: list(rows[start : start + limit]), "total_entries": len(rows), **cursors}

    def list_runs(self, request: Asked, dag_id: str) -> Json:
        query = request.query
        since = query.get("end_date_gte", [""])[0]
        rows = [
            row
            for row in self.runs.values()
            if dag_id in ("~", row["dag_id"])
            and row["state"] in query.get("state", [row["state"]])
            and (not since or (row["end_date"] and when(row["end_date"]) >= when(since)))
        ]
        if query.get("order_by") == ["-end_date"]:
            rows.sort(key=lambda row: str(row["end_date"]), reverse=True)
        if query.get("order_by") == ["-run_after"]:
            rows.sort(key=lambda row: when(row["run_after"]), reverse=True)
        return self.page(request, "dag_runs", rows, by_cursor=True)

    def list_dags(self, request: Asked) -> Json:
        """Rows of a list say less than a DAG's details."""
        fields = self.samples["dags"]["answer"]["dags"][0]
        pattern = request.query.get("dag_id_pattern", [""])[0]
        rows = [
            {name: dag[name] for name in fields}
            for dag in self.dags.values()
            if pattern in dag["dag_id"] and not dag["is_paused"]
        ]
        return self.page(request, "dags", rows)

    def list_import_errors(self, request: Asked) -> Json:
        return self.page(request, "import_errors", self.import_errors)

    def list_assets(self, request: Asked) -> Json:
        dag_ids = request.query.get("dag_ids", [])
        rows = [
            asset
            for asset in self.assets
            if any(
                row["dag_id"] in dag_ids
                for row in (*asset["producing_tasks"], *asset["scheduled_dags"])
            )
        ]
        return self.page(request, "assets", rows)

    def list_pools(self, request: Asked) -> Json:
        return self.page(request, "pools", self.pools)

    def list_deadlines(
        self, _: Asked, dag_id: str, run_id: str
    ) -> Json | Callable[[], list[bytes]]:
        if not self.modern:  # the UI's start page, whatever is asked
            return lambda: [b"<!doctype html>\n<html><title>Airflow</title></html>"]
        sample = self.samples["deadlines"]["answer"]["deadlines"][0]
        times = self.deadlines.get((dag_id, run_id), [])
        rows = [
            {**sample, "id": str(uuid.uuid4()), "dag_id": dag_id, "deadline_time": stamp(time)}
            for time in times
        ]
        return {"deadlines": rows, "total_entries": len(rows)}

    def say_what_blocks(self, _: Asked, dag: str, run: str, task: str, index: str) -> Json:
        reasons = self.blockers.get((dag, run, task, int(index.strip("/") or -1)), [])
        return {"dependencies": [{"name": "Dependency", "reason": reason} for reason in reasons]}


def stamp(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def when(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace("Z", "+00:00" if "T" in text else "T00:00+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
