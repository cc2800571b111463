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
    r"For more information check:|compiled (?:SQL|code) at )",
    re.IGNORECASE,
)
# The second is what str() adds to a SyntaxError and a traceback does not show.
_INLINE_ADVICE = re.compile(
    r" *\(Background on this error at: [^)]{0,200}\)| \([^()]{0,200}, line \d+\)$"
)


# A failed pod is printed whole; these of its fields say why it failed.
_POD = re.compile(r"(?P<head>.{0,200}?)[.:]? (?:remote_pod: ?)?\{.{0,4000}$", re.DOTALL)
_POD_WHY = re.compile(
    r"['\"]?\b(?P<key>exit_code|reason)['\"]?: ['\"]?"
    r"(?P<value>(?!None|null|Completed|PodCompleted)\w+)"
)


def _pod_words(message: str) -> str:
    """`Pod x returned a failure. reason: OOMKilled, exit_code: 137` out of a whole pod."""
    why = dict.fromkeys(f"{m['key']}: {m['value']}" for m in _POD_WHY.finditer(message))
    head = _POD.match(message)
    if not why or head is None or "returned a failure" not in message:
        return message
    return f"{head['head']}. {', '.join(sorted(why, reverse=True))}"


def clean_message(lines: Sequence[str]) -> str:
    """A message's first telling lines, on one line. The rest of a message is SQL, parameters and
    advice, or output that only happens to follow it."""
    kept: list[str] = []
    for line in lines:
        if _ADVICE.match(line) or len(kept) == MESSAGE_LINES:
            break
        if line.strip() and not _NOISE.match(line):
            kept.append(_INLINE_ADVICE.sub("", line[:MAX_LINE]))
    return " ".join(_pod_words(" ".join(kept)).split())[:MAX_MESSAGE]
