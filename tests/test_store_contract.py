"""What every Store promises, sentence by sentence, on each backend and on the twin: the store
itself, incidents, and leave to act alone. Entries and acting have files of their own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from knowledge.errors import (
    NotFound,
    StoreUnusable,
    WrongInstance,
)
from knowledge.records import (
    Case,
    Excerpt,
    Grant,
    Incident,
    Judgement,
    Outcome,
    Pause,
)
from knowledge.stores import Store, open_store
from knowledge.stores.memory import MemoryStore
from tests.samples import (
    DAY,
    HOUR,
    LEASE,
    NOW,
    acted,
    added,
    decision,
    incident,
    signature,
)

# --- the store itself --------------------------------------------------------------------------


def test_base_id_is_made_once_and_is_its_own(store: Store) -> None:
    assert store.base_id() == store.base_id()
    assert re.fullmatch(r"[0-9a-f]{16}", store.base_id())
    assert store.base_id() != MemoryStore().base_id()


def test_an_instance_name_is_bound_to_one_url_for_good(store: Store) -> None:
    store.bind_instance("prod", "https://airflow.example/base/")
    store.bind_instance("prod", "HTTPS://user:secret@AIRFLOW.example/base")
    store.bind_instance("other", "https://airflow.example/base")
    with pytest.raises(WrongInstance) as caught:
        store.bind_instance("prod", "https://staging.example")
    assert "https://airflow.example/base" in caught.value.message
    store.bind_instance("prod", "https://airflow.example/base")


def test_a_login_in_an_instance_url_is_not_kept(store: Store) -> None:
    store.bind_instance("prod", "https://user:secret@airflow.example")
    with pytest.raises(WrongInstance) as caught:
        store.bind_instance("prod", "https://user:other@staging.example")
    assert "secret" not in caught.value.message
    assert "other" not in caught.value.message


@pytest.mark.parametrize("url", ["postgresql://h/db", "knowledge.db", "", "sqlite:/x"])
def test_only_known_schemes_are_opened(url: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        open_store(url)
    assert caught.value.hint


# --- incidents ---------------------------------------------------------------------------------


def test_an_incident_comes_back_as_it_was_seen(store: Store) -> None:
    one = incident(group="s7abc")
    other = incident(1, kind="run", ti_id=None, map_index=3)
    added(store, one, other)
    assert store.case(one.id) == Case(one, "pending")
    assert store.case(other.id).incident == other


def test_hostile_text_is_kept_as_it_is(store: Store) -> None:
    text = "\x00 \x1b[31m [red]'; DROP TABLE incidents; -- \ud800 \U0001f600"
    one = incident(excerpt=Excerpt(text, (1,)), signature=signature(text), context={text: text})
    added(store, one)
    assert store.case(one.id).incident == one


def test_an_incident_is_stored_once_and_never_changed(store: Store) -> None:
    added(store, incident())
    assert not store.add_incident(incident(context={"other": 1}))
    assert store.case(incident().id).incident == incident()


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="without a zone"):
        store.add_incident(incident(failed_at=datetime(2025, 1, 1)))  # noqa: DTZ001 (the point)
    assert store.cases() == ()


def test_known_incidents_takes_full_ids(store: Store) -> None:
    added(store, incident(0), incident(1))
    asked = [incident(0).id, incident(2).id, incident(1).id[:6]]
    assert store.known_incidents(asked) == {incident(0).id}
    assert store.known_incidents([]) == set()


def test_an_incident_is_named_by_a_unique_prefix(store: Store) -> None:
    several = [incident(number) for number in range(30)]
    added(store, *several)
    for one in several:
        prefix = store.shortest_prefixes([one.id])[one.id]
        assert store.case(prefix).incident == one
        assert store.case(prefix.upper()).incident == one
    for wrong in (several[0].id[:3], "", "0000", "%%%%", several[0].id + "a"):
        with pytest.raises(NotFound):
            store.case(wrong)


def colliding(length: int) -> tuple[Incident, Incident]:
    """Two incidents whose ids begin with the same `length` characters."""
    seen: dict[str, Incident] = {}
    for number in itertools.count():
        one = incident(number)
        other = seen.setdefault(one.id[:length], one)
        if other is not one:
            return other, one
    raise AssertionError


def test_prefixes_grow_where_ids_begin_alike(store: Store) -> None:
    one, other = colliding(4)
    added(store, one)
    assert store.shortest_prefixes([one.id]) == {one.id: one.id[:4]}
    # Not stored, but shown beside it.
    shown = store.shortest_prefixes([one.id, other.id])
    assert len(shown[one.id]) == len(shown[other.id]) > 4
    assert store.shortest_prefixes([other.id]) == {other.id: shown[other.id]}
    added(store, other)
    assert store.shortest_prefixes([one.id]) == {one.id: shown[one.id]}
    assert store.case(shown[one.id]).incident == one
    with pytest.raises(NotFound) as caught:
        store.case(one.id[:4])
    assert one.id in caught.value.message
    assert other.id in caught.value.message


def test_cases_come_newest_failure_first(store: Store) -> None:
    early, late, same = (
        incident(0, failed_at=NOW - HOUR),
        incident(1, failed_at=NOW),
        incident(2, failed_at=NOW),
    )
    added(store, late, early, same)
    assert [case.incident.task_id for case in store.cases()] == ["t2", "t1", "t0"]
    assert [case.incident.task_id for case in store.cases(limit=1)] == ["t2"]
    assert store.cases(limit=0) == ()
    assert len(store.cases(since=NOW)) == 2
    assert len(store.cases(since=NOW + timedelta(microseconds=1))) == 0


def test_cases_are_filtered_by_glob_instance_and_status(store: Store) -> None:
    added(
        store,
        incident(1, dag_id="orders_etl"),
        incident(2, dag_id="orders_rep", instance="prod"),
        incident(3, dag_id="Orders[1]"),
    )
    store.record(decision(incident(1), "reject"))

    def tasks(**filters: object) -> set[str]:
        return {case.incident.task_id for case in store.cases(**filters)}  # type: ignore[arg-type]

    assert tasks(dag="orders_*") == {"t1", "t2"}
    assert tasks(dag="orders_???", task="t[12]") == set()
    assert tasks(dag="Orders[1]") == {"t3"}
    assert tasks(dag="orders_etl", task="t?") == {"t1"}
    assert tasks(dag="") == set()
    assert tasks(instance="prod") == {"t2"}
    assert tasks(instance="prod*") == set()
    assert tasks(status=["pending"]) == {"t2", "t3"}
    assert tasks(status={"rejected", "failed"}) == {"t1"}
    assert tasks(status=["rejected"], dag="x") == set()


def test_a_case_holds_the_newest_judgement(store: Store) -> None:
    added(store, incident(), incident(1))
    for text in ("first", "second"):
        store.add_judgement(Judgement(incident().id[:8], NOW, {"diagnosis": {"cause": text}}))
    assert store.case(incident().id).judgement == Judgement(
        incident().id, NOW, {"diagnosis": {"cause": "second"}}
    )
    assert store.case(incident(1).id).judgement is None


def test_what_belongs_to_each_of_many_cases_is_not_mixed_up(store: Store) -> None:
    several = [incident(number) for number in range(6)]
    added(store, *several)
    for number, one in enumerate(several):
        store.add_judgement(Judgement(one.id, NOW, {"number": number}))
        if number % 2:
            acted(store, one, "failed" if number == 1 else "fixed")
    assert sorted(store.cases(), key=lambda case: case.incident.task_id) == [
        store.case(one.id) for one in several
    ]
    assert [case.judgement and case.judgement.document["number"] for case in store.cases()] == [
        5, 4, 3, 2, 1, 0,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["record", "judge", "claim", "open", "outcome", "case", "settle"])
def test_an_unknown_incident_is_not_found(store: Store, name: str) -> None:
    one = incident()
    acts: dict[str, Callable[[], object]] = {
        "record": lambda: store.record(decision(one, "reject")),
        "judge": lambda: store.add_judgement(Judgement(one.id, NOW, {})),
        "claim": lambda: store.claim(one.id, None, "w", LEASE),
        "open": lambda: store.open_door(one.id, 1, decision(one)),
        "outcome": lambda: store.add_outcome(Outcome(one.id, 1, NOW, "fixed")),
        "case": lambda: store.case(one.id),
        "settle": lambda: store.settle(one.id, 1, "done"),
    }
    with pytest.raises(NotFound) as caught:
        acts[name]()
    assert one.id in caught.value.message


# --- leave to act alone --------------------------------------------------------------------------


def test_grants_are_kept_and_revoked_once(store: Store) -> None:
    first = Grant("grantone", ("retry", "retry_later"), ("reporting_*",), "lead", NOW)
    second = Grant("granttwo", ("retry",), ("*",), "lead", NOW, 5, 2, NOW + DAY)
    store.add_grant(first)
    store.add_grant(second)
    assert store.grants() == (first, second)
    revoked = store.revoke_grant("grantt", "boss", NOW + HOUR)
    assert revoked == replace(second, revoked_at=NOW + HOUR, revoked_by="boss")
    assert store.revoke_grant("granttwo", "late", NOW + DAY) == revoked
    assert store.grants() == (first, revoked)
    for wrong in ("grant", "nobody", "gra"):
        with pytest.raises(NotFound):
            store.revoke_grant(wrong, "boss", NOW)


def test_the_newest_pause_holds(store: Store) -> None:
    assert store.pause() == Pause(paused=False)
    for pause in (Pause(True, "me", NOW, "storm"), Pause(False, "you", NOW + HOUR)):
        store.set_pause(pause)
        assert store.pause() == pause


def test_watermarks_are_set_for_each_instance(store: Store) -> None:
    assert store.watermark("prod") is None
    store.set_watermark("prod", NOW)
    store.set_watermark("prod", NOW - HOUR)
    store.set_watermark("other", NOW)
    assert store.watermark("prod") == NOW - HOUR
    assert store.watermark("other") == NOW
