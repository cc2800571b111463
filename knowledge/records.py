"""The plain, frozen types that are stored and handed around. No behaviour beyond identity.

All times are aware UTC datetimes. All `params`, `context` and JSON documents hold only
what `json.dumps` takes. Text in these records has been redacted already.
"""

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
OutcomeName = Literal["fixed", "failed", "relapsed", "superseded", "unknown"]
TrialOutcome = Literal["fixed", "failed", "relapsed", "superseded", "unknown", "rejected", "wrong"]
DecisionKind = Literal["approve", "reject", "auto", "shadow", "superseded"]
ClaimState = Literal["claimed", "acting", "done", "needs_human"]
Status = Literal["pending", "acting", "resolved", "failed", "rejected", "superseded", "needs_human"]
STATUSES: tuple[Status, ...] = (
    "pending",
    "acting",
    "resolved",
    "failed",
    "rejected",
    "superseded",
    "needs_human",
)

# The closed catalogue's names; what each does is the program's business. "none" touches nothing.
ACTIONS = (
    "retry",
    "retry_later",
    "retry_upstream",
    "clear_xcom",
    "update_connection",
    "set_variable",
    "resize_pool",
    "trigger_dag",
    "mark_success",
    "mark_skipped",
    "none",
)

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
    of the excerpt's line it stands on.
    """

    text: str
    fingerprint: str
    error_class: str
    wrapper: bool = False
    frame: str | None = None
    headline: str = ""
    line: int | None = None
    version: int = 1


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
    on, as JSON.
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that a search brought up, with the index of the symptom that was found."""

    entry: Entry
    symptom: int


@dataclass(frozen=True, slots=True)
class Match:
    """An entry with its similarity (cosine, 0 to 1; exact is 1.0) and how it was found.

    `symptom` is the index of the entry's symptom that matched best.
    """

    entry: Entry
    similarity: float
    found: Found
    symptom: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was thought of an incident at one moment: the `matches`, `diagnosis`, `gate` and
    `decision` members of the published JSON, stored as they are shown."""

    incident_id: str
    at: datetime
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """Somebody (or the tool alone) decided about an incident. `action` "none" touches nothing.

    `plan` is the previewed Plan as JSON, `grant` the id of the grant acted under; `seq` is given
    by the store when the decision is appended.
    """

    incident_id: str
    kind: DecisionKind
    at: datetime
    by: str
    action: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    reason: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    grant: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen in Airflow of the new try, linked to the decision (`decision` is its seq).

    `try_number` is the new try that was looked at, None where there was none.
    """

    incident_id: str
    decision: int
    at: datetime
    outcome: OutcomeName
    detail: str = ""
    try_number: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Who may act on an incident: claimed → acting → done | needs_human, one row an incident.

    `token` grows with each takeover. `progress` is what has been done of the plan so far (ids
    of the cleared tries and so on), `not_before` when a `retry_later` may go on.
    """

    incident_id: str
    state: ClaimState
    token: int
    owner: str
    lease_until: datetime
    ti_id: str | None = None
    decision: int | None = None
    not_before: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vouch:
    """A person's word on whether a task may run again. `fingerprint` None means for the task;
    otherwise for this pair of task and signature only. `safe` False takes it back."""

    instance: str
    dag_id: str
    task_id: str
    fingerprint: str | None
    safe: bool
    by: str
    at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to act alone: these actions, in DAGs fitting these globs, within these limits."""

    id: str
    actions: tuple[str, ...]
    dags: tuple[str, ...]
    by: str
    at: datetime
    max_per_hour: int = 10
    max_per_dag_hour: int = 3
    until: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Brakes checked in the same transaction that opens the door to act (0 means none may).

    Acts of the tool alone are counted: per hour in all, per DAG and hour, and per task instance
    (dag, run, task, map index) and day.
    """

    per_hour: int = 10
    per_dag_hour: int = 3
    per_task_instance_day: int = 1


@dataclass(frozen=True, slots=True)
class Trial:
    """One act and what came of it: the raw material of evidence.

    `outcome` is the newest one known, None while it is not settled. A rejection of a proposed
    action is a trial with outcome "rejected"; an act called wrong has "wrong".
    """

    incident_id: str
    instance: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    fingerprint: str
    action: str
    params: Mapping[str, Any]
    mode: Literal["person", "auto"]
    at: datetime
    outcome: TrialOutcome | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What verified outcomes say about (signature, action) at the narrowest scope that has any.

    `value` is the number of verified outcomes that speak for the action; `contradicted` is the
    sentence that says why the record speaks against it, or "".
    """

    scope: Literal["task", "dag", "anywhere", "none"]
    fixed: int = 0
    failed: int = 0
    relapsed: int = 0
    rejected: int = 0
    contradicted: str = ""

    @property
    def value(self) -> int:
        """Outcomes that turned the task green: relapsed ones did, for a while."""
        return self.fixed + self.relapsed


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch for acting alone."""

    paused: bool
    by: str = ""
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """An incident with everything decided about it: what `incidents` lists."""

    incident: Incident
    status: Status
    outcome: OutcomeName | None = None
    judgement: Judgement | None = None
    decision: Decision | None = None
    outcomes: tuple[Outcome, ...] = ()
    claim: Claim | None = None


def status_of(
    claim: ClaimState | None,
    decision: DecisionKind | None,
    action: str | None,
    outcome: OutcomeName | None,
) -> Status:
    """The one rule that gives an incident its status; shadow decisions never count.

    `claim` is the claim's state, the rest comes from the newest decision and its newest outcome.
    """
    if claim == "needs_human":
        return "needs_human"
    if claim in ("claimed", "acting"):
        return "acting"
    if decision is None or decision == "shadow":
        return "pending"
    if decision == "reject":
        return "rejected"
    if decision == "superseded" or outcome == "superseded":
        return "superseded"
    if outcome is None:
        return "resolved" if action == "none" else "pending"
    if outcome == "fixed":
        return "resolved"
    return "needs_human" if outcome == "unknown" else "failed"
