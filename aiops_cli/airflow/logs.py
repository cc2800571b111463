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
# What the supervisor knows of a dead process stands beside its event, not in it.
_BESIDE = ("exit_code", "signal_name", "error")
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
_BOUNDARY = re.compile(r"[\s,;&\"'<>(){}\[\]|]")
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
        text = raw.decode("utf-8", "replace").removeprefix("\ufeff")
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
            if held:
                part = _ends(head, bytes(held) + part)
                held, head = bytearray(), b""
            yield part
        held += rest
        if len(held) > _MAX_RAW:
            head = head or bytes(held[:_END])
            del held[:-_END]
    if held:
        yield _ends(head, bytes(held))


def _ends(head: bytes, tail: bytes) -> bytes:
    if not head:
        return tail
    first, last = head.decode("utf-8", "replace"), tail[-_END:].decode("utf-8", "replace")
    return _joined(first, last).encode()


def _joined(head: str, tail: str) -> str:
    """The two ends of a cut line, each without its margin and back to the end of a word; where
    no word ends there is nothing to read, and all of it goes."""
    first = _BOUNDARY.search(head[: len(head) - _MARGIN][::-1])
    last = _BOUNDARY.search(tail, _MARGIN)
    kept_head = head[: len(head) - _MARGIN - first.start()] if first else ""
    return kept_head + _CUT + (tail[last.start() :] if last else "")


# ---- lines → what they say ----


def _event(text: str) -> tuple[list[str], bool, bool] | None:
    """An Airflow 3 event as (lines, whether it is grave, whether it carries an exception), or
    None where the line is none."""
    event = _json(text)
    if event is None:
        return _salvaged(text)
    if "event" not in event:
        return None  # some other program's JSON
    level = event.get("level")
    level = level.upper() if isinstance(level, str) else ""
    message = event["event"] if isinstance(event["event"], str) else json.dumps(event["event"])
    for key in _BESIDE:
        value = event.get(key)
        if isinstance(value, (str, int)) and str(value) not in message:
            message += f" {key}={value}"
    lines = _with_level(level, message)
    sources = event.get("sources")  # 3.1 tells in here that a log could not be read
    if isinstance(sources, list):
        lines += [line for one in sources if isinstance(one, str) for line in one.split("\n")]
    chain = list(render_error_detail(event.get("error_detail")))
    if not chain:  # loggers of other libraries keep the traceback as one text
        texts = (event.get(key) for key in ("exception", "exc_info", "exc_text", "stack_trace"))
        chain = next((text for text in texts if isinstance(text, str)), "").split("\n")
        chain = chain if any(chain) else []
    return lines + chain, level in _GRAVE, bool(chain)


def _salvaged(text: str) -> tuple[list[str], bool, bool] | None:
    message = _EVENT.search(text)
    if message is None:
        return None
    found = _LEVEL.search(text)
    level = found[1].upper() if found else ""
    chain = [f"{raised[1]}: {_unescaped(raised[2])}" for raised in _RAISED.finditer(text)][::-1]
    lines = _with_level(level, _unescaped(message[1]))
    return [*lines, *chain], level in _GRAVE, bool(chain)


def _with_level(level: str, message: str) -> list[str]:
    return (f"[{level}] {message}" if level else message).split("\n")


def _json(text: str) -> dict[str, Any] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # cut, broken, or nested to hurt
        return None
    return document if isinstance(document, dict) else None


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_HELD else _joined(text[:_END], text[-_END:])


# ---- what is kept ----


class _Recent:
    """The last lines, at most so many and at most so many characters of them."""

    def __init__(self, lines: int, characters: int) -> None:
        self.lines: deque[_Line] = deque()
        self._max = lines
        self._room = characters

    def add(self, line: _Line) -> None:
        self.lines.append(line)
        self._room -= len(line.text)
        while len(self.lines) > self._max or (self._room < 0 and len(self.lines) > 1):
            self._room += len(self.lines.popleft().text)


