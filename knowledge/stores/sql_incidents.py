"""What was seen, with all that was decided about it, and the store's small things.

Append-only but for claims, watermarks, marks and what search needs; the schemas' own triggers
hold it (migrations/).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from knowledge.records import STATUSES, Case, Incident, Judgement, Outcome, Remark, Status
from knowledge.stores import rows, rules
from knowledge.stores.engine import Engine
from knowledge.stores.rows import time_text
from knowledge.stores.sql_acting import ActingTables
from knowledge.stores.sql_entries import EntryTables, SearchIndex
from knowledge.stores.sql_lessons import LessonTables

_NO_LIMIT = 2**63 - 1

# records.status_of in SQL; the tests hold the two together.
STATUS = """
CASE
    WHEN claim = 'needs_human' THEN 'needs_human'
    WHEN claim IN ('claimed', 'acting') THEN 'acting'
    WHEN decision IS NULL OR decision = 'shadow' THEN 'pending'
    WHEN decision = 'reject' THEN 'rejected'
    WHEN decision = 'superseded' OR outcome = 'superseded' THEN 'superseded'
    WHEN outcome IS NULL THEN CASE WHEN action = 'none' THEN 'resolved' ELSE 'pending' END
    WHEN outcome = 'fixed' THEN 'resolved'
    WHEN outcome = 'unknown' THEN 'needs_human'
    ELSE 'failed'
END
"""

# A claim that nobody used in its lease is none: its incident waits again. A shadow decision
# stands only where there is no other.
CASES = f"""
WITH cases AS (
    SELECT facts.*, {STATUS} AS status
    FROM (
        SELECT
            i.*,
            c.state AS claim,
            d.seq AS decision_seq,
            d.kind AS decision,
            d.action AS action,
            (SELECT o.outcome FROM outcomes AS o WHERE o.decision = d.seq
                ORDER BY o.seq DESC LIMIT 1) AS outcome,
            (SELECT CASE WHEN z.until > :now THEN z.until END FROM snoozes AS z
                WHERE z.incident_id = i.id ORDER BY z.seq DESC LIMIT 1) AS snoozed_until
        FROM incidents AS i
        LEFT JOIN claims AS c
            ON c.incident_id = i.id AND NOT (c.state = 'claimed' AND c.lease_until <= :now)
        LEFT JOIN decisions AS d
            ON d.seq = (SELECT s.seq FROM standing_decisions AS s WHERE s.incident_id = i.id
                ORDER BY s.kind = 'shadow', s.seq DESC LIMIT 1)
    ) AS facts
)
"""


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


class SqlStore(EntryTables, ActingTables, LessonTables):
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

    def case(self, incident_id: str) -> Case:
        with self._db.read():
            full = self._incident_id(incident_id)
            return self._cases("SELECT * FROM cases WHERE id = :id", {"id": full})[0]

    def cases(
        self,
        *,
        status: Collection[Status] = (),
        instance: str | None = None,
        dag: str | None = None,
        task: str | None = None,
        since: datetime | None = None,
        group: str | None = None,
        snoozed: bool | None = None,
        limit: int | None = None,
    ) -> tuple[Case, ...]:
        with self._db.read():
            return self._cases(
                f"""
                SELECT * FROM cases
                WHERE failed_at >= :since
                  AND (:instance IS NULL OR instance = :instance)
                  AND {self._db.fits("dag_id", ":dag")} AND {self._db.fits("task_id", ":task")}
                  AND (:group IS NULL OR group_id = :group)
                  AND (:snoozed IS NULL OR (snoozed_until IS NOT NULL) = :snoozed)
                  AND (NOT :filtered OR {self._db.among("status", ":status")})
                ORDER BY failed_at DESC, seq DESC
                LIMIT :limit
                """,
                {
                    "since": "" if since is None else time_text(since),
                    "instance": instance,
                    "dag": "*" if dag is None else dag,
                    "task": "*" if task is None else task,
                    "group": None if group is None else self._group_id(group),
                    "snoozed": snoozed,
                    "filtered": bool(status),
                    "status": list(status),
                    "limit": _NO_LIMIT if limit is None else limit,
                },
            )

    def _cases(self, query: str, values: Mapping[str, Any]) -> tuple[Case, ...]:
        """Incidents with all that was decided about them, in seven queries however many."""
        found = self._db.rows(f"{CASES} {query}", {**values, "now": time_text(self._now())})
        listed = {
            "ids": [row["id"] for row in found],
            "decisions": [row["decision_seq"] for row in found if row["decision_seq"]],
        }
        of_these = self._db.among("incident_id", ":ids")
        decisions = self._db.rows(
            f"SELECT * FROM decisions WHERE {self._db.among('seq', ':decisions', 'bigint')}",
            listed,
        )
        claims = self._db.rows(f"SELECT * FROM claims WHERE {of_these}", listed)
        judgements = self._db.rows(
            "SELECT * FROM judgements WHERE seq IN "
            f"(SELECT max(seq) FROM judgements WHERE {of_these} GROUP BY incident_id)",
            listed,
        )
        outcomes: dict[str, list[Outcome]] = {}
        for row in self._db.rows(
            f"SELECT * FROM outcomes WHERE {of_these} ORDER BY seq",
            listed,
        ):
            outcomes.setdefault(row["incident_id"], []).append(rows.read_outcome(row))
        remarks: dict[str, list[Remark]] = {}
        for row in self._db.rows(
            f"SELECT * FROM remarks WHERE {of_these} ORDER BY seq",
            listed,
        ):
            remarks.setdefault(row["incident_id"], []).append(rows.read_remark(row))
        harms = self._db.rows(
            "SELECT h.* FROM harms AS h JOIN standing_decisions AS d ON d.seq = h.decision "
            f"WHERE {self._db.among('h.incident_id', ':ids')} ORDER BY h.seq",
            listed,
        )
        decision_of = {row["seq"]: rows.read_decision(row) for row in decisions}
        claim_of = {row["incident_id"]: rows.read_claim(row) for row in claims}
        harm_of = {row["incident_id"]: rows.read_harm(row) for row in harms}  # the last one stays
        judgement_of = {row["incident_id"]: rows.read_judgement(row) for row in judgements}
        return tuple(
            Case(
                incident=rows.read_incident(row),
                status=row["status"],
                outcome=row["outcome"],
                judgement=judgement_of.get(row["id"]),
                decision=decision_of.get(row["decision_seq"]),
                outcomes=tuple(outcomes.get(row["id"], ())),
                claim=claim_of[row["id"]] if row["claim"] else None,
                remarks=tuple(remarks.get(row["id"], ())),
                snoozed_until=rows.optional_parse_time(row["snoozed_until"]),
                harm=harm_of.get(row["id"]),
            )
            for row in found
        )

    def counts(self, instance: str | None = None) -> Mapping[Status, int]:
        with self._db.read():
            found = self._db.rows(
                f"""
                {CASES}
                SELECT status, count(*) AS number FROM cases
                WHERE (:instance IS NULL OR instance = :instance) GROUP BY status
                """,
                {"instance": instance, "now": time_text(self._now())},
            )
        return dict.fromkeys(STATUSES, 0) | {row["status"]: row["number"] for row in found}

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
            self._append(
                "snoozes",
                {
                    "incident_id": self._incident_id(incident_id),
                    "until": time_text(until),
                    "by": by,
                    "at": time_text(at),
                },
            )

    # --- groups and short ids --------------------------------------------------------------

    def _group_id(self, prefix: str) -> str:
        return self._full_id("group", "grouped", prefix.lower())

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
