"""An act that is past the door and has run nothing again yet: it waits for its time or for
another DAG's run, or it was cut off. It goes on from where it stands, or comes to a person; what
was changed is not changed once more.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

from aiops_cli.actions import changes, retry
from aiops_cli.errors import AirflowNotFound, Refused
from aiops_cli.examine import Desk, still_allowed, stopped
from aiops_cli.incidents import Change, TaskInstance
from aiops_cli.published import changes_of, plan_document
from aiops_cli.respond import apply, close
from knowledge.records import Claim, Decision, Incident


def go_on(
    desk: Desk,
    incident: Incident,
    claim: Claim,
    decision: Decision,
    live: TaskInstance,
    mode: str,
) -> None:
    """Past the door and still failed: either it waits for its time, or the act was cut off."""
    if claim.not_before is not None and not claim.progress:
        _waited(desk, incident, claim, decision, live, mode)
    elif decision.plan.get("changes"):
        _changed(desk, incident, claim, decision, live, mode)
    elif claim.lease_until < desk.clock.now():
        why = "cut off or never answered, and it has not run again: look at it and approve again"
        close(desk, incident, claim.token, decision, "unknown", why)


def _changed(
    desk: Desk, incident: Incident, claim: Claim, decision: Decision, live: TaskInstance, mode: str
) -> None:
    """Nothing has run again yet of an act that changes something first: it waits for another
    DAG's run, or it was cut off in between. What was changed is not changed once more."""
    planned = changes_of(decision.plan)
    first, what = planned[0], changes.told_name(planned[0])
    waits = claim.progress.get("waits_for")
    if not waits and claim.lease_until >= desk.clock.now():
        return
    if not waits and desk.clock.now() - decision.at > desk.settings.give_up:
        why = f"nothing has run again after the time limit, and {what} may be changed: look at it"
        close(desk, incident, claim.token, decision, "unknown", why)
        return
    stands = "new" if waits else changes.standing(desk.airflow, live.ref, planned)
    if stands != "new":
        how = "before it changed anything" if stands == "old" else "and is not as planned now"
        how = "and was changed once more since" if claim.progress.get("changed") else how
        why = f"stopped between the decision and the act, {how}: look at it and approve again"
        close(desk, incident, claim.token, decision, "unknown", why)
        return
    if first.kind == "dag run" and not _run_ended(desk, incident, claim, decision, first):
        return
    if not may_go_on(desk, decision, mode):
        return
    so_far = (
        f"the run of {first.name} is through" if first.kind == "dag run" else f"{what} is changed"
    )
    try:
        _still_wanted(desk, incident, decision, live)
    except Refused as refused:
        why = f"{so_far}, and nothing has run again: {refused.message}"
        close(desk, incident, claim.token, decision, "unknown", why)
        return
    again = {one["task_id"] for one in decision.plan["clears"] if one["role"] == "upstream"}
    action, params = str(decision.action), decision.params
    plan = retry.preview(desk.airflow, live, action, params, again=again)
    plan = replace(plan, changes=planned, no_undo=decision.plan.get("no_undo") or "")
    if plan_document(plan)["clears"] != decision.plan["clears"]:
        why = (
            f"{so_far}, but what would run again is not what was planned: look at it "
            f"({plan.no_undo or f'aiops undo {incident.id} puts the change back'})"
        )
        close(desk, incident, claim.token, decision, "unknown", why)
        return
    token = desk.knowledge.store.retake(incident.id, claim.token, desk.settings.lease)
    if token is not None:  # else another watcher is at it
        done = {**claim.progress, "changed": True, "waits_for": None}
        desk.knowledge.store.progress(incident.id, token, done)
        apply(desk, incident, token, decision, plan, done)


