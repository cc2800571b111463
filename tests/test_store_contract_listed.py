"""What every Store promises about pages of incidents, and about the whole story of one."""

from __future__ import annotations

from typing import Any

import pytest

from knowledge.errors import NotFound
from knowledge.records import Outcome, Remark, Snooze, Story, Voided, Vouch
from knowledge.stores import Store
from tests.samples import (
    HOUR,
    MINUTE,
    NOW,
    SPACE,
    SetClock,
    added,
    claimed,
    decision,
    embedded,
    incident,
    unit,
)


def told(store: Store, **question: Any) -> list[tuple[str, int]]:
    asked = {"limit": 10, **question}
    return [(one.case.incident.task_id, one.count) for one in store.lines(**asked)]


def storm(store: Store) -> None:
    """t0 and t9 alone, t1 to t4 of one group, t5 and t6 of another; the higher the later."""
    groups = {1: "storm1", 2: "storm1", 3: "storm1", 4: "storm1", 5: "pair56", 6: "pair56"}
    for number in (*range(7), 9):
        added(
            store,
            incident(number, failed_at=NOW + number * MINUTE, group=groups.get(number)),
        )


def test_lines_are_the_cases_a_page_at_a_time(store: Store) -> None:
    storm(store)
    every = [(case, 1) for case in store.cases()]
    lines = store.lines(limit=100)
    assert [(one.case, one.count) for one in lines] == every
    pages = [told(store, limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [len(page) for page in pages] == [3, 3, 2, 0]
    assert [line for page in pages for line in page] == told(store)


def test_a_group_is_one_line_where_its_newest_stands(store: Store) -> None:
    storm(store)
    assert told(store, together=3) == [("t9", 1), ("t6", 1), ("t5", 1), ("t4", 4), ("t0", 1)]
    assert told(store, together=2) == [("t9", 1), ("t6", 2), ("t4", 4), ("t0", 1)]
    assert told(store, together=2, limit=2, offset=1) == [("t6", 2), ("t4", 4)]
    (line,) = store.lines(together=3, limit=1, offset=3)
    assert line.case == store.case(incident(4).id)


def test_only_those_that_fit_are_counted(store: Store, store_clock: SetClock) -> None:
    storm(store)
    store.record(decision(incident(4), "reject"))
    assert told(store, together=3, status=["pending"])[3:] == [("t3", 3), ("t0", 1)]
    assert told(store, together=3, status=["rejected"]) == [("t4", 1)]
    store.snooze(incident(3).id, store_clock.now() + HOUR, "ana", NOW)
    waiting: dict[str, Any] = {"together": 3, "status": ["pending"]}
    assert told(store, **waiting, snoozed=False)[3:] == [("t2", 1), ("t1", 1), ("t0", 1)]
    assert told(store, **waiting, snoozed=True) == [("t3", 1)]
    assert told(store, together=3, dag="orders*", instance="default") == told(store, together=3)
    assert told(store, dag="other*") == told(store, instance="other") == []
    assert told(store, together=3, since=NOW + 2 * MINUTE)[3:] == [("t4", 3)]


def test_a_story_has_all_that_was_written(store: Store, store_clock: SetClock) -> None:
    one, other = incident(), incident(1)
    added(store, one, other)
    assert store.story(one.id[:6]) == Story()
    vouch = Vouch("default", "orders_etl", "t0", None, True, "ana", NOW)
    shadow = store.record(decision(one, "shadow"))
    store.add_remark(Remark(one.id, "ana", NOW, "who knows this?"))
    store.snooze(one.id, NOW + HOUR, "ana", NOW)
    rejected = store.record(decision(one, "reject", by="ben", reason="no"), [vouch])
    store.take_back(one.id, "ben", NOW + MINUTE)
    token = claimed(store, one)
    given_back = store.open_door(one.id, token, decision(one, "auto", by="aiops"))
    store_clock.advance(MINUTE)
    store.release(one.id, token)
    released_at = store_clock.now()
    token = claimed(store, one)
    act = store.open_door(one.id, token, decision(one, by="ana", plan={"p": 1}))
    fixed = Outcome(one.id, act.seq, NOW, "fixed", "green", 2)
    store.settle(one.id, token, "done", fixed)
    relapsed = Outcome(one.id, act.seq, NOW + HOUR, "relapsed")
    store.add_outcome(relapsed)
    store.call_wrong(one.id, "cleo", NOW + HOUR, "twice")
    undone = store.record(decision(one, "reject", reason="undone"))
    store.record(decision(other, "reject"), [vouch])

    story = store.story(one.id)
    assert story.decisions == (shadow, rejected, given_back, act, undone)
    assert story.voided == (
        Voided(rejected.seq, NOW + MINUTE, "ben"),
        Voided(given_back.seq, released_at, None),
    )
    assert story.outcomes == (fixed, relapsed)
    assert [(harm.by, harm.decision, harm.reason) for harm in story.harms] == [
        ("cleo", act.seq, "twice")
    ]
    assert story.vouches == (vouch,)
    assert story.remarks == store.case(one.id).remarks
    assert story.snoozes == (Snooze(one.id, "ana", NOW, NOW + HOUR),)
    assert [one.kind for one in store.story(other.id).decisions] == ["reject"]


def test_there_is_no_story_of_what_is_not_stored(store: Store) -> None:
    with pytest.raises(NotFound):
        store.story("zzzz")


def test_entries_come_a_page_at_a_time_ones_own_first(store: Store) -> None:
    vector = unit(1, 0, 0)
    for name, source in (
        ("a", "starter/db.yaml:1"),
        ("b", "runbooks/a.md:1"),
        ("c", "starters/of/ours.md:1"),
        ("d", "starter/db.yaml:9"),
        ("e", "Starter/ours.md:1"),
    ):
        store.put_entries([embedded(name * 4, ("E: " + name, vector), source=source)], SPACE, NOW)
    changed = embedded("bbbb", ("E: b", vector), source="runbooks/a.md:1", cause="another one")
    store.put_entries([changed], SPACE, NOW)
    store.retire_entries(["cccc"], "ana", NOW, "gone")

    def named(**page: Any) -> str:
        asked = {"retired": True, "limit": 10, **page}
        return "".join(one.id[0] for one in store.entry_page(**asked))

    assert named() == "ecbda"
    assert named(retired=False) == "ebda"
    assert [named(limit=2, offset=offset) for offset in (0, 2, 4, 6)] == ["ec", "bd", "a", ""]
    (entry,) = store.entry_page(retired=False, limit=1, offset=1)
    assert entry == store.entry("bbbb")
