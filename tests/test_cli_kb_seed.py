"""`aiops kb seed`: what is understood is shown before it is stored; folders, globs and tickets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli import Cli

PAGE = """\
---
owner: orders-team
updated: 2024-03-11
---
# The orders database restarts

```
ConnectionRefusedError: [Errno 111] Connection refused
```

Cause: nightly restart

Action: retry_later delay=5m
"""
PROSE = """\
# Prices are late

The log says `requests.exceptions.ReadTimeout: Read timed out.` when the vendor deploys.

## Resolution

Call the vendor, then clear the task.
"""
README = "# About\n\nOne page a failure.\n"
BROKEN = "# Broken\n\n```\nKeyError: 'a'\n"


@pytest.fixture
def book(cli: Cli) -> Path:
    folder = cli.home / "runbooks"
    (folder / "deep").mkdir(parents=True)
    (folder / "orders.md").write_text(PAGE)
    (folder / "deep" / "prices.md").write_text(PROSE)
    (folder / "README.md").write_text(README)
    return folder


def titles(cli: Cli) -> set[str]:
    return {entry["title"] for entry in cli.ok("kb", "list", "--json").json["entries"]}


def test_a_dry_run_shows_what_was_understood_and_stores_nothing(cli: Cli, book: Path) -> None:
    said = cli.ok("kb", "seed", str(book), "--dry-run")
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    shown = lines.index("add The orders database restarts (runbooks/orders.md:5)")
    assert lines[shown : shown + 6] == [
        "add The orders database restarts (runbooks/orders.md:5)",
        "looks like ConnectionRefusedError: [Errno 111] Connection refused",
        "cause nightly restart",
        "action retry_later delay=5m",
        "owner orders-team",
        "edited 2024-03-11",
    ]
    assert "action advice (from prose: a suggestion, never done alone)" in lines
    assert "owner nobody named" in lines
    assert "edited no date: its age is not known" in lines
    assert lines[-1].startswith("2 added, 0 changed, 0 as they were, 0 retired (dry run")
    assert f"left out {book / 'README.md'}: no failure in it" in said.err
    assert titles(cli) == set()


def test_a_dry_run_as_json(cli: Cli, book: Path) -> None:
    said = cli.ok("kb", "seed", str(book), "--dry-run", "--json").json
    assert (said["added"], said["changed"], said["same"], said["retired"]) == (2, 0, 0, 0)
    told = {one["title"]: one for one in said["entries"]}
    orders, prices = told["The orders database restarts"], told["Prices are late"]
    assert (orders["change"], orders["action"], orders["params"], orders["suggestion_only"]) == (
        *("added", "retry_later", {"delay": "5m"}, False),
    )
    assert (prices["action"], prices["suggestion_only"]) == (None, True)
    assert "then clear the task" in prices["explanation"]
    assert (said["vanished"], said["refused"]) == ([], [])
    assert [Path(one["file"]).name for one in said["left_out"]] == ["README.md"]
    assert titles(cli) == set()


def test_what_a_dry_run_says_is_what_seeding_does(cli: Cli, book: Path) -> None:
    cli.ok("kb", "seed", str(book))
    (book / "orders.md").write_text(PAGE.replace("nightly restart", "it moves to another host"))
    (book / "deep" / "prices.md").unlink()
    (book / "disk.yaml").write_text("- {error: 'OSError: disk full', cause: c, action: none}\n")
    names = ("added", "changed", "same", "retired")
    dry = cli.ok("kb", "seed", str(book), "--dry-run", "--json").json
    assert [dry[name] for name in names] == [1, 1, 0, 1]
    assert [one["title"] for one in dry["vanished"]] == ["Prices are late"]
    text = cli.ok("kb", "seed", str(book), "--dry-run").text
    assert "change The orders database restarts" in text
    assert "retire Prices are late" in text
    assert titles(cli) == {"The orders database restarts", "Prices are late"}
    done = cli.ok("kb", "seed", str(book), "--json").json
    assert done == {name: dry[name] for name in names}
    assert titles(cli) == {"The orders database restarts", "OSError: disk full"}


def test_a_quoted_glob_is_read_as_a_shell_would_and_retires_what_it_brought(
    cli: Cli, book: Path
) -> None:
    glob = str(book / "**" / "*.md")
    assert cli.ok("kb", "seed", glob, "--json").json["added"] == 2
    assert cli.ok("kb", "seed", str(book), "--json").json["same"] == 2
    (book / "deep" / "prices.md").unlink()
    assert cli.ok("kb", "seed", glob, "--json").json["retired"] == 1
    assert titles(cli) == {"The orders database restarts"}
    cli.run("kb", "seed", str(book / "*.yaml"), "--json").told(2, "runbook", "fits no runbook")


def test_one_bad_file_stops_all_and_each_is_named(cli: Cli, book: Path) -> None:
    (book / "broken.md").write_text(BROKEN)
    (book / "worse.yaml").write_text("- {error: x}\n")
    said = cli.run("kb", "seed", str(book), "--json")
    said.told(2, "runbook", "broken.md:3: a fenced block is not closed", "worse.yaml:1: ")
    assert titles(cli) == set()


def test_a_dry_run_shows_the_rest_of_what_is_refused(cli: Cli, book: Path) -> None:
    cli.ok("kb", "seed", str(book))
    (book / "orders.md").write_text(BROKEN)
    said = cli.run("kb", "seed", str(book), "--dry-run", "--json")
    assert said.code == 2
    assert [one["title"] for one in said.json["entries"]] == ["Prices are late"]
    assert said.json["vanished"] == []  # it is still there, only not readable
    (refused,) = said.json["refused"]
    assert refused.endswith("orders.md:3: a fenced block is not closed")
    text = cli.run("kb", "seed", str(book), "--dry-run")
    assert text.code == 2
    assert "error: " in text.err
    assert "orders.md:3: a fenced block is not closed" in text.err


def test_old_tickets(cli: Cli) -> None:
    file = cli.home / "tickets.jsonl"
    ticket = {"key": "OPS-1", "title": "Disk", "error": "OSError: [Errno 28] No space left"}
    file.write_text(json.dumps(ticket | {"resolution": "removed old exports"}) + "\n")
    assert cli.ok("kb", "seed", str(file), "--json").json["added"] == 1
    (found,) = cli.ok("kb", "search", "OSError: [Errno 28] No space left", "--json").json["entries"]
    assert (found["title"], found["action"], found["found"]) == ("Disk", None, "exact")
    assert found["explanation"] == "removed old exports"


def test_what_a_person_retired_is_shown_as_such(cli: Cli, book: Path) -> None:
    cli.ok("kb", "seed", str(book))
    (entry,) = cli.ok("kb", "search", "ConnectionRefusedError: [Errno 111] Connection refused",
                      "--limit", "1", "--json").json["entries"]  # fmt: skip
    cli.ok("kb", "retire", entry["entry"], "--reason", "moved to the cloud")
    assert "stays retired The orders database restarts" in (
        cli.ok("kb", "seed", str(book), "--dry-run").text
    )
    cli.ok("kb", "seed", str(book))
    assert titles(cli) == {"Prices are late"}


def test_what_is_shown_cannot_drive_the_terminal(cli: Cli) -> None:
    file = cli.home / "a.md"
    file.write_text("# \x1b[31m[bold]x[/bold]\n\n`KeyError: '\x1b]0;t\x07a'`\n\nCause: \u202ec\n")
    said = cli.ok("kb", "seed", str(file), "--dry-run")
    assert "\x1b" not in said.out
    assert "\u202e" not in said.out
    assert "[bold]x[/bold]" in said.out
