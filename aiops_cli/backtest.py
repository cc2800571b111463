"""One's own incidents again, in their order, each judged only by what was known before it.

The record is laid out as events in time: an entry, or another version of it, is put, or retired;
lessons are learned; an incident is seen and judged; somebody decides; an outcome becomes known.
Each judgement is held against what came out in the end. Of an incident only what is counted is
held.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from aiops_cli.published import utc
from aiops_cli.replay import Replay, Verdict, verdict
from knowledge import calibration
from knowledge.base import KnowledgeBase
from knowledge.calibration import Labelled, Truth, truth, was_right
from knowledge.errors import DoorClosed
from knowledge.records import Brief, Decision, Entry, Lesson, Outcome
from knowledge.stores import Store
from knowledge.stores.rules import acts

BLOCK = 50
OUTCOMES = ("right", "wasted", "harmful", "unclear", "told", "mistold", "asked")
ACTED = ("right", "wasted", "harmful", "unclear")
GLOBAL = 0.82  # the one bound of the baseline
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of a model's confidence, from here to the next


@dataclass(frozen=True, slots=True)
class Asked:
    """What a model said when it was asked about what was `proposed`. `unheard` says why it was
    not heard; `stopped` that nothing but its word stood against doing that, or telling it."""

    model: str
    unheard: str | None
    action: str | None
    confidence: float
    quotes_stand: bool
    proposed: str | None
    stopped: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One incident, how it was judged anew, and what came out of it. `kind` is the failure's
    error class."""

    failed_at: datetime
    kind: str
    said: Verdict
    known: Truth | None
    asked: Asked | None = None

    @property
    def outcome(self) -> str:
        """One of OUTCOMES. Acted alone: `right` where it was, `harmful`, `wasted`, or `unclear`
        where nobody recorded what was right. `told` is a known `none` that was right or cannot be
        held against anything, `mistold` one that was not."""
        if self.said.acts is not None:
            return judged(self.said.acts, self.known)
        if self.said.told:
            right = was_right("none", self.known) if self.known else None
            return "mistold" if right is False else "told"
        return "asked"


def judged(action: str, known: Truth | None) -> str:
    """What doing `action` alone would have been: right, wasted, harmful or unclear."""
    right = was_right(action, known) if known else None
    if right is None:
        return "unclear"
    if right:
        return "right"
    return "harmful" if known and known.harmful else "wasted"


# ---- the replay ----


class _Events:
    """What happened, each with its moment and, of one moment, its order."""

    def __init__(self) -> None:
        self._all: list[tuple[datetime, int, int, Callable[[], object]]] = []
        self._number = count()

    def at(self, moment: datetime, order: int, act: Callable[[], object]) -> None:
        self._all.append((moment, order, next(self._number), act))

    def in_turn(self) -> list[tuple[datetime, int, int, Callable[[], object]]]:
        return sorted(self._all, key=lambda event: event[:3])


# Of one moment: what is known comes first; a person's answer comes after it failed.
KNOWN, SEEN, DECIDED, ENDED, AFTER = range(5)


def run(
    replay: Replay,
    source: KnowledgeBase,
    instance: str | None,
    told: Callable[[int, int], None],
    *,
    anew: bool = False,
) -> list[Step]:
    """Replay all incidents of an instance (of all, where None) that `source` holds. `told` hears
    how many of how many were judged. `anew` says that a model is asked in the replay; otherwise
    the opinions that are stored with the incidents count."""
    briefs = sorted(
        source.store.briefs(instance=instance), key=lambda one: (one.seen_at, one.incident_id)
    )
    steps: list[Step] = []
    events = _Events()
    _entries(events, replay, source.store)
    _lessons(events, replay, source.store)
    for brief in briefs:
        events.at(brief.seen_at, SEEN, partial(_judge, replay, source.store, brief, anew, steps))
        _decisions(events, replay, brief)
    for moment, order, _, act in events.in_turn():
        replay.clock.at = max(replay.clock.at, moment)
        act()
        if order == SEEN:
            told(len(steps), len(briefs))
    return steps


def _judge(replay: Replay, source: Store, brief: Brief, anew: bool, steps: list[Step]) -> None:
    case = source.case(brief.incident_id)
    document = replay.judge(case.incident)
    told = document if anew or case.judgement is None else case.judgement.document
    steps.append(
        Step(brief.failed_at, brief.error_class, verdict(document), truth(brief), _asked(told))
    )


