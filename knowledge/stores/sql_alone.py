"""What the tool did alone, counted: what limits, storms and circuit breakers ask before an act."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from knowledge.records import ActsAlone, Breaker
from knowledge.stores import breaker, rules
from knowledge.stores.rows import parse_time, time_text
from knowledge.stores.sql_leave import LeaveTables

# Whether a person called the act d wrong, or said no to it after it was done (an undo is one): then
# it went wrong, whatever Airflow says.
TAKEN_BACK = """EXISTS (
    SELECT 1 FROM standing_decisions AS n
    WHERE n.incident_id = d.incident_id AND n.kind || '' = 'reject'
      AND n.action = d.action AND n.seq > d.seq)"""
HARMED = f"(EXISTS (SELECT 1 FROM harms AS h WHERE h.decision = d.seq) OR {TAKEN_BACK})"

# Asked before every act, so made for days of thousands: of most acts neither the incident nor more
# than an index is read. SQLite keeps to the order in which CROSS JOINs are written, and the "||"
# keeps it to the incident's own decisions; it would rather go through the whole day for each.
ACTS_ALONE = f"""
WITH storm AS (
    SELECT (SELECT o.outcome FROM outcomes AS o WHERE o.decision = d.seq
            ORDER BY o.seq DESC LIMIT 1) AS outcome,
        {HARMED} AS harmed
    FROM incidents AS me
    CROSS JOIN incidents AS i
    CROSS JOIN standing_decisions AS d
    WHERE me.id = :id AND i.group_id = me.group_id AND i.id <> :id
      AND d.incident_id = i.id AND d.kind || '' = 'auto'
),
told AS (
    SELECT i.instance = me.instance AND i.dag_id = me.dag_id AS same_dag
    FROM standing_decisions AS d
    CROSS JOIN incidents AS me
    CROSS JOIN incidents AS i
    WHERE d.kind = 'auto' AND d.recorded_at > :hour AND d.incident_id <> :id
      AND me.id = :id AND i.id = d.incident_id
)
SELECT
    (SELECT count(*) FROM incidents AS me
        CROSS JOIN incidents AS i
        CROSS JOIN standing_decisions AS d
        WHERE me.id = :id AND i.id <> :id
          AND (i.instance, i.dag_id, i.task_id) = (me.instance, me.dag_id, me.task_id)
          AND (i.run_id, i.map_index) = (me.run_id, me.map_index)
          AND d.incident_id = i.id AND d.kind || '' = 'auto' AND d.recorded_at > :day
    ) AS task_instance_day,
    count(*) AS hour,
    count(*) FILTER (WHERE same_dag) AS dag_hour,
    (SELECT count(*) FROM storm WHERE outcome IS NULL) AS storm_running,
    (SELECT count(*) FROM storm WHERE outcome = 'fixed' AND NOT harmed) AS storm_fixed,
    (SELECT count(*) FROM storm WHERE outcome IN ('failed', 'relapsed', 'unknown') OR harmed)
        AS storm_failed
FROM told
"""

# What the breakers rest on; of few acts, so that those of a month can be read each time. The first
# condition is the one of the index outcomes_not_well.
NOT_WELL = """
WITH said AS (
    SELECT h.decision, h.at FROM harms AS h
    UNION ALL
    SELECT d.seq, n.at FROM standing_decisions AS n
    CROSS JOIN decisions AS d
    WHERE n.kind = 'reject'
      AND d.incident_id = n.incident_id AND d.action = n.action AND d.seq < n.seq
),
ended AS (
    SELECT o.decision, o.outcome, o.at AS known FROM outcomes AS o
    WHERE o.outcome IN ('failed', 'relapsed', 'unknown') AND o.at > :since
      AND NOT EXISTS (
          SELECT 1 FROM outcomes AS n WHERE n.decision = o.decision AND n.seq > o.seq)
      AND NOT EXISTS (SELECT 1 FROM said WHERE said.decision = o.decision)
    UNION ALL
    SELECT said.decision, 'wrong' AS outcome, min(said.at) AS known FROM said
    GROUP BY said.decision HAVING min(said.at) > :since
)
SELECT ended.outcome, ended.known, i.fingerprint = me.fingerprint AS same_signature
FROM ended
CROSS JOIN standing_decisions AS d
CROSS JOIN incidents AS me
CROSS JOIN incidents AS i
WHERE d.seq = ended.decision AND d.kind || '' = 'auto' AND d.incident_id <> :id
  AND NOT (ended.outcome = 'relapsed' AND d.action IN ('retry', 'retry_later'))
  AND me.id = :id AND i.id = d.incident_id
