"""What is known: entries, their versions, and the three ways to find one.

Only the newest live version of an entry is in the search index, so that old ones never crowd
it out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from knowledge.records import Candidate, Entry, EntryVersion, Symptom
from knowledge.stores import EmbeddedEntry, PutCounts, Vector, VectorSpace, rows, rules
from knowledge.stores.engine import LAST, Engine
from knowledge.stores.rows import Row, time_text
from knowledge.stores.sql_audit import AuditTables
from knowledge.tokens import tokenize

# Entries that are read and written in turn: what waits for the next statement stays small, and no
# server takes the client for one that was stopped.
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Space:
    """A vector space of this store. While it is built, symptoms up to `done` are in it."""

    id: int
    space: VectorSpace
    active: bool
    done: int


class SearchIndex(Protocol):
    """Words and vectors of the live symptoms: what the two databases do each in their own way.
    Every method is called inside a transaction."""

    def advice(self) -> str:
        """What would make searches faster; "" where nothing would."""

    def add_words(self, words: Mapping[int, Sequence[str]]) -> None:
        """The tokens of each symptom."""

    def add_space(self, space: Space) -> None:
        """Make room for the vectors of a space."""

    def drop_space(self, space: Space) -> None:
        """Forget all vectors of a space."""

    def add_vectors(self, space: Space, vectors: Mapping[int, Vector]) -> None:
        """The vectors of symptoms, each with a direction."""

    def remove(self, symptoms: Sequence[int], spaces: Sequence[Space]) -> None:
        """Forget the words of symptoms, and their vectors in these spaces."""

    def nearest(self, space: Space, vector: Vector, limit: int) -> Sequence[Row]:
        """The entries' rows with `position` and `cosine`, nearest to a unit vector first."""

    def sharing(self, tokens: Sequence[str], limit: int) -> Sequence[Row]:
        """The entries' rows with `position`, best BM25 first; `tokens` are distinct."""


