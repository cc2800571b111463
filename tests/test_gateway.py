"""The gateway: recorded answers of both server versions, and its questions and acts on a local
server that behaves like either."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiops_cli.airflow import parse
from aiops_cli.airflow.gateway import Gateway
from aiops_cli.airflow.login import Login
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowAuth,
    AirflowConflict,
    AirflowNotFound,
    AirflowUnreachable,
)
from aiops_cli.incidents import TaskInstance, TaskRef
from aiops_cli.seams import Airflow
from tests.airflow_server import RUN, AirflowServer, exception
from tests.airflow_world import recorded

VERSIONS = ("3.1.8", "3.3.2")
NOW = datetime.now(timezone.utc)
DAY_AGO = NOW - timedelta(days=1)
LOAD = TaskRef("orders", RUN, "load")


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[AirflowServer]:
    with AirflowServer(request.param) as server:
        yield server


@pytest.fixture
def airflow(server: AirflowServer) -> Airflow:
    return open_gateway(server)


class Impatient:
    """A clock that does not wait between attempts."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0


def open_gateway(server: AirflowServer) -> Airflow:
    login = Login(server.username, server.password)
    return Gateway(Transport(server.url, login, clock=Impatient()), "test")


def names(instances: Any) -> list[str]:
    return [str(instance.ref) for instance in instances]


# ---- recorded answers ----


@pytest.fixture(params=VERSIONS)
def samples(request: pytest.FixtureRequest) -> dict[str, Any]:
    return recorded(request.param)


def document(samples: dict[str, Any], name: str) -> Document:
    return Document(samples[name]["answer"], name)


def test_recorded_task_instances(samples: dict[str, Any]) -> None:
    plain = parse.task_instance(document(samples, "task_instance"))
    assert plain.ref == TaskRef("probe_fail", "rec:1+a", "load")
    assert plain.state == "failed"
    assert plain.id
    assert plain.end_date
    assert plain.start_date
    assert plain.end_date.utcoffset() == timedelta(0)
    assert plain.start_date < plain.end_date
    assert plain.operator == "@task"
    assert plain.version == 1
    assert plain.rendered_fields["op_args"] == [1]
    mapped = parse.task_instance(document(samples, "mapped"))
    assert mapped.ref == TaskRef("probe_mapped", "rec:1+a", "part", 1)


def test_recorded_clears(samples: dict[str, Any]) -> None:
    would, did = (
        [parse.task_instance(row) for row in document(samples, name).items("task_instances")]
        for name in ("clear_preview", "clear")
    )
    assert would[0].ref == did[0].ref == TaskRef("probe_fail", "rec:1+a", "load")
    assert (would[0].state, did[0].state) == ("failed", None)
    assert would[0].id != did[0].id
    assert would[0].try_number == did[0].try_number
    assert samples["clear_unknown_task"]["answer"]["task_instances"] == []


def test_recorded_dag_run_tasks_events_health(samples: dict[str, Any]) -> None:
    dag = parse.dag(document(samples, "dag"))
    assert (dag.dag_id, dag.is_paused, dag.version) == ("probe_fail", False, 1)
    assert dag.tags == ("aiops:rerun-safe", "probe")
    assert dag.owners == ("payments",)
    run = parse.dag_run(document(samples, "run"))
    assert (run.run_id, run.run_type, run.version) == ("rec:1+a", "manual", 1)
    tasks = [parse.task(row) for row in document(samples, "tasks").items("tasks")]
    assert {task.task_id: (task.retries, task.downstream) for task in tasks} == {
        "ok": (1, ("load",)),
        "load": (1, ("after",)),
        "after": (0, ()),
    }
    events = [parse.event(row) for row in document(samples, "events").items("event_logs")]
    assert all(event.id and event.event and event.when.tzinfo for event in events)
    assert parse.health(document(samples, "health")).healthy


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("unknown_dag", "The Dag with ID: `nope` was not found"),
        ("unknown_route", "API route not found"),
        ("conflict", "already in success state"),
        ("clear_unknown_field", "body.bogus_field: Extra inputs are not permitted"),
        ("note_too_long", "body.note: String should have at most 1000 characters"),
        ("bad_token", "Invalid JWT token"),
        ("wrong_password", "Invalid credentials"),
    ],
)
def test_recorded_error_bodies(samples: dict[str, Any], name: str, word: str) -> None:
    assert word in parse.error_detail(json.dumps(samples[name]["answer"]).encode())