"""

# Acts that may be a breaker's canary: begun from :since on, of the signature (null: of any).
CANARIES = """
FROM standing_decisions AS d
CROSS JOIN incidents AS i
WHERE d.kind = 'auto' AND d.recorded_at >= :since AND d.incident_id <> :id
  AND i.id = d.incident_id AND (:fingerprint IS NULL OR i.fingerprint = :fingerprint)
"""
FIXED = f"""
SELECT 1 {CANARIES} AND NOT {HARMED}
  AND EXISTS (
      SELECT 1 FROM outcomes AS o WHERE o.decision = d.seq AND o.outcome = 'fixed' AND o.at <= :by
        AND NOT EXISTS (SELECT 1 FROM outcomes AS n WHERE n.decision = d.seq AND n.seq > o.seq))
LIMIT 1
"""
RUNNING = f"""
SELECT 1 {CANARIES} AND NOT {HARMED}
  AND NOT EXISTS (SELECT 1 FROM outcomes AS o WHERE o.decision = d.seq)
LIMIT 1
"""


class AloneTables(LeaveTables):
    """The part of the store that counts what was done alone."""

    def acts_alone(self, incident_id: str) -> ActsAlone:
        with self._db.read():
            return self._acts_alone(self._incident_id(incident_id))

    def _acts_alone(self, incident_id: str) -> ActsAlone:
        now = self._now()
        values = {
            "id": incident_id,
            "hour": time_text(now - rules.HOUR),
            "day": time_text(now - rules.DAY),
        }
        counted = self._db.rows(ACTS_ALONE, values)[0]
        of_signature, of_all = self._breakers(incident_id, now)
        return ActsAlone(**counted, signature_breaker=of_signature, breaker=of_all)

    def _breakers(self, incident_id: str, now: datetime) -> tuple[Breaker, Breaker]:
        since = time_text(now - breaker.MEMORY)
        ended = [
            (breaker.End(parse_time(row["known"]), row["outcome"]), row["same_signature"])
            for row in self._db.rows(NOT_WELL, {"id": incident_id, "since": since})
        ]
        if not ended:
            return Breaker(), Breaker()
        own = self._db.rows("SELECT fingerprint FROM incidents WHERE id = ?", [incident_id])
        fingerprint = own[0]["fingerprint"]
        return (
            breaker.breaker(
                [end for end, same in ended if same],
                breaker.WRONG_OF_SIGNATURE,
                now,
                fixed=partial(self._fixed, incident_id, fingerprint),
                running=partial(self._running, incident_id, fingerprint),
            ),
            breaker.breaker(
                [end for end, _ in ended],
                breaker.WRONG_IN_ALL,
                now,
                fixed=partial(self._fixed, incident_id, None),
                running=partial(self._running, incident_id, None),
            ),
        )

    def _fixed(
        self, incident_id: str, fingerprint: str | None, since: datetime, by: datetime
    ) -> bool:
        values = {"id": incident_id, "fingerprint": fingerprint}
        values |= {"since": time_text(since), "by": time_text(by)}
        return self._db.row(FIXED, values) is not None

    def _running(self, incident_id: str, fingerprint: str | None, since: datetime) -> bool:
        values = {"id": incident_id, "fingerprint": fingerprint, "since": time_text(since)}
        return self._db.row(RUNNING, values) is not None
