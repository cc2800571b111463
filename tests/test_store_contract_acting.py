"""What every Store promises about acting: claims, the door, and what is past it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from knowledge.errors import (
    DoorClosed,
    NotFound,
)
from knowledge.records import (
    Case,
    Claim,
    Grant,
    Incident,
    Limits,
    Outcome,
    OutcomeName,
    Pause,
    Status,
    Vouch,
)
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    LEASE,
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

WIDE = Limits(per_hour=100, per_dag_hour=100, per_task_instance_day=100)


# --- claims ------------------------------------------------------------------------------------


def test_a_claim_is_held_by_one(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    token = claimed(store, incident())
    assert store.claim(incident().id, "uuid-0-1", "w2", LEASE) is None
    held = Claim(incident().id, "claimed", token, "w1", NOW + LEASE, "uuid-0-1")
    assert store.claims(["claimed"]) == (held,)
    assert store.case(incident().id).claim == held
    assert store.case(incident().id).status == "acting"


def test_a_claim_is_taken_over_only_after_its_lease(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    token = claimed(store, incident())
    store_clock.advance(LEASE - timedelta(microseconds=1))
    assert store.claim(incident().id, "uuid-0-1", "w2", LEASE) is None
    store_clock.advance(timedelta(microseconds=1))
    second = store.claim(incident().id, "uuid-0-1", "w2", LEASE)
    assert second is not None
    assert second > token
    refused("claim", lambda: store.open_door(incident().id, token, decision(incident())))
    assert store.open_door(incident().id, second, decision(incident())).seq > 0


def test_a_lapsed_claim_is_none_and_its_incident_waits_again(
    store: Store, store_clock: SetClock
) -> None:
    added(store, incident())
    token = claimed(store, incident())
    store_clock.advance(LEASE)
    assert store.case(incident().id) == Case(incident(), "pending")
    assert len(store.cases(status=["pending"])) == 1
    assert [one.token for one in store.claims(["claimed"])] == [token]


def test_a_late_owner_may_pass_while_nobody_took_over(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    token = claimed(store, incident())
    store_clock.advance(10 * LEASE)
    store.open_door(incident().id, token, decision(incident()))
    assert store.case(incident().id).status == "acting"


def test_what_is_past_the_door_is_never_claimed_again(store: Store, store_clock: SetClock) -> None:
    for number, state in enumerate(("acting", "done", "needs_human")):
        one = incident(number)
        added(store, one)
        token, _ = opened(store, one)
        if state != "acting":
            store.settle(one.id, token, state)  # type: ignore[arg-type]
        store_clock.advance(DAY)
        assert store.claim(one.id, one.ti_id, "w2", LEASE) is None


def test_a_task_instance_is_claimed_under_one_incident_only(
    store: Store, store_clock: SetClock
) -> None:
    here, there = incident(instance="prod"), incident(instance="also-prod")
    added(store, here, there, incident(1, ti_id=None), incident(2, ti_id=None))
    token = store.claim(here.id, "uuid", "w1", LEASE)
    assert token is not None
    assert store.claim(there.id, "uuid", "w2", LEASE) is None
    store_clock.advance(LEASE)
    assert store.claim(there.id, "uuid", "w2", LEASE) is None
    store.release(here.id, token)
    assert store.claim(there.id, "uuid", "w2", LEASE) is not None
    # No id is no clash.
    assert store.claim(incident(1).id, None, "w1", LEASE) is not None
    assert store.claim(incident(2).id, None, "w1", LEASE) is not None
    # A lapsed claim without an id is not taken over for a task instance claimed elsewhere.
    store_clock.advance(LEASE)
    assert store.claim(incident(1).id, "uuid", "w3", LEASE) is None


def test_no_token_is_given_out_twice(store: Store, store_clock: SetClock) -> None:
    added(store, incident(0), incident(1))
    seen = []
    for _ in range(3):
        token = claimed(store, incident(0))
        seen.append(token)
        store.release(incident(0).id, token)
        seen.append(claimed(store, incident(1)))
        store_clock.advance(LEASE)
    assert len(set(seen)) == len(seen)
    assert seen == sorted(seen)
    refused("claim", lambda: store.open_door(incident(0).id, seen[0], decision(incident(0))))


def test_claims_come_oldest_first(store: Store) -> None:
    several = [incident(number) for number in (2, 0, 1)]
    added(store, *several)
    for one in several:
        claimed(store, one)
    token = store.claims(["claimed"])[1].token
    store.open_door(several[1].id, token, decision(several[1]))
    assert [one.incident_id for one in store.claims(["claimed", "acting"])] == [
        one.id for one in several
    ]
    assert [one.incident_id for one in store.claims(["acting"])] == [several[1].id]
    assert store.claims(["done"]) == store.claims([]) == ()


# --- the door ----------------------------------------------------------------------------------


def test_the_door_opens_once(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    wanted = decision(incident(), plan={"clears": ["t0"]}, params={"delay": "5m"})
    made = store.open_door(incident().id[:5], token, wanted, not_before=NOW + HOUR)
    assert made == replace(wanted, seq=made.seq)
    case = store.case(incident().id)
    assert case.decision == made
    assert case.status == "acting"
    assert case.claim == Claim(
        incident().id, "acting", token, "w1", NOW + LEASE, "uuid-0-1", made.seq, NOW + HOUR
    )
    refused("claim", lambda: store.open_door(incident().id, token, wanted))


def test_a_refused_door_changes_nothing(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    before = store.case(incident().id)
    vouch = Vouch("default", "orders_etl", "t0", None, True, "me", NOW)
    none = Limits(per_hour=0, per_dag_hour=0, per_task_instance_day=0)
    refused(
        "attempts",
        lambda: store.open_door(
            incident().id, token, decision(incident(), "auto"), limits=none, vouches=[vouch]
        ),
    )
    refused("claim", lambda: store.open_door(incident().id, token + 1, decision(incident())))
    assert store.case(incident().id) == before
    assert store.vouches("default", "orders_etl", "t0") == ()
    store.release(incident().id, token)
    assert store.case(incident().id).status == "pending"


def test_pause_stops_the_tool_and_not_a_person(store: Store) -> None:
    added(store, incident(0), incident(1))
    store.set_pause(Pause(True, "oncall", NOW, "storm"))
    token = claimed(store, incident(0))
    error = refused(
        "paused",
        lambda: store.open_door(incident(0).id, token, decision(incident(0), "auto"), limits=WIDE),
    )
    assert "oncall" in error.message
    assert "storm" in error.message
    opened(store, incident(1), "approve")
    store.set_pause(Pause(False, "oncall", NOW))
    store.open_door(incident(0).id, token, decision(incident(0), "auto"), limits=WIDE)


def test_the_tool_does_not_act_over_a_decision(store: Store) -> None:
    added(store, incident())
    store.record(decision(incident(), "reject"))
    token = claimed(store, incident())
    refused("claim", lambda: store.open_door(incident().id, token, decision(incident(), "auto")))
    store.open_door(incident().id, token, decision(incident(), "approve"))


def test_the_tool_may_act_where_it_only_shadowed(store: Store) -> None:
    added(store, incident())
    store.record(decision(incident(), "shadow"))
    opened(store, incident(), "auto")
    assert store.case(incident().id).status == "acting"


def auto(store: Store, one: Incident, limits: Limits) -> None:
    """Act alone within limits, and have it settled."""
    token = claimed(store, one)
    try:
        made = store.open_door(one.id, token, decision(one, "auto"), limits=limits)
    except DoorClosed:
        store.release(one.id, token)
        raise
    store.settle(one.id, token, "done", Outcome(one.id, made.seq, NOW, "fixed"))


def test_acts_alone_are_limited_by_the_hour(store: Store, store_clock: SetClock) -> None:
    several = [incident(number, dag_id=f"dag{number}") for number in range(4)]
    added(store, *several)
    limits = Limits(per_hour=2, per_dag_hour=9, per_task_instance_day=9)
    auto(store, several[0], limits)
    store_clock.advance(30 * MINUTE)
    auto(store, several[1], limits)
    error = refused("budget", lambda: auto(store, several[2], limits))
    assert "2" in error.message
    store_clock.advance(30 * MINUTE)
    auto(store, several[2], limits)
    refused("budget", lambda: auto(store, several[3], limits))


def test_acts_alone_are_limited_by_dag_and_hour(store: Store, store_clock: SetClock) -> None:
    same = [incident(number) for number in range(3)]
    other = incident(9, dag_id="other")
    elsewhere = incident(9, instance="elsewhere", ti_id="another")
    added(store, *same, other, elsewhere)
    limits = Limits(per_hour=9, per_dag_hour=1, per_task_instance_day=9)
    auto(store, same[0], limits)
    refused("budget", lambda: auto(store, same[1], limits))
    auto(store, other, limits)
    auto(store, elsewhere, limits)
    store_clock.advance(HOUR)
    auto(store, same[1], limits)


def test_acts_alone_are_limited_by_task_instance_and_day(
    store: Store, store_clock: SetClock
) -> None:
    tries = [incident(try_number=number) for number in (1, 2, 3)]
    mapped = incident(map_index=4, ti_id="mapped")
    another_run = incident(run_id="next", ti_id="next")
    added(store, *tries, mapped, another_run)
    limits = Limits(per_hour=9, per_dag_hour=9, per_task_instance_day=1)
    auto(store, tries[0], limits)
    store_clock.advance(23 * HOUR)
    refused("attempts", lambda: auto(store, tries[1], limits))
    auto(store, mapped, limits)
    auto(store, another_run, limits)
    store_clock.advance(HOUR)
    auto(store, tries[1], limits)
    refused("attempts", lambda: auto(store, tries[2], limits))


def test_limits_of_nothing_let_none_through(store: Store) -> None:
    added(store, incident())
    for limits, check in (
        (Limits(0, 9, 9), "budget"),
        (Limits(9, 0, 9), "budget"),
        (Limits(9, 9, 0), "attempts"),
    ):
        refused(check, partial(auto, store, incident(), limits))


def test_only_what_the_tool_did_alone_counts(store: Store) -> None:
    several = [incident(number) for number in range(5)]
    added(store, *several)
    acted(store, several[0], kind="approve")
    store.record(decision(several[1], "shadow"))
    store.record(decision(several[2], "reject"))
    token, _ = opened(store, several[3], "auto")
    store.release(several[3].id, token)  # nothing was done: void
    auto(store, several[4], Limits(1, 1, 1))


# --- past the door -----------------------------------------------------------------------------


def test_progress_is_replaced(store: Store) -> None:
    added(store, incident())
    token, _ = opened(store, incident())
    for done in ({"cleared": ["a"], "x": 1}, {"cleared": ["a", "b"]}):
        store.progress(incident().id, token, done)
        assert store.claims(["acting"])[0].progress == done


def test_progress_needs_the_token_and_an_open_door(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    refused("claim", lambda: store.progress(incident().id, token, {}))
    made = store.open_door(incident().id, token, decision(incident()))
    refused("claim", lambda: store.progress(incident().id, token + 1, {}))
    store.settle(incident().id, token, "done", Outcome(incident().id, made.seq, NOW, "fixed"))
    refused("claim", lambda: store.progress(incident().id, token, {}))


def test_retake_goes_on_with_an_act_under_a_new_token(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    token = claimed(store, incident())
    assert store.retake(incident().id, token, LEASE) is None  # not past the door
    made = store.open_door(incident().id, token, decision(incident()), not_before=NOW + HOUR)
    store.progress(incident().id, token, {"started": True})
    store_clock.advance(HOUR)
    second = store.retake(incident().id, token, LEASE)
    assert second is not None
    assert second > token
    assert store.retake(incident().id, token, LEASE) is None
    assert store.claims(["acting"]) == (
        Claim(
            incident().id,
            "acting",
            second,
            "w1",
            NOW + HOUR + LEASE,
            "uuid-0-1",
            made.seq,
            NOW + HOUR,
            {"started": True},
        ),
    )
    refused("claim", lambda: store.progress(incident().id, token, {}))
    refused("claim", lambda: store.settle(incident().id, token, "done"))
    store.settle(incident().id, second, "done")
    assert store.retake(incident().id, second, LEASE) is None


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("fixed", "resolved"),
        ("failed", "failed"),
        ("relapsed", "failed"),
        ("superseded", "superseded"),
        ("unknown", "needs_human"),
        (None, "pending"),
    ],
)
def test_settling_closes_the_claim_and_gives_the_status(
    store: Store, outcome: OutcomeName | None, status: Status
) -> None:
    added(store, incident())
    made = acted(store, incident(), outcome)
    case = store.case(incident().id)
    assert case.status == status
    assert case.outcome == outcome
    assert case.claim is not None
    assert case.claim.state == "done"
    expected = outcome and Outcome(incident().id, made.seq, NOW, outcome, "seen", 2)
    assert case.outcomes == ((expected,) if expected else ())


def test_needs_human_outweighs_every_outcome(store: Store) -> None:
    added(store, incident())
    token, made = opened(store, incident())
    row = Outcome(incident().id, made.seq, NOW, "fixed")
    store.settle(incident().id, token, "needs_human", row)
    assert store.case(incident().id).status == "needs_human"
    assert store.case(incident().id).outcome == "fixed"


def needing_a_human(store: Store) -> int:
    """An incident whose act was cut off; returns the token of its claim."""
    added(store, incident())
    token, made = opened(store, incident())
    row = Outcome(incident().id, made.seq, NOW, "unknown")
    store.settle(incident().id, token, "needs_human", row)
    return token


def test_what_needs_a_human_is_taken_again_by_a_person_alone(store: Store) -> None:
    token = needing_a_human(store)
    assert store.claim(incident().id, "ti", "watcher", LEASE) is None
    again = store.claim(incident().id, "ti", "ana", LEASE, reopen=True)
    assert again is not None
    assert again > token
    assert store.case(incident().id).status == "acting"
    store.release(incident().id, again)
    assert store.case(incident().id).status == "needs_human"


def test_reopening_takes_nothing_from_anybody(store: Store) -> None:
    added(store, incident())
    token, made = opened(store, incident())
    assert store.claim(incident().id, "ti", "ana", LEASE, reopen=True) is None
    store.settle(incident().id, token, "done", Outcome(incident().id, made.seq, NOW, "fixed"))
    assert store.claim(incident().id, "ti", "ana", LEASE, reopen=True) is None


def test_a_decision_ends_the_need_for_a_human(store: Store) -> None:
    needing_a_human(store)
    store.record(decision(incident(), "reject"))
    assert store.case(incident().id).status == "rejected"


@pytest.mark.parametrize("how", ["revoked", "expired", "unknown"])
def test_a_grant_that_is_over_opens_no_door(store: Store, store_clock: SetClock, how: str) -> None:
    added(store, incident())
    if how != "unknown":
        until = NOW + MINUTE if how == "expired" else None
        store.add_grant(Grant("g" * 10, ("retry",), ("*",), "me", NOW, until=until))
    if how == "revoked":
        store.revoke_grant("g" * 10, "me", NOW)
    store_clock.advance(MINUTE)
    token = claimed(store, incident())
    alone = replace(decision(incident(), "auto"), grant="g" * 10)
    refused("action_allowed", lambda: store.open_door(incident().id, token, alone))


def test_settling_needs_the_token_and_happens_once(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    row = Outcome(incident().id, 1, NOW, "fixed")
    refused("claim", lambda: store.settle(incident().id, token, "done", row))
    made = store.open_door(incident().id, token, decision(incident()))
    row = replace(row, decision=made.seq)
    refused("claim", lambda: store.settle(incident().id, token + 1, "done", row))
    with pytest.raises(ValueError, match="done or needs_human"):
        store.settle(incident().id, token, "claimed", row)
    with pytest.raises(ValueError, match="outcome of decision"):
        store.settle(incident().id, token, "done", replace(row, decision=made.seq + 1))
    assert store.case(incident().id).status == "acting"
    store.settle(incident().id, token, "done", row)
    refused("claim", lambda: store.settle(incident().id, token, "needs_human", row))
    assert store.case(incident().id).outcomes == (row,)


def test_a_released_claim_is_free_again(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    store.release(incident().id, token + 1)
    assert len(store.claims(["claimed"])) == 1
    store.release(incident().id, token)
    store.release(incident().id, token)
    assert store.claims(["claimed"]) == ()
    assert claimed(store, incident()) > token


def test_release_past_the_door_voids_the_decision(store: Store) -> None:
    added(store, incident())
    shadow = store.record(decision(incident(), "shadow"))
    token, made = opened(store, incident(), "auto")
    store.release(incident().id, token)
    case = store.case(incident().id)
    assert case == Case(incident(), "pending", decision=shadow)
    assert store.trials() == ()
    with pytest.raises(NotFound):
        store.add_outcome(Outcome(incident().id, made.seq, NOW, "fixed"))
    again = acted(store, incident(), kind="auto")
    assert again.seq > made.seq
    assert store.case(incident().id).status == "resolved"


def test_a_closed_claim_is_not_released(store: Store) -> None:
    added(store, incident())
    token, made = opened(store, incident())
    store.settle(incident().id, token, "done", Outcome(incident().id, made.seq, NOW, "fixed"))
    store.release(incident().id, token)
    assert store.case(incident().id).status == "resolved"
    assert store.claim(incident().id, None, "w2", LEASE) is None


def test_a_later_outcome_is_appended(store: Store) -> None:
    added(store, incident(), incident(1))
    made = acted(store, incident(), "fixed")
    store.add_outcome(Outcome(incident().id[:6], made.seq, NOW + HOUR, "relapsed", "again", 3))
    case = store.case(incident().id)
    assert [one.outcome for one in case.outcomes] == ["fixed", "relapsed"]
    assert case.outcomes[1].incident_id == incident().id
    assert (case.status, case.outcome) == ("failed", "relapsed")
    for wrong in (
        Outcome(incident().id, made.seq + 7, NOW, "relapsed"),
        Outcome(incident(1).id, made.seq, NOW, "relapsed"),
    ):
        with pytest.raises(NotFound):
            store.add_outcome(wrong)


def test_an_outcome_waits_until_the_act_is_settled(store: Store) -> None:
    added(store, incident())
    _, made = opened(store, incident())
    later = Outcome(incident().id, made.seq, NOW, "relapsed")
    refused("claim", lambda: store.add_outcome(later))
    assert store.case(incident().id).outcomes == ()


def test_the_outcome_shown_is_that_of_the_newest_decision(store: Store) -> None:
    added(store, incident())
    acted(store, incident(), "failed")
    store.record(decision(incident(), "reject"))
    case = store.case(incident().id)
    assert case.outcome is None
    assert [one.outcome for one in case.outcomes] == ["failed"]
