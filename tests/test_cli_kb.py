"""`aiops kb`: what is known, from where, and what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import Cli
from tests.desk import REFUSED

BOOK = """\
- title: The orders database restarts at night
  error: "ConnectionRefusedError: [Errno 111] Connection refused"
  cause: nightly restart
  action: retry
  safe_to_retry: true
- title: A row without a price
  error: "KeyError: 'unit_price'"
  cause: the partner sends no price
  action: none
"""


def write(cli: Cli, text: str = BOOK, name: str = "book.yaml") -> Path:
    file = cli.home / name
    file.write_text(text)
    return file


def titles(cli: Cli, *args: str) -> list[str]:
    return [entry["title"] for entry in cli.ok("kb", "list", *args, "--json").json["entries"]]


def test_seeding_twice_changes_nothing(cli: Cli) -> None:
    file = str(write(cli))
    first = cli.ok("kb", "seed", file, "--json").json
    assert first == {"added": 2, "changed": 0, "same": 0, "retired": 0}
    assert cli.ok("kb", "seed", file, "--json").json["same"] == 2
    assert "0 added, 0 changed, 2 as they were, 0 retired" in cli.ok("kb", "seed", file).out
    assert len(titles(cli)) == 2


def test_what_vanished_is_retired_and_not_lost(cli: Cli) -> None:
    file = write(cli)
    cli.ok("kb", "seed", str(file))
    file.write_text("".join(BOOK.splitlines(keepends=True)[:5]))
    assert cli.ok("kb", "seed", str(file), "--json").json["retired"] == 1
    assert titles(cli) == ["The orders database restarts at night"]
    assert len(titles(cli, "--retired")) == 2
    assert "(retired)" in cli.ok("kb", "list", "--retired").out


def test_a_seeded_runbook_answers(cli: Cli) -> None:
    cli.ok("kb", "seed", str(write(cli)))
    incident = cli.capture("orders", events=[REFUSED])
    document = cli.ok("incidents", "show", incident, "--json").json
    assert document["diagnosis"]["action"] == "retry"
    assert document["diagnosis"]["by"] == "exact"
    assert document["decision"] == "ask"  # a runbook suggests, it proves nothing
    assert "book.yaml" in document["matches"][0]["source"]


def test_a_folder_of_runbooks(cli: Cli) -> None:
    folder = cli.home / "runbooks"
    folder.mkdir()
    (folder / "a.yaml").write_text(BOOK)
    text = "# Disk full\n\n```\nOSError: [Errno 28] No space left\n```\n\ncause: old logs\n"
    (folder / "b.md").write_text(text)
    assert cli.ok("kb", "seed", str(folder), "--json").json["added"] == 3


def test_add_list_show_and_search(cli: Cli) -> None:
    text = "ConnectionRefusedError: [Errno 111] Connection refused"
    said = cli.ok(
        *("kb", "add", "--title", "Restart", "--error", text, "--cause", "nightly restart"),
        *("--action", "retry", "--dag", "orders_*", "--safe-to-retry", "--json"),
    )
    entry = said.json
    assert (entry["title"], entry["action"], entry["dags"]) == ("Restart", "retry", ["orders_*"])
    assert (entry["safe_to_retry"], entry["owner"], entry["kind"]) == (True, "ana", "runbook")
    (listed,) = cli.ok("kb", "list", "--json").json["entries"]
    assert listed == entry
    shown = cli.ok("kb", "show", entry["entry"][:5], "--json").json
    assert shown == entry | {"record": shown["record"]}
    card = cli.ok("kb", "show", entry["entry"]).out
    assert "nightly restart" in card
    assert "no outcome yet" in card
    (found,) = cli.ok("kb", "search", text, "--json").json["entries"]
    assert (found["entry"], found["found"], found["similarity"]) == (entry["entry"], "exact", 1.0)
    assert "1.00  retry" in cli.ok("kb", "search", text).out
    assert cli.ok("kb", "search", "-", "--json", stdin=text).json["entries"] == [found]


def test_add_reads_a_log_from_stdin_and_keeps_no_secret(cli: Cli) -> None:
    log = "OperationalError: connection to postgresql://etl:hunter2pass@db/x failed\n"
    said = cli.ok(
        *("kb", "add", "--title", "t", "--error", "-", "--cause", "c", "--json"), stdin=log
    )
    assert "hunter2pass" not in said.out
    assert "OperationalError" in said.json["symptoms"][0]
    assert b"hunter2pass" not in cli.kb.read_bytes()


def test_title_and_cause_keep_no_secret(cli: Cli) -> None:
    secret = "postgresql://etl:hunter2pass@db/x"
    said = cli.ok("kb", "add", "--title", secret, "--cause", secret, "--error", "E: x", "--json")
    assert "hunter2pass" not in said.out
    assert b"hunter2pass" not in cli.kb.read_bytes()


def test_adding_the_same_twice_is_one_entry(cli: Cli) -> None:
    for _ in range(2):
        cli.ok("kb", "add", "--title", "t", "--error", "ValueError: x", "--cause", "c")
    assert titles(cli) == ["t"]


def test_show_tells_what_came_of_it(cli: Cli) -> None:
    cli.mended()
    (entry,) = cli.ok("kb", "list", "--kind", "incident", "--json").json["entries"]
    record = cli.ok("kb", "show", entry["entry"], "--json").json["record"]
    assert record["fixed"] == 1
    assert "fixed 1" in cli.ok("kb", "show", entry["entry"]).out


def test_list_by_kind(cli: Cli) -> None:
    cli.mended()
    cli.ok("kb", "add", "--title", "t", "--error", "ValueError: x", "--cause", "c")
    assert titles(cli, "--kind", "runbook") == ["t"]
    assert len(titles(cli, "--kind", "incident")) == 1
    assert titles(cli, "--kind", "history") == []


def test_nothing_is_said_on_stderr(cli: Cli) -> None:
    said = cli.ok("kb", "list")
    assert (said.out, said.err) == ("", "nothing is known yet\n")
    said = cli.ok("kb", "search", "ValueError: x")
    assert (said.out, said.err) == ("", "nothing fits\n")


def test_it_needs_no_airflow(cli: Cli) -> None:
    cli.environ = {k: v for k, v in cli.environ.items() if "AIRFLOW" not in k}
    cli.ok("kb", "seed", str(write(cli)))
    cli.ok("kb", "search", "KeyError: 'unit_price'")
    assert cli.server.requests == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["add", "--title", "t", "--error", "x", "--cause", "c", "--action", "dance"], "no action"),
        (["add", "--title", "t", "--error", " ", "--cause", "c"], "an error text is empty"),
        (["add", "--title", "t", "--cause", "c"], "--error"),
        (["add", "--title", "", "--error", "ValueError: x", "--cause", "c"], "title"),
        (["list", "--kind", "dance"], "there is no kind 'dance'"),
        (["search", "x", "--limit", "0"], "--limit"),
        (["show", "zzzz"], "no entry 'zzzz'"),
        (["show", "ab"], "no entry 'ab'"),
        (["add", "--title", "t", "--error", "ValueError: x", "--cause", " "], "cause"),
        (["seed"], "'paths'"),
    ],
)
def test_what_makes_no_sense(cli: Cli, args: list[str], message: str) -> None:
    said = cli.run("kb", *args)
    assert said.code == 2
    assert message in said.err
    assert "hint: " in said.err
    assert titles(cli) == []
