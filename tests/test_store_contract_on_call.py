"""What every Store promises about what a person does on call: holds, remarks, snoozes, and the
word that an act did harm."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from knowledge.errors import NotFound
from knowledge.records import (
    Harm,
    Hold,
    Incident,
    Outcome,
    Remark,
    Vouch,
    in_force,
)
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    SetClock,
    acted,
    added,
    claimed,
    decision,
    incident,
    opened,
    refused,
)

TICK = timedelta(microseconds=1)


def hold(target: str, **changes: Any) -> Hold:
    """Until it is ended, unless said otherwise."""
    fields: dict[str, Any] = {
        "id": f"hold{target}",
        "instance": "default",
        "by": "ana",
        "at": NOW,
        "reason": "restoring a backup",
    }
    return Hold(target=target, **{**fields, **changes})


# --- holds -------------------------------------------------------------------------------------


def shut(store: Store, one: Incident) -> bool:
    """Whether holds keep the door shut to the tool alone; the claim is given back."""
    token = claimed(store, one)
    alone = decision(one, "auto")
    held = store.holds_on(one.id)
    if held:
        words = refused("protected", lambda: store.open_door(one.id, token, alone))
        assert "ana holds" in words.message
        assert held[0].target in words.message + words.hint
    else:
        store.open_door(one.id, token, alone)
    store.release(one.id, token)
    return bool(held)


@pytest.mark.parametrize(
    ("target", "covered"),
    [
        ("orders_etl", True),
        ("orders_*", True),
        ("*", True),
        ("orders_et?", True),
        ("orders", False),
        ("Orders_etl", False),
        ("orders_[e]tl", False),
        ("t0", False),
        ("", False),
    ],
)
def test_a_hold_on_a_dag_shuts_the_door(store: Store, target: str, covered: bool) -> None:
    added(store, incident())
    assert not shut(store, incident())
    store.add_hold(hold(target))
    assert shut(store, incident()) is covered
    assert store.holds_on(incident().id) == ((hold(target),) if covered else ())


def test_a_bracket_in_a_held_dag_is_a_bracket(store: Store) -> None:
    one = incident(dag_id="orders[1]")
    added(store, one)
    store.add_hold(hold("orders[1]"))
    assert shut(store, one)


def test_a_hold_is_of_one_instance(store: Store) -> None:
    here, there = incident(0), incident(1, instance="prod")
    added(store, here, there)
    store.add_hold(hold("*", instance="prod"))
    assert [shut(store, one) for one in (here, there)] == [False, True]


def test_a_hold_on_an_incident_covers_its_task_instance(store: Store) -> None:
    held = incident(0)
    later = incident(0, try_number=2)
    others = [
        incident(1),
        incident(0, map_index=3, ti_id="uuid-3"),
        incident(0, run_id="manual__1", ti_id="uuid-run"),
        incident(0, dag_id="other", ti_id="uuid-dag"),
        incident(0, instance="prod", ti_id="uuid-prod"),
    ]
    added(store, held, later, *others)
    store.add_hold(hold(held.id))
    assert shut(store, held)
    assert shut(store, later)
    assert [shut(store, one) for one in others] == [False] * len(others)


def test_a_hold_covers_tries_that_come_after_it(store: Store) -> None:
    added(store, incident(0))
    store.add_hold(hold(incident(0).id))
    added(store, incident(0, try_number=2))
    assert shut(store, incident(0, try_number=2))


def test_a_hold_is_no_bar_to_a_person(store: Store) -> None:
    added(store, incident())
    store.add_hold(hold("*"))
    opened(store, incident(), "approve")
    assert store.case(incident().id).status == "acting"


def test_a_hold_is_over_when_its_time_is(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    store.add_hold(hold("*", until=NOW + HOUR))
    assert in_force(store.holds()[0], NOW)
    store_clock.advance(HOUR - TICK)
    assert shut(store, incident())
    store_clock.advance(TICK)
    assert not shut(store, incident())
    assert not in_force(store.holds()[0], NOW + HOUR)
    assert store.holds() == (hold("*", until=NOW + HOUR),)
    with pytest.raises(NotFound):
        store.end_hold("*", "ana", NOW)


def test_holds_are_ended_by_target(store: Store) -> None:
    several = (hold("orders_*"), hold("orders_etl"), hold("orders_*", id="second", by="bob"))
    for one in several:
        store.add_hold(one)
    ended = store.end_hold("orders_*", "eve", NOW + MINUTE)
    first, second = (
        replace(one, ended_at=NOW + MINUTE, ended_by="eve") for one in (several[0], several[2])
    )
    assert ended == (first, second)
    assert store.holds() == (first, several[1], second)
    assert not in_force(first, NOW)
    with pytest.raises(NotFound) as caught:
        store.end_hold("orders_*", "eve", NOW)
    assert "orders_*" in caught.value.message
    assert caught.value.hint


def test_a_hold_is_ended_by_its_id(store: Store) -> None:
    added(store, incident())
    for name in ("aaaa1111", "aaaa2222"):
        store.add_hold(hold("*", id=name))
    for wrong in ("aaa", "aaaa", "bbbb", ""):
        with pytest.raises(NotFound):
            store.end_hold(wrong, "eve", NOW)
    assert [one.id for one in store.end_hold("aaaa1", "eve", NOW)] == ["aaaa1111"]
    assert shut(store, incident())
    # Now that the first is ended, the prefix fits one.
    assert [one.id for one in store.end_hold("aaaa", "eve", NOW)] == ["aaaa2222"]
    assert not shut(store, incident())


def test_holds_on_an_unknown_incident(store: Store) -> None:
    with pytest.raises(NotFound):
        store.holds_on(incident().id)
    store.add_hold(hold(incident().id))
    assert store.holds() == (hold(incident().id),)


# --- remarks and snoozes -----------------------------------------------------------------------


def test_remarks_are_kept_in_order(store: Store) -> None:
    added(store, incident(0), incident(1))
    first = Remark(incident(0).id, "ana", NOW + HOUR, "the vendor is called")
    second = Remark(incident(0).id, "bob", NOW, "\x1b[31m they \ud800 call back")
    store.add_remark(replace(first, incident_id=first.incident_id[:6].upper()))
    store.add_remark(second)
    store.add_remark(Remark(incident(1).id, "ana", NOW, "same here"))
    remarks = store.case(incident(0).id).remarks
    assert remarks[0] == first
    assert (remarks[1].by, remarks[1].at) == ("bob", NOW)
    assert "\x1b[31m they" in remarks[1].text
    assert [len(case.remarks) for case in store.cases()] == [1, 2]
    with pytest.raises(NotFound):
        store.add_remark(Remark(incident(2).id, "ana", NOW, "?"))


def snoozed(store: Store, **filters: Any) -> list[str]:
    return [case.incident.task_id for case in store.cases(**filters)]


def test_a_snooze_is_until_its_time(store: Store, store_clock: SetClock) -> None:
    added(store, incident(0), incident(1))
    store.snooze(incident(0).id[:8], NOW + HOUR, "ana", NOW)
    assert store.case(incident(0).id).snoozed_until == NOW + HOUR
    assert store.case(incident(0).id).status == "pending"
    assert store.case(incident(1).id).snoozed_until is None
    assert snoozed(store) == ["t1", "t0"]
    assert snoozed(store, snoozed=False) == ["t1"]
    assert snoozed(store, snoozed=True) == ["t0"]
    assert snoozed(store, snoozed=True, status=["rejected"]) == []
    store_clock.advance(HOUR - TICK)
    assert snoozed(store, snoozed=True) == ["t0"]
    store_clock.advance(TICK)
    assert snoozed(store, snoozed=False) == ["t1", "t0"]
    assert store.case(incident(0).id).snoozed_until is None


def test_the_newest_snooze_holds(store: Store) -> None:
    added(store, incident())
    for until, shown in (
        (NOW + DAY, NOW + DAY),
        (NOW + HOUR, NOW + HOUR),
        (NOW - HOUR, None),
        (NOW + MINUTE, NOW + MINUTE),
        (NOW, None),
    ):
        store.snooze(incident().id, until, "ana", NOW)
        assert store.case(incident().id).snoozed_until == shown
    with pytest.raises(NotFound):
        store.snooze(incident(1).id, NOW, "ana", NOW)


def test_a_snooze_needs_a_zone(store: Store) -> None:
    added(store, incident())
    with pytest.raises(ValueError, match="without a zone"):
        store.snooze(incident().id, datetime(2025, 1, 1), "ana", NOW)  # noqa: DTZ001 (the point)
    assert store.case(incident().id).snoozed_until is None


# --- harm --------------------------------------------------------------------------------------


def test_an_act_that_did_harm_is_called_wrong(store: Store) -> None:
    added(store, incident(0), incident(1))
    made = acted(store, incident(0), "fixed")
    acted(store, incident(1), "fixed")
    back = Vouch("default", "orders_etl", "t0", None, False, "ana", NOW, "paid twice")
    called = store.call_wrong(incident(0).id[:8], "ana", NOW + HOUR, "paid twice", [back])
    assert called == made
    case = store.case(incident(0).id)
    assert case.harm == Harm(incident(0).id, made.seq, "ana", NOW + HOUR, "paid twice")
    assert (case.status, case.outcome, case.decision) == ("resolved", "fixed", made)
    assert store.case(incident(1).id).harm is None
    assert [one.outcome for one in store.trials()] == ["wrong", "fixed"]
    assert store.vouches("default", "orders_etl", "t0") == (back,)


@pytest.mark.parametrize("outcome", ["fixed", "failed", "relapsed", "superseded", "unknown", None])
def test_wrong_outweighs_every_outcome(store: Store, outcome: Any) -> None:
    added(store, incident())
    made = acted(store, incident(), outcome, "auto")
    store.call_wrong(incident().id, "ana", NOW, "harm")
    store.add_outcome(Outcome(incident().id, made.seq, NOW, "fixed"))
    assert [one.outcome for one in store.trials()] == ["wrong"]


def test_wrong_is_said_of_the_newest_act(store: Store) -> None:
    """Not of a later rejection, nor of an act that was given back."""
    added(store, incident())
    token, first = opened(store, incident())
    row = Outcome(incident().id, first.seq, NOW, "unknown")
    store.settle(incident().id, token, "needs_human", row)
    again = store.claim(incident().id, "uuid-0-1", "ana", HOUR, reopen=True)
    assert again is not None
    second = store.open_door(incident().id, again, decision(incident(), action="mark_success"))
    store.settle(incident().id, again, "done", replace(row, decision=second.seq, outcome="fixed"))
    store.record(decision(incident(), "reject"))
    store.record(decision(incident(), "approve", action="none"))
    assert store.call_wrong(incident().id, "ana", NOW, "harm") == second
    assert [one.outcome for one in store.trials()] == ["unknown", "wrong", "rejected"]


def test_the_newest_word_of_harm_is_shown(store: Store) -> None:
    added(store, incident())
    acted(store, incident())
    for reason in ("paid twice", "paid three times"):
        store.call_wrong(incident().id, "ana", NOW, reason)
    shown = store.case(incident().id).harm
    assert shown is not None
    assert shown.reason == "paid three times"
    assert len(store.trials()) == 1


def test_the_harm_of_an_act_given_back_is_none(store: Store) -> None:
    added(store, incident())
    token, _ = opened(store, incident())
    store.call_wrong(incident().id, "ana", NOW, "harm")
    store.release(incident().id, token)
    assert store.case(incident().id).harm is None
    assert store.trials() == ()


@pytest.mark.parametrize("done", ["nothing", "reject", "shadow", "none", "given back"])
def test_what_did_nothing_did_no_harm(store: Store, done: str) -> None:
    added(store, incident())
    if done == "reject":
        store.record(decision(incident(), "reject"))
    if done == "shadow":
        store.record(decision(incident(), "shadow"))
    if done == "none":
        store.record(decision(incident(), "approve", action="none"))
    if done == "given back":
        token, _ = opened(store, incident())
        store.release(incident().id, token)
    back = Vouch("default", "orders_etl", "t0", None, False, "ana", NOW)
    with pytest.raises(NotFound) as caught:
        store.call_wrong(incident().id, "ana", NOW, "harm", [back])
    assert "nothing was done" in caught.value.message
    assert caught.value.hint
    assert store.vouches("default", "orders_etl", "t0") == ()
