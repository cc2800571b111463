"""Runbook files, YAML and Markdown, to entries. A file that cannot be understood is refused with
file, line and reason, and nothing is half-read: a runbook read wrong suggests the wrong thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from knowledge.errors import RunbookError
from knowledge.records import ACTIONS, Entry, Symptom, short_hash
from knowledge.redact import clean, redact
from knowledge.runbook_formats import Fields, RunbookFile, read_markdown, read_yaml
from knowledge.signature import sign

_SUFFIXES = (".yaml", ".yml", ".md")
_MAX_BYTES = 2 * 1024 * 1024
_DECISIONS = {"rerun": "retry", "no_rerun": "none"}
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False, "": None}


def read_runbooks(paths: Sequence[Path]) -> tuple[Entry, ...]:
    """The entries of all files; folders are searched recursively for *.yaml, *.yml and *.md.

    An entry's id comes from its `id:`, or from its path beneath what was seeded and its title,
    so that reading again gives the same entry. Texts are cleaned and redacted, symptoms signed.
    Raises RunbookError (file, line, reason) for a missing path, a file that is not understood,
    two entries of one id, or where there is no entry at all.
    """
    entries: dict[str, Entry] = {}
    # A file named twice, alone and in its folder, is read once.
    files = {file.path.resolve(): file for path in paths for file in _files(path)}
    for file in files.values():
        for line, fields in _read(file):
            entry = _entry(file, line, fields)
            if entry.id in entries:
                other = entries[entry.id].source
                file.refuse(line, f"same id or title as {other}; give one of them an id")
            entries[entry.id] = entry
    if not entries:
        named = ", ".join(map(str, paths)) or "no path"
        raise RunbookError(f"no runbook entries in {named}", "Name *.yaml or *.md files.")
    return tuple(entries.values())


def _files(path: Path) -> Iterator[RunbookFile]:
    whole = path.resolve()  # "." has no name of its own
    if path.is_dir():
        for found in sorted(path.rglob("*")):
            beneath = found.relative_to(path)
            hidden = any(part.startswith(".") for part in beneath.parts)
            if found.suffix.lower() in _SUFFIXES and found.is_file() and not hidden:
                yield RunbookFile(found, f"{whole.name}/{beneath.as_posix()}")
    elif path.is_file():
        if path.suffix.lower() not in _SUFFIXES:
            raise RunbookError(f"{path}: not a runbook", f"One of {', '.join(_SUFFIXES)}.")
        # The same name as in its folder, seeded whole.
        yield RunbookFile(path, f"{whole.parent.name}/{whole.name}")
    else:
        raise RunbookError(f"{path}: no such file or folder", "Check the path.")


def _read(file: RunbookFile) -> Iterator[tuple[int, Fields]]:
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise RunbookError(f"{file.path}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        file.refuse(1, f"larger than {_MAX_BYTES // 1024**2} MiB; split it")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        file.refuse(data.count(b"\n", 0, error.start) + 1, "not UTF-8 text")
    if file.path.suffix.lower() == ".md":
        return read_markdown(file, text)
    return read_yaml(file, text)


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
