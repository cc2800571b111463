"""Which exceptions, and which lines of a text, say only that something inside failed. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from knowledge.chains import Raised

_WRAPPER_TYPES = frozenset(
    ("ExceptionGroup", "BaseExceptionGroup", "Py4JJavaError", "SystemExit", "CalledProcessError",
     "RetryError", "PapermillExecutionError", "UndeclaredThrowableException")
)  # fmt: skip
# Messages that say only that something inside failed.
_WRAPPER = re.compile(
    r"(?i)^(?:bash command (?:has )?failed|.{0,80}returned a non-?zero (?:exit|status)|"
    r"(?:the )?command .{0,300}(?:returned|exited|died) with|"
    r".{0,80}exited with (?:return |exit )?code|cannot execute: |pod .{0,200}returned a failure|"
    r"pod launching failed|(?:the )?(?:docker )?container (?:failed|exited)|"
    r"ssh (?:command|operator) .{0,20}exit status|error while running command|"
    r"task received sigterm|this task is not in success state|an error occurred while calling|"
    r"(?:dataflow|sqoop|hive|pig|dbt|spark|beam)\b.{0,40}\b(?:failed|exited)"
    r"(?: with (?:return|exit)? ?code.{0,10})?\.?$|"
    r"(?:the )?(?:task|job|process|command|script|subprocess)(?: has)? failed[.!]?$|"
    r"python script failed|failed to execute job)"
)
# … unless they say why all the same, as a pod's do.
_SAYS_WHY = re.compile(r"(?i)\b(?:reason|message)['\"]?[:=] ?['\"]?[A-Za-z]")
_EXIT = re.compile(r"(?i)(?:exit|return|error)[ _]?(?:code|status)\D{0,8}?(-?\d{1,6})\b")
# The line that `outer_line` writes. A type alone is one only where it is known for it: others are
# exceptions that were raised without a message.
_OUTER_LINE = re.compile(
    r"\w+: exit code -?\d+|AirflowException|AirflowFailException|AirflowTaskTerminated|"
    rf"DockerContainerFailedException|{'|'.join(sorted(_WRAPPER_TYPES))}"
)
_TYPED = re.compile(r"(?:(?:\w+\.)*(?P<type>[A-Za-z_]\w*): )?(?P<message>.*)")

# A message that is missing, or of which nothing is left but what changes from run to run.
_NOTHING = re.compile(r"(?:[\w$.]{1,200}(?: \w{1,50})?: )?(?:<[a-z]{1,8}>|[\W_])*|.*:")


def wraps(told: Raised) -> bool:
    """Whether an exception only says that something inside failed, not what."""
    if told.type in _WRAPPER_TYPES:
        return True
    return bool(_WRAPPER.match(told.message)) and not _SAYS_WHY.search(told.message)


def outer_line(wrapper: Raised) -> str:
    """What is left of a wrapper once it is opened: its exit code. The rest is the same for every
    failure of its kind and would make them all alike."""
    code = _EXIT.search(wrapper.message)
    return f"{wrapper.type}: exit code {code[1]}" if code else wrapper.type


@lru_cache(maxsize=4_096)
def inner_lines(text: str) -> str:
    """A text (a signature's, or one that a person wrote) without the lines that only say that
    something inside failed, which are the same for every failure of their kind. A text of
    nothing else is left as it is."""
    lines = text.split("\n")
    inner = [line for line in lines if not (_OUTER_LINE.fullmatch(line) or _is_wrapper(line))]
    return "\n".join(inner) if any(line.strip() for line in inner) else text


def says_nothing(text: str) -> bool:
    """Whether a signature's text names kinds of failure at the most, and no message of any: what
    failed in `Database Error: in model orders:`, or in `ValueError: <n>`, nobody can tell. A type
    that was raised without a message may say it all, as MemoryError does."""
    return all(_NOTHING.fullmatch(line) for line in inner_lines(text).split("\n"))


def _is_wrapper(line: str) -> bool:
    typed = _TYPED.match(line)
    return typed is not None and wraps(Raised(typed["type"] or "", typed["message"], 0))