def test_the_local_server_answers_with_the_recorded_fields(server: AirflowServer) -> None:
    samples = recorded(server.samples["version"]["answer"]["version"])
    server.add_dag("probe_fail", {"load": ["after"]}, tags=["probe"])
    row = server.add_failure("probe_fail", "load", run_id="rec:1+a", blocks=["after"])
    server.add_failure("probe_mapped", "part", run_id="rec:1+a", map_index=1)
    server.add_event("patch_dag", dag_id="probe_fail")
    server.add_run("p_timeout", "r1")
    server.add_dag("p_timeout", {"slow": ()}, tags=["x"])
    server.add_instance("p_timeout", "slow", "skipped", run_id="r1")
    server.add_instance("p_pool", "waits", "running", run_id="r1")
    server.blockers["p_pool", "r1", "waits", -1] = ["no slots"]
    server.add_dag("p_sched", {"long": ()})
    server.add_import_error("broken.py", "Traceback …")
    server.add_asset("prices", ("p_asset", "produce"), ["p_consumer"])
    server.add_pool("empty_pool", 0, 0)
    server.add_event("heartbeat timeout", dag_id="p_lost", task_id="hang")
    server.add_event("patch_connection", extra="{}")
    gateway = Transport(server.url, Login(server.username, server.password))
    compared = 0
    for name, sample in samples.items():
        method, _, path = sample["request"].partition(" ")
        if "answer" not in sample or not path.startswith("/api/v2"):
            continue
        if sample["status"] == 200 and method == "GET":
            path, _, query = path.partition("?")
            pairs = parse_qsl(query, keep_blank_values=True)
            # The path is encoded already, as recorded.
            answer = gateway.get(path, name, {}, pairs)
            assert shape(answer) == shape(sample["answer"]), name
            compared += 1
    assert compared >= 10
    body = {**samples["clear"]["sent"]}
    path = "/api/v2/dags/probe_fail/clearTaskInstances"
    cleared = gateway.change("POST", path, "clear", {}, body)
    assert shape(cleared["task_instances"]) == shape(samples["clear"]["answer"]["task_instances"])
    assert cleared["task_instances"][0]["id"] == row["id"]


def shape(value: Any) -> Any:
    """The names of fields, all the way down the first item of each list."""
    if isinstance(value, dict):
        inner = ("op_args", "templates_dict", "rendered_fields", "default_args", "params")
        return {k: shape(v) if k not in inner else None for k, v in value.items()}
    return shape(value[0]) if isinstance(value, list) and value else None


# ---- tolerance ----


