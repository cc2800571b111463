"""Texts → unit vectors, and the features that the built-in vectors and the re-ranking share.

No weights learned from a corpus: a similarity must not drift as the knowledge base grows.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

# The built-in similarity (knowledge.ranking.similarity) from which a near match counts. Measured
# by `python -m bench.retrieval` (2026, 173 labelled texts, leave one out): the likeliest wrong
# match stood at 0.69, and at 0.81 among runbooks whose symptom is one shown line. The distance
# from there is left for logs that were not measured, where closer cousins live ("No module named
# X", "No module named Y"): a miss is shown to a person as the nearest, a false match would mislead.
BUILTIN_BOUND = 0.85

MAX_TEXT = 1000  # characters of a text that are looked at

_PLACEHOLDER = re.compile(r"<[a-z]{1,8}>")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")
# Words that nearly every failure has say little about which one it is. English function words
# and the vocabulary of error reporting itself, not counted from any collection of logs.
_COMMON_WORDS = frozenset(
    ("a", "an", "and", "the", "of", "to", "in", "on", "for", "with", "at", "by", "from", "is",
     "was", "were", "be", "been", "are", "it", "its", "this", "that", "as", "or", "not", "no",
     "when", "while", "after", "before", "has", "have", "had", "due", "because", "caused",
     "error", "exception", "failed", "failure", "airflow", "python")
)  # fmt: skip
_COMMON_WEIGHT = 0.3
_WHOLE_WORD_WEIGHT = 3.0


class Embedder(Protocol):
    """Turns texts into unit vectors of `dimensions` floats. `name` and `dimensions` make the
    vector space: vectors of two are never compared. `bound` is the similarity from which a near
    match counts with this embedder; it holds for no other. `calibrated` says whether it was
    measured: with one that was not, a near match only suggests."""

    name: str
    bound: float
    calibrated: bool

    @property
    def dimensions(self) -> int:
        """Raises ModelUnavailable where a model has to be asked and cannot be reached."""

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """One unit vector of type 'f' a text, in their order; a zero vector for an empty text.
        Raises ModelUnavailable where the embedder cannot be reached."""

    def close(self) -> None: ...


@lru_cache(maxsize=20_000)
def _word_features(word: str) -> tuple[tuple[str, float], ...]:
    """A word's character 3- to 5-grams, edges marked, and the word itself: words that share a
    stem resemble each other, and the same word more than that."""
    weight = _COMMON_WEIGHT if word in _COMMON_WORDS else 1.0
    edged = f" {word} "
    grams = Counter(
        edged[start : start + size]
        for size in (3, 4, 5)
        for start in range(max(1, len(edged) - size + 1))
    )
    pairs = [(gram, count * weight) for gram, count in grams.items()]
    return (*pairs, ("=" + word, _WHOLE_WORD_WEIGHT * weight))


@lru_cache(maxsize=4_096)
def features(text: str) -> Mapping[str, float]:
    """Weighted features of a signature text, scaled to unit length; empty for an empty text.

    Placeholders count for nothing (each failure has them), CamelCase and snake_case names are
    read as their words, and frequencies are damped by their square root. Callers must not change
    the result: it is cached.
    """
    counts: dict[str, float] = {}
    plain = _PLACEHOLDER.sub(" ", text[:MAX_TEXT])
    for word in _WORD.findall(_CAMEL.sub(" ", plain).lower()):
        for feature, weight in _word_features(word):
            counts[feature] = counts.get(feature, 0.0) + weight
    # Squared, the damped weights are the counts themselves.
    length = math.sqrt(sum(counts.values()))
    return {feature: math.sqrt(count) / length for feature, count in counts.items()}


class BuiltinEmbedder:
    """The features hashed into 1,024 signed places: no model file, the same on every machine."""

    name = "builtin"
    dimensions = 1024
    bound = BUILTIN_BOUND
    calibrated = True

    def embed(self, texts: Sequence[str]) -> list[array[float]]:
        """See Embedder. Never raises; about a fifth of a millisecond a signature."""
        return [self._embed(text) for text in texts]

    def close(self) -> None:
        """There is nothing to be closed."""

    def _embed(self, text: str) -> array[float]:
        vector = array("f", bytes(4 * self.dimensions))
        for feature, weight in features(text).items():
            # Python's own hash() differs from process to process.
            code = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
            # The sign comes from a bit that does not choose the place, so that collisions cancel.
            vector[code % self.dimensions] += weight if code >> 31 else -weight
        length = math.sqrt(sum(value * value for value in vector))
        return array("f", (value / length for value in vector)) if length else vector


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """The cosine of two unit vectors of one length; 0.0 with a zero vector."""
    return sum(x * y for x, y in zip(a, b, strict=True))
