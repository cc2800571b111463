"""What is decided and done: claims, decisions and outcomes.

The claim makes an act happen at most once: one row an incident, taken, then moved through a
one-way door before anything outside is touched. What is past the door is never taken again by
itself, not even after its lease.
"""

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
    Limits,
    Outcome,
    Trial,
    Vouch,
)
from knowledge.stores import rows, rules
from knowledge.stores.rows import json_text, optional_time_text, time_text
from knowledge.stores.sql_alone import TAKEN_BACK, AloneTables


class ActingTables(AloneTables):
    """The part of the store about acting."""

    def record(self, decision: Decision, vouches: Sequence[Vouch] = ()) -> Decision:
        rules.check_records_only(decision)
        with self._db.write():
            full = self._incident_id(decision.incident_id)
            if decision.kind != "shadow":
                self._end_claim(full)
                self._check_unclaimed(full)
            return self._decide(replace(decision, incident_id=full), vouches)

    def _check_unclaimed(self, incident_id: str) -> None:
        held = self._db.row(
            "SELECT owner FROM claims WHERE incident_id = ? "
            "AND (state = 'acting' OR state = 'claimed' AND lease_until > ?)",
            [incident_id, time_text(self._now())],
        )
        if held:
            raise rules.claim_held(incident_id, held["owner"])

    def _end_claim(self, incident_id: str) -> None:
        """One whose lease is over, or that needs a human: its owner, should it wake up, must find
        the door shut once somebody has decided."""
        self._db.rows(
            "DELETE FROM claims WHERE incident_id = ? "
            "AND (state = 'needs_human' OR state = 'claimed' AND lease_until <= ?)",
            [incident_id, time_text(self._now())],
        )

    def _decide(self, decision: Decision, vouches: Sequence[Vouch]) -> Decision:
        seq = self._append("decisions", rows.decision_params(decision, self._now()))["seq"]
        self._vouch(vouches, seq)
        return replace(decision, seq=seq)

    def _vouch(self, vouches: Sequence[Vouch], decision: int) -> None:
        for vouch in vouches:
            self._append("vouches", {**rows.vouch_params(vouch), "decision": decision})

    def claim(
        self,
        incident_id: str,
        ti_id: str | None,
        owner: str,
        lease: timedelta,
        *,
        reopen: bool = False,
    ) -> int | None:
        with self._db.write():
            now = self._now()
            if reopen:
                self._end_claim(self._incident_id(incident_id))
            values = {
                "id": self._incident_id(incident_id),
                "ti_id": ti_id,
                "owner": owner,
                "now": time_text(now),
                "lease_until": time_text(now + lease),
            }
            # No row is no claim: the incident or the task instance is claimed already.
            taken = self._db.row(
                """
                INSERT INTO claims (incident_id, ti_id, state, token, owner, lease_until)
                SELECT :id, :ti_id, 'claimed', last + 1, :owner, :lease_until
                FROM claim_tokens WHERE true
                ON CONFLICT DO NOTHING RETURNING token
                """,
                values,
            ) or self._db.row(
                """
                UPDATE claims
                SET token = (SELECT last + 1 FROM claim_tokens), owner = :owner,
                    lease_until = :lease_until, ti_id = coalesce(:ti_id, ti_id)
                WHERE incident_id = :id AND state = 'claimed' AND lease_until <= :now
                  AND NOT EXISTS (
                      SELECT 1 FROM claims AS o WHERE o.ti_id = :ti_id AND o.incident_id <> :id)
                RETURNING token
                """,
                values,
            )
            return self._drawn(taken)

    def _drawn(self, taken: Mapping[str, Any] | None) -> int | None:
        """The token of a claim just written; it is never given out again."""
        if taken is None:
            return None
        self._db.rows("UPDATE claim_tokens SET last = ?", [taken["token"]])
        return int(taken["token"])

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
        with self._db.write():
            full = self._incident_id(incident_id)
            rules.check_acts(decision, full)
            opened = self._db.row(
                "UPDATE claims SET state = 'acting', not_before = ? "
                "WHERE incident_id = ? AND token = ? AND state = 'claimed' RETURNING token",
                [optional_time_text(not_before), full, token],
            )
            if opened is None:
                raise rules.claim_lost(full)
            if decision.kind == "auto":
                rules.check_pause(self._pause())
                rules.check_holds(self._holds_on(full))
                if self._db.row(
                    "SELECT 1 FROM standing_decisions WHERE incident_id = ? AND kind <> 'shadow'",
                    [full],
                ):
                    raise rules.decided_meanwhile(full)
                if decision.grant is not None:
                    granted = {grant.id: grant for grant in self._grants()}
                    rules.check_grant(granted.get(decision.grant), decision.grant, self._now())
            if limits is not None:
                rules.check_limits(limits, self._acts_alone(full))
            decision = self._decide(decision, vouches)
            self._db.rows(
                "UPDATE claims SET decision = ? WHERE incident_id = ?", [decision.seq, full]
            )
            return decision

    def retake(self, incident_id: str, token: int, lease: timedelta) -> int | None:
        with self._db.write():
            taken = self._db.row(
                "UPDATE claims SET token = (SELECT last + 1 FROM claim_tokens), lease_until = ? "
                "WHERE incident_id = ? AND token = ? AND state = 'acting' RETURNING token",
                [time_text(self._now() + lease), self._incident_id(incident_id), token],
            )
            return self._drawn(taken)

    def progress(self, incident_id: str, token: int, progress: Mapping[str, Any]) -> None:
        with self._db.write():
            full = self._incident_id(incident_id)
            noted = self._db.row(
                "UPDATE claims SET progress = ? "
                "WHERE incident_id = ? AND token = ? AND state = 'acting' RETURNING token",
                [json_text(progress), full, token],
            )
            if noted is None:
                raise rules.claim_lost(full)

    def settle(
        self, incident_id: str, token: int, state: ClaimState, outcome: Outcome | None = None
    ) -> None:
        rules.check_settles(state)
        with self._db.write():
            full = self._incident_id(incident_id)
            closed = self._db.row(
                "UPDATE claims SET state = ? "
                "WHERE incident_id = ? AND token = ? AND state = 'acting' RETURNING decision",
                [state, full, token],
            )
            if closed is None:
                raise rules.claim_lost(full)
            if outcome is not None:
                rules.check_outcome_of(outcome, closed["decision"])
                self._append("outcomes", {**rows.outcome_params(outcome), "incident_id": full})

    def release(self, incident_id: str, token: int) -> None:
        with self._db.write():
            given_back = self._db.row(
                "DELETE FROM claims WHERE incident_id = ? AND token = ? "
                "AND state IN ('claimed', 'acting') RETURNING decision",
                [self._incident_id(incident_id), token],
            )
            if given_back and given_back["decision"] is not None:
                self._append(
                    "voided", {"decision": given_back["decision"], "at": time_text(self._now())}
                )

    def claims(self, states: Collection[ClaimState]) -> tuple[Claim, ...]:
        with self._db.read():
            found = self._db.rows(
                f"SELECT * FROM claims WHERE {self._db.among('state', '?')} ORDER BY token",
                [list(states)],
            )
        return tuple(map(rows.read_claim, found))

    def add_outcome(self, outcome: Outcome) -> None:
        with self._db.write():
            full = self._incident_id(outcome.incident_id)
            decision = self._db.row(
                """
                SELECT EXISTS (SELECT 1 FROM claims AS c
                    WHERE c.decision = d.seq AND c.state = 'acting') AS acting
                FROM standing_decisions AS d WHERE d.seq = ? AND d.incident_id = ?
                """,
                [outcome.decision, full],
            )
            if decision is None:
                raise rules.no_decision(full, outcome.decision)
            if decision["acting"]:
                raise rules.not_settled(full)
            self._append("outcomes", {**rows.outcome_params(outcome), "incident_id": full})

    def call_wrong(
        self,
        incident_id: str,
        by: str,
        at: datetime,
        reason: str,
        vouches: Sequence[Vouch] = (),
    ) -> Decision:
        with self._db.write():
            full = self._incident_id(incident_id)
            acted = self._db.row(
                "SELECT * FROM standing_decisions WHERE incident_id = ? "
                "AND kind IN ('approve', 'auto') AND action <> 'none' ORDER BY seq DESC LIMIT 1",
                [full],
            )
            if acted is None:
                raise rules.nothing_done(full)
            decision = rows.read_decision(acted)
            self._append("harms", rows.harm_params(Harm(full, decision.seq, by, at, reason)))
            self._vouch(vouches, decision.seq)
            return decision

    def take_back(self, incident_id: str, by: str, at: datetime) -> Decision:
        with self._db.write():
            full = self._incident_id(incident_id)
            self._check_unclaimed(full)
            newest = self._db.row(
                "SELECT * FROM standing_decisions WHERE incident_id = ? AND kind <> 'shadow' "
                "ORDER BY seq DESC LIMIT 1",
                [full],
            )
            decision = rows.read_decision(newest) if newest else None
            if decision is None or not rules.takes_back(decision):
                raise rules.nothing_to_take_back(full)
            voided = {"decision": decision.seq, "at": time_text(at), "by": by}
            self._append("voided", voided)
            return decision

    def trials(
        self,
        *,
        fingerprints: Collection[str] | None = None,
        task: tuple[str, str, str] | None = None,
        since: datetime | None = None,
    ) -> tuple[Trial, ...]:
        instance, dag_id, task_id = task or (None, None, None)
        with self._db.read():
            found = self._db.rows(
                f"""
                SELECT d.*, i.instance, i.dag_id, i.run_id, i.task_id, i.map_index, i.fingerprint,
                    i.failed_at,
                    {self._db.json_at("i.context", "version")} AS version,
                    {self._db.json_at("i.signature", "version")} AS signature_version,
                    {self._db.json_at("d.plan", "after")} AS after,
                    (SELECT o.outcome FROM outcomes AS o WHERE o.decision = d.seq
                        ORDER BY o.seq DESC LIMIT 1) AS outcome,
                    EXISTS (SELECT 1 FROM harms AS h WHERE h.decision = d.seq) AS wrong,
                    {TAKEN_BACK} AS undone
                FROM standing_decisions AS d JOIN incidents AS i ON i.id = d.incident_id
                WHERE d.kind IN ('approve', 'auto', 'reject') AND d.action <> 'none'
                  AND (:fingerprints IS NULL
                       OR {self._db.among("i.fingerprint", ":fingerprints")})
                  AND (:instance IS NULL
                       OR (i.instance, i.dag_id, i.task_id) = (:instance, :dag_id, :task_id))
                  AND d.at >= :since
                ORDER BY d.seq
                """,
                {
                    "fingerprints": None if fingerprints is None else list(fingerprints),
                    "instance": instance,
                    "dag_id": dag_id,
                    "task_id": task_id,
                    "since": "" if since is None else time_text(since),
                },
            )
        return tuple(map(rows.read_trial, found))

    def vouches(
        self, instance: str, dag_id: str, task_id: str, before: datetime | None = None
    ) -> tuple[Vouch, ...]:
        with self._db.read():
            found = self._db.rows(
                """
                SELECT v.* FROM vouches AS v JOIN decisions AS d ON d.seq = v.decision
                WHERE (v.instance, v.dag_id, v.task_id) = (:instance, :dag_id, :task_id)
                  AND v.at < :before
                  AND NOT EXISTS (
                      SELECT 1 FROM voided AS x WHERE x.decision = d.seq AND x.at < :before
                      AND (v.safe = 1 OR x.by IS NOT NULL))
                  AND (v.safe = 0 OR NOT EXISTS (
                      SELECT 1 FROM standing_decisions AS r
                      WHERE r.incident_id = d.incident_id AND r.seq > d.seq
                      AND r.kind = 'reject' AND r.at < :before))
                  AND (v.safe = 0 OR COALESCE((
                      SELECT o.outcome FROM outcomes AS o
                      WHERE o.decision = d.seq AND o.at < :before
                      ORDER BY o.seq DESC LIMIT 1), '') NOT IN ('failed', 'relapsed'))
                ORDER BY v.seq
                """,
                {
                    "instance": instance,
                    "dag_id": dag_id,
                    "task_id": task_id,
                    "before": "9999" if before is None else time_text(before),
                },
            )
        return tuple(map(rows.read_vouch, found))
