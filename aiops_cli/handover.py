"""The handover's document → text for a terminal, or Markdown to paste into a chat or a ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aiops_cli import storms
from aiops_cli.published import status_word
from aiops_cli.render import hold_line, incident_line, task_name
from aiops_cli.screen import local, plain
from aiops_cli.storms import Storm, folded

Document = Mapping[str, Any]


def as_text(document: Document, short: Mapping[str, str]) -> RenderableType:
    """What waits comes first: it is what the next shift starts with."""
    parts: list[RenderableType] = [
        plain(f"{local(document['since'])} – {local(document['until'])}, by {document['by']}")
    ]
    if document["paused"]:
        parts.append(plain(f"PAUSED by {document['paused_by']}: nothing is done alone", "bold red"))
    for title, docs in _sections(document):
        parts.append(Text(f"\n{title}: {len(docs) or 'none'}", "bold"))
        for one in folded(docs):
            parts.append(_storm_line(one, short) if isinstance(one, Storm) else _line(one, short))
            parts.extend(plain(f"      {by}: {text}", "dim") for by, text in _notes(one))
    parts.append(Text(f"\nHELD: {len(document['holds']) or 'none'}", "bold"))
    parts.extend(hold_line(hold) for hold in document["holds"])
    return Group(*parts)


def _sections(document: Document) -> Sequence[tuple[str, Sequence[Document]]]:
    return (
        ("WAITS FOR A PERSON", document["waiting"]),
        ("UNDER WAY", document["acting"]),
        ("HAPPENED", document["happened"]),
    )


def as_markdown(document: Document, short: Mapping[str, str]) -> Text:
    """The same as Markdown. What came from a log is code, so that it formats and links nothing."""
    lines = [f"# Handover {local(document['since'])} – {local(document['until'])}", ""]
    lines += [f"By {_code(document['by'])}.", ""]
    if document["paused"]:
        lines += [f"**Paused by {_code(document['paused_by'])}: nothing is done alone.**", ""]
    for title, docs in _sections(document):
        lines += [f"## {title.capitalize()} ({len(docs)})", ""]
        for one in folded(docs):
            lines.append(_storm_item(one, short) if isinstance(one, Storm) else _item(one, short))
            lines += [f"  - {_code(by)}: {_code(text)}" for by, text in _notes(one)]
        lines += [""] if docs else ["None.", ""]
    lines += [f"## Held ({len(document['holds'])})", ""]
    lines += [f"- {_code(hold_line(hold).plain)}" for hold in document["holds"]] or ["None."]
    return Text("\n".join(lines))


def _line(doc: Document, short: Mapping[str, str]) -> Text:
    return incident_line(doc, short[doc["incident"]], reasons=False)


def _storm_line(storm: Storm, short: Mapping[str, str]) -> Text:
    text = Text.assemble((short[storm.group], "bold cyan"), f"  {local(storm.first_failed)}  ")
    text.append(plain(storm.size, "bold"))
    told = ", ".join(f"{count} {name}" for name, count in storm.statuses.most_common())
    return text.append(plain(f"  {told} · {storm.title} → {storms.told(storm.actions)}"))


def _storm_item(storm: Storm, short: Mapping[str, str]) -> str:
    return f"- {_code(_storm_line(storm, short).plain)}"


def _notes(one: Document | Storm) -> Sequence[tuple[str, str]]:
    """Who said what, each word once: of a group it stands with every member."""
    docs = one.members if isinstance(one, Storm) else (one,)
    return list(dict.fromkeys((note["by"], note["text"]) for doc in docs for note in doc["notes"]))


def _item(doc: Document, shorts: Mapping[str, str]) -> str:
    short = shorts[doc["incident"]]
    what = _code(doc["headline"] or "no error in the log")
    action = (doc["diagnosis"] or {}).get("action") or "?"
    end = status_word(doc) + (f", {doc['outcome']}" if doc["outcome"] else "")
    name = _code(task_name(doc))
    return f"- {_code(short)} {local(doc['failed_at'])} {name}: {what} → {action} ({end})"


def _code(text: object) -> str:
    """A code span that the text cannot leave."""
    inner = plain(text).plain.replace("`", "'")
    return f"`{inner}`"
