"""The whole program against a real Airflow: what it says, what it runs again, what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_box import AirflowBox
from tests.ollama_server import OllamaServer

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"


@dataclass
class OnCall:
    """Somebody at a terminal, with a knowledge base of their own."""

    box: AirflowBox
    folder: Path
    role: str = "op"
    environ: dict[str, str] = field(default_factory=dict)  # beside what everybody has

    def allow(self, **limits: int) -> None:
        """Set `gate.NAME` to a number in the settings."""
        self.configure(gate=limits)

    def configure(self, **settings: Any) -> None:
        """Have these settings and no others."""
        file = self.folder / "config.yaml"
        file.write_text(json.dumps(settings))
        file.chmod(0o600)
        self.environ["AIOPS_CONFIG"] = str(file)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),  # this tree, not another one that the environment was made in
            "HOME": str(self.folder),
            "AIOPS_AIRFLOW_URL": self.box.url,
            "AIOPS_AIRFLOW_USERNAME": self.role,
            "AIOPS_AIRFLOW_PASSWORD": self.box.users[self.role],
            "AIOPS_KB": f"sqlite:///{self.folder / 'kb.db'}",
            "AIOPS_USER": "ana",
            **self.environ,
        }

    def run(self, *words: str, code: int = 0) -> str:
        """Standard output of `aiops WORDS`, which must end with this exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "aiops_cli", *words],
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code))

    def lines(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self.run(*words, "--json").splitlines()]

    def failure(self, dag_id: str, task: str) -> tuple[str, Any]:
        """Trigger, wait for the failure, diagnose it; returns the run's id and the incident."""
        run_id = self.box.trigger(dag_id)
        assert self.box.wait(dag_id, run_id) == "failed"
        found = self.json("diagnose", dag_id, "--run", run_id)["incidents"]
        incidents = [one for one in found if one["task_id"] == task]
        assert len(incidents) == 1, (found, self.box.task_states(dag_id, run_id))
        return run_id, incidents[0]

    def counted(self, dag_id: str, run_id: str, what: str) -> int:
        file = self.box.home / "counts" / f"{dag_id}.{run_id}.{what}"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def settled(self, incident: str) -> Any:
        """The incident once its new try has ended: passes, until one settles it."""
        found: list[Any] = []

        def settles() -> bool:
            self.run("watch", "--once")
            found[:] = [self.json("incidents", "show", incident)]
            return bool(found[0]["status"] != "acting")

        self.box.until(f"{incident} is settled", settles, 120)
        return found[0]


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    shutil.copy(DAGS / "e2e_repairs.py", airflow.dags / "e2e_repairs.py")
    airflow.until("the tests' DAGs are parsed", lambda: parsed(airflow), 120)


