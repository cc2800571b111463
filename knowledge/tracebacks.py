"""An exception as Airflow 3 logs it (`error_detail`) → the traceback Python would have printed.

So one parser reads both, and a failure has one signature however its log came. The shape is
structlog's ExceptionDictTransformer: a list, the outermost exception first, then its causes.
Everything is bounded: the frames of a recursion, the lines of a message, chains and groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_STACKS = 20
_MAX_FRAMES = 60  # shared by the exceptions of a chain
_MAX_MESSAGE_LINES = 25
_TAIL = 5  # of them at the message's end
_MAX_MEMBERS = 10
_MAX_DEPTH = 4
# A failed pod is printed whole, and says why it failed somewhere in its middle.
_POD_WHY = re.compile(r"['\"](?:exit_code|reason)['\"]: ['\"]?(?!None\b)\w")


def render_error_detail(detail: object, depth: int = 0) -> Iterator[str]:
    """The lines of the traceback, root cause first; nothing where `detail` has another shape."""
    if not isinstance(detail, list) or depth > _MAX_DEPTH:
        return
    stacks = [stack for stack in detail if isinstance(stack, Mapping)]
    if len(stacks) > _MAX_STACKS:  # the last ones printed say what failed, the first one why
        stacks = [*stacks[: _MAX_STACKS - 1], stacks[-1]]
    frames = max(6, _MAX_FRAMES // max(1, len(stacks)))
    margin = "  " * (depth + 1) + "| " if depth else ""
    below: Mapping[str, Any] | None = None
    for stack in reversed(stacks):
        if below is not None:
            yield margin.rstrip()
            # `is_cause` stands with the cause and says how the exception above came by it.
            yield margin + (
                "The above exception was the direct cause of the following exception:"
                if below.get("is_cause")
                else "During handling of the above exception, another exception occurred:"
            )
            yield margin.rstrip()
        below = stack
        yield from _one(stack, frames, depth, margin)


def _one(stack: Mapping[str, Any], max_frames: int, depth: int, margin: str) -> Iterator[str]:
    members = stack.get("exceptions")
    if not (stack.get("is_group") and isinstance(members, list) and members):
        for line in _plain(stack, max_frames, bare=depth > 0):
            yield margin + line
        return
    indent = "  " * (depth + 1)
    for index, line in enumerate(_plain(stack, max_frames, bare=False)):
        if index == 0:
            yield f"{indent}{'| ' if depth else '+ '}Exception Group {line}"
        else:
            yield f"{indent}| {line}"
    for number, member in enumerate(members[:_MAX_MEMBERS], 1):
        rule = f"+---------------- {number} ----------------"
        yield f"{indent}+-{rule}" if number == 1 else f"{indent}  {rule}"
        yield from render_error_detail(member if isinstance(member, list) else [member], depth + 1)
    if len(members) > _MAX_MEMBERS:
        yield f"{indent}  | … {len(members) - _MAX_MEMBERS:,} exceptions left out …"
    yield f"{indent}  +------------------------------------"


def _plain(stack: Mapping[str, Any], max_frames: int, *, bare: bool) -> Iterator[str]:
    frames = stack.get("frames")
    known = [f for f in frames if isinstance(f, Mapping)] if isinstance(frames, list) else []
    if known or not bare:
        yield "Traceback (most recent call last):"
    head = max_frames // 4
    for index, frame in enumerate(known):
        if head <= index < len(known) - (max_frames - head):
            if index == head:
                yield f"  … {len(known) - max_frames:,} frames left out …"
            continue
        name, number = _text(frame.get("name")), _text(frame.get("lineno"))
        yield f'  File "{_text(frame.get("filename"))}", line {number}, in {name}'
    message = _text(stack.get("exc_value"))
    syntax = stack.get("syntax_error")
    if isinstance(syntax, Mapping):
        yield f'  File "{_text(syntax.get("filename"))}", line {_text(syntax.get("lineno"))}'
        if source := _text(syntax.get("line")).strip():
            yield f"    {source}"
        # Its str() repeats file and line; the printed traceback does not.
        message = _text(syntax.get("msg")) or message
    kind = _text(stack.get("exc_type")) or "Exception"
    yield from _bounded(f"{kind}: {message}" if message else kind)
    notes = stack.get("exc_notes")
    for note in notes[:_MAX_MEMBERS] if isinstance(notes, list) else []:
        yield from _bounded(_text(note))


def _bounded(text: str) -> list[str]:
    lines = text.split("\n")
    if len(lines) <= _MAX_MESSAGE_LINES:
        return lines
    middle = lines[_MAX_MESSAGE_LINES - _TAIL : -_TAIL]
    why = [line for line in middle if _POD_WHY.search(line)][:_MAX_MEMBERS]
    left_out = f"… {len(middle) - len(why):,} lines left out …"
    return [*lines[: _MAX_MESSAGE_LINES - _TAIL], left_out, *why, *lines[-_TAIL:]]


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
