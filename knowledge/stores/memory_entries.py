"""What is known, in plain Python: the part of the twin about entries and their searches."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from knowledge.records import Candidate, Entry, EntryVersion
from knowledge.stores import EmbeddedEntry, PutCounts, Vector, VectorSpace, rows, rules
from knowledge.tokens import tokenize

# BM25's usual constants, which SQLite's FTS5 has built in.
BM25_K1 = 1.2
BM25_B = 0.75


@dataclass(frozen=True, slots=True)
class _Findable:
    """One symptom of a live entry, as the searches see it."""

    number: int
    entry_id: str
    position: int
    words: tuple[str, ...]


class MemoryEntries:
    """The part of the store about entries."""

    def __init__(self) -> None:
        self._space: VectorSpace | None = None
        self._being_built: VectorSpace | None = None
        self._done = 0  # the number of the last symptom in the space that is being built
        self._vectors: dict[VectorSpace, dict[int, Vector]] = {}
        self._entries: dict[str, Entry] = {}  # in the order of their first versions
        self._versions: dict[str, int] = {}  # entry id → number of its newest version
        self._every_version: dict[int, EntryVersion] = {}  # by its number
        self._first_put: dict[str, datetime] = {}
        self._numbers = itertools.count(1)
        self._symptoms = itertools.count(1)
        self._findable: list[_Findable] = []

    def vector_space(self) -> VectorSpace | None:
        return self._space

    def put_entries(
        self,
        entries: Sequence[EmbeddedEntry],
        space: VectorSpace,
        at: datetime,
        *,
        by: str = "aiops",  # noqa: ARG002 (nobody asks the twin who)
    ) -> PutCounts:
        known_spaces = [one for one in (self._space, self._being_built) if one]
        rules.check_entries(entries, space, known_spaces)
        for one in entries:
            rows.entry_content(one.entry)
            rows.time_text(one.entry.created_at)
        rows.time_text(at)
        counts = {"added": 0, "changed": 0, "same": 0}
        for one in entries:
            known = self._entries.get(one.entry.id)
            if known and rows.entry_content(known) == rows.entry_content(one.entry):
                counts["same"] += 1
                continue
            counts["changed" if known else "added"] += 1
            self._forget(one.entry.id)
            self._entries[one.entry.id] = one.entry
            number = self._versions[one.entry.id] = next(self._numbers)
            self._every_version[number] = EntryVersion(one.entry, at if one.entry.retired else None)
            first = self._first_put.get(one.entry.id, one.entry.created_at)
            self._first_put[one.entry.id] = min(first, one.entry.created_at)
            if not one.entry.retired:
                self._index(one, space)
        return PutCounts(**counts)

    def _index(self, one: EmbeddedEntry, space: VectorSpace) -> None:
        for position, symptom in enumerate(one.entry.symptoms):
            words = tuple(tokenize(symptom.signature.text))
            number = next(self._symptoms)
            self._findable.append(_Findable(number, one.entry.id, position, words))
            if rules.points_somewhere(one.vectors[position]) and space != self._being_built:
                self._space = space
                self._vectors.setdefault(space, {})[number] = one.vectors[position]

    def _forget(self, entry_id: str) -> None:
        self._findable = [one for one in self._findable if one.entry_id != entry_id]

    def unembedded(self, space: VectorSpace, limit: int) -> tuple[tuple[int, str], ...]:
        if self._being_built and self._being_built != space:
            del self._vectors[self._being_built]
            self._being_built = None
        if space == self._space:
            return ()
        if self._being_built is None:
            self._being_built, self._done = space, 0
            self._vectors[space] = {}
        return tuple(
            (one.number, self._entries[one.entry_id].symptoms[one.position].signature.text)
            for one in self._findable
            if one.number > self._done
        )[:limit]

    def embed(self, space: VectorSpace, vectors: Mapping[int, Vector]) -> None:
        rules.check_vectors("the new vectors", list(vectors.values()), space)
        if space != self._being_built:
            raise rules.not_being_built(space)
        live = {one.number for one in self._findable if one.number > self._done}
        self._vectors[space] |= {
            number: vector
            for number, vector in vectors.items()
            if number in live and rules.points_somewhere(vector)
        }
        self._done = max([self._done, *vectors])

    def switch_space(self, space: VectorSpace) -> bool:
        if space != self._being_built:
            return space == self._space
        if any(one.number > self._done for one in self._findable):
            return False
        if self._space:
            del self._vectors[self._space]
        self._space, self._being_built = space, None
        return True

    def retire_entries(
        self,
        ids: Collection[str],
        by: str,  # noqa: ARG002 (nobody asks the twin who and why)
        at: datetime,
        reason: str,  # noqa: ARG002
    ) -> int:
        live = {
            full
            for full in [rules.the_one("entry", one, fitting(self._entries, one)) for one in ids]
            if not self._entries[full].retired
        }
        for entry_id in live:
            self._forget(entry_id)
            gone = self._entries[entry_id] = replace(self._entries[entry_id], retired=True)
            self._every_version[self._versions[entry_id]] = EntryVersion(gone, at)
        return len(live)

    def versions(self) -> tuple[EntryVersion, ...]:
        return tuple(self._every_version.values())

    def entries(
        self, *, kind: str | None = None, source: str | None = None, retired: bool = False
    ) -> tuple[Entry, ...]:
        return tuple(
            entry
            for entry in self._entries.values()
            if (kind is None or entry.kind == kind)
            and (source is None or entry.source.startswith(source))
            and (retired or not entry.retired)
        )

    def entry_page(self, *, retired: bool, limit: int, offset: int = 0) -> tuple[Entry, ...]:
        newest_first = reversed(self.entries(retired=retired))
        return tuple(sorted(newest_first, key=lambda one: one.starter)[offset : offset + limit])

    def first_put(self) -> Mapping[str, datetime]:
        return dict(self._first_put)

    def entry(self, entry_id: str) -> Entry:
        return self._entries[rules.the_one("entry", entry_id, fitting(self._entries, entry_id))]

    def find_exact(self, fingerprint: str) -> tuple[Candidate, ...]:
        found: dict[str, Candidate] = {}
        for one in self._findable:
            entry = self._entries[one.entry_id]
            if entry.symptoms[one.position].signature.fingerprint == fingerprint:
                found.setdefault(entry.id, Candidate(entry, one.position))
        newest_first = sorted(found, key=lambda one: -self._versions[one])
        return tuple(found[one] for one in newest_first)

    def find_vector(self, vector: Vector, limit: int) -> tuple[Candidate, ...]:
        if self._space is None:
            return ()
        rules.check_query(vector, self._space)
        if not rules.points_somewhere(vector):
            return ()
        length = rules.norm(vector)
        cosines = {
            number: math.fsum(a * b for a, b in zip(other, vector, strict=True)) / length
            for number, other in self._vectors[self._space].items()
        }
        comparable = [one for one in self._findable if one.number in cosines]
        comparable.sort(key=lambda one: -cosines[one.number])
        return tuple(
            replace(found, cosine=cosines[one.number])
            for one, found in zip(comparable, self._candidates(comparable, limit), strict=False)
        )

    def find_text(self, tokens: Sequence[str], limit: int) -> tuple[Candidate, ...]:
        scores = [(self._bm25(set(tokens), one), one) for one in self._findable]
        scores = [(score, one) for score, one in scores if score > 0]
        scores.sort(key=lambda pair: -pair[0])
        return self._candidates([one for _, one in scores], limit)

    def _bm25(self, tokens: set[str], one: _Findable) -> float:
        """As FTS5 has it: a token in most of the texts still counts a little."""
        average = sum(len(other.words) for other in self._findable) / len(self._findable)
        counts = Counter(one.words)
        score = 0.0
        for token in tokens & set(one.words):
            having = sum(token in other.words for other in self._findable)
            rarity = math.log((len(self._findable) - having + 0.5) / (having + 0.5))
            length = 1 - BM25_B + BM25_B * len(one.words) / average
            weight = counts[token] * (BM25_K1 + 1) / (counts[token] + BM25_K1 * length)
            score += max(rarity, 1e-6) * weight
        return score

    def _candidates(self, found: Sequence[_Findable], limit: int) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(self._entries[one.entry_id], one.position) for one in found[: max(limit, 0)]
        )


def fitting(ids: Iterable[str], prefix: str) -> list[str]:
    """The first few ids that begin with the prefix."""
    return sorted(one for one in ids if one.startswith(prefix))[:5]
