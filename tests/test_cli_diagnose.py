"""`aiops diagnose`: on ids, addresses, DAGs, runs and log files. It acts on nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.airflow_server import RUN, exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED

LOG = """[2026-03-01 03:04:05] {orders.py:13} INFO - connecting
[2026-03-01 03:04:06] {taskinstance.py:1} ERROR - Task failed with exception
Traceback (most recent call last):
  File "/opt/airflow/dags/orders.py", line 13, in load
    connect()
ConnectionRefusedError: [Errno 111] Connection refused
"""


# ---- diagnose ----


def test_diagnose_shows_cards_and_stores_what_it_saw(cli: Cli) -> None:
    cli.two_failures()
    said = cli.ok("diagnose")
    assert "WHAT     ConnectionRefusedError: [Errno 111] Connection refused" in said.out
    assert "blocks 1: publish" in said.out
    assert "Airflow healthy" in said.err
    assert cli.server.sent("POST") == []  # it acts on nothing
    listed = cli.ok("incidents", "--json").json["incidents"]
    assert {doc["status"] for doc in listed} == {"pending"}
    assert len(listed) == 2
    again = cli.ok("diagnose", "--json").json["incidents"]
    assert {doc["incident"] for doc in again} == {doc["incident"] for doc in listed}


def found(said: Any) -> list[tuple[str, str, int]]:
    documents = said.json.get("incidents", [said.json])
    return sorted((doc["dag_id"], doc["task_id"], doc["map_index"]) for doc in documents)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], [("orders", "load", -1), ("sales", "count", 3)]),
        (["orders"], [("orders", "load", -1)]),
        (["s*"], [("sales", "count", 3)]),
        (["orders", "load"], [("orders", "load", -1)]),
        (["*", "l*"], [("orders", "load", -1)]),
        (["sales", "load"], []),
        (["orders", "--run", RUN], [("orders", "load", -1)]),
        (["orders", "--run", "another"], []),
        (["--run", RUN], [("orders", "load", -1), ("sales", "count", 3)]),
    ],
)
def test_diagnose_of_dags_tasks_and_runs(
    cli: Cli, args: list[str], wanted: list[tuple[str, str, int]]
) -> None:
    cli.two_failures()
    said = cli.ok("diagnose", *args, "--json")
    assert found(said) == wanted
    assert list(said.json) == ["incidents"]


def test_diagnose_of_one_id_or_address_prints_one_incident(cli: Cli) -> None:
    cli.two_failures()
    many = cli.ok("diagnose", "--json").json["incidents"]
    one = next(doc for doc in many if doc["dag_id"] == "sales")
    for target in (one["incident"], one["incident"][:4], one["context"]["url"]):
        said = cli.ok("diagnose", target, "--json")
        assert said.json["incident"] == one["incident"]
        assert found(said) == [("sales", "count", 3)]


def test_diagnose_of_a_pasted_address_captures_it(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", run_id="manual/1 2", events=[REFUSED])
    url = f"{cli.server.url}/dags/orders/runs/manual%2F1%202/tasks/load?try_number=1"
    assert cli.ok("diagnose", url, "--json").json["run_id"] == "manual/1 2"
    assert len(cli.ok("incidents", "--json").json["incidents"]) == 1


def test_diagnose_tells_what_changed_since_the_last_success(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    before = cli.server.add_failure("orders", "load", run_id="before")
    before |= {"state": "success", "end_date": (cli.clock.now() - timedelta(hours=2)).isoformat()}
    cli.server.add_event(
        "patch_connection",
        when=cli.clock.now() - timedelta(hours=1),
        owner="dba-team",
        extra=json.dumps({"connection_id": "orders_db"}),
    )
    said = cli.ok("diagnose", "orders")
    assert "CHANGED  connection orders_db edited" in said.out
    assert "by dba-team (last success " in said.out


def test_more_than_three_are_a_table(cli: Cli) -> None:
    for number in range(4):
        events = [exception(f"Error{number}", "each for itself")]
        cli.server.add_failure("orders", "load", run_id=f"r{number}", events=events)
    said = cli.ok("diagnose")
    assert said.out.startswith("ID ")
    assert said.out.count("\n") == 5
    assert "aiops triage" in said.err


def test_a_storm_is_one_line(cli: Cli) -> None:
    for number in range(4):
        cli.server.add_failure("orders", "load", run_id=f"r{number}", events=[REFUSED])
    cli.server.add_failure("sales", "count", events=[BUG])
    said = cli.ok("diagnose")
    assert said.out.count("\n") == 3  # the head, the storm and the other one
    group = next(line.split()[0] for line in said.out.splitlines() if "orders.load ×4" in line)
    assert len(cli.ok("diagnose", group, "--json").json["incidents"]) == 4
    assert cli.ok("diagnose", group).out.count("orders.load") == 1


def test_a_healthy_dag_is_no_error(cli: Cli) -> None:
    cli.server.add_dag("orders", {"load": []})
    said = cli.ok("diagnose", "orders")
    assert said.out == ""
    assert "no failed tries in the last 24h" in said.err


def test_a_task_that_has_not_failed_is_not_diagnosed(cli: Cli) -> None:
    row = cli.server.add_failure("orders", "load")
    row["state"] = "running"
    url = f"{cli.server.url}/dags/orders/runs/{RUN}/tasks/load"
    said = cli.run("diagnose", url)
    assert said.code == 2
    assert "has not failed: it is running" in said.err
    assert cli.ok("incidents", "--json").json == {"incidents": []}


# ---- diagnose --log ----


@pytest.mark.parametrize("stdin", [False, True])
def test_a_log_is_diagnosed_without_airflow_and_nothing_is_stored(cli: Cli, stdin: bool) -> None:
    for name in [name for name in cli.environ if "AIRFLOW" in name]:
        del cli.environ[name]
    known = ("--title=Restart", "--cause=nightly restart", "--action=retry")
    cli.ok("kb", "add", *known, "--error", LOG)
    before = cli.counts()
    file = cli.home / "task.log"
    file.write_text(LOG)
    name = "-" if stdin else str(file)
    text = LOG if stdin else None
    document = cli.ok("diagnose", "--log", name, "--json", stdin=text).json
    assert document["error_class"] == "ConnectionRefusedError"
    assert document["diagnosis"]["action"] == "retry"
    assert document["diagnosis"]["by"] == "exact"
    assert (document["incident"], document["dag_id"], document["status"]) == (None, None, None)
    assert document["gate"]["passed"] is False
    said = cli.ok("diagnose", "--log", name, stdin=text)
    assert said.out.startswith(f"{name}\nWHAT     ConnectionRefusedError")
    assert "PROPOSE  retry\n" in said.out
    assert "NEXT" not in said.out
    assert cli.counts() == before
    assert cli.server.requests == []


def test_a_log_that_says_nothing(cli: Cli) -> None:
    document = cli.ok("diagnose", "--log", "-", "--json", stdin="all is well\n").json
    assert document["diagnosis"]["by"] == "nobody"
    assert document["decision"] == "novel"


@pytest.mark.parametrize("args", [["orders"], ["--run", "r"]])
def test_a_log_takes_no_target(cli: Cli, args: list[str]) -> None:
    said = cli.run("diagnose", *args, "--log", "-")
    assert said.code == 2
    assert "--log takes no DAG, task or run" in said.err


@pytest.mark.parametrize("name", ["absent.log", "."])
def test_a_log_that_cannot_be_read(cli: Cli, name: str) -> None:
    said = cli.run("diagnose", "--log", str(cli.home / name))
    assert said.code == 2
    assert said.err.startswith(f"error: cannot read {cli.home}")
