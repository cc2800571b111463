"""Leave to act alone: grants, the kill switch, and holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from knowledge.records import Grant, Hold, Pause
from knowledge.stores import rows, rules
from knowledge.stores.rows import time_text
from knowledge.stores.sql_audit import AuditTables

HOLDS = """
SELECT h.*, e.at AS ended_at, e.by AS ended_by
FROM holds AS h LEFT JOIN hold_ends AS e ON e.hold_id = h.id
"""
# records.in_force in SQL; the tests hold the two together.
IN_FORCE = "e.at IS NULL AND (h.until IS NULL OR h.until > :now)"


class LeaveTables(AuditTables):
    """The part of the store about who may act alone, and on what."""

    def add_grant(self, grant: Grant) -> None:
        with self._db.write():
            self._append("grants", rows.grant_params(grant))

    def revoke_grant(self, grant_id: str, by: str, at: datetime) -> Grant:
        with self._db.write():
            full = self._full_id("grant", "grants", grant_id)
            if not self._db.row("SELECT 1 FROM revocations WHERE grant_id = ?", [full]):
                self._append("revocations", {"grant_id": full, "by": by, "at": time_text(at)})
            return next(grant for grant in self._grants() if grant.id == full)

    def grants(self) -> tuple[Grant, ...]:
        with self._db.read():
            return self._grants()

    def _grants(self) -> tuple[Grant, ...]:
        found = self._db.rows(
            "SELECT g.*, r.at AS revoked_at, r.by AS revoked_by "
            "FROM grants AS g LEFT JOIN revocations AS r ON r.grant_id = g.id ORDER BY g.seq"
        )
        return tuple(map(rows.read_grant, found))

    def pause(self) -> Pause:
        with self._db.read():
            return self._pause()

    def _pause(self) -> Pause:
        row = self._db.row("SELECT * FROM pauses ORDER BY seq DESC LIMIT 1")
        return rows.read_pause(row) if row else Pause(paused=False)

    def set_pause(self, pause: Pause) -> None:
        with self._db.write():
            self._append("pauses", rows.pause_params(pause))

    def add_hold(self, hold: Hold) -> None:
        with self._db.write():
            self._append("holds", rows.hold_params(hold))

    def end_hold(self, id_or_target: str, by: str, at: datetime) -> tuple[Hold, ...]:
        with self._db.write():
            in_force = self._db.rows(
                f"{HOLDS} WHERE {IN_FORCE} ORDER BY h.seq", {"now": time_text(self._now())}
            )
            ended = rules.holds_meant(id_or_target, list(map(rows.read_hold, in_force)))
            for hold in ended:
                self._append("hold_ends", {"hold_id": hold.id, "by": by, "at": time_text(at)})
        return tuple(replace(hold, ended_at=at, ended_by=by) for hold in ended)

    def holds(self) -> tuple[Hold, ...]:
        with self._db.read():
            found = self._db.rows(f"{HOLDS} ORDER BY h.seq")
        return tuple(map(rows.read_hold, found))

    def holds_on(self, incident_id: str) -> tuple[Hold, ...]:
        with self._db.read():
            return self._holds_on(self._incident_id(incident_id))

    def _holds_on(self, incident_id: str) -> tuple[Hold, ...]:
        found = self._db.rows(
            f"""
            {HOLDS}
            JOIN incidents AS me ON me.id = :id AND me.instance = h.instance
            LEFT JOIN incidents AS held ON held.id = h.target
            WHERE {IN_FORCE} AND (
                {self._db.fits("me.dag_id", "h.target")}
                OR (me.instance, me.dag_id, me.run_id, me.task_id, me.map_index)
                   = (held.instance, held.dag_id, held.run_id, held.task_id, held.map_index)
            )
            ORDER BY h.seq
            """,
            {"id": incident_id, "now": time_text(self._now())},
        )
        return tuple(map(rows.read_hold, found))