class EntryTables(AuditTables):
    """The part of the store about entries."""

    def __init__(self, database: Engine, now: rules.Clock, index: SearchIndex) -> None:
        super().__init__(database, now)
        self._index = index

    def vector_space(self) -> VectorSpace | None:
        with self._db.read():
            active = self._active()
        return active.space if active else None

    def _active(self) -> Space | None:
        return next((one for one in self._spaces() if one.active), None)

    def _spaces(self) -> list[Space]:
        """At most one that is active, and one that is being built."""
        return [
            Space(
                row["id"],
                VectorSpace(row["embedder"], row["dimensions"], row["signature_version"]),
                row["state"] == "active",
                row["done"],
            )
            for row in self._db.rows("SELECT * FROM vector_spaces ORDER BY id")
        ]

    def put_entries(
        self,
        entries: Sequence[EmbeddedEntry],
        space: VectorSpace,
        at: datetime,
        *,
        by: str = "aiops",
    ) -> PutCounts:
        counts = Counter[str]()
        with self._db.write():
            rules.check_entries(entries, space, [one.space for one in self._spaces()])
            for start in range(0, len(entries), _AT_ONCE):
                counts.update(self._put(entries[start : start + _AT_ONCE], space, at, by))
        return PutCounts(**counts)

    def _put(
        self, entries: Sequence[EmbeddedEntry], space: VectorSpace, at: datetime, by: str
    ) -> Counter[str]:
        """Put some of the entries; the fields of PutCounts."""
        counts = Counter[str]()
        spaces = self._spaces()
        before = self._newest_versions([one.entry.id for one in entries])
        known = {entry_id: row["digest"] for entry_id, row in before.items()}
        versions: list[dict[str, Any]] = []
        newest: dict[str, EmbeddedEntry] = {}  # of those, by id
        for one in entries:
            content = rows.entry_content(one.entry)
            digest = hashlib.sha256(content.encode()).hexdigest()
            if known.get(one.entry.id) == digest:
                counts["same"] += 1
                continue
            counts["changed" if one.entry.id in known else "added"] += 1
            known[one.entry.id] = digest
            newest[one.entry.id] = one
            versions.append(
                {
                    "id": one.entry.id,
                    "kind": one.entry.kind,
                    "source": one.entry.source,
                    "content": content,
                    "digest": digest,
                    "created_at": time_text(one.entry.created_at),
                    "recorded_at": time_text(at),
                }
            )
        self._forget([before[one]["seq"] for one in newest if one in before], spaces)
        numbers = {row["id"]: row["seq"] for row in self._append_all("entries", versions)}
        found = self._add_symptoms({numbers[one]: newest[one] for one in newest})
        self._make_findable(found, space, spaces)
        gone = [numbers[one] for one in newest if newest[one].entry.retired]
        self._retire(gone, by, at, "retired where it came from")
        return counts

    def _newest_versions(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        found = self._db.rows(
            f"SELECT id, seq, digest FROM newest_entries WHERE {self._db.among('id', '?')}",
            [list(ids)],
        )
        return {row["id"]: row for row in found}

    def _add_symptoms(
        self, versions: Mapping[int, EmbeddedEntry]
    ) -> dict[int, tuple[Symptom, Vector]]:
        """The symptoms of versions. Returned are those of the live ones, by their numbers: what
        there is to search for."""
        several = [
            {
                "entry": version,
                "position": position,
                "fingerprint": symptom.signature.fingerprint,
            }
            for version, one in versions.items()
            for position, symptom in enumerate(one.entry.symptoms)
        ]
        found = {}
        for row in self._append_all("symptoms", several):
            one, position = versions[row["entry"]], row["position"]
            if not one.entry.retired:
                found[row["id"]] = one.entry.symptoms[position], one.vectors[position]
        return found

    def _make_findable(
        self,
        found: Mapping[int, tuple[Symptom, Vector]],
        space: VectorSpace,
        spaces: Sequence[Space],
    ) -> None:
        self._index.add_words(
            {number: tokenize(symptom.signature.text) for number, (symptom, _) in found.items()}
        )
        vectors = {
            number: vector
            for number, (_, vector) in found.items()
            if rules.points_somewhere(vector)
        }
        same = next((one for one in spaces if one.space == space), None)
        if same is None and vectors:
            same = self._add_space(space, "active")
        if same and same.active:  # those of a space that is being built come with the rest
            self._index.add_vectors(same, vectors)

    def _add_space(self, space: VectorSpace, state: Literal["active", "building"]) -> Space:
        row = self._append("vector_spaces", {**asdict(space), "state": state})
        made = Space(row["id"], space, state == "active", 0)
        self._index.add_space(made)
        return made

    def _forget(self, versions: Sequence[int], spaces: Sequence[Space]) -> None:
        """Take versions out of the searches, so that they never crowd out a live one."""
        found = self._db.rows(
            f"SELECT id FROM symptoms WHERE {self._db.among('entry', '?', 'bigint')}",
            [list(versions)],
        )
        if found:
            self._index.remove([row["id"] for row in found], spaces)

    def retire_entries(self, ids: Collection[str], by: str, at: datetime, reason: str) -> int:
        with self._db.write():
            found = map(self._newest, ids)
            versions = list(dict.fromkeys(row["seq"] for row in found if not row["retired"]))
            self._forget(versions, self._spaces())
            self._retire(versions, by, at, reason)
        return len(versions)

    def _retire(self, versions: Sequence[int], by: str, at: datetime, reason: str) -> None:
        self._append_all(
            "retirements",
            [
                {"entry": version, "by": by, "at": time_text(at), "reason": reason}
                for version in versions
            ],
        )

    # --- another embedder: new vectors beside the old ones ---------------------------------

    def unembedded(self, space: VectorSpace, limit: int) -> tuple[tuple[int, str], ...]:
        with self._db.write():
            spaces = self._spaces()
            being_built = next((one for one in spaces if not one.active), None)
            if being_built and being_built.space != space:
                self._drop_space(being_built)
                being_built = None
            if any(one.active and one.space == space for one in spaces):
                return ()
            done = (being_built or self._add_space(space, "building")).done
            return tuple(
                (row["id"], rows.read_entry(row).symptoms[row["position"]].signature.text)
                for row in self._live_symptoms_after(done, limit)
            )

    def _live_symptoms_after(self, done: int, limit: int) -> Sequence[Row]:
        return self._db.rows(
            """
            SELECT s.id, s.position, e.content, e.created_at, e.retired
            FROM symptoms AS s JOIN newest_entries AS e ON e.seq = s.entry
            WHERE s.id > ? AND NOT e.retired ORDER BY s.id LIMIT ?
            """,
            [done, limit],
        )

    def embed(self, space: VectorSpace, vectors: Mapping[int, Vector]) -> None:
        rules.check_vectors("the new vectors", list(vectors.values()), space)
        with self._db.write():
            being_built = next(
                (one for one in self._spaces() if not one.active and one.space == space), None
            )
            if being_built is None:
                raise rules.not_being_built(space)
            live = self._db.rows(
                "SELECT s.id FROM symptoms AS s JOIN newest_entries AS e ON e.seq = s.entry "
                f"WHERE s.id > ? AND NOT e.retired AND {self._db.among('s.id', '?', 'bigint')}",
                [being_built.done, list(vectors)],
            )
            self._index.add_vectors(
                being_built,
                {
                    row["id"]: vectors[row["id"]]
                    for row in live
                    if rules.points_somewhere(vectors[row["id"]])
                },
            )
            self._db.rows(
                "UPDATE vector_spaces SET done = ? WHERE id = ? AND done < ?",
                [max(vectors, default=0), being_built.id, max(vectors, default=0)],
            )

    def switch_space(self, space: VectorSpace) -> bool:
        with self._db.write():
            spaces = self._spaces()
            being_built = next((one for one in spaces if not one.active), None)
            if being_built is None or being_built.space != space:
                return any(one.active and one.space == space for one in spaces)
            if self._live_symptoms_after(being_built.done, 1):
                return False
            for old in spaces:
                if old.active:
                    self._drop_space(old)
            self._db.rows(
                "UPDATE vector_spaces SET state = 'active' WHERE id = ?", [being_built.id]
            )
            return True

    def _drop_space(self, space: Space) -> None:
        self._index.drop_space(space)
        self._db.rows("DELETE FROM vector_spaces WHERE id = ?", [space.id])

    # --- reading ---------------------------------------------------------------------------

    def entries(
        self, *, kind: str | None = None, source: str | None = None, retired: bool = False
    ) -> tuple[Entry, ...]:
        with self._db.read():
            found = self._db.rows(
                """
                SELECT * FROM newest_entries AS e
                WHERE (:kind IS NULL OR kind = :kind)
                  AND (:source IS NULL OR source >= :source AND source < :after)
                  AND (:retired OR NOT retired)
                ORDER BY (SELECT min(seq) FROM entries AS v WHERE v.id = e.id)
                """,
                {
                    "kind": kind,
                    "source": source,
                    "after": None if source is None else source + LAST,
                    "retired": retired,
                },
            )
        return tuple(map(rows.read_entry, found))

    def entry_page(self, *, retired: bool, limit: int, offset: int = 0) -> tuple[Entry, ...]:
        with self._db.read():
            # Numbers alone, which the indexes have: sorted with their texts, 100,000 entries take
            # ten times as long.
            found = self._db.rows(
                """
                WITH page AS (
                    SELECT newest, first FROM (
                        SELECT max(seq) AS newest, min(seq) AS first FROM entries GROUP BY id
                    ) AS versions
                    WHERE :retired
                       OR NOT EXISTS (SELECT 1 FROM retirements AS r WHERE r.entry = newest)
                    ORDER BY newest IN (SELECT seq FROM entries
                            WHERE source >= 'starter/' AND source < 'starter0'), first DESC
                    LIMIT :limit OFFSET :offset
                )
                SELECT e.* FROM page JOIN newest_entries AS e ON e.seq = page.newest
                ORDER BY e.source >= 'starter/' AND e.source < 'starter0', page.first DESC
                """,
                {"retired": retired, "limit": limit, "offset": offset},
            )
        return tuple(map(rows.read_entry, found))

    def versions(self) -> tuple[EntryVersion, ...]:
        with self._db.read():
            found = self._db.rows(
                "SELECT e.*, r.at AS retired_at, r.at IS NOT NULL AS retired FROM entries AS e "
                "LEFT JOIN retirements AS r ON r.entry = e.seq ORDER BY e.seq"
            )
        return tuple(
            EntryVersion(rows.read_entry(row), rows.optional_parse_time(row["retired_at"]))
            for row in found
        )

    def first_put(self) -> Mapping[str, datetime]:
        with self._db.read():
            found = self._db.rows("SELECT id, min(created_at) AS at FROM entries GROUP BY id")
        return {one["id"]: rows.parse_time(one["at"]) for one in found}

    def entry(self, entry_id: str) -> Entry:
        with self._db.read():
            return rows.read_entry(self._newest(entry_id))

    def _newest(self, prefix: str) -> Row:
        full = self._full_id("entry", "entries", prefix)
        return self._db.rows("SELECT * FROM newest_entries WHERE id = ?", [full])[0]

    def find_exact(self, fingerprint: str) -> tuple[Candidate, ...]:
        with self._db.read():
            return _candidates(
                self._db.rows(
                    """
                    SELECT e.*, (SELECT min(s.position) FROM symptoms AS s
                        WHERE s.entry = e.seq AND s.fingerprint = :fingerprint) AS position
                    FROM newest_entries AS e
                    WHERE NOT e.retired
                      AND e.seq IN (SELECT entry FROM symptoms WHERE fingerprint = :fingerprint)
                    ORDER BY e.seq DESC
                    """,
                    {"fingerprint": fingerprint},
                )
            )

    def find_vector(self, vector: Vector, limit: int) -> tuple[Candidate, ...]:
        with self._db.read():
            active = self._active()
            if active is None:
                return ()
            rules.check_query(vector, active.space)
            if limit < 1 or not rules.points_somewhere(vector):
                return ()
            length = rules.norm(vector)  # L2 gives cosine's order among unit vectors only
            unit = [x / length for x in vector]
            return _candidates(self._index.nearest(active, unit, limit))

    def find_text(self, tokens: Sequence[str], limit: int) -> tuple[Candidate, ...]:
        wanted = list(dict.fromkeys(tokens))
        if not wanted or limit < 1:
            return ()
        with self._db.read():
            return _candidates(self._index.sharing(wanted, limit))


def _candidates(found: Iterable[Row]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(rows.read_entry(row), row["position"], row.get("cosine")) for row in found
    )
