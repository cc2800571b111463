"""`aiops triage`: a person walks what waits. What was decided is stored as it is decided."""

from __future__ import annotations

import webbrowser

import pytest

from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED


def waiting(cli: Cli, *dags: str) -> list[str]:
    """The ids of failures that wait, in the order in which triage shows them."""
    for dag in dags:
        cli.capture(dag, events=[REFUSED])
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


def test_edit_of_what_cannot_be_done_asks_again(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="e\ndance\n\ns\n")
    assert "there is no action 'dance'" in said.err
    assert said.err.count("1 left") == 2
    assert cli.status(incident) == "pending"


def test_approve_of_what_nobody_knows_says_how(cli: Cli) -> None:
    (incident,) = waiting(cli, "orders")
    said = cli.type("triage", keys="a\ns\n")
    assert "no action is known" in said.err
    assert "name one" in said.err
    assert cli.status(incident) == "pending"


def test_reject_asks_why(cli: Cli) -> None:
    ids = waiting(cli, "orders", "sales")
    said = cli.type("triage", keys="r\nit pays twice\nr\n\ns\n")  # the second without a reason
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


def test_nothing_waits(cli: Cli) -> None:
    said = cli.type("triage", keys="")
    assert said.code == 0
    assert "nothing waits for a person" in said.err


def test_it_needs_a_terminal(cli: Cli) -> None:
    said = cli.run("triage")
    assert said.code == 2
    assert "triage needs a terminal" in said.err
    assert cli.server.requests == []
