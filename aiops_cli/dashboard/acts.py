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
from aiops_cli.config import Settings
from aiops_cli.decide import UNDECIDED, Proposal
from aiops_cli.errors import Refused
from aiops_cli.incidents import Plan
from knowledge.base import symptom
from knowledge.errors import ModelUnavailable
from knowledge.records import Brief, Case, Entry, Match, Status

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
    """What a person looks at before saying yes: `plan` is None where nothing is run."""

    incident: str
    edit: Edit
    proposed: Proposal
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of incidents, the shortest prefixes of their ids, and whether there are more."""

    cases: tuple[Case, ...]
    short: Mapping[str, str]
    more: bool


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
    page: int = 0,
) -> Listed:
    """The newest failures first; no more is read than what comes before the end of the page."""
    end = (page + 1) * PAGE
    start = None if since is None else services.SystemClock().now() - since
    with services.store(settings) as store:
        cases = store.cases(
            status=statuses,
            instance=instance,
            dag=dag or None,
            since=start,
            snoozed=snoozed,
            limit=end + 1,
        )
        shown = cases[page * PAGE : end]
        short = store.shortest_prefixes([case.incident.id for case in shown])
    return Listed(shown, short, more=len(cases) > end)


def waiting_count(settings: Settings, instance: str | None) -> int:
    """How many wait for a person, those left for later too."""
    with services.store(settings) as store:
        counts = store.counts(instance)
    return sum(counts[status] for status in UNDECIDED)


def incident(settings: Settings, id_: str) -> Case:
    with services.store(settings) as store:
        return store.case(id_)


def briefs(settings: Settings, since: timedelta, instance: str | None) -> tuple[Brief, ...]:
    with services.store(settings) as store:
        return store.briefs(since=services.SystemClock().now() - since, instance=instance)


def search(settings: Settings, text: str) -> Known:
    with services.knowledge_base(settings) as knowledge:
        signature = symptom(text).signature
        try:
            return Known(knowledge.find(signature, limit=PAGE))
        except ModelUnavailable as error:
            told = f"only the very same failures were looked for: {error.message}"
            return Known(knowledge.exact(signature), told)


def entries(settings: Settings, *, retired: bool) -> tuple[Entry, ...]:
    """One's own first, newest first, then those that came with aiops."""
    with services.knowledge_base(settings) as knowledge:
        known = knowledge.store.entries(retired=retired)
    own = [entry for entry in known if not entry.starter]
    return (*reversed(own), *(entry for entry in known if entry.starter))


def entry(settings: Settings, id_: str) -> tuple[Entry, Mapping[str, int]]:
    """The entry and what came of it."""
    with services.knowledge_base(settings) as knowledge:
        found = knowledge.store.entry(id_)
        return found, knowledge.record(found)


# ---- deciding ----


def plan(settings: Settings, id_: str, edit: Edit) -> Shown:
    """What saying yes would do now. Nothing is done or written, but that Airflow is asked."""
    case = incident(settings, id_)
    proposed = decide.proposal(case, edit.action, edit.params, edit.cause)
    if proposed.action == "none":
        return Shown(case.incident.id, edit, proposed, None)
    with services.desk(_of(settings, case)) as desk:
        made = respond.preview(desk, case.incident, proposed.action, proposed.params, dry_run=True)
    return Shown(case.incident.id, edit, proposed, made)


def approve(settings: Settings, shown: Shown) -> Case:
    """Do what was shown. Raises Refused where that is not what would be done now."""
    id_ = shown.incident
    with services.desk(_of(settings, incident(settings, id_))) as desk:
        case = desk.knowledge.store.case(id_)
        edit = shown.edit
        proposed = decide.proposal(case, edit.action, edit.params, edit.cause)
        if proposed != shown.proposed:
            raise Refused(
                f"the diagnosis of {id_} has changed since this page was shown: nothing was done",
                "look at the new one and decide again",
            )
        return decide.approve(desk, case, proposed, shown.plan, edit.rerun_safe)


def reject(settings: Settings, id_: str, reason: str, cause: str) -> Case:
    """A cause is remembered as the answer: a person has to fix it."""
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


def remember(
    settings: Settings, id_: str, *, cause: str, action: str, params: Mapping[str, Any]
) -> Entry:
    """Store what this failure is, without acting on it."""
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
    with services.store(settings) as store:
        now = services.SystemClock().now()
        return bool(store.retire_entries([id_], settings.user, now, decide.reason_given(reason)))


def _of(settings: Settings, case: Case) -> Settings:
    """With the Airflow that it happened in."""
    return replace(settings, instance=case.incident.instance)