def _entries(events: _Events, replay: Replay, source: Store) -> None:
    """The events of what was known, or not any more; entries of one moment are put together."""
    put: dict[tuple[datetime, int], list[Entry]] = {}
    newest: dict[str, datetime] = {}
    gone: list[tuple[datetime, int, str]] = []
    for version in source.versions():
        entry = replace(version.entry, retired=False)
        order = KNOWN if entry.incident_id is None else DECIDED
        # One that was made anew, in another base or by a reindex, bears the time of the first.
        moment = newest[entry.id] = max(entry.created_at, newest.get(entry.id, entry.created_at))
        put.setdefault((moment, order), []).append(entry)
        if version.retired_at is not None:
            gone.append((max(version.retired_at, moment), order, entry.id))
    for (moment, order), entries in put.items():
        events.at(moment, order, partial(replay.knowledge.put, entries, moment))
    for moment, order, name in gone:
        events.at(
            moment, order, partial(replay.store.retire_entries, [name], "replay", moment, "then")
        )


def _lessons(events: _Events, replay: Replay, source: Store) -> None:
    """The events of what was learned from Airflow, all of one moment together."""
    learned: dict[datetime, list[Lesson]] = {}
    for one in source.lessons(source.lesson_counts()):
        learned.setdefault(one.seen_at, []).append(one)
    for moment, several in learned.items():
        events.at(moment, KNOWN, partial(replay.store.add_lessons, several))


def _decisions(events: _Events, replay: Replay, brief: Brief) -> None:
    """The events of what was decided about an incident and what came of it."""

    def at(moment: datetime, order: int, act: Callable[[], object]) -> None:
        events.at(max(moment, brief.seen_at), order, act)

    for number, decision in enumerate(_replayed(brief)):
        # What follows an act, its undoing, comes after its end.
        order = AFTER if number else DECIDED
        at(decision.at, order, partial(_decide, replay, brief.incident_id, decision))
        for one in brief.outcomes:
            if one.decision == decision.seq:
                at(max(one.at, decision.at), ENDED, partial(_end, replay, one))
    for harm in brief.harms[-1:]:
        at(harm.at, AFTER, partial(replay.call_wrong, harm))


def _replayed(brief: Brief) -> list[Decision]:
    """The decision that stands, and before it the act that it undid. Of other acts before it
    nobody knows the end: they were given up."""
    decided = [one for one in brief.decisions if one.kind != "shadow"]
    if not decided or acts(decided[-1]):
        return decided[-1:]
    ended = [one for one in decided[:-1] if acts(one) and brief.outcome_of(one) in _SEEN]
    return [*ended[-1:], decided[-1]]


_SEEN = ("fixed", "failed", "relapsed", "superseded")


def _decide(replay: Replay, incident_id: str, decision: Decision) -> None:
    try:
        replay.decide(replay.store.case(incident_id).incident, replace(decision, seq=0, grant=None))
    except DoorClosed:  # the record holds what this store's brakes would not have let through
        return


def _end(replay: Replay, outcome: Outcome) -> None:
    replay.end(outcome.incident_id, outcome.outcome, outcome.at, outcome.detail)


# ---- what it comes to ----


def measure(
    steps: Sequence[Step],
    record: Sequence[Labelled],
    *,
    embedder: str,
    floor: float,
    risk: float,
) -> dict[str, Any]:
    """The backtest's document: counts, never shares, so that a reader sees how few they are.
    `record` are the labelled outcomes that the watch's own bound is made from."""
    blocks = [steps[start : start + BLOCK] for start in range(0, len(steps), BLOCK)]
    failed_at = [step.failed_at for step in steps]
    return {
        "incidents": len(steps),
        "since": utc(min(failed_at)) if steps else None,  # a pass looks at the newest first
        "until": utc(max(failed_at)) if steps else None,
        "known": sum(step.known is not None for step in steps),
        "outcomes": _counts(steps),
        "curve": [
            {"from": number * BLOCK + 1, "to": number * BLOCK + len(block), **_counts(block)}
            for number, block in enumerate(blocks)
        ],
        "baselines": baselines(steps),
        "precision": precision(steps),
        "bound": suggestion(record, steps, embedder, floor, risk),
        "model": model(steps),
    }


def _counts(steps: Iterable[Step]) -> dict[str, int]:
    found = Counter(step.outcome for step in steps)
    return {outcome: found[outcome] for outcome in OUTCOMES}


def baselines(steps: Sequence[Step]) -> dict[str, dict[str, int]]:
    """What simpler rules would have done with the same incidents: retry whatever failed; act at
    once on an exact match; act at once on any match of 0.82 or more."""
    rules: Mapping[str, Callable[[Verdict], str | None]] = {
        "blind retry": lambda _: "retry",
        "exact match only": lambda said: said.best if said.found == "exact" else None,
        "one global 0.82": lambda said: said.best if said.similarity >= GLOBAL else None,
    }
    return {name: _counts_of(steps, rule) for name, rule in rules.items()}


