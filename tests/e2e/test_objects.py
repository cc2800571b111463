"""Each call of the gateway beside clears and logs, made once on a real Airflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiops_cli.airflow.gateway import Gateway
from aiops_cli.airflow.login import Login
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowForbidden,
    AirflowNotFound,
    Refused,
    UsageError,
)
from aiops_cli.incidents import ConnectionTest, TaskRef
from scripts.airflow_box import AirflowBox

DAGS = Path(__file__).parent / "dags"
WANTED = {"e2e_source", "e2e_reader", "e2e_waits", "e2e_chain"}


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    shutil.copy(DAGS / "e2e_objects.py", airflow.dags / "e2e_objects.py")

    def parsed() -> bool:
        listed = airflow.request("GET", "/api/v2/dags?limit=100&dag_id_pattern=e2e_")["dags"]
        return {dag["dag_id"] for dag in listed} >= WANTED

    airflow.until("the tests' DAGs are parsed", parsed, 120)


def gateway(box: AirflowBox, role: str = "op") -> Gateway:
    return Gateway(Transport(box.url, Login(role, box.users[role])), "e2e")


@pytest.fixture
def files(airflow: AirflowBox) -> Iterator[str]:
    """A connection with a secret password, gone after the test."""
    body = {"connection_id": "e2e_files", "conn_type": "fs", "port": 1, "password": "hunter2-e2e"}
    body |= {"login": "etl", "extra": '{"path": "/no/such/folder"}'}
    airflow.request("POST", "/api/v2/connections", body)
    yield "e2e_files"
    airflow.request("DELETE", "/api/v2/connections/e2e_files")


def test_connections(airflow: AirflowBox, files: str) -> None:
    op = gateway(airflow)
    before = op.connection(files)
    assert "hunter2" not in repr(before)
    assert op.test_connection(files) == ConnectionTest(
        False, "Path /no/such/folder does not exist."
    )
    after = op.change_connection(files, {"port": 2, "extra": '{"path": "/"}'})
    assert (after.port, after.extra, after.login) == (2, '{"path": "/"}', "etl")
    assert op.test_connection(files) == ConnectionTest(True, "Path / is existing.")
    undone = op.change_connection(files, {"port": before.port, "extra": before.extra})
    assert undone == before
    # The password is still there: Airflow masks what it has, and shows null where it has none.
    shown = airflow.request("GET", f"/api/v2/connections/{files}")
    assert shown["password"] == "***"
    op.change_connection(files, {"extra": '{"token": "e2e-secret"}'})
    with pytest.raises(Refused):
        op.change_connection(files, {"extra": '{"path": "/"}'})
    with pytest.raises(UsageError):
        op.change_connection(files, {"password": "***"})
    with pytest.raises(AirflowAnswer, match="port"):
        op.change_connection(files, {"port": "many"})
    with pytest.raises(AirflowForbidden):
        gateway(airflow, "user").change_connection(files, {"port": 3})


def test_variables(airflow: AirflowBox) -> None:
    op = gateway(airflow)
    with pytest.raises(AirflowNotFound):
        op.variable("e2e/limit")
    assert op.change_variable("e2e/limit", "10").value == "10"
    assert op.change_variable("e2e/limit", '{"a":1}').value == '{"a": 1}'
    assert op.variable("e2e/limit").value == '{"a": 1}'
    assert op.change_variable("e2e_api_password", "hunter2").masked
    for key in ("e2e%2Flimit", "e2e_api_password"):
        airflow.request("DELETE", f"/api/v2/variables/{key}")


def test_pools(airflow: AirflowBox) -> None:
    op = gateway(airflow)
    body = {"name": "e2e_small", "slots": 1, "include_deferred": True}
    airflow.request("POST", "/api/v2/pools", body)
    resized = op.resize_pool("e2e_small", 3)
    assert (resized.slots, resized.include_deferred) == (3, True)
    slots = op.pool("default_pool").slots
    assert op.resize_pool("default_pool", slots + 1).slots == slots + 1
    assert op.resize_pool("default_pool", slots).slots == slots
    with pytest.raises(AirflowAnswer, match="slots"):
        op.resize_pool("e2e_small", -5)
    airflow.request("DELETE", "/api/v2/pools/e2e_small")


def test_a_run_is_triggered_once_and_says_what_started_it(airflow: AirflowBox) -> None:
    op = gateway(airflow)
    run_id = "aiops__e2e:1"
    assert op.trigger("e2e_source", run_id, {"day": "2026-01-01"}, "why").note == "why"
    assert op.trigger("e2e_source", run_id, {}).note == "why"
    assert airflow.wait("e2e_source", run_id) == "success"
    assert op.trigger("e2e_source", run_id, {}).state == "success"
    assert op.consumed_assets("e2e_source", run_id) == ()
    started: list[str] = []

    def is_started() -> bool:
        runs = airflow.request("GET", "/api/v2/dags/e2e_reader/dagRuns")["dag_runs"]
        started[:] = [run["dag_run_id"] for run in runs]
        return bool(started)

    airflow.until("the asset starts a run", is_started, 60)
    (event,) = op.consumed_assets("e2e_reader", started[0])
    assert (event.asset, event.uri) == ("e2e_rates", "x-e2e://rates")
    assert event.source == TaskRef("e2e_source", run_id, "publish")
    with pytest.raises(AirflowNotFound):
        op.trigger("e2e_nowhere", run_id, {})


def test_a_sensor_says_what_it_waits_for_and_a_leaf_is_marked(airflow: AirflowBox) -> None:
    op = gateway(airflow, "user")
    run_id = airflow.trigger("e2e_waits")
    assert airflow.wait("e2e_waits", run_id) == "failed"
    ref = TaskRef("e2e_waits", run_id, "wait")
    fields = op.task_instance(ref).rendered_fields
    assert (fields["external_dag_id"], fields["external_task_id"]) == ("e2e_source", "publish")
    marked = op.mark(ref, "success", "as agreed")
    assert (marked.state, marked.note) == ("success", "as agreed")
    assert op.mark(ref, "success", "again").note == "as agreed"
    # Nothing stood below it, so that nothing has made the scheduler look again.
    assert op.run("e2e_waits", run_id).state == "failed"
    assert op.requeue("e2e_waits", run_id).state == "queued"
    assert airflow.wait("e2e_waits", run_id) == "success"


def test_xcoms_and_marks_of_a_chain(airflow: AirflowBox) -> None:
    op = gateway(airflow)
    run_id = airflow.trigger("e2e_chain")
    assert airflow.wait("e2e_chain", run_id) == "failed"
    first, load, after = (TaskRef("e2e_chain", run_id, name) for name in ("first", "load", "after"))
    assert op.xcoms(first) == ("return_value",)
    mapped = [TaskRef("e2e_chain", run_id, "part", index) for index in (0, 2)]
    assert [op.xcoms(one) for one in mapped] == [("return_value",)] * 2
    assert op.xcoms(TaskRef("e2e_chain", run_id, "part")) == ()
    if op.deletes_xcoms:
        op.delete_xcom(first, "return_value")
        op.delete_xcom(first, "return_value")
        assert op.xcoms(first) == ()
        op.delete_xcom(mapped[1], "return_value")
        assert [op.xcoms(one) for one in mapped] == [("return_value",), ()]
    else:
        with pytest.raises(AirflowAnswer):
            op.delete_xcom(first, "return_value")
    assert op.mark(load, "skipped").state == "skipped"
    airflow.until("it goes on", lambda: op.task_instance(after).state == "skipped", 120)
    part = TaskRef("e2e_chain", run_id, "part", 1)
    with pytest.raises(AirflowNotFound, match="map_index"):
        op.mark(TaskRef("e2e_chain", run_id, "part"), "success")
    assert op.mark(part, "skipped").ref == part
    rows = op.run_task_instances("e2e_chain", run_id)
    states = {one.ref.map_index: one.state for one in rows if one.ref.task_id == "part"}
    assert states == {0: "success", 1: "skipped", 2: "success"}


def test_an_upstream_that_succeeded_runs_again_only_by_name(airflow: AirflowBox) -> None:
    op = gateway(airflow)
    run_id = airflow.trigger("e2e_chain")
    assert airflow.wait("e2e_chain", run_id) == "failed"
    names = ["first", "load"]
    both = op.clear("e2e_chain", run_id, names, dry_run=True, only_failed=False)
    assert sorted(one.ref.task_id for one in both) == names
    assert [one.ref.task_id for one in op.clear("e2e_chain", run_id, names, dry_run=True)] == [
        "load"
    ]
    assert len(op.clear("e2e_chain", run_id, names, dry_run=False, only_failed=False)) == 2
    # `after` stays as it was, and `part` with it: each by its own name or not at all.
    airflow.wait("e2e_chain", run_id)
    tries = {
        one.ref.task_id: one.try_number
        for one in op.run_task_instances("e2e_chain", run_id)
        if one.ref.task_id != "part"
    }
    assert tries == {"first": 2, "load": 2, "after": 0}
