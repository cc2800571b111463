"""What every Store promises about the circuit breakers of acting alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest

from knowledge.errors import DoorClosed
from knowledge.records import Breaker, Incident, Limits, Outcome, OutcomeName
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    NOW,
    SetClock,
    acted,
    added,
    claimed,
    decision,
    incident,
    opened,
    refused,
    signature,
)

CLOSED = Breaker()
ME = incident(0)
OTHERS = [incident(number) for number in range(1, 9)]
TICK = timedelta(milliseconds=1)


@pytest.fixture(autouse=True)
def seen(store: Store) -> None:
    added(store, ME, *OTHERS)


def act(
    store: Store,
    one: Incident,
    at: datetime,
    outcome: OutcomeName | None,
    action: str = "retry",
) -> int:
    """Act alone now; settled now with this outcome, or not at all. Returns the decision."""
    token = claimed(store, one)
    made = store.open_door(one.id, token, decision(one, "auto", action=action))
    if outcome:
        store.settle(one.id, token, "done", Outcome(one.id, made.seq, at, outcome))
    return made.seq


def of_signature(store: Store) -> Breaker:
    return store.acts_alone(ME.id).signature_breaker


@pytest.mark.parametrize(
    ("outcome", "opens"),
    [
        ("fixed", False),
        ("failed", True),
        ("relapsed", False),  # it did turn green
        ("superseded", False),
        ("unknown", False),
        (None, False),
    ],
)
def test_an_act_that_went_wrong_opens_the_breaker_of_its_signature(
    store: Store, outcome: OutcomeName | None, opens: bool
) -> None:
    act(store, OTHERS[0], NOW, outcome)
    assert of_signature(store) == (Breaker("open", NOW + DAY) if opens else CLOSED)
    assert store.acts_alone(ME.id).breaker == CLOSED


def test_a_change_that_did_not_last_opens_it(store: Store) -> None:
    act(store, OTHERS[0], NOW, "relapsed", "set_variable")
    assert of_signature(store) == Breaker("open", NOW + DAY)


def test_what_people_do_opens_none(store: Store) -> None:
    acted(store, OTHERS[0], "failed")
    store.record(decision(OTHERS[1], "reject"))
    store.call_wrong(OTHERS[0].id, "me", NOW, "harm")
    assert of_signature(store) == CLOSED


def test_it_opens_when_the_end_becomes_known(store: Store, store_clock: SetClock) -> None:
    token = claimed(store, OTHERS[0])
    made = store.open_door(OTHERS[0].id, token, decision(OTHERS[0], "auto", action="set_variable"))
    store_clock.advance(2 * DAY)
    now = store_clock.now()
    store.settle(OTHERS[0].id, token, "done", Outcome(OTHERS[0].id, made.seq, now, "fixed"))
    assert of_signature(store) == CLOSED
    store_clock.advance(HOUR)
    relapse = Outcome(OTHERS[0].id, made.seq, now + HOUR, "relapsed")
    store.add_outcome(relapse)
    assert of_signature(store) == Breaker("open", now + HOUR + DAY)


def test_a_persons_word_opens_it_whatever_airflow_says(store: Store) -> None:
    made = act(store, OTHERS[0], NOW, "fixed")
    store.call_wrong(OTHERS[0].id, "me", NOW, "paid twice")
    store.call_wrong(OTHERS[0].id, "me", NOW + HOUR, "and again")
    store.add_outcome(Outcome(OTHERS[0].id, made, NOW + HOUR, "fixed"))
    assert of_signature(store) == Breaker("open", NOW + DAY)


def test_an_undo_opens_it_whatever_airflow_says(store: Store, store_clock: SetClock) -> None:
    act(store, OTHERS[0], NOW, "fixed", "set_variable")
    store_clock.advance(HOUR)
    no = decision(OTHERS[0], "reject", action="set_variable", at=NOW + HOUR)
    store.record(no)
    assert of_signature(store) == Breaker("open", NOW + HOUR + DAY)
    assert store.acts_alone(ME.id).breaker == CLOSED


def test_an_act_that_failed_and_was_undone_went_wrong_once(store: Store) -> None:
    several = [incident(20 + n, signature=signature(f"E{n}: x")) for n in range(3)]
    added(store, *several)
    for one in several[:2]:
        act(store, one, NOW, "failed")
        store.record(decision(one, "reject", action="retry", at=NOW))
    assert store.acts_alone(ME.id).breaker == CLOSED
    act(store, several[2], NOW, "failed")
    assert store.acts_alone(ME.id).breaker == Breaker("open", NOW + DAY)


def test_an_act_that_was_undone_long_ago_is_not_undone_anew(
    store: Store, store_clock: SetClock
) -> None:
    act(store, OTHERS[0], NOW, "fixed")
    store.record(decision(OTHERS[0], "reject", action="retry", at=NOW))
    store_clock.advance(31 * DAY)
    later = decision(OTHERS[0], "reject", action="retry", at=store_clock.now())
    store.record(later)
    assert of_signature(store) == CLOSED


def test_a_no_to_another_action_opens_none(store: Store) -> None:
    act(store, OTHERS[0], NOW, "fixed")
    store.record(decision(OTHERS[0], "reject", action="set_variable", at=NOW))
    assert of_signature(store) == CLOSED


def test_a_canary_that_was_undone_closes_nothing(store: Store, store_clock: SetClock) -> None:
    now = half_open(store, store_clock)
    act(store, OTHERS[1], now, "fixed")
    assert of_signature(store) == CLOSED
    store.record(decision(OTHERS[1], "reject", action="retry", at=now))
    assert of_signature(store) == Breaker("open", now + DAY)


def test_another_signature_has_a_breaker_of_its_own(store: Store) -> None:
    another = incident(20, signature=signature("Other: x"))
    added(store, another)
    act(store, another, NOW, "failed")
    assert of_signature(store) == CLOSED
    assert store.acts_alone(ME.id).breaker == CLOSED


def test_three_of_any_kind_within_a_day_open_the_breaker_of_all(
    store: Store, store_clock: SetClock
) -> None:
    several = [incident(20 + n, signature=signature(f"E{n}: x")) for n in range(4)]
    added(store, *several)
    act(store, several[0], NOW, "failed")
    act(store, several[1], NOW, "failed")
    store_clock.advance(DAY)
    act(store, several[2], NOW + DAY, "failed")  # the first two are a day old
    assert store.acts_alone(ME.id).breaker == CLOSED
    made = act(store, several[3], NOW + DAY, "fixed")
    store.call_wrong(several[3].id, "me", NOW + DAY, "harm")
    store.add_outcome(Outcome(several[3].id, made, NOW + DAY, "relapsed"))
    assert store.acts_alone(ME.id).breaker == CLOSED  # one act, however often it is told
    act(store, OTHERS[0], NOW + DAY, "failed")
    assert store.acts_alone(ME.id).breaker == Breaker("open", NOW + 2 * DAY)


def half_open(store: Store, clock: SetClock) -> datetime:
    """A breaker whose day is over; returns the time."""
    act(store, OTHERS[0], NOW, "failed")
    clock.advance(DAY - TICK)
    assert of_signature(store).state == "open"
    clock.advance(TICK)
    assert of_signature(store) == Breaker("half open")
    return clock.now()


def test_half_open_is_closed_by_a_canary_that_is_fixed(store: Store, store_clock: SetClock) -> None:
    now = half_open(store, store_clock)
    token, made = opened(store, OTHERS[1], "auto")
    assert of_signature(store) == Breaker("trying")
    store.settle(OTHERS[1].id, token, "done", Outcome(OTHERS[1].id, made.seq, now, "fixed"))
    assert of_signature(store) == CLOSED
    store_clock.advance(5 * DAY)
    assert of_signature(store) == CLOSED
    act(store, OTHERS[2], store_clock.now(), "failed")
    assert of_signature(store).state == "open"


@pytest.mark.parametrize("outcome", ["failed", "unknown", "wrong"])
def test_half_open_is_opened_again_by_a_canary_that_is_not_fixed(
    store: Store, store_clock: SetClock, outcome: OutcomeName | str
) -> None:
    now = half_open(store, store_clock)
    if outcome == "wrong":
        act(store, OTHERS[1], now, "fixed")
        store.call_wrong(OTHERS[1].id, "me", now, "paid twice")
    else:
        act(store, OTHERS[1], now, outcome)  # type: ignore[arg-type]  # all others are outcomes
    assert of_signature(store) == Breaker("open", now + DAY)
    store_clock.advance(DAY)
    assert of_signature(store) == Breaker("half open")


def test_a_canary_that_somebody_else_ran_was_none(store: Store, store_clock: SetClock) -> None:
    now = half_open(store, store_clock)
    act(store, OTHERS[1], now, "superseded")
    assert of_signature(store) == Breaker("half open")
    token, _ = opened(store, OTHERS[2], "auto")
    store.release(OTHERS[2].id, token)  # nothing was done
    assert of_signature(store) == Breaker("half open")


def test_what_was_begun_before_closes_nothing(store: Store, store_clock: SetClock) -> None:
    token, made = opened(store, OTHERS[3], "auto")
    now = half_open(store, store_clock)
    assert of_signature(store) == Breaker("half open")  # the one under way is no canary
    store.settle(OTHERS[3].id, token, "done", Outcome(OTHERS[3].id, made.seq, now, "fixed"))
    assert of_signature(store) == Breaker("half open")


def test_the_breaker_of_all_needs_one_canary_too(store: Store, store_clock: SetClock) -> None:
    for one in OTHERS[:3]:
        act(store, one, NOW, "failed")
    store_clock.advance(DAY)
    canary = incident(20, signature=signature("Other: x"))
    added(store, canary)
    assert store.acts_alone(canary.id).signature_breaker == CLOSED
    assert store.acts_alone(canary.id).breaker == Breaker("half open")
    act(store, canary, store_clock.now(), "failed")  # one is enough now
    assert store.acts_alone(ME.id).breaker == Breaker("open", NOW + 2 * DAY)
    store_clock.advance(DAY)
    act(store, OTHERS[3], store_clock.now(), "fixed")
    assert store.acts_alone(ME.id).breaker == CLOSED


def test_after_a_month_it_is_forgotten(store: Store, store_clock: SetClock) -> None:
    half_open(store, store_clock)
    store_clock.advance(29 * DAY - TICK)
    assert of_signature(store) == Breaker("half open")
    store_clock.advance(TICK)
    assert of_signature(store) == CLOSED


def test_the_door_is_shut_while_it_is_open_and_lets_one_through_then(
    store: Store, store_clock: SetClock
) -> None:
    limits = Limits(99, 99, 9)

    def door(one: Incident) -> None:
        token = claimed(store, one)
        try:
            store.open_door(one.id, token, decision(one, "auto"), limits=limits)
        except DoorClosed:
            store.release(one.id, token)
            raise

    act(store, OTHERS[0], NOW, "failed")
    shut = refused("breaker", partial(door, OTHERS[1]))
    assert "went wrong: not again before" in shut.message
    token = claimed(store, OTHERS[4])
    store.open_door(OTHERS[4].id, token, decision(OTHERS[4]))  # a person may
    store_clock.advance(DAY)
    door(OTHERS[1])
    shut = refused("breaker", partial(door, OTHERS[2]))
    assert "half open: one canary first" in shut.message
    (_, claim) = store.claims(["acting"])
    fixed = Outcome(OTHERS[1].id, claim.decision or 0, store_clock.now(), "fixed")
    store.settle(OTHERS[1].id, claim.token, "done", fixed)
    for one in OTHERS[2:4]:
        door(one)
