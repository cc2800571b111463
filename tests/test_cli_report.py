"""`aiops report` from the command line, on both stores."""

from __future__ import annotations

import re
import stat
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest

from aiops_cli.airflow.gateway import Gateway
from aiops_cli.errors import AirflowNotFound, AirflowUnreachable
from knowledge.records import Outcome
from knowledge.runbooks import read_runbooks
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED

HOSTILE = exception("ValueError", "\x1b[31m[red]x[/] <script>alert(1)</script> | `y` \u202egnp")


def a_week(cli: Cli) -> tuple[str, str]:
    """A retry that was approved and helped, and a bug that somebody explained; their ids."""
    fixed = cli.mended()
    cli.server.add_dag("sales", {"count": []})
    bug = cli.capture("sales", "count", events=[BUG])
    cli.ok("reject", bug, "--reason", "no", "--action", "none", "--cause", "the vendor renamed it")
    return fixed, bug


def test_an_empty_record_is_one_sentence(cli: Cli) -> None:
    said = cli.ok("report")
    assert re.fullmatch(r"Nothing failed between .* and .*, as far as .* has seen\.\n", said.out)
    assert said.err == ""
    assert cli.ok("report", "--markdown").out == said.out
    told = cli.ok("report", "--json").json
    assert (told["incidents"], told["failures"], told["missing"]) == (0, [], [])
    cli.ok("report", "--html", str(cli.home / "report.html"))
    assert "Nothing failed between" in (cli.home / "report.html").read_text()
    assert cli.server.requests == []  # no DAG, no question


def test_what_happened_is_told_as_json(cli: Cli) -> None:
    fixed, bug = a_week(cli)
    told = cli.ok("report", "--json").json
    assert told["incidents"] == 2
    assert told["closed"] == {
        "alone": 0,
        "people": {"ana": 2},
        "elsewhere": 0,
        "unfixed": 0,
        "waiting": 0,
    }
    assert told["plain_retry"] == {"known": 2, "right": 1, "wasted": 1, "harmful": 0}
    assert told["people"]["fixed"] == 1
    assert {one["incident"] for one in told["novel"]} == {fixed, bug}
    dags = {one["dag_id"]: one for one in told["dags"]}
    assert dags["orders"]["failed_runs"] == dags["orders"]["runs"] == 1
    assert dags["sales"]["rate"] == 1.0
    assert told["missing"] == []


def test_the_denominator_is_all_runs_that_ended(cli: Cli) -> None:
    a_week(cli)
    for number in range(8):
        cli.server.add_run("orders", f"good{number}", state="success", end_date=ended(cli, hours=1))
    cli.server.add_run("orders", "old", state="success", end_date=ended(cli, days=8))
    cli.server.add_run("orders", "still going", state="running", end_date=None)
    before = len(cli.server.requests)
    dags = {one["dag_id"]: one for one in cli.ok("report", "--json").json["dags"]}
    assert (dags["orders"]["runs"], dags["orders"]["rate"]) == (9, round(1 / 9, 4))
    asked = [one.path for one in cli.server.requests[before:] if one.path.endswith("/dagRuns")]
    assert sorted(asked) == ["/api/v2/dags/orders/dagRuns", "/api/v2/dags/sales/dagRuns"]


def ended(cli: Cli, **ago: float) -> str:
    return (cli.clock.now() - timedelta(**ago)).isoformat()


def test_a_dag_that_is_gone_has_no_rate_and_the_others_have(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_week(cli)
    count = Gateway.run_count

    def gone(self: Gateway, dag_id: str, *, since: datetime) -> int | None:
        if dag_id == "sales":
            raise AirflowNotFound("the DAG was not found")
        return count(self, dag_id, since=since)

    monkeypatch.setattr(Gateway, "run_count", gone)
    told = cli.ok("report", "--json").json
    assert {one["dag_id"]: one["runs"] for one in told["dags"]} == {"orders": 1, "sales": None}
    assert told["missing"] == []


def test_without_airflow_the_record_is_told_and_the_rates_are_said_to_be_missing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_week(cli)

    def unreachable(*_: Any, **__: Any) -> int:
        raise AirflowUnreachable("Airflow does not answer", "is it up?")

    monkeypatch.setattr(Gateway, "run_count", unreachable)
    told = cli.ok("report", "--json").json
    assert told["missing"] == ["failure rates of default are missing: Airflow does not answer"]
    assert {one["rate"] for one in told["dags"]} == {None}
    assert "failure rates of default are missing" in cli.ok("report").out
    for name in ("URL", "USERNAME", "PASSWORD"):
        del cli.environ[f"AIOPS_AIRFLOW_{name}"]
    assert "missing: no Airflow is configured" in cli.ok("report", "--markdown").out


def test_only_what_failed_since_is_counted(cli: Cli) -> None:
    cli.capture("orders", events=[REFUSED])
    cli.clock.advance(days=8)
    assert cli.ok("report", "--json").json["incidents"] == 0
    assert cli.ok("report", "--since", "30d", "--json").json["incidents"] == 1
    cli.run("report", "--since", "soon", "--json").told(2, "usage", "soon")


def test_an_instance_alone_is_told_when_it_is_named(cli: Cli) -> None:
    a_week(cli)
    config = cli.home / "config.yaml"
    config.write_text("instances:\n  prod: {url: https://airflow.example.com}\n")
    assert cli.ok("report", "--instance", "prod", "--json").json["incidents"] == 0


def test_relapses_and_harm_are_told(cli: Cli) -> None:
    fixed, _ = a_week(cli)
    with closing(cli.store()) as store:
        decision = store.case(fixed).decision
        assert decision is not None
        store.add_outcome(Outcome(fixed, decision.seq, cli.clock.now(), "relapsed"))
    assert cli.ok("report", "--json").json["people"]["relapsed"] == 1
    cli.ok("wrong", fixed, "--reason", "paid twice")
    told = cli.ok("report", "--json").json
    (one,) = told["wrong"]
    assert (one["incident"], one["reason"], one["alone"]) == (fixed, "paid twice", False)
    assert (told["people"]["wrong"], told["people"]["relapsed"]) == (1, 0)
    assert "CALLED WRONG: 1" in cli.ok("report").out


def test_what_shadow_would_have_done_is_held_against_what_was_done(cli: Cli) -> None:
    cli.mended()
    cli.ok("auto", "grant", "--actions", "retry", "--dags", "*")
    now = cli.clock.now()
    cli.server.add_failure("orders", "load", run_id="second", events=[REFUSED], ended=now)
    cli.clock.advance(seconds=1)
    (second,) = cli.ok("watch", "--once", "--shadow", "--json").lines
    assert second["decided"]["kind"] == "shadow", second["gate"]
    assert cli.ok("report", "--json").json["shadow"]["waiting"] == 1
    cli.ok("approve", second["incident"], "--yes")
    told = cli.ok("report", "--json").json["shadow"]
    assert told == {"wrote": 1, "same": 1, "otherwise": 0, "elsewhere": 0, "waiting": 0}
    assert "a person then did the same in 1 (100%) of 1" in cli.ok("report").text


def test_a_page_is_written_whole_for_nobody_else_and_says_nothing(cli: Cli) -> None:
    """Cron would mail what it says."""
    a_week(cli)
    file = cli.home / "report.html"
    file.write_text("last week's")
    said = cli.ok("report", "--html", str(file))
    assert (said.out, said.err) == ("", "")
    text = file.read_text()
    assert text.startswith("<!doctype html>")
    assert text.endswith("</html>\n")
    assert "the vendor renamed it" in text
    assert not re.search(r"https?://|<script|<img|<link", text)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in cli.home.glob(".report*")] == []
    cli.run("report", "--html", str(cli.home / "nowhere" / "x.html"), "--json").told(2, "usage")


