"""The narrowest scope with any settled outcome decides, and a contradiction there blocks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from knowledge.evidence import needed, tally, weigh
from knowledge.records import Evidence, Trial
from tests.builders import NOW, trial

DAY = timedelta(days=1)


def weighed(
    *trials: Trial, action: str = "retry", params: dict[str, Any] | None = None
) -> Evidence:
    return weigh(
        trials,
        action=action,
        params=params or {},
        instance="prod",
        dag_id="orders_etl",
        task_id="load",
        now=NOW + timedelta(hours=1),
        relapse_window=DAY,
    )


def test_no_trials_no_evidence() -> None:
    assert weighed() == Evidence("none")


@pytest.mark.parametrize("outcome", [None, "superseded", "unknown"])
def test_what_is_not_settled_is_no_evidence(outcome: str | None) -> None:
    assert weighed(trial(outcome)).scope == "none"


def test_another_action_is_no_evidence() -> None:
    assert weighed(trial(action="set_variable")).scope == "none"


@pytest.mark.parametrize(
    ("elsewhere", "scope"),
    [
        ({}, "task"),
        ({"task_id": "extract"}, "dag"),
        ({"dag_id": "sales_etl"}, "anywhere"),
        ({"instance": "staging"}, "anywhere"),
    ],
)
def test_scopes(elsewhere: dict[str, Any], scope: str) -> None:
    found = weighed(trial(**elsewhere))
    assert (found.scope, found.value) == (scope, 1)


def test_news_from_far_away_does_not_outvote_what_happened_here() -> None:
    far = [trial(dag_id="sales_etl") for _ in range(50)]
    found = weighed(*far, trial("failed"))
    assert found.scope == "task"
    assert found.fixed == 0
    assert "did not help" in found.contradicted


@pytest.mark.parametrize("outcome", ["failed", "rejected"])
def test_a_contradiction_holds_until_three_clean_outcomes_follow(outcome: str) -> None:
    later = [trial(at=NOW + timedelta(minutes=minute)) for minute in range(1, 4)]
    assert weighed(trial(outcome), *later[:2]).contradicted
    assert not weighed(trial(outcome), *later).contradicted
    assert weighed(*later, trial(outcome, at=NOW + timedelta(minutes=9))).contradicted


def cleared(outcome: str = "fixed", minute: int = 1, **fields: Any) -> Trial:
    """What a person ran again in Airflow itself."""
    at = NOW + timedelta(minutes=minute)
    return trial(outcome, mode="history", at=at, **{"run_id": "monday", **fields})


def test_one_mass_clear_is_one_outcome() -> None:
    """However many mapped instances and tasks of a run it ran again, and in whatever order."""
    mapped = [cleared(map_index=index) for index in range(3)]
    tasks = [cleared(task_id=name) for name in ("extract", "report")]
    assert weighed(*mapped, *tasks).fixed == 1
    elsewhere = [replace(one, task_id=f"t{n}") for n, one in enumerate(mapped)]
    found = weighed(*elsewhere)
    assert (found.scope, found.fixed) == ("dag", 1)
    assert tally([*mapped, *tasks], "retry")["fixed"] == 1
    assert weighed(*mapped, cleared(run_id="tuesday")).fixed == 2
    assert weighed(*(trial(map_index=index, run_id="monday") for index in range(3))).fixed == 3


@pytest.mark.parametrize("worst", ["failed", "relapsed"])
def test_of_a_mass_clear_the_worst_counts(worst: str) -> None:
    some = [cleared(map_index=0), cleared(worst, map_index=1), cleared(map_index=2)]
    for order in (some, some[::-1]):
        found = weighed(*order)
        assert (found.fixed, getattr(found, worst)) == (0, 1)
    both = weighed(cleared("relapsed"), cleared("failed", minute=2))
    assert (both.failed, both.relapsed) == (1, 0)


def test_a_failed_re_run_is_not_made_good_by_one_mass_clear() -> None:
    mass = [cleared(map_index=index) for index in range(9)]
    assert weighed(trial("failed"), *mass).contradicted
    days = [cleared(run_id=day) for day in ("monday", "tuesday", "wednesday")]
    assert not weighed(trial("failed"), *days).contradicted


def test_a_persons_no_is_not_made_good_by_what_people_do_in_airflow() -> None:
    """Nobody said there that it was right: it says no more than that it turned green."""
    days = [cleared(run_id=f"day {day}", minute=day) for day in range(1, 9)]
    no = "a person rejected retry"
    assert no in weighed(trial("rejected"), *days).contradicted
    approved = [trial(at=NOW + timedelta(minutes=minute)) for minute in (20, 21, 22)]
    assert no in weighed(trial("rejected"), *days, *approved[:2]).contradicted
    assert not weighed(trial("rejected"), *days, *approved).contradicted
    failed = trial("failed", at=NOW + timedelta(seconds=1))
    assert no in weighed(trial("rejected"), failed, *days).contradicted, "nor is it forgotten"


def test_harm_is_never_outvoted() -> None:
    later = [trial(at=NOW + timedelta(minutes=minute)) for minute in range(1, 50)]
    assert "harm" in weighed(trial("wrong"), *later).contradicted


@pytest.mark.parametrize("scope", ["task", "dag", "anywhere"])
@pytest.mark.parametrize(
    "elsewhere", [{}, {"task_id": "extract"}, {"dag_id": "sales_etl"}, {"instance": "staging"}]
)
def test_harm_anywhere_contradicts_at_every_scope(scope: str, elsewhere: dict[str, Any]) -> None:
    """However many clean outcomes there are, wherever they are, before it and after it."""
    places: dict[str, dict[str, Any]] = {
        "task": {},
        "dag": {"task_id": "transform"},
        "anywhere": {"dag_id": "stock_etl"},
    }
    clean = [
        trial(at=NOW + timedelta(minutes=minute), **places[scope]) for minute in range(-20, 20)
    ]
    found = weighed(trial("wrong", **elsewhere), *clean)
    assert "retry did harm to " in found.contradicted
    assert not weighed(*clean).contradicted


def test_harm_says_where_it_was_done() -> None:
    assert weighed(trial(), trial("wrong", dag_id="sales_etl")).contradicted == (
        f"a person said that retry did harm to sales_etl.load on {NOW:%Y-%m-%d}"
    )


def test_harm_speaks_of_its_own_action_and_object_only() -> None:
    assert not weighed(trial(), trial("wrong", action="mark_success")).contradicted
    fixed, harmed = (
        trial(outcome, action="set_variable", params={"key": key, "value": "1"})
        for outcome, key in (("fixed", "batch_size"), ("wrong", "rate"))
    )
    here = {"key": "batch_size", "value": "2"}
    assert not weighed(fixed, harmed, action="set_variable", params=here).contradicted
    there = {"key": "rate", "value": "2"}
    assert weighed(fixed, harmed, action="set_variable", params=there).contradicted


def test_a_retry_that_did_harm_does_it_later_too() -> None:
    elsewhere = trial("wrong", dag_id="sales_etl")
    assert "harm" in weighed(elsewhere, action="retry_later").contradicted
    assert not weighed(elsewhere, action="set_variable").contradicted


def test_three_relapses_in_a_row_contradict_however_long_ago() -> None:
    often = [trial("relapsed", at=NOW - day * DAY) for day in (30, 20, 10)]
    assert "each of the last 3" in weighed(*often).contradicted
    assert not weighed(often[0], trial(at=NOW - 15 * DAY), often[2]).contradicted


def test_one_relapse_of_a_re_run_is_told_two_within_the_window_contradict() -> None:
    once = weighed(trial("relapsed"))
    assert (once.relapsed, once.value, once.contradicted) == (1, 1, "")
    assert "came back 2 times" in weighed(trial("relapsed"), trial("relapsed")).contradicted
    long_ago = trial("relapsed", at=NOW - 2 * DAY)
    assert not weighed(long_ago, trial("relapsed")).contradicted


def test_any_relapse_contradicts_a_change_of_state() -> None:
    params = {"key": "batch_size", "value": "10"}
    relapsed = trial("relapsed", action="set_variable", params=params)
    found = weighed(relapsed, action="set_variable", params=params)
    assert "came back" in found.contradicted


def test_what_fixed_connection_a_says_nothing_about_connection_b() -> None:
    fixed_a = trial(action="update_connection", params={"connection_id": "a", "port": 1})
    same = {"connection_id": "a", "port": "1"}  # as typed
    assert weighed(fixed_a, action="update_connection", params=same).value == 1
    assert weighed(fixed_a, action="update_connection", params={"connection_id": "b"}).value == 0


def test_what_one_value_fixed_says_nothing_about_another_but_its_harm_does() -> None:
    one, other = ({"key": "batch", "value": value} for value in ("100", "5"))
    fixed = trial(action="set_variable", params=one)
    assert weighed(fixed, action="set_variable", params=other).value == 0
    failed = trial("failed", action="set_variable", params=one)
    assert weighed(failed, action="set_variable", params=other).contradicted


def test_one_change_for_several_incidents_is_one_experience() -> None:
    value = {"key": "batch", "value": "100"}
    made = trial(action="set_variable", params=value)
    followed = [replace(trial(action="set_variable", params=value), after="a1b2") for _ in "123"]
    assert weighed(made, *followed, action="set_variable", params=value).value == 1
    worse = replace(followed[0], outcome="failed")
    assert weighed(made, worse, action="set_variable", params=value).contradicted


def test_the_bar_is_higher_for_changes() -> None:
    for action in ("retry", "retry_later"):
        assert (needed(action, "task"), needed(action, "dag")) == (1, 1)
        assert needed(action, "anywhere") == 2
    assert needed("update_connection", "task") == needed("update_connection", "anywhere") == 3


def test_tally_counts_this_action_only() -> None:
    count = tally([trial(), trial("failed"), trial(action="retry_later")], "retry")
    assert count == {"fixed": 1, "failed": 1, "relapsed": 0, "rejected": 0, "wrong": 0}
