"""The knowledge base in a Postgres with pgvector: one for a team."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from knowledge.stores import Vector, rules
from knowledge.stores.postgres_engine import ROWS_AT_ONCE, Database
from knowledge.stores.postgres_schema import (
    MAX_INDEXED,
    indexed_type,
    lacks_index,
    open_database,
)
from knowledge.stores.rows import Row
from knowledge.stores.sql_moving import MovingTables
from knowledge.stores.sql_spaces import Space

# Symptoms that one text search ranks, but for those that share its rarest word: who shares only
# words that most have is no candidate.
MAX_RANKED = 5_000

# BM25's usual constants, as FTS5 has them; and what Postgres holds of one word.
BM25_K1 = 1.2
BM25_B = 0.75
MAX_WORD = 500
MAX_POSITIONS = 255


class PostgresStore(MovingTables):
    """See `knowledge.stores.Store`."""

    @classmethod
    def open(cls, dsn: str, now: rules.Clock | None = None) -> PostgresStore:
        """Raises StoreUnusable or SchemaTooNew. `now` is the store's clock: the server's, unless
        a test has another."""
        database = open_database(dsn)
        index = PostgresIndex(database)
        return cls(database, now or database.now, index, database.location)


class PostgresIndex:
    """See `knowledge.stores.sql_spaces.SearchIndex`: a tsvector for the words, pgvector for the
    vectors, with an index once there are many (`postgres_engine.migrate` makes it)."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def advice(self) -> str:
        if not lacks_index(self._db):
            return ""
        return "each search looks at every vector: its owner runs aiops kb migrate once more"

    def add_words(self, words: Mapping[int, Sequence[str]]) -> None:
        if not words:
            return
        for part in _parts(words):
            self._db.rows(
                """
                INSERT INTO symptom_words (symptom, words, length)
                SELECT * FROM unnest(:symptoms::bigint[], :words::tsvector[], :lengths::integer[])
                """,
                {
                    "symptoms": part,
                    "words": [_tsvector(words[symptom]) for symptom in part],
                    "lengths": [len(words[symptom]) for symptom in part],
                },
            )
        having = Counter(word for tokens in words.values() for word in set(map(_word, tokens)))
        self._count(having, len(words), sum(map(len, words.values())))

    def remove(self, symptoms: Sequence[int], spaces: Sequence[Space]) -> None:  # noqa: ARG002 (all)
        self._db.rows("DELETE FROM vectors WHERE symptom = ANY (?::bigint[])", [list(symptoms)])
        removed = self._db.rows(
            "DELETE FROM symptom_words WHERE symptom = ANY (?::bigint[]) "
            "RETURNING tsvector_to_array(words) AS words, length",
            [list(symptoms)],
        )
        having = Counter(word for row in removed for word in row["words"])
        gone = {word: -number for word, number in having.items()}
        self._count(gone, -len(removed), -sum(row["length"] for row in removed))

    def _count(self, having: Mapping[str, int], symptoms: int, length: int) -> None:
        self._db.rows(
            """
            INSERT INTO word_counts AS known (word, symptoms, length)
            SELECT * FROM unnest(:words::text[], :symptoms::bigint[], :lengths::bigint[])
            ON CONFLICT (word) DO UPDATE SET
                symptoms = known.symptoms + excluded.symptoms,
                length = known.length + excluded.length
            """,
            {
                "words": ["", *having],
                "symptoms": [symptoms, *having.values()],
                "lengths": [length, *(0 for _ in having)],
            },
        )

    def sharing(self, tokens: Sequence[str], limit: int) -> Sequence[Row]:
        wanted = list(dict.fromkeys(map(_word, tokens)))
        found = self._db.rows(
            "SELECT word, symptoms, length FROM word_counts "
            "WHERE word = ANY (?::text[]) AND symptoms > 0 ORDER BY symptoms",
            [["", *wanted]],
        )
        whole = next((row for row in found if row["word"] == ""), None)
        rarest_first = {row["word"]: row["symptoms"] for row in found if row["word"]}
        if whole is None or not rarest_first:
            return ()
        ranked = 0
        asked: list[str] = []
        for word, having in rarest_first.items():
            ranked += having
            if asked and min(ranked, whole["symptoms"]) > MAX_RANKED:
                break
            asked.append(word)
        return self._db.rows(
            """
            WITH shared AS MATERIALIZED (
                SELECT s.symptom AS id, sum(
                    wanted.rarity * cardinality(has.positions) * (:k1 + 1)
                    / (cardinality(has.positions)
                       + :k1 * (1 - :b + :b * s.length / :average::float8))
                ) AS rank
                FROM symptom_words AS s
                CROSS JOIN LATERAL unnest(s.words) AS has
                JOIN unnest(:words::text[], :rarities::float8[]) AS wanted (word, rarity)
                    ON wanted.word = has.lexeme
                WHERE s.words @@ :asked::tsquery
                GROUP BY s.symptom ORDER BY rank DESC, id LIMIT :limit
            )
            SELECT e.*, false AS retired, s.position
            FROM shared JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
            ORDER BY shared.rank DESC, shared.id
            """,
            {
                "k1": BM25_K1,
                "b": BM25_B,
                "average": whole["length"] / whole["symptoms"],
                "words": list(rarest_first),
                "rarities": [_rarity(n, whole["symptoms"]) for n in rarest_first.values()],
                "asked": " | ".join(map(_quoted, asked)),
                "limit": limit,
            },
        )

    def add_space(self, space: Space) -> None:
        pass  # one table holds them all

    def drop_space(self, space: Space) -> None:
        self._db.rows("DELETE FROM vectors WHERE space = ?", [space.id])

    def add_vectors(self, space: Space, vectors: Mapping[int, Vector]) -> None:
        for part in _parts(vectors):
            self._db.rows(
                "INSERT INTO vectors (space, symptom, embedding) "
                "SELECT ?, * FROM unnest(?::bigint[], ?::vector[])",
                [space.id, part, [_vector(vectors[symptom]) for symptom in part]],
            )

    def nearest(self, space: Space, vector: Vector, limit: int) -> Sequence[Row]:
        indexed = space.space.dimensions <= MAX_INDEXED
        kind = indexed_type(space.space.dimensions) if indexed else "vector"
        # strict_order: what the index leaves out is searched on for, in the right order.
        self._db.rows("SET LOCAL hnsw.ef_search = 100")
        self._db.rows("SET LOCAL hnsw.iterative_scan = strict_order")
        found = self._nearest(space, vector, limit, kind)
        if len(found) < limit and len(found) < self._size(space):
            self._db.rows("SET LOCAL enable_indexscan = off")  # an index may still end too early
            found = self._nearest(space, vector, limit, kind)
            self._db.rows("SET LOCAL enable_indexscan = on")
        return found

    def _nearest(self, space: Space, vector: Vector, limit: int, kind: str) -> Sequence[Row]:
        return self._db.rows(
            f"""
            WITH near AS MATERIALIZED (
                SELECT symptom AS id, embedding::{kind} <=> :vector::{kind} AS distance
                FROM vectors WHERE space = :space
                ORDER BY embedding::{kind} <=> :vector::{kind} LIMIT :limit
            )
            SELECT e.*, false AS retired, s.position, 1 - near.distance AS cosine
            FROM near JOIN symptoms AS s USING (id) JOIN entries AS e ON e.seq = s.entry
            ORDER BY near.distance, near.id
            """,
            {"vector": _vector(vector), "space": space.id, "limit": limit},
        )

    def _size(self, space: Space) -> int:
        counted = self._db.rows("SELECT count(*) AS n FROM vectors WHERE space = ?", [space.id])
        return int(counted[0]["n"])


def _parts(symptoms: Iterable[int]) -> Iterator[list[int]]:
    """As many as one statement takes."""
    rest = iter(symptoms)
    while part := list(islice(rest, ROWS_AT_ONCE)):
        yield part


def _rarity(having: int, symptoms: int) -> float:
    """As FTS5 has it: a word in most of the texts still counts a little."""
    return max(math.log((symptoms - having + 0.5) / (having + 0.5)), 1e-6)


def _word(token: str) -> str:
    return token[:MAX_WORD]


def _quoted(word: str) -> str:
    """A word that is only a word, whatever it looks like."""
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _tsvector(tokens: Sequence[str]) -> str:
    """How often a word comes is how many positions it has."""
    counted = Counter(map(_word, tokens))
    return " ".join(
        f"{_quoted(word)}:{','.join(map(str, range(1, min(times, MAX_POSITIONS) + 1)))}"
        for word, times in counted.items()
    )


def _vector(vector: Vector) -> str:
    # Nine digits hold a 32-bit float, which is what pgvector keeps.
    return "[" + ",".join(["%.9g"] * len(vector)) % tuple(vector) + "]"
