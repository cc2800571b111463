"""Polling: which failures are incidents, what is told of them, and what a pass costs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import capture, context, folding, impact, respond
from aiops_cli.airflow import parse
from aiops_cli.airflow.parse import Document
from aiops_cli.changes import CHANGE_EVENTS, changes
from aiops_cli.context import Snapshot, surroundings
from aiops_cli.errors import AirflowNotFound, Refused
from aiops_cli.incidents import Event, Task
from aiops_cli.published import incident_document, utc
from knowledge.records import Incident
from knowledge.signature import LOST
from tests.airflow_beside import stamp
from tests.airflow_server import RUN, exception
from tests.airflow_world import recorded
from tests.cli import Cli
from tests.desk import REFUSED, Bench, bench

VERSIONS = ("3.1.8", "3.3.2")
BROKEN = """Traceback (most recent call last):
  File "/opt/airflow/dags/nightly/orders.py", line 9, in <module>
    load()
  File "/opt/airflow/dags/nightly/orders.py", line 5, in load
    import warehouse_tools
ModuleNotFoundError: No module named 'warehouse_tools'
"""


@pytest.fixture(params=VERSIONS)
def at(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with bench(request.param) as bench_:
        yield bench_


def now() -> datetime:
    return datetime.now(timezone.utc)


def timed_out(at: Bench, run_id: str = RUN) -> dict[str, object]:
    """A run whose dagrun_timeout cut its task off, as both servers leave it."""
    at.server.add_dag("close", {"slow": ["after"]}, dag_run_timeout="PT8S")
    started = stamp(now() - timedelta(seconds=20))
    run = at.server.add_run("close", run_id, start_date=started)
    at.server.add_instance("close", "slow", "skipped", run_id=run_id, start_date=started)
    at.server.add_instance("close", "after", None, run_id=run_id, start_date=None)
    return run


# ---- runs ----


def test_a_run_that_timed_out_is_an_incident_once(at: Bench) -> None:
    run = timed_out(at)
    (case,) = at.watch()
    doc = incident_document(case)
    assert (doc["kind"], doc["dag_id"], doc["run_id"]) == ("run", "close", RUN)
    assert [doc[key] for key in ("task_id", "map_index", "try_number")] == [None] * 3
    assert doc["error_class"] == "DagRunTimeout"
    assert doc["context"]["cut_off"] == ["slow"]
    assert doc["context"]["timeout"] == 8
    assert "slow" in case.incident.excerpt.text
    assert at.watch() == []
    run |= {"state": "running", "end_date": None}
    (gone,) = at.watch()
    assert gone.status == "superseded"


def test_a_run_that_times_out_again_is_another_incident(at: Bench) -> None:
    run = timed_out(at)
    at.watch()
    run["end_date"] = stamp(now() + timedelta(minutes=1))
    assert sorted(case.status for case in at.watch()) == ["pending", "superseded"]


def test_a_run_without_a_failed_task_is_no_incident_by_that_alone(at: Bench) -> None:
    """Somebody marked the failed task as success: Airflow leaves its run failed."""
    at.server.add_failure("orders", "load")
    at.server.instances["orders", RUN, "load", -1]["state"] = "success"
    at.server.add_failure("long", "early", ended=now() - timedelta(days=3))
    at.server.runs["long", RUN]["end_date"] = stamp(now())
    assert at.watch() == []
    asked = [r for r in at.server.sent("GET") if r.query.get("state") == ["failed", "skipped"]]
    assert len(asked) == 2  # one request for each candidate


def test_a_failed_run_costs_no_request_where_its_task_is_listed(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    at.watch()
    assert not [r for r in at.server.sent("GET") if "skipped" in r.query.get("state", [])]
    assert not [r for r in at.server.sent("GET") if r.path.endswith("/dagRuns/" + RUN)]


# ---- import errors ----


def test_an_import_error_is_an_incident_once_for_each_cause(at: Bench) -> None:
    row = at.server.add_import_error("nightly/orders.py", BROKEN)
    (case,) = at.watch()
    doc = incident_document(case)
    assert doc["kind"] == "import"
    assert {doc[key] for key in ("dag_id", "run_id", "task_id", "map_index")} == {None}
    assert doc["headline"] == "ModuleNotFoundError: No module named 'warehouse_tools'"
    told = {key: doc["context"][key] for key in ("file", "line", "source")}
    assert told == {"file": "nightly/orders.py", "line": 5, "source": "import warehouse_tools"}
    row["timestamp"] = stamp(now())  # parsed again, from another version of the bundle
    row["stack_trace"] = BROKEN.replace("/opt/airflow/dags", "/bundles/4f2a")
    assert at.watch() == []
    row["stack_trace"] = BROKEN.replace("warehouse_tools", "another_module")
    assert sorted(case.status for case in at.watch()) == ["pending", "superseded"]
    at.server.import_errors.clear()
    assert [case.status for case in at.watch()] == ["superseded"]


@pytest.mark.parametrize("name", ["orders", "orders.py", "ord*", "nightly/orders.py"])
def test_a_broken_file_is_found_by_its_name(at: Bench, name: str) -> None:
    """Its DAG may never have been read, so that Airflow knows none of that name."""
    at.server.add_import_error("nightly/orders.py", BROKEN)
    at.server.add_import_error("nightly/other.py", BROKEN)
    snapshot = Snapshot(at.desk.airflow)
    asked: Any = {"since": now(), "instance": "prod"}
    ((_, found),) = capture.failures(snapshot, dag_id=name, **asked)
    assert capture.name_of(found) == "nightly/orders.py"
    with pytest.raises(AirflowNotFound):
        list(capture.failures(snapshot, dag_id="unknown", **asked))


def test_who_may_not_read_import_errors_sees_the_rest(at: Bench) -> None:
    at.server.add_import_error("orders.py", BROKEN)
    at.watch()
    at.server.add_failure("orders", "load", events=[REFUSED])
    at.server.fault("importErrors", times=9, status=403, body=b'{"detail":"Forbidden"}')
    assert [case.incident.kind for case in at.watch()] == ["task"]
    waiting = at.store.cases(status=["pending"])
    assert sorted(case.incident.kind for case in waiting) == ["import", "task"]


@pytest.mark.parametrize(
    ("stack", "line", "source"),
    [
        (BROKEN, 5, "import warehouse_tools"),
        # What the DAG file imports is broken: its own line leads there.
        (BROKEN.replace("orders.py", "x.py", 2).replace("x.py", "orders.py", 1), 9, "load()"),
        (
            '  File "/d/nightly/orders.py", line 3\n    def (:\n        ^\nSyntaxError: no',
            3,
            "def (:",
        ),
        ('  File "/d/lib.py", line 7, in f\nValueError', 7, None),
        # As recorded: a frame of Python's own has no source, and the next follows at once.
        (
            BROKEN.replace(
                "):", '):\n  File "<frozen importlib._bootstrap>", line 241, in call', 1
            ),
            5,
            "import warehouse_tools",
        ),
        (
            '  File "<frozen x>", line 2, in y\n  File "/d/nightly/orders.py", line 3, in z\nE',
            3,
            None,
        ),
        ("Timeout: DagBag import timeout", None, None),
        ("", None, None),
    ],
)
def test_the_offending_line(stack: str, line: int | None, source: str | None) -> None:
    found = capture.offending_line(stack, "nightly/orders.py")
    assert (found["line"], found["source"]) == (line, source)


@given(st.text(), st.text())
def test_no_stack_trace_is_too_odd(stack: str, file: str) -> None:
    capture.offending_line(stack, file)


def test_what_has_no_task_is_never_run_again(at: Bench) -> None:
    at.server.add_import_error("orders.py", BROKEN)
    timed_out(at)
    for case in at.watch():
        assert not case.judgement or not case.judgement.document["gate"]["passed"]
        with pytest.raises(Refused, match="nothing is run again for it"):
            respond.preview(at.desk, case.incident, "retry", {})
    assert at.server.sent("POST") == []


# ---- lost workers ----


def lost(at: Bench, backwards: bool = False, **fields: object) -> None:
    """What both servers write of a worker that was killed, as recorded."""
    samples = recorded(at.server.samples["version"]["answer"]["version"])
    rows = samples["lost_events"]["answer"]["event_logs"]
    for row in reversed(rows) if backwards else rows:
        about = {"dag_id": "orders", "run_id": RUN, "task_id": "load", **fields}
        known = {key: row[key] for key in ("map_index", "try_number", "extra", "owner")}
        ended = now() - timedelta(minutes=5, seconds=1)
        at.server.add_event(row["event"], when=ended, **known | about)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_lost_worker_is_told_from_the_event_log(at: Bench, backwards: bool) -> None:
    """By the row that says most, whichever was written first."""
    handled = exception("ValueError", "handled, and then the machine went away")
    at.server.add_failure("orders", "load", events=[handled])
    lost(at, backwards)
    (case,) = at.watch()
    assert case.incident.signature.error_class == LOST
    assert case.incident.signature.headline.startswith("heartbeat timeout")
    assert "ValueError" in case.incident.excerpt.text
    lines = case.incident.excerpt.text.split("\n")
    assert lines[(case.incident.signature.line or 0) - 1].startswith("heartbeat timeout")


@pytest.mark.parametrize(
    "other", [{"try_number": 2}, {"task_id": "other"}, {"map_index": 3}, {"run_id": "before"}]
)
def test_another_tries_worker_says_nothing_of_this_one(at: Bench, other: dict[str, object]) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    lost(at, False, **other)
    (case,) = at.watch()
    assert case.incident.signature.error_class == "ConnectionRefusedError"


def test_without_the_event_log_the_rest_is_told(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    at.server.fault("eventLogs", times=99, status=403, body=b'{"detail":"Forbidden"}')
    (case,) = at.watch()
    assert case.incident.signature.error_class == "ConnectionRefusedError"
    assert "event log" in case.incident.context["unread"][0]
    around = surroundings(Snapshot(at.desk.airflow), case.incident)
    assert around["changed"] == []


# ---- the budget ----


def test_what_a_pass_costs(at: Bench) -> None:
    """At most 1.2 requests a new failure beside the lists: its log, and its DAG's two."""
    for dag in range(5):
        at.server.add_dag(f"dag{dag}", {f"t{task}": ["end"] for task in range(10)})
        for task in range(10):
            at.server.add_failure(f"dag{dag}", f"t{task}", events=[REFUSED])
    assert len(at.watch()) == 50
    lists = ("/taskInstances", "/dagRuns", "/importErrors", "/eventLogs")
    asked = at.server.sent("GET")
    pages = [r.path for r in asked if r.path.endswith(lists)]
    once = [r.path for r in asked if r.path.endswith(("/version", "/health"))]
    assert len(pages) == 5, pages  # task instances twice: some worker's clock may be behind
    assert len(once) == 2
    assert len(asked) - len(pages) - len(once) <= 1.2 * 50
    before = len(at.server.requests)
    assert at.watch() == []
    assert len(at.server.requests) - before <= 6  # nothing new: lists and health


