"""A task's log, as a stream of bytes, to the excerpt worth keeping, in bounded memory.

Airflow 3 events (one JSON object a line), Airflow's text logs and plain text may be mixed: each
line is judged by itself. What is kept: the head, the tail, every line of level error or graver,
and exception chains with their frames; where there are too many, the last ones and the first.

Secrets leave a line before it is cut. A line too long to hold is cut first, so both sides of
that cut lose a margin longer than any secret: none survives by being halved.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from knowledge.records import Excerpt
from knowledge.redact import KeyBlocks, clean, redact_line
from knowledge.tracebacks import render_error_detail

MAX_EXCERPT = 64 * 1024  # bytes of UTF-8
HEAD_LINES = 20
TAIL_LINES = 150
_PIECE = 64 * 1024  # a chunk of any size is worked on in pieces
_MAX_RAW = 512 * 1024  # bytes: a longer line is not parsed, only its two ends are held
_MAX_HELD = 20_000  # characters: a longer line is held as its two ends
_END = 8_000
_MARGIN = 4_000  # characters: no secret is longer, keys have been taken out as blocks
_SHOWN, _SHOWN_TAIL = 2_000, 500  # characters of one line in the excerpt, of these at its end
_MAX_DOCUMENT = 1024 * 1024  # bytes: a saved {"content": […]} answer is read up to this size
_CUT = " […] "

_GRAVE = frozenset({"ERROR", "CRITICAL", "FATAL", "SEVERE"})
_TELLING = _GRAVE | {"WARNING", "WARN"}
# On every line that Airflow writes; the rest of an event's fields are what its author gave.
_ROUTINE = frozenset(
    ("timestamp", "event", "level", "logger", "logger_name", "filename", "lineno", "func_name")
    + ("error_detail", "exception", "ti_id", "dag_id", "run_id", "task_id", "map_index", "chan")
    + ("try_number", "loc", "pathname", "process", "thread", "module", "task_instance_id", "ti")
)
# Cheap words first: most lines have none of them and need no pattern.
_WORDS = ("error", "exception", "traceback", "fatal", "critical", "kill", "signal", "caused by")
_TROUBLE = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|SEVERE|PANIC)\b(?!=0)|\b(?:error|fatal|panic)\b:|"
    r"(?:Error|Exception|Interrupt|Killed)\b|^\s*Caused by:|\b[Kk]illed\b|SIGKILL|SIGTERM|"
    r"terminated by signal"
)
_TRACEBACK = "Traceback (most recent call last)"
_PREFIX = re.compile(r"(?:\[[^\]]{0,60}\] ?){0,2}(?:\{[^}]{0,100}\} )?(?:[A-Z]{4,8} - )?")
_AFTER_FRAMES = 10  # lines after an exception's line: its message, notes, the next joint
_SOURCES = "::group::Log message source details"
_NOTICE = re.compile(
    r"(?i)\blog file (?:not found|does not exist)|could not read \w+ logs?\b|no logs? available|"
    r"(?:failed|unable) to (?:load|fetch|read) [\w ]{0,30}logs?\b|error fetching the logs"
)
# An event that was cut or broken: its message, level and exceptions, as far as they are there.
_STRING = r'"((?:[^"\\]|\\.)*)'
_EVENT = re.compile(rf'"event"\s*:\s*{_STRING}')
_LEVEL = re.compile(r'"level"\s*:\s*"(\w{1,20})"')
_RAISED = re.compile(
    rf'"exc_type"\s*:\s*"([^"\\]{{1,200}})"\s*,\s*"exc_value"\s*:\s*{_STRING}', re.DOTALL
)


class _Line(NamedTuple):
    order: int  # among the rendered lines, from 1: a gap is a cut
    number: int  # of the log's line it came from, from 1
    text: str


def read_excerpt(chunks: Iterable[bytes]) -> Excerpt:
    """The redacted part of a log that matters, at most MAX_EXCERPT bytes of it.

    `chunks` may break anywhere. Never raises on any bytes; holds a few megabytes whatever the
    log's size or the length of its lines. What `chunks` itself raises is passed on.
    """
    keeper = _Keeper()
    number = 0
    for number, raw in enumerate(_raw_lines(_documents(_pieces(chunks))), 1):
        text = raw.decode("utf-8", "replace")
        event = _event(text) if text.lstrip()[:1] == "{" else None
        lines, grave, chained = event or ([text], False, False)
        for index, line in enumerate(lines):
            keeper.add(number, line, grave and index < HEAD_LINES, chained)
    return keeper.excerpt(number)


# ---- bytes → lines ----


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]


def _documents(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces as they are; a saved answer of the API, {"content": […]}, as one event a line."""
    start = b""
    for piece in pieces:
        start += piece
        if len(start) > _MAX_DOCUMENT or start.lstrip()[:1] != b"{":
            break
    else:
        content = (_json(start.decode("utf-8", "replace")) or {}).get("content")
        if isinstance(content, str):
            start = content.encode("utf-8", "replace")
        elif isinstance(content, list):
            start = "\n".join(json.dumps(event) for event in content).encode()
    yield start
    yield from pieces


def _raw_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends. One longer than _MAX_RAW is cut down to its two ends."""
    held, head = bytearray(), b""
    for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            held += part
            yield _ends(head, bytes(held)).removesuffix(b"\r")
            held, head = bytearray(), b""
        held += rest
        if len(held) > _MAX_RAW:
            head = head or bytes(held[:_END])
            del held[:-_END]
    if held or head:
        yield _ends(head, bytes(held)).removesuffix(b"\r")


def _ends(head: bytes, tail: bytes) -> bytes:
    if not head:
        return tail
    first, last = head.decode("utf-8", "replace"), tail[-_END:].decode("utf-8", "replace")
    return _joined(first, last).encode()


def _joined(head: str, tail: str) -> str:
    """Two ends of a line, each shortened by the margin and back to the end of a word."""
    first = re.search(r"[\s,;&\"'<>(){}\[\]|]", head[: len(head) - _MARGIN][::-1])
    last = re.search(r"[\s,;&\"'<>(){}\[\]|]", tail[_MARGIN:])
    # No word ends there: nothing that has the shape of a secret's surroundings, so drop it all.
    kept_head = head[: len(head) - _MARGIN - first.start()] if first else ""
    kept_tail = tail[_MARGIN + last.start() :] if last else ""
    return kept_head + _CUT + kept_tail
