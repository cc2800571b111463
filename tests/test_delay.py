"""How long to wait: the entry's word, the log's, the record's, the default; never haste."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli import decide
from aiops_cli.config import parse_duration
from aiops_cli.diagnosis.delay import LOG, LONGEST, as_setting, retry_after, timed
from knowledge.evidence import Healing, healing
from tests.builders import NOW, diagnosis, trial
from tests.desk import REFUSED, Bench, bench
from tests.test_respond import approve, fail

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Retry-After: 120", 120),
        ("retry-after=30", 30),
        ("{'Retry-After': '45', 'Server': 'x'}", 45),
        ('"retry_after": 1.5,', 2),
        ("429 Too Many Requests: retry after 30 seconds", 30),
        ("please try again in 20s.", 20),
        ("Retry after 5 minutes.", 300),
        ("Retrying in 2 hours", 7200),
        ("first Retry-After: 10\nthen Retry-After: 60", 60),
        ("Retry-After: 999999", 86400),
        ("Retry-After: Sun, 01 Mar 2026 03:06:00 GMT", 120),
        ("retry-after: Sun, 01 Mar 2026 04:04:00 GMT", 3600),
        ("Retry-After: Sun, 01 Mar 2036 03:06:00 GMT", 86400),
    ],
)
def test_what_a_log_asks_for(text: str, seconds: int) -> None:
    assert retry_after(text, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Retry-After: 0",
        "Retry-After: -5",
        "Retry-After: soon",
        "retry-after-ms: 500",
        "x-no-retry-after: 30",
        "Retry-After: Sun, 01 Mar 2026 03:00:00 GMT",  # over by then
        "Retry-After: Sun, 99 Mar 2026 03:06:00 GMT",
        "Retry-After: 12345678",
        "retry after 10.0.0.1 answers",
        "retry after 3 attempts",
        "it failed again in 2026-03-01",
    ],
)
def test_what_asks_for_nothing(text: str) -> None:
    assert retry_after(text, NOW) is None


@given(st.text(max_size=300))
def test_no_log_breaks_it(text: str) -> None:
    for log in (text, f"Retry-After: {text}", f"retry after {text}"):
        found = retry_after(log, NOW)
        assert found is None or timedelta(0) < found <= LONGEST


@given(st.integers(1, 86400), st.sampled_from(["Retry-After: {}", "retry after {} seconds"]))
def test_whole_seconds_are_read_as_they_stand(seconds: int, words: str) -> None:
    assert retry_after(words.format(seconds), NOW) == timedelta(seconds=seconds)


@given(st.integers(1, 86400))
def test_dates_too(seconds: int) -> None:
    at = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert retry_after(f"Retry-After: {at}", NOW) == timedelta(seconds=seconds)


@given(st.floats(0.001, 86400))
def test_a_setting_reads_back_and_is_never_shorter(seconds: float) -> None:
    wait = timedelta(seconds=seconds)
    read = parse_duration(as_setting(wait))
    assert wait <= read < wait + MINUTE


# --- how long such outages lasted ----------------------------------------------------------------


def rerun(outcome: Any, after: timedelta, run: str = "r", **fields: Any) -> Any:
    """A re-run so long after the failure."""
    return trial(outcome, failed_at=NOW, at=NOW + after, run_id=run, **fields)


def test_nothing_fixed_is_nothing_known() -> None:
    assert healing([]) is None
    assert healing([rerun("failed", MINUTE), rerun(None, HOUR), rerun("superseded", HOUR)]) is None
    assert healing([rerun("fixed", MINUTE, action="set_variable")]) is None


def test_the_median_of_how_long_it_lasted() -> None:
    found = healing([rerun("fixed", n * HOUR, f"r{n}") for n in (1, 2, 6)])
    assert found == Healing(2 * HOUR, 3, waiting=False)


def test_what_came_back_later_was_over_for_a_while() -> None:
    assert healing([rerun("relapsed", HOUR)]) == Healing(HOUR, 1, waiting=False)


def test_an_outage_begins_with_the_first_try_that_failed() -> None:
    first = rerun("failed", 5 * MINUTE)
    second = trial("fixed", failed_at=NOW + 6 * MINUTE, at=NOW + 2 * HOUR, run_id="r")
    assert healing([first, second]) == Healing(2 * HOUR, 1, waiting=True)
    assert healing([second]) == Healing(2 * HOUR - 6 * MINUTE, 1, waiting=False)


def test_what_a_retry_later_waited_counts() -> None:
    later = rerun("fixed", MINUTE, action="retry_later", params={"delay": "2h"})
    assert healing([later]) == Healing(2 * HOUR + MINUTE, 1, waiting=False)
    odd = rerun("fixed", MINUTE, action="retry_later", params={"delay": "soon"})
    assert healing([odd]) == Healing(MINUTE, 1, waiting=False)


def test_one_quick_fix_shows_that_waiting_is_not_needed() -> None:
    trials = [rerun("failed", 5 * MINUTE, "a"), rerun("fixed", 2 * HOUR, "b")]
    assert healing(trials) == Healing(2 * HOUR, 1, waiting=True)
    quick = healing([*trials, rerun("fixed", MINUTE, "c")])
    assert quick is not None
    assert not quick.waiting


# --- whose word counts ---------------------------------------------------------------------------

KNOWN = Healing(110 * MINUTE, 3, waiting=True)
ASKS = "503\nRetry-After: 120"


def later(**params: str) -> Any:
    return diagnosis(action="retry_later", params=params)


def test_the_entrys_own_delay_stands() -> None:
    assert timed(later(delay="5m"), ASKS, NOW, KNOWN) == later(delay="5m")


def test_then_the_logs_word() -> None:
    found = timed(later(), ASKS, NOW, KNOWN)
    assert (found.params, found.delay_from) == ({"delay": "2m"}, LOG)


def test_then_the_record() -> None:
    found = timed(later(), "503", NOW, KNOWN)
    assert found.params == {"delay": "110m"}
    assert found.delay_from == "waiting ended it 3 times, median 1h50"
    once = timed(later(), "503", NOW, Healing(90 * timedelta(seconds=1), 1, waiting=False))
    assert (once.params["delay"], once.delay_from) == ("90s", "it was fixed once, median 2 min")
    assert timed(later(), "", NOW, Healing(90 * HOUR, 1, waiting=False)).params["delay"] == "1440m"


def test_then_the_default() -> None:
    assert timed(later(), "503", NOW, None) == later()


def test_a_retry_that_only_waiting_helped_waits() -> None:
    found = timed(diagnosis(), ASKS, NOW, KNOWN)
    assert (found.action, found.params) == ("retry_later", {"delay": "110m"})
    assert found.entry == diagnosis().entry


@pytest.mark.parametrize("known", [None, Healing(HOUR, 9, waiting=False)])
def test_another_retry_does_not(known: Healing | None) -> None:
    assert timed(diagnosis(), ASKS, NOW, known) == diagnosis()


@pytest.mark.parametrize("action", ["none", None, "set_variable"])
def test_what_runs_nothing_again_is_left_alone(action: str | None) -> None:
    assert timed(diagnosis(action=action), ASKS, NOW, KNOWN) == diagnosis(action=action)


# --- at the desk ---------------------------------------------------------------------------------


def test_a_retry_that_only_waiting_helped_is_proposed_later_and_its_delay_is_not_learnt() -> None:
    with bench() as at:

        def seen(run: str, try_number: int = 1) -> Any:
            ended = at.clock.now()
            row = at.server.add_failure(
                "orders", "load", run_id=run, try_number=try_number, events=[REFUSED], ended=ended
            )
            return row, at.watch()[-1]

        def approved(case: Any) -> None:
            chosen = decide.proposal(
                case, None if case.judgement.document["diagnosis"]["action"] else "retry", {}, None
            )
            decide.approve(at.desk, case, chosen, None, None)

        row, case = seen("first")
        approved(case)
        at.finish(row, "failed", [REFUSED])
        at.watch()
        at.clock.advance(hours=2)
        (again,) = [one for one in at.store.cases() if one.status == "pending"]
        decide.approve(at.desk, again, decide.proposal(again, "retry", {}, None), None, None)
        at.finish(row)
        at.watch()
        _, new = seen("second")
        answer = new.judgement.document["diagnosis"]
        assert answer["action"] == "retry_later"
        assert answer["params"]["delay"].endswith("m")
        assert 118 <= int(answer["params"]["delay"][:-1]) <= 125
        assert answer["delay_from"].startswith("waiting ended it once, median 2h0")
        approved(new)
        (learnt,) = [
            one for one in at.store.entries(kind="incident") if one.action == "retry_later"
        ]
        assert learnt.params == {}


# --- from when on it waits -----------------------------------------------------------------------


@pytest.fixture
def proven() -> Iterator[Bench]:
    """Where a person's `retry_later` by two hours has fixed it, and a grant lets it be done."""
    with bench() as at:
        row = fail(at)
        approve(at, at.only(), "retry_later", delay="2h")
        at.clock.advance(hours=2, minutes=1)
        at.watch()
        at.finish(row)
        at.watch()
        at.clock.advance(hours=25)
        at.grant()
        yield at


