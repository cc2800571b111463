"""How well past failures are found again: `python -m bench.retrieval`.

On the labelled failure texts of tests/corpus: leave-one-out accuracy of the nearest one's class
and action, coverage and precision of what the bounds let through, what is matched falsely while
a failure's whole class is unknown, and what signing and ranking cost. The `class` of a text is a
label for scoring only. Square brackets hold 95 % bootstrap intervals over the texts.
"""

from __future__ import annotations

import json
import math
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from knowledge.chains import find_chains
from knowledge.embedders import BuiltinEmbedder, cosine
from knowledge.loglines import read_lines
from knowledge.ranking import BUILTIN_BOUND, BUILTIN_MARGIN, lead, rank
from knowledge.records import Candidate, Entry, Match, Signature, Symptom
from knowledge.signature import sign
from knowledge.tokens import tokenize

CORPUS = Path(__file__).parents[1] / "tests" / "corpus" / "failures.jsonl"
CANDIDATES = 60  # of each search, as the knowledge base asks for
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One labelled failure, as an entry that others may match and as a query."""

    label: str
    action: str
    text: str
    entry: Entry
    vector: Sequence[float]

    @property
    def signature(self) -> Signature:
        return self.entry.symptoms[0].signature


class Bm25:
    """Okapi BM25 with k1 = 1.2 and b = 0.75, as SQLite's FTS5 has it."""

    def __init__(self, documents: Sequence[Sequence[str]]) -> None:
        self.counts = [Counter(document) for document in documents]
        self.lengths = [len(document) for document in documents]
        self.mean = sum(self.lengths) / len(self.lengths)
        self.seen = Counter(token for count in self.counts for token in count)

    def best(self, tokens: Sequence[str], among: Sequence[int], limit: int) -> list[int]:
        scores = {index: self._score(set(tokens), index) for index in among}
        found = [index for index in among if scores[index] > 0]
        return sorted(found, key=lambda index: -scores[index])[:limit]

    def _score(self, tokens: set[str], index: int) -> float:
        count, total = self.counts[index], len(self.counts)
        norm = 1.2 * (0.25 + 0.75 * self.lengths[index] / self.mean)
        return sum(
            math.log(1 + (total - self.seen[token] + 0.5) / (self.seen[token] + 0.5))
            * count[token]
            * 2.2
            / (count[token] + norm)
            for token in tokens
            if token in count
        )


def load() -> list[Row]:
    rows = []
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    embedder = BuiltinEmbedder()
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        signature = sign(record["text"])
        entry = Entry(
            id=record["id"],
            kind="incident",
            source=record["id"],
            title=signature.headline,
            symptoms=(Symptom(record["text"], signature),),
            cause="",
            created_at=at,
            action=record["action"],
        )
        vector = embedder.embed([signature.text])[0]
        rows.append(Row(record["class"], record["action"], record["text"], entry, vector))
    return rows


