"""`aiops learn` on a real Airflow with a past: each way that a failure came to its end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_box import AirflowBox
from tests.e2e.test_aiops import DAGS, OnCall

PAST = ("own", "cleared", "below", "connection", "code", "never")
WAREHOUSE = {"connection_id": "e2e_warehouse", "conn_type": "http"}


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    return OnCall(airflow, tmp_path)


def clear(box: AirflowBox, dag_id: str, run_id: str, task_id: str = "load", **fields: bool) -> None:
    """As somebody does it in Airflow's UI, on the latest version of the DAG."""
    body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], **fields}
    box.request(
        "POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body | {"run_on_latest_version": True}
    )


def began(box: AirflowBox, dag_id: str) -> str:
    """A run that has ended and whose first try has really begun: on a busy machine Airflow may
    lose one before, which leaves no trace."""
    for _ in range(5):
        run_id = box.trigger(dag_id)
        box.wait(dag_id, run_id)
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/load/tries"
        tries = box.request("GET", path)["task_instances"]
        if any(one["try_number"] == 1 and one["start_date"] for one in tries):
            return run_id
    raise AssertionError(f"{dag_id} never began")


@pytest.fixture(scope="module")
def past(airflow: AirflowBox) -> Iterator[dict[str, str]]:
    """What has happened: the run of each DAG, all but the last ended well."""
    file = airflow.dags / "e2e_history.py"
    shutil.copy(DAGS / "e2e_history.py", file)
    names = {f"e2e_past_{name}" for name in PAST}

    def parsed() -> bool:
        listed = airflow.request("GET", "/api/v2/dags?limit=100&dag_id_pattern=e2e_past")["dags"]
        return names <= {dag["dag_id"] for dag in listed}

    airflow.until("the DAGs with a past are parsed", parsed, 120)
    airflow.request("POST", "/api/v2/connections", {**WAREHOUSE, "host": "old"})
    runs = {name: began(airflow, f"e2e_past_{name}") for name in PAST}
    ends = {name: airflow.run_state(f"e2e_past_{name}", run_id) for name, run_id in runs.items()}
    assert ends == {**dict.fromkeys(PAST, "failed"), "own": "success"}

    clear(airflow, "e2e_past_cleared", runs["cleared"])
    assert airflow.wait("e2e_past_cleared", runs["cleared"]) == "success"

    both = {"include_downstream": True, "only_failed": False}
    clear(airflow, "e2e_past_below", runs["below"], "extract", **both)
    assert airflow.wait("e2e_past_below", runs["below"]) == "success"

    airflow.request(
        "PATCH", "/api/v2/connections/e2e_warehouse?update_mask=host", {**WAREHOUSE, "host": "new"}
    )
    clear(airflow, "e2e_past_connection", runs["connection"])
    assert airflow.wait("e2e_past_connection", runs["connection"]) == "success"

    file.write_text(file.read_text().replace("load()  # as it is", "load(fixed=True)"))
    versions = "/api/v2/dags/e2e_past_code/dagVersions"
    airflow.until(
        "the new version is there",
        lambda: len(airflow.request("GET", versions)["dag_versions"]) > 1,
        120,
    )
    clear(airflow, "e2e_past_code", runs["code"])
    assert airflow.wait("e2e_past_code", runs["code"]) == "success"
    yield runs
    airflow.request("DELETE", "/api/v2/connections/e2e_warehouse")
    file.unlink()


def entries(ana: OnCall) -> dict[str, Any]:
    """What was learned, by what the failures say."""
    found = ana.json("kb", "list", "--kind", "history")["entries"]
    return {entry["title"].partition(":")[0]: entry for entry in found}


def test_what_ended_each_failure(ana: OnCall, past: dict[str, str]) -> None:
    tried = ana.json("learn", "e2e_past_*", "--since", "1d", "--dry-run")
    assert (tried["stored"], entries(ana)) == (False, {})

    learned = ana.json("learn", "e2e_past_*", "--since", "1d")
    told = {(one["action"], one["by"]): (one["fixed"], one["failed"]) for one in learned["answers"]}
    healed, in_vain = told.pop(("retry", "airflow"))
    assert (healed, in_vain > 0) == (1, True)
    assert told == {
        ("retry", "person"): (1, 0),
        ("update_connection", "person"): (1, 0),
        ("none", "person"): (1, 0),
    }
    assert tried["answers"] == learned["answers"]
    # That of the task below: it failed for what the one above had written, as far as anybody knows.
    assert sum(one["unknown"] for one in learned["answers"]) == 1
    assert learned["never_run_again"] >= 1
    assert learned["unread"] == []
    known = entries(ana)
    actions = {name: entry["action"] for name, entry in known.items()}
    assert actions == {
        "TimeoutError": "retry",
        "ConnectionResetError": "retry",
        "OSError": "update_connection",
        "LookupError": "none",
    }
    assert known["OSError"]["params"] == {"connection_id": "e2e_warehouse"}
    assert known["OSError"]["suggestion_only"]
    assert known["LookupError"]["dags"] == ["e2e_past_code"]
    assert "v1 → v2" in known["LookupError"]["explanation"]

    again = ana.json("learn", "e2e_past_*", "--since", "1d")
    assert (again["lessons"], again["entries"]) == (0, {"added": 0, "changed": 0})

    # A person's clear that turned green is a verified outcome, but no word that it may run twice.
    _, incident = ana.failure("e2e_past_cleared", "load")
    assert (incident["diagnosis"]["by"], incident["diagnosis"]["action"]) == ("exact", "retry")
    checks = {check["name"]: check for check in incident["gate"]["checks"]}
    assert checks["evidence"]["passed"]
    assert not checks["rerun_safe"]["passed"]

    # Airflow's own retry is no outcome that anything is done alone on.
    own = ana.json("kb", "show", known["TimeoutError"]["entry"])
    assert own["record"]["fixed"] == 0


def test_what_somebody_did_in_the_ui_is_noticed(ana: OnCall, past: dict[str, str]) -> None:
    run_id, incident = ana.failure("e2e_past_cleared", "load")
    clear(ana.box, "e2e_past_cleared", run_id)
    assert ana.box.wait("e2e_past_cleared", run_id) == "success"

    def noticed() -> bool:
        ana.run("watch", "--once")
        return "ConnectionResetError" in entries(ana)

    ana.box.until("it is noticed", noticed, 120)
    assert ana.json("incidents", "show", incident["incident"])["status"] == "superseded"
    (entry,) = entries(ana).values()
    assert entry["action"] == "retry"
    assert ana.json("kb", "show", entry["entry"])["record"]["fixed"] == 1
