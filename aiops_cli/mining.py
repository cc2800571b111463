"""The tries of one task instance, and what people did meanwhile → what ended each failure. Pure.

A clear grants the retry budget anew and so changes `max_tries`; Airflow's own retries leave it as
it is (proven on 3.1.8 and 3.3.2). Who cleared, marked or changed what is in the event log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from aiops_cli.changes import Change
from aiops_cli.incidents import TERMINAL_STATES, Event, TaskInstance, TaskRef
from knowledge.records import Lesson, LessonMode, LessonOutcome, Signature
from knowledge.redact import clean

# Who ran it again, or set its state by hand: the API's calls, which the UI makes too.
CLEAR_EVENTS = ("post_clear_task_instances", "clear_dag_run", "clear_dag_runs")
MARK_EVENTS = (
    *("patch_task_instance", "patch_task_group_instances", "bulk_task_instances"),
    "patch_dag_run",
)
ACT_EVENTS = (*CLEAR_EVENTS, *MARK_EVENTS)

# What any aiops leaves in the notes of what it runs again (`respond.stamp`).
_STAMP = re.compile(r"\[aiops \w+\] \w+ of try (\d+) ")
# What it clears below leaves none, so that no person's note there is lost: it is cleared by the
# same login, at most so long after or before the stamp is set.
_SAME_ACT = timedelta(minutes=5)

_MARKED = {"success": "mark_success", "skipped": "mark_skipped"}
_CHANGED = {
    "connection": ("update_connection", "connection_id"),
    "variable": ("set_variable", "key"),
    "pool": ("resize_pool", "pool"),
}


@dataclass(frozen=True, slots=True)
class Act:
    """A word on a task instance: it was run again, or its state was set (`state`). By a person,
    unless an aiops cleared it together with what it ran again above (`aiops`). `wide` is a clear
    that does not name it, and perhaps did not reach it."""

    kind: Literal["clear", "mark"]
    at: datetime
    by: str
    state: str = ""
    aiops: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What Airflow tells of one task instance. `tries` come oldest first; `live` is the newest as
    it is now. `changes` is None where there are too many to be read. `stamped` are the
    tries that an aiops ran again, ours or another's. `above` is when the newest try of anything
    above it in its run began; only asked for where somebody `cleared` it."""

    live: TaskInstance
    tries: Sequence[TaskInstance]
    acts: Sequence[Act] = ()
    changes: Sequence[Change] | None = ()
    stamped: frozenset[int] = frozenset()
    above: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """What came after the failed try `failed`, before its log has been read. `moved` is set where
    the try that tells the outcome ran on another DAG version; `changed` is what was changed in
    between, None where that is too much to tell. `above` says that what ended it may be that
    something above it ran anew as well."""

    failed: TaskInstance
    mode: LessonMode
    at: datetime
    outcome: LessonOutcome
    by: str = ""
    action: str | None = None  # where no log is needed to tell
    ended_at: datetime | None = None
    moved: tuple[int, int] | None = None
    changed: Sequence[Change] | None = field(default=())
    above: bool = False


# ---- the event log ----


def acts_of(events: Sequence[Event], ref: TaskRef) -> tuple[Act, ...]:
    """What was done to this task instance, oldest first. `events` are those of its run."""
    found, stamps = [], [one for one in events if _stamped(_document(one.extra).get("note"))]
    for event in events:
        extra = _document(event.extra)
        about = _wide(extra) or (
            event.task_id in (None, ref.task_id) and event.map_index in (None, ref.map_index)
        )
        by = clean(event.owner or "")
        if event.event in CLEAR_EVENTS and extra.get("dry_run") is False and _names(extra, ref):
            aiops = any(
                one.owner == event.owner and abs(one.when - event.when) <= _SAME_ACT
                for one in stamps
            )
            found.append(Act("clear", event.when, by, aiops=aiops, wide=not _named(extra, ref)))
        elif event.event in MARK_EVENTS and about:
            state = extra.get("new_state") or extra.get("state")
            if isinstance(state, str):
                found.append(Act("mark", event.when, by, state))
    return tuple(sorted(found, key=lambda act: act.at))


def _names(extra: Mapping[str, Any], ref: TaskRef) -> bool:
    """Whether a clear is of this task instance: it names it, or (a run's) names none."""
    return not isinstance(extra.get("task_ids"), list) or _wide(extra) or _named(extra, ref)


def _named(extra: Mapping[str, Any], ref: TaskRef) -> bool:
    named = extra.get("task_ids")
    ours = (ref.task_id, [ref.task_id, ref.map_index])
    return isinstance(named, list) and any(one in ours for one in named)


def _wide(extra: Mapping[str, Any]) -> bool:
    return bool(extra.get("include_upstream") or extra.get("include_downstream"))


def stamped_tries(events: Sequence[Event], ref: TaskRef, note: str | None) -> frozenset[int]:
    """The tries of this task instance that some aiops ran again, by the stamps it leaves: in its
    `note`, and in the rows that set it."""
    found = _stamped(note)
    for event in events:
        extra = _document(event.extra)
        its_own = event.task_id == ref.task_id and event.map_index in (None, ref.map_index)
        if its_own or _named(extra, ref):
            found |= _stamped(extra.get("note"))
    return found


def _stamped(note: object) -> frozenset[int]:
    text = note if isinstance(note, str) else ""
    return frozenset(int(stamp[1]) for stamp in _STAMP.finditer(text))


def _document(extra: str | None) -> dict[str, Any]:
    try:
        document = json.loads(extra or "")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


# ---- what ended it ----


