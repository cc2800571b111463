"""The whole picture of a failure and `aiops stuck`, against a real Airflow."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_box import AirflowBox
from tests.e2e.test_aiops import DAGS, OnCall

WANTED = {"e2e_timeout", "e2e_prices", "e2e_reports", "e2e_lost", "e2e_many", "e2e_pool"}


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    shutil.copy(DAGS / "e2e_picture.py", airflow.dags / "e2e_picture.py")

    def parsed() -> bool:
        listed = airflow.request("GET", "/api/v2/dags?limit=100&dag_id_pattern=e2e_")["dags"]
        return {dag["dag_id"] for dag in listed} >= WANTED

    airflow.until("the tests' DAGs are parsed", parsed, 120)


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    return OnCall(airflow, tmp_path)


def task_of(box: AirflowBox, dag_id: str, run_id: str, task: str) -> Any:
    return box.request("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}")


def test_a_run_that_timed_out(ana: OnCall) -> None:
    run_id = ana.box.trigger("e2e_timeout")
    assert ana.box.wait("e2e_timeout", run_id) == "failed"
    (incident,) = ana.json("diagnose", "e2e_timeout")["incidents"]
    assert (incident["kind"], incident["run_id"], incident["task_id"]) == ("run", run_id, None)
    assert incident["error_class"] == "DagRunTimeout"
    assert incident["context"]["cut_off"] == ["slow"]
    words = ("approve", incident["incident"], "--action", "retry", "--yes")
    assert ana.json(*words, code=5)["error"]["code"] == "refused"
    ana.box.request("POST", f"/api/v2/dags/e2e_timeout/dagRuns/{run_id}/clear", {"dry_run": False})
    ana.run("watch", "--once")
    assert ana.json("incidents", "show", incident["incident"])["status"] == "superseded"


def test_a_file_that_cannot_be_imported(ana: OnCall) -> None:
    broken = ana.box.dags / "e2e_broken.py"
    broken.write_text('"""An airflow dag"""\nimport warehouse_tools\n')

    def errors() -> list[Any]:
        found: list[Any] = ana.box.request("GET", "/api/v2/importErrors")["import_errors"]
        return [error for error in found if error["filename"] == broken.name]

    try:
        ana.box.until("the import error shows", lambda: bool(errors()), 120)
        (incident,) = ana.json("diagnose", broken.name)["incidents"]
        seen = errors()[0]["timestamp"]
        ana.box.until("it is parsed again", lambda: errors()[0]["timestamp"] != seen, 120)
        ana.run("watch", "--once")
        known = ana.json("incidents")["incidents"]
        assert [one["kind"] for one in known].count("import") == 1
    finally:
        broken.unlink()
    assert (incident["kind"], incident["dag_id"]) == ("import", None)
    assert incident["error_class"] == "ModuleNotFoundError"
    context = incident["context"]
    assert (context["line"], context["source"]) == (2, "import warehouse_tools")
    ana.box.until("it is gone", lambda: not errors(), 120)
    ana.run("watch", "--once")
    assert ana.json("incidents", "show", incident["incident"])["status"] == "superseded"


def test_what_surrounds_a_failure(ana: OnCall) -> None:
    run_id, _ = ana.failure("e2e_prices", "produce")
    # A success to compare with, and an edit after it.
    path = f"/api/v2/dags/e2e_prices/dagRuns/{run_id}/taskInstances/produce"
    ana.box.request("PATCH", path, {"new_state": "success"})
    body = {"connection_id": "e2e_db", "conn_type": "postgres", "password": "hunter2-secret"}
    ana.box.request("POST", "/api/v2/connections", body)
    try:
        _, incident = ana.failure("e2e_prices", "produce")
    finally:
        ana.box.request("DELETE", "/api/v2/connections/e2e_db")
    context = incident["context"]
    assert (context["due"], context["owners"]) == ("06:00", ["payments"])
    assert context["place"] == {"role": "middle", "upstream": 1, "downstream": 1, "parallel": 0}
    assert context["assets"] == [
        {"name": "prices_eod", "uri": "x-prices://eod", "dags": ["e2e_reports"]}
    ]
    assert [one["state"] for one in context["history"]] == ["success"]
    (change,) = [one for one in context["changes"] if one["name"] == "e2e_db"]
    assert (change["kind"], change["did"], change["by"]) == ("connection", "created", "admin")
    assert context["unread"] == []
    assert "hunter2" not in str(incident)
    card = ana.run("diagnose", incident["incident"])
    assert "due 06:00" in card
    assert "prices_eod" in card


def test_a_worker_that_was_killed(ana: OnCall) -> None:
    run_id = ana.box.trigger("e2e_lost")
    task: list[Any] = []

    def runs() -> bool:
        task[:] = [task_of(ana.box, "e2e_lost", run_id, "hang")]
        return bool(task[0]["state"] == "running" and task[0]["pid"])

    ana.box.until("the task runs", runs, 120)
    pid = int(task[0]["pid"])
    stat = Path(f"/proc/{pid}/stat").read_text()
    parent = int(stat.rpartition(")")[2].split()[1])
    # It must be ours before it is killed.
    assert "LocalExecutor" in Path(f"/proc/{parent}/cmdline").read_text()
    os.kill(parent, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    assert ana.box.wait("e2e_lost", run_id, seconds=300) == "failed"
    (incident,) = ana.json("diagnose", "e2e_lost", "--run", run_id)["incidents"]
    assert incident["error_class"] == "HeartbeatLost"
    assert incident["headline"].startswith("heartbeat timeout")


def test_mapped_tasks_are_one_line(ana: OnCall) -> None:
    run_id = ana.box.trigger("e2e_many")
    assert ana.box.wait("e2e_many", run_id) == "failed"
    lines = [line for line in ana.run("failures", "e2e_many").splitlines() if run_id in line]
    assert len(lines) == 1
    assert "e2e_many.convert[1,3-4] 3 of 6" in lines[0]
    assert len(ana.json("failures", "e2e_many")["failures"]) % 3 == 0


def test_what_is_stuck(ana: OnCall) -> None:
    ana.box.request("POST", "/api/v2/pools", {"name": "e2e_empty", "slots": 0})
    try:
        run_id = ana.box.trigger("e2e_pool")
        ana.box.until(
            "it is scheduled",
            lambda: task_of(ana.box, "e2e_pool", run_id, "waits")["state"] == "scheduled",
            120,
        )
        found: list[Any] = []

        def is_told() -> bool:
            found[:] = ana.json("stuck", "e2e_pool", "--after", "1s")["stuck"]
            return bool(found)

        ana.box.until("it is told", is_told, 60)
        (one,) = found
        assert (one["task_id"], one["state"]) == ("waits", "scheduled")
        assert one["reasons"] == ["pool e2e_empty has no free slot of 0"]
        assert ana.json("stuck", "e2e_pool")["stuck"] == []  # it has not been long
    finally:
        body = {"pool": "e2e_empty", "slots": 1, "include_deferred": False}
        ana.box.request("PATCH", "/api/v2/pools/e2e_empty", body)
    ana.box.wait("e2e_pool", run_id)
