"""What is known: entries, their versions, and the three ways to find one, in SQLite.

Only the newest live version of an entry has vectors and words in the search tables, so that
old ones never crowd it out.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from knowledge.records import Candidate, Entry
from knowledge.stores import EmbeddedEntry, PutCounts, Vector, VectorSpace, rows, rules
from knowledge.stores.rows import Row, time_text
from knowledge.stores.sqlite_engine import Tables
from knowledge.tokens import tokenize

# sqlite-vec answers no more than this many neighbours.
MAX_NEIGHBOURS = 4096


class EntryTables(Tables):
    """The part of the store about entries."""

    def vector_space(self) -> VectorSpace | None:
        with self._db.read():
            return self._space()

    def _space(self) -> VectorSpace | None:
        row = self._db.row("SELECT embedder, dimensions, signature_version FROM vector_space")
        return VectorSpace(**row) if row else None

    def put_entries(
        self, entries: Sequence[EmbeddedEntry], space: VectorSpace, at: datetime
    ) -> PutCounts:
        counts = {"added": 0, "changed": 0, "same": 0}
        with self._db.write():
            rules.check_entries(entries, space, self._space())
            for one in entries:
                content = rows.entry_content(one.entry)
                digest = hashlib.sha256(content.encode()).hexdigest()
                known = self._db.row(
                    "SELECT seq, digest FROM newest_entries WHERE id = ?", [one.entry.id]
                )
                if known and known["digest"] == digest:
                    counts["same"] += 1
                    continue
                counts["changed" if known else "added"] += 1
                if known:
                    self._forget(known["seq"])
                version = self._db.insert(
                    "entries",
                    {
                        "id": one.entry.id,
                        "kind": one.entry.kind,
                        "source": one.entry.source,
                        "content": content,
                        "digest": digest,
                        "created_at": time_text(one.entry.created_at),
                        "recorded_at": time_text(at),
                    },
                )
                self._index(version, one, space)
        return PutCounts(**counts)

    def _index(self, version: int, one: EmbeddedEntry, space: VectorSpace) -> None:
        """Make the symptoms of a version findable."""
        for position, (symptom, vector) in enumerate(
            zip(one.entry.symptoms, one.vectors, strict=True)
        ):
            symptom_id = self._db.insert(
                "symptoms",
                {
                    "entry": version,
                    "position": position,
                    "fingerprint": symptom.signature.fingerprint,
                },
            )
            words = " ".join(tokenize(symptom.signature.text))
            self._db.insert("symptom_words", {"rowid": symptom_id, "words": words})
            if rules.points_somewhere(vector):
                table = self._vector_table(space)
                self._db.insert(table, {"rowid": symptom_id, "embedding": _blob(vector)})

    def _vector_table(self, space: VectorSpace) -> str:
        """The table of this space's vectors, made when the first one comes."""
        self._db.load_vectors()
        if self._space() is None:
            self._db.rows(
                f"CREATE VIRTUAL TABLE IF NOT EXISTS {_table(space)} "
                f"USING vec0 (embedding float[{space.dimensions}] distance_metric=L2)"
            )
            self._db.insert(
                "vector_space",
                {
                    "only": 1,
                    "embedder": space.embedder,
                    "dimensions": space.dimensions,
                    "signature_version": space.signature_version,
                },
            )
        return _table(space)

    def _forget(self, version: int) -> None:
        """Take a version out of the searches, so that it never crowds out a live one."""
        ids = [r["id"] for r in self._db.rows("SELECT id FROM symptoms WHERE entry = ?", [version])]
        space = self._space()
        if space:
            self._db.load_vectors()
        for symptom_id in ids:
            self._db.rows("DELETE FROM symptom_words WHERE rowid = ?", [symptom_id])
            if space:
                self._db.rows(f"DELETE FROM {_table(space)} WHERE rowid = ?", [symptom_id])  # noqa: S608

    def retire_entries(self, ids: Collection[str], by: str, at: datetime, reason: str) -> int:
        retired = 0
        with self._db.write():
            for entry_id in ids:
                row = self._newest(entry_id)
                if not row["retired"]:
                    retired += 1
                    self._forget(row["seq"])
                    self._db.insert(
                        "retirements",
                        {"entry": row["seq"], "by": by, "at": time_text(at), "reason": reason},
                    )
        return retired

    def entries(
        self, *, kind: str | None = None, source: str | None = None, retired: bool = False
    ) -> tuple[Entry, ...]:
        with self._db.read():
            found = self._db.rows(
                """
                SELECT * FROM newest_entries AS e
                WHERE (:kind IS NULL OR kind = :kind)
                  AND (:source IS NULL OR substr(source, 1, length(:source)) = :source)
                  AND (:retired OR NOT retired)
                ORDER BY (SELECT min(seq) FROM entries AS v WHERE v.id = e.id)
                """,
                {"kind": kind, "source": source, "retired": retired},
            )
        return tuple(map(rows.read_entry, found))

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
                    SELECT e.*, min(s.position) AS position
                    FROM symptoms AS s JOIN newest_entries AS e ON e.seq = s.entry
                    WHERE s.fingerprint = ? AND NOT e.retired
                    GROUP BY e.seq ORDER BY e.seq DESC
                    """,
                    [fingerprint],
                )
            )

    def find_vector(self, vector: Vector, limit: int) -> tuple[Candidate, ...]:
        with self._db.read():
            space = self._space()
            if space is None:
                return ()
            rules.check_query(vector, space)
            if limit < 1 or not rules.points_somewhere(vector):
                return ()
            self._db.load_vectors()
            length = rules.norm(vector)  # L2 gives cosine's order among unit vectors only
            return _candidates(
                self._db.rows(
                    f"""
                    WITH near AS MATERIALIZED (
                        SELECT rowid AS id, distance FROM {_table(space)}
                        WHERE embedding MATCH ? AND k = ?
                    )
                    SELECT e.*, 0 AS retired, s.position
                    FROM near JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
                    ORDER BY near.distance, near.id
                    """,  # noqa: S608 (the table's name is a number of dimensions)
                    [_blob([x / length for x in vector]), min(limit, MAX_NEIGHBOURS)],
                )
            )

    def find_text(self, tokens: Sequence[str], limit: int) -> tuple[Candidate, ...]:
        # Quoted, a token is only a token, whatever it looks like.
        query = " OR ".join('"' + token.replace('"', '""') + '"' for token in dict.fromkeys(tokens))
        if not query:
            return ()
        with self._db.read():
            return _candidates(
                self._db.rows(
                    """
                    WITH shared AS MATERIALIZED (
                        SELECT rowid AS id, rank FROM symptom_words
                        WHERE symptom_words MATCH ? ORDER BY rank, rowid LIMIT ?
                    )
                    SELECT e.*, 0 AS retired, s.position
                    FROM shared JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
                    ORDER BY shared.rank, shared.id
                    """,
                    [query, max(limit, 0)],
                )
            )


def _table(space: VectorSpace) -> str:
    return f"vec_{int(space.dimensions)}"


def _blob(vector: Iterable[float]) -> bytes:
    return array("f", vector).tobytes()


def _candidates(found: Iterable[Row]) -> tuple[Candidate, ...]:
    return tuple(Candidate(rows.read_entry(row), row["position"]) for row in found)
