"""Which vectors there are: the space that is in use, and beside it the one of another embedder that
is being built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from knowledge.stores import Vector, VectorSpace, rows, rules
from knowledge.stores.engine import Engine
from knowledge.stores.rows import Row
from knowledge.stores.sql_audit import AuditTables


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


class SpaceTables(AuditTables):
    """The part of the store about vector spaces."""

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

    def _add_space(self, space: VectorSpace, state: Literal["active", "building"]) -> Space:
        row = self._append("vector_spaces", {**asdict(space), "state": state})
        made = Space(row["id"], space, state == "active", 0)
        self._index.add_space(made)
        return made

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
