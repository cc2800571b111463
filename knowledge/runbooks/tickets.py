"""Old tickets, one JSON object a line → fields that know their line. What fixed it then is a
suggestion now, but for an `action` that names one of the catalogue.

The keys are aiops' own (docs/runbooks.md) or those of common exports: Jira (`fields` and all),
ServiceNow, GitHub issues. Other keys are left alone: exports have hundreds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from knowledge.errors import RunbookError
from knowledge.runbooks.advice import Against, against, structured, understood
from knowledge.runbooks.fields import Fields, RunbookFile
from knowledge.runbooks.prose import read_markdown
from knowledge.runbooks.samples import from_words

# The first key that says something counts.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "title": ("title", "summary", "short_description", "subject", "name"),
    "error": (  # read by `_errors`
        *("error", "errors", "error_message", "error_text", "symptoms", "symptom", "log", "logs"),
        *("log_excerpt", "stack_trace", "stacktrace", "traceback", "exception"),
    ),
    "body": ("description", "body", "details", "content"),
    "cause": ("cause", "root_cause", "u_root_cause", "cause_notes"),
    "fix": (
        *("resolution_notes", "close_notes", "fix", "solution", "workaround", "work_around"),
        *("u_resolution", "u_workaround", "resolution_summary", "resolution"),
    ),
    "action": ("action",),
    "params": ("params",),
    "edited": (
        *("closed", "closed_at", "resolved", "resolved_at", "resolutiondate", "resolution_date"),
        *("updated", "updated_at", "sys_updated_on", "created", "created_at", "opened_at"),
        "sys_created_on",
    ),
    "owner": ("owner", "assignment_group", "team", "assignee", "assigned_to", "assignees"),
    "tags": ("tags", "labels"),
    "dags": ("dags", "dag", "dag_id"),
    "key": ("key", "number", "id", "sys_id"),
    "url": ("html_url", "url", "link", "permalink"),
    "safe_to_retry": ("safe_to_retry",),
}
# How a tracker says that a ticket is closed: no word on what was done.
_STATES = re.compile(
    r"(?:closed?|done|fixed|resolved|solved|complete[d]?|won'?t (?:fix|do)|wontfix|duplicate|"
    r"can(?:not|'t) reproduce|not reproducible|invalid|unresolved|not[ _]planned|declined|"
    r"closed/resolved.*|solved \(.*\)|none|n/?a|-)?\.?",
    re.IGNORECASE,
)
_MOST_TOLD = 10


def read_tickets(file: RunbookFile, text: str) -> Iterator[tuple[int, Fields]]:
    """One entry a ticket. Refuses the file with the lines that cannot be used, and why."""
    found: list[tuple[int, Fields]] = []
    refused: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found.append((number, _ticket(file, number, line)))
        except RunbookError as error:
            refused.append(error.message)
    if refused:
        more = len(refused) - _MOST_TOLD
        told = [*refused[:_MOST_TOLD], *([f"… and {more} more of its lines"] if more > 0 else [])]
        raise RunbookError("\n".join(told), "Correct or remove these lines; nothing was stored.")
    yield from found


def _ticket(file: RunbookFile, line: int, text: str) -> Fields:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        file.refuse(line, f"not JSON: {reason}; a ticket is one JSON object on one line")
    if not isinstance(document, dict):
        file.refuse(line, "a ticket must be a JSON object")
    said = _said(document)
    title = said["title"]
    if not title:
        file.refuse(line, "no title (title, summary or short_description)")
    page = _page(file, title, said["body"])
    errors = _errors(document) or page["symptoms"] or from_words(title)
    if not errors:
        file.refuse(line, "no error text (error, log, or quoted in title or description)")
    fix = "" if _STATES.fullmatch(said["fix"]) else said["fix"]
    around = against("\n".join((said["body"], said["cause"], fix)))
    action = _action(said["action"], fix, around)
    cause = said["cause"] or page["cause"]
    if not (cause or fix or action.get("action") or page["advice"]):
        file.refuse(line, "no cause, resolution or action")
    link = said["url"] if said["url"].startswith("http") else ""
    explanation = [fix or page["advice"], action.pop("advice", ""), link]
    fields: dict[str, Any] = {
        "title": title,
        "symptoms": errors,
        "cause": cause,
        "explanation": "\n".join(part for part in explanation if part),
        "id": f"ticket {_key(file, said, title)}",
        "edited": re.sub(r"T.*|\s+\d\d:\d\d.*", "", said["edited"]),
        "owner": said["owner"],
        "tags": said["tags"] or None,
        "dags": said["dags"] or None,
        "safe_to_retry": "false" if around is Against.OUTRIGHT else said["safe_to_retry"],
        **action,
    }
    if "params" in document:
        fields["params"] = document["params"]
    return {name: (line, value) for name, value in fields.items()}


def _errors(document: Mapping[str, Any]) -> list[str]:
    """Of an error that is a list each text is a symptom."""
    flat = {_snake(name): value for name, value in document.items()}
    found: object = next((flat[name] for name in _KEYS["error"] if flat.get(name)), [])
    texts = map(_text, found if isinstance(found, list) else [found])
    return [text for text in texts if text.strip()]


def _action(action: str, fix: str, around: Against) -> dict[str, Any]:
    meant = structured(action)
    if meant:
        return {"action": meant[0], **({"params": meant[1]} if meant[1] else {})}
    if action and re.fullmatch(r"[a-z]+(?:_[a-z]+)+", action):  # a name, misspelt
        return {"action": action}
    advised = None if action and fix else understood(action or fix, around)
    found, params = advised or (None, {})
    return {"action": found, "params": params, "advice": action, "prose": None}


def _key(file: RunbookFile, said: Mapping[str, str], title: str) -> str:
    """What the tracker calls it. A bare number is one of many trackers'."""
    if said["key"] and not said["key"].isdigit():
        return said["key"]
    return said["url"] or f"{file.name} {said['key'] or title}"


