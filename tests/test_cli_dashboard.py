"""`aiops dashboard`: what its pages show and do, on both stores. tests/e2e has the browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import streamlit as st
from streamlit import net_util
from streamlit.runtime.context import StreamlitHeaders
from streamlit.testing.v1 import AppTest
from streamlit.web import cli as streamlit_cli

from aiops_cli.commands import dashboard as command
from aiops_cli.dashboard import acts, frame
from aiops_cli.errors import Refused
from knowledge.stores import sqlite_engine
from knowledge.stores.sqlite import SqliteStore
from scripts.airflow_box import free_port
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED

SECONDS = 60  # far more than a page takes

# Each would be another thing where something read it as Markdown or HTML.
HOSTILE = "<script>alert(1)</script> **bold** :red[red] $x^2$ [a](javascript:alert(1)) :smile: `c`"
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


def said(element: object) -> str:
    return str(getattr(element, "value", ""))


@dataclass
class Page:
    """A person's browser window."""

    app: AppTest

    def look(self, **query: str) -> Page:
        """Come to the page anew, with this in its address."""
        self.app.query_params.clear()
        for name, value in query.items():
            self.app.query_params[name] = value
        return self.again()

    def again(self) -> Page:
        self.app.run()
        assert list(self.app.exception) == []
        return self

    def press(self, label: str) -> Page:
        (button,) = [one for one in self.app.button if one.label == label]
        button.click()
        return self.again()

    def fill(self, label: str, text: str) -> Page:
        (field,) = [one for one in self.app.text_input if one.label == label]
        field.input(text)
        return self

    def choose(self, label: str, option: str) -> Page:
        (field,) = [one for one in self.app.selectbox if one.label == label]
        field.select(option)
        return self

    def buttons(self) -> list[str]:
        return [one.label for one in self.app.button]

    @property
    def text(self) -> str:
        """All words but those of tables."""
        kinds = ("text", "code", "error", "warning", "subheader")
        return "\n".join(said(one) for kind in kinds for one in self.app.get(kind))

    def tables(self) -> str:
        return "\n".join(one.value.to_string() for one in self.app.dataframe)


