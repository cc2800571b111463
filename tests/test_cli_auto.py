"""auto, pause, resume and watch: what is done without a person, and what stops it."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.airflow_server import exception
from tests.cli import Cli
from tests.desk import REFUSED

PAYMENT = exception("TimeoutError", "POST /payments: no answer in 30 s")


# ---- auto, pause ----


def test_grants_are_made_listed_and_revoked(cli: Cli) -> None:
    said = cli.ok(
        *("auto", "grant", "--actions", "retry, retry_later", "--dags", "orders,sales_*"),
        *("--max-per-hour", "5", "--max-per-dag-hour", "2", "--until", "12h", "--json"),
    )
    grant = said.json
    assert grant["actions"] == ["retry", "retry_later"]
    assert grant["dags"] == ["orders", "sales_*"]
    assert (grant["max_per_hour"], grant["max_per_dag_hour"], grant["by"]) == (5, 2, "ana")
    until = (cli.clock.now() + timedelta(hours=12)).strftime("%Y-%m-%dT%H:%M")
    assert grant["until"].startswith(until)
    assert cli.ok("auto", "list", "--json").json["grants"] == [grant]
    text = cli.ok("auto", "list").out
    assert "retry, retry_later in orders, sales_*, at most 5 an hour" in text
    gone = cli.ok("auto", "revoke", grant["grant"][:5], "--json").json
    assert gone["revoked_by"] == "ana"
    assert "(revoked by ana)" in cli.ok("auto", "list").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--actions", "dance", "--dags", "*"], "there is no action 'dance'"),
        (["--actions", "mark_success", "--dags", "*"], "cannot be granted"),
        (["--actions", "none", "--dags", "*"], "cannot be granted"),
        (["--actions", ",", "--dags", "*"], "names no action"),
        (["--actions", "retry", "--dags", " "], "names no DAG"),
        (["--actions", "retry", "--dags", "*", "--until", "2020-01-01"], "is over"),
        (["--actions", "retry", "--dags", "*", "--until", "soon"], "is not a duration"),
        (["--actions", "retry", "--dags", "*", "--max-per-hour", "-1"], "max-per-hour"),
        (["--actions", "retry"], "--dags"),
    ],
)
def test_a_grant_that_makes_no_sense(cli: Cli, args: list[str], message: str) -> None:
    said = cli.run("auto", "grant", *args)
    assert said.code == 2
    assert message in said.err
    assert cli.ok("auto", "list", "--json").json["grants"] == []


def told_twice(cli: Cli) -> str:
    """A failure that was mended, once more; the id of the second one."""
    cli.mended()
    cli.server.add_failure("orders", "load", run_id="again", events=[REFUSED])
    cli.clock.advance(seconds=1)
    (new,) = cli.ok("watch", "--once", "--json").lines
    return str(new["incident"])


WANTED = ("auto", "grant", "--actions", "retry", "--dags", "orders")


def test_a_dry_run_shows_what_it_would_have_done_and_writes_nothing(cli: Cli) -> None:
    again = told_twice(cli)
    before = cli.counts()
    found = cli.ok(*WANTED, "--dry-run", "--json").json
    assert found["dry_run"] is True
    assert found["would_grant"]["actions"] == ["retry"]
    assert (found["incidents"], found["acts"]) == (2, 1)
    assert found["then"]["undecided"] == 1
    assert found["left"] == {"similarity": 1}
    (signature,) = found["signatures"]
    assert signature["incidents"] == [again]
    text = cli.ok(*WANTED, "--dry-run").out
    assert "of 2 failures in the last 30 days it would have acted on 1" in text
    assert "nobody decided 1" in text
    assert "orders.load" in text
    assert "not known by then 1" in text
    assert max(map(len, text.splitlines())) <= 110
    assert cli.counts() == before
    assert cli.ok("auto", "list", "--json").json["grants"] == []


def test_a_dry_run_of_an_empty_record(cli: Cli) -> None:
    said = cli.ok(*WANTED, "--dry-run")
    assert said.out == "of 0 failures in the last 30 days it would have acted on 0\n"


@pytest.mark.parametrize(("keys", "granted"), [("y\n", 1), ("n\n", 0), ("\n", 0)])
def test_before_a_grant_a_person_sees_what_it_covers_and_is_asked(
    cli: Cli, keys: str, granted: int
) -> None:
    told_twice(cli)
    for before in (0, granted):  # the first one, and another
        said = cli.type(*WANTED, keys=keys)
        assert said.code == 0
        assert "it would have acted on 1" in said.err
        assert "grant retry in orders, at most 10 an hour, 3 a DAG and hour" in said.err
        assert ("nothing is granted" in said.err) is (not granted)
        assert len(cli.ok("auto", "list", "--json").json["grants"]) == before + granted
        cli.clock.advance(seconds=1)


def test_a_grant_is_not_asked_about_with_yes_or_in_a_script(cli: Cli) -> None:
    said = cli.type(*WANTED, "--yes", keys="")
    assert (said.code, said.err) == (0, "")
    cli.clock.advance(seconds=1)
    assert cli.ok(*WANTED).err == ""
    assert len(cli.ok("auto", "list", "--json").json["grants"]) == 2


def test_pause_and_resume_hold_for_all(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.ok("approve", incident, "--action", "retry", "--yes")
    said = cli.ok("pause", "--reason", "vendor")
    assert "paused: nothing is done alone" in said.out
    assert incident in said.out  # already under way
    assert cli.ok("pause", "--json").json == {
        "paused": True, "running": [incident], "called_off": [], "waiting": [],
    }  # fmt: skip
    assert cli.ok("auto", "list", "--json").json["paused_by"] == "ana"
    assert "paused by ana" in cli.ok("auto", "list").err
    assert "auto: paused" in cli.ok("diagnose").err
    assert cli.ok("resume", "--json").json["paused"] is False
    assert cli.ok("auto", "list", "--json").json["paused"] is False


def begun_alone(cli: Cli) -> str:
    """The id of a `retry_later` that the tool has begun alone and that waits for an hour."""
    row = cli.server.add_failure("orders", "load", run_id="first", events=[REFUSED])
    (new,) = cli.ok("watch", "--once", "--json").lines
    later = ("--action", "retry_later", "--set", "delay=1h")
    cli.ok("approve", new["incident"], *later, "--yes")
    cli.clock.advance(hours=1, minutes=1)
    cli.ok("watch", "--once")
    cli.server.finish(row)
    cli.ok("watch", "--once")
    cli.clock.advance(hours=25)
    cli.ok("auto", "grant", "--actions", "retry,retry_later", "--dags", "*", "--yes")
    cli.server.add_failure(
        "orders", "load", run_id="second", events=[REFUSED], ended=cli.clock.now()
    )
    (waits,) = cli.ok("watch", "--once", "--auto", "--json").lines
    assert waits["status"] == "acting"
    assert waits["detail"].startswith("waits until ")
    return str(waits["incident"])


def test_pause_calls_off_what_waits_though_nobody_watches(cli: Cli) -> None:
    """Also where it is resumed before any watch has looked."""
    waiting, before = begun_alone(cli), len(cli.cleared())
    said = cli.ok("pause")
    assert f"called off, waits for a person again: {waiting}" in said.out
    assert "under way" not in said.out
    assert cli.status(waiting) == "pending"
    cli.ok("resume")
    cli.clock.advance(hours=2)
    cli.ok("watch", "--once")
    assert len(cli.cleared()) == before


def test_pause_leaves_what_a_person_has_approved(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    cli.ok("approve", incident, "--action", "retry_later", "--set", "delay=1h", "--yes")
    said = cli.ok("pause", "--json").json
    assert (said["waiting"], said["running"], said["called_off"]) == ([incident], [], [])
    assert f"waits, approved by a person: {incident}" in cli.ok("pause").out
    cli.clock.advance(hours=1, minutes=1)
    cli.ok("watch", "--once")
    assert cli.cleared() == [["load"]]


# ---- watch ----


def test_watch_tells_what_is_new_once(cli: Cli) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    said = cli.ok("watch", "--once")
    assert "orders.load  pending · novel · ConnectionRefusedError" in said.out
    assert said.out.count("\n") == 1
    assert cli.ok("watch", "--once").out == ""


def test_watch_ends_with_10_where_somebody_must_look(cli: Cli) -> None:
    assert cli.run("watch", "--once", "--exit-code").code == 0
    cli.server.add_failure("orders", "load", events=[REFUSED])
    assert cli.run("watch", "--once", "--exit-code", "--json").code == 10


@pytest.mark.parametrize("flags", [["--auto", "--ask"], ["--shadow", "--auto"]])
def test_modes_exclude_each_other(cli: Cli, flags: list[str]) -> None:
    said = cli.run("watch", "--once", *flags)
    assert said.code == 2
    assert "exclude each other" in said.err


def grant(cli: Cli, *more: str) -> str:
    made = cli.ok("auto", "grant", "--actions=retry", "--dags=orders", *more, "--json")
    return str(made.json["grant"])


def again(cli: Cli, mode: str, dag: str = "orders") -> str:
    """The failure that `Cli.mended` mended, once more, and a pass in this mode; its status then."""
    run = f"run-{len(cli.server.runs)}"
    cli.server.add_failure(dag, "load", run_id=run, events=[REFUSED], ended=cli.clock.now())
    cli.clock.advance(seconds=1)
    documents = cli.ok("watch", "--once", mode, "--json").lines
    (document,) = [doc for doc in documents if doc["run_id"] == run]
    return f"{document['status']} {document['decision']}"


def test_watch_auto_acts_within_a_grant(cli: Cli) -> None:
    cli.mended()
    grant(cli)
    assert again(cli, "--auto") == "acting auto"
    assert len(cli.cleared()) == 2


def succeeded(cli: Cli, after: timedelta) -> None:
    """Another run of orders is green, due so long after the last failed one."""
    *_, failed = cli.server.runs.values()
    due = datetime.fromisoformat(failed["run_after"].replace("Z", "+00:00")) + after
    cli.server.add_run("orders", "next", state="success", run_after=due.isoformat())


@pytest.mark.parametrize(("hours", "status"), [(1, "pending ask"), (-1, "acting auto")])
def test_where_a_newer_run_succeeded_the_old_one_is_left_alone(
    cli: Cli, hours: int, status: str
) -> None:
    cli.mended()
    grant(cli)
    cli.server.add_failure("orders", "load", run_id="old", events=[REFUSED], ended=cli.clock.now())
    succeeded(cli, timedelta(hours=hours))
    cli.clock.advance(seconds=1)
    (found,) = cli.ok("watch", "--once", "--auto", "--json").lines
    assert f"{found['status']} {found['decision']}" == status
    told = "a newer run of this DAG succeeded (next)" in found["gate"]["reasons"]
    assert told is (hours > 0)


@pytest.mark.parametrize("mode", ["--ask", "--shadow"])
def test_the_other_modes_act_on_nothing(cli: Cli, mode: str) -> None:
    cli.mended()
    grant(cli)
    assert again(cli, mode) == "pending auto"
    assert len(cli.cleared()) == 1
    (waiting,) = cli.ok("incidents", "--status", "pending", "--json").json["incidents"]
    assert (waiting["decided"] or {}).get("kind") == ("shadow" if mode == "--shadow" else None)


def test_auto_without_a_grant_shadows_and_says_so(cli: Cli) -> None:
    cli.mended()
    assert "no grant is in force: shadow" in cli.ok("watch", "--once", "--auto").err
    assert again(cli, "--auto") == "pending ask"
    assert len(cli.cleared()) == 1


@pytest.mark.parametrize("end", ["revoked", "expired", "paused", "paused here", "elsewhere"])
def test_a_grant_that_does_not_hold(cli: Cli, end: str) -> None:
    for dag in ("orders", "sales"):
        cli.mended(dag)
    given = grant(cli, "--until", "1h")
    if end == "revoked":
        cli.ok("auto", "revoke", given)
    elif end == "expired":
        cli.clock.advance(hours=1, seconds=1)
    elif end == "paused":
        cli.ok("pause")
    elif end == "paused here":
        cli.environ["AIOPS_PAUSED"] = "1"
    dag = "sales" if end == "elsewhere" else "orders"
    assert again(cli, "--auto", dag) == "pending ask"
    assert len(cli.cleared()) == 2


def test_a_resumed_grant_holds_again(cli: Cli) -> None:
    cli.mended()
    grant(cli)
    cli.ok("pause")
    assert again(cli, "--auto") == "pending ask"
    cli.ok("resume")
    cli.clock.advance(seconds=1)
    (acted,) = cli.ok("watch", "--once", "--auto", "--json").lines
    assert acted["status"] == "acting"


def test_watch_goes_on_after_an_outage(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --once; it is left by Ctrl-C."""
    cli.server.fault("GET .*taskInstances", status=503, times=3)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        cli.clock.advance(seconds=seconds)
        if waits.count(90) == 1:
            cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())
        if waits.count(90) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.clock, "sleep", sleep)
    said = cli.run("watch", "--interval", "90s")
    assert said.code == 130
    assert "; trying again" in said.err
    assert "orders.load" in said.out


