"""What a grant would have done in the last weeks, by the record.

Each failure is judged once, when it was first seen, by what was stored before: entries, what was
decided, what came of it, what was learned from Airflow, and who vouched. Where something was not
kept it is taken so that nothing is missing among the acts: Airflow was healthy, the DAG not
paused, no note and no hold, the try still failed and seen at once; an entry says what it says
today since it was first stored; old outcomes do not fade; a language model would have agreed. Only
what was retired since is left out: it answers nothing any more. Acts that would have been done
follow each other under the brakes, each with the end that somebody's same act had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

from aiops_cli import examine, gate
from aiops_cli.actions import who_may
from aiops_cli.config import Settings
from aiops_cli.diagnosis import ladder
from aiops_cli.incidents import Dag, DagRun, Diagnosis, Health, TaskInstance, Verdict
from knowledge import lessons, ranking
from knowledge.base import KnowledgeBase
from knowledge.errors import ModelUnavailable
from knowledge.evidence import tally, weigh
from knowledge.records import (
    ActsAlone,
    Breaker,
    Brief,
    Decision,
    Entry,
    Grant,
    Incident,
    Lesson,
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
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LONG = timedelta(days=36_500)


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
    back, by brake; `left` those left to people, by the first check that did not pass. `unheard` is
    why answers to similar failures were not found and are missing among the acts, or ""."""

    since: datetime
    incidents: int
    acts: tuple[Act, ...] = ()
    stopped: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    unheard: str = ""


def look_back(
    knowledge: KnowledgeBase,
    grant: Grant,
    settings: Settings,
    since: datetime,
    told: Callable[[int, int], object],
) -> Hindsight:
    """Replay the failures since then. `told` hears how many of how many were. Writes nothing.
    Raises EmbedderMismatch as `KnowledgeBase.find` does."""
    record = _Record(knowledge, settings.relapse_window)
    acts: list[Act] = []
    stopped, left = Counter[str](), Counter[str]()
    cases = knowledge.store.cases(since=since)
    replayed = sorted(
        (one.incident for one in cases if _covers(grant, one.incident)), key=lambda one: one.seen_at
    )
    for number, incident in enumerate(replayed):
        told(number, len(replayed))
        verdict, action = _judged(incident, record, acts, grant, settings)
        failed = [check.name for check in verdict.checks if not check.passed]
        if not failed:
            acts.append(_act(incident, record.own[incident.id], action))
        elif set(failed) <= set(BRAKES):
            stopped[failed[0]] += 1
        else:
            left[next(name for name in failed if name not in BRAKES)] += 1
    return Hindsight(since, len(replayed), tuple(acts), dict(stopped), dict(left), record.unheard)


class _Record:
    """What the knowledge base holds, and what of it was known when an incident was seen. `unheard`
    is why similar failures could not be found, or ""."""

    def __init__(self, knowledge: KnowledgeBase, relapse_window: timedelta) -> None:
        store = knowledge.store
        self.knowledge = knowledge
        self.unheard = ""
        self.own: dict[str, Brief] = {}
        self._window = relapse_window
        self._briefs: dict[str, list[Brief]] = {}
        for brief in store.briefs():
            self.own[brief.incident_id] = brief
            self._briefs.setdefault(brief.fingerprint, []).append(brief)
        self._lessons: dict[str, list[Lesson]] = {}
        for lesson in knowledge.lessons_of(store.lesson_counts()):
            self._lessons.setdefault(lesson.signature.fingerprint, []).append(lesson)
        self._first_put = store.first_put()
        self._found: dict[tuple[str, str], tuple[Match, ...]] = {}

    def matches(self, incident: Incident) -> list[Match]:
        now = incident.seen_at
        return [one for one in self._answers(incident) if self._first_put[one.entry.id] < now]

    def _answers(self, incident: Incident) -> tuple[Match, ...]:
        """All that answers it today, brought up deeply: much of it was not known then."""
        signature = incident.signature
        key = signature.fingerprint, ranking.signed(signature.headline)
        if key not in self._found:
            try:
                found = self.knowledge.find(signature, deep=True) if not self.unheard else None
            except ModelUnavailable as error:
                self.unheard, found = error.why, None
            self._found[key] = self.knowledge.exact(signature) if found is None else found
        return self._found[key]

    def trials(self, fingerprints: Collection[str], incident: Incident) -> list[Trial]:
        """What was decided and learned about such failures, as `KnowledgeBase.evidence` has it."""
        now = incident.seen_at
        ours = [
            trial
            for one in fingerprints
            for brief in self._briefs.get(one, ())
            for trial in _trials(brief, incident, now)
        ]
        failures = [(lessons.place_of(one), one.at) for one in ours]
        failures.append((lessons.place_of(incident), incident.failed_at))
        learned = [
            lesson
            for one in fingerprints
            for lesson in self._lessons.get(one, ())
            if lesson.seen_at < now
        ]
        return [*ours, *lessons.trials(learned, failures, self._window)]

    def came_of(self, incident: Incident, entry: Entry) -> dict[str, int]:
        """As `KnowledgeBase.record` has it."""
        prints = {symptom.signature.fingerprint for symptom in entry.symptoms} - {""}
        return tally(self.trials(prints, incident), entry.action, entry.params)

    def vouches(self, incident: Incident) -> Sequence[Vouch]:
        task = incident.instance, incident.dag_id, incident.task_id
        return self.knowledge.store.vouches(*task, before=incident.seen_at)