def test_missing_and_unknown_fields_are_tolerated() -> None:
    small = {"dag_id": "d", "dag_run_id": "r", "task_id": "t", "state": "awaiting_moon", "new": 1}
    assert parse.task_instance(Document(small, "row")) == TaskInstance(
        TaskRef("d", "r", "t"), "awaiting_moon", 0, 0
    )
    assert parse.dag(Document({"dag_id": "d"}, "dag")).version is None
    assert parse.task(Document({"task_id": "t"}, "task")).trigger_rule == "all_success"
    run = parse.dag_run(Document({"dag_id": "d", "dag_run_id": "r"}, "run"))
    assert (run.state, run.version) == ("unknown", None)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"dag_id": None}, "row.dag_id is missing"),
        ({"state": 3}, "row.state is a number"),
        ({"try_number": "1"}, "row.try_number is text"),
        ({"try_number": True}, "row.try_number is true or false"),
        ({"try_number": 1.5}, "row.try_number is 1.5"),
        ({"end_date": "yesterday"}, "row.end_date is 'yesterday'"),
        ({"end_date": "2026-13-01T00:00:00Z"}, "row.end_date"),
        ({"dag_version": []}, "row.dag_version is a list"),
        ({"dag_version": {"version_number": {}}}, "row.dag_version.version_number is an object"),
        ({"rendered_fields": "x"}, "row.rendered_fields is text"),
    ],
)
def test_a_wrong_type_names_the_field(changed: dict[str, Any], word: str) -> None:
    row = {**recorded("3.3.2")["task_instance"]["answer"], **changed}
    with pytest.raises(AirflowAnswer, match=re.escape(word)):
        parse.task_instance(Document(row, "row"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIELDS = tuple(recorded("3.3.2")["task_instance"]["answer"])


@unhurried
@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_document_is_parsed_or_refused(changes: dict[str, Any]) -> None:
    row = {**recorded_row, **changes}
    with suppress(AirflowAnswer):
        assert parse.task_instance(Document(row, "row")).ref.task_id == row["task_id"]


recorded_row: dict[str, Any] = recorded("3.3.2")["task_instance"]["answer"]


@unhurried
@given(st.datetimes(timezones=st.just(timezone.utc)), st.sampled_from(["Z", "+00:00", "+0000", ""]))
def test_times_keep_their_moment(moment: datetime, zone: str) -> None:
    text = moment.isoformat().removesuffix("+00:00") + zone
    assert Document({"at": text}, "row").time("at") == moment


@unhurried
@given(st.binary(max_size=400))
def test_any_error_body_gives_text(body: bytes) -> None:
    assert isinstance(parse.error_detail(body), str)


# ---- the server's version ----


@pytest.mark.parametrize("version", ["2.11.0", "3.0.6", "x"])
def test_older_servers_are_refused(version: str) -> None:
    with AirflowServer() as server:
        server.samples["version"]["answer"]["version"] = version
        airflow = open_gateway(server)
        with pytest.raises(AirflowAnswer, match=f"Airflow {version}; aiops needs 3.1"):
            airflow.dag("orders")
        assert [request.path for request in server.requests] == ["/api/v2/version"]


@pytest.mark.parametrize("body", [b"<html><title>404</title>", b'{"detail":"Not Found"}'])
def test_what_is_no_airflow_3_is_told(body: bytes) -> None:
    with AirflowServer() as server:
        server.fault("version", status=404, body=body)
        with pytest.raises(AirflowAnswer, match=f"no Airflow 3 at {server.url}"):
            open_gateway(server).version()


def test_the_version_is_asked_once(server: AirflowServer, airflow: Airflow) -> None:
    assert airflow.version() == airflow.version() == server.samples["version"]["answer"]["version"]
    assert airflow.health().healthy
    assert sum(request.path.endswith("version") for request in server.requests) == 1


def test_unhealthy_parts_are_named(server: AirflowServer, airflow: Airflow) -> None:
    server.health = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "unhealthy"},
        "triggerer": {"status": None},
    }
    assert airflow.health().problems == ("scheduler: unhealthy",)


# ---- failures ----


@pytest.mark.parametrize("page_limit", [100, 30])
def test_no_failure_is_lost_between_pages(
    server: AirflowServer, airflow: Airflow, page_limit: int
) -> None:
    server.page_limit = page_limit
    for number in range(205):
        ended = NOW - timedelta(minutes=number % 200)
        server.add_failure("orders", f"task_{number}", ended=ended)
    found = list(airflow.failed(since=DAY_AGO))
    assert len(found) == len({instance.ref for instance in found}) == 205
    ends = [instance.end_date for instance in found if instance.end_date]
    assert ends == sorted(ends, reverse=True)
    assert len(ends) == 205


