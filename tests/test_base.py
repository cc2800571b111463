"""What callers ask of the knowledge base: seeding, learning, finding."""

from __future__ import annotations

from typing import Any

import pytest

from knowledge.base import KnowledgeBase, symptom
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Entry
from knowledge.stores import Store
from tests.builders import NOW, entry, incident


@pytest.fixture
def knowledge(store: Store) -> KnowledgeBase:
    return KnowledgeBase(store, BuiltinEmbedder())


def known(text: str, source: str = "runbooks/orders.yaml:3", **fields: Any) -> Entry:
    return entry(id=f"id-{text}", title=text, source=source, symptoms=(symptom(text),), **fields)


REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
LOCKED = "sqlite3.OperationalError: database is locked"


def titles(knowledge: KnowledgeBase) -> set[str]:
    return {entry.title for entry in knowledge.store.entries()}


def test_seeding_twice_changes_nothing(knowledge: KnowledgeBase) -> None:
    first = knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert (first.added, first.changed, first.same, first.retired) == (2, 0, 0, 0)
    second = knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert (second.added, second.changed, second.same, second.retired) == (0, 0, 2, 0)


def test_what_vanished_from_a_file_is_retired_and_comes_back_with_it(
    knowledge: KnowledgeBase,
) -> None:
    knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert knowledge.seed([known(REFUSED)], by="ana", at=NOW).retired == 1
    assert titles(knowledge) == {REFUSED}
    assert knowledge.find(symptom(LOCKED).signature)[0].entry.title == REFUSED


def test_a_file_that_is_gone_from_a_folder_is_retired(knowledge: KnowledgeBase) -> None:
    gone = known(LOCKED, "runbooks/db.yaml:1")
    knowledge.seed([known(REFUSED), gone], folders=["runbooks"], by="ana", at=NOW)
    assert knowledge.seed([known(REFUSED)], by="ana", at=NOW).retired == 0
    done = knowledge.seed([known(REFUSED)], folders=["runbooks"], by="ana", at=NOW)
    assert done.retired == 1


def test_another_folder_of_the_same_name_is_left_alone(knowledge: KnowledgeBase) -> None:
    knowledge.seed([known(REFUSED)], folders=["runbooks"], by="ana", at=NOW)
    other = known(LOCKED, "runbooks/db.yaml:1")
    assert knowledge.seed([other], folders=["runbooks"], by="ben", at=NOW).retired == 0
    assert titles(knowledge) == {REFUSED, LOCKED}


def test_exact_is_found_first_and_stands_at_one(knowledge: KnowledgeBase) -> None:
    knowledge.put([known(REFUSED), known(LOCKED)], NOW)
    best, *_ = knowledge.find(symptom(f"urllib3.x\n{REFUSED}").signature)
    assert (best.entry.title, best.found, best.similarity) == (REFUSED, "exact", 1.0)


@pytest.mark.parametrize("text", ["", "   \n", "\x00\x1b[2J"])
def test_an_empty_text_finds_nothing(knowledge: KnowledgeBase, text: str) -> None:
    knowledge.put([known(REFUSED)], NOW)
    assert knowledge.find(symptom(text).signature) == ()


def test_deciding_the_same_again_is_one_entry(knowledge: KnowledgeBase) -> None:
    for headline in ("first", "second"):
        failed = incident(signature=symptom(REFUSED).signature, task_id=headline)
        knowledge.learn(failed, action="retry", params={}, cause="it restarts", at=NOW)
    (one,) = knowledge.store.entries(kind="incident")
    assert (one.action, one.cause) == ("retry", "it restarts")
    knowledge.learn(failed, action="none", params={}, cause="a bug", at=NOW)
    assert len(knowledge.store.entries(kind="incident")) == 2


def test_what_is_typed_is_kept_without_secrets_and_escapes() -> None:
    kept = symptom("\x1b[31mValueError: postgresql://etl:hunter2pass@db/x")
    assert "hunter2pass" not in repr(kept)
    assert "\x1b" not in kept.text