@pytest.fixture
def page(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    yield opened(cli, monkeypatch)
    frame._settings.cache_clear()


def opened(cli: Cli, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Page:
    """A window of a dashboard that was started with this."""
    for name, value in cli.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cli.home)
    frame._settings.cache_clear()

    def script(given: str) -> None:
        from aiops_cli.dashboard.frame import show

        show(given)

    return Page(AppTest.from_function(script, default_timeout=SECONDS, args=(json.dumps(given),)))


def answered(cli: Cli) -> str:
    """An incident whose answer is known: retry it."""
    cli.mended()
    return cli.capture("orders", run_id="second", events=[REFUSED], ended=cli.clock.now())


def unlike(number: int) -> dict[str, Any]:
    """A failure of a kind of its own; figures would be masked."""
    word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return exception(f"Error{word.title()}", f"it is {word}")


def one_page(name: str) -> Page:
    """Another page than the first. The testing tool knows no pages that are functions."""

    def script(name: str) -> None:
        from importlib import import_module

        from aiops_cli.dashboard.frame import Access, visitor_of

        import_module(f"aiops_cli.dashboard.{name}_page").show(visitor_of(Access()))

    return Page(AppTest.from_function(script, default_timeout=SECONDS, args=(name,)))


# ---- the queue ----


@pytest.mark.file_only
def test_an_empty_queue_says_so(page: Page) -> None:
    page.look()
    assert "Nothing waits for a person." in page.text
    assert "you decide as ana" in page.text


def test_the_queue_leads_to_an_incident_with_all_there_is_to_know(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look()
    assert "orders.load" in page.text
    assert "proposes retry" in page.text
    assert "waiting for a person: 1" in page.text
    page.press("Open")
    assert id_ in page.app.query_params["incident"]
    for word in (
        "Connection refused",  # the error
        "Traceback (most recent call last)",  # its context
        "1.00: the very same failure is known",
        "fixed 1 on this task",
        "no grant covers retry in orders",  # why not alone
        "retry orders.load  in second (try 1 failed)",  # the plan
        "the task gets 1 more try",
    ):
        assert word in page.text, word
    assert "action allowed" in page.tables()


def test_one_click_acts_and_is_written_down(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    before = len(cli.cleared())
    page.look(incident=id_).press("Approve")
    assert "runs again; aiops watch --once tells how it ends" in page.text
    assert cli.status(id_) == "acting"
    assert cli.cleared()[before:] == [["load"]]
    assert "Approve" not in page.buttons()
    decided = cli.ok("incidents", "show", id_, "--json").json["decided"]
    assert (decided["kind"], decided["by"], decided["action"]) == ("approve", "ana", "retry")
    assert cli.ok("audit", "verify").code == 0


def test_a_click_and_a_watcher_never_act_twice(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look(incident=id_)
    cli.ok("auto", "grant", "--actions", "retry", "--dags", "*")
    cli.ok("watch", "--once", "--auto")
    assert cli.status(id_) == "acting"
    acts = cli.cleared()
    (button,) = [one for one in page.app.button if one.label == "Approve"]
    button.click()
    page.again()
    assert cli.cleared() == acts
    assert "Approve" not in page.buttons()
    assert "retry was done alone" in page.text


def test_a_click_while_another_acts_is_refused(
    cli: Cli, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen it waiting; who comes second to the claim does nothing."""
    id_ = answered(cli)
    before = len(cli.cleared())
    page.look(incident=id_)
    ids: list[str] = []

    def other() -> None:
        ids.append(cli.run("approve", id_, "--yes").text)

    cli.at_the_act(other)
    page.press("Approve")
    assert "is acting" in ids[0] or "being acted on" in ids[0]
    assert len(cli.cleared()) == before + 1


def test_a_stale_plan_is_not_done(cli: Cli, page: Page) -> None:
    cli.server.add_dag("orders", {"load": ["publish"]})
    id_ = answered(cli)
    page.look(incident=id_)
    before = cli.cleared()
    cli.server.add_failure("orders", "publish", run_id="second", state="upstream_failed")
    page.press("Approve")
    assert "Airflow has changed since the plan was shown" in page.text
    assert cli.cleared() == before
    assert cli.status(id_) == "pending"
    page.again()
    assert "then what it blocked: publish" in page.text  # the new plan, to be decided on anew


@pytest.mark.file_only
def test_another_diagnosis_than_the_shown_one_is_not_approved(cli: Cli, page: Page) -> None:
    first = cli.mended()
    id_ = cli.capture("orders", run_id="second", events=[REFUSED])
    page.look(incident=id_)
    before = cli.cleared()
    cli.ok("wrong", first, "--reason", "loaded twice")
    cli.clock.advance(minutes=1)
    cli.server.add_failure("orders", "load", run_id="third", events=[REFUSED])
    (other,) = [
        one for one in cli.ok("watch", "--once", "--json").lines if one["run_id"] == "third"
    ]
    cli.ok(
        "reject",
        other["incident"],
        "--reason",
        "no",
        "--action",
        "none",
        "--cause",
        "moved for good",
    )
    cli.clock.advance(minutes=1)
    cli.ok("watch", "--once")
    shown = cli.ok("incidents", "show", id_, "--json").json["diagnosis"]["action"]
    assert shown != "retry"
    page.press("Approve")
    assert "has changed since this page was shown: nothing was done" in page.text
    assert cli.cleared() == before
    assert cli.status(id_) == "pending"


@pytest.mark.file_only
def test_edited_first_the_edited_plan_is_shown_and_done(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    before = cli.cleared()
    page.look(incident=id_)
    page.choose("Action", "retry_later").fill("Parameters", "delay=20 parsecs")
    page.press("Show what it would do")
    assert "is not a duration" in page.text
    page.fill("Parameters", "delay=20m").fill("Cause, for next time", "the nightly restart")
    page.choose("May run again", "this task, whatever fails")
    page.press("Show what it would do")
    assert "not now: by the first aiops watch after 20m" in page.text
    assert "remembered as: the nightly restart" in page.text
    assert "your yes also says that this task may run again, whatever fails" in page.text
    assert cli.cleared() == before
    page.press("Approve")
    assert "waits for its time" in page.text
    decided = cli.ok("incidents", "show", id_, "--json").json["decided"]
    assert (decided["action"], decided["params"]) == ("retry_later", {"delay": "20m"})
    assert decided["cause"] == "the nightly restart"
    with closing(cli.store()) as store:
        newest = store.vouches("default", "orders", "load")[-1]
    assert (newest.safe, newest.fingerprint, newest.by) == (True, None, "ana")


@pytest.mark.file_only
def test_what_nobody_has_answered_can_be_answered(cli: Cli, page: Page, waiting: str) -> None:
    page.look(incident=waiting)
    assert "Approve" not in page.buttons()
    page.choose("Action", "none").fill("Cause, for next time", "moved")
    page.press("Show what it would do")
    assert "nothing is run again: a person fixes the cause" in page.text
    page.press("Approve")
    assert cli.status(waiting) == "resolved"
    assert cli.cleared() == []


def test_a_rejection_needs_a_reason_and_is_written_down(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look(incident=id_).press("Reject")
    assert "the reason is empty" in page.text
    assert cli.status(id_) == "pending"
    page.fill("Why it is wrong", "the vendor has to send it anew").press("Reject")
    assert cli.status(id_) == "rejected"
    decided = cli.ok("incidents", "show", id_, "--json").json["decided"]
    assert (decided["by"], decided["reason"]) == ("ana", "the vendor has to send it anew")


def test_what_is_new_is_remembered_without_acting(cli: Cli, page: Page, waiting: str) -> None:
    page.look(incident=waiting).press("Remember it")
    assert "the cause is empty" in page.text
    page.fill("Its cause", "the vendor's nightly restart").choose("What is right", "retry")
    page.press("Remember it")
    assert "remembered" in page.text
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
    assert (entry["action"], entry["cause"]) == ("retry", "the vendor's nightly restart")
    assert cli.status(waiting) == "pending"
    assert cli.cleared() == []


@pytest.mark.file_only
def test_with_airflow_away_the_queue_still_shows_and_says_why_not(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look()
    assert "orders.load" in page.text
    cli.server.fault("/api/v2/", times=1000, status=503)
    page.look(incident=id_)
    assert "It cannot be done now" in page.text
    assert "Approve" not in page.buttons()
    page.fill("Why it is wrong", "not this").press("Reject")
    assert cli.status(id_) == "rejected"


def test_a_second_click_is_no_yes_to_a_plan_that_nobody_has_seen(cli: Cli, page: Page) -> None:
    """Struck before the refusal of the first one was on the screen."""
    cli.server.add_dag("orders", {"load": ["publish"]})
    id_ = answered(cli)
    page.look(incident=id_)
    before = cli.cleared()
    cli.server.add_failure("orders", "publish", run_id="second", state="upstream_failed")
    page.press("Approve")
    assert "Airflow has changed since the plan was shown" in page.text
    page.press("Approve")
    assert "nothing was done. Look at it, then say yes." in page.text
    assert "then what it blocked: publish" in page.text
    assert cli.cleared() == before
    assert cli.status(id_) == "pending"
    page.press("Approve")
    assert cli.status(id_) == "acting"


def test_a_page_over_which_something_changed_says_so(cli: Cli, page: Page) -> None:
    """However often it is made anew by what is done on it: the plan is the old one still."""
    id_ = answered(cli)
    page.look(incident=id_)
    assert "This has changed" not in page.text
    cli.ok("note", id_, "wait, I am in there")
    for _ in range(2):
        page.press("Reject")  # without a reason
        assert "This has changed since the page was made." in page.text
    page.press("Show it as it is now")
    assert "This has changed" not in page.text
    assert "note by ana: wait, I am in there" in page.text


# ---- what failed together ----


def storm(cli: Cli) -> list[str]:
    """Four failures of one kind whose answer is known, and one of another kind."""
    cli.mended()
    ended = cli.clock.now()
    for name in ("billing", "orders", "sales", "stock"):
        cli.server.add_failure(name, "load", run_id="storm", events=[REFUSED], ended=ended)
    cli.server.add_failure("other", "load", run_id="storm", events=[BUG], ended=ended)
    cli.clock.advance(seconds=1)
    cli.ok("watch", "--once")
    cases = cli.ok("incidents", "--status", "pending", "--json").json["incidents"]
    return [one["incident"] for one in cases if one["dag_id"] != "other"]


def group_of(cli: Cli, id_: str) -> str:
    return str(cli.ok("incidents", "show", id_, "--json").json["group"])


def test_a_storm_is_one_row_and_one_yes(cli: Cli, page: Page) -> None:
    ids = storm(cli)
    before = len(cli.cleared())
    page.look()
    assert "4 failures together" in page.text
    assert page.buttons().count("Open") == 2
    assert "waiting for a person: 5" in page.text
    page.app.button(key=f"open-{group_of(cli, ids[0])}").click()
    page.again()
    assert "4 tasks, 4 DAGs" in page.text
    assert "– no grant covers retry in orders (1 of 4)" in page.text
    assert "– re-run unproven" in page.text
    for name in ("billing", "orders", "sales", "stock"):
        assert f"retry {name}.load  in storm (try 1 failed)" in page.text
    page.press("Approve all 4")
    assert page.text.count("runs again; aiops watch --once tells how it ends") == 4
    assert cli.cleared()[before:] == [["load"]] * 4
    assert {cli.status(id_) for id_ in ids} == {"acting"}
    assert "Nothing of this group waits for a person any more." in page.text
    decided = cli.ok("incidents", "show", ids[0], "--json").json["decided"]
    assert (decided["kind"], decided["by"]) == ("approve", "ana")


def test_of_a_storm_what_has_changed_is_left_out(cli: Cli, page: Page) -> None:
    """One was approved elsewhere and one started by hand since the plans were shown."""
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0]))
    assert "Approve all 4" in page.buttons()
    cli.ok("approve", ids[0], "--yes")
    by_hand = cli.ok("incidents", "show", ids[1], "--json").json
    row = cli.server.instances[(by_hand["dag_id"], "storm", "load", -1)]
    row |= {"state": "running", "try_number": 2}
    before = len(cli.cleared())
    page.again()
    assert "This has changed since the page was made." in page.text
    page.press("Approve all 4")
    assert len(cli.cleared()) == before + 2
    assert f"{ids[0]}: {ids[0]} is acting: nothing was done" in page.text
    assert f"{ids[1]}: {ids[1]} is superseded" in page.text
    assert [cli.status(id_) for id_ in ids] == ["acting", "superseded", "acting", "acting"]


@pytest.mark.file_only
def test_a_second_click_is_no_yes_to_another_storm(cli: Cli, page: Page) -> None:
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0]))
    before = cli.cleared()
    del page.app.session_state["shown-storm"]
    page.press("Approve all 4")
    assert "nothing was done. Look at it, then say yes." in page.text
    assert cli.cleared() == before


@pytest.mark.file_only
def test_with_airflow_gone_the_rest_of_a_storm_is_left(cli: Cli, page: Page) -> None:
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0]))
    before = cli.cleared()
    cli.server.fault("/api/v2/", times=1000, status=503)
    page.press("Approve all 4")
    assert "the others were not tried" in page.text
    assert cli.cleared() == before
    assert {cli.status(id_) for id_ in ids} == {"pending"}
    assert "It cannot be done now" in page.text


@pytest.mark.file_only
def test_a_storm_is_rejected_with_one_reason(cli: Cli, page: Page) -> None:
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0])).press("Reject all")
    assert "the reason is empty" in page.text
    page.fill("Why it is wrong", "the vendor sends it anew").press("Reject all")
    assert page.text.count(": rejected") == 4
    assert {cli.status(id_) for id_ in ids} == {"rejected"}


@pytest.mark.file_only
def test_what_cannot_be_approved_of_a_storm_is_named(cli: Cli, page: Page) -> None:
    """Nobody has answered this before."""
    for name in ("billing", "orders", "sales"):
        cli.server.add_failure(name, "load", events=[REFUSED])
    (first, *_) = cli.ok("watch", "--once", "--json").lines
    page.look(group=first["group"])
    assert page.text.count("no action is known for") == 3
    assert "None of them can be approved as they are" in page.text
    assert not [label for label in page.buttons() if label.startswith("Approve")]


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


# ---- who may ----


@pytest.mark.file_only
def test_read_only_shows_all_and_offers_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    id_ = answered(cli)
    looked = opened(cli, monkeypatch, read_only=True).look(incident=id_)
    assert "read only" in looked.text
    assert "retry orders.load  in second" in looked.text
    assert not {"Approve", "Reject", "Remember it", "Show what it would do"} & {*looked.buttons()}


@pytest.mark.file_only
def test_the_proxy_names_who_acts(cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    id_ = answered(cli)
    came_with(monkeypatch, ("X-Forwarded-User", "ben@example.com\x1b[31m"))
    named = opened(cli, monkeypatch, user_header="X-Forwarded-User").look(incident=id_)
    assert "you decide as ben@example.com" in named.text
    named.press("Approve")
    assert cli.ok("incidents", "show", id_, "--json").json["decided"]["by"] == "ben@example.com"
    came_with(monkeypatch)
    named.look(incident=id_)
    assert "no X-Forwarded-User came with the request" in named.text


@pytest.mark.file_only
@pytest.mark.parametrize(
    "sent",
    [
        [],
        ["", " \t"],
        [" \x1b[2J "],
        # The proxy adds its own beside what the browser sent.
        ["ana", "ben"],
        ["ben", "ana"],
        ["ben", "ben"],
    ],
)
def test_a_name_that_the_proxy_alone_did_not_give_is_none(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page, sent: list[str]
) -> None:
    id_ = answered(cli)
    came_with(monkeypatch, *(("x-forwarded-user", name) for name in sent))
    around = opened(cli, monkeypatch, user_header="X-Forwarded-User").look(incident=id_)
    came = "several" if len(sent) > 1 else "no"
    assert f"{came} X-Forwarded-User came with the request" in around.text
    assert "retry orders.load  in second" in around.text
    assert not {"Approve", "Reject", "Remember it"} & {*around.buttons()}


@pytest.mark.file_only
def test_a_header_that_nobody_set_names_nobody(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    id_ = answered(cli)
    names = ("X-Forwarded-User", "Remote-User", "user_header", "X-Auth-Request-Email")
    came_with(monkeypatch, *((name, "mallory") for name in names))
    page.look(incident=id_, user_header="X-Forwarded-User", user="mallory")
    assert "you decide as ana" in page.text
    page.press("Approve")
    assert cli.ok("incidents", "show", id_, "--json").json["decided"]["by"] == "ana"


@pytest.mark.file_only
def test_read_only_is_not_lifted_from_a_browser(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    """Not by an address, and not by a button that is pressed all the same."""
    id_ = answered(cli)
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
    looked = opened(cli, monkeypatch, read_only=True)
    looked.look(incident=id_, read_only="false", embed="true", user_header="X")
    assert "read only" in looked.text
    settings = replace(frame._settings(None), read_only=True)
    shown = acts.plan(settings, id_, acts.Edit())
    before = cli.counts()
    for change in (
        lambda: acts.approve(settings, shown),
        lambda: acts.approve_storm(settings, [shown]),
        lambda: acts.reject(settings, id_, "no", ""),
        lambda: acts.reject_storm(settings, [id_], "no"),
        lambda: acts.remember(settings, id_, cause="c", action="none", params={}),
        lambda: acts.retire(settings, entry["entry"], "old"),
    ):
        with pytest.raises(Refused, match="read only"):
            change()
    assert cli.counts() == before
    assert cli.status(id_) == "pending"


def came_with(monkeypatch: pytest.MonkeyPatch, *headers: tuple[str, str]) -> None:
    """What the browser's connection came with."""
    monkeypatch.setattr(type(st.context), "headers", StreamlitHeaders(headers))


# ---- what is shown is text ----


@pytest.mark.file_only
def test_hostile_text_is_shown_as_text(cli: Cli, page: Page) -> None:
    id_ = cli.capture("orders", events=[exception("KeyError", HOSTILE)])
    cli.ok("note", id_, HOSTILE)
    page.look(incident=id_)
    page.fill("Its cause", HOSTILE).press("Remember it")
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
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
    for kind in ("button", "text_input", "selectbox", "expander"):
        for one in page.app.get(kind):
            assert "javascript" not in str(getattr(one, "label", "")), kind


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
    for word in ("Connection refused", "it loaded twice", "orders", "ConnectionRefusedError"):
        assert word in overview.tables(), word


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


# ---- starting it ----


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Streamlit is started with."""
    given: list[str] = []
    monkeypatch.setattr(streamlit_cli, "main", lambda args, standalone_mode: given.extend(args))
    monkeypatch.setattr(net_util, "get_external_ip", None)  # put back afterwards
    return given


@pytest.mark.file_only
def test_it_is_for_this_machine_alone_and_calls_nobody(cli: Cli, flags: list[str]) -> None:
    port = free_port()
    said = cli.ok("dashboard", f"--port={port}")
    assert f"http://127.0.0.1:{port}" in said.err
    assert "warning" not in said.err
    assert flags[:2] == ["run", str(command.SCRIPT)]
    assert Path(flags[1]).is_file()
    assert {
        "--server.address=127.0.0.1",
        f"--server.port={port}",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    } < {*flags}
    hosts = [flag for flag in flags if flag.startswith("--server.allowedHosts")]
    assert [flag.partition("=")[2] for flag in hosts] == ["127.0.0.1", "::1", "localhost"]
    given = json.loads(flags[-1])
    assert given == {
        "instance": None,
        "read_only": False,
        "user_header": None,
        "public_host": None,
    }
    frame.Access(**given)
    assert net_util.get_external_ip() is None  # and asks nobody


@pytest.mark.file_only
def test_open_to_a_network_it_warns_where_nobody_is_named(cli: Cli, flags: list[str]) -> None:
    port = free_port()
    warning = f"whoever reaches 0.0.0.0:{port} may decide as ana"
    everywhere = ("dashboard", "--host=0.0.0.0", f"--port={port}")
    assert warning in cli.ok(*everywhere).text
    assert warning not in cli.ok(*everywhere, "--read-only").text
    named = ("--user-header", "X-Forwarded-User", "--public-host", "aiops.example.com")
    assert warning not in cli.ok(*everywhere, *named).text
    assert "--browser.serverAddress=aiops.example.com" in flags
    assert "--server.allowedHosts=aiops.example.com" in flags


@pytest.mark.file_only
def test_without_its_package_it_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    said = cli.run("dashboard")
    said.refused(2, "aiops dashboard needs the package streamlit", "aiops-cli[dashboard]")


@pytest.mark.file_only
def test_a_knowledge_base_that_cannot_be_used_is_told_at_once(cli: Cli, flags: list[str]) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}"
    assert cli.run("dashboard").code == 4
    assert flags == []


@pytest.mark.file_only
@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_where_it_cannot_listen_it_says_so(cli: Cli, flags: list[str], host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = cli.run("dashboard", f"--host={host}", f"--port={port}")
    said.refused(2, f"nothing can listen on {host}:{port}", "choose another --port")
    assert flags == []


@pytest.mark.file_only
def test_it_is_served_behind_the_guard(cli: Cli) -> None:
    """A page of another port of this machine, which Streamlit would let in, gets no connection."""
    own = f"127.0.0.1:{free_port()}"
    with (
        (cli.home / "out").open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "aiops_cli", "dashboard", f"--port={own.rpartition(':')[2]}"],
            env=cli.process_environ(),
            cwd=cli.home,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            page = served(process, f"http://{own}/")
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
            assert asked(own, f"http://{own}") == 101
            assert asked(own, "http://localhost:3000") == 403
            assert asked(own, "null") == 403
        finally:
            process.terminate()


def served(process: subprocess.Popen[bytes], url: str) -> httpx.Response:
    end = time.monotonic() + SECONDS
    while True:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)


def asked(own: str, origin: str) -> int:
    """The answer to who asks for a page's connection."""
    headers = {
        "Origin": origin,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with httpx.stream("GET", f"http://{own}/_stcore/stream", headers=headers) as answer:
        return answer.status_code


def test_streamlit_knows_every_flag(flags: list[str]) -> None:
    """One that it does not know would end it."""
    from streamlit import config

    config.get_config_options()
    known = set(config._config_options_template)
    asked = {flag.partition("=")[0] for flag in command._flags("127.0.0.1", 8501, "a.example")}
    assert {flag.removeprefix("--") for flag in asked} <= known


def test_none_of_its_files_hides_another_module() -> None:
    """Streamlit puts the script's folder first on the path."""
    own = {path.stem for path in command.SCRIPT.parent.glob("*.py")}
    others = {*sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}
    assert own & others == {"__init__"} & others
