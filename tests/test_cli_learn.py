"""`aiops learn` as somebody types it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from tests.airflow_server import exception
from tests.cli import Cli
from tests.history import MINUTE, add_clear, add_history

HEALED = ["failed", "success"]
BEGAN = datetime.now(timezone.utc) - timedelta(days=2)


@pytest.fixture
def past(cli: Cli) -> Cli:
    """A price feed that Airflow's own retry and somebody's clear brought back."""
    add_history(cli.server, "orders", HEALED, BEGAN)
    add_history(cli.server, "sales", HEALED, BEGAN, budgets=[0, 1])
    add_clear(cli.server, "sales", BEGAN + 5 * MINUTE)
    return cli


def test_what_was_read_and_learned_as_json(past: Cli) -> None:
    document = past.run("learn", "--since", "5d", "--json").json
    assert document["answers"] == [
        {"action": "retry", "by": "airflow", "fixed": 1, "failed": 0, "unknown": 0},
        {"action": "retry", "by": "person", "fixed": 1, "failed": 0, "unknown": 0},
    ]
    assert (document["lessons"], document["entries"]) == (2, {"added": 1, "changed": 0})
    assert document["stored"]
    (entry,) = past.run("kb", "list", "--kind", "history", "--json").json["entries"]
    shown = past.run("kb", "show", entry["entry"], "--json").json
    assert shown["record"]["fixed"] == 1, "what Airflow retried by itself is no outcome"


def test_what_was_read_and_learned_for_a_person(past: Cli) -> None:
    del past.server.logs[("orders", "run-1", "load", -1), 1]
    said = past.run("learn", "--since", "5d")
    for words in (
        "2 task instances",
        "1 lesson; of the entries 1 new",
        "1 tries: Airflow has no log of this try",
        "retry by a person: fixed 1",
        "1x TimeoutError: the price feed took too long",
    ):
        assert words in said.text


def test_twice_learns_nothing_new(past: Cli) -> None:
    past.run("learn", "--since", "5d")
    document = past.run("learn", "--since", "5d", "--json").json
    assert (document["lessons"], document["entries"]) == (0, {"added": 0, "changed": 0})


def test_a_dry_run_says_so_and_stores_nothing(past: Cli) -> None:
    said = past.run("learn", "--since", "5d", "--dry-run")
    assert "nothing was stored" in said.err
    assert "2 lessons" in said.text
    assert "entries" not in said.text, "how many those would be is not worked out"
    assert past.run("kb", "list", "--kind", "history", "--json").json["entries"] == []


def test_a_machines_clear_is_told_as_one_and_is_no_outcome(past: Cli) -> None:
    config = past.home / "config.yaml"
    config.write_text('machine_logins: ["db?"]\n')
    told = past.run("learn", "--since", "5d", "--dry-run").text
    assert "retry by a machine: fixed 1" in told
    document = past.run("learn", "--since", "5d", "--json").json
    assert document["answers"] == [
        {"action": "retry", "by": "airflow", "fixed": 1, "failed": 0, "unknown": 0},
        {"action": "retry", "by": "machine", "fixed": 1, "failed": 0, "unknown": 0},
    ]
    (entry,) = past.run("kb", "list", "--kind", "history", "--json").json["entries"]
    shown = past.run("kb", "show", entry["entry"], "--json").json
    assert shown["record"]["fixed"] == 0
    config.write_text("")
    shown = past.run("kb", "show", entry["entry"], "--json").json
    assert shown["record"]["fixed"] == 1, "what was learned stays what it was"


def test_a_dag_that_this_login_may_not_read_is_told(past: Cli) -> None:
    past.server.fault("GET .*/sales/.*/logs", status=403, body=b'{"detail":"no"}', times=9)
    said = past.run("learn", "--since", "5d", "--json").json
    (refused,) = said["refused"]
    assert refused["dag_id"] == "sales"
    assert refused["since"] <= f"{BEGAN:%Y-%m-%d}T99"
    assert f"sales since {refused['since'][:10]}" in past.run("learn", "--since", "5d").text


def test_only_some_dags(past: Cli) -> None:
    assert past.run("learn", "s*", "--since", "5d", "--json").json["lessons"] == 1


def test_a_dag_that_there_is_not(past: Cli) -> None:
    past.run("learn", "nope", "--since", "2d", "--json").told(3, "airflow_not_found", "nope")


@pytest.mark.parametrize("length", ["90", "soon"])
def test_a_length_of_time_needs_its_unit(cli: Cli, length: str) -> None:
    cli.run("learn", "--since", length, "--json").told(2, "usage", length)


def test_airflow_away_is_told_and_what_was_read_is_kept(past: Cli) -> None:
    past.server.fault("GET .*/sales/.*/tries", status=503, times=99)
    past.run("learn", "--since", "5d", "--json").told(3, "airflow_unreachable")
    past.server.faults.clear()
    assert past.run("learn", "--since", "5d", "--json").json["lessons"] >= 1
    assert len(past.run("kb", "list", "--kind", "history", "--json").json["entries"]) == 1


def test_what_a_log_says_cannot_move_the_terminal(cli: Cli) -> None:
    hostile = exception("ValueError", "\x1b[2J[red]gone[/red]\u202e")
    add_history(cli.server, "orders", HEALED, BEGAN, events=[hostile])
    said = cli.run("learn", "--since", "5d")
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    assert "[red]gone[/red]" in said.out
