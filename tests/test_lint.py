"""What is told of entries that contradict, repeat, mislead or never answer, and what is not."""

from __future__ import annotations

from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiops_cli.actions import CATALOGUE
from knowledge import base
from knowledge.base import symptom
from knowledge.dates import last_day
from knowledge.lint import STALE_AFTER, UNUSED_AFTER, Finding, lint
from knowledge.overlap import globs_overlap, near_pairs
from knowledge.ranking import BUILTIN_BOUND, similarity
from knowledge.records import Entry, Trial
from knowledge.runbooks import read_runbooks
from tests import builders
from tests.builders import NOW, trial

REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
KEY = "KeyError: 'unit_price'"
# Alike, and not the same: what stands in quotes belongs to the failure.
PRICES = "ValueError: the partner sent 12 rows without a price for shop 'north' in its nightly file"
PRICES_TOO = (
    "ValueError: the partner sent 9 rows without a price for shop 'south' in its nightly file"
)
TAKES = {action.name: action.params for action in CATALOGUE.values()}


def entry(id_: str, action: str | None = "retry", *errors: str, **fields: Any) -> Entry:
    symptoms = tuple(symptom(text) for text in errors or (REFUSED,))
    return builders.entry(action, **{"id": id_, "symptoms": symptoms, **fields})


def found(
    *entries: Entry,
    trials: tuple[Trial, ...] = (),
    uses: dict[str, int] | None = None,
    lately: dict[str, int] | None = None,
) -> list[Finding]:
    used, late = uses or {}, lately or {}
    return list(lint(entries, trials=trials, uses=used, lately=late, takes=TAKES, now=NOW))


def kinds(*entries: Entry, **record: Any) -> list[str]:
    return [finding.kind for finding in found(*entries, **record)]


def about(finding: Finding) -> set[str]:
    return {one.id for one in finding.entries}


def tried(text: str, outcome: str, action: str = "retry", **fields: Any) -> Trial:
    fingerprint = symptom(text).signature.fingerprint
    known = {"incident_id": f"{outcome}-{fields}", "fingerprint": fingerprint, "action": action}
    return trial(outcome, **{**known, **fields})


# ---- two entries about one failure ----


def test_two_answers_to_one_failure_contradict() -> None:
    (finding,) = found(entry("aaaa"), entry("bbbb", "none"), entry("cccc", "none", KEY))
    assert finding.kind == "contradiction"
    assert about(finding) == {"aaaa", "bbbb"}
    assert "retry against none" in finding.what
    assert finding.similarity is None
    assert finding.commands == (
        'aiops kb retire bbbb --reason "aaaa is right"',
        'aiops kb retire aaaa --reason "bbbb is right"',
    )


def test_two_answers_to_failures_that_look_alike_contradict() -> None:
    score = similarity(symptom(PRICES).signature.text, symptom(PRICES_TOO).signature.text)
    assert BUILTIN_BOUND <= score < 1.0  # else the test is about nothing
    (finding,) = found(entry("aaaa", "retry", PRICES), entry("bbbb", "none", PRICES_TOO))
    assert (finding.kind, about(finding)) == ("contradiction", {"aaaa", "bbbb"})
    assert finding.similarity == round(score, 4)
    assert f"{score:.2f}" in finding.what


def test_all_that_looks_like_one_entry_and_is_answered_otherwise_is_one_finding() -> None:
    runbook = entry("aaaa", "none", PRICES)
    decided = [
        entry(f"bbb{n}", "retry", f"{PRICES_TOO} {n * 'x'}", kind="incident", source=f"k3f9{n}")
        for n in range(4)
    ]
    (finding,) = found(*decided[:2], runbook, *decided[2:])
    assert about(finding) == {"aaaa", *(one.id for one in decided)}
    assert finding.entries[0] == runbook
    assert finding.similarity == max(
        round(similarity(runbook.symptoms[0].signature.text, one.symptoms[0].signature.text), 4)
        for one in decided
    )


def test_a_pair_is_told_once_however_many_symptoms_it_shares() -> None:
    a, b = entry("aaaa", "retry", REFUSED, PRICES), entry("bbbb", "none", REFUSED, PRICES_TOO)
    assert kinds(a, b) == ["contradiction"]
    same = entry("aaaa", "retry", REFUSED, KEY), entry("bbbb", "none", REFUSED, KEY)
    assert kinds(*same) == ["contradiction"]


