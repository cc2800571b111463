"""What is wrong with what is known: entries, their record and their use → findings. Pure.

A finding is something to be done by a person, so what nobody can or need do anything about is
none: a decision of one's own that agrees with a runbook, a starter entry that the site overrules,
two past incidents that are merely alike and were answered differently.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import combinations
from operator import itemgetter
from typing import Literal

from knowledge.dates import last_day
from knowledge.evidence import bound_object, tally
from knowledge.overlap import globs_overlap, near_pairs
from knowledge.ranking import BUILTIN_BOUND
from knowledge.records import Entry, Trial

FindingKind = Literal[
    "contradiction",
    "never_worked",
    "params",
    "duplicate",
    "wrapper",
    "placeholder",
    "stale",
    "never_matched",
    "unused",
]

# A quarter of a year sees the month ends and most of what comes back at all.
UNUSED_AFTER = timedelta(days=90)
# Hosts, owners and vendors have changed in most places within a year.
STALE_AFTER = timedelta(days=365)
# One failure of an action may be chance.
TRIED_IN_VAIN = 2

# What an action cannot do without; which names it takes at all is the catalogue's to say.
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "clear_xcom": ("task_id",),
    "update_connection": ("connection_id",),
    "set_variable": ("key", "value"),
    "resize_pool": ("pool", "slots"),
    "trigger_dag": ("dag_id",),
}

_UNFINISHED = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXX+)\b|(?i:\blorem ipsum\b|\bfill (?:me|this) in\b)"
)
_NO_WORD = re.compile(
    r"[\W_]*|(?i:n/?a|none|unknown|todo|tbd|\W*(?:your|the|error)[ _-]\w+[ _-]here\W*)"
)
_FILE_AND_LINE = re.compile(r"(.+):\d+")
_MOST_NAMED = 5  # ids in one command


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with `entries`: what, why it matters, what to do about it, and command
    lines that do it or lead there. `similarity` (0 to 1) is that of the symptoms where they are
    alike but not equal."""

    kind: FindingKind
    what: str
    why: str
    todo: str
    commands: tuple[str, ...]
    entries: tuple[Entry, ...]
    similarity: float | None = None


def lint(
    entries: Sequence[Entry],
    *,
    trials: Iterable[Trial],
    uses: Mapping[str, int],
    lately: Mapping[str, int],
    takes: Mapping[str, Collection[str]],
    now: datetime,
) -> tuple[Finding, ...]:
    """The findings about these live entries, what misleads first.

    `uses` has the number of incidents whose judgement rested on an entry, by its id (`Store.uses`
    of all of them), `lately` that of those judged in the last STALE_AFTER; `takes` the names of
    the params of every action.
    """
    own = [entry for entry in entries if not entry.starter]
    runbooks = [entry for entry in own if entry.kind == "runbook"]
    wrappers = _wrappers(runbooks)
    silent = {entry.id for finding in wrappers for entry in finding.entries}
    return (
        *_contradictions(own),
        *_never_worked(entries, trials),
        *_params(runbooks, takes),
        *_duplicates(runbooks),
        *wrappers,
        *_placeholders(runbooks),
        *_unused([entry for entry in runbooks if entry.id not in silent], uses, now),
        *_forgotten(own, uses, lately, now),
    )


def written_on(entry: Entry) -> date:
    """When its text was written last: by its own word where that is a date, else the day it came
    into the knowledge base."""
    stored = entry.created_at.astimezone(timezone.utc).date()
    said = last_day(entry.edited) if entry.edited else None
    return min(said, stored) if said else stored


# ---- two entries about one failure ----


def _contradictions(own: Sequence[Entry]) -> Iterator[Finding]:
    told: set[frozenset[str]] = set()
    for group in _groups(own, lambda a, b: _heard_together(a, b) and _differ(a, b)):
        told.update(frozenset((a.id, b.id)) for a, b in combinations(group, 2))
        yield _contradiction(group)
    # A runbook entry that much looks like is one finding, and not one for each of those.
    against: dict[str, list[Entry]] = {}
    best: dict[str, float] = {}
    for score, a, b in _alike(own):
        if frozenset((a.id, b.id)) not in told and _differ(a, b):
            first, other = (b, a) if b.id in against or a.kind != "runbook" else (a, b)
            against.setdefault(first.id, [first]).append(other)
            best.setdefault(first.id, score)
    for id_, those in against.items():
        yield _contradiction(those, best[id_])


