"""Lessons in plain Python: the part of the twin about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from knowledge.records import Lesson
from knowledge.stores import rows


class MemoryLessons:
    """The part of the store about what Airflow's own history taught."""

    def __init__(self) -> None:
        self._lessons: dict[str, Lesson] = {}  # by the incident of their try

    def add_lessons(self, lessons: Sequence[Lesson]) -> int:
        before = len(self._lessons)
        for one in lessons:
            rows.lesson_params(one)
        for one in lessons:
            self._lessons.setdefault(one.incident_id, one)
        return len(self._lessons) - before

    def known_lessons(self, ids: Collection[str]) -> set[str]:
        return self._lessons.keys() & set(ids)

    def lessons(self, fingerprints: Collection[str]) -> tuple[Lesson, ...]:
        return tuple(
            one for one in self._lessons.values() if one.signature.fingerprint in fingerprints
        )

    def lesson_counts(self) -> dict[str, int]:
        return dict(Counter(one.signature.fingerprint for one in self._lessons.values()))
