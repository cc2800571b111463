"""Everything that was written of one incident, in the order in which it was written."""

from __future__ import annotations

from typing import Any

from knowledge.records import Story
from knowledge.stores import rows
from knowledge.stores.engine import Tables


class StoryTables(Tables):
    """The part of the store that tells the whole story of an incident."""

    def story(self, incident_id: str) -> Story:
        with self._db.read():
            full = self._incident_id(incident_id)

            def of_incident(table: str) -> list[dict[str, Any]]:
                return self._db.rows(
                    f"SELECT * FROM {table} WHERE incident_id = ? ORDER BY seq", [full]
                )

            def of_decisions(table: str, order: str) -> list[dict[str, Any]]:
                return self._db.rows(
                    f"SELECT * FROM {table} WHERE decision IN "
                    f"(SELECT seq FROM decisions WHERE incident_id = ?) ORDER BY {order}",
                    [full],
                )

            return Story(
                judgements=tuple(map(rows.read_judgement, of_incident("judgements"))),
                decisions=tuple(map(rows.read_decision, of_incident("decisions"))),
                voided=tuple(map(rows.read_voided, of_decisions("voided", "decision"))),
                outcomes=tuple(map(rows.read_outcome, of_incident("outcomes"))),
                harms=tuple(map(rows.read_harm, of_incident("harms"))),
                vouches=tuple(map(rows.read_vouch, of_decisions("vouches", "seq"))),
                remarks=tuple(map(rows.read_remark, of_incident("remarks"))),
                snoozes=tuple(map(rows.read_snooze, of_incident("snoozes"))),
            )
