"""Markdown runbooks → fields that know their line: which failures a page tells of, what each
looks like, and what it says to do. In doubt it is advice to a person, never an action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from knowledge.runbooks.advice import Against, against, structured, understood
from knowledge.runbooks.fields import Fields, RunbookFile
from knowledge.runbooks.markdown import Block, read_blocks
from knowledge.runbooks.samples import from_words, plain, prose, symptoms
from knowledge.runbooks.tree import CORE, Section, sections
from knowledge.runbooks.yaml import front_matter

_MOST_TEXT = 2_000  # characters kept of a page's prose; the source has the rest
_GLOBS = re.compile(r"`?[\w.*?\[\]-]+`?(?:\s*[,;]\s*`?[\w.*?\[\]-]+`?)*")
_YES = frozenset(("yes", "true", "ja", "oui", "sí", "si", "sim", "tak", "y", "✅", "ok"))
_NO = frozenset(("no", "false", "nein", "non", "não", "nie", "n", "never", "not", "❌"))

Meta = Mapping[str, tuple[int, str]]


@dataclass(slots=True)
class _Failure:
    """What a page says of one failure, by the part it plays."""

    title: str
    line: int
    meta: Meta
    around: Against = Against.NOTHING  # what the page says above it
    headed: Against = Against.NOTHING  # … and what its heading and those above it say
    body: list[Block] = field(default_factory=list)
    parts: dict[str, list[Section]] = field(default_factory=dict)

    def blocks(self, role: str) -> list[Block]:
        return [block for part in self.parts.get(role, ()) for block in part.blocks]


def read_markdown(file: RunbookFile, text: str, title: str = "") -> Iterator[tuple[int, Fields]]:
    """The failures that the page tells of, none where it quotes no error and names no part of a
    runbook; `title` is the page's where it has none itself. Refuses what cannot be told apart or
    recognised, with its line."""
    lines = text.split("\n")
    defaults, start, named = front_matter(file, lines)
    blocks = read_blocks(file, lines, start)
    page = sections(file, blocks, named or title)
    failures = list(_failures(page, {}, Against.NOTHING, Against.NOTHING))
    if not failures:
        failures = list(_whole_page(page, blocks))
    for failure in failures:
        yield failure.line, {**defaults, **_fields(file, failure)}


# --- which failures ---------------------------------------------------------------------------


def _failures(topic: Section, above: Meta, around: Against, headed: Against) -> Iterator[_Failure]:
    """The topic's own failure, or several, then those of the topics below it."""
    meta = {**above, **_facts(topic)}
    own: list[tuple[str, Section]] = []
    apart: list[Section] = []
    has_parts = any(child.role in CORE for child in topic.children)
    for child in topic.children:
        if child.role:
            _collect(child, child.role, own, apart)
        elif child.meta is None and _stands_alone(child, has_parts):
            apart.append(child)
        elif child.meta is None:
            titled = Section("", child.line, child.level, children=[child])
            _collect(titled, "context", own, apart)
    general = [block for role, part in own if role not in CORE for block in part.blocks]
    said = prose([Block("heading", topic.line, topic.title), *topic.blocks, *general])
    warned = any(role == "caution" and prose(part.blocks) for role, part in own)
    around = max(around, against(said), Against.PERHAPS if warned else Against.NOTHING)
    headed = max(headed, against(topic.title))
    groups = _split(own, topic)
    named = [part for _, part in own if part.role in CORE]
    if named or (_quotes(topic) and topic.level > 0):
        for number, group in enumerate(groups):
            made = _failure(topic, meta, group, first=number == 0, only=len(groups) == 1)
            made.around, made.headed = around, headed
            yield made
    for child in apart:
        yield from _failures(child, meta, around, headed)


def _stands_alone(topic: Section, has_parts: bool) -> bool:
    """Whether a topic below another one is a failure of its own, rather than a passage of it."""
    roles = {section.role for section in topic.walk()} & {*CORE}
    quotes = any(_quotes(section) for section in topic.walk() if section.role is None)
    if has_parts:
        return bool(roles) and ("symptoms" in roles or quotes)
    return bool(roles) or quotes


def _quotes(topic: Section) -> bool:
    return bool(from_words(topic.title) or symptoms(topic.blocks, said_to_be=False))


def _collect(
    part: Section, role: str, own: list[tuple[str, Section]], apart: list[Section]
) -> None:
    """The part and what is below it: parts of their own, failures of their own, or its text."""
    text = Section(part.title, part.line, part.level, part.role, None, list(part.blocks))
    text.remark = part.remark
    own.append((role, text))
    for child in part.children:
        if child.role and child.role != role:
            _collect(child, child.role, own, apart)
        elif child.role is None and child.meta is None and _is_failure(child):
            apart.append(child)
        else:
            named = child.title or child.remark
            heading = [Block("heading", child.line, named)] if named else []
            inner: list[tuple[str, Section]] = []
            _collect(child, role, inner, apart)
            text.blocks += heading
            for other, found in inner:
                if other == role:
                    text.blocks += found.blocks
                else:
                    own.append((other, found))


def _is_failure(topic: Section) -> bool:
    """Below a part: only what has symptoms and an answer of its own, else it is the part's text
    ("Option A", "Cause 2")."""
    roles = {section.role for section in topic.walk()}
    shown = "symptoms" in roles or _quotes(topic)
    return shown and bool(roles & {"cause", "action"})


def _split(own: list[tuple[str, Section]], topic: Section) -> list[list[tuple[str, Section]]]:
    """Parts in their order → one list a failure: symptoms that come after an action, where there
    were some before it, begin the next one."""
    groups: list[list[tuple[str, Section]]] = [[]]
    before: set[str] = set()
    for role, part in own:
        shown = "symptoms" in before or (len(groups) == 1 and _quotes(topic))
        if role == "symptoms" and "action" in before and shown:
            groups.append([])
            before = set()
        before.add(role)
        groups[-1].append((role, part))
    return groups


