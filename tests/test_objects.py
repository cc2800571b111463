"""Connections, variables, pools, XComs, triggered runs and marked task instances: the gateway
against a local server that behaves like either version, and that server against what a real one
answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from aiops_cli.airflow.gateway import Gateway
from aiops_cli.airflow.login import Login
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowConflict,
    AirflowError,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
    Refused,
    UsageError,
)
from aiops_cli.incidents import AssetEvent, Connection, ConnectionTest, TaskRef
from aiops_cli.seams import Airflow
from tests.airflow_objects import recorded_objects
from tests.airflow_server import RUN, AirflowServer
from tests.test_gateway import VERSIONS, Impatient, shape

LOAD = TaskRef("orders", RUN, "load")
PART = TaskRef("orders", RUN, "part", 1)


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[AirflowServer]:
    with AirflowServer(request.param) as server:
        yield server


@pytest.fixture
def modern() -> Iterator[AirflowServer]:
    with AirflowServer("3.3.2") as server:
        yield server


def gateway(
    server: AirflowServer, login: tuple[str, str] | None = None, *, read_only: bool = False
) -> Airflow:
    name, password = login or (server.username, server.password)
    transport = Transport(server.url, Login(name, password), read_only=read_only, clock=Impatient())
    return Gateway(transport, "test")


@pytest.fixture
def airflow(server: AirflowServer) -> Airflow:
    return gateway(server)


# ---- connections ----


@pytest.fixture
def orders_db(server: AirflowServer) -> dict[str, Any]:
    return server.add_connection(
        "orders_db",
        host="db-1",
        port=5432,
        schema="public",
        login="etl",
        password="hunter2",
        extra={"timeout": 3},
    )


def test_a_connection_is_shown_without_its_secrets(
    server: AirflowServer, airflow: Airflow, orders_db: dict[str, Any]
) -> None:
    orders_db["extra"] = {"timeout": 3, "api_key": "abc"}
    shown = airflow.connection("orders_db")
    assert shown == Connection(
        "orders_db", "postgres", "db-1", 5432, "public", "etl", None,
        '{"timeout": 3, "api_key": "***"}',
    )  # fmt: skip
    assert "hunter2" not in repr(shown)


def test_only_the_named_fields_of_a_connection_change(
    server: AirflowServer, airflow: Airflow, orders_db: dict[str, Any]
) -> None:
    before = dict(orders_db)
    after = airflow.change_connection("orders_db", {"host": "db-2", "port": 5433})
    assert (after.host, after.port, after.login) == ("db-2", 5433, "etl")
    assert orders_db == before | {"host": "db-2", "port": 5433}
    (sent,) = server.sent("PATCH")
    assert sent.query == {"update_mask": ["host", "port"]}
    assert sent.body == {
        "connection_id": "orders_db",
        "conn_type": "postgres",
        "host": "db-2",
        "port": 5433,
    }
    airflow.change_connection("orders_db", {"host": "db-1", "port": None, "extra": '{"a": 1}'})
    assert orders_db == before | {"port": None, "extra": {"a": 1}}


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "***"},
        {"login": "user:***"},
        {"extra": '{"api_key": "***"}'},
        {"host": "db-2", "extra": '{"a": {"b": ["***"]}}'},
        {"hostname": "db-2"},
        {"connection_id": "other"},
        {"conn_type": "mysql"},
    ],
)
def test_a_mask_and_unknown_fields_are_never_sent(
    server: AirflowServer, airflow: Airflow, orders_db: dict[str, Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        airflow.change_connection("orders_db", fields)
    assert server.sent("PATCH") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(before=st.text(), after=st.text(), field=st.sampled_from(["host", "extra", "password"]))
def test_a_mask_is_found_wherever_it_stands(
    modern: AirflowServer, before: str, after: str, field: str
) -> None:
    airflow = gateway(modern)
    with pytest.raises(UsageError):
        airflow.change_connection("orders_db", {field: f"{before}***{after}"})
    with pytest.raises(UsageError):
        airflow.change_variable("limit", f"{before}***{after}")
    assert modern.sent("PATCH") == []


def test_an_extra_with_hidden_secrets_is_not_overwritten(
    server: AirflowServer, airflow: Airflow, orders_db: dict[str, Any]
) -> None:
    orders_db["extra"] = {"timeout": 3, "token": "abc"}
    with pytest.raises(Refused, match="secrets that Airflow hides"):
        airflow.change_connection("orders_db", {"extra": '{"timeout": 9}'})
    assert orders_db["extra"] == {"timeout": 3, "token": "abc"}
    airflow.change_connection("orders_db", {"host": "db-2"})
    assert orders_db["extra"] == {"timeout": 3, "token": "abc"}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            {"status": True, "message": "Connection tested"},
            ConnectionTest(True, "Connection tested"),
        ),
        (
            {"status": False, "message": "postgresql://etl:hunter2@db-1 refused\n\x1b[31mred"},
            ConnectionTest(False, "postgresql://etl:<redacted:password>@db-1 refused red"),
        ),
        ({"status": False, "message": 'Unknown hook type "sqlite"'}, None),
        (
            {
                "status": False,
                "message": "Hook FSHook doesn't implement or inherit test_connection method",
            },
            None,
        ),
        (None, None),  # not enabled
    ],
)
def test_connection_tests(
    server: AirflowServer,
    airflow: Airflow,
    orders_db: dict[str, Any],
    answer: dict[str, Any] | None,
    found: ConnectionTest | None,
) -> None:
    server.connection_test = answer
    assert airflow.test_connection("orders_db") == found
    # What is left out is taken as stored, so that no secret has to be sent.
    (sent,) = server.sent("POST")
    assert sent.body == {"connection_id": "orders_db", "conn_type": "postgres"}


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_connection_test_that_does_not_work_tells_nothing(
    server: AirflowServer, airflow: Airflow, orders_db: dict[str, Any], status: int
) -> None:
    server.fault("POST .*test", status=status)
    assert airflow.test_connection("orders_db") is None


# ---- variables and pools ----


def test_variables(server: AirflowServer, airflow: Airflow) -> None:
    row = server.add_variable("batch/limit", "10")
    assert airflow.variable("batch/limit").value == "10"
    changed = airflow.change_variable("batch/limit", "20")
    assert (changed.value, changed.masked, row["value"]) == ("20", False, "20")
    (sent,) = server.sent("PATCH")
    assert sent.query == {"update_mask": ["value"]}
    assert sent.body == {"key": "batch/limit", "value": "20"}


def test_a_variable_that_nobody_made_is_made(server: AirflowServer, airflow: Airflow) -> None:
    assert airflow.change_variable("limit", "10").value == "10"
    assert server.variables["limit"]["value"] == "10"
    server.fault("PATCH", status=404, body=b'{"detail":"The Variable was not found"}')
    with pytest.raises(AirflowConflict):
        airflow.change_variable("limit", "20")
    assert server.variables["limit"]["value"] == "10"


def test_a_masked_variable_says_so(server: AirflowServer, airflow: Airflow) -> None:
    server.add_variable("api_password", "hunter2")
    server.add_variable("settings", '{"a":1,"token":"hunter2"}')
    server.add_variable("plain", '{"a":1}')
    assert airflow.variable("api_password").masked
    assert airflow.variable("settings").masked
    plain = airflow.variable("plain")
    assert (plain.value, plain.masked) == ('{"a": 1}', False)
    airflow.change_variable("api_password", "new")
    assert server.variables["api_password"]["value"] == "new"


@pytest.mark.parametrize("include_deferred", [True, False])
def test_a_pool_is_resized_and_nothing_else(
    server: AirflowServer, airflow: Airflow, include_deferred: bool
) -> None:
    server.add_pool("etl", 4, 1, include_deferred=include_deferred)
    server.add_pool("default_pool", 128, 128)
    resized = airflow.resize_pool("etl", 8)
    assert (resized.slots, resized.open, resized.include_deferred) == (8, 5, include_deferred)
    assert airflow.resize_pool("default_pool", 64).slots == 64
    assert airflow.resize_pool("etl", -1).open is None
    assert airflow.pools()["etl"] == airflow.pool("etl")
    assert [request.query for request in server.sent("PATCH")] == [{"update_mask": ["slots"]}] * 3
    with pytest.raises(AirflowAnswer, match="slots"):
        airflow.resize_pool("etl", -5)


# ---- XComs ----


def test_xcoms_of_one_instance(server: AirflowServer, airflow: Airflow) -> None:
    server.add_run("orders", RUN)
    server.add_xcom(("orders", RUN, "load", -1), "return_value", [1, 2])
    server.add_xcom(("orders", RUN, "load", -1), "a/b", None)
    server.add_xcom(("orders", RUN, "part", 0), "return_value", 0)
    server.add_xcom(("orders", RUN, "part", 1), "return_value", {"n": 1})
    assert airflow.xcoms(LOAD) == ("return_value", "a/b")
    assert airflow.xcoms(PART) == ("return_value",)
    assert airflow.xcoms(TaskRef("orders", RUN, "part")) == ()


def test_xcoms_are_deleted_of_one_index(modern: AirflowServer) -> None:
    airflow = gateway(modern)
    modern.add_run("orders", RUN)
    for index in (0, 1):
        modern.add_xcom(("orders", RUN, "part", index), "return_value", {"n": index})
    assert airflow.deletes_xcoms
    airflow.delete_xcom(PART, "return_value")
    airflow.delete_xcom(PART, "return_value")  # gone already
    assert modern.xcoms["orders", RUN, "part", 0] == {"return_value": {"n": 0}}
    assert airflow.xcoms(PART) == ()


def test_an_old_server_deletes_no_xcom() -> None:
    with AirflowServer("3.1.8") as server:
        airflow = gateway(server)
        server.add_xcom(("orders", RUN, "load", -1), "return_value", 1)
        assert not airflow.deletes_xcoms
        with pytest.raises(AirflowAnswer, match="405"):
            airflow.delete_xcom(LOAD, "return_value")
        assert airflow.xcoms(LOAD) == ("return_value",)


# ---- runs ----


def test_a_run_is_triggered_once(server: AirflowServer, airflow: Airflow) -> None:
    server.add_dag("prices", {"get": ()})
    run = airflow.trigger("prices", "aiops__k3f9", {"day": "2026-01-01"}, "for orders.load")
    assert (run.dag_id, run.run_id, run.state, run.note) == (
        "prices", "aiops__k3f9", "queued", "for orders.load",
    )  # fmt: skip
    row = server.runs["prices", "aiops__k3f9"]
    assert row["conf"] == {"day": "2026-01-01"}
    row["state"] = "success"
    again = airflow.trigger("prices", "aiops__k3f9", {"day": "other"})
    assert (again.state, row["conf"]) == ("success", {"day": "2026-01-01"})
    assert server.sent("POST")[0].body == {
        "dag_run_id": "aiops__k3f9",
        "logical_date": None,
        "conf": {"day": "2026-01-01"},
        "note": "for orders.load",
    }
    with pytest.raises(AirflowNotFound):
        airflow.trigger("nope", "aiops__k3f9", {})


def test_asset_events_that_started_a_run(server: AirflowServer, airflow: Airflow) -> None:
    server.add_run("orders", RUN)
    assert airflow.consumed_assets("orders", RUN) == ()
    server.add_asset_event("orders", RUN, "prices_eod", ("prices", "run-7", "get", -1))
    server.add_asset_event("orders", RUN, "fx", ("fx", "run-8", "part", 3))
    (prices, fx) = airflow.consumed_assets("orders", RUN)
    assert prices == AssetEvent(
        "prices_eod", "x-test://prices_eod", prices.when, TaskRef("prices", "run-7", "get")
    )
    assert prices.when
    assert fx.source == TaskRef("fx", "run-8", "part", 3)
    server.asset_events["orders", RUN][0]["source_task_id"] = None
    assert airflow.consumed_assets("orders", RUN)[0].source is None


# ---- marks ----


@pytest.mark.parametrize("state", ["success", "skipped"])
def test_marking_clears_what_it_blocked(
    server: AirflowServer, airflow: Airflow, state: Any
) -> None:
    server.add_dag("orders", {"load": ["publish"], "publish": ["tell"]})
    row = server.add_failure("orders", "load", blocks=["publish", "tell"])
    server.add_failure("orders", "other")
    marked = airflow.mark(LOAD, state, "as agreed")
    assert (marked.ref, marked.state, marked.note) == (LOAD, state, "as agreed")
    assert row["state"] == state
    states = {one.ref.task_id: one.state for one in airflow.run_task_instances("orders", RUN)}
    assert states == {"load": state, "publish": None, "tell": None, "other": "failed"}
    assert airflow.run("orders", RUN).state == "queued"
    (sent,) = server.sent("PATCH")
    assert sent.body == {"new_state": state, "note": "as agreed"}
    assert airflow.mark(LOAD, state, "again").note == "as agreed"
    assert len(server.sent("PATCH")) == 1


def test_a_mapped_instance_is_marked_alone(server: AirflowServer, airflow: Airflow) -> None:
    for index in range(3):
        server.add_failure("orders", "part", map_index=index)
    assert airflow.mark(PART, "skipped").ref == PART
    states = {one.ref.map_index: one.state for one in airflow.run_task_instances("orders", RUN)}
    assert states == {0: "failed", 1: "skipped", 2: "failed"}
    with pytest.raises(AirflowNotFound, match="mapped"):
        airflow.mark(TaskRef("orders", RUN, "part"), "success")
    assert len(server.sent("PATCH")) == 1


def test_somebody_else_marked_it_meanwhile(server: AirflowServer, airflow: Airflow) -> None:
    row = server.add_failure("orders", "load")
    server.fault("PATCH", status=409, body=b'{"detail":"Task id load is already in success state"}')
    with pytest.raises(AirflowConflict):
        airflow.mark(LOAD, "success")
    server.fault("PATCH", status=409, takes_effect=True)
    assert airflow.mark(LOAD, "success").state == row["state"] == "success"


def test_a_note_too_long_is_not_cut_by_a_mark(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load", note="by hand")
    assert airflow.mark(LOAD, "success", "x" * 1001).note == "by hand"


def test_a_run_is_looked_at_again(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load")
    airflow.mark(LOAD, "success")
    assert airflow.run("orders", RUN).state == "failed"  # nothing stood below it
    assert airflow.requeue("orders", RUN).state == "queued"
    (_, sent) = server.sent("PATCH")
    assert sent.body == {"state": "queued"}


# ---- all of them ----

CHANGES: dict[str, Callable[[Airflow], object]] = {
    "change_connection": lambda airflow: airflow.change_connection("orders_db", {"port": 1}),
    "change_variable": lambda airflow: airflow.change_variable("limit", "1"),
    "resize_pool": lambda airflow: airflow.resize_pool("etl", 1),
    "delete_xcom": lambda airflow: airflow.delete_xcom(LOAD, "return_value"),
    "trigger": lambda airflow: airflow.trigger("orders", "r2", {}),
    "mark": lambda airflow: airflow.mark(LOAD, "success"),
    "requeue": lambda airflow: airflow.requeue("orders", RUN),
}


@pytest.fixture
def world(modern: AirflowServer) -> AirflowServer:
    modern.add_failure("orders", "load")
    modern.add_connection("orders_db")
    modern.add_variable("limit", "10")
    modern.add_pool("etl", 4, 4)
    modern.add_xcom(("orders", RUN, "load", -1), "return_value", 1)
    return modern


def changing(server: AirflowServer) -> list[str]:
    return [r.method for r in server.requests if r.method != "GET" and r.path != "/auth/token"]


@pytest.mark.parametrize("change", CHANGES)
def test_who_may_only_read_changes_nothing(world: AirflowServer, change: str) -> None:
    with pytest.raises(Refused, match="read only"):
        CHANGES[change](gateway(world, read_only=True))
    assert changing(world) == []
    with pytest.raises(AirflowForbidden):
        CHANGES[change](gateway(world, world.viewer))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 502, "takes_effect": True},
        {"drop_after": -1},
        {"drop_after": -1, "takes_effect": True},
    ],
    ids=["500", "502", "lost on its way there", "lost on its way back"],
)
def test_an_unclear_answer_is_told_and_never_repeated(
    world: AirflowServer, change: str, fault: dict[str, Any]
) -> None:
    world.fault("(POST|PATCH|DELETE) /api", **fault)
    with pytest.raises(AirflowUnreachable) as caught:
        CHANGES[change](gateway(world))
    assert caught.value.unclear
    assert len(changing(world)) == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda airflow: airflow.connection("nope"),
        lambda airflow: airflow.variable("nope"),
        lambda airflow: airflow.pool("nope"),
        lambda airflow: airflow.change_connection("nope", {"port": 1}),
        lambda airflow: airflow.resize_pool("nope", 1),
        lambda airflow: airflow.consumed_assets("nope", "r"),
        lambda airflow: airflow.mark(TaskRef("nope", "r", "t"), "success"),
        lambda airflow: airflow.connection(".."),
        lambda airflow: airflow.variable("~"),
        lambda airflow: airflow.delete_xcom(TaskRef("orders", "~", "load"), "return_value"),
        lambda airflow: airflow.trigger("~", "r", {}),
        lambda airflow: airflow.trigger("orders", "", {}),
        lambda airflow: airflow.requeue("orders", "~"),
    ],
)
def test_names_that_are_not_there(world: AirflowServer, read: Callable[[Airflow], object]) -> None:
    # A DELETE that finds nothing is content, so it must not be asked for everything.
    with pytest.raises(AirflowNotFound):
        read(gateway(world))
    assert [method for method in changing(world) if method != "PATCH"] == []


ids = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(key=ids, value=st.text(max_size=40))
def test_any_variable_name_and_value_arrive_whole(
    modern: AirflowServer, key: str, value: str
) -> None:
    assume(key not in (".", "..", "~") and "***" not in value)
    modern.variables.clear()
    modern.add_variable(key, "old")
    gateway(modern).change_variable(key, value)
    assert modern.variables[key]["value"] == value


# ---- the local server, measured by the real ones ----

CODES = {403: "airflow_forbidden", 404: "airflow_not_found", 409: "airflow_conflict"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_local_server_answers_as_the_real_one_did(version: str) -> None:
    with AirflowServer(version) as server:
        _as_recorded(server)
        for name, sample in recorded_objects(version).items():
            if name.startswith("connection_test"):
                server.connection_test = None if "disabled" in name else sample["answer"]
            if name == "xcoms":
                _after_the_run(server)
            login = server.user if name == "connection_forbidden" else None
            code, answer = _replayed(server, sample, login)
            expected = (
                "" if sample["status"] < 300 else CODES.get(sample["status"], "airflow_answer")
            )
            assert code == expected, name
            if not code:
                assert shape(answer) == shape(sample["answer"]), name
                for field in {"host", "port", "extra", "password", "value", "slots", "key"} & set(
                    answer or ()
                ):
                    assert answer[field] == sample["answer"][field], (name, field)


def _replayed(
    server: AirflowServer, sample: dict[str, Any], login: tuple[str, str] | None
) -> tuple[str, Any]:
    """The error's code and the answer that a recorded request gets here."""
    method, _, url = sample["request"].partition(" ")
    path, _, query = url.partition("?")
    if "asset_triggered" in path:
        path = path.replace(path.split("/")[6], "asset-run")
    transport = Transport(server.url, Login(*(login or (server.username, server.password))))
    try:
        if method == "GET":
            return "", transport.get(path, "replay", {}, parse_qsl(query))
        sent = sample.get("sent")
        return "", transport.change(method, path, "replay", {}, sent, parse_qsl(query))
    except AirflowError as error:
        return error.code, None


def _as_recorded(server: AirflowServer) -> None:
    server.add_dag("probe_chain", {"third": ["after"]})
    server.add_dag("probe_up", {"make": ()})
    server.add_connection(
        "orders_db",
        conn_type="sqlite",
        host="/tmp/orders.db",
        port=5432,
        schema="public",
        login="etl",
        password="sekret",
        description="orders",
        extra={"timeout": 3, "api_key": "abc"},
    )
    server.add_variable("limit", "10")
    server.add_variable("api_password", "x1")
    server.add_variable("settings", '{"a":1,"token":"t"}')
    server.add_pool("etl", 1, 1, include_deferred=True)
    server.add_pool("default_pool", 128, 128)
    server.add_run("probe_up", "u1")


def _after_the_run(server: AirflowServer) -> None:
    server.add_failure("probe_chain", "third", run_id="r1", blocks=["after"])
    server.add_xcom(("probe_chain", "r1", "first", -1), "return_value", [1, 2])
    server.add_run("probe_down", "asset-run")
    server.add_asset_event("probe_down", "asset-run", "prices", ("probe_up", "u1", "make", -1))
    server.add_failure("probe_sensor", "wait", run_id="s1")
