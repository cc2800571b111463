"""An action's parameters as a person types them, and what a person is told of what was begun."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from knowledge.records import Case


def of_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """`--set K=V --set K=V`. Raises UsageError."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.strip().partition("=")
        if not sign or not name:
            raise UsageError(f"{pair.strip()!r} is not K=V", "such as delay=30m")
        if name in found:
            raise UsageError(f"{name} is set twice", "set it once")
        found[name] = value
    return found


def of_line(line: str, names: Sequence[str]) -> dict[str, str]:
    """`K=V, K=V`: a comma within a value (JSON, a list) is the value's, for only one of `names`
    begins another pair. Raises UsageError."""
    begins = "|".join(map(re.escape, names))
    return of_pairs([one for one in re.split(rf",\s*(?=(?:{begins})=)", line) if one.strip()])


def as_line(params: Mapping[str, Any]) -> str:
    """What `of_line` reads."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in params.items()
    )


def begun(done: Case) -> str:
    """What a person is told of what they said yes to."""
    if done.status in ("pending", "needs_human"):
        return "your yes is noted; a second person has to approve it too"
    action = done.decision.action if done.decision else None
    if action == "none":
        return "noted"
    waits = {
        "retry_later": "waits for its time",
        "trigger_dag": "the other DAG runs, then the task does",
        "mark_success": "marked as success",
        "mark_skipped": "marked as skipped",
    }
    how = waits.get(str(action), "runs again")
    return f"{how}; aiops watch --once tells how it ends"
