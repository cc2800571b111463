"""An exception's message as logs have it → its telling part, on one line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from knowledge.loglines import MAX_LINE

MAX_MESSAGE = 600  # characters kept of one message, before masking
MESSAGE_LINES = 4

# Lines of a message that only point or frame, and those from which on it is data and advice
# that differ from run to run.
_NOISE = re.compile(
    r"\s*(?:LINE \d+:.*|HTTP response headers: .*|[~^ ]+|\"\"\"|'\'\'|[-=*_]{3,}|[\"'*]+)$"
)
_ADVICE = re.compile(
    r"\s*(?:\[SQL: |\[parameters: |\[cached since|(?:DETAIL|HINT|CONTEXT):(?: |$)|QUERY: |"
    r"For more information check:|compiled (?:SQL|code) at |Help: https?://)",
    re.IGNORECASE,
)
_PLAN = re.compile(r"\s*'[A-Z]\w+ \[")  # Spark's; behind a colon it would be what is listed
_LETTER = re.compile("[A-Za-z]")  # Redshift's own message is a number, and says all in its DETAIL
_SEVERITY = re.compile(r".*\b(?:ERROR|FATAL|PANIC):")
# The second is what str() adds to a SyntaxError and a traceback does not show.
_INLINE_ADVICE = re.compile(
    r" *\(Background on this error at: [^)]{0,200}\)| \([^()]{0,200}, line \d+\)$"
)


# A failed pod is printed whole, over a hundred lines and more; these of its fields say why it
# failed. The reasons left out only say that it did.
_POD_WHY = re.compile(
    r"['\"]?\b(?P<key>exit_code|reason)['\"]?: ['\"]?"
    r"(?P<value>(?!None|null|Completed|PodCompleted|PodFailed|ContainersNot)\w+)"
)


def _pod_words(message: str) -> str:
    """`Pod x returned a failure. reason: OOMKilled, exit_code: 137` out of a whole pod."""
    head, _, pod = message.partition("{")
    why = dict.fromkeys(f"{m['key']}: {m['value']}" for m in _POD_WHY.finditer(pod))
    if not why or "returned a failure" not in head:
        return message
    told = head.strip().removesuffix("remote_pod:").rstrip(" .:\n")
    return f"{told}. {', '.join(sorted(why, reverse=True))}"


def advises(line: str, before: str) -> bool:
    """Whether a line is only data or advice that goes with the message `before` it."""
    severity = _SEVERITY.match(before)
    message = before[severity.end() :] if severity else before
    told = _ADVICE.match(line) or (_PLAN.match(line) and not message.rstrip().endswith(":"))
    return bool(told and _LETTER.search(message))


def clean_message(lines: Sequence[str]) -> str:
    """A message's first telling lines, on one line. The rest of a message is SQL, parameters and
    advice, or output that only happens to follow it."""
    kept: list[str] = []
    for line in _pod_words("\n".join(lines)).split("\n"):
        if advises(line, kept[-1] if kept else "") or len(kept) == MESSAGE_LINES:
            break
        if line.strip() and not _NOISE.match(line):
            kept.append(_INLINE_ADVICE.sub("", line[:MAX_LINE]))
    return " ".join(" ".join(kept).split())[:MAX_MESSAGE]
