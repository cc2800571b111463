"""Knowledge moved from one base into another: everything arrives, nothing that is there changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.errors import WrongInstance
from knowledge.moving import NotAnExport, TakenIn, export, take_in
from knowledge.records import Entry, Judgement, Outcome, Remark, Symptom, Vouch
from knowledge.signature import sign
from knowledge.stores import LastingStore
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.sqlite import SqliteStore
from tests.samples import (
    MINUTE,
    NOW,
    acted,
    added,
    decision,
    incident,
    lesson,
    opened,
    signature,
)

Bases = Callable[[str], KnowledgeBase]


@pytest.fixture
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bases]:
    """Makes a knowledge base of a kind: "sqlite", or "postgres" (one in a test)."""
    made: list[LastingStore] = []

    def make(kind: str) -> KnowledgeBase:
        store: LastingStore = (
            SqliteStore.open(str(tmp_path / f"{len(made)}.db"))
            if kind == "sqlite"
            else PostgresStore.open(request.getfixturevalue("database").app)
        )
        made.append(store)
        return KnowledgeBase(store, BuiltinEmbedder())

    yield make
    for store in made:
        store.close()


def entry(name: str, cause: str = "a bug") -> Entry:
    text = f"KeyError: {name}"
    symptoms = (Symptom(text, sign(text)),)
    return Entry(name, "runbook", f"{name}.yaml:1", name, symptoms, cause, NOW, action="none")


def lasting(base: KnowledgeBase) -> LastingStore:
    assert isinstance(base.store, SqliteStore | PostgresStore)
    return base.store


def lines(base: KnowledgeBase) -> list[str]:
    """What is exported, but for the base's own name."""
    _, *rest = export(lasting(base))
    return [json.dumps(one, sort_keys=True) for one in rest]


def moved(source: KnowledgeBase, target: KnowledgeBase) -> TakenIn:
    documents = [json.loads(json.dumps(one)) for one in export(lasting(source))]
    return take_in(target, lasting(target), documents, "me", NOW)


def fill(base: KnowledgeBase) -> None:
    """A bit of everything that moves, in an order that is not that of the tables."""
    store = base.store
    store.bind_instance("default", "https://airflow.example")
    base.put([entry("kept"), entry("gone")], NOW)
    store.retire_entries([entry("gone").id], "me", NOW, "stale")
    odd = incident(3, context={"note": "\ud800 \0 é"}, group="s7storm234", group_key="db")
    added(store, incident(0), incident(1), incident(2), odd)
    store.add_judgement(Judgement(incident(0).id, NOW, {"diagnosis": {"entry": "kept"}}))
    yes = Vouch("default", "orders_etl", "t2", None, True, "me", NOW)
    store.record(decision(incident(2), "reject"), [yes])
    acted(store, incident(0))
    store.call_wrong(incident(0).id, "me", NOW, "paid twice", [replace(yes, safe=False)])
    token, _ = opened(store, incident(1))
    store.release(incident(1).id, token)
    store.record(decision(incident(1), "reject", action="none"))
    store.take_back(incident(1).id, "me", NOW)
    again = store.record(decision(incident(1), "approve", action="none"))
    store.add_outcome(Outcome(incident(0).id, 2, NOW, "relapsed", try_number=3))
    store.add_remark(Remark(incident(1).id, "me", NOW, "asked the vendor"))
    bare = {"ended_at": None, "version": None, "action": None, "outcome": "unknown"}
    strange = lesson(8, signature=signature("E: \ud800 \0 é"), **bare)
    store.add_lessons([strange, lesson(0)])  # one of a try that is no incident
    assert again.seq


ROUTES = [("sqlite", "sqlite"), ("sqlite", "postgres"), ("postgres", "sqlite")]


