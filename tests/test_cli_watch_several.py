"""Several Airflows in one watch: each is served, told of and remembered by its name, and one that
is away stops nobody."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from threading import Event

import pytest

from aiops_cli.commands import watch_turns
from tests.airflow_server import AirflowServer, Fault
from tests.airflow_world import RUN, Request
from tests.cli import Cli
from tests.desk import REFUSED
from tests.test_cli_watch_ops import SECONDS, figures, log
from tests.test_watch_outage import stop, watching

pytestmark = pytest.mark.file_only

BOTH = ("watch", "--instance", "default,staging")


@pytest.fixture
def staging(cli: Cli) -> Iterator[AirflowServer]:
    """The second Airflow; the first is `cli.server`."""
    with AirflowServer() as server:
        (cli.home / "config.yaml").write_text(
            "instances:\n"
            f"  staging: {{url: '{server.url}', username: oncall, password: oncall-password}}\n"
        )
        cli.server.add_failure("orders", "load", events=[REFUSED])
        server.add_failure("sales", "load", events=[REFUSED])
        yield server


def refuses_logins(server: AirflowServer) -> None:
    server.password = "another"
    server.expired |= set(server.tokens)


def lets_in(server: AirflowServer) -> None:
    server.password = AirflowServer.password


def test_one_pass_goes_through_all_and_names_each(cli: Cli, staging: AirflowServer) -> None:
    said = cli.ok(*BOTH, "--once")
    first, second = sorted(said.out.splitlines())  # whichever is faster
    assert re.match(r"default +\w{4} .* orders\.load  pending", first)
    assert re.match(r"staging +\w{4} .* sales\.load  pending", second)
    assert "default: the first look: 1 failure" in said.err
    assert "staging: the first look: 1 failure" in said.err
    assert cli.ok(*BOTH, "--once").text == ""  # each has its own watermark
    with closing(cli.store()) as store:
        assert store.watermark("default") is not None
        assert store.watermark("staging") is not None
    assert staging.sent("GET")


def test_a_glob_means_all_that_fit(cli: Cli, staging: AirflowServer) -> None:
    assert staging.url
    told = cli.ok("--instance", "*", "watch", "--once", "--json").lines
    assert {(doc["instance"], doc["dag_id"]) for doc in told} == {
        *(("default", "orders"), ("staging", "sales")),
    }
    (again,) = cli.ok("watch", "--instance", "stag*", "--once", "--json").out.splitlines() or [""]
    assert again == ""


def test_one_alone_is_not_named(cli: Cli, staging: AirflowServer) -> None:
    assert staging.url
    said = cli.ok("watch", "--instance", "staging", "--once")
    assert "staging" not in said.text
    assert "sales.load" in said.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("watch", "--once", "--instance", "default,nowhere"), "no Airflow instance is named"),
        (("watch", "--once", "--instance", "prod-*"), "no Airflow instance is named"),
        (("failures", "--instance", "default,staging"), "--instance"),
    ],
)
def test_what_names_nothing_is_refused(
    cli: Cli, staging: AirflowServer, args: tuple[str, ...], words: str
) -> None:
    cli.run(*args).refused(2, words)
    assert staging.requests == []


@pytest.mark.parametrize("away", ["default", "staging"])
@pytest.mark.parametrize("how", ["down", "refuses"])
def test_one_that_is_away_does_not_stop_the_other(
    cli: Cli, staging: AirflowServer, away: str, how: str
) -> None:
    gone, there = (cli.server, staging) if away == "default" else (staging, cli.server)
    if how == "refuses":
        refuses_logins(gone)
    else:
        gone.fault("GET .*", status=503, times=1_000)
    prom, beat = cli.home / "aiops.prom", cli.home / "beat"
    files = ("--metrics-file", str(prom), "--heartbeat-file", str(beat))
    said = cli.run(*BOTH, "--once", *files)
    assert said.code == 3
    assert f"{away}: " in said.err
    assert "1 of 2 Airflows could not be read" in said.err
    (line,) = said.out.splitlines()
    assert ("sales.load" if there is staging else "orders.load") in line
    assert not beat.exists()
    other = "staging" if away == "default" else "default"
    text = prom.read_text()
    assert f'aiops_passes_total{{instance_name="{away}",result="airflow"}} 1' in text
    assert f'aiops_passes_total{{instance_name="{other}",result="whole"}} 1' in text
    assert f'aiops_incidents{{instance_name="{other}",status="pending"}} 1' in text
    assert figures(text.replace("staging", "default"))  # well formed
    gone.faults.clear()
    lets_in(gone)
    said = cli.ok(*BOTH, "--once", *files)  # nothing of it was lost
    assert len(said.out.splitlines()) == 1
    assert beat.exists()


@pytest.fixture
def answers(cli: Cli, staging: AirflowServer) -> Iterator[Event]:
    """Before it is set staging answers nothing."""
    come, take_fault = Event(), staging.take_fault

    def slowly(request: Request) -> Fault | None:
        assert come.wait(SECONDS)
        return take_fault(request)

    cli.monkeypatch.setattr(staging, "take_fault", slowly)
    yield come
    come.set()


def at_each_list(cli: Cli, happens: Callable[[int], object]) -> None:
    """What happens when the first Airflow is asked for what has failed, for the nth time."""
    take_fault, numbers = cli.server.take_fault, count(1)

    def take(request: Request) -> Fault | None:
        if request.path.endswith("/~/taskInstances") and "updated_at_gte" not in request.query:
            happens(next(numbers))
        return take_fault(request)

    cli.monkeypatch.setattr(cli.server, "take_fault", take)


def test_one_that_is_slow_does_not_delay_the_other(cli: Cli, answers: Event) -> None:
    beat = cli.home / "beat"
    beats: list[bool] = []

    def pass_of_the_other(number: int) -> None:
        beats.append(beat.exists())
        if number == 3:
            answers.set()
        if number <= 3:
            run_id, ended = f"run-{number}", cli.clock.now()
            cli.server.add_failure("orders", "load", run_id=run_id, events=[REFUSED], ended=ended)

    at_each_list(cli, pass_of_the_other)
    watching(cli, {2: stop})
    said = cli.run(*BOTH, "--interval", "1s", "--json", "--heartbeat-file", str(beat))
    assert said.code == 130
    told = [(doc["instance"], doc["run_id"]) for doc in said.lines if "instance" in doc]
    assert told.index(("default", "run-2")) < told.index(("staging", RUN))
    assert {run for name, run in told if name == "default"} >= {RUN, "run-1", "run-2", "run-3"}
    assert [name for name, _ in told].count("staging") == 1
    assert not any(beats[:3])  # not while one of them is not read
    assert beat.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_watch_is_ended_while_one_is_slow(cli: Cli, answers: Event, how: signal.Signals) -> None:
    cli.monkeypatch.setattr(watch_turns, "LAST", 0.1)

    def at_the_second(number: int) -> None:
        if number == 2:
            signal.raise_signal(how)

    at_each_list(cli, at_the_second)
    said = cli.run(*BOTH, "--interval", "1s")
    assert not answers.is_set()
    assert said.code == (0 if how == signal.SIGTERM else 130)
    assert "default" in said.out
    assert "orders.load" in said.out  # what was read by then
    assert "staging" not in said.out


def test_an_outage_is_told_once_and_its_end_too(cli: Cli, staging: AirflowServer) -> None:
    """Ever more rarely is the one asked that stays away; the other is, at each pass."""
    asked: list[int] = []

    def asks() -> int:
        return sum(r.path == "/auth/token" for r in staging.requests)

    def begin() -> None:
        refuses_logins(staging)

    def more() -> None:
        asked.append(asks())
        number = len(asked)
        run = f"run-{number}"
        cli.server.add_failure("orders", "load", run_id=run, events=[REFUSED])

    happens = {1: begin, **dict.fromkeys(range(2, 9), more), 9: lambda: lets_in(staging), 16: stop}
    waits = watching(cli, happens)
    said = cli.run(*BOTH, "--interval", "10s")
    assert waits == [10] * 16
    assert said.err.count("staging: ") == 3  # the first look, the outage, its end
    assert said.err.count("trying again, at least every 60 s") == 1
    assert said.err.count("staging: Airflow can be read again") == 1
    assert said.out.count("orders.load") == 8
    assert len(set(asked)) == 3  # at 10, 20 and 40 s, while the other was asked seven times


def test_one_that_is_away_is_tried_at_least_once_a_minute(cli: Cli, staging: AirflowServer) -> None:
    """However long the interval: it may only have been started anew."""
    happens = {1: lambda: refuses_logins(staging), 4: lambda: lets_in(staging), 5: stop}
    waits = watching(cli, happens)
    said = cli.run(*BOTH, "--interval", "5m")
    assert waits == [300, 60, 60, 60, 300]
    assert said.err.count("staging: Airflow can be read again") == 1


def test_the_log_says_which(cli: Cli, staging: AirflowServer) -> None:
    assert staging.url
    events = log(cli.ok(*BOTH, "--once", "--log-format", "json").err)
    passes = [(e["instance"], e["result"]) for e in events if e["event"] == "pass"]
    assert sorted(passes) == [("default", "whole"), ("staging", "whole")]
    seen = [(e["instance"], e["dag_id"]) for e in events if e["event"] == "incident"]
    assert sorted(seen) == [("default", "orders"), ("staging", "sales")]


def test_what_waits_anywhere_is_an_exit_code(cli: Cli, staging: AirflowServer) -> None:
    assert staging.url
    cli.server.instances.clear()
    cli.server.runs.clear()
    assert cli.run(*BOTH, "--once", "--exit-code").code == 10
    assert cli.run("watch", "--once", "--exit-code").code == 0


def test_an_incident_of_another_airflow_is_not_looked_for_in_this_one(
    cli: Cli, staging: AirflowServer
) -> None:
    """Both may have a task instance of the same names: that one has not failed."""
    cli.ok(*BOTH, "--once")
    cli.server.add_instance("sales", "load", "success")
    other = next(
        doc["incident"]
        for doc in cli.ok("incidents", "--json").json["incidents"]
        if doc["instance"] == "staging"
    )
    for command in (
        ("approve", other, "--action=retry", "--yes"),
        ("approve", other, "--action=retry", "--dry-run"),
        ("diagnose", other),
    ):
        cli.run(*command).refused(2, "is of the Airflow staging", "--instance staging")
    assert cli.status(other) == "pending"
    cli.ok("--instance", "staging", "approve", other, "--action=retry", "--yes")
    assert [one.body["task_ids"] for one in staging.sent("POST") if not one.body["dry_run"]]
    assert cli.cleared() == []
