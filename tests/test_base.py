"""What callers ask of the knowledge base: seeding, learning, finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from knowledge.base import KEPT_ANSWERS, VANISHED, KnowledgeBase, SeedPlan, symptom
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Candidate, Entry
from knowledge.stores import Store
from tests.builders import NOW, entry, incident


@pytest.fixture
def knowledge(store: Store) -> KnowledgeBase:
    return KnowledgeBase(store, BuiltinEmbedder())


def known(text: str, source: str = "runbooks/orders.yaml:3", **fields: Any) -> Entry:
    return entry(id=f"id-{text}", title=text, source=source, symptoms=(symptom(text),), **fields)


REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
LOCKED = "sqlite3.OperationalError: database is locked"


def counts(plan: SeedPlan) -> tuple[int, ...]:
    return len(plan.added), len(plan.changed), len(plan.same), len(plan.retired)


def titles(knowledge: KnowledgeBase) -> set[str]:
    return {entry.title for entry in knowledge.store.entries()}


def test_seeding_twice_changes_nothing(knowledge: KnowledgeBase) -> None:
    first = knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert counts(first) == (2, 0, 0, 0)
    second = knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert counts(second) == (0, 0, 2, 0)


def test_what_vanished_from_a_file_is_retired_and_comes_back_with_it(
    knowledge: KnowledgeBase,
) -> None:
    knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    assert len(knowledge.seed([known(REFUSED)], by="ana", at=NOW).retired) == 1
    assert titles(knowledge) == {REFUSED}
    assert knowledge.find(symptom(LOCKED).signature)[0].entry.title == REFUSED
    for _ in range(2):  # a checkout of another branch, and back again
        back = knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
        assert counts(back) == (0, 1, 1, 0)
        assert knowledge.find(symptom(LOCKED).signature)[0].entry == known(LOCKED)
        assert counts(knowledge.seed([known(REFUSED)], by="ana", at=NOW)) == (0, 0, 1, 1)
        assert titles(knowledge) == {REFUSED}
    (gone,) = (one for one in knowledge.store.entries(retired=True) if one.retired)
    assert gone.tags.count(VANISHED) == 1


def test_a_file_that_is_gone_from_a_folder_is_retired(knowledge: KnowledgeBase) -> None:
    gone = known(LOCKED, "runbooks/db.yaml:1")
    knowledge.seed([known(REFUSED), gone], scopes=["runbooks/**"], by="ana", at=NOW)
    assert knowledge.seed([known(REFUSED)], by="ana", at=NOW).retired == ()
    done = knowledge.seed([known(REFUSED)], scopes=["runbooks/**"], by="ana", at=NOW)
    assert done.retired == (gone,)


def test_another_folder_of_the_same_name_is_left_alone(knowledge: KnowledgeBase) -> None:
    knowledge.seed([known(REFUSED)], scopes=["runbooks/**"], by="ana", at=NOW)
    other = known(LOCKED, "runbooks/db.yaml:1")
    assert knowledge.seed([other], scopes=["runbooks/**"], by="ben", at=NOW).retired == ()
    assert titles(knowledge) == {REFUSED, LOCKED}


def test_what_a_glob_no_longer_brings_is_retired_but_not_what_it_never_did(
    knowledge: KnowledgeBase,
) -> None:
    old, other = known(LOCKED, "runbooks/db/a.md:1"), known("OSError: full", "runbooks/disk.yaml:1")
    kept = known(REFUSED, "runbooks/orders.md:1")
    knowledge.seed([kept, old, other], by="ana", at=NOW)
    assert knowledge.seed([kept], scopes=["runbooks/**/*.md"], by="ana", at=NOW).retired == (old,)
    assert titles(knowledge) == {REFUSED, "OSError: full"}


def test_a_file_that_lost_its_last_entry_is_retired(knowledge: KnowledgeBase) -> None:
    knowledge.seed([known(REFUSED), known(LOCKED, "runbooks/db.yaml:1")], by="ana", at=NOW)
    done = knowledge.seed([known(REFUSED)], files=["runbooks/db.yaml"], by="ana", at=NOW)
    assert [entry.title for entry in done.retired] == [LOCKED]


def test_a_plan_writes_nothing_and_is_what_seeding_does(knowledge: KnowledgeBase) -> None:
    knowledge.seed([known(REFUSED), known(LOCKED)], by="ana", at=NOW)
    wanted = [known(REFUSED, cause="another one"), known("OSError: full")]
    before = knowledge.store.revision()
    plan = knowledge.plan_seed(wanted)
    assert counts(plan) == (1, 1, 0, 1)
    assert knowledge.store.revision() == before
    assert knowledge.seed(wanted, by="ana", at=NOW) == plan
    assert counts(knowledge.plan_seed(wanted)) == (0, 0, 2, 0)


def test_what_a_person_retired_stays_so_when_its_file_moves_on(knowledge: KnowledgeBase) -> None:
    entry = known(REFUSED, edited="2024-01-01 (git)")
    knowledge.seed([entry], by="ana", at=NOW)
    knowledge.store.retire_entries([entry.id], "ana", NOW, "not true any more")
    moved = known(REFUSED, "runbooks/orders.yaml:9", edited="2024-06-01 (git)")
    assert counts(knowledge.seed([moved], by="ana", at=NOW)) == (0, 0, 1, 0)
    assert titles(knowledge) == set()
    said = known(REFUSED, "runbooks/orders.yaml:9", cause="it is true again")
    assert counts(knowledge.seed([said], by="ana", at=NOW)) == (0, 1, 0, 0)
    assert titles(knowledge) == {REFUSED}


def test_what_a_person_retired_stays_so_when_its_file_is_renamed(knowledge: KnowledgeBase) -> None:
    entry = known(REFUSED)
    renamed = replace(known(REFUSED, "runbooks/new.yaml:1"), id="another")
    knowledge.seed([entry], by="ana", at=NOW)
    knowledge.store.retire_entries([entry.id], "ana", NOW, "not true any more")
    assert counts(knowledge.seed([renamed], by="ana", at=NOW)) == (0, 0, 1, 0)
    assert titles(knowledge) == set()
    said = replace(renamed, cause="it is true again")
    assert counts(knowledge.seed([said], by="ana", at=NOW)) == (1, 0, 0, 0)


def test_a_copy_is_no_renamed_file(knowledge: KnowledgeBase) -> None:
    """Of two copies a person retires one, as kb lint says; the other is renamed later."""
    entry, copy = known(REFUSED), replace(known(REFUSED, "runbooks/copy.yaml:1"), id="copycopy")
    knowledge.seed([entry, copy], by="ana", at=NOW)
    knowledge.store.retire_entries([entry.id], "ana", NOW, "copy has it too")
    renamed = replace(known(REFUSED, "runbooks/new.yaml:1"), id="another")
    assert counts(knowledge.seed([renamed], by="ana", at=NOW)) == (1, 0, 0, 0)


def test_exact_is_found_first_and_stands_at_one(knowledge: KnowledgeBase) -> None:
    knowledge.put([known(REFUSED), known(LOCKED)], NOW)
    best, *_ = knowledge.find(symptom(f"urllib3.x\n{REFUSED}").signature)
    assert (best.entry.title, best.found, best.similarity) == (REFUSED, "exact", 1.0)


@pytest.mark.parametrize("text", ["", "   \n", "\x00\x1b[2J"])
def test_an_empty_text_finds_nothing(knowledge: KnowledgeBase, text: str) -> None:
    knowledge.put([known(REFUSED)], NOW)
    assert knowledge.find(symptom(text).signature) == ()


def test_a_storm_searches_once_for_each_signature_until_something_new_is_known(
    knowledge: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge.put([known(REFUSED)], NOW)
    looked: list[str] = []
    find_exact = knowledge.store.find_exact

    def counted(fingerprint: str) -> tuple[Candidate, ...]:
        looked.append(fingerprint)
        return find_exact(fingerprint)

    monkeypatch.setattr(knowledge.store, "find_exact", counted)
    refused, locked = symptom(REFUSED).signature, symptom(LOCKED).signature
    first = knowledge.find(refused)
    assert knowledge.find(replace(refused, line=7)) == first  # at another place of another log
    knowledge.find(locked)
    knowledge.find(refused)
    assert looked == [refused.fingerprint, locked.fingerprint]
    knowledge.put([known(f"{REFUSED}: as a proxy says it")], NOW)
    assert len(knowledge.find(refused)) == len(first) + 1
    knowledge.store.retire_entries([first[0].entry.id], "ana", NOW, "gone")
    assert first[0] not in knowledge.find(refused)
    assert looked == [refused.fingerprint, locked.fingerprint] + 2 * [refused.fingerprint]


def test_few_answers_are_kept(knowledge: KnowledgeBase) -> None:
    knowledge.put([known(REFUSED)], NOW)
    for number in range(3 * KEPT_ANSWERS):
        word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        knowledge.find(symptom(f"Broken{word}Error: it is broken").signature)
    assert len(knowledge._answers[1]) == KEPT_ANSWERS


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
