"""What is decided and done, in plain Python: the part of the twin about claims and outcomes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from knowledge.records import (
    Claim,
    ClaimState,
    Decision,
    Harm,
    Incident,
    Limits,
    Outcome,
    Trial,
    TrialOutcome,
    Voided,
    Vouch,
)
from knowledge.stores import rows, rules
from knowledge.stores.memory_alone import MemoryAlone


class MemoryActing(MemoryAlone):
    """The part of the store about acting."""

    def __init__(self, now: rules.Clock) -> None:
        super().__init__(now)
        self._vouches: list[tuple[int, Vouch]] = []  # with their decision
        self._claims: dict[str, Claim] = {}
        self._last_token = 0

    def _standing(self, incident_id: str) -> Decision | None:
        """The newest decision not voided; a shadow one only where there is no other."""
        own = [one for one in self._not_voided() if one.incident_id == incident_id]
        return max(own, key=lambda one: (one.kind != "shadow", one.seq), default=None)

    def _lapsed(self, claim: Claim) -> bool:
        """A claim that nobody used in its lease is none: its incident waits again."""
        return claim.state == "claimed" and claim.lease_until <= self._now()

    def record(self, decision: Decision, vouches: Sequence[Vouch] = ()) -> Decision:
        rules.check_records_only(decision)
        full = self._incident_id(decision.incident_id)
        if decision.kind != "shadow":
            claim = self._claims.get(full)
            if claim and (self._lapsed(claim) or claim.state == "needs_human"):
                del self._claims[full]
            self._check_unclaimed(full)
        return self._append(replace(decision, incident_id=full), vouches)

    def _check_unclaimed(self, incident_id: str) -> None:
        claim = self._claims.get(incident_id)
        if claim and claim.state in ("claimed", "acting") and not self._lapsed(claim):
            raise rules.claim_held(incident_id, claim.owner)

    def _append(self, decision: Decision, vouches: Sequence[Vouch]) -> Decision:
        rows.decision_params(decision, self._now())
        decision = replace(decision, seq=len(self._decisions) + 1)
        self._decisions.append((decision, self._now()))
        self._vouches.extend((decision.seq, vouch) for vouch in vouches)
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
            rules.check_pause(self.pause())
            rules.check_holds(self.holds_on(full))
            standing = self._standing(full)
            if standing and standing.kind != "shadow":
                raise rules.decided_meanwhile(full)
            if decision.grant is not None:
                rules.check_grant(self._grants.get(decision.grant), decision.grant, self._now())
        if limits is not None:
            rules.check_limits(limits, self.acts_alone(full))
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
                self._voided[claim.decision] = Voided(claim.decision, self._now())

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

    def call_wrong(
        self,
        incident_id: str,
        by: str,
        at: datetime,
        reason: str,
        vouches: Sequence[Vouch] = (),
    ) -> Decision:
        full = self._incident_id(incident_id)
        acted = [one for one in self._not_voided() if one.incident_id == full and rules.acts(one)]
        if not acted:
            raise rules.nothing_done(full)
        harm = Harm(full, acted[-1].seq, by, at, reason)
        rows.harm_params(harm)
        self._harms.append(harm)
        self._vouches.extend((acted[-1].seq, vouch) for vouch in vouches)
        return acted[-1]

    def take_back(
        self,
        incident_id: str,
        by: str,
        at: datetime,
    ) -> Decision:
        full = self._incident_id(incident_id)
        rows.time_text(at)
        self._check_unclaimed(full)
        standing = self._standing(full)
        if standing is None or not rules.takes_back(standing):
            raise rules.nothing_to_take_back(full)
        self._voided[standing.seq] = Voided(standing.seq, at, by)
        return standing

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
        outcome: TrialOutcome | None = newest.outcome if newest else None
        if decision.kind == "reject":
            outcome = "rejected"
        elif self._called_wrong(decision):
            outcome = "wrong"
        elif self._undone(decision) and outcome in ("fixed", "relapsed"):
            outcome = "superseded"
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
            outcome=outcome,
            version=rows.version_of(incident.context.get("version")),
            signature_version=incident.signature.version,
            failed_at=incident.failed_at,
            after=decision.plan.get("after") or "",
        )

    def vouches(
        self, instance: str, dag_id: str, task_id: str, before: datetime | None = None
    ) -> tuple[Vouch, ...]:
        def known(at: datetime) -> bool:
            return before is None or at < before

        def stands(decision: Decision, safe: bool) -> bool:
            void = self._voided.get(decision.seq)
            if void and known(void.at) and (safe or void.by is not None):
                return False
            rejected = any(
                one.incident_id == decision.incident_id and one.seq > decision.seq
                for one in self._not_voided()
                if one.kind == "reject" and known(one.at)
            )
            own = [one for one in self._outcomes if one.decision == decision.seq]
            ends = [one.outcome for one in own if known(one.at)]
            return not safe or not (rejected or ends[-1:] in (["failed"], ["relapsed"]))

        wanted, made = (instance, dag_id, task_id), {one.seq: one for one, _ in self._decisions}
        return tuple(
            one
            for seq, one in self._vouches
            if (one.instance, one.dag_id, one.task_id) == wanted
            and known(one.at)
            and stands(made[seq], one.safe)
        )
