"""Which of many texts are alike, and whether two globs can fit one name. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from math import sqrt

from knowledge.embedders import features
from knowledge.ranking import similarity

_PIECE = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)
_ROUNDING = 1e-9  # must not lose a pair


def near_pairs(
    texts: Sequence[str], bound: float, of: Collection[int]
) -> Iterator[tuple[int, int, float]]:
    """Every (i, j, similarity) with i < j, one of them in `of`, whose similarity
    (`knowledge.ranking`) is at least `bound` (above 0), without comparing each with each.

    Two unit vectors of such a cosine share one of the rarest features that carry all but bound²
    of a vector's square, so only these are looked up (prefix filter: Bayardo, Ma and Srikant,
    "Scaling up all pairs similarity search", 2007); and what they share from there on is at most
    the product of what is left of both (Anastasiu and Karypis, "L2AP", 2014).
    """
    vectors = [features(text) for text in texts]
    frequency = Counter(feature for weights in vectors for feature in weights)
    # feature → (text, weight, length of what is left of its vector behind this feature)
    having: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    having_of: dict[str, list[tuple[int, float, float]]] = defaultdict(list)  # those in `of`
    for second, weights in enumerate(vectors):
        wanted = second in of
        lookup = having if wanted else having_of
        rest = 1.0
        shared: dict[int, float] = {}
        most: dict[int, float] = {}
        for feature in sorted(weights, key=lambda name: (frequency[name], name)):
            if rest < bound * bound - _ROUNDING:
                break
            weight = weights[feature]
            rest -= weight * weight
            left = sqrt(max(rest, 0.0))
            for first, other, its_left in lookup[feature]:
                shared[first] = so_far = shared.get(first, 0.0) + weight * other
                most[first] = so_far + left * its_left
            having[feature].append((second, weight, left))
            if wanted:
                having_of[feature].append((second, weight, left))
        for first in sorted(one for one, reach in most.items() if reach >= bound - _ROUNDING):
            other_weights = vectors[first]
            cosine = sum(
                weight * other_weights[feature]
                for feature, weight in weights.items()
                if feature in other_weights
            )
            if cosine >= bound - _ROUNDING:
                # It also knows codes that contradict each other, which only make it less.
                score = similarity(texts[first], texts[second])
                if score >= bound:
                    yield first, second, score


def globs_overlap(a: str, b: str) -> bool:
    """Whether some name fits both globs. A set ([abc]) is taken for any one character, so that
    a doubt counts as an overlap."""
    left, right = _PIECE.findall(a), _PIECE.findall(b)
    # fits[j]: whether some name fits what was read of `left` and the first j pieces of `right`.
    fits = [all(piece == "*" for piece in right[:j]) for j in range(len(right) + 1)]
    for piece in left:
        row = [fits[0] and piece == "*"]
        for j, other in enumerate(right, 1):
            if "*" in (piece, other):
                row.append(fits[j] or row[j - 1])
            else:
                row.append(fits[j - 1] and (piece == other or _open(piece) or _open(other)))
        fits = row
    return fits[-1]


def _open(piece: str) -> bool:
    return piece == "?" or len(piece) > 1
