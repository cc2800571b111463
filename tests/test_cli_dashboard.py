"""`aiops dashboard`: the queue and what a click does, on both stores. tests/e2e has the browser."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests import dashboard_pages
from tests.cli import Cli
from tests.dashboard_pages import Page, answered
from tests.desk import REFUSED

page = dashboard_pages.page

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


def test_a_yes_to_what_was_shown_before_a_word_of_somebody_is_none(cli: Cli, page: Page) -> None:
    """Though what it would do is the same: a note, a hold."""
    id_ = answered(cli)
    before = cli.cleared()
    for said in (("note", id_, "wait, I am in there"), ("hold", "orders", "2h")):
        page.look(incident=id_)
        cli.ok(*said)
        page.press("Approve")
        assert f"{id_} has changed since this page was shown: nothing was done" in page.text
    assert cli.cleared() == before
    assert cli.status(id_) == "pending"


@pytest.mark.file_only
def test_a_hold_is_told_in_the_list_and_beside_the_plan(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look()
    assert "held by" not in page.text
    cli.ok("hold", "orders", "--reason", "restoring it")
    page.look()
    assert re.search(r"held by ana until .*: restoring it · proposes retry", page.text)
    page.look(incident=id_)
    assert len(re.findall(r"held by ana until .*: restoring it", page.text)) == 2
    page.press("Approve")  # who says yes with the hold before them may
    assert cli.status(id_) == "acting"


@pytest.mark.file_only
def test_a_pause_is_told_and_a_person_may_act_all_the_same(cli: Cli, page: Page) -> None:
    id_ = answered(cli)
    page.look(incident=id_)
    assert "paused" not in page.text
    cli.ok("pause", "--reason", "migration")
    page.again()
    assert "paused by ana: migration · nothing is done alone" in page.text
    page.press("Approve")
    assert cli.status(id_) == "acting"
    cli.ok("resume")
    assert "paused" not in page.again().text
