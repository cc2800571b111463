"""`aiops audit`: who decided what, and that nothing of it was altered."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from aiops_cli import anchors
from knowledge.errors import StoreUnusable
from knowledge.stores import POSTGRES
from knowledge.stores.sql_audit import AuditTables
from tests.cli import Cli
from tests.desk import REFUSED
from tests.postgres_database import APP, OWNER


def tamper(cli: Cli, table: str, statement: str) -> None:
    """As somebody who owns the base and takes its guards away."""
    kb = cli.environ["AIOPS_KB"]
    if kb.startswith(POSTGRES):
        import psycopg

        with psycopg.connect(kb.replace(APP, OWNER)) as session:
            session.execute("SET search_path = aiops")
            session.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
            session.execute("ALTER TABLE audit DISABLE TRIGGER USER")
            session.execute(statement.encode())
        return
    connection = apsw.Connection(str(cli.kb))
    for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement)
    connection.close()


def anchor(cli: Cli) -> Path:
    (file,) = (cli.home / ".local/state/aiops/audit").glob("*.json")
    return file


def test_an_answer_to_one_failure_is_told_as_no_more(cli: Cli) -> None:
    """That a task may run twice, ever, is another word than a yes to one re-run of it."""
    first, second = cli.capture("orders", events=[REFUSED]), cli.capture("sales", events=[REFUSED])
    cli.ok("approve", first, "--action=retry", "--yes")
    said = cli.ok("audit").text
    assert "yes to running orders.load again after one failure" in said
    assert "safe to run" not in said
    cli.ok("approve", second, "--action=retry", "--rerun-safe", "--yes")
    assert "sales.load is safe to run again" in cli.ok("audit").text
    cli.ok("wrong", second, "--reason", "it paid twice")
    assert "sales.load is not safe to run again" in cli.ok("audit").text


def test_who_decided_what_is_told(cli: Cli, waiting: str) -> None:
    cli.ok("reject", waiting, "--reason", "it is \x1b[31mred\x1b[0m and [bold]loud[/bold]")
    cli.ok("pause", "--reason", "deploy")
    documents = cli.ok("audit", "--json").json["audit"]
    told = [(one["what"], one["by"], one["incident"]) for one in documents[-2:]]
    assert told == [("decisions", "ana", waiting), ("pauses", "ana", None)]
    assert documents[-2]["row"]["reason"].startswith("it is")
    assert [one["seq"] for one in documents] == list(range(1, len(documents) + 1))
    text = cli.ok("audit").text
    assert f"reject of {waiting}: it is" in text
    assert "paused: deploy" in text
    assert "\x1b[31m" not in text
    assert cli.ok("audit", "--limit", "1", "--json").json["audit"] == documents[-1:]
    cli.clock.advance(minutes=30)
    assert cli.ok("audit", "--since", "20m", "--json").json["audit"] == []
    assert "nothing was decided since then" in cli.ok("audit", "--since", "20m").err


def test_entries_that_came_together_are_one_line(cli: Cli) -> None:
    runbook = cli.home / "r.yaml"
    runbook.write_text(
        "".join(
            f"- {{title: t{n}, symptoms: ['KeyError: k{n}'], cause: c, action: none}}\n"
            for n in range(5)
        )
    )
    cli.ok("kb", "seed", str(runbook))
    assert "5 entries" in cli.ok("audit").out
    assert len(cli.ok("audit", "--json").json["audit"]) == 5


def test_a_log_that_holds(cli: Cli, waiting: str) -> None:
    cli.ok("reject", waiting, "--reason", "no")
    said = cli.ok("audit", "verify")
    assert "none altered" in said.text
    assert "goes on from what this machine saw before" in said.text
    found = cli.ok("audit", "verify", "--json").json
    assert found["faults"] == []
    assert found["head"] in said.out
    assert found["rows"] == int(found["head"].partition(":")[0])
    cli.ok("audit", "verify", "--head", found["head"])
    cli.ok("pause")
    cli.ok("audit", "verify", "--head", found["head"])


def test_an_altered_decision_is_found(cli: Cli, waiting: str) -> None:
    cli.ok("reject", waiting, "--reason", "no")
    tamper(cli, "decisions", "UPDATE decisions SET by = 'bob'")
    said = cli.run("audit", "verify")
    assert said.code == 4
    assert "decisions 1 was altered" in said.out
    assert "does not hold" in said.err
    found = cli.run("audit", "verify", "--json")
    assert found.code == 4
    assert len(found.json["faults"]) == 1


def test_a_cut_tail_is_found_by_the_machine_that_saw_it(cli: Cli, waiting: str) -> None:
    cli.ok("pause")
    cli.ok("reject", waiting, "--reason", "no")
    (last,) = cli.ok("audit", "--limit", "1", "--json").json["audit"]
    tamper(
        cli,
        "decisions",
        f"DELETE FROM decisions; DELETE FROM audit WHERE seq = {last['seq']}",
    )
    said = cli.run("audit", "verify")
    assert said.code == 4
    assert "its tail was cut off" in said.out
    assert str(anchor(cli)) in said.err, "the way back, where a backup was put back on purpose"
    # What is decided after that does not make it forgotten.
    said = cli.ok("reject", waiting, "--reason", "again")
    assert "is not the one seen before: aiops audit verify" in said.err
    said = cli.run("audit", "verify")
    assert said.code == 4
    assert "is another one than was seen before" in said.out
    anchor(cli).unlink()
    cli.ok("audit", "verify")


def test_a_base_under_another_id_passes_for_no_old_acquaintance(cli: Cli) -> None:
    """An older copy that was put back with a new id has no head to be measured by."""
    cli.ok("pause")
    assert cli.ok("audit", "verify", "--json").json["seen_before"] == 1
    tamper(cli, "base", "UPDATE base SET id = 'another1'")
    assert "this machine had seen none of them before" in cli.ok("audit", "verify").out
    tamper(cli, "base", "UPDATE base SET id = 'another2'")
    assert cli.ok("audit", "verify", "--json").json["seen_before"] is None


def test_a_head_noted_elsewhere_counts_as_well(cli: Cli) -> None:
    cli.ok("pause")
    head = cli.ok("audit", "verify", "--json").json["head"]
    forged = head.partition(":")[0] + ":" + "0" * 64
    said = cli.run("audit", "verify", "--head", forged, "--head", head)
    assert said.code == 4
    assert "is another one than was seen before" in said.out
    cli.run("audit", "verify", "--head", "x").refused(2, "as verify printed it")


def test_what_this_machine_saw_is_kept_private_and_never_in_the_way(cli: Cli) -> None:
    cli.ok("pause")
    file = anchor(cli)
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()).keys() == {"seq", "hash"}
    before = file.read_text()
    cli.ok("audit")
    assert file.read_text() == before
    file.write_text("damaged")
    said = cli.ok("resume")
    assert "was not kept on this machine" in said.err
    cli.run("audit", "verify").refused(2, str(file), "remove it")


def test_a_machine_without_a_place_for_it_works(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchors, "place", lambda base: Path("/proc/self/nothing") / base)
    assert "was not kept" in cli.ok("pause").err


def test_it_is_kept_however_the_command_ends(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch is ended by Ctrl-C, and is the one that acts alone."""

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(cli.clock), "sleep", ended)
    cli.server.add_failure("orders", "load", events=[REFUSED])
    assert cli.run("watch", "--shadow").code == 130
    (last,) = cli.ok("audit", "--limit", "1", "--json").json["audit"]
    assert json.loads(anchor(cli).read_text())["hash"] == last["hash"]


def test_a_base_that_goes_away_then_is_only_told(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: object) -> None:
        raise StoreUnusable("it is gone", "start it")

    monkeypatch.setattr(AuditTables, "audit_head", gone)
    said = cli.ok("pause")
    assert "was not kept on this machine: it is gone" in said.err
    monkeypatch.undo()
    assert cli.ok("audit", "--json").json["audit"][-1]["what"] == "pauses"


def test_a_base_cannot_say_where_its_head_is_kept() -> None:
    assert anchors.place("../../x") == anchors.place("x")
