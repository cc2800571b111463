"""What was done in a session of `aiops triage`, and how it is put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from aiops_cli.commands.output import console
from aiops_cli.errors import AiopsError, AirflowAuth, AirflowUnreachable
from knowledge.errors import KnowledgeError

if TYPE_CHECKING:
    from aiops_cli.examine import Desk
    from knowledge.records import Case, Entry


@dataclass
class Deed:
    """What was done, to which incidents, and how each step of it is put back; `None` where it
    ran in Airflow, and False is what a step gives that has run meanwhile."""

    what: str
    ids: list[str]
    put_back: list[Callable[[], object] | None] = field(default_factory=list)


Deeds = list[Deed]


def note(deeds: Deeds, deed: Deed) -> None:
    """After the first step of it: whatever comes then, that step can be put back."""
    if not deeds or deeds[-1] is not deed:
        deeds.append(deed)


class Learned:
    """What is learned from here on, and how to forget it."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.before = self._entries()

    def _entries(self) -> dict[str, Entry]:
        return {entry.id: entry for entry in self.desk.knowledge.store.entries(kind="incident")}

    def put_back(self) -> list[Callable[[], object] | None]:
        changed = [one for id_, one in self._entries().items() if self.before.get(id_) != one]
        return [self._forget(entry) for entry in changed]

    def _forget(self, entry: Entry) -> Callable[[], object]:
        knowledge, by, now = self.desk.knowledge, self.desk.settings.user, self.desk.clock.now
        earlier = self.before.get(entry.id)
        if earlier is not None:
            return lambda: knowledge.put([earlier], now())
        return lambda: knowledge.store.retire_entries([entry.id], by, now(), "taken back")


def called_off(
    desk: Desk, case: Case, forget: list[Callable[[], object] | None]
) -> Callable[[], bool]:
    """Gives up what waits for its time, and what was learned by it; False where it has begun."""
    from aiops_cli import decide

    store = desk.knowledge.store

    def call_off() -> bool:
        by, now = desk.settings.user, desk.clock.now()
        off = decide.call_off(store, store.case(case.incident.id), by, now)
        for step in filter(None, forget if off else ()):
            step()
        return off

    return call_off


def changed_back(desk: Desk, case: Case) -> Callable[[], object]:
    from aiops_cli.undo import undo as put_back

    store = desk.knowledge.store
    return lambda: put_back(desk, store.case(case.incident.id))


def taken_back(desk: Desk, case: Case) -> Callable[[], object]:
    store, by, now = desk.knowledge.store, desk.settings.user, desk.clock.now
    return lambda: store.take_back(case.incident.id, by, now())


def released(desk: Desk, hold_id: str) -> Callable[[], object]:
    store, by, now = desk.knowledge.store, desk.settings.user, desk.clock.now
    return lambda: store.end_hold(hold_id, by, now())


def woken(desk: Desk, id_: str) -> Callable[[], object]:
    """A time that is over ends a snooze, and is over by any clock of those who share the base."""
    store, by, now = desk.knowledge.store, desk.settings.user, desk.clock.now
    return lambda: store.snooze(id_, now() - timedelta(days=1), by, now())


def undo(deeds: Deeds) -> list[str]:
    """Put back what was done last in this session; the ids it was done to, [] where nothing
    could be put back. What is refused of several is told and kept, to be tried again."""
    out = console(stderr=True)
    if not deeds:
        out.print("nothing was decided in this session")
        return []
    deed = deeds[-1]
    ran, kept = [], []
    try:
        while deed.put_back:
            step = deed.put_back[-1]
            try:
                ran.append(step is None or step() is False)
            except (AirflowUnreachable, AirflowAuth):
                raise  # the same for all: they are kept as they are
            except (AiopsError, KnowledgeError) as error:
                out.print(f"{error.message} ({error.hint})")
                kept.append(step)
            deed.put_back.pop()
    finally:
        deed.put_back += reversed(kept)
        if not deed.put_back:
            deeds.pop()
    if kept:
        out.print(f"{len(kept)} of {deed.what} could not be put back; u tries again")
    if any(ran):
        out.print(
            f"{deed.what} ran in Airflow and cannot be undone; if it did harm: aiops wrong "
            f"{deed.ids[-1]} --reason …"
        )
    if all(ran):
        return []
    out.print(f"taken back: {deed.what}")
    return deed.ids
