"""What is known: entries, their versions, and the three ways to find one.

Only the newest live version of an entry is in the search index, so that old ones never crowd
it out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from knowledge.records import Candidate, Entry, EntryVersion, Symptom
from knowledge.stores import EmbeddedEntry, PutCounts, Vector, VectorSpace, rows, rules
from knowledge.stores.engine import LAST
from knowledge.stores.rows import Row, time_text
from knowledge.stores.sql_spaces import Space, SpaceTables
from knowledge.tokens import tokenize

# Entries that are read and written in turn: what waits for the next statement stays small, and no
# server takes the client for one that was stopped.
_AT_ONCE = 1_000


class EntryTables(SpaceTables):
    """The part of the store about entries."""

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
