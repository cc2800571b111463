"""A report as a frozen value, and as the JSON that is published of it.

The names of its fields are those of the JSON; durations are whole seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from aiops_cli.published import utc

SHOWN = 10  # of each list, but for DAGs and tasks; the counts beside them are of all
LISTED = 50  # DAGs, each with a request to Airflow, and tasks


@dataclass(frozen=True, slots=True)
class Span:
    """How long something took, over `count` cases; None over none. `p90` by nearest rank."""

    count: int
    median: int | None
    p90: int | None


@dataclass(frozen=True, slots=True)
class Times:
    """From the failure to the decision that acted, and to the look that found it fixed."""

    retry_alone: Span
    retry_people: Span
    fix_alone: Span
    fix_people: Span


@dataclass(frozen=True, slots=True)
class Closed:
    """How the incidents ended, each counted once. `alone`: the tool acted and the task turned
    green. `people`: by name, fixed by an approved act, or answered with `none` or a no.
    `elsewhere`: somebody acted in Airflow itself, or it ran again there. `unfixed`: what was done
    failed, did not last, did harm, or was undone. `waiting`: nobody has decided, or it is under
    way."""

    alone: int
    people: Mapping[str, int]
    elsewhere: int
    unfixed: int
    waiting: int


@dataclass(frozen=True, slots=True)
class PlainRetry:
    """What running everything again at once would have done, where the right answer is `known`
    by now, from what the tool or a person did, in Airflow itself too. `right`: a retry did fix it.
    `wasted`: it needed something else, a retry failed, or a person said no to one. `harmful`:
    acting was called wrong. Of what a later retry fixed nobody knows whether one at once would
    have."""

    known: int
    right: int
    wasted: int
    harmful: int


@dataclass(frozen=True, slots=True)
class Acts:
    """What came of the acts; one called wrong is counted as such alone, and so is one that a
    person undid (`undone`). `open` is not settled, or nobody can say."""

    done: int = 0
    fixed: int = 0
    failed: int = 0
    relapsed: int = 0
    wrong: int = 0
    undone: int = 0
    open: int = 0


@dataclass(frozen=True, slots=True)
class Wrong:
    """An act that was called wrong."""

    incident: str
    dag_id: str
    task_id: str
    action: str
    alone: bool
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """What shadow wrote that it would have done, beside what a person then did, in Airflow itself
    too. `elsewhere`: what somebody did there is not known, or the tool acted."""

    wrote: int
    same: int
    otherwise: int
    elsewhere: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Fix:
    """What was done about one signature and what came of it; of `none` only `done` is counted."""

    action: str
    done: int
    fixed: int
    failed: int
    relapsed: int
    wrong: int
    undone: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """All incidents of one signature. `days` on which it was seen, of UTC; `lost` as in Report;
    `causes` what people said it was, most often first; `incident` the newest one."""

    fingerprint: str
    headline: str
    error_class: str
    count: int
    days: int
    dags: int
    tasks: int
    task: str
    first_seen: datetime
    last_seen: datetime
    lost: int
    waiting: int
    fixes: tuple[Fix, ...]
    causes: tuple[str, ...]
    incident: str


@dataclass(frozen=True, slots=True)
class DagRow:
    """`failed_runs` are runs with an incident, whatever became of them; `runs` all that ended in
    the same time as Airflow counts them, and `rate` the share, None where it was not asked."""

    instance: str
    dag_id: str
    count: int
    failed_runs: int
    runs: int | None
    rate: float | None
    lost: int


@dataclass(frozen=True, slots=True)
class TaskRow:
    instance: str
    dag_id: str
    task_id: str
    count: int
    lost: int


@dataclass(frozen=True, slots=True)
class Day:
    """A day of UTC."""

    day: str
    count: int
    alone: int


@dataclass(frozen=True, slots=True)
class Report:
    """See the module. `lost` is task time: the failed tries themselves and, of what was fixed,
    the time from the failure until it was seen fixed. Lists have the worst first;
    `novel` are signatures that no runbook answers to. `missing` says which rates are, and why."""

    since: datetime
    until: datetime
    instance: str | None
    incidents: int
    signatures: int
    recurring: int
    lost: int
    lost_in_tries: int
    lost_until_fixed: int
    closed: Closed
    plain_retry: PlainRetry
    alone: Acts
    people: Acts
    wrong: tuple[Wrong, ...]
    times: Times
    shadow: Shadow
    failures: tuple[Failure, ...]
    novel: tuple[Failure, ...]
    dags: tuple[DagRow, ...]
    tasks: tuple[TaskRow, ...]
    per_day: tuple[Day, ...]
    missing: tuple[str, ...] = ()


def document(value: Any) -> Any:
    """A Report, or a part of one, as JSON: its fields by name, times in UTC."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: document(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {name: document(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [document(item) for item in value]
    return utc(value) if isinstance(value, datetime) else value


def what_came_of(
    action: str,
    *,
    done: int,
    fixed: int,
    failed: int,
    relapsed: int,
    wrong: int,
    undone: int,
) -> str:
    """A Fix in words."""
    if action == "none":
        return f"left to a person {done}×"
    bad = {"failed": failed, "relapsed": relapsed, "called wrong": wrong, "undone": undone}
    told = [f"{name} {count}" for name, count in bad.items() if count]
    return ", ".join([f"{action} fixed {fixed} of {done}", *told])
