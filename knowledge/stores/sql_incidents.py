"""What was seen, what was thought and said of it, and the store's small things.

Append-only but for claims, watermarks, marks and what search needs; the schemas' own triggers
hold it (migrations/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from knowledge.records import Incident, Judgement, Remark, Snooze
from knowledge.stores import rows, rules
from knowledge.stores.engine import Engine
from knowledge.stores.rows import time_text
from knowledge.stores.sql_acting import ActingTables
from knowledge.stores.sql_cases import CaseTables
from knowledge.stores.sql_entries import EntryTables
from knowledge.stores.sql_lessons import LessonTables
from knowledge.stores.sql_spaces import SearchIndex
from knowledge.stores.sql_story import StoryTables

# Of tables whose rows are numbered as they come the largest number, which is one step down an
# index; of the others, which stay small, the count. No row is ever deleted: both only grow.
_NUMBERED = "entries retirements decisions outcomes harms vouches grants pauses holds lessons"
_COUNTED = "voided revocations hold_ends"
REVISION = "SELECT concat_ws('.', {}) AS revision".format(
    ", ".join(
        [f"(SELECT coalesce(max(seq), 0) FROM {one})" for one in _NUMBERED.split()]
        + [f"(SELECT count(*) FROM {one})" for one in _COUNTED.split()]
    )
)


class SqlStore(EntryTables, ActingTables, LessonTables, CaseTables, StoryTables):
    """See `knowledge.stores.Store`; all of it but what the two databases do differently."""

    def __init__(
        self, database: Engine, now: rules.Clock, index: SearchIndex, location: str
    ) -> None:
        super().__init__(database, now, index)
        self.location = location

    def close(self) -> None:
        self._db.close()

    def advice(self) -> str:
        with self._db.read():
            return self._index.advice()

    def base_id(self) -> str:
        with self._db.read():
            return str(self._db.rows("SELECT id FROM base")[0]["id"])

    def revision(self) -> str:
        with self._db.read():
            return str(self._db.rows(REVISION)[0]["revision"])

    def bind_instance(self, name: str, url: str) -> None:
        wanted = rules.normal_url(url)
        with self._db.read():
            bound = self._db.row("SELECT url FROM instances WHERE name = ?", [name])
        if bound is None:
            with self._db.write():
                bound = self._db.row("SELECT url FROM instances WHERE name = ?", [name])
                if bound is None:
                    self._append("instances", {"name": name, "url": wanted})
                    return
        if bound["url"] != wanted:
            raise rules.wrong_instance(name, bound["url"], wanted)

    # --- incidents: what was seen ----------------------------------------------------------

    def add_incident(self, incident: Incident) -> bool:
        with self._db.write():
            if self._db.row("SELECT 1 FROM incidents WHERE id = ?", [incident.id]):
                return False
            self._append("incidents", rows.incident_params(incident))
            return True

    def known_incidents(self, ids: Collection[str]) -> set[str]:
        with self._db.read():
            found = self._db.rows(
                f"SELECT id FROM incidents WHERE {self._db.among('id', '?')}",
                [list(ids)],
            )
        return {row["id"] for row in found}

    def add_judgement(self, judgement: Judgement) -> None:
        with self._db.write():
            full = self._incident_id(judgement.incident_id)
            self._append("judgements", {**rows.judgement_params(judgement), "incident_id": full})

    def uses(
        self, entry_ids: Collection[str], *, since: datetime | None = None
    ) -> Mapping[str, int]:
        with self._db.read():
            found = self._db.rows(
                f"""
                SELECT entry, count(DISTINCT incident_id) AS number
                FROM (
                    SELECT incident_id,
                        {self._db.json_at("document", "diagnosis", "entry")} AS entry
                    FROM judgements WHERE at >= ?
                ) AS used
                WHERE {self._db.among("entry", "?")} GROUP BY entry
                """,
                ["" if since is None else time_text(since), list(entry_ids)],
            )
        return dict.fromkeys(entry_ids, 0) | {row["entry"]: row["number"] for row in found}

    def add_remark(self, remark: Remark) -> None:
        with self._db.write():
            full = self._incident_id(remark.incident_id)
            self._append("remarks", {**rows.remark_params(remark), "incident_id": full})

    def snooze(self, incident_id: str, until: datetime, by: str, at: datetime) -> None:
        with self._db.write():
            snooze = Snooze(self._incident_id(incident_id), by, at, until)
            self._append("snoozes", rows.snooze_params(snooze))

    # --- groups and short ids --------------------------------------------------------------

    def find_ids(self, prefix: str) -> tuple[str, ...]:
        with self._db.read():
            prefix = prefix.lower()
            kind, full = rules.the_one_of(
                prefix,
                {
                    "incident": self._fitting("incidents", prefix),
                    "group": self._fitting("grouped", prefix),
                },
            )
            return self._members(full) if kind == "group" else (full,)

    def group_members(self, group_id: str) -> tuple[str, ...]:
        with self._db.read():
            return self._members(self._group_id(group_id))

    def _members(self, group: str) -> tuple[str, ...]:
        found = self._db.rows(
            "SELECT id FROM incidents WHERE group_id = ? ORDER BY failed_at DESC, seq DESC", [group]
        )
        return tuple(row["id"] for row in found)

    def recent_group(self, instance: str, key: str, since: datetime, until: datetime) -> str | None:
        with self._db.read():
            newest = self._db.row(
                "SELECT group_id FROM incidents "
                "WHERE instance = ? AND group_key = ? AND group_key <> '' "
                "AND failed_at BETWEEN ? AND ? "
                "AND group_id IS NOT NULL ORDER BY failed_at DESC, seq DESC LIMIT 1",
                [instance, key, time_text(since), time_text(until)],
            )
        return None if newest is None else str(newest["group_id"])

    def shortest_prefixes(self, ids: Collection[str]) -> Mapping[str, str]:
        with self._db.read():
            neighbours = self._db.rows(
                f"""
                SELECT value AS id,
                    (SELECT max(i.id) FROM incidents AS i WHERE i.id < value) AS incident_before,
                    (SELECT min(i.id) FROM incidents AS i WHERE i.id > value) AS incident_after,
                    (SELECT max(g.id) FROM grouped AS g WHERE g.id < value) AS group_before,
                    (SELECT min(g.id) FROM grouped AS g WHERE g.id > value) AS group_after
                FROM {self._db.each("?")}
                """,
                [list(ids)],
            )
        return rules.shortest_prefixes(
            ids, {row["id"]: [one for one in row.values() if one] for row in neighbours}
        )

    # --- small things remembered, which may change -----------------------------------------

    def mark(self, name: str) -> str | None:
        with self._db.read():
            row = self._db.row("SELECT value FROM marks WHERE name = ?", [name])
        return None if row is None else str(row["value"])

    def set_mark(self, name: str, value: str) -> None:
        with self._db.write():
            self._db.rows(
                "INSERT INTO marks (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [name, value],
            )

    def swap_mark(self, name: str, before: str | None, value: str) -> bool:
        if before is None:
            statement = (
                "INSERT INTO marks (value, name) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
            )
            values = [value, name]
        else:
            statement = "UPDATE marks SET value = ? WHERE name = ? AND value = ?"
            values = [value, name, before]
        with self._db.write():
            return self._db.row(f"{statement} RETURNING name", values) is not None

    def watermark(self, instance: str) -> datetime | None:
        with self._db.read():
            row = self._db.row("SELECT at FROM watermarks WHERE instance = ?", [instance])
        return None if row is None else rows.parse_time(row["at"])

    def set_watermark(self, instance: str, at: datetime) -> None:
        with self._db.write():
            self._db.rows(
                "INSERT INTO watermarks (instance, at) VALUES (?, ?) "
                "ON CONFLICT (instance) DO UPDATE SET at = excluded.at",
                [instance, time_text(at)],
            )
