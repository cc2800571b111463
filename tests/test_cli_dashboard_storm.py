"""`aiops dashboard`: what failed together is one row and one yes."""

from __future__ import annotations

import pytest

from tests import dashboard_pages
from tests.cli import BUG, Cli
from tests.dashboard_pages import Page
from tests.desk import REFUSED
from tests.test_cli_actions import three_failed, with_entry

page = dashboard_pages.page


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
    assert "4 of them: runs again; aiops watch --once tells how it ends" in page.text
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
    assert "what came after it was not tried" in page.text
    assert cli.cleared() == before
    assert {cli.status(id_) for id_ in ids} == {"pending"}
    assert "It cannot be done now" in page.text


@pytest.mark.file_only
def test_an_act_that_fails_ends_a_storm(cli: Cli, page: Page) -> None:
    """What Airflow does not do for one it may not do for the rest: a person looks first."""
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0]))
    before = len(cli.cleared())
    cli.at_the_act(lambda: cli.server.fault("clearTaskInstances", status=422))
    page.press("Approve all 4")
    assert "what came after it was not tried" in page.text
    assert len(cli.cleared()) == before + 1
    assert {cli.status(id_) for id_ in ids} == {"pending"}


@pytest.mark.file_only
def test_what_a_storm_changes_alike_is_changed_once(cli: Cli, page: Page) -> None:
    group, first, *others = three_failed(cli)
    with_entry(cli)
    page.look(group=group)
    assert page.text.count("connection orders_db: host db1.example.com → db2.example.com") == 1
    assert page.text.count(f"connection orders_db is changed for {first}; after that this") == 2
    page.press("Approve all 3")
    assert sum("/connections/" in one.path for one in cli.server.sent("PATCH")) == 1
    assert cli.cleared() == [["load"]] * 3
    assert {cli.status(one) for one in (first, *others)} == {"acting"}


@pytest.mark.file_only
def test_a_hold_on_one_of_a_storm_is_told(cli: Cli, page: Page) -> None:
    """By somebody who is in there: a yes to what was shown before it is none to that one."""
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0]))
    assert "held by" not in page.text
    cli.ok("hold", ids[0], "--reason", "restoring it")
    page.again()
    assert "This has changed since the page was made." in page.text
    assert "held by ana" in page.text
    before = len(cli.cleared())
    page.press("Approve all 4")
    assert f"{ids[0]} has changed since this page was shown: nothing was done" in page.text
    assert len(cli.cleared()) == before + 3
    assert cli.status(ids[0]) == "pending"


@pytest.mark.file_only
def test_a_storm_is_rejected_with_one_reason(cli: Cli, page: Page) -> None:
    ids = storm(cli)
    page.look(group=group_of(cli, ids[0])).press("Reject all")
    assert "the reason is empty" in page.text
    page.fill("Why it is wrong", "the vendor sends it anew").press("Reject all")
    assert "4 of them: rejected" in page.text
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
