"""What happened to an incident, from the failure to the last word said of it: for the terminal,
for JSON and for the dashboard. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiops_cli.published import nothing_proposed, utc
from aiops_cli.screen import local, plain, span
from knowledge.records import Case, Decision, Judgement, Outcome, Snooze, Story, Vouch

Event = tuple[datetime, str]

_OUTCOMES = {
    "fixed": "turned green",
    "failed": "failed again",
    "relapsed": "came back after it had turned green",
    "superseded": "somebody else acted on it",
    "unknown": "nobody knows how it ended: a person has to look",
}


def story(case: Case, written: Story) -> list[dict[str, Any]]:
    """`at` and `what` of everything that happened, in order, as it is published."""
    incident = case.incident
    happened: list[Event] = [
        (incident.failed_at, f"failed: {incident.signature.headline or 'no error in the log'}"),
        (incident.seen_at, "seen by aiops"),
        *_judged(written.judgements),
        *((one.at, f"note by {one.by}: {one.text}") for one in written.remarks),
        *((one.at, _left(one)) for one in written.snoozes),
    ]
    acts = {one.seq: one for one in written.decisions}
    happened += [(one.at, _decided(one)) for one in written.decisions]
    happened += [(one.at, _vouched(one)) for one in written.vouches]
    for void in written.voided:
        act = acts[void.decision]
        told = f"{void.by} took back: {_decided(act)}" if void.by else f"not done: {act.action}"
        happened.append((void.at, told))
    happened += [(one.at, _ended(one, acts.get(one.decision))) for one in written.outcomes]
    happened += [
        (one.at, f"{one.by} says it did harm ({acts[one.decision].action}): {one.reason}")
        for one in written.harms
    ]
    # What has the same time stays in this order: sorting is stable.
    happened.sort(key=lambda event: event[0])
    return [{"at": utc(at), "what": plain(text).plain} for at, text in happened]


def told(events: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(when, what happened) of what `story` has published, on the reader's clock."""
    return [(local(one["at"], "%Y-%m-%d %H:%M:%S %z"), one["what"]) for one in events]


def plans(written: Story) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, plan) of each act that went through the door, oldest first."""
    void = {one.decision for one in written.voided if one.by is None}
    return [
        (f"The plan of {one.action}, {local(utc(one.at))}", one.plan)
        for one in written.decisions
        if one.plan and one.kind in ("approve", "auto") and one.seq not in void
    ]


def proposed(document: Mapping[str, Any]) -> str:
    """What is to be done, by an incident's document or a judgement's."""
    if nothing := nothing_proposed(document):
        return nothing
    diagnosis = document["diagnosis"]
    params = ", ".join(f"{name}={value}" for name, value in diagnosis["params"].items())
    return f"{diagnosis['action']} ({params})" if params else str(diagnosis["action"])


def _judged(judgements: tuple[Judgement, ...]) -> Iterator[Event]:
    """Each time that something else was thought of it than the time before."""
    before = ""
    for one in judgements:
        diagnosis = one.document.get("diagnosis") or {}
        gate = one.document.get("gate") or {}
        if not diagnosis:
            continue
        alone = "may be done alone" if gate.get("passed") else "waits for a person"
        reasons = "; ".join(gate.get("reasons") or ())
        told = f"judged: proposes {proposed(one.document)}; {alone}"
        told += f" ({reasons})" if reasons else ""
        if told != before:
            yield one.at, told
        before = told


def _left(one: Snooze) -> str:
    """A time that was over already is how a snooze is taken back."""
    length = round((one.until - one.at).total_seconds())
    return f"{one.by} left it for {span(length)}" if length > 0 else f"{one.by} took it up again"


def _decided(one: Decision) -> str:
    params = ", ".join(f"{name}={value}" for name, value in one.params.items())
    action = f"{one.action or ''} ({params})" if params else one.action or ""
    word = {
        "approve": f"{one.by} approved {action}",
        "reject": f"{one.by} turned down {action or 'it'}",
        "auto": f"{action} was done alone" + (f", as grant {one.grant} allows" * bool(one.grant)),
        "shadow": f"{action} would have been done alone",
        "superseded": "somebody else acted on it",
    }[one.kind]
    said = ": ".join(text for text in (one.reason, one.cause) if text)
    return f"{word}: {said}" if said else word


def _vouched(one: Vouch) -> str:
    may = "may run again" if one.safe else "may not run again by itself"
    scope = "whatever fails" if one.fingerprint is None else "after this failure"
    return f"{one.by} vouched: {one.task_id} {may}, {scope}" + (
        f": {one.reason}" if one.reason else ""
    )


def _ended(one: Outcome, act: Decision | None) -> str:
    tried = "" if one.try_number is None else f" (try {one.try_number})"
    of = f"{act.action} " if act and act.action else ""
    detail = f": {one.detail}" if one.detail else ""
    return f"checked: {of}{one.outcome}, {_OUTCOMES[one.outcome]}{tried}{detail}"
