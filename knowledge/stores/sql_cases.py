"""Incidents with all that was decided about them: one, many, or a page of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from knowledge.records import STATUSES, Case, Line, Outcome, Remark, Status
from knowledge.stores import rows
from knowledge.stores.engine import Tables
from knowledge.stores.rows import time_text

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


class CaseTables(Tables):
    """The part of the store that lists incidents."""

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
            values = self._filters(status, instance, dag, since, snoozed) | {
                "task": "*" if task is None else task,
                "group": None if group is None else self._group_id(group),
                "limit": _NO_LIMIT if limit is None else limit,
            }
            return self._cases(
                f"""
                SELECT * FROM cases
                WHERE {self._filtered()} AND {self._db.fits("task_id", ":task")}
                  AND (:group IS NULL OR group_id = :group)
                ORDER BY failed_at DESC, seq DESC
                LIMIT :limit
                """,
                values,
            )

    def lines(
        self,
        *,
        status: Collection[Status] = (),
        instance: str | None = None,
        dag: str | None = None,
        since: datetime | None = None,
        snoozed: bool | None = None,
        together: int | None = None,
        limit: int,
        offset: int = 0,
    ) -> tuple[Line, ...]:
        values = self._filters(status, instance, dag, since, snoozed) | {
            "now": time_text(self._now()),
            "together": _NO_LIMIT if together is None else together,
            "limit": limit,
            "offset": offset,
        }
        with self._db.read():
            # Ids alone: to sort thousands of incidents with their logs takes a hundred times as
            # long.
            found = self._db.rows(
                f"""
                {CASES}, fitting AS (
                    SELECT id, failed_at, seq, coalesce(group_id, id) AS line
                    FROM cases WHERE {self._filtered()}
                ), placed AS (
                    SELECT id, failed_at, seq, count(*) OVER (PARTITION BY line) AS number,
                        row_number() OVER (PARTITION BY line ORDER BY failed_at DESC, seq DESC)
                            AS place
                    FROM fitting
                )
                SELECT id, CASE WHEN number < :together THEN 1 ELSE number END AS number
                FROM placed WHERE number < :together OR place = 1
                ORDER BY failed_at DESC, seq DESC LIMIT :limit OFFSET :offset
                """,
                values,
            )
            listed = {"listed": [row["id"] for row in found]}
            chosen = f"SELECT * FROM cases WHERE {self._db.among('id', ':listed')}"
            case_of = {case.incident.id: case for case in self._cases(chosen, listed)}
        return tuple(Line(case_of[row["id"]], row["number"]) for row in found)

    def _filtered(self) -> str:
        """The condition that the values of `_filters` go into."""
        return f"""
            failed_at >= :since
            AND (:instance IS NULL OR instance = :instance)
            AND {self._db.fits("dag_id", ":dag")}
            AND (:snoozed IS NULL OR (snoozed_until IS NOT NULL) = :snoozed)
            AND (NOT :filtered OR {self._db.among("status", ":status")})
        """

    def _filters(
        self,
        status: Collection[Status],
        instance: str | None,
        dag: str | None,
        since: datetime | None,
        snoozed: bool | None,
    ) -> dict[str, Any]:
        return {
            "since": "" if since is None else time_text(since),
            "instance": instance,
            "dag": "*" if dag is None else dag,
            "snoozed": snoozed,
            "filtered": bool(status),
            "status": list(status),
        }

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

    def _group_id(self, prefix: str) -> str:
        return self._full_id("group", "grouped", prefix.lower())
