"""The store's contract in plain Python: the twin that tests use and that SQL is checked against.

Every method checks first and changes last, so that a refusal leaves nothing half done. Records
are made into rows for the check alone: what SQL cannot store is refused here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from knowledge.records import (
    STATUSES,
    Brief,
    Case,
    Harm,
    Incident,
    Line,
    NearCase,
    Status,
    Story,
    status_of,
)
from knowledge.stores import rows, rules
from knowledge.stores.memory_acting import MemoryActing
from knowledge.stores.memory_entries import MemoryEntries
from knowledge.stores.memory_incidents import fits
from knowledge.stores.memory_lessons import MemoryLessons


class MemoryStore(MemoryEntries, MemoryActing, MemoryLessons):
    """See `knowledge.stores.Store`. `now` is the store's clock."""

    def __init__(self, now: rules.Clock = rules.utc_now) -> None:
        MemoryEntries.__init__(self)
        MemoryActing.__init__(self, now)
        MemoryLessons.__init__(self)
        self.location = "memory:"

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

    def _harm(self, incident_id: str) -> Harm | None:
        found = [
            one
            for one in self._harms
            if one.incident_id == incident_id and one.decision not in self._voided
        ]
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