def test_what_one_incident_costs(at: Bench) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    (failed,) = at.desk.airflow.failed(since=now() - timedelta(days=1))
    before = len(at.server.requests)
    snapshot = Snapshot(at.desk.airflow)
    unread = capture.before_log(snapshot, failed, instance="prod", now=now())
    assert surroundings(snapshot, unread)["history"] == []
    asked = [r.path for r in at.server.requests[before:]]
    assert not [path for path in asked if "/logs/" in path]
    assert len(asked) <= 6


# ---- what surrounds it ----


def shown(at: Bench, incident: Incident) -> dict[str, Any]:
    return {**incident.context, **surroundings(Snapshot(at.desk.airflow), incident)}


def test_the_whole_picture(at: Bench) -> None:
    edges = {"extract": ["load", "audit"], "load": ["publish"], "publish": ["mail"]}
    at.server.add_dag("orders", edges, tags=["aiops:due:06:00", "team"], owners=["payments"])
    for number, state in enumerate(["success", "failed", "success"]):
        past = at.server.add_failure("orders", "load", run_id=f"r{number}", events=[REFUSED])
        past |= {"state": state, "run_after": f"2026-01-0{number + 1}T00:00:00Z"}
    at.server.add_failure(
        "orders", "load", run_id="r9", events=[REFUSED], try_number=2, pool="etl", hostname="w-3"
    )["run_after"] = "2026-02-01T00:00:00Z"
    at.server.runs["orders", "r9"]["run_after"] = "2026-02-01T00:00:00Z"
    row = at.server.instances["orders", "r9", "load", -1]
    at.server.past["orders", "r9", "load", -1] = [{**row, "try_number": 1, "duration": 7.0}]
    at.server.add_asset("prices", ("orders", "publish"), ["reports", "close"])
    at.server.add_asset("other", ("orders", "extract"), ["elsewhere"])
    at.server.deadlines["orders", "r9"] = [datetime(2026, 2, 1, 6, tzinfo=timezone.utc)]
    at.watch()
    (case,) = [case for case in at.store.cases() if case.incident.run_id == "r9"]
    told = shown(at, case.incident)
    assert told["place"] == {"role": "middle", "upstream": 1, "downstream": 2, "parallel": 1}
    assert (told["due"], told["owners"], told["pool"]) == ("06:00", ["payments"], "etl")
    assert told["assets"] == [
        {"name": "prices", "uri": "x-test://prices", "dags": ["reports", "close"]}
    ]
    assert told["earlier"] == ["success", "failed", "success"]
    assert [(t["try_number"], t["duration"]) for t in told["tries"]] == [(1, 7)]
    modern = at.server.modern  # 3.1 does not show deadlines, and is not asked for any
    assert told["deadlines"] == (["2026-02-01T06:00:00.000Z"] if modern else [])
    assert any(r.path.startswith("/ui/") for r in at.server.requests) == modern
    assert told["unread"] == []


