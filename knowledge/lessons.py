"""Lessons → evidence, and lessons → entries of kind `history`. Pure.

Both follow from the stored lessons alone, so that learning the same again changes nothing.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from knowledge.records import Brief, Entry, Incident, Lesson, Symptom, Trial, short_hash, trial_of

SOURCE = "Airflow"  # of the entries, beside their kind

# A re-run that came later than this says nothing of one that comes at once: whatever was away had
# time to come back. Nothing older is run again alone either (gate.recent).
PROMPT = timedelta(hours=6)

NAMED = 3  # tasks that an entry names

Place = tuple[str, str, str, int]  # instance, dag, task, map index


def trials(
    lessons: Iterable[Lesson], failures: Collection[tuple[Place, datetime]], window: timedelta
) -> tuple[Trial, ...]:
    """The lessons that are verified outcomes, as trials. One that was fixed has relapsed where the
    same failure came back to the task within the window: `failures` are where and when it is
    known to have failed beside these lessons."""
    lessons = tuple(lessons)
    known: dict[Place, list[datetime]] = defaultdict(list)
    for place, at in failures:
        known[place].append(at)
    for one in lessons:
        known[place_of(one)].append(one.failed_at)
    found = []
    for one in lessons:
        trial = trial_of(one)
        if trial is None or (one.outcome == "fixed" and one.at - one.failed_at > PROMPT):
            continue
        green = one.ended_at or one.at
        came_back = any(green < at <= green + window for at in known[place_of(one)])
        if one.outcome == "fixed" and came_back:
            trial = replace(trial, outcome="relapsed")
        found.append(trial)
    return tuple(found)


def told_apart(lessons: Iterable[Lesson], machines: Collection[str]) -> tuple[Lesson, ...]:
    """The lessons, with those of machines told apart: of logins that fit one of these globs,
    whatever their case. Where any is named, a login that Airflow does not tell may be it."""

    def by_one(login: str) -> bool:
        names = (fnmatchcase(login.casefold(), glob.casefold()) for glob in machines)
        return any(names) or bool(machines and not login)

    return tuple(
        replace(one, mode="machine") if one.mode == "person" and by_one(one.by) else one
        for one in lessons
    )


def briefs_apart(briefs: Iterable[Brief], machines: Collection[str]) -> tuple[Brief, ...]:
    """The briefs, with what machines did afterwards told apart."""

    def one(brief: Brief) -> Brief:
        if brief.lesson is None:
            return brief
        (lesson,) = told_apart([brief.lesson], machines)
        return replace(brief, lesson=lesson)

    return tuple(map(one, briefs))


def place_of(one: Incident | Lesson | Trial) -> Place:
    return one.instance, one.dag_id, one.task_id, one.map_index


def entries(lessons: Sequence[Lesson], at: datetime) -> tuple[Entry, ...]:
    """What is to be known of one failure: `lessons` are all those of one fingerprint, the first
    learned first. An entry for each answer that ended it more often than not."""
    answers: dict[tuple[str, str], list[Lesson]] = defaultdict(list)
    for one in lessons:
        if one.action is not None and one.outcome != "unknown":
            answers[one.action, json.dumps(one.params, sort_keys=True)].append(one)
    return tuple(
        _entry(those, at)
        for those in answers.values()
        if 2 * sum(one.outcome == "fixed" for one in those) > len(those)
    )


def _entry(those: Sequence[Lesson], at: datetime) -> Entry:
    first = those[0]
    signature, action, params = first.signature, str(first.action), first.params
    own = action in ("retry", "none")
    return Entry(
        id=short_hash("history", signature.fingerprint, action, sorted(params.items())),
        kind="history",
        source=SOURCE,
        title=signature.headline or signature.error_class or f"{first.dag_id}.{first.task_id}",
        symptoms=(Symptom(signature.headline, signature),),
        cause=_cause(action, params),
        created_at=at,
        action=action,
        params=params,
        explanation=_told(those),
        # What ended it was about this DAG's own code, or an object that others may not use.
        dags=() if action == "retry" else tuple(sorted({one.dag_id for one in those})),
        # It was changed to something that Airflow does not tell: a person has to say to what.
        suggestion_only=not own,
    )


def _cause(action: str, params: Any) -> str:
    if action == "retry":
        return "not known; it went away when the task ran again with nothing changed in between"
    if action == "none":
        return "the DAG's code: it went away with a new version of the DAG"
    kind = {"update_connection": "connection", "set_variable": "variable"}.get(action, "pool")
    (name,) = params.values()
    return f"perhaps {kind} {name}: it went away after that was changed"


def _told(those: Sequence[Lesson]) -> str:
    """The record in a sentence or two."""
    words = []
    for mode, who in (
        ("person", "a person's re-run"),
        ("airflow", "Airflow's own retry"),
        ("machine", "a machine's re-run"),
    ):
        own = [one for one in those if one.mode == mode]
        if own:
            words.append(f"{who} ended it {_fixed(own)} of {len(own)} times")
    took = [
        (one.ended_at - one.failed_at).total_seconds()
        for one in those
        if one.outcome == "fixed" and one.ended_at
    ]
    if took:
        how = "half of them within" if len(took) > 1 else "after"
        words.append(f"{how} {duration(median(took))}")
    tasks = Counter(f"{one.dag_id}.{one.task_id}" for one in those)
    where = [name for name, _ in sorted(tasks.items(), key=lambda item: (-item[1], item[0]))]
    more = f" and {len(where) - NAMED} more" if len(where) > NAMED else ""
    last = max(one.failed_at for one in those)
    changed = sorted({one.detail for one in those if one.outcome == "fixed" and one.detail})
    words.append(f"in {', '.join(where[:NAMED])}{more}, last on {last:%Y-%m-%d}")
    return ", ".join(words) + (f" ({'; '.join(changed[-NAMED:])})" if changed else "")


def _fixed(those: Iterable[Lesson]) -> int:
    return sum(one.outcome == "fixed" for one in those)


def duration(seconds: float) -> str:
    """A length of time in its largest unit, rounded up: 40 s, 12 min, 3 h, 2 days."""
    for size, unit in ((1, "s"), (60, "min"), (3600, "h")):
        count = -(-seconds // size)
        if count < (48 if unit == "h" else 60):
            return f"{count:.0f} {unit}"
    return f"{-(-seconds // 86400):.0f} days"
