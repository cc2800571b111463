"""What the dashboard lets in, and how it tells the story of an incident: pure, no Streamlit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from aiops_cli.dashboard import values
from aiops_cli.dashboard.guard import HEADERS, Guard, same_origin
from aiops_cli.story import plans, story
from knowledge.records import (
    Case,
    Decision,
    Excerpt,
    Harm,
    Judgement,
    Outcome,
    Remark,
    Snooze,
    Story,
    Voided,
    Vouch,
)
from tests.builders import NOW, incident

MINUTE = timedelta(minutes=1)


def judged(action: str | None, minutes: int, passed: bool = False) -> Judgement:
    document = {
        "diagnosis": {"action": action, "params": {}},
        "gate": {"passed": passed, "reasons": [] if passed else ["no grant covers it"]},
    }
    return Judgement("one", NOW + minutes * MINUTE, document)


def decided(seq: int, kind: Any, minutes: int, **fields: Any) -> Decision:
    known = {"by": "ana", "action": "retry", "plan": {"action": "retry"}, "seq": seq}
    return Decision("one", kind, NOW + minutes * MINUTE, **{**known, **fields})


def test_the_whole_story_is_told_in_order() -> None:
    at = [NOW + minutes * MINUTE for minutes in range(30)]
    written = Story(
        judgements=(judged(None, 1), judged(None, 2), judged("retry", 3), judged("retry", 4, True)),
        decisions=(
            decided(1, "shadow", 5, by="aiops"),
            decided(2, "reject", 6, reason="not now"),
            decided(3, "auto", 8, by="aiops", grant="g1"),
            decided(
                4, "approve", 11, params={"delay": "5m"}, cause="restart", action="retry_later"
            ),
            decided(5, "reject", 17, reason="undone: it was the wrong pool", plan={}),
            decided(6, "superseded", 18, by="airflow", action=None, reason="green again", plan={}),
        ),
        voided=(Voided(2, at[7], "ana"), Voided(3, at[9], None)),
        outcomes=(
            Outcome("one", 4, at[13], "fixed", "", 2),
            Outcome("one", 4, at[15], "relapsed", "the same again", 2),
        ),
        harms=(Harm("one", 4, "cleo", at[16], "loaded twice"),),
        vouches=(Vouch("prod", "orders_etl", "load", "fp", True, "ana", at[11]),),
        remarks=(Remark("one", "ben", at[10], "first yes of two to retry_later"),),
        snoozes=(Snooze("one", "dan", at[12], at[14]),),
    )
    case = Case(incident(), "superseded")
    told = [event["what"] for event in story(case, written)]
    expected = [
        "failed: ConnectionRefusedError: [Errno 111]",
        "seen",
        "judged: proposes nothing: nobody has answered this before; waits for a person",
        "judged: proposes retry; waits for a person (no grant covers it)",
        "judged: proposes retry; may be done alone",
        "retry would have been done alone",
        "ana turned down retry: not now",
        "ana took back: ana turned down retry: not now",
        "retry was done alone, as grant g1 allows",
        "not done: retry",
        "note by ben: first yes of two to retry_later",
        "ana approved retry_later (delay=5m): restart",
        "ana vouched: load may run again, after this failure",
        "dan left it for 2m",
        "checked: retry_later fixed, turned green (try 2)",
        "checked: retry_later relapsed, came back after it had turned green (try 2): the same",
        "cleo says it did harm (retry_later): loaded twice",
        "ana turned down retry: undone: it was the wrong pool",
        "somebody else acted on it: green again",
    ]
    assert len(told) == len(expected), told
    for text, start in zip(told, expected, strict=True):
        assert text.startswith(start), (text, start)
    assert [name.partition(",")[0] for name, _ in plans(written)] == ["The plan of retry_later"]


def test_a_line_of_the_log_keeps_its_number() -> None:
    """Whatever a program takes for the end of a line: the log's own lines end with a newline."""
    text = "one\x0cone\x85one\u2028one\ntwo"
    case = Case(incident(excerpt=Excerpt(text, (7, 12), 12)), "pending")
    assert values.log_lines(case).split("\n") == [" 7  one\x0cone\x85one\u2028one", "12  two"]


@pytest.mark.parametrize(
    ("origin", "host", "public", "own"),
    [
        ("http://127.0.0.1:8501", "127.0.0.1:8501", None, True),
        ("http://LOCALHOST:8501", "localhost:8501", None, True),
        ("http://[::1]:8501", "[::1]:8501", None, True),
        ("https://aiops.example", "aiops.example", "aiops.example", True),
        # A proxy that passes on its own name, or leaves out the port.
        ("https://aiops.example:8443", "127.0.0.1:8501", "AIOPS.example", True),
        ("http://localhost:3000", "localhost:8501", None, False),
        ("http://127.0.0.1:8501", "localhost:8501", None, False),
        ("http://localhost", "localhost:8501", None, False),
        ("http://evil.example", "127.0.0.1:8501", None, False),
        ("https://aiops.example.evil", "aiops.example", "aiops.example", False),
        ("https://aiops.example@evil.example", "aiops.example", "aiops.example", False),
        ("http://localhost:8501", "aiops.example", "aiops.example", False),
        ("null", "127.0.0.1:8501", None, False),
        ("file://", "127.0.0.1:8501", None, False),
        ("", "127.0.0.1:8501", None, False),
        ("http://[::1", "[::1", None, False),
    ],
)
def test_only_a_page_of_its_own_may_talk_to_it(
    origin: str, host: str, public: str | None, own: bool
) -> None:
    assert same_origin(origin, host, public) is own


def passed(kind: str, *headers: tuple[str, str]) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the guard let a request through, and what was answered."""
    seen: list[bool] = []
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(True)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    async def receive() -> dict[str, Any]:
        return {"type": f"{kind}.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    named = [(name.encode(), value.encode()) for name, value in headers]
    asyncio.run(Guard(app)({"type": kind, "headers": named}, receive, send))
    return bool(seen), sent


def test_a_socket_is_opened_for_its_own_pages_alone() -> None:
    host, own = ("host", "127.0.0.1:8501"), ("origin", "http://127.0.0.1:8501")
    assert passed("websocket", host, own) == (True, [])
    assert passed("websocket", host) == (True, [])  # a program: no browser leaves it out
    refused = (False, [{"type": "websocket.close", "code": 1008}])
    assert passed("websocket", host, ("origin", "http://localhost:3000")) == refused
    assert passed("websocket", host, own, ("origin", "http://localhost:3000")) == refused
    assert passed("websocket", host, ("host", "localhost:3000"), own) == refused
    assert passed("websocket", own) == refused


def test_no_other_site_shows_it_in_a_frame() -> None:
    through, (start,) = passed("http", ("host", "127.0.0.1:8501"))
    assert through
    assert start["headers"] == [(b"a", b"b"), *HEADERS]
    assert (b"x-frame-options", b"DENY") in HEADERS
    assert (b"content-security-policy", b"frame-ancestors 'none'") in HEADERS


def test_what_starts_and_ends_a_server_passes() -> None:
    assert passed("lifespan") == (True, [])