def _failure(
    topic: Section, meta: Meta, group: list[tuple[str, Section]], *, first: bool, only: bool
) -> _Failure:
    made = _Failure(topic.title, topic.line, meta, body=list(topic.blocks) if first else [])
    for role, part in group:
        made.parts.setdefault(role, []).append(part)
    if not only or not made.title:  # several under one heading are told apart by their symptoms
        made.title = ""
        made.line = group[0][1].line if group else topic.line
    return made


def _whole_page(page: Section, blocks: list[Block]) -> Iterator[_Failure]:
    """A page without any structure is one failure where it quotes an error."""
    if not symptoms(blocks, said_to_be=False):
        return
    title = next((section.title for section in page.walk() if section.title), "")
    body = [block for block in blocks if block.kind != "heading" or block.level > 1]
    facts = {name: fact for section in page.walk() for name, fact in _facts(section).items()}
    yield _Failure(title, 1, facts, body=body)


def _facts(topic: Section) -> dict[str, tuple[int, str]]:
    """Owner, dates and such, as labels below the topic say."""
    found: dict[str, tuple[int, str]] = {}
    for child in topic.children:
        if child.meta and (said := [block for block in child.blocks if block.kind != "blank"]):
            items = [block for block in said if block.kind == "item"]
            text = ", ".join(plain(block.text) for block in items or said[:1])
            if child.meta == "safe_to_retry" and child.remark:  # "(staging only): yes" is no yes
                text = f'{text} ("{child.remark}")'
            found.setdefault(child.meta, (child.line, text))
    return found


# --- what each says ---------------------------------------------------------------------------


def _fields(file: RunbookFile, failure: _Failure) -> Fields:
    line, body, parts = failure.line, failure.body, failure.parts
    title, context = plain(failure.title), failure.blocks("context")
    texts = [
        text
        for part in parts.get("symptoms", ())
        for text in symptoms(part.blocks, said_to_be=True)
    ]
    texts += symptoms(body, said_to_be=False) + symptoms(context, said_to_be=False)
    texts = list(dict.fromkeys([*texts, *from_words(title)]))
    if not texts and not title:
        file.refuse(line, "nothing says what this failure looks like; quote its log")
    title = title or texts[0].strip().split("\n")[-1][:120]
    facts, unclear = _meta(failure.meta)
    remarks = "\n".join(part.remark for role in parts for part in parts[role])
    headed = max(failure.headed, against(remarks))
    own = prose([*body, *(block for role in parts for block in failure.blocks(role))])
    said = max(failure.around, headed, against(own))
    if "safe_to_retry" in facts and facts["safe_to_retry"][1] != "true":
        said = max(said, Against.PERHAPS)
    action = _action(parts.get("action", []), said, headed)
    told = [
        block for block in (*body, *context, *failure.blocks("caution")) if block.text not in texts
    ]
    explanation = [
        prose(failure.blocks("why")),
        prose(told),
        action.pop("explanation", ""),
        *unclear,
    ]
    fields: Fields = {
        "title": (line, title),
        "symptoms": (line, texts or [title]),
        "cause": (line, prose(failure.blocks("cause"))),
        "explanation": (line, _cut("\n".join(text for text in explanation if text))),
        **facts,
        **{name: (line, value) for name, value in action.items()},
    }
    if unclear or not (parts.get("cause") or parts.get("action")):
        fields["prose"] = (line, None)
    if said is Against.OUTRIGHT:  # whatever stands at the head of the file
        fields["safe_to_retry"] = (line, "false")
    return fields


def _action(parts: Sequence[Section], around: Against, headed: Against) -> dict[str, Any]:
    """A catalogue name, perhaps with its params ("retry_later delay=10m"), is an action, but no
    re-run that a heading speaks against; any other text is advice to a person."""
    if not parts:
        return {}
    # With its remark: a plain fix below "Fix (obsolete)" is no plain one.
    text = "\n".join(
        f"{part.remark}: {found}" if part.remark else found
        for part in parts
        if (found := prose(part.blocks))
    )
    meant = structured(text.removeprefix("- ")) if len(parts) == 1 else None
    if meant and not (headed and meant[0].startswith("retry")):
        return {"action": meant[0], "params": meant[1]}
    advised = understood(text, around) if len(parts) == 1 else None
    action, params = advised or (None, {})
    return {"action": action, "params": params, "explanation": text, "prose": None}


def _meta(meta: Meta) -> tuple[Fields, list[str]]:
    """The facts, and those among them that are no plain answer: as words, for a person."""
    found: Fields = dict(meta)
    unclear = []
    if "safe_to_retry" in meta:
        line, text = meta["safe_to_retry"]
        value = _yes_or_no(text)
        found["safe_to_retry"] = (line, value)
        if value is None:
            unclear.append(f"Safe to retry: {text}")
    if "dags" in meta:
        line, text = meta["dags"]
        found["dags"] = (line, text.replace("`", "").replace(";", ","))
        if not _GLOBS.fullmatch(text):  # nobody can say for which DAGs it holds
            del found["dags"]
            unclear.append(f"DAGs: {text}")
    return found, unclear


def _yes_or_no(text: str) -> str | None:
    """ "yes, if …" is no yes; any no is a no."""
    said = text.lower().strip(" .!")
    if said in _YES:
        return "true"
    return "false" if re.split(r"[\s,.;:–-]", said)[0] in _NO else None


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT].rstrip()} … (cut)"
