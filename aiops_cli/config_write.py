"""Changing a settings file: the text around a value stays as a person wrote it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from aiops_cli import config_yaml
from aiops_cli.atomic import private_file
from aiops_cli.config_yaml import Raw
from aiops_cli.errors import ConfigError

# By keys from the outside in. Headers are names with texts; None removes.
Changes = Mapping[tuple[str, ...], str | Mapping[str, str] | None]


class Edited(NamedTuple):
    """A file's new text; `whole` is false where comments and layout could not be kept."""

    text: str
    whole: bool


def edited(text: str, changes: Changes, path: Path) -> Edited:
    """The text with these values changed and all others kept. Raises ConfigError for a text that
    is no settings file; `path` is for its message only."""
    wanted: dict[tuple[str, ...], Raw] = dict(values(text, path))
    for keys, value in changes.items():
        wanted.pop(keys, None)
        if value is not None:
            wanted[keys] = value if isinstance(value, str) else dict(value)
    new = text
    try:
        for keys, value in changes.items():
            new = _set(new, keys, value)
        if values(new, path) == wanted:
            return Edited(new, whole=True)
    except (yaml.YAMLError, ConfigError, _CannotKeep):
        pass  # a layout that is not understood here: written anew below
    tree: dict[str, Any] = {}
    for keys, raw in wanted.items():
        place = tree
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = list(raw) if isinstance(raw, tuple) else raw
    return Edited(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), whole=False)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all. Raises ConfigError."""
    path = path.resolve()  # a link to a file kept elsewhere stays one
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with private_file(path) as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", "name another file in AIOPS_CONFIG"
        ) from None


class _CannotKeep(Exception):
    """The text's layout does not allow a change in place."""


def values(text: str, path: Path) -> dict[tuple[str, ...], Raw]:
    found = config_yaml.values(text.encode(), path)
    return {value.keys: value.raw for value in found if value.raw is not None}


def _set(text: str, keys: tuple[str, ...], value: str | Mapping[str, str] | None) -> str:
    """The text with one value set or removed. Raises _CannotKeep."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    parent, found, depth = node, None, 0
    while depth < len(keys):
        found = _pair(node, keys[depth])
        if found is None:
            break
        parent, node, depth = node, found[1], depth + 1
    lines = text.splitlines(keepends=True)
    if found is not None:
        key, old = found
        if value is not None:
            if (
                not isinstance(old, yaml.ScalarNode)
                or not old.end_mark.index > old.start_mark.index
            ):
                raise _CannotKeep
            return text[: old.start_mark.index] + _scalar(value) + text[old.end_mark.index :]
        if parent.flow_style:
            raise _CannotKeep
        del lines[key.start_mark.line : _last_line(old) + 1]
        return "".join(lines)
    if value is None:
        return text
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if depth == 0:
        at, column = len(lines), 0
    elif isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        at, column = _last_line(node) + 1, node.value[0][0].start_mark.column
    elif isinstance(node, yaml.ScalarNode) and not node.value:  # a section without keys
        at, column = _key_line(parent, keys[depth - 1]) + 1, 2 * depth
    else:
        raise _CannotKeep
    rest = keys[depth:]
    new = [f"{' ' * (column + 2 * n)}{key}:\n" for n, key in enumerate(rest[:-1])]
    new.append(f"{' ' * (column + 2 * (len(rest) - 1))}{rest[-1]}: {_scalar(value)}\n")
    return "".join([*lines[:at], *new, *lines[at:]])


def _pair(node: Any, name: str) -> tuple[Any, Any] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((key, value) for key, value in pairs if key.value == name), None)


def _key_line(node: Any, name: str) -> int:
    return next(int(key.start_mark.line) for key, _ in node.value if key.value == name)


def _last_line(node: Any) -> int:
    """The line that a node's text ends on."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.line)


def _scalar(value: str | Mapping[str, str]) -> str:
    """A text as YAML, in quotes where it could be taken for anything else; names with texts as
    JSON, which YAML is too."""
    if not isinstance(value, str):
        return json.dumps(dict(value), ensure_ascii=False)
    plain = re.fullmatch(r"[A-Za-z/~][\w./@+-]*(:[\w./@+-]+)*", value, re.ASCII)
    if plain and value.lower() not in ("null", "~", "true", "false", "yes", "no", "on", "off"):
        return value
    return json.dumps(value, ensure_ascii=False)
