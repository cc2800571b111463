"""What ships with the package is in every new base, once a version, and gives way to the site's."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge import base
from knowledge.base import KnowledgeBase, symptom
from knowledge.embedders import BuiltinEmbedder
from knowledge.stores.memory import MemoryStore
from tests.builders import NOW

BOOK = "- title: {title}\n  error: '{error}'\n  cause: c\n  action: retry\n"


@pytest.fixture
def knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnowledgeBase:
    """A base whose package ships one file with two entries."""
    starter = tmp_path / "starter"
    starter.mkdir()
    write(starter, one="ValueError: one", two="ValueError: two")
    monkeypatch.setattr(base, "STARTER", starter)
    return KnowledgeBase(MemoryStore(), BuiltinEmbedder())


def write(folder: Path, **entries: str) -> None:
    text = "".join(BOOK.format(title=title, error=error) for title, error in entries.items())
    (folder / "all.yaml").write_text(text)


def titles(knowledge: KnowledgeBase) -> set[str]:
    return {entry.title for entry in knowledge.store.entries()}


def test_a_new_base_has_them_and_they_are_read_once(
    knowledge: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowledge.seed_starter(NOW)
    assert titles(knowledge) == {"one", "two"}
    assert all(entry.source.startswith("starter/") for entry in knowledge.store.entries())
    monkeypatch.setattr(knowledge, "seed", None)  # not called again
    knowledge.seed_starter(NOW)
    assert knowledge.find(symptom("ValueError: one").signature)[0].found == "exact"


def test_an_upgrade_keeps_what_was_retired(knowledge: KnowledgeBase) -> None:
    knowledge.seed_starter(NOW)
    (one,) = [entry for entry in knowledge.store.entries() if entry.title == "one"]
    knowledge.store.retire_entries([one.id], "ana", NOW, "not here")
    write(
        base.STARTER, one="ValueError: one, told better", two="ValueError: two", new="KeyError: 3"
    )
    knowledge.seed_starter(NOW)
    assert titles(knowledge) == {"two", "new"}


def test_what_a_new_version_drops_is_retired(knowledge: KnowledgeBase) -> None:
    knowledge.seed_starter(NOW)
    write(base.STARTER, two="ValueError: two")
    knowledge.seed_starter(NOW)
    assert titles(knowledge) == {"two"}


def test_the_real_ones_are_in_a_base_of_the_command_line(tmp_path: Path) -> None:
    from aiops_cli import config, services

    chosen = config.load(
        cwd=tmp_path,
        environ={"AIOPS_KB": f"sqlite:///{tmp_path / 'kb.db'}", "AIOPS_USER": "ana"},
    )
    with services.knowledge_base(chosen) as opened:
        assert len(opened.store.entries(source="starter/")) >= 80
