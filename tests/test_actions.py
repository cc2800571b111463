"""The whole catalogue against the local Airflow: planned, done exactly so, taken up, undone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from aiops_cli import decide, respond
from aiops_cli.errors import AiopsError, AirflowForbidden, Refused, UsageError
from aiops_cli.incidents import MASK, Change, Plan
from aiops_cli.undo import open_change, undo
from knowledge.errors import NotFound
from knowledge.records import Case, Decision, Story, Voided
from tests.airflow_server import RUN
from tests.desk import REFUSED, Bench, bench

MOVE = {"connection_id": "orders_db", "host": "db2.example.com", "port": "5433"}
LOAD = ("orders", RUN, "load", -1)
EXTRACT = ("orders", RUN, "extract", -1)


@pytest.fixture(params=["3.3.2", "3.1.8"])
def at_work(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as made:
        yield made


def fail(at: Bench) -> dict[str, Any]:
    """extract → clean → load → publish, and load failed; captured."""
    edges = {"extract": ["clean"], "clean": ["load"], "load": ["publish"]}
    at.server.add_dag("orders", edges)
    row = at.server.add_failure("orders", "load", events=[REFUSED])
    at.server.tasks["orders"]["load"]["downstream_task_ids"] = ["publish"]
    for name in ("extract", "clean"):
        at.server.add_instance("orders", name, "success", start_date="2026-01-01T00:00:00Z")
        at.server.instances["orders", RUN, name, -1]["end_date"] = "2026-01-01T00:01:00Z"
    at.server.add_instance("orders", "publish", "upstream_failed")
    at.server.runs["orders", RUN]["state"] = "failed"
    at.watch()
    return row


def plan_of(at: Bench, action: str, params: dict[str, Any]) -> Plan:
    return respond.preview(at.desk, at.only().incident, action, params)


def do(at: Bench, action: str, params: dict[str, Any], plan: Plan | None = None) -> Case:
    proposed = decide.Proposal(action, params)
    shown = plan or plan_of(at, action, params)
    return decide.approve(at.desk, at.only(), proposed, shown, None)


def orders_db(at: Bench, **fields: Any) -> dict[str, Any]:
    known = {"host": "db1.example.com", "port": 5432, "login": "etl", "password": "hunter2"}
    return at.server.add_connection("orders_db", **{**known, **fields})


class Killed(BaseException):
    """kill -9."""


def killed_after(at: Bench, name: str, *, before: bool = False) -> None:
    """The next call of this method of the gateway is the last thing that happens."""
    original = getattr(at.desk.airflow, name)

    def call(*args: Any, **options: Any) -> Any:
        if options.get("dry_run"):
            return original(*args, **options)
        setattr(at.desk.airflow, name, original)
        if not before:
            original(*args, **options)
        raise Killed

    setattr(at.desk.airflow, name, call)


# ---- connections ----


def test_a_connection_is_changed_in_the_named_fields_only_then_the_task_runs(
    at_work: Bench,
) -> None:
    row, stored = fail(at_work), orders_db(at_work)
    plan = plan_of(at_work, "update_connection", MOVE)
    assert plan.changes == (
        Change("connection", "orders_db", "host", "db1.example.com", "db2.example.com"),
        Change("connection", "orders_db", "port", 5432, 5433),
    )
    assert plan.no_undo == ""
    assert stored["host"] == "db1.example.com"  # a preview changes nothing
    do(at_work, "update_connection", MOVE, plan)
    assert (stored["host"], stored["port"]) == ("db2.example.com", 5433)
    assert (stored["login"], stored["password"]) == ("etl", "hunter2")
    assert at_work.cleared() == [["load"], ["publish"]]
    at_work.finish(row)
    (case,) = at_work.watch()
    assert (case.status, case.outcome) == ("resolved", "fixed")


def test_undo_puts_a_connection_back_and_the_record_speaks_against_it(at_work: Bench) -> None:
    row, stored = fail(at_work), orders_db(at_work)
    do(at_work, "update_connection", MOVE)
    at_work.finish(row)
    at_work.watch()
    case = undo(at_work.desk, at_work.only(), "wrong host")
    assert (stored["host"], stored["port"]) == ("db1.example.com", 5432)
    assert (case.status, case.decision.reason if case.decision else "") == (
        "rejected",
        "undone: wrong host",
    )
    record = at_work.desk.knowledge.evidence(
        case.incident,
        "update_connection",
        MOVE,
        now=at_work.clock.now(),
        relapse_window=at_work.desk.settings.relapse_window,
    )
    assert record.contradicted
    with pytest.raises(Refused, match="nothing was changed"):
        undo(at_work.desk, at_work.only())
    with pytest.raises(NotFound):  # it is no plain rejection, which could be taken back
        at_work.store.take_back(case.incident.id, "ana", at_work.clock.now())


def interrupted_then_retried(at: Bench) -> dict[str, Any]:
    """A person changed a connection, which was cut off, and then approved the retry alone."""
    row = fail(at)
    orders_db(at)
    killed_after(at, "change_connection")
    with pytest.raises(Killed):
        do(at, "update_connection", MOVE)
    at.server.instances["orders", RUN, "publish", -1]["state"] = "success"
    at.clock.advance(minutes=10)
    at.watch()
    assert at.only().status == "needs_human"
    do(at, "retry", {})
    return row


@pytest.mark.parametrize("settled", [True, False])
def test_undo_finds_the_change_behind_a_later_decision(at_work: Bench, settled: bool) -> None:
    """Airflow's note promises it, whatever was approved after it."""
    row = interrupted_then_retried(at_work)
    if settled:
        at_work.finish(row)
        at_work.watch()
        assert at_work.only().status == "resolved"
    case = undo(at_work.desk, at_work.only())
    assert at_work.server.connections["orders_db"]["host"] == "db1.example.com"
    assert case.status == "rejected"
    assert case.decision
    assert case.decision.action == "update_connection"
    assert case.claim is None or case.claim.state == "done"
    with pytest.raises(Refused, match="nothing was changed"):
        undo(at_work.desk, case)


