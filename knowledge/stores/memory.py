"""The store's contract in plain Python: the twin that tests use and that SQL is checked against.

Every method checks first and changes last, so that a refusal leaves nothing half done. Records
are made into rows for the check alone: what SQL cannot store is refused here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from knowledge.records import (
    STATUSES,
    ActsAlone,
    Breaker,
    Brief,
    Case,
    Claim,
    ClaimState,
    Decision,
    Harm,
    Incident,
    Limits,
    Line,
    NearCase,
    Outcome,
    Signature,
    Status,
    Story,
    Trial,
    TrialOutcome,
    Voided,
    Vouch,
    status_of,
)
from knowledge.stores import breaker, rows, rules
from knowledge.stores.memory_entries import MemoryEntries
from knowledge.stores.memory_incidents import fits, task_instance
from knowledge.stores.memory_leave import MemoryLeave
from knowledge.stores.memory_lessons import MemoryLessons


class MemoryStore(MemoryEntries, MemoryLeave, MemoryLessons):
    """See `knowledge.stores.Store`. `now` is the store's clock."""

    def __init__(self, now: rules.Clock = rules.utc_now) -> None:
        MemoryEntries.__init__(self)
        MemoryLeave.__init__(self, now)
        MemoryLessons.__init__(self)
        self.location = "memory:"
        self._decisions: list[tuple[Decision, datetime]] = []  # with the store's own time
        self._voided: dict[int, Voided] = {}
        self._outcomes: list[Outcome] = []
        self._harms: list[Harm] = []
        self._vouches: list[tuple[int, Vouch]] = []  # with their decision
        self._claims: dict[str, Claim] = {}
        self._last_token = 0

    def close(self) -> None:
        pass

    def revision(self) -> str:
        # Each of these only grows; a retired entry lives again in a new version alone.
        return ".".join(
            str(number)
            for number in (
                max(self._versions.values(), default=0),
                sum(entry.retired for entry in self._entries.values()),
                len(self._decisions),
                len(self._voided),
                len(self._outcomes),
                len(self._harms),
                len(self._vouches),
                len(self._grants),
                sum(grant.revoked_at is not None for grant in self._grants.values()),
                len(self._pauses),
                len(self._holds),
                sum(hold.ended_at is not None for hold in self._holds.values()),
                len(self._lessons),
            )
        )

    # --- incidents with all that was decided about them ------------------------------------

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
            judgement=self._judgement(incident.id),
            decision=decision,
            outcomes=outcomes,
            claim=claim,
            remarks=tuple(one for one in self._remarks if one.incident_id == incident.id),
            snoozed_until=self._snoozed_until(incident.id),
            harm=self._harm(incident.id),
        )

    def _lapsed(self, claim: Claim) -> bool:
        """A claim that nobody used in its lease is none: its incident waits again."""
        return claim.state == "claimed" and claim.lease_until <= self._now()

    def _harm(self, incident_id: str) -> Harm | None:
        found = [
            one
            for one in self._harms
            if one.incident_id == incident_id and one.decision not in self._voided
        ]
        return found[-1] if found else None

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
        group: str | None = None,
        snoozed: bool | None = None,
        limit: int | None = None,
    ) -> tuple[Case, ...]:
        full_group = None if group is None else self._group_id(group)
        found = [
            case
            for case in map(self._case, self._newest_first())
            if (not status or case.status in status)
            and instance in (None, case.incident.instance)
            and (dag is None or fits(case.incident.dag_id, dag))
            and (task is None or fits(case.incident.task_id, task))
            and (since is None or case.incident.failed_at >= since)
            and full_group in (None, case.incident.group)
            and snoozed in (None, case.snoozed_until is not None)
        ]
        return tuple(found[:limit])

    def lines(
        self, *, together: int | None = None, limit: int, offset: int = 0, **filters: Any
    ) -> tuple[Line, ...]:
        cases = self.cases(**filters)
        sizes = Counter(case.incident.group for case in cases)
        lines: dict[str, Line] = {}
        for case in cases:
            group, count = case.incident.group, sizes[case.incident.group]
            if group is None or together is None or count < together:
                lines[case.incident.id] = Line(case)
            else:
                lines.setdefault(group, Line(case, count))
        return tuple(lines.values())[offset : offset + limit]

    def story(self, incident_id: str) -> Story:
        full = self._incident_id(incident_id)
        decided = [one for one, _ in self._decisions if one.incident_id == full]
        own = {one.seq for one in decided}
        return Story(
            judgements=tuple(one for one in self._judgements if one.incident_id == full),
            decisions=tuple(decided),
            voided=tuple(one for seq, one in sorted(self._voided.items()) if seq in own),
            outcomes=tuple(one for one in self._outcomes if one.incident_id == full),
            harms=tuple(one for one in self._harms if one.incident_id == full),
            vouches=tuple(vouch for seq, vouch in self._vouches if seq in own),
            remarks=tuple(one for one in self._remarks if one.incident_id == full),
            snoozes=tuple(one for one in self._snoozes if one.incident_id == full),
        )

    def briefs(
        self, *, since: datetime | None = None, instance: str | None = None
    ) -> tuple[Brief, ...]:
        cases = reversed(self.cases(since=since, instance=instance))
        return tuple(self._brief(case) for case in cases)

    def _brief(self, case: Case) -> Brief:
        incident, own = case.incident, case.incident.id
        return Brief(
            incident_id=own,
            kind=incident.kind,
            instance=incident.instance,
            dag_id=incident.dag_id,
            run_id=incident.run_id,
            task_id=incident.task_id,
            failed_at=incident.failed_at,
            seen_at=incident.seen_at,
            fingerprint=incident.signature.fingerprint,
            error_class=incident.signature.error_class,
            headline=incident.signature.headline,
            duration=rows.seconds(incident.context.get("duration")),
            claim=case.claim.state if case.claim else None,
            decisions=tuple(
                replace(one, plan={}) for one in self._not_voided() if one.incident_id == own
            ),
            outcomes=case.outcomes,
            harms=tuple(
                one
                for one in self._harms
                if one.incident_id == own and one.decision not in self._voided
            ),
            lesson=self._lessons.get(own),
        )

    def near_cases(
        self, embedder: str, signature_version: int, *, before: int | None = None, limit: int
    ) -> tuple[NearCase, ...]:
        newest = {one.incident_id: number for number, one in enumerate(self._judgements, 1)}
        found = []
        for own, number in sorted(newest.items(), key=lambda item: -item[1]):
            document = self._judgements[number - 1].document
            by = ((document.get("gate") or {}).get("bound") or {}).get("embedder")
            best = (document.get("matches") or [{}])[0]
            case, lesson = self._case(self._incidents[own]), self._lessons.get(own)
            decision, signature = case.decision, case.incident.signature
            if (
                (by, signature.version) == (embedder, signature_version)
                and best.get("found") == "near"
                and (before is None or number < before)
                and decision is not None
                and decision.kind != "shadow"
                and (decision.kind != "superseded" or lesson is not None)
            ):
                found.append(
                    NearCase(
                        judgement=number,
                        error_class=signature.error_class,
                        similarity=best["similarity"],
                        proposed=best["action"],
                        kind=decision.kind,
                        action=decision.action,
                        outcome=case.outcome,
                        harmful=case.harm is not None,
                        lesson=lesson,
                    )
                )
        return tuple(found[:limit])

    def counts(self, instance: str | None = None) -> Mapping[Status, int]:
        counted = dict.fromkeys(STATUSES, 0)
        for case in self.cases(instance=instance):
            counted[case.status] += 1
        return counted

    # --- decisions, claims, outcomes -------------------------------------------------------

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
