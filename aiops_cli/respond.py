"""The one place that acts: claim → re-read → preview → door → apply.

Every step is written down before the next is taken, so that a crash anywhere can be settled
(settle.py): what is past the door is never done again, only looked at. Right before each
changing call the claim is renewed by its token and the task instance read once more, so that
whoever slept through its lease finds the door shut.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from aiops_cli import gate
from aiops_cli.actions import DEFAULT_DELAY, checked, retry
from aiops_cli.config import parse_duration
from aiops_cli.errors import AiopsError, AirflowError, Refused
from aiops_cli.examine import Desk, ref_of, still_allowed
from aiops_cli.incidents import Plan, TaskInstance
from aiops_cli.published import plan_document
from knowledge.base import KnowledgeBase
from knowledge.errors import DoorClosed
from knowledge.records import (
    Case,
    ClaimState,
    Decision,
    DecisionKind,
    Incident,
    Limits,
    Outcome,
    OutcomeName,
    Vouch,
)


class Stale(Refused):
    """The task instance is not the failed try any more that was captured."""

    def __init__(self, incident: str, why: str) -> None:
        super().__init__(f"{incident} is superseded: {why}", "nothing was done")
        self.why = why


def preview(
    desk: Desk,
    incident: Incident,
    action: str,
    params: Mapping[str, Any],
    *,
    dry_run: bool = False,
) -> Plan:
    """What acting on this incident would do now. Raises Refused where there is nothing to run
    again, and Stale where it has changed: the incident is superseded then, but by a `dry_run`,
    which writes nothing and is for those too who may only read."""
    checked(action, params)
    if not dry_run:
        _may_change(desk)
    try:
        live = unchanged(desk, incident)
    except Stale as stale:
        if not dry_run:
            supersede(desk, incident, stale.why)
        raise
    return retry.preview(desk.airflow, live, action, params)


def act(
    desk: Desk,
    incident: Incident,
    *,
    action: str,
    params: Mapping[str, Any],
    by: str,
    kind: DecisionKind,
    shown: Plan | None = None,
    cause: str = "",
    reason: str = "",
    vouches: Sequence[Vouch] = (),
    limits: Limits | None = None,
    grant: str | None = None,
) -> Case:
    """Claim the incident, do the action and write down that it was done; returns at once after
    acting. `shown` is the plan a person said yes to: what differs from it is not done. An act of
    the tool alone (kind auto) is judged once more by what is true now, and runs nothing again
    but the task and what never ran because of it.

    Raises Refused where another holds the claim, the task instance has changed, or a brake
    says no; then nothing was done. A stale incident is superseded in passing.
    """
    checked(action, params)
    _may_change(desk)
    store = desk.knowledge.store
    alone = kind == "auto"
    token = store.claim(incident.id, incident.ti_id, by, desk.settings.lease, reopen=not alone)
    if token is None:
        raise Refused(
            f"{incident.id} is being acted on, or was already",
            f"see: aiops incidents show {incident.id}",
        )
    try:
        live = unchanged(desk, incident)
        if alone:
            still_allowed(desk, incident, live, action, params)
        plan = retry.preview(desk.airflow, live, action, params, alone=alone)
        if shown is not None and plan != shown:
            raise Refused(
                "Airflow has changed since the plan was shown: nothing was done",
                "look at the new plan and decide again",
            )
        wait = _delay(params) if action == "retry_later" else None
        decision = store.open_door(
            incident.id,
            token,
            Decision(
                incident_id=incident.id,
                kind=kind,
                at=desk.clock.now(),
                by=by,
                action=action,
                params=params,
                cause=cause,
                reason=reason,
                plan=plan_document(plan),
                grant=grant,
            ),
            limits=limits,
            vouches=vouches,
            not_before=None if wait is None else desk.clock.now() + wait,
        )
    except (AiopsError, DoorClosed, KeyboardInterrupt) as stop:
        store.release(incident.id, token)
        if isinstance(stop, Stale):
            supersede(desk, incident, stop.why)
        raise
    if wait is None:
        apply(desk, incident, token, decision, plan)
    return store.case(incident.id)


def decide(knowledge: KnowledgeBase, decision: Decision, vouches: Sequence[Vouch] = ()) -> Case:
    """Write down a decision that acts on nothing (a rejection, or `none`)."""
    knowledge.store.record(decision, vouches)
    return knowledge.store.case(decision.incident_id)


def _may_change(desk: Desk) -> None:
    """Raises Refused where the settings let this program only read, before anything is claimed."""
    if desk.settings.read_only:
        raise Refused(
            "this program is set to read only: nothing was done",
            "approve --dry-run shows the plan; unset `read_only` in the settings to let it act",
        )


def unchanged(desk: Desk, incident: Incident) -> TaskInstance:
    """The task instance, still as it failed. Raises Stale otherwise, and Refused for a failed run
    or an import error: there is no task instance to run again."""
    if incident.kind != "task":
        what = "a failed run" if incident.kind == "run" else "a DAG file that cannot be imported"
        raise Refused(
            f"{incident.id} is {what}: nothing is run again for it",
            f"put it right in Airflow, then: aiops approve {incident.id} --action none --cause …",
        )
    live = desk.airflow.task_instance(ref_of(incident))
    changed = gate.changed_since(incident, live)
    if changed:
        raise Stale(incident.id, changed)
    return live


def supersede(desk: Desk, incident: Incident, why: str) -> None:
    """Write down that somebody else acted: the incident waits for nobody any more."""
    decision = Decision(incident.id, "superseded", desk.clock.now(), by="airflow", reason=why)
    decide(desk.knowledge, decision)


def _delay(params: Mapping[str, Any]) -> timedelta:
    return parse_duration(str(params.get("delay", DEFAULT_DELAY)))


def apply(desk: Desk, incident: Incident, token: int, decision: Decision, plan: Plan) -> None:
    """Do the plan past the door. What surely did not happen gives the claim back; what is
    unclear stays `acting`, for settle to look at."""
    store = desk.knowledge.store
    held = [token]
    saved: dict[str, Any] = {}

    def renew() -> None:
        held[0] = renewed(desk, incident, held[0])

    def save(done: dict[str, Any]) -> None:
        saved.update(done)
        store.progress(incident.id, held[0], done)

    try:
        retry.apply(desk.airflow, plan, stamp(desk, incident, decision), renew, save)
    except Refused as refused:
        close(desk, incident, held[0], decision, "superseded", refused.message)
        raise
    except AirflowError as error:
        # What was surely not done is given back; what may have happened, settle asks Airflow.
        if "new_id" not in saved and not error.unclear:
            store.release(incident.id, held[0])
        raise
    try:  # Airflow 3.1 cannot take the note with the clear
        desk.airflow.append_note(plan.ref, stamp(desk, incident, decision))
    except AirflowError as error:  # the act stands without it
        save(saved | {"note": f"no note left in Airflow: {error.message}"})


def renewed(desk: Desk, incident: Incident, token: int) -> int:
    """A new lease on an `acting` claim. Raises DoorClosed where it was taken over or settled."""
    fresh = desk.knowledge.store.retake(incident.id, token, desk.settings.lease)
    if fresh is None:
        raise DoorClosed(
            "claim",
            f"the claim on {incident.id} was given up meanwhile: nothing more is done",
            f"see: aiops incidents show {incident.id}",
        )
    return fresh


def stamp(desk: Desk, incident: Incident, decision: Decision) -> str:
    """The line that every act leaves in Airflow's note, set by the clear itself: it tells people
    what happened, and tells our clears from other people's."""
    who = "alone" if decision.kind == "auto" else f"by {decision.by}"
    text = (
        f"{stamp_start(desk)}{decision.action} of try {incident.try_number} {who}, "
        f"incident {incident.id}"
    )
    return re.sub(r"\s+", " ", text)


def stamp_start(desk: Desk) -> str:
    return f"[aiops {desk.knowledge.store.base_id()}] "


def close(
    desk: Desk,
    incident: Incident,
    token: int,
    decision: Decision,
    outcome: OutcomeName,
    detail: str,
    try_number: int | None = None,
) -> None:
    """Close the claim with its outcome; an unknown one is for a person to look at."""
    now = desk.clock.now()
    row = Outcome(incident.id, decision.seq, now, outcome, detail, try_number)
    state: ClaimState = "needs_human" if outcome == "unknown" else "done"
    desk.knowledge.store.settle(incident.id, token, state, row)


Warn = Callable[[str], None]
