"""A plan's document → what a person reads before saying yes. Never prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from aiops_cli.actions import DEFAULT_DELAY
from aiops_cli.incidents import UNMAPPED
from aiops_cli.screen import Trimmed, plain

Document = Mapping[str, Any]
MOST_INDEXES = 10  # of a mapped task are named
CONTEXT = 20  # characters before the first difference of two long values
LONGEST_VALUE = 60  # of a variable, say; the whole of it is in --json


def plan_text(doc: Document) -> RenderableType:
    """What an action would do, before the last yes."""
    by_role: dict[str, list[Document]] = {"upstream": [], "task": [], "downstream": []}
    for item in doc["clears"]:
        by_role[item["role"]].append(item)
    text = Text()
    if not by_role["task"]:
        text.append(plain(f"{doc['action']}  in {doc['run_id']}", "bold"))
    for item in by_role["task"]:
        index = "" if item["map_index"] == -1 else f"[{item['map_index']}]"
        text.append(plain(f"{doc['action']} {doc['dag_id']}.{item['task_id']}{index}", "bold"))
        text.append(plain(f"  in {doc['run_id']} (try {item['try_number']} {item['state']})"))
    lines = [text]
    if doc["changes"]:
        lines.append(changes_text(doc["changes"]))
        back = "it cannot be undone: " + doc["no_undo"] if doc["no_undo"] else "aiops undo"
        lines.append(plain(back if doc["no_undo"] else f"{back} puts it back", "dim"))
    lines.extend(plain(word) for word in doc["told"])
    if by_role["upstream"]:
        lines.append(plain(f"first runs anew: {_named(by_role['upstream'])}"))
    if by_role["downstream"]:
        lines.append(plain(f"then what it blocked: {_named(by_role['downstream'])}"))
    old, new = doc["version_from"], doc["version_to"]
    code = f"code v{old} → v{new}" if old and new and old != new else "the code as it was"
    if not (old and new):
        code = "the latest code"
    if by_role["task"]:
        tries = "more try" if doc["extra_tries"] == 1 else "more tries"
        lines.append(Text(f"{code}; the task gets {doc['extra_tries']} {tries}"))
    if doc["action"] == "retry_later":
        delay = doc["params"].get("delay", DEFAULT_DELAY)
        lines.append(plain(f"not now: by the first aiops watch after {delay}"))
    return Trimmed(Text("\n").join(lines))


def rerun_text(judged: Document) -> str:
    """Whether the task may run twice, in whose word and since when, as its judgement has it; ""
    where it has none."""
    checks = judged["gate"]["checks"] if judged else ()
    safe = any(check["name"] == "rerun_safe" and check["value"] is True for check in checks)
    return f"re-run {'safe' if safe else 'unproven'}: {judged['rerun']}" if judged else ""


def _named(items: Sequence[Document]) -> str:
    """The tasks; of a mapped one the indexes."""
    indexes: dict[str, list[int]] = {}
    for item in items:
        indexes.setdefault(item["task_id"], []).append(item["map_index"])
    return ", ".join(name + _indexes(found) for name, found in indexes.items())


def _indexes(found: Sequence[int]) -> str:
    if list(found) == [UNMAPPED]:
        return ""
    named = ", ".join(map(str, sorted(found)[:MOST_INDEXES]))
    left = len(found) - MOST_INDEXES
    return f"[{named}" + (f" and {left} more]" if left > 0 else "]")


def changes_text(items: Sequence[Document], *, back: bool = False) -> Text:
    """What is changed, a line each: `connection orders_db: host db1 → db2`."""
    lines = []
    for item in items:
        old, new = (item["new"], item["old"]) if back else (item["old"], item["new"])
        name, field = item["name"], item["field"]
        if item["kind"] == "xcom":
            told = f"delete XCom {field} of {name}"
        elif item["kind"] == "dag run":
            conf = f" with {_value(new)}" if new else ""
            told = f"run {name} ({field}){conf}, wait for it"
        elif item["kind"] == "state":
            told = f"mark {name} as {new}"
        else:
            told = f"{item['kind']} {name}: {field} {_pair(old, new)}"
        lines.append(plain(told, "yellow"))
    return Text("\n").join(lines)


def _pair(old: object, new: object) -> str:
    """Both from where they begin to differ, so that what changes is seen."""
    one, other = _text(old), _text(new)
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(0, same - CONTEXT) if max(len(one), len(other)) > LONGEST_VALUE else 0
    return " → ".join(_cut(text, begin) for text in (one, other))


def _value(value: object) -> str:
    return _cut(_text(value), 0)


def _cut(text: str, begin: int) -> str:
    """As short as it can be told; the whole of it is in --json."""
    if begin:
        text = "…" + text[begin:]
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _text(value: object) -> str:
    if value is None:
        return "(not set)"
    return " ".join((value if isinstance(value, str) else json.dumps(value)).split())
