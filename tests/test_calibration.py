"""Bounds from one's own record: what they promise holds, and they only ever tighten."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge import calibration
from knowledge.base import REFIT_AFTER, KnowledgeBase
from knowledge.calibration import Labelled, Truth, fit, was_right
from knowledge.embedders import BuiltinEmbedder
from knowledge.lessons import PROMPT
from knowledge.records import Brief, Decision, Judgement, Lesson, NearCase, Outcome
from knowledge.signature import SIGNATURE_VERSION
from knowledge.stores.memory import MemoryStore
from tests import builders, reports, samples

FLOOR = 0.82

outcomes = st.lists(
    st.builds(
        Labelled,
        st.integers(0, 10_000).map(lambda n: n / 10_000),
        st.booleans(),
        st.sampled_from(["", "TimeoutError", "KeyError"]),
    ),
    max_size=300,
)


def clean(count: int, similarity: float = 0.9) -> list[Labelled]:
    return [Labelled(similarity, True)] * count


@given(outcomes, st.floats(0.001, 0.5))
def test_never_below_the_floor(labelled: list[Labelled], rate: float) -> None:
    bound = fit(labelled, floor=FLOOR, rate=rate)
    assert bound.value >= FLOOR
    assert all(bound.of(kind) >= bound.value for kind in ("", "TimeoutError", "KeyError"))


@given(outcomes, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_who_accepts_more_risk_never_gets_a_stricter_bound(
    labelled: list[Labelled], one: float, other: float
) -> None:
    strict, loose = (fit(labelled, floor=FLOOR, rate=rate) for rate in sorted((one, other)))
    assert strict.value >= loose.value


@given(outcomes, st.integers(0, 299))
def test_an_outcome_that_turns_out_wrong_never_loosens(labelled: list[Labelled], at: int) -> None:
    if not labelled:
        return
    at %= len(labelled)
    worse = [replace(one, right=one.right and n != at) for n, one in enumerate(labelled)]
    before, after = fit(labelled, floor=FLOOR), fit(worse, floor=FLOOR)
    assert after.value >= before.value
    for kind in ("", "TimeoutError", "KeyError"):
        assert after.of(kind) >= before.of(kind)


@given(outcomes)
def test_the_wrong_ones_above_the_bound_are_as_few_as_was_asked(labelled: list[Labelled]) -> None:
    bound = fit(labelled, floor=0.0, rate=0.05)
    if bound.enough:
        wrong = sum(not one.right and one.similarity >= bound.value for one in labelled)
        assert (wrong + 1) / (bound.outcomes + 1) <= 0.05 + 1e-9


@given(outcomes)
def test_no_error_class_is_wrong_more_often_than_asked(labelled: list[Labelled]) -> None:
    bound = fit(labelled, floor=0.0, rate=0.05)
    for kind in {one.kind for one in labelled} if bound.enough else ():
        own = [one for one in labelled if one.kind == kind]
        wrong = sum(not one.right and one.similarity >= bound.of(kind) for one in own)
        assert wrong <= 0.05 * len(own)


@pytest.mark.parametrize("count", [0, 1, 98, 99])
def test_too_few_say_nothing(count: int) -> None:
    bound = fit(clean(count), floor=FLOOR)
    assert (bound.value, bound.outcomes, bound.enough) == (FLOOR, count, False)


def test_a_hundred_clean_ones_are_enough_at_one_in_a_hundred() -> None:
    assert fit(clean(100), floor=FLOOR).value == FLOOR
    assert fit(clean(100), floor=FLOOR).enough


def test_less_risk_needs_more_outcomes() -> None:
    assert calibration.needed(0.01) == 100
    assert not fit(clean(198), floor=FLOOR, rate=0.005).enough
    assert fit(clean(199), floor=FLOOR, rate=0.005).enough


def test_one_wrong_lifts_the_bound_just_above_it() -> None:
    labelled = [*clean(120), Labelled(0.9312, False, "TimeoutError")]
    assert fit(labelled, floor=FLOOR).value == 0.9313


def test_only_the_last_ones_count() -> None:
    old = [Labelled(0.99, False)] * 50
    bound = fit([*old, *clean(calibration.WINDOW)], floor=FLOOR)
    assert (bound.value, bound.outcomes) == (FLOOR, calibration.WINDOW)


def test_one_error_class_tightens_and_the_others_do_not() -> None:
    labelled = [*clean(499), Labelled(0.95, False, "TimeoutError")]
    bound = fit(labelled, floor=FLOOR)
    assert bound.value == FLOOR  # one in five hundred is less than was asked
    assert bound.of("TimeoutError") == 0.9501
    assert bound.of("KeyError") == FLOOR


def test_the_risk_is_kept_on_average_over_exchangeable_records() -> None:
    """A record and the incident after it come from one distribution: acting on that one at the
    record's bound is wrong on at most 5 % of such incidents."""
    dice = random.Random(7)

    def incident() -> Labelled:
        similarity = round(dice.random(), 4)
        return Labelled(similarity, dice.random() < 0.6 + 0.4 * similarity)

    wrong = 0
    rounds = 2_000
    for _ in range(rounds):
        bound = fit([incident() for _ in range(120)], floor=0.0, rate=0.05)
        last = incident()
        wrong += last.similarity >= bound.value and not last.right
    # Three standard errors of a share of 5 % above it; that some act at all is part of the claim.
    assert 0 < wrong / rounds <= 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5