def _counts_of(steps: Sequence[Step], rule: Callable[[Verdict], str | None]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for step in steps:
        action = rule(step.said)
        told = replace(step.said, acts=None if action == "none" else action, told=action == "none")
        found[replace(step, said=told).outcome] += 1
    return {outcome: found[outcome] for outcome in OUTCOMES}


def precision(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """At bounds on the similarity of the best match: of the incidents whose right answer is known,
    how many reach it (`reached`), and for how many of those its action was right."""
    held = [
        (step.said.similarity, right)
        for step in steps
        if step.known and (right := was_right(step.said.best, step.known)) is not None
    ]
    known = sum(step.known is not None for step in steps)
    levels = sorted({0.0, *(round(0.5 + 0.05 * n, 2) for n in range(11)), GLOBAL})
    return [
        {
            "bound": level,
            "known": known,
            "reached": sum(similarity >= level for similarity, _ in held),
            "right": sum(similarity >= level and right for similarity, right in held),
        }
        for level in levels
    ]


def suggestion(
    record: Sequence[Labelled], steps: Sequence[Step], embedder: str, floor: float, risk: float
) -> dict[str, Any]:
    """The bounds that are supported at `risk`, and the lines for the settings; none where there is
    too little of it. They come from the record by the rule that the watch goes by; only where that
    has too few outcomes of this embedder they come from those that were judged anew (`from`).
    `in_use` is the bound of the watch itself, which takes those of the record at RATE."""
    held = [
        calibration.label(step.said.similarity, step.said.best, step.known, step.kind)
        for step in steps
        if step.said.found == "near"
    ]
    kept = calibration.fit(record, floor=floor, rate=risk)
    anew = calibration.fit([one for one in held if one is not None], floor=floor, rate=risk)
    in_replay = anew.enough and not kept.enough
    bound, watch = anew if in_replay else kept, calibration.fit(record, floor=floor)
    return {
        "embedder": embedder,
        "risk": risk,
        "floor": floor,
        "from": "replay" if in_replay else "record",
        "outcomes": bound.outcomes,
        "needed": calibration.needed(risk),
        "value": min(bound.value, 1.0) if bound.enough else None,
        "kinds": {kind: min(value, 1.0) for kind, value in sorted(bound.kinds.items())},
        "settings": _lines(bound, floor) if bound.enough else [],
        "in_use": {
            "value": min(watch.value, 1.0),
            "from": "record" if watch.enough else "embedder",
            "outcomes": watch.outcomes,
        },
    }


def _lines(bound: calibration.Bound, floor: float) -> list[str]:
    """For the settings file, where they say more than what holds anyway."""
    lines = []
    if bound.value > floor:
        lines.append(f"  similarity: {_up(bound.value)}")
    kinds = {kind: value for kind, value in sorted(bound.kinds.items()) if kind}
    if kinds:
        lines.append("  similarity_for:")
        lines += [f"    error:{kind}: {_up(value)}" for kind, value in kinds.items()]
    return ["gate:", *lines] if lines else []


def _up(value: float) -> float:
    return min(math.ceil(value * 1000 - 1e-6) / 1000, 1.0)


def _asked(document: Mapping[str, Any]) -> Asked | None:
    """What the judgement heard of a model; None where none was asked."""
    opinion, proposed = document["diagnosis"].get("opinion"), document["diagnosis"]["action"]
    if opinion is None:
        return None
    checks = document["gate"]["checks"]
    failed = {check["name"] for check in checks if not check["passed"]}
    # Nothing is to be done about a `none`, so that no leave to act can be missing.
    alone = {"confidence", "action_allowed"} if proposed == "none" else {"confidence"}
    return Asked(
        model=opinion["model"],
        unheard=opinion["unheard"],
        action=opinion["action"],
        confidence=opinion["confidence"],
        quotes_stand=opinion["quotes_stand"],
        proposed=proposed,
        stopped="confidence" in failed and failed <= alone,
    )


def model(steps: Sequence[Step]) -> dict[str, Any] | None:
    """What a model's opinions were worth; None where it was never asked."""
    asked = [(step.asked, step.known) for step in steps if step.asked is not None]
    if not asked:
        return None
    heard = [(said, known) for said, known in asked if said.unheard is None]
    held = [
        (said.confidence, right)
        for said, known in heard
        if known and (right := was_right(said.action, known)) is not None
    ]
    return {
        "models": sorted({said.model for said, _ in asked}),
        "asked": len(asked),
        "heard": len(heard),
        "unheard": dict(Counter(said.unheard for said, _ in asked if said.unheard is not None)),
        "made_up_quotes": sum(not said.quotes_stand for said, _ in heard),
        "held": len(held),
        "right": sum(right for _, right in held),
        "stopped": dict(
            Counter(judged(str(said.proposed), known) for said, known in asked if said.stopped)
        ),
        "reliability": [
            {
                "from": low,
                "to": min(high, 1.0),
                "said": sum(low <= said < high for said, _ in held),
                "right": sum(low <= said < high and right for said, right in held),
            }
            for low, high in zip(BINS, (*BINS[1:], 1.01), strict=True)
        ],
    }
