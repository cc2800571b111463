"""Knowledge as JSON documents, one a line: from one knowledge base into another.

What ships with the package is left out, but for what was retired of it. The last line counts
the others, for a file that was cut off would have incidents without what was done about them.
See `stores/sql_moving.py` for what of the incidents moves, and what stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

from knowledge.base import KnowledgeBase
from knowledge.records import Entry
from knowledge.stores import LastingStore, rows, rules

FORMAT = 1


class NotAnExport(Exception):
    """A document that `export` does not write; its text says why."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What an import did: entries and incidents added, and those left as they were."""

    entries: int
    entries_known: int
    incidents: int
    incidents_known: int


def export(store: LastingStore) -> Iterator[dict[str, Any]]:
    """All that is known, and the record it rests on. The first document names the format, the last
    one says how many came before it."""
    lines = 0
    for lines, document in enumerate(_all(store), 1):  # noqa: B007 (the last one counts)
        yield document
    yield {"end": {"lines": lines}}


def _all(store: LastingStore) -> Iterator[dict[str, Any]]:
    yield {"aiops": FORMAT, "base": store.base_id()}
    for name, url in store.instances().items():
        yield {"instance": {"name": name, "url": url}}
    for entry in store.entries(retired=True):
        if entry.retired or not entry.source.startswith("starter/"):
            yield {"entry": rows.entry_document(entry)}
    for table, row in store.dump():
        yield {table: row}


def take_in(
    knowledge: KnowledgeBase,
    store: LastingStore,
    documents: Iterable[Mapping[str, Any]],
    by: str,
    at: datetime,
) -> TakenIn:
    """Add what is not known here; what is stays as it is, but that a starter entry that was retired
    there is retired here too. `store` is that of `knowledge`.

    Raises NotAnExport while the documents are read, and WrongInstance where a name is bound to
    another URL here; then nothing is stored."""
    raw = iter(documents)
    first = next(raw, {})
    _check_format(first)
    read = _whole(raw)
    instances: dict[str, str] = {}
    entries: list[Entry] = []
    row: tuple[str, Mapping[str, Any]] | None = None
    for document in read:
        kind, value = _only(document)
        if kind == "instance":
            instances[_text(value, "name")] = _url(value)
        elif kind == "entry":
            entries.append(_entry(value))
        else:
            row = kind, value
            break
    for name, url in store.instances().items():
        if name in instances and instances[name] != url:
            raise rules.wrong_instance(name, url, instances[name])
    try:
        moved = chain([row] if row else [], map(_only, read))
        counts = store.load(moved, str(first.get("base")), by, at)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise NotAnExport(what) from error
    for name, url in instances.items():
        store.bind_instance(name, url)
    known = {entry.id for entry in store.entries(retired=True)}
    new = [entry for entry in entries if entry.id not in known]
    knowledge.put(new, at, by=by)
    gone = [entry.id for entry in entries if entry.starter and entry.retired]
    store.retire_entries(gone, by, at, "retired where it came from")
    return TakenIn(len(new), len(entries) - len(new), counts.incidents, counts.known)


def _whole(documents: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Those behind the first, without the last, which says how many there are. Raises NotAnExport
    where that is not so: nothing may be stored before all are read."""
    for lines, document in enumerate(documents, 1):
        if isinstance(document, dict) and "end" in document:
            if document != {"end": {"lines": lines}}:
                raise NotAnExport("lines are missing, or were added")
            if next(documents, None) is not None:
                raise NotAnExport("it goes on behind its end")
            return
        yield document
    raise NotAnExport("its end is missing: the file was cut off")


def _check_format(document: Mapping[str, Any]) -> None:
    version = document.get("aiops") if isinstance(document, dict) else None
    if type(version) is not int:
        raise NotAnExport("this is no export of a knowledge base")
    if version > FORMAT:
        raise NotAnExport(f"format {version} was written by a newer aiops; upgrade this one")


def _only(document: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if not isinstance(document, dict) or len(document) != 1:
        raise NotAnExport("each line holds one thing: an instance, an entry, or a row")
    ((kind, value),) = document.items()
    if not isinstance(value, dict):
        raise NotAnExport(f"{kind} is no object")
    return kind, value


def _text(value: Mapping[str, Any], name: str) -> str:
    if not isinstance(value.get(name), str):
        raise NotAnExport(f"{name} is {value.get(name)!r}, not text")
    return str(value[name])


def _url(value: Mapping[str, Any]) -> str:
    try:
        return rules.normal_url(_text(value, "url"))
    except ValueError as error:
        raise NotAnExport(f"url is no address: {error}") from error


def _entry(document: Mapping[str, Any]) -> Entry:
    try:
        return rows.entry_of(document)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise NotAnExport(f"an entry that cannot be read: {error}") from error
