"""Exact, vector and full-text candidates → Matches, by one similarity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from knowledge.embedders import BUILTIN_BOUND, features
from knowledge.records import Candidate, Entry, Match, Signature, Symptom
from knowledge.signature import sign
from knowledge.wrappers import inner_lines, says_nothing

__all__ = ["BUILTIN_BOUND", "BUILTIN_MARGIN", "lead", "rank", "similarity"]

# The least lead over the best match with another action. It costs no coverage in the bench and
# stops what two labels of one failure contradict, where the lead is 0.
BUILTIN_MARGIN = 0.05

# What a runbook writes where any name, or any URL, will do; a name is told by what stands before.
_ANY_NAME, _ANY_URL = "<name>", "<url>"
_BEFORE_NAME = re.compile(rf"([^\n>]{{3,16}}){_ANY_NAME}")
_NAME = r"[^\s'\"`]{0,200}[^\s'\"`.,:;)\]]"
_URL_PATH = re.compile(r"<url>(?:/(?:[A-Za-z][\w.~-]*|<id>))+")

# Two failures whose codes contradict each other are not the same, however alike their words.
_CONTRADICTION = 0.75

# What a likeness counts for where the failure has no message: found by who searches for its kind,
# and below every bound.
_NO_MESSAGE = 0.5

# What a runbook's symptom counts for that is only the newest lines of a failure: less than one
# that is all of it, by more than BUILTIN_MARGIN, so that what says more stands first.
_NEWEST_ALONE = 0.9

# A kind of code → how signatures write it; one of the groups is the code.
_CODES = (
    (
        "http",
        re.compile(
            r"(?i:\bhttp\w*[ /.\d]{0,5}\b|\bstatus(?: ?code)?|\berror|\bresponse)"
            r"\W{0,4}([1-5]\d\d)\b"
            r"|(?<![\w<])([45]\d\d)(?=:? ?[A-Z][A-Za-z])|\(([45]\d\d)\)"
        ),
    ),
    ("errno", re.compile(r"(?i)\berrno (-?\d+)")),
    (
        "exit",
        re.compile(
            r"(?i)\b(?:exit|return)[ _]?(?:code|status)\W{0,6}?(?:is )?(-?\d+)|\bsignal (\d+)"
        ),
    ),
    ("vendor", re.compile(r"\b([A-Z]{2,5}-\d{3,6})\b|\b(\d{5,6}) \(\w{5}\)|\((\d{4,5}), ")),
    ("verb", re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)\b")),
)


@lru_cache(maxsize=4_096)
def _codes(text: str) -> dict[str, frozenset[str]]:
    found = {}
    for kind, pattern in _CODES:
        codes = frozenset(
            _family(kind, next(group for group in match.groups() if group))
            for match in pattern.finditer(text)
        )
        if codes:
            found[kind] = codes
    return found


def _family(kind: str, code: str) -> str:
    """Server errors are one family (a gateway answers 502, 503 or 504 for the same cause); every
    other code speaks for itself."""
    return "5xx" if kind == "http" and code.startswith("5") else code


def similarity(a: str, b: str) -> float:
    """How alike two signature texts are, 0.0 to 1.0: the cosine of their features, lowered where
    both name a code of one kind and share none."""
    return _cosine(a, b) * _agreement(a, b)


def _cosine(a: str, b: str) -> float:
    if not a or not b:
        return 0.0
    if a == b:
        return 1.0
    left, right = features(a), features(b)
    if len(left) > len(right):
        left, right = right, left
    return min(1.0, sum(weight * right.get(feature, 0.0) for feature, weight in left.items()))


def _agreement(a: str, b: str) -> float:
    ours, theirs = _codes(a), _codes(b)
    contradict = any(kind in theirs and not codes & theirs[kind] for kind, codes in ours.items())
    return _CONTRADICTION if contradict else 1.0


def rank(
    signature: Signature,
    exact: Sequence[Candidate],
    near: Sequence[Candidate],
    *,
    limit: int = 5,
    by_cosine: bool = False,
) -> tuple[Match, ...]:
    """The best `limit` matches, one an entry: exact ones first with 1.0, then by similarity: the
    built-in one, or (`by_cosine`) that of the embedder's own vectors, for which the candidates
    without one do not count: among the nearest they would have been found.

    Among equals the one whose user frame is the failure's stands first, then the newer entry.
    An empty signature equals nothing: it has no exact matches; one without any message is near
    nothing. Where a symptom was written with `<name>` or `<url>`, the failure may have any name or
    URL there.
    """
    best: dict[str, Match] = {}
    if signature.fingerprint:
        for candidate in exact:
            _keep(best, Match(candidate.entry, 1.0, "exact", candidate.symptom))
    empty = says_nothing(signature.text)
    for candidate in near:
        score = _by_cosine(candidate, signature) if by_cosine else _by_text(candidate, signature)
        symptom = candidate.entry.symptoms[candidate.symptom]
        if empty and not _leaves_open(symptom, signature.text):
            score *= _NO_MESSAGE
        if score > 0.0:
            _keep(best, Match(candidate.entry, score, "near", candidate.symptom))
    ranked = sorted(best.values(), key=lambda match: _order(match, signature), reverse=True)
    return tuple(ranked[:limit])


def _by_text(candidate: Candidate, signature: Signature) -> float:
    symptom = candidate.entry.symptoms[candidate.symptom]
    score = _likeness(signature.text, symptom)
    if candidate.entry.kind == "runbook" and _is_newest(signature, symptom):
        score = max(score, _NEWEST_ALONE * _agreement(signature.text, symptom.signature.text))
    return score


def _by_cosine(candidate: Candidate, signature: Signature) -> float:
    """What small dense vectors blur are the words that decide (measured: 404 and 401 at 0.97), so
    codes that contradict each other count here too."""
    known = candidate.entry.symptoms[candidate.symptom].signature.text
    return min(1.0, candidate.cosine or 0.0) * _agreement(signature.text, known)


def _likeness(text: str, symptom: Symptom) -> float:
    """How alike a failure's text and a symptom are, wrappers included or left out on both sides:
    whoever took a line out of a log has no wrapper, and another operator has another one. A
    wrapper's codes count all the same."""
    text, known = _left_open(symptom, text), symptom.signature.text
    whole = similarity(text, known)
    inner, known_inner = inner_lines(text), _known_inner(symptom)
    if (inner, known_inner) == (text, known):
        return whole
    return max(whole, _cosine(inner, known_inner) * _agreement(text, known))


