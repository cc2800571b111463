"""What is cut off, refused half-way, or waits: finished or told, never lost or repeated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aiops_cli import decide, gate
from aiops_cli.commands.hold import made
from aiops_cli.errors import AiopsError, AirflowForbidden, Refused, UsageError
from aiops_cli.undo import undo
from tests.airflow_server import RUN
from tests.desk import Bench, bench
from tests.test_actions import EXTRACT, MOVE, Killed, do, fail, killed_after, orders_db, plan_of

REFUSES = {"status": False, "message": "no route to host"}
LEASE_OVER = {"minutes": 10}


@pytest.fixture(params=["3.3.2", "3.1.8"])
def at_work(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


def forbid(at: Bench, pattern: str) -> None:
    at.server.fault(pattern, status=403, body=b'{"detail":"no"}', times=99)


def started(at: Bench) -> dict[str, Any]:
    """A person ran another DAG for the failure, which waits for it; returns that run."""
    fail(at)
    at.server.add_dag("prices", {"fetch": []})
    do(at, "trigger_dag", {"dag_id": "prices"})
    return own_run(at)


def own_run(at: Bench) -> dict[str, Any]:
    return at.server.runs["prices", f"aiops__{at.only().incident.id}"]


def last_word(at: Bench) -> str:
    return at.only().outcomes[-1].detail


# ---- a change that is made is never forgotten ----


def test_what_is_changed_and_cannot_be_read_any_more_is_not_given_back(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    original = at_work.desk.airflow.change_connection

    def change(*args: Any) -> Any:
        original(*args)
        forbid(at_work, "GET .*/connections/.*")

    at_work.desk.airflow.change_connection = change  # type: ignore[method-assign,assignment]
    with pytest.raises(AiopsError):
        do(at_work, "update_connection", MOVE)
    assert stored["host"] == "db2.example.com"
    assert at_work.only().status == "acting"
    at_work.server.faults.clear()
    at_work.clock.advance(**LEASE_OVER)
    at_work.watch()
    assert at_work.cleared() == [["load"], ["publish"]]


def test_of_several_xcoms_the_first_is_deleted_and_the_second_refused() -> None:
    with bench() as at:
        fail(at)
        for key in ("a", "b"):
            at.server.add_xcom(EXTRACT, key, 0)
        forbid(at, "DELETE .*/b")
        with pytest.raises(AirflowForbidden):
            do(at, "clear_xcom", {"task_id": "extract", "keys": "a,b"})
        assert at.only().status == "acting"
        at.clock.advance(**LEASE_OVER)
        at.watch()
        assert (at.only().status, at.cleared()) == ("needs_human", [])


def test_a_change_that_cannot_be_followed_by_the_retry_comes_to_a_person(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work)
    plan = plan_of(at_work, "update_connection", MOVE)
    original = at_work.desk.airflow.clear

    def clear(*args: Any, **options: Any) -> Any:
        if not options["dry_run"]:
            raise AirflowForbidden("may not clear")
        return original(*args, **options)

    at_work.desk.airflow.clear = clear  # type: ignore[method-assign]
    with pytest.raises(AirflowForbidden):
        do(at_work, "update_connection", MOVE, plan)
    at_work.clock.advance(days=2)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    assert "connection orders_db: host may be changed" in last_word(at_work)


# ---- a connection that Airflow's test refuses ----


@pytest.mark.parametrize("before", [False, True])
def test_killed_around_the_connection_test_it_is_tested_once_more(
    at_work: Bench, before: bool
) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    at_work.server.connection_test = REFUSES
    killed_after(at_work, "test_connection", before=before)
    with pytest.raises(Killed):
        do(at_work, "update_connection", MOVE)
    assert stored["host"] == "db2.example.com"
    at_work.clock.advance(**LEASE_OVER)
    at_work.watch()
    assert stored["host"] == "db1.example.com"
    assert (at_work.cleared(), at_work.only().status) == ([], "pending")


def test_killed_after_it_was_put_back_nothing_runs_on_the_old_values(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work)
    at_work.server.connection_test = REFUSES
    original, calls = at_work.desk.airflow.change_connection, 0

    def change(*args: Any) -> Any:
        nonlocal calls
        original(*args)
        calls += 1
        if calls == 2:
            raise Killed

    at_work.desk.airflow.change_connection = change  # type: ignore[method-assign,assignment]
    with pytest.raises(Killed):
        do(at_work, "update_connection", MOVE)
    at_work.server.connection_test = {"status": True, "message": "the old one is back"}
    at_work.clock.advance(**LEASE_OVER)
    at_work.watch()
    assert (at_work.cleared(), at_work.only().status) == ([], "needs_human")


def test_a_refused_connection_that_cannot_be_put_back_runs_nothing(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work, login="password=hunter2abc")
    at_work.server.connection_test = REFUSES
    params = {"connection_id": "orders_db", "login": "etl2"}
    plan = plan_of(at_work, "update_connection", params)
    assert plan.no_undo
    with pytest.raises(Refused, match="no route to host"):
        do(at_work, "update_connection", params, plan)
    assert (at_work.cleared(), at_work.only().status) == ([], "needs_human")
    assert plan.no_undo in last_word(at_work)


def test_undo_stops_whoever_is_between_the_change_and_the_retry(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work)
    killed_after(at_work, "change_connection")
    with pytest.raises(Killed):
        do(at_work, "update_connection", MOVE)
    held = at_work.only().claim
    assert held
    original, tokens = at_work.desk.airflow.change_connection, []

    def change(*args: Any) -> Any:
        claim = at_work.only().claim
        tokens.append(claim.token if claim else None)
        return original(*args)

    at_work.desk.airflow.change_connection = change  # type: ignore[method-assign,assignment]
    undo(at_work.desk, at_work.only())
    assert tokens
    assert held.token not in tokens


# ---- another DAG's run is waited for ----


@pytest.mark.parametrize(("state", "status"), [("running", "acting"), ("failed", "failed")])
def test_killed_right_after_the_trigger_the_run_is_waited_for(
    at_work: Bench, state: str, status: str
) -> None:
    fail(at_work)
    at_work.server.add_dag("prices", {"fetch": []})
    killed_after(at_work, "trigger")
    with pytest.raises(Killed):
        do(at_work, "trigger_dag", {"dag_id": "prices"})
    own_run(at_work)["state"] = state
    at_work.clock.advance(**LEASE_OVER)
    at_work.watch()
    assert (at_work.only().status, at_work.cleared()) == (status, [])
    if state == "running":
        own_run(at_work)["state"] = "success"
        at_work.watch()
        assert at_work.cleared() == [["load"], ["publish"]]


def test_a_program_that_may_only_read_leaves_what_waits_to_others(at_work: Bench) -> None:
    run = started(at_work)
    settings = replace(at_work.desk.settings, read_only=True)
    reader = replace(at_work, desk=replace(at_work.desk, settings=settings))
    at_work.clock.advance(minutes=20)
    reader.watch()
    run["state"] = "success"
    reader.watch()
    assert (at_work.only().status, at_work.cleared()) == ("acting", [])
    at_work.watch()
    assert at_work.cleared() == [["load"], ["publish"]]


def test_a_run_that_was_deleted_ends_the_wait(at_work: Bench) -> None:
    started(at_work)
    at_work.server.runs.clear()
    at_work.server.add_run("orders", RUN)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    assert "is gone from Airflow" in last_word(at_work)


def test_a_hold_that_came_while_it_waited_stops_it(at_work: Bench) -> None:
    run, now = started(at_work), at_work.clock.now()
    at_work.clock.advance(minutes=1)
    until = now + timedelta(hours=2)
    made(at_work.store, at_work.desk.instance, "orders", "ben", at_work.clock.now(), until, "")
    run["state"] = "success"
    at_work.watch()
    assert (at_work.only().status, at_work.cleared()) == ("needs_human", [])
    assert "ben holds it" in last_word(at_work)


def test_a_second_run_for_the_same_incident_is_refused_in_words(at_work: Bench) -> None:
    started(at_work)["state"] = "running"
    at_work.clock.advance(days=2)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    with pytest.raises(Refused, match="run for this incident already") as refused:
        plan_of(at_work, "trigger_dag", {"dag_id": "prices"})
    assert "--action retry" in refused.value.hint


# ---- whose word it is ----


@pytest.mark.parametrize(("action", "words"), [("retry", 1), ("mark_success", 0)])
def test_a_mark_is_no_word_that_the_task_may_run_twice(
    at_work: Bench, action: str, words: int
) -> None:
    fail(at_work)
    do(at_work, action, {})
    incident = at_work.only().incident
    found = at_work.store.vouches(incident.instance, incident.dag_id, incident.task_id)
    assert len(found) == words


def test_without_the_right_to_look_the_command_is_for_somebody_else(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work)
    forbid(at_work, "GET .*/connections/.*")
    with pytest.raises(AirflowForbidden) as refused:
        plan_of(at_work, "update_connection", MOVE)
    assert "role Op" in refused.value.hint
    assert "--set=host=db2.example.com" in refused.value.hint


def test_a_note_holds_no_secret_and_stays_ours_whatever_the_name(at_work: Bench) -> None:
    row = fail(at_work)
    settings = replace(at_work.desk.settings, user="Doe, Ana")
    named = replace(at_work, desk=replace(at_work.desk, settings=settings))
    proposed = decide.Proposal("retry", {}, "password=hunter2abc")
    decide.approve(named.desk, named.only(), proposed, plan_of(named, "retry", {}), None)
    assert "hunter2abc" not in row["note"]
    assert "by Doe Ana," in row["note"]
    assert gate.foreign_word(row["note"], at_work.store.base_id()) == ""


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("update_connection", {"connection_id": "db", "extra": '{"password": "hunter2abc"}'}),
        ("set_variable", {"key": "dsn", "value": "postgresql://etl:hunter2abc@db1/orders"}),
        ("set_variable", {"key": "db_password", "value": "hunter2abc"}),
        ("trigger_dag", {"dag_id": "prices", "conf": {"api_key": "hunter2abc"}}),
    ],
)
def test_what_is_remembered_holds_no_secret(
    at_work: Bench, action: str, params: dict[str, Any]
) -> None:
    fail(at_work)
    now, known = at_work.clock.now(), at_work.desk.knowledge
    with pytest.raises(UsageError, match="looks like a secret"):
        decide.remember(known, at_work.only(), cause="it", action=action, params=params, at=now)
    assert "hunter2abc" not in repr(at_work.store.entries(kind="incident"))