def test_who_agrees_is_not_named() -> None:
    agreeing = [entry(name, "retry", dags=(f"{name}_*",)) for name in ("aaaa", "cccc")]
    (finding,) = found(*agreeing, entry("bbbb", "none", dags=("cccc_x",)))
    assert about(finding) == {"cccc", "bbbb"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"params": {"delay": "5m"}}, {"params": {"delay": "1h"}}),
        ({"safe_to_retry": True}, {"safe_to_retry": False}),
    ],
)
def test_runbooks_contradict_in_how_it_is_done(one: Any, other: Any) -> None:
    a, b = entry("aaaa", "retry_later", **one), entry("bbbb", "retry_later", **other)
    assert kinds(a, b) == ["contradiction"]
    decided = [
        entry("aaaa", "retry_later", kind="incident", source="k3f9k3f9k3", **one),
        entry("bbbb", "retry_later", **other),
    ]
    assert kinds(*decided) == []  # people choose anew each time


@pytest.mark.parametrize(
    "other",
    [
        entry("bbbb", None),  # it proposes nothing
        entry("bbbb", "none", KEY),
        entry("bbbb", "none", source="starter/network.yaml:3"),
        entry("bbbb", "none", kind="history", source="history"),
        entry("bbbb", "none", dags=("sales_*",)),
    ],
    ids=["no answer", "another failure", "starter", "history", "other DAGs"],
)
def test_no_contradiction(other: Entry) -> None:
    assert kinds(entry("aaaa", dags=("orders_*",)), other) == []


def test_what_a_person_decided_contradicts_a_runbook_and_another_decision() -> None:
    decided = entry("bbbb", "none", kind="incident", source="k3f9k3f9k3")
    again = entry("cccc", "retry", kind="incident", source="x2abx2abx2")
    assert kinds(entry("aaaa"), decided) == ["contradiction"]
    assert kinds(decided, again) == ["contradiction"]


def test_two_past_incidents_that_are_only_alike_do_not_contradict() -> None:
    a = entry("aaaa", "retry", PRICES, kind="incident")
    b = entry("bbbb", "none", PRICES_TOO, kind="incident")
    assert kinds(a, b) == []


def test_one_answer_in_two_runbooks_is_a_duplicate() -> None:
    (finding,) = found(entry("aaaa"), entry("bbbb", source="sales.md:7"))
    assert (finding.kind, about(finding)) == ("duplicate", {"aaaa", "bbbb"})
    assert 'aiops kb retire bbbb --reason "aaaa has it too"' in finding.commands


def test_where_nothing_is_to_be_done_the_cause_is_the_answer() -> None:
    full = entry("aaaa", "none", cause="the disk is full")
    assert kinds(full, entry("bbbb", "none", cause="the quota is used up")) == []
    assert kinds(full, entry("bbbb", "none", cause="the disk is full")) == ["duplicate"]


def test_a_command_keeps_all_who_agree() -> None:
    decided = entry("cccc", "retry", kind="incident", source="k3f9k3f9k3")
    (finding,) = found(entry("aaaa"), entry("bbbb", "none"), decided)
    assert finding.commands == (
        'aiops kb retire bbbb --reason "aaaa is right"',
        'aiops kb retire aaaa cccc --reason "bbbb is right"',
    )


def test_a_pair_that_is_also_alike_in_other_words_is_told_once() -> None:
    decided = entry("cccc", "retry", REFUSED, kind="incident", source="k3f9k3f9k3")
    a, b = entry("aaaa", "retry", REFUSED, PRICES), entry("bbbb", "none", REFUSED, PRICES_TOO)
    assert kinds(a, b, decided) == ["contradiction"]


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "incident", "source": "k3f9k3f9k3"},  # an approval remembers what it followed
        {"source": "starter/network.yaml:3"},
        {"dags": ("sales_*",)},
    ],
)
def test_no_duplicate(fields: Any) -> None:
    assert kinds(entry("aaaa", dags=("orders_*",)), entry("bbbb", **fields)) == []