@pytest.mark.parametrize(("here", "there"), ROUTES)
def test_everything_arrives_exactly_and_only_once(base: Bases, here: str, there: str) -> None:
    source, target = base(here), base(there)
    fill(source)
    assert moved(source, target) == TakenIn(2, 0, 4, 0)
    assert lines(target) == lines(source)
    assert moved(source, target) == TakenIn(0, 2, 0, 4)
    assert lines(target) == lines(source)

    assert source.store.counts() == target.store.counts()
    assert target.store.claim(incident(0).id, None, "w", MINUTE) is None, "it was acted on"
    prints = {incident().signature.fingerprint}
    assert target.store.trials(fingerprints=prints) == source.store.trials(fingerprints=prints)
    task = ("default", "orders_etl", "t2")
    assert [vouch.safe for vouch in target.store.vouches(*task)] == [True, False]
    learned = source.store.lesson_counts()
    assert len(learned) == 2
    assert target.store.lessons(learned) == source.store.lessons(learned)
    assert lasting(target).audit_verify().faults == ()
    found = target.find(entry("kept").symptoms[0].signature)
    assert [(match.entry.id, match.found) for match in found] == [(entry("kept").id, "exact")]


def test_what_is_acted_on_stays(base: Bases) -> None:
    source, target = base("sqlite"), base("sqlite")
    added(source.store, incident(0), incident(1))
    opened(source.store, incident(0))
    token, _ = opened(source.store, incident(1))
    source.store.settle(incident(1).id, token, "needs_human")
    added(source.store, incident(2))
    assert moved(source, target) == TakenIn(0, 0, 1, 0)
    assert [case.incident for case in target.store.cases()] == [incident(2)]


def test_what_is_known_here_stays_as_it_is(base: Bases) -> None:
    source, target = base("sqlite"), base("sqlite")
    source.put([entry("shared", cause="theirs"), entry("theirs")], NOW)
    target.put([entry("shared", cause="ours")], NOW)
    added(source.store, incident(0))
    source.store.record(decision(incident(0), "reject", reason="theirs"))
    added(target.store, incident(0), incident(1))
    target.store.record(decision(incident(0), "approve", action="none", reason="ours"))
    assert moved(source, target) == TakenIn(1, 1, 0, 1)
    assert target.store.entry(entry("shared").id).cause == "ours"
    case = target.store.case(incident(0).id)
    assert case.decision is not None
    assert case.decision.reason == "ours"


@pytest.mark.parametrize(
    ("theirs", "ours", "stands"),
    [
        ([True], [], [True]),
        ([True, False, True], [], [True, False, True]),
        ([True], [False], [False]),
        ([True], [True], [True]),
        ([False], [True], [True, False]),
        ([True, False, True], [True], [True, False]),
    ],
)
def test_a_yes_from_elsewhere_outvotes_nobody(
    base: Bases, theirs: list[bool], ours: list[bool], stands: list[bool]
) -> None:
    source, target = base("sqlite"), base("sqlite")
    for number, (store, words) in enumerate(((source.store, theirs), (target.store, ours))):
        one = incident(0, try_number=number + 1)  # the same task, seen at both
        added(store, one)
        for place, safe in enumerate(words):
            word = Vouch("default", "orders_etl", "t0", None, safe, "me", NOW + place * MINUTE)
            store.record(decision(one, action="none"), [word])
    moved(source, target)
    found = target.store.vouches("default", "orders_etl", "t0")
    assert [vouch.safe for vouch in found] == stands


def test_acts_keep_the_time_they_were_done(base: Bases) -> None:
    """What a laptop did last week is no reason for the team's tool to sit still for an hour."""
    source, target = base("sqlite"), base("sqlite")
    added(source.store, incident(0))
    acted(source.store, incident(0), "fixed", kind="auto")
    document = next(one["decisions"] for one in export(lasting(source)) if "decisions" in one)
    assert source.store.acts_alone(incident(0).id).hour == 0, "itself"
    moved(source, target)
    copied = next(one["decisions"] for one in export(lasting(target)) if "decisions" in one)
    assert copied["recorded_at"] == document["recorded_at"]


