"""What a storm costs: a small one of what `make bench` measures (bench/storm.py)."""

from __future__ import annotations

from bench.storm import CALLS, SHAPES, SIGNATURES, Shape, calls_each, kind_of, weathered
from tests.airflow_server import exception
from tests.desk import bench
from tests.test_capture import timed_out

FAILURES = 100


def test_a_storm_costs_a_call_a_failure_and_a_question_a_signature() -> None:
    seen = weathered(FAILURES, Shape("small", dags=2, run="running"))
    assert seen.captured == seen.heard == FAILURES
    assert seen.calls["logs"] == FAILURES
    assert calls_each(seen.calls, FAILURES) <= CALLS
    assert seen.asked == len(SIGNATURES)


def test_many_dags_and_runs_are_read_from_their_lists() -> None:
    with bench() as b:
        for number in range(60):
            b.server.add_failure(f"dag_{number:02}", "load", events=[exception("E", "boom")])
        for row in b.server.runs.values():
            row["state"] = "running"
        b.server.dags["dag_30"]["is_paused"] = True  # not on the list of DAGs
        b.watch()
        asked = [kind_of(request.path) for request in b.server.sent("GET")]
        assert len(b.store.cases()) == 60
        assert asked.count("DAGs") == 11  # ten one by one, and the paused one
        assert asked.count("runs") == 10
        contexts = {case.incident.dag_id: case.incident.context for case in b.store.cases()}
        assert {context["run_type"] for context in contexts.values()} == {"scheduled"}
        assert all(context["owners"] for context in contexts.values())


def test_a_timeout_is_known_among_many_dags_too() -> None:
    """A DAG's timeout is among its details only, not on the list."""
    with bench() as b:
        timed_out(b)
        for number in range(30):
            b.server.add_failure(f"dag_{number:02}", "load", events=[exception("E", "boom")])
        b.watch()
        (run,) = [case.incident for case in b.store.cases() if case.incident.kind == "run"]
        assert run.signature.error_class == "DagRunTimeout"


def test_a_list_that_may_not_be_read_is_done_without() -> None:
    with bench() as b:
        for number in range(15):
            b.server.add_failure(f"dag_{number:02}", "load", events=[exception("E", "boom")])
        b.server.fault("GET /api/v2/dags$", status=403, times=9)
        b.watch()
        asked = [kind_of(request.path) for request in b.server.sent("GET")]
        assert len(b.store.cases()) == 15
        assert asked.count("DAGs") == 15
        assert not any("not read" in word or "forbidden" in word for word in b.warnings)


def test_what_is_counted() -> None:
    paths = {
        "/api/v2/dags/a/dagRuns/r/taskInstances/t/logs/2": "logs",
        "/api/v2/dags/~/dagRuns/~/taskInstances": "list pages",
        "/api/v2/dags/~/dagRuns": "list pages",
        "/api/v2/dags": "list pages",
        "/api/v2/eventLogs": "list pages",
        "/api/v2/dags/a/details": "DAGs",
        "/api/v2/dags/a/tasks": "tasks of a DAG",
        "/api/v2/dags/a/dagRuns/scheduled__2026-01-01": "runs",
        "/api/v2/dags/a/dagRuns/r/taskInstances": "mapped tasks",
        "/api/v2/dags/a/dagRuns/r/taskInstances/t/3": "others",
        "/api/v2/monitor/health": "others",
    }
    assert {path: kind_of(path) for path in paths} == paths
    assert {shape.bound for shape in SHAPES} == {CALLS, None}
