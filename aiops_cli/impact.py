"""An incident's `context` → the lines of its card that need no log: impact, changes, history."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from aiops_cli.screen import local, plain

Document = Mapping[str, Any]
LISTED = 4  # names; the JSON has all
MARKS = {"success": "✓", "failed": "✗", "skipped": "-", "upstream_failed": "^"}


def lines(context: Document) -> list[tuple[str, Text]]:
    """(label, text) of every line there is something to tell on."""
    told = [
        ("", " · ".join(_impact(context))),
        ("", " · ".join(_whereabouts(context))),
        ("CHANGED", changed(context) if "changed" in context else ""),
        ("BEFORE", " · ".join(_before(context))),
        ("UNREAD", "; ".join(context.get("unread") or ())),
    ]
    return [(label, plain(text)) for label, text in told if text]


def _impact(context: Document) -> list[str]:
    parts = []
    owners = [owner for owner in context.get("owners") or [] if owner != "airflow"]  # the default
    if owners:
        parts.append("owner " + ", ".join(owners))
    if context.get("due"):
        parts.append(f"due {context['due']}")
    deadlines = context.get("deadlines") or []
    if deadlines:
        parts.append(f"deadline {local(deadlines[0])}")
    below, blocked = context.get("blocks") or [], context.get("blocked")
    if blocked:
        parts.append(f"blocks {len(blocked)}: {_some(blocked)}")
    elif below and blocked is None:  # Airflow was not asked which of them wait for it
        parts.append(f"{len(below)} below: {_some(below)}")
    for asset in (context.get("assets") or [])[:LISTED]:
        waiting = f" → {_some(asset['dags'])}" if asset["dags"] else ""
        parts.append(f"no asset {asset['name']}{waiting}")
    return parts


def _whereabouts(context: Document) -> list[str]:
    place, parts = context.get("place"), []
    if context.get("run_type"):
        due = context.get("run_after")
        of = f" of {local(due, '%m-%d %H:%M')}" if due else ""
        parts.append(f"{context['run_type']} run{of}")
    if context.get("version"):
        parts.append(f"v{context['version']}")
    if context.get("cut_off"):
        parts.append(f"cut off while running: {_some(context['cut_off'])}")
    if place and place["role"] != "only":
        sides = (("upstream", "after"), ("downstream", "before"), ("parallel", "beside"))
        near = ", ".join(f"{word} {place[side]}" for side, word in sides if place[side])
        parts.append(f"{place['role']} task: {near}")
    if context.get("operator"):
        parts.append(str(context["operator"]))
    if context.get("pool") not in (None, "default_pool"):
        parts.append(f"pool {context['pool']}")
    if context.get("hostname"):
        parts.append(f"on {context['hostname']}")
    return parts


def changed(context: Document) -> str:
    success = context.get("last_success")
    if not success:  # there is no moment to look back to
        return "unknown: no earlier success of this task to compare with"
    said = "; ".join(context["changed"]) or "nothing that Airflow knows of"
    said = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\dZ", lambda when: local(when[0]), said)
    return f"{said} (last success {local(success)})"


def _before(context: Document) -> list[str]:
    parts = []
    history = context.get("history") or []
    if history:
        marks = "".join(MARKS.get(one["state"] or "", "?") for one in reversed(history))
        runs = "run" if len(history) == 1 else f"{len(history)} runs"
        parts.append(f"{marks} in the last {runs}")
    for one in context.get("tries") or []:
        took = "" if one["duration"] is None else f" after {one['duration']} s"
        parts.append(f"try {one['try_number']} {one['state']}{took}")
    return parts


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + "…" * (len(names) > LISTED)
