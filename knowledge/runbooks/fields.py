"""What is read of a runbook, whatever its format: fields that know their line.

What a field may hold is checked where the entries are made; here only how fields are spelt.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from knowledge.errors import RunbookError

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
DEFAULTS = ("dags", "tags", "owner", "edited", "safe_to_retry")

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
            f"{self.path}:{line}: {reason}", "Correct the file; nothing was stored of any of them."
        )


def canonical(file: RunbookFile, line: int, name: str) -> str:
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    if key not in _FIELDS:
        close = get_close_matches(key, _FIELDS, 1)
        known = ", ".join(dict.fromkeys(_FIELDS.values()))
        meant = f"did you mean `{close[0]}`?" if close else f"known are {known}"
        file.refuse(line, f"unknown key `{name}`; {meant}")
    return _FIELDS[key]
