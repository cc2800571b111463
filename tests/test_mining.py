"""The tries of a task instance, and what people did meanwhile → what ended each failure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.changes import Change
from aiops_cli.incidents import Event, TaskInstance
from aiops_cli.mining import (
    Act,
    Ending,
    Seen,
    acts_of,
    cleared,
    endings,
    lesson_of,
    stamped_tries,
)
from tests.builders import NOW, signature, task_instance

REF = task_instance().ref
MINUTE = timedelta(minutes=1)


def at(minute: float) -> datetime:
    return NOW + minute * MINUTE


def tries(*states: str, budgets: Sequence[int] = (), versions: Sequence[int] = ()) -> list[Any]:
    """Tries 1, 2, … in these states, which began at minutes 0, 10, 20, … and took one each.
    `budgets` are their max_tries: each clear grants a new one."""
    return [
        task_instance(
            state=state,
            try_number=number,
            max_tries=budgets[number - 1] if budgets else 9,
            start_date=at(10 * number - 10),
            end_date=at(10 * number - 9),
            version=versions[number - 1] if versions else 1,
            pool="default_pool",
        )
        for number, state in enumerate(states, 1)
    ]


def ended(own: Sequence[TaskInstance], **seen: Any) -> list[tuple[Any, ...]]:
    known = seen.pop("known", frozenset())
    found = endings(Seen(seen.pop("live", own[-1]), own, **seen), known)
    return [(one.failed.try_number, one.mode, one.outcome) for one in found]


class TestWhoRanItAgain:
    def test_airflows_own_retry_that_healed(self) -> None:
        assert ended(tries("failed", "success")) == [(1, "airflow", "fixed")]

    def test_each_failed_try_before_it_was_ended_by_it(self) -> None:
        own = tries("failed", "failed", "success")
        assert ended(own) == [(1, "airflow", "fixed"), (2, "airflow", "fixed")]

    def test_airflows_own_retries_in_vain_and_then_nobody(self) -> None:
        own = tries("failed", "failed", "failed")
        assert ended(own) == [(1, "airflow", "failed"), (2, "airflow", "failed")]

    def test_a_failure_that_nobody_ran_again_teaches_nothing(self) -> None:
        assert ended(tries("failed")) == []

    def test_a_clear_shows_in_the_budget_and_the_log_says_by_whom(self) -> None:
        own = tries("failed", "success", budgets=[0, 1])
        assert ended(own) == [(1, "person", "fixed")]
        (ending,) = endings(Seen(own[-1], own, acts=[Act("clear", at(5), "ana")]))
        assert (ending.by, ending.at, ending.ended_at) == ("ana", at(5), at(11))

    def test_who_is_not_known_where_the_event_log_was_pruned(self) -> None:
        own = tries("failed", "success", budgets=[0, 1])
        (ending,) = endings(Seen(own[-1], own))
        assert (ending.by, ending.at) == ("", at(10))

    def test_a_clear_that_leaves_the_budget_as_it_was(self) -> None:
        """The number of retries was changed in the DAG meanwhile."""
        own = tries("failed", "success", budgets=[3, 3])
        assert ended(own, acts=[Act("clear", at(5), "ana")]) == [(1, "person", "fixed")]
        assert ended(own, acts=[Act("clear", at(12), "ana")]) == [(1, "airflow", "fixed")]

    def test_own_retries_after_a_clear_belong_to_it(self) -> None:
        own = tries("failed", "failed", "success", budgets=[0, 3, 3])
        assert ended(own) == [(1, "person", "fixed"), (2, "airflow", "fixed")]

    def test_own_retries_in_vain_before_a_clear(self) -> None:
        own = tries("failed", "failed", "success", budgets=[1, 1, 3])
        assert ended(own) == [(1, "airflow", "failed"), (2, "person", "fixed")]

    def test_a_clear_in_vain_and_one_that_helped(self) -> None:
        own = tries("failed", "failed", "success", budgets=[0, 1, 2])
        assert ended(own) == [(1, "person", "failed"), (2, "person", "fixed")]

    def test_a_success_that_was_run_again_is_no_failure(self) -> None:
        assert ended(tries("success", "success", budgets=[0, 1])) == []

    @pytest.mark.parametrize("state", ["running", "up_for_retry", None, "queued"])
    def test_what_is_not_over_is_left_for_later(self, state: str | None) -> None:
        own = tries("failed", "failed")
        live = task_instance(state=state, try_number=3)
        assert ended(own, live=live) == []

    @pytest.mark.parametrize("state", ["skipped", "upstream_failed", "removed"])
    def test_what_never_ran_says_nothing(self, state: str) -> None:
        assert ended(tries("failed", state, budgets=[0, 1])) == []

    def test_what_an_aiops_ran_again_is_nobodys_act(self) -> None:
        own = tries("failed", "failed", "success", budgets=[0, 1, 2])
        assert ended(own, stamped=frozenset([1])) == [(2, "person", "fixed")]


class TestMarkedByHand:
    def test_green_by_hand_is_no_success(self) -> None:
        own = tries("failed", "success", budgets=[0, 1])
        assert ended(own, acts=[Act("mark", at(12), "ana", "success")]) == []

    def test_a_mark_of_an_earlier_try_says_nothing_of_the_next(self) -> None:
        own = tries("failed", "success", budgets=[0, 1])
        acts = [Act("mark", at(5), "ana", "success"), Act("clear", at(6), "ana")]
        assert ended(own, acts=acts) == [(1, "person", "fixed")]

    def test_red_by_hand_is_no_failure(self) -> None:
        own = tries("failed", "success", budgets=[0, 1])
        assert ended(own, acts=[Act("mark", at(0.5), "ana", "failed")]) == []

    @pytest.mark.parametrize(
        ("state", "action"), [("success", "mark_success"), ("skipped", "mark_skipped")]
    )
    def test_of_a_failure_that_was_captured_before(self, state: str, action: str) -> None:
        own = tries(state)
        acts = [Act("mark", at(9), "ana", state)]
        (ending,) = endings(Seen(own[-1], own, acts=acts), frozenset([1]))
        assert (ending.action, ending.outcome, ending.by) == (action, "unknown", "ana")
        assert ended(own, acts=acts) == [], "it may have run"


# ---- what was changed in between ----


def change(name: str = "orders_db", minute: float = 5, kind: str = "connection") -> Change:
    return Change(kind, name, "edited", at(minute), "dba")


def lesson(*changes: Change, text: str = "", **seen: Any) -> Any:
    own = seen.pop("own", None) or tries("failed", "success", budgets=[0, 1])
    (ending, *_) = endings(Seen(own[-1], own, changes=seen.pop("changes", changes)))
    return lesson_of(ending, signature(), text, instance="prod", seen_at=at(60))


def test_a_clear_with_nothing_changed_speaks_for_retry() -> None:
    learned = lesson()
    assert (learned.action, learned.params, learned.outcome) == ("retry", {}, "fixed")
    assert (learned.failed_at, learned.ended_at, learned.seen_at) == (at(1), at(11), at(60))
    assert (learned.dag_id, learned.try_number, learned.version) == (REF.dag_id, 1, 1)


def test_a_new_dag_version_speaks_for_a_person_and_its_failure_against_retry() -> None:
    own = tries("failed", "success", budgets=[0, 1], versions=[3, 4])
    fixed = lesson(change(), own=own)
    assert (fixed.action, fixed.outcome, fixed.detail) == ("none", "fixed", "DAG version v3 → v4")
    own = tries("failed", "failed", budgets=[0, 1], versions=[3, 4])
    assert (lesson(own=own).action, lesson(own=own).outcome) == ("retry", "failed")


@pytest.mark.parametrize(
    ("kind", "action", "param"),
    [
        ("connection", "update_connection", "connection_id"),
        ("variable", "set_variable", "key"),
        ("pool", "resize_pool", "pool"),
    ],
)
def test_the_one_thing_that_was_changed_is_named_and_no_value(
    kind: str, action: str, param: str
) -> None:
    name = "default_pool" if kind == "pool" else "orders_db"
    learned = lesson(change(name, kind=kind))
    assert (learned.action, learned.params) == (action, {param: name})
    assert "edited" in learned.detail


def test_of_several_the_one_that_the_log_names() -> None:
    both = (change("orders_db"), change("orders_db_2"), change("orders_db", 6))
    assert lesson(*both, text="using 'orders_db_2' now").params == {"connection_id": "orders_db_2"}
    assert lesson(*both[::2], text="").params == {"connection_id": "orders_db"}, "twice the same"


@pytest.mark.parametrize("text", ["", "orders_db and orders_db_2 are away", "my-orders_db"])
def test_of_several_of_which_none_or_all_are_named_nobody_knows(text: str) -> None:
    learned = lesson(change("orders_db"), change("orders_db_2"), text=text)
    assert (learned.action, learned.outcome) == (None, "unknown")
    assert "orders_db_2" in learned.detail


def test_what_was_changed_before_or_after_has_no_part_in_it() -> None:
    assert lesson(change(minute=0.5), change(minute=12)).action == "retry"


def test_another_pool_has_no_part_in_it() -> None:
    assert lesson(change("other", kind="pool")).action == "retry"


@pytest.mark.parametrize("changes", [None, (change("?"),)])
def test_what_cannot_be_told_is_no_evidence(changes: Any) -> None:
    assert lesson(changes=changes).outcome == "unknown"


# ---- what ran anew above it ----


def below(above: float | None, *states: str, budgets: Sequence[int] = (0, 1), **seen: Any) -> Any:
    """The lesson of a task below another, whose newest try began at this minute."""
    own = tries(*states, budgets=budgets, **seen)
    began = None if above is None else at(above)
    (ending, *_) = endings(Seen(own[-1], own, above=began))
    learned = lesson_of(ending, signature(), "", instance="prod", seen_at=at(60))
    return learned.action, learned.outcome, learned.detail


def test_what_failed_because_of_a_task_above_is_not_fixed_by_its_own_re_run() -> None:
    """Whoever clears the one above takes the one below along; it may have failed for what that
    one wrote. Later is no better: the new try of then hides one in between."""
    for minute in (1, 5, 50):
        told = ("retry", "unknown", "a task above it ran anew as well")
        assert below(minute, "failed", "success") == told
    for before in (None, 0, 0.9):
        assert below(before, "failed", "success") == ("retry", "fixed", "")


def test_that_it_failed_again_speaks_against_it_all_the_same() -> None:
    assert below(5, "failed", "failed")[:2] == ("retry", "failed")


def test_airflows_own_retry_and_new_code_are_told_as_before() -> None:
    assert below(5, "failed", "success", budgets=(1, 1))[:2] == ("retry", "fixed")
    assert below(5, "failed", "success", versions=[3, 4])[:2] == ("none", "fixed")


def test_who_was_cleared_is_known_before_anything_else_is_asked() -> None:
    own = tries("failed", "failed", "success", budgets=[1, 1, 1])
    assert not cleared(Seen(own[-1], own))
    assert cleared(Seen(own[-1], own, acts=[Act("clear", at(15), "ana")]))
    assert not cleared(Seen(own[-1], own, acts=[Act("clear", at(15), "ana", aiops=True)]))
    again = tries("failed", "success", budgets=[0, 1])
    assert cleared(Seen(again[-1], again))
    assert not cleared(Seen(again[0], again[:1]))


# ---- the event log ----


def event(name: str, extra: Any = None, minute: float = 5, **fields: Any) -> Event:
    known: dict[str, Any] = {"dag_id": REF.dag_id, "run_id": REF.run_id, "owner": "ana"}
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return Event(1, at(minute), name, extra=text, **{**known, **fields})


CLEAR = {"dry_run": False, "task_ids": [REF.task_id]}


def test_a_clear_of_the_task_by_its_name() -> None:
    found = acts_of([event("post_clear_task_instances", CLEAR)], REF)
    assert found == (Act("clear", at(5), "ana"),)
    assert acts_of([event("clear_dag_run", {"dry_run": False})], REF)


@pytest.mark.parametrize(
    "extra",
    [
        {**CLEAR, "dry_run": True},
        {"task_ids": [REF.task_id]},  # a dry run is what the API does unless it is told
        {**CLEAR, "task_ids": ["other"]},
        {**CLEAR, "task_ids": [[REF.task_id, 3]]},
    ],
)
def test_what_clears_nothing_or_something_else_is_no_clear(extra: Any) -> None:
    assert acts_of([event("post_clear_task_instances", extra)], REF) == ()


@pytest.mark.parametrize(
    "extra",
    [
        {**CLEAR, "task_ids": [[REF.task_id, -1]]},
        {**CLEAR, "task_ids": ["other"], "include_downstream": True},
    ],
)
def test_a_clear_that_reaches_it(extra: Any) -> None:
    assert len(acts_of([event("post_clear_task_instances", extra)], REF)) == 1


def test_a_mark_is_of_one_task_or_of_the_run() -> None:
    own = event("patch_task_instance", {"new_state": "success"}, task_id=REF.task_id)
    other = event("patch_task_instance", {"new_state": "success"}, task_id="other")
    run = event("patch_dag_run", {"state": "failed"}, minute=4)
    assert [act.state for act in acts_of([own, other, run], REF)] == ["failed", "success"]
    note = event("patch_task_instance", {"note": "I look at it"}, task_id=REF.task_id)
    assert acts_of([note], REF) == ()


STAMP = "[aiops 0a1b2c] retry of try 4 by ben, incident abcdefghij"


def test_the_tries_that_some_aiops_ran_again_are_told_by_its_stamps() -> None:
    """As they stand in the note, and in the rows of the calls that set it."""
    assert stamped_tries([], REF, f"mine\n{STAMP}") == {4}
    assert stamped_tries([], REF, None) == set()
    clear = event("post_clear_task_instances", {**CLEAR, "note": STAMP})
    note = event("patch_task_instance", {"note": STAMP}, task_id=REF.task_id, map_index=-1)
    for row in (clear, note):
        assert stamped_tries([row], REF, "") == {4}
    said = event("patch_task_instance", {"note": "retry of try 4"}, task_id=REF.task_id)
    assert stamped_tries([said], REF, "") == set()


@pytest.mark.parametrize(
    "row",
    [
        ("post_clear_task_instances", {**CLEAR, "task_ids": ["other"]}, {}),
        ("post_clear_task_instances", {**CLEAR, "task_ids": [[REF.task_id, 3]]}, {}),
        ("post_clear_task_instances", {"dry_run": False}, {}),
        ("patch_task_instance", {}, {"task_id": "other"}),
        ("patch_task_instance", {}, {"task_id": REF.task_id, "map_index": 3}),
        ("patch_dag_run", {}, {}),
    ],
)
def test_a_stamp_on_another_task_says_nothing_of_this_ones_try(row: Any) -> None:
    name, extra, fields = row
    other = event(name, {**extra, "note": STAMP}, **fields)
    assert stamped_tries([other], REF, None) == set()


def test_what_an_aiops_cleared_below_its_task_is_no_persons_clear() -> None:
    """It leaves its stamp above alone: there are other people's notes below."""
    stamp = "[aiops 0a1b2c] retry of try 3 by ben, incident abcdefghij (it heals)"
    above = event("post_clear_task_instances", {**CLEAR, "task_ids": ["above"], "note": stamp})
    below = event("post_clear_task_instances", CLEAR, minute=5.1)
    own = tries("failed", "success", budgets=[0, 1])
    assert ended(own, acts=acts_of([above, below], REF)) == []
    person = event("post_clear_task_instances", CLEAR, minute=5.1, owner="ben")
    later = event("post_clear_task_instances", CLEAR, minute=9.9)
    early = event("post_clear_task_instances", {**CLEAR, "task_ids": ["above"], "note": stamp}, 4)
    for acts in ([above, person], [early, later]):
        assert ended(own, acts=acts_of(acts, REF)) == [(1, "person", "fixed")]


