"""`aiops stuck`: what is held against which history, and the reason that is given."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from aiops_cli import stuck as rules
from aiops_cli.airflow.questions import Questions
from tests.airflow_beside import stamp
from tests.airflow_world import RUN
from tests.cli import Cli


def now() -> datetime:
    return datetime.now(timezone.utc)


def ago(**span: float) -> str:
    return stamp(now() - timedelta(**span))


def unfinished(cli: Cli, state: str, since: timedelta, **fields: Any) -> dict[str, Any]:
    """A task instance that has been in this state for so long."""
    begun = stamp(now() - since)
    times = {"scheduled_when": begun, "queued_when": None, "start_date": None}
    if state != "scheduled":
        times["queued_when"] = begun
    if state not in ("scheduled", "queued"):
        times["start_date"] = begun
    task_id = fields.pop("task_id", "load")
    return cli.server.add_instance("orders", task_id, state, **{**times, **fields})


def past(cli: Cli, *, lasted: float, waited: float = 1.0, times: int = 4) -> None:
    """Earlier runs of the task that were like this, in seconds."""
    for number in range(times):
        begun = now() - timedelta(days=number + 1)
        row = cli.server.add_failure("orders", "load", run_id=f"past{number}", ended=begun)
        row |= {
            "state": "success",
            "duration": lasted,
            "scheduled_when": stamp(begun - timedelta(seconds=waited)),
            "start_date": stamp(begun),
        }


def stuck(cli: Cli, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.ok("stuck", *words, "--json").json["stuck"]
    return found


def test_nothing_is_stuck(cli: Cli) -> None:
    unfinished(cli, "running", timedelta(minutes=5))
    assert stuck(cli) == []
    assert "nothing is stuck" in cli.ok("stuck").err


@pytest.mark.parametrize(
    ("state", "age", "usual", "is_stuck"),
    [
        # Three times the longest of its own runs, and at least ten minutes.
        ("running", timedelta(minutes=29), 600, False),
        ("running", timedelta(minutes=31), 600, True),
        ("running", timedelta(minutes=9), 1, False),
        ("running", timedelta(minutes=11), 1, True),
        ("deferred", timedelta(minutes=31), 600, True),
        ("up_for_reschedule", timedelta(minutes=31), 600, True),
        # Without a history.
        ("running", timedelta(hours=5), None, False),
        ("running", timedelta(hours=7), None, True),
        ("queued", timedelta(minutes=14), None, False),
        ("queued", timedelta(minutes=16), None, True),
        ("scheduled", timedelta(minutes=16), None, True),
    ],
)
def test_what_is_too_long(
    cli: Cli, state: str, age: timedelta, usual: float | None, is_stuck: bool
) -> None:
    if usual is not None:
        past(cli, lasted=usual)
    unfinished(cli, state, age)
    found = stuck(cli)
    assert [one["state"] for one in found] == [state] * is_stuck
    if is_stuck:
        assert found[0]["usual_seconds"] == usual
        assert found[0]["seconds"] >= age.total_seconds()


def test_waiting_is_held_against_waiting(cli: Cli) -> None:
    """It always runs for hours and starts at once: an hour in the queue is not usual."""
    past(cli, lasted=7200, waited=20)
    unfinished(cli, "queued", timedelta(hours=1))
    assert [one["usual_seconds"] for one in stuck(cli)] == [20]


def test_two_runs_are_no_history(cli: Cli) -> None:
    past(cli, lasted=1, times=2)
    unfinished(cli, "running", timedelta(hours=1))
    assert stuck(cli) == []


def test_a_person_may_name_the_span(cli: Cli) -> None:
    past(cli, lasted=7200)
    unfinished(cli, "running", timedelta(minutes=3))
    assert len(stuck(cli, "--after", "2m")) == 1
    assert stuck(cli, "--after", "4m") == []
    assert stuck(cli, "other_*", "--after", "2m") == []
    assert len(stuck(cli, "ord*", "--after", "2m")) == 1


def test_young_tasks_cost_one_request(cli: Cli) -> None:
    for number in range(20):
        unfinished(cli, "running", timedelta(minutes=2), run_id=f"r{number}")
    stuck(cli)
    lists = [r for r in cli.server.sent("GET") if r.path.endswith("/taskInstances")]
    assert len(lists) == 1


def test_hundreds_are_read_ahead_politely_and_only_so_many(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler that hangs: all wait, each in a DAG of its own, the first ones longest."""
    monkeypatch.setattr(rules, "MOST_HISTORIES", 30)
    monkeypatch.setattr(rules, "MOST_REASONS", 5)
    for number in range(40):
        begun = ago(hours=10, minutes=-number)
        cli.server.add_instance(
            *(f"dag{number:02}", "load", "scheduled"),
            scheduled_when=begun,
            queued_when=None,
            start_date=None,
        )
    cli.server.blockers[("dag04", RUN, "load", -1)] = ["Trigger rule not met"]
    said = cli.ok("stuck", "--json")
    assert len(said.json["stuck"]) == 40
    assert said.json["stuck"][4]["reasons"] == ["Trigger rule not met"]
    assert "30 of 40 tasks were held against their own history, the longest stuck" in said.err
    assert "asked what blocks 5 of 40 scheduled tasks, the longest stuck" in said.err
    paths = [request.path for request in cli.server.sent("GET")]
    assert sum(path.endswith("/dependencies") for path in paths) == 5
    assert sum(path.endswith("/details") for path in paths) == 0
    assert len(paths) < 30 + 5 + 12


