"""What a person decides about an incident, and what is learned from it.

Shared by `approve`, `reject` and `triage`. An approval of a re-run vouches for this pair of task
and failure; a rejection takes that back. Both become knowledge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from aiops_cli import gate, respond, two_people
from aiops_cli.actions import checked, plans, ready
from aiops_cli.actions.changes import MARKS
from aiops_cli.actions.proposed import SHARED
from aiops_cli.diagnosis.delay import LOG, as_setting, retry_after
from aiops_cli.errors import (
    AirflowConflict,
    AirflowForbidden,
    AirflowNotFound,
    Refused,
    UsageError,
)
from aiops_cli.examine import Desk
from aiops_cli.incidents import Plan
from aiops_cli.published import spoken_against
from knowledge.base import KnowledgeBase
from knowledge.errors import DoorClosed, ModelUnavailable
from knowledge.records import Case, Claim, Decision, Entry, Incident, Status, Trial, Vouch
from knowledge.redact import clean, redact
from knowledge.stores import Store

NOT_TWICE = "a first yes of two that said --not-rerun-safe"
UNDECIDED: tuple[Status, ...] = ("pending", "needs_human")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be done, and why: the diagnosis, or a person's edit of it. `delay_from` is whose
    word the delay in `params` is, where neither a person nor an entry named it."""

    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    delay_from: str = ""


def meant(store: Store, ids: Sequence[str]) -> dict[str, Case]:
    """The cases that ids (or unique starts of them) mean, by full id. Of a group, those that
    still wait for a person; of a group where none does, all, so that the refusal is told."""
    cases: dict[str, Case] = {}
    for one in ids:
        found = [store.case(full) for full in store.find_ids(one)]
        waiting = [case for case in found if case.status in UNDECIDED]
        cases.update({case.incident.id: case for case in waiting or found})
    return cases


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
    judged = case.judgement.document if case.judgement else {}
    diagnosis = judged.get("diagnosis", {})
    chosen = action or diagnosis.get("action")
    against = spoken_against(judged)
    if action is None and chosen is not None and against:
        raise UsageError(
            f"{chosen} is not proposed for {case.incident.id}: {against}",
            f"if it is right all the same, name it: --action {chosen}",
        )
    if chosen is None:
        raise UsageError(
            f"no action is known for {case.incident.id}",
            "name one: --action retry (or none, with --cause …)",
        )
    same = action in (None, diagnosis.get("action"))
    merged = {**(diagnosis.get("params", {}) if same else {}), **params}
    worked_out = str(diagnosis.get("delay_from") or "") if same and "delay" not in params else ""
    if chosen == "retry_later" and "delay" not in merged:
        asked = retry_after(case.incident.excerpt.text, case.incident.failed_at)
        if asked:
            merged, worked_out = {**merged, "delay": as_setting(asked)}, LOG
    ready(chosen, merged)
    known = diagnosis.get("cause", "") if same else ""
    said = known if cause is None else redact(clean(cause))
    return Proposal(chosen, merged, said, worked_out)


def shared_change(proposed: Proposal) -> str:
    """The same text for all proposals that would make the very same change to the same thing; ""
    for those whose change is their own."""
    if proposed.action not in SHARED:
        return ""
    return json.dumps([proposed.action, dict(proposed.params)], sort_keys=True)


def with_shared(
    plan: Plan, proposed: Proposal, incident_id: str, first_of: MutableMapping[str, str]
) -> Plan:
    """The plan of one of several that are approved together: what another of them, earlier in the
    row, changes already is left out of it. `first_of` is by shared change who makes it."""
    shared = shared_change(proposed)
    first = first_of.setdefault(shared, incident_id) if shared else incident_id
    return plan if first == incident_id else plans.following(plan, first)


def ends_all(error: BaseException) -> bool:
    """Whether what kept one of several from being done may keep the rest as well, so that a person
    looks first: Airflow or the knowledge base is away, or an act failed and nobody knows why. What
    is refused, forbidden or somebody else's doing is so of that one alone."""
    of_one = (AirflowConflict, AirflowForbidden, AirflowNotFound, DoorClosed, Refused, UsageError)
    return not isinstance(error, of_one)


def warning(case: Case) -> str:
    """What a person should know before running it again, or "": an entry forbids it, somebody said
    no, the job may still run. They may still say yes; that nobody has vouched yet is no warning,
    for the approval does."""
    checks = case.judgement.document["gate"]["checks"] if case.judgement else ()
    for check in checks:
        said = check["name"] == "rerun_safe" and not check["passed"] and check["reason"]
        if said and gate.NOBODY not in said:
            return f"careful: {check['reason']}"
    return ""


