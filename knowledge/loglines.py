"""Log text → lines without their prefixes, whatever wrote them.

Airflow 2 and 3 text, Airflow 3 events (JSON, one a line), JSON of other loggers, Spark, dbt,
Python's logging, container time stamps, and output of child processes that Airflow's operators
log line by line. An event's `error_detail` is written out as the Python traceback it was, so
that one parser reads both and one failure has one signature however its log came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowledge.tracebacks import render_error_detail

MAX_LINE = 4000  # characters looked at of a line; a traceback's lines are far shorter
MAX_EVENT = 200_000  # … and of a line that holds a whole traceback


@dataclass(frozen=True, slots=True)
class Line:
    """`text` without prefix; `number` is 1-based in the excerpt; `opens` says that a prefix
    stood before it, so that it starts an event; the lines up to the next one belong to it and
    carry its `level` (upper case, "" where unknown) and `source` (file or logger)."""

    text: str
    number: int
    opens: bool = False
    level: str = ""
    source: str = ""


_LEVELS = r"TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|SEVERE|CRITICAL|FATAL"
_STAMP = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ,]{1,2}\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
    r"(?: ?Z| ?[+-]\d\d:?\d\d| [A-Z]{2,5}\b)?"
)
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)|[\x00\r]")

_PREFIXES = tuple(
    re.compile(pattern)
    for pattern in (
        # Airflow 1.10 and 2: [2024-02-01T07:44:10.220+0000] {file.py:12} ERROR - …; some images
        # double the braces; copies often lose the time.
        rf"(?:\[{_STAMP}\] ?)?[{{]{{1,2}}(?P<source>[\w./<>-]{{1,120}}:\d{{1,6}})[}}]{{1,2}} "
        rf"(?:(?P<level>{_LEVELS}) ?-(?: |$)|▶ ?)",
        # Airflow 3 text: [2025-04-08T06:29:44.122618Z] ERROR - …
        rf"\[{_STAMP}\] (?P<level>{_LEVELS}) ?-(?: |$)",
        # structlog's console, and dbt: 2025-04-08T06:29:44Z [error    ] …
        rf"(?:\[?{_STAMP}\]? |\d\d:\d\d:\d\d(?:\.\d{{1,6}})? )"
        rf"\[(?P<level>(?i:{_LEVELS})) {{0,6}}\] ?"
        r"(?:\[[^\]]{0,60}\]: ?)?",
        # log4j: 24/05/01 02:11:09 ERROR Executor: …
        rf"\d\d/\d\d/\d\d(?: \d\d:\d\d:\d\d)? (?P<level>{_LEVELS}) (?P<source>[\w.$]{{1,120}}): ",
        # Python's logging and most others: time, perhaps a name, a level.
        rf"\[?{_STAMP}\]?(?: ?[-|:])? {{1,3}}(?:\[?(?P<source>[\w.]{{1,80}})\]? ?[-|:]? )?"
        rf"\[?(?P<level>{_LEVELS})\]?(?: {{0,8}}[-|:]{{1,2}} ?| {{1,8}}|$)"
        r"(?:\[?[a-z_][\w.]{0,80}\]?: )?",
        rf"(?P<level>{_LEVELS}):(?P<source>[\w.-]{{1,120}}):",
        # One blank: what goes on behind it by its indent is known by that.
        rf"\[(?P<level>{_LEVELS})\](?: |$)",
        # The container's own time stamp; dbt's time of day.
        rf"{_STAMP}(?: (?:stdout|stderr) [FP])?(?: |$)",
        r"\d\d:\d\d:\d\d(?:\.\d{1,6})? {1,2}",
    )
)
# What operators put before each line that a child process printed.
_CHILD = re.compile(
    r"(?:Job \d{1,12}: )?Subtask [\w.-]{1,250} |Subtask: |\[[a-z][a-z0-9-]{0,60}\] "
)
_ESCAPED = re.compile(r"Traceback \(most recent call last\):(?:\\r)?\\n|\\n {2}File \"")
_BYTES = re.compile(r"b(?P<quote>['\"])(?P<text>.*?)(?:\\n)?(?P=quote)$")
# Airflow 3's text ends with the logger or key="value" pairs.
_LOGGER = re.compile(
    r":? ?\[(?P<logger>[a-z][\w.]{1,120})\]$|:? source=\"?(?P<source>[\w.-]{1,120})\"?(?: .*)?$"
)


def _strip(text: str) -> tuple[str, bool, str, str]:
    """(text without its prefixes, whether there were any, level, source): of nested prefixes the
    outermost names the source, the innermost level is kept where it is the graver one."""
    opens, level, source = False, "", ""
    for _ in range(4):
        for prefix in _PREFIXES:
            match = prefix.match(text)
            if match is None:
                continue
            groups = match.groupdict()
            found = (groups.get("level") or "").upper()
            if not level or found in ("ERROR", "CRITICAL", "FATAL"):
                level = found or level
            source = source or (groups.get("source") or "")
            opens, text = True, text[match.end() :]
            break
        else:
            child = _CHILD.match(text) if opens else None
            if child is None:
                break
            text = text[child.end() :]
    if opens:
        if quoted := _BYTES.match(text):
            text = quoted["text"].replace("\\t", "\t")
        text = text.split("@-@{", 1)[0]  # Cloud Composer appends its labels so
        if tail := _LOGGER.search(text[-300:]):
            source = source or tail["logger"] or tail["source"] or ""
            text = text[: len(text) - len(tail.group())]
    return text, opens, level, source


def _text_of(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _event(document: Mapping[str, Any], number: int) -> Iterator[Line]:
    """A JSON event of Airflow 3, or of another structured logger, as lines."""
    level = _text_of(
        document.get("level") or document.get("levelname") or document.get("severity")
    ).upper()
    source = _text_of(document.get("logger") or document.get("filename") or document.get("name"))
    info = document.get("info")  # dbt's JSON log
    if isinstance(info, Mapping):
        level = level or _text_of(info.get("level")).upper()
    text = _text_of(
        document.get("event")
        or document.get("message")
        or document.get("msg")
        or (info.get("msg") if isinstance(info, Mapping) else "")
    )
    # What a supervisor knows of a killed process stands beside the event, not in it.
    extra = [
        f"{key}={document[key]}"
        for key in ("exit_code", "signal_name", "error")
        if isinstance(document.get(key), (str, int)) and str(document[key]) not in text
    ]
    lines = [line[:MAX_LINE] for line in " ".join([text, *extra]).split("\n")]
    for key in ("exception", "exc_info", "exc_text", "stack_trace", "traceback"):
        if isinstance(document.get(key), str):
            lines.extend(document[key].split("\n"))
            break
    lines.extend(render_error_detail(document.get("error_detail")))
    for index, line in enumerate(lines):
        yield Line(_ANSI.sub("", line)[:MAX_LINE], number, index == 0, level, source)


def _escaped(raw: str, number: int) -> list[Line]:
    text, opens, level, source = _strip(_ANSI.sub("", raw).rstrip())
    parts = text.replace(r"\r", "").replace(r"\t", "\t").split(r"\n")
    return [
        Line(part[:MAX_LINE], number, index == 0 and opens, level, source)
        for index, part in enumerate(parts)
    ]


def _json_event(text: str) -> Mapping[str, Any] | None:
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):  # not JSON after all, or nested to hurt
        return None
    known = ("event", "message", "msg", "info")
    return document if isinstance(document, dict) and any(k in document for k in known) else None


def read_lines(text: str, numbers: Sequence[int] = ()) -> list[Line]:
    """The lines of an excerpt, prefixes gone, continuation lines with their event's level.

    `numbers` are the log's own line numbers of the excerpt's lines where they are known: lines
    of one number came in one event, so that the next number ends it.
    """
    lines: list[Line] = []
    level = source = ""
    raws = text.split("\n")
    # Logs are quoted indented, in Markdown for one.
    margin = min((len(raw) - len(raw.lstrip()) for raw in raws if raw.strip()), default=0)
    for number, raw in enumerate((raw[margin:] for raw in raws), 1):
        document = _json_event(raw.strip()) if "{" in raw[:3] else None
        if document is not None:
            event = list(_event(document, number))
            lines.extend(event)
            level, source = event[0].level, event[0].source
            continue
        if r"\n" in raw[:MAX_EVENT] and _ESCAPED.search(raw[:MAX_EVENT]):
            # Some handlers write a whole traceback on one line, its ends of line escaped.
            event = _escaped(raw[:MAX_EVENT], number)
            lines.extend(event)
            level, source = event[0].level, event[0].source
            continue
        clean = _ANSI.sub("", raw[:MAX_LINE]).rstrip()
        stripped, opens, found, origin = _strip(clean)
        if opens and "{" in stripped[:1] and (document := _json_event(stripped)) is not None:
            lines.extend(_event(document, number))  # a child's own structured log
            continue
        if not opens and number > 2 and len(numbers) >= number:
            same_before = numbers[number - 3] == numbers[number - 2] > 0
            opens = same_before and numbers[number - 1] != numbers[number - 2]
        if opens:
            level, source = found, origin
        lines.append(Line(stripped, number, opens, level, source))
    return lines
