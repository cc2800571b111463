"""One's own incidents again, in their order, each judged only by what was known before it.

The record is laid out as events in time: an incident is seen and judged, a person decides and that
is learned, an outcome becomes known. Each judgement is held against what came out in the end.
Lessons of what was done in Airflow itself are known from when they were learned, with the entries
that they make; other entries from when they were stored. An entry that was retired since is left
out throughout, for nobody kept since when.
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
from knowledge.calibration import Truth, truth, was_right
from knowledge.errors import DoorClosed
from knowledge.records import Case, Entry, Lesson, Vouch
from knowledge.stores import Store

BLOCK = 50
OUTCOMES = ("right", "wasted", "harmful", "unclear", "told", "mistold", "asked")
ACTED = ("right", "wasted", "harmful", "unclear")
GLOBAL = 0.82  # the one bound of the baseline
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of a model's confidence, from here to the next


@dataclass(frozen=True, slots=True)
class Step:
    """One incident, how it was judged anew, and what came out of it."""

    case: Case
    document: Mapping[str, Any]
    said: Verdict
    known: Truth | None

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


def run(
    replay: Replay, source: KnowledgeBase, instance: str | None, told: Callable[[int, int], None]
) -> list[Step]:
    """Replay all incidents of an instance (of all, where None) that `source` holds. `told` hears
    how many of how many were judged."""
    cases = sorted(
        source.store.cases(instance=instance),
        key=lambda case: (case.incident.seen_at, case.incident.id),
    )
    steps: list[Step] = []
    vouches = _Vouches(source.store)
    events: list[tuple[datetime, int, int, Callable[[], object]]] = []
    number = count()

    def at(moment: datetime, order: int, act: Callable[[], object]) -> None:
        events.append((moment, order, next(number), act))

    stored: dict[tuple[datetime, int], list[Entry]] = {}
    for entry in source.store.entries():
        if entry.kind != "history":
            order = 0 if entry.incident_id is None else 2  # a person's answer comes after it failed
            stored.setdefault((entry.created_at, order), []).append(entry)
    for (moment, order), entries in stored.items():
        at(moment, order, partial(replay.knowledge.put, entries, moment))
    _lessons(at, replay, source)
    for case in cases:
        at(case.incident.seen_at, 1, partial(_judge, replay, case, steps))
        _decisions(at, replay, source, case, vouches)
    for moment, order, _, act in sorted(events, key=lambda event: event[:3]):
        replay.clock.at = max(replay.clock.at, moment)
        act()
        if order == 1:
            told(len(steps), len(cases))
    return steps


def _judge(replay: Replay, case: Case, steps: list[Step]) -> None:
    document = replay.judge(case.incident)
    steps.append(Step(case, document, verdict(document), truth(case)))


def _lessons(
    at: Callable[[datetime, int, Callable[[], object]], None],
    replay: Replay,
    source: KnowledgeBase,
) -> None:
    """The events of what was learned from Airflow, all of one moment together."""
    live = {entry.id for entry in source.store.entries(kind="history")}
    gone = {
        entry.symptoms[0].signature.fingerprint
        for entry in source.store.entries(kind="history", retired=True)
        if entry.id not in live
    }
    learned: dict[datetime, list[Lesson]] = {}
    for one in source.store.lessons(source.store.lesson_counts()):
        learned.setdefault(one.seen_at, []).append(one)

    def learn(several: Sequence[Lesson], moment: datetime) -> None:
        replay.store.add_lessons(several)
        prints = {one.signature.fingerprint for one in several} - gone
        replay.knowledge.learn_history(sorted(prints), moment)

    for moment, several in learned.items():
        at(moment, 0, partial(learn, several, moment))


class _Vouches:
    """What people said of tasks, each word given out once, with the decision that came with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: dict[tuple[str, str, str], list[Vouch]] = {}

    def until(self, case: Case, moment: datetime) -> list[Vouch]:
        one = case.incident
        key = one.instance, one.dag_id, one.task_id
        if key not in self._left:
            self._left[key] = list(self._store.vouches(*key))
        said = [vouch for vouch in self._left[key] if vouch.at <= moment]
        self._left[key] = [vouch for vouch in self._left[key] if vouch.at > moment]
        return said


