"""Catching up after a gap: nothing is lost, what is recent goes first, and storms are one line."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.airflow import questions
from aiops_cli.airflow.transport import Transport
from tests.airflow_server import AirflowServer, exception
from tests.airflow_world import Request
from tests.cli import Cli, make
from tests.desk import REFUSED
from tests.test_interrupts import terminal
from tests.test_watch_outage import watching

pytestmark = pytest.mark.file_only


def spread(cli: Cli, count: int, days: float) -> None:
    """So many failures, evenly over so many days until a minute ago, by the program's clock."""
    step = timedelta(days=days) / count
    for number in range(count):
        ended = cli.clock.now() - timedelta(minutes=1) - number * step
        cli.server.add_failure("orders", "load", run_id=f"r{number}", events=[REFUSED], ended=ended)


def runs(cli: Cli) -> set[str]:
    listed = cli.ok("incidents", "--limit=999", "--since=30d", "--json").json["incidents"]
    return {doc["run_id"] for doc in listed}


def storm(cli: Cli, count: int) -> None:
    error = exception("OperationalError", 'server at "db" (10.0.0.1), port 5432 refused: timeout')
    for number in range(count):
        cli.server.add_failure(f"dag_{number}", "load", events=[error], ended=cli.clock.now())


# ---- a gap ----


@pytest.mark.parametrize("version", ["3.3.2", "3.1.8"])
def test_after_days_away_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Not even where, while the first page is read, somebody clears what stands on it: by offset
    (3.1) the rows behind it move up, over the page's edge."""
    monkeypatch.setattr(questions, "PAGE", 10)
    with AirflowServer(version) as server:
        cli = make(server, tmp_path, monkeypatch)
        server.add_failure("orders", "load", run_id="before", ended=cli.clock.now())
        assert len(cli.ok("watch", "--once", "--json").lines) == 1
        cli.clock.advance(days=5)
        spread(cli, 25, days=5)
        pages: list[str] = []
        take_fault = server.take_fault

        def take(request: Request) -> Any:
            if request.path.endswith("/dags/~/dagRuns/~/taskInstances"):
                pages.append(request.path)
                if len(pages) == 2:
                    for number in range(3):
                        key = ("orders", f"r{number}", "load", -1)
                        server.instances[key] |= {"state": None, "end_date": None}
            return take_fault(request)

        monkeypatch.setattr(server, "take_fault", take)
        first = cli.ok("watch", "--once", "--json")
        ended = [doc["failed_at"] for doc in first.lines]
        assert ended == sorted(ended, reverse=True)  # newest first
        assert re.search(r"nobody has looked for 5 days: 2\d failures to catch up on", first.err)
        assert len(pages) == 3 + 1  # and one of what workers with slow clocks date back
        second = cli.ok("watch", "--once", "--json")
        assert "catch up" not in second.err  # it is said once
        seen = {doc["run_id"] for said in (first, second) for doc in said.lines}
        assert seen == runs(cli) - {"before"} == {f"r{number}" for number in range(25)}
        assert cli.ok("watch", "--once").text == ""


