"""What the pages read and do, through the same services as the command line.

Each call opens what it needs and closes it: pages are made in threads, and none of them holds a
lock while a person reads. All of them raise AiopsError and KnowledgeError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from aiops_cli import decide, respond, services
from aiops_cli.commands import typed
from aiops_cli.commands.deeds import AT_ONCE
from aiops_cli.config import Settings
from aiops_cli.dashboard.values import state
from aiops_cli.decide import UNDECIDED, Proposal
from aiops_cli.errors import AiopsError, Refused
from aiops_cli.examine import Desk
from aiops_cli.incidents import Plan
from aiops_cli.pace import ahead
from knowledge.base import symptom
from knowledge.errors import DoorClosed, KnowledgeError, ModelUnavailable
from knowledge.lessons import briefs_apart
from knowledge.records import (
    Brief,
    Case,
    Entry,
    Hold,
    Line,
    Match,
    Pause,
    Status,
    Story,
    in_force,
)
from knowledge.stores import Store

PAGE = 20  # incidents or entries


@dataclass(frozen=True, slots=True)
class Edit:
    """What a person would do instead of what is proposed; None leaves it as it is. `rerun_safe` is
    their word for the whole task, None for this failure of it alone."""

    action: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    cause: str | None = None
    rerun_safe: bool | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a person looks at before saying yes: `plan` is None where nothing is run, `state` is
    how the incident stood."""

    incident: str
    edit: Edit
    proposed: Proposal
    plan: Plan | None
    state: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ShownStorm:
    """What a person looks at before saying yes to many at once: what would be done, and, by name,
    what cannot be done and why."""

    shown: tuple[Shown, ...]
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of incidents, the shortest prefixes of their ids and of their groups', whether
    there are more, and by id the holds in force on them, where there are any."""

    lines: tuple[Line, ...]
    short: Mapping[str, str]
    more: bool
    holds: Mapping[str, tuple[Hold, ...]]


@dataclass(frozen=True, slots=True)
class Known:
    """Entries that fit a text, best first; `told` is why only the very same ones were found."""

    matches: tuple[Match, ...]
    told: str = ""


# ---- reading ----


def incidents(
    settings: Settings,
    *,
    instance: str | None,
    statuses: Sequence[Status],
    dag: str = "",
    since: timedelta | None = None,
    snoozed: bool | None = None,
    together: int | None = None,
    page: int = 0,
) -> Listed:
    """The newest failures first, of which no more are read than the page shows. Of a group of
    which at least `together` fit, one stands for all."""
    start = None if since is None else services.SystemClock().now() - since
    with services.store(settings) as store:
        lines = store.lines(
            status=statuses,
            instance=instance,
            dag=dag or None,
            since=start,
            snoozed=snoozed,
            together=together,
            limit=PAGE + 1,
            offset=page * PAGE,
        )
        shown = lines[:PAGE]
        groups = {line.case.incident.group for line in shown if line.count > 1}
        ids = [line.case.incident.id for line in shown]
        short = store.shortest_prefixes([*ids, *filter(None, groups)])
        return Listed(shown, short, len(lines) > PAGE, _holds(store, ids))


def _holds(store: Store, ids: Sequence[str]) -> dict[str, tuple[Hold, ...]]:
    """Those in force, by incident. Mostly there is none at all, which is asked once."""
    now = services.SystemClock().now()
    if not any(in_force(hold, now) for hold in store.holds()):
        return {}
    return {id_: found for id_ in ids if (found := store.holds_on(id_))}


def pause(settings: Settings) -> Pause:
    """Whether acting alone is stopped for all who share the base, or here. The toggle `pause_dag`
    in Airflow is not asked: it stands in what the next judgement says."""
    if settings.paused:
        return Pause(True, by="AIOPS_PAUSED")
    with services.store(settings) as store:
        return store.pause()


def waiting_count(settings: Settings, instance: str | None) -> int:
    """How many wait for a person, those left for later too."""
    with services.store(settings) as store:
        counts = store.counts(instance)
    return sum(counts[status] for status in UNDECIDED)


def incident(settings: Settings, id_: str) -> tuple[Case, tuple[Hold, ...]]:
    """It, and the holds in force on it."""
    with services.store(settings) as store:
        case = store.case(id_)
        return case, store.holds_on(case.incident.id)


def story(settings: Settings, id_: str) -> Story:
    """Everything that was ever written of an incident."""
    with services.store(settings) as store:
        return store.story(id_)


def storm(settings: Settings, group: str) -> Listed:
    """Those of a group that wait for a person, newest first; of very many the newest AT_ONCE."""
    with services.store(settings) as store:
        found = store.cases(group=group, status=UNDECIDED, limit=AT_ONCE + 1)
        waiting = found[:AT_ONCE]
        ids = [case.incident.id for case in waiting]
        short = store.shortest_prefixes(ids)
        return Listed(tuple(map(Line, waiting)), short, len(found) > AT_ONCE, _holds(store, ids))


def briefs(settings: Settings, since: timedelta, instance: str | None) -> tuple[Brief, ...]:
    with services.store(settings) as store:
        found = store.briefs(since=services.SystemClock().now() - since, instance=instance)
    return briefs_apart(found, settings.machine_logins)


def search(settings: Settings, text: str) -> Known:
    with services.knowledge_base(settings) as knowledge:
        signature = symptom(text).signature
        try:
            return Known(knowledge.find(signature, limit=PAGE))
        except ModelUnavailable as error:
            told = f"only the very same failures were looked for: {error.message}"
            return Known(knowledge.exact(signature), told)


def entries(settings: Settings, *, retired: bool, page: int = 0) -> tuple[tuple[Entry, ...], bool]:
    """A page of them, and whether there are more: one's own first, then those that came with
    aiops, the newest first."""
    with services.knowledge_base(settings) as knowledge:
        known = knowledge.store.entry_page(retired=retired, limit=PAGE + 1, offset=page * PAGE)
    return known[:PAGE], len(known) > PAGE


def entry(settings: Settings, id_: str) -> tuple[Entry, Mapping[str, int]]:
    """The entry and what came of it."""
    with services.knowledge_base(settings) as knowledge:
        found = knowledge.store.entry(id_)
        return found, knowledge.record(found)


# ---- deciding ----


def plan(settings: Settings, id_: str, edit: Edit) -> Shown:
    """What saying yes would do now. Nothing is done or written, but that Airflow is asked."""
    case, holds = incident(settings, id_)
    with services.desk(_of(settings, case)) as desk:
        return _plan(desk, case, holds, edit)


def plan_storm(settings: Settings, listed: Listed) -> ShownStorm:
    """What saying yes to all of them would do now, in this order: what several would change alike
    is changed once. Nothing is done or written. Raises what would be the same for all."""
    cases = [line.case for line in listed.lines]
    shown, refused = [], []
    first_of: dict[str, str] = {}
    with services.desk(_of(settings, cases[0])) as desk:

        def looked_at(case: Case) -> Shown:
            return _plan(desk, case, listed.holds.get(case.incident.id, ()), Edit())

        for case, ready in ahead(cases, looked_at, desk.settings.concurrency):
            try:
                one = ready.result()
            except AiopsError as error:
                if decide.ends_all(error):
                    raise
                refused.append((case.incident.id, error.message))
            else:
                if one.plan is not None:
                    plan = decide.with_shared(one.plan, one.proposed, one.incident, first_of)
                    one = replace(one, plan=plan)
                shown.append(one)
    return ShownStorm(tuple(shown), tuple(refused))


def _plan(desk: Desk, case: Case, holds: Sequence[Hold], edit: Edit) -> Shown:
    proposed = decide.proposal(case, edit.action, edit.params, edit.cause)
    made = None
    if proposed.action != "none":
        made = respond.preview(desk, case.incident, proposed.action, proposed.params, dry_run=True)
    return Shown(case.incident.id, edit, proposed, made, state(case, holds))


def approve(settings: Settings, shown: Shown) -> Case:
    """Do what was shown. Raises Refused where that is not what would be done now, or something
    was said of the incident since."""
    may_decide(settings)
    case, _ = incident(settings, shown.incident)
    with services.desk(_of(settings, case)) as desk:
        return _approve(desk, shown)


def approve_storm(settings: Settings, shown: Sequence[Shown]) -> list[tuple[str, str]]:
    """Do what was shown, one after the other, as `aiops approve` does with a group: by id what
    came of each. What of them `decide.ends_all` leaves the rest as it is."""
    may_decide(settings)
    told: list[tuple[str, str]] = []
    case, _ = incident(settings, shown[0].incident)
    with services.desk(_of(settings, case)) as desk:
        for one in shown:
            try:
                told.append((one.incident, typed.begun(_approve(desk, one))))
            except (AiopsError, KnowledgeError) as error:
                ends = decide.ends_all(error)
                left = "; what came after it was not tried" if ends else ""
                told.append((one.incident, error.message + left))
                if ends:
                    break
    return told


def _approve(desk: Desk, shown: Shown) -> Case:
    id_, edit = shown.incident, shown.edit
    case = desk.knowledge.store.case(id_)
    proposed = decide.proposal(case, edit.action, edit.params, edit.cause)
    if proposed != shown.proposed:
        raise Refused(
            f"the diagnosis of {id_} has changed since this page was shown: nothing was done",
            "look at the new one and decide again",
        )
    if state(case, desk.knowledge.store.holds_on(id_)) != shown.state:
        raise Refused(
            f"{id_} has changed since this page was shown: nothing was done",
            "look at it as it is now and decide again",
        )
    return decide.approve(desk, case, proposed, shown.plan, edit.rerun_safe)


def reject(settings: Settings, id_: str, reason: str, cause: str) -> Case:
    """A cause is remembered as the answer: a person has to fix it."""
    may_decide(settings)
    with services.knowledge_base(settings) as knowledge:
        return decide.reject(
            knowledge,
            knowledge.store.case(id_),
            by=settings.user,
            at=services.SystemClock().now(),
            reason=reason,
            action="none" if cause.strip() else None,
            cause=cause,
        )


def reject_storm(settings: Settings, ids: Sequence[str], reason: str) -> list[tuple[str, str]]:
    """By id what came of each."""
    may_decide(settings)
    decide.reason_given(reason)
    told = []
    for id_ in ids:
        try:
            reject(settings, id_, reason, "")
        except (Refused, DoorClosed) as error:
            told.append((id_, error.message))
        else:
            told.append((id_, "rejected"))
    return told


def remember(
    settings: Settings, id_: str, *, cause: str, action: str, params: Mapping[str, Any]
) -> Entry:
    """Store what this failure is, without acting on it."""
    may_decide(settings)
    with services.knowledge_base(settings) as knowledge:
        return decide.remember(
            knowledge,
            knowledge.store.case(id_),
            cause=cause,
            action=action,
            params=params,
            at=services.SystemClock().now(),
        )


def retire(settings: Settings, id_: str, reason: str) -> bool:
    """False where it was retired already."""
    may_decide(settings)
    with services.store(settings) as store:
        now = services.SystemClock().now()
        return bool(store.retire_entries([id_], settings.user, now, decide.reason_given(reason)))


def may_decide(settings: Settings) -> None:
    """Raises Refused for who may only look, whatever a page offered them."""
    if settings.read_only:
        raise Refused("here nothing can be decided: it is read only", "decide in a terminal")


def _of(settings: Settings, case: Case) -> Settings:
    """With the Airflow that it happened in."""
    return replace(settings, instance=case.incident.instance)
