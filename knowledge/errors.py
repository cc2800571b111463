"""What can go wrong in the knowledge base.

KnowledgeError
├── StoreUnusable      cannot be opened, is corrupt, locked, full or read-only
├── SchemaTooNew       written by a newer program
├── WrongInstance      the name of an Airflow instance is bound to another URL
├── EmbedderMismatch   vectors of another embedder
├── RunbookError       a runbook file that cannot be understood: file, line, reason
├── NotFound           no such incident or entry, or a prefix that fits several
├── ModelUnavailable   an embedder or language model that is down, slow, busy, missing or wrong
└── DoorClosed         a decision that may not be carried out now: claim lost, paused, held, …
"""

from __future__ import annotations


class KnowledgeError(Exception):
    """`message` says what happened to what; `hint` what to do now."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StoreUnusable(KnowledgeError):
    """The store cannot be opened, read or written."""


class SchemaTooNew(KnowledgeError):
    """The store was written by a newer version of the program."""


class WrongInstance(KnowledgeError):
    """An instance name is bound to another base URL in this store."""


class EmbedderMismatch(KnowledgeError):
    """The store's vectors come from another embedder or signature version."""


class RunbookError(KnowledgeError):
    """A runbook file that cannot be understood; the message names file, line and reason."""


class NotFound(KnowledgeError):
    """No such incident or entry, or a prefix that fits more than one."""


class ModelUnavailable(KnowledgeError):
    """An embedder or language model gave no answer that can be used. `why` is the reason as a few
    words for a list ("refused the connection"), without who; the message says who as well."""

    def __init__(self, who: str, why: str, hint: str = "") -> None:
        super().__init__(f"{who}: {why}", hint)
        self.why = why


class DoorClosed(KnowledgeError):
    """A decision may not be carried out now. `check` names the gate's check that refused:
    "claim", "attempts", "budget", "breaker", "action_allowed", "protected" or "paused"."""

    def __init__(self, check: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.check = check
