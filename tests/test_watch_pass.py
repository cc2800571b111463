"""One pass of the watch where one thing is odd: an answer, a clock, days away, a pause."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from aiops_cli.errors import AirflowUnreachable
from knowledge.records import Pause
from tests.desk import REFUSED, Bench, bench
from tests.test_respond import approve, fail

LOG = "GET .*/dags/bad/.*/logs/.*"


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        yield made


def seen(at: Bench) -> set[str]:
    return {case.incident.dag_id for case in at.store.cases()}


def test_a_log_that_airflow_chokes_on_keeps_nothing_else_from_being_read(at_work: Bench) -> None:
    now = at_work.clock.now()
    at_work.server.add_failure("older", "load", events=[REFUSED], ended=now - timedelta(minutes=9))
    at_work.server.add_failure("bad", "load", events=[REFUSED], ended=now - timedelta(minutes=5))
    at_work.server.fault(LOG, status=500, times=100)
    at_work.watch()
    assert seen(at_work) == {"older"}
    assert "bad.load" in at_work.warnings[-1]
    at_work.server.faults.clear()
    at_work.watch()
    assert seen(at_work) == {"older", "bad"}


def test_many_logs_that_do_not_come_are_not_all_waited_for(at_work: Bench) -> None:
    now = at_work.clock.now()
    fail(at_work)
    at_work.watch()
    for number in range(40):
        ended = now - timedelta(minutes=number)
        at_work.server.add_failure("bad", "load", run_id=f"r{number}", ended=ended)
    at_work.server.fault(LOG, status=500, times=1000)
    at_work.watch()
    asked = {r.path for r in at_work.server.requests if "/dags/bad/" in r.path and "logs" in r.path}
    assert 5 <= len(asked) < 15
    at_work.server.faults.clear()
    at_work.watch()
    assert len(at_work.store.cases(dag="bad")) == 40


def test_an_airflow_that_is_away_ends_the_pass(at_work: Bench) -> None:
    at_work.server.add_failure("bad", "load", events=[REFUSED])
    at_work.server.fault(LOG, status=500, times=100)
    at_work.server.fault("GET .*/monitor/health", status=503, times=100)
    with pytest.raises(AirflowUnreachable):
        at_work.watch()


def test_one_that_cannot_be_settled_keeps_no_other_from_it(at_work: Bench) -> None:
    rows = []
    for dag in ("bad", "good"):
        rows.append(at_work.server.add_failure(dag, "load", events=[REFUSED]))
        at_work.watch()
        (case,) = at_work.store.cases(status=["pending"])
        approve(at_work, case)
    for row in rows:
        at_work.finish(row)
    at_work.server.fault("GET .*/dags/bad/.*/taskInstances/load$", status=500, times=100)
    assert [case.incident.dag_id for case in at_work.watch()] == ["good"]


def test_an_end_in_the_future_hides_nothing(at_work: Bench) -> None:
    """A worker's clock writes it; other workers' clocks are right."""
    tomorrow = at_work.clock.now() + timedelta(days=1)
    at_work.server.add_failure("skewed", "load", events=[REFUSED], ended=tomorrow)
    at_work.watch()
    at_work.watch()
    at_work.clock.advance(minutes=5)
    at_work.server.add_failure("sales", "load", events=[REFUSED], ended=at_work.clock.now())
    at_work.watch()
    assert seen(at_work) == {"skewed", "sales"}


def test_what_failed_days_apart_is_no_storm(at_work: Bench) -> None:
    """The newest is read first after days away."""
    now = at_work.clock.now()
    at_work.store.set_watermark("prod", now - timedelta(days=6))
    for run, ago in (("a", 0), ("b", 20), ("c", 40), ("d", 5 * 24 * 60), ("e", 5 * 24 * 60 + 9)):
        ended = now - timedelta(minutes=ago)
        at_work.server.add_failure("orders", "load", run_id=run, events=[REFUSED], ended=ended)
    at_work.watch()
    groups = {case.incident.run_id: case.incident.group for case in at_work.store.cases()}
    assert groups["a"] == groups["b"] == groups["c"]
    assert groups["d"] == groups["e"] != groups["a"]


def test_a_pause_while_the_plan_is_made_stops_what_waited(at_work: Bench) -> None:
    row = fail(at_work)
    approve(at_work, at_work.only(), "retry_later", delay="1m")
    at_work.clock.advance(minutes=2)
    at_work.watch()
    at_work.finish(row)
    at_work.watch()
    at_work.grant()
    at_work.clock.advance(hours=25)
    at_work.server.add_failure(
        "orders", "load", run_id="next", events=[REFUSED], ended=at_work.clock.now()
    )
    (case,) = at_work.watch("auto")
    assert case.status == "acting"
    at_work.clock.advance(minutes=2)
    before, clear = at_work.cleared(), at_work.desk.airflow.clear

    def slowly(*args: Any, **options: Any) -> Any:
        if options["dry_run"]:
            at_work.store.set_pause(Pause(True, "ben", at_work.clock.now()))
        return clear(*args, **options)

    at_work.desk.airflow.clear = slowly  # type: ignore[method-assign]  # somebody pauses meanwhile
    at_work.watch("auto")
    assert at_work.cleared() == before
    assert at_work.store.case(case.incident.id).status == "pending"


# ---- what Airflow never sends ----


def notice_of(at: Bench, dag: str) -> str:
    (case,) = at.store.cases(dag=dag)
    assert case.judgement is not None
    assert case.judgement.document["decision"] == "novel"
    assert not case.incident.excerpt.text
    return str(case.incident.context["notice"])


def test_a_log_that_never_comes_is_waited_for_an_hour_and_then_a_person_is_told(
    at_work: Bench,
) -> None:
    now = at_work.clock.now()
    at_work.server.add_failure("bad", "load", events=[REFUSED], ended=now - timedelta(minutes=5))
    at_work.server.fault(LOG, status=500, times=10_000)
    for _ in range(3):
        at_work.watch()
        at_work.clock.advance(minutes=15)
    assert seen(at_work) == set()
    assert len([said for said in at_work.warnings if "bad.load" in said]) == 1  # not of each pass
    at_work.clock.advance(minutes=16)
    (case,) = at_work.watch()
    assert case.status == "pending"
    assert "did not send its log within 1 h" in notice_of(at_work, "bad")
    at_work.server.faults.clear()
    before = len(at_work.server.requests)
    assert at_work.watch() == []
    assert not [r for r in at_work.server.requests[before:] if "/logs/" in r.path]


def test_what_cannot_be_read_of_a_run_either_is_told_all_the_same(at_work: Bench) -> None:
    """The rows around a try, and the tasks of a run that timed out."""
    now = at_work.clock.now()
    at_work.server.add_failure("bad", "load", events=[REFUSED], ended=now - timedelta(minutes=5))
    at_work.server.add_run("slow", "r1", end_date=(now - timedelta(minutes=5)).isoformat())
    at_work.server.fault(LOG, status=500, times=10_000)
    at_work.server.fault("GET .*/dags/(bad|slow)/", status=500, times=10_000)
    at_work.watch()
    assert seen(at_work) == set()
    at_work.clock.advance(minutes=61)
    at_work.watch()
    assert seen(at_work) == {"bad", "slow"}
    assert {case.status for case in at_work.store.cases()} == {"pending"}
    assert {case.incident.kind for case in at_work.store.cases()} == {"task", "run"}


def test_older_ones_do_not_wait_behind_logs_that_never_come(at_work: Bench) -> None:
    now = at_work.clock.now()
    at_work.store.set_watermark("prod", now - timedelta(hours=12))
    for number in range(12):
        ended = now - timedelta(minutes=number)
        at_work.server.add_failure("bad", "load", run_id=f"r{number}", ended=ended)
    at_work.server.add_failure("older", "load", events=[REFUSED], ended=now - timedelta(hours=2))
    at_work.server.add_failure("oldest", "load", events=[REFUSED], ended=now - timedelta(hours=9))
    at_work.server.fault(LOG, status=500, times=10_000)
    for _ in range(3):
        at_work.watch()
    assert seen(at_work) == {"older", "oldest"}
    at_work.clock.advance(minutes=61)
    for _ in range(3):
        at_work.watch()
    assert len(at_work.store.cases(dag="bad")) == 12


def test_the_watermark_goes_on_though_one_log_after_the_other_does_not_come(
    at_work: Bench,
) -> None:
    """There is always one that is still waited for."""
    at_work.server.fault(LOG, status=500, times=10_000)
    for number in range(8):
        at_work.clock.advance(minutes=30)
        ended = at_work.clock.now() - timedelta(minutes=1)
        at_work.server.add_failure("bad", "load", run_id=f"r{number}", ended=ended)
        at_work.watch()
        at_work.watch()
    mark = at_work.store.watermark("prod")
    assert mark is not None
    assert at_work.clock.now() - mark < timedelta(hours=2)


# ---- a worker's clock that is behind ----


@pytest.mark.parametrize("version", ["3.3.2", "3.1.8"])
@pytest.mark.parametrize("behind", [timedelta(hours=1, minutes=5), timedelta(hours=14)])
def test_a_clock_that_is_hours_behind_hides_nothing(version: str, behind: timedelta) -> None:
    with bench(version) as at:
        at.server.add_failure("sales", "load", events=[REFUSED], ended=at.clock.now())
        at.watch()
        at.clock.advance(minutes=5)
        now = at.clock.now()
        row = at.server.add_failure("slow", "load", events=[REFUSED], ended=now - behind)
        at.server.changed[row["dag_id"], row["dag_run_id"], "load", -1] = now
        assert [case.incident.dag_id for case in at.watch()] == ["slow"]
        assert seen(at) == {"sales", "slow"}
        at.clock.advance(minutes=1)
        at.server.add_failure("sales", "load", run_id="next", ended=at.clock.now())
        assert [case.incident.run_id for case in at.watch()] == ["next"]


def test_looking_for_such_clocks_is_one_request(at_work: Bench) -> None:
    """What failed long ago is not listed, not even where somebody has just left a note on it."""
    fail(at_work)
    at_work.watch()
    at_work.clock.advance(days=3)
    at_work.server.add_failure("sales", "load", events=[REFUSED], ended=at_work.clock.now())
    at_work.watch()
    ended = at_work.clock.now() - timedelta(days=20)
    row = at_work.server.add_failure("old", "load", events=[REFUSED], ended=ended)
    at_work.server.changed["old", row["dag_run_id"], "load", -1] = at_work.clock.now()
    before = len(at_work.server.requests)
    assert at_work.watch() == []
    lists = [r for r in at_work.server.requests[before:] if r.path.endswith("/~/taskInstances")]
    assert len(lists) == 2
