"""An incident in short."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from knowledge.records.decided import (
    ClaimState,
    Decision,
    DecisionKind,
    Harm,
    Outcome,
    OutcomeName,
    Status,
    status_of,
)
from knowledge.records.lessons import Lesson
from knowledge.records.seen import IncidentKind


@dataclass(frozen=True, slots=True)
class Brief:
    """An incident in short, with everything decided about it: what is counted over thousands.

    `duration` is the failed try's, in seconds. `decisions` that stand (shadow ones too, all
    without their plans), `outcomes` and `harms` come oldest first. `lesson` is what was done about
    it without this tool, where that is known.
    """

    incident_id: str
    kind: IncidentKind
    instance: str
    dag_id: str
    run_id: str
    task_id: str
    failed_at: datetime
    seen_at: datetime
    fingerprint: str
    error_class: str
    headline: str
    duration: float | None = None
    claim: ClaimState | None = None
    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    harms: tuple[Harm, ...] = ()
    lesson: Lesson | None = None

    @property
    def decision(self) -> Decision | None:
        """As `Case.decision`: the newest, a shadow one only where there is no other."""
        return max(self.decisions, key=lambda one: (one.kind != "shadow", one.seq), default=None)

    def outcome_of(self, decision: Decision) -> OutcomeName | None:
        """The newest word on what came of it."""
        return next(
            (one.outcome for one in reversed(self.outcomes) if one.decision == decision.seq), None
        )

    @property
    def status(self) -> Status:
        decision = self.decision
        return status_of(
            self.claim,
            decision.kind if decision else None,
            decision.action if decision else None,
            self.outcome_of(decision) if decision else None,
        )


@dataclass(frozen=True, slots=True)
class NearCase:
    """What a bound on near matches is fitted to: an incident that was decided, and of which the
    newest judgement had no exact match, but a near one.

    `judgement` is that one's number, larger the later it was made; `similarity` and `proposed`
    are its best match's, and that one's action. `kind`, `action` and `outcome` are of the decision
    that stands, as in Case; `harmful` says that an act was called wrong. `lesson` is as in Brief.
    """

    judgement: int
    error_class: str
    similarity: float
    proposed: str | None
    kind: DecisionKind
    action: str | None
    outcome: OutcomeName | None = None
    harmful: bool = False
    lesson: Lesson | None = None
