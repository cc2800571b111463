"""Every action of the catalogue on a real Airflow: each example fails until it is taken, a seeded
runbook proposes it, its plan is shown, it is done, and the task is green; then it is undone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.actions import CATALOGUE
from scripts.airflow_box import AirflowBox
from tests.e2e.test_aiops import OnCall

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = EXAMPLES / "dags_actions" / "fix_by.py"
# The tasks that fail, as the examples' docstrings say.
FAILING = dict(
    re.findall(
        r'def fix_by_(\w+)\(\) -> None:\n    """(?:(?!""").)*Fails: `(\w+)` with',
        FILE.read_text(),
        flags=re.DOTALL,
    )
)
# Those that a plain retry does not help. The next try of the pool's would wait for a minute, and
# `retry_later` is a retry that comes late enough.
NO_RETRY_HELPS = frozenset(CATALOGUE) - {"retry", "retry_later", "resize_pool"}
MARKS = {"mark_success": "success", "mark_skipped": "skipped"}

CONNECTION = {
    "connection_id": "fix_by_warehouse",
    "conn_type": "sqlite",
    "host": "warehouse.example",
    "schema": "orders_v1",
    "password": "hunter2-e2e",
}
VARIABLE = {"key": "fix_by_batch_size", "value": "0"}
POOL = {"name": "fix_by_exports", "slots": 0, "include_deferred": True}

# What each changes beside running tasks again: kind, name, field, old, new.
CHANGES: dict[str, list[tuple[str, str, str, Any, Any]]] = {
    "clear_xcom": [("xcom", "open_session", "return_value", "there", None)],
    "update_connection": [("connection", "fix_by_warehouse", "schema", "orders_v1", "orders_v2")],
    "set_variable": [("variable", "fix_by_batch_size", "value", "0", "500")],
    "resize_pool": [("pool", "fix_by_exports", "slots", 0, 2)],
}
# What runs again, where it is not the failed task alone.
AGAIN = {
    "retry": {"load", "publish"},
    "retry_upstream": {"export", "clean", "count"},
    "clear_xcom": {"open_session", "download"},
    "mark_success": {"confirm"},
    "mark_skipped": {"publish"},
}


def test_there_is_an_example_for_every_action() -> None:
    assert set(FAILING) == set(CATALOGUE)


@dataclass
class Night:
    """One failed run of every example, what aiops said of each, and what it came to."""

    ana: OnCall
    runs: dict[str, str] = field(default_factory=dict)  # action -> run id
    incidents: dict[str, Any] = field(default_factory=dict)  # action -> as diagnosed
    plans: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, Any] = field(default_factory=dict)

    def act(self, action: str) -> None:
        """The plan, then the act that it shows. On a server that deletes no XCom the upstream is
        run again instead, as the refusal says."""
        incident = self.incidents[action]["incident"]
        other: tuple[str, ...] = ()
        if action == "clear_xcom" and self.ana.box.version == "3.1.8":
            said = self.ana.json("approve", incident, "--dry-run", code=5)["error"]
            assert "cannot delete XComs" in said["message"]
            assert "--action retry_upstream --set task_ids=open_session" in said["hint"]
            other = ("--action", "retry_upstream", "--set", "task_ids=open_session")
        # `none` has no plan: there is nothing to show.
        if action != "none":
            self.plans[action] = self.ana.json("approve", incident, *other, "--dry-run")
            assert self.task(action)["state"] == "failed"
        self.ana.run("approve", incident, *other, "--yes")

    def failed(self, actions: Iterable[str], number: int) -> bool:
        """Whether their tasks have failed in this try."""
        tasks = map(self.task, actions)
        return all((one["state"], one["try_number"]) == ("failed", number) for one in tasks)

    def settle(self) -> None:
        def settled() -> bool:
            self.ana.run("watch", "--once")
            for action, incident in self.incidents.items():
                if action not in self.ended:
                    shown = self.ana.json("incidents", "show", incident["incident"])
                    if shown["status"] != "acting":
                        self.ended[action] = shown
            return set(self.ended) == set(self.incidents)

        self.ana.box.until("all of them are settled", settled, 300)

    def task(self, action: str) -> Any:
        dag_id, run_id = f"fix_by_{action}", self.runs[action]
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{FAILING[action]}"
        return self.ana.box.request("GET", path)


@pytest.fixture(scope="module")
def dags(airflow: AirflowBox) -> Iterator[AirflowBox]:
    """Airflow with the examples, and with what is wrong in it from the start."""
    shutil.copy(FILE, airflow.dags / FILE.name)

    def parsed() -> bool:
        listed = airflow.request("GET", "/api/v2/dags?limit=100&tags=actions")["dags"]
        return {dag["dag_id"] for dag in listed} == {
            "fix_by_prices",
            *(f"fix_by_{action}" for action in CATALOGUE),
        }

    airflow.until("the examples are parsed", parsed, 120)
    airflow.request("POST", "/api/v2/connections", CONNECTION)
    airflow.request("POST", "/api/v2/variables", VARIABLE)
    airflow.request("POST", "/api/v2/pools", POOL)
    yield airflow
    airflow.request("DELETE", f"/api/v2/connections/{CONNECTION['connection_id']}")
    airflow.request("DELETE", f"/api/v2/variables/{VARIABLE['key']}")
    airflow.request("DELETE", f"/api/v2/pools/{POOL['name']}")


@pytest.fixture(scope="module")
def night(dags: AirflowBox, tmp_path_factory: pytest.TempPathFactory) -> Night:
    made = Night(OnCall(dags, tmp_path_factory.mktemp("ana")))
    made.ana.run("kb", "seed", str(EXAMPLES / "runbooks" / "actions.yaml"))
    for action in FAILING:
        made.runs[action] = dags.trigger(f"fix_by_{action}")
    dags.until("they fail", lambda: made.failed(FAILING, 1), 300)
    for action in NO_RETRY_HELPS:
        dags.wait(f"fix_by_{action}", made.runs[action])
        body = {"dry_run": False, "dag_run_id": made.runs[action], "task_ids": [FAILING[action]]}
        dags.request("POST", f"/api/v2/dags/fix_by_{action}/clearTaskInstances", body)
    dags.until("they fail again", lambda: made.failed(NO_RETRY_HELPS, 2), 300)
    listed = made.ana.json("diagnose", "fix_by_*")["incidents"]
    found = {(one["dag_id"], one["run_id"]): one for one in listed}
    made.incidents = {one: found[f"fix_by_{one}", made.runs[one]] for one in FAILING}
    for action in FAILING:
        made.act(action)
    made.settle()
    return made


@pytest.mark.parametrize("action", CATALOGUE)
def test_the_runbook_proposes_it_and_it_is_not_done_alone(night: Night, action: str) -> None:
    incident = night.incidents[action]
    assert incident["task_id"] == FAILING[action]
    assert incident["diagnosis"]["action"] == action
    assert incident["decision"] != "auto"


@pytest.mark.parametrize("action", sorted(set(CATALOGUE) - {"none"}))
def test_the_plan_names_what_it_runs_again_and_changes(night: Night, action: str) -> None:
    plan, instead = night.plans[action], night.plans[action]["action"] != action
    assert {one["task_id"] for one in plan["clears"]} == AGAIN.get(action, {FAILING[action]})
    changed = [tuple(one.values()) for one in plan["changes"]]
    run_id = night.runs[action]
    if action in MARKS:
        ((kind, _, name, old, new),) = changed
        assert (kind, name, old, new) == ("state", "state", "failed", MARKS[action])
    elif action == "trigger_dag":
        own = f"aiops__{night.incidents[action]['incident']}"
        assert changed == [("dag run", "fix_by_prices", own, None, {"market": "XETRA"})]
    else:
        assert changed == ([] if instead else CHANGES.get(action, []))
    assert plan["run_id"] == run_id
    assert "hunter2" not in str(plan)


@pytest.mark.parametrize("action", sorted(set(CATALOGUE) - {"none"}))
def test_the_task_is_green(night: Night, action: str) -> None:
    ended, task = night.ended[action], night.task(action)
    assert (ended["status"], ended["outcome"]) == ("resolved", "fixed"), ended
    assert task["state"] == MARKS.get(action, "success")
    before = 2 if action in NO_RETRY_HELPS else 1
    assert task["try_number"] == (before if action in MARKS else before + 1)
    assert night.ana.box.wait(f"fix_by_{action}", night.runs[action]) == "success"
    assert task["note"].startswith("[aiops ")
    assert ended["incident"] in task["note"]


def test_none_touches_nothing(night: Night) -> None:
    assert night.ended["none"]["status"] == "resolved"
    task = night.task("none")
    assert (task["state"], task["try_number"], task["note"]) == ("failed", 2, None)


@pytest.mark.parametrize("action", ["retry_upstream", "clear_xcom"])
def test_what_stands_above_runs_again_and_nothing_beside_it(night: Night, action: str) -> None:
    path = f"/api/v2/dags/fix_by_{action}/dagRuns/{night.runs[action]}/taskInstances?limit=100"
    rows = night.ana.box.request("GET", path)["task_instances"]
    tries = {row["task_id"]: row["try_number"] for row in rows}
    expected = dict.fromkeys(tries, 1) | dict.fromkeys(AGAIN[action], 2)
    assert tries == expected | {FAILING[action]: 3}


def test_the_other_dag_ran_once_with_its_conf(night: Night) -> None:
    listed = night.ana.box.request("GET", "/api/v2/dags/fix_by_prices/dagRuns")["dag_runs"]
    assert [(run["dag_run_id"], run["state"], run["conf"]) for run in listed] == [
        (f"aiops__{night.incidents['trigger_dag']['incident']}", "success", {"market": "XETRA"})
    ]
    assert (night.ana.box.home / "fix_by" / "prices.csv").read_text() == "XETRA\n"


def values(box: AirflowBox) -> tuple[Any, ...]:
    connection = box.request("GET", "/api/v2/connections/fix_by_warehouse")
    variable = box.request("GET", "/api/v2/variables/fix_by_batch_size")
    pool = box.request("GET", "/api/v2/pools/fix_by_exports")
    shown = {name: connection[name] for name in ("host", "schema", "password")}
    return shown, variable["value"], pool["slots"], pool["include_deferred"]


def test_only_the_named_fields_changed_and_undo_puts_them_back(night: Night) -> None:
    ana = night.ana
    kept = {"host": CONNECTION["host"], "password": "***"}
    assert values(ana.box) == (kept | {"schema": "orders_v2"}, "500", 2, True)
    for action in ("update_connection", "set_variable", "resize_pool"):
        ana.run("undo", night.incidents[action]["incident"], "--yes")
    assert values(ana.box) == (kept | {"schema": "orders_v1"}, "0", 0, True)
    for action in ("clear_xcom", "trigger_dag", "mark_success", "retry"):
        ana.json("undo", night.incidents[action]["incident"], "--yes", code=5)
