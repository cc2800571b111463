"""`aiops triage`: a person walks what waits. What was decided is stored as it is decided."""

from __future__ import annotations

import re
import threading
import webbrowser
from typing import Any

import pytest

from aiops_cli import decide, respond
from aiops_cli.commands import deeds, triage
from knowledge.errors import StoreUnusable
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED


def waiting(cli: Cli, *dags: str) -> list[str]:
    """The ids of failures that wait, in the order in which triage shows them; no two of them
    have anything in common."""
    for dag in dags:
        cli.capture(dag, events=[BUG if dag == "sales" else REFUSED])
    return [doc["incident"] for doc in cli.ok("incidents", "--json").json["incidents"]]


def statuses(cli: Cli, ids: list[str]) -> list[str]:
    return [cli.status(incident) for incident in ids]


def test_it_shows_each_and_asks(cli: Cli) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys="s\ns\n")
    assert said.code == 0
    assert said.out == ""
    assert "2 left  [a approve · e edit · r reject" in said.err
    assert "1 left" in said.err
    assert said.err.index(ids[0][:4]) < said.err.index(ids[1][:4])
    assert "orders.load" in said.err
    assert "sales.load" in said.err
    assert statuses(cli, ids) == ["pending", "pending"]


def test_it_captures_what_has_failed_meanwhile(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[BUG])
    said = cli.type("triage", keys="s\n")
    assert "KeyError: 'unit_price'" in said.err
    assert len(cli.ok("incidents", "--json").json["incidents"]) == 1


def test_approve_shows_the_plan_and_asks_once_more(cli: Cli) -> None:
    cli.mended()
    (incident,) = waiting(cli, "orders")[:1]
    said = cli.type("triage", keys="a\ny\n")
    assert "PROPOSE  retry load" in said.err
    assert "the task gets 1 more try" in said.err
    assert "do this? [y/N]" in said.err
    assert cli.status(incident) == "acting"


def test_a_second_thought_leads_back_to_the_question(cli: Cli) -> None:
    cli.mended()
    (incident,) = waiting(cli, "orders")[:1]
    said = cli.type("triage", keys="a\nn\ns\n")
    assert said.err.count("1 left") == 2
    assert cli.status(incident) == "pending"