def test_hostile_text_is_shown_as_text_everywhere(cli: Cli) -> None:
    for run in ("one", "two"):
        bad = cli.capture("orders", run_id=run, events=[HOSTILE])
    cli.ok("reject", bad, "--reason", "no", "--action", "none", "--cause", "<b>[red]`|\x1b[2J")
    for words in ([], ["--markdown"]):
        out = cli.ok("report", *words).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert "[red]x[/] <script>" in out
    assert "\x1b" not in cli.ok("report", "--json").out
    file = cli.home / "report.html"
    cli.ok("report", "--html", str(file))
    assert "<script" not in file.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in file.read_text()


def test_options_that_exclude_each_other(cli: Cli) -> None:
    cli.run("report", "--markdown", "--json").told(2, "usage", "take one of them")
    cli.run("report", "--html", "x", "--draft-runbook").refused(2, "take one of them")
    cli.run("report", "x.yaml").refused(2, "only --draft-runbook takes a file")


# ---- a runbook drafted from what people did ----


def test_a_draft_is_a_runbook_that_knows_the_failures_again(cli: Cli) -> None:
    a_week(cli)
    file = cli.home / "draft.yaml"
    said = cli.ok("report", "--draft-runbook", str(file))
    assert said.out == ""
    assert "2 entries drafted" in said.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    planned = cli.ok("kb", "seed", str(file), "--dry-run", "--json").json
    assert planned["added"] == 2
    by_action = {one.action: one for one in read_runbooks([file])}
    assert by_action.keys() == {"retry", None}
    assert by_action[None].cause == "the vendor renamed it"
    assert "retry fixed 1 of 1" in by_action["retry"].explanation
    assert all(one.tags == ("draft",) for one in by_action.values())
    cli.ok("kb", "seed", str(file))
    assert cli.ok("report", "--json").json["novel"] == []
    again = cli.ok("report", "--draft-runbook")
    assert (again.out, again.err) == ("", "nothing to draft: runbooks answer to all that failed\n")
    cli.clock.advance(minutes=1)
    cli.server.add_failure("sales", "count", run_id="next", events=[BUG])
    (seen,) = cli.ok("watch", "--once", "--json").lines
    assert ("exact", "runbook") in [(one["found"], one["kind"]) for one in seen["matches"]]


def test_a_draft_goes_to_stdout_and_overwrites_nothing(cli: Cli) -> None:
    a_week(cli)
    said = cli.ok("report", "--draft-runbook")
    assert said.out.startswith("# DRAFT")
    assert said.err == ""
    file = cli.home / "draft.yaml"
    file.write_text("edited by hand")
    cli.run("report", "--draft-runbook", str(file)).refused(2, "is there already")
    assert file.read_text() == "edited by hand"


def test_of_what_nobody_has_answered_nothing_is_drafted(cli: Cli) -> None:
    cli.capture("orders", events=[REFUSED])
    said = cli.ok("report", "--draft-runbook", str(cli.home / "draft.yaml"))
    assert "of 1 kinds of failure that no runbook answers to nobody has named a cause" in said.text
    assert not (cli.home / "draft.yaml").exists()
    cli.clock.advance(minutes=1)
    bug = cli.capture("sales", "count", events=[BUG])
    cli.ok("reject", bug, "--reason", "no", "--action", "none", "--cause", "the vendor renamed it")
    said = cli.ok("report", "--draft-runbook")
    assert "nobody has named a cause or done what helped:\n#   ConnectionRefusedError" in said.out
