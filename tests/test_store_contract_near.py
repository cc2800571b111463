"""What every Store promises about the incidents that were judged by a near match."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from knowledge.records import Decision, Incident, Judgement, Lesson, NearCase
from knowledge.stores import Store
from knowledge.stores.engine import Values
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.sql_incidents import SqlStore
from knowledge.stores.sqlite import SqliteStore
from tests.samples import HOUR, NOW, acted, added, decision, incident, lesson, opened

EMBEDDER = "builtin"


def judged(store: Store, one: Incident, found: str = "near", **changes: Any) -> None:
    match = {"found": found, "similarity": 0.9312, "action": "retry", **changes}
    embedder = match.pop("embedder", EMBEDDER)
    others = [{"found": "near", "similarity": 0.5, "action": "none"}]
    document = {
        "matches": [match, *others] if found else [],
        "gate": {"bound": {"embedder": embedder}},
        "said": "a \\u0000 in a log, and half a \ud800 pair",
    }
    store.add_judgement(Judgement(one.id, NOW, document))


def seen(store: Store, number: int, found: str = "near", **changes: Any) -> Incident:
    one = incident(number)
    added(store, one)
    judged(store, one, found, **changes)
    return one


def near(store: Store, limit: int = 100, before: int | None = None) -> tuple[NearCase, ...]:
    return store.near_cases(EMBEDDER, 1, before=before, limit=limit)


def test_it_has_the_best_match_and_what_came_out(store: Store) -> None:
    one = seen(store, 0)
    acted(store, one, "failed")
    assert near(store) == (
        NearCase(
            judgement=1,
            error_class="ConnectionError",
            similarity=0.9312,
            proposed="retry",
            kind="approve",
            action="retry",
            outcome="failed",
        ),
    )
    store.call_wrong(one.id, "me", NOW, "paid twice")
    assert [known.harmful for known in near(store)] == [True]


def test_only_what_was_judged_so_by_this_embedder_and_is_decided(store: Store) -> None:
    waiting = seen(store, 0)
    store.record(decision(waiting, "shadow"))
    for number, changes in enumerate(
        ({"found": "exact"}, {"found": ""}, {"embedder": "ollama:nomic-embed-text"}), 1
    ):
        acted(store, seen(store, number, **changes))
    given_back = seen(store, 4)
    token, _ = opened(store, given_back)
    store.release(given_back.id, token)
    bare = incident(5)
    added(store, bare)
    store.add_judgement(Judgement(bare.id, NOW, {}))
    acted(store, bare)
    other = incident(6, signature=replace(incident(6).signature, version=2))
    added(store, other)
    judged(store, other)
    acted(store, other)
    assert near(store) == ()
    assert len(store.near_cases(EMBEDDER, 2, limit=9)) == 1
    assert len(store.near_cases("ollama:nomic-embed-text", 1, limit=9)) == 1


def test_the_newest_judgement_counts_and_the_newest_decision(store: Store) -> None:
    exact, nearer = seen(store, 0), seen(store, 1, "exact")
    judged(store, exact, "exact")
    judged(store, nearer, similarity=0.7)
    for one in (exact, nearer):
        acted(store, one)
    store.record(decision(nearer, "reject"))
    store.record(decision(nearer, "shadow"))
    assert [(one.similarity, one.kind, one.outcome) for one in near(store)] == [
        (0.7, "reject", None)
    ]


def test_what_was_done_in_airflow_is_there_once_it_is_known(store: Store) -> None:
    one = seen(store, 0)
    store.record(Decision(one.id, "superseded", NOW + HOUR, "airflow"))
    assert near(store) == ()
    known: Lesson = lesson(0)
    store.add_lessons([known, lesson(1)])
    assert [(found.kind, found.lesson) for found in near(store)] == [("superseded", known)]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_pages_go_back_from_the_last_judged(store: Store, limit: int) -> None:
    for number in range(5):
        acted(store, seen(store, number, similarity=number / 10))
    told: list[float] = []
    before = None
    while page := near(store, limit, before):
        assert len(page) <= limit
        told += [one.similarity for one in page]
        before = page[-1].judgement
    assert told == [0.4, 0.3, 0.2, 0.1, 0.0]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_index_leads_to_them(
    request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the databases' own plans: other judgements are not read."""
    made: SqlStore
    if kind == "sqlite":
        made, explain = SqliteStore.in_memory(lambda: NOW), "EXPLAIN QUERY PLAN"
    else:
        made, explain = PostgresStore.open(request.getfixturevalue("database").app), "EXPLAIN"
    plans: list[str] = []
    with closing(made):
        ask = made._db.rows

        def explained(sql: str, values: Values = ()) -> list[dict[str, Any]]:
            if "FROM judgements" in sql:
                if kind == "postgres":  # of a table without rows it would read them all
                    ask("SET LOCAL enable_seqscan = off")
                plans.append(str(ask(f"{explain} {sql}", values)))
            return ask(sql, values)

        monkeypatch.setattr(made._db, "rows", explained)
        near(made)
    (plan,) = plans
    assert "judgements_near" in plan
