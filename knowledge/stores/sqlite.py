"""The knowledge base in one SQLite file: the default store.

Only on a local disk: SQLite's locks do not work over a network.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from knowledge.stores import Vector, rules
from knowledge.stores.rows import Row
from knowledge.stores.sql_audit import AuditTables
from knowledge.stores.sql_moving import MovingTables
from knowledge.stores.sql_spaces import Space
from knowledge.stores.sqlite_engine import Database, open_database, open_in_memory

# sqlite-vec answers no more than this many neighbours.
MAX_NEIGHBOURS = 4096


class SqliteStore(MovingTables):
    """See `knowledge.stores.Store`."""

    @classmethod
    def open(cls, path: str, now: rules.Clock = rules.utc_now) -> SqliteStore:
        """Raises StoreUnusable or SchemaTooNew. `now` is the store's clock."""
        file = Path(path).expanduser()
        database = open_database(
            file, upgraded=lambda database: AuditTables(database, now).log_the_past()
        )
        return cls(database, now, SqliteIndex(database), f"sqlite:///{file}")

    @classmethod
    def in_memory(cls, now: rules.Clock) -> SqliteStore:
        """One that nobody else has and that ends with the process: to try things out in."""
        database = open_in_memory()
        return cls(database, now, SqliteIndex(database), "memory")


class SqliteIndex:
    """See `knowledge.stores.sql_spaces.SearchIndex`: FTS5 for the words, sqlite-vec, which
    looks at every vector, for the vectors."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def advice(self) -> str:
        return ""

    def add_words(self, words: Mapping[int, Sequence[str]]) -> None:
        for symptom, tokens in words.items():
            self._db.rows(
                "INSERT INTO symptom_words (rowid, words) VALUES (?, ?)",
                [symptom, " ".join(tokens)],
            )

    def add_space(self, space: Space) -> None:
        self._db.load_vectors()
        self._db.rows(
            f"CREATE VIRTUAL TABLE {_table(space)} "
            f"USING vec0 (embedding float[{space.space.dimensions}] distance_metric=L2)"
        )

    def drop_space(self, space: Space) -> None:
        self._db.load_vectors()
        self._db.rows(f"DROP TABLE {_table(space)}")

    def add_vectors(self, space: Space, vectors: Mapping[int, Vector]) -> None:
        self._db.load_vectors()
        for symptom, vector in vectors.items():
            self._db.rows(
                f"INSERT INTO {_table(space)} (rowid, embedding) VALUES (?, ?)",
                [symptom, _blob(vector)],
            )

    def remove(self, symptoms: Sequence[int], spaces: Sequence[Space]) -> None:
        if spaces:
            self._db.load_vectors()
        for table in ("symptom_words", *map(_table, spaces)):
            for symptom in symptoms:
                self._db.rows(f"DELETE FROM {table} WHERE rowid = ?", [symptom])

    def nearest(self, space: Space, vector: Vector, limit: int) -> Sequence[Row]:
        self._db.load_vectors()
        return self._db.rows(
            f"""
                WITH near AS MATERIALIZED (
                    SELECT rowid AS id, distance FROM {_table(space)}
                    WHERE embedding MATCH ? AND k = ?
                )
                SELECT e.*, 0 AS retired, s.position,
                    1 - near.distance * near.distance / 2 AS cosine
                FROM near JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
                ORDER BY near.distance, near.id
                """,
            [_blob(vector), min(limit, MAX_NEIGHBOURS)],
        )

    def sharing(self, tokens: Sequence[str], limit: int) -> Sequence[Row]:
        # Quoted, a token is only a token, whatever it looks like.
        query = " OR ".join('"' + token.replace('"', '""') + '"' for token in tokens)
        return self._db.rows(
            """
                WITH shared AS MATERIALIZED (
                    SELECT rowid AS id, rank FROM symptom_words
                    WHERE symptom_words MATCH ? ORDER BY rank, rowid LIMIT ?
                )
                SELECT e.*, 0 AS retired, s.position
                FROM shared JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
                ORDER BY shared.rank, shared.id
                """,
            [query, limit],
        )


def _table(space: Space) -> str:
    return f"vec_{int(space.id)}"


def _blob(vector: Iterable[float]) -> bytes:
    return array("f", vector).tobytes()
