"""Exact, near, nobody: which answer is given, and by whom."""

from __future__ import annotations

import pytest

from aiops_cli.diagnosis.ladder import diagnose, spent
from tests.builders import entry, incident, match

BOUND = 0.9


def test_nothing_known_is_a_result() -> None:
    found = diagnose(incident(), (), bound=BOUND)
    assert (found.by, found.action, found.confidence) == ("nobody", None, None)


def test_below_the_bound_the_nearest_is_shown_but_not_answered() -> None:
    found = diagnose(incident(), (match(similarity=0.89),), bound=BOUND)
    assert (found.by, found.action) == ("nobody", None)
    assert found.matches[0].similarity == 0.89


def test_near() -> None:
    matches = (match(similarity=0.95), match("none", similarity=0.91))
    found = diagnose(incident(), matches, bound=BOUND)
    assert (found.by, found.action, found.confidence) == ("near", "retry", 0.95)
    assert found.lead is not None
    assert round(found.lead, 4) == 0.04


def test_an_exact_answer_is_not_disturbed_by_similar_ones() -> None:
    matches = (match(), match("none", similarity=0.99))
    found = diagnose(incident(), matches, bound=BOUND)
    assert (found.by, found.action, found.lead) == ("exact", "retry", None)


def test_two_runbooks_that_differ_leave_no_lead() -> None:
    matches = (match(), match("none"))
    assert diagnose(incident(), matches, bound=BOUND).lead == 0


def test_what_a_person_decided_here_overrides_what_was_written_beforehand() -> None:
    starter = match("retry_later", source="starter/network.yaml:3")
    runbook = match("none")
    decided = match("retry", kind="incident", source="abcdefghij")
    found = diagnose(incident(), (starter, runbook, decided), bound=BOUND)
    assert (found.action, found.lead) == ("retry", 0)  # the runbook still has a say
    assert diagnose(incident(), (starter, decided), bound=BOUND).lead is None
    assert diagnose(incident(), (starter, runbook), bound=BOUND).action == "none"


def test_two_people_who_decided_differently_leave_no_lead() -> None:
    matches = (
        match("retry", kind="incident", id="one"),
        match("none", kind="incident", id="two"),
    )
    assert diagnose(incident(), matches, bound=BOUND).lead == 0


def test_the_starter_knowledge_is_silent_where_the_site_knows_something() -> None:
    starter = match("none", similarity=0.97, source="starter/network.yaml:3")
    own = match("retry", similarity=0.93)
    found = diagnose(incident(), (starter, own), bound=BOUND)
    assert (found.action, found.lead, found.matches[0]) == ("retry", None, own)
    below = match("retry", similarity=0.89)
    found = diagnose(incident(), (starter, below), bound=BOUND)
    assert found.action == "none"
    assert found.lead is not None


def test_an_entry_that_names_dags_answers_only_for_those() -> None:
    elsewhere = match(dags=("sales_*",))
    assert diagnose(incident(), (elsewhere,), bound=BOUND).by == "nobody"
    here = match(dags=("sales_*", "orders_*"))
    assert diagnose(incident(), (here,), bound=BOUND).by == "exact"


def test_a_known_cause_without_an_action_is_told() -> None:
    found = diagnose(incident(), (match(None),), bound=BOUND)
    assert (found.by, found.action, found.cause) == ("exact", None, entry().cause)


NOTHING = dict.fromkeys(("fixed", "failed", "relapsed", "rejected", "wrong"), 0)


@pytest.mark.parametrize(
    ("kind", "record", "is_spent"),
    [
        ("incident", {}, False),  # nobody knows yet
        ("incident", {"failed": 1}, True),
        ("incident", {"rejected": 1}, True),  # an undo is one
        ("incident", {"wrong": 1}, True),
        ("incident", {"failed": 3, "fixed": 1}, False),
        ("incident", {"failed": 3, "relapsed": 1}, False),  # it did turn green
        ("runbook", {"failed": 1}, False),  # somebody wrote it down, and knows why
        ("history", {"failed": 1}, False),
    ],
)
def test_what_a_person_decided_is_spent_where_it_never_helped(
    kind: str, record: dict[str, int], is_spent: bool
) -> None:
    assert spent(entry("retry", kind=kind), NOTHING | record) is is_spent


def test_what_is_spent_stands_behind_whoever_else_knows() -> None:
    tried = match("retry", kind="incident", id="tried")
    starter = match("retry_later", similarity=0.95, source="starter/network.yaml:3")
    found = diagnose(incident(), (tried, starter), bound=BOUND, spent={"tried"})
    assert (found.by, found.action) == ("near", "retry_later")
    assert found.lead is not None
    assert found.lead < 0, "what differs still takes the lead"
    runbook = match("none", id="runbook")
    found = diagnose(incident(), (tried, runbook, starter), bound=BOUND, spent={"tried"})
    assert (found.by, found.action, found.lead) == ("exact", "none", 0)


def test_what_is_spent_answers_where_nobody_else_does() -> None:
    tried = match("retry", kind="incident", id="tried")
    unlike = match("none", similarity=0.4)
    found = diagnose(incident(), (tried, unlike), bound=BOUND, spent={"tried"})
    assert (found.by, found.action, found.entry) == ("exact", "retry", "tried")
    near = match("retry", similarity=0.95, kind="incident", id="tried")
    found = diagnose(incident(), (near, unlike), bound=BOUND, spent={"tried"})
    assert (found.by, found.action, found.entry) == ("near", "retry", "tried")


def test_another_persons_answer_goes_before_one_that_is_spent() -> None:
    tried = match("retry", kind="incident", id="tried")
    other = match("none", kind="incident", id="other")
    found = diagnose(incident(), (tried, other), bound=BOUND, spent={"tried"})
    assert (found.action, found.lead) == ("none", 0)