def test_edit_names_another_action_and_cause(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    cli.type("triage", keys="e\nnone\nthe vendor is down\ny\n")
    document = cli.ok("incidents", "show", incident, "--json").json
    assert document["status"] == "resolved"
    assert document["decided"]["action"] == "none"
    assert document["decided"]["cause"] == "the vendor is down"


@pytest.mark.parametrize(
    ("keys", "question", "message"),
    [
        ("e\ndance\nretry\n\ny\n", "action [retry]", "there is no action 'dance'"),
        (
            "e\nretry_later\ndelay=soon\nhold=1\ndelay=7m\n\ny\n",
            "delay as K=V",
            "retry_later does not take hold (it takes delay)",
        ),
        (
            "e\nset_variable\nkey=batch\nkey=batch, value=5\n\ny\n",
            "key, value as K=V",
            "set_variable needs value",
        ),
        (
            "e\nupdate_connection\nconnection_id=db, host=http://db2\n"
            "connection_id=db, host=db2\n\ny\n",
            "extra as K=V",
            "host='http://db2' is no host name",
        ),
        ("z\nlater\n1h\n", "for how long (2h) [1h]", "'later' is not a duration"),
        ("h\n2\n2h\ns\n", "hold orders for [30m]", "'2' of what?"),
    ],
)
def test_a_bad_answer_is_told_and_the_same_is_asked_again(
    cli: Cli, keys: str, question: str, message: str
) -> None:
    """What is typed next would else be taken for keys: `h` of a host holds the DAG."""
    (incident,) = waiting(cli, "orders")
    cli.server.add_connection("db", host="db1")
    said = cli.type("triage", keys=keys)
    assert message in said.text
    assert said.err.count(question) >= 2
    assert said.err.count("1 left") == (2 if keys.startswith("h") else 1)
    assert len(cli.ok("hold", "--json").json["holds"]) == keys.startswith("h")
    assert cli.status(incident) == ("pending" if keys[0] in "zh" else "acting")


def test_ctrl_c_leads_back_from_a_bad_answer(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="e\ndance\n\x03\ns\n")
    assert "Ctrl-C leads back" in said.err
    assert said.err.count("1 left") == 2
    assert cli.status(incident) == "pending"


def test_what_is_no_action_is_told_before_anything_else_is_asked(cli: Cli) -> None:
    waiting(cli, "orders")
    said = cli.type("triage", keys="e\ndance\nnone\nthe vendor is down\ny\n")
    assert said.err.index("there is no action 'dance'") < said.err.index("cause, for next time")
    assert cli.ok("incidents", "--json").json["incidents"][0]["status"] == "resolved"


def seed(cli: Cli, action: str, more: str = "") -> None:
    """A runbook that answers to REFUSED with this action."""
    book = cli.home / "book.yaml"
    book.write_text(
        "- title: t\n  error: 'ConnectionRefusedError: [Errno 111] Connection refused'\n"
        f"  cause: c\n  action: {action}\n{more}"
    )
    cli.ok("kb", "seed", str(book))


def test_a_person_is_warned_where_the_runbook_says_no(cli: Cli) -> None:
    seed(cli, "retry", "  safe_to_retry: false\n")
    waiting(cli, "orders")
    said = cli.type("triage", keys="a\nn\ns\n")
    careful = said.err.index("careful: the runbook says not to run this again")
    assert careful < said.err.index("do this? [y/N]")


@pytest.mark.parametrize("task", ["load", "publish"])
def test_no_upstream_is_proposed_where_none_runs_before_it(cli: Cli, task: str) -> None:
    seed(cli, "retry_upstream", "  explanation: what it reads is stale\n")
    cli.server.add_dag("orders", {"load": ["publish"]})
    incident = cli.capture("orders", task, events=[REFUSED])
    known = cli.ok("incidents", "show", incident, "--json").json["diagnosis"]
    assert known["explanation"].endswith("what it reads is stale")
    assert known["action"] == ("none" if task == "load" else "retry_upstream")
    assert ("comes from elsewhere" in known["explanation"]) is (task == "load")


def test_the_help_fits_a_narrow_terminal() -> None:
    assert max(len(line) for line in triage.HELP.splitlines()) <= 80


def test_approve_of_what_nobody_knows_says_how(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="a\ns\n")
    assert "no action is known" in said.err
    assert "name one" in said.err
    assert cli.status(incident) == "pending"


def test_reject_asks_why(cli: Cli) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys="r\nit pays twice\nr\n\n\ns\n")  # the second without a reason
    assert "why not?" in said.err
    assert statuses(cli, ids) == ["rejected", "pending"]
    assert cli.ok("incidents", "show", ids[0], "--json").json["decided"]["reason"] == (
        "it pays twice"
    )


def test_log_is_shown_without_escapes_and_asks_again(cli: Cli) -> None:
    cli.capture("orders", events=[exception("ValueError", "\x1b[2J[red]bad[/red]")])
    said = cli.type("triage", keys="l\ns\n")
    assert "ValueError: [red]bad[/red]" in said.err
    assert "\x1b" not in said.err
    assert said.err.count("1 left") == 2


def test_open_prints_the_address_and_asks_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(cli, "orders")
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", browser)
    said = cli.type("triage", keys="o\ns\n")
    assert len(opened) == 1
    assert opened[0] in said.err
    assert said.err.count("1 left") == 2


def test_an_unknown_key_asks_again(cli: Cli) -> None:
    waiting(cli, "orders")
    said = cli.type("triage", keys="x\n\ns\n")
    assert said.err.count("1 left") == 3


@pytest.mark.parametrize(
    ("keys", "interrupt", "code", "word"),
    [
        ("r\nno\nq\n", False, 0, "1 still wait; aiops triage goes on"),
        ("r\nno\n", False, 0, "1 still wait; aiops triage goes on"),  # Ctrl-D
        ("r\nno\n", True, 130, "interrupted; nothing was lost"),
    ],
    ids=["quit", "ctrl-d", "ctrl-c"],
)
def test_it_can_be_left_and_taken_up_again(
    cli: Cli, keys: str, interrupt: bool, code: int, word: str
) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys=keys, interrupt=interrupt)
    assert said.code == code
    assert word in said.err
    assert statuses(cli, ids) == ["rejected", "pending"]
    said = cli.type("triage", keys="s\n")
    assert "1 left" in said.err
    assert ids[0][:4] not in said.err


