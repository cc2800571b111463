"""What has become of what was done: looked up in Airflow, never assumed.

An outcome is evidence only where the new try came of our own clear. That is proven by the id
that the clear answered with, or by our stamp in the task instance's note, which the clear itself
sets. What somebody else ran, marked or ran once more is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from aiops_cli.actions import changes, retry
from aiops_cli.errors import (
    AiopsError,
    AirflowAuth,
    AirflowError,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
)
from aiops_cli.examine import Desk, note_relapse_of, ref_of
from aiops_cli.incidents import NOTE_LENGTH, TaskInstance
from aiops_cli.respond import Warn, close, renewed, stamp
from aiops_cli.unfinished import go_on, may_go_on
from knowledge.errors import DoorClosed, ModelUnavailable
from knowledge.records import Case, Claim, Decision, Incident

Whose = Literal["untouched", "ours", "theirs", "run once more", "nobody can tell"]

# Where the act was cut off before it was written down, and its stamp found no place.
NO_ROOM = "and nobody can tell by whom: its note had no room for the act's word"
# How Airflow's audit log names a person's word on a task instance's state.
MARK_EVENTS = ("patch_task_instance",)


def settle(desk: Desk, mode: str, warn: Warn) -> Iterator[Case]:
    """Look at everything that was acted on and is not settled; yields what has changed. `mode` is
    the watcher's: what was begun alone goes on alone only where it is auto.

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
                _look(desk, case, claim, mode)
            elif claim.lease_until < desk.clock.now():  # died before the door: nothing was done
                store.release(claim.incident_id, claim.token)
        except (AiopsError, DoorClosed) as problem:
            if away(desk, problem):
                raise
            warn(f"{claim.incident_id}: not settled yet: {problem.message}")
        after = store.case(claim.incident_id)
        if after.status != case.status:
            yield after


def away(desk: Desk, error: Exception) -> bool:
    """Whether Airflow as a whole cannot be read, and not one thing of it: a single log or row may
    end in a 500 each time that it is asked for."""
    if not isinstance(error, AirflowUnreachable):
        return isinstance(error, AirflowAuth)
    try:
        desk.airflow.health()
    except AirflowError:
        return True
    return False


def _look(desk: Desk, case: Case, claim: Claim, mode: str) -> None:
    incident, decision = case.incident, case.decision
    if decision is None:
        raise AssertionError(f"{incident.id} is past the door without a decision")
    try:
        live = desk.airflow.task_instance(ref_of(incident))
    except AirflowNotFound as gone:  # nobody can say what became of it
        close(desk, incident, claim.token, decision, "unknown", gone.message)
        return
    whose = whose_try(incident, decision, claim, live, stamp(desk, incident, decision))
    if decision.action in changes.MARKS and whose != "untouched":
        _marked(desk, incident, claim, decision, live, mode, whose)
    elif whose == "untouched":
        go_on(desk, incident, claim, decision, live, mode)
    elif whose == "nobody can tell":
        why = f"it was run again, {NO_ROOM} (now {live.state or 'cleared'})"
        close(desk, incident, claim.token, decision, "unknown", why, live.try_number)
    elif whose == "theirs":
        why = f"somebody else has run it again (now {live.state or 'cleared'})"
        close(desk, incident, claim.token, decision, "superseded", why, live.try_number)
    elif whose == "run once more":
        _before_them(desk, incident, claim, decision)
    else:
        _ours(desk, incident, claim, decision, live, mode)


def whose_try(
    incident: Incident, decision: Decision, claim: Claim, live: TaskInstance, stamped: str
) -> Whose:
    """Whose doing the task instance is now. Pure.

    A clear makes a new id and grants the retry budget anew, so that `max_tries` tells a further
    clear from Airflow's own retries of ours (facts: max_tries = try number + retries)."""
    if live.id == incident.ti_id and live.state == "failed":
        return "untouched"
    own = claim.progress.get("new_id") or (
        decision.action in changes.MARKS and claim.progress.get("changed")
    )
    note = live.note or ""
    if not own and stamped not in note.splitlines():
        # A clear makes a new id, a mark none: the other one was not what was decided here.
        ours_alike = (live.id == incident.ti_id) == (decision.action in changes.MARKS)
        full = len(note) + len("\n") + len(stamped) > NOTE_LENGTH
        return "nobody can tell" if full and ours_alike else "theirs"
    granted = decision.plan.get("extra_tries")
    if granted and live.max_tries > incident.try_number + granted - 1:
        return "run once more"
    return "ours"


def _marked(
    desk: Desk,
    incident: Incident,
    claim: Claim,
    decision: Decision,
    live: TaskInstance,
    mode: str,
    whose: Whose,
) -> None:
    """A task instance that was to be marked: it is, or somebody else has acted."""
    state = changes.MARKS[str(decision.action)]
    if whose not in ("ours", "nobody can tell") or live.state != state:
        why = f"somebody else has acted on it (now {live.state or 'cleared'})"
        close(desk, incident, claim.token, decision, "superseded", why, live.try_number)
        return
    token = claim.token
    if not claim.progress.get("requeued") and may_go_on(desk, decision, mode):
        token = renewed(desk, incident, token)
        desk.airflow.requeue(incident.dag_id, incident.run_id)
    if whose == "nobody can tell":
        why = f"it is marked as {state}, {NO_ROOM}; its run goes on"
        close(desk, incident, token, decision, "unknown", why, live.try_number)
        return
    close(desk, incident, token, decision, "fixed", f"marked as {state}", live.try_number)
    _learn(desk, incident, decision)