def test_a_pass_that_is_cut_off_goes_on_where_it_was(cli: Cli) -> None:
    spread(cli, 30, days=0.9)
    stream, calls = Transport.stream, [0]

    def interrupted(self: Transport, *args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 15:
            raise KeyboardInterrupt
        return stream(self, *args, **options)

    with cli.monkeypatch.context() as patch:
        patch.setattr(Transport, "stream", interrupted)
        said = cli.run("watch", "--once")
    assert said.code == 130
    assert "orders.load" in said.out  # what it had read by then
    kept = len(runs(cli))
    assert 0 < kept < 30
    said = cli.ok("watch", "--once")
    assert f"the first look: {30 - kept} failures to catch up on" in said.err
    assert len(runs(cli)) == 30


def test_what_is_recent_is_acted_on_before_the_rest_is_read_and_alone(cli: Cli) -> None:
    cli.mended()
    cli.ok("auto", "grant", "--actions=retry", "--dags=*")
    before = len(cli.cleared())
    cli.clock.advance(days=3)
    now = cli.clock.now()
    for run_id, hours in (("recent", 1), ("old", 7), ("older", 50)):
        ended = now - timedelta(hours=hours)
        cli.server.add_failure("orders", "load", run_id=run_id, events=[REFUSED], ended=ended)
    said = cli.ok("watch", "--once", "--auto", "--json")
    told = {doc["run_id"]: doc["status"] for doc in said.lines}
    assert told == {"recent": "acting", "old": "pending", "older": "pending"}
    assert len(cli.cleared()) == before + 1
    assert "alone only what failed within 6 h" in said.err
    asked = [f"{r.method} {r.path}" for r in cli.server.requests]
    (act,) = [
        place
        for place, r in enumerate(cli.server.requests)
        if r.path.endswith("/clearTaskInstances")
        and not r.body["dry_run"]
        and r.body["dag_run_id"] == "recent"
    ]
    logs = [place for place, what in enumerate(asked) if "/logs/" in what and "/old" in what]
    assert len(logs) == 2
    assert act < min(logs)


def test_who_looks_often_is_told_of_no_gap(cli: Cli) -> None:
    def fails() -> None:
        run_id = f"run-{cli.clock.now():%H%M%S}"
        cli.server.add_failure("orders", "load", run_id=run_id, ended=cli.clock.now())

    def stop() -> None:
        raise KeyboardInterrupt

    watching(cli, {2: fails, 5: fails, 6: stop})
    said = cli.run("watch", "--interval", "15m")
    assert said.out.count("orders.load") == 2
    assert "catch up" not in said.err


def test_a_mark_moves_only_after_a_look_that_found_nothing_old(cli: Cli) -> None:
    spread(cli, 3, days=0.5)

    def mark() -> datetime | None:
        with closing(cli.store()) as store:
            return store.watermark("default")

    cli.ok("watch", "--once")
    assert mark() is None
    cli.ok("watch", "--once")
    assert mark() is not None


# ---- storms ----


def test_in_a_pipe_a_storm_is_one_line(cli: Cli) -> None:
    storm(cli, 50)
    cli.server.add_failure("alone", "load", events=[REFUSED], ended=cli.clock.now())
    lines = cli.ok("watch", "--once").out.splitlines()
    assert len(lines) == 2
    (told,) = [line for line in lines if "50 tasks, 50 DAGs" in line]
    assert "pending · novel · db:5432 does not answer" in told
    shown = cli.ok("incidents", "show", told.split()[0], "--json").json
    assert len(shown["incidents"]) == 50  # its id leads to all of them


def test_as_json_a_storm_is_a_line_for_each(cli: Cli) -> None:
    storm(cli, 50)
    assert len(cli.ok("watch", "--once", "--json").lines) == 50


def test_a_mapped_task_is_one_line(cli: Cli) -> None:
    for index in range(4):
        cli.server.add_failure("files", "load", map_index=index, events=[REFUSED])
    (line,) = cli.ok("watch", "--once").out.splitlines()
    assert "files.load[0-3]" in line
    assert " +3 " in line


def test_on_a_terminal_a_storm_is_one_line(cli: Cli) -> None:
    storm(cli, 50)
    with terminal(cli, "watch", "--interval", "1h") as screen:
        screen.wait_for("next ")
        last = screen.screen[screen.screen.rindex("CAME IN") :]
        assert "50 tasks, 50 DAGs" in last
        assert last.count("dag_") == 0
        # What is said stands above the view: its lines are taken away first, and drawn anew below.
        assert re.search(r"\x1b\[1A\x1b\[2Kthe first look: 50 failures", screen.screen)
        screen.type("\x03")
        assert screen.end() == 130
