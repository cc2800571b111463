"""Outcomes fade with time and with new code; it can only lower what may be done alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.ageing import HALF_LIFE, OTHER_VERSION, aged, weight
from knowledge.evidence import weigh
from knowledge.records import Evidence, Trial
from tests.builders import NOW, trial

DAY = timedelta(days=1)
PLACE = ("prod", "orders_etl", "load")


def evidence(*trials: Trial, version: int | None = None, action: str = "retry") -> Evidence:
    where = dict(zip(("instance", "dag_id", "task_id"), PLACE, strict=True))
    weighed = weigh(trials, action=action, params={}, now=NOW, relapse_window=DAY, **where)
    return aged(
        weighed,
        trials,
        action=action,
        params={},
        place=PLACE,
        now=NOW,
        half_life=HALF_LIFE,
        version=version,
        signature_version=1,
    )


def weighed(one: Trial, version: int | None = None) -> float:
    return weight(one, now=NOW, half_life=HALF_LIFE, version=version, signature_version=1)


def test_after_the_half_life_it_counts_half() -> None:
    assert weighed(trial()) == 1.0
    assert weighed(trial(at=NOW - HALF_LIFE)) == pytest.approx(0.5)
    assert weighed(trial(at=NOW - 2 * HALF_LIFE)) == pytest.approx(0.25)
    assert weighed(trial(at=NOW + DAY)) == 1.0, "clocks differ"


def test_other_code_lowers_it_and_unknown_code_does_not() -> None:
    assert weighed(trial(version=3), 4) == OTHER_VERSION
    assert weighed(trial(version=3), 3) == 1.0
    assert weighed(trial(version=None), 4) == 1.0
    assert weighed(trial(version=3), None) == 1.0
    assert weighed(trial(signature_version=2)) == OTHER_VERSION


def test_one_outcome_counts_until_its_half_life_and_not_longer() -> None:
    assert evidence(trial(at=NOW - HALF_LIFE + DAY)).value == 1
    assert evidence(trial(at=NOW - HALF_LIFE - DAY)).value == 0
    assert evidence(trial(at=NOW - HALF_LIFE - DAY)).worn == 1


def test_one_outcome_outlives_a_new_version_but_of_three_two_are_left() -> None:
    assert evidence(trial(version=1), version=2).value == 1
    three = [trial(version=1, incident_id=str(n)) for n in range(3)]
    assert evidence(*three, version=2).value == 2
    assert evidence(*three, version=1).value == 3


def test_a_version_of_another_dag_means_nothing_here() -> None:
    elsewhere = [trial(dag_id="sales", version=1, incident_id=str(n)) for n in range(3)]
    assert evidence(*elsewhere, version=2).value == 3


def test_what_speaks_against_it_does_not_fade() -> None:
    old = trial("failed", at=NOW - 10 * HALF_LIFE)
    assert evidence(old, trial()).contradicted


def test_a_task_whose_own_record_has_faded_does_not_borrow_from_elsewhere() -> None:
    own = trial(at=NOW - 2 * HALF_LIFE)
    others = [trial(dag_id="sales", incident_id=str(n)) for n in range(5)]
    assert evidence(own, *others).scope == "task"
    assert evidence(own, *others).value == 0


def test_an_outcome_that_was_not_counted_does_not_stand_in_for_an_old_one() -> None:
    """As one with another value of the same object."""
    trials = [trial(at=NOW - 2 * HALF_LIFE), trial(incident_id="another value")]
    fields = {"action": "retry", "params": {}, "place": PLACE, "now": NOW, "half_life": HALF_LIFE}
    counted = aged(Evidence("task", fixed=1), trials, version=1, signature_version=1, **fields)  # type: ignore[arg-type]  # mixed
    assert counted.value == 0


def test_an_old_mass_clear_fades_as_the_one_outcome_that_it_is() -> None:
    old, day = NOW - 3 * HALF_LIFE, NOW - DAY
    mass = [
        trial(mode="history", run_id="old", at=old, map_index=index, outcome=outcome)
        for index, outcome in enumerate(("fixed", "relapsed", "relapsed"))
    ]
    fresh = [trial(run_id=f"run {number}", at=day) for number in range(3)]
    found = evidence(*mass, *fresh)
    assert (found.fixed, found.relapsed, found.worn) == (3, 1, 1)


def test_what_nothing_is_known_of_stays_so() -> None:
    assert evidence() == Evidence("none")


OUTCOMES = st.sampled_from(["fixed", "failed", "relapsed", "rejected", "wrong", "unknown", None])
TRIALS = st.builds(
    lambda outcome, days, task, dag, version, signed: trial(
        outcome,
        at=NOW - timedelta(days=days),
        task_id=task,
        dag_id=dag,
        version=version,
        signature_version=signed,
    ),
    OUTCOMES,
    st.floats(0, 2000),
    st.sampled_from(["load", "publish"]),
    st.sampled_from(["orders_etl", "sales"]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([1, 2]),
)


@given(st.lists(TRIALS, max_size=12), st.sampled_from([None, 1, 2]))
def test_ageing_only_ever_lowers(trials: list[Trial], version: int | None) -> None:
    where: dict[str, Any] = dict(zip(("instance", "dag_id", "task_id"), PLACE, strict=True))
    young = weigh(trials, action="retry", params={}, now=NOW, relapse_window=DAY, **where)
    old = evidence(*trials, version=version)
    assert 0 <= old.value <= young.value
    assert (old.scope, old.contradicted) == (young.scope, young.contradicted)
    assert old.value + old.worn == young.value