def test_what_was_retired_there_is_never_live_here(
    base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor while it is being taken in: a watcher would act on it."""
    source, target = base("sqlite"), base("sqlite")
    fill(source)
    monkeypatch.setattr(target.store, "retire_entries", cut_off)
    with pytest.raises(KeyboardInterrupt):
        moved(source, target)
    assert target.store.entry("gone").retired
    assert not target.store.entry("kept").retired
    monkeypatch.undo()
    moved(source, target)
    assert lines(target) == lines(source)
    assert lasting(target).audit_verify().faults == ()


def cut_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_starter_entry_retired_there_is_retired_here(base: Bases) -> None:
    source, target = base("sqlite"), base("sqlite")
    for one in (source, target):
        one.seed_starter(NOW)
    first, second = source.store.entries()[:2]
    source.store.retire_entries([first.id], "me", NOW, "harmful here")
    moved(source, target)
    assert target.store.entry(first.id).retired
    assert not target.store.entry(second.id).retired


def test_another_airflow_under_the_same_name_is_refused(base: Bases) -> None:
    source, target = base("sqlite"), base("sqlite")
    fill(source)
    target.store.bind_instance("default", "https://other.example")
    before = lines(target)
    with pytest.raises(WrongInstance):
        moved(source, target)
    assert lines(target) == before


def documents() -> list[dict[str, Any]]:
    """A right export, with every kind of line."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore.open(f"{folder}/kb.db")
        base = KnowledgeBase(store, BuiltinEmbedder())
        fill(base)
        found = list(export(store))
        store.close()
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]  # as it was, from JSON


RIGHT = documents()
PLACES = {next(iter(one)): place for place, one in enumerate(RIGHT)}  # of the last of each kind
WRONG: list[tuple[str, str, Any]] = [
    (kind, field, value)
    for kind, place in PLACES.items()
    if kind != "aiops"
    for field, good in RIGHT[place][kind].items()
    for value in (7 if isinstance(good, str | None) else "x", None, [1])
    if value != good and (value is not None or field not in ("by", "cause"))
]


def test_all_kinds_are_tried() -> None:
    assert set(PLACES) == {
        *("aiops", "instance", "entry", "incidents", "judgements", "remarks", "decisions"),
        *("voided", "outcomes", "harms", "vouches", "claims", "lessons", "end"),
    }
    assert len(WRONG) > 200


def test_a_damaged_line_is_refused_and_nothing_of_the_file_stored(base: Bases) -> None:
    """Each field of each kind of line, wrong in several ways."""
    target = base("sqlite")
    before = lines(target)
    for kind, field, value in WRONG:
        damaged = whole()
        right = damaged[PLACES[kind]][kind]
        optional = value is None and right[field] is not None
        right[field] = value
        try:
            take_in(target, lasting(target), damaged, "me", NOW)
        except NotAnExport:
            pass
        else:
            # A text that may be absent, absent, is a line as right as before.
            assert optional, (kind, field, value)
            target = base("sqlite")
        assert lines(target) == before, (kind, field, value)


def whole() -> list[dict[str, Any]]:
    """An export of everything, each line an object of its own."""
    import copy

    return copy.deepcopy(RIGHT)


def refused(target: KnowledgeBase, documents: list[dict[str, Any]]) -> str:
    """Why; and nothing of it is stored."""
    before = lines(target)
    with pytest.raises(NotAnExport) as told:
        take_in(target, lasting(target), documents, "me", NOW)
    assert lines(target) == before
    return str(told.value)


def test_a_file_that_was_cut_off_or_lost_a_line_is_refused(base: Bases) -> None:
    """Else what was done about an incident would be missing, and be done again."""
    target = base("sqlite")
    for place in range(1, len(RIGHT)):
        assert "cut off" in refused(target, whole()[:place])
    for place in range(1, len(RIGHT) - 1):
        refused(target, whole()[:place] + whole()[place + 1 :])
        refused(target, whole()[:place] + whole()[place - 1 :])
    assert "behind its end" in refused(target, [*whole(), RIGHT[2]])