def parsed(box: AirflowBox) -> bool:
    listed = box.request("GET", "/api/v2/dags?limit=100&dag_id_pattern=e2e_")["dags"]
    return {"e2e_flaky", "e2e_ledger", "e2e_mapped", "e2e_killed", "e2e_bug"} <= {
        d["dag_id"] for d in listed
    }


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    return OnCall(airflow, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def on_either(request: pytest.FixtureRequest, ana: OnCall) -> OnCall:
    """Somebody whose knowledge base is a file, or a Postgres used as the program's role."""
    if request.param == "postgres":
        ana.environ["AIOPS_KB"] = request.getfixturevalue("database").app
    return ana


def test_a_person_approves_and_the_next_time_it_heals_alone(on_either: OnCall) -> None:
    ana = on_either
    ana.configure(rerun_safe=["e2e_flaky"])  # an approval's own word counts from tomorrow on
    run_id, incident = ana.failure("e2e_flaky", "load")
    assert incident["error_class"] == "ConnectionRefusedError"
    assert incident["decision"] != "auto"
    assert incident["context"]["blocks"] == ["publish"]

    plan = ana.json("approve", incident["incident"], "--action", "retry", "--dry-run")
    assert [item["task_id"] for item in plan["clears"]] == ["load", "publish"]
    assert plan["extra_tries"] == 1
    ana.run(
        *("approve", incident["incident"], "--action", "retry", "--cause", "it restarts", "--yes")
    )
    assert ana.settled(incident["incident"])["outcome"] == "fixed"
    assert ana.box.wait("e2e_flaky", run_id) == "success"
    counts = {
        task: ana.counted("e2e_flaky", run_id, task)
        for task in ("extract", "audit", "load", "publish")
    }
    assert counts == {"extract": 1, "audit": 1, "load": 2, "publish": 1}
    note = ana.box.request("GET", f"/api/v2/dags/e2e_flaky/dagRuns/{run_id}/taskInstances/load")[
        "note"
    ]
    assert note.startswith("[aiops ")

    again, _ = ana.failure("e2e_flaky", "load")
    # Other tests' failures of the same Airflow are in every pass.
    pending = ana.json("incidents", "--status", "pending", "--dag", "e2e_flaky")
    (waiting,) = pending["incidents"]
    assert waiting["diagnosis"]["by"] == "exact"
    assert [c["name"] for c in waiting["gate"]["checks"] if not c["passed"]] == ["action_allowed"]

    def passed() -> list[Any]:
        lines = ana.lines("watch", "--once", "--auto")
        return [line for line in lines if line["dag_id"] == "e2e_flaky"]

    assert passed() == []  # nobody has granted anything
    ana.run("auto", "grant", "--actions", "retry", "--dags", "e2e_flaky")
    (acted,) = passed()
    assert (acted["decision"], acted["status"]) == ("auto", "acting")
    assert ana.settled(waiting["incident"])["outcome"] == "fixed"
    assert ana.box.wait("e2e_flaky", again) == "success"
    assert ana.counted("e2e_flaky", again, "load") == 2


def test_a_mapped_task_runs_its_own_index_again(ana: OnCall) -> None:
    run_id, incident = ana.failure("e2e_mapped", "convert")
    assert incident["map_index"] == 1
    ana.run("approve", incident["incident"], "--action", "retry", "--yes")
    assert ana.settled(incident["incident"])["outcome"] == "fixed"
    assert ana.box.wait("e2e_mapped", run_id) == "success"
    counts = [ana.counted("e2e_mapped", run_id, f"convert-{index}") for index in range(3)]
    assert counts == [1, 2, 1]
    assert ana.counted("e2e_mapped", run_id, "collect") == 1


def test_a_killed_task_has_no_traceback_and_is_known_all_the_same(ana: OnCall) -> None:
    _, incident = ana.failure("e2e_killed", "train")
    assert incident["error_class"] == "Killed"
    assert "signal" in incident["headline"]


def test_a_data_bug_is_left_to_a_person(ana: OnCall) -> None:
    ana.run("auto", "grant", "--actions", "retry", "--dags", "*")
    run_id, incident = ana.failure("e2e_bug", "total")
    assert incident["headline"] == "KeyError: 'price'"
    for line in ana.lines("watch", "--once", "--auto"):
        assert line["status"] == "pending"
    ana.run(
        "reject",
        incident["incident"],
        "--reason",
        "a bug",
        "--action",
        "none",
        "--cause",
        "renamed",
    )
    assert ana.box.task_states("e2e_bug", run_id) == {"total": "failed"}
    _, next_one = ana.failure("e2e_bug", "total")
    assert (next_one["diagnosis"]["action"], next_one["diagnosis"]["cause"]) == ("none", "renamed")


def test_a_log_that_is_gone_is_said_to_be_gone(ana: OnCall) -> None:
    run_id = ana.box.trigger("e2e_bug")
    ana.box.wait("e2e_bug", run_id)
    logs = list((ana.box.home / "logs" / "dag_id=e2e_bug" / f"run_id={run_id}").rglob("*.log"))
    assert logs
    for log in logs:
        log.unlink()
    (incident,) = ana.json("diagnose", "e2e_bug", "--run", run_id)["incidents"]
    assert incident["decision"] == "novel"
    assert ana.json("log", incident["incident"])["notice"]


def test_somebody_else_was_faster(ana: OnCall) -> None:
    run_id, incident = ana.failure("e2e_flaky", "load")
    ana.box.request(
        "POST",
        "/api/v2/dags/e2e_flaky/clearTaskInstances",
        {"dry_run": False, "dag_run_id": run_id, "task_ids": ["load", "publish"]},
    )
    error = ana.json("approve", incident["incident"], "--action", "retry", "--yes", code=5)["error"]
    assert error["code"] == "refused"
    assert ana.json("incidents", "show", incident["incident"])["status"] == "superseded"
    assert ana.box.wait("e2e_flaky", run_id) == "success"
    assert ana.counted("e2e_flaky", run_id, "load") == 2


def test_a_login_that_may_only_read(airflow: AirflowBox, tmp_path: Path) -> None:
    vic = OnCall(airflow, tmp_path, role="viewer")
    _, incident = vic.failure("e2e_bug", "total")
    error = vic.json("approve", incident["incident"], "--action", "retry", "--yes", code=3)
    assert error["error"]["code"] == "airflow_forbidden"
    assert vic.json("incidents", "show", incident["incident"])["status"] == "pending"
    rights = [c for c in vic.json("doctor")["checks"] if c["name"] == "rights"]
    assert {c["found"]: c["status"] for c in rights}["may not clear task instances"] == "warn"


def test_an_address_pasted_from_the_browser(ana: OnCall) -> None:
    _, incident = ana.failure("e2e_bug", "total")
    same = ana.json("diagnose", incident["context"]["url"])
    assert same["incident"] == incident["incident"]


def test_nobody_can_log_in_with_a_wrong_password(ana: OnCall) -> None:
    wrong: Callable[..., str] = ana.run
    ana.box.users = {**ana.box.users, "nobody": "wrong"}
    ana.role = "nobody"
    assert "error" in wrong("failures", "--json", code=3)


def test_a_model_is_asked_and_lowers_what_it_doubts(ana: OnCall) -> None:
    """The real Airflow, the real ollama package, and a local Ollama that has no model in it."""
    _, incident = ana.failure("e2e_ledger", "close")
    assert incident["decision"] == "novel"
    said = incident["headline"]
    runbook = ana.folder / "orders.yaml"
    runbook.write_text(
        json.dumps(
            [
                {
                    "title": "late bookings",
                    "symptoms": [said.replace("the difference", "its difference")],
                    "cause": "bookings came late",
                    "action": "retry",
                }
            ]
        )
    )
    ana.run("kb", "seed", str(runbook))
    with OllamaServer() as ollama:
        ollama.answer = lambda request: {
            "action": "none",
            "cause": "the books are wrong",
            "confidence": 0.9,
            "explanation": "",
            "quotes": [said],
        }
        ana.environ |= {"AIOPS_LLM": "ollama:llama3.1", "OLLAMA_HOST": ollama.url}
        shown = ana.json("diagnose", incident["incident"])
        assert [request.path for request in ollama.requests].count("/api/chat") == 1
        assert ana.json("diagnose", incident["incident"])["diagnosis"] == shown["diagnosis"]
        assert [request.path for request in ollama.requests].count("/api/chat") == 1, "kept"
    assert (shown["diagnosis"]["by"], shown["diagnosis"]["action"]) == ("near", "retry")
    assert shown["diagnosis"]["opinion"]["action"] == "none"
    (check,) = [one for one in shown["gate"]["checks"] if one["name"] == "confidence"]
    assert not check["passed"]
    assert shown["decision"] in ("ask", "blocked")
