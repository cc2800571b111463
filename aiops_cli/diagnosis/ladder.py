"""Matches → Diagnosis: exact, near, near as a model sees it, nobody. Pure; "I don't know" is a
result.

A model can only make the decision more careful: it never brings another act in.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from aiops_cli.incidents import Diagnosis, Opinion
from knowledge.ranking import lead
from knowledge.records import Entry, Incident, Match

# Whose word counts first among entries that answer exactly: what a person decided about this
# very failure, then the site's own runbooks, then mined history, then what ships with us.
_INCIDENT, _RUNBOOK, _HISTORY, _STARTER = range(4)


def diagnose(
    incident: Incident, matches: Sequence[Match], *, bound: float, spent: Container[str] = ()
) -> Diagnosis:
    """The best answer among `matches` (best first). Near ones must reach `bound`; an entry that
    names DAGs answers only for those. The entries of these ids are `spent`: they answer where
    nobody else does, and differ from who does."""
    fitting = tuple(match for match in matches if _fits(match.entry, incident.dag_id))
    near = [match for match in fitting if match.similarity >= bound]  # exact ones stand at 1.0
    fresh = [match for match in near if match.entry.id not in spent]
    exact = [match for match in fresh or near if match.found == "exact"]
    if exact:
        worn = [match for match in near if match.found == "exact" and match not in exact]
        return _from_exact(exact, worn, fitting)
    if near:
        # What ships with us is silent where the site itself knows something.
        own = [match for match in fresh if _rank(match.entry) != _STARTER]
        best = (own or fresh or near)[0]
        ordered = (best, *(match for match in fitting if match is not best))
        heard = [match for match in ordered if not own or _rank(match.entry) != _STARTER]
        return _from_entry(best, "near", lead(heard), ordered)
    return Diagnosis(action=None, cause="", by="nobody", matches=fitting)


def spent(entry: Entry, record: Mapping[str, int]) -> bool:
    """Whether what a person decided about a failure has never helped: `record` is what came of it,
    and it failed, or was turned down, undone or called wrong, and nothing else."""
    bad = ("failed", "rejected", "wrong")
    helped = record["fixed"] or record["relapsed"]
    return entry.kind == "incident" and not helped and any(record[name] for name in bad)


def all_spent(
    matches: Iterable[Match], came_of: Callable[[Entry], Mapping[str, int]], *, bound: float
) -> Iterator[tuple[Match, Mapping[str, int]]]:
    """The matches that are `spent`, each with what came of it. `came_of` reads the record of an
    entry, and is asked only of what might answer."""
    for match in matches:
        if match.entry.kind == "incident" and match.similarity >= bound:
            record = came_of(match.entry)
            if spent(match.entry, record):
                yield match, record


def with_opinion(diagnosis: Diagnosis, opinion: Opinion) -> Diagnosis:
    """A near match as a model sees it. Where it says the same, with quotes that stand in the log,
    the diagnosis is its own too, and as sure as the less sure of both; otherwise the match stands
    as it was, and the gate asks a person."""
    said = opinion.suggestion
    heard = replace(diagnosis, opinion=opinion)
    if said is None or said.action != diagnosis.action or not opinion.quotes_stand:
        return heard
    return replace(
        heard,
        by="model",
        confidence=min(said.confidence, diagnosis.confidence or 0.0),
        quotes=said.quotes,
    )


def _from_exact(
    exact: Sequence[Match], worn: Sequence[Match], fitting: tuple[Match, ...]
) -> Diagnosis:
    """Exact answers stand or fall among themselves: what is merely similar does not count. What
    a person decided goes before what was written beforehand; but where the site's own runbook
    says otherwise there is no lead, and only the record of this very task settles it. Those that
    are `worn` answer nothing, and take the lead where they differ."""
    first = min(_rank(match.entry) for match in exact)
    heard = [match for match in exact if _rank(match.entry) == first]
    if first == _INCIDENT:
        heard += [match for match in exact if _rank(match.entry) == _RUNBOOK]
    best = max(
        heard,
        key=lambda match: (
            match.entry.action is not None,
            -_rank(match.entry),
            match.entry.created_at,
        ),
    )
    ordered = (best, *(match for match in fitting if match is not best))
    others = [match for match in (*heard, *worn) if match is not best]
    return _from_entry(best, "exact", lead([best, *others]), ordered)


def _from_entry(best: Match, by: str, ahead: float | None, matches: tuple[Match, ...]) -> Diagnosis:
    entry = best.entry
    return Diagnosis(
        action=entry.action,
        cause=entry.cause,
        by="exact" if by == "exact" else "near",
        confidence=best.similarity,
        params=entry.params,
        explanation=entry.explanation,
        entry=entry.id,
        lead=ahead,
        matches=matches,
    )


def _rank(entry: Entry) -> int:
    if entry.kind == "incident":
        return _INCIDENT
    if entry.kind == "history":
        return _HISTORY
    return _STARTER if entry.source.startswith("starter") else _RUNBOOK


def _fits(entry: Entry, dag_id: str) -> bool:
    return not entry.dags or any(fnmatchcase(dag_id, pattern) for pattern in entry.dags)