def test_a_row_seen_on_two_pages_is_told_once(server: AirflowServer, airflow: Airflow) -> None:
    server.page_limit = 2
    for number in range(6):
        server.add_failure("orders", f"task_{number}", ended=NOW - timedelta(minutes=number))
    found = airflow.failed(since=DAY_AGO)
    first = next(found)
    server.add_failure("orders", "newer", ended=NOW)  # moves every row one place down
    rest = names(found)
    assert sorted([str(first.ref), *rest]) == [f"orders.task_{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, ["orders.load", "orders.part[2]", "Orders_x.load", "other.load"]),
        ({"dag_id": "orders"}, ["orders.load", "orders.part[2]"]),
        ({"dag_id": "o*"}, ["orders.load", "orders.part[2]", "other.load"]),
        ({"dag_id": "*r"}, ["other.load"]),
        ({"dag_id": "*x?"}, []),
        ({"dag_id": "[Oo]rders*"}, ["orders.load", "orders.part[2]", "Orders_x.load"]),
        ({"task_id": "load"}, ["orders.load", "Orders_x.load", "other.load"]),
        ({"task_id": "p*"}, ["orders.part[2]"]),
        ({"run_id": "run+2"}, ["other.load"]),
        ({"run_id": "run"}, []),
        ({"dag_id": "orders", "run_id": RUN, "task_id": "load"}, ["orders.load"]),
    ],
)
def test_failures_are_narrowed(
    server: AirflowServer, airflow: Airflow, wanted: dict[str, Any], expected: list[str]
) -> None:
    server.add_failure("orders", "load", ended=NOW)
    server.add_failure("orders", "part", map_index=2, ended=NOW - timedelta(minutes=1))
    server.add_failure("Orders_x", "load", ended=NOW - timedelta(minutes=2))
    server.add_failure("other", "load", run_id="run+2", ended=NOW - timedelta(minutes=3))
    server.add_failure("orders", "old", ended=NOW - timedelta(days=2))
    server.add_failure("orders", "green", state="success")
    assert names(airflow.failed(since=DAY_AGO, **wanted)) == expected


def test_what_failed_before_is_listed_once_whatever_became_of_it(
    server: AirflowServer, airflow: Airflow
) -> None:
    server.add_failure("orders", "load", ended=NOW)
    server.add_failure("orders", "again", ended=NOW, try_number=3)
    server.add_failure("orders", "healed", ended=NOW, try_number=2, state="success")
    server.add_failure("orders", "at_its_end", ended=NOW, try_number=51)
    server.add_failure("orders", "green", ended=NOW, state="success")
    server.add_failure("orders", "old", ended=DAY_AGO - timedelta(minutes=1))
    server.add_failure("other", "later", ended=NOW + timedelta(minutes=1))
    until = NOW + timedelta(seconds=1)
    found = sorted(names(airflow.troubled(since=DAY_AGO, until=until)))
    assert found == ["orders.again", "orders.at_its_end", "orders.healed", "orders.load"]
    first = airflow.troubled(since=DAY_AGO, until=DAY_AGO + timedelta(days=9), dag_id="ot*")
    assert names(first) == ["other.later"]


@pytest.mark.parametrize("name", ["~", "", ".", ".."])
def test_names_that_would_mean_something_else_are_unknown(
    server: AirflowServer, airflow: Airflow, name: str
) -> None:
    airflow.version()
    server.requests.clear()
    for ask in (
        lambda: airflow.dag(name),
        lambda: airflow.tasks(name),
        lambda: airflow.run("orders", name),
        lambda: airflow.task_instance(TaskRef("orders", RUN, name)),
        lambda: airflow.log(TaskRef(name, RUN, "load"), 1),
        lambda: airflow.clear(name, RUN, ["load"], dry_run=False),
        lambda: airflow.clear("orders", name, ["load"], dry_run=False),
    ):
        with pytest.raises(AirflowNotFound):
            ask()
    assert server.requests == []


def test_an_unknown_dag_is_told(server: AirflowServer, airflow: Airflow) -> None:
    with pytest.raises(AirflowNotFound, match="nope"):
        list(airflow.failed(since=DAY_AGO, dag_id="nope"))


# ---- other questions ----


