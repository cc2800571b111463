"""`aiops kb`: what is known, from where, and what came of it."""

from __future__ import annotations

import shlex
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


@pytest.mark.file_only
def test_add_reads_a_log_from_stdin_and_keeps_no_secret(cli: Cli) -> None:
    log = "OperationalError: connection to postgresql://etl:hunter2pass@db/x failed\n"
    said = cli.ok(
        *("kb", "add", "--title", "t", "--error", "-", "--cause", "c", "--json"), stdin=log
    )
    assert "hunter2pass" not in said.out
    assert "OperationalError" in said.json["symptoms"][0]
    assert b"hunter2pass" not in cli.kb.read_bytes()


@pytest.mark.file_only
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


# ---- filters, and what is one's own ----


def own_and_shipped(cli: Cli) -> None:
    """Two entries of one's own, one of them for orders alone, and one that came with aiops."""
    book = BOOK.replace("safe_to_retry: true", "dags: ['orders_*']\n  tags: [database]")
    cli.ok("kb", "seed", str(write(cli, book)))
    shipped = cli.home / "starter"
    shipped.mkdir()
    text = "- title: A disk is full\n  error: 'OSError: [Errno 28] No space left'\n  cause: c\n"
    (shipped / "disk.yaml").write_text(text + "  action: none\n")
    cli.ok("kb", "seed", str(shipped))


def test_what_came_with_aiops_does_not_drown_what_is_ones_own(cli: Cli) -> None:
    own_and_shipped(cli)
    said = cli.ok("kb", "list")
    assert "A row without a price" in said.out
    assert "A disk is full" not in said.out
    assert said.err == "1 more came with aiops: aiops kb list --source starter/\n"
    assert "A disk is full" in cli.ok("kb", "list", "--source", "starter/").out
    assert titles(cli)[-1] == "A disk is full"  # JSON has all, one's own first
    assert len(titles(cli)) == 3


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--action", "none"], ["A row without a price", "A disk is full"]),
        (["--dag", "orders_etl"], ["The orders database restarts at night"]),
        (["--dag", "sales"], []),
        (["--tag", "database"], ["The orders database restarts at night"]),
        (["--tag", "data"], []),
        (["--source", "starter/"], ["A disk is full"]),
        (["UNIT_price"], ["A row without a price"]),
        (["disk", "--action", "retry"], []),
        (["--kind", "runbook", "--action", "none", "price"], ["A row without a price"]),
    ],
    ids=" ".join,
)
def test_list_with_filters(cli: Cli, args: list[str], expected: list[str]) -> None:
    own_and_shipped(cli)
    assert titles(cli, *args) == expected
    said = cli.ok("kb", "list", *args)
    assert all(title in said.out for title in expected)
    assert said.err == ("" if expected else "no entry fits\n")


def test_a_filtered_search_says_what_fits_better(cli: Cli) -> None:
    own_and_shipped(cli)
    text = "ConnectionRefusedError: [Errno 111] Connection refused"
    search = ("kb", "search", text, "--limit", "1")
    (best,) = cli.ok(*search, "--json").json["entries"]
    said = cli.ok(*search, "--action", "none", "--json")
    assert [entry["action"] for entry in said.json["entries"]] in ([], ["none"])
    assert said.err == f"left out by the filters: {best['entry']} fits best (1.00)\n"
    assert best["entry"] in cli.ok(*search, "--dag", "sales").err
    for fitting in (["--dag", "orders_etl"], ["--kind", "runbook"], ["--action", "retry"]):
        said = cli.ok(*search, *fitting, "--json")
        assert (said.json["entries"], said.err) == ([best], "")


def test_a_filter_goes_before_the_limit(cli: Cli) -> None:
    for number in range(3):
        cli.ok(
            *("kb", "add", "--title", f"t{number}", "--cause", "c", "--error", "ValueError: x"),
            *("--action", "none" if number == 0 else "retry"),
        )
    found = cli.ok("kb", "search", "ValueError: x", "--limit", "1", "--action", "none", "--json")
    assert [entry["title"] for entry in found.json["entries"]] == ["t0"]


def test_stats(cli: Cli) -> None:
    assert cli.ok("kb", "stats", "--json").json["age_days"] is None
    own_and_shipped(cli)
    cli.capture("orders_etl", events=[REFUSED])
    cli.clock.advance(days=10)
    said = cli.ok("kb", "stats", "--json").json
    assert (said["own"], said["used"], said["starter"], said["starter_used"]) == (2, 1, 1, 0)
    assert said["actions"] == {"retry": 1, "none": 1}
    assert said["entries"] == {"runbook": 3}
    assert set(said["age_days"]) == {"newest", "median", "oldest"}
    assert "1 of 2 of your own" in cli.ok("kb", "stats").out


# ---- lint ----


def test_lint_says_what_is_wrong_and_what_to_type(cli: Cli) -> None:
    other = BOOK.replace("action: retry", "action: none").replace("at night", "by hand")
    cli.ok("kb", "seed", str(write(cli)))
    cli.ok("kb", "seed", str(write(cli, other, "other.yaml")))
    said = cli.ok("kb", "lint", "--json").json["findings"]
    assert [finding["kind"] for finding in said] == ["contradiction", "duplicate"]
    assert {entry["action"] for entry in said[0]["entries"]} == {"retry", "none"}
    assert any("book.yaml:1" in entry["source"] for entry in said[0]["entries"])
    text = cli.ok("kb", "lint").out
    assert "retry, safe to retry against none, safe to retry" in text
    for finding in said:
        command = finding["commands"][0]
        assert command in text
        cli.ok(*shlex.split(command)[1:])
    done = cli.ok("kb", "lint")
    assert (done.out, done.err) == ("", "nothing is wrong with your 2 entries\n")
    assert cli.ok("kb", "lint", "--json").json == {"findings": []}


def test_lint_knows_what_came_of_an_action(cli: Cli) -> None:
    cli.ok("kb", "seed", str(write(cli)))
    incident = cli.mended()
    assert cli.ok("kb", "lint", "--json").json["findings"] == []
    cli.ok("wrong", incident, "--reason", "paid twice")
    (finding,) = cli.ok("kb", "lint", "--json").json["findings"]
    assert (finding["kind"], finding["what"]) == ("never_worked", "retry did harm: wrong 1")
    assert {entry["kind"] for entry in finding["entries"]} == {"runbook", "incident"}


def test_lint_knows_what_was_used(cli: Cli) -> None:
    cli.ok("kb", "seed", str(write(cli)))
    cli.capture("orders", events=[REFUSED])
    cli.clock.advance(days=800)
    (finding,) = cli.ok("kb", "lint", "--json").json["findings"]
    assert finding["kind"] == "stale"
    assert [entry["title"] for entry in finding["entries"]] == ["A row without a price"]


def test_a_filter_finds_what_a_hundred_others_fit_better(cli: Cli) -> None:
    runbook = cli.home / "many.yaml"
    better = [
        f"- {{title: b{n}, symptoms: ['KeyError: the amount of order {chr(97 + n % 26)}{n}x'], "
        "cause: c, action: none}"
        for n in range(150)
    ]
    own = "- {title: own, symptoms: ['KeyError: an amount'], cause: c, action: retry}"
    runbook.write_text("\n".join([*better, own]))
    cli.ok("kb", "seed", str(runbook))
    said = cli.ok("kb", "search", "KeyError: the amount of order", "--action", "retry", "--json")
    assert [entry["title"] for entry in said.json["entries"]] == ["own"]