def _page(file: RunbookFile, title: str, body: str) -> dict[str, Any]:
    """What a description written as Markdown or wiki text says, where it tells of one failure."""
    try:
        told = [fields for _, fields in read_markdown(file, body, title)] if body else []
    except RunbookError:  # a description need not be a runbook
        told = []
    quoted = [text for fields in told for text in fields["symptoms"][1] if text != title]
    one = told[0] if len(told) == 1 else {}
    named = bool(one) and bool(one["cause"][1] or "action" in one)
    return {
        "symptoms": quoted,
        "cause": one["cause"][1] if named else "",
        "advice": one["explanation"][1] if named else "",
    }


def _said(document: Mapping[str, Any]) -> dict[str, str]:
    """What each of `_KEYS` says, as text."""
    inner = document.get("fields")  # Jira keeps all but the key in there
    flat: dict[str, str] = {}
    for one in (document, inner if isinstance(inner, dict) else {}):
        for name, value in one.items():
            text = _text(value).strip()
            if text:
                flat.setdefault(_snake(name), text)
    return {
        wanted: next((flat[name] for name in names if name in flat), "")
        for wanted, names in _KEYS.items()
    }


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[ -]+", "_", name).lower()


def _text(value: object) -> str:
    """Text of what trackers nest: people and labels by their name, Atlassian's documents."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))
    if not isinstance(value, dict):
        return ""
    if value.get("type") == "doc":
        return _document(value)
    names = ("display_value", "displayName", "name", "login", "value")
    return next((value[name] for name in names if isinstance(value.get(name), str)), "")


def _document(node: Mapping[str, Any]) -> str:
    """Atlassian's document format as Markdown, as far as runbooks need it."""
    kind, content = node.get("type"), node.get("content")
    if kind == "text":
        return str(node.get("text", ""))
    inner = (
        [_document(one) for one in content if isinstance(one, dict)]
        if isinstance(content, list)
        else []
    )
    if kind == "hardBreak":
        return "\n"
    if kind == "codeBlock":
        return "```\n" + "".join(inner) + "\n```\n"
    if kind == "heading":
        return "# " + "".join(inner) + "\n"
    if kind == "listItem":
        return "- " + "".join(inner).strip() + "\n"
    return "".join(inner) + ("\n\n" if kind == "paragraph" else "")
