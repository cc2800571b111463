"""Runbook files (YAML, Markdown, tickets) to entries. A file that cannot be understood is refused
with file, line and reason, and nothing is half-read: a runbook read wrong suggests the wrong thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from knowledge.errors import RunbookError
from knowledge.records import ACTIONS, Entry, Symptom, short_hash
from knowledge.redact import clean, redact
from knowledge.runbooks.fields import Fields, RunbookFile
from knowledge.runbooks.files import find_files, last_commits
from knowledge.runbooks.prose import read_markdown
from knowledge.runbooks.tickets import read_tickets
from knowledge.runbooks.yaml import read_yaml
from knowledge.signature import sign

NO_FAILURE = "no failure in it: it quotes no error and names no cause or fix"

_MARKDOWN = (".md", ".markdown")
_TICKETS = (".jsonl", ".ndjson")
_MAX_BYTES = 2 * 1024 * 1024
_MAX_EXPORT = 64 * 1024 * 1024  # of tickets, a line each
_DECISIONS = {"rerun": "retry", "no_rerun": "none"}
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False, "": None}


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood. `left_out` holds (file, reason) of those that tell of no failure;
    `refused` what could not be understood, a file each, of which no entry is here. `files` are
    the names of those that were understood; they and `scopes` (what was asked for as a whole) say
    to `KnowledgeBase.seed` what has vanished."""

    entries: tuple[Entry, ...]
    left_out: tuple[tuple[str, str], ...]
    refused: tuple[RunbookError, ...]
    files: tuple[str, ...]
    scopes: tuple[str, ...]

    def checked(self) -> Reading:
        """Itself. Raises one RunbookError for all that was refused."""
        if self.refused:
            raise RunbookError(
                "\n".join(error.message for error in self.refused), self.refused[0].hint
            )
        return self


def read_runbooks(paths: Sequence[Path]) -> tuple[Entry, ...]:
    """The entries of all files, named as in `survey` without git. Raises RunbookError where a
    file is refused, or where there is no entry at all."""
    return survey(paths).checked().entries


def survey(paths: Sequence[Path], *, in_git: bool = False) -> Reading:
    """Read files, folders (recursively *.yaml, *.yml, *.md, *.markdown, *.jsonl, *.ndjson; nothing
    hidden) and globs.

    An entry's id comes from its `id:`, or from its file's name and its title, so that reading
    again gives the same entry. With `in_git` a file in a git repository is named within it, and
    one that does not say when it was edited is as old as its last commit ("2024-02-01 (git)"); a
    file's own time is never taken, for every checkout sets it anew. Texts are cleaned and
    redacted, symptoms signed.
    Raises RunbookError for a missing path or where there is no entry and no refusal at all.
    """
    found = find_files(paths, in_git=in_git)
    days = last_commits({file.path.resolve() for file in found.files}) if in_git else {}
    entries: dict[str, Entry] = {}
    understood: list[str] = []
    left_out: list[tuple[str, str]] = []
    refused: list[RunbookError] = []
    for file in found.files:
        try:
            read = _read_file(file, days.get(file.path.resolve()), entries)
            if not read and file.path.resolve() in found.named:
                file.refuse(1, NO_FAILURE)
        except RunbookError as error:
            refused.append(error)
            continue
        understood.append(file.name)
        if not read:
            left_out.append((str(file.path), NO_FAILURE))
        entries.update(read)
    if not entries and not refused:
        named = ", ".join(map(str, paths)) or "no path"
        raise RunbookError(f"no runbook entries in {named}", "Name *.yaml, *.md or *.jsonl files.")
    return Reading(
        tuple(entries.values()),
        tuple(left_out),
        tuple(refused),
        tuple(understood),
        found.scopes,
    )


def _read_file(file: RunbookFile, day: str | None, known: Mapping[str, Entry]) -> dict[str, Entry]:
    read: dict[str, Entry] = {}
    for line, fields in _read(file):
        entry = _entry(file, line, fields)
        if entry.edited is None and day is not None:
            entry = replace(entry, edited=f"{day} (git)")
        if other := known.get(entry.id) or read.get(entry.id):
            file.refuse(line, f"same id or title as {other.source}; give one of them an id")
        read[entry.id] = entry
    return read


