"""What people did in Airflow's UI about incidents that waited is learned from on a later pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from knowledge.embedders import BuiltinEmbedder
from knowledge.errors import ModelUnavailable
from knowledge.records import Lesson
from tests.desk import REFUSED, Bench, bench
from tests.history import add_clear


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        yield made


def failed(at: Bench, **fields: Any) -> Any:
    row = at.server.add_failure("orders", "load", events=[REFUSED], **fields)
    row["end_date"] = at.clock.now().isoformat()
    at.watch()
    at.clock.advance(minutes=5)
    return row


def cleared(at: Bench, row: Any, by: str = "dba") -> None:
    """Somebody clears it in Airflow's UI."""
    at.desk.airflow.clear("orders", row["dag_run_id"], ["load"], dry_run=False)
    add_clear(at.server, "orders", at.clock.now(), run_id=row["dag_run_id"], by=by)
    at.clock.advance(minutes=1)


def ended(at: Bench, row: Any, state: str = "success") -> None:
    row["start_date"] = at.clock.now().isoformat()
    began = row["start_date"]
    at.finish(row, state, [REFUSED] if state == "failed" else [])
    row["start_date"] = began
    at.clock.advance(minutes=1)
    row["end_date"] = at.clock.now().isoformat()


def lessons(at: Bench) -> tuple[Lesson, ...]:
    return at.store.lessons(at.store.lesson_counts())


@pytest.mark.parametrize(("state", "outcome"), [("success", "fixed"), ("failed", "failed")])
def test_a_persons_clear_is_learned_once_its_try_has_ended(
    at_work: Bench, state: str, outcome: str
) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    (case,) = at_work.watch()
    assert case.status == "superseded"
    assert lessons(at_work) == (), "nobody knows yet what comes of it"
    ended(at_work, row, state)
    at_work.watch()
    (learned,) = lessons(at_work)
    assert learned.incident_id == case.incident.id
    assert (learned.action, learned.mode, learned.by) == ("retry", "person", "dba")
    assert learned.outcome == outcome
    assert learned.signature == case.incident.signature


def test_a_clear_of_the_task_above_is_no_evidence_for_a_re_run_of_this_one(at_work: Bench) -> None:
    at_work.server.add_dag("orders", {"extract": ["load"]})
    row = failed(at_work)
    cleared(at_work, row)
    began = at_work.clock.now().isoformat()
    run = row["dag_run_id"]
    at_work.server.add_instance("orders", "extract", "success", run_id=run, start_date=began)
    at_work.watch()
    ended(at_work, row)
    at_work.watch()
    (learned,) = lessons(at_work)
    assert (learned.outcome, learned.detail) == ("unknown", "a task above it ran anew as well")


def test_it_is_evidence_the_next_time_but_no_word_that_it_may_run_twice(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    ended(at_work, row)
    at_work.watch()
    at_work.clock.advance(days=2)
    failed(at_work, run_id="the next run")
    case = at_work.store.cases(status=["pending"])[0]
    assert case.judgement is not None
    document = case.judgement.document
    assert document["diagnosis"]["action"] == "retry"
    checks = {check["name"]: check["passed"] for check in document["gate"]["checks"]}
    assert checks["evidence"]
    assert not checks["rerun_safe"]
    assert document["decision"] == "ask"


def test_a_mark_is_told_and_is_no_evidence(at_work: Bench) -> None:
    row = failed(at_work)
    row["state"] = "success"
    at_work.server.add_event(
        "patch_task_instance",
        when=at_work.clock.now(),
        owner="dba",
        dag_id="orders",
        run_id=row["dag_run_id"],
        task_id="load",
        extra='{"new_state": "success"}',
    )
    at_work.watch()
    at_work.watch()
    (learned,) = lessons(at_work)
    assert (learned.action, learned.outcome, learned.by) == ("mark_success", "unknown", "dba")
    assert at_work.store.entries(kind="history") == ()


def test_what_another_aiops_did_is_not_learned(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    row["note"] = "[aiops another] retry of try 1 by ben, incident abcdefghij"
    at_work.watch()
    ended(at_work, row)
    at_work.watch()
    assert lessons(at_work) == ()


def test_what_we_did_is_ours(at_work: Bench) -> None:
    from aiops_cli import respond

    row = failed(at_work)
    incident = at_work.only().incident
    respond.act(at_work.desk, incident, action="retry", params={}, by="ana", kind="approve")
    ended(at_work, row)
    at_work.watch()
    at_work.watch()
    assert at_work.only().outcome == "fixed"
    assert lessons(at_work) == ()


def test_nor_is_it_anybody_elses_where_airflow_keeps_no_note(at_work: Bench) -> None:
    """Our own clear was in vain, and somebody ran it once more before anybody looked."""
    from aiops_cli import respond

    row = failed(at_work)
    at_work.server.tasks["orders"]["load"]["retries"] = 1
    incident = at_work.only().incident
    respond.act(at_work.desk, incident, action="retry", params={}, by="ana", kind="approve")
    ended(at_work, row, "failed")
    cleared(at_work, row)
    row["note"] = None
    at_work.watch()
    ended(at_work, row)
    at_work.watch()
    case = at_work.store.case(incident.id)
    assert (case.status, case.decision and case.decision.kind) == ("superseded", "approve")
    at_work.watch()
    assert incident.id not in {one.incident_id for one in lessons(at_work)}


def test_what_is_settled_costs_no_request_any_more(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    ended(at_work, row)
    at_work.watch()
    at_work.watch()
    at_work.server.requests.clear()
    at_work.watch()
    assert not [one for one in at_work.server.sent("GET") if one.path.endswith("/tries")]


def test_what_cannot_be_told_is_not_asked_for_again(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    at_work.server.instances.clear()
    at_work.watch()
    at_work.server.requests.clear()
    at_work.watch()
    assert not [one for one in at_work.server.sent("GET") if "/taskInstances/load" in one.path]
    assert lessons(at_work) == ()


def test_an_answer_that_cannot_be_read_is_left_for_the_next_pass(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    ended(at_work, row)
    at_work.warnings.clear()
    at_work.server.fault("GET .*/tries", status=400, body=b'{"detail":"no"}', times=1)
    at_work.watch()
    assert "not known yet" in at_work.warnings[0]
    assert lessons(at_work) == ()
    at_work.watch()
    assert len(lessons(at_work)) == 1


def test_a_clear_that_never_ends_is_given_up(at_work: Bench) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    at_work.clock.time += timedelta(days=8)
    at_work.server.requests.clear()
    at_work.watch()
    assert not [one for one in at_work.server.sent("GET") if "/taskInstances/load" in one.path]


def test_an_entry_waits_for_an_embedder_that_is_away(
    at_work: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = failed(at_work)
    cleared(at_work, row)
    at_work.watch()
    ended(at_work, row)

    def away(_self: BuiltinEmbedder, _texts: Sequence[str]) -> NoReturn:
        raise ModelUnavailable("the model", "it is away", "wait")

    with monkeypatch.context() as gone:
        gone.setattr(BuiltinEmbedder, "embed", away)
        at_work.watch()
    assert len(lessons(at_work)) == 1
    assert at_work.store.entries(kind="history") == ()
    at_work.watch()
    assert len(at_work.store.entries(kind="history")) == 1
