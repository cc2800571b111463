"""Small valid records, and the shortest ways to have them stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from knowledge.errors import (
    DoorClosed,
)
from knowledge.records import (
    Decision,
    DecisionKind,
    Entry,
    Excerpt,
    Grant,
    Hold,
    Incident,
    Judgement,
    Lesson,
    Outcome,
    OutcomeName,
    Pause,
    Remark,
    Signature,
    Symptom,
    Vouch,
    short_hash,
)
from knowledge.stores import EmbeddedEntry, Store, VectorSpace
from knowledge.stores.sql_moving import MovingTables

NOW = datetime(2025, 3, 1, 3, 4, 5, 678901, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LEASE = timedelta(minutes=5)
SPACE = VectorSpace("test", 3, 1)


class SetClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        self.at += by


def signature(text: str = "ConnectionError: refused") -> Signature:
    return Signature(
        text, short_hash(text), text.split(":")[0], frame="orders.py:load", headline=text, line=2
    )


def incident(number: int = 0, **changes: Any) -> Incident:
    """One try of task `t<number>`; any field may be given."""
    fields: dict[str, Any] = {
        "instance": "default",
        "dag_id": "orders_etl",
        "run_id": "scheduled__2025-03-01",
        "task_id": f"t{number}",
        "map_index": -1,
        "try_number": 1,
        "failed_at": NOW,
        "seen_at": NOW + MINUTE,
        "signature": signature(),
        "excerpt": Excerpt("first\nsecond", (7, 8), total_lines=8, cut=True, notice="cut"),
        "ti_id": f"uuid-{number}-{changes.get('try_number', 1)}",
        "context": {"state": "failed", "tags": ["a", "b"], "max_tries": 2},
        "group": None,
    }
    return Incident(**{**fields, **changes})


def lesson(number: int = 0, **changes: Any) -> Lesson:
    """A person ran the failed try of task `t<number>` again, and it succeeded."""
    fields: dict[str, Any] = {
        "instance": "default",
        "dag_id": "orders_etl",
        "run_id": "scheduled__2025-03-01",
        "task_id": f"t{number}",
        "map_index": -1,
        "try_number": 1,
        "failed_at": NOW,
        "signature": signature(),
        "mode": "person",
        "at": NOW + MINUTE,
        "outcome": "fixed",
        "seen_at": NOW + DAY,
        "action": "retry",
        "params": {"nested": [1, None]},
        "by": "dba",
        "detail": "cleared",
        "ended_at": NOW + 2 * MINUTE,
        "version": 3,
    }
    return Lesson(**{**fields, **changes})


def decision(about: Incident | str, kind: DecisionKind = "approve", **changes: Any) -> Decision:
    """About to retry, unless said otherwise."""
    fields: dict[str, Any] = {"at": NOW, "by": "oncall", "action": "retry"}
    name = about if isinstance(about, str) else about.id
    return Decision(name, kind, **{**fields, **changes})


def unit(*numbers: float) -> tuple[float, ...]:
    """A vector of SPACE in this direction."""
    length = math.sqrt(sum(x * x for x in numbers))
    return tuple(x / length for x in numbers)


def embedded(
    entry_id: str,
    *symptoms: tuple[str, tuple[float, ...]],
    **changes: Any,
) -> EmbeddedEntry:
    """An entry whose symptoms are these signature texts, with their vectors."""
    fields: dict[str, Any] = {
        "id": entry_id,
        "kind": "runbook",
        "source": "runbooks/orders.md:40",
        "title": f"title of {entry_id}",
        "symptoms": tuple(Symptom(f"raw {text}", signature(text)) for text, _ in symptoms),
        "cause": "the database was away",
        "created_at": NOW,
        "action": "retry",
        "params": {"delay": "5m", "nested": {"list": [1, 2.5, None]}},
        "explanation": "it comes back",
        "safe_to_retry": True,
        "dags": ("orders_*",),
        "tags": ("db", "network"),
        "edited": "2024-02",
        "owner": "dba-team",
    }
    return EmbeddedEntry(Entry(**{**fields, **changes}), tuple(vector for _, vector in symptoms))


def added(store: Store, *several: Incident) -> None:
    for one in several:
        assert store.add_incident(one)


def claimed(store: Store, one: Incident) -> int:
    token = store.claim(one.id, one.ti_id, "w1", LEASE)
    assert token is not None
    return token


def opened(store: Store, one: Incident, kind: DecisionKind = "approve") -> tuple[int, Decision]:
    """Past the door: the token and the decision."""
    token = claimed(store, one)
    return token, store.open_door(one.id, token, decision(one, kind))


def acted(
    store: Store,
    one: Incident,
    outcome: OutcomeName | None = "fixed",
    kind: DecisionKind = "approve",
) -> Decision:
    """Claimed, opened and settled."""
    token, made = opened(store, one, kind)
    row = outcome and Outcome(one.id, made.seq, NOW, outcome, "seen", 2)
    store.settle(one.id, token, "done", row or None)
    return made


def fill(store: Store) -> None:
    """Write a row into every table."""
    if isinstance(store, MovingTables):
        store.load([], "another", "me", NOW)
    store.bind_instance("prod", "https://airflow.example")
    store.set_watermark("prod", NOW)
    store.put_entries([embedded("entry-a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    store.put_entries([embedded("entry-b", ("B: x", unit(1, 0, 0)))], SPACE, NOW)
    added(store, incident(0), incident(1))
    store.add_judgement(Judgement(incident(0).id, NOW, {}))
    acted(store, incident(0))
    store.call_wrong(incident(0).id, "me", NOW, "paid twice")
    store.add_remark(Remark(incident(0).id, "me", NOW, "asked the vendor"))
    store.snooze(incident(0).id, NOW, "me", NOW)
    store.add_hold(Hold("holdone", "default", "orders_*", "me", NOW))
    store.end_hold("holdone", "me", NOW)
    store.set_mark("starter", "[]")
    vouch = Vouch("default", "orders_etl", "t0", None, True, "me", NOW)
    store.record(decision(incident(0), "reject"), [vouch])
    token, _ = opened(store, incident(1))
    store.release(incident(1).id, token)
    opened(store, incident(1))
    store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW))
    store.revoke_grant("grantone", "me", NOW)
    store.set_pause(Pause(True, "me", NOW))
    store.add_lessons([lesson()])


def refused(check: str, act: Callable[[], object]) -> DoorClosed:
    """Run a callable and expect the door closed by this check."""
    with pytest.raises(DoorClosed) as caught:
        act()
    assert caught.value.check == check
    return caught.value
