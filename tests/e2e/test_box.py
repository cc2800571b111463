"""Each example fails in the way its docstring says, on every tested Airflow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.airflow_box import AirflowBox

EXAMPLES = Path(__file__).parents[2] / "examples" / "dags"
FAILS = re.compile(r"Fails: `(\w+)(?:\[(\d+)\])?` with `(.+)`")


class Promise(NamedTuple):
    """What a docstring says: which task fails, and what its log holds."""

    dag_id: str
    task_id: str
    map_index: int
    words: str

    @property
    def task(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


def promises() -> Iterator[Promise]:
    for file in sorted(EXAMPLES.glob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)):
                name = node.name
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "prices":
                name, doc = (ast.literal_eval(argument) for argument in node.args)
            else:
                continue
            for task_id, index, words in FAILS.findall(doc):
                yield Promise(name, task_id, int(index or -1), words)


PROMISES = tuple(promises())


@pytest.fixture(scope="module")
def runs(airflow: AirflowBox) -> dict[str, str]:
    """One finished run of every example, by DAG id: triggered at once, then awaited."""
    listed = airflow.request("GET", "/api/v2/dags?limit=100&tags=example")["dags"]
    started = {dag["dag_id"]: airflow.trigger(dag["dag_id"]) for dag in listed}
    for dag_id, run_id in started.items():
        airflow.wait(dag_id, run_id, seconds=300)
    return started


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.dag_id)
def test_an_example_fails_as_it_says(
    airflow: AirflowBox, runs: dict[str, str], promise: Promise
) -> None:
    run_id = runs[promise.dag_id]
    states = airflow.task_states(promise.dag_id, run_id)
    failed = [task for task, state in states.items() if state == "failed"]
    assert failed == [promise.task], states
    assert airflow.run_state(promise.dag_id, run_id) == "failed"
    log = airflow.log(promise.dag_id, run_id, promise.task_id, 1, promise.map_index)
    assert promise.words in log


def test_every_example_makes_a_promise(runs: dict[str, str]) -> None:
    without_failed_task = {"prices_weekly", "nightly_close"}  # these have tests of their own
    assert {promise.dag_id for promise in PROMISES} | without_failed_task == set(runs)


def test_what_airflow_retries_itself_does_not_fail(
    airflow: AirflowBox, runs: dict[str, str]
) -> None:
    assert set(airflow.task_states("prices_weekly", runs["prices_weekly"]).values()) == {"success"}


def test_a_run_can_fail_without_a_failed_task(airflow: AirflowBox, runs: dict[str, str]) -> None:
    run_id = runs["nightly_close"]
    assert airflow.run_state("nightly_close", run_id) == "failed"
    assert "failed" not in airflow.task_states("nightly_close", run_id).values()


def test_paying_again_is_green_and_pays_twice(airflow: AirflowBox, runs: dict[str, str]) -> None:
    run_id = runs["invoices_payout"]
    body = {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": ["pay_invoices"],
        "only_failed": True,
    }
    airflow.request("POST", "/api/v2/dags/invoices_payout/clearTaskInstances", body)
    path = f"/api/v2/dags/invoices_payout/dagRuns/{run_id}/taskInstances/pay_invoices"
    airflow.until(
        "the payment is green", lambda: airflow.request("GET", path)["state"] == "success"
    )
    booked = (airflow.home / "ledger.jsonl").read_text().splitlines()
    assert sum(run_id in line for line in booked) == 2


def test_a_file_that_cannot_be_imported_is_told(airflow: AirflowBox) -> None:
    broken = airflow.dags / "renamed_module.py"
    broken.write_bytes((EXAMPLES.parent / "dags_broken" / broken.name).read_bytes())
    try:
        errors = "/api/v2/importErrors"
        airflow.until(
            "the import error shows",
            lambda: "warehouse_tools" in str(airflow.request("GET", errors)),
        )
    finally:
        broken.unlink()
    airflow.until("it is gone", lambda: airflow.request("GET", errors)["total_entries"] == 0)
