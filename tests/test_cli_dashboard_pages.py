"""`aiops dashboard`: its other pages, what they say where there is nothing to show, and that all
they show is text."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import apsw
import pytest

from aiops_cli.dashboard import acts
from knowledge.stores import sqlite_engine
from knowledge.stores.sqlite import SqliteStore
from tests import dashboard_pages
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.dashboard_pages import Page, answered, one_page, said, unlike
from tests.desk import REFUSED

page = dashboard_pages.page

# Each would be another thing where something read it as Markdown or HTML.
HOSTILE = (
    "<img src=x onerror=alert(1)> [a](javascript:alert(1)) **bold** :red[red] $x^2$ `c` :smile: "
    ":material/delete: <script>alert(1)</script> ![i](https://evil.example/i.png) \x1b[31mred"
)
MARKED = (
    "markdown",
    "caption",
    "header",
    "subheader",
    "title",
    "error",
    "warning",
    "info",
    "success",
)


# ---- the other pages ----


def test_the_history_filters_and_tells_the_whole_story(cli: Cli, page: Page) -> None:
    id_ = cli.mended()
    cli.capture("sales", events=[BUG])
    cli.ok("wrong", id_, "--reason", "it loaded twice")
    page.look()
    history = one_page("history").look()
    assert "orders.load" in history.text
    assert "sales.load" in history.text
    history.fill("DAG", "ord*").again()
    assert "sales.load" not in history.text
    history.app.multiselect[0].set_value(["pending"])
    history.again()
    assert "No incident fits." in history.text
    history.look(incident=id_)
    for word in (
        *("failed: ConnectionRefusedError", "judged: proposes nothing", "ana approved retry"),
        *("checked: retry fixed, turned green", "ana says it did harm (retry): it loaded twice"),
        *("ana vouched: load may not run again by itself", "retry orders.load  in first"),
    ):
        assert word in history.text, word


def test_knowledge_is_found_shown_with_its_record_and_retired(cli: Cli, page: Page) -> None:
    cli.mended()
    page.look()
    knowledge = one_page("knowledge").look()
    assert "your own first" in knowledge.text
    knowledge.fill("Find what is known of", "Connection refused").again()
    assert "similarity" in knowledge.text or "the very same" in knowledge.text
    knowledge.press("Open")
    assert "fixed 1" in knowledge.text
    knowledge.press("Retire")
    assert "the reason is empty" in knowledge.text
    knowledge.fill("Why it is not true any more", "the database moved").press("Retire")
    assert "retired: it is never matched again" in knowledge.text
    assert "Retire" not in knowledge.buttons()
    assert cli.ok("kb", "list", "--json").json == {"entries": []}
    (entry,) = cli.ok("kb", "list", "--retired", "--json").json["entries"]
    assert entry["retired"]


def test_the_overview_counts_what_the_report_counts(cli: Cli, page: Page) -> None:
    id_ = cli.mended()
    cli.ok("wrong", id_, "--reason", "it loaded twice")
    cli.capture("orders", run_id="second", events=[REFUSED])
    page.look()
    overview = one_page("overview").look()
    figures = {one.label: one.value for one in overview.app.metric}
    assert figures == {
        "Failures": "2",
        "Resolved alone": "0 %",
        "Kinds that came back": "1",
        "Waiting": "1",
        "Wrong acts": "1",
    }
    for word in ("orders", "ConnectionRefusedError", "to retry, by people"):
        assert word in overview.tables(), word
    for word in (
        *("2 × ConnectionRefusedError: [Errno 111] Connection refused", "orders.load · last seen"),
        *("it loaded twice", "done by a person · called wrong by ana"),
    ):
        assert word in overview.text, word
    overview.app.button(key="open-wrong-0").click()
    assert "ana says it did harm (retry): it loaded twice" in overview.again().text
    overview.press("Back to the overview")
    assert "it loaded twice" in overview.text
    assert len(overview.app.metric) == 5


@pytest.mark.file_only
def test_pages_without_anything_say_so(cli: Cli, page: Page) -> None:
    page.look()
    assert "Nothing failed in the last 7 days." in one_page("overview").look().text
    assert "No incident fits." in one_page("history").look().text
    assert "Nothing is known yet." in one_page("knowledge").look().text
    for name in ("queue", "history"):
        assert "no incident" in one_page(name).look(incident="zzzz").text
    assert "no entry" in one_page("knowledge").look(entry="zzzz").text


@pytest.mark.file_only
def test_no_more_is_read_than_a_page_shows(
    cli: Cli, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(acts.PAGE + 2):
        # No two of a kind, for a storm is one line.
        cli.server.add_failure("many", "load", run_id=f"r{number}", events=[unlike(number)])
    cli.ok("watch", "--once")
    asked = []
    lines = SqliteStore.lines

    def noted(store: SqliteStore, **question: Any) -> Any:
        asked.append(question["limit"])
        return lines(store, **question)

    monkeypatch.setattr(SqliteStore, "lines", noted)
    page.look()
    assert page.buttons().count("Open") == acts.PAGE
    page.press("Older")
    assert page.buttons().count("Open") == 2
    page.press("Newer")
    assert page.buttons().count("Open") == acts.PAGE
    assert {*asked} == {acts.PAGE + 1}


# ---- where there is nothing to show ----


@pytest.mark.file_only
def test_an_empty_list_says_why(cli: Cli, page: Page, waiting: str) -> None:
    page.look().fill("DAG", "nothing_*").again()
    assert "Nothing that waits fits this pattern." in page.text
    page.fill("DAG", "").again()
    page.app.session_state["queue-page"] = 3
    page.again()
    assert "Nothing is left on this page." in page.text
    page.press("Newer").press("Newer").press("Newer")
    cli.ok("snooze", waiting, "1h")
    page.again()
    assert "left for later: 1" in page.text


@pytest.mark.file_only
def test_whether_it_is_paused_is_not_known_where_that_cannot_be_read(cli: Cli, page: Page) -> None:
    cli.ok("pause", "--reason", "migration")
    assert "paused by ana: migration" in page.look().text
    kept = cli.kb.read_bytes()
    cli.kb.write_bytes(b"no database" * 100)
    page.again()
    assert "whether aiops is paused is not known" in page.text
    assert "paused by" not in page.text
    cli.kb.write_bytes(kept)
    page.again()
    assert "not known" not in page.text
    assert "paused by ana: migration" in page.text


@pytest.mark.file_only
def test_while_another_process_holds_the_file_all_is_shown_and_nothing_is_lost(
    cli: Cli, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_MS", 100)
    id_ = answered(cli)
    page.look(incident=id_)
    before = cli.cleared()
    with closing(apsw.Connection(str(cli.kb))) as other:
        other.execute("BEGIN IMMEDIATE")
        page.fill("Why it is wrong", "the vendor has to send it anew").press("Reject")
        assert "It was not rejected" in page.text
        assert "is locked by another process" in page.text
        (typed,) = [one for one in page.app.text_input if one.label == "Why it is wrong"]
        assert typed.value == "the vendor has to send it anew"
        page.press("Approve")
        assert "It was not approved" in page.text
        assert "orders.load" in one_page("history").look().text
        other.execute("ROLLBACK")
    assert cli.cleared() == before
    assert cli.status(id_) == "pending"


@pytest.mark.file_only
def test_a_knowledge_base_that_went_away_is_told_on_every_page(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look()
    for name in ("knowledge.db", "knowledge.db-wal", "knowledge.db-shm"):
        (cli.kb.parent / name).unlink(missing_ok=True)
    cli.kb.mkdir()
    for name in ("queue", "history", "overview", "knowledge"):
        shown = one_page(name).look().text
        assert "cannot be" in shown, name
        assert str(cli.kb) in shown, name
    assert "This incident cannot be shown" in page.look(incident=id_).text


# ---- what is shown is text ----


@pytest.mark.file_only
def test_hostile_text_is_shown_as_text(cli: Cli, page: Page) -> None:
    id_ = cli.capture("orders", events=[exception("KeyError", HOSTILE)])
    cli.ok("note", id_, HOSTILE)
    page.look(incident=id_)
    page.fill("Its cause", HOSTILE).press("Remember it")
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
    assert "<script>alert(1)</script> ![i](https://evil.example/i.png) red" in page.text  # the note
    seen = 0
    for query in ({}, {"incident": id_}):
        page.look(**query)
        seen += page.text.count("javascript:alert(1)")
        marked(page)
    for name, query in (
        *(("history", {}), ("history", {"incident": id_}), ("overview", {})),
        *(("knowledge", {}), ("knowledge", {"entry": entry["entry"]})),
    ):
        shown = one_page(name).look(**query)
        seen += (shown.text + shown.tables()).count("javascript:alert(1)")
        marked(shown)
    assert seen >= 10


def marked(page: Page) -> None:
    """None of it is in what reads Markdown, HTML or a label."""
    for kind in MARKED:
        for one in page.app.get(kind):
            assert "javascript" not in said(one), (kind, said(one))
    assert "\x1b" not in page.text + page.tables()
    for kind in ("button", "text_input", "selectbox", "expander"):
        for one in page.app.get(kind):
            assert "javascript" not in str(getattr(one, "label", "")), kind