def _read(file: RunbookFile) -> Iterator[tuple[int, Fields]]:
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise RunbookError(f"{file.path}: cannot be read: {error.strerror}") from error
    suffix = file.path.suffix.lower()
    limit = _MAX_EXPORT if suffix in _TICKETS else _MAX_BYTES
    if len(data) > limit:
        file.refuse(1, f"larger than {limit // 1024**2} MiB; split it")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        file.refuse(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text; save it as such")
    if suffix in _TICKETS:
        return read_tickets(file, text)
    return (read_markdown if suffix in _MARKDOWN else read_yaml)(file, text)


def _entry(file: RunbookFile, line: int, fields: Fields) -> Entry:
    def text(name: str) -> str:
        at, value = fields.get(name, (line, ""))
        if not isinstance(value, str | None):
            file.refuse(at, f"`{name}` must be text")
        return redact(clean((value or "").strip()))

    def texts(name: str, separator: str | None = None) -> list[str]:
        at, value = fields.get(name, (line, None))
        if isinstance(value, str):
            value = value.split(separator) if separator else [value]
        if not isinstance(value, list | None) or any(not isinstance(v, str) for v in value or ()):
            file.refuse(at, f"`{name}` must be text or a list of texts")
        return [found for v in value or () if (found := redact(clean(v.strip("\n").rstrip())))]

    symptoms = texts("symptoms")
    if not symptoms:
        file.refuse(line, "an entry without `symptoms:` matches nothing")
    action = _action(file, fields, text("action"), text("decision"))
    if not (action or text("cause") or text("explanation")):
        file.refuse(line, "an entry needs a `cause:` or an `action:`")
    title = text("title") or symptoms[0].strip().split("\n")[0]
    safe = text("safe_to_retry").lower()
    if safe not in _BOOLEANS:
        file.refuse(fields["safe_to_retry"][0], "`safe_to_retry` must be true or false")
    return Entry(
        id=short_hash("runbook", *([text("id")] if text("id") else [file.name, title])),
        kind="runbook",
        source=f"{file.name}:{line}",
        title=title,
        symptoms=tuple(Symptom(symptom, sign(symptom)) for symptom in symptoms),
        cause=text("cause"),
        created_at=datetime.now(timezone.utc),
        action=action,
        params=_params(file, *fields.get("params", (line, {}))),
        explanation=text("explanation"),
        safe_to_retry=_BOOLEANS[safe],
        dags=tuple(v.strip() for v in texts("dags", ",")),
        tags=tuple(v.strip() for v in texts("tags", ",")),
        owner=text("owner") or None,
        edited=text("edited") or None,
        suggestion_only="prose" in fields,
    )


def _action(file: RunbookFile, fields: Fields, action: str, decision: str) -> str | None:
    if decision and action:
        file.refuse(fields["decision"][0], "`decision` and `action` say the same; keep one")
    if decision:
        if decision.lower() not in _DECISIONS:
            file.refuse(fields["decision"][0], f"no decision {decision!r}; RERUN or NO_RERUN")
        return _DECISIONS[decision.lower()]
    if action and action not in ACTIONS:
        file.refuse(fields["action"][0], f"no action {action!r}; one of {', '.join(ACTIONS)}")
    return action or None


def _params(file: RunbookFile, line: int, params: object) -> Mapping[str, Any]:
    if params is None:
        return {}
    if not isinstance(params, dict):
        file.refuse(line, "`params` must be a mapping, as {delay: 10m}")
    try:
        written = json.dumps(params, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        file.refuse(line, f"`params` cannot be stored as JSON: {error}; quote it")
    if redact(clean(written)) != written:
        file.refuse(line, "`params` hold a secret; keep it in Airflow's connection")
    known: Mapping[str, Any] = json.loads(written)
    return known
