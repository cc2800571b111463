"""What every Store promises about what a judgement rests on: when it has changed, and what the
tool did alone lately."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from knowledge.errors import DoorClosed, NotFound
from knowledge.records import (
    ActsAlone,
    Breaker,
    Grant,
    Hold,
    Incident,
    Judgement,
    Limits,
    Outcome,
    Pause,
    Remark,
    Vouch,
)
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    LEASE,
    NOW,
    SPACE,
    SetClock,
    acted,
    added,
    claimed,
    decision,
    embedded,
    incident,
    lesson,
    opened,
    refused,
    unit,
)

TICK = timedelta(microseconds=1)

# --- whether anything changed --------------------------------------------------------------------


def test_each_change_of_what_judgements_rest_on_is_a_new_revision(store: Store) -> None:
    added(store, incident(0), incident(1), incident(2))
    entry = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    changed = embedded("entry-a", ("A: x", unit(1, 0, 0)), cause="another")
    vouch = Vouch("default", "orders_etl", "t0", None, True, "me", NOW)
    earlier, _ = opened(store, incident(0), "auto")
    seen = [store.revision()]

    def past_the_door() -> None:
        store.open_door(incident(1).id, token, decision(incident(1)))

    def outcome() -> None:
        seq = store.case(incident(1).id).decision
        assert seq is not None
        row = Outcome(incident(1).id, seq.seq, NOW, "fixed")
        store.settle(incident(1).id, token, "done", row)

    token = claimed(store, incident(1))
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.put_entries([entry], SPACE, NOW),
        lambda: store.put_entries([changed], SPACE, NOW),
        lambda: store.retire_entries(["entry-a"], "me", NOW, "stale"),
        lambda: store.put_entries([entry], SPACE, NOW),
        lambda: store.retire_entries(["entry-a"], "me", NOW, "stale"),
        past_the_door,
        outcome,
        lambda: store.release(incident(0).id, earlier),  # voids one that is not the newest
        lambda: store.call_wrong(incident(1).id, "me", NOW, "paid twice"),
        lambda: store.call_wrong(incident(1).id, "me", NOW, "paid twice", [vouch]),
        lambda: store.record(decision(incident(2), "shadow")),
        lambda: store.record(decision(incident(2), "reject"), [vouch]),
        lambda: store.take_back(incident(2).id, "me", NOW),
        lambda: store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW)),
        lambda: store.revoke_grant("grantone", "me", NOW),
        lambda: store.set_pause(Pause(True, "me", NOW)),
        lambda: store.set_pause(Pause(True, "me", NOW)),
        lambda: store.set_pause(Pause(False, "me", NOW)),
        lambda: store.add_hold(Hold("holdone", "default", "*", "me", NOW)),
        lambda: store.add_hold(Hold("holdtwo", "default", "*", "me", NOW)),
        lambda: store.end_hold("holdone", "me", NOW),
        lambda: store.end_hold("*", "me", NOW),
        lambda: store.add_lessons([lesson()]),
    )
    for number, change in enumerate(changes):
        change()
        assert store.revision() not in seen, number
        seen.append(store.revision())


def test_nothing_else_is_a_new_revision(store: Store, store_clock: SetClock) -> None:
    entry = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    store.put_entries([entry], SPACE, NOW)
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW, until=NOW + HOUR))
    store.revoke_grant("grantone", "me", NOW)
    store.add_hold(Hold("holdone", "default", "other", "me", NOW, until=NOW + HOUR))
    added(store, incident(0))
    token, _ = opened(store, incident(0))
    before = store.revision()

    store.put_entries([entry], SPACE, NOW)  # the same again
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    store.revoke_grant("grantone", "me", NOW)
    store.bind_instance("prod", "https://airflow.example")
    store.set_watermark("default", NOW)
    store.set_mark("starter", "1")
    added(store, incident(1))
    store.add_judgement(Judgement(incident(1).id, NOW, {"decision": "ask"}))
    store.add_remark(Remark(incident(1).id, "me", NOW, "asked the vendor"))
    store.snooze(incident(1).id, NOW + HOUR, "me", NOW)
    store.release(incident(1).id, claimed(store, incident(1)))
    claimed(store, incident(1))
    refused("claim", lambda: store.record(decision(incident(1), "reject")))
    token = store.retake(incident(0).id, token, LEASE) or 0
    store.progress(incident(0).id, token, {"cleared": ["a"]})
    store.settle(incident(0).id, token, "needs_human")
    store_clock.advance(DAY)
    with pytest.raises(NotFound):
        store.end_hold("holdone", "me", NOW)
    assert store.revision() == before


# --- what the tool did alone lately --------------------------------------------------------------


def test_acts_alone_are_counted_by_task_instance_dag_and_hour(
    store: Store, store_clock: SetClock
) -> None:
    me = incident(try_number=2)
    earlier, mapped = incident(), incident(map_index=3, ti_id="m")
    run, task = incident(run_id="next", ti_id="r"), incident(7)
    dag, elsewhere = incident(dag_id="other", ti_id="d"), incident(instance="prod", ti_id="e")
    added(store, me, earlier, mapped, run, task, dag, elsewhere)
    assert store.acts_alone(me.id) == ActsAlone()
    for number, one in enumerate((earlier, mapped, run, task, dag, elsewhere), start=1):
        acted(store, one, kind="auto")
        assert store.acts_alone(me.id[:7]).hour == number
    assert store.acts_alone(me.id) == ActsAlone(task_instance_day=1, hour=6, dag_hour=4)
    assert store.acts_alone(dag.id) == ActsAlone(task_instance_day=0, hour=5, dag_hour=0)
    store_clock.advance(HOUR - TICK)
    assert store.acts_alone(me.id) == ActsAlone(task_instance_day=1, hour=6, dag_hour=4)
    store_clock.advance(TICK)
    assert store.acts_alone(me.id) == ActsAlone(task_instance_day=1)
    store_clock.advance(DAY - HOUR - TICK)
    assert store.acts_alone(me.id) == ActsAlone(task_instance_day=1)
    store_clock.advance(TICK)
    assert store.acts_alone(me.id) == ActsAlone()


def test_only_standing_acts_of_the_tool_on_others_are_counted(store: Store) -> None:
    me = incident()
    next_try = incident(try_number=2)
    person, shadow, rejected, given_back = (incident(number) for number in (1, 2, 3, 4))
    added(store, me, next_try, person, shadow, rejected, given_back)
    acted(store, me, "failed", kind="auto")
    acted(store, person, "failed")
    store.record(decision(shadow, "shadow"))
    store.record(decision(rejected, "reject"))
    token, _ = opened(store, given_back, "auto")
    assert store.acts_alone(me.id) == ActsAlone(hour=1, dag_hour=1)
    store.call_wrong(given_back.id, "me", NOW, "harm")
    store.release(given_back.id, token)
    assert store.acts_alone(me.id) == ActsAlone()
    assert store.acts_alone(next_try.id) == ActsAlone(1, 1, 1, Breaker("open", NOW + DAY))
    with pytest.raises(NotFound):
        store.acts_alone("nothing")


def test_the_others_of_its_storm_are_counted(store: Store, store_clock: SetClock) -> None:
    group: dict[str, Any] = {"group": "s7storm234", "group_key": "db"}
    me, one, two, three, four = (incident(number, **group) for number in range(5))
    stranger = incident(5, group="s7other678", group_key="x")
    alone = incident(6)
    added(store, me, one, two, three, four, stranger, alone)
    for other in (stranger, alone):
        acted(store, other, "failed", kind="auto")

    def storm() -> tuple[int, int, int]:
        found = store.acts_alone(me.id)
        return found.storm_running, found.storm_fixed, found.storm_failed

    assert storm() == (0, 0, 0)
    acted(store, one)  # a person's
    assert storm() == (0, 0, 0)
    token, made = opened(store, two, "auto")
    assert storm() == (1, 0, 0)
    store.settle(two.id, token, "done", Outcome(two.id, made.seq, NOW, "fixed"))
    assert storm() == (0, 1, 0)
    acted(store, three, "superseded", kind="auto")
    assert storm() == (0, 1, 0)
    token, _ = opened(store, four, "auto")
    store_clock.advance(2 * DAY)
    assert storm() == (1, 1, 0), "a storm has no end of its day"
    store.release(four.id, token)
    assert storm() == (0, 1, 0)
    store.record(decision(three, "reject", action="retry"))
    assert storm() == (0, 1, 1), "a person undid it"
    store.add_outcome(Outcome(two.id, made.seq, NOW, "relapsed"))
    assert storm() == (0, 0, 2)
    assert store.acts_alone(alone.id).storm_failed == 0


@pytest.mark.parametrize("outcome", ["failed", "relapsed", "unknown", "harm"])
def test_after_a_canary_that_did_not_end_well_the_door_is_shut(store: Store, outcome: Any) -> None:
    group: dict[str, Any] = {"group": "s7storm234", "group_key": "db"}
    me, canary = incident(0, **group), incident(1, **group)
    added(store, me, canary)
    acted(store, canary, "fixed" if outcome == "harm" else outcome, kind="auto")
    if outcome == "harm":
        store.call_wrong(canary.id, "me", NOW, "paid twice")
    token = store.claim(me.id, me.ti_id, "w", LEASE)
    assert token
    wanted = decision(me, "auto")
    shut = refused("breaker", lambda: store.open_door(me.id, token, wanted, limits=Limits(9, 9, 9)))
    assert "did not end well" in shut.message
    opened_by_a_person = store.open_door(me.id, token, decision(me))
    assert opened_by_a_person.seq


def test_of_a_storm_one_goes_first_and_then_so_many_at_a_time(store: Store) -> None:
    group: dict[str, Any] = {"group": "s7storm234", "group_key": "db"}
    several = [incident(number, **group) for number in range(5)]
    added(store, *several)
    limits = Limits(99, 99, 9, per_storm=2)

    def try_door(one: Incident) -> str:
        token = store.claim(one.id, one.ti_id, "w", LEASE)
        assert token
        try:
            store.open_door(one.id, token, decision(one, "auto"), limits=limits)
        except DoorClosed as shut:
            store.release(one.id, token)
            return shut.message
        return "open"

    assert try_door(several[0]) == "open"
    assert "tried first" in try_door(several[1])
    (claim,) = store.claims(["acting"])
    fixed = Outcome(several[0].id, claim.decision or 0, NOW, "fixed")
    store.settle(several[0].id, claim.token, "done", fixed)
    assert [try_door(one) for one in several[1:4]] == [
        "open",
        "open",
        "2 of this storm run again already",
    ]
