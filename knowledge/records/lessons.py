"""What ended a failure without this tool, as Airflow's own history shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from knowledge.records.decided import Trial
from knowledge.records.seen import Signature, incident_id

LessonMode = Literal["person", "airflow", "machine"]
LessonOutcome = Literal["fixed", "failed", "unknown"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """One failed try and what came after it, by a person's hand (`mode` person) or by Airflow's
    own retry (airflow). One for each try, for good. Whose login is a machine's the settings say,
    today: stored is person, and machine is made of it where lessons are read.

    `action` is what it speaks for or against, None where that cannot be told. `outcome` is
    unknown where something was done whose effect nobody has seen: marked by hand, or among
    several changes. `at` is when it was done, `ended_at` when the try ended that tells the
    outcome. `by` is the login name, "" where Airflow does not tell. `version` is the DAG version
    of the failed try.
    """

    instance: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    failed_at: datetime
    signature: Signature
    mode: LessonMode
    at: datetime
    outcome: LessonOutcome
    seen_at: datetime
    action: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    by: str = ""
    detail: str = ""
    ended_at: datetime | None = None
    version: int | None = None

    @property
    def incident_id(self) -> str:
        """The id that the failed try has as an incident, whether it is stored as one or not."""
        return incident_id(
            self.instance,
            self.dag_id,
            self.run_id,
            self.task_id,
            self.map_index,
            self.try_number,
        )


def trial_of(lesson: Lesson) -> Trial | None:
    """The lesson as evidence; None where it is none.

    What a person did and Airflow then showed green or red is a verified outcome as an approval's
    is. Airflow's own retries are none: a failure that people are asked about is one that those
    could not end, so how often they ended others says little of it, and nothing of whether the
    task may run twice.
    """
    if lesson.mode != "person" or lesson.outcome == "unknown" or lesson.action in (None, "none"):
        return None
    return Trial(
        incident_id=lesson.incident_id,
        instance=lesson.instance,
        dag_id=lesson.dag_id,
        run_id=lesson.run_id,
        task_id=lesson.task_id,
        map_index=lesson.map_index,
        fingerprint=lesson.signature.fingerprint,
        action=str(lesson.action),
        params=lesson.params,
        mode="history",
        at=lesson.at,
        outcome=lesson.outcome,
        version=lesson.version,
        signature_version=lesson.signature.version,
        failed_at=lesson.failed_at,
    )
