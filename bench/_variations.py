"""Failures as many sites would have them: the signatures of tests/corpus with other names in them.

Vectors drawn at random are all equally far apart, and texts of random words share nothing: on
both, searches and their indexes behave as they never do on failures.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from knowledge.signature import sign

CORPUS = Path(__file__).parents[1] / "tests" / "corpus" / "failures.jsonl"
CHANGED = 0.3  # of the words of a signature
NAMES = 20_000

_WORD = re.compile(r"(?<![<\w])[A-Za-z][A-Za-z_]{2,}(?![\w>])")


def corpus_signatures() -> list[str]:
    """The distinct signature texts of the corpus."""
    records = map(json.loads, CORPUS.read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(sign(record["text"]).text for record in records))


def variations(texts: list[str], seed: int) -> Iterator[str]:
    """Endlessly many distinct texts: each is one of `texts` with some of its words replaced, by
    names of which some are common and most are rare. The same for the same seed."""
    chance = random.Random(seed)
    words = sorted({word.lower() for text in texts for word in _WORD.findall(text)})
    namer = random.Random(0)  # names are of the world, not of the seed
    names = [f"{namer.choice(words)}_{namer.choice(words)}" for _ in range(NAMES)]
    commonness = list(accumulate(1 / place for place in range(1, NAMES + 1)))

    def other(word: re.Match[str]) -> str:
        if chance.random() >= CHANGED:
            return word[0]
        return chance.choices(names, cum_weights=commonness)[0]

    known = set(texts)
    while True:
        text = _WORD.sub(other, chance.choice(texts))
        if text not in known:
            known.add(text)
            yield text
