"""A runbook drafted from what people did: nothing invented, and always one that can be read."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.runbook_draft import TITLE_LENGTH, Seen, draft, symptom, tasks_decided_on
from knowledge.records import Brief, Entry, Excerpt, Incident, Vouch
from knowledge.runbooks import read_runbooks
from knowledge.signature import sign
from tests.builders import NOW, incident, vouch
from tests.reports import alone, approved, brief, decided, in_airflow, undone

REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
CORPUS = Path(__file__).parent / "corpus" / "failures.jsonl"


def failed(text: str = REFUSED) -> Incident:
    """An incident with this log."""
    return incident(signature=sign(text), excerpt=Excerpt(text, (1,), 1))


def seen(*briefs: Brief, of: str = REFUSED, vouches: Sequence[Vouch] = ()) -> Seen:
    return Seen(briefs, failed(of), vouches)


def entries(text: str) -> list[Entry]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "draft.yaml"
        file.write_text(text + "\n", encoding="utf-8")
        return list(read_runbooks([file]))


def only(*briefs: Brief, **fields: Any) -> Entry:
    text, count, left_out = draft([seen(*briefs, **fields)], NOW)
    assert (count, left_out) == (1, [])
    (entry,) = entries(text)
    return entry


def test_an_entry_says_what_was_seen_said_and_done() -> None:
    entry = only(
        approved(cause="the database restarts at night"),
        approved(cause="the database restarts at night", by="bo"),
        approved(outcome="failed"),
        alone(["fixed", "relapsed"]),
    )
    assert entry.title == REFUSED
    assert [one.text for one in entry.symptoms] == [REFUSED]
    assert entry.symptoms[0].signature.fingerprint == sign(REFUSED).fingerprint
    assert (entry.cause, entry.action) == ("the database restarts at night", "retry")
    assert entry.explanation == (
        "Seen 4×; retry fixed 2 of 4, failed 1, relapsed 1; decided by ana, bo."
    )
    assert entry.tags == ("draft",)
    assert (entry.safe_to_retry, entry.dags, entry.owner, entry.suggestion_only) == (
        *(None, (), None),
        False,
    )


def test_who_did_it_in_airflow_is_told() -> None:
    entry = only(in_airflow(), in_airflow(), brief())
    assert entry.explanation == "Seen 3×; retry fixed 2 of 2; done in Airflow itself by dba."


def test_params_come_with_the_act_that_helped() -> None:
    short, long = {"delay": "5m"}, {"delay": "2h", "deep": {"list": [1, None, "2024-01-01"]}}
    later = [brief(decided(action="retry_later", params=long), outcome="fixed") for _ in range(2)]
    entry = only(*later, brief(decided(action="retry_later", params=short), outcome="fixed"))
    assert (entry.action, entry.params) == ("retry_later", long)


@pytest.mark.parametrize(
    ("briefs", "action"),
    [
        ([approved(), approved("retry_later"), approved("retry_later")], "retry_later"),
        ([approved("retry_later"), approved()], "retry"),  # the newest of equals
        ([approved(outcome="failed", cause="x")], None),
        ([approved(outcome=["fixed", "relapsed"], cause="x")], None),
        ([undone(), approved(outcome="failed", cause="x")], None),
        ([approved(wrong="paid twice", cause="x")], None),
        ([brief(decided(action="none"))], "none"),
        ([brief(decided(action="none")), approved(outcome="failed")], "none"),
        ([brief(decided(action="none")), approved()], "retry"),
        ([brief(decided("reject", cause="x"))], None),  # what was refused is no answer
        ([alone(), brief(decided("reject", cause="x"))], None),  # nor what nobody approved
        ([in_airflow()], "retry"),
        ([in_airflow(), approved("retry_later"), in_airflow()], "retry"),
        ([in_airflow("update_connection"), approved("retry_later")], "retry_later"),
    ],
)
def test_the_action_is_one_that_a_person_took_and_that_helped(
    briefs: list[Brief], action: str | None
) -> None:
    assert only(*briefs).action == action


@pytest.mark.parametrize(
    "briefs",
    [
        [brief()],
        [alone()],
        [brief(decided("shadow", cause="thought so"))],
        [brief(decided("auto", cause="thought so"))],
        [brief(decided("reject", reason="no"))],
        [approved(outcome="failed")],
        [approved(wrong="paid twice")],
        [in_airflow(outcome="failed")],
        [in_airflow("update_connection")],  # to what?
        [in_airflow(mode="airflow")],
    ],
)
def test_what_nobody_has_answered_is_left_out_and_named(briefs: list[Brief]) -> None:
    assert draft([seen(*briefs)], NOW) == ("", 0, [REFUSED])
    text, count, left_out = draft([seen(*briefs), seen(approved(), of="KeyError: 'x'")], NOW)
    assert (count, left_out) == (1, [REFUSED])
    assert f"#   {REFUSED}\n" in text
    assert [one.title for one in entries(text)] == ["KeyError: 'x'"]


def test_nothing_gives_nothing() -> None:
    assert draft([], NOW) == ("", 0, [])


@pytest.mark.parametrize(
    ("words", "safe"),
    [
        ([], None),
        ([True], None),  # holds for a task, not for an error
        ([False], False),
        ([False, True], None),  # taken back
        ([True, False], False),
    ],
)
def test_a_no_to_running_again_stands_in_the_entry(words: list[bool], safe: bool | None) -> None:
    assert only(approved(), vouches=[vouch(word) for word in words]).safe_to_retry is safe


def test_a_yes_for_one_task_takes_back_no_other_no() -> None:
    words = [vouch(False, task_id="pay"), vouch(True)]
    assert only(approved(), vouches=words).safe_to_retry is False
    text, _, _ = draft([seen(approved(), vouches=words)], NOW)
    assert "# ana said of orders_etl.pay: must not run again\n" in text
    assert "# ana said of orders_etl.load: may run again\n" in text


def test_words_are_looked_for_where_somebody_decided() -> None:
    briefs = [
        approved(task_id="a"),
        brief(decided("reject"), task_id="b"),
        approved(task_id="a", instance="prod"),
        alone(task_id="c"),
        alone(task_id="d", wrong="paid twice"),
        brief(decided("shadow"), task_id="e"),
        approved(task_id="a"),
    ]
    assert tasks_decided_on(briefs) == [
        ("default", "orders_etl", "a"),
        ("default", "orders_etl", "d"),
        ("prod", "orders_etl", "a"),
        ("default", "orders_etl", "b"),
    ]


def test_what_else_was_said_stands_in_comments() -> None:
    text, _, _ = draft(
        [
            seen(
                *[approved(cause="a restart", task_id=f"t{number}") for number in range(7)],
                approved(cause="a firewall"),
                brief(decided("reject", reason="posts to the bank")),
                approved(wrong="paid twice"),
            )
        ],
        NOW,
    )
    for line in (
        "# DRAFT, written by aiops report on 2026-03-01 from what people did. Read it, correct",
        "# also said: a firewall",
        "# refused: posts to the bank",
        "# called wrong: paid twice",
    ):
        assert f"{line}\n" in text
    assert "and others" in text


def test_two_failures_of_one_headline_are_two_entries() -> None:
    other = failed("KeyError: 'unit_price'")
    other = replace(other, signature=replace(other.signature, headline=REFUSED))
    several = [seen(approved()), Seen([approved()], other)]
    text, count, _ = draft(several, NOW)
    assert count == 2
    read = entries(text)
    assert len({one.id for one in read}) == 2
    assert {one.symptoms[0].signature.fingerprint for one in read} == {
        one.newest.signature.fingerprint for one in several
    }


def test_a_long_headline_is_a_short_title() -> None:
    entry = only(approved(), of="ValueError: " + "x" * 500)
    assert len(entry.title) == TITLE_LENGTH


def test_a_secret_that_was_said_is_not_written() -> None:
    text, _, _ = draft([seen(approved(cause="password=hunter2hunter2 was wrong"))], NOW)
    (entry,) = entries(text)
    assert "hunter2hunter2" not in entry.cause


@pytest.mark.parametrize("line", CORPUS.read_text(encoding="utf-8").splitlines()[::4])
def test_the_symptom_is_the_same_failure_when_it_is_read_again(line: str) -> None:
    one = failed(json.loads(line)["text"])
    assert sign(symptom(one)).fingerprint == one.signature.fingerprint


DRIVING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
TEXT = st.text(max_size=60) | st.sampled_from(
    [
        "- x: [",
        "#",
        "'",
        '"',
        "|",
        "---",
        "...",
        "null",
        "404",
        "&a *a",
        "\x85",
        "\u2028# x\n- y",
        "\u202egnp\x1b[2J",
    ]
)


def test_params_that_look_like_a_secret_are_left_out_and_said_to_be() -> None:
    params = {"connection_id": "orders_db", "password": "hunter2hunter2"}
    one = brief(decided(action="update_connection", params=params), outcome="fixed")
    text, _, _ = draft([seen(one)], NOW)
    (entry,) = entries(text)
    assert (entry.action, entry.params) == ("update_connection", {})
    assert "hunter2" not in text
    assert "# its params are left out: they look like a secret\n" in text


@given(TEXT, TEXT, TEXT, st.booleans())
def test_whatever_was_said_the_draft_can_be_read(
    log: str, said: str, name: str, done: bool
) -> None:
    words: dict[str, Any] = {"cause": said, "reason": said, "by": name, "params": {"note": said}}
    decision = decided(action="retry" if done else "none", **words)
    refused = decided("reject", reason=said, by=name)
    one = brief(decision, outcome="fixed" if done else (), wrong="", dag_id=name, task_id=name)
    whole = Seen(
        [one, brief(refused, dag_id=said)],
        failed(f"ValueError: {log}"),
        [vouch(False, by=name, dag_id=said)],
    )
    text, count, left_out = draft([whole, seen(brief(), of=f"KeyError: {log}")], NOW)
    assert (count, len(left_out)) == (1, 1)
    (entry,) = entries(text)
    assert entry.action == decision.action
    assert entry.tags == ("draft",)
    assert entry.safe_to_retry is False
    assert not {unicodedata.category(one) for one in text if one != "\n"} & DRIVING