# ---- what came out about an incident ----


def ended(
    kind: Any = "approve",
    action: str | None = "retry",
    outcome: Any = "fixed",
    harm: bool = False,
    lesson: Lesson | None = None,
) -> Brief:
    wrong = "paid twice" if harm else ""
    outcomes = (outcome,) if outcome else ()
    one = reports.brief(reports.decided(kind, action), outcome=outcomes, wrong=wrong)
    return replace(one, lesson=lesson)


@pytest.mark.parametrize(
    ("seen", "known"),
    [
        (ended(), Truth(right="retry")),
        (ended("auto"), Truth(right="retry")),
        (ended(outcome="failed"), Truth(wrong="retry")),
        (ended(outcome="relapsed"), None),
        (ended(outcome="superseded"), None),
        (ended(outcome=None), None),
        (ended(action="none", outcome=None), Truth(right="none")),
        (ended("reject", outcome=None), Truth(wrong="retry")),
        (ended("reject", action=None, outcome=None), None),
        (ended("superseded", action=None, outcome=None), None),
        (ended("shadow", outcome=None), None),
        (reports.undone(), Truth(wrong="set_variable")),
        (ended(harm=True), Truth(right="none", wrong="retry", harmful=True)),
    ],
)
def test_what_came_out(seen: Brief, known: Truth | None) -> None:
    assert calibration.truth(seen) == known


@pytest.mark.parametrize(
    ("action", "known", "right"),
    [
        ("retry", Truth(right="retry"), True),
        ("retry_later", Truth(right="retry"), True),
        ("retry", Truth(right="retry_later"), False),
        ("none", Truth(right="retry"), False),
        ("retry", Truth(wrong="retry"), False),
        ("retry", Truth(wrong="retry_later"), False),
        ("retry_later", Truth(wrong="retry"), None),
        ("none", Truth(wrong="retry"), None),
        ("retry_later", Truth(right="none", wrong="retry", harmful=True), False),
        ("none", Truth(right="none", wrong="retry", harmful=True), True),
        (None, Truth(right="retry"), None),
    ],
)
def test_whether_it_would_have_been_right(
    action: str | None, known: Truth, right: bool | None
) -> None:
    assert was_right(action, known) is right


QUICK = timedelta(minutes=10)


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({}, Truth(right="retry")),
        ({"outcome": "failed"}, Truth(wrong="retry")),
        ({"at": samples.NOW + PROMPT}, Truth(right="retry")),
        # Whatever was away had time to come back: nobody knows of a retry at once.
        ({"at": samples.NOW + PROMPT + QUICK}, None),
        ({"action": "none"}, Truth(right="none")),  # new code ended it
        ({"action": "none", "outcome": "failed"}, None),  # new code did not, and what would have?
        # To what it was changed nobody knows, nor whether a retry would have done.
        ({"action": "update_connection", "params": {"connection_id": "db"}}, None),
        ({"outcome": "unknown"}, None),
        ({"action": None}, None),
        ({"mode": "airflow"}, None),
    ],
)
def test_what_ended_it_in_airflow_itself_is_known_where_a_person_ran_it_again(
    told: dict[str, Any], known: Truth | None
) -> None:
    lesson = samples.lesson(0, **told)
    there = ended("superseded", None, None, lesson=lesson)
    assert calibration.truth(there) == known
    assert calibration.truth(ended(lesson=lesson)) == Truth(right="retry"), "decided here"
    assert calibration.truth(ended(outcome="superseded", lesson=lesson)) is None, "run twice"


