"""Bounds for near matches from one's own record, by conformal risk control. Pure.

A labelled outcome is an incident that had no exact match, the similarity of its best near one,
and whether that one's action was the right answer, as a person or Airflow said later. The bound is
the lowest from which on, by those, acting on near matches is wrong on at most `rate` of such
incidents: of n outcomes with w wrong ones at or above it, (w + 1) / (n + 1) <= rate
(Angelopoulos et al., Conformal Risk Control, 2022; the loss is 0 or 1 and falls as the bound
rises). So at 1 % nothing can be said before 99, which is why fewer than NEEDED say nothing. It
holds on average over records like this one, while incidents keep coming as they did.

A bound belongs to an embedder and a version of the signature: other outcomes do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from knowledge.lessons import PROMPT
from knowledge.records import Brief, DecisionKind, Lesson, NearCase, OutcomeName

RATE = 0.01
WINDOW = 500  # the last so many outcomes count
NEEDED = 100
_STEP = 1e-4  # similarities are kept with four digits


@dataclass(frozen=True, slots=True)
class Labelled:
    """The best match of one incident, and whether its action was right. `kind` is the failure's
    error class."""

    similarity: float
    right: bool
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound on the similarity. `enough` says that it rests on as many outcomes as are needed;
    with fewer it is the floor. `kinds` are stricter ones for some error classes."""

    value: float
    outcomes: int
    enough: bool
    kinds: Mapping[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> float:
        """The bound for failures of this error class."""
        return max(self.value, self.kinds.get(kind, 0.0))


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of an incident afterwards: the action that was `right`, or one that was
    `wrong`; `harmful` where running it again did harm."""

    right: str | None = None
    wrong: str | None = None
    harmful: bool = False


def fit(labelled: Sequence[Labelled], *, floor: float, rate: float = RATE) -> Bound:
    """The bound by the last WINDOW of `labelled` (oldest first): never below `floor`, and above
    1.0, which no near match reaches, where none is strict enough."""
    last = labelled[-WINDOW:]
    if len(last) < needed(rate):
        return Bound(floor, len(last), enough=False)
    allowed = math.floor(rate * (len(last) + 1) - 1 + 1e-9)
    value = max(floor, _allowing(last, allowed))
    return Bound(value, len(last), enough=True, kinds=_tightened(last, value, rate))


def needed(rate: float) -> int:
    """How many labelled outcomes it takes before anything can be said at this rate."""
    return max(NEEDED, math.ceil(1 / rate - 1 - 1e-9))


def _allowing(labelled: Sequence[Labelled], allowed: int) -> float:
    """The lowest bound that so many wrong ones reach at most; above all where even none is too
    many."""
    if allowed < 0:
        return 1.0 + _STEP
    wrong = sorted((one.similarity for one in labelled if not one.right), reverse=True)
    return _above(wrong[allowed]) if len(wrong) > allowed else 0.0


def _tightened(labelled: Sequence[Labelled], value: float, rate: float) -> dict[str, float]:
    """Of each error class that is wrong more often than `rate` at this bound, the lowest bound at
    which it was not. Counts of one class are far too few to loosen anything."""
    stricter = {}
    for kind in {one.kind for one in labelled if not one.right}:
        own = [one for one in labelled if one.kind == kind]
        bound = _allowing(own, math.floor(rate * len(own) + 1e-9))
        if bound > value:
            stricter[kind] = bound
    return stricter


def _above(similarity: float) -> float:
    """The next similarity as it is kept that is higher."""
    return round((math.floor(similarity / _STEP + 1e-6) + 1) * _STEP, 4)


def truth(brief: Brief) -> Truth | None:
    """What came out about an incident; None where nobody knows. What came back soon says nothing,
    and an act that was undone counts as rejected."""
    decision = brief.decision
    if decision is None:
        return None
    outcome, harmful = brief.outcome_of(decision), bool(brief.harms)
    return _came_out(decision.kind, decision.action, outcome, harmful, brief.lesson)


def _came_out(
    kind: DecisionKind,
    action: str | None,
    outcome: OutcomeName | None,
    harmful: bool,
    lesson: Lesson | None,
) -> Truth | None:
    if kind == "shadow":
        return None
    if harmful:
        return Truth(right="none", wrong=action, harmful=True)
    if kind == "superseded":
        return _learned(lesson) if lesson else None
    if kind == "reject":
        return Truth(wrong=action) if action else None
    if action == "none":
        return Truth(right="none")
    if outcome == "fixed":
        return Truth(right=action)
    return Truth(wrong=action) if outcome == "failed" else None


def _learned(lesson: Lesson) -> Truth | None:
    """What a person's act in Airflow itself says of what would have been right. Little: a change
    of a connection names no value, and a retry that came late says nothing of one at once."""
    if lesson.mode != "person":
        return None
    told = lesson.action, lesson.outcome
    if told == ("retry", "failed"):
        return Truth(wrong="retry")
    prompt = lesson.at - lesson.failed_at <= PROMPT
    if told == ("none", "fixed") or (told == ("retry", "fixed") and prompt):
        return Truth(right=lesson.action)
    return None


def was_right(action: str | None, known: Truth) -> bool | None:
    """Whether doing `action` would have been right; None where that cannot be known."""
    if action is None:
        return None
    if known.harmful and action != "none":
        return False
    if known.right is not None:
        return helps(action, known.right)
    if action == known.wrong or (action == "retry" and known.wrong == "retry_later"):
        return False
    return None


def helps(action: str, right: str) -> bool:
    """Whether `action` ends a failure that `right` ends: a later retry helps where one at once
    does, and not the other way round."""
    return action == right or (action == "retry_later" and right == "retry")


def labelled(case: NearCase) -> Labelled | None:
    """The labelled outcome that it is; None where nobody knows what was right."""
    known = _came_out(case.kind, case.action, case.outcome, case.harmful, case.lesson)
    return label(case.similarity, case.proposed, known, case.error_class)


def label(
    similarity: float, proposed: str | None, known: Truth | None, kind: str
) -> Labelled | None:
    """As `labelled`, of the best near match of an incident of which that is known."""
    right = was_right(proposed, known) if known else None
    return None if right is None else Labelled(similarity, right, kind)
