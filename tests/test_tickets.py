"""Old tickets, one JSON object a line: the documented shape, common exports, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.errors import RunbookError
from knowledge.records import Entry
from knowledge.runbooks import read_runbooks, survey

OWN: dict[str, Any] = {
    "key": "OPS-7",
    "url": "https://tickets.example/OPS-7",
    "title": "Orders database restarts",
    "error": "ConnectionRefusedError: [Errno 111] Connection refused",
    "cause": "It restarts at night.",
    "resolution": "Waited for it.",
    "action": "retry_later",
    "params": {"delay": "5m"},
    "created": "2024-03-01",
    "closed": "2024-03-02T10:00:00Z",
    "owner": "dba",
    "tags": ["database"],
}


def read(folder: Path, *tickets: object, name: str = "old.jsonl") -> tuple[Entry, ...]:
    file = folder / name
    file.write_text("\n".join(json.dumps(ticket) for ticket in tickets) + "\n\n")
    return read_runbooks([file])


def refused(folder: Path, *lines: str) -> list[str]:
    file = folder / "old.jsonl"
    file.write_text("\n".join(lines))
    (error,) = survey([file]).refused
    assert error.hint
    return [line.removeprefix(f"{file}:") for line in error.message.split("\n")]


def test_the_documented_shape(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, OWN)
    assert (entry.kind, entry.source) == ("runbook", f"{tmp_path.name}/old.jsonl:1")
    assert (entry.title, entry.cause) == ("Orders database restarts", "It restarts at night.")
    assert [symptom.signature.error_class for symptom in entry.symptoms] == [
        "ConnectionRefusedError"
    ]
    assert (entry.action, entry.params) == ("retry_later", {"delay": "5m"})
    assert not entry.suggestion_only
    assert entry.explanation == "Waited for it.\nhttps://tickets.example/OPS-7"
    assert (entry.edited, entry.owner, entry.tags) == ("2024-03-02", "dba", ("database",))


def test_several_errors_of_one_ticket(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, OWN | {"error": ["ValueError: a, b", "KeyError: 'c'"]})
    assert [symptom.text for symptom in entry.symptoms] == ["ValueError: a, b", "KeyError: 'c'"]


JIRA = {
    "key": "DATA-12",
    "self": "https://jira.example/rest/api/2/issue/10012",
    "fields": {
        "summary": "GL load stops",
        "description": "h2. Symptoms\n{code}\ndecimal.InvalidOperation: bad\n{code}\n"
        "h2. Cause\nthe separator\nh2. Fix\nreplace it",
        "resolution": {"name": "Done"},
        "resolutiondate": "2024-01-05T10:11:12.000+0000",
        "assignee": {"displayName": "Mara L.", "active": True},
        "labels": ["gl", "sap"],
        "customfield_10010": None,
    },
}
JIRA_CLOUD = {
    "key": "DATA-13",
    "fields": {
        "summary": "Calendar",
        "description": {
            "type": "doc",
            "content": [
                {"type": "heading", "content": [{"type": "text", "text": "Error"}]},
                {"type": "codeBlock", "content": [{"type": "text", "text": "ValueError: day 30"}]},
                {"type": "heading", "content": [{"type": "text", "text": "Fix"}]},
                {"type": "paragraph", "content": [{"type": "text", "text": "use DateOffset"}]},
            ],
        },
    },
}
SERVICE_NOW = {
    "number": "INC0012345",
    "short_description": "SFTP down",
    "description": "It failed:\nTraceback (most recent call last):\n"
    '  File "/opt/x.py", line 3, in get\nparamiko.AuthenticationException: Authentication failed.',
    "close_notes": "Rotated the key in the connection.",
    "close_code": "Solved (Permanently)",
    "closed_at": "2024-02-03 08:00:00",
    "assignment_group": {"display_value": "Payments", "link": "https://now.example/x"},
}
GITHUB = {
    "number": 41,
    "title": "KeyError: 'next_page_token' in vendor_prices",
    "body": "### Root cause\nthe last page has none\n\n### Solution\nuse .get()",
    "state": "CLOSED",
    "closedAt": "2024-05-06T01:02:03Z",
    "url": "https://git.example/data/dags/issues/41",
    "labels": [{"name": "bug", "color": "red"}],
    "assignees": [{"login": "ana"}],
}


@pytest.mark.parametrize(
    ("ticket", "symptom", "cause", "told", "owner", "edited"),
    [
        (JIRA, "decimal.InvalidOperation: bad", "the separator", "replace it", "Mara L.",
         "2024-01-05"),
        (JIRA_CLOUD, "ValueError: day 30", "", "use DateOffset", None, None),
        (SERVICE_NOW, "paramiko.AuthenticationException: Authentication failed.", "",
         "Rotated the key in the connection.", "Payments", "2024-02-03"),
        (GITHUB, "KeyError: 'next_page_token' in vendor_prices", "the last page has none",
         "use .get()\nhttps://git.example/data/dags/issues/41", "ana", "2024-05-06"),
    ],
    ids=["jira", "jira cloud", "servicenow", "github"],
)  # fmt: skip
def test_common_exports(
    tmp_path: Path,
    ticket: object,
    symptom: str,
    cause: str,
    told: str,
    owner: str | None,
    edited: str | None,
) -> None:
    (entry,) = read(tmp_path, ticket)
    assert [one.text for one in entry.symptoms] == [symptom]
    assert (entry.cause, entry.explanation) == (cause, told)
    assert (entry.owner, entry.edited) == (owner, edited)
    assert entry.action is None
    assert entry.suggestion_only


def test_what_was_done_then_is_advice_now(tmp_path: Path) -> None:
    ticket = {"title": "t", "error": "ValueError: x"}
    fixes = {
        "Clear the task.": "retry",
        "Cleared the task and called finance": None,
        "retry": "retry",
        "restart the database": None,
    }
    for fix, action in fixes.items():
        (entry,) = read(tmp_path, ticket | {"resolution": fix})
        assert (entry.action, entry.suggestion_only) == (action, True), fix
        assert entry.explanation == fix


def test_a_word_against_running_again_is_kept(tmp_path: Path) -> None:
    ticket = {"title": "t", "error": "ValueError: x", "cause": "double posting; never rerun it"}
    (entry,) = read(tmp_path, ticket)
    assert entry.safe_to_retry is False


def test_a_ticket_is_the_same_in_the_next_export(tmp_path: Path) -> None:
    (first,) = read(tmp_path, OWN, name="2023.jsonl")
    (second,) = read(tmp_path, OWN | {"title": "renamed"}, name="2024.ndjson")
    assert first.id == second.id
    bare = {"number": 7, "title": "t", "error": "ValueError: x", "cause": "c"}
    ids = {read(tmp_path, bare | {"url": f"https://git.example/{n}/7"})[0].id for n in "ab"}
    assert len(ids) == 2  # two trackers' number 7


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "1: not JSON: Expecting property name"),
        ("[1]", "1: a ticket must be a JSON object"),
        ('{"error": "ValueError: x", "cause": "c"}', "1: no title"),
        ('{"title": "t", "cause": "c"}', "1: no error text"),
        ('{"title": "t", "error": [], "cause": "c"}', "1: no error text"),
        ('{"title": "t", "error": "ValueError: x"}', "1: no cause, resolution or action"),
        (
            '{"title": "t", "error": "ValueError: x", "resolution": "Won\'t Fix"}',
            "1: no cause, resolution or action",
        ),
        (
            '{"title": "t", "error": "ValueError: x", "action": "retry_latr"}',
            "1: no action 'retry_latr'",
        ),
        (
            '{"title": "t", "error": "ValueError: x", "action": "retry", "params": [1]}',
            "1: `params` must be a mapping",
        ),
        (
            '{"title": "t", "error": "ValueError: x", "cause": "c", "safe_to_retry": "perhaps"}',
            "1: `safe_to_retry` must be true or false",
        ),
        ("[" * 100_000, "1: not JSON: nested too deeply"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, line: str, reason: str) -> None:
    (told,) = refused(tmp_path, line)
    assert told.startswith(reason)


def test_all_bad_lines_are_named_and_nothing_is_read(tmp_path: Path) -> None:
    good = json.dumps(OWN)
    told = refused(tmp_path, good, "no", "", "[]", *["{}"] * 20)
    assert [line.split(":")[0] for line in told[:3]] == ["2", "4", "5"]
    assert told[-1] == "… and 12 more of its lines"
    with pytest.raises(RunbookError):
        read_runbooks([tmp_path])


def test_the_same_ticket_twice_is_refused(tmp_path: Path) -> None:
    (told,) = refused(tmp_path, json.dumps(OWN), json.dumps(OWN))
    assert told.startswith("2: same id or title as")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "content", "text", "name", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["title", "summary", "error", "log", "description", "body", "fields", "resolution", "action",
     "params", "closed", "key", "url", "owner", "labels", "dags", "safe_to_retry"]
)  # fmt: skip


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_ticket_gives_an_entry_or_a_named_refusal(
    tmp_path_factory: pytest.TempPathFactory, ticket: dict[str, Any]
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_text(json.dumps(ticket))
    reading = survey([file])
    assert len(reading.entries) + len(reading.refused) == 1
    for error in reading.refused:
        assert error.message.startswith(f"{file}:1: ")
    for entry in reading.entries:
        assert entry.symptoms
        assert entry.cause or entry.action or entry.explanation
