"""What was typed in `aiops triage` and is not stored yet, kept until it is offered again.

A private file of the person's own, not the knowledge base: nobody else has use for half a
sentence. Where it cannot be read or written triage goes on without it: it tells on leaving what
was typed, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aiops_cli.atomic import private_file

Drafts = dict[str, dict[str, str]]  # by incident: what was asked, and what was typed

MOST = 200  # incidents; what was typed first goes first


def _file() -> Path:
    from platformdirs import user_state_path  # only where somebody types

    return user_state_path("aiops", appauthor=False) / "typed.json"


def kept() -> Drafts:
    """{} where nothing is kept, or where it cannot be read."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {
            str(id_): {str(name): str(text) for name, text in typed.items()}
            for id_, typed in found.items()
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def keep(typed: Mapping[str, Mapping[str, str]]) -> None:
    """Keep what was typed about these incidents instead of what was kept of them before; nothing
    forgets it."""
    from knowledge.redact import clean, redact  # as wherever a person's words are stored

    before = kept()
    drafts = {id_: one for id_, one in before.items() if id_ not in typed}
    for id_, one in typed.items():
        if one:
            drafts[id_] = {name: redact(clean(text)) for name, text in one.items()}
    if drafts == before:
        return
    path = _file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with private_file(path) as out:
            json.dump(dict(list(drafts.items())[-MOST:]), out)