class _Keeper:
    """Sorts lines, as they come, into what an excerpt is made of."""

    def __init__(self) -> None:
        self.head: list[_Line] = []
        self.first: list[_Line] = []  # lines of trouble, the earliest
        self.errors = _Recent(200, 400_000)
        self.chains = _Recent(600, 800_000)
        self.tail = _Recent(TAIL_LINES, 1_200_000)
        self.notice = ""
        self._order = 0
        self._keys = KeyBlocks()
        self._in_sources = False
        self._in_frames = False
        self._after = 0

    def add(self, number: int, raw: str, grave: bool, chained: bool) -> None:
        """One line of the log; `grave` by its level, `chained` as part of an exception."""
        text = self._keys.line(clean(raw))
        if self._is_source(number, text):
            return
        self._order += 1
        line = _Line(self._order, number, _shortened(text))
        trouble = self._judge(text)
        chained = chained or trouble == "chain"
        if chained:
            self.chains.add(line)
        elif grave or trouble:
            self.errors.add(line)
        if (grave or chained or trouble) and len(self.first) < HEAD_LINES:
            self.first.append(line)
        if len(self.head) < HEAD_LINES:
            self.head.append(line)
        self.tail.add(line)

    def _is_source(self, number: int, text: str) -> bool:
        """Where Airflow says what it read the log from; told only where that went wrong."""
        if number > 100 and not self._in_sources:
            return False
        started = _SOURCES in text
        about_log = self._in_sources or started or text.startswith("***")
        if not self.notice and _NOTICE.search(text):
            said = re.sub(r"^(?:\*+|\[[A-Z]+\]) ", "", text)
            self.notice = redact_line(_shortened(said))[:_SHOWN]
        if started:
            self._in_sources = True
        elif self._in_sources and ("::endgroup::" in text or number > 100):
            self._in_sources = False
        return about_log

    def _judge(self, text: str) -> str:
        """ "chain" for a line of a traceback or just after one, "error" for one that tells of
        trouble, "" for the rest."""
        if self._in_frames:
            bare = text[_prefix_length(text) :]
            if bare.strip() and not bare[0].isspace() and _TRACEBACK not in bare:
                self._in_frames, self._after = False, _AFTER_FRAMES
            return "chain"
        lowered = text.lower()
        trouble = any(word in lowered for word in _WORDS)
        if trouble and _TRACEBACK in text:
            self._in_frames = True
            return "chain"
        if self._after:
            self._after -= 1
            return "chain"
        return "error" if trouble and _TROUBLE.search(text) else ""

    def excerpt(self, total_lines: int) -> Excerpt:
        """What was kept, in order, redacted and cut down to MAX_EXCERPT bytes."""
        chosen: dict[int, tuple[_Line, str]] = {}
        room = MAX_EXCERPT - 1024

        def take(lines: Iterable[_Line], share: int) -> None:
            nonlocal room
            share = min(share, room)
            for line in lines:
                if line.order in chosen:
                    continue
                text = _shown(redact_line(line.text))
                # As if a mark stood before each line, so that no count of marks is too many.
                size = len(text.encode()) + 48
                if size > share:
                    return
                share -= size
                room -= size
                chosen[line.order] = (line, text)

        take(reversed(self.chains.lines), 28_000)
        take(self.first, 6_000)
        take(self.head, 5_000)
        take(reversed(self.errors.lines), 8_000)
        take(reversed(self.tail.lines), room)
        take(reversed(self.chains.lines), room)
        take(reversed(self.errors.lines), room)
        return _assembled(
            [chosen[order] for order in sorted(chosen)], self._order, total_lines, self.notice
        )


def _prefix_length(text: str) -> int:
    found = _PREFIX.match(text)
    return found.end() if found else 0


def _shown(text: str) -> str:
    if len(text) <= _SHOWN:
        return text
    return text[: _SHOWN - _SHOWN_TAIL] + _CUT + text[-_SHOWN_TAIL:]


def _assembled(
    kept: list[tuple[_Line, str]], rendered: int, total_lines: int, notice: str
) -> Excerpt:
    texts: list[str] = []
    numbers: list[int] = []
    last = 0

    def mark(left_out: int) -> None:
        if left_out:
            texts.append(f"… {left_out:,} line{'s' if left_out > 1 else ''} left out …")
            numbers.append(0)

    for line, text in kept:
        mark(line.order - last - 1)
        texts.append(text)
        numbers.append(line.number)
        last = line.order
    mark(rendered - last)
    return Excerpt(
        text="\n".join(texts),
        numbers=tuple(numbers),
        total_lines=total_lines,
        cut=0 in numbers or any(_CUT in text for text in texts),
        notice=notice,
    )