def _duplicates(runbooks: Sequence[Entry]) -> Iterator[Finding]:
    for group in _groups(runbooks, _say_the_same):
        yield Finding(
            "duplicate",
            f"{len(group)} entries give one failure the same answer",
            "when one of them is corrected the other goes on saying the old thing",
            "keep the better one; its symptoms can be moved there",
            _keep_one([[entry] for entry in group], "has it too"),
            tuple(group),
        )


def _groups(
    entries: Sequence[Entry], together: Callable[[Entry, Entry], bool]
) -> Iterator[list[Entry]]:
    """Entries that share a fingerprint and of which each has another that is `together` with it;
    the same ones once."""
    known: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in entries:
        for symptom in entry.symptoms:
            if symptom.signature.fingerprint:
                known[symptom.signature.fingerprint][entry.id] = entry
    told = set()
    for sharing in known.values():
        pairs = [pair for pair in combinations(sharing.values(), 2) if together(*pair)]
        ids = frozenset(entry.id for pair in pairs for entry in pair)
        if ids and ids not in told:
            told.add(ids)
            yield [entry for entry in sharing.values() if entry.id in ids]


def _contradiction(entries: Sequence[Entry], score: float | None = None) -> Finding:
    if score is None:
        failure, todo = "one failure", "keep what is true"
    else:
        failure = f"failures that look alike ({score:.2f})"
        todo = "keep what is true, or write symptoms that tell them apart"
    if all(entry.kind == "runbook" for entry in entries):
        todo += ", or give them DAGs that do not overlap"
    sides: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        sides[_told(entry)].append(entry)
    return Finding(
        "contradiction",
        f"{len(entries)} entries answer {failure} differently: {' against '.join(sides)}",
        "nothing is done alone about it while they disagree, and a person is told one of them",
        todo,
        _keep_one(sides.values(), "is right"),
        tuple(entries),
        None if score is None else round(score, 4),
    )


def _alike(own: Sequence[Entry]) -> Iterator[tuple[float, Entry, Entry]]:
    """Pairs of entries heard together, a runbook among them, whose symptoms reach the near bound
    without being equal; each pair once, at its best similarity, the most alike first."""
    known: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry in own:
        for symptom in entry.symptoms:
            known[symptom.signature.text][entry.id] = entry
    texts = [text for text in known if text]
    written = {
        number
        for number, text in enumerate(texts)
        if any(entry.kind == "runbook" for entry in known[text].values())
    }
    best: dict[frozenset[str], tuple[float, Entry, Entry]] = {}
    for first, second, score in near_pairs(texts, BUILTIN_BOUND, written):
        for a in known[texts[first]].values():
            for b in known[texts[second]].values():
                pair = frozenset((a.id, b.id))
                runbook = "runbook" in (a.kind, b.kind)
                if len(pair) == 2 and runbook and _heard_together(a, b):
                    best[pair] = max(best.get(pair, (0.0, a, b)), (score, a, b), key=itemgetter(0))
    yield from sorted(best.values(), key=itemgetter(0), reverse=True)


def _heard_together(a: Entry, b: Entry) -> bool:
    """Whether one failure may have both for an answer: what a person decided and the site's
    runbooks are weighed together, mined history only against itself."""
    return (a.kind == b.kind or {a.kind, b.kind} == {"incident", "runbook"}) and _dags_overlap(a, b)


def _differ(a: Entry, b: Entry) -> bool:
    """Whether their answers cannot both be right. Other params, or another word on running again,
    count between runbooks alone: people choose anew each time."""
    if a.action is None or b.action is None:
        return False
    if a.action != b.action:
        return True
    return a.kind == b.kind == "runbook" and _answer(a) != _answer(b)


def _say_the_same(a: Entry, b: Entry) -> bool:
    # Where nothing is to be done, the cause is the answer.
    acts = a.action not in (None, "none") or a.cause == b.cause
    return acts and _answer(a) == _answer(b) and _dags_overlap(a, b)