def _is_newest(signature: Signature, symptom: Symptom) -> bool:
    """Whether a symptom is the line that a person is shown of a failure (perhaps cut), or the
    newest lines of it. It must be the very same: lines that are cut, and single ones of many,
    say too little for those that are merely alike."""
    known = _known_inner(symptom)
    texts = (signed(signature.headline), inner_lines(signature.text))
    return bool(known) and any(
        f"{_left_open(symptom, text)}\n".startswith(f"{known}\n") for text in texts
    )


def _known_inner(symptom: Symptom) -> str:
    if not symptom.signature.wrapper:
        return inner_lines(symptom.signature.text)
    # Who writes the wrapper first, and below it what was inside, writes no log.
    below = inner_lines(symptom.text)
    return symptom.signature.text if below == symptom.text else signed(below)


@lru_cache(maxsize=4_096)
def signed(text: str) -> str:
    """The text of this line's signature."""
    return sign(text).text


def _left_open(symptom: Symptom, text: str) -> str:
    """`text` without the names and paths that `symptom` leaves open. Runbooks know "no module
    named X" for any X, while two incidents of two modules are two failures."""
    if _ANY_NAME in symptom.text and (named := _named(symptom.signature.text)):
        text = named.sub(rf"\1{_ANY_NAME}", text)
    if _ANY_URL in symptom.text:
        text = _URL_PATH.sub(_ANY_URL, text)
    return text


def _leaves_open(symptom: Symptom, text: str) -> bool:
    """Whether `text` is what the symptom says, but for the names that it leaves open."""
    return _left_open(symptom, text) == symptom.signature.text


@lru_cache(maxsize=4_096)
def _named(symptom: str) -> re.Pattern[str] | None:
    """Names where the symptom has `<name>`."""
    before = "|".join(map(re.escape, _BEFORE_NAME.findall(symptom)))
    return re.compile(f"({before}){_NAME}") if before else None


def _keep(best: dict[str, Match], match: Match) -> None:
    known = best.get(match.entry.id)
    if known is None or (match.found == "exact", match.similarity) > (
        known.found == "exact",
        known.similarity,
    ):
        best[match.entry.id] = match


def _order(match: Match, signature: Signature) -> tuple[bool, float, bool, float]:
    frame = match.entry.symptoms[match.symptom].signature.frame
    return (
        match.found == "exact",
        match.similarity,
        frame is not None and frame == signature.frame,
        match.entry.created_at.timestamp(),
    )


def lead(matches: Sequence[Match]) -> float | None:
    """How far the best match is ahead of the best one with another action; None where no match
    has another one. Entries without an action have no say."""
    if not matches:
        return None
    others = _similarities(matches[1:], matches[0].entry)
    return matches[0].similarity - max(others) if others else None


def _similarities(matches: Iterable[Match], best: Entry) -> list[float]:
    return [
        match.similarity
        for match in matches
        if match.entry.action is not None and match.entry.action != best.action
    ]