def test_only_what_never_ran_because_of_it_is_blocked(at: Bench) -> None:
    """A task of another trigger rule runs all the same."""
    at.server.add_dag("orders", {"load": ["publish", "alert", "pay"], "publish": ["cleanup"]})
    at.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
    at.server.add_instance("orders", "alert", "success")
    at.server.add_instance("orders", "cleanup", "success")
    at.server.add_failure("orders", "pay", events=[REFUSED])
    at.watch()
    (case,) = [case for case in at.store.cases() if case.incident.task_id == "load"]
    told = shown(at, case.incident)
    assert told["blocks"] == ["alert", "cleanup", "pay", "publish"]
    assert told["blocked"] == ["publish"]


def test_what_another_failure_below_blocks_is_not_counted_as_its_own(at: Bench) -> None:
    """As in the plan: it stands still until that one is mended."""
    at.server.add_dag("orders", {"load": ["audit"], "audit": ["publish"]})
    at.server.add_failure("orders", "load", events=[REFUSED])
    at.server.add_failure("orders", "audit", events=[REFUSED], blocks=["publish"])
    at.watch()
    blocked = {c.incident.task_id: shown(at, c.incident)["blocked"] for c in at.store.cases()}
    assert blocked == {"load": [], "audit": ["publish"]}