def test_one_instance_its_run_and_its_dag(server: AirflowServer, airflow: Airflow) -> None:
    server.add_dag("orders", {"load": ["after"]}, tags=["aiops:rerun-safe"], owners=["payments"])
    row = server.add_failure("orders", "load", blocks=["after"], note="look here")
    found = airflow.task_instance(LOAD)
    assert (found.id, found.state, found.note) == (row["id"], "failed", "look here")
    assert airflow.run("orders", RUN).state == "failed"
    assert airflow.dag("orders").tags == ("aiops:rerun-safe",)
    assert airflow.tasks("orders")["load"].downstream == ("after",)
    states = {i.ref.task_id: i.state for i in airflow.run_task_instances("orders", RUN)}
    assert states == {"load": "failed", "after": "upstream_failed"}
    with pytest.raises(AirflowNotFound):
        airflow.task_instance(TaskRef("orders", RUN, "nope"))


def test_a_mapped_instance_is_addressed_by_its_index(
    server: AirflowServer, airflow: Airflow
) -> None:
    for index in (0, 1):
        server.add_failure("orders", "part", map_index=index, note=f"part {index}")
    assert airflow.task_instance(TaskRef("orders", RUN, "part", 1)).note == "part 1"
    assert airflow.tries(TaskRef("orders", RUN, "part", 0))[0].ref.map_index == 0
    with pytest.raises(AirflowNotFound, match="add the map_index"):
        airflow.task_instance(TaskRef("orders", RUN, "part"))


def test_tries_leave_out_the_one_that_waits(server: AirflowServer, airflow: Airflow) -> None:
    row = server.add_failure("orders", "load")
    airflow.clear("orders", RUN, ["load"], dry_run=False)
    assert [(t.try_number, t.state) for t in airflow.tries(LOAD)] == [(1, "failed")]
    server.finish(row)
    tries = [(t.try_number, t.state) for t in airflow.tries(LOAD)]
    assert tries == [(1, "failed"), (2, "success")]


