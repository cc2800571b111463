"""What was thought, decided and done about a failure, what came of it, and who may act alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from knowledge.records.seen import Incident

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
class Harm:
    """A person's word that an act did harm, whatever came of it in Airflow. `decision` is the
    act's seq."""

    incident_id: str
    decision: int
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """A word that a person left on an incident for the others."""

    incident_id: str
    by: str
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Snooze:
    """That a person left an incident for later."""

    incident_id: str
    by: str
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Voided:
    """That a decision (its seq) counts no more: `by` took it back, or, where that is None, its
    claim was given back because nothing was done under it."""

    decision: int
    at: datetime
    by: str | None = None


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
class Hold:
    """Somebody is in there: nothing is done alone to what it covers.

    `target` is a DAG glob or the full id of an incident; the latter covers its whole task
    instance, later tries too. `until` None is until somebody ends it.
    """

    id: str
    instance: str
    target: str
    by: str
    at: datetime
    until: datetime | None = None
    reason: str = ""
    ended_at: datetime | None = None
    ended_by: str | None = None


def in_force(hold: Hold, now: datetime) -> bool:
    """Whether the hold still keeps the tool's hands off."""
    return hold.ended_at is None and (hold.until is None or hold.until > now)


@dataclass(frozen=True, slots=True)
class Pause:
    """The kill switch for acting alone."""

    paused: bool
    by: str = ""
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Brakes checked in the same transaction that opens the door to act (0 means none may).

    Acts of the tool alone are counted: per hour in all, per DAG and hour, and per task instance
    (dag, run, task, map index) and day. Of a storm one is done first, the canary; once it is
    fixed so many at a time, and none where one did not end well. The circuit breakers are no
    limit that could be set: they hold wherever limits are given.
    """

    per_hour: int = 10
    per_dag_hour: int = 3
    per_task_instance_day: int = 1
    per_storm: int = 4


@dataclass(frozen=True, slots=True)
class Breaker:
    """The circuit breaker of acting alone. `closed`: nothing speaks against it. `open`: acts went
    wrong, and nothing is done until `until`. `half open`: that is over and one act, the canary,
    may go first. `trying`: the canary is not settled yet."""

    state: Literal["closed", "open", "half open", "trying"] = "closed"
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ActsAlone:
    """How often the tool acted alone near an incident: on its task instance in the last 24 h, in
    all in the last hour, and in its DAG in the last hour; the breakers of its fingerprint and of
    all acts; and of its storm, the other members of its group, how many acts are not settled yet,
    were fixed, and did not end well."""

    task_instance_day: int = 0
    hour: int = 0
    dag_hour: int = 0
    signature_breaker: Breaker = Breaker()
    breaker: Breaker = Breaker()
    storm_running: int = 0
    storm_fixed: int = 0
    storm_failed: int = 0


@dataclass(frozen=True, slots=True)
class Trial:
    """One act and what came of it: the raw material of evidence.

    `outcome` is the newest one known, None while it is not settled. A rejection of a proposed
    action is a trial with outcome "rejected"; an act called wrong has "wrong". Mode history is a
    person's act without this tool, seen in Airflow. `version` is the DAG version of the failed
    try, None where it is not known, `failed_at` when it failed. `after` is the incident whose act
    made the change for this one too, or "".
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
    mode: Literal["person", "auto", "history"]
    at: datetime
    outcome: TrialOutcome | None
    version: int | None = None
    signature_version: int = 1
    failed_at: datetime | None = None
    after: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What verified outcomes say about (signature, action) at the narrowest scope that has any.

    `value` is the number of verified outcomes that speak for the action, of which `worn` are
    left out: they are old, or of other code; `contradicted` is the sentence that says why the
    record speaks against it, or "".
    """

    scope: Literal["task", "dag", "anywhere", "none"]
    fixed: int = 0
    failed: int = 0
    relapsed: int = 0
    rejected: int = 0
    contradicted: str = ""
    worn: int = 0

    @property
    def value(self) -> int:
        """Outcomes that turned the task green: relapsed ones did, for a while."""
        return self.fixed + self.relapsed - self.worn


@dataclass(frozen=True, slots=True)
class Case:
    """An incident with everything decided about it: what `incidents` lists.

    `remarks` come oldest first; `snoozed_until` is None once that time is over; `harm` is the
    newest word that an act on it did harm.
    """

    incident: Incident
    status: Status
    outcome: OutcomeName | None = None
    judgement: Judgement | None = None
    decision: Decision | None = None
    outcomes: tuple[Outcome, ...] = ()
    claim: Claim | None = None
    remarks: tuple[Remark, ...] = ()
    snoozed_until: datetime | None = None
    harm: Harm | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """All that was ever written of one incident, what counts no more too; each part in the order
    in which it was written."""

    judgements: tuple[Judgement, ...] = ()
    decisions: tuple[Decision, ...] = ()
    voided: tuple[Voided, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    harms: tuple[Harm, ...] = ()
    vouches: tuple[Vouch, ...] = ()
    remarks: tuple[Remark, ...] = ()
    snoozes: tuple[Snooze, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list of incidents: a case, or the newest one of a group for all `count` of
    them that fit what was asked for."""

    case: Case
    count: int = 1


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