@pytest.mark.parametrize(("budgets", "mode"), [([1, 1], "airflow"), ([1, 2], "person")])
def test_a_clear_that_does_not_name_it_counts_where_its_budget_says_so(
    budgets: list[int], mode: str
) -> None:
    wide = {"dry_run": False, "task_ids": ["another branch"], "include_downstream": True}
    for name, extra in (("post_clear_task_instances", wide), ("clear_dag_run", {"dry_run": False})):
        own = tries("failed", "success", budgets=budgets)
        assert ended(own, acts=acts_of([event(name, extra)], REF)) == [(1, mode, "fixed")]


HOSTILE = st.one_of(
    st.none(),
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none() | st.booleans() | st.text() | st.lists(st.text() | st.integers())
            for name in ("dry_run", "task_ids", "new_state", "state", "note", "include_upstream")
        },
    ).map(json.dumps),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["post_clear_task_instances", "patch_task_instance", "clear_dag_run"]),
            HOSTILE,
        )
    )
)
def test_whatever_stands_in_the_event_log_it_is_read(rows: list[tuple[str, str | None]]) -> None:
    events = [event(name, extra) for name, extra in rows]
    assert all(isinstance(act, Act) for act in acts_of(events, REF))
    assert all(number >= 0 for number in stamped_tries(events, REF, None))


STATES = st.sampled_from(["failed", "success", "skipped", "running", None])


@given(
    st.lists(st.tuples(STATES, st.integers(0, 3)), min_size=1, max_size=6),
    st.lists(
        st.builds(
            Act,
            st.sampled_from(["clear", "mark"]),
            st.floats(0, 70).map(at),
            st.just("ana"),
            st.sampled_from(["success", "failed", ""]),
        ),
        max_size=4,
    ),
)
def test_each_failed_try_has_one_ending_at_most_and_green_is_never_made_up(
    history: list[tuple[str | None, int]], acts: list[Act]
) -> None:
    own = tries(*(str(state) for state, _ in history), budgets=[budget for _, budget in history])
    found: list[Ending] = list(endings(Seen(own[-1], own, acts=acts)))
    numbers = [one.failed.try_number for one in found]
    assert len(set(numbers)) == len(numbers)
    for one in found:
        assert one.failed.state == "failed"
        later = [state for state, _ in history[one.failed.try_number :]]
        assert one.outcome != "fixed" or "success" in later
