"""A watch that is left on: its log, its figures, its heartbeat, its end, and what it shows."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aiops_cli import capture, tally
from tests.cli import Cli
from tests.desk import REFUSED
from tests.test_interrupts import terminal
from tests.test_watch_outage import stop, watching

SECONDS = 30  # far more than anything here takes
SAMPLE = re.compile(r'^[a-z_]+\{([a-z_]+="(?:[^"\\]|\\.)*",?)*\} [0-9]+(\.[0-9]+)?$')


def figures(text: str) -> dict[str, float]:
    """The samples of a text in the exposition format, without the instance's name."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP|TYPE) aiops_\w+ ", line)
            continue
        assert SAMPLE.match(line), line
        name, _, value = line.rpartition(" ")
        found[name.replace('instance_name="default"', "").replace("{,", "{")] = float(value)
    return found


def log(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(set(event) >= {"at", "level", "event"} for event in found)
    return found


# ---- the log ----


def test_the_log_is_one_object_a_line(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    said = cli.ok("watch", "--once", "--auto", "--log-format", "json")
    assert "orders.load  pending" in said.out  # what it prints stays
    warned, gap, incident, whole = log(said.err)
    assert (warned["level"], warned["event"]) == ("warning", "message")
    assert "no grant is in force" in warned["message"]
    assert gap["message"] == "the first look: 1 failure to catch up on, newest first"
    assert (incident["event"], incident["dag_id"], incident["status"]) == (
        *("incident", "orders", "pending"),
    )
    assert (whole["event"], whole["result"], whole["incidents"]["pending"]) == ("pass", "whole", 1)
    assert incident["instance"] == whole["instance"] == "default"


def test_the_end_is_in_the_log_too(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_URL"] = "http://127.0.0.1:9"  # nobody listens
    said = cli.run("watch", "--once", "--log-format", "json")
    assert said.code == 3
    events = log(said.err)
    assert [event["result"] for event in events if event["event"] == "pass"] == ["airflow"]
    assert [event["level"] for event in events][-2] == "error"


def test_another_log_format_is_refused(cli: Cli) -> None:
    assert cli.run("watch", "--once", "--log-format", "xml").code == 2


# ---- figures and heartbeat ----


def test_figures_and_heartbeat_in_files(cli: Cli) -> None:
    prom, beat = cli.home / "aiops.prom", cli.home / "beat"
    cli.server.add_failure("orders", "load", events=[REFUSED])
    cli.ok("watch", "--once", "--metrics-file", str(prom), "--heartbeat-file", str(beat))
    found = figures(prom.read_text())
    assert found['aiops_incidents{status="pending"}'] == 1
    assert found['aiops_passes_total{result="whole"}'] == 1
    assert found['aiops_incident_changes_total{status="pending"}'] == 1
    assert found["aiops_last_whole_pass_timestamp_seconds{}"] == pytest.approx(
        cli.clock.now().timestamp()
    )
    assert prom.stat().st_mode & 0o777 == 0o644  # its reader is another user
    assert beat.exists()
    assert [file.name for file in cli.home.iterdir() if "aiops.prom" in file.name] == ["aiops.prom"]


def test_a_pass_without_airflow_is_no_heartbeat(cli: Cli) -> None:
    prom, beat = cli.home / "aiops.prom", cli.home / "beat"
    cli.environ["AIOPS_AIRFLOW_URL"] = "http://127.0.0.1:9"
    said = cli.run(*("watch", "--once", "--metrics-file", str(prom), "--heartbeat-file", str(beat)))
    assert said.code == 3
    assert not beat.exists()
    found = figures(prom.read_text())
    assert found['aiops_passes_total{result="airflow"}'] == 1
    assert found["aiops_last_whole_pass_timestamp_seconds{}"] == 0


def test_a_file_that_cannot_be_written_stops_nothing(cli: Cli) -> None:
    nowhere = cli.home / "nowhere" / "file"
    waits = watching(cli, {3: lambda: signal.raise_signal(signal.SIGTERM)})
    said = cli.ok("watch", "--metrics-file", str(nowhere), "--heartbeat-file", str(nowhere))
    assert len(waits) == 3
    assert said.err.count("cannot be written") == 1


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_figures_are_served_while_it_watches(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    port = free_port()
    served: list[str] = []

    def scrape() -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            served.append(answer.read().decode())
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=SECONDS)
        missing.value.close()
        signal.raise_signal(signal.SIGTERM)

    watching(cli, {2: scrape})
    said = cli.ok("watch", "--metrics-port", str(port))
    assert figures(served[0])['aiops_passes_total{result="whole"}'] == 2
    assert "GET" not in said.err
    with socket.socket() as again:  # closed
        assert again.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_or_none_is_refused(cli: Cli) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        cli.run("watch", "--once", "--metrics-port", str(taken)).refused(2, str(taken))
    cli.run("watch", "--once", "--metrics-port", "http").refused(2, "is no port")
    cli.run("watch", "--once", "--metrics-port", "99999").refused(2, "is no port")


def test_labels_are_escaped() -> None:
    text = tally.prometheus([tally.Tally('a"b\\c\nd', "ask")])
    assert 'instance_name="a\\"b\\\\c\\nd"' in text
    assert all(SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))


# ---- SIGTERM ----


def test_sigterm_ends_a_watch_well(cli: Cli) -> None:
    waits = watching(cli, {1: lambda: signal.raise_signal(signal.SIGTERM)})
    before = signal.getsignal(signal.SIGTERM)
    said = cli.ok("watch", "--log-format", "json")
    assert waits == [30]
    assert log(said.err)[-1]["by"] == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before


class Unheard:
    """SIGTERM comes while Python clears this away: what its handler raises there is dropped."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("when", ["in a pass", "while it waits"])
def test_a_sigterm_that_python_drops_ends_a_watch_all_the_same(cli: Cli, when: str) -> None:
    dropped: list[Any] = []
    cli.monkeypatch.setattr(sys, "unraisablehook", dropped.append)
    poll = capture.poll

    def drop() -> None:
        Unheard()

    def polled(*args: Any, **options: Any) -> Any:
        drop()
        return poll(*args, **options)

    if when == "in a pass":
        cli.monkeypatch.setattr(capture, "poll", polled)
    # A clock that does not end a watch of itself, should this fail.
    waits = watching(cli, {1: drop if when != "in a pass" else stop, 2: stop})
    said = cli.run("watch")
    assert len(dropped) == 1
    assert len(waits) == (when == "while it waits")
    assert said.code == 0


def test_a_single_pass_that_is_ended_is_not_whole(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    beat, poll = cli.home / "beat", capture.poll

    def ended(*args: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return poll(*args, **options)

    with cli.monkeypatch.context() as patch:
        patch.setattr(capture, "poll", ended)
        said = cli.run("watch", "--once", "--heartbeat-file", str(beat))
    assert (said.code, said.out, said.err) == (143, "", "")
    assert not beat.exists()
    assert len(cli.ok("watch", "--once", "--json").lines) == 1  # nothing is lost


@contextmanager
def process(cli: Cli, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = subprocess.Popen(
        [sys.executable, "-m", "aiops_cli", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=cli.process_environ(),
        cwd=cli.home,
        text=True,
    )
    try:
        yield command
    finally:
        command.kill()
        command.communicate()


def until_exists(file: Path) -> None:
    until = time.monotonic() + SECONDS
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_real_sigterm_while_it_waits(cli: Cli) -> None:
    beat = cli.home / "beat"
    with process(cli, "watch", "--interval", "1h", "--heartbeat-file", str(beat)) as command:
        until_exists(beat)
        command.send_signal(signal.SIGTERM)
        out, err = command.communicate(timeout=SECONDS)
    assert (command.returncode, out, err) == (0, "", "")


def test_a_real_sigterm_in_the_middle_of_an_act(cli: Cli) -> None:
    """The clear has reached Airflow and no answer has come: the next pass settles it."""
    cli.mended()
    cli.ok("auto", "grant", "--actions=retry", "--dags=*")
    row = cli.server.add_failure("orders", "load", run_id="second", events=[REFUSED])
    before = len(cli.cleared())
    cli.at_the_act(lambda: cli.server.fault("POST .*/clearTask", hang=SECONDS, takes_effect=True))
    with process(cli, "watch", "--auto", "--interval", "1h") as command:
        until = time.monotonic() + SECONDS
        while len(cli.cleared()) == before:
            assert command.poll() is None, command.communicate()
            assert time.monotonic() < until
            time.sleep(0.01)
        command.send_signal(signal.SIGTERM)
        out, err = command.communicate(timeout=SECONDS)
    assert command.returncode == 0
    assert "Traceback" not in out + err
    cli.server.finish(row)
    cli.ok("watch", "--once", "--auto")
    assert len(cli.cleared()) == before + 1
    (second,) = [
        doc for doc in cli.ok("incidents", "--json").json["incidents"] if doc["run_id"] == "second"
    ]
    assert second["status"] == "resolved"


# ---- telling people ----


def test_watch_tells_people_by_the_addresses_of_the_users_file(cli: Cli) -> None:
    from aiops_cli import services

    told: list[tuple[str, bool]] = []

    class Pager:
        def tell(self, title: str, body: str, *, key: str, over: bool = False) -> None:
            told.append((key, over))

    cli.monkeypatch.setattr(services, "notifier", lambda chosen: Pager() if chosen.notify else None)
    (cli.home / "config.yaml").write_text("notify: ['json://127.0.0.1/secret-key']\n")
    cli.server.add_failure("orders", "load", events=[REFUSED])
    cli.ok("watch", "--once")
    assert told == []
    cli.clock.advance(minutes=6)
    cli.ok("watch", "--once")
    cli.ok("watch", "--once")
    ((key, over),) = told
    assert not over
    (row,) = cli.server.instances.values()
    cli.ok("approve", key.removeprefix("aiops-"), "--action", "retry", "--yes")
    cli.server.finish(row)
    cli.ok("watch", "--once")
    assert told == [(key, False), (key, True)]
    assert "secret-key" not in cli.run("doctor").text


def test_a_project_may_not_say_whom_to_tell(cli: Cli) -> None:
    (cli.home / "aiops.yaml").write_text("notify: ['json://evil.example']\n")
    cli.run("watch", "--once").refused(2, "may not be set by a project's file")


# ---- the view ----


@pytest.mark.file_only
def test_a_terminal_shows_what_came_in_and_what_waits(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    with terminal(cli, "watch", "--interval", "1h") as screen:
        screen.wait_for("for a person")
        screen.wait_for("next ")
        screen.type("\x03")
        assert screen.end() == 130
    for word in ("CAME IN", "orders.load", "DONE", "WAITS", "auto: ask"):
        assert word in screen.screen
    assert "the watch has ended" in screen.screen
    assert "error:" not in screen.screen
    assert "Traceback" not in screen.screen


@pytest.mark.file_only
def test_what_waits_is_told_before_the_first_pass_is_over(cli: Cli, waiting: str) -> None:
    assert waiting
    cli.server.fault("GET .*/taskInstances", times=9, hang=30)
    with terminal(cli, "watch", "--interval", "1h") as screen:
        screen.wait_for("1 for a person")
        assert "no pass yet" in screen.screen
        screen.type("\x03")
        assert screen.end() == 130