# ---- an action and its record ----


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        (["failed"], []),
        (["failed", "failed"], ["never_worked"]),
        (["failed", "relapsed"], ["never_worked"]),
        (["rejected", "rejected"], ["never_worked"]),
        (["failed", "failed", "fixed"], []),
        (["superseded", "unknown", None], []),
        (["wrong"], ["never_worked"]),
        (["fixed", "fixed", "wrong"], ["never_worked"]),
    ],
)
def test_an_action_that_never_worked(outcomes: list[str], told: list[str]) -> None:
    record = tuple(
        tried(REFUSED, outcome, run_id=str(number)) for number, outcome in enumerate(outcomes)
    )
    assert kinds(entry("aaaa"), trials=record) == told


@pytest.mark.parametrize(
    "record",
    [
        {"text": KEY},
        {"action": "retry_later"},
        {"params": {"connection_id": "other"}},
    ],
)
def test_the_record_of_something_else_does_not_count(record: Any) -> None:
    fields = {"text": REFUSED, **record}
    trials = tuple(tried(outcome="failed", run_id=str(n), **fields) for n in range(3))
    assert kinds(entry("aaaa"), trials=trials) == []


def test_a_runbook_and_the_decision_that_followed_it_are_one_finding() -> None:
    trials = tuple(tried(REFUSED, "failed", run_id=str(number)) for number in range(3))
    shipped = entry("cccc", source="starter/network.yaml:3")
    decided = entry("bbbb", kind="incident", source="k3f9k3f9k3")
    (finding,) = found(entry("aaaa"), decided, shipped, trials=trials)
    assert about(finding) == {"aaaa", "bbbb", "cccc"}
    assert finding.what == "retry never fixed it: failed 3"
    assert finding.commands == ('aiops kb retire aaaa bbbb cccc --reason "it never helped"',)


@pytest.mark.parametrize(
    ("action", "params", "what"),
    [
        ("update_connection", {"host": "db2"}, "update_connection without connection_id"),
        ("set_variable", {}, "set_variable without key, without value"),
        ("retry_later", {"wait": "5m"}, "retry_later with wait"),
        ("retry", {"delay": "5m"}, "retry with delay"),
    ],
)
def test_params_that_do_not_fit_the_action(action: str, params: Any, what: str) -> None:
    (finding,) = found(entry("aaaa", action, params=params))
    assert (finding.kind, finding.what) == ("params", what)
    assert finding.todo.startswith("edit orders.yaml, then aiops kb seed it again")


def test_params_that_fit() -> None:
    fitting = {"update_connection": {"connection_id": "db"}, "retry_later": {"delay": "5m"}}
    for number, (action, params) in enumerate(fitting.items()):
        assert kinds(entry(f"aaa{number}", action, params=params)) == []
    assert kinds(entry("aaaa", "retry_later")) == []  # it has a default


# ---- what an entry says ----


def test_symptoms_that_name_no_error() -> None:
    wrapper = "airflow.exceptions.AirflowException: Bash command failed. Exit code 1."
    a, b = entry("aaaa", "retry", wrapper), entry("bbbb", "none", "the disk is full")
    (finding,) = found(a, b, entry("cccc", "retry", wrapper.replace("1", "2"), KEY))
    assert (finding.kind, about(finding)) == ("wrapper", {"aaaa", "bbbb"})
    assert finding.commands == ("aiops kb list --source orders.yaml",)
    assert kinds(entry("aaaa", "retry", wrapper, kind="incident")) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"cause": "TODO: ask the vendor"},
        {"cause": "TBD"},
        {"cause": "???"},
        {"cause": "n/a"},
        {"title": "XXX"},
        {"explanation": "Lorem ipsum dolor sit amet"},
    ],
)
def test_text_that_nobody_has_filled_in(fields: Any) -> None:
    assert kinds(entry("aaaa", **fields)) == ["placeholder"]


@pytest.mark.parametrize("cause", ["", "the todo table is locked", "the maximum is none of 3"])
def test_text_that_is_filled_in(cause: str) -> None:
    assert kinds(entry("aaaa", cause=cause)) == []


# ---- entries that nothing was ever judged by ----

USED = {"someone": 1}
LONG_AGO = NOW - UNUSED_AFTER


