"""What Airflow's own history taught: a row for each failed try, for good."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from knowledge.records import Lesson
from knowledge.stores import rows
from knowledge.stores.sql_audit import AuditTables


class LessonTables(AuditTables):
    """The part of the store about lessons."""

    def add_lessons(self, lessons: Sequence[Lesson]) -> int:
        with self._db.write():
            known = self._known_lessons([one.incident_id for one in lessons])
            new = {one.incident_id: one for one in lessons if one.incident_id not in known}
            self._append_all("lessons", [rows.lesson_params(one) for one in new.values()])
        return len(new)

    def known_lessons(self, ids: Collection[str]) -> set[str]:
        with self._db.read():
            return self._known_lessons(ids)

    def _known_lessons(self, ids: Collection[str]) -> set[str]:
        found = self._db.rows(
            f"SELECT incident_id FROM lessons WHERE {self._db.among('incident_id', '?')}",
            [list(ids)],
        )
        return {row["incident_id"] for row in found}

    def lessons(self, fingerprints: Collection[str]) -> tuple[Lesson, ...]:
        with self._db.read():
            found = self._db.rows(
                f"SELECT * FROM lessons WHERE {self._db.among('fingerprint', '?')} ORDER BY seq",
                [list(fingerprints)],
            )
        return tuple(map(rows.read_lesson, found))

    def lesson_counts(self) -> dict[str, int]:
        with self._db.read():
            found = self._db.rows(
                "SELECT fingerprint, count(*) AS number FROM lessons GROUP BY fingerprint"
            )
        return {row["fingerprint"]: row["number"] for row in found}
