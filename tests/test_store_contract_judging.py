"""What every Store promises about what a judgement rests on: when it has changed, and what the
tool did alone lately."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from knowledge.errors import NotFound
from knowledge.records import Grant, Hold, Judgement, Outcome, Pause, Remark, Vouch
from knowledge.stores import Store
from tests.samples import (
    DAY,
    HOUR,
    LEASE,
    NOW,
    SPACE,
    SetClock,
    added,
    claimed,
    decision,
    embedded,
    incident,
    opened,
    refused,
    unit,
)

# --- whether anything changed --------------------------------------------------------------------


def test_each_change_of_what_judgements_rest_on_is_a_new_revision(store: Store) -> None:
    added(store, incident(0), incident(1), incident(2))
    entry = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    changed = embedded("entry-a", ("A: x", unit(1, 0, 0)), cause="another")
    vouch = Vouch("default", "orders_etl", "t0", None, True, "me", NOW)
    earlier, _ = opened(store, incident(0), "auto")
    seen = [store.revision()]

    def past_the_door() -> None:
        store.open_door(incident(1).id, token, decision(incident(1)))

    def outcome() -> None:
        seq = store.case(incident(1).id).decision
        assert seq is not None
        row = Outcome(incident(1).id, seq.seq, NOW, "fixed")
        store.settle(incident(1).id, token, "done", row)

    token = claimed(store, incident(1))
    changes: tuple[Callable[[], object], ...] = (
        lambda: store.put_entries([entry], SPACE, NOW),
        lambda: store.put_entries([changed], SPACE, NOW),
        lambda: store.retire_entries(["entry-a"], "me", NOW, "stale"),
        lambda: store.put_entries([entry], SPACE, NOW),
        lambda: store.retire_entries(["entry-a"], "me", NOW, "stale"),
        past_the_door,
        outcome,
        lambda: store.release(incident(0).id, earlier),  # voids one that is not the newest
        lambda: store.call_wrong(incident(1).id, "me", NOW, "paid twice"),
        lambda: store.call_wrong(incident(1).id, "me", NOW, "paid twice", [vouch]),
        lambda: store.record(decision(incident(2), "shadow")),
        lambda: store.record(decision(incident(2), "reject"), [vouch]),
        lambda: store.take_back(incident(2).id, "me", NOW),
        lambda: store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW)),
        lambda: store.revoke_grant("grantone", "me", NOW),
        lambda: store.set_pause(Pause(True, "me", NOW)),
        lambda: store.set_pause(Pause(True, "me", NOW)),
        lambda: store.set_pause(Pause(False, "me", NOW)),
        lambda: store.add_hold(Hold("holdone", "default", "*", "me", NOW)),
        lambda: store.add_hold(Hold("holdtwo", "default", "*", "me", NOW)),
        lambda: store.end_hold("holdone", "me", NOW),
        lambda: store.end_hold("*", "me", NOW),
    )
    for number, change in enumerate(changes):
        change()
        assert store.revision() not in seen, number
        seen.append(store.revision())


def test_nothing_else_is_a_new_revision(store: Store, store_clock: SetClock) -> None:
    entry = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    store.put_entries([entry], SPACE, NOW)
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW, until=NOW + HOUR))
    store.revoke_grant("grantone", "me", NOW)
    store.add_hold(Hold("holdone", "default", "other", "me", NOW, until=NOW + HOUR))
    added(store, incident(0))
    token, _ = opened(store, incident(0))
    before = store.revision()

    store.put_entries([entry], SPACE, NOW)  # the same again
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    store.revoke_grant("grantone", "me", NOW)
    store.bind_instance("prod", "https://airflow.example")
    store.set_watermark("default", NOW)
    store.set_mark("starter", "1")
    added(store, incident(1))
    store.add_judgement(Judgement(incident(1).id, NOW, {"decision": "ask"}))
    store.add_remark(Remark(incident(1).id, "me", NOW, "asked the vendor"))
    store.snooze(incident(1).id, NOW + HOUR, "me", NOW)
    store.release(incident(1).id, claimed(store, incident(1)))
    claimed(store, incident(1))
    refused("claim", lambda: store.record(decision(incident(1), "reject")))
    token = store.retake(incident(0).id, token, LEASE) or 0
    store.progress(incident(0).id, token, {"cleared": ["a"]})
    store.settle(incident(0).id, token, "needs_human")
    store_clock.advance(DAY)
    with pytest.raises(NotFound):
        store.end_hold("holdone", "me", NOW)
    assert store.revision() == before
