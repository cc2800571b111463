"""Lessons as evidence, and the entries they amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from knowledge import base as base_module
from knowledge import lessons
from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Evidence, Lesson, NearCase
from knowledge.signature import sign
from knowledge.stores import PutCounts
from knowledge.stores.sqlite import SqliteStore
from tests.samples import DAY, HOUR, MINUTE, NOW, acted, added, incident, lesson, signature

HERE = ("default", "orders_etl", "t0", -1)


class TestEvidence:
    def outcomes(self, *learned: object, failures: object = ()) -> list[object]:
        found = lessons.trials(learned, failures, DAY)  # type: ignore[arg-type]  # made of samples
        return [one.outcome for one in found]

    def test_what_a_person_did_counts_and_what_airflow_did_alone_does_not(self) -> None:
        assert self.outcomes(lesson(0), lesson(1, outcome="failed")) == ["fixed", "failed"]
        assert self.outcomes(lesson(0, mode="airflow"), lesson(1, outcome="unknown")) == []

    def test_a_late_re_run_that_worked_says_nothing_of_a_prompt_one(self) -> None:
        late = NOW + lessons.PROMPT + MINUTE
        assert self.outcomes(lesson(0, at=late)) == []
        assert self.outcomes(lesson(0, at=late, outcome="failed")) == ["failed"]

    @pytest.mark.parametrize(
        ("after", "outcome"), [(MINUTE, "relapsed"), (DAY, "relapsed"), (DAY + MINUTE, "fixed")]
    )
    def test_it_relapsed_where_the_same_failure_came_back(
        self, after: timedelta, outcome: str
    ) -> None:
        green = NOW + 2 * MINUTE
        assert self.outcomes(lesson(0), failures=[(HERE, green + after)]) == [outcome]
        again = lesson(0, run_id="next", failed_at=green + after, outcome="unknown")
        assert self.outcomes(lesson(0), again) == [outcome]

    def test_elsewhere_or_before_it_is_no_relapse(self) -> None:
        before, green = NOW - MINUTE, NOW + 2 * MINUTE
        elsewhere = ("default", "orders_etl", "t1", -1)
        assert self.outcomes(lesson(0), failures=[(HERE, before), (HERE, green)]) == ["fixed"]
        assert self.outcomes(lesson(0), failures=[(elsewhere, green + MINUTE)]) == ["fixed"]


class TestEntries:
    def test_a_re_run_that_worked_speaks_for_retry(self) -> None:
        learned = [
            lesson(0, ended_at=NOW + 20 * MINUTE),
            lesson(1, ended_at=NOW + 40 * MINUTE),
            lesson(2, outcome="failed"),
        ]
        (entry,) = lessons.entries(learned, NOW)
        assert (entry.kind, entry.source, entry.action) == ("history", lessons.SOURCE, "retry")
        assert entry.symptoms[0].signature == signature()
        assert (entry.dags, entry.suggestion_only, entry.safe_to_retry) == ((), False, None)
        assert "a person's re-run ended it 2 of 3 times" in entry.explanation
        assert "half of them within 30 min" in entry.explanation
        assert "last on 2025-03-01" in entry.explanation

    def test_airflows_own_retries_are_told_apart(self) -> None:
        learned = [lesson(number, mode="airflow", params={}) for number in range(5)]
        (entry,) = lessons.entries([*learned, lesson(9, params={})], NOW)
        assert "a person's re-run ended it 1 of 1 times" in entry.explanation
        assert "Airflow's own retry ended it 5 of 5 times" in entry.explanation
        assert "orders_etl.t0, orders_etl.t1, orders_etl.t2 and 3 more" in entry.explanation

    def test_new_code_says_that_a_person_has_to_act_in_this_dag(self) -> None:
        (entry,) = lessons.entries(
            [lesson(0, action="none", params={}, detail="DAG version v3 → v4")], NOW
        )
        assert (entry.action, entry.dags) == ("none", ("orders_etl",))
        assert "new version" in entry.cause
        assert "v3 → v4" in entry.explanation

    def test_a_changed_connection_is_a_suggestion_that_invents_no_value(self) -> None:
        params = {"connection_id": "orders_db"}
        (entry,) = lessons.entries([lesson(0, action="update_connection", params=params)], NOW)
        assert entry.params == params
        assert entry.suggestion_only
        assert "connection orders_db" in entry.cause

    def test_what_helped_no_more_often_than_not_is_no_answer(self) -> None:
        assert lessons.entries([lesson(0), lesson(1, outcome="failed")], NOW) == ()
        assert lessons.entries([lesson(0, outcome="unknown"), lesson(1, action=None)], NOW) == ()
        assert lessons.entries([], NOW) == ()

    def test_two_answers_are_two_entries(self) -> None:
        both = lessons.entries([lesson(0), lesson(1, action="none", params={})], NOW)
        assert {entry.action for entry in both} == {"retry", "none"}
        assert len({entry.id for entry in both}) == 2


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1, "1 s"), (59, "59 s"), (61, "2 min"), (3600, "1 h"), (90_000, "25 h"), (180_000, "3 days")],
)
def test_a_length_of_time_is_told_in_its_largest_unit(seconds: int, told: str) -> None:
    assert lessons.duration(seconds) == told


# ---- in the knowledge base ----

FAILURE = sign("ConnectionRefusedError: [Errno 111] Connection refused")


@pytest.fixture
def base(tmp_path: Path) -> Iterator[KnowledgeBase]:
    with closing(SqliteStore.open(str(tmp_path / "kb.db"), lambda: NOW + DAY)) as store:
        yield KnowledgeBase(store, BuiltinEmbedder())


def weighed(base: KnowledgeBase, **changes: object) -> Evidence:
    one = incident(0, signature=FAILURE, **changes)
    return base.evidence(one, "retry", {}, now=one.failed_at, relapse_window=DAY)


def known(number: int = 0, **changes: object) -> Lesson:
    return lesson(number, **{"signature": FAILURE, "params": {}, **changes})


def learn(base: KnowledgeBase, *learned: Lesson) -> None:
    base.store.add_lessons(learned)
    base.learn_history([FAILURE.fingerprint], NOW + DAY)


def test_a_clear_in_airflow_is_evidence_as_an_approval_is(base: KnowledgeBase) -> None:
    learn(base, known())
    later = weighed(base, run_id="next", failed_at=NOW + 3 * DAY)
    assert (later.scope, later.value, later.contradicted) == ("task", 1, "")
    (match,) = base.find(FAILURE)
    assert (match.found, match.entry.kind, match.entry.action) == ("exact", "history", "retry")
    assert base.record(match.entry)["fixed"] == 1


def test_airflows_own_retries_are_no_evidence(base: KnowledgeBase) -> None:
    learn(base, *(known(number, mode="airflow") for number in range(5)))
    assert weighed(base, run_id="next").scope == "none"
    (match,) = base.find(FAILURE)
    assert match.entry.action == "retry", "it is proposed, and a person is asked"


def test_a_mass_clear_counts_once_in_the_evidence_and_in_the_record(base: KnowledgeBase) -> None:
    learn(base, *(known(map_index=index) for index in range(3)))
    assert weighed(base, run_id="next", failed_at=NOW + 3 * DAY).fixed == 1
    (match,) = base.find(FAILURE)
    assert base.record(match.entry)["fixed"] == 1
    assert "ended it 3 of 3 times" in match.entry.explanation, "and it is told as it was"


def test_what_a_named_machine_cleared_is_shown_and_is_no_evidence(base: KnowledgeBase) -> None:
    """Whether it was named before that was learned or later."""
    learn(base, known(0, by="svc-Retry"), known(1, by="ana"), known(2, by="ana", run_id="b"))
    assert weighed(base, run_id="next", failed_at=NOW + 3 * DAY).fixed == 1
    named = KnowledgeBase(base.store, base.embedder, ["SVC-*"])
    assert weighed(named, run_id="next", failed_at=NOW + 3 * DAY).scope == "dag"
    named.learn_history([FAILURE.fingerprint], NOW + 2 * DAY)
    (entry,) = base.store.entries(kind="history")
    assert "a person's re-run ended it 2 of 2 times" in entry.explanation
    assert "a machine's re-run ended it 1 of 1 times" in entry.explanation
    assert [one.mode for one in base.store.lessons([FAILURE.fingerprint])] == ["person"] * 3


def test_a_bound_is_not_fitted_to_what_a_machine_did(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = NearCase(1, "E", 0.9, "retry", "superseded", None, lesson=known(by="svc"))
    pages = {None: (near,), 1: ()}
    monkeypatch.setattr(base.store, "near_cases", lambda *_, before, **__: pages[before])
    assert [one.right for one in base.labelled()] == [True]
    base.machine_logins = ["svc"]
    assert base.labelled() == ()


@pytest.mark.parametrize(
    ("logins", "by", "mode"),
    [
        ([], "", "person"),
        ([], "ana", "person"),
        (["svc"], "ana", "person"),
        (["svc"], "svc-retry", "person"),
        (["bot", "svc*"], "svc-retry", "machine"),
        (["svc"], "", "machine"),  # nobody knows that it was not that one
    ],
)
def test_who_is_a_machine(logins: list[str], by: str, mode: str) -> None:
    own = lesson(1, mode="airflow", by="")
    told = lessons.told_apart([lesson(0, by=by), own], logins)
    assert told == (lesson(0, by=by, mode=mode), own)


def test_the_failure_at_hand_makes_the_last_clear_a_relapse(base: KnowledgeBase) -> None:
    learn(base, known())
    soon = weighed(base, run_id="next", failed_at=NOW + HOUR)
    assert (soon.fixed, soon.relapsed) == (0, 1)


def test_a_clear_in_vain_speaks_against_it(base: KnowledgeBase) -> None:
    learn(base, known(outcome="failed"))
    assert "did not help" in weighed(base, run_id="next").contradicted


def test_old_outcomes_count_less(base: KnowledgeBase) -> None:
    learn(base, known())
    later = NOW + timedelta(days=200)
    assert weighed(base, run_id="next", failed_at=later).value == 0
    one = incident(0, signature=FAILURE, run_id="next", failed_at=later)
    year = timedelta(days=365)
    kept = base.evidence(one, "retry", {}, now=later, relapse_window=DAY, half_life=year)
    assert kept.value == 1


def test_an_outcome_of_other_code_counts_less(base: KnowledgeBase) -> None:
    for number in range(3):
        one = incident(number, signature=FAILURE, context={"version": 1})
        added(base.store, one)
        acted(base.store, one)
    assert weighed(base, run_id="next", context={"version": 1}).value == 1
    elsewhere = incident(7, signature=FAILURE, context={"version": 2})
    found = base.evidence(elsewhere, "retry", {}, now=NOW, relapse_window=DAY)
    assert (found.scope, found.fixed, found.value) == ("dag", 3, 2)


def test_learning_the_same_again_changes_nothing(base: KnowledgeBase) -> None:
    learn(base, known())
    before = base.store.revision()
    learn(base, known())
    assert base.store.revision() == before


def heard(patch: pytest.MonkeyPatch, of: object, name: str, told: Callable[..., None]) -> None:
    """Have each call of this method told before it is made."""
    real = getattr(of, name)

    def call(*given: Any, **named: Any) -> Any:
        told(*given, **named)
        return real(*given, **named)

    patch.setattr(of, name, call)


def test_what_is_the_same_is_not_embedded_again_and_is_read_in_batches(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every night all that was ever learned is looked at, and little of it is new."""
    kinds = [sign(f"ValueError: kind {chr(97 + n)}{chr(97 + n)}") for n in range(5)]
    for number, kind in enumerate(kinds):
        base.store.add_lessons([known(number, signature=kind, run_id=f"run-{number}")])
    prints = [kind.fingerprint for kind in kinds]
    assert len(set(prints)) == 5
    assert base.learn_history(prints, NOW + DAY) == PutCounts(added=5)

    embedded: list[str] = []
    asked: list[str] = []
    monkeypatch.setattr(base_module, "LESSONS_AT_ONCE", 2)
    heard(monkeypatch, base.embedder, "embed", embedded.extend)
    heard(monkeypatch, base.store, "lessons", lambda _: asked.append("lessons"))
    heard(monkeypatch, base.store, "entries", lambda **_: asked.append("entries"))
    base.store.add_lessons([known(9, signature=kinds[3], run_id="new")])
    assert base.learn_history(prints, NOW + 2 * DAY) == PutCounts(changed=1, same=4)
    assert embedded == [kinds[3].text]
    assert asked == ["entries", "lessons", "lessons", "lessons"]


def test_more_of_it_makes_it_a_new_version(base: KnowledgeBase) -> None:
    learn(base, known(0))
    learn(base, known(1))
    (entry,) = base.store.entries(kind="history")
    assert "2 of 2" in entry.explanation


def test_what_a_person_retired_stays_retired(base: KnowledgeBase) -> None:
    learn(base, known(0))
    (entry,) = base.store.entries(kind="history")
    base.store.retire_entries([entry.id], "ana", NOW, "not so")
    learn(base, known(1))
    assert base.store.entries(kind="history") == ()


def test_what_does_not_hold_any_more_is_retired(base: KnowledgeBase) -> None:
    learn(base, known(0))
    learn(base, known(1, outcome="failed"))
    assert base.store.entries(kind="history") == ()
