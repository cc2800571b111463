"""What the tool did alone, counted in plain Python: the part of the twin that limits ask."""

from __future__ import annotations

from datetime import datetime

from knowledge.records import (
    ActsAlone,
    Breaker,
    Decision,
    Harm,
    Incident,
    Outcome,
    Signature,
    Voided,
)
from knowledge.stores import breaker, rules
from knowledge.stores.memory_incidents import task_instance
from knowledge.stores.memory_leave import MemoryLeave


class MemoryAlone(MemoryLeave):
    """The part of the store that counts what was done alone."""

    def __init__(self, now: rules.Clock) -> None:
        super().__init__(now)
        self._decisions: list[tuple[Decision, datetime]] = []  # with the store's own time
        self._voided: dict[int, Voided] = {}
        self._outcomes: list[Outcome] = []
        self._harms: list[Harm] = []

    def acts_alone(self, incident_id: str) -> ActsAlone:
        me = self._incidents[self._incident_id(incident_id)]
        now = self._now()
        day = [
            (self._incidents[one.incident_id], recorded_at > now - rules.HOUR)
            for one, recorded_at in self._decisions
            if one.kind == "auto"
            and one.seq not in self._voided
            and one.incident_id != me.id
            and recorded_at > now - rules.DAY
        ]
        hour = [one for one, this_hour in day if this_hour]
        storm = [
            (self._newest_outcome(one), self._called_wrong(one) or self._undone(one))
            for one in self._not_voided()
            if one.kind == "auto"
            and one.incident_id != me.id
            and me.group is not None
            and self._incidents[one.incident_id].group == me.group
        ]
        bad = ("failed", "relapsed", "unknown")
        return ActsAlone(
            storm_running=sum(outcome is None for outcome, _ in storm),
            storm_fixed=sum(
                outcome is not None and outcome.outcome == "fixed" and not harmed
                for outcome, harmed in storm
            ),
            storm_failed=sum(
                harmed or (outcome is not None and outcome.outcome in bad)
                for outcome, harmed in storm
            ),
            task_instance_day=sum(task_instance(one) == task_instance(me) for one, _ in day),
            hour=len(hour),
            dag_hour=sum((one.instance, one.dag_id) == (me.instance, me.dag_id) for one in hour),
            signature_breaker=self._breaker(me, breaker.WRONG_OF_SIGNATURE, me.signature),
            breaker=self._breaker(me, breaker.WRONG_IN_ALL, None),
        )

    def _breaker(self, me: Incident, threshold: int, signature: Signature | None) -> Breaker:
        """Of one signature's acts, or of all."""
        now = self._now()
        acts = [
            (recorded_at, self._end(one))
            for one, recorded_at in self._decisions
            if one.kind == "auto"
            and one.seq not in self._voided
            and one.incident_id != me.id
            and (
                signature is None
                or self._incidents[one.incident_id].signature.fingerprint == signature.fingerprint
            )
        ]

        def fixed(since: datetime, by: datetime) -> bool:
            return any(
                at >= since and end is not None and end.outcome == "fixed" and end.known <= by
                for at, end in acts
            )

        def running(since: datetime) -> bool:
            return any(at >= since and end is None for at, end in acts)

        bad = (*breaker.WRONG, "unknown")
        ends = [
            end
            for _, end in acts
            if end and end.outcome in bad and end.known > now - breaker.MEMORY
        ]
        return breaker.breaker(ends, threshold, now, fixed=fixed, running=running)

    def _end(self, decision: Decision) -> breaker.End | None:
        """How an act ended as far as is known; a person's word that it did harm, or their no to
        it afterwards, goes first."""
        harms = [harm.at for harm in self._harms if harm.decision == decision.seq]
        harms += [one.at for one in self._noes(decision)]
        if harms:
            return breaker.End(min(harms), "wrong")
        newest = self._newest_outcome(decision)
        if newest is None:
            return None
        came_back = newest.outcome == "relapsed" and decision.action in breaker.RERUNS
        return breaker.End(newest.at, "came back" if came_back else newest.outcome)

    def _called_wrong(self, decision: Decision) -> bool:
        return any(harm.decision == decision.seq for harm in self._harms)

    def _not_voided(self) -> list[Decision]:
        return [one for one, _ in self._decisions if one.seq not in self._voided]

    def _newest_outcome(self, decision: Decision) -> Outcome | None:
        found = [one for one in self._outcomes if one.decision == decision.seq]
        return found[-1] if found else None

    def _undone(self, decision: Decision) -> bool:
        return bool(self._noes(decision))

    def _noes(self, decision: Decision) -> list[Decision]:
        """What people said against the act after it was done."""
        return [
            one
            for one in self._not_voided()
            if one.incident_id == decision.incident_id
            and one.kind == "reject"
            and one.action == decision.action
            and one.seq > decision.seq
        ]