def test_what_blocks_is_unknown_where_the_run_cannot_be_read(at: Bench) -> None:
    at.server.add_dag("orders", {"load": ["publish"]})
    at.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
    (case,) = at.watch()
    at.server.fault(r"dagRuns/[^~/]+/taskInstances$", times=99, status=500, body=b'{"detail":"no"}')
    told = shown(at, case.incident)
    assert told["blocked"] is None
    assert any("tasks below" in one for one in told["unread"])


def test_what_came_after_the_failure_explains_nothing(at: Bench) -> None:
    """Neither a later run nor an earlier one that was mended meanwhile is its last success."""
    before = now() - timedelta(hours=3)
    ended = [before, before, now(), now()]
    for day, state in enumerate(["success", "failed", "success", "success"], 1):
        past = at.server.add_failure("orders", "load", run_id=f"r{day}", ended=ended[day - 1])
        past |= {"state": state, "run_after": f"2026-01-0{day}T00:00:00Z"}
    late = at.server.add_failure(
        "orders", "load", run_id="late", ended=now() - timedelta(hours=1), events=[REFUSED]
    )
    late["run_after"] = at.server.runs["orders", "late"]["run_after"] = "2026-01-03T12:00:00Z"
    at.server.add_event(
        "patch_connection", when=now() - timedelta(minutes=30), owner="ana", extra='"orders_db"'
    )
    at.watch()
    (case,) = [case for case in at.store.cases() if case.incident.run_id == "late"]
    told = shown(at, case.incident)
    assert told["earlier"] == ["success", "failed", "success"]
    assert told["last_success"] == utc(before)
    assert told["changes"] == []


@pytest.mark.parametrize("status", [403, 404, 500])
def test_what_cannot_be_read_is_left_out(at: Bench, status: int) -> None:
    at.server.add_failure("orders", "load", events=[REFUSED])
    (case,) = at.watch()
    for path in ("assets", "deadlines", "taskInstances$"):
        at.server.fault(path, times=99, status=status, body=b'{"detail":"no"}')
    told = surroundings(Snapshot(at.desk.airflow), case.incident)
    assert (told["assets"], told["history"], told["deadlines"]) == ([], [], [])
    assert bool(told["unread"]) == (status != 404)


def test_places() -> None:
    tasks = {
        name: Task(name, downstream=tuple(below))
        for name, below in {"a": "b", "b": "cd", "c": "", "d": "", "e": "", "f": "f"}.items()
    }
    roles = {name: context.place(tasks, name)["role"] for name in tasks}
    assert roles == {"a": "root", "b": "middle", "c": "leaf", "d": "leaf", "e": "only", "f": "only"}
    assert context.place(tasks, "b") == {
        "role": "middle",
        "upstream": 1,
        "downstream": 2,
        "parallel": 2,
    }


