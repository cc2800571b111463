"""The shapes of runbook files, YAML and Markdown → fields that know their line.

What a field may hold is checked where the entries are made; here only the files' own syntax and
the spelling of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from knowledge.errors import RunbookError
from knowledge.records import ACTIONS

_MAX_DEPTH = 20
# Spellings of one field; what is not here is no field.
_FIELDS = {
    "symptoms": "symptoms",
    "symptom": "symptoms",
    "error": "symptoms",
    "errors": "symptoms",
    "cause": "cause",
    "root_cause": "cause",
    "explanation": "explanation",
    "why": "explanation",
    "action": "action",
    "decision": "decision",
    "params": "params",
    "title": "title",
    "id": "id",
    "safe_to_retry": "safe_to_retry",
    "dags": "dags",
    "tags": "tags",
    "owner": "owner",
    "edited": "edited",
}
# What front matter, or the head of a YAML file, may say for all its entries.
_DEFAULTS = ("dags", "tags", "owner", "edited", "safe_to_retry")

# A field's canonical name → (line, value): text, a list of texts, a mapping (`params`), None.
Fields = dict[str, tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class RunbookFile:
    """A runbook file: where it is, and its name beneath what was seeded, which stays the same
    on another machine."""

    path: Path
    name: str

    def refuse(self, line: int, reason: str) -> NoReturn:
        raise RunbookError(
            f"{self.path}:{line}: {reason}", "Correct the file; nothing was read of any of them."
        )


def _canonical(file: RunbookFile, line: int, name: str) -> str:
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    if key not in _FIELDS:
        close = get_close_matches(key, _FIELDS, 1)
        known = ", ".join(dict.fromkeys(_FIELDS.values()))
        meant = f"did you mean `{close[0]}`?" if close else f"known are {known}"
        file.refuse(line, f"unknown key `{name}`; {meant}")
    return _FIELDS[key]


# ---- YAML: nodes rather than values, for they know their line, and `error: 404` stays text ----


def read_yaml(file: RunbookFile, text: str) -> Iterator[tuple[int, Fields]]:
    from yaml import MappingNode, SequenceNode

    root = _compose(file, text)
    if root is None:
        return
    if isinstance(root, SequenceNode):
        yield from _yaml_list(file, root, {})
        return
    if not isinstance(root, MappingNode):
        file.refuse(_line(root), "neither a list of entries nor a mapping")
    top = _pairs(file, root)
    if "entries" not in top:  # the older shape: service: [{error, root_cause, decision}]
        for service, node in top.items():
            yield from _yaml_list(file, node, {"tags": (_line(node), [service])})
        return
    entries = top.pop("entries")
    defaults = {_canonical(file, _line(v), k): (_line(v), _value(v)) for k, v in top.items()}
    for name, (line, _) in defaults.items():
        if name not in _DEFAULTS:
            file.refuse(line, f"`{name}` belongs to an entry; here: {', '.join(_DEFAULTS)}")
    yield from _yaml_list(file, entries, defaults)


def _yaml_list(file: RunbookFile, node: Any, defaults: Fields) -> Iterator[tuple[int, Fields]]:
    from yaml import MappingNode, SequenceNode

    if not isinstance(node, SequenceNode):
        file.refuse(_line(node), "not a list of entries")
    for item in node.value:
        if not isinstance(item, MappingNode):
            file.refuse(_line(item), "an entry must be a mapping, as {error: …, cause: …}")
        fields = dict(defaults)
        own: set[str] = set()
        for key, value in _pairs(file, item).items():
            name = _canonical(file, _line(value), key)
            if name in own:
                file.refuse(_line(value), f"`{key}` says what another key said already")
            own.add(name)
            fields[name] = (
                _line(value),
                _typed(file, value) if name == "params" else _value(value),
            )
        yield _line(item), fields


def _compose(file: RunbookFile, text: str) -> Any:
    """The document's root node, None where it is empty."""
    import yaml  # 20 ms, and only seeding needs it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):  # a few of them unfold to gigabytes
                file.refuse(_line(event), "aliases (*name) are not read; write it out")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                file.refuse(_line(event), f"nested deeper than {_MAX_DEPTH} levels")
        return yaml.compose(text, loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        file.refuse(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}")
    except yaml.YAMLError as error:
        file.refuse(1, f"not YAML: {' '.join(str(error).split())}")


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _pairs(file: RunbookFile, node: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key.value, str):
            file.refuse(_line(key), "a key must be text")
        if key.value in found:
            file.refuse(_line(key), f"`{key.value}` stands twice")
        found[key.value] = value
    return found


def _value(node: Any) -> Any:
    """A scalar as it is written (None where it is null), a list of such; else what it is."""
    if isinstance(node.value, str):
        return None if node.tag == "tag:yaml.org,2002:null" else node.value
    return [_value(item) for item in node.value] if node.id == "sequence" else dict(node.value)


def _typed(file: RunbookFile, node: Any) -> Any:
    """The node as YAML means it: numbers, booleans, dates, lists, mappings."""
    from yaml import YAMLError
    from yaml.constructor import SafeConstructor

    try:
        return SafeConstructor().construct_document(node)
    except (YAMLError, ValueError, TypeError) as error:
        reason = getattr(error, "problem", None) or error
        file.refuse(_line(node), f"not a value that can be kept: {reason}")


# ---- Markdown: a heading an entry ----

_HEADING = re.compile(r"#{1,6}\s+(.+?)[\s#]*$")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_LABELS = {"fix": "action", "resolution": "action", "symptom": "symptoms", "root cause": "cause"}
_LABELS |= {name: name for name in ("symptoms", "error", "cause", "action", "explanation", "why")}
_LABELS |= {name: name for name in ("safe to retry", "dags", "tags", "owner", "edited", "id")}
_LABEL = re.compile(
    rf"(?:[-*]\s+)?[*_]{{0,2}}({'|'.join(_LABELS)})[*_]{{0,2}}:[*_]{{0,2}}\s*(.*)$", re.IGNORECASE
)
_STRUCTURED = re.compile(r"`?([a-z_]+)`?((?:\s+\w+=\S+)*)\.?")


def read_markdown(file: RunbookFile, text: str) -> Iterator[tuple[int, Fields]]:
    """Fenced blocks are symptoms, but for those below an action (commands); `Cause:` and other
    labels stand on lines or as headings. Headings with neither are no entries."""
    lines = text.split("\n")
    defaults, start = _front_matter(file, lines)
    title, body = (0, ""), list[tuple[int, str]]()
    fence = ""
    for number, line in enumerate(lines[start:], start + 1):
        heading = None if fence else _HEADING.match(line)
        if heading and heading[1].lower().rstrip(":") in _LABELS:
            line, heading = f"{heading[1].rstrip(':')}:", None
        if heading:
            yield from _section(file, title, body, defaults)
            title, body = (number, heading[1]), []
            continue
        if opened := _FENCE.match(line):
            fence = "" if fence and line.strip().startswith(fence) else fence or opened[1]
        body.append((number, line))
    if fence:
        file.refuse(len(lines), "a fenced block is not closed")
    yield from _section(file, title, body, defaults)


def _section(
    file: RunbookFile, title: tuple[int, str], body: list[tuple[int, str]], defaults: Fields
) -> Iterator[tuple[int, Fields]]:
    fields: Fields = {}
    symptoms: list[str] = []
    prose: list[str] = []
    block: list[str] | None = None
    fence = label = ""
    for number, line in body:
        if block is not None:
            if line.strip().startswith(fence):
                if "action" not in fields:
                    symptoms.append("\n".join(block))
                block = None
            else:
                block.append(line)
        elif opened := _FENCE.match(line):
            fence, block, label = opened[1], [], ""
        elif labelled := _LABEL.match(line):
            label = _canonical(file, number, _LABELS[labelled[1].lower()])
            fields[label] = (number, labelled[2].strip())
        elif label and (line.strip() or not fields[label][1]):
            fields[label] = (fields[label][0], f"{fields[label][1]} {line.strip()}".strip())
        else:
            label = ""
            prose.append(line.strip())
    if not title[1] or not (symptoms or fields):
        return
    if "symptoms" in fields:
        symptoms.append(fields["symptoms"][1])
    fields["symptoms"] = (title[0], [found for found in symptoms if found.strip()] or [title[1]])
    if "action" in fields:
        fields |= _prose_action(*fields["action"], fields.get("explanation", (0, ""))[1])
    fields.setdefault("explanation", (title[0], " ".join(" ".join(prose).split())))
    yield title[0], {**defaults, "title": title, **fields}


def _prose_action(line: int, text: str, why: str) -> Fields:
    """A catalogue name, perhaps with its params ("retry_later delay=10m"), is an action; any
    other text is advice to a person."""
    found = _STRUCTURED.fullmatch(text)
    if found and found[1] in ACTIONS:
        params = dict(pair.split("=", 1) for pair in found[2].split())
        return {"action": (line, found[1]), "params": (line, params)}
    return {"action": (line, None), "explanation": (line, f"{why} {text}"), "prose": (line, None)}


def _front_matter(file: RunbookFile, lines: list[str]) -> tuple[Fields, int]:
    """What holds for all entries of the file, and where its text starts. Site generators keep
    keys of their own there, so an unknown one is refused only where it looks misspelt."""
    if lines[0].strip() != "---" or "---" not in (ends := [line.strip() for line in lines[1:]]):
        return {}, 0
    end = ends.index("---") + 1
    root = _compose(file, "\n".join(["", *lines[1:end]]))
    fields: Fields = {}
    for key, value in (
        _pairs(file, root).items() if root is not None and root.id == "mapping" else ()
    ):
        name = {"date": "edited", "updated": "edited"}.get(key.lower(), key.lower())
        if name in _DEFAULTS:
            fields[name] = (_line(value), _value(value))
        elif close := get_close_matches(name, _DEFAULTS, 1):
            file.refuse(_line(value), f"unknown key `{key}`; did you mean `{close[0]}`?")
    return fields, end + 1
