"""What each role of a real Airflow may do, as `aiops doctor` finds out; nothing is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_box import ROLES, AirflowBox

CHANGES_BY_USER = {"retry", "retry_later", "retry_upstream", "trigger_dag", "mark_success",
                   "mark_skipped"}  # fmt: skip
REPAIRS = {"update_connection", "set_variable", "resize_pool"}


def aiops(box: AirflowBox, role: str, folder: Path, *words: str) -> Any:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AIOPS_AIRFLOW_URL": box.url,
        "AIOPS_AIRFLOW_USERNAME": role,
        "AIOPS_AIRFLOW_PASSWORD": box.users[role],
        "AIOPS_KB": f"sqlite:///{folder / 'kb.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "aiops_cli", *words, "--json"],
        env=environ,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout or "{}")


def state(box: AirflowBox) -> Any:
    """What a change by mistake would show in."""
    paths = (
        "connections",
        "variables",
        "pools",
        "dags/~/dagRuns",
        "dags/~/dagRuns/~/taskInstances",
    )
    return [box.request("GET", f"/api/v2/{path}?limit=0")["total_entries"] for path in paths]


@pytest.mark.parametrize("role", ROLES)
def test_rights_by_role(airflow: AirflowBox, tmp_path: Path, role: str) -> None:
    before = state(airflow)
    document = aiops(airflow, role, tmp_path, "doctor")
    expected = {"none"}
    if role != "viewer":
        expected |= CHANGES_BY_USER
        expected |= {"clear_xcom"} if airflow.version != "3.1.8" else set()
    if role in ("op", "admin"):
        expected |= REPAIRS
    assert {a["action"] for a in document["actions"] if a["allowed"]} == expected
    unknown = {a["action"] for a in document["actions"] if a["allowed"] is None}
    assert unknown == ({"clear_xcom"} if airflow.version == "3.1.8" and role != "viewer" else set())
    assert state(airflow) == before


def test_a_viewer_can_use_every_reading_command(airflow: AirflowBox, tmp_path: Path) -> None:
    for words in (["failures"], ["diagnose"], ["watch", "--once", "--shadow"], ["incidents"]):
        aiops(airflow, "viewer", tmp_path, *words)
