"""Changing actions from the command line, on both stores: shown first, done exactly so, undone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.actions import CATALOGUE
from aiops_cli.commands import typed
from aiops_cli.errors import UsageError
from tests.airflow_server import RUN
from tests.cli import Cli
from tests.desk import REFUSED

MOVE = (
    "--action=update_connection",
    "--set=connection_id=orders_db",
    "--set=host=db2.example.com",
)


def failed(cli: Cli) -> str:
    cli.server.add_connection("orders_db", host="db1.example.com", port=5432, password="hunter2")
    return cli.capture("orders", events=[REFUSED])


def test_a_plan_is_shown_and_nothing_is_done(cli: Cli) -> None:
    one = failed(cli)
    said = cli.ok("approve", one, *MOVE, "--dry-run")
    assert "connection orders_db: host db1.example.com → db2.example.com" in said.out
    assert "aiops undo puts it back" in said.out
    plan = cli.ok("approve", one, *MOVE, "--dry-run", "--json").json
    assert plan["changes"] == [
        {
            "kind": "connection",
            "name": "orders_db",
            "field": "host",
            "old": "db1.example.com",
            "new": "db2.example.com",
        }
    ]
    assert plan["no_undo"] is None
    assert cli.server.sent("PATCH") == []
    assert "hunter2" not in said.text


def test_done_shown_settled_and_undone(cli: Cli) -> None:
    one = failed(cli)
    cli.ok("approve", one, *MOVE, "--yes")
    stored = cli.server.connections["orders_db"]
    assert stored["host"] == "db2.example.com"
    (row,) = cli.server.instances.values()
    assert f"undo: aiops undo {one}" in row["note"]
    cli.server.finish(row)
    cli.ok("watch", "--once")
    assert cli.status(one) == "resolved"
    cli.run("undo", one).refused(2, "pass --yes")
    assert stored["host"] == "db2.example.com"
    said = cli.ok("undo", one, "--yes", "--reason", "the old one is back")
    assert stored["host"] == "db1.example.com"
    assert "as it was before" in said.err
    assert cli.status(one) == "rejected"
    cli.ok("audit", "verify")
    again = cli.run("undo", one, "--yes")
    again.refused(5, "nothing to put back")
    assert "nothing was done" not in again.err  # it was, and is undone


def test_undo_of_a_group_that_holds_one_change(cli: Cli) -> None:
    one = failed(cli)
    cli.ok("approve", one, *MOVE, "--yes")
    said = cli.ok("undo", one[:5], "--yes", "--json").json
    assert (said["incident"], said["status"]) == (one, "rejected")


def test_the_bound_on_what_runs_anew(cli: Cli) -> None:
    cli.server.add_dag("orders", {"extract": ["clean"], "clean": ["load"]})
    one = cli.capture("orders", events=[REFUSED])
    for name in ("extract", "clean"):
        cli.server.add_instance("orders", name, "success")
    cli.server.runs["orders", RUN]["state"] = "failed"
    upstream = ("approve", one, "--action=retry_upstream", "--set=task_ids=extract")
    cli.run(*upstream, "--max-tasks=1", "--yes").refused(5, "2 task instances anew", "--max-tasks")
    assert cli.cleared() == []
    cli.ok(*upstream, "--max-tasks=2", "--yes")
    assert cli.cleared() == [["clean", "extract", "load"]]


def test_a_read_only_program_changes_nothing(cli: Cli) -> None:
    one = failed(cli)
    cli.ok("approve", one, *MOVE, "--yes")
    (cli.home / "aiops.yaml").write_text("read_only: true\n")
    cli.run("undo", one, "--yes").refused(5, "read only")
    assert cli.server.connections["orders_db"]["host"] == "db2.example.com"


def test_newer_code_is_offered_in_the_card(cli: Cli) -> None:
    one = failed(cli)
    dag = cli.server.dags["orders"]
    dag["latest_dag_version"] = {**dag["latest_dag_version"], "version_number": 99}
    said = cli.ok("diagnose", one)
    assert "NEWER" in said.out
    assert "code v99" in said.text


def test_what_failed_on_older_code_is_not_run_on_the_new_one_alone(cli: Cli) -> None:
    cli.mended()
    cli.ok("auto", "grant", "--actions=retry", "--dags=*")
    new = cli.capture("orders", run_id="second", events=[REFUSED])
    dag = cli.server.dags["orders"]
    dag["latest_dag_version"] = {**dag["latest_dag_version"], "version_number": 99}
    before = len(cli.cleared())
    cli.ok("watch", "--once", "--auto")
    assert cli.status(new) == "pending"
    gate = cli.ok("incidents", "show", new, "--json").json["gate"]
    assert any("its code is newer" in reason for reason in gate["reasons"])
    assert len(cli.cleared()) == before
    cli.ok("approve", new, "--yes")
    assert len(cli.cleared()) == before + 1


# ---- what a person types ----


def test_a_comma_within_a_value_is_the_values() -> None:
    names = CATALOGUE["update_connection"].params
    line = 'connection_id=db, extra={"a": 1, "host": "x"}, host=db2'
    assert typed.of_line(line, names) == {
        "connection_id": "db",
        "extra": '{"a": 1, "host": "x"}',
        "host": "db2",
    }


@pytest.mark.parametrize("line", ["host", "=x", "host=a, host=b"])
def test_what_is_no_parameter(line: str) -> None:
    with pytest.raises(UsageError):
        typed.of_line(line, ("host", "port"))


@given(
    st.dictionaries(
        st.sampled_from(CATALOGUE["update_connection"].params),
        st.one_of(
            st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
            st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.integers()),
        ),
        min_size=1,
    )
)
def test_what_is_offered_is_read_back(params: dict[str, object]) -> None:
    read = typed.of_line(typed.as_line(params), CATALOGUE["update_connection"].params)
    assert read == {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}


def test_long_values_are_shown_from_where_they_differ() -> None:
    from aiops_cli.render_plan import changes_text

    old, new = "x" * 200 + "five", "x" * 200 + "six"
    one = {"kind": "variable", "name": "batch", "field": "value", "old": old, "new": new}
    shown = changes_text([one]).plain
    assert "five → …" in shown
    assert shown.endswith("xsix")