def test_lines_in_another_order_are_refused(base: Bases) -> None:
    target = base("sqlite")
    for kind in ("judgements", "decisions", "outcomes", "claims"):
        documents = sorted(whole()[:-1], key=lambda one: next(iter(one)) not in ("aiops", kind))
        assert "does not come before it" in refused(target, [*documents, RIGHT[-1]])


def test_names_may_come_in_any_order(base: Bases) -> None:
    target, documents = base("postgres"), whole()
    for place, one in enumerate(documents[:-1]):
        ((kind, fields),) = [*one.items()][:1]
        if place % 2 and isinstance(fields, dict):
            one[kind] = dict(reversed(fields.items()))
    take_in(target, lasting(target), documents, "me", NOW)
    assert [json.loads(line) for line in lines(target)] == RIGHT[1:]


@pytest.mark.parametrize("kind", ["outcomes", "harms", "claims"])
def test_what_is_done_about_one_incident_never_touches_another(base: Bases, kind: str) -> None:
    """Else a file could close, or blame, what waits here."""
    target, documents = base("sqlite"), whole()
    added(target.store, incident(7))
    for other in (incident(7).id, "nobody"):
        for one in documents:
            if kind in one:
                one[kind]["incident_id"] = other
        assert f"is not about {other}" in refused(target, documents)


@pytest.mark.parametrize("kind", ["incidents", "decisions", "voided", "claims"])
def test_what_comes_twice_is_refused(base: Bases, kind: str) -> None:
    documents = [two for one in whole()[:-1] for two in ([one, one] if kind in one else [one])]
    end = {"end": {"lines": len(documents)}}
    assert "comes twice" in refused(base("sqlite"), [*documents, end])


@pytest.mark.parametrize("kind", ["entry", "incidents"])
@pytest.mark.parametrize("odd", ["", "a b", "\x1b]0;x\x07"])
def test_an_id_that_nobody_could_type_is_refused(base: Bases, kind: str, odd: str) -> None:
    documents = whole()
    documents[PLACES[kind]][kind]["id" if kind == "entry" else "group_id"] = odd
    refused(base("sqlite"), documents)


def test_what_is_nested_without_end_is_refused(base: Bases) -> None:
    documents = whole()
    params: dict[str, Any] = {}
    for _ in range(5_000):
        params = {"a": params}
    for kind, field in (("entry", "params"), ("incidents", "context"), ("decisions", "plan")):
        nested = list(documents)
        nested[PLACES[kind]] = {kind: {**RIGHT[PLACES[kind]][kind], field: params}}
        refused(base("sqlite"), nested)


@pytest.mark.parametrize("number", [2**31, 2**64, -(10**30)])
@pytest.mark.parametrize("here", ["sqlite", "postgres"])
def test_a_number_that_no_table_holds_is_refused(base: Bases, here: str, number: int) -> None:
    documents = whole()
    for one in documents:
        if "outcomes" in one:
            one["outcomes"]["try_number"] = number
    assert "try_number" in refused(base(here), documents)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "no export"),
        ({"aiops": "1"}, "no export"),
        ({"aiops": 2}, "newer aiops"),
        ([], "no export"),
    ],
)
def test_what_is_no_export_is_refused(base: Bases, document: Any, told: str) -> None:
    target = base("sqlite")
    with pytest.raises(NotAnExport, match=told):
        take_in(target, lasting(target), [document], "me", NOW)


@pytest.mark.parametrize(
    "document",
    [
        {"instance": {"name": "a", "url": "https://[b"}},
        {},
        [],
        "x",
        {"entry": {}, "instance": {}},
        {"entry": []},
        {"claims": {}},
    ],
)
def test_a_line_of_another_kind_is_refused(base: Bases, document: Any) -> None:
    target = base("sqlite")
    with pytest.raises(NotAnExport):
        take_in(target, lasting(target), [{"aiops": 1}, document], "me", NOW)