def test_undo_goes_back_change_by_change(at_work: Bench) -> None:
    interrupted_then_retried(at_work)
    at_work.clock.advance(days=2)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    row = at_work.server.instances["orders", RUN, "load", -1]
    row |= {"state": "failed", "id": at_work.only().incident.ti_id, "try_number": 1}
    at_work.server.add_variable("batch", "500")
    do(at_work, "set_variable", {"key": "batch", "value": "100"})
    assert undo_of(at_work) == "set_variable"
    assert at_work.server.variables["batch"]["value"] == "500"
    assert at_work.server.connections["orders_db"]["host"] == "db2.example.com"
    assert undo_of(at_work) == "update_connection"
    assert at_work.server.connections["orders_db"]["host"] == "db1.example.com"


def undo_of(at: Bench) -> str | None:
    decision = undo(at.desk, at.only()).decision
    return decision.action if decision else None


def test_what_can_be_put_back_is_though_what_came_after_cannot() -> None:
    def made(seq: int, no_undo: str | None) -> Decision:
        plan: dict[str, Any] = {"changes": [{}], "no_undo": no_undo}
        return Decision("one", "approve", now, "ana", "x", plan=plan, seq=seq)

    now = datetime.now(timezone.utc)
    back, gone = made(2, None), made(3, "the XCom is not kept")
    assert open_change(Story(decisions=(back, gone))) == back
    assert open_change(Story(decisions=(gone,))) == gone
    assert open_change(Story(decisions=(back,), voided=(Voided(2, now),))) is None


def test_undo_waits_for_whoever_is_about_to_act(at_work: Bench) -> None:
    row = fail(at_work)
    stored = orders_db(at_work)
    do(at_work, "update_connection", MOVE)
    at_work.finish(row)
    at_work.watch()
    case = at_work.only()
    at_work.store._claims.clear()  # as if it were pending once more
    at_work.store.claim(case.incident.id, None, "ben", timedelta(minutes=1))
    with pytest.raises(Refused, match="ben is acting"):
        undo(at_work.desk, case)
    assert stored["host"] == "db2.example.com"


