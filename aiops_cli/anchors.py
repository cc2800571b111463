"""The last row of each audit log that this machine has seen, kept outside the knowledge base.

Whoever cuts the newest rows off a log, together with what they are about, leaves a log that is
right in itself: only somebody who saw more of it before can tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from aiops_cli.config_write import write_private
from aiops_cli.errors import ConfigError
from knowledge.errors import StoreUnusable
from knowledge.stores import AuditHead, LastingStore


def place(base_id: str) -> Path:
    """The file in which the head of that base's log is kept."""
    from platformdirs import user_state_path

    # An id is what the base says it is, and a base is not always one's own.
    return user_state_path("aiops", appauthor=False) / "audit" / f"{Path(base_id).name}.json"


def kept(base_id: str) -> AuditHead | None:
    """The head seen last on this machine. Raises ConfigError for a file that is none."""
    file = place(base_id)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return AuditHead(int(document["seq"]), str(document["hash"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{file} does not hold the head of an audit log: {error}",
            "remove it, if you know why; the log is then only checked in itself",
        ) from error


def keep(store: LastingStore, warn: Callable[[str], None]) -> None:
    """Keep the head of the log in mind, unless the log is not the one that was seen before: then
    it is told, and what was seen before stays. Whatever keeps this from working is only told: the
    command has done its work."""
    try:
        base = store.base_id()
        before = kept(base)
        if before is not None and not store.audit_follows(before):
            warn(
                f"the audit log of {store.location} is not the one seen before: aiops audit verify"
            )
            return
        head = store.audit_head()
        write_private(place(base), json.dumps({"seq": head.seq, "hash": head.hash}) + "\n")
    except (OSError, ConfigError, StoreUnusable) as error:
        warn(f"the head of the audit log was not kept on this machine: {error}")
