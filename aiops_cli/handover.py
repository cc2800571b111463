"""The handover's document → text for a terminal, or Markdown to paste into a chat or a ticket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aiops_cli import storms
from aiops_cli.listings import name_of, told_together
from aiops_cli.published import action_word, status_word
from aiops_cli.render import hold_line, status_text
from aiops_cli.screen import local, one_line, plain
from aiops_cli.storms import Storm

Document = Mapping[str, Any]
NO_ERROR = "no error in the log"


def as_text(document: Document, short: Mapping[str, str]) -> RenderableType:
    """What waits comes first: it is what the next shift starts with."""
    parts: list[RenderableType] = [
        plain(f"{local(document['since'])} – {local(document['until'])}, by {document['by']}")
    ]
    if document["paused"]:
        parts.append(plain(f"PAUSED by {document['paused_by']}: nothing is done alone", "bold red"))
    for title, docs in _sections(document):
        parts.append(Text(f"\n{title}: {len(docs) or 'none'}", "bold"))
        for one in told_together(docs):
            parts += [_storm_line(one, short)] if isinstance(one, Storm) else _lines(one, short)
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
        for one in told_together(docs):
            lines.append(_storm_item(one, short) if isinstance(one, Storm) else _item(one, short))
            lines += [f"  - {_code(by)}: {_code(text)}" for by, text in _notes(one)]
        lines += [""] if docs else ["None.", ""]
    lines += [f"## Held ({len(document['holds'])})", ""]
    lines += [f"- {_code(hold_line(hold).plain)}" for hold in document["holds"]] or ["None."]
    return Text("\n".join(lines))


def _lines(docs: Sequence[Document], short: Mapping[str, str]) -> list[Text]:
    """One failure, or instances of a mapped task: which it was and how it stands; what happened."""
    doc = docs[0]
    head = Text.assemble(
        (_short(docs, short), "cyan"), f"  {_at(doc)}  ", plain(name_of(docs), "bold")
    )
    if doc["status"] != "pending" or doc["snoozed_until"]:
        head.append("  ").append(status_text(doc))
    if doc["status"] == "pending":
        head.append(plain(f"  → {action_word(doc)}"))
    return [head, one_line(f"      {doc['headline'] or NO_ERROR}", "dim")]


def _short(docs: Sequence[Document], short: Mapping[str, str]) -> str:
    return short[docs[0]["incident"]] + (f" +{len(docs) - 1}" if len(docs) > 1 else "")


def _at(doc: Document) -> str:
    """Its offset stands above all of them."""
    return local(doc["failed_at"], "%m-%d %H:%M")


def _storm_line(storm: Storm, short: Mapping[str, str]) -> Text:
    first = local(storm.first_failed, "%m-%d %H:%M")
    text = Text.assemble((short[storm.group], "bold cyan"), f"  {first}  ")
    text.append(plain(storm.size, "bold"))
    told = ", ".join(f"{count} {name}" for name, count in storm.statuses.most_common())
    return text.append(plain(f"  {told} · {storm.title} → {storms.told(storm.actions)}"))


def _storm_item(storm: Storm, short: Mapping[str, str]) -> str:
    return f"- {_code(_storm_line(storm, short).plain)}"


def _notes(one: Storm | Sequence[Document]) -> Sequence[tuple[str, str]]:
    """Who said what, each word once: of a group it stands with every member."""
    docs = one.members if isinstance(one, Storm) else one
    return list(dict.fromkeys((note["by"], note["text"]) for doc in docs for note in doc["notes"]))


def _item(docs: Sequence[Document], short: Mapping[str, str]) -> str:
    doc = docs[0]
    what = _code(doc["headline"] or NO_ERROR)
    end = status_word(doc) + (f", {doc['outcome']}" if doc["outcome"] else "")
    told = f"{_code(name_of(docs))}: {what} → {action_word(doc)} ({end})"
    return f"- {_code(_short(docs, short))} {_at(doc)} {told}"


def _code(text: object) -> str:
    """A code span that the text cannot leave."""
    inner = plain(text).plain.replace("`", "'")
    return f"`{inner}`"