class Search:
    """The pipeline over the rows: exact, vector and full-text candidates, one re-ranking."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.bm25 = Bm25([tokenize(row.signature.text) for row in rows])

    def candidates(
        self, query: Row, among: Sequence[int]
    ) -> tuple[list[Candidate], list[Candidate]]:
        exact = [
            index
            for index in among
            if self.rows[index].signature.fingerprint == query.signature.fingerprint
        ]
        by_vector = sorted(among, key=lambda index: -cosine(query.vector, self.rows[index].vector))
        by_text = self.bm25.best(tokenize(query.signature.text), among, CANDIDATES)
        near = dict.fromkeys([*by_vector[:CANDIDATES], *by_text])
        return self._wrap(exact), self._wrap(list(near))

    def _wrap(self, indexes: Sequence[int]) -> list[Candidate]:
        return [Candidate(self.rows[index].entry, 0) for index in indexes]

    def matches(self, query: Row, among: Sequence[int]) -> tuple[Match, ...]:
        exact, near = self.candidates(query, among)
        return rank(query.signature, exact, near)


def share(hits: Sequence[bool]) -> str:
    """`0.89 [0.84 0.93] (150/169)`."""
    if not hits:
        return "- (0)"
    generator = random.Random(20)
    means = sorted(sum(generator.choices(hits, k=len(hits))) / len(hits) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]
    return f"{sum(hits) / len(hits):.3f} [{low:.3f} {high:.3f}] ({sum(hits)}/{len(hits)})"


def tell(name: str, value: str) -> None:
    print(f"  {name:<46}{value}")


def nearest(rows: Sequence[Row], queries: Sequence[int], texts: Sequence[str], name: str) -> None:
    """Leave-one-out by the built-in vectors of `texts` alone."""
    vectors = BuiltinEmbedder().embed(texts)
    classes, actions = [], []
    for query in queries:
        others = [index for index in range(len(rows)) if index != query]
        best = max(others, key=lambda index: cosine(vectors[query], vectors[index]))
        classes.append(rows[best].label == rows[query].label)
        actions.append(rows[best].action == rows[query].action)
    tell(f"{name}: class", share(classes))
    tell(f"{name}: action", share(actions))


def unmasked(text: str) -> str:
    """The last three exceptions of the last chain as they stand in the log."""
    chains = find_chains(read_lines(text))
    raised = chains[-1].raised[-3:] if chains else []
    return "\n".join(f"{told.type}: {told.message}" for told in reversed(raised)) or text[-1000:]


def passes(matches: Sequence[Match]) -> bool:
    ahead = lead(matches)
    return (
        bool(matches)
        and matches[0].similarity >= BUILTIN_BOUND
        and (ahead is None or ahead >= BUILTIN_MARGIN)
    )


def accuracy(rows: Sequence[Row], queries: Sequence[int], search: Search) -> None:
    label = {row.entry.id: row.label for row in rows}
    found = {
        query: search.matches(rows[query], [i for i in range(len(rows)) if i != query])
        for query in queries
    }

    def right(query: int, what: Callable[[Entry], str | None], truth: str) -> bool:
        return bool(found[query]) and what(found[query][0].entry) == truth

    wrong = [
        match.similarity
        for query in queries
        for match in found[query]
        if label[match.entry.id] != rows[query].label
    ]
    classes = {q: right(q, lambda entry: label[entry.id], rows[q].label) for q in queries}
    actions = {q: right(q, lambda entry: entry.action, rows[q].action) for q in queries}
    tell("full pipeline: class", share(list(classes.values())))
    tell("full pipeline: action", share(list(actions.values())))
    print(f"\nbound {BUILTIN_BOUND}, margin {BUILTIN_MARGIN}")
    through = [query for query in queries if passes(found[query])]
    tell("coverage", share([query in set(through) for query in queries]))
    tell("precision: class", share([classes[query] for query in through]))
    tell("precision: action", share([actions[query] for query in through]))
    tell("likeliest wrong match", f"{max(wrong):.3f}")
    exact = [q for q in queries if found[q] and found[q][0].found == "exact"]
    tell("exact stage: coverage", share([query in set(exact) for query in queries]))
    tell("exact stage: precision, class", share([classes[query] for query in exact]))
    tell("exact stage: precision, action", share([actions[query] for query in exact]))


def held_out(rows: Sequence[Row], search: Search) -> None:
    """A failure whose class nobody has seen should match nothing."""
    matched, misled, likeliest = [], [], 0.0
    for row in rows:
        among = [index for index, other in enumerate(rows) if other.label != row.label]
        matches = search.matches(row, among)
        matched.append(passes(matches))
        likeliest = max([likeliest, *(match.similarity for match in matches[:1])])
        misled.append(matched[-1] and matches[0].entry.action != row.action)
    tell("class held out: matched all the same", share(matched))
    tell("class held out: with another action", share(misled))
    tell("class held out: likeliest match", f"{likeliest:.3f}")


def shown_lines(rows: Sequence[Row]) -> None:
    """Runbooks whose symptom is the one line that a person is shown of a failure."""
    embedder = BuiltinEmbedder()
    runbooks = []
    for row in rows:
        symptom = Symptom(row.signature.headline, sign(row.signature.headline))
        entry = replace(row.entry, kind="runbook", symptoms=(symptom,))
        vector = embedder.embed([symptom.signature.text])[0]
        runbooks.append(replace(row, entry=entry, vector=vector))
    search = Search(runbooks)
    found = [search.matches(row, [index]) for index, row in enumerate(rows)]
    tell("the failure that was shown is found", share([passes(matches) for matches in found]))
    label = {row.entry.id: row.label for row in rows}
    others = [
        search.matches(row, [i for i in range(len(rows)) if i != index])
        for index, row in enumerate(rows)
    ]
    through = [(row, ms[0].entry) for row, ms in zip(rows, others, strict=True) if passes(ms)]
    tell("another failure's: coverage", share([passes(matches) for matches in others]))
    tell("precision: class", share([label[entry.id] == row.label for row, entry in through]))
    tell("precision: action", share([entry.action == row.action for row, entry in through]))
    held_out(rows, search)


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Per unit of work, the best of three runs."""
    best = math.inf
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best / times * 1000


def speed(rows: Sequence[Row], search: Search) -> None:
    number = re.compile(r"\d+")
    baseline = milliseconds(lambda: [number.sub("<n>", row.text) for row in rows], len(rows))
    signing = milliseconds(lambda: [sign(row.text) for row in rows], len(rows))
    tell("sign, ms (ratio to masking digits alone)", f"{signing:.2f} ({signing / baseline:.0f}x)")
    some = list(rows[::10])
    everyone = list(range(len(rows)))
    sets = [(row, *search.candidates(row, everyone)) for row in some]
    pairs = sum(len(near) for _, _, near in sets)

    def vectors_only() -> None:
        for row, _, near in sets:
            for candidate in near:
                cosine(row.vector, rows[int(index_of[candidate.entry.id])].vector)

    index_of = {row.entry.id: index for index, row in enumerate(rows)}
    plain = milliseconds(vectors_only, len(some))
    ranking = milliseconds(
        lambda: [rank(row.signature, exact, near) for row, exact, near in sets], len(some)
    )
    tell(
        f"rank {pairs // len(some)} candidates, ms (ratio to plain cosines)",
        f"{ranking:.2f} ({ranking / plain:.2f}x)",
    )


def main() -> int:
    rows = load()
    members = Counter(row.label for row in rows)
    queries = [index for index, row in enumerate(rows) if members[row.label] > 1]
    search = Search(rows)
    print(
        f"{len(rows)} failures, {len(members)} classes; {len(queries)} have another of their class"
    )
    print("\nleave one out")
    nearest(rows, queries, [row.text[-1000:] for row in rows], "raw end of the log, vectors")
    nearest(rows, queries, [unmasked(row.text) for row in rows], "exceptions unmasked, vectors")
    nearest(rows, queries, [row.signature.text for row in rows], "signature, vectors alone")
    accuracy(rows, queries, search)
    held_out(rows, search)
    print("\nrunbooks of the line that is shown")
    shown_lines(rows)
    print("\ncost")
    speed(rows, search)
    return 0  # figures to look at; what must hold of them is in the tests


if __name__ == "__main__":
    sys.exit(main())
