"""What was seen of a failure, and what is known of such failures."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

IncidentKind = Literal["task", "run", "import"]
EntryKind = Literal["runbook", "incident", "history"]
Found = Literal["exact", "near"]

ID_LENGTH = 10


def short_hash(*parts: object) -> str:
    """The first 10 lower-case base32 characters of the SHA-256 of the parts, unit-separated."""
    text = "\x1f".join(str(part) for part in parts)
    # Log text may hold lone surrogates (JSON can spell them), which plain UTF-8 refuses.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:ID_LENGTH]


def incident_id(
    instance: str, dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int
) -> str:
    """An incident's id, known before anything of it has been read."""
    return short_hash(instance, dag_id, run_id, task_id, map_index, try_number)


@dataclass(frozen=True, slots=True)
class Signature:
    """What a failure is, with everything that changes from run to run masked.

    `text` is the masked exception chain, newest first, one exception a line; `fingerprint`
    its hash: equal fingerprints are "the same failure". `error_class` is the type name of the
    newest exception that is not a wrapper ("" where there is none). `wrapper` is true where
    only wrappers were found and no inner error line: such a failure is never acted on alone.
    `frame` is the innermost frame of the user's own code ("orders.py:load"), a tie-break kept
    outside the text. `headline` is one unmasked line for a person; `line` the 1-based number
    of the excerpt's line it stands on. `place` is where `frame` stands, for a person
    ("/dags/orders.py:12 in load"), and `raised_from` the root cause where it says more than the
    headline; nothing is compared by these two.
    """

    text: str
    fingerprint: str
    error_class: str
    wrapper: bool = False
    frame: str | None = None
    headline: str = ""
    line: int | None = None
    version: int = 1
    place: str | None = field(default=None, compare=False)
    raised_from: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a log worth keeping: redacted, bounded, its cuts marked.

    `text` has one log line a line; `numbers` gives each line's 1-based number in the log as
    Airflow has it (0 for a line that marks a cut). Lines of one traceback share the number of
    the event that carried it. `total_lines` counts the whole log, `cut` says whether any of it
    was left out. `notice` is a word about the log itself ("log file not found on worker …").
    """

    text: str
    numbers: tuple[int, ...] = ()
    total_lines: int = 0
    cut: bool = False
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """One try of one task instance that ended in state `failed` (or a failed run, or an import
    error: `kind`), as it was seen. Never changed once stored.

    `ti_id` is Airflow's own uuid of the try. `context` is what was known beside the log: state,
    operator, hostname, max_tries, run_type, dag_version, owners, tags, blocks, changes, and so
    on, as JSON. `group` is the id of its group, `group_key` what it was grouped by ("" where
    nothing was shared).
    """

    instance: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    failed_at: datetime
    seen_at: datetime
    signature: Signature
    excerpt: Excerpt
    kind: IncidentKind = "task"
    ti_id: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    group_key: str = ""

    @property
    def id(self) -> str:
        """First 10 base32 characters of a hash of the key; stable across machines."""
        return incident_id(
            self.instance,
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            self.try_number,
        )


@dataclass(frozen=True, slots=True)
class Symptom:
    """One error text that an entry answers to, with its signature."""

    text: str
    signature: Signature


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing the knowledge base knows: a runbook entry, a past incident, or mined history.

    `action` is a name of the closed catalogue or None where only the cause is known. `source`
    says where it comes from: "starter", a file path with line, an incident id. `edited` is the
    source's own date, as text. `safe_to_retry` None means nobody said. `dags` are globs; empty
    means any. `suggestion_only` marks actions read out of unstructured prose.
    """

    id: str
    kind: EntryKind
    source: str
    title: str
    symptoms: tuple[Symptom, ...]
    cause: str
    created_at: datetime
    action: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    explanation: str = ""
    safe_to_retry: bool | None = None
    dags: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    edited: str | None = None
    owner: str | None = None
    incident_id: str | None = None
    suggestion_only: bool = False
    retired: bool = False

    @property
    def starter(self) -> bool:
        """Whether it ships with the package: then whatever the site itself knows goes first."""
        return self.source.startswith("starter/")


@dataclass(frozen=True, slots=True)
class EntryVersion:
    """An entry as it was once. `entry.retired` says whether this version is, which it was from
    `retired_at` on."""

    entry: Entry
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that a search brought up, with the index of the symptom that was found, and the
    cosine of its vector to the one that was looked for, where vectors were compared."""

    entry: Entry
    symptom: int
    cosine: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Match:
    """An entry with its similarity (cosine, 0 to 1; exact is 1.0) and how it was found.

    `symptom` is the index of the entry's symptom that matched best.
    """

    entry: Entry
    similarity: float
    found: Found
    symptom: int = 0