def _covers(grant: Grant, incident: Incident) -> bool:
    return incident.kind == "task" and any(fnmatchcase(incident.dag_id, dag) for dag in grant.dags)


def _judged(
    incident: Incident, record: _Record, acts: Sequence[Act], grant: Grant, settings: Settings
) -> tuple[Verdict, str]:
    """The verdict on an incident, and the action that it is on."""
    context, own = incident.context, settings.gate
    tags = tuple(context.get("tags") or ())
    limits = examine.bounds(record.knowledge, settings, incident)
    matches = record.matches(incident)
    came_of = partial(record.came_of, incident)
    tried = ladder.all_spent(matches, came_of, bound=limits.similarity)
    spent = {match.entry.id for match, _ in tried}
    diagnosis = ladder.diagnose(incident, matches, bound=limits.similarity, spent=spent)
    action = diagnosis.action or ""
    verdict = gate.judge(
        gate.Circumstances(
            incident=incident,
            diagnosis=diagnosis,
            bounds=limits,
            now=incident.seen_at,
            killed=incident.signature.error_class in (KILLED, LOST),
            evidence=weigh(
                record.trials(_prints(incident, diagnosis), incident),
                action=action,
                params=diagnosis.params,
                instance=incident.instance,
                dag_id=incident.dag_id,
                task_id=incident.task_id,
                now=incident.seen_at,
                relapse_window=settings.relapse_window,
            ),
            rerun=gate.rerun_safety(
                incident,
                vouches=record.vouches(incident),
                tags=tags,
                patterns=settings.rerun_safe,
                retries=context.get("retries") or 0,
                trust_retries=own.trust_retries,
                now=incident.seen_at,
                stands_after=own.vouch_after,
            ),
            entry_safe_to_retry=False if examine.forbids(diagnosis, limits) else None,
            suggestion_only=bool(diagnosis.entry) and diagnosis.matches[0].entry.suggestion_only,
            who_may=who_may(settings.actions, action, settings.two_people),
            grants=(grant,),
            usage=_usage(incident, acts),
            attempts_per_day=own.attempts_per_day,
            max_per_hour=own.max_per_hour,
            max_per_dag_hour=own.max_per_dag_hour,
            per_storm=own.max_per_storm,
            recent=LONG,
            protected=settings.protected,
            dag=Dag(incident.dag_id, tags=tags),
            run=DagRun(
                incident.dag_id, incident.run_id, "failed", context.get("run_type") or "scheduled"
            ),
            live=TaskInstance(
                examine.ref_of(incident),
                "failed",
                incident.try_number,
                incident.try_number,
                id=incident.ti_id,
            ),
            health=Health(),
        )
    )
    return verdict, action


def _prints(incident: Incident, diagnosis: Diagnosis) -> set[str]:
    """Whose outcomes count: the failure's own, and those of the entry that answers it."""
    prints = {incident.signature.fingerprint}
    if diagnosis.entry is not None:
        best = diagnosis.matches[0]
        prints.add(best.entry.symptoms[best.symptom].signature.fingerprint)
    return prints - {""}


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