def test_few_are_all_asked_for_and_nothing_is_said_of_it(cli: Cli) -> None:
    unfinished(cli, "scheduled", timedelta(hours=1))
    assert cli.ok("stuck").err == ""


def test_at_most_concurrency_questions_at_once(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        unfinished(cli, "running", timedelta(hours=9), task_id=f"t{number}")
    (cli.home / "aiops.yaml").write_text("concurrency: 3\n")
    together, now, most, calls = threading.Barrier(3), [0], [0], list[str]()
    history, lock = Questions.history, threading.Lock()

    def counted(self: Questions, *args: Any, **options: Any) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            calls.append(args[1])
            first = len(calls) <= 3
        if first:
            together.wait(20)  # three do come together, or this breaks
        try:
            return history(self, *args, **options)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(Questions, "history", counted)
    assert len(stuck(cli)) == 12
    assert (most[0], len(calls)) == (3, 12)


def test_a_pool_that_there_is_not_is_told_at_once(cli: Cli) -> None:
    """No time will help; Airflow says so itself of a task that it has taken up."""
    cli.server.add_pool("default_pool", slots=128, open_slots=1)
    unfinished(cli, "scheduled", timedelta(minutes=1), pool="etl_typo")
    unfinished(cli, "scheduled", timedelta(minutes=1), run_id="other", pool="default_pool")
    (one,) = stuck(cli)
    assert one["reasons"] == ["there is no pool etl_typo"]
    assert one["limit_seconds"] == 0
    said = "Tasks using non-existent pool 'etl_typo' will not be scheduled"
    cli.server.blockers[("orders", RUN, "load", -1)] = [said]
    assert stuck(cli)[0]["reasons"] == [said]
    assert stuck(cli, "--after", "2m") == []


def test_a_pool_without_slots(cli: Cli) -> None:
    unfinished(cli, "scheduled", timedelta(hours=1), pool="etl")
    cli.server.add_pool("etl", slots=4, open_slots=0)
    cli.server.add_pool("default_pool", slots=128, open_slots=0)
    assert stuck(cli)[0]["reasons"] == ["pool etl has no free slot of 4"]


def test_airflows_own_words(cli: Cli) -> None:
    row = unfinished(cli, "scheduled", timedelta(hours=1))
    key = ("orders", row["dag_run_id"], "load", -1)
    cli.server.blockers[key] = ["Trigger rule not met"]
    assert stuck(cli)[0]["reasons"] == ["Trigger rule not met"]


def test_paused_and_broken(cli: Cli) -> None:
    unfinished(cli, "queued", timedelta(hours=1), queue="gpu")
    cli.server.dags["orders"] |= {"is_paused": True, "relative_fileloc": "orders.py"}
    cli.server.add_import_error("orders.py", "boom", bundle_name="dags-folder")
    assert stuck(cli)[0]["reasons"] == [
        "the DAG is paused",
        "orders.py cannot be imported",
        "no worker has taken it from queue gpu",
    ]


@pytest.mark.parametrize(("state", "part"), [("deferred", "triggerer"), ("scheduled", "scheduler")])
def test_a_heart_that_does_not_beat(cli: Cli, state: str, part: str) -> None:
    unfinished(cli, state, timedelta(hours=9))
    cli.server.health = {
        name: {**about, "status": "unhealthy" if name == part else "healthy"}
        for name, about in cli.server.health.items()
    }
    assert stuck(cli)[0]["reasons"] == [f"{part}: unhealthy"]


def test_runs_that_should_exist(cli: Cli) -> None:
    nightly: dict[str, Any] = {"timetable_summary": "@daily", "max_active_runs": 1}
    for name, due in (("late", ago(hours=2)), ("soon", ago(minutes=3)), ("never", None)):
        cli.server.add_dag(name, {"t": ()}, next_dagrun_run_after=due, **nightly)
    cli.server.add_dag("asleep", {"t": ()}, next_dagrun_run_after=ago(days=9), is_paused=True)
    (missing,) = stuck(cli)
    assert (missing["kind"], missing["dag_id"], missing["state"]) == ("run", "late", "missing")
    assert missing["run_id"] is None
    assert missing["reasons"] == []
    cli.server.add_run("late", "r7", state="running")
    assert stuck(cli)[0]["reasons"] == ["max_active_runs 1 reached: r7 still runs"]


def test_a_run_that_does_not_start(cli: Cli) -> None:
    cli.server.add_dag("late", {"t": ()}, max_active_runs=1)
    cli.server.add_run("late", "r1", state="running", queued_at=ago(hours=9))
    cli.server.add_run("late", "r2", state="queued", queued_at=ago(hours=1))
    (one,) = stuck(cli)
    assert (one["run_id"], one["state"]) == ("r2", "queued")
    assert one["reasons"] == ["max_active_runs 1 reached: r1 still runs"]


def test_the_table(cli: Cli) -> None:
    for index in range(3):
        unfinished(cli, "scheduled", timedelta(hours=26, minutes=5), map_index=index, pool="etl")
    cli.server.add_pool("etl", slots=0, open_slots=0)
    said = cli.ok("stuck")
    head, row = said.out.splitlines()
    assert head.split() == ["FOR", "STATE", "TASK", "USUAL", "WHY"]
    assert row.startswith("1d 2h")
    assert "orders.load[0-2] ×3" in row
    assert row.endswith("pool etl has no free slot of 0")


@pytest.mark.parametrize("status", [403, 404])
def test_without_the_right_the_rest_is_told(cli: Cli, status: int) -> None:
    unfinished(cli, "scheduled", timedelta(hours=1))
    for path in ("pools", "importErrors", "dependencies", "details"):
        cli.server.fault(path, times=9, status=status, body=b'{"detail":"no"}')
    assert [one["reasons"] for one in stuck(cli)] == [[]]


def test_it_changes_nothing(cli: Cli) -> None:
    unfinished(cli, "running", timedelta(hours=9))
    stuck(cli)
    assert [r.path for r in cli.server.requests if r.method != "GET"] == ["/auth/token"]
