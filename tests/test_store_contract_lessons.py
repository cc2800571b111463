"""What every Store promises about lessons: what ended a failure without this tool."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from knowledge.records import trial_of
from knowledge.stores import Store
from tests.samples import NOW, acted, added, incident, lesson, signature

OTHER = signature("OSError: another")


def test_a_lesson_comes_back_as_it_was_put(store: Store) -> None:
    whole = lesson(0, signature=signature("E: odd \x00 \ud800"))
    bare = lesson(1, by="", ended_at=None, version=None, action=None, params={}, outcome="unknown")
    assert store.add_lessons([whole, bare]) == 2
    assert store.lessons([whole.signature.fingerprint]) == (whole,)
    assert store.lessons([signature().fingerprint]) == (bare,)


def test_a_try_has_one_lesson_and_the_first_stays(store: Store) -> None:
    first = lesson(0)
    assert store.add_lessons([first]) == 1
    assert store.add_lessons([lesson(0, outcome="failed"), lesson(1), lesson(1)]) == 1
    assert store.lessons([signature().fingerprint]) == (first, lesson(1))
    assert store.add_lessons([]) == 0


def test_which_tries_have_one(store: Store) -> None:
    store.add_lessons([lesson(0), lesson(1, signature=OTHER), lesson(2, signature=OTHER)])
    ids = [lesson(number).incident_id for number in (0, 2, 3)]
    assert store.known_lessons(ids) == set(ids[:2])
    assert store.known_lessons([]) == set()
    assert store.lesson_counts() == {signature().fingerprint: 1, OTHER.fingerprint: 2}


def test_its_try_need_not_be_an_incident_but_has_the_same_id(store: Store) -> None:
    store.add_lessons([lesson(0)])
    assert store.known_incidents([lesson(0).incident_id]) == set()
    assert store.cases() == ()
    added(store, incident(0))
    assert store.known_lessons([incident(0).id]) == {incident(0).id}


def test_a_naive_time_is_refused_and_nothing_is_put(store: Store) -> None:
    naive = lesson(1, at=datetime(2026, 1, 1))  # noqa: DTZ001 (what is to be refused)
    with pytest.raises(ValueError, match="without a zone"):
        store.add_lessons([lesson(0), naive])
    assert store.lesson_counts() == {}


def test_an_act_of_ours_tells_the_version_of_what_failed(store: Store) -> None:
    added(
        store,
        incident(0, context={"version": 4}),
        incident(1, context={"version": "old"}, signature=replace(signature(), version=2)),
    )
    acted(store, incident(0))
    acted(store, incident(1))
    known, strange = store.trials()
    assert (known.version, known.signature_version) == (4, 1)
    assert (strange.version, strange.signature_version) == (None, 2)


def test_lessons_are_no_acts_of_ours(store: Store) -> None:
    """`acts_alone`, relapses and reports count what this tool did."""
    store.add_lessons([lesson(0)])
    assert store.trials() == ()


def test_a_persons_clear_is_evidence() -> None:
    trial = trial_of(lesson(0))
    assert trial is not None
    assert (trial.mode, trial.outcome, trial.action) == ("history", "fixed", "retry")
    assert (trial.incident_id, trial.at, trial.version) == (incident(0).id, lesson(0).at, 3)


@pytest.mark.parametrize(
    "changes",
    [{"mode": "airflow"}, {"outcome": "unknown"}, {"action": None}, {"action": "none"}],
)
def test_what_nobody_did_or_nobody_saw_is_none(changes: dict[str, str | None]) -> None:
    assert trial_of(lesson(0, **changes)) is None
    assert lesson(0).failed_at == NOW
