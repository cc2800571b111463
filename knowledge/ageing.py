"""Knowledge ages: what an outcome of long ago, or of other code, still counts. Pure.

It only ever lowers: outcomes that speak for an action fade, while what speaks against one stays
until later outcomes outvote it, and the narrowest scope with any outcome decides as before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from knowledge.evidence import bound_object, once_a_run
from knowledge.records import Evidence, Trial

HALF_LIFE = timedelta(days=180)

# What an outcome counts after the DAG got a new version, and so perhaps other code, or signatures
# are made in another way, so that the same name may mean another failure. One such outcome still
# counts as one while it is young; of three, one does not.
OTHER_VERSION = 0.75

_WIDTHS = {"task": 3, "dag": 2, "anywhere": 0}


def weight(
    trial: Trial,
    *,
    now: datetime,
    half_life: timedelta,
    version: int | None,
    signature_version: int,
) -> float:
    """What one outcome counts, above 0 and at most 1. `version` is the DAG version of the failure
    that is looked at now."""
    age = max(timedelta(0), now - trial.at)
    weight = math.pow(0.5, age / half_life)
    if version is not None and trial.version is not None and trial.version != version:
        weight *= OTHER_VERSION
    if trial.signature_version != signature_version:
        weight *= OTHER_VERSION
    return weight


def aged(
    evidence: Evidence,
    trials: Iterable[Trial],
    *,
    action: str,
    params: Mapping[str, Any],
    place: tuple[str, str, str],
    now: datetime,
    half_life: timedelta,
    version: int | None,
    signature_version: int,
) -> Evidence:
    """The evidence that was weighed of these trials at `place` (instance, DAG, task), with as many
    of its outcomes worn as the weights of all have lost together, rounded to whole ones."""
    if evidence.scope == "none":
        return evidence
    width, target = _WIDTHS[evidence.scope], bound_object(params)
    weights = [
        weight(
            trial,
            now=now,
            half_life=half_life,
            # Versions are numbered DAG by DAG: another DAG's number means nothing here.
            version=version if (trial.instance, trial.dag_id) == place[:2] else None,
            signature_version=signature_version,
        )
        for trial in once_a_run(
            trial
            for trial in trials
            if trial.action == action
            and trial.outcome in ("fixed", "failed", "relapsed")
            and bound_object(trial.params) == target
            and (trial.instance, trial.dag_id, trial.task_id)[:width] == place[:width]
        )
        if trial.outcome != "failed"
    ]
    # Of outcomes that were not counted (another value of the same object) none may stand in.
    left = math.floor(sum(sorted(weights)[: evidence.value]) + 0.5)
    return replace(evidence, worn=evidence.value - left)
