"""What every Store promises about groups and short ids, and about what it counts and marks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from knowledge.errors import NotFound
from knowledge.records import STATUSES, Judgement
from knowledge.stores import Store
from tests.samples import DAY, HOUR, NOW, SetClock, acted, added, claimed, decision, incident

TICK = timedelta(microseconds=1)

# --- groups and short ids ----------------------------------------------------------------------

STORM = "s7storm234"


def test_a_group_has_its_members_newest_first(store: Store) -> None:
    early = incident(0, failed_at=NOW - HOUR, group=STORM, group_key="host:db")
    late = incident(1, group=STORM, group_key="host:db")
    also = incident(2, group=STORM)
    added(store, late, early, also, incident(3), incident(4, group="other67890"))
    members = (also.id, late.id, early.id)
    assert store.case(early.id).incident == early
    assert store.group_members("s7st") == members
    assert store.group_members(STORM.upper()) == members
    assert [case.incident.id for case in store.cases(group=STORM)] == list(members)
    assert [case.incident.id for case in store.cases(group="s7st", since=NOW, limit=1)] == [also.id]
    assert store.find_ids("S7storm") == members
    assert store.find_ids(incident(3).id[:6].upper()) == (incident(3).id,)
    for wrong in ("s7s", "", "nowhere", "group", incident(3).id, "%%%%"):
        with pytest.raises(NotFound) as caught:
            store.group_members(wrong)
        assert caught.value.hint
        with pytest.raises(NotFound):
            store.cases(group=wrong)


def test_an_id_that_means_nothing_or_several_is_not_found(store: Store) -> None:
    one = incident(0)
    near = one.id[:6] + "zzzz"
    added(store, one, incident(1, group=near), incident(2, group=near[:7] + "222"))
    for wrong in ("", one.id[:3], "no-such", one.id + "a"):
        with pytest.raises(NotFound) as caught:
            store.find_ids(wrong)
        assert caught.value.hint
    with pytest.raises(NotFound) as caught:
        store.find_ids(one.id[:5])
    for named in (f"incident {one.id}", f"group {near}"):
        assert named in caught.value.message
    assert store.find_ids(one.id) == (one.id,)
    assert store.find_ids(near) == (incident(1).id,)
    with pytest.raises(NotFound, match="more than one group"):
        store.group_members(near[:7])


def test_a_whole_id_is_meant_though_another_is_longer(store: Store) -> None:
    one = incident(0)
    added(store, one, incident(1, group=one.id + "2"), incident(2, group=one.id + "22"))
    assert store.find_ids(one.id) == (one.id,)
    assert store.find_ids(one.id + "2") == (incident(1).id,)
    assert store.group_members(one.id + "2") == (incident(1).id,)


# In the order of ids before the incident's own, and after it.
@pytest.mark.parametrize("ending", ["2222", "zzzz"])
def test_shown_prefixes_tell_incidents_from_groups(store: Store, ending: str) -> None:
    one = incident(0)
    group = one.id[:6] + ending
    added(store, one)
    assert store.shortest_prefixes([one.id, STORM]) == {one.id: one.id[:4], STORM: STORM[:4]}
    added(store, incident(1, group=group))
    assert store.shortest_prefixes([one.id]) == {one.id: one.id[:7]}
    shown = store.shortest_prefixes([group, one.id, incident(1).id])
    assert shown[group] == group[:7]
    for full, prefix in shown.items():
        assert store.find_ids(prefix) == (store.group_members(full) if full == group else (full,))
    # A group that is only shown, not stored yet.
    stranger = incident(1).id[:5] + "zzzzz"
    assert store.shortest_prefixes([stranger]) == {stranger: stranger[:6]}


def test_the_group_of_the_newest_incident_with_a_key(store: Store) -> None:
    added(
        store,
        incident(0, failed_at=NOW, group="newest7890", group_key="host:db"),
        incident(1, failed_at=NOW - HOUR, group="older67890", group_key="host:db"),
        incident(2, failed_at=NOW + HOUR, group=None, group_key="host:db"),
        incident(3, failed_at=NOW + HOUR, group="another890", group_key="host:api"),
        incident(4, failed_at=NOW + HOUR, group="unnamed890"),
        incident(5, failed_at=NOW + HOUR, group="foreign890", group_key="host:db", instance="prod"),
    )
    assert store.recent_group("default", "host:db", NOW - DAY, NOW + DAY) == "newest7890"
    assert store.recent_group("default", "host:db", NOW, NOW + DAY) == "newest7890"
    assert store.recent_group("default", "host:db", NOW + TICK, NOW + DAY) is None
    assert store.recent_group("default", "host:db", NOW - DAY, NOW) == "newest7890"
    assert store.recent_group("default", "host:db", NOW - DAY, NOW - TICK) == "older67890"
    assert store.recent_group("default", "host:db", NOW - DAY, NOW - HOUR - TICK) is None
    assert store.recent_group("prod", "host:db", NOW, NOW + DAY) == "foreign890"
    assert store.recent_group("default", "host", NOW, NOW + DAY) is None
    assert store.recent_group("default", "", NOW, NOW + DAY) is None


# --- counts, uses, marks -----------------------------------------------------------------------


def counted(**some: int) -> dict[str, int]:
    """Every status, those not given with 0."""
    return dict.fromkeys(STATUSES, 0) | some


def test_incidents_are_counted_by_status(store: Store) -> None:
    assert store.counts() == counted()
    several = [incident(number) for number in range(5)]
    added(store, *several, incident(5, instance="prod"))
    acted(store, several[0], "fixed")
    acted(store, several[1], "failed")
    store.record(decision(several[2], "reject"))
    claimed(store, several[3])
    assert store.counts() == counted(resolved=1, failed=1, rejected=1, acting=1, pending=2)
    here = counted(resolved=1, failed=1, rejected=1, acting=1, pending=1)
    assert store.counts("default") == here
    assert store.counts("prod") == counted(pending=1)
    assert store.counts("nowhere") == counted()


def test_a_lapsed_claim_is_counted_as_waiting(store: Store, store_clock: SetClock) -> None:
    added(store, incident())
    claimed(store, incident())
    assert store.counts()["acting"] == 1
    store_clock.advance(DAY)
    assert (store.counts()["acting"], store.counts()["pending"]) == (0, 1)


def test_uses_count_the_incidents_that_rested_on_an_entry(store: Store) -> None:
    added(store, *(incident(number) for number in range(4)))
    for number, entry in ((0, "a"), (0, "a"), (0, "b"), (1, "a"), (2, None)):
        document = {"diagnosis": {"entry": entry}, "matches": [{"entry": "c"}]}
        store.add_judgement(Judgement(incident(number).id, NOW, document))
    store.add_judgement(Judgement(incident(3).id, NOW, {"diagnosis": None}))
    store.add_judgement(Judgement(incident(3).id, NOW, {}))
    assert store.uses(["a", "b", "c"]) == {"a": 2, "b": 1, "c": 0}
    assert store.uses([]) == {}
    assert store.uses(["a", "b"], since=NOW + timedelta(microseconds=1)) == {"a": 0, "b": 0}
    assert store.uses(["a", "b"], since=NOW) == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "odd", ["\0", "\ud800", "\udfff\ud800x", "\\", "\\ud800", "\\\ud800", '\\"', "\U0001f600"]
)
def test_whatever_else_a_judgement_says_its_entry_is_counted(store: Store, odd: str) -> None:
    added(store, incident(0))
    diagnosis = {"entry": "a", odd: odd, "quotes": [odd, f"{odd}\n"]}
    judgement = Judgement(incident(0).id, NOW, {"a": odd, "diagnosis": diagnosis, "z": [odd]})
    store.add_judgement(judgement)
    assert store.uses(["a"]) == {"a": 1}


def test_a_mark_is_what_was_set_last(store: Store) -> None:
    assert store.mark("starter") is None
    store.set_mark("starter", "1")
    store.set_mark("other", "")
    store.set_mark("starter", '["2"]')
    assert store.mark("starter") == '["2"]'
    assert store.mark("other") == ""
