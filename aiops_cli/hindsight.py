"""What a grant would have done in the last weeks, by the record. Pure.

Each failure is judged once, when it was first seen, by what was stored before: entries, decisions,
outcomes and vouches. What was not stored is taken as it should be: Airflow healthy, the DAG not
paused, no note and no hold, the try still failed. Only exact answers are replayed, and old outcomes
do not fade. Acts that would have been done follow each other under the brakes, each with the end
that somebody's same act had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

from aiops_cli import gate
from aiops_cli.actions import who_may
from aiops_cli.config import Settings
from aiops_cli.diagnosis import ladder
from aiops_cli.incidents import Dag, DagRun, Diagnosis, Health, TaskInstance, TaskRef, Verdict
from knowledge.evidence import weigh
from knowledge.records import (
    ActsAlone,
    Breaker,
    Brief,
    Case,
    Decision,
    Entry,
    Grant,
    Incident,
    Match,
    Trial,
    TrialOutcome,
    Vouch,
)
from knowledge.signature import KILLED, LOST
from knowledge.stores import breaker

# What became of it in truth: a person did the same, something else, or said no; the tool did it
# alone already; somebody acted in Airflow; nobody has decided.
Then = Literal["same", "otherwise", "rejected", "alone", "by_hand", "undecided"]
BRAKES = ("attempts", "budget", "breaker")
NO_MATCH_IS_NEAR = 1.1  # a bound that none reaches
ANY_LEAD = 0.01  # exact answers that differ have none
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Act:
    """One act that the grant would have let through, and how it ended where somebody did the same
    (`known` is when that was known)."""

    incident: Incident
    at: datetime
    action: str
    then: Then
    outcome: TrialOutcome | None = None
    known: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hindsight:
    """`incidents` are the failures in the grant's DAGs; `stopped` those that only a brake kept
    back, by brake; `left` those left to people, by the first check that did not pass."""

    since: datetime
    incidents: int
    acts: tuple[Act, ...] = ()
    stopped: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


def look_back(
    cases: Iterable[Case],
    briefs: Iterable[Brief],
    entries: Iterable[Entry],
    vouches: Callable[[str, str, str], Sequence[Vouch]],
    grant: Grant,
    settings: Settings,
    since: datetime,
) -> Hindsight:
    """Replay `cases`, the failures since then. `briefs` are all incidents that are stored and
    `entries` all live ones; `vouches` tells what was said of (instance, dag_id, task_id)."""
    record: dict[str, list[Brief]] = {}
    own: dict[str, Brief] = {}
    for brief in briefs:
        record.setdefault(brief.fingerprint, []).append(brief)
        own[brief.incident_id] = brief
    known: dict[str, list[Match]] = {}
    for entry in entries:
        for place, symptom in enumerate(entry.symptoms):
            match = Match(entry, 1.0, "exact", place)
            known.setdefault(symptom.signature.fingerprint, []).append(match)
    acts: list[Act] = []
    stopped, left = Counter[str](), Counter[str]()
    replayed = sorted(
        (one.incident for one in cases if _covers(grant, one.incident)), key=lambda one: one.seen_at
    )
    for incident in replayed:
        print_, now = incident.signature.fingerprint, incident.seen_at
        matches = [m for m in known.get(print_, ()) if print_ and m.entry.created_at < now]
        diagnosis = ladder.diagnose(incident, matches, bound=NO_MATCH_IS_NEAR)
        trials = [trial for one in record.get(print_, ()) for trial in _trials(one, incident, now)]
        words = vouches(incident.instance, incident.dag_id, incident.task_id)
        said = [word for word in words if word.at < now]
        verdict = _judged(incident, diagnosis, trials, said, acts, grant, settings)
        failed = [check.name for check in verdict.checks if not check.passed]
        if not failed:
            acts.append(_act(incident, own[incident.id], str(diagnosis.action)))
        elif set(failed) <= set(BRAKES):
            stopped[failed[0]] += 1
        else:
            left[next(name for name in failed if name not in BRAKES)] += 1
    return Hindsight(since, len(replayed), tuple(acts), dict(stopped), dict(left))


def _covers(grant: Grant, incident: Incident) -> bool:
    return incident.kind == "task" and any(fnmatchcase(incident.dag_id, dag) for dag in grant.dags)


def _judged(
    incident: Incident,
    diagnosis: Diagnosis,
    trials: Sequence[Trial],
    vouches: Sequence[Vouch],
    acts: Sequence[Act],
    grant: Grant,
    settings: Settings,
) -> Verdict:
    context, own = incident.context, settings.gate
    tags = tuple(context.get("tags") or ())
    ref = TaskRef(incident.dag_id, incident.run_id, incident.task_id, incident.map_index)
    forbidden = any(match.entry.safe_to_retry is False for match in diagnosis.matches)
    return gate.judge(
        gate.Circumstances(
            incident=incident,
            diagnosis=diagnosis,
            bounds=gate.Bounds(1.0, own.margin or ANY_LEAD),
            now=incident.seen_at,
            killed=incident.signature.error_class in (KILLED, LOST),
            evidence=weigh(
                trials,
                action=diagnosis.action or "",
                params=diagnosis.params,
                instance=incident.instance,
                dag_id=incident.dag_id,
                task_id=incident.task_id,
                now=incident.seen_at,
                relapse_window=settings.relapse_window,
            ),
            rerun=gate.rerun_safety(
                incident,
                vouches=vouches,
                tags=tags,
                patterns=settings.rerun_safe,
                retries=context.get("retries") or 0,
                trust_retries=own.trust_retries,
                now=incident.seen_at,
                stands_after=own.vouch_after,
            ),
            entry_safe_to_retry=False if forbidden else None,
            suggestion_only=bool(diagnosis.matches) and diagnosis.matches[0].entry.suggestion_only,
            who_may=who_may(settings.actions, diagnosis.action or "", settings.two_people),
            grants=(grant,),
            usage=_usage(incident, acts),
            attempts_per_day=own.attempts_per_day,
            max_per_hour=own.max_per_hour,
            max_per_dag_hour=own.max_per_dag_hour,
            per_storm=own.max_per_storm,
            recent=own.recent,
            protected=settings.protected,
            dag=Dag(incident.dag_id, tags=tags),
            run=DagRun(
                incident.dag_id, incident.run_id, "failed", context.get("run_type") or "scheduled"
            ),
            live=TaskInstance(
                ref, "failed", incident.try_number, incident.try_number, id=incident.ti_id
            ),
            health=Health(),
        )
    )


def _trials(brief: Brief, incident: Incident, now: datetime) -> Iterable[Trial]:
    """What was decided about another incident of the signature, as far as it was known by then."""
    for decision in brief.decisions:
        counts = decision.kind in ("approve", "auto", "reject") and decision.action
        if not counts or decision.action == "none" or decision.at >= now:
            continue
        yield Trial(
            incident_id=brief.incident_id,
            instance=brief.instance,
            dag_id=brief.dag_id,
            run_id=brief.run_id,
            task_id=brief.task_id,
            map_index=-1,  # nobody asks
            fingerprint=brief.fingerprint,
            action=str(decision.action),
            params=decision.params,
            mode="auto" if decision.kind == "auto" else "person",
            at=decision.at,
            outcome=_end(brief, decision, now)[0],
            signature_version=incident.signature.version,
        )


def _end(
    brief: Brief, decision: Decision, by: datetime | None = None
) -> tuple[TrialOutcome | None, datetime | None]:
    """What came of a decision, and when that was known; only what was known before `by`."""
    if decision.kind == "reject":
        return "rejected", decision.at
    for harm in brief.harms:
        if harm.decision == decision.seq and (by is None or harm.at < by):
            return "wrong", harm.at
    for one in reversed(brief.outcomes):
        if one.decision == decision.seq and (by is None or one.at < by):
            return one.outcome, one.at
    return None, None


def _act(incident: Incident, brief: Brief, action: str) -> Act:
    decision = brief.decision
    if decision is None or decision.kind == "shadow":
        return Act(incident, incident.seen_at, action, "undecided")
    if decision.kind == "superseded":
        return Act(incident, incident.seen_at, action, "by_hand")
    if decision.kind == "reject":
        return Act(incident, incident.seen_at, action, "rejected", "rejected", decision.at)
    if decision.action != action:
        return Act(incident, incident.seen_at, action, "otherwise")
    then: Then = "alone" if decision.kind == "auto" else "same"
    return Act(incident, incident.seen_at, action, then, *_end(brief, decision))


def _usage(incident: Incident, acts: Sequence[Act]) -> ActsAlone:
    """As `Store.acts_alone` counts, of the acts that would have been done by then. A rejection
    stands for an act that would have gone wrong."""
    now = incident.seen_at
    hour = [act.incident for act in acts if act.at > now - HOUR]
    storm = [act for act in acts if incident.group and act.incident.group == incident.group]
    ended = [act.outcome if act.known and act.known <= now else None for act in storm]
    alike = [act for act in acts if _signature(act.incident) == _signature(incident)]
    return ActsAlone(
        task_instance_day=sum(
            _place(act.incident) == _place(incident) for act in acts if act.at > now - DAY
        ),
        hour=len(hour),
        dag_hour=sum(_place(one)[:2] == _place(incident)[:2] for one in hour),
        signature_breaker=_breaker(alike, breaker.WRONG_OF_SIGNATURE, now),
        breaker=_breaker(acts, breaker.WRONG_IN_ALL, now),
        storm_running=ended.count(None),
        storm_fixed=ended.count("fixed"),
        storm_failed=sum(one not in (None, "fixed", "superseded") for one in ended),
    )


def _breaker(acts: Sequence[Act], threshold: int, now: datetime) -> Breaker:
    """Of acts whose end nobody knows none is waited for."""
    said = {"rejected": "wrong"}
    ends = [
        breaker.End(act.known, said.get(act.outcome, act.outcome))
        for act in acts
        if act.known and act.known <= now and act.outcome not in (None, "fixed", "superseded")
    ]
    return breaker.breaker(
        ends,
        threshold,
        now,
        fixed=lambda since, by: any(
            act.outcome == "fixed" and act.known and act.at >= since and act.known <= by
            for act in acts
        ),
        running=lambda since: any(
            act.known is not None and act.at >= since and act.known > now for act in acts
        ),
    )


def _signature(incident: Incident) -> str:
    return incident.signature.fingerprint


def _place(incident: Incident) -> tuple[object, ...]:
    """The task instance, whatever the try."""
    return (
        *(incident.instance, incident.dag_id, incident.task_id),
        *(incident.run_id, incident.map_index),
    )
