"""YAML runbooks → fields that know their line. Read as nodes rather than values, for those know
their line, and `error: 404` stays text."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from knowledge.runbooks.fields import DEFAULTS, Fields, RunbookFile, canonical

_MAX_DEPTH = 20


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
    defaults = {canonical(file, _line(v), k): (_line(v), _value(v)) for k, v in top.items()}
    for name, (line, _) in defaults.items():
        if name not in DEFAULTS:
            file.refuse(line, f"`{name}` belongs to an entry; here: {', '.join(DEFAULTS)}")
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
            name = canonical(file, _line(value), key)
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


# How front matter spells a default; the first that is there counts.
_SPELLINGS = {
    "owner": ("owner", "owners", "team", "maintainer", "maintainers", "contact"),
    "edited": (
        *("edited", "updated", "last_updated", "last_reviewed", "last_verified", "reviewed"),
        *("lastmod", "last_modified", "modified", "date"),
    ),
    "tags": ("tags", "labels", "keywords", "categories"),
    "dags": ("dags",),
    "safe_to_retry": ("safe_to_retry",),
}


def front_matter(file: RunbookFile, lines: list[str]) -> tuple[Fields, int, str]:
    """What holds for all entries of the file, where its text starts, and the page's title. Site
    generators keep keys of their own there, so an unknown one is refused only where it looks
    misspelt."""
    if lines[0].strip() == "+++":
        file.refuse(1, "TOML front matter is not read; write it as YAML between --- lines")
    if lines[0].strip() != "---" or "---" not in (ends := [line.strip() for line in lines[1:]]):
        return {}, 0, ""
    end = ends.index("---") + 1
    root = _compose(file, "\n".join(["", *lines[1:end]]))
    if root is None or root.id != "mapping":
        return {}, end + 1 if root is None else 0, ""
    said = {key.lower().replace("-", "_"): node for key, node in _pairs(file, root).items()}
    fields: Fields = {}
    for name, spellings in _SPELLINGS.items():
        node = next((said.pop(key) for key in spellings if key in said), None)
        if node is not None:
            fields[name] = (_line(node), _joined(node) if name == "owner" else _value(node))
    title = said.pop("title", None)
    spelt = [key for keys in _SPELLINGS.values() for key in keys]
    for key, node in said.items():
        if key not in spelt and (close := get_close_matches(key, DEFAULTS, 1, cutoff=0.8)):
            file.refuse(_line(node), f"unknown key `{key}`; did you mean `{close[0]}`?")
    return fields, end + 1, str(_value(title) or "") if title is not None else ""


def _joined(node: Any) -> Any:
    value = _value(node)
    return ", ".join(value) if isinstance(value, list) and all(map(_is_text, value)) else value


def _is_text(value: object) -> bool:
    return isinstance(value, str)
