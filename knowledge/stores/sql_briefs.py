"""Incidents in short, thousands of them, with everything decided about each.

Read a page at a time: only what is counted is held, never a log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from knowledge.records import Brief, Decision, Harm, Lesson, NearCase, Outcome
from knowledge.stores import rows
from knowledge.stores.engine import Tables
from knowledge.stores.rows import time_text

_NO_LIMIT = 2**63 - 1
_PAGE = 500  # incidents; a database binds so many ids at once without a thought

T = TypeVar("T", Decision, Outcome, Harm)


class BriefTables(Tables):
    """The part of the store that a report counts from."""

    def briefs(
        self, *, since: datetime | None = None, instance: str | None = None
    ) -> tuple[Brief, ...]:
        found: list[Brief] = []
        values: dict[str, Any] = {
            "at": "" if since is None else time_text(since),
            "seq": 0,
            "instance": instance,
            "now": time_text(self._now()),
        }
        with self._db.read():
            while page := self._db.rows(self._page(), values):
                found += self._told(page)
                values |= {"at": page[-1]["failed_at"], "seq": page[-1]["seq"]}
        return tuple(found)

    def near_cases(
        self, embedder: str, signature_version: int, *, before: int | None = None, limit: int
    ) -> tuple[NearCase, ...]:
        # The first two conditions are those of the index judgements_near; the last CROSS JOINs keep
        # SQLite to the order in which its rows come.
        found_as, by = (
            self._db.json_at("j.document", *path)
            for path in (("matches", "0", "found"), ("gate", "bound", "embedder"))
        )
        version = self._db.json_at("i.signature", "version")
        with self._db.read():
            found = self._db.rows(
                f"""
                SELECT j.seq, j.document, i.id, i.signature, d.kind, d.action,
                    (SELECT o.outcome FROM outcomes AS o WHERE o.decision = d.seq
                        ORDER BY o.seq DESC LIMIT 1) AS outcome,
                    EXISTS (SELECT 1 FROM harms AS h JOIN standing_decisions AS s
                        ON s.seq = h.decision WHERE h.incident_id = i.id) AS harmful
                FROM judgements AS j
                CROSS JOIN incidents AS i
                CROSS JOIN decisions AS d
                WHERE {found_as} = 'near' AND {by} = :embedder AND j.seq < :before
                  AND NOT EXISTS (SELECT 1 FROM judgements AS n
                      WHERE n.incident_id = j.incident_id AND n.seq > j.seq)
                  AND i.id = j.incident_id AND CAST({version} AS text) = :version
                  AND d.seq = (SELECT s.seq FROM standing_decisions AS s
                      WHERE s.incident_id = i.id AND s.kind <> 'shadow'
                      ORDER BY s.seq DESC LIMIT 1)
                  AND (d.kind <> 'superseded'
                      OR EXISTS (SELECT 1 FROM lessons AS l WHERE l.incident_id = i.id))
                ORDER BY j.seq DESC LIMIT :limit
                """,
                {
                    "embedder": embedder,
                    "version": str(signature_version),
                    "before": _NO_LIMIT if before is None else before,
                    "limit": limit,
                },
            )
            lesson_of = self._lessons_of([row["id"] for row in found])
        return tuple(_near_case(row, lesson_of.get(row["id"])) for row in found)

    def _lessons_of(self, ids: Sequence[str]) -> Mapping[str, Lesson]:
        found = self._db.rows(
            f"SELECT * FROM lessons WHERE {self._db.among('incident_id', ':ids')}", {"ids": [*ids]}
        )
        return {row["incident_id"]: rows.read_lesson(row) for row in found}

    def _page(self) -> str:
        return f"""
            SELECT i.seq, i.id, i.kind, i.instance, i.dag_id, i.run_id, i.task_id, i.failed_at,
                i.seen_at, i.fingerprint, i.signature, c.state AS claim,
                {self._db.json_at("i.context", "duration")} AS duration
            FROM incidents AS i
            LEFT JOIN claims AS c
                ON c.incident_id = i.id AND NOT (c.state = 'claimed' AND c.lease_until <= :now)
            WHERE (i.failed_at, i.seq) > (:at, :seq)
              AND (:instance IS NULL OR i.instance = :instance)
            ORDER BY i.failed_at, i.seq LIMIT {_PAGE}
        """

    def _told(self, page: Sequence[rows.Row]) -> list[Brief]:
        listed = {"ids": [row["id"] for row in page]}
        own = self._db.among("incident_id", ":ids")
        decided = self._db.rows(
            "SELECT seq, incident_id, kind, at, by, action, params, cause, reason, '{}' AS plan, "
            f"grant_id FROM standing_decisions WHERE {own} ORDER BY seq",
            listed,
        )
        ended = self._db.rows(f"SELECT * FROM outcomes WHERE {own} ORDER BY seq", listed)
        harmed = self._db.rows(
            "SELECT h.* FROM harms AS h JOIN standing_decisions AS d ON d.seq = h.decision "
            f"WHERE {self._db.among('h.incident_id', ':ids')} ORDER BY h.seq",
            listed,
        )
        lesson_of = self._lessons_of(listed["ids"])
        decisions = _by_incident(map(rows.read_decision, decided))
        outcomes = _by_incident(map(rows.read_outcome, ended))
        harms = _by_incident(map(rows.read_harm, harmed))
        return [
            _brief(
                row,
                lesson_of.get(row["id"]),
                decisions.get(row["id"], ()),
                outcomes.get(row["id"], ()),
                harms.get(row["id"], ()),
            )
            for row in page
        ]


def _by_incident(records: Iterable[T]) -> Mapping[str, Sequence[T]]:
    found: dict[str, list[T]] = {}
    for one in records:
        found.setdefault(one.incident_id, []).append(one)
    return found


def _brief(
    row: rows.Row,
    lesson: Lesson | None,
    decisions: Sequence[Decision],
    outcomes: Sequence[Outcome],
    harms: Sequence[Harm],
) -> Brief:
    signature = json.loads(row["signature"])
    return Brief(
        incident_id=row["id"],
        kind=row["kind"],
        instance=row["instance"],
        dag_id=row["dag_id"],
        run_id=row["run_id"],
        task_id=row["task_id"],
        failed_at=rows.parse_time(row["failed_at"]),
        seen_at=rows.parse_time(row["seen_at"]),
        fingerprint=row["fingerprint"],
        error_class=signature["error_class"],
        headline=signature["headline"],
        duration=rows.seconds(row["duration"]),
        claim=row["claim"],
        decisions=tuple(decisions),
        outcomes=tuple(outcomes),
        harms=tuple(harms),
        lesson=lesson,
    )


def _near_case(row: rows.Row, lesson: Lesson | None) -> NearCase:
    best = json.loads(row["document"])["matches"][0]
    return NearCase(
        judgement=row["seq"],
        error_class=json.loads(row["signature"])["error_class"],
        similarity=best["similarity"],
        proposed=best["action"],
        kind=row["kind"],
        action=row["action"],
        outcome=row["outcome"],
        harmful=bool(row["harmful"]),
        lesson=lesson,
    )
