"""What is asked of two stores at once: everything about incidents, and about acting on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from functools import partial
from operator import methodcaller
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from knowledge.errors import DoorClosed, KnowledgeError
from knowledge.records import (
    ClaimState,
    DecisionKind,
    Grant,
    Hold,
    Judgement,
    Limits,
    Outcome,
    OutcomeName,
    Pause,
    Remark,
    Status,
    Vouch,
)
from knowledge.stores import Store
from knowledge.stores.memory import MemoryStore
from knowledge.stores.rules import Clock
from tests.samples import LEASE, NOW, SetClock, decision, incident, signature

TEXTS = ("KeyError: amount", "ConnectionError: refused by db", "Timeout: db")
INCIDENTS = [
    # Two tries of a task, a mapped one, another DAG, and one task instance under two names.
    incident(0),
    incident(0, try_number=2, group="s7storm234", group_key="db"),
    incident(0, map_index=1, ti_id=None, signature=signature(TEXTS[0])),
    incident(1, dag_id="reporting", signature=signature(TEXTS[1]), group="s7other678"),
    incident(1, dag_id="reporting", instance="also", signature=signature(TEXTS[1])),
]
ALL_STATES: list[ClaimState] = ["claimed", "acting", "done", "needs_human"]

incidents = st.sampled_from(INCIDENTS)
tokens = st.integers(min_value=1, max_value=6)
kinds: st.SearchStrategy[DecisionKind] = st.sampled_from(
    ["approve", "auto", "reject", "shadow", "superseded"]
)
actions = st.sampled_from(["retry", "none", None])
outcomes: st.SearchStrategy[OutcomeName] = st.sampled_from(
    ["fixed", "failed", "relapsed", "superseded", "unknown"]
)
dags = ["orders_*", "reporting", "*"]
targets = st.sampled_from([*dags, INCIDENTS[0].id, INCIDENTS[3].id])
names = st.sampled_from([*(one.id for one in INCIDENTS), "s7st", "s7other678", "s7", "none"])
hours = st.integers(min_value=-1, max_value=3).map(lambda number: timedelta(hours=number))
few = st.integers(min_value=0, max_value=3)
grants = st.sampled_from([None, "grant1", "grant2"])


def fingerprint(text: str) -> str:
    return signature(text).fingerprint


def answer(ask: Callable[[], Any]) -> Any:
    """What a store says, be it a refusal."""
    try:
        return ask()
    except DoorClosed as refusal:
        return "closed", refusal.check, refusal.message
    except (KnowledgeError, ValueError) as refusal:
        return type(refusal).__name__, str(refusal)


Opened = Callable[[Clock], AbstractContextManager[Store]]


class ActingTwins(RuleBasedStateMachine):
    """Every rule asks both stores the same and compares what they say. `opened` gives an empty
    store in a database, by this clock."""

    def __init__(self, opened: Opened) -> None:
        super().__init__()
        self.clock = SetClock()
        self.made = 0  # holds and grants, each with a name of its own
        self.revisions = ["", ""]
        self.end = ExitStack()
        in_sql = self.end.enter_context(opened(self.clock.now))
        self.stores: Sequence[Store] = (MemoryStore(self.clock.now), in_sql)

    def teardown(self) -> None:
        self.end.close()

    def same(self, ask: Callable[[Store], Any]) -> Any:
        twin, sql = (answer(partial(ask, store)) for store in self.stores)
        assert twin == sql
        return sql

    @initialize(several=st.lists(incidents, unique_by=lambda one: one.id, min_size=1))
    def see(self, several: list[Any]) -> None:
        for one in several:
            self.same(methodcaller("add_incident", one))

    @rule(one=incidents)
    def take_back(self, one: Any) -> None:
        self.same(lambda store: store.take_back(one.id, "me", self.clock.now()))

    @rule(one=incidents)
    def add(self, one: Any) -> None:
        self.same(lambda store: store.add_incident(one))

    @rule(lease_parts=st.integers(min_value=1, max_value=15))
    def wait(self, lease_parts: int) -> None:
        self.clock.advance(lease_parts * LEASE / 2)

    @rule(hours=st.integers(min_value=1, max_value=24))
    def wait_long(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    @rule(one=incidents)
    def claim(self, one: Any) -> None:
        self.same(lambda store: store.claim(one.id, one.ti_id, "w", LEASE))

    @rule(
        one=incidents,
        token=tokens,
        kind=kinds,
        action=actions,
        limits=st.none() | st.builds(Limits, few, few, few),
        vouched=st.booleans(),
    )
    def open_door(
        self,
        one: Any,
        token: int,
        kind: DecisionKind,
        action: str | None,
        limits: Limits | None,
        vouched: bool,
    ) -> None:
        vouch = Vouch(one.instance, one.dag_id, one.task_id, None, True, "me", self.clock.now())
        wanted = decision(one, kind, action=action, at=self.clock.now())
        self.same(
            lambda store: store.open_door(
                one.id, token, wanted, limits=limits, vouches=[vouch] * vouched
            )
        )

    @rule(data=st.data())
    def act_as_the_holder(self, data: st.DataObject) -> None:
        """The usual course, which guessed tokens take too seldom."""
        held = self.same(lambda store: store.claims(["claimed", "acting"]))
        if not held:
            return
        claim = data.draw(st.sampled_from(held))
        steps = ["open", "release"] if claim.state == "claimed" else ["settle", "release", "retake"]
        step = data.draw(st.sampled_from(steps))
        if step == "open":
            kind: DecisionKind = data.draw(st.sampled_from(["approve", "auto"]))
            grant = data.draw(grants) if kind == "auto" else None
            wanted = decision(claim.incident_id, kind, at=self.clock.now(), grant=grant)
            self.same(lambda store: store.open_door(claim.incident_id, claim.token, wanted))
        elif step == "settle":
            row = Outcome(claim.incident_id, claim.decision, self.clock.now(), data.draw(outcomes))
            self.same(lambda store: store.settle(claim.incident_id, claim.token, "done", row))
        elif step == "retake":
            self.same(lambda store: store.retake(claim.incident_id, claim.token, LEASE))
        else:
            self.same(lambda store: store.release(claim.incident_id, claim.token))

    @rule(one=incidents, token=tokens, state=st.sampled_from(ALL_STATES))
    def settle(self, one: Any, token: int, state: ClaimState) -> None:
        self.same(lambda store: store.settle(one.id, token, state))

    @rule(one=incidents, token=tokens)
    def release(self, one: Any, token: int) -> None:
        self.same(lambda store: store.release(one.id, token))

    @rule(one=incidents, token=tokens)
    def progress(self, one: Any, token: int) -> None:
        self.same(lambda store: store.progress(one.id, token, {"step": token}))

    @rule(one=incidents, kind=kinds, action=actions)
    def record(self, one: Any, kind: DecisionKind, action: str | None) -> None:
        wanted = decision(one, kind, action=action, at=self.clock.now())
        self.same(lambda store: store.record(wanted))

    @rule(one=incidents, seq=tokens, outcome=outcomes)
    def add_outcome(self, one: Any, seq: int, outcome: OutcomeName) -> None:
        row = Outcome(one.id, seq, self.clock.now(), outcome)
        self.same(lambda store: store.add_outcome(row))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.same(lambda store: store.set_pause(Pause(paused, "me", self.clock.now())))

    @rule(what=targets, length=st.none() | hours, instance=st.sampled_from(["default", "also"]))
    def hold(self, what: str, length: timedelta | None, instance: str) -> None:
        self.made += 1
        now = self.clock.now()
        until = None if length is None else now + length
        one = Hold(f"hold{self.made}", instance, what, "me", now, until)
        self.same(lambda store: store.add_hold(one))

    @rule(what=targets | st.sampled_from(["hold", "hold1", "hold2"]))
    def end_hold(self, what: str) -> None:
        self.same(lambda store: store.end_hold(what, "me", self.clock.now()))

    @rule(length=st.none() | hours)
    def grant(self, length: timedelta | None) -> None:
        self.made += 1
        now = self.clock.now()
        until = None if length is None else now + length
        one = Grant(f"grant{self.made}", ("retry",), ("*",), "lead", now, until=until)
        self.same(lambda store: store.add_grant(one))

    @rule(name=st.sampled_from(["gran", "grant1", "grant2"]))
    def revoke_grant(self, name: str) -> None:
        self.same(lambda store: store.revoke_grant(name, "boss", self.clock.now()))

    @rule(one=incidents, length=hours)
    def snooze(self, one: Any, length: timedelta) -> None:
        now = self.clock.now()
        self.same(lambda store: store.snooze(one.id, now + length, "me", now))

    @rule(one=incidents)
    def remark(self, one: Any) -> None:
        word = Remark(one.id, "me", self.clock.now(), "seen")
        self.same(lambda store: store.add_remark(word))

    @rule(one=incidents, vouched=st.booleans())
    def call_wrong(self, one: Any, vouched: bool) -> None:
        now = self.clock.now()
        back = Vouch(one.instance, one.dag_id, one.task_id, None, False, "me", now)
        self.same(lambda store: store.call_wrong(one.id, "me", now, "harm", [back] * vouched))

    @rule(
        one=incidents,
        entry=st.sampled_from(["entry-a", "entry-b", None]),
        found=st.sampled_from(["near", "exact", None]),
        embedder=st.sampled_from(["builtin", "other"]),
    )
    def judge(self, one: Any, entry: str | None, found: str | None, embedder: str) -> None:
        match = {"found": found, "similarity": 0.9, "action": "retry"}
        document = {
            "diagnosis": entry and {"entry": entry},
            "matches": [match] if found else [],
            "gate": {"bound": {"embedder": embedder}},
        }
        row = Judgement(one.id, self.clock.now(), document)
        self.same(lambda store: store.add_judgement(row))

    @rule(name=names, snoozed=st.none() | st.booleans())
    def name(self, name: str, snoozed: bool | None) -> None:
        self.same(lambda store: store.find_ids(name))
        self.same(lambda store: store.group_members(name))
        self.same(lambda store: store.cases(group=name, snoozed=snoozed))
        self.same(lambda store: store.shortest_prefixes([name]))
        self.same(lambda store: store.holds_on(name))

    @rule(
        status=st.sampled_from([[], ["pending"], ["pending", "acting"]]),
        dag=st.sampled_from([None, *dags]),
        snoozed=st.none() | st.booleans(),
        together=st.none() | st.integers(min_value=1, max_value=3),
        limit=st.integers(min_value=0, max_value=5),
        offset=few,
    )
    def lines(self, **question: Any) -> None:
        self.same(lambda store: store.lines(**question))

    @rule(
        status=st.sampled_from([[], ["pending"], ["rejected", "failed"]]),
        instance=st.sampled_from([None, "default", "also"]),
        dag=st.sampled_from([None, *dags]),
        task=st.sampled_from([None, "t?", "t1"]),
        since=st.sampled_from([None, NOW, NOW + timedelta(hours=1)]),
        limit=st.none() | few,
    )
    def cases(self, **question: Any) -> None:
        self.same(lambda store: store.cases(**question))

    @rule(
        one=incidents,
        of_task=st.booleans(),
        texts=st.none() | st.sets(st.sampled_from(TEXTS)),
        after=st.none() | hours,
    )
    def trials(self, one: Any, of_task: bool, texts: Any, after: timedelta | None) -> None:
        question: dict[str, Any] = {
            "fingerprints": None if texts is None else [*map(fingerprint, texts)],
            "task": (one.instance, one.dag_id, one.task_id) if of_task else None,
            "since": None if after is None else self.clock.now() - after,
        }
        self.same(lambda store: store.trials(**question))

    @rule(limit=few, before=st.none() | tokens)
    def near_cases(self, limit: int, before: int | None) -> None:
        self.same(lambda store: store.near_cases("builtin", 1, before=before, limit=limit))

    @invariant()
    def both_see_a_change_or_neither(self) -> None:
        revisions = [store.revision() for store in self.stores]
        twin, sql = (now != before for now, before in zip(revisions, self.revisions, strict=True))
        assert twin == sql
        self.revisions = revisions

    @invariant()
    def both_count_the_same(self) -> None:
        for one in INCIDENTS:
            self.same(methodcaller("acts_alone", one.id))

    @invariant()
    def everything_reads_the_same(self) -> None:
        cases = self.same(lambda store: store.cases())
        self.same(lambda store: store.claims(ALL_STATES))
        briefs = self.same(lambda store: store.briefs())
        assert {one.incident_id: one.status for one in briefs} == {
            case.incident.id: case.status for case in cases
        }
        self.same(lambda store: store.trials())
        self.same(lambda store: store.grants())
        self.same(lambda store: store.pause())
        self.same(lambda store: store.vouches("default", "orders_etl", "t0"))
        self.same(
            lambda store: store.vouches(
                "default", "orders_etl", "t0", before=NOW + timedelta(hours=1)
            )
        )
        self.same(lambda store: store.holds())
        self.same(lambda store: store.uses(["entry-a", "entry-b"]))
        self.same(lambda store: store.recent_group("default", "db", NOW, NOW))
        for case in cases:
            self.same(methodcaller("story", case.incident.id))
        counts = self.same(lambda store: store.counts())
        wanted: list[Status] = ["pending", "resolved", "superseded"]
        found = self.same(lambda store: store.cases(status=wanted))
        assert found == tuple(case for case in cases if case.status in wanted)
        assert sum(counts.values()) == len(cases)
        assert sum(counts[status] for status in wanted) == len(found)