def near(**changes: Any) -> NearCase:
    known: dict[str, Any] = {
        "judgement": 1,
        "error_class": "KeyError",
        "similarity": 0.9,
        "proposed": "retry",
        "kind": "approve",
        "action": "retry",
        "outcome": "fixed",
    }
    return NearCase(**{**known, **changes})


@pytest.mark.parametrize(
    ("seen", "right"),
    [
        (near(), True),
        (near(outcome="failed"), False),
        (near(proposed="none"), False),
        (near(harmful=True), False),
        (near(kind="reject", outcome=None), False),
        (near(kind="superseded", action=None, outcome=None, lesson=samples.lesson(0)), True),
        (near(outcome=None), None),
        (near(outcome="relapsed"), None),
        (near(proposed=None), None),
        (near(kind="reject", proposed="none", outcome=None), None),
    ],
)
def test_a_near_match_whose_end_is_known_is_a_labelled_outcome(
    seen: NearCase, right: bool | None
) -> None:
    expected = None if right is None else Labelled(0.9, right, "KeyError")
    assert calibration.labelled(seen) == expected


# ---- the bound of a store ----


class Counting(MemoryStore):
    read = 0

    def near_cases(self, *wanted: Any, **more: Any) -> tuple[NearCase, ...]:
        self.read += 1
        return super().near_cases(*wanted, **more)


def decided(
    store: MemoryStore, number: int, similarity: float, outcome: Any, found: str = "near"
) -> None:
    """One incident that was judged so, approved, and ended so."""
    incident = builders.incident(
        run_id=f"run-{number}",
        ti_id=f"ti-{number}",
        signature=builders.signature(version=SIGNATURE_VERSION),
    )
    store.add_incident(incident)
    match = {"found": found, "similarity": similarity, "action": "retry"}
    document = {"matches": [match], "gate": {"bound": {"embedder": "builtin"}}}
    store.add_judgement(Judgement(incident.id, builders.NOW, document))
    token = store.claim(incident.id, incident.ti_id, "ana", timedelta(minutes=5))
    assert token is not None
    decision = store.open_door(
        incident.id, token, Decision(incident.id, "approve", builders.NOW, "ana", "retry")
    )
    ended = Outcome(incident.id, decision.seq, builders.NOW, outcome)
    store.settle(incident.id, token, "done", ended)


def test_the_record_of_a_store_gives_the_bound_and_is_read_once() -> None:
    store = Counting()
    knowledge = KnowledgeBase(store, BuiltinEmbedder())
    for number in range(110):
        decided(store, number, 0.95, "fixed")
    decided(store, 110, 0.9, "failed")
    bound = knowledge.record_bound()
    assert (bound.value, bound.outcomes, bound.enough) == (0.9001, 111, True)
    read = store.read
    assert knowledge.record_bound() is bound
    assert store.read == read
    assert KnowledgeBase(store, BuiltinEmbedder()).record_bound() == bound


def test_it_does_not_loosen_as_exact_matches_come_in() -> None:
    """The last ones count of those that had no exact match, however long ago those were."""
    store = MemoryStore()
    for number in range(110):
        decided(store, number, 0.95, "fixed")
    for number in range(110, 120):
        decided(store, number, 0.93, "failed")
    before = KnowledgeBase(store, BuiltinEmbedder()).record_bound()
    assert (before.value, before.outcomes, before.enough) == (0.9301, 120, True)
    for number in range(120, 270):
        decided(store, number, 1.0, "fixed", "exact")
    assert KnowledgeBase(store, BuiltinEmbedder()).record_bound() == before


def test_those_without_an_answer_do_not_use_up_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than are read at once nobody knows the end: it is read on."""
    monkeypatch.setattr(calibration, "WINDOW", 20)
    store = MemoryStore()
    for number in range(30):
        decided(store, number, number / 100, "fixed")
    for number in range(30, 95):
        decided(store, number, 0.95, "relapsed")
    found = KnowledgeBase(store, BuiltinEmbedder()).labelled()
    assert [one.similarity for one in found] == [number / 100 for number in range(10, 30)]


def test_what_is_decided_meanwhile_moves_the_bound_before_long() -> None:
    store = MemoryStore()
    knowledge = KnowledgeBase(store, BuiltinEmbedder())
    for number in range(110):
        decided(store, number, 0.95, "fixed")
    assert knowledge.record_bound().value < 0.9
    decided(store, 110, 0.93, "failed")
    for number in range(REFIT_AFTER):
        decided(store, 111 + number, 0.95, "fixed")
        knowledge.record_bound()
    assert knowledge.record_bound().value == 0.9301