def test_ctrl_d_at_the_last_question_does_nothing(cli: Cli) -> None:
    cli.mended()
    (incident,) = waiting(cli, "orders")[:1]
    said = cli.type("triage", keys="a\n")
    assert said.code == 0
    assert cli.status(incident) == "pending"


def test_ctrl_d_at_the_reason_does_not_reject(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    cli.type("triage", keys="r\n")
    assert cli.status(incident) == "pending"


def test_what_somebody_else_ran_meanwhile_is_superseded_and_the_next_one_comes(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = waiting(cli, "orders", "sales")
    row = next(row for key, row in cli.server.instances.items() if key[0] == "sales")

    def somebody_else(url: str) -> bool:
        row.update(id="another", state="running", try_number=2)
        return True

    monkeypatch.setattr(webbrowser, "open", somebody_else)
    said = cli.type("triage", keys="o\ne\nretry\n\ns\n")  # the first one shown is sales
    assert said.code == 0
    assert "somebody else has run it again" in said.err
    assert "1 left" in said.err
    assert statuses(cli, ids) == ["superseded", "pending"]
    assert cli.cleared() == []


def test_only_the_dags_asked_for(cli: Cli) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", "--dag", "sal*", keys="s\n")
    assert "sales.load" in said.err
    assert "1 left" in said.err
    assert statuses(cli, ids) == ["pending", "pending"]


# ---- what it remembers of a session ----


def test_new_remembers_what_it_is_without_acting_and_judges_again(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="n\nnightly restart of the database\nretry\ns\n")
    assert "remembered" in said.err
    assert said.err.count("orders.load  FAILED") == 2
    assert "PROPOSE  retry load" in said.err
    assert cli.status(incident) == "pending"
    assert cli.cleared() == []
    (entry,) = cli.ok("kb", "list", "--kind=incident", "--json").json["entries"]
    assert (entry["cause"], entry["action"]) == ("nightly restart of the database", "retry")
    document = cli.ok("incidents", "show", incident, "--json").json
    assert document["diagnosis"]["by"] == "exact"
    assert document["diagnosis"]["cause"] == "nightly restart of the database"


def test_what_is_remembered_may_take_params(cli: Cli) -> None:
    waiting(cli, "orders")
    cli.type("triage", keys="n\nthe vendor sleeps\nretry_later\ndelay=45m\ns\n")
    (entry,) = cli.ok("kb", "list", "--kind=incident", "--json").json["entries"]
    assert (entry["action"], entry["params"]) == ("retry_later", {"delay": "45m"})


def test_hold_keeps_hands_off_the_dag_and_asks_again(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="h\n\ns\n")
    assert "hold orders for [30m]" in said.err
    assert said.err.count("1 left") == 2
    (held,) = cli.ok("hold", "--json").json["holds"]
    assert (held["target"], held["by"]) == ("orders", "ana")
    assert cli.status(incident) == "pending"


def test_snooze_leaves_it_for_later(cli: Cli) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys="z\n2h\ns\n")
    assert "left until" in said.err
    assert "1 left" in said.err
    document = cli.ok("incidents", "show", ids[0], "--json").json
    assert (document["status"], bool(document["snoozed_until"])) == ("pending", True)
    assert ids[0][:4] not in cli.type("triage", keys="s\n").err


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ("r\nit pays twice\nu\nq\n", "taken back: the rejection of sales.load"),
        ("e\nnone\nthe vendor is down\ny\nu\nq\n", "taken back: none of sales.load"),
        ("z\n2h\nu\nq\n", "taken back: the snooze of sales.load"),
        ("h\n\nu\nq\n", "taken back: the hold on sales"),
        ("n\na cause\nnone\nu\nq\n", "taken back: what was remembered of sales.load"),
    ],
    ids=["reject", "none", "snooze", "hold", "new"],
)
def test_undo_takes_back_what_touched_nothing(cli: Cli, keys: str, word: str) -> None:
    first, _ = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys=keys)
    assert said.code == 0
    assert word in said.err
    assert "2 still wait" in said.err
    document = cli.ok("incidents", "show", first, "--json").json
    assert (document["status"], document["snoozed_until"]) == ("pending", None)
    assert cli.ok("hold", "--json").json["holds"] == []
    assert cli.ok("kb", "list", "--kind=incident", "--json").json["entries"] == []