def _answer(entry: Entry) -> tuple[str | None, str, bool | None]:
    return entry.action, json.dumps(dict(entry.params), sort_keys=True), entry.safe_to_retry


def _dags_overlap(a: Entry, b: Entry) -> bool:
    if not a.dags or not b.dags:
        return True
    return any(globs_overlap(one, other) for one in a.dags for other in b.dags)


# ---- an action and its record ----


def _never_worked(entries: Iterable[Entry], trials: Iterable[Trial]) -> Iterator[Finding]:
    """Entries whose action did harm, or was tried (or proposed) in vain for their failures. What
    was decided and the runbook it followed share a record and are one finding."""
    tried: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        tried[trial.fingerprint].append(trial)
    sharing: dict[tuple[str, frozenset[str]], list[Entry]] = defaultdict(list)
    records: dict[tuple[str, frozenset[str]], Mapping[str, int]] = {}
    for entry in entries:
        if entry.action in (None, "none"):
            continue
        target = bound_object(entry.params)
        about = [
            trial
            for fingerprint in {one.signature.fingerprint for one in entry.symptoms}
            for trial in tried.get(fingerprint, ())
            if trial.action == entry.action and bound_object(trial.params) == target
        ]
        record = tally(about, entry.action)
        vain = record["failed"] + record["relapsed"] + record["rejected"]
        if record["wrong"] or (vain >= TRIED_IN_VAIN and not record["fixed"]):
            key = (entry.action, frozenset(trial.incident_id for trial in about))
            sharing[key].append(entry)
            records[key] = record
    for key, those in sharing.items():
        told = ", ".join(f"{name} {count}" for name, count in records[key].items() if count)
        harm = records[key]["wrong"]
        yield Finding(
            "never_worked",
            f"{key[0]} did harm: {told}" if harm else f"{key[0]} never fixed it: {told}",
            "it is still what is proposed, at night too",
            "take it out of use, or say in its place what does help",
            _retire(those, "it did harm" if harm else "it never helped"),
            tuple(those),
        )