def _decisions(
    at: Callable[[datetime, int, Callable[[], object]], None],
    replay: Replay,
    source: KnowledgeBase,
    case: Case,
    vouches: _Vouches,
) -> None:
    """The events of what was decided about a case and what came of it."""
    decision, incident = case.decision, case.incident
    if decision is None or decision.kind == "shadow":
        return
    outcomes = [one for one in case.outcomes if one.decision == decision.seq]

    def decide() -> None:
        plain = replace(decision, seq=0, grant=None)
        try:
            replay.decide(incident, plain, vouches.until(case, decision.at))
        except DoorClosed:  # the record holds what this store's brakes would not have let through
            return
        _learn(replay, source, case)

    def settle(outcome: Any) -> Callable[[], None]:
        return lambda: replay.end(incident.id, outcome.outcome, outcome.at, outcome.detail)

    def harm() -> None:
        if case.harm is not None and replay.acted(incident.id):
            said = vouches.until(case, case.harm.at)
            replay.store.call_wrong(incident.id, case.harm.by, case.harm.at, case.harm.reason, said)

    at(max(decision.at, incident.seen_at), 2, decide)
    for outcome in outcomes:
        at(max(outcome.at, decision.at, incident.seen_at), 3, settle(outcome))
    if case.harm is not None:
        at(max(case.harm.at, decision.at, incident.seen_at), 4, harm)


def _learn(replay: Replay, source: KnowledgeBase, case: Case) -> None:
    """As `decide.approve` and `decide.reject` do it."""
    decision, incident = case.decision, case.incident
    if decision is None or not incident.signature.text or decision.by == "airflow":
        return
    action, params = decision.action, decision.params
    if decision.kind == "reject" and source.knows(incident, "none", {}):
        action, params = "none", {}
    elif decision.kind != "approve":
        return
    if action is not None:
        replay.knowledge.learn(
            incident, action=action, params=params, cause=decision.cause, at=decision.at
        )


# ---- what it comes to ----


def measure(
    steps: Sequence[Step], *, embedder: str, floor: float, risk: float, anew: bool = False
) -> dict[str, Any]:
    """The backtest's document: counts, never shares, so that a reader sees how few they are.
    `anew` says that a model was asked in the replay; otherwise the opinions that are stored
    with the incidents count."""
    blocks = [steps[start : start + BLOCK] for start in range(0, len(steps), BLOCK)]
    failed_at = [step.case.incident.failed_at for step in steps]
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
        "bound": suggestion(steps, embedder, floor, risk),
        "model": model(steps if anew else [_as_stored(step) for step in steps]),
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


def suggestion(steps: Sequence[Step], embedder: str, floor: float, risk: float) -> dict[str, Any]:
    """The bounds that this record supports at `risk`, and the lines for the settings; none where
    there is too little of it."""
    kinds = (step.case.incident.signature.error_class for step in steps)
    labelled = [
        one
        for step, kind in zip(steps, kinds, strict=True)
        if step.said.found == "near"
        and (one := calibration.label(step.said.similarity, step.said.best, step.known, kind))
    ]
    bound = calibration.fit(labelled, floor=floor, rate=risk)
    return {
        "embedder": embedder,
        "risk": risk,
        "floor": floor,
        "outcomes": bound.outcomes,
        "needed": calibration.needed(risk),
        "value": min(bound.value, 1.0) if bound.enough else None,
        "kinds": {kind: min(value, 1.0) for kind, value in sorted(bound.kinds.items())},
        "settings": _lines(bound, floor) if bound.enough else [],
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


def _as_stored(step: Step) -> Step:
    """As the incident was judged in its time."""
    judgement = step.case.judgement
    if judgement is None:
        return step
    return replace(step, document=judgement.document, said=verdict(judgement.document))


def model(steps: Sequence[Step]) -> dict[str, Any] | None:
    """What a model's opinions were worth; None where it was never asked."""
    asked = [
        (step, opinion)
        for step in steps
        if (opinion := step.document["diagnosis"].get("opinion")) is not None
    ]
    if not asked:
        return None
    heard = [(step, opinion) for step, opinion in asked if opinion["unheard"] is None]
    held = [
        (opinion["confidence"], right)
        for step, opinion in heard
        if step.known and (right := was_right(opinion["action"], step.known)) is not None
    ]
    stopped = [step for step in (step for step, _ in asked) if _stopped_by_model(step)]
    return {
        "models": sorted({opinion["model"] for _, opinion in asked}),
        "asked": len(asked),
        "heard": len(heard),
        "unheard": dict(Counter(o["unheard"] for _, o in asked if o["unheard"] is not None)),
        "made_up_quotes": sum(not opinion["quotes_stand"] for _, opinion in heard),
        "held": len(held),
        "right": sum(right for _, right in held),
        "stopped": dict(Counter(judged(str(step.said.proposed), step.known) for step in stopped)),
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


def _stopped_by_model(step: Step) -> bool:
    """Whether it would have been done, or told, but for the model."""
    checks = step.document["gate"]["checks"]
    failed = {check["name"] for check in checks if not check["passed"]}
    return "confidence" in failed and failed <= (
        {"confidence", "action_allowed"} if step.said.proposed == "none" else {"confidence"}
    )
