"""What the tables ask of a database: one SQL for both, with the few words that differ.

Values are bound, as `:name` or `?`; a list of them is a Python list, bound as one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from knowledge.stores import rules

Values = Sequence[Any] | Mapping[str, Any]
Listed = Literal["text", "bigint"]

# Greater than every character: `prefix || LAST` bounds all texts that begin with the prefix.
LAST = "\U0010ffff"


class Engine(Protocol):
    """A connection and its transactions. Every statement runs inside `read` or `write`.

    Threads may share it: a transaction holds a lock. Processes may not: open one in each."""

    def read(self) -> AbstractContextManager[None]:
        """One snapshot for several queries."""

    def write(self) -> AbstractContextManager[None]:
        """One write transaction: committed at the end, rolled back on any exception. One at a
        time over all who use the database, so that what is numbered and counted in it is."""

    def rows(self, sql: str, values: Values = ()) -> list[dict[str, Any]]: ...

    def row(self, sql: str, values: Values = ()) -> dict[str, Any] | None: ...

    def insert(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Append one row, its keys being the columns. Returned is the whole row as stored."""

    def insert_all(self, table: str, several: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """As `insert`, of rows with the same columns, in their order."""

    def among(self, column: str, listed: str, kind: Listed = "text") -> str:
        """The condition that the column is one of a list (`:name` or `?`)."""

    def each(self, listed: str) -> str:
        """What follows FROM: the texts of a list (`:name` or `?`), in the column `value`."""

    def fits(self, column: str, glob: str) -> str:
        """The condition that the column fits a glob of * and ? (an SQL expression)."""

    def json_at(self, column: str, *path: str) -> str:
        """The text at a path of names, and places in lists ("0"), inside a column of JSON text."""

    def close(self) -> None: ...


class Tables:
    """What every part of the store shares: the database, the clock, and how ids are read."""

    def __init__(self, database: Engine, now: rules.Clock) -> None:
        self._db = database
        self._now = now

    def _full_id(self, what: str, table: str, prefix: str) -> str:
        """The id that `prefix` names. Raises NotFound for none or several."""
        return rules.the_one(what, prefix, self._fitting(table, prefix))

    def _fitting(self, table: str, prefix: str) -> Sequence[str]:
        """The first few ids that begin with the prefix."""
        found = self._db.rows(
            f"SELECT DISTINCT id FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT 5",
            [prefix, prefix + LAST],
        )
        return [row["id"] for row in found]

    def _incident_id(self, prefix: str) -> str:
        return self._full_id("incident", "incidents", prefix.lower())