def endings(seen: Seen, known: frozenset[int] = frozenset()) -> Iterator[Ending]:
    """What came after each failed try that something came after; those that nobody ran again, and
    those whose new tries have not ended, are left out, and what an aiops did is its own business.
    `known` are tries that failed although Airflow shows another state by now."""
    tries = seen.tries
    for place, failed in enumerate(tries):
        if failed.try_number in seen.stamped or failed.end_date is None:
            continue
        marked = _mark_on(seen, place)
        if failed.state != "failed" or marked:
            if marked and failed.try_number in known and failed.state in _MARKED:
                action = _MARKED[failed.state]
                yield Ending(failed, "person", marked.at, "unknown", marked.by, action)
            continue
        if place + 1 < len(tries):
            ending = _run_again(seen, place)
            if ending is not None:
                yield ending


def _run_again(seen: Seen, place: int) -> Ending | None:
    """The ending by the tries that followed, up to the next time that somebody cleared it; None
    while they are not over, and where what they came to was set by hand."""
    tries, failed = seen.tries, seen.tries[place]
    clear = _clear_before(seen, place + 1)
    if clear is not None and clear.aiops:
        return None
    last = place + 1
    while tries[last].state != "success" and last + 1 < len(tries):
        if _clear_before(seen, last + 1):
            break
        last += 1
    told = tries[last]
    over = last + 1 < len(tries) or seen.live.state in TERMINAL_STATES
    if told.state not in ("success", "failed") or not over or _mark_on(seen, last):
        return None
    began = told.start_date or told.end_date
    if failed.end_date is None or began is None:
        return None
    changed = seen.changes
    if changed is not None:
        changed = [
            one
            for one in changed
            if failed.end_date <= one.at <= began
            and (one.kind != "pool" or one.name in (failed.pool, "?"))
        ]
    before, after = failed.version, told.version
    first = tries[place + 1].start_date or began
    return Ending(
        failed=failed,
        mode="person" if clear else "airflow",
        at=clear.at if clear and clear.at > failed.end_date else first,
        outcome="fixed" if told.state == "success" else "failed",
        by=clear.by if clear else "",
        ended_at=told.end_date,
        moved=(before, after) if before and after and before != after else None,
        changed=changed,
        above=clear is not None and seen.above is not None and seen.above >= failed.end_date,
    )


def cleared(seen: Seen) -> bool:
    """Whether a person ran any of the tries again."""
    clears = (_clear_before(seen, place) for place in range(1, len(seen.tries)))
    return any(clear is not None and not clear.aiops for clear in clears)


def _clear_before(seen: Seen, place: int) -> Act | None:
    """Who cleared the task instance so that this try came to be; None for Airflow's own retry."""
    before, after = seen.tries[place - 1], seen.tries[place]
    since, until = before.end_date, after.start_date
    if since is None or until is None:
        return None
    renewed = after.max_tries != before.max_tries
    acts = [
        act
        for act in seen.acts
        if act.kind == "clear" and since <= act.at <= until and (renewed or not act.wide)
    ]
    if acts:
        return acts[-1]
    return Act("clear", until, "") if renewed else None


def _mark_on(seen: Seen, place: int) -> Act | None:
    """Who set the state of this try by hand; None where it is what the try came to."""
    one = seen.tries[place]
    later = [other.start_date for other in seen.tries[place + 1 :] if other.start_date]
    marks = [
        act
        for act in seen.acts
        if act.kind == "mark"
        and act.state == one.state
        and (one.start_date is None or act.at >= one.start_date)
        and all(act.at < start for start in later)
    ]
    return marks[-1] if marks else None


# ---- with the log ----


def lesson_of(
    ending: Ending, signature: Signature, text: str, *, instance: str, seen_at: datetime
) -> Lesson:
    """The lesson of an ending whose failure has been read. `text` is all that may name what the
    task uses: its excerpt and rendered fields."""
    ref = ending.failed.ref
    action, params, outcome, told = _speaks_for(ending, text)
    return Lesson(
        instance=instance,
        dag_id=ref.dag_id,
        run_id=ref.run_id,
        task_id=ref.task_id,
        map_index=ref.map_index,
        try_number=ending.failed.try_number,
        failed_at=ending.failed.end_date or ending.at,
        signature=signature,
        mode=ending.mode,
        at=ending.at,
        outcome=outcome,
        seen_at=seen_at,
        action=action,
        params=params,
        by=ending.by,
        detail=told,
        ended_at=ending.ended_at,
        version=ending.failed.version,
    )


def _speaks_for(ending: Ending, text: str) -> tuple[str | None, dict[str, Any], LessonOutcome, str]:
    """Action, params, outcome and a word. What was changed in between is what ended it, or did
    not help; of several things only the one that the log names; else nobody knows."""
    if ending.action is not None:
        return ending.action, {}, ending.outcome, "set by hand"
    if ending.moved is not None:
        before, after = ending.moved
        action = "none" if ending.outcome == "fixed" else "retry"
        return action, {}, ending.outcome, f"DAG version v{before} → v{after}"
    if ending.above and ending.outcome == "fixed":
        return "retry", {}, "unknown", "a task above it ran anew as well"
    if ending.changed is None:
        return "retry", {}, "unknown", "too much was changed in between to tell"
    objects = {(one.kind, one.name): one for one in ending.changed}
    if not objects:
        return "retry", {}, ending.outcome, ""
    told = "; ".join(str(one) for one in objects.values())
    named = [one for one in objects.values() if _stands_in(one.name, text)]
    meant = named if len(named) == 1 else list(objects.values())
    if len(meant) > 1 or meant[0].name == "?":
        return None, {}, "unknown", told
    action, param = _CHANGED[meant[0].kind]
    return action, {param: meant[0].name}, ending.outcome, told


def _stands_in(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None