def test_undo_while_the_task_runs_again(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    do(at_work, "update_connection", MOVE)
    assert undo(at_work.desk, at_work.only()).status == "rejected"
    assert stored["host"] == "db1.example.com"
    at_work.watch()
    assert at_work.only().status == "rejected"


def test_what_somebody_changed_since_is_not_put_back(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    do(at_work, "update_connection", MOVE)
    stored["host"] = "db3.example.com"
    with pytest.raises(Refused, match="changed once more"):
        undo(at_work.desk, at_work.only())
    assert stored["host"] == "db3.example.com"


def test_what_changed_since_the_plan_is_not_done(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    plan = plan_of(at_work, "update_connection", MOVE)
    stored["host"] = "db9.example.com"
    with pytest.raises(Refused, match="changed since the plan"):
        do(at_work, "update_connection", MOVE, plan)
    assert stored["host"] == "db9.example.com"
    assert at_work.cleared() == []
    assert at_work.only().status == "pending"


def test_a_failed_connection_test_puts_it_back_and_runs_nothing(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    at_work.server.connection_test = {"status": False, "message": "password=hunter2 refused"}
    with pytest.raises(Refused, match="test of connection orders_db failed") as refused:
        do(at_work, "update_connection", MOVE)
    assert "hunter2" not in refused.value.message
    assert stored["host"] == "db1.example.com"
    assert at_work.cleared() == []
    assert at_work.only().status == "pending"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"port": "70000"}, "out of range"),
        ({"port": "x"}, "no whole number"),
        ({"port": True}, "no whole number"),
        ({"host": "postgres://db2"}, "no host name"),
        ({"host": "db2:5432"}, "no host name"),
        ({"host": "a b"}, "no host name"),
        ({"login": MASK}, "what Airflow shows of a secret"),
        ({"extra": {"dsn": "db://u:<redacted:password>@db"}}, "in the place of a secret"),
        ({"login": "\x1b[2J"}, "control characters"),
        ({"extra": "[1]"}, "no JSON object"),
        ({"extra": {"password": "hunter2"}}, "looks like a secret"),
        ({"extra": {"token": "ghp_" + "a1B2" * 9}}, "looks like a secret"),
        ({}, "needs host, port, schema, login or extra"),
    ],
)
def test_values_that_no_connection_may_get(
    at_work: Bench, params: dict[str, Any], message: str
) -> None:
    fail(at_work)
    orders_db(at_work)
    with pytest.raises(UsageError, match=message):
        plan_of(at_work, "update_connection", {"connection_id": "orders_db", **params})
    assert at_work.server.sent("PATCH") == []


def test_a_field_of_the_extra(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work, extra={"sslmode": "disable", "app": "etl"})
    params = {"connection_id": "orders_db", "extra": '{"sslmode": "require"}'}
    plan = plan_of(at_work, "update_connection", params)
    assert plan.changes == (
        Change("connection", "orders_db", "extra.sslmode", "disable", "require"),
    )
    do(at_work, "update_connection", params, plan)
    assert stored["extra"] == {"sslmode": "require", "app": "etl"}
    undo(at_work.desk, at_work.only())
    assert stored["extra"] == {"sslmode": "disable", "app": "etl"}


def test_an_extra_that_hides_something_is_left_alone(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work, extra={"sslmode": "disable", "access_token": "k"})
    with pytest.raises(Refused, match="Airflow hides"):
        plan_of(
            at_work,
            "update_connection",
            {"connection_id": "orders_db", "extra": {"sslmode": "require"}},
        )


def test_an_extra_that_is_no_object_is_left_alone(at_work: Bench) -> None:
    fail(at_work)
    orders_db(at_work)["extra"] = "?sslmode=disable"
    params = {"connection_id": "orders_db", "extra": {"sslmode": "require"}}
    with pytest.raises(Refused, match="no JSON object"):
        plan_of(at_work, "update_connection", params)


def test_nothing_to_change_and_nothing_there(at_work: Bench) -> None:
    fail(at_work)
    with pytest.raises(Refused, match="no connection orders_db"):
        plan_of(at_work, "update_connection", MOVE)
    orders_db(at_work, host="db2.example.com", port=5433)
    with pytest.raises(Refused, match="so already"):
        plan_of(at_work, "update_connection", MOVE)


# ---- variables and pools ----


