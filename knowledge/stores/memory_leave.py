"""Leave to act alone, in plain Python: the part of the twin about grants, pause and holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from knowledge.records import Grant, Hold, Incident, Pause, in_force
from knowledge.stores import rows, rules
from knowledge.stores.memory_entries import fitting
from knowledge.stores.memory_incidents import MemoryIncidents, fits, task_instance


class MemoryLeave(MemoryIncidents):
    """The part of the store about who may act alone, and on what."""

    def __init__(self, now: rules.Clock) -> None:
        super().__init__(now)
        self._grants: dict[str, Grant] = {}
        self._pauses = [Pause(paused=False)]
        self._holds: dict[str, Hold] = {}

    def add_grant(self, grant: Grant) -> None:
        self._grants[grant.id] = grant

    def revoke_grant(self, grant_id: str, by: str, at: datetime) -> Grant:
        full = rules.the_one("grant", grant_id, fitting(self._grants, grant_id))
        if self._grants[full].revoked_at is None:
            self._grants[full] = replace(self._grants[full], revoked_at=at, revoked_by=by)
        return self._grants[full]

    def grants(self) -> tuple[Grant, ...]:
        return tuple(self._grants.values())

    def pause(self) -> Pause:
        return self._pauses[-1]

    def set_pause(self, pause: Pause) -> None:
        self._pauses.append(pause)

    def add_hold(self, hold: Hold) -> None:
        rows.hold_params(hold)
        self._holds[hold.id] = hold

    def end_hold(self, id_or_target: str, by: str, at: datetime) -> tuple[Hold, ...]:
        rows.time_text(at)
        ended = tuple(
            replace(hold, ended_at=at, ended_by=by)
            for hold in rules.holds_meant(id_or_target, self._in_force())
        )
        self._holds.update({hold.id: hold for hold in ended})
        return ended

    def holds(self) -> tuple[Hold, ...]:
        return tuple(self._holds.values())

    def holds_on(self, incident_id: str) -> tuple[Hold, ...]:
        incident = self._incidents[self._incident_id(incident_id)]
        return tuple(hold for hold in self._in_force() if self._covers(hold, incident))

    def _in_force(self) -> tuple[Hold, ...]:
        return tuple(hold for hold in self._holds.values() if in_force(hold, self._now()))

    def _covers(self, hold: Hold, incident: Incident) -> bool:
        if hold.instance != incident.instance:
            return False
        held = self._incidents.get(hold.target)
        return fits(incident.dag_id, hold.target) or (
            held is not None and task_instance(held) == task_instance(incident)
        )
