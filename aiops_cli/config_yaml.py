"""A YAML file of settings as flat values that know their line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from aiops_cli.errors import ConfigError

_DEPTH = 3  # instances: NAME: key: … deeper is a mistake, or an alias that contains itself
_MAPS = (
    "headers",
    "similarity_for",
    "confidence_for",
)  # values that are themselves names with texts

Raw = str | tuple[str, ...] | dict[str, str] | None


class Value(NamedTuple):
    """One value: its keys from the outside in, its text (the texts of a list or of a map, None
    for null)."""

    keys: tuple[str, ...]
    raw: Raw
    line: int


def values(text: bytes, path: Path) -> Iterator[Value]:
    """The values of a file's text, in order. `path` is for messages only.

    Scalars keep their text; YAML's own idea of `off`, `0123` or `1:30` is not wanted. Raises
    ConfigError naming file and line for broken YAML, a key given twice, and nesting that no
    setting has.
    """
    try:
        root = yaml.compose(text.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: broken YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.decode().count("\n", 0, error.position) + 1
        raise ConfigError(f"{path}:{line}: broken YAML: {error.reason}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: broken YAML: {error}") from None
    if root is not None:
        yield from _walk(root, path, ())


def _walk(node: yaml.Node, path: Path, keys: tuple[str, ...]) -> Iterator[Value]:
    where = f"{path}:{node.start_mark.line + 1}"
    a_map = keys == ("actions",) or (len(keys) > 1 and keys[-1] in _MAPS)
    if not isinstance(node, yaml.MappingNode) or a_map:
        if not keys:
            raise ConfigError(f"{where}: expected settings such as `mode: ask`")
        yield Value(keys, _raw(node, where, ".".join(keys)), node.start_mark.line + 1)
        return
    if len(keys) == _DEPTH:
        raise ConfigError(f"{where}: {'.'.join(keys)}: expected one value, found a section")
    seen = set()
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}: expected a plain key")
        if key.value in seen:
            raise ConfigError(f"{where}: {'.'.join((*keys, key.value))} is set twice")
        seen.add(key.value)
        yield from _walk(value, path, (*keys, key.value))


def _raw(node: yaml.Node, where: str, name: str) -> Raw:
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in node.value for part in pair]
        if not all(isinstance(part, yaml.ScalarNode) for part in parts):
            raise ConfigError(f"{where}: {name}: expected names with plain texts")
        found = {key.value: value.value for key, value in node.value}
        if len({key.lower() for key in found}) < len(node.value):
            raise ConfigError(f"{where}: {name}: a name is set twice")
        return found
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(item, yaml.ScalarNode) for item in node.value):
            raise ConfigError(f"{where}: {name}: expected a list of plain texts")
        return tuple(item.value for item in node.value)
    if node.tag == "tag:yaml.org,2002:null":
        return None
    return str(node.value)
