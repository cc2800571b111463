"""What a report counts, and how."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.report import by_signature, done_elsewhere, ending, worst_dags
from aiops_cli.report_value import (
    LISTED,
    SHOWN,
    Acts,
    Closed,
    DagRow,
    Fix,
    PlainRetry,
    Shadow,
    Span,
    document,
)
from knowledge.lessons import PROMPT, briefs_apart
from knowledge.records import Decision
from tests.desk import bench
from tests.reports import (
    COLUMN,
    DAY,
    FULL,
    HOUR,
    MINUTE,
    RUNS,
    SINCE,
    UNTIL,
    alone,
    approved,
    brief,
    counted,
    decided,
    in_airflow,
    undone,
    week,
)
from tests.test_noticing import cleared, ended, failed

NOBODY = Span(0, None, None)


def test_an_empty_time_counts_nothing() -> None:
    told = counted()
    assert (told.incidents, told.signatures, told.recurring, told.lost) == (0, 0, 0, 0)
    assert told.closed == Closed(0, {}, 0, 0, 0)
    assert told.plain_retry == PlainRetry(0, 0, 0, 0)
    assert told.alone == told.people == Acts()
    assert told.times.retry_alone == told.times.fix_people == NOBODY
    assert not any((told.failures, told.novel, told.dags, told.tasks, told.wrong))
    assert [day.count for day in told.per_day] == [0] * 8


@pytest.mark.parametrize(
    ("one", "how"),
    [
        (brief(), "waiting"),
        (brief(decided("shadow")), "waiting"),
        (brief(decided("auto")), "waiting"),  # not settled
        (brief(decided("auto"), outcome="unknown"), "waiting"),
        (brief(decided("auto"), outcome="fixed", claim="needs_human"), "waiting"),
        (alone(), "alone"),
        (alone("failed"), "unfixed"),
        (alone(["fixed", "relapsed"]), "unfixed"),
        (alone(wrong="paid twice"), "unfixed"),
        (alone("superseded"), "elsewhere"),
        (brief(decided("auto", "none")), "alone"),  # told without a question
        (approved(), "person"),
        (approved(outcome="failed"), "unfixed"),
        (brief(decided("approve", "none")), "person"),
        (brief(decided("reject")), "person"),
        (brief(decided("superseded", None)), "elsewhere"),
        (brief(decided("auto"), decided("approve"), outcome="fixed"), "person"),
        (brief(decided("approve"), decided("shadow")), "waiting"),
        (undone(), "unfixed"),
        (undone(kind="auto"), "unfixed"),
        (undone("superseded"), "unfixed"),
    ],
)
def test_each_incident_ended_in_one_way(one: Any, how: str) -> None:
    assert ending(one) == how


def test_who_resolved_what() -> None:
    told = counted(
        alone(), alone(), approved(by="bo"), approved(by="ana"), approved(by="bo"), brief()
    )
    assert told.closed == Closed(
        alone=2, people={"bo": 2, "ana": 1}, elsewhere=0, unfixed=0, waiting=1
    )


def test_what_a_plain_retry_would_have_done() -> None:
    told = counted(
        alone(),  # right
        approved(),  # right
        approved(outcome="failed"),
        alone(["fixed", "relapsed"]),
        brief(decided("approve", "none")),
        brief(decided("reject")),
        brief(decided("reject", None)),  # nothing was proposed, and nothing was to be done
        alone(wrong="paid twice"),
        approved("retry_later", wrong="paid twice"),
        # Nobody can know:
        approved("retry_later"),  # would one at once have done?
        brief(),
        brief(decided("superseded", None)),
        alone("unknown"),
        brief(decided("shadow")),
        brief(decided("approve")),
        brief(decided("reject", "none")),
        brief(decided("reject", "resize_pool")),
    )
    assert told.plain_retry == PlainRetry(known=9, right=2, wasted=5, harmful=2)


def test_acts_are_counted_by_what_came_of_them() -> None:
    told = counted(
        alone(),
        alone("failed"),
        alone(["fixed", "relapsed"]),
        alone(wrong="paid twice"),
        brief(decided("auto")),
        approved(outcome="unknown"),
        brief(decided("auto"), decided("approve"), outcome="fixed"),
        brief(decided("approve", "none")),
        brief(decided("reject")),
    )
    assert told.alone == Acts(done=6, fixed=1, failed=1, relapsed=1, wrong=1, open=2)
    assert told.people == Acts(done=2, fixed=1, open=1)


def test_an_act_that_was_undone_fixed_nothing() -> None:
    told = counted(undone(), undone("failed"), undone(kind="auto"), undone("superseded"))
    assert told.people == Acts(done=3, failed=1, undone=2)
    assert told.alone == Acts(done=1, undone=1)
    assert told.closed == Closed(0, {}, elsewhere=0, unfixed=4, waiting=0)
    assert told.failures[0].fixes == (
        Fix("set_variable", done=4, fixed=0, failed=1, relapsed=0, wrong=0, undone=3),
    )
    assert told.times.fix_people == told.times.fix_alone == NOBODY
    assert told.lost_until_fixed == 0


def test_a_no_where_nobody_knew_the_end_undid_nothing() -> None:
    """What was killed on the way needs a human, who may say no to the next proposal."""
    assert counted(undone("unknown")).people == Acts(done=1, open=1)


def test_acts_called_wrong_are_named_newest_first() -> None:
    first = alone(wrong="paid twice")
    later = approved(wrong="it posted", at=DAY)
    told = counted(first, later, alone()).wrong
    assert [(one.incident, one.alone, one.by, one.reason) for one in told] == [
        (later.incident_id, False, "bo", "it posted"),
        (first.incident_id, True, "bo", "paid twice"),
    ]


def test_of_many_that_were_wrong_some_are_named_and_all_are_counted() -> None:
    told = counted(*(alone(wrong="paid twice") for _ in range(SHOWN + 3)))
    assert len(told.wrong) == SHOWN
    assert told.alone.wrong == SHOWN + 3


def test_time_to_retry_is_from_the_failure_to_the_first_act() -> None:
    waits = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]
    told = counted(*(brief(decided(after=MINUTE * n), outcome="fixed") for n in waits)).times
    assert told.retry_people == Span(10, 330, 540)
    assert told.retry_alone == NOBODY
    again = brief(decided("auto", after=MINUTE), decided(after=HOUR), outcome="fixed")
    told = counted(again).times
    assert told.retry_alone == Span(1, 60, 60)
    assert told.retry_people == NOBODY  # the tool had tried before
    assert (told.fix_alone, told.fix_people) == (NOBODY, Span(1, 3600, 3600))


def test_time_to_fix_is_of_what_was_fixed_for_good() -> None:
    told = counted(
        alone(),
        approved(fixed_after=2 * HOUR),
        approved(outcome=["fixed", "relapsed"]),
        approved(outcome="failed"),
        alone(wrong="paid twice"),
    ).times
    assert told.fix_alone == Span(1, 300, 300)
    assert told.fix_people == Span(1, 7200, 7200)


def test_a_decision_before_the_failure_took_no_time() -> None:
    """The clocks of two machines differ."""
    odd = brief(decided(after=-HOUR), outcome="fixed", fixed_after=-HOUR)
    told = counted(odd)
    assert told.times.retry_people == told.times.fix_people == Span(1, 0, 0)
    assert told.lost == 60


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ([], "waiting"),
        ([decided("approve", "retry")], "same"),
        ([decided("approve", "retry", params={"a": 1})], "otherwise"),
        ([decided("approve", "none")], "otherwise"),
        ([decided("approve", "retry_later")], "otherwise"),
        ([decided("reject", "retry")], "otherwise"),
        ([decided("superseded", None)], "elsewhere"),
        ([decided("auto", "retry")], "elsewhere"),
        ([decided("reject", "retry"), decided("approve", "retry")], "otherwise"),
    ],
)
def test_shadow_is_held_against_what_a_person_then_did(later: list[Decision], said: str) -> None:
    before = decided("shadow", seq=0)
    told = counted(brief(before, *later)).shadow
    assert told == Shadow(wrote=1, **(dict.fromkeys(NAMES, 0) | {said: 1}))


NAMES = ("same", "otherwise", "elsewhere", "waiting")


@pytest.mark.parametrize(
    ("written", "done", "said"),
    [
        ("retry", "retry", "same"),
        ("retry_later", "retry", "same"),  # whenever that was
        ("retry", "none", "otherwise"),  # new code
        ("retry", "update_connection", "otherwise"),
        ("retry", None, "elsewhere"),  # marked by hand, or too much at once
    ],
)
def test_shadow_is_held_against_what_a_person_then_did_in_airflow(
    written: str, done: str | None, said: str
) -> None:
    one = in_airflow(done, before=[decided("shadow", written)])
    assert counted(one).shadow == Shadow(1, **(dict.fromkeys(NAMES, 0) | {said: 1}))


def test_what_the_watch_noticed_in_airflow_is_in_the_report() -> None:
    with bench() as at:
        row = failed(at)
        about = at.only().incident
        at.store.record(Decision(about.id, "shadow", at.clock.now(), "cron", "retry"))
        cleared(at, row)
        at.watch()
        ended(at, row)
        at.watch()
        briefs = at.store.briefs()
        told = counted(*briefs, since=at.clock.now() - DAY, until=at.clock.now())
    assert told.shadow == Shadow(wrote=1, same=1, otherwise=0, elsewhere=0, waiting=0)
    assert told.closed.elsewhere == told.plain_retry.right == 1
    assert told.lost_until_fixed > 0


def test_what_was_done_in_airflow_itself_counts_where_it_is_known() -> None:
    late = in_airflow()  # of a retry at once it says nothing
    assert late.lesson is not None
    late = replace(late, lesson=replace(late.lesson, at=late.failed_at + PROMPT + MINUTE))
    told = counted(
        in_airflow(),
        in_airflow(outcome="failed"),
        in_airflow("none"),
        in_airflow(outcome="unknown"),
        in_airflow(mode="airflow"),
        in_airflow(None),
        late,
    )
    assert told.closed == Closed(0, {}, elsewhere=7, unfixed=0, waiting=0)
    assert told.plain_retry == PlainRetry(known=3, right=1, wasted=2, harmful=0)
    assert told.failures[0].fixes == (
        Fix("retry", done=3, fixed=2, failed=1, relapsed=0, wrong=0),
        Fix("none", done=1, fixed=1, failed=0, relapsed=0, wrong=0),
    )
    assert told.lost_until_fixed == 3 * 3600
    assert told.alone == told.people == Acts()


def test_of_what_was_decided_here_a_lesson_says_nothing() -> None:
    here = replace(approved(outcome="failed"), lesson=in_airflow().lesson)
    told = counted(here, here)
    assert told.plain_retry == PlainRetry(known=2, right=0, wasted=2, harmful=0)
    assert (told.lost_until_fixed, told.failures[0].fixes[0].done) == (0, 2)


def test_shadow_is_not_held_against_what_came_before() -> None:
    told = counted(brief(decided("reject", "retry"), decided("shadow"))).shadow
    assert told == Shadow(wrote=1, same=0, otherwise=0, elsewhere=0, waiting=1)
    params = {"delay": "15m"}
    both = (
        decided("shadow", "retry_later", params=params),
        decided(action="retry_later", params=params),
    )
    assert counted(brief(*both), brief()).shadow == Shadow(1, 1, 0, 0, 0)


def test_what_keeps_coming_back() -> None:
    told = counted(*week(), runs=RUNS)
    assert (told.incidents, told.signatures, told.recurring) == (20, 4, 3)
    refused, full, column = told.failures
    assert (refused.count, refused.dags, refused.tasks, refused.days) == (14, 2, 3, 6)
    assert refused.task == "orders_etl.load"
    assert refused.fixes == (Fix("retry", done=11, fixed=9, failed=0, relapsed=1, wrong=1),)
    assert refused.causes == ("the orders database restarts at night",)
    assert (full.count, full.lost) == (3, 3 * 60 + 3 * 3 * 3600)
    assert (full.first_seen, full.last_seen) == (SINCE, SINCE + 2 * DAY)
    assert full.fixes == (Fix("retry_later", done=3, fixed=3, failed=0, relapsed=0, wrong=0),)
    assert column.fixes == (Fix("none", done=1, fixed=0, failed=0, relapsed=0, wrong=0),)
    assert column.waiting == 1
    newest = [one for one in week() if one.headline == COLUMN][-1]
    assert (column.incident, column.last_seen) == (newest.incident_id, SINCE + 6 * DAY)


def test_the_dearest_of_equally_frequent_ones_goes_first() -> None:
    cheap = [brief(what=FULL, duration=1.0) for _ in range(2)]
    dear = [brief(what=COLUMN, duration=99.0) for _ in range(2)]
    assert [one.error_class for one in by_signature([*cheap, *dear])] == ["KeyError", "OSError"]


def test_causes_are_those_said_most_often_and_a_few() -> None:
    said = ["a", "b", "b", "c", "d", "d", "d", " ", ""]
    (one,) = by_signature([approved(cause=cause) for cause in said])
    assert one.causes == ("d", "b", "a")


def test_a_failure_without_a_signature_is_counted_but_is_no_kind() -> None:
    told = counted(brief(fingerprint=""), brief(fingerprint=""))
    assert (told.incidents, told.signatures, told.failures) == (2, 0, ())


def test_what_no_runbook_answers_to_may_have_come_once() -> None:
    once, twice = brief(what=FULL), [brief(), brief()]
    told = counted(once, *twice, unwritten=[once.fingerprint, "of another week"])
    assert [one.fingerprint for one in told.novel] == [once.fingerprint]
    assert [one.fingerprint for one in told.failures] == [twice[0].fingerprint]


def test_the_cost_is_failed_tries_and_the_time_until_fixed() -> None:
    told = counted(
        approved(fixed_after=HOUR),
        approved(outcome="failed"),
        brief(duration=None),
    )
    assert (told.lost_in_tries, told.lost_until_fixed, told.lost) == (120, 3600, 3720)
    assert sum(one.lost for one in told.dags) == sum(one.lost for one in told.tasks) == 3720


def test_the_rate_has_all_ended_runs_as_its_denominator() -> None:
    mapped = [brief(run_id="one", task_id=f"t{number}") for number in range(5)]
    told = counted(*mapped, brief(run_id="two"), runs={("default", "orders_etl"): 8})
    assert told.dags == (
        DagRow("default", "orders_etl", count=6, failed_runs=2, runs=8, rate=0.25, lost=360),
    )


def test_a_run_that_is_not_done_again_is_one_too() -> None:
    (row,) = counted(brief(), brief(), runs={("default", "orders_etl"): 1}).dags
    assert (row.failed_runs, row.runs, row.rate) == (2, 2, 1.0)


def test_without_airflow_the_rates_are_missing_and_the_rest_is_there() -> None:
    told = counted(*week(), missing=["nobody answers"])
    assert {row.runs for row in told.dags} == {row.rate for row in told.dags} == {None}
    assert told.missing == ("nobody answers",)
    assert told.dags[0].count == 12


def test_two_airflows_may_have_a_dag_of_one_name() -> None:
    told = counted(brief(), brief(instance="prod"), runs={("prod", "orders_etl"): 4})
    assert [(row.instance, row.runs, row.rate) for row in told.dags] == [
        ("default", None, None),
        ("prod", 4, 0.25),
    ]


def test_runs_and_files_that_failed_are_no_tasks() -> None:
    run = brief(kind="run", task_id="")
    file = brief(kind="import", dag_id="", run_id="dags/orders.py", task_id="", what=COLUMN)
    told = counted(run, file, unwritten=[run.fingerprint, file.fingerprint])
    assert told.tasks == ()
    assert [row.dag_id for row in told.dags] == ["orders_etl"]
    assert worst_dags([file]) == []
    assert {one.task for one in told.novel} == {"orders_etl (run)", "dags/orders.py"}


def test_long_lists_are_cut_and_what_they_are_cut_from_is_told() -> None:
    several = [
        brief(what=f"Error{number}: x", dag_id=f"dag{number:03}")
        for number in range(LISTED + 5)
        for _ in range(2)
    ]
    told = counted(*several, unwritten=[one.fingerprint for one in several])
    assert (len(told.failures), len(told.novel)) == (SHOWN, SHOWN)
    assert (len(told.dags), len(told.tasks)) == (LISTED, LISTED)
    assert told.recurring == LISTED + 5


def test_every_day_is_there() -> None:
    told = counted(alone(at=DAY), approved(at=DAY), brief(at=3 * DAY)).per_day
    assert [(one.day, one.count, one.alone) for one in told][:4] == [
        ("2026-03-02", 0, 0),
        ("2026-03-03", 2, 1),
        ("2026-03-04", 0, 0),
        ("2026-03-05", 1, 0),
    ]
    assert told[-1].day == "2026-03-09"


def test_the_document_has_every_field_and_is_json() -> None:
    told = document(counted(*week(), runs=RUNS))
    assert json.loads(json.dumps(told)) == told
    assert told["since"] == "2026-03-02T03:04:00.000Z"
    assert told["until"] == "2026-03-09T03:04:00.000Z"
    assert told["closed"]["people"] == {"ana": 4, "bo": 3}
    assert told["failures"][0]["fixes"][0]["action"] == "retry"
    assert told["instance"] is None


DECISIONS = st.builds(
    decided,
    st.sampled_from(["approve", "reject", "auto", "shadow", "superseded"]),
    st.sampled_from(["retry", "retry_later", "none", None]),
    after=st.timedeltas(-HOUR, DAY),
    by=st.sampled_from(["ana", "bo"]),
)
OUTCOMES = st.lists(
    st.sampled_from(["fixed", "failed", "relapsed", "superseded", "unknown"]), max_size=3
)
BRIEFS = st.builds(
    lambda several, outcome, wrong, fields: brief(
        *several, outcome=outcome, wrong=wrong if several else "", **fields
    ),
    st.lists(DECISIONS, max_size=4),
    OUTCOMES,
    st.sampled_from(["", "paid twice"]),
    st.fixed_dictionaries(
        {
            "at": st.timedeltas(timedelta(), UNTIL - SINCE),
            "what": st.sampled_from([FULL, COLUMN]),
            "dag_id": st.sampled_from(["a", "b"]),
            "kind": st.sampled_from(["task", "run", "import"]),
            "duration": st.none() | st.floats(0, 1e6),
            "claim": st.sampled_from([None, "claimed", "acting", "done", "needs_human"]),
        }
    ),
)


@given(st.lists(BRIEFS, max_size=12))
def test_the_parts_add_up_whatever_happened(briefs: list[Any]) -> None:
    told = counted(*briefs)
    closed = told.closed
    ended = (
        closed.alone,
        *closed.people.values(),
        closed.elsewhere,
        closed.unfixed,
        closed.waiting,
    )
    assert sum(ended) == told.incidents == len(briefs)
    retry = told.plain_retry
    assert retry.right + retry.wasted + retry.harmful == retry.known <= len(briefs)
    for acts in (told.alone, told.people):
        assert (
            acts.fixed + acts.failed + acts.relapsed + acts.wrong + acts.undone + acts.open
            == acts.done
        )
    shadow = told.shadow
    assert shadow.same + shadow.otherwise + shadow.elsewhere + shadow.waiting == shadow.wrote
    assert sum(day.count for day in told.per_day) == len(briefs)
    assert sum(day.alone for day in told.per_day) == closed.alone
    assert sum(one.count for one in by_signature(briefs)) == len(briefs)
    assert all(row.failed_runs <= row.count for row in told.dags)
    assert abs(told.lost - told.lost_in_tries - told.lost_until_fixed) <= 1


def test_what_a_machine_ran_again_is_no_persons() -> None:
    briefs = [in_airflow(), approved()]
    assert briefs_apart(briefs, []) == tuple(briefs)
    told = briefs_apart(briefs, ["db*"])
    assert [done_elsewhere(one) for one in told] == [None, None]
    assert done_elsewhere(briefs[0]) is not None
