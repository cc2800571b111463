"""`learn`: Airflow's history, walked; against the tests' Airflow."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from aiops_cli import learning
from aiops_cli.errors import AirflowNotFound, AirflowUnreachable
from aiops_cli.examine import Desk
from aiops_cli.incidents import Event, Excerpt, TaskInstance, TaskRef
from aiops_cli.learning import Learned, learn
from aiops_cli.seams import Airflow
from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Lesson
from knowledge.signature import LOST, sign
from knowledge.stores.memory import MemoryStore
from tests.airflow_server import exception
from tests.desk import REFUSED, Bench, SetClock, bench
from tests.history import add_clear, add_history

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
HEALED = ["failed", "success"]


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        yield made


@pytest.fixture
def began(at_work: Bench) -> datetime:
    return at_work.clock.now() - 3 * DAY


def walk(at: Bench, days: float = 5, **options: Any) -> Learned:
    return learn(at.desk, since=at.clock.now() - days * DAY, **options)


def lessons(at: Bench) -> list[Lesson]:
    found = at.store.lessons(at.store.lesson_counts())
    return sorted(found, key=lambda one: (one.dag_id, one.run_id, one.try_number))


def logs_read(at: Bench) -> int:
    return sum("/logs/" in request.path for request in at.server.sent("GET"))


def test_each_way_that_a_failure_ended(at_work: Bench, began: datetime) -> None:
    server, later = at_work.server, began + DAY
    add_history(server, "connection", HEALED, began, budgets=[0, 1], events=[REFUSED])
    server.add_event(
        "patch_connection",
        when=began + 5 * MINUTE,
        owner="dba",
        extra=json.dumps({"connection_id": "orders_db", "host": "a-host"}),
    )
    add_history(server, "code", HEALED, later, budgets=[0, 1], versions=[3, 4])
    add_history(server, "in_vain", ["failed", "failed"], later)
    add_history(server, "never", ["failed"], later)
    learned = walk(at_work)
    told = [(one.dag_id, one.action, one.mode, one.outcome) for one in lessons(at_work)]
    assert told == [
        ("code", "none", "person", "fixed"),
        ("connection", "update_connection", "person", "fixed"),
        ("in_vain", "retry", "airflow", "failed"),
    ]
    assert learned.never == 2
    entries = {entry.action: entry for entry in at_work.store.entries(kind="history")}
    assert entries.keys() == {"none", "update_connection"}
    assert entries["update_connection"].params == {"connection_id": "orders_db"}
    assert "a-host" not in str(entries)


def test_own_retry_and_a_persons_clear(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "a_own", HEALED, began)
    add_history(at_work.server, "b_cleared", HEALED, began, budgets=[0, 1])
    add_clear(at_work.server, "b_cleared", began + 5 * MINUTE)
    learned = walk(at_work)
    own, cleared = lessons(at_work)
    assert (own.mode, own.action, own.outcome) == ("airflow", "retry", "fixed")
    assert (cleared.mode, cleared.by, cleared.at) == ("person", "dba", began + 5 * MINUTE)
    (entry,) = at_work.store.entries(kind="history")
    assert entry.action == "retry"
    assert entry.title == "TimeoutError: the price feed took too long"
    assert (learned.entries.added, learned.never, learned.unread.total()) == (1, 0, 0)


def above_load(at: Bench, began: datetime, *, run_id: str = "run-1", dag: str = "orders") -> None:
    """extract ran once more 5 minutes after `began`, stage and load below it; report is beside."""
    server = at.server
    server.add_dag(dag, {"extract": ["stage"], "stage": ["load"], "report": []})
    add_history(server, dag, HEALED, began, run_id=run_id, budgets=[0, 1])
    add_clear(server, dag, began + 5 * MINUTE, run_id=run_id)
    for task, minute in (("extract", 5), ("stage", 0), ("report", 5)):
        start = (began + minute * MINUTE).isoformat()
        server.add_instance(dag, task, "success", run_id=run_id, start_date=start)


def test_what_ran_anew_above_it_takes_the_credit_away(at_work: Bench, began: datetime) -> None:
    above_load(at_work, began)
    add_history(at_work.server, "sales", HEALED, began, budgets=[0, 1])
    add_clear(at_work.server, "sales", began + 5 * MINUTE)
    walk(at_work)
    told = [(one.dag_id, one.action, one.outcome) for one in lessons(at_work)]
    assert told == [("orders", "retry", "unknown"), ("sales", "retry", "fixed")]


def test_what_ran_anew_beside_it_does_not(at_work: Bench, began: datetime) -> None:
    above_load(at_work, began)
    del at_work.server.instances["orders", "run-1", "extract", -1]
    walk(at_work)
    assert [one.outcome for one in lessons(at_work)] == ["fixed"]


@pytest.mark.parametrize("gone", ["the task", "the DAG"])
def test_what_stood_above_a_task_that_is_gone_nobody_knows(
    at_work: Bench, began: datetime, gone: str
) -> None:
    above_load(at_work, began)
    del at_work.server.instances["orders", "run-1", "extract", -1]
    if gone == "the task":
        del at_work.server.tasks["orders"]["load"]
    else:
        del at_work.server.tasks["orders"]
    walk(at_work)
    assert [one.outcome for one in lessons(at_work)] == ["unknown"]


def test_what_stands_above_is_asked_once_for_all_instances_of_a_task(
    at_work: Bench, began: datetime
) -> None:
    above_load(at_work, began)
    for index in range(3):
        add_history(at_work.server, "orders", HEALED, began, budgets=[0, 1], map_index=index)
    add_history(at_work.server, "sales", HEALED, began)  # Airflow's own retry: nothing is asked
    with_one = replace(at_work.desk.settings, concurrency=1)
    at_work.desk = replace(at_work.desk, settings=with_one)
    walk(at_work)
    asked = [one.path for one in at_work.server.sent("GET") if one.path.endswith("/tasks")]
    assert asked == ["/api/v2/dags/orders/tasks"]


def test_twice_changes_nothing_and_reads_no_log_again(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "orders", HEALED, began)
    walk(at_work)
    before, read = at_work.store.revision(), logs_read(at_work)
    assert read == 1
    at_work.server.fault("GET .*/tries", status=500, times=99)  # nor is anything else of it
    assert walk(at_work).lessons == 0
    assert walk(at_work, days=7).lessons == 0, "further back than ever before"
    assert (at_work.store.revision(), logs_read(at_work)) == (before, read)


def test_what_came_since_is_read_the_next_time(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "orders", HEALED, began)
    walk(at_work)
    at_work.clock.advance(days=1)
    add_history(at_work.server, "orders", HEALED, at_work.clock.now() - HOUR, run_id="run-2")
    at_work.server.requests.clear()
    assert walk(at_work).lessons == 1
    days = {
        request.query["end_date_gte"][0][:10]
        for request in at_work.server.sent("GET")
        if "end_date_gte" in request.query
    }
    assert len(days) <= 2, "not all of the days again"


def test_a_failure_that_is_cleared_later_is_learned_then(at_work: Bench, began: datetime) -> None:
    row = add_history(at_work.server, "orders", ["failed"], began)
    assert walk(at_work).never == 1
    at_work.clock.advance(days=1)
    row_now = add_history(
        at_work.server, "orders", HEALED, at_work.clock.now() - HOUR, budgets=[0, 1]
    )
    assert row_now is row
    assert walk(at_work).lessons == 1


def test_a_walk_that_was_stopped_goes_on_where_it_was(at_work: Bench, began: datetime) -> None:
    for number in range(4):
        add_history(
            at_work.server, "orders", HEALED, began + number * DAY / 2, run_id=f"run-{number}"
        )

    def stop(done: int, _of: int | None) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        walk(at_work, tick=stop)
    kept, read = len(lessons(at_work)), logs_read(at_work)
    assert 0 < kept < 4
    assert walk(at_work).lessons == 4 - kept
    assert logs_read(at_work) == 4 == read + 4 - kept
    assert at_work.store.entries(kind="history")


def test_airflow_going_away_keeps_what_was_read(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "orders", HEALED, began, run_id="run-1")
    add_history(at_work.server, "sales", HEALED, began + 2 * DAY)
    at_work.server.fault("GET .*/sales/.*/tries", status=503, times=99)
    with pytest.raises(AirflowUnreachable):
        walk(at_work)
    assert [one.dag_id for one in lessons(at_work)] == ["orders"]
    at_work.server.faults.clear()
    assert walk(at_work).lessons == 1


def test_a_log_that_is_gone_is_counted_and_not_guessed(at_work: Bench, began: datetime) -> None:
    gone = {"event": "Log file not found on worker 'w1'. This attempt may have run elsewhere"}
    add_history(at_work.server, "a", HEALED, began, events=[gone])
    add_history(at_work.server, "b", HEALED, began, events=[{"event": " "}])
    row = add_history(at_work.server, "c", HEALED, began)
    del at_work.server.logs[("c", "run-1", "load", -1), 1]
    assert row
    learned = walk(at_work)
    assert lessons(at_work) == []
    assert learned.unread == {
        "its log is gone": 1,
        learning.NO_ERROR: 1,
        "Airflow has no log of this try": 1,
    }


def test_a_lost_worker_is_known_by_the_event_log(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "orders", HEALED, began, events=[{"event": "starting"}])
    at_work.server.add_event(
        "heartbeat timeout",
        when=began + MINUTE,
        dag_id="orders",
        run_id="run-1",
        task_id="load",
        try_number=1,
        extra="worker w-3 did not answer",
    )
    walk(at_work)
    (learned,) = lessons(at_work)
    assert learned.signature.error_class == LOST


def test_without_a_right_nothing_is_guessed_and_it_is_read_again(
    at_work: Bench, began: datetime
) -> None:
    add_history(at_work.server, "orders", HEALED, began)
    at_work.server.fault("GET .*/eventLogs", status=403, body=b'{"detail":"Forbidden"}', times=1)
    learned = walk(at_work)
    assert (learned.lessons, set(learned.refused)) == (0, {"orders"})
    assert learned.unread.total() == 1
    again = walk(at_work)
    assert (again.lessons, again.refused) == (1, {})


@pytest.fixture
def forbidden(at_work: Bench, began: datetime) -> list[datetime]:
    """When `secret` failed, a DAG whose logs this login may not read; and `orders` did. A walk
    has been there."""
    failed = [began + number * DAY for number in range(3)]
    for number, moment in enumerate(failed):
        for dag in ("orders", "secret"):
            add_history(at_work.server, dag, HEALED, moment, run_id=f"run-{number}")
    at_work.server.fault("GET .*/secret/.*/logs", status=403, body=b'{"detail":"no"}', times=99)
    learned = walk(at_work)
    assert [one.dag_id for one in lessons(at_work)] == ["orders"] * 3
    assert (learned.unread.total(), learned.unread[learning.NO_RIGHT]) == (3, 2)
    assert asked_of(at_work, "secret", "/tries") == 1, "once is enough to know"
    (since,) = learned.refused.values()
    assert since <= failed[0] < since + DAY
    at_work.server.requests.clear()
    return failed


def asked_of(at: Bench, dag: str, what: str) -> int:
    paths = [request.path for request in at.server.sent("GET")]
    return sum(f"/dags/{dag}/" in path and path.endswith(what) for path in paths)


def test_a_right_that_is_missing_for_good_costs_no_other_day_again(
    at_work: Bench, forbidden: list[datetime]
) -> None:
    for _ in range(3):
        at_work.server.requests.clear()
        learned = walk(at_work)
        assert learned.refused.keys() == {"secret"}, "it is told each time"
        assert learned.unread.total() == 1
        assert (asked_of(at_work, "orders", "/tries"), asked_of(at_work, "secret", "/tries")) == (
            0,
            1,
        )
        days = {
            request.query["end_date_gte"][0][:10]
            for request in at_work.server.sent("GET")
            if "end_date_gte" in request.query and "/dags/~/" in request.path
        }
        assert len(days) == 1


def test_with_the_right_all_of_it_is_read(at_work: Bench, forbidden: list[datetime]) -> None:
    at_work.clock.advance(days=1)
    later = at_work.clock.now() - 2 * HOUR
    add_history(at_work.server, "secret", HEALED, later, run_id="run-9")
    assert walk(at_work).unread.total() == 2, "the first of then, and what came since"
    at_work.server.faults.clear()
    learned = walk(at_work)
    assert (learned.lessons, learned.refused) == (4, {})
    at_work.server.requests.clear()
    walk(at_work)
    assert asked_of(at_work, "secret", "taskInstances") == 0


def test_nor_is_a_right_to_see_the_dag_at_all_waited_for(
    at_work: Bench, forbidden: list[datetime]
) -> None:
    at_work.server.fault("GET .*/secret/.*/taskInstances", status=403, body=b'{"detail":"no"}')
    assert walk(at_work).refused.keys() == {"secret"}


def test_a_dag_that_is_gone_is_waited_for_no_longer(
    at_work: Bench, forbidden: list[datetime]
) -> None:
    for run in range(3):
        del at_work.server.instances["secret", f"run-{run}", "load", -1]
    at_work.server.fault("GET .*/secret/.*/taskInstances", status=404, body=b'{"detail":"gone"}')
    assert walk(at_work).refused == {}


def test_what_was_waited_for_before_any_was_is_known_too(at_work: Bench, began: datetime) -> None:
    """As an older version has marked it."""
    add_history(at_work.server, "orders", HEALED, began)
    now = at_work.clock.now()
    old = {"since": (now - 9 * DAY).isoformat(), "until": (now - DAY).isoformat()}
    at_work.store.set_mark("learned prod *", json.dumps(old))
    assert walk(at_work).lessons == 0


def test_what_we_or_another_aiops_did_is_not_learned(at_work: Bench, began: datetime) -> None:
    stamp = "[aiops another] retry of try 1 by ben, incident abcdefghij"
    add_history(at_work.server, "theirs", HEALED, began, budgets=[0, 1], note=stamp)
    learned = walk(at_work)
    assert (learned.lessons, learned.by_aiops) == (0, 1)
    server = at_work.server
    row = server.add_failure("ours", "load", events=[REFUSED])
    at_work.watch()
    (case,) = at_work.store.cases()
    from aiops_cli import respond

    respond.act(at_work.desk, case.incident, action="retry", params={}, by="ana", kind="approve")
    row["note"] = None  # a server that keeps none
    at_work.finish(row)
    at_work.watch()
    at_work.clock.advance(days=1)
    assert walk(at_work).lessons == 0
    assert at_work.store.lesson_counts() == {}


def test_a_dry_run_reads_and_stores_nothing(at_work: Bench, began: datetime) -> None:
    add_history(at_work.server, "orders", HEALED, began)
    before = at_work.store.revision()
    learned = walk(at_work, dry_run=True)
    assert (learned.lessons, at_work.store.revision()) == (1, before)
    assert walk(at_work).lessons == 1, "nor does it say that it was read"


def test_only_the_dags_that_fit(at_work: Bench, began: datetime) -> None:
    for dag in ("orders_etl", "orders_dwh", "sales"):
        add_history(at_work.server, dag, HEALED, began)
    assert walk(at_work, dag="orders_*").lessons == 2
    assert walk(at_work, dag="sales").lessons == 1
    assert walk(at_work).lessons == 0
    with pytest.raises(AirflowNotFound):
        walk(at_work, dag="nope")


def test_older_servers_know_it_too(began: datetime) -> None:
    with bench("3.1.8") as at:
        for number in range(250):
            at.server.add_failure(
                "orders", "load", run_id=f"old-{number}", ended=began, state="failed"
            )
        add_history(at.server, "orders", HEALED, began)
        learned = walk(at)
        assert (learned.lessons, learned.never) == (1, 250)


def test_one_answer_of_a_kind_that_nobody_knows_does_not_stop_the_rest(
    at_work: Bench, began: datetime
) -> None:
    add_history(at_work.server, "a", HEALED, began)
    add_history(at_work.server, "b", HEALED, began)
    at_work.server.fault("GET .*/a/.*/tries", status=400, body=b'{"detail":"no"}')
    learned = walk(at_work)
    assert [one.dag_id for one in lessons(at_work)] == ["b"]
    assert learned.unread.total() == 1


def test_it_is_told_what_was_learned_of_what(at_work: Bench, began: datetime) -> None:
    for number in range(3):
        add_history(at_work.server, "orders", HEALED, began, run_id=f"run-{number}")
    add_history(
        at_work.server,
        "sales",
        ["failed", "failed"],
        began,
        budgets=[0, 1],
        events=[exception("KeyError", "'price'")],
    )
    told = learning.document(at_work.desk, walk(at_work), top=1, dry_run=False)
    assert told["answers"] == [
        {"action": "retry", "by": "airflow", "fixed": 3, "failed": 0, "unknown": 0},
        {"action": "retry", "by": "person", "fixed": 0, "failed": 1, "unknown": 0},
    ]
    (first,) = cast(list[dict[str, Any]], told["failures"])
    assert (first["lessons"], first["headline"]) == (
        3,
        "TimeoutError: the price feed took too long",
    )
    json.dumps(told)


def test_it_is_no_faster_than_so_many_a_second(at_work: Bench, began: datetime) -> None:
    clock = SetClock(began)
    began_at = [clock.now() for _ in learning._spaced(iter([None] * 21), clock)]  # type: ignore[list-item]
    assert (began_at[-1] - began_at[0]).total_seconds() == pytest.approx(
        20 / learning.PER_SECOND, rel=0.01
    )


# ---- ten thousand ----


LAST = 11


@dataclass
class Endless:
    """An Airflow in which each task instance failed ten times first, with logs that weigh."""

    began: datetime
    count: int
    name: str = "prod"
    asked: dict[str, int] = field(default_factory=dict)

    def row(self, number: int, try_number: int) -> TaskInstance:
        start = self.began + number * timedelta(seconds=10) + try_number * MINUTE
        return TaskInstance(
            TaskRef("orders", f"run-{number}", "load"),
            "success" if try_number == LAST else "failed",
            try_number,
            9,
            start_date=start,
            end_date=start + timedelta(seconds=30),
        )

    def troubled(self, *, since: datetime, until: datetime, **_: Any) -> Iterator[TaskInstance]:
        for number in range(self.count):
            live = self.row(number, LAST)
            if live.end_date and since <= live.end_date < until:
                yield live

    def tries(self, ref: TaskRef) -> tuple[TaskInstance, ...]:
        number = int(ref.run_id.removeprefix("run-"))
        return tuple(self.row(number, one) for one in range(1, LAST + 1))

    def events(self, **_: Any) -> tuple[Event, ...]:
        return ()

    def log(self, ref: TaskRef, try_number: int) -> Excerpt:
        return Excerpt(f"{ref.run_id} {try_number}" * 400, (1,), 1)


class Forgetful(MemoryStore):
    """As a store on disk: what was put weighs nothing."""

    def add_lessons(self, lessons: Any) -> int:
        return len(lessons)


def test_ten_thousand_tries_are_read_in_bounded_memory(
    at_work: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = sign("TimeoutError: the feed took 2 s")  # once: it is dear under tracemalloc
    monkeypatch.setattr(learning, "signed", lambda excerpt, _lost: (excerpt, signature))

    def peak(count: int) -> int:
        clock = SetClock()
        airflow = Endless(clock.now() - DAY, count)
        knowledge = KnowledgeBase(Forgetful(clock.now), BuiltinEmbedder())
        settings = replace(at_work.desk.settings, concurrency=2)
        desk = Desk(cast(Airflow, airflow), knowledge, settings, clock)
        tracemalloc.start()
        try:
            learned = learn(desk, since=clock.now() - 2 * DAY)
            top = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert learned.lessons == 10 * count
        return top

    few, many = peak(50), peak(1_000)
    assert many < 2 * few + 2**20


@pytest.mark.parametrize("rows", [learning.ROWS - 1, learning.ROWS])
def test_where_the_run_has_more_rows_than_are_read_nobody_knows_who_ran_it(
    at_work: Bench, began: datetime, rows: int
) -> None:
    """Another aiops' stamp, or a mark, may be among those that were cut off."""
    add_history(at_work.server, "orders", HEALED, began, budgets=[0, 1])
    for _ in range(rows):
        add_clear(at_work.server, "orders", began + 5 * MINUTE)
    walk(at_work)
    (lesson,) = lessons(at_work)
    assert lesson.outcome == ("unknown" if rows == learning.ROWS else "fixed")
    assert len(at_work.store.entries(kind="history")) == (rows < learning.ROWS)