def test_what_was_taken_back_may_be_decided_again(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    remember = "n\nthe vendor is down\nnone\n"
    cli.type("triage", keys=f"{remember}u\n{remember}r\nno\nu\nr\nreally not\n")
    (entry,) = cli.ok("kb", "list", "--kind=incident", "--json").json["entries"]
    assert entry["cause"] == "the vendor is down"
    document = cli.ok("incidents", "show", incident, "--json").json
    assert (document["status"], document["decided"]["reason"]) == ("rejected", "really not")


def test_undo_with_nothing_done_says_so(cli: Cli) -> None:
    waiting(cli, "orders")
    assert "nothing was decided in this session" in cli.type("triage", keys="u\nq\n").err


def test_an_act_cannot_be_undone_and_that_is_said(cli: Cli) -> None:
    cli.mended()
    cli.capture("sales", events=[BUG])
    cli.capture("orders", events=[REFUSED])
    said = cli.type("triage", keys="a\ny\nu\ns\n")
    assert "retry of orders.load ran in Airflow and cannot be undone" in said.err
    assert "aiops wrong" in said.err
    assert len(cli.cleared()) == 2  # of the one that was mended, and this one


@pytest.mark.parametrize("begun", [False, True])
def test_what_waits_for_its_time_is_called_off(cli: Cli, begun: bool) -> None:
    """Unless a watcher has begun it meanwhile."""
    incident = cli.capture("orders", events=[REFUSED])
    if begun:
        cli.monkeypatch.setattr("aiops_cli.decide.call_off", lambda *_: False)
    keys = "e\nretry_later\ndelay=10m\nbusy\ny\nu\n"
    said = cli.type("triage", keys=keys + ("" if begun else "q\n"))
    assert ("taken back: retry_later of orders.load" in said.err) is not begun
    assert ("ran in Airflow and cannot be undone" in said.err) is begun
    assert cli.status(incident) == ("acting" if begun else "pending")
    entries = cli.ok("kb", "list", "--json").json["entries"]
    assert len([one for one in entries if not one["retired"]]) == begun
    assert cli.cleared() == []


# ---- what was typed is not lost ----


def test_what_was_typed_is_offered_again_when_the_act_fails(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    keys = "e\nretry_later\ndelay=7m\nthe vendor sleeps\ny\n"
    cli.server.fault("POST .*/clear", status=403, body=b'{"detail":"Forbidden"}')
    said = cli.type("triage", keys=f"{keys}e\n\n\n\ny\n")
    assert "delay as K=V [delay=7m]" in said.err
    assert "cause, for next time [the vendor sleeps]" in said.err
    document = cli.ok("incidents", "show", incident, "--json").json
    assert document["status"] == "acting"
    assert document["decided"]["params"] == {"delay": "7m"}
    assert document["decided"]["cause"] == "the vendor sleeps"


def test_what_is_stored_or_was_only_offered_is_not_told_as_lost(cli: Cli) -> None:
    waiting(cli, "orders")
    said = cli.type("triage", keys="n\nthe vendor sleeps\n\nh\n2h\nz\n\n")
    assert "remembered" in said.err
    assert "held: orders" in said.err
    assert "left until" in said.err
    assert "not stored" not in said.err


def test_a_reason_survives_a_base_that_cannot_be_written(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (incident,) = waiting(cli, "orders")
    reject = decide.reject
    failed: list[bool] = []

    def once(*args: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            raise StoreUnusable("the knowledge base is locked", "try again")
        return reject(*args, **options)

    monkeypatch.setattr(decide, "reject", once)
    said = cli.type("triage", keys="r\nit pays twice\nr\n\n")
    assert "the knowledge base is locked" in said.err
    assert "why not? [it pays twice]" in said.err
    assert cli.ok("incidents", "show", incident, "--json").json["decided"]["reason"] == (
        "it pays twice"
    )


def test_ctrl_c_leads_back_once_and_leaves_twice(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="r\n\x03\nr\nno\n")  # at the reason
    assert "back to the question" in said.err
    assert cli.status(incident) == "rejected"
    cli.capture("sales", events=[BUG])
    said = cli.type("triage", keys="\x03\n?\n\x03\ns\n")  # not twice in a row
    assert said.code == 0
    said = cli.type("triage", keys="\x03\n\x03\n")
    assert said.code == 130


# ---- groups ----


def storm(cli: Cli, *dags: str) -> list[str]:
    """Failures of one signature; the ids in the order in which triage has them."""
    for dag in dags:
        cli.capture(dag, events=[REFUSED])
    return [doc["incident"] for doc in cli.ok("incidents", "--json").json["incidents"]]


def test_a_group_is_one_item(cli: Cli) -> None:
    ids = storm(cli, "orders", "sales", "prices")
    said = cli.type("triage", keys="r\nthe vendor is down\n")
    assert "3 left  [all: a approve" in said.err
    assert "3 failures: ConnectionRefusedError" in said.err
    assert "3 tasks, 3 DAGs" in said.err
    assert statuses(cli, ids) == ["rejected"] * 3


def test_of_a_large_group_some_are_named_and_the_rest_counted(cli: Cli) -> None:
    for number in range(17):
        cli.server.add_failure(f"dag_{number:02}", "load", events=[REFUSED])
    said = cli.type("triage", keys="q\n").text
    assert sum(f"dag_{number:02}.load" in said for number in range(17)) == 15
    assert "… and 2 more: aiops incidents show" in said
    assert "17 left" in said


def test_undo_of_a_groups_decision_takes_back_all_of_it(cli: Cli) -> None:
    cli.capture("rates", events=[BUG])
    ids = storm(cli, "orders", "sales", "prices")
    said = cli.type("triage", keys="r\nno\nu\nq\n")
    assert re.search(r"taken back: the rejection of \w+\.load and 2 more", said.err)
    assert "4 still wait" in said.err
    assert statuses(cli, ids) == ["pending"] * 4


def test_snooze_and_hold_of_a_group(cli: Cli) -> None:
    storm(cli, "orders", "sales")
    cli.type("triage", keys="h\n\nz\n\n")
    assert {one["target"] for one in cli.ok("hold", "--json").json["holds"]} == {"orders", "sales"}
    assert "nothing waits" in cli.type("triage", keys="").err


def test_what_was_typed_of_a_group_is_offered_for_each(cli: Cli) -> None:
    first, second = storm(cli, "orders", "sales")
    edited = "e\nretry_later\ndelay=7m\nthe vendor sleeps\nn\n"
    said = cli.type("triage", keys=f"{edited}x\ne\n\n\n\ny\ne\n")  # then Ctrl-D
    assert said.err.count("action [retry_later]") == 2
    assert statuses(cli, [first, second]) == ["acting", "pending"]
    assert f"typed for {second} and not stored: params: delay=7m" in said.err
    assert f"typed for {first}" not in said.err


def test_approve_of_a_group_shows_every_plan_and_asks_once(cli: Cli) -> None:
    cli.mended("orders")
    ids = storm(cli, "orders", "sales")[:2]
    said = cli.type("triage", keys="a\ny\n")
    assert said.err.count("do this? [y/N]") == 1
    assert "retry orders.load" in said.err
    assert "retry sales.load" in said.err
    assert statuses(cli, ids) == ["acting", "acting"]


def test_of_a_large_group_so_many_are_approved_at_once(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deeds, "AT_ONCE", 2)
    cli.mended("orders")
    ids = storm(cli, "orders", "sales", "prices", "rates")[:4]
    cli.server.fault(f"POST .*/{dag_of(cli, ids[1])}/clear", status=409, body=b'{"detail":"no"}')
    said = cli.type("triage", keys="a\ny\ns\nr\nno\n")
    assert "the newest 2 of 4; the others are asked for after them" in said.err
    assert "3 left  [a approve" in said.err  # what was refused, by itself
    assert "2 left  [all: a approve" in said.err
    assert statuses(cli, ids) == ["acting", "pending", "rejected", "rejected"]


def dag_of(cli: Cli, incident: str) -> str:
    return str(cli.ok("incidents", "show", incident, "--json").json["dag_id"])


def test_the_plans_of_a_group_are_asked_for_a_few_at_a_time(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.mended("orders")
    storm(cli, "orders", "sales", "prices", "rates")
    together, preview = threading.Barrier(4), respond.preview

    def counted(*args: Any) -> Any:
        together.wait(20)  # the four of the default do come together, or this breaks
        return preview(*args)

    monkeypatch.setattr(respond, "preview", counted)
    said = cli.type("triage", keys="a\nn\nq\n")
    for dag in ("orders", "sales", "prices", "rates"):
        assert f"retry {dag}.load" in said.err
    assert cli.cleared() == [["load"]]  # of what mended it before


def test_what_is_refused_of_a_group_is_told_and_asked_for_by_itself(cli: Cli) -> None:
    cli.mended("orders")
    newest, other = storm(cli, "orders", "sales")[:2]
    cli.at_the_act(lambda: cli.server.fault("POST .*/clear", status=403, body=b"{}"))
    said = cli.type("triage", keys="a\ny\ns\n")
    assert "sales.load: " in said.err
    assert "1 left  [a approve" in said.err
    assert statuses(cli, [newest, other]) == ["pending", "acting"]


def test_expand_walks_a_group_one_by_one(cli: Cli) -> None:
    ids = storm(cli, "orders", "sales")
    said = cli.type("triage", keys="n\nx\nr\nno\ns\n")
    assert "one failure at a time" in said.err
    assert statuses(cli, ids) == ["rejected", "pending"]


def test_edit_of_a_group_asks_once_for_all(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeds, "AT_ONCE", 2)
    ids = storm(cli, "orders", "sales", "prices")
    said = cli.type("triage", keys="e\nretry_later\ndelay=7m\nthe vendor sleeps\ny\ns\n")
    assert said.err.count("delay as K=V") == 1
    assert "the newest 2 of 3" in said.err
    assert statuses(cli, ids) == ["acting", "acting", "pending"]
    for one in ids[:2]:
        decided = cli.ok("incidents", "show", one, "--json").json["decided"]
        assert (decided["params"], decided["cause"]) == ({"delay": "7m"}, "the vendor sleeps")


def test_what_all_of_a_group_lack_is_told_once(cli: Cli) -> None:
    seed(cli, "update_connection")
    ids = storm(cli, "orders", "sales", "prices")
    said = cli.type("triage", keys="a\ns\n")
    needs = "update_connection needs connection_id and host, port, schema, login or extra"
    assert f"prices.load and 2 more: {needs} (give it: --set connection_id=…" in said.text
    assert said.text.count(needs) == 1
    assert statuses(cli, ids) == ["pending"] * 3
    group = cli.ok("incidents", "show", ids[0], "--json").json["group"]
    told = cli.run("approve", group, "-y")
    assert told.code == 2
    assert told.err.count(needs) == 1
    assert f"{ids[0]} and 2 more: {needs} (give it: " in told.text


def test_log_and_open_of_a_group_are_the_newest_ones(cli: Cli) -> None:
    storm(cli, "orders", "sales")
    said = cli.type("triage", keys="l\ns\n")
    assert "Connection refused" in said.err.split("? help]")[1]


def test_help_names_every_key(cli: Cli) -> None:
    waiting(cli, "orders")
    said = cli.type("triage", keys="?\ns\n")
    for key in (*triage.DECIDES, *triage.ADDS, "s", "l", "o", "u", "x", "q"):
        assert re.search(rf"(^|  |] ){key}  \w", said.err, re.M), key


def test_nothing_waits(cli: Cli) -> None:
    said = cli.type("triage", keys="")
    assert said.code == 0
    assert "nothing waits for a person" in said.err


def test_it_needs_a_terminal(cli: Cli) -> None:
    said = cli.run("triage")
    assert said.code == 2
    assert "triage needs a terminal" in said.err
    assert cli.server.requests == []