def test_never_matched() -> None:
    a, b = (entry(name, "none", KEY + name, created_at=LONG_AGO) for name in ("aaaa", "bbbb"))
    other = entry("cccc", created_at=LONG_AGO, source="sales.md:7")
    first, second = found(a, b, other, uses=USED)
    assert (first.kind, about(first)) == ("never_matched", {"aaaa", "bbbb"})
    assert "orders.yaml" in first.what
    assert (second.kind, about(second)) == ("never_matched", {"cccc"})
    assert second.commands == ("aiops kb show cccc",)


@pytest.mark.parametrize(
    ("fields", "uses"),
    [
        ({"created_at": LONG_AGO + timedelta(minutes=1)}, USED),
        ({"created_at": LONG_AGO}, {"aaaa": 1}),
        ({"created_at": LONG_AGO}, {}),  # no failure was judged at all
        ({"created_at": LONG_AGO, "kind": "incident"}, USED),
        ({"created_at": LONG_AGO, "source": "starter/network.yaml:3"}, USED),
    ],
    ids=["young", "used", "nothing judged", "incident", "starter"],
)
def test_not_yet_or_not_to_be_matched(fields: Any, uses: dict[str, int]) -> None:
    assert kinds(entry("aaaa", **fields), uses=uses) == []


def test_old_text_that_was_never_needed_is_stale() -> None:
    old = entry("aaaa", created_at=LONG_AGO, edited="2024-02 by the dba team")
    (finding,) = found(old, uses=USED)
    assert (finding.kind, finding.commands) == (
        "stale",
        ('aiops kb retire aaaa --reason "out of date"',),
    )
    assert "2024-02" in finding.what
    assert kinds(entry("aaaa", created_at=NOW - STALE_AFTER), uses=USED) == ["stale"]


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"created_at": LONG_AGO, "edited": "last spring"}, ["never_matched"]),  # no date: unknown
        ({"created_at": NOW, "edited": "2019-01-01"}, []),  # only just seeded: give it a chance
        ({"created_at": LONG_AGO, "edited": f"{NOW.year}"}, ["never_matched"]),
    ],
)
def test_not_stale(fields: Any, kind: list[str]) -> None:
    assert kinds(entry("aaaa", **fields), uses=USED) == kind


YEAR_AGO: dict[str, Any] = {"created_at": NOW - STALE_AFTER}


@pytest.mark.parametrize(
    ("fields", "uses"),
    [
        ({**YEAR_AGO, "kind": "incident"}, {}),
        ({**YEAR_AGO, "kind": "history"}, {"aaaa": 3}),
        (YEAR_AGO, {"aaaa": 1}),
    ],
    ids=["decided", "learned", "a runbook that was needed once"],
)
def test_what_no_failure_has_needed_for_a_year_is_offered_for_retirement(
    fields: Any, uses: dict[str, int]
) -> None:
    (finding,) = found(entry("aaaa", **fields), uses=uses, lately=USED)
    assert (finding.kind, about(finding)) == ("unused", {"aaaa"})
    assert finding.commands == ('aiops kb retire aaaa --reason "not needed for a year"',)


@pytest.mark.parametrize(
    ("fields", "lately"),
    [
        ({**YEAR_AGO, "kind": "incident"}, {**USED, "aaaa": 1}),
        ({**YEAR_AGO, "kind": "incident"}, {}),  # no failure was judged at all
        ({"created_at": YEAR_AGO["created_at"] + timedelta(minutes=1), "kind": "incident"}, USED),
        ({**YEAR_AGO, "source": "starter/network.yaml:3"}, USED),
    ],
    ids=["needed", "nothing judged", "young", "starter"],
)
def test_what_may_be_needed_still(fields: Any, lately: dict[str, int]) -> None:
    assert kinds(entry("aaaa", **fields), uses=lately, lately=lately) == []


def test_all_that_may_go_is_named_a_few_at_a_time() -> None:
    many = [
        entry(f"aa{number:02}", "none", f"KeyError: 'k{number}'", kind="history", **YEAR_AGO)
        for number in range(12)
    ]
    (finding,) = found(*many, lately=USED)
    assert [command.count("aa") for command in finding.commands] == [5, 5, 2]


