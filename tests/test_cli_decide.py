"""approve and reject: what is done, what is learned, what is refused."""

from __future__ import annotations

import pytest

from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED

PAYMENT = exception("TimeoutError", "POST /payments: no answer in 30 s")


# ---- approve ----


def test_approve_acts_and_learns(cli: Cli) -> None:
    row = cli.server.add_failure("orders", "load", events=[REFUSED], blocks=["publish"])
    (new,) = cli.ok("watch", "--once", "--json").lines
    said = cli.ok("approve", new["incident"], "--action", "retry", "--cause", "restart", "--yes")
    assert said.out == ""  # all of it is talk
    assert "retry orders.load" in said.err
    assert "then what it blocked: publish" in said.err
    assert "aiops watch --once tells how it ends" in said.err
    assert cli.cleared() == [["load"], ["publish"]]
    assert cli.status(new["incident"]) == "acting"
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
    assert (entry["action"], entry["cause"], entry["source"]) == (
        *("retry", "restart"),
        new["incident"],
    )
    cli.server.finish(row)
    (settled,) = cli.ok("watch", "--once", "--json").lines
    assert (settled["status"], settled["outcome"]) == ("resolved", "fixed")
    again = cli.run("approve", new["incident"], "--yes")
    assert again.code == 5
    assert "is resolved" in again.err


def test_approve_takes_the_proposed_action(cli: Cli) -> None:
    cli.mended()
    incident = cli.capture("orders", run_id="second", events=[REFUSED])
    document = cli.ok("approve", incident[:5], "--yes", "--json").json
    assert document["incident"] == incident
    assert document["status"] == "acting"
    assert document["decided"]["kind"] == "approve"
    assert document["decided"]["by"] == "ana"
    assert document["decided"]["action"] == "retry"
    assert document["decided"]["plan"]["extra_tries"] == 1


