"""What a stretch of time says: stored incidents and Airflow's run counts → one Report. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Literal

from aiops_cli.published import utc
from aiops_cli.report_value import (
    LISTED,
    SHOWN,
    Acts,
    Closed,
    DagRow,
    Day,
    Failure,
    Fix,
    PlainRetry,
    Report,
    Shadow,
    Span,
    TaskRow,
    Times,
    Wrong,
)
from knowledge.lessons import PROMPT
from knowledge.records import Brief, Decision, Lesson

Ending = Literal["alone", "person", "elsewhere", "unfixed", "waiting"]
DagKey = tuple[str, str]  # instance, DAG

SHOWN_CAUSES = 3
NO_CHANGE = ("none", None)


def report(
    briefs: Sequence[Brief],
    *,
    since: datetime,
    until: datetime,
    instance: str | None = None,
    runs: Mapping[DagKey, int] | None = None,
    unwritten: Collection[str] = (),
    missing: Sequence[str] = (),
) -> Report:
    """`briefs` are the incidents that failed between `since` and `until`; `runs` the ended runs of
    each DAG that Airflow was asked about; `unwritten` the fingerprints no runbook answers to."""
    failures = by_signature(briefs)
    acted = [(one, decision) for one in briefs for decision in acts(one)]
    in_tries = sum(one.duration or 0 for one in briefs)
    until_fixed = sum(_seconds(_fixed_after(one)) for one in briefs)
    return Report(
        since=since,
        until=until,
        instance=instance,
        incidents=len(briefs),
        signatures=len(failures),
        recurring=sum(one.count > 1 for one in failures),
        lost=round(in_tries + until_fixed),
        lost_in_tries=round(in_tries),
        lost_until_fixed=round(until_fixed),
        closed=_closed(briefs),
        plain_retry=_plain_retry(briefs),
        alone=_acts(acted, alone=True),
        people=_acts(acted, alone=False),
        wrong=tuple(_wrong(acted))[:SHOWN],
        times=_times(acted),
        shadow=_shadow(briefs),
        failures=tuple(one for one in failures if one.count > 1)[:SHOWN],
        novel=tuple(one for one in failures if one.fingerprint in unwritten)[:SHOWN],
        dags=_dags(briefs, runs or {})[:LISTED],
        tasks=_tasks(briefs)[:LISTED],
        per_day=_per_day(briefs, since, until),
        missing=tuple(missing),
    )


# ---- one incident ----


def acts(brief: Brief) -> list[Decision]:
    """What was done about it, oldest first: decisions that acted and stand."""
    return [
        one
        for one in brief.decisions
        if one.kind in ("approve", "auto") and one.action not in NO_CHANGE
    ]


def harmed(brief: Brief, decision: Decision) -> bool:
    return any(harm.decision == decision.seq for harm in brief.harms)


def undone(brief: Brief, decision: Decision) -> bool:
    """Whether a person undid the act: what has turned green or was under way is said no to only
    by putting it back."""
    return brief.outcome_of(decision) in ("fixed", "superseded") and any(
        one.kind == "reject" and one.action == decision.action and one.seq > decision.seq
        for one in brief.decisions
    )


def ending(brief: Brief) -> Ending:
    """How it ended, as Closed has it."""
    decision, status = brief.decision, brief.status
    if decision is None or status in ("pending", "acting", "needs_human"):
        return "waiting"
    if status == "superseded":
        return "elsewhere"
    if status == "failed" or harmed(brief, decision):
        return "unfixed"
    if status == "rejected" and any(came_of(brief, one) != "open" for one in acts(brief)):
        return "unfixed"
    return "alone" if decision.kind == "auto" else "person"


def done_elsewhere(brief: Brief) -> Lesson | None:
    """What a person did in Airflow itself, where it is known what that was and how it ended."""
    lesson = brief.lesson
    known = lesson and lesson.mode == "person" and lesson.action and lesson.outcome != "unknown"
    return lesson if known and ending(brief) == "elsewhere" else None


def _fixed_after(brief: Brief) -> timedelta | None:
    """From the failure until it was seen fixed; None where it was not, not for good, or with harm
    done."""
    decision, elsewhere = brief.decision, done_elsewhere(brief)
    if elsewhere is not None and elsewhere.outcome == "fixed" and elsewhere.ended_at:
        return max(elsewhere.ended_at - brief.failed_at, timedelta())
    if decision is None or brief.outcome_of(decision) != "fixed" or harmed(brief, decision):
        return None
    return max(brief.outcomes[-1].at - brief.failed_at, timedelta())


def _seconds(span: timedelta | None) -> float:
    return span.total_seconds() if span else 0.0


# ---- how they ended ----


def _closed(briefs: Iterable[Brief]) -> Closed:
    ended: Counter[Ending] = Counter()
    people: Counter[str] = Counter()
    for one in briefs:
        how = ending(one)
        ended[how] += 1
        if how == "person" and one.decision is not None:
            people[one.decision.by] += 1
    return Closed(
        alone=ended["alone"],
        people=dict(people.most_common()),
        elsewhere=ended["elsewhere"],
        unfixed=ended["unfixed"],
        waiting=ended["waiting"],
    )


def _plain_retry(briefs: Iterable[Brief]) -> PlainRetry:
    told: Counter[str] = Counter(
        answer for one in briefs if (answer := _if_retried(one)) is not None
    )
    return PlainRetry(told.total(), told["right"], told["wasted"], told["harmful"])


def _if_retried(brief: Brief) -> Literal["right", "wasted", "harmful"] | None:
    """What a plain retry at once would have done; None where nobody can know."""
    decision, elsewhere = brief.decision, done_elsewhere(brief)
    if elsewhere is not None:
        if (elsewhere.action, elsewhere.outcome) != ("retry", "fixed"):
            return "wasted"
        return "right" if elsewhere.at - elsewhere.failed_at <= PROMPT else None
    if decision is None or decision.kind in ("shadow", "superseded"):
        return None
    if any(harmed(brief, one) for one in acts(brief)):
        return "harmful"
    if decision.kind == "reject":  # a no to another action says nothing of a retry
        return "wasted" if decision.action in {*_AGAIN, None} else None
    if decision.action in NO_CHANGE:
        return "wasted"
    outcome = brief.outcome_of(decision)
    if outcome == "fixed" and decision.action in _AGAIN:
        return "right" if decision.action == "retry" else None  # would one at once have done?
    return "wasted" if outcome in ("fixed", "failed", "relapsed") else None


def _acts(acted: Iterable[tuple[Brief, Decision]], *, alone: bool) -> Acts:
    told: Counter[str] = Counter(
        came_of(brief, decision) for brief, decision in acted if (decision.kind == "auto") is alone
    )
    return Acts(done=told.total(), **told)


def came_of(brief: Brief, decision: Decision) -> str:
    """What came of an act, as Acts counts it."""
    if harmed(brief, decision):
        return "wrong"
    if undone(brief, decision):
        return "undone"
    outcome = brief.outcome_of(decision)
    return outcome if outcome in ("fixed", "failed", "relapsed") else "open"


def _wrong(acted: Iterable[tuple[Brief, Decision]]) -> list[Wrong]:
    """Newest word first; of one act the last word."""
    found = [
        Wrong(
            incident=brief.incident_id,
            dag_id=brief.dag_id,
            task_id=brief.task_id,
            action=str(decision.action),
            alone=decision.kind == "auto",
            by=harm.by,
            at=harm.at,
            reason=harm.reason,
        )
        for brief, decision in acted
        for harm in [one for one in brief.harms if one.decision == decision.seq][-1:]
    ]
    return sorted(found, key=lambda one: one.at, reverse=True)


def _times(acted: Sequence[tuple[Brief, Decision]]) -> Times:
    first = {brief.incident_id: (brief, decision) for brief, decision in reversed(acted)}

    def spans(alone: bool) -> tuple[Span, Span]:
        mine = [pair for pair in first.values() if (pair[1].kind == "auto") is alone]
        retried = [max(one.at - brief.failed_at, timedelta()) for brief, one in mine]
        fixed = [
            after
            for brief, decision in acted
            if (decision.kind == "auto") is alone
            and decision == brief.decision
            and (after := _fixed_after(brief)) is not None
        ]
        return _span(retried), _span(fixed)

    (retry_alone, fix_alone), (retry_people, fix_people) = spans(True), spans(False)
    return Times(retry_alone, retry_people, fix_alone, fix_people)


def _span(times: Sequence[timedelta]) -> Span:
    if not times:
        return Span(0, None, None)
    seconds = sorted(one.total_seconds() for one in times)
    ninth = seconds[math.ceil(0.9 * len(seconds)) - 1]
    return Span(len(seconds), round(median(seconds)), round(ninth))


def _shadow(briefs: Iterable[Brief]) -> Shadow:
    told: Counter[str] = Counter(
        _after_shadow(one, written) for one in briefs if (written := _written(one)) is not None
    )
    return Shadow(wrote=told.total(), **{name: told[name] for name in _SHADOWED})


_AGAIN = {"retry", "retry_later"}
_SHADOWED = ("same", "otherwise", "elsewhere", "waiting")


def _written(brief: Brief) -> Decision | None:
    """What shadow wrote last."""
    return next((one for one in reversed(brief.decisions) if one.kind == "shadow"), None)


def _after_shadow(brief: Brief, written: Decision) -> str:
    """What the first decision after it says of it."""
    later = next((o for o in brief.decisions if o.seq > written.seq and o.kind != "shadow"), None)
    if later is None:
        return "waiting"
    elsewhere = done_elsewhere(brief)
    if elsewhere is not None:
        # Airflow's own screen knows one way to run it again, whenever that is done.
        same = elsewhere.action == written.action or {elsewhere.action, written.action} == _AGAIN
        return "same" if same else "otherwise"
    if later.kind in ("auto", "superseded"):
        return "elsewhere"
    same = (later.action, later.params) == (written.action, written.params)
    return "same" if same and later.kind == "approve" else "otherwise"


# ---- what failed ----


def by_signature(briefs: Sequence[Brief]) -> list[Failure]:
    """The most frequent first, of equally frequent ones the dearest. A failure that left no
    signature cannot be told from another one, and is not among them."""
    groups = _grouped(briefs, lambda one: one.fingerprint)
    groups.pop("", None)
    made = [_failure(members) for members in groups.values()]
    return sorted(made, key=lambda one: (-one.count, -one.lost, one.fingerprint))


def _failure(members: Sequence[Brief]) -> Failure:
    newest = max(members, key=lambda one: one.failed_at)
    tasks = Counter(_task(one) for one in members)
    return Failure(
        fingerprint=newest.fingerprint,
        headline=newest.headline,
        error_class=newest.error_class,
        count=len(members),
        days=len({str(utc(one.failed_at))[:10] for one in members}),
        dags=len({(one.instance, one.dag_id) for one in members}),
        tasks=len({(one.instance, one.dag_id, one.task_id) for one in members}),
        task=tasks.most_common(1)[0][0],
        first_seen=min(one.failed_at for one in members),
        last_seen=newest.failed_at,
        lost=_lost(members),
        waiting=sum(ending(one) == "waiting" for one in members),
        fixes=fixes(members),
        causes=causes(members)[:SHOWN_CAUSES],
        incident=newest.incident_id,
    )


def fixes(members: Iterable[Brief]) -> tuple[Fix, ...]:
    """By action, what fixed most often first; `none` is what a person answered with, last."""
    told: dict[str, Counter[str]] = {}
    for brief in members:
        for decision in acts(brief):
            told.setdefault(str(decision.action), Counter())[came_of(brief, decision)] += 1
        newest = brief.decision
        if newest and newest.kind in ("approve", "auto") and newest.action == "none":
            told.setdefault("none", Counter())["answered"] += 1
        elsewhere = done_elsewhere(brief)
        if elsewhere is not None:
            told.setdefault(str(elsewhere.action), Counter())[elsewhere.outcome] += 1
    made = [
        Fix(
            action,
            c.total(),
            c["fixed"],
            c["failed"],
            c["relapsed"],
            c["wrong"],
            c["undone"],
        )
        for action, c in told.items()
    ]
    return tuple(sorted(made, key=lambda one: (-one.fixed, -one.done, one.action)))


def causes(members: Iterable[Brief]) -> tuple[str, ...]:
    """What people said it was, most often first."""
    said = Counter(
        one.cause.strip()
        for brief in members
        for one in brief.decisions
        if one.kind in ("approve", "reject") and one.cause.strip()
    )
    return tuple(cause for cause, _ in said.most_common())


def worst_dags(briefs: Iterable[Brief]) -> list[DagKey]:
    """Those with most incidents first; import errors belong to a file, not to a DAG."""
    counted = Counter((one.instance, one.dag_id) for one in briefs if one.kind != "import")
    return sorted(counted, key=lambda key: (-counted[key], key))


def _dags(briefs: Sequence[Brief], runs: Mapping[DagKey, int]) -> tuple[DagRow, ...]:
    groups = _grouped(
        [one for one in briefs if one.kind != "import"], lambda one: (one.instance, one.dag_id)
    )
    return tuple(_dag(key, groups[key], runs.get(key)) for key in worst_dags(briefs))


def _dag(key: DagKey, members: Sequence[Brief], runs: int | None) -> DagRow:
    failed = len({one.run_id for one in members})
    # A run that was cleared and is not done again has no end, and is not among Airflow's.
    ended = None if runs is None else max(runs, failed)
    return DagRow(
        *key,
        count=len(members),
        failed_runs=failed,
        runs=ended,
        rate=round(failed / ended, 4) if ended else None,
        lost=_lost(members),
    )


def _tasks(briefs: Sequence[Brief]) -> tuple[TaskRow, ...]:
    groups = _grouped(
        [one for one in briefs if one.kind == "task"],
        lambda one: (one.instance, one.dag_id, one.task_id),
    )
    made = [
        TaskRow(instance, dag, task, len(members), _lost(members))
        for (instance, dag, task), members in groups.items()
    ]
    return tuple(sorted(made, key=lambda one: (-one.count, -one.lost, one.dag_id, one.task_id)))


def _per_day(briefs: Iterable[Brief], since: datetime, until: datetime) -> tuple[Day, ...]:
    """Every day of the time, those without a failure too."""
    counted: dict[str, Counter[bool]] = {}
    for one in briefs:
        day = str(utc(one.failed_at))[:10]
        counted.setdefault(day, Counter())[ending(one) == "alone"] += 1
    first, last = (str(utc(moment))[:10] for moment in (since, until))
    days = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).days
    start = datetime.fromisoformat(first)
    named = [f"{start + timedelta(days=number):%Y-%m-%d}" for number in range(days + 1)]
    none: Counter[bool] = Counter()
    return tuple(
        Day(day, counted.get(day, none).total(), counted.get(day, none)[True]) for day in named
    )


def _lost(members: Iterable[Brief]) -> int:
    return round(sum((one.duration or 0) + _seconds(_fixed_after(one)) for one in members))


def _task(brief: Brief) -> str:
    return {"run": f"{brief.dag_id} (run)", "import": brief.run_id}.get(
        brief.kind, f"{brief.dag_id}.{brief.task_id}"
    )


def _grouped(briefs: Iterable[Brief], key: Callable[[Brief], Any]) -> dict[Any, list[Brief]]:
    groups: dict[Any, list[Brief]] = {}
    for one in briefs:
        groups.setdefault(key(one), []).append(one)
    return groups