def approve(
    desk: Desk,
    case: Case,
    proposed: Proposal,
    shown: Plan | None,
    rerun_safe: bool | None,
    *,
    by_person: bool = True,
) -> Case:
    """Carry out what a person said yes to (`none` acts on nothing), then remember it.

    `rerun_safe` True or False is the person's word for the whole task; None vouches for this pair
    of task and failure alone, and for nothing where a program said yes. Of an action that takes two
    people the first yes is only written down, and with it what its author said of running twice:
    the case is pending still. Raises Refused where it cannot be done now: nothing was done then.
    """
    incident, by, now = case.incident, desk.settings.user, desk.clock.now()
    store = desk.knowledge.store
    case = store.case(incident.id)  # a first yes may have been withdrawn while this one was asked
    takes_two = proposed.action in desk.settings.two_people and shown is not None
    if not takes_two:
        _withdraw(store, case, by, now, f"{by} approved {proposed.action}")
    runs = proposed.action != "none" and proposed.action not in MARKS
    if proposed.action == "none":
        decision = Decision(
            incident.id, "approve", now, by, "none", proposed.params, cause=proposed.cause
        )
        vouches = _vouches(incident, rerun_safe, by, now, runs)
        done = respond.decide(desk.knowledge, decision, vouches)
    else:
        reason, vouches = "", _vouches(incident, rerun_safe, by, now, runs)
        if takes_two and shown is not None:
            other = two_people.other_yes(case, shown, by, now, desk.settings.give_up)
            if other is None:
                return _first_yes(desk, case, shown, rerun_safe)
            reason = f"approved by {other.by} too"
            vouches = _of_both(incident, other, rerun_safe, vouches)
        done = respond.act(
            desk,
            incident,
            action=proposed.action,
            params=proposed.params,
            by=by,
            kind="approve",
            shown=shown,
            cause=proposed.cause,
            reason=reason,
            vouches=vouches if by_person else (),
        )
    # Not before it was decided: what was learned earlier stays when it is called off.
    _learn(desk.knowledge, incident, _as_said(proposed), desk.clock.now())
    return done


def _first_yes(desk: Desk, case: Case, shown: Plan, rerun_safe: bool | None) -> Case:
    """Write it down for the second person. That the task may not run twice counts at once: the
    store keeps a no though what was approved with it was given back."""
    incident, by, now = case.incident, desk.settings.user, desk.clock.now()
    store = desk.knowledge.store
    if rerun_safe is False:
        respond.may_change(desk)
        token = store.claim(incident.id, incident.ti_id, by, desk.settings.lease, reopen=True)
        if token is None:
            raise Refused(
                f"{incident.id} is being acted on, or was already",
                f"see: aiops incidents show {incident.id}",
            )
        try:
            said = Decision(
                incident.id, "approve", now, by, shown.action, shown.params, reason=NOT_TWICE
            )
            no = _vouch(incident, False, by, now, task=True)
            store.open_door(incident.id, token, said, vouches=[no])
        finally:
            store.release(incident.id, token)
    store.add_remark(two_people.first_yes(case, shown, by, now, rerun_safe))
    return store.case(incident.id)


def _of_both(
    incident: Incident,
    first: two_people.FirstYes,
    rerun_safe: bool | None,
    vouches: tuple[Vouch, ...],
) -> tuple[Vouch, ...]:
    """What the two said of running it twice. A yes that says nothing of that takes back no no."""
    if first.rerun_safe is None:
        return vouches
    if first.rerun_safe:
        return (_vouch(incident, True, first.by, first.at, task=True), *vouches)
    return () if rerun_safe is None else vouches


def no_to_own_yes(desk: Desk, case: Case) -> bool:
    """Its author said no when asked again: withdraw the first yes that waits. False where none of
    theirs does."""
    store, by = desk.knowledge.store, desk.settings.user
    case = store.case(case.incident.id)
    if not two_people.is_by(two_people.waiting(case), by):
        return False
    _withdraw(store, case, by, desk.clock.now(), f"{by} said no")
    return True


def _withdraw(store: Store, case: Case, by: str, at: datetime, why: str) -> None:
    """A first yes that waits counts no more from here on."""
    if two_people.waiting(case) is not None:
        store.add_remark(two_people.withdrawn(case, by, at, why))


def _as_said(proposed: Proposal) -> Proposal:
    """Without a delay that was only worked out: the next failure's is another one."""
    if not proposed.delay_from:
        return proposed
    said = {name: value for name, value in proposed.params.items() if name != "delay"}
    return replace(proposed, params=said)


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
    reason, cause = reason_given(reason), redact(clean(cause))
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
    # A failure without a signature cannot be told from another one: no word on it is kept.
    known = reruns and incident.signature.fingerprint
    vouches = (_vouch(incident, False, by, at, task=False, reason=reason),) if known else ()
    done = respond.decide(knowledge, decision, vouches)
    # Said, not only implied by the decision: that may be taken back, which gives nobody's yes.
    _withdraw(knowledge.store, case, by, at, f"{by} rejected it")
    if action == "none":
        _learn(knowledge, incident, Proposal("none", {}, cause or reason), at)
    return done


