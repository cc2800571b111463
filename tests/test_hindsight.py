"""What a grant would have done: each failure judged only by what was known before it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiops_cli import config
from aiops_cli.hindsight import Hindsight, look_back
from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.errors import ModelUnavailable
from knowledge.records import (
    Decision,
    DecisionKind,
    Entry,
    Incident,
    Lesson,
    Limits,
    Outcome,
    OutcomeName,
    Symptom,
    Vouch,
)
from knowledge.stores.memory import MemoryStore
from tests.builders import NOW, entry, grant, incident, signature, vouch
from tests.samples import lesson

DAY = timedelta(days=1)
WIDE = Limits(999, 999, 999)


class Past:
    """A record as it grew, and what is asked of it."""

    def __init__(self) -> None:
        self.at = NOW
        self.store = MemoryStore(lambda: self.at)
        self.knowledge = KnowledgeBase(self.store, BuiltinEmbedder())
        self.settings = config.load(
            cwd=Path("/nonexistent"),
            environ={"AIOPS_USER": "ana", "AIOPS_KB": "sqlite:////nonexistent/kb.db"},
        )
        self.number = 0

    def failed(self, **fields: Any) -> Incident:
        """A failure of now, seen now, of a run of its own."""
        self.number += 1
        own = {"run_id": f"run{self.number}", "ti_id": f"ti-{self.number}"}
        made = incident(**{**own, "failed_at": self.at, "seen_at": self.at, **fields})
        assert self.store.add_incident(made)
        return made

    def decided(
        self,
        one: Incident,
        outcome: OutcomeName | None = "fixed",
        *,
        kind: DecisionKind = "approve",
        action: str = "retry",
        vouches: tuple[Vouch, ...] = (),
    ) -> None:
        """Decided a minute later, known to have ended so after another."""
        self.at += timedelta(minutes=1)
        made = Decision(one.id, kind, self.at, "ana", action)
        if kind in ("reject", "superseded", "shadow") or action == "none":
            self.store.record(made, vouches)
            return
        token = self.store.claim(one.id, one.ti_id, "w", DAY)
        assert token
        made = self.store.open_door(one.id, token, made, vouches=vouches)
        self.at += timedelta(minutes=1)
        if outcome:
            end = Outcome(one.id, made.seq, self.at, outcome)
            self.store.settle(one.id, token, "done", end)

    def known(self, **fields: Any) -> Entry:
        """An entry that answers the failures of `failed`, put when it was created."""
        made = entry(**{"created_at": self.at, **fields})
        self.knowledge.put([made], made.created_at)
        return made

    def learnt(self, created_at: timedelta | None = None) -> Incident:
        """A failure that a person answered with a retry that fixed it, and vouched for."""
        first = self.failed()
        said = vouch(fingerprint=first.signature.fingerprint, at=self.at)
        self.decided(first, vouches=(said,))
        at = self.at if created_at is None else first.seen_at + created_at
        self.known(kind="incident", source=first.id, created_at=at)
        self.at += DAY
        return first

    def look(self, since: timedelta = 30 * DAY, **fields: Any) -> Hindsight:
        made = grant(at=self.at, **fields)
        return look_back(self.knowledge, made, self.settings, self.at - since, lambda *_: None)


@pytest.fixture
def past() -> Past:
    return Past()


def test_nothing_seen_is_nothing_done(past: Past) -> None:
    assert past.look() == Hindsight(NOW - 30 * DAY, 0)


@pytest.mark.parametrize("machines", [(), ("svc-*",)])
def test_what_a_named_machine_ran_again_is_no_evidence_for_a_grant(
    past: Past, machines: tuple[str, ...]
) -> None:
    past.knowledge.machine_logins = machines
    first = past.failed()
    past.store.record(
        Decision(first.id, "superseded", past.at, "aiops"),
        (vouch(fingerprint=first.signature.fingerprint, at=past.at),),
    )
    where = {name: getattr(first, name) for name in ("instance", "dag_id", "run_id", "task_id")}
    own = {"map_index": -1, "try_number": 1, "signature": first.signature, "by": "svc-retry"}
    when = dict.fromkeys(("failed_at", "at", "ended_at", "seen_at"), past.at)
    past.store.add_lessons([lesson(0, **when, **where, **own)])
    past.known(kind="history")
    past.at += 3 * DAY
    past.failed()
    past.at += DAY
    found = past.look(since=2 * DAY)
    assert (len(found.acts), found.left) == ((0, {"evidence": 1}) if machines else (1, {}))


def test_what_was_learnt_later_is_not_known_before(past: Past) -> None:
    first = past.learnt()
    again = past.failed()
    past.decided(again)
    found = past.look()
    assert found.incidents == 2
    assert [act.incident.id for act in found.acts] == [again.id]
    assert found.left == {"similarity": 1}  # the first one was novel
    assert first.id not in {act.incident.id for act in found.acts}


def test_the_end_of_an_act_counts_only_once_it_was_known(past: Past) -> None:
    first = past.learnt(created_at=timedelta(seconds=61))
    early = past.failed(seen_at=first.seen_at + timedelta(seconds=90))
    found = past.look()
    assert found.acts == ()
    assert found.left == {"similarity": 1, "evidence": 1}  # decided by then, not known to be fixed
    assert early.seen_at > first.seen_at


@pytest.mark.parametrize(
    ("kind", "action", "outcome", "then", "ended"),
    [
        ("approve", "retry", "fixed", "same", "fixed"),
        ("approve", "retry", "relapsed", "same", "relapsed"),
        ("approve", "retry", "failed", "same", "failed"),
        ("approve", "retry", None, "same", None),
        ("approve", "none", None, "otherwise", None),
        ("reject", "retry", None, "rejected", "rejected"),
        ("auto", "retry", "fixed", "alone", "fixed"),
        ("superseded", "", None, "by_hand", None),
        ("shadow", "retry", None, "undecided", None),
    ],
)
def test_what_became_of_it_in_truth(
    past: Past, kind: Any, action: str, outcome: Any, then: str, ended: str | None
) -> None:
    past.learnt()
    past.decided(past.failed(), outcome, kind=kind, action=action)
    (act,) = past.look().acts
    assert (act.then, act.outcome) == (then, ended)


def test_harm_is_told(past: Past) -> None:
    past.learnt()
    one = past.failed()
    past.decided(one)
    past.store.call_wrong(one.id, "ana", past.at, "paid twice")
    (act,) = past.look().acts
    assert act.outcome == "wrong"


def test_only_the_grants_dags_and_actions_and_days(past: Past) -> None:
    past.learnt()
    past.failed()
    assert past.look(dags=("sales_*",)).incidents == 0
    found = past.look(actions=("retry_later",))
    assert (found.acts, found.left["action_allowed"]) == ((), 1)
    assert past.look(since=timedelta(0)).incidents == 1


def test_nobody_vouched(past: Past) -> None:
    past.learnt()
    past.failed(task_id="pay")
    assert past.look().left == {"similarity": 1, "rerun_safe": 1}


def test_runs_and_backfills_are_left(past: Past) -> None:
    past.learnt()
    past.failed(kind="run")
    past.failed(context={"run_type": "backfill"})
    past.failed(context={"tags": ["aiops:off"]})
    found = past.look()
    assert found.incidents == 3
    assert found.left == {"similarity": 1, "live_state": 1, "protected": 1}


def test_a_watch_would_have_seen_at_once_what_was_seen_late(past: Past) -> None:
    past.learnt()
    past.failed(failed_at=past.at - DAY)
    assert len(past.look().acts) == 1


def test_the_budget_stops_some(past: Past) -> None:
    past.learnt()
    for _ in range(5):
        past.failed()
        past.at += timedelta(minutes=1)
    found = past.look(max_per_dag_hour=3)
    assert len(found.acts) == 3
    assert found.stopped == {"budget": 2}


def test_a_task_instance_is_tried_once_a_day(past: Past) -> None:
    past.learnt()
    for number in (1, 2):
        past.failed(run_id="one", try_number=number)
        past.at += timedelta(hours=2)
    assert past.look().stopped == {"attempts": 1}


@pytest.mark.parametrize(("kind", "outcome"), [("approve", "failed"), ("reject", None)])
def test_one_that_went_wrong_opens_the_breaker(past: Past, kind: Any, outcome: Any) -> None:
    past.learnt()
    past.decided(past.failed(dag_id="orders_b", context={"tags": ["aiops:rerun-safe"]}))
    past.at += timedelta(hours=2)
    past.decided(past.failed(), outcome, kind=kind)
    past.at += timedelta(hours=2)
    past.failed(dag_id="orders_b", context={"tags": ["aiops:rerun-safe"]})
    found = past.look()
    assert [act.incident.dag_id for act in found.acts] == ["orders_etl"]
    assert found.left == {"similarity": 1, "evidence": 1}  # one of another DAG is not enough
    assert found.stopped == {"breaker": 1}


def test_of_a_storm_one_goes_first(past: Past) -> None:
    past.learnt()
    for number in range(3):
        tagged = {"tags": ["aiops:rerun-safe"]}
        past.failed(task_id=f"t{number}", context=tagged, group="s7storm234")
    found = past.look()
    assert len(found.acts) == 1
    assert found.stopped == {"breaker": 2}


def test_an_entry_that_forbids(past: Past) -> None:
    past.learnt()
    past.failed()
    past.known(id="no", safe_to_retry=False, created_at=NOW - DAY)
    assert past.look().left["rerun_safe"] == 1


SAFE = {"tags": ["aiops:rerun-safe"]}


def learned_from_airflow(past: Past, seen_at: datetime) -> None:
    """In Airflow somebody ran the failure of `Past.failed` again, which ended it."""
    lesson = Lesson(
        *("prod", "orders_etl", "by_hand", "load", -1, 1, NOW, signature(), "person"),
        *(NOW + timedelta(minutes=5), "fixed", seen_at, "retry"),
        ended_at=NOW + timedelta(minutes=9),
    )
    past.store.add_lessons([lesson])


@pytest.mark.parametrize(("known", "acts"), [(True, 1), (False, 0)])
def test_what_airflow_taught_by_then_is_evidence(past: Past, known: bool, acts: int) -> None:
    past.known(kind="history", created_at=NOW)
    past.at = NOW + 2 * DAY
    learned_from_airflow(past, past.at - DAY if known else past.at + DAY)
    past.failed(context=SAFE)
    found = past.look()
    assert len(found.acts) == acts
    assert found.left == ({} if known else {"evidence": 1})


def test_what_airflow_taught_may_have_come_back(past: Past) -> None:
    """As the gate has it: what came back twice within a day speaks against the action."""
    past.known(kind="history", created_at=NOW - DAY)
    learned_from_airflow(past, NOW + timedelta(minutes=10))
    for relapses in ({}, {"evidence": 1}):
        past.at += timedelta(hours=1)
        past.decided(past.failed(context=SAFE), "relapsed")
        found = past.look()
        assert (len(found.acts), found.left) == (1, relapses)


def test_an_answer_that_was_said_again_is_known_since_it_was_first_said(past: Past) -> None:
    past.learnt()
    past.failed()
    past.at += DAY
    past.known(kind="incident", source="again", cause="another cause", created_at=past.at)
    assert len(past.look().acts) == 1


def test_an_answer_that_was_retired_since_is_left_out(past: Past) -> None:
    past.learnt()
    past.failed()
    past.store.retire_entries(["entry-retry"], "ana", past.at, "wrong")
    assert past.look().left == {"similarity": 2}


def test_a_yes_counts_until_its_act_came_back(past: Past) -> None:
    first = past.learnt()
    past.failed()
    past.at += timedelta(hours=1)
    made = past.store.case(first.id).decision
    assert made is not None
    past.store.add_outcome(Outcome(first.id, made.seq, past.at, "relapsed"))
    past.at += timedelta(hours=1)
    past.failed()
    found = past.look()
    assert len(found.acts) == 1
    assert found.left == {"similarity": 1, "rerun_safe": 1}


LONGER = (
    "OperationalError: could not connect to the server at {}: is it running there on port 5432?"
)


def test_what_answers_a_similar_failure_counts(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (signature(LONGER.format(host)) for host in ("db-orders-1", "db-orders-2"))
    past.known(symptoms=(Symptom(one.text, one),), created_at=NOW - DAY)
    past.decided(past.failed(signature=one, context=SAFE))
    past.at += timedelta(hours=1)
    past.failed(signature=other, context=SAFE)
    found = past.look()
    assert [act.incident.signature for act in found.acts] == [other]
    assert (found.left, found.unheard) == ({"evidence": 1}, "")

    def away(_texts: object) -> list[Any]:
        raise ModelUnavailable("nomic", "no answer in 5 s")

    monkeypatch.setattr(past.knowledge.embedder, "embed", away)
    found = past.look()
    assert found.acts == ()
    assert (found.left, found.unheard) == ({"evidence": 1, "similarity": 1}, "no answer in 5 s")


def test_a_failure_without_a_signature_is_like_no_other(past: Past) -> None:
    blank = signature("", fingerprint="")
    past.known(symptoms=(Symptom("", blank),), created_at=NOW - DAY)
    past.failed(signature=blank)
    assert past.look().left == {"similarity": 1}


def test_it_writes_nothing(past: Past) -> None:
    past.learnt()
    past.failed()
    before = past.store.revision(), past.store.cases()
    past.look()
    assert (past.store.revision(), past.store.cases()) == before
