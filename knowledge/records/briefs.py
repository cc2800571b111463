"""An incident in short."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from knowledge.records.decided import (
    ClaimState,
    Decision,
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
