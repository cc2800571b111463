"""The one place that acts: claim → re-read → preview → door → apply (change, then run again).

Every step is written down before the next is taken, so that a crash anywhere can be settled
(settle.py): what is past the door is never done again, only looked at. Right before each
changing call the claim is renewed by its token and the task instance read once more, so that
whoever slept through its lease finds the door shut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from aiops_cli import gate
from aiops_cli.actions import DEFAULT_DELAY, changes, plans, ready, retry, who_may
from aiops_cli.actions.proposed import check_made
from aiops_cli.config import parse_duration
from aiops_cli.errors import AiopsError, AirflowError, AirflowForbidden, Refused
from aiops_cli.examine import Desk, of_this_airflow, ref_of, still_allowed, stopped
from aiops_cli.incidents import MASK, Plan, TaskInstance
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
from knowledge.redact import redact

LONGEST_NAME = 100  # characters of who approved it, in a note
LONGEST_WHY = 200  # characters of the cause in a note, which may have 1,000 in all


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
    max_tasks: int = plans.MAX_TASKS,
    after: str = "",
) -> Plan:
    """What acting on this incident would do now; `after` as in `plans.preview`. Raises Refused
    where there is nothing to run again or more than `max_tasks` above it, and Stale where it has
    changed: the incident is superseded then, but by a `dry_run`, which writes nothing and is for
    those too who may only read."""
    ready(action, params)
    if not dry_run:
        may_change(desk)
    try:
        live = unchanged(desk, incident)
    except Stale as stale:
        if not dry_run:
            supersede(desk, incident, stale.why)
        raise
    try:
        return plans.preview(
            desk.airflow, incident.id, live, action, params, max_tasks=max_tasks, after=after
        )
    except AirflowForbidden as refused:
        hint = _by_somebody_else(incident, action, params)
        raise AirflowForbidden(refused.message, hint) from None


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
    ready(action, params)
    may_change(desk)
    store = desk.knowledge.store
    alone = kind == "auto"
    who = who_may(desk.settings.actions, action, desk.settings.two_people)
    if who == "nobody" or (alone and who != "alone"):
        raise Refused(
            f"nobody may do {action} here" if who == "nobody" else f"{action} is never done alone",
            "the setting `actions` says so; see aiops doctor for where it stands",
        )
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
        most = plans.MAX_TASKS if shown is None else len(shown.clears)
        after = "" if shown is None else shown.after
        if after:
            check_made(desk.airflow, live.ref, action, params)
        plan = plans.preview(
            desk.airflow, incident.id, live, action, params, max_tasks=most, after=after
        )
        if alone:
            _vouched_above(desk, incident, plan)
            _nothing_hidden(plan)
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
            not_before=None if wait is None else _due(incident, wait, desk.clock.now(), alone),
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


def may_change(desk: Desk) -> None:
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
    of_this_airflow(desk, incident)
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


def _due(incident: Incident, wait: timedelta, now: datetime, alone: bool) -> datetime:
    """When a `retry_later` is run. A person means from now on; what the tool knows (the log's
    Retry-After, how long such outages lasted) counts from the failure, so that a storm which has
    waited for its canary does not wait once more."""
    return max(now, min(incident.failed_at, now) + wait) if alone else now + wait


def _vouched_above(desk: Desk, incident: Incident, plan: Plan) -> None:
    """Raises Refused where the tool alone would run a task anew that nobody has vouched for."""
    dag = desk.airflow.dag(incident.dag_id)
    tasks = desk.airflow.tasks(incident.dag_id)
    for task_id in sorted({one.ref.task_id for one in plan.clears if one.role == "upstream"}):
        task = tasks.get(task_id)
        safety = gate.rerun_safety(
            replace(incident, task_id=task_id),
            vouches=desk.knowledge.store.vouches(incident.instance, incident.dag_id, task_id),
            tags=dag.tags,
            patterns=desk.settings.rerun_safe,
            retries=task.retries if task else 0,
            trust_retries=desk.settings.gate.trust_retries,
            now=desk.clock.now(),
            stands_after=desk.settings.gate.vouch_after,
        )
        if not safety.for_task:
            raise Refused(f"{task_id} would run anew: {safety.why}", "a person may approve it")


def _nothing_hidden(plan: Plan) -> None:
    """Raises Refused where the tool alone would overwrite what nobody could put back."""
    for change in plan.changes:
        if change.old == MASK:
            raise Refused(
                f"{changes.told_name(change)}: {plan.no_undo}", "a person may still approve it"
            )


def apply(
    desk: Desk,
    incident: Incident,
    token: int,
    decision: Decision,
    plan: Plan,
    done: Mapping[str, Any] | None = None,
) -> None:
    """Do the plan past the door. `done` is what was done of it before a crash or a wait. What
    surely did not happen gives the claim back; what is unclear stays `acting`, for settle to look
    at. Raises Refused and AirflowError."""
    store = desk.knowledge.store
    held = [token]
    saved: dict[str, Any] = dict(done or {})

    def renew() -> None:
        held[0] = renewed(desk, incident, held[0])
        if decision.kind == "auto" and (pause := stopped(desk)).paused:
            raise Refused(f"paused by {pause.by}", "aiops resume lets grants hold again")

    def save(more: Mapping[str, Any]) -> None:
        saved.update(more)
        store.progress(incident.id, held[0], saved)

    note = stamp(desk, incident, decision)
    try:
        if plan.changes and not saved.get("changed"):
            _change(desk, plan, note, renew, save)
        if plan.action == "update_connection" and plan.changes and "tested" not in saved:
            _test(desk, plan, note, renew, save)
        if saved.get("waits_for"):  # settle sees how that run ends
            return
        if plan.action in changes.MARKS:
            # A mark clears what stands blocked below it, and leaves the run failed.
            renew()
            desk.airflow.requeue(incident.dag_id, incident.run_id)
            save({"requeued": True})
        else:
            retry.apply(desk.airflow, plan, note, renew, save)
    except (changes.Changed, retry.OtherwiseCleared) as other:
        close(desk, incident, held[0], decision, "unknown", other.message)
        raise
    except Refused as refused:
        if not plan.changes and isinstance(refused, retry.Overtaken):
            close(desk, incident, held[0], decision, "superseded", refused.message)
        elif saved.get("changed"):
            back = plan.no_undo or f"aiops undo {incident.id}"
            stays = f"{refused.message}; what was changed stays so: {back}"
            close(desk, incident, held[0], decision, "unknown", stays)
        else:
            store.release(incident.id, held[0])
        raise
    except AirflowForbidden as refused:
        if not _begun(saved) and not refused.unclear:
            store.release(incident.id, held[0])
        hint = _by_somebody_else(incident, plan.action, plan.params)
        raise AirflowForbidden(refused.message, hint) from None
    except AirflowError as error:
        # What was surely not done is given back; what may have happened, settle asks Airflow.
        if not _begun(saved) and not error.unclear:
            store.release(incident.id, held[0])
        raise
    try:  # Airflow 3.1 cannot take the note with the clear
        desk.airflow.append_note(plan.ref, note)
    except AirflowError as error:  # the act stands without it
        save({"note": f"no note left in Airflow: {error.message}"})


def _begun(saved: Mapping[str, Any]) -> bool:
    """Whether anything of the act stands in Airflow."""
    return bool(saved.get("changed") or saved.get("new_id"))


def _by_somebody_else(incident: Incident, action: str, params: Mapping[str, Any]) -> str:
    """What somebody whose login has the right would run."""
    import shlex  # 4 ms

    needs = "Op" if action in ("update_connection", "set_variable", "resize_pool") else "User"
    given = [f"--set={name}={_typed(value)}" for name, value in params.items()]
    command = shlex.join(["aiops", "approve", incident.id, "--action", action, *given])
    return f"it takes the role {needs}; somebody who has it may run: {command}"


def _typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _change(
    desk: Desk,
    plan: Plan,
    note: str,
    renew: Callable[[], None],
    save: Callable[[Mapping[str, Any]], None],
) -> None:
    """Make the plan's changes and write down at once that they are made. Raises Refused."""
    airflow, first = desk.airflow, plan.changes[0]
    if plan.action in changes.MARKS:  # a mark takes the whole note, the task's own with it
        live = airflow.task_instance(plan.ref)
        note = f"{live.note}\n{note}" if live.note else note
    changes.make(airflow, plan.ref, plan.changes, note, renew)
    waits = {"waits_for": [first.name, first.field]} if first.kind == "dag run" else {}
    save({"changed": True, **waits})


