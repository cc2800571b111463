"""Verified outcomes → Evidence: what the record says about doing this, to this, again. Pure.

The narrowest scope with any settled trial decides: the task itself, then its DAG, then
anywhere. A contradiction there is never outvoted by good news from further away. Harm is the
exception: wherever it was done, it speaks against the action everywhere, for good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Literal, NamedTuple

from knowledge.records import Evidence, Trial

# Outcomes needed before an action may be done alone (design, section 2). Whatever changes
# state beyond a re-run needs three, and an exact signature.
NEEDED_TO_RERUN = 1
# Of another DAG's tasks one is not enough: a task may need something else than others do of which
# the log says the same, and one answer may have been wrong (bench.stream, 50 streams: of the acts
# alone 0.39 % were wrong with one, 0.11 % with two).
NEEDED_TO_RERUN_ELSEWHERE = 2
NEEDED_TO_CHANGE = 3
RERUN_ACTIONS = frozenset({"retry", "retry_later"})

# A re-run that turned green and came back this often within the window is not fixing anything.
RELAPSES_THAT_CONTRADICT = 2
RELAPSES_IN_A_ROW = 3  # and this often in a row, however long ago
# So many clean outcomes in a row after a contradiction make the record speak for it again. After a
# person's no only those of acts with this tool: what people do in Airflow says that it turned
# green, and not that it was right.
FIXES_THAT_REHABILITATE = 3

# The parameter that names the object an action changes: what fixed connection A says nothing
# about connection B.
_OBJECT_PARAMS = ("connection_id", "key", "pool", "dag_id", "task_id")

Scope = Literal["task", "dag", "anywhere"]


def needed(action: str, scope: Scope | Literal["none"]) -> int:
    """How many verified outcomes the action needs before it may be done alone, where they are of
    this scope."""
    if action not in RERUN_ACTIONS:
        return NEEDED_TO_CHANGE
    return NEEDED_TO_RERUN_ELSEWHERE if scope == "anywhere" else NEEDED_TO_RERUN


_GOOD = ("fixed", "relapsed")


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """The same values: that 100 helped says nothing of 5. A number may be text, as typed."""
    return {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in other.items()}


def _confirms(trial: Trial, params: Mapping[str, Any]) -> bool:
    """Whether a change that helped speaks for these values. One made for several incidents at once
    is one experience: that of the incident it was made for."""
    return not trial.after and _same(trial.params, params)


def bound_object(params: Mapping[str, Any]) -> str:
    """The object that params name, as comparable text; "" where they name none."""
    return json.dumps({name: params[name] for name in _OBJECT_PARAMS if name in params})


def weigh(
    trials: Iterable[Trial],
    *,
    action: str,
    params: Mapping[str, Any],
    instance: str,
    dag_id: str,
    task_id: str,
    now: datetime,
    relapse_window: timedelta,
) -> Evidence:
    """Evidence for doing `action` on this task. `trials` are those of the incident's fingerprint
    (and, for a near match, of the matched entry's), in any order; other actions are ignored."""
    target = bound_object(params)
    # A retry that did harm at once does it later too.
    alike = RERUN_ACTIONS if action in RERUN_ACTIONS else {action}
    about = sorted(
        (
            trial
            for trial in trials
            if trial.action in alike
            and trial.outcome not in (None, "superseded", "unknown")
            and bound_object(trial.params) == target
        ),
        key=lambda trial: trial.at,
    )
    settled = [
        trial
        for trial in about
        if trial.action == action
        and (action in RERUN_ACTIONS or trial.outcome not in _GOOD or _confirms(trial, params))
    ]
    here = (instance, dag_id, task_id)
    harm = _harm(about)
    scopes: tuple[tuple[Scope, int], ...] = (("task", 3), ("dag", 2), ("anywhere", 0))
    for scope, width in scopes:
        found = once_a_run(
            trial
            for trial in settled
            if (trial.instance, trial.dag_id, trial.task_id)[:width] == here[:width]
        )
        if found:
            against = harm or _contradiction(found, action, now, relapse_window)
            return _evidence(scope, found, action, against)
    return Evidence(scope="anywhere" if harm else "none", contradicted=harm)


def once_a_run(trials: Iterable[Trial]) -> list[Trial]:
    """The trials, oldest first, of which all that people ran again in Airflow in one run are one:
    the worst of them. A clear of a hundred mapped instances is one experience, not a hundred."""
    kept: dict[object, Trial] = {}
    for number, trial in enumerate(trials):
        own = trial.mode != "history"
        key: object = number if own else (trial.instance, trial.dag_id, trial.run_id)
        kept[key] = min(kept.get(key, trial), trial, key=_goodness)
    return sorted(kept.values(), key=lambda trial: trial.at)


def _goodness(trial: Trial) -> int:
    return {"failed": 0, "relapsed": 1}.get(str(trial.outcome), 2)


class Healing(NamedTuple):
    """How long outages of a signature lasted until running it again fixed it: `after` is the
    median of `outages`. `waiting` says that only waiting ended them: some re-runs failed, and each
    of those came sooner than every one that fixed it."""

    after: timedelta
    outages: int
    waiting: bool


def healing(trials: Iterable[Trial]) -> Healing | None:
    """What the re-runs among `trials`, all of one signature, say about how long it lasts; None
    where none fixed it. An outage begins with the first failed try of a task instance that
    somebody ran again; where a person came late it seems longer than it was. What came back
    later was over for a while."""
    reruns = [
        (trial, trial.failed_at, _begun_at(trial, trial.failed_at))
        for trial in trials
        if trial.action in RERUN_ACTIONS and trial.failed_at is not None
    ]
    begun: dict[tuple[object, ...], datetime] = {}
    for trial, failed_at, _ in reruns:
        begun[_run_of(trial)] = min(failed_at, begun.get(_run_of(trial), failed_at))
    fixed, failed = (
        [
            (at - begun[_run_of(trial)]).total_seconds()
            for trial, _, at in reruns
            if trial.outcome in outcomes
        ]
        for outcomes in (("fixed", "relapsed"), ("failed",))
    )
    if not fixed:
        return None
    waiting = bool(failed) and max(failed) < min(fixed)
    return Healing(timedelta(seconds=median(fixed)), len(fixed), waiting)


def _run_of(trial: Trial) -> tuple[object, ...]:
    return trial.instance, trial.dag_id, trial.run_id, trial.task_id, trial.map_index


def _begun_at(trial: Trial, failed_at: datetime) -> datetime:
    """When it was run again: the tool alone waits from the failure on, a person from their word."""
    waited = _waited(trial)
    return max(trial.at, failed_at + waited) if trial.mode == "auto" else trial.at + waited


def _waited(trial: Trial) -> timedelta:
    """The delay that the act waited for, where its params tell: 90, 90s, 15m, 2h."""
    said = re.fullmatch(r"([0-9]{1,6})([smhd]?)", str(trial.params.get("delay", "")))
    unit = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
    if said is None or trial.action != "retry_later":
        return timedelta()
    return timedelta(seconds=int(said[1]) * unit[said[2]])


def tally(
    trials: Iterable[Trial], action: str | None, params: Mapping[str, Any] | None = None
) -> dict[str, int]:
    """How often `action` was fixed, failed, relapsed, rejected, wrong; with `params`, a change
    with these values alone."""
    count = dict.fromkeys(("fixed", "failed", "relapsed", "rejected", "wrong"), 0)
    for trial in once_a_run(trial for trial in trials if trial.action == action):
        told = params is None or action in RERUN_ACTIONS or _same(trial.params, params)
        if told and trial.outcome in count:
            count[trial.outcome] += 1
    return count


def _evidence(scope: Scope, trials: Sequence[Trial], action: str, contradicted: str) -> Evidence:
    count = tally(trials, action)
    return Evidence(
        scope=scope,
        fixed=count["fixed"],
        failed=count["failed"],
        relapsed=count["relapsed"],
        rejected=count["rejected"],
        contradicted=contradicted,
    )


def _harm(trials: Sequence[Trial]) -> str:
    """Where the action did harm last, or ""."""
    for trial in reversed(trials):
        if trial.outcome == "wrong":
            return (
                f"a person said that {trial.action} did harm "
                f"to {trial.dag_id}.{trial.task_id} on {trial.at:%Y-%m-%d}"
            )
    return ""


def _contradiction(trials: Sequence[Trial], action: str, now: datetime, window: timedelta) -> str:
    """Why the record speaks against the action, or "". `trials` are oldest first and did no
    harm."""
    rerun = action in RERUN_ACTIONS
    against = rejected = ""
    fixes_since = own_since = 0
    for trial in trials:
        if trial.outcome == "fixed":
            fixes_since += 1
            own_since += trial.mode != "history"
        elif trial.outcome != "relapsed" or not rerun:
            against = {
                "failed": f"{action} did not help",
                "rejected": f"a person rejected {action}",
                "relapsed": f"the failure came back after {action}",
            }[str(trial.outcome)] + f" on {trial.at:%Y-%m-%d}"
            fixes_since = 0
            if trial.outcome == "rejected":
                rejected, own_since = against, 0
    if against and fixes_since < FIXES_THAT_REHABILITATE:
        return against
    if rejected and own_since < FIXES_THAT_REHABILITATE:
        return rejected
    newest = [trial.outcome for trial in trials[-RELAPSES_IN_A_ROW:]]
    if rerun and newest == ["relapsed"] * RELAPSES_IN_A_ROW:
        return f"it came back after each of the last {RELAPSES_IN_A_ROW} times"
    lately = sum(trial.outcome == "relapsed" and now - trial.at <= window for trial in trials)
    if rerun and lately >= RELAPSES_THAT_CONTRADICT:
        hours = round(window.total_seconds() / 3600)
        return f"it came back {lately} times within {hours} h: running it again does not fix it"
    return ""