def test_the_newest_run_that_succeeded(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load", run_id="failed")
    assert airflow.newest_success("orders") is None
    for day in ("02", "04", "03"):
        due = f"2026-01-{day}T00:00:00Z"
        server.add_run("orders", f"run{day}", state="success", run_after=due)
    server.add_run("sales", "other", state="success", run_after="2026-01-09T00:00:00Z")
    newest = airflow.newest_success("orders")
    assert newest is not None
    assert (newest.run_id, newest.state) == ("run04", "success")


def test_history_is_the_task_in_other_runs(server: AirflowServer, airflow: Airflow) -> None:
    for day in range(1, 6):
        run_after = f"2026-01-0{day}T00:00:00Z"
        server.add_failure("orders", "load", run_id=f"day_{day}", run_after=run_after)
    server.add_failure("orders", "other", run_id="day_5")
    found = airflow.history("orders", "load", limit=3)
    assert [instance.ref.run_id for instance in found] == ["day_5", "day_4", "day_3"]


def test_events_are_the_newest_oldest_first(server: AirflowServer, airflow: Airflow) -> None:
    for number in range(150):
        when = NOW - timedelta(minutes=150 - number)
        server.add_event("patch_connection", when=when, owner=f"user-{number}")
    server.add_event("failed", when=NOW, dag_id="orders", run_id=RUN, task_id="load", extra="{}")
    assert [event.owner for event in airflow.events(since=DAY_AGO, limit=3)][:2] == [
        "user-148",
        "user-149",
    ]
    everything = airflow.events(since=DAY_AGO, limit=500)
    assert [event.id for event in everything] == list(range(1, 152))
    found = airflow.events(since=DAY_AGO, names=["failed", "heartbeat timeout"], dag_id="orders")
    assert [(event.event, event.task_id) for event in found] == [("failed", "load")]
    early = airflow.events(since=DAY_AGO, until=NOW - timedelta(minutes=149))
    assert [event.owner for event in early] == ["user-0"]


def test_a_log_becomes_an_excerpt(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load", events=[exception("ValueError", "bad row 7")])
    assert "bad row 7" in airflow.log(LOAD, 1).text
    with pytest.raises(AirflowNotFound, match="try 2"):
        airflow.log(LOAD, 2)


def test_a_log_that_breaks_off_is_read_anew(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load", events=[exception("ValueError", "bad row 7")] * 50)
    airflow.version()
    server.fault("GET .*logs", drop_after=80)
    assert "bad row 7" in airflow.log(LOAD, 1).text
    server.fault("GET .*logs", drop_after=80, times=9)
    with pytest.raises(AirflowUnreachable, match=r"send the log of orders\.load"):
        airflow.log(LOAD, 1)


@pytest.mark.parametrize(
    ("ref", "page"),
    [
        (LOAD, f"runs/{RUN.replace(':', '%3A').replace('+', '%2B')}/tasks/load"),
        (TaskRef("orders", "r", "grp.part", 3), "runs/r/tasks/grp.part/mapped/3"),
        (TaskRef("orders", "a b&c", "lädt"), "runs/a%20b%26c/tasks/l%C3%A4dt"),
    ],
)
def test_links_name_the_try(airflow: Airflow, ref: TaskRef, page: str) -> None:
    assert airflow.link(ref, 2) == f"{airflow.url}/dags/orders/{page}?try_number=2"


# ---- acts ----


def test_a_preview_changes_nothing(server: AirflowServer, airflow: Airflow) -> None:
    row = server.add_failure("orders", "load", blocks=["after"])
    before = json.dumps(server.instances["orders", RUN, "load", -1])
    would = airflow.clear("orders", RUN, ["load", "after", "nope"], dry_run=True)
    assert {(i.ref.task_id, i.state, i.try_number) for i in would} == {
        ("load", "failed", 1),
        ("after", "upstream_failed", 0),
    }
    assert json.dumps(row) == before


def test_a_clear_says_all_that_it_means(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load")
    airflow.clear("orders", RUN, ["load", ("part", 3), ("plain", -1)], dry_run=False)
    body = server.sent("POST")[-1].body
    expected = {
        "dry_run": False,
        "dag_run_id": RUN,
        "task_ids": ["load", ["part", 3], "plain"],
        "only_failed": True,
        "include_upstream": False,
        "include_downstream": False,
        "include_future": False,
        "include_past": False,
        "reset_dag_runs": True,
        "run_on_latest_version": True,
    }
    assert body == expected | ({"prevent_running_task": True} if server.modern else {})


def test_a_clear_gives_new_ids_and_spares_the_rest(server: AirflowServer, airflow: Airflow) -> None:
    old = dict(server.add_failure("orders", "load"))
    server.add_failure("orders", "part", map_index=0)
    part = server.add_failure("orders", "part", map_index=1)
    green = server.add_failure("orders", "green", state="success")
    other_run = server.add_failure("orders", "load", run_id="other")
    done = airflow.clear("orders", RUN, ["load", ("part", 1), "green"], dry_run=False)
    assert {(str(i.ref), i.state) for i in done} == {
        ("orders.load", None),
        ("orders.part[1]", None),
    }
    assert airflow.task_instance(LOAD).id not in (None, old["id"])
    assert [row["state"] for row in (part, green, other_run)] == [None, "success", "failed"]
    assert airflow.task_instance(TaskRef("orders", RUN, "part", 0)).state == "failed"
    assert airflow.clear("orders", RUN, ["load"], dry_run=False) == ()  # somebody did already


def test_a_clear_of_any_state_spares_a_running_one(server: AirflowServer, airflow: Airflow) -> None:
    stuck = server.add_failure("orders", "load", state=None)
    assert airflow.clear("orders", RUN, ["load"], dry_run=False) == ()
    done = airflow.clear("orders", RUN, ["load"], dry_run=False, only_failed=False)
    assert [instance.id for instance in done] == [stuck["id"]]
    if server.modern:  # 3.1 has no such guard
        stuck["state"] = "running"
        with pytest.raises(AirflowConflict, match="running"):
            airflow.clear("orders", RUN, ["load"], dry_run=False, only_failed=False)


def test_a_clear_of_nothing_asks_for_nothing(server: AirflowServer, airflow: Airflow) -> None:
    row = server.add_failure("orders", "load")
    assert airflow.clear("orders", RUN, [], dry_run=False) == ()
    assert row["state"] == "failed"
    assert server.requests == []


def test_a_clear_that_met_another_is_a_conflict(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load")
    body = b'{"detail":{"reason":"Unique constraint violation","statement":"hidden"}}'
    server.fault("POST .*clear", status=409, body=body)
    with pytest.raises(AirflowConflict, match="Unique constraint violation"):
        airflow.clear("orders", RUN, ["load"], dry_run=False)


def test_a_clear_that_took_effect_and_answered_500_is_unclear(
    server: AirflowServer, airflow: Airflow
) -> None:
    old = server.add_failure("orders", "load")["id"]
    server.fault("POST .*clear", status=500, takes_effect=True)
    with pytest.raises(AirflowUnreachable) as caught:
        airflow.clear("orders", RUN, ["load"], dry_run=False)
    assert caught.value.unclear
    assert len(server.sent("POST")) == 1
    now = airflow.task_instance(LOAD)  # what the caller does next
    assert (now.state, now.id != old) == (None, True)


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        (None, "retried", "retried"),
        ("mine", "retried", "mine\nretried"),
        ("mine\nretried by aiops", "retried", "mine\nretried by aiops"),
        ("x" * 990, "retried by aiops", "x" * 990 + "\nretried …"),
        ("x" * 998, "retried", "x" * 998),
        ("x" * 1000, "retried", "x" * 1000),
        (None, "y" * 1200, "y" * 999 + "…"),
    ],
)
def test_notes_are_appended_and_kept_whole(
    server: AirflowServer, airflow: Airflow, before: str | None, text: str, after: str
) -> None:
    row = server.add_failure("orders", "part", map_index=1, note=before)
    other = server.add_failure("orders", "part", map_index=0)
    ref = TaskRef("orders", RUN, "part", 1)
    for _ in range(2):  # the second time changes nothing
        airflow.append_note(ref, text)
    assert row["note"] == after
    assert other["note"] is None
    assert len(server.sent("PATCH")) == (after != before)


def test_an_answer_of_the_wrong_shape_is_told(server: AirflowServer, airflow: Airflow) -> None:
    server.add_failure("orders", "load")
    airflow.version()
    for body in (b"[]", b'{"task_instances":{}}', b'{"task_instances":[7]}', b'"x"', b"null"):
        server.fault("taskInstances", status=200, body=body)
        with pytest.raises(AirflowAnswer, match="not what its API promises"):
            list(airflow.failed(since=DAY_AGO))


def test_a_stranger_answering_never_reads_as_all_is_well(
    server: AirflowServer, airflow: Airflow
) -> None:
    server.add_failure("orders", "load")
    airflow.version()
    asks: list[Callable[[], object]] = [
        lambda: list(airflow.failed(since=DAY_AGO)),
        lambda: airflow.task_instance(LOAD),
        lambda: airflow.tries(LOAD),
        lambda: airflow.history("orders", "load"),
        lambda: airflow.run("orders", RUN),
        lambda: airflow.run_task_instances("orders", RUN),
        lambda: airflow.dag("orders"),
        lambda: airflow.tasks("orders"),
        lambda: airflow.events(since=DAY_AGO),
        lambda: airflow.clear("orders", RUN, ["load"], dry_run=True),
        lambda: airflow.append_note(LOAD, "x"),
    ]
    for ask in asks:
        for body in (b"[7]", b"null", b"<html>", b'{"status":"ok"}'):
            server.fault("api/v2/(dags|eventLogs)", status=200, body=body)
            page = body == b"<html>"  # may be somebody's sign-in page
            with pytest.raises(AirflowAuth if page else AirflowAnswer) as caught:
                ask()
            assert caught.value.hint
            server.faults.clear()