def failed(at: Bench, ago: timedelta, run: str = "next") -> Any:
    ended = at.clock.now() - ago
    return at.server.add_failure("orders", "load", run_id=run, events=[REFUSED], ended=ended)


def test_what_is_begun_alone_waits_from_the_failure_on(proven: Bench) -> None:
    failed(proven, timedelta(minutes=90))
    (case,) = proven.watch("auto")
    assert case.claim is not None
    assert case.claim.not_before == case.incident.failed_at + 2 * HOUR


def test_what_has_waited_already_does_not_wait_once_more(proven: Bench) -> None:
    """A follower of a storm, whose canary has waited for all."""
    row = failed(proven, timedelta(hours=3))
    before = len(proven.cleared())
    (case,) = proven.watch("auto")
    assert case.status == "acting"
    assert case.decision is not None
    proven.watch("auto")
    assert len(proven.cleared()) == before + 1
    proven.finish(row)
    proven.watch("auto")
    (trial,) = [one for one in proven.store.trials() if one.mode == "auto"]
    lasted = healing([trial])  # it is not remembered as twice as long, either
    assert lasted is not None
    assert timedelta(hours=3) <= lasted.after < timedelta(hours=3, minutes=1)


def test_a_failure_of_the_future_is_not_waited_for_longer(proven: Bench) -> None:
    """A worker's clock that is ahead."""
    failed(proven, -timedelta(hours=5))
    (case,) = proven.watch("auto")
    assert case.claim is not None
    assert case.claim.not_before is not None
    assert case.claim.not_before <= proven.clock.now() + 2 * HOUR


def test_a_person_is_taken_at_their_word(proven: Bench) -> None:
    failed(proven, timedelta(hours=3))
    (case,) = proven.watch()
    case = approve(proven, case, "retry_later", delay="30m")
    assert case.claim is not None
    assert case.claim.not_before == proven.clock.now() + 30 * MINUTE
