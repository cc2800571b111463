"""The store's contract in plain Python: the twin that tests use and that SQL is checked against.

Every method checks first and changes last, so that a refusal leaves nothing half done. Records
are made into rows for the check alone: what SQL cannot store is refused here too.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from knowledge.records import (
    Case,
    Claim,
    ClaimState,
    Decision,
    Grant,
    Incident,
    Judgement,
    Limits,
    Outcome,
    Pause,
    Status,
    Trial,
    Vouch,
    status_of,
)
from knowledge.stores import rows, rules
from knowledge.stores.memory_entries import MemoryEntries, fitting


class MemoryStore(MemoryEntries):
    """See `knowledge.stores.Store`. `now` is the store's clock."""

    def __init__(self, now: rules.Clock = rules.utc_now) -> None:
        super().__init__()
        self.location = "memory:"
        self._now = now
        self._base_id = uuid.uuid4().hex[:16]
        self._instances: dict[str, str] = {}
        self._incidents: dict[str, Incident] = {}
        self._judgements: dict[str, Judgement] = {}
        self._decisions: list[tuple[Decision, datetime]] = []  # with the store's own time
        self._voided: set[int] = set()
        self._outcomes: list[Outcome] = []
        self._vouches: list[Vouch] = []
        self._claims: dict[str, Claim] = {}
        self._last_token = 0
        self._grants: dict[str, Grant] = {}
        self._paused = Pause(paused=False)
        self._watermarks: dict[str, datetime] = {}

    def close(self) -> None:
        pass

    def base_id(self) -> str:
        return self._base_id

    def bind_instance(self, name: str, url: str) -> None:
        wanted = rules.normal_url(url)
        bound = self._instances.setdefault(name, wanted)
        if bound != wanted:
            raise rules.wrong_instance(name, bound, wanted)

    def _incident_id(self, prefix: str) -> str:
        prefix = prefix.lower()
        return rules.the_one("incident", prefix, fitting(self._incidents, prefix))

    # --- incidents: what was seen ----------------------------------------------------------

    def add_incident(self, incident: Incident) -> bool:
        if incident.id in self._incidents:
            return False
        rows.incident_params(incident)
        self._incidents[incident.id] = incident
        return True

    def known_incidents(self, ids: Collection[str]) -> set[str]:
        return self._incidents.keys() & set(ids)

    def case(self, incident_id: str) -> Case:
        return self._case(self._incidents[self._incident_id(incident_id)])

    def _case(self, incident: Incident) -> Case:
        claim = self._claims.get(incident.id)
        if claim and self._lapsed(claim):
            claim = None
        decision = self._standing(incident.id)
        outcomes = tuple(one for one in self._outcomes if one.incident_id == incident.id)
        newest = self._newest_outcome(decision) if decision else None
        return Case(
            incident=incident,
            status=status_of(
                claim.state if claim else None,
                decision.kind if decision else None,
                decision.action if decision else None,
                newest.outcome if newest else None,
            ),
            outcome=newest.outcome if newest else None,
            judgement=self._judgements.get(incident.id),
            decision=decision,
            outcomes=outcomes,
            claim=claim,
        )

    def _lapsed(self, claim: Claim) -> bool:
        """A claim that nobody used in its lease is none: its incident waits again."""
        return claim.state == "claimed" and claim.lease_until <= self._now()

    def _standing(self, incident_id: str) -> Decision | None:
        """The newest decision not voided; a shadow one only where there is no other."""
        own = [one for one in self._not_voided() if one.incident_id == incident_id]
        return max(own, key=lambda one: (one.kind != "shadow", one.seq), default=None)

    def _not_voided(self) -> list[Decision]:
        return [one for one, _ in self._decisions if one.seq not in self._voided]

    def _newest_outcome(self, decision: Decision) -> Outcome | None:
        found = [one for one in self._outcomes if one.decision == decision.seq]
        return found[-1] if found else None

    def cases(
        self,
        *,
        status: Collection[Status] = (),
        instance: str | None = None,
        dag: str | None = None,
        task: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[Case, ...]:
        appended_last_first = reversed(self._incidents.values())
        newest_first = sorted(appended_last_first, key=lambda one: -one.failed_at.timestamp())
        found = [
            case
            for case in map(self._case, newest_first)
            if (not status or case.status in status)
            and instance in (None, case.incident.instance)
            and (dag is None or _fits(case.incident.dag_id, dag))
            and (task is None or _fits(case.incident.task_id, task))
            and (since is None or case.incident.failed_at >= since)
        ]
        return tuple(found[:limit])

    def add_judgement(self, judgement: Judgement) -> None:
        full = self._incident_id(judgement.incident_id)
        rows.judgement_params(judgement)
        self._judgements[full] = replace(judgement, incident_id=full)

    def shortest_prefixes(self, ids: Collection[str]) -> Mapping[str, str]:
        return rules.shortest_prefixes(ids, {one: list(self._incidents) for one in ids})

    # --- decisions, claims, outcomes -------------------------------------------------------

    def record(self, decision: Decision, vouches: Sequence[Vouch] = ()) -> Decision:
        rules.check_records_only(decision)
        full = self._incident_id(decision.incident_id)
        if decision.kind != "shadow":
            claim = self._claims.get(full)
            if claim and self._lapsed(claim):
                del self._claims[full]
            elif claim and claim.state in ("claimed", "acting"):
                raise rules.claim_held(full, claim.owner)
            elif claim and claim.state == "needs_human":
                del self._claims[full]
        return self._append(replace(decision, incident_id=full), vouches)

    def _append(self, decision: Decision, vouches: Sequence[Vouch]) -> Decision:
        rows.decision_params(decision, self._now())
        decision = replace(decision, seq=len(self._decisions) + 1)
        self._decisions.append((decision, self._now()))
        self._vouches.extend(vouches)
        return decision

    def claim(
        self,
        incident_id: str,
        ti_id: str | None,
        owner: str,
        lease: timedelta,
        *,
        reopen: bool = False,
    ) -> int | None:
        full = self._incident_id(incident_id)
        held = self._claims.get(full)
        if held and reopen and held.state == "needs_human":
            del self._claims[full]
            held = None
        if held and not self._lapsed(held):
            return None
        if ti_id and any(
            other.ti_id == ti_id for one, other in self._claims.items() if one != full
        ):
            return None
        self._claims[full] = Claim(
            incident_id=full,
            state="claimed",
            token=self._draw(),
            owner=owner,
            lease_until=self._now() + lease,
            ti_id=ti_id or (held.ti_id if held else None),
        )
        return self._last_token

    def _draw(self) -> int:
        self._last_token += 1
        return self._last_token

    def open_door(
        self,
        incident_id: str,
        token: int,
        decision: Decision,
        *,
        limits: Limits | None = None,
        vouches: Sequence[Vouch] = (),
        not_before: datetime | None = None,
    ) -> Decision:
        full = self._incident_id(incident_id)
        rules.check_acts(decision, full)
        claim = self._held(full, token, "claimed")
        if decision.kind == "auto":
            rules.check_pause(self._paused)
            standing = self._standing(full)
            if standing and standing.kind != "shadow":
                raise rules.decided_meanwhile(full)
            if decision.grant is not None:
                rules.check_grant(self._grants.get(decision.grant), decision.grant, self._now())
        if limits is not None:
            rules.check_limits(limits, **self._acts_alone(self._incidents[full]))
        decision = self._append(decision, vouches)
        self._claims[full] = replace(
            claim, state="acting", decision=decision.seq, not_before=not_before
        )
        return decision

    def _held(self, incident_id: str, token: int, state: ClaimState) -> Claim:
        claim = self._claims.get(incident_id)
        if claim is None or claim.token != token or claim.state != state:
            raise rules.claim_lost(incident_id)
        return claim

    def _acts_alone(self, me: Incident) -> dict[str, int]:
        now = self._now()
        alone = [
            (self._incidents[one.incident_id], recorded_at)
            for one, recorded_at in self._decisions
            if one.kind == "auto" and one.seq not in self._voided
        ]
        lately = [one for one, recorded_at in alone if recorded_at > now - rules.HOUR]
        return {
            "everywhere": len(lately),
            "dag": sum((one.instance, one.dag_id) == (me.instance, me.dag_id) for one in lately),
            "task_instance": sum(
                recorded_at > now - rules.DAY and _task_instance(one) == _task_instance(me)
                for one, recorded_at in alone
            ),
        }

    def retake(self, incident_id: str, token: int, lease: timedelta) -> int | None:
        claim = self._claims.get(self._incident_id(incident_id))
        if claim is None or claim.token != token or claim.state != "acting":
            return None
        self._claims[claim.incident_id] = replace(
            claim, token=self._draw(), lease_until=self._now() + lease
        )
        return self._last_token

    def progress(self, incident_id: str, token: int, progress: Mapping[str, Any]) -> None:
        claim = self._held(self._incident_id(incident_id), token, "acting")
        self._claims[claim.incident_id] = replace(claim, progress=dict(progress))

    def settle(
        self, incident_id: str, token: int, state: ClaimState, outcome: Outcome | None = None
    ) -> None:
        rules.check_settles(state)
        claim = self._held(self._incident_id(incident_id), token, "acting")
        if outcome is not None:
            rules.check_outcome_of(outcome, claim.decision)
            self._outcomes.append(replace(outcome, incident_id=claim.incident_id))
        self._claims[claim.incident_id] = replace(claim, state=state)

    def release(self, incident_id: str, token: int) -> None:
        full = self._incident_id(incident_id)
        claim = self._claims.get(full)
        if claim and claim.token == token and claim.state in ("claimed", "acting"):
            del self._claims[full]
            if claim.decision is not None:
                self._voided.add(claim.decision)

    def claims(self, states: Collection[ClaimState]) -> tuple[Claim, ...]:
        found = [claim for claim in self._claims.values() if claim.state in states]
        return tuple(sorted(found, key=lambda claim: claim.token))

    def add_outcome(self, outcome: Outcome) -> None:
        full = self._incident_id(outcome.incident_id)
        own = {one.seq for one in self._not_voided() if one.incident_id == full}
        if outcome.decision not in own:
            raise rules.no_decision(full, outcome.decision)
        claim = self._claims.get(full)
        if claim and claim.state == "acting" and claim.decision == outcome.decision:
            raise rules.not_settled(full)
        self._outcomes.append(replace(outcome, incident_id=full))

    def trials(
        self,
        *,
        fingerprints: Collection[str] | None = None,
        task: tuple[str, str, str] | None = None,
        since: datetime | None = None,
    ) -> tuple[Trial, ...]:
        found = []
        for decision in self._not_voided():
            incident = self._incidents[decision.incident_id]
            if (
                decision.kind in ("approve", "auto", "reject")
                and decision.action not in (None, "none")
                and (fingerprints is None or incident.signature.fingerprint in fingerprints)
                and task in (None, (incident.instance, incident.dag_id, incident.task_id))
                and (since is None or decision.at >= since)
            ):
                found.append(self._trial(decision, incident))
        return tuple(found)

    def _trial(self, decision: Decision, incident: Incident) -> Trial:
        newest = self._newest_outcome(decision)
        outcome = newest.outcome if newest else None
        return Trial(
            incident_id=incident.id,
            instance=incident.instance,
            dag_id=incident.dag_id,
            run_id=incident.run_id,
            task_id=incident.task_id,
            map_index=incident.map_index,
            fingerprint=incident.signature.fingerprint,
            action=str(decision.action),
            params=decision.params,
            mode="auto" if decision.kind == "auto" else "person",
            at=decision.at,
            outcome="rejected" if decision.kind == "reject" else outcome,
        )

    def vouches(self, instance: str, dag_id: str, task_id: str) -> tuple[Vouch, ...]:
        wanted = (instance, dag_id, task_id)
        return tuple(
            one for one in self._vouches if (one.instance, one.dag_id, one.task_id) == wanted
        )

    # --- leave to act alone ----------------------------------------------------------------

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
        return self._paused

    def set_pause(self, pause: Pause) -> None:
        self._paused = pause

    # --- where the polling stands ----------------------------------------------------------

    def watermark(self, instance: str) -> datetime | None:
        return self._watermarks.get(instance)

    def set_watermark(self, instance: str, at: datetime) -> None:
        self._watermarks[instance] = at


def _fits(name: str, glob: str) -> bool:
    return fnmatchcase(name, rules.glob_pattern(glob))


def _task_instance(one: Incident) -> tuple[str, str, str, str, int]:
    return one.instance, one.dag_id, one.run_id, one.task_id, one.map_index