def reason_given(text: str) -> str:
    """What a person gave as one, fit to be kept. Raises UsageError for an empty one."""
    reason = redact(clean(text)).strip()
    if not reason:
        raise UsageError("the reason is empty", 'such as --reason "the vendor has to send it anew"')
    return reason


def remember(
    knowledge: KnowledgeBase,
    case: Case,
    *,
    cause: str,
    action: str,
    params: Mapping[str, Any],
    at: datetime,
) -> Entry:
    """Keep what a failure is as the answer to it, without acting on it. Raises UsageError where it
    cannot be known again, or nothing is said of it."""
    recognisable(case)
    checked(action, params)
    said = redact(clean(cause)).strip()
    if not said:
        raise UsageError("the cause is empty", "say what it was, for who reads it next time")
    return knowledge.learn(case.incident, action=action, params=params, cause=said, at=at)


def recognisable(case: Case) -> None:
    """Raises UsageError for a failure that no answer can be remembered for."""
    if not case.incident.signature.text:
        raise UsageError(
            "its log says nothing that it could be known by again", "reject it, or leave a note"
        )


def _learn(knowledge: KnowledgeBase, incident: Incident, proposed: Proposal, at: datetime) -> None:
    """Remember the answer. A failure without a signature cannot be recognised again."""
    if not incident.signature.text:
        return
    # In a base without a single vector the embedder is needed. What was decided is decided, and
    # perhaps done, so that it is no error; settling remembers what was approved once more.
    with suppress(ModelUnavailable):
        knowledge.learn(
            incident, action=proposed.action, params=proposed.params, cause=proposed.cause, at=at
        )


def _vouches(
    incident: Incident, rerun_safe: bool | None, by: str, at: datetime, runs: bool
) -> tuple[Vouch, ...]:
    """What an approval says of re-running: for the task, or for this pair of task and failure
    where the task `runs` by it. Whoever marks it may do so because it must not run twice."""
    if rerun_safe is not None:
        return (_vouch(incident, rerun_safe, by, at, task=True),)
    if not runs or not incident.signature.fingerprint:
        return ()
    return (_vouch(incident, True, by, at, task=False),)


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


def waiting_claim(case: Case) -> Claim | None:
    """The claim of a decision that waits for its time, none of which has been done yet."""
    claim = case.claim
    waits = claim and claim.state == "acting" and claim.not_before and not claim.progress
    return claim if waits else None


def call_off(store: Store, case: Case, by: str, at: datetime) -> bool:
    """Give up what waits for its time, and what was learned by it: the incident waits for a person
    again. False where nothing does, or a watcher was faster and has begun it."""
    claim = waiting_claim(case)
    if claim is None:
        return False
    incident = case.incident
    store.release(incident.id, claim.token)
    if store.case(incident.id).status not in UNDECIDED:
        return False
    others = {one.action for one in store.trials(fingerprints={incident.signature.fingerprint})}
    learned = store.entries(kind="incident", source=incident.id)
    first_put = store.first_put() if learned else {}  # what was known before stays known
    begun = case.decision.at if case.decision else at
    alone = [
        entry.id
        for entry in learned
        if first_put[entry.id] >= begun and entry.action not in (*others, "none")
    ]
    store.retire_entries(alone, by, at, "called off before it was done")
    return True


def call_wrong(
    knowledge: KnowledgeBase, case: Case, *, by: str, at: datetime, reason: str
) -> tuple[Decision, tuple[Trial, ...]]:
    """An act turned green but did harm: from now on this answer to this failure is never given
    alone anywhere, and its task is not run again alone. Returns the decision that is meant and
    the other acts of the same answer. Raises NotFound where nothing was done, and Refused where
    it still waits for its time."""
    incident, reason = case.incident, reason_given(reason)
    if waiting_claim(case):
        raise Refused(
            f"{incident.id} still waits for its time: nothing was done yet",
            f"call it off: aiops undo {incident.id}",
        )
    taken_back = _vouch(incident, False, by, at, task=True, reason=reason)
    decided = knowledge.store.call_wrong(incident.id, by, at, reason, [taken_back])
    trials = knowledge.store.trials(fingerprints={incident.signature.fingerprint})
    others = tuple(
        trial
        for trial in trials
        if trial.action == decided.action
        and trial.incident_id != incident.id
        and trial.outcome != "rejected"
    )
    return decided, others
