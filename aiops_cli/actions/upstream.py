"""Which upstream is stale, and what has to run anew for it. Pure, but for `found_out`.

Stale is what ended before its own source was written: an asset that was produced again since, a
run of another DAG that ended again after the sensor had looked. Where Airflow tells of neither,
every task that the failed one follows at once is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aiops_cli.actions.graph import between, direct_upstream, upstream_ids
from aiops_cli.errors import Refused, UsageError
from aiops_cli.incidents import Task, TaskInstance, TaskRef


@dataclass(frozen=True, slots=True)
class Source:
    """Something outside the run that a task of it reads: `newest` is when it was written last,
    `state` that of the other DAG's run where there is one. `reader` is the id of the task, None
    for what started the run."""

    name: str
    reader: str | None
    newest: datetime | None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """`names` run anew before the failed task; `told` says why, a sentence each."""

    names: frozenset[str]
    told: tuple[str, ...]


def stale(
    ref: TaskRef,
    tasks: Mapping[str, Task],
    run: Sequence[TaskInstance],
    named: Sequence[str],
    sources: Sequence[Source],
) -> Stale:
    """What has to run anew above the failed task of `ref`, whose run is `run`. `named` are the
    tasks that a runbook or a person named, if any. Raises UsageError for one that is not above
    it, and Refused where nothing is."""
    above = upstream_ids(tasks, ref.task_id)
    for name in named:
        if name not in above:
            raise UsageError(
                f"{name} does not run before {ref.dag_id}.{ref.task_id}",
                f"one of: {', '.join(sorted(above)) or 'nothing does'}",
            )
    told = [word for source in sources if (word := _word(source, run))]
    first = list(named)
    if not first:
        ran = {one.ref.task_id for one in run if one.state == "success"}
        # Which tasks read what started the run is not known: those that nothing comes before may.
        roots = [name for name in above if not direct_upstream(tasks, name)]
        readers = [
            reader
            for source in sources
            if _word(source, run)
            for reader in (roots if source.reader is None else [source.reader])
        ]
        outdated = sorted(set(readers) & above & ran)
        first = outdated or [n for n in direct_upstream(tasks, ref.task_id) if n in ran]
        if not first:
            raise Refused(
                f"nothing that ran comes before {ref}: there is no upstream to run again",
                "what is stale comes from elsewhere: --action trigger_dag --set dag_id=…",
            )
        if not outdated:
            told.append("Airflow does not tell which upstream is stale: those right above it run")
    names = {name for one in first for name in (one, *between(tasks, one, ref.task_id))}
    return Stale(frozenset(names - {ref.task_id}), tuple(told))


def _word(source: Source, run: Sequence[TaskInstance]) -> str:
    """Why what read the source is stale, or ""."""
    if source.state in ("failed", "running", "queued"):
        return f"{source.name} is {source.state}"
    read = [
        one.start_date
        for one in run
        if one.start_date and (source.reader is None or one.ref.task_id == source.reader)
    ]
    if source.newest is None or not read or source.newest <= min(read):
        return ""
    return f"{source.name} was written {source.newest:%Y-%m-%d %H:%M} UTC, after it was read"