def _test(
    desk: Desk,
    plan: Plan,
    note: str,
    renew: Callable[[], None],
    save: Callable[[Mapping[str, Any]], None],
) -> None:
    """Have Airflow test the connection with its new values, where it does that. Where they fail
    nothing runs again, and they are put back if they can be. Raises Refused."""
    name = plan.changes[0].name
    said = desk.airflow.test_connection(name)
    if said is None or said.passed:
        save({"tested": said and said.passed})
        return
    failed = f"Airflow's test of connection {name} failed with the new values: {said.message}"
    if plan.no_undo:
        raise Refused(failed, "nothing was run again: put it right in Airflow")
    try:
        changes.make(desk.airflow, plan.ref, changes.reverse(plan.changes), note, renew)
    except changes.Changed:
        raise
    except Refused:
        raise Refused(
            f"{failed}; somebody has changed it meanwhile, so that it was not put back",
            "nothing was run again: look at it in Airflow",
        ) from None
    save({"changed": False})
    raise Refused(failed, "they were put back, and nothing was run again")


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
    what happened, why, and how it is put back, and tells our clears from other people's."""
    name = re.sub(r"[,\s]+", " ", decision.by)[:LONGEST_NAME]
    who = "alone" if decision.kind == "auto" else f"by {name}"
    said = redact(decision.cause or decision.reason)  # Airflow shows it to more people
    why = re.sub(r"[()\s]+", " ", said).strip() or "no cause given"
    if len(why) > LONGEST_WHY:
        why = why[: LONGEST_WHY - 1] + "…"
    if decision.plan.get("changes") and not decision.plan.get("no_undo"):
        why += f"; undo: aiops undo {incident.id}"
    text = (
        f"{stamp_start(desk)}{decision.action} of try {incident.try_number} {who}, "
        f"incident {incident.id} ({why})"
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