def test_payments_and_prices_are_not_the_same(cli: Cli) -> None:
    """An approval on one task says nothing of another one."""
    cli.mended()
    grant(cli)
    cli.server.add_failure("orders", "pay", events=[PAYMENT])
    (document,) = cli.ok("watch", "--once", "--auto", "--json").lines
    assert document["status"] == "pending"
    assert len(cli.cleared()) == 1


class Pager:
    """A Notifier that remembers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, title: str, body: str, *, key: str, over: bool = False) -> None:
        self.told.append(title)


def test_a_grant_is_told_to_whom_failures_are_told(cli: Cli) -> None:
    from aiops_cli import services

    pager = Pager()
    cli.monkeypatch.setattr(services, "notifier", lambda chosen: pager if chosen.notify else None)
    (cli.home / "config.yaml").write_text("notify: ['json://127.0.0.1/secret-key']\n")
    given = cli.ok("auto", "grant", "--actions=retry", "--dags=orders_*", "--json").json
    cli.ok("auto", "revoke", given["grant"])
    first, second = pager.told
    assert first.startswith("aiops may act alone: retry in orders_*")
    assert second.startswith("aiops may not act alone any more: retry in orders_*")
    assert "secret-key" not in f"{first}{second}"


def test_a_service_that_is_down_keeps_no_grant_from_being_taken_back(cli: Cli) -> None:
    from aiops_cli import services
    from aiops_cli.errors import NotifyError

    class Down:
        def tell(self, *_: object, **__: object) -> None:
            raise NotifyError("slack did not answer")

    cli.monkeypatch.setattr(services, "notifier", lambda _: Down())
    given = cli.ok("auto", "grant", "--actions=retry", "--dags=*", "--json")
    assert "slack did not answer" in given.err
    cli.ok("auto", "revoke", given.json["grant"])
    (known,) = cli.ok("auto", "list", "--json").json["grants"]
    assert known["revoked_at"]


def test_a_grant_ends_by_itself(cli: Cli) -> None:
    given = cli.ok("auto", "grant", "--actions=retry", "--dags=*", "--json").json
    assert given["until"]
    cli.mended()
    cli.clock.advance(days=91)
    new = cli.capture("orders", run_id="later", events=[REFUSED])
    cli.ok("watch", "--once", "--auto")
    assert cli.status(new) == "pending"
