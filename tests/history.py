"""Histories for the tests' Airflow: what ran, who cleared it, what was changed in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.airflow_server import AirflowServer, exception

Json = dict[str, Any]
TIMEOUT = exception("TimeoutError", "the price feed took too long")
MINUTE = timedelta(minutes=1)


def add_history(
    server: AirflowServer,
    dag_id: str,
    states: Sequence[str],
    began: datetime,
    *,
    run_id: str = "run-1",
    budgets: Sequence[int] = (),
    versions: Sequence[int] = (),
    events: Sequence[Json] = (TIMEOUT,),
    **fields: Any,
) -> Json:
    """Tries of `load` in these states, ten minutes apart, each with the log of `events` where it
    failed. `budgets` are their max_tries, which a clear changes; `versions` the DAG's. Returns
    the newest, whose fields may be changed."""
    rows = []
    row = server.add_failure(dag_id, "load", run_id=run_id, **fields)
    for number, state in enumerate(states, 1):
        start = began + (number - 1) * 10 * MINUTE
        dag_version = {
            **(row["dag_version"] or {}),
            "version_number": (versions or [1] * 9)[number - 1],
        }
        one = {
            **row,
            "state": state,
            "try_number": number,
            "max_tries": budgets[number - 1] if budgets else 9,
            "start_date": start.isoformat(),
            "end_date": (start + MINUTE).isoformat(),
            "dag_version": dag_version,
        }
        rows.append(one)
        server.set_log(row, number, [*events] if state == "failed" else [])
    key = (dag_id, run_id, "load", row["map_index"])
    server.past[key] = rows[:-1]
    row |= rows[-1]
    return row


def add_clear(
    server: AirflowServer, dag_id: str, when: datetime, *, run_id: str = "run-1", by: str = "dba"
) -> None:
    server.add_event(
        "post_clear_task_instances",
        when=when,
        owner=by,
        dag_id=dag_id,
        run_id=run_id,
        extra='{"dry_run": false, "task_ids": ["load"]}',
    )