def _run_ended(
    desk: Desk, incident: Incident, claim: Claim, decision: Decision, started: Change
) -> bool:
    """Whether the other DAG's run is through. One that failed ends the act: what it should have
    brought is not there."""
    dag_id, run_id = started.name, started.field
    try:
        run = desk.airflow.run(dag_id, run_id)
    except AirflowNotFound:
        why = f"the run of {dag_id} is gone from Airflow ({run_id}): nothing was run again"
        close(desk, incident, claim.token, decision, "unknown", why)
        return False
    if run.state == "failed":
        why = f"the run of {dag_id} failed ({run_id}): nothing was run again"
        close(desk, incident, claim.token, decision, "failed", why)
    elif run.state != "success" and desk.clock.now() - decision.at > desk.settings.give_up:
        why = f"the run of {dag_id} is still {run.state} after the time limit"
        close(desk, incident, claim.token, decision, "unknown", why)
    elif run.state != "success":
        waiting = f"waiting for the run of {dag_id}: {run.state}"
        if claim.progress.get("waiting") != waiting:
            begun = {"changed": True, "waits_for": [dag_id, run_id], "waiting": waiting}
            desk.knowledge.store.progress(incident.id, claim.token, {**claim.progress, **begun})
    return run.state == "success"


def _waited(
    desk: Desk,
    incident: Incident,
    claim: Claim,
    decision: Decision,
    live: TaskInstance,
    mode: str,
) -> None:
    """A retry that waits for its time. What was begun alone is judged again by what is true now;
    a person's approval holds for the plan that was shown, unless somebody is in there by now."""
    store = desk.knowledge.store
    alone = decision.kind == "auto"
    if alone and stopped(desk).paused:
        store.release(incident.id, claim.token)
        return
    if claim.not_before is None or claim.not_before > desk.clock.now():
        return
    if desk.settings.read_only:  # it is for another machine that watches this Airflow
        return
    if alone and mode != "auto":
        return
    if alone and not _within_budget(desk, incident, decision):
        return
    action, params = str(decision.action), decision.params
    try:
        _still_wanted(desk, incident, decision, live)
        plan = retry.preview(desk.airflow, live, action, params)
        if alone and (pause := stopped(desk)).paused:  # meanwhile: Airflow may be slow to answer
            raise Refused(f"paused by {pause.by}", "aiops resume lets grants hold again")
    except Refused:
        store.release(incident.id, claim.token)  # it waits for a person again
        raise
    if plan_document(plan)["clears"] != decision.plan["clears"]:
        why = "what would run again has changed while it waited: look at it and approve again"
        close(desk, incident, claim.token, decision, "unknown", why)
        return
    token = store.retake(incident.id, claim.token, desk.settings.lease)
    if token is not None:  # else another watcher is at it
        store.progress(incident.id, token, {"started": True})
        apply(desk, incident, token, decision, plan)


def _within_budget(desk: Desk, incident: Incident, decision: Decision) -> bool:
    """Whether this one may be begun within the hour's budget, and is counted in it: the store
    counts decisions, which were taken when it began to wait. Of two watchers one counts first;
    the other looks again on its next pass."""
    store, gate, now = desk.knowledge.store, desk.settings.gate, desk.clock.now()
    mark = f"waits begun {desk.instance}"
    before = store.mark(mark)
    begun = [
        (at, dag_id)
        for at, dag_id in json.loads(before or "[]")
        if datetime.fromisoformat(at) > now - timedelta(hours=1)
    ]
    grant = next((one for one in store.grants() if one.id == decision.grant), None)
    most, in_dag = gate.max_per_hour, gate.max_per_dag_hour
    if grant is not None:
        most, in_dag = min(most, grant.max_per_hour), min(in_dag, grant.max_per_dag_hour)
    here = sum(dag_id == incident.dag_id for _, dag_id in begun)
    if len(begun) >= most or here >= in_dag:
        return False
    after = [*begun, (now.isoformat(), incident.dag_id)]
    return store.swap_mark(mark, before, json.dumps(after))


def _still_wanted(desk: Desk, incident: Incident, decision: Decision, live: TaskInstance) -> None:
    """Raises Refused where what was begun alone may not be done alone any more, or where it was
    held after a person approved it: they did not know."""
    if decision.kind == "auto":
        still_allowed(desk, incident, live, str(decision.action), decision.params)
        return
    for hold in desk.knowledge.store.holds_on(incident.id):
        if hold.at > decision.at:
            raise Refused(
                f"{hold.by} holds it since {decision.action} was approved",
                f"when they are done, approve it again: aiops approve {incident.id}",
            )


def may_go_on(desk: Desk, decision: Decision, mode: str) -> bool:
    """Whether what is left of an act may be done: not by a program that may only read; a person's
    always, the tool's own only while it may act alone."""
    if desk.settings.read_only:
        return False
    return decision.kind != "auto" or (mode == "auto" and not stopped(desk).paused)
