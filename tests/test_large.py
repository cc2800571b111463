"""Thousands of failures: the first of them are shown before the last are fetched, in bounded
memory, a few requests at a time."""

from __future__ import annotations

import re
import sys
import threading
import tracemalloc
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from aiops_cli.airflow.transport import Transport
from tests.airflow_server import exception
from tests.airflow_world import Request
from tests.cli import Cli

PAGE = 100


def fill(cli: Cli, count: int, dags: int = 20) -> None:
    """So many failures of one world, each of its own second; every log is the same."""
    end = datetime.now(timezone.utc) - timedelta(minutes=5)
    events = [exception("ConnectionRefusedError", "[Errno 111] Connection refused")]
    for number in range(count):
        ended = end - timedelta(seconds=number)
        dag, run = f"dag{number % dags}", f"run{number // dags}"
        cli.server.add_failure(dag, "load", run_id=run, events=events, ended=ended)


def watch_output(cli: Cli) -> list[tuple[str, int]]:
    """(what was asked of Airflow, how many lines of data had been shown by then), in order."""
    seen: list[tuple[str, int]] = []
    take_fault = cli.server.take_fault

    def take(request: Request) -> Any:
        out: Any = sys.stdout
        shown = out.buffer.getvalue().count(b"\n") if hasattr(out.buffer, "getvalue") else 0
        seen.append((request.path, shown))
        return take_fault(request)

    cli.monkeypatch.setattr(cli.server, "take_fault", take)
    return seen


def test_failures_shows_its_first_page_before_it_asks_for_the_next(cli: Cli) -> None:
    fill(cli, 450)
    seen = watch_output(cli)
    said = cli.ok("failures")
    pages = [shown for path, shown in seen if path.endswith("/taskInstances")]
    assert pages == [0, 101, 201, 301, 401]
    lines = said.out.splitlines()
    assert len(lines) == 451
    assert lines[0].startswith("ENDED")
    assert said.out.count("ENDED") == 1
    starts = {line.index("dag") for line in lines[1:]}
    assert len(starts) == 1  # one layout from the first to the last page


def test_diagnose_shows_rows_before_all_pages_and_logs_are_read(cli: Cli) -> None:
    fill(cli, 130)
    seen = watch_output(cli)
    said = cli.ok("diagnose")
    logs = [shown for path, shown in seen if "/logs/" in path]
    pages = [shown for path, shown in seen if path.endswith("/taskInstances")]
    assert len(logs) == 130
    assert logs[0] == 0
    assert logs[-1] > 0
    assert pages[-1] > 0
    assert len(cli.ok("incidents", "--limit=999", "--json").json["incidents"]) == 130
    assert said.out.count("ACTION") == 1
    assert re.search(r"20 tasks", said.out)  # the storm, as far as it was read


@pytest.mark.parametrize("count", [3, 40])
def test_a_log_that_airflow_cannot_send_keeps_no_other_from_being_read(
    cli: Cli, count: int
) -> None:
    """It may be broken where logs are kept: each time that it is asked for, Airflow has a 500."""
    fill(cli, count)
    cli.server.fault("/dags/dag1/.*/logs/", times=99, status=500)
    said = cli.ok("diagnose", "--json")
    read = {one["dag_id"] for one in said.json["incidents"]}
    assert "dag1" not in read
    assert len(read) == min(count, 20) - 1
    assert "dag1.load: not read: Airflow" in said.err
    cli.run("diagnose", "dag1", "--run=run0", "--json").told(
        3, "airflow_unreachable", "the log of dag1.load"
    )
    cli.server.fault("/api/v2/", times=999, status=500)
    cli.run("diagnose", "--json").told(3, "airflow_unreachable", "status 500")


def test_at_most_so_many_logs_are_read_at_once(cli: Cli) -> None:
    fill(cli, 40)
    stream, lock = Transport.stream, threading.Lock()
    now, peak = [0], [0]

    def counted(self: Transport, *args: Any, **options: Any) -> Any:
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        try:
            return stream(self, *args, **options)
        finally:
            with lock:
                now[0] -= 1

    cli.monkeypatch.setattr(Transport, "stream", counted)
    (cli.home / "aiops.yaml").write_text("concurrency: 2\n")
    cli.ok("diagnose")
    assert 1 <= peak[0] <= 2


def test_the_store_is_written_by_one_thread(cli: Cli) -> None:
    from knowledge.stores.sqlite import SqliteStore

    fill(cli, 30)
    writers: set[int] = set()
    add = SqliteStore.add_incident

    def noted(self: SqliteStore, incident: Any) -> bool:
        writers.add(threading.get_ident())
        return add(self, incident)

    cli.monkeypatch.setattr(SqliteStore, "add_incident", noted)
    cli.ok("watch", "--once")
    assert writers == {threading.get_ident()}


@pytest.mark.parametrize("command", [["diagnose"], ["watch", "--once"]])
def test_ctrl_c_keeps_what_was_read(cli: Cli, command: list[str]) -> None:
    fill(cli, 60)
    stream, calls = Transport.stream, [0]

    def interrupted(self: Transport, *args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 30:
            raise KeyboardInterrupt
        return stream(self, *args, **options)

    with cli.monkeypatch.context() as patch:
        patch.setattr(Transport, "stream", interrupted)
        said = cli.run(*command)
    assert said.code == 130
    assert "interrupted; nothing was lost" in said.err
    kept = len(cli.ok("incidents", "--limit=999", "--json").json["incidents"])
    assert 0 < kept < 60
    cli.ok("watch", "--once")
    assert len(cli.ok("incidents", "--limit=999", "--json").json["incidents"]) == 60


@pytest.mark.parametrize("command", ["failures", "diagnose"])
def test_three_times_as_many_need_little_more_memory(cli: Cli, command: str) -> None:
    """The server of the tests, whose world grows, is counted too."""

    def peak(count: int) -> int:
        fill(cli, count)
        tracemalloc.start()
        try:
            cli.ok(command)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    cli.ok(command)  # what is imported is not counted
    few = peak(101)
    many = peak(303)
    assert many < 1.8 * few, (few, many)
