"""The one place that acts: claim → re-read → preview → door → apply; and settle, later.

Every step is written down before the next is taken, so that a crash anywhere is settled on the
next pass: what is past the door is never done again, only looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from aiops_cli import gate
from aiops_cli.actions import checked, retry
from aiops_cli.config import parse_duration
from aiops_cli.errors import (
    AiopsError,
    AirflowAuth,
    AirflowError,
    AirflowNotFound,
    AirflowUnreachable,
    Refused,
)
from aiops_cli.examine import Desk, ref_of, stopped
from aiops_cli.incidents import Plan, TaskInstance
from aiops_cli.published import plan_document
from knowledge.base import KnowledgeBase
from knowledge.errors import DoorClosed
from knowledge.records import (
    Case,
    Claim,
    ClaimState,
    Decision,
    DecisionKind,
    Incident,
    Limits,
    Outcome,
    OutcomeName,
    Vouch,
)

DEFAULT_DELAY = timedelta(minutes=15)

Warn = Callable[[str], None]


class Stale(Refused):
    """The task instance is not the failed try any more that was captured."""

    def __init__(self, incident: str, why: str) -> None:
        super().__init__(f"{incident} is superseded: {why}", "nothing was done")
        self.why = why


def preview(desk: Desk, incident: Incident, action: str, params: Mapping[str, Any]) -> Plan:
    """What acting on this incident would do now. Raises Refused where it is stale."""
    checked(action, params)
    try:
        live = _unchanged(desk, incident)
    except Stale as stale:
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
    acting. `shown` is the plan a person said yes to: what differs from it is not done.

    Raises Refused where another holds the claim, the task instance has changed, or a brake
    says no; then nothing was done. A stale incident is superseded in passing.
    """
    checked(action, params)
    store = desk.knowledge.store
    token = store.claim(
        incident.id, incident.ti_id, by, desk.settings.lease, reopen=kind == "approve"
    )
    if token is None:
        raise Refused(
            f"{incident.id} is being acted on, or was already",
            f"see: aiops incidents show {incident.id}",
        )
    try:
        plan = retry.preview(desk.airflow, _unchanged(desk, incident), action, params)
        if shown is not None and plan != shown:
            raise Refused(
                "Airflow has changed since the plan was shown: nothing was done",
                "look at the new plan and decide again",
            )
        pause = stopped(desk) if kind == "auto" else None  # asked anew before every act
        if pause is not None and pause.paused:
            raise Refused(f"acting alone is paused by {pause.by}", "aiops resume")
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
        _apply(desk, incident, token, decision, plan)
    return store.case(incident.id)


def decide(knowledge: KnowledgeBase, decision: Decision, vouches: Sequence[Vouch] = ()) -> Case:
    """Write down a decision that acts on nothing (a rejection, or `none`)."""
    knowledge.store.record(decision, vouches)
    return knowledge.store.case(decision.incident_id)


def _unchanged(desk: Desk, incident: Incident) -> TaskInstance:
    """The task instance, still as it failed. Raises Stale otherwise."""
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
    return parse_duration(str(params["delay"])) if "delay" in params else DEFAULT_DELAY


def _apply(
    desk: Desk,
    incident: Incident,
    token: int,
    decision: Decision,
    plan: Plan,
) -> None:
    """Do the plan past the door. What surely did not happen gives the claim back; what is
    unclear stays `acting`, for settle to look at."""
    store = desk.knowledge.store
    saved: dict[str, Any] = {}

    def save(done: dict[str, Any]) -> None:
        saved.update(done)
        store.progress(incident.id, token, done)

    try:
        retry.apply(desk.airflow, plan, save)
    except Refused as refused:
        _settle(desk, incident, token, decision.seq, "superseded", refused.message)
        raise
    except AirflowError as error:
        # What was surely not done is given back; what may have happened, settle asks Airflow.
        if "new_id" not in saved and not error.unclear:
            store.release(incident.id, token)
        raise
    save(saved | {"note": _note(desk, incident, decision)})


def _note(desk: Desk, incident: Incident, decision: Decision) -> str:
    """Leave our stamp in Airflow; returns "" or why it could not be left (the act stands)."""
    who = "alone" if decision.kind == "auto" else f"by {decision.by}"
    why = f": {decision.cause}" if decision.cause else ""
    text = (
        f"[aiops {desk.knowledge.store.base_id()}] {decision.action} of try "
        f"{incident.try_number} {who}, incident {incident.id}{why}"
    )
    try:
        desk.airflow.append_note(ref_of(incident), " ".join(text.split()))
    except AirflowError as error:
        return f"no note left in Airflow: {error.message}"
    return ""


def settle(desk: Desk, warn: Warn) -> Iterator[Case]:
    """Look at everything that was acted on and is not settled; yields what has changed.

    One that Airflow will not answer for is warned of and left for the next pass; an Airflow
    that cannot be reached at all ends the pass.
    """
    store = desk.knowledge.store
    for claim in store.claims(["claimed", "acting"]):
        case = store.case(claim.incident_id)
        if case.incident.instance != desk.instance:
            continue
        try:
            if claim.state == "acting":
                _settle_one(desk, case, claim)
            elif claim.lease_until < desk.clock.now():  # died before the door: nothing was done
                store.release(claim.incident_id, claim.token)
        except (AirflowUnreachable, AirflowAuth):
            raise
        except (AiopsError, DoorClosed) as problem:
            warn(f"{claim.incident_id}: not settled yet: {problem.message}")
        after = store.case(claim.incident_id)
        if after.status != case.status:
            yield after


