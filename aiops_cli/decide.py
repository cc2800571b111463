"""What a person decides about an incident, and what is learned from it.

Shared by `approve`, `reject` and `triage`. An approval of a re-run vouches for this pair of task
and failure; a rejection takes that back. Both become knowledge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiops_cli import respond
from aiops_cli.actions import checked
from aiops_cli.errors import Refused, UsageError
from aiops_cli.examine import Desk
from aiops_cli.incidents import Plan
from knowledge.base import KnowledgeBase
from knowledge.records import Case, Decision, Incident, Vouch
from knowledge.redact import clean, redact

UNDECIDED = ("pending", "needs_human")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be done, and why: the diagnosis, or a person's edit of it."""

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""


def proposal(
    case: Case, action: str | None, params: Mapping[str, Any], cause: str | None
) -> Proposal:
    """The diagnosis' action and params unless the person names others. Raises UsageError where
    no action is known or it cannot be carried out, and Refused where it is decided already."""
    if case.status not in UNDECIDED:
        raise Refused(
            f"{case.incident.id} is {case.status}: nothing was done",
            f"see: aiops incidents show {case.incident.id}",
        )
    diagnosis = case.judgement.document["diagnosis"] if case.judgement else {}
    chosen = action or diagnosis.get("action")
    if chosen is None:
        raise UsageError(
            f"no action is known for {case.incident.id}",
            "name one: --action retry (or none, with --cause …)",
        )
    same = action in (None, diagnosis.get("action"))
    merged = {**(diagnosis.get("params", {}) if same else {}), **params}
    checked(chosen, merged)
    known = diagnosis.get("cause", "") if same else ""
    said = known if cause is None else redact(clean(cause))
    return Proposal(chosen, merged, said)


def approve(
    desk: Desk, case: Case, proposed: Proposal, shown: Plan | None, rerun_safe: bool | None
) -> Case:
    """Carry out what a person said yes to (`none` acts on nothing), then remember it.

    `rerun_safe` True or False is the person's word for the whole task; None vouches for this pair
    of task and failure alone. Raises Refused where it cannot be done now: nothing was done then.
    """
    incident, by, now = case.incident, desk.settings.user, desk.clock.now()
    if proposed.action == "none":
        decision = Decision(
            incident.id, "approve", now, by, "none", proposed.params, cause=proposed.cause
        )
        vouches = () if rerun_safe is None else (_vouch(incident, rerun_safe, by, now, task=True),)
        done = respond.decide(desk.knowledge, decision, vouches)
    else:
        done = respond.act(
            desk,
            incident,
            action=proposed.action,
            params=proposed.params,
            by=by,
            kind="approve",
            shown=shown,
            cause=proposed.cause,
            vouches=(_vouch(incident, rerun_safe is not False, by, now, rerun_safe is not None),),
        )
    _learn(desk.knowledge, incident, proposed, now)
    return done


def reject(
    knowledge: KnowledgeBase,
    case: Case,
    *,
    by: str,
    at: datetime,
    reason: str,
    action: str | None = None,
    cause: str = "",
) -> Case:
    """Write down that the proposal is wrong. With action `none` and a cause, that is remembered
    as the answer. Raises Refused for an incident that is decided already."""
    incident = case.incident
    reason, cause = redact(clean(reason)), redact(clean(cause))
    if case.status not in UNDECIDED:
        raise Refused(
            f"{incident.id} is {case.status}: there is nothing to reject",
            f"see: aiops incidents show {incident.id}",
        )
    if action not in (None, "none"):
        raise UsageError(
            f"reject does not act, so it takes no action but none (got {action})",
            f"to do something else instead: aiops approve {incident.id} --action {action}",
        )
    diagnosis = case.judgement.document["diagnosis"] if case.judgement else {}
    turned_down = diagnosis.get("action")
    decision = Decision(
        incident.id,
        "reject",
        at,
        by,
        action=turned_down,
        params=diagnosis.get("params", {}),
        cause=cause,
        reason=reason,
    )
    reruns = turned_down not in (None, "none")
    vouches = (_vouch(incident, False, by, at, task=False, reason=reason),) if reruns else ()
    done = respond.decide(knowledge, decision, vouches)
    if action == "none":
        _learn(knowledge, incident, Proposal("none", {}, cause or reason), at)
    return done


def _learn(knowledge: KnowledgeBase, incident: Incident, proposed: Proposal, at: datetime) -> None:
    """Remember the answer. A failure without a signature cannot be recognised again."""
    if incident.signature.text:
        knowledge.learn(
            incident, action=proposed.action, params=proposed.params, cause=proposed.cause, at=at
        )


def _vouch(
    incident: Incident, safe: bool, by: str, at: datetime, task: bool, reason: str = ""
) -> Vouch:
    return Vouch(
        instance=incident.instance,
        dag_id=incident.dag_id,
        task_id=incident.task_id,
        fingerprint=None if task else incident.signature.fingerprint,
        safe=safe,
        by=by,
        at=at,
        reason=reason,
    )