def test_a_dry_run_shows_the_plan_and_does_nothing(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.ok("approve", incident, "--action", "retry", "--dry-run")
    assert said.out.startswith("retry orders.load  in scheduled__")
    plan = cli.ok("approve", incident, "--action", "retry", "--dry-run", "--json").json
    assert [item["task_id"] for item in plan["clears"]] == ["load"]
    assert cli.cleared() == []
    assert cli.status(incident) == "pending"
    assert cli.ok("kb", "list", "--json").json == {"entries": []}


def test_none_acts_on_nothing_and_says_so(cli: Cli) -> None:
    incident = cli.capture("orders", events=[BUG])
    said = cli.ok("approve", incident, "--action", "none", "--cause", "a bug", "--dry-run")
    assert "nothing is run again" in said.out
    assert cli.status(incident) == "pending"
    said = cli.ok("approve", incident, "--action", "none", "--cause", "a bug")
    assert "noted; nothing is run again" in said.err
    assert cli.server.sent("POST") == []
    assert cli.status(incident) == "resolved"


def test_nobody_to_ask_and_no_yes(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.run("approve", incident, "--action", "retry")
    assert said.code == 2
    assert "pass --yes" in said.err
    assert cli.cleared() == []
    assert cli.status(incident) == "pending"


@pytest.mark.parametrize(("answer", "done"), [("y\n", True), ("n\n", False), ("", False)])
def test_a_person_is_asked(cli: Cli, answer: str, done: bool) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.type("approve", incident, "--action", "retry", keys=answer)
    assert said.code == 0
    assert "do this? [y/N]" in said.err
    assert ("nothing was done" in said.err) is not done
    assert (cli.cleared() == [["load"]]) is done


def test_ctrl_c_at_the_question(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.type("approve", incident, "--action", "retry", keys="", interrupt=True)
    assert said.code == 130
    assert "interrupted; nothing was lost" in said.err
    assert cli.cleared() == []
    assert cli.status(incident) == "pending"
    cli.ok("approve", incident, "--action", "retry", "--yes")  # no claim was left behind


def test_a_no_to_one_of_several_leaves_that_one_alone(cli: Cli) -> None:
    """The second yes counts, and what was done stands."""
    ids = [cli.capture(dag, events=[REFUSED]) for dag in ("orders", "sales")]
    cli.type("approve", *ids, "--action", "retry", keys="n\ny\n")
    assert [cli.status(incident) for incident in ids] == ["pending", "acting"]


def test_no_action_known(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.run("approve", incident, "--yes", "--json")
    assert said.code == 2
    assert said.json["error"]["message"] == f"no action is known for {incident}"
    assert "--action retry" in said.json["error"]["hint"]


def test_a_stale_incident_is_superseded(cli: Cli) -> None:
    row = cli.server.add_failure("orders", "load", events=[REFUSED])
    (new,) = cli.ok("watch", "--once", "--json").lines
    row |= {"id": "another", "state": "running", "try_number": 2}
    said = cli.run("approve", new["incident"], "--action", "retry", "--yes", "--json")
    assert said.code == 5
    assert said.json["error"]["code"] == "refused"
    assert "somebody else has run it again" in said.json["error"]["message"]
    assert cli.cleared() == []
    assert cli.status(new["incident"]) == "superseded"


def test_of_several_the_stale_one_is_told_and_the_others_are_done(cli: Cli) -> None:
    rows = {dag: cli.server.add_failure(dag, "load", events=[REFUSED]) for dag in "abc"}
    ids = {doc["dag_id"]: doc["incident"] for doc in cli.ok("watch", "--once", "--json").lines}
    rows["b"] |= {"id": "another", "state": "success", "try_number": 2}
    said = cli.run("approve", *(ids[dag] for dag in "abc"), "--action", "retry", "--yes")
    assert said.code == 5
    assert f"\n{ids['b']} is superseded: somebody else has run it again" in said.err
    assert [cli.status(ids[dag]) for dag in "abc"] == ["acting", "superseded", "acting"]


def test_several_in_json_are_one_object(cli: Cli) -> None:
    rows = {dag: cli.server.add_failure(dag, "load", events=[REFUSED]) for dag in "ab"}
    ids = {doc["dag_id"]: doc["incident"] for doc in cli.ok("watch", "--once", "--json").lines}
    rows["b"] |= {"id": "another", "state": "success", "try_number": 2}
    said = cli.run("approve", ids["a"], ids["b"], "--action=retry", "--yes", "--json")
    assert said.code == 5
    assert [doc["incident"] for doc in said.json["incidents"]] == [ids["a"]]
    assert ids["b"] in said.err


def test_of_several_what_was_done_is_told_though_airflow_refused_another(cli: Cli) -> None:
    first = cli.capture("orders", events=[REFUSED])
    second = cli.capture("sales", events=[REFUSED])
    cli.server.fault("POST .*/sales/clearTaskInstances", status=403, times=9)
    said = cli.run("approve", first, second, "--action", "retry", "--yes", "--json")
    assert said.code == 3
    assert [one["incident"] for one in said.json["incidents"]] == [first]
    (error,) = said.json["errors"]
    assert error["code"] == "airflow_forbidden"


def test_a_person_is_warned_where_somebody_said_no(cli: Cli) -> None:
    book = cli.home / "book.yaml"
    book.write_text(
        "- title: t\n  error: 'ConnectionRefusedError: [Errno 111] Connection refused'\n"
        "  cause: c\n  action: retry\n  safe_to_retry: false\n"
    )
    cli.ok("kb", "seed", str(book))
    id_ = cli.capture("orders", events=[REFUSED])
    assert "careful: the runbook says not to run this again" in cli.ok("approve", id_, "--yes").text


def test_an_unknown_id_among_several_stops_before_anything_is_done(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.run("approve", incident, "zzzzzz", "--action", "retry", "--yes")
    assert said.code == 2
    assert cli.cleared() == []


def test_the_same_incident_named_twice_is_acted_on_once(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.ok("approve", incident, incident[:6], "--action", "retry", "--yes")
    assert cli.cleared() == [["load"]]


def test_set_gives_a_parameter(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.ok(
        *("approve", incident, "--action", "retry_later", "--set", "delay=30m", "--yes"),
    )
    assert "waits for its time" in said.err
    assert cli.cleared() == []
    cli.clock.advance(minutes=31)
    cli.ok("watch", "--once")
    assert cli.cleared() == [["load"]]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--action=retry_later", "--set=delay"], "is not K=V"),
        (["--action=retry_later", "--set==5m"], "is not K=V"),
        (["--action=retry_later", "--set=delay=soon"], "is not a duration"),
        (["--action=retry", "--set=delay=5m"], "retry does not take delay"),
        (["--action=dance"], "there is no action 'dance'"),
        (["--action=resize_pool"], "resize_pool needs pool and slots"),
        (["--action=set_variable", "--set=key= "], "set_variable needs key and value"),
        (["--action=trigger_dag"], "trigger_dag needs dag_id"),
        (["--action=clear_xcom"], "clear_xcom needs task_id"),
        (
            ["--action=update_connection"],
            "update_connection needs connection_id and host, port, schema, login or extra\n"
            "hint: give it: --set connection_id=… --set host=… (in triage: e)",
        ),
        (["--action=update_connection", "--set=connection_id=db"], "needs host, port,"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything(
    cli: Cli, args: list[str], message: str
) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.run("approve", incident, "--yes", *args)
    assert said.code == 2
    assert message in said.err
    assert "hint: " in said.err
    assert cli.cleared() == []
    assert cli.status(incident) == "pending"


@pytest.mark.parametrize(
    ("flag", "wanted"),
    [
        ("--rerun-safe", "ana approved this task on"),
        ("--not-rerun-safe", "ana said no on"),
        (None, "ana approved this task and failure on"),
    ],
)
def test_a_word_on_running_twice_is_kept(cli: Cli, flag: str | None, wanted: str) -> None:
    incident = cli.capture("orders", run_id="first", events=[REFUSED])
    cli.ok("approve", incident, "--action", "retry", "--yes", *([flag] if flag else []))
    cli.clock.advance(seconds=1)
    after = cli.capture("orders", run_id="second", events=[REFUSED])
    assert wanted in cli.ok("incidents", "show", after, "--json").json["rerun"]


def test_before_the_yes_it_is_told_in_whose_word_a_task_may_run_twice(cli: Cli) -> None:
    def told(*words: str) -> str:
        return cli.ok("approve", *words, "--action", "retry", "--dry-run").text

    first = cli.capture("orders", run_id="first", events=[REFUSED])
    assert "re-run unproven: nobody has said that load may run twice" in told(first)
    cli.ok("approve", first, "--action", "retry", "--rerun-safe", "--yes")
    cli.clock.advance(seconds=1)
    second = cli.capture("orders", run_id="second", events=[REFUSED])
    said = f"re-run safe: ana approved this task on {cli.clock.now():%Y-%m-%d}"
    assert said in told(second)
    assert cli.ok("approve", second, "--dry-run", "--json").err == ""


def test_a_secret_in_a_cause_is_kept_nowhere(cli: Cli) -> None:
    first, second = (cli.capture(dag, events=[REFUSED]) for dag in ("orders", "sales"))
    secret = "use postgresql://etl:hunter2pass@db/x"
    cli.ok("approve", first, "--action", "retry", "--cause", secret, "--yes")
    cli.ok("reject", second, "--reason", secret, "--cause", secret, "--action", "none")
    documents = cli.ok("incidents", "--json").out + cli.ok("kb", "list", "--json").out
    assert documents.count("<redacted") >= 4
    assert "hunter2pass" not in documents
    assert "hunter2pass" not in str(cli.server.requests)  # the note in Airflow


def test_approve_works_while_paused(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.ok("pause", "--reason", "vendor maintenance")
    cli.ok("approve", incident, "--action", "retry", "--yes")
    assert cli.cleared() == [["load"]]


def test_read_only_refuses(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    (cli.home / "aiops.yaml").write_text("read_only: true\n")
    said = cli.run("approve", incident, "--action", "retry", "--yes")
    assert said.code == 5
    assert "read only" in said.err
    assert cli.cleared() == []
    assert cli.status(incident) == "pending"
    assert "--dry-run shows the plan" in said.err
    cli.ok("approve", incident, "--action=none", "--cause=ours")  # a word: allowed


def test_read_only_may_stand_in_the_environment(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.environ["AIOPS_READ_ONLY"] = "1"
    cli.run("approve", incident, "--action", "retry", "--yes").refused(5, "read only")
    assert cli.cleared() == []


@pytest.mark.parametrize(
    "words",
    ["approve {} --action=retry --yes", "undo {} --yes", "watch --once", "mcp --allow-approve",
     "dashboard"],
)  # fmt: skip
def test_what_changes_airflow_refuses_a_variable_that_is_no_setting(cli: Cli, words: str) -> None:
    """Whoever typed it may have meant to keep it from changing anything."""
    incident = cli.capture("orders", events=[REFUSED])
    before = len(cli.server.requests)
    cli.environ["AIOPS_READONLY"] = "1"
    said = cli.run(*words.format(incident).split())
    said.refused(2, "AIOPS_READONLY is not a setting", "AIOPS_READ_ONLY?", "nothing was done")
    assert len(cli.server.requests) == before


def test_triage_refuses_a_variable_that_is_no_setting(cli: Cli, waiting: str) -> None:
    cli.environ["AIOPS_MODE"] = "off"
    said = cli.type("triage", keys="a\n")
    said.refused(2, "AIOPS_MODE is not a setting", "`mode` of the settings file?")
    assert cli.status(waiting) == "pending"


@pytest.mark.parametrize("words", ["incidents", "approve {} --action=retry --dry-run", "pause"])
def test_what_changes_nothing_tells_of_a_variable_that_is_no_setting(
    cli: Cli, waiting: str, words: str
) -> None:
    cli.environ["AIOPS_MODE"] = "off"
    said = cli.ok(*words.format(waiting).split())
    warning = "warning: environment AIOPS_MODE is not a setting; did you mean `mode` of"
    assert said.err.count(warning) == 1
    assert "warning" not in said.out


def test_read_only_shows_the_plan(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    plan = cli.ok("approve", incident, "--action=retry", "--dry-run", "--json").json
    (cli.home / "aiops.yaml").write_text("read_only: true\n")
    said = cli.ok("approve", incident, "--action=retry", "--dry-run", "--json")
    assert said.json == plan
    assert cli.cleared() == []
    assert {request.method for request in cli.server.requests} == {"GET", "POST"}
    assert cli.status(incident) == "pending"


# ---- reject ----


def test_reject_does_not_act_and_learns(cli: Cli) -> None:
    cli.mended()
    incident = cli.capture("orders", run_id="second", events=[REFUSED])
    cleared = cli.cleared()
    said = cli.ok("reject", incident, "--reason", "it pays twice")
    assert said.out == ""
    assert "rejected, nothing was done" in said.err
    assert cli.cleared() == cleared
    assert cli.status(incident) == "rejected"
    third = cli.capture("orders", run_id="third", events=[REFUSED])
    document = cli.ok("incidents", "show", third, "--json").json
    assert document["decision"] == "blocked"
    assert "it pays twice" in document["rerun"]


def test_reject_with_a_cause_is_an_answer(cli: Cli) -> None:
    first = cli.capture("orders", run_id="first", events=[BUG])
    document = cli.ok(
        *("reject", first, "--reason=a bug", "--action=none", "--cause=no price", "--json")
    ).json
    assert (document["status"], document["decided"]["reason"]) == ("rejected", "a bug")
    second = cli.capture("orders", run_id="second", events=[BUG])
    document = cli.ok("incidents", "show", second, "--json").json
    assert document["diagnosis"]["action"] == "none"
    assert document["diagnosis"]["cause"] == "no price"


def test_reject_several(cli: Cli) -> None:
    ids = [cli.capture(dag, events=[REFUSED]) for dag in ("orders", "sales")]
    said = cli.ok("reject", *ids, "--reason", "no", "--json")
    assert [doc["incident"] for doc in said.json["incidents"]] == ids


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "--reason"),
        (["--reason", "no", "--action", "retry"], 2, "takes no action but none"),
    ],
)
def test_reject_that_makes_no_sense(cli: Cli, args: list[str], code: int, message: str) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    said = cli.run("reject", incident, *args)
    assert said.code == code
    assert message in said.err
    assert cli.status(incident) == "pending"


def test_what_is_decided_is_not_rejected_again(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.ok("reject", incident, "--reason", "no")
    said = cli.run("reject", incident, "--reason", "no")
    assert said.code == 5
    assert "is rejected" in said.err


@pytest.mark.parametrize("delay", ["zz", "-5m", ""])
def test_a_delay_that_is_none_is_told_before_there_is_a_plan(cli: Cli, delay: str) -> None:
    id_ = cli.capture("orders", events=[REFUSED])
    args = ("approve", id_, "--action=retry_later", f"--set=delay={delay}", "--dry-run", "--json")
    cli.run(*args).told(2, "usage", "is not a duration")


# ---- what the record speaks against is proposed to nobody ----

RUNBOOK = """\
- title: The orders database restarts at night
  cause: nightly restart
  action: retry_later
  params: {delay: 10m}
  symptoms: ["ConnectionRefusedError: [Errno 111] Connection refused"]
"""


def tried_in_vain(cli: Cli) -> str:
    """A retry that a person thought of, and that did not help."""
    row = cli.server.add_failure("orders", "load", run_id="first", events=[REFUSED])
    (new,) = cli.ok("watch", "--once", "--json").lines
    cli.ok("approve", new["incident"], "--action", "retry", "--yes")
    cli.server.finish(row, "failed", events=[REFUSED])
    cli.ok("watch", "--once")
    return str(new["incident"])


def test_what_was_tried_in_vain_stands_behind_a_runbook(cli: Cli) -> None:
    (cli.home / "orders.yaml").write_text(RUNBOOK)
    cli.ok("kb", "seed", str(cli.home / "orders.yaml"))
    first = tried_in_vain(cli)
    second = cli.capture("sales", events=[REFUSED])
    document = cli.ok("incidents", "show", second, "--json").json
    assert document["diagnosis"]["action"] == "retry_later"
    assert document["diagnosis"]["cause"] == "nightly restart"
    assert document["diagnosis"]["tried"] == [f"retry: failed 1 (incident {first})"]
    card = cli.ok("incidents", "show", second).text
    assert f"TRIED retry: failed 1 (incident {first})" in card
    assert "PROPOSE retry_later load (delay=10m)" in card


def test_that_one_connection_was_not_it_says_nothing_of_another(cli: Cli) -> None:
    (cli.home / "orders.yaml").write_text(RUNBOOK)
    cli.ok("kb", "seed", str(cli.home / "orders.yaml"))
    cli.server.add_connection("a", host="db1")
    row = cli.server.add_failure("orders", "load", run_id="first", events=[REFUSED])
    (new,) = cli.ok("watch", "--once", "--json").lines
    values = ("--set", "connection_id=a", "--set", "host=db2")
    cli.ok("approve", new["incident"], "--action", "update_connection", *values, "--yes")
    cli.server.finish(row, "failed", events=[REFUSED])
    cli.clock.advance(seconds=1)
    cli.ok("watch", "--once")
    cli.type("triage", keys="n\nit moved\nupdate_connection\nconnection_id=b, host=db2\ns\n")
    other = cli.capture("sales", events=[REFUSED])
    known = cli.ok("incidents", "show", other, "--json").json["diagnosis"]
    assert known["params"] == {"connection_id": "b", "host": "db2"}
    (told,) = known["tried"]
    tried = "update_connection connection_id=a, host=db2"
    assert told == f"{tried}: failed 1 (incident {new['incident']})"


def test_what_was_tried_twice_in_vain_is_told_once(cli: Cli) -> None:
    (cli.home / "orders.yaml").write_text(RUNBOOK)
    cli.ok("kb", "seed", str(cli.home / "orders.yaml"))
    for run, delay in (("first", "1m"), ("second", "2m")):
        row = cli.server.add_failure("orders", "load", run_id=run, events=[REFUSED])
        new = [line for line in cli.ok("watch", "--once", "--json").lines if "incident" in line]
        values = ("--action", "retry_later", "--set", f"delay={delay}")
        cli.ok("approve", new[-1]["incident"], *values, "--yes")
        cli.clock.advance(seconds=300)
        cli.ok("watch", "--once")
        cli.server.finish(row, "failed", events=[REFUSED])
        cli.ok("watch", "--once")
    other = cli.capture("sales", events=[REFUSED])
    (told,) = cli.ok("incidents", "show", other, "--json").json["diagnosis"]["tried"]
    assert told.startswith("retry_later: failed 2 (incident ")


def test_what_was_called_off_teaches_nobody(cli: Cli) -> None:
    (cli.home / "orders.yaml").write_text(RUNBOOK)
    cli.ok("kb", "seed", str(cli.home / "orders.yaml"))
    first = cli.capture("orders", events=[REFUSED])
    cli.ok("approve", first, "--action", "retry_later", "--set", "delay=2h", "--yes")
    cli.ok("undo", first, "--yes")
    second = cli.capture("sales", events=[REFUSED])
    known = cli.ok("incidents", "show", second, "--json").json["diagnosis"]
    assert (known["action"], known["params"]) == ("retry_later", {"delay": "10m"})


def test_what_was_remembered_before_stays_when_an_act_is_called_off(cli: Cli) -> None:
    first = cli.capture("orders", events=[REFUSED])
    cli.type("triage", keys="n\nthe vendor sleeps\nretry_later\ndelay=7m\ns\n")
    cli.clock.advance(seconds=1)
    cli.ok("approve", first, "--yes")
    cli.ok("undo", first, "--yes")
    cli.ok("watch", "--once")  # judges it again
    known = cli.ok("incidents", "show", first, "--json").json["diagnosis"]
    assert (known["cause"], known["params"]) == ("the vendor sleeps", {"delay": "7m"})


def test_what_was_remembered_before_outlives_what_is_called_off(cli: Cli) -> None:
    first = cli.capture("orders", events=[REFUSED])
    later = ("--action", "retry_later", "--set", "delay=7m")
    cli.type("triage", keys="n\nthe vendor sleeps\nretry_later\ndelay=7m\ns\n")
    kept = [one["entry"] for one in cli.ok("kb", "list", "--json").json["entries"]]
    cli.clock.advance(minutes=1)
    cli.ok("approve", first, *later, "--cause", "busy", "--yes")
    cli.ok("undo", first, "--yes")
    assert [one["entry"] for one in cli.ok("kb", "list", "--json").json["entries"]] == kept != []


def test_where_nothing_else_is_known_nothing_is_proposed(cli: Cli) -> None:
    tried_in_vain(cli)
    second = cli.capture("orders", run_id="second", events=[REFUSED])
    card = cli.ok("incidents", "show", second).text
    assert "PROPOSE nothing: retry did not help on" in card
    assert f"approve {second[:4]} --action …" in card
    assert "unknown" in cli.ok("incidents").out.split()
    said = cli.run("approve", second, "--yes", "--json")
    assert said.code == 2
    assert "retry is not proposed" in said.json["error"]["message"]
    assert "--action retry" in said.json["error"]["hint"]
    before = len(cli.cleared())
    cli.ok("approve", second, "--action", "retry", "--yes")
    assert len(cli.cleared()) == before + 1


def test_what_was_turned_down_here_is_not_proposed_again(cli: Cli) -> None:
    cli.mended()
    second = cli.capture("orders", run_id="second", events=[REFUSED])
    assert "PROPOSE retry load" in cli.ok("incidents", "show", second).text
    cli.ok("reject", second, "--reason", "it pays twice")
    third = cli.capture("orders", run_id="third", events=[REFUSED])
    assert "PROPOSE nothing: a person rejected retry on" in cli.ok("incidents", "show", third).text
    cli.run("approve", third, "--yes").refused(2, "retry is not proposed")
    cli.ok("approve", third, "--action", "retry", "--yes")
