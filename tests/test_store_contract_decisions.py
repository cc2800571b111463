"""What every Store promises about decisions that act on nothing, and about the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from knowledge.errors import (
    KnowledgeError,
    NotFound,
)
from knowledge.records import (
    DecisionKind,
    Limits,
    Outcome,
    OutcomeName,
    Status,
    Vouch,
)
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    LEASE,
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

# --- decisions that act on nothing -------------------------------------------------------------


def test_record_appends_a_decision_with_its_number(store: Store) -> None:
    added(store, incident())
    full = decision(
        incident().id[:7], "reject", params={"a": [1]}, cause="c", reason="r", plan={"p": 1}
    )
    first = store.record(full)
    second = store.record(decision(incident(), "approve", action="none", grant="g"))
    assert first == replace(full, incident_id=incident().id, seq=first.seq)
    assert second.seq > first.seq > 0
    assert store.case(incident().id).decision == second
    assert store.case(incident().id).status == "resolved"


@pytest.mark.parametrize(
    ("kind", "action", "status"),
    [
        ("reject", "retry", "rejected"),
        ("reject", None, "rejected"),
        ("superseded", None, "superseded"),
        ("shadow", "retry", "pending"),
        ("approve", "none", "resolved"),
    ],
)
def test_status_of_what_acts_on_nothing(
    store: Store, kind: str, action: str | None, status: Status
) -> None:
    added(store, incident())
    store.record(decision(incident(), kind, action=action))  # type: ignore[arg-type]
    assert store.case(incident().id).status == status


def test_a_shadow_decision_never_covers_another(store: Store) -> None:
    added(store, incident())
    store.record(decision(incident(), "shadow", reason="first"))
    newest = store.record(decision(incident(), "shadow", reason="second"))
    assert store.case(incident().id).decision == newest
    real = store.record(decision(incident(), "reject"))
    store.record(decision(incident(), "shadow", reason="third"))
    assert store.case(incident().id).decision == real


def test_what_acts_goes_through_the_door_and_nothing_else_does(store: Store) -> None:
    added(store, incident())
    for kind in ("approve", "auto"):
        with pytest.raises(ValueError, match="open_door"):
            store.record(decision(incident(), kind))
    token = claimed(store, incident())
    for wrong in (
        decision(incident(), "reject"),
        decision(incident(), "shadow"),
        decision(incident(), "approve", action="none"),
        decision(incident(), "approve", action=None),
        decision(incident(1)),
    ):
        with pytest.raises(ValueError, match=r"record it|not "):
            store.open_door(incident().id, token, wrong)
    assert store.case(incident().id).decision is None


@pytest.mark.parametrize("past_the_door", [False, True])
def test_record_is_refused_while_somebody_holds_the_claim(
    store: Store, past_the_door: bool
) -> None:
    added(store, incident())
    token = claimed(store, incident())
    if past_the_door:
        store.open_door(incident().id, token, decision(incident()))
    error = refused("claim", lambda: store.record(decision(incident(), "reject")))
    assert "w1" in error.message
    shadow = store.record(decision(incident(), "shadow"))
    assert shadow.seq > 0
    assert store.case(incident().id).status == "acting"


def test_a_decision_ends_a_claim_whose_lease_is_over(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    token = claimed(store, incident())
    store_clock.advance(LEASE)
    store.record(decision(incident(), "shadow"))
    assert store.claims(["claimed"]) != ()
    store.record(decision(incident(), "reject"))
    assert store.claims(["claimed"]) == ()
    refused("claim", lambda: store.open_door(incident().id, token, decision(incident())))
    assert store.case(incident().id).status == "rejected"


def test_a_person_may_still_reject_what_was_settled(store: Store) -> None:
    added(store, incident())
    acted(store, incident(), "failed")
    store.record(decision(incident(), "reject"))
    assert store.case(incident().id).status == "rejected"


# --- the record ----------------------------------------------------------------------------------


def test_trials_are_acts_and_rejections(store: Store) -> None:
    several = [incident(number) for number in range(8)]
    added(store, *several)
    acted(store, several[0], "fixed")
    acted(store, several[1], "failed", kind="auto")
    store.record(decision(several[2], "reject", action="mark_success", params={"x": 1}))
    opened(store, several[3])
    store.record(decision(several[4], "shadow"))
    store.record(decision(several[5], "approve", action="none"))
    store.record(decision(several[6], "reject", action=None))
    store.record(decision(several[7], "superseded", action=None))
    assert [(t.incident_id, t.action, t.mode, t.outcome) for t in store.trials()] == [
        (several[0].id, "retry", "person", "fixed"),
        (several[1].id, "retry", "auto", "failed"),
        (several[2].id, "mark_success", "person", "rejected"),
        (several[3].id, "retry", "person", None),
    ]
    third = store.trials()[2]
    assert third.params == {"x": 1}
    assert third.at == NOW
    assert third.fingerprint == several[2].signature.fingerprint
    assert (third.instance, third.dag_id, third.run_id, third.task_id, third.map_index) == (
        "default", "orders_etl", "scheduled__2025-03-01", "t2", -1,
    )  # fmt: skip


def test_a_trial_names_the_incident_whose_change_it_followed(store: Store) -> None:
    one, other = incident(0), incident(1)
    added(store, one, other)
    for each, plan in ((one, {"after": None}), (other, {"after": one.id, "told": "\x00\\"})):
        made = decision(each, action="set_variable", plan=plan)
        store.open_door(each.id, claimed(store, each), made)
    assert [trial.after for trial in store.trials()] == ["", one.id]


def test_a_trial_has_the_newest_outcome(store: Store) -> None:
    added(store, incident())
    made = acted(store, incident(), "fixed")
    store.add_outcome(Outcome(incident().id, made.seq, NOW, "relapsed"))
    assert [one.outcome for one in store.trials()] == ["relapsed"]


def test_an_act_that_was_undone_speaks_by_its_rejection_alone(store: Store) -> None:
    several = [incident(number) for number in range(5)]
    added(store, *several)
    for number in (0, 2, 3):
        acted(store, several[number], "fixed")
    acted(store, several[1], "failed")
    back = acted(store, several[4], "fixed")
    store.add_outcome(Outcome(several[4].id, back.seq, NOW, "relapsed"))
    for one in (several[0], several[1], several[4]):
        store.record(decision(one, "reject", reason="undone"))
    store.record(decision(several[2], "reject", action="mark_success"))  # to another one
    store.record(decision(several[3], "reject"))
    store.take_back(several[3].id, "me", NOW)
    assert [(t.task_id, t.outcome) for t in store.trials()] == [
        ("t0", "superseded"),
        ("t2", "fixed"),
        ("t3", "fixed"),
        ("t1", "failed"),
        ("t4", "superseded"),
        ("t0", "rejected"),
        ("t1", "rejected"),
        ("t4", "rejected"),
        ("t2", "rejected"),
    ]


def test_trials_are_filtered(store: Store) -> None:
    a = incident(0)
    b = incident(1, signature=signature("Other: x"))
    c = incident(2, instance="prod")
    added(store, a, b, c)
    for one, at in ((a, NOW), (b, NOW + HOUR), (c, NOW + DAY)):
        store.record(decision(one, "reject", at=at))

    def found(**filters: object) -> list[str]:
        return [one.task_id for one in store.trials(**filters)]  # type: ignore[arg-type]

    assert found(fingerprints=[a.signature.fingerprint]) == ["t0", "t2"]
    assert found(fingerprints={a.signature.fingerprint, b.signature.fingerprint}) == [
        "t0", "t1", "t2",
    ]  # fmt: skip
    assert found(fingerprints=[]) == []
    assert found(task=("default", "orders_etl", "t0")) == ["t0"]
    assert found(task=("default", "orders_etl", "t2")) == []
    assert found(since=NOW + HOUR) == ["t1", "t2"]
    assert found(since=NOW + HOUR, fingerprints=[a.signature.fingerprint]) == ["t2"]


def test_vouches_are_kept_with_their_decision(store: Store) -> None:
    added(store, incident(0), incident(1))
    task = Vouch("default", "orders_etl", "t0", None, True, "me", NOW, "idempotent")
    pair = Vouch("default", "orders_etl", "t0", "fp", True, "me", NOW)
    back = Vouch("default", "orders_etl", "t0", None, False, "you", NOW + HOUR)
    other = Vouch("default", "orders_etl", "t1", None, True, "me", NOW)
    token = claimed(store, incident(0))
    store.open_door(incident(0).id, token, decision(incident(0)), vouches=[task, pair])
    store.record(decision(incident(1), "reject"), [back, other])
    assert store.vouches("default", "orders_etl", "t0") == (task, pair, back)
    assert store.vouches("default", "orders_etl", "t1") == (other,)
    assert store.vouches("prod", "orders_etl", "t0") == ()


def test_a_no_outlives_an_act_that_was_given_back(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    no = Vouch("default", "orders_etl", "t0", None, False, "me", NOW)
    store.open_door(incident().id, token, decision(incident()), vouches=[no])
    store.release(incident().id, token)
    assert store.vouches("default", "orders_etl", "t0") == (no,)


def test_a_vouch_does_not_outlive_an_act_that_was_given_back(store: Store) -> None:
    added(store, incident())
    earlier = Vouch("default", "orders_etl", "t0", None, False, "bob", NOW)
    store.record(decision(incident(), "reject"), [earlier])
    given = Vouch("default", "orders_etl", "t0", None, True, "ana", NOW + HOUR)
    token = claimed(store, incident())
    store.open_door(incident().id, token, decision(incident()), vouches=[given])
    assert store.vouches("default", "orders_etl", "t0") == (earlier, given)
    store.release(incident().id, token)
    assert store.vouches("default", "orders_etl", "t0") == (earlier,)
    token = claimed(store, incident())
    store.open_door(incident().id, token, decision(incident()), vouches=[given])
    store.settle(incident().id, token, "done")
    assert store.vouches("default", "orders_etl", "t0") == (earlier, given)


@pytest.mark.parametrize(
    ("outcomes", "stands"),
    [
        ([], True),
        (["fixed"], True),
        (["superseded"], True),
        (["unknown"], True),
        (["failed"], False),
        (["fixed", "relapsed"], False),
        (["fixed", "relapsed", "fixed"], True),
    ],
)
def test_a_yes_falls_with_an_act_that_did_not_last(
    store: Store, outcomes: list[OutcomeName], stands: bool
) -> None:
    added(store, incident())
    yes = Vouch("default", "orders_etl", "t0", None, True, "ana", NOW)
    pair = replace(yes, fingerprint="fp")
    no = replace(yes, safe=False)
    token = claimed(store, incident())
    made = store.open_door(incident().id, token, decision(incident()), vouches=[yes, no, pair])
    store.settle(incident().id, token, "done")
    for outcome in outcomes:
        store.add_outcome(Outcome(incident().id, made.seq, NOW, outcome))
    assert store.vouches("default", "orders_etl", "t0") == ((yes, no, pair) if stands else (no,))


def test_a_yes_falls_with_an_act_that_was_rejected_later(store: Store) -> None:
    """What an undo writes down; of another incident it says nothing."""
    added(store, incident(0), incident(1))
    yes = Vouch("default", "orders_etl", "t0", None, True, "ana", NOW)
    token = claimed(store, incident(0))
    store.open_door(incident(0).id, token, decision(incident(0)), vouches=[yes])
    store.settle(incident(0).id, token, "done")
    store.record(decision(incident(1), "reject"))
    assert store.vouches("default", "orders_etl", "t0") == (yes,)
    store.record(decision(incident(0), "reject", reason="undone"))
    assert store.vouches("default", "orders_etl", "t0") == ()
    store.take_back(incident(0).id, "ana", NOW)
    assert store.vouches("default", "orders_etl", "t0") == (yes,)
    # A yes that is said after a no of the same incident is newer than it.
    store.record(decision(incident(1), "approve", action="none"), [yes])
    assert store.vouches("default", "orders_etl", "t0") == (yes, yes)


def test_vouches_as_they_were_known_at_a_moment(store: Store) -> None:
    def known(hours: int) -> tuple[Vouch, ...]:
        return store.vouches("default", "orders_etl", "t0", before=NOW + hours * HOUR)

    several = [incident(number) for number in range(3)]
    added(store, *several)
    words = [
        Vouch("default", "orders_etl", "t0", None, True, f"p{number}", NOW) for number in range(3)
    ]
    for one, word in zip(several, words, strict=True):
        token = claimed(store, one)
        made = store.open_door(one.id, token, decision(one), vouches=[word])
        store.settle(one.id, token, "done", Outcome(one.id, made.seq, NOW, "fixed"))
    store.add_outcome(Outcome(several[0].id, made.seq - 2, NOW + HOUR, "relapsed"))
    store.record(decision(several[1], "reject", at=NOW + 2 * HOUR))
    none = decision(several[2], action="none", at=NOW + 3 * HOUR)
    no = replace(words[2], safe=False, at=NOW + 3 * HOUR)
    store.record(none, [no])
    store.take_back(several[2].id, "ana", NOW + 4 * HOUR)
    assert known(0) == ()
    assert known(1) == tuple(words)
    assert known(2) == (words[1], words[2])
    assert known(3) == (words[2],)
    assert known(4) == (words[2], no)
    assert known(5) == store.vouches("default", "orders_etl", "t0") == (words[2],)


def test_the_harm_of_an_act_goes_with_it_the_no_to_its_task_stands(store: Store) -> None:
    added(store, incident())
    token, _ = opened(store, incident())
    back = Vouch("default", "orders_etl", "t0", None, False, "ana", NOW)
    store.call_wrong(incident().id, "ana", NOW, "paid twice", [back])
    assert store.vouches("default", "orders_etl", "t0") == (back,)
    store.release(incident().id, token)  # nothing was done after all
    assert store.vouches("default", "orders_etl", "t0") == (back,)
    assert store.case(incident().id).harm is None


def test_every_refusal_says_what_to_do(store: Store) -> None:
    added(store, incident())
    token = claimed(store, incident())
    acts: tuple[Callable[[], object], ...] = (
        lambda: store.record(decision(incident(), "reject")),
        lambda: store.open_door(incident().id, token + 1, decision(incident())),
        lambda: store.open_door(
            incident().id, token, decision(incident(), "auto"), limits=Limits(0, 0, 0)
        ),
    )
    for act in acts:
        with pytest.raises(KnowledgeError) as caught:
            act()
        assert caught.value.message
        assert caught.value.hint


# --- thought better of -------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "action"), [("reject", "retry"), ("approve", "none")])
def test_what_touched_nothing_may_be_taken_back(
    store: Store, kind: DecisionKind, action: str
) -> None:
    added(store, incident())
    kept = Vouch("default", "orders_etl", "t0", None, True, "bob", NOW)
    store.record(decision(incident(), "shadow"), [kept])
    word = Vouch("default", "orders_etl", "t0", "f", False, "ana", NOW)
    made = store.record(decision(incident(), kind, action=action), [word])
    assert store.take_back(incident().id[:7], "ana", NOW + HOUR) == made
    case = store.case(incident().id)
    assert case.status == "pending"
    assert case.decision is not None
    assert case.decision.kind == "shadow"
    assert store.trials() == ()
    assert store.vouches("default", "orders_etl", "t0") == (kept,)
    with pytest.raises(NotFound):
        store.take_back(incident().id, "ana", NOW + HOUR)
    again = store.record(decision(incident(), "reject"))
    assert again.seq > made.seq  # nothing was deleted
    assert store.case(incident().id).status == "rejected"


def test_what_was_decided_before_stands_again(store: Store) -> None:
    added(store, incident())
    first = store.record(decision(incident(), "approve", action="none"))
    store.record(decision(incident(), "reject"))
    store.take_back(incident().id, "ana", NOW)
    assert store.case(incident().id).decision == first
    assert store.case(incident().id).status == "resolved"


@pytest.mark.parametrize("done", ["nothing", "acted", "superseded", "shadow", "rejected earlier"])
def test_nothing_else_is_taken_back(store: Store, done: str) -> None:
    added(store, incident())
    if done == "acted":
        acted(store, incident())
    if done == "superseded":
        store.record(decision(incident(), "superseded", action=None))
    if done == "shadow":
        store.record(decision(incident(), "shadow"))
    if done == "rejected earlier":
        store.record(decision(incident(), "reject"))
        acted(store, incident())
    before = store.case(incident().id)
    with pytest.raises(NotFound) as caught:
        store.take_back(incident().id, "ana", NOW)
    assert caught.value.hint
    assert store.case(incident().id) == before


def test_nothing_is_taken_back_under_a_claim(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    store.record(decision(incident(), "reject"))
    claimed(store, incident())
    refused("claim", lambda: store.take_back(incident().id, "ana", NOW))
    store_clock.advance(LEASE)
    store.take_back(incident().id, "ana", NOW)