def _before_them(desk: Desk, incident: Incident, claim: Claim, decision: Decision) -> None:
    """Somebody ran it once more after us: what our own try came to, where that can be told."""
    first = incident.try_number + 1
    tries = {one.try_number: one for one in desk.airflow.tries(ref_of(incident))}
    state = tries[first].state if first in tries else None
    if state == "success":
        close(desk, incident, claim.token, decision, "fixed", "and was run once more", first)
    elif state == "failed" and decision.plan["extra_tries"] == 1:
        close(desk, incident, claim.token, decision, "failed", "and was run once more", first)
    else:
        why = "somebody else has run it once more"
        close(desk, incident, claim.token, decision, "superseded", why, first)


def _ours(
    desk: Desk,
    incident: Incident,
    claim: Claim,
    decision: Decision,
    live: TaskInstance,
    mode: str,
) -> None:
    """What has become of the try that our clear made."""
    now, number = desk.clock.now(), live.try_number
    begun = max(decision.at, claim.not_before or decision.at)
    if live.state == "success":
        if _marked_by_hand(desk, incident, decision):
            why = "somebody marked it as success by hand"
            close(desk, incident, claim.token, decision, "superseded", why, number)
            return
        token = _finish_run(desk, incident, claim, decision, mode)
        close(desk, incident, token, decision, "fixed", _differences(claim, decision, live), number)
        _learn(desk, incident, decision)
        note_relapse_of(desk, incident, decision)
    elif live.state == "failed":
        detail = _differences(claim, decision, live)
        close(desk, incident, claim.token, decision, "failed", detail, number)
        _learn(desk, incident, decision)
    elif live.state in ("skipped", "removed", "upstream_failed"):
        detail = f"the new try ended {live.state}"
        close(desk, incident, claim.token, decision, "unknown", detail, number)
    elif now - begun > desk.settings.give_up:
        detail = f"still {live.state or 'not started'} after the time limit"
        close(desk, incident, claim.token, decision, "unknown", detail, number)
    elif live.state in (None, "scheduled", "queued"):
        _not_started(desk, incident, claim, decision, live, mode)


def _marked_by_hand(desk: Desk, incident: Incident, decision: Decision) -> bool:
    """Whether somebody set the new try's state since: then its green is no outcome of ours. A
    login that may not read the event log cannot tell, and takes Airflow's word."""
    try:
        events = desk.airflow.events(
            since=decision.at,
            dag_id=incident.dag_id,
            run_id=incident.run_id,
            task_id=incident.task_id,
            names=MARK_EVENTS,
        )
    except AirflowForbidden:
        return False
    return any("new_state" in (event.extra or "") for event in events)


def _differences(claim: Claim, decision: Decision, live: TaskInstance) -> str:
    """How what was done differs from the plan, for a person; "" where it does not."""
    told = []
    if claim.progress.get("as_planned") is False:
        told.append(f"below it ran again: {', '.join(claim.progress['downstream']) or 'nothing'}")
    planned = decision.plan.get("version_to")
    if planned and live.version and live.version != planned:
        told.append(f"ran on code v{live.version}, not v{planned}")
    return "; ".join(told)


def _finish_run(desk: Desk, incident: Incident, claim: Claim, decision: Decision, mode: str) -> int:
    """Clear what still stands blocked below a fixed task, where a crash came between the two
    clears: by name, only what never ran, and only where nothing else in the run failed. Returns
    the claim's token."""
    planned = {
        item["task_id"] for item in decision.plan.get("clears", ()) if item["role"] == "downstream"
    }
    if not planned or not may_go_on(desk, decision, mode):
        return claim.token
    run = desk.airflow.run_task_instances(incident.dag_id, incident.run_id)
    blocked = {
        one.ref.task_id
        for one in run
        if one.ref.task_id in planned and one.state == "upstream_failed"
    }
    if not blocked or any(one.state == "failed" for one in run):
        return claim.token
    token = renewed(desk, incident, claim.token)
    desk.airflow.clear(incident.dag_id, incident.run_id, sorted(blocked), dry_run=False)
    return token


def _not_started(
    desk: Desk,
    incident: Incident,
    claim: Claim,
    decision: Decision,
    live: TaskInstance,
    mode: str,
) -> None:
    """Cleared and not running yet: it waits behind others, which is told. But a clear that raced
    with the scheduler leaves a task without state in a failed run, where it would never run:
    that one is cleared once more."""
    store = desk.knowledge.store
    run = desk.airflow.run(incident.dag_id, incident.run_id)
    if live.state is None and run.state == "failed" and not claim.progress.get("revived"):
        if may_go_on(desk, decision, mode):
            token = renewed(desk, incident, claim.token)
            store.progress(incident.id, token, {**claim.progress, "revived": True})
            retry.revive(desk.airflow, live.ref)
        return
    waiting = f"waiting in Airflow: task {live.state or 'not scheduled'}, run {run.state}"
    if claim.progress.get("waiting") != waiting:
        store.progress(incident.id, claim.token, {**claim.progress, "waiting": waiting})


def _learn(desk: Desk, incident: Incident, decision: Decision) -> None:
    """Remember what a person decided, where a crash came before it was remembered."""
    action, params = str(decision.action), decision.params
    if decision.kind != "approve" or not incident.signature.text:
        return
    if desk.knowledge.knows(incident, action, params):
        return
    with suppress(ModelUnavailable):  # it must not keep the rest of the pass from going on
        desk.knowledge.learn(
            incident, action=action, params=params, cause=decision.cause, at=decision.at
        )
