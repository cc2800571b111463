"""What `aiops doctor` finds: one check is one finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiops_cli.errors import AiopsError, KnowledgeBaseError
from knowledge.errors import KnowledgeError


class Finding(NamedTuple):
    """One check: ok, info, warn or fail; what was found; what to do about it."""

    status: str
    name: str
    found: str
    todo: str = ""
    exit_code: int = 0


def guarded(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """A check that fails is a finding, and the next one still runs."""
    try:
        return check()
    except AiopsError as error:
        return [Finding("fail", name, error.message, error.hint, error.exit_code)]
    except KnowledgeError as error:
        return [Finding("fail", name, error.message, error.hint, KnowledgeBaseError.exit_code)]