def _params(runbooks: Iterable[Entry], takes: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    for entry in runbooks:
        action = entry.action or "none"
        lacks = [name for name in _NEEDS.get(action, ()) if name not in entry.params]
        strange = sorted(set(entry.params) - set(takes.get(action, ()))) if entry.action else []
        wrong = [f"without {name}" for name in lacks] + [f"with {name}" for name in strange]
        if wrong:
            known = ", ".join(takes.get(action, ())) or "no params"
            yield Finding(
                "params",
                f"{action} {', '.join(wrong)}",
                "as it is written it cannot be carried out: somebody has to find out at night",
                f"{_correct(entry)}; {action} takes {known}",
                (f"aiops kb show {entry.id}",),
                (entry,),
            )


# ---- what an entry says ----


def _wrappers(runbooks: Iterable[Entry]) -> tuple[Finding, ...]:
    told = [
        entry
        for entry in runbooks
        if all(one.signature.wrapper or not one.signature.text for one in entry.symptoms)
    ]
    return tuple(
        Finding(
            "wrapper",
            f"{_counted(those)} no error by its name, only plain words or a wrapper's",
            "it answers a log that says just this, and nothing is ever done alone on it",
            f"give the error as the log has it: {_correct(those[0])}",
            _look(those),
            those,
        )
        for those in _by_file(told)
    )


def _placeholders(runbooks: Iterable[Entry]) -> Iterator[Finding]:
    told = [
        entry
        for entry in runbooks
        if any(map(_UNFINISHED.search, (entry.title, entry.cause, entry.explanation)))
        or (entry.cause and _NO_WORD.fullmatch(entry.cause))
        or any(_NO_WORD.fullmatch(one.text.strip()) for one in entry.symptoms)
    ]
    for those in _by_file(told):
        yield Finding(
            "placeholder",
            f"{_counted(those)} text that nobody has filled in",
            "it is what somebody reads at night",
            f"finish it: {_correct(those[0])}",
            _look(those),
            those,
        )


def _unused(runbooks: Sequence[Entry], uses: Mapping[str, int], now: datetime) -> Iterator[Finding]:
    """Entries that nothing was ever judged by, though there was something to judge."""
    if not any(uses.values()):
        return
    unused = [
        entry
        for entry in runbooks
        if not uses.get(entry.id) and now - entry.created_at >= UNUSED_AFTER
    ]
    today = now.astimezone(timezone.utc).date()
    old = [entry for entry in unused if today - written_on(entry) >= STALE_AFTER]
    for those in _by_file(old):
        first = min(map(written_on, those))
        yield Finding(
            "stale",
            f"{_counted(those)} an answer last edited in {first:%Y-%m} that no failure has needed",
            "hosts, owners and vendors change; on the night it is needed it may be wrong",
            "ask its owner; take out of use what is not true any more",
            _retire(those, "out of date"),
            those,
        )
    for those in _by_file([entry for entry in unused if entry not in old]):
        yield Finding(
            "never_matched",
            f"{_counted(those)} an answer that no failure has needed in {UNUSED_AFTER.days} days",
            "either it does not happen, or its symptoms are not what the log says",
            f"compare its symptoms and dags with a real log: {_correct(those[0])}",
            _look(those),
            those,
        )


def _forgotten(
    own: Iterable[Entry], uses: Mapping[str, int], lately: Mapping[str, int], now: datetime
) -> Iterator[Finding]:
    """What was decided or learned, and runbooks that were needed once, that nothing was judged by
    for a year, though there was something to judge."""
    if not any(lately.values()):
        return
    told = [
        entry
        for entry in own
        if not lately.get(entry.id)
        and now - entry.created_at >= STALE_AFTER
        and (uses.get(entry.id) or entry.kind != "runbook")
    ]
    if told:
        yield Finding(
            "unused",
            f"{_counted(told)} an answer that no failure has needed for a year",
            "what it knows is of another time, and it is still compared with every failure",
            "take it out of use; it can still be read, and what is decided anew is learned anew",
            tuple(
                command
                for start in range(0, len(told), _MOST_NAMED)
                for command in _retire(told[start : start + _MOST_NAMED], "not needed for a year")
            ),
            tuple(told),
        )


# ---- words and commands ----


def _by_file(entries: Iterable[Entry]) -> Iterator[tuple[Entry, ...]]:
    """Entries with those of the same runbook file: one place to go to."""
    files: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        files[_file(entry) or entry.source].append(entry)
    yield from map(tuple, files.values())


def _file(entry: Entry) -> str:
    """The runbook file it was read from; "" where it was not."""
    found = _FILE_AND_LINE.fullmatch(entry.source)
    return found[1] if found else ""


def _counted(entries: Sequence[Entry]) -> str:
    where = _file(entries[0])
    of = f" of {where}" if where else ""
    return f"an entry{of} gives" if len(entries) == 1 else f"{len(entries)} entries{of} give"


def _told(entry: Entry) -> str:
    params = "".join(f" {name}={value}" for name, value in entry.params.items())
    safe = {True: ", safe to retry", False: ", not safe to retry", None: ""}[entry.safe_to_retry]
    return f"{entry.action}{params}{safe}"


def _correct(entry: Entry) -> str:
    if where := _file(entry):
        return f"edit {where}, then aiops kb seed it again"
    return "aiops kb add it anew, then retire this one"


def _keep_one(sides: Collection[Sequence[Entry]], word: str) -> tuple[str, ...]:
    """One command for each of the sides, that leaves this one alone in use."""
    return tuple(
        f"aiops kb retire {' '.join(one.id for side in sides if side is not kept for one in side)} "
        f'--reason "{kept[0].id} {word}"'
        for kept in sides
    )


def _retire(entries: Sequence[Entry], reason: str) -> tuple[str, ...]:
    if len(entries) > _MOST_NAMED:
        return _look(entries)
    return (f'aiops kb retire {" ".join(one.id for one in entries)} --reason "{reason}"',)


def _look(entries: Sequence[Entry]) -> tuple[str, ...]:
    if len(entries) == 1:
        return (f"aiops kb show {entries[0].id}",)
    return (f"aiops kb list --source {shlex.quote(_file(entries[0]) or entries[0].source)}",)
