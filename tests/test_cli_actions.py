"""Changing actions from the command line, on both stores: shown first, done exactly so, undone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_cli.actions import CATALOGUE, retry
from aiops_cli.commands import put_back, typed
from aiops_cli.errors import AirflowUnreachable, Refused, UsageError
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


def test_what_was_undone_says_so(cli: Cli) -> None:
    one = failed(cli)
    cli.ok("approve", one, *MOVE, "--yes")
    cli.ok("undo", one, "--yes", "--reason", "the old one is back")
    shown = cli.ok("incidents", "show", one).text
    assert "undone · ana put back what update_connection had changed · the old one is back" in shown
    assert "undone" in cli.ok("incidents").out
    assert "(undone)" in cli.ok("handover", "--markdown").out
    document = cli.ok("incidents", "show", one, "--json").json
    assert (document["status"], document["decided"]["undone"]) == ("rejected", True)
    assert document["decided"]["plan"] is None


def test_a_change_behind_a_wait_is_put_back_by_a_second_undo(cli: Cli) -> None:
    one = failed(cli)
    with cli.monkeypatch.context() as patch:
        patch.setattr(retry, "apply", overtaken)
        cli.run("approve", one, *MOVE, "--yes").refused(5, "aiops undo")
    cli.ok("approve", one, "--action=retry_later", "--yes")
    said = cli.ok("undo", one, "--yes")
    assert "retry_later is called off" in said.text
    assert (
        f"what update_connection changed stays so; to put that back: aiops undo {one}" in said.text
    )
    assert cli.server.connections["orders_db"]["host"] == "db2.example.com"
    said = cli.ok("undo", one, "--yes")
    assert f"{one}: what update_connection changed is as it was before" in said.text
    assert cli.server.connections["orders_db"]["host"] == "db1.example.com"


def overtaken(*_: object) -> None:
    raise Refused("not now", "later")


def test_what_ran_again_cannot_be_undone(cli: Cli) -> None:
    one = cli.capture("orders", events=[REFUSED])
    cli.ok("approve", one, "--action=retry", "--yes")
    cli.run("undo", one, "--yes").refused(5, "retry cannot be undone", f"aiops wrong {one}")


# ---- several that share what is changed ----


def three_failed(cli: Cli) -> list[str]:
    failed(cli)
    for dag in ("sales", "stock"):
        cli.capture(dag, events=[REFUSED])
    found = cli.ok("incidents", "--json").json["incidents"]
    (group,) = {one["group"] for one in found}
    return [group, *(one["incident"] for one in found)]


def test_one_of_a_group_changes_it_and_all_run_again(cli: Cli) -> None:
    group, first, *others = three_failed(cli)
    plans = cli.ok("approve", group, *MOVE, "--dry-run", "--json").json["incidents"]
    assert [bool(plan["changes"]) for plan in plans] == [True, False, False]
    assert [plan["after"] for plan in plans] == [None, first, first]
    said = cli.ok("approve", group, *MOVE, "--yes")
    told = f"connection orders_db is changed for {first}; after that this runs again"
    assert said.text.count(told) == 2
    assert sum("/connections/" in one.path for one in cli.server.sent("PATCH")) == 1
    assert cli.cleared() == [["load"]] * 3
    assert {cli.status(one) for one in (first, *others)} == {"acting"}
    kept = cli.ok("incidents", "show", others[0], "--json").json["decided"]
    assert (kept["action"], kept["plan"]["changes"]) == ("update_connection", [])
    for row in cli.server.instances.values():
        cli.server.finish(row)
    cli.ok("watch", "--once")
    assert {cli.status(one) for one in (first, *others)} == {"resolved"}
    cli.run("undo", others[0], "--yes").refused(5, f"aiops undo {first}")
    assert "is as it was before" in cli.ok("undo", group, "--yes").err
    assert cli.server.connections["orders_db"]["host"] == "db1.example.com"


def test_who_says_no_to_the_first_is_asked_for_the_change_by_the_next(cli: Cli) -> None:
    group, first, *_ = three_failed(cli)
    said = cli.type("approve", group, *MOVE, keys="n\ny\ny\n")
    assert said.err.count("host db1.example.com → db2.example.com") == 2
    assert said.err.count("after that this runs again") == 1
    assert cli.cleared() == [["load"]] * 2
    assert cli.status(first) == "pending"


def test_nothing_runs_on_a_change_that_was_not_made(cli: Cli) -> None:
    """Shown together and said yes to once; then the change itself is refused."""
    three_failed(cli)
    cli.server.fault("PATCH .*/connections/.*", status=403, body=b'{"detail":"no"}')
    with_entry(cli)
    said = cli.type("triage", keys="a\ny\nq\n")
    assert said.err.count("after that this runs again") == 2
    assert said.text.count("was to be changed first, and is not so: nothing was done") == 1
    assert ".load and 1 more: " in said.text
    assert cli.cleared() == []
    assert {one["status"] for one in cli.ok("incidents", "--json").json["incidents"]} == {"pending"}
    cli.type("triage", keys="a\ny\nq\n")
    assert cli.cleared() == [["load"]] * 3


def test_an_act_that_fails_in_no_known_way_ends_a_group(cli: Cli) -> None:
    """What is forbidden is so of one; what Airflow cannot do may hold for the rest."""
    group, first, *others = three_failed(cli)
    for status, tries in ((403, 3), (422, 1)):
        cli.server.faults.clear()
        cli.server.fault("POST .*/clearTaskInstances", times=100, status=status)
        before = len(cli.server.sent("POST"))
        said = cli.run("approve", group, "--action=retry", "--yes")
        assert (said.code, len(cli.server.sent("POST")) - before) == (3, tries), said
        assert ("what came after it was not tried" in said.err) is (tries == 1)
    assert {cli.status(one) for one in (first, *others)} == {"pending"}


def with_entry(cli: Cli) -> None:
    """A runbook proposes the change."""
    book = cli.home / "book.yaml"
    book.write_text(
        "- title: t\n  error: 'ConnectionRefusedError: [Errno 111] Connection refused'\n"
        "  cause: c\n  action: update_connection\n"
        "  params: {connection_id: orders_db, host: db2.example.com}\n"
    )
    cli.ok("kb", "seed", str(book))
    cli.ok("watch", "--once")


def test_what_triage_could_not_put_back_can_be_tried_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of three changes one was changed once more since: the others are put back all the same."""
    done: list[str] = []
    refuses = [Refused("pool etl: slots was changed once more since", "look at it")]

    def second() -> None:
        if refuses:
            raise refuses.pop()
        done.append("second")

    steps = [lambda: done.append("first"), second, lambda: done.append("third")]
    kept = [put_back.Deed("resize_pool of orders.load", ["a", "b", "c"], [*steps])]
    assert put_back.undo(kept) == ["a", "b", "c"]
    assert done == ["third", "first"]
    said = " ".join(capsys.readouterr().err.split())
    assert "pool etl: slots was changed once more since (look at it)" in said
    assert "1 of resize_pool of orders.load could not be put back; u tries again" in said
    assert put_back.undo(kept) == ["a", "b", "c"]
    assert (done, kept) == (["third", "first", "second"], [])


def test_an_airflow_that_is_away_leaves_all_of_it_to_be_tried_again() -> None:
    def away() -> None:
        raise AirflowUnreachable("no answer", "is it up?")

    deed = put_back.Deed("resize_pool of orders.load", ["a", "b"], [away, away])
    kept = [deed]
    with pytest.raises(AirflowUnreachable):
        put_back.undo(kept)
    assert (kept, len(deed.put_back)) == ([deed], 2)


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
    new = cli.capture("orders", run_id="second", events=[REFUSED], ended=cli.clock.now())
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
