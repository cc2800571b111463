"""What every Store promises about incidents in short."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from knowledge.records import Brief, Excerpt, Judgement, Outcome
from knowledge.stores import Store, sql_briefs
from tests.samples import (
    HOUR,
    LEASE,
    NOW,
    SetClock,
    acted,
    added,
    claimed,
    decision,
    incident,
    lesson,
    opened,
)


def test_a_brief_has_what_its_case_has(store: Store) -> None:
    one = incident(0, context={"duration": 12})
    added(store, one)
    shadow = store.record(decision(one, "shadow", plan={"clears": []}))
    done = acted(store, one, "fixed")
    store.add_outcome(Outcome(one.id, done.seq, NOW + HOUR, "relapsed"))
    store.call_wrong(one.id, "me", NOW, "paid twice")
    assert store.add_lessons([lesson(0), lesson(1)]) == 2
    (brief,) = store.briefs()
    case = store.case(one.id)
    assert brief == Brief(
        incident_id=one.id,
        kind="task",
        instance="default",
        dag_id="orders_etl",
        run_id=one.run_id,
        task_id="t0",
        failed_at=NOW,
        seen_at=one.seen_at,
        fingerprint=one.signature.fingerprint,
        error_class="ConnectionError",
        headline=one.signature.headline,
        duration=12.0,
        claim="done",
        decisions=(replace(shadow, plan={}), replace(done, plan={})),
        outcomes=case.outcomes,
        harms=(case.harm,) if case.harm else (),
        lesson=lesson(0, run_id=one.run_id),
    )
    assert brief.harms
    assert brief.decision == replace(done, plan={})
    assert brief.outcome_of(done) == "relapsed"
    assert brief.outcome_of(shadow) is None


def test_a_brief_has_the_status_of_its_case(store: Store, store_clock: SetClock) -> None:
    several = [incident(number) for number in range(10)]
    added(store, *several)
    acted(store, several[0], "fixed")
    acted(store, several[1], "failed")
    store.record(decision(several[2], "reject"))
    store.record(decision(several[3], "shadow"))
    store.record(decision(several[4], action="none"))
    store.record(decision(several[5], "superseded"))
    opened(store, several[6])
    token, _ = opened(store, several[7])
    store.release(several[7].id, token)
    token, _ = opened(store, several[8])
    store.settle(several[8].id, token, "needs_human")
    claimed(store, several[9])
    expected = ["resolved", "failed", "rejected", "pending", "resolved", "superseded"]
    expected += ["acting", "pending", "needs_human", "acting"]
    assert [one.status for one in store.briefs()] == expected
    store_clock.advance(LEASE * 2)
    assert [one.status for one in store.briefs()] == [*expected[:-1], "pending"]
    assert {one.incident_id: one.status for one in store.briefs()} == {
        case.incident.id: case.status for case in store.cases()
    }
    assert store.briefs()[7].decisions == ()  # given back


def test_they_come_oldest_first_from_a_time_on_and_of_an_instance(store: Store) -> None:
    late = incident(0, failed_at=NOW + HOUR)
    early = incident(1, failed_at=NOW - HOUR)
    same, other = incident(2), incident(3, instance="prod")
    added(store, late, early, same, other)
    assert [one.task_id for one in store.briefs()] == ["t1", "t2", "t3", "t0"]
    assert [one.task_id for one in store.briefs(since=NOW)] == ["t2", "t3", "t0"]
    assert [one.task_id for one in store.briefs(since=NOW + timedelta(microseconds=1))] == ["t0"]
    assert [one.task_id for one in store.briefs(instance="prod")] == ["t3"]
    assert store.briefs(since=NOW, instance="nowhere") == ()


def test_pages_end_where_the_next_begins(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_briefs, "_PAGE", 2)
    added(store, *(incident(number, failed_at=NOW + HOUR * (number // 3)) for number in range(7)))
    acted(store, incident(6, failed_at=NOW + HOUR * 2))
    briefs = store.briefs()
    assert [one.task_id for one in briefs] == [f"t{number}" for number in range(7)]
    assert [len(one.decisions) for one in briefs] == [0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("said", "seconds"), [(3, 3.0), (2.5, 2.5), (None, None), ("soon", None), ([1], None)]
)
def test_a_duration_is_a_number_or_unknown(store: Store, said: Any, seconds: float | None) -> None:
    added(store, incident(0, context={"duration": said}), incident(1, context={}))
    assert [one.duration for one in store.briefs()] == [seconds, None]


def test_no_log_is_held(store: Store) -> None:
    log = "x" * 100_000
    several = [
        incident(number, excerpt=Excerpt(log + str(number), (1,), 1)) for number in range(60)
    ]
    added(store, *several)
    store.add_judgement(Judgement(several[0].id, NOW, {"decision": "ask", "explanation": log}))
    tracemalloc.start()
    try:
        assert len(store.briefs()) == 60
        assert tracemalloc.get_traced_memory()[1] < 20 * len(log)
    finally:
        tracemalloc.stop()
