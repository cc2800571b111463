"""Failures judged by the real ladder, gate and store, each only by what was known before it.

The store is a scratch one, time stands where it is set, and Airflow says what was kept with the
incident: the try is failed still, its DAG runs, all is well. So what is measured is what the
tool knows, not the weather of that day. Nothing is acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from aiops_cli import examine
from aiops_cli.actions import CATALOGUE, who_may
from aiops_cli.config import Settings
from aiops_cli.context import Snapshot
from aiops_cli.incidents import Dag, DagRun, Health, Incident, Task, TaskInstance
from aiops_cli.seams import Airflow
from knowledge.base import KnowledgeBase
from knowledge.records import ClaimState, Decision, Grant, Harm, Outcome, OutcomeName, Vouch
from knowledge.stores import Store
from knowledge.stores.sqlite import SqliteIndex, SqliteStore
from knowledge.stores.sqlite_engine import open_in_memory

if TYPE_CHECKING:
    from aiops_cli.diagnosis.advisor import Advisor

LEASE = timedelta(minutes=5)
LONG = timedelta(days=36_500)
LEAVE = "replay"  # who gives the leave to act alone that a replay supposes, and its grant's id
ENDLESS = 10**6  # acts an hour: the settings' own brakes hold all the same


class SetClock:
    """A clock that stands where it was set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class _Then:
    """What is asked of an Airflow when a failure is judged, answered from what was kept of it."""

    name, url = "replay", ""

    def __init__(self) -> None:
        self.context: Mapping[str, Any] = {}

    def health(self) -> Health:
        return Health()

    def dag(self, dag_id: str) -> Dag:
        return Dag(dag_id, tags=tuple(self.context.get("tags") or ()))

    def dags(self) -> Iterator[Dag]:
        return iter(())

    def active_runs(self) -> Iterator[DagRun]:
        return iter(())

    def newest_success(self, dag_id: str) -> DagRun | None:  # noqa: ARG002 (none is kept)
        return None

    def run(self, dag_id: str, run_id: str) -> DagRun:
        return DagRun(dag_id, run_id, "failed", self.context.get("run_type") or "scheduled")

    def tasks(self, dag_id: str) -> Mapping[str, Task]:  # noqa: ARG002 (one task is asked about)
        return _OneTask(retries=self.context.get("retries") or 0)


class _OneTask(dict[str, Task]):
    """Any task of a DAG, of which only the retries were kept."""

    def __init__(self, retries: int) -> None:
        self.retries = retries

    def get(self, key: str, default: Any = None) -> Task:  # noqa: ARG002 (there is always one)
        return Task(key, self.retries)


class Scratch(SqliteStore):
    """An empty store that nobody else has, in which people's words on tasks are those of another
    one, as they stood at the moment that the clock shows."""

    said_in: Store

    @classmethod
    def beside(cls, other: Store, now: Callable[[], datetime]) -> Scratch:
        database = open_in_memory()
        made = cls(database, now, SqliteIndex(database), "memory")
        made.said_in = other
        return made

    def vouches(
        self, instance: str, dag_id: str, task_id: str, before: datetime | None = None
    ) -> tuple[Vouch, ...]:
        return self.said_in.vouches(instance, dag_id, task_id, before or self._now())


class Replay:
    """One knowledge base as it grows. `clock` is the store's own too."""

    def __init__(
        self,
        settings: Settings,
        knowledge: KnowledgeBase,
        clock: SetClock,
        advisor: Advisor | None = None,
    ) -> None:
        self.clock = clock
        self.knowledge = knowledge
        self._airflow = _Then()
        self.desk = examine.Desk(
            cast(Airflow, self._airflow),  # nothing else is asked of one
            knowledge,
            replace(
                settings,
                paused=False,
                pause_dag=None,
                # A failure may have been seen long after it happened; that is that day's weather.
                gate=replace(settings.gate, recent=LONG),
            ),
            clock,
            advisor,
        )
        self._open: dict[str, int] = {}  # incident → the token of an act that is under way
        self._acts: dict[str, int] = {}  # incident → its last act
        granted = tuple(
            name
            for name, action in CATALOGUE.items()
            if action.tier in ("retry", "change")
            and who_may(settings.actions, name, settings.two_people) == "alone"
        )
        knowledge.store.add_grant(
            Grant(LEAVE, granted, ("*",), LEAVE, clock.now(), ENDLESS, ENDLESS)
        )

    @property
    def store(self) -> Store:
        return self.knowledge.store

    def judge(self, incident: Incident) -> Mapping[str, Any]:
        """Take the incident in and judge it now, by the clock. The judgement's document."""
        self._airflow.context = incident.context
        snapshot = Snapshot(self.desk.airflow)
        live = TaskInstance(
            examine.ref_of(incident),
            "failed",
            incident.try_number,
            incident.try_number,
            id=incident.ti_id,
        )
        case = examine.take_in(self.desk, snapshot, live, incident)
        if case is None or case.judgement is None:
            raise AssertionError(f"{incident.id} was not judged")
        return case.judgement.document

    def decide(
        self, incident: Incident, decision: Decision, vouches: Sequence[Vouch] = ()
    ) -> Decision:
        """Write a decision down. One that acts goes through the store's door, and is open until
        `end`. Raises DoorClosed where the store does not let it pass."""
        if decision.kind not in ("approve", "auto") or decision.action in (None, "none"):
            return self.store.record(decision, vouches)
        token = self.store.claim(incident.id, incident.ti_id, decision.by, LEASE, reopen=True)
        if token is None:
            raise AssertionError(f"{incident.id} is claimed in a store that nobody else has")
        try:
            done = self.store.open_door(incident.id, token, decision, vouches=vouches)
        except BaseException:
            self.store.release(incident.id, token)
            raise
        self._open[incident.id], self._acts[incident.id] = token, done.seq
        return done

    def end(self, incident_id: str, outcome: OutcomeName, at: datetime, detail: str = "") -> None:
        """What came of the last act on an incident; a further word on one that has ended."""
        act, token = self._acts.get(incident_id), self._open.pop(incident_id, None)
        if act is None:
            return
        row = Outcome(incident_id, act, at, outcome, detail)
        if token is None:
            self.store.add_outcome(row)
            return
        state: ClaimState = "needs_human" if outcome == "unknown" else "done"
        self.store.settle(incident_id, token, state, row)

    def call_wrong(self, harm: Harm) -> None:
        """A person's word that an act did harm, where it was done here."""
        if harm.incident_id in self._acts:
            self.store.call_wrong(harm.incident_id, harm.by, harm.at, harm.reason)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judgement comes to. `acts` is the action that would be done alone, or None; `told`
    that a known `none` is told and no question asked."""

    acts: str | None
    told: bool
    proposed: str | None  # what the diagnosis proposes
    similarity: float = 0.0  # of the best match, 0.0 where there is none
    found: str | None = None  # how that was found: exact, near
    best: str | None = None  # its action


def verdict(document: Mapping[str, Any]) -> Verdict:
    """What the judgement's document comes to."""
    proposed = document["diagnosis"]["action"]
    failed = {check["name"] for check in document["gate"]["checks"] if not check["passed"]}
    best = document["matches"][0] if document["matches"] else None
    return Verdict(
        acts=proposed if document["decision"] == "auto" else None,
        # Nothing is to be done, so that no leave to act can be missing.
        told=proposed == "none" and failed <= {"action_allowed"},
        proposed=proposed,
        similarity=best["similarity"] if best else 0.0,
        found=best["found"] if best else None,
        best=best["action"] if best else None,
    )
