"""The JSON that other programs are built on: every key, its type, null where absent.

Keys may be added (here, too); a test that fails because one was renamed or retyped is right.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from types import NoneType
from typing import Any

import pytest

from aiops_cli.published import utc
from knowledge.records import STATUSES
from tests.cli import Cli
from tests.desk import REFUSED

OPTIONAL_TEXT = (str, NoneType)
NUMBER = (int, float)

# Of design section 4, with what has been added since. A tuple is "one of these types", a dict
# an object with exactly these keys, a one-element list a list of such things, a set its values.
TIME = "a time"
MATCH = {
    "entry": str,
    "kind": {"runbook", "incident", "history"},
    "title": str,
    "found": {"exact", "near"},
    "similarity": NUMBER,
    "action": OPTIONAL_TEXT,
    "source": str,
    "edited": OPTIONAL_TEXT,
    "cause": str,
}
DIAGNOSIS = {
    "action": OPTIONAL_TEXT,
    "params": dict,
    "cause": str,
    "explanation": str,
    "confidence": (*NUMBER, NoneType),
    "by": {"exact", "near", "model", "nobody"},
    "quotes": [str],
    "opinion": NoneType,
    "entry": OPTIONAL_TEXT,
    "delay_from": OPTIONAL_TEXT,
    "tried": [str],
}
CHECK = {
    "name": str,
    "passed": bool,
    "value": (int, float, str, bool, NoneType),
    "bound": (int, float, str, bool, NoneType),
    "reason": OPTIONAL_TEXT,
}
GATE = {
    "passed": bool,
    "similarity": (*NUMBER, NoneType),
    "reasons": [str],
    "checks": [CHECK],
    "grant": OPTIONAL_TEXT,
    "bound": {
        "value": NUMBER,
        "from": {"embedder", "record", "settings"},
        "outcomes": int,
        "embedder": str,
    },
}
DECIDED = {
    "kind": {"approve", "reject", "auto", "shadow", "superseded"},
    "by": str,
    "at": TIME,
    "action": OPTIONAL_TEXT,
    "params": dict,
    "cause": OPTIONAL_TEXT,
    "reason": OPTIONAL_TEXT,
    "plan": (dict, NoneType),
    "undone": bool,
}
INCIDENT = {
    "incident": str,
    "kind": {"task", "run", "import"},
    "group": OPTIONAL_TEXT,
    "instance": str,
    "dag_id": str,
    "run_id": str,
    "task_id": str,
    "map_index": int,
    "try_number": int,
    "fingerprint": str,
    "error_class": OPTIONAL_TEXT,
    "headline": OPTIONAL_TEXT,
    "raised_from": OPTIONAL_TEXT,
    "place": OPTIONAL_TEXT,
    "matches": [MATCH],
    "diagnosis": DIAGNOSIS,
    "gate": GATE,
    "decision": {"auto", "ask", "novel", "blocked"},
    "evidence": dict.fromkeys(("fixed", "failed", "relapsed", "rejected", "worn"), int)
    | {"scope": str, "contradicted": OPTIONAL_TEXT},
    "rerun": str,
    "status": set(STATUSES),
    "outcome": OPTIONAL_TEXT,
    "failed_at": TIME,
    "seen_at": TIME,
    "signature": str,
    "line": (int, NoneType),
    "context": dict,
    "decided": (dict, NoneType),
    "detail": OPTIONAL_TEXT,
    "group_key": OPTIONAL_TEXT,
    "notes": [{"by": str, "at": TIME, "text": str}],
    "snoozed_until": (str, NoneType),
    "wrong": (dict, NoneType),
}
FAILURE = {
    "instance": str,
    "dag_id": str,
    "run_id": str,
    "task_id": str,
    "map_index": int,
    "try_number": int,
    "max_tries": int,
    "state": {"failed"},
    "operator": OPTIONAL_TEXT,
    "start_date": TIME,
    "end_date": TIME,
    "duration": (int, NoneType),
    "url": str,
}
ENTRY = {
    "entry": str,
    "kind": {"runbook", "incident", "history"},
    "source": str,
    "title": str,
    "symptoms": [str],
    "cause": str,
    "action": OPTIONAL_TEXT,
    "params": dict,
    "explanation": str,
    "safe_to_retry": (bool, NoneType),
    "suggestion_only": bool,
    "dags": [str],
    "tags": [str],
    "edited": OPTIONAL_TEXT,
    "owner": OPTIONAL_TEXT,
    "retired": bool,
    "created_at": TIME,
}
PLAN = {
    "action": str,
    "params": dict,
    "dag_id": str,
    "run_id": str,
    "clears": [
        {
            "task_id": str,
            "map_index": int,
            "state": OPTIONAL_TEXT,
            "try_number": int,
            "role": {"upstream", "task", "downstream"},
        }
    ],
    "extra_tries": int,
    "version_from": (int, NoneType),
    "version_to": (int, NoneType),
    "changes": [
        {
            "kind": {"connection", "variable", "pool", "xcom", "dag run", "state"},
            "name": str,
            "field": str,
            "old": (str, int, dict, NoneType),
            "new": (str, int, dict, NoneType),
        }
    ],
    "after": OPTIONAL_TEXT,
    "no_undo": OPTIONAL_TEXT,
    "told": [str],
}
# All names of the gate's checks, in the order in which they are published.
CHECKS = [
    *("similarity", "margin", "confidence", "evidence", "rerun_safe", "action_allowed"),
    *("protected", "attempts", "budget", "breaker", "live_state"),
]


def fits(value: Any, shape: Any, where: str = "") -> None:
    if shape is TIME:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value), (where, value)
        datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ").astimezone(timezone.utc)
    elif isinstance(shape, dict):
        assert isinstance(value, dict), where
        assert set(value) == set(shape), where
        for name, part in shape.items():
            fits(value[name], part, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        for number, item in enumerate(value):
            fits(item, shape[0], f"{where}[{number}]")
    elif isinstance(shape, set):
        assert value in shape, (where, value)
    else:
        types = shape if isinstance(shape, tuple) else (shape,)
        assert type(value) in types, (where, value)  # a bool is no int here


def known(cli: Cli) -> None:
    texts = ("--title=Restart", "--cause=nightly", "--action=retry", "--safe-to-retry")
    cli.ok("kb", "add", "--error", "ConnectionRefusedError: [Errno 111] Connection refused", *texts)


def test_the_shapes_would_notice() -> None:
    """A key too few or too many, another type or a local time must fail."""
    for value, shape in (
        ({"a": 1}, {"a": str}),
        ({}, {"a": str}),
        ({"a": "", "b": ""}, {"a": str}),
        (True, int),
        ([1], [str]),
        ("x", {"y"}),
        ("2026-03-01T03:04:05.000+01:00", TIME),
    ):
        with pytest.raises(AssertionError):
            fits(value, shape)


@pytest.mark.parametrize("answer", [True, False], ids=["known", "novel"])
def test_diagnose(cli: Cli, answer: bool) -> None:
    if answer:
        known(cli)
    cli.two_failures()
    said = cli.ok("diagnose", "--json").json
    assert list(said) == ["incidents"]
    for document in said["incidents"]:
        fits(document, INCIDENT)
        assert [check["name"] for check in document["gate"]["checks"]] == CHECKS
        assert document["decided"] is document["outcome"] is None
    one = cli.ok("diagnose", "orders", "--json").json["incidents"][0]
    fits(cli.ok("diagnose", one["incident"], "--json").json, INCIDENT)
    assert one["diagnosis"]["by"] == ("exact" if answer else "nobody")
    assert one["diagnosis"]["confidence"] == (1.0 if answer else None)
    assert one["gate"]["similarity"] == (1.0 if answer else None)


def test_the_identity_of_an_incident(cli: Cli) -> None:
    cli.server.add_failure("orders", "count", run_id="manual__1", map_index=3, try_number=2)
    (document,) = cli.ok("diagnose", "--json").json["incidents"]
    key = ("instance", "dag_id", "run_id", "task_id", "map_index", "try_number")
    assert [document[name] for name in key] == ["default", "orders", "manual__1", "count", 3, 2]
    assert re.fullmatch(r"[a-z2-7]{10}", document["incident"])


def test_a_log_file(cli: Cli) -> None:
    """Of an incident that Airflow knows nothing of, its names are null."""
    known(cli)
    log = "ConnectionRefusedError: [Errno 111] Connection refused\n"
    document = cli.ok("diagnose", "--log", "-", "--json", stdin=log).json
    absent = ("incident", "instance", "dag_id", "run_id", "task_id", "map_index", "try_number")
    assert {document[name] for name in (*absent, "status")} == {None}
    names = dict.fromkeys((*absent, "status"), NoneType)
    fits(document, INCIDENT | names)


def test_incidents_in_every_state(cli: Cli) -> None:
    cli.mended()
    rejected = cli.capture("rejected", events=[REFUSED])
    cli.ok("reject", rejected, "--reason", "no")
    row = cli.server.add_failure("gone", "load", events=[REFUSED])
    cli.ok("watch", "--once")
    row |= {"id": "another", "state": "success", "try_number": 2}
    cli.ok("watch", "--once")
    acting = cli.capture("acting", events=[REFUSED])
    cli.ok("approve", acting, "--action", "retry", "--yes")
    cli.capture("waits", events=[REFUSED])
    said = cli.ok("incidents", "--json").json
    assert list(said) == ["incidents"]
    by_status = {document["status"]: document for document in said["incidents"]}
    assert set(by_status) == {"resolved", "rejected", "superseded", "acting", "pending"}
    for document in by_status.values():
        fits(document, INCIDENT)
        if document["decided"] is not None:
            fits(document["decided"], DECIDED)
    assert by_status["resolved"]["outcome"] == "fixed"
    fits(by_status["resolved"]["decided"]["plan"], PLAN)
    assert by_status["superseded"]["decided"]["kind"] == "superseded"
    assert by_status["pending"]["decided"] is None
    for document in by_status.values():
        shown = cli.ok("incidents", "show", document["incident"], "--json").json
        for event in shown.pop("story"):  # only of one that is shown whole
            fits(event, {"at": str, "what": str})
        assert shown == document


def test_watch_prints_one_incident_a_line(cli: Cli) -> None:
    cli.two_failures()
    lines = cli.ok("watch", "--once", "--json").lines
    assert len(lines) == 2
    for document in lines:
        fits(document, INCIDENT)
        shown = cli.ok("incidents", "show", document["incident"], "--json").json
        assert shown.pop("story")
        assert document == shown


def test_failures(cli: Cli) -> None:
    cli.two_failures()
    said = cli.ok("failures", "--json").json
    assert list(said) == ["failures"]
    assert len(said["failures"]) == 2
    for document in said["failures"]:
        fits(document, FAILURE)
        assert document["duration"] == 3  # whole seconds


def test_entries(cli: Cli) -> None:
    known(cli)
    said = cli.ok("kb", "list", "--json").json
    assert list(said) == ["entries"]
    fits(said, {"entries": [ENTRY]})
    found = cli.ok("kb", "search", "ConnectionRefusedError: [Errno 111]", "--json").json
    assert len(found["entries"]) == 1
    fits(found, {"entries": [ENTRY | {"similarity": NUMBER, "found": {"exact", "near"}}]})


def test_a_plan(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
    (new,) = cli.ok("watch", "--once", "--json").lines
    plan = cli.ok("approve", new["incident"], "--action=retry", "--dry-run", "--json").json
    fits(plan, PLAN)
    assert [item["role"] for item in plan["clears"]] == ["task", "downstream"]


@pytest.mark.parametrize(
    "args",
    [
        ["incidents", "show", "zzzz"],
        ["incidents", "--status", "dance"],
        ["failures", "--since", "soon"],
        ["diagnose", "no_such_dag"],
        ["dance"],
    ],
)
def test_an_error_is_one_object(cli: Cli, args: list[str]) -> None:
    said = cli.run(*args, "--json")
    assert said.code in (2, 3)
    fits(said.json, {"error": {"code": str, "message": str, "hint": str}})
    assert re.fullmatch(r"[a-z_]+", said.json["error"]["code"])
    assert said.err.startswith("error: ")  # for whoever reads along


def test_times_are_utc_with_z_whatever_the_zone() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert utc(datetime(2026, 3, 1, 8, 34, 5, 1999, tzinfo=east)) == "2026-03-01T03:04:05.001Z"
    assert utc(None) is None
