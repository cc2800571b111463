"""Rows of Airflow's audit log → what somebody changed: connections, variables, pools. Pure.

The names of the events and the shapes of `extra` were recorded from running servers of 3.1.8 and
3.3.2, for the API's calls (which the UI makes too) and for Airflow's own command line. Values are
never told: 3.1.8 writes those of variables in plain text.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiops_cli.incidents import Event
from knowledge.redact import clean

_DID = {
    "post": "created",
    "create": "created",
    "add": "created",
    "patch": "edited",
    "update": "edited",
    "set": "set",
    "import": "imported",
    "delete": "deleted",
}
_KINDS = ("connection", "variable", "pool")
_CLI = {
    "connections": ("add", "delete", "import"),
    "variables": ("set", "delete", "import"),
    "pool": ("set", "delete", "import"),
}

CHANGE_EVENTS = (
    *(f"{verb}_{kind}" for kind in _KINDS for verb in ("post", "patch", "delete")),
    *(f"bulk_{kind}s" for kind in _KINDS),
    *(f"cli_{what}_{verb}" for what, verbs in _CLI.items() for verb in verbs),
)

# Where a row names what it is about.
_NAMES = ("connection_id", "variable_key", "key", "pool_name", "pool", "name")


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` connection, variable or pool; `name` "?" where the row does not tell."""

    kind: str
    name: str
    did: str
    at: datetime
    by: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.did} {self.at:%Y-%m-%d %H:%MZ} by {self.by}"


def changes(event: Event) -> Iterator[Change]:
    """What one row of the event log tells of; nothing for another kind of event."""
    verb, _, what = event.event.partition("_")
    by = clean(event.owner or "unknown")
    if verb == "cli":
        what, _, verb = what.partition("_")
        names: Iterator[tuple[str, str]] = ((verb, name) for name in [_of_command(event.extra)])
    elif verb == "bulk":
        names = _of_bulk(_document(event.extra))
    else:
        names = ((verb, name) for name in [_named(_document(event.extra))])
    kind = what.removesuffix("s")
    if kind not in _KINDS:
        return
    for done, name in names:
        yield Change(kind, clean(name) or "?", _DID.get(done, done), event.when, by)


def _document(extra: str | None) -> Any:
    try:
        return json.loads(extra or "")
    except (ValueError, RecursionError):
        return None


def _named(entity: Any) -> str:
    if isinstance(entity, str):
        return entity
    if isinstance(entity, dict):
        for key in _NAMES:
            if isinstance(entity.get(key), str):
                return str(entity[key])
    return ""


def _of_bulk(document: Any) -> Iterator[tuple[str, str]]:
    """(verb, name) of each entity of a bulk call: what the UI's multi-select and import send."""
    actions = document.get("actions") if isinstance(document, dict) else None
    for action in actions if isinstance(actions, list) else ():
        entities = action.get("entities") if isinstance(action, dict) else None
        for entity in entities if isinstance(entities, list) else ():
            yield str(action.get("action")), _named(entity)


def _of_command(extra: str | None) -> str:
    """The third word of `airflow connections add NAME …`, as the row quotes the command."""
    document = _document(extra)
    text = document.get("full_command") if isinstance(document, dict) else None
    try:
        words = ast.literal_eval(text) if isinstance(text, str) else ()
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    return str(words[3]) if isinstance(words, list) and len(words) > 3 else ""