def _settle_one(desk: Desk, case: Case, claim: Claim) -> None:
    incident, decision = case.incident, case.decision
    if decision is None:
        raise AssertionError(f"{incident.id} is past the door without a decision")
    try:
        live = desk.airflow.task_instance(ref_of(incident))
    except AirflowNotFound as gone:  # nobody can say what became of it
        _settle(desk, incident, claim.token, decision.seq, None, gone.message)
        return
    waiting = claim.not_before is not None and not claim.progress
    if live.id == incident.ti_id and live.state == "failed":
        _not_done_yet(desk, incident, claim, decision, live)
    elif waiting:
        why = f"somebody else has run it again (now {live.state or 'cleared'})"
        _settle(desk, incident, claim.token, decision.seq, "superseded", why, live.try_number)
    else:
        _look(desk, incident, claim, decision, live)


def _not_done_yet(
    desk: Desk, incident: Incident, claim: Claim, decision: Decision, live: TaskInstance
) -> None:
    """Past the door and still failed: either it waits for its time, or the act was cut off."""
    now, store = desk.clock.now(), desk.knowledge.store
    if claim.not_before is not None and not claim.progress:
        if stopped(desk).paused and decision.kind == "auto":
            store.release(incident.id, claim.token)
        elif claim.not_before <= now:
            token = store.retake(incident.id, claim.token, desk.settings.lease)
            if token is not None:  # else another watcher is at it
                store.progress(incident.id, token, {"started": True})
                plan = retry.preview(desk.airflow, live, str(decision.action), decision.params)
                _apply(desk, incident, token, decision, plan)
    elif claim.lease_until < now:
        why = "stopped between the decision and the act: look at it and approve again"
        _settle(desk, incident, claim.token, decision.seq, None, why)


def _not_started(desk: Desk, incident: Incident, claim: Claim, live: TaskInstance) -> None:
    """Cleared and not running yet: it waits behind others, which is told. But a clear that raced
    with the scheduler leaves a task without state in a failed run, where it would never run:
    that one is cleared once more."""
    store = desk.knowledge.store
    run = desk.airflow.run(incident.dag_id, incident.run_id)
    if live.state is None and run.state == "failed" and not claim.progress.get("revived"):
        token = store.retake(incident.id, claim.token, desk.settings.lease)
        if token is not None:
            store.progress(incident.id, token, {**claim.progress, "revived": True})
            retry.revive(desk.airflow, live.ref)
        return
    waiting = f"waiting in Airflow: task {live.state or 'not scheduled'}, run {run.state}"
    if claim.progress.get("waiting") != waiting:
        store.progress(incident.id, claim.token, {**claim.progress, "waiting": waiting})


def _look(
    desk: Desk, incident: Incident, claim: Claim, decision: Decision, live: TaskInstance
) -> None:
    """What has become of the new try."""
    if live.state == "success":
        _finish_run(desk, incident, decision)
        _settle(desk, incident, claim.token, decision.seq, "fixed", "", live.try_number)
    elif live.state == "failed":
        _settle(desk, incident, claim.token, decision.seq, "failed", "", live.try_number)
    elif live.state in ("skipped", "removed", "upstream_failed"):
        detail = f"the new try ended {live.state}"
        _settle(desk, incident, claim.token, decision.seq, "unknown", detail, live.try_number)
    elif desk.clock.now() - decision.at > desk.settings.give_up:
        detail = f"still {live.state or 'not started'} after the time limit"
        _settle(desk, incident, claim.token, decision.seq, "unknown", detail, live.try_number)
    elif live.state in (None, "scheduled", "queued"):
        _not_started(desk, incident, claim, live)


def _finish_run(desk: Desk, incident: Incident, decision: Decision) -> None:
    """Clear what still stands blocked below a fixed task, where a crash came between the two
    clears: by name, and only where failed."""
    planned = {
        item["task_id"] for item in decision.plan.get("clears", ()) if item["role"] == "downstream"
    }
    if not planned:
        return
    blocked = {
        task_instance.ref.task_id
        for task_instance in desk.airflow.run_task_instances(incident.dag_id, incident.run_id)
        if task_instance.ref.task_id in planned and task_instance.state == "upstream_failed"
    }
    if blocked:
        desk.airflow.clear(incident.dag_id, incident.run_id, sorted(blocked), dry_run=False)


def _settle(
    desk: Desk,
    incident: Incident,
    token: int,
    decision: int,
    outcome: OutcomeName | None,
    detail: str,
    try_number: int | None = None,
) -> None:
    """Close the claim; without an outcome, or with an unknown one, a person must look."""
    row = Outcome(incident.id, decision, desk.clock.now(), outcome or "unknown", detail, try_number)
    state: ClaimState = "needs_human" if outcome in (None, "unknown") else "done"
    desk.knowledge.store.settle(incident.id, token, state, row)