# ---- what changed ----


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_edits_are_told_by_name_and_never_by_value(version: str) -> None:
    rows = Document(recorded(version)["changes"]["answer"], "changes").items("event_logs")
    events = [parse.event(row) for row in rows]
    assert {event.event for event in events} <= set(CHANGE_EVENTS)
    told = [f"{c.kind} {c.name} {c.did} by {c.by}" for e in events for c in changes(e)]
    assert told[:12] == [
        "connection orders_db created by admin",
        "connection orders_db edited by admin",
        "connection orders_db edited by admin",
        "connection orders_db edited by admin",  # in bulk
        "variable v1 created by admin",
        "variable v1 edited by admin",
        "variable v2 created by admin",  # both in one call
        "variable v3 created by admin",
        "variable v2 deleted by admin",
        "variable v1 deleted by admin",
        "pool empty_pool created by admin",
        "pool empty_pool edited by admin",
    ]
    assert "connection cli_db created by root" in told  # by Airflow's command line
    assert "pool cli_pool set by root" in told
    assert not any("hunter2" in line or "?" in line for line in told)


@given(
    st.sampled_from(CHANGE_EVENTS), st.text() | st.from_regex(r'\{"(actions|full_command)": .*\}')
)
def test_no_row_of_the_event_log_is_too_odd(event: str, extra: str) -> None:
    for change in changes(Event(1, now(), event, extra=extra)):
        assert str(change)


def test_of_the_pools_only_the_tasks_own_is_told(at: Bench) -> None:
    day = timedelta(hours=2)
    past = at.server.add_failure("orders", "load", run_id="r0", ended=now() - day)
    past |= {"state": "success", "run_after": "2025-01-01T00:00:00Z"}
    at.server.add_failure("orders", "load", events=[REFUSED], pool="etl")
    for pool in ("etl", "other"):
        extra = f'{{"pool_name": "{pool}", "slots": 0}}'
        at.server.add_event("patch_pool", when=now() - timedelta(hours=1), owner="ana", extra=extra)
    (case,) = at.watch()
    (change,) = shown(at, case.incident)["changes"]
    assert (change["name"], change["did"], change["by"]) == ("etl", "edited", "ana")


# ---- one line for a mapped task ----


@given(st.lists(st.integers(0, 60), min_size=1))
def test_indexes_are_spans(numbers: list[int]) -> None:
    text = folding.indexes(numbers)
    told: set[int] = set()
    for span in text.removesuffix("…").strip(",").split(","):
        first, _, last = span.partition("-")
        told |= set(range(int(first), int(last or first) + 1))
    assert told == set(numbers) if "…" not in text else told < set(numbers)


def test_a_mapped_task_counts_all_its_instances(at: Bench) -> None:
    at.server.add_dag("orders", {"convert": ()})
    for index in range(7):
        at.server.add_failure("orders", "convert", map_index=index, events=[REFUSED])
        if index in (0, 2):
            at.server.instances["orders", RUN, "convert", index]["state"] = "success"
    docs = [incident_document(case) for case in at.watch()]
    assert {doc["context"]["mapped"] for doc in docs} == {7}
    assert len([r for r in at.server.sent("GET") if r.query.get("limit") == ["1"]]) == 1
    (group,) = folding.folded(sorted(docs, key=lambda doc: doc["map_index"]))
    assert folding.name(group, 7) == "orders.convert[1,3-6] 5 of 7"


def test_the_history_in_marks() -> None:
    history = [{"state": state} for state in ("failed", "success", None, "skipped")]
    lines = dict(impact.lines({"history": history}))
    assert lines["BEFORE"].plain == "-?✓✗ in the last 4 runs"
    once = dict(impact.lines({"history": history[:1]}))
    assert once["BEFORE"].plain == "✗ in the last run"


# ---- what is shown before a log is read ----


def test_the_head_of_the_card_does_not_wait_for_the_log(cli: Cli) -> None:
    cli.server.add_dag("orders", {"load": ["publish", "alert"]}, tags=["aiops:due:06:00"])
    cli.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
    cli.server.fault("/logs/", times=99, status=500)
    said = cli.run("diagnose", "orders")
    assert "orders.load  FAILED" in said.out
    assert "due 06:00 · blocks 1: publish" in said.out
    assert "CHANGED" in said.out
    assert "WHAT" not in said.out
    cli.server.faults.clear()
    whole = cli.ok("diagnose", "orders").out
    assert whole.startswith(said.out)
    assert whole.count("due 06:00") == 1
    again = cli.ok("diagnose", "orders").out  # known by now: the same card
    assert again == whole
    assert "due 06:00 · 2 below: alert, publish" in cli.ok("incidents", "show", again[:4]).out