def test_a_variable_is_set_and_put_back(at_work: Bench) -> None:
    fail(at_work)
    row = at_work.server.add_variable("batch", "500")
    plan = plan_of(at_work, "set_variable", {"key": "batch", "value": 100})
    assert plan.changes == (Change("variable", "batch", "value", "500", "100"),)
    do(at_work, "set_variable", {"key": "batch", "value": 100}, plan)
    assert row["value"] == "100"
    assert at_work.cleared() == [["load"], ["publish"]]
    undo(at_work.desk, at_work.only())
    assert row["value"] == "500"


def test_a_variable_of_json_is_the_same_in_any_spacing(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_variable("limits", '{"a": 1}')
    value = '{"a":2,"b":[1]}'
    do(at_work, "set_variable", {"key": "limits", "value": value})
    at_work.server.variables["limits"]["value"] = '{\n  "a": 2,\n  "b": [1]\n}'
    undo(at_work.desk, at_work.only())
    assert at_work.server.variables["limits"]["value"] == '{"a": 1}'


def test_a_missing_variable_is_made_which_cannot_be_undone(at_work: Bench) -> None:
    fail(at_work)
    plan = plan_of(at_work, "set_variable", {"key": "batch", "value": "100"})
    assert "is new" in plan.no_undo
    do(at_work, "set_variable", {"key": "batch", "value": "100"}, plan)
    assert at_work.server.variables["batch"]["value"] == "100"
    with pytest.raises(Refused, match="cannot be undone"):
        undo(at_work.desk, at_work.only())


def test_a_hidden_variable_cannot_be_undone_and_that_is_said_before(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_variable("vendor", '{"password": "hunter2", "size": 1}')
    plan = plan_of(at_work, "set_variable", {"key": "vendor", "value": '{"size": 2}'})
    assert plan.changes[0].old == MASK
    assert "hides the old value" in plan.no_undo


def test_a_secret_in_an_open_variable_is_not_kept(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_variable("dsn", "postgresql://etl:hunter2@db1/orders")
    plan = plan_of(at_work, "set_variable", {"key": "dsn", "value": "postgresql://db2/orders"})
    assert plan.changes[0].old == MASK
    do(at_work, "set_variable", dict(plan.params), plan)
    assert "hunter2" not in repr(at_work.only())


def test_a_pool_is_resized_and_put_back(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_pool("etl", 4, 0)
    do(at_work, "resize_pool", {"pool": "etl", "slots": "8"})
    (row,) = [pool for pool in at_work.server.pools if pool["name"] == "etl"]
    assert row["slots"] == 8
    undo(at_work.desk, at_work.only())
    assert row["slots"] == 4


def test_what_no_pool_can_be(at_work: Bench) -> None:
    fail(at_work)
    with pytest.raises(UsageError, match="out of range"):
        plan_of(at_work, "resize_pool", {"pool": "etl", "slots": "0"})
    with pytest.raises(Refused, match="no pool"):
        plan_of(at_work, "resize_pool", {"pool": "nope", "slots": "5"})


# ---- upstream and XCom ----


def test_the_upstream_right_above_runs_anew(at_work: Bench) -> None:
    row = fail(at_work)
    plan = plan_of(at_work, "retry_upstream", {})
    assert [(one.ref.task_id, one.role) for one in plan.clears] == [
        ("clean", "upstream"),
        ("load", "task"),
        ("publish", "downstream"),
    ]
    assert "does not tell which upstream" in plan.told[0]
    do(at_work, "retry_upstream", {}, plan)
    assert at_work.cleared() == [["clean", "load"], ["publish"]]
    at_work.finish(row)
    assert at_work.watch()[0].status == "resolved"


def test_a_named_upstream_and_what_lies_between(at_work: Bench) -> None:
    fail(at_work)
    do(at_work, "retry_upstream", {"task_ids": "extract"})
    assert at_work.cleared() == [["clean", "extract", "load"], ["publish"]]


def test_what_is_not_above_or_too_much(at_work: Bench) -> None:
    fail(at_work)
    with pytest.raises(UsageError, match="does not run before"):
        plan_of(at_work, "retry_upstream", {"task_ids": ["publish"]})
    with pytest.raises(Refused, match="run 2 task instances anew"):
        respond.preview(
            at_work.desk,
            at_work.only().incident,
            "retry_upstream",
            {"task_ids": "extract"},
            max_tasks=1,
        )


@pytest.mark.parametrize("state", ["running", "up_for_retry", "up_for_reschedule"])
def test_an_upstream_that_is_under_way_is_left_alone(at_work: Bench, state: str) -> None:
    fail(at_work)
    at_work.server.instances["orders", RUN, "clean", -1]["state"] = state
    with pytest.raises(AiopsError):
        do(at_work, "retry_upstream", {"task_ids": "clean"})
    assert at_work.cleared() == []


def test_xcom_is_deleted_where_the_server_can(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_xcom(EXTRACT, "rows", 0)
    at_work.server.add_xcom(EXTRACT, "other", 1)
    params = {"task_id": "extract", "keys": "rows"}
    if at_work.desk.airflow.version() == "3.1.8":
        with pytest.raises(Refused, match="cannot delete XComs") as refused:
            plan_of(at_work, "clear_xcom", params)
        assert "retry_upstream" in refused.value.hint
        return
    plan = plan_of(at_work, "clear_xcom", params)
    anew = {one.ref.task_id for one in plan.clears if one.role == "upstream"}
    assert anew == {"clean", "extract"}
    do(at_work, "clear_xcom", params, plan)
    assert at_work.server.xcoms[EXTRACT] == {"other": 1}
    assert at_work.cleared() == [["clean", "extract", "load"], ["publish"]]


def mapped_writer(at: Bench) -> None:
    """extract has three instances, of which the last wrote nothing."""
    fail(at)
    del at.server.instances[EXTRACT]
    for index in range(3):
        at.server.add_instance("orders", "extract", "success", map_index=index)
        at.server.add_xcom(("orders", RUN, "extract", index), "other", index)
    for index in range(2):
        at.server.add_xcom(("orders", RUN, "extract", index), "rows", index)
    at.server.runs["orders", RUN]["state"] = "failed"


def test_of_a_mapped_writer_the_xcom_of_each_index_is_deleted() -> None:
    with bench() as at:
        mapped_writer(at)
        params = {"task_id": "extract", "keys": "rows"}
        plan = plan_of(at, "clear_xcom", params)
        assert [(one.name, one.field) for one in plan.changes] == [
            ("extract[0]", "rows"),
            ("extract[1]", "rows"),
        ]
        anew = [str(one.ref) for one in plan.clears if one.role == "upstream"]
        assert sum("extract[" in one for one in anew) == 3
        do(at, "clear_xcom", params, plan)
        left = {key[3]: values for key, values in at.server.xcoms.items() if key[2] == "extract"}
        assert left == {index: {"other": index} for index in range(3)}
        assert at.cleared() == [["clean", "extract", "load"], ["publish"]]


def test_more_mapped_writers_than_may_run_anew_are_not_even_asked() -> None:
    with bench() as at:
        mapped_writer(at)
        params = {"task_id": "extract", "keys": "rows"}
        with pytest.raises(Refused, match="3 instances of orders"):
            respond.preview(at.desk, at.only().incident, "clear_xcom", params, max_tasks=2)
        assert not [one for one in at.server.sent("GET") if "xcomEntries" in one.path]


def test_of_the_xcoms_of_several_indexes_the_second_is_refused() -> None:
    """Then the first is gone, and it is no act that was never done."""
    with bench() as at:
        mapped_writer(at)
        params = {"task_id": "extract", "keys": "rows"}
        plan = plan_of(at, "clear_xcom", params)
        original, calls = at.desk.airflow.delete_xcom, list[None]()

        def delete(*args: Any) -> None:
            calls.append(None)
            if len(calls) == 2:
                raise AirflowForbidden("may not delete")
            original(*args)

        at.desk.airflow.delete_xcom = delete  # type: ignore[method-assign,assignment]
        with pytest.raises(AirflowForbidden):
            do(at, "clear_xcom", params, plan)
        assert at.only().status == "acting"
        at.clock.advance(minutes=10)
        at.watch()
        assert (at.only().status, at.cleared()) == ("needs_human", [])


def test_xcom_that_is_not_there_or_is_the_tasks_own(at_work: Bench) -> None:
    fail(at_work)
    with pytest.raises(UsageError, match="own XCom"):
        plan_of(at_work, "clear_xcom", {"task_id": "load", "keys": "rows"})
    with pytest.raises(Refused):
        plan_of(at_work, "clear_xcom", {"task_id": "extract", "keys": "rows"})


# ---- another DAG ----


def test_another_dag_is_run_waited_for_and_then_the_task_runs(at_work: Bench) -> None:
    row = fail(at_work)
    at_work.server.add_dag("prices", {"fetch": []})
    plan = plan_of(at_work, "trigger_dag", {"dag_id": "prices", "conf": '{"day": "today"}'})
    do(at_work, "trigger_dag", dict(plan.params), plan)
    own = f"aiops__{at_work.only().incident.id}"
    run = at_work.server.runs["prices", own]
    run["state"] = "running"
    assert at_work.cleared() == []
    at_work.watch()
    assert at_work.only().status == "acting"
    run["state"] = "success"
    at_work.watch()
    assert at_work.cleared() == [["load"], ["publish"]]
    at_work.finish(row)
    assert at_work.watch()[0].status == "resolved"


def test_another_dag_that_fails_ends_it(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_dag("prices", {"fetch": []})
    do(at_work, "trigger_dag", {"dag_id": "prices"})
    at_work.server.runs["prices", f"aiops__{at_work.only().incident.id}"]["state"] = "failed"
    at_work.watch()
    assert (at_work.only().status, at_work.only().outcome) == ("failed", "failed")
    assert at_work.cleared() == []


def test_a_paused_dag_is_not_run(at_work: Bench) -> None:
    fail(at_work)
    at_work.server.add_dag("prices", {"fetch": []}, is_paused=True)
    with pytest.raises(Refused, match="is paused"):
        plan_of(at_work, "trigger_dag", {"dag_id": "prices"})


# ---- marks ----


@pytest.mark.parametrize("state", ["success", "skipped"])
def test_a_mark(at_work: Bench, state: str) -> None:
    row = fail(at_work)
    row["note"] = "a person's word"
    plan = plan_of(at_work, f"mark_{state}", {})
    assert plan.no_undo
    do(at_work, f"mark_{state}", {}, plan)
    assert row["state"] == state
    assert [one.ref.task_id for one in plan.clears] == ["publish"]
    assert at_work.server.instances["orders", RUN, "publish", -1]["state"] is None
    assert at_work.server.runs["orders", RUN]["state"] == "queued"
    assert row["note"].startswith("a person's word\n[aiops ")
    (case,) = at_work.watch()
    assert (case.status, case.outcome) == ("resolved", "fixed")
    with pytest.raises(Refused, match="cannot be undone"):
        undo(at_work.desk, case)


@pytest.mark.parametrize("action", ["mark_success", "retry"])
def test_cut_off_with_a_full_note_it_is_nobodys_and_a_person_looks(
    at_work: Bench, action: str
) -> None:
    row = fail(at_work)
    row["note"] = "n" * 990
    killed_after(at_work, "mark" if action == "mark_success" else "clear")
    with pytest.raises(Killed):
        do(at_work, action, {})
    at_work.clock.advance(minutes=10)
    at_work.watch()
    case = at_work.only()
    assert (case.status, case.outcome) == ("needs_human", "unknown")
    assert "nobody can tell by whom" in case.outcomes[-1].detail
    if action == "mark_success":
        assert at_work.server.runs["orders", RUN]["state"] == "queued"
    assert row["note"] == "n" * 990


@pytest.mark.parametrize("action", ["mark_success", "retry"])
def test_with_a_full_note_what_the_act_cannot_have_done_is_somebody_elses(
    at_work: Bench, action: str
) -> None:
    """A mark makes no new id, and a clear always one."""
    row = fail(at_work)
    row["note"] = "n" * 990
    killed_after(at_work, "mark" if action == "mark_success" else "clear", before=True)
    with pytest.raises(Killed):
        do(at_work, action, {})
    row["state"] = "success"
    if action == "mark_success":
        row["id"] = "another"
    at_work.clock.advance(minutes=10)
    at_work.watch()
    assert at_work.only().status == "superseded"


def test_a_mark_that_is_cut_off_is_seen_by_its_note(at_work: Bench) -> None:
    fail(at_work)
    killed_after(at_work, "mark")
    with pytest.raises(Killed):
        do(at_work, "mark_success", {})
    at_work.watch()
    assert at_work.only().status == "resolved"
    assert at_work.server.runs["orders", RUN]["state"] == "queued"


# ---- kill -9 ----

ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "update_connection": ("change_connection", MOVE),
    "set_variable": ("change_variable", {"key": "batch", "value": "100"}),
    "resize_pool": ("resize_pool", {"pool": "etl", "slots": 8}),
    "trigger_dag": ("trigger", {"dag_id": "prices"}),
}


def world(at: Bench) -> dict[str, Any]:
    row = fail(at)
    orders_db(at)
    at.server.add_variable("batch", "500")
    at.server.add_pool("etl", 4, 0)
    at.server.add_dag("prices", {"fetch": []})
    return row


@pytest.mark.parametrize("action", ACTS)
def test_killed_between_the_change_and_the_retry_the_next_pass_finishes(
    at_work: Bench, action: str
) -> None:
    row = world(at_work)
    method, params = ACTS[action]
    killed_after(at_work, method)
    with pytest.raises(Killed):
        do(at_work, action, params)
    changes = len(at_work.server.sent("PATCH")) + len(at_work.server.sent("POST"))
    at_work.watch()
    assert at_work.cleared() == []  # the lease runs still: somebody may be at it
    at_work.clock.advance(minutes=10)
    if action == "trigger_dag":
        own = f"aiops__{at_work.only().incident.id}"
        at_work.server.runs["prices", own]["state"] = "success"
    at_work.watch()
    assert at_work.cleared() == [["load"], ["publish"]]
    at_work.finish(row)
    assert at_work.watch()[0].status == "resolved"
    later = [one.path for one in at_work.server.sent("PATCH") + at_work.server.sent("POST")]
    assert changes  # and none of them was made once more:
    assert sum("connections/orders_db" in path for path in later) <= 1
    assert sum(path.endswith("/prices/dagRuns") for path in later) <= 1


@pytest.mark.parametrize("action", ACTS)
def test_killed_before_the_change_a_person_is_asked(at_work: Bench, action: str) -> None:
    world(at_work)
    method, params = ACTS[action]
    killed_after(at_work, method, before=True)
    with pytest.raises(Killed):
        do(at_work, action, params)
    at_work.clock.advance(minutes=10)
    at_work.watch()
    case = at_work.only()
    assert case.status == "needs_human"
    assert "before it changed anything" in case.outcomes[-1].detail
    assert at_work.cleared() == []


def test_killed_and_changed_by_somebody_else_a_person_is_asked(at_work: Bench) -> None:
    world(at_work)
    killed_after(at_work, "change_connection")
    with pytest.raises(Killed):
        do(at_work, "update_connection", MOVE)
    at_work.server.connections["orders_db"]["host"] = "db3.example.com"
    at_work.clock.advance(minutes=10)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    assert at_work.cleared() == []


def test_killed_after_the_upstream_clear_nothing_runs_twice(at_work: Bench) -> None:
    """Where a clear takes its note along, the note says whose it was."""
    row = fail(at_work)
    killed_after(at_work, "clear")
    with pytest.raises(Killed):
        do(at_work, "retry_upstream", {"task_ids": "extract"})
    at_work.clock.advance(minutes=10)
    at_work.watch()
    at_work.finish(row)
    at_work.watch()
    assert at_work.cleared().count(["clean", "extract", "load"]) == 1
    known = at_work.desk.airflow.clears_take_notes
    assert at_work.only().status == ("resolved" if known else "superseded")


def test_the_note_of_a_task_above_is_not_written_over(at_work: Bench) -> None:
    row = fail(at_work)
    above = at_work.server.instances["orders", RUN, "clean", -1]
    above["note"] = "a person's word"
    do(at_work, "retry_upstream", {"task_ids": "clean"})
    assert above["note"] == "a person's word"
    assert row["note"].startswith("[aiops ")


def test_what_airflow_ran_again_is_compared_with_the_plan(at_work: Bench) -> None:
    """It would run less, or more, than was shown: then nothing more is done, and a person looks."""
    fail(at_work)
    plan = plan_of(at_work, "retry_upstream", {"task_ids": "extract"})
    original = at_work.desk.airflow.clear

    def clear(*args: Any, **options: Any) -> Any:
        cleared = original(*args, **options)
        some = [one for one in cleared if one.ref.task_id != "extract"]
        return cleared if options["dry_run"] else some

    at_work.desk.airflow.clear = clear  # type: ignore[method-assign]  # another Airflow
    with pytest.raises(Refused, match="was planned"):
        do(at_work, "retry_upstream", {"task_ids": "extract"}, plan)
    assert at_work.cleared() == [["clean", "extract", "load"]]  # and nothing below
    assert at_work.only().status == "needs_human"


def test_an_upstream_that_changed_since_the_plan_can_be_approved_again(at_work: Bench) -> None:
    fail(at_work)
    plan = plan_of(at_work, "retry_upstream", {"task_ids": "clean"})
    original, calls = at_work.desk.airflow.clear, list[None]()

    def clear(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == 2:  # between the second preview and the act
            at_work.server.instances["orders", RUN, "clean", -1]["id"] = "another"
        return original(*args, **options)

    at_work.desk.airflow.clear = clear  # type: ignore[method-assign]
    with pytest.raises(Refused, match="above it has changed"):
        do(at_work, "retry_upstream", {"task_ids": "clean"}, plan)
    assert at_work.only().status == "pending"


def test_an_asset_that_was_written_again_makes_stale_what_may_have_read_it(at_work: Bench) -> None:
    fail(at_work)
    source = ("vendor", "r1", "fetch", -1)
    at_work.server.add_dag("vendor", {"fetch": []})
    at_work.server.add_instance("vendor", "fetch", "success", run_id="r1")
    at_work.server.instances[source]["end_date"] = "2026-01-01T05:00:00Z"
    at_work.server.add_asset_event("orders", RUN, "prices", source)
    plan = plan_of(at_work, "retry_upstream", {})
    anew = {one.ref.task_id for one in plan.clears if one.role == "upstream"}
    assert anew == {"extract", "clean"}
    assert plan.told == (
        "asset prices of vendor.fetch was written 2026-01-01 05:00 UTC, after it was read",
    )


def test_a_run_that_a_sensor_waited_for_and_that_ended_again(at_work: Bench) -> None:
    fail(at_work)
    waits = at_work.server.instances["orders", RUN, "extract", -1]
    waits |= {"operator": "ExternalTaskSensor", "rendered_fields": {"external_dag_id": "vendor"}}
    at_work.server.add_dag("vendor", {"fetch": []})
    at_work.server.add_run("vendor", RUN, state="success", end_date="2026-01-01T05:00:00Z")
    plan = plan_of(at_work, "retry_upstream", {})
    assert {one.ref.task_id for one in plan.clears if one.role == "upstream"} == {
        "extract",
        "clean",
    }
    assert "was written 2026-01-01 05:00 UTC" in plan.told[0]


# ---- who may ----


def test_without_the_right_nothing_is_done_and_somebody_else_can(at_work: Bench) -> None:
    fail(at_work)
    stored = orders_db(at_work)
    plan = plan_of(at_work, "update_connection", MOVE)
    at_work.server.fault("PATCH .*/connections/.*", status=403, body=b'{"detail":"no"}')
    with pytest.raises(AirflowForbidden) as refused:
        do(at_work, "update_connection", MOVE, plan)
    assert f"aiops approve {at_work.only().incident.id}" in refused.value.hint
    assert stored["host"] == "db1.example.com"
    assert at_work.only().status == "pending"


def test_a_setting_forbids_an_action(at_work: Bench) -> None:
    fail(at_work)
    at_work.desk.settings.actions["resize_pool"] = "nobody"  # type: ignore[index]  # as a file says
    at_work.server.add_pool("etl", 4, 0)
    with pytest.raises(Refused, match="nobody may do resize_pool"):
        do(at_work, "resize_pool", {"pool": "etl", "slots": 8})
    assert at_work.only().status == "pending"