def test_many_entries_of_a_file_are_one_finding_with_a_command_that_can_be_typed() -> None:
    many = [
        entry(f"aa{number:02}", "none", f"KeyError: 'k{number}'", created_at=NOW - STALE_AFTER)
        for number in range(40)
    ]
    (finding,) = found(*many, uses=USED)
    assert len(finding.entries) == 40
    assert finding.commands == ("aiops kb list --source orders.yaml",)


def test_what_misleads_comes_first() -> None:
    bad = entry("bbbb", "none", created_at=LONG_AGO)
    assert kinds(
        entry("aaaa", created_at=LONG_AGO), bad, entry("cccc", None, "TODO"), uses=USED
    ) == ["contradiction", "wrapper", "placeholder", "never_matched"]


def test_what_ships_with_the_package_gives_no_finding() -> None:
    shipped = read_runbooks(sorted(base.STARTER.glob("*.yaml")))
    assert len(shipped) > 100
    old = NOW + 3 * STALE_AFTER
    ids = {one.id: 1 for one in shipped[:1]}
    assert lint(shipped, trials=(), uses=ids, lately=ids, takes=TAKES, now=old) == ()


# ---- dates ----


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-02-11", date(2026, 2, 11)),
        ("edited 2026-02-11 by ana", date(2026, 2, 11)),
        ("2026-02-11T03:04:00Z", date(2026, 2, 11)),
        ("2024/2/1", date(2024, 2, 1)),
        ("2024-02", date(2024, 2, 29)),
        ("2024", date(2024, 12, 31)),
        ("11 Feb 2026", date(2026, 2, 11)),
        ("Feb. 2026", date(2026, 2, 28)),
        ("February 11th, 2026", date(2026, 2, 11)),
        ("1. March 2026", date(2026, 3, 1)),
        ("03/04/2025", date(2025, 4, 3)),  # the later of 4 March and 3 April
        ("25.12.2025", date(2025, 12, 25)),
        ("last spring", None),
        ("2024-13-01", None),
        ("31/31/2024", None),
        ("2026-02-30", None),
        ("ticket 2041", None),
        ("", None),
    ],
)
def test_a_date_is_the_last_day_it_can_mean(text: str, day: date | None) -> None:
    assert last_day(text) == day


@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert last_day(text) is None or isinstance(last_day(text), date)


@given(st.dates(date(1990, 1, 1), date(2099, 12, 31)), st.text(alphabet="ab ,:", max_size=5))
def test_an_iso_date_is_read_as_it_is(day: date, around: str) -> None:
    assert last_day(f"{around} {day.isoformat()} {around}") == day


# ---- globs and texts ----

GLOB = st.text(alphabet="ab*?", max_size=6)


@given(st.text(alphabet="ab", max_size=6), GLOB, GLOB)
def test_globs_that_fit_one_name_overlap(name: str, a: str, b: str) -> None:
    if fnmatchcase(name, a) and fnmatchcase(name, b):
        assert globs_overlap(a, b)
    assert globs_overlap(a, b) == globs_overlap(b, a)


@given(GLOB, st.text(alphabet="ab", max_size=6))
def test_a_glob_overlaps_a_name_that_it_fits_and_no_other(glob: str, name: str) -> None:
    assert globs_overlap(glob, name) == fnmatchcase(name, glob)


def test_a_set_is_taken_for_any_character() -> None:
    assert globs_overlap("orders_[ab]", "orders_?")
    assert globs_overlap("orders_[ab]", "orders_b")
    assert not globs_overlap("orders_[ab]", "sales_*")


WORDS = st.sampled_from(
    ["connection", "refused", "orders.load", "time", "KeyError", "db-1", "<n>", "503"]
)


@given(
    st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12, unique=True),
    st.sampled_from([0.3, 0.6, 0.85, 0.95]),
    st.sets(st.integers(0, 11)) | st.just(set(range(12))),
)
@example(["KeyError host", "host KeyError", ""], 0.85, {0})
def test_near_pairs_are_those_of_comparing_each_with_each(
    texts: list[str], bound: float, of: set[int]
) -> None:
    each = {
        (i, j): similarity(texts[i], texts[j])
        for j in range(len(texts))
        for i in range(j)
        if (i in of or j in of) and similarity(texts[i], texts[j]) >= bound
    }
    assert {(i, j): score for i, j, score in near_pairs(texts, bound, of)} == each
