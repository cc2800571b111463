"""What changes more than the one task is never done alone by default, and seldom otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from aiops_cli import decide, gate, respond
from aiops_cli.actions import CATALOGUE, who_may
from aiops_cli.config import load
from aiops_cli.errors import ConfigError, Refused
from aiops_cli.examine import Desk
from knowledge.records import Case
from tests.airflow_server import RUN
from tests.cli import Cli
from tests.desk import REFUSED, Bench, bench
from tests.test_actions import Killed, killed_after

BATCH = {"key": "batch", "value": "100"}


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with bench() as made:
        made.server.add_dag("orders", {"load": []}, tags=["aiops:rerun-safe"])
        yield made


def fail(at: Bench, run_id: str = RUN) -> dict[str, Any]:
    return at.server.add_failure("orders", "load", run_id=run_id, events=[REFUSED])


def decided(at: Bench, case: Case, action: str, params: dict[str, Any]) -> None:
    plan = respond.preview(at.desk, case.incident, action, params)
    decide.approve(at.desk, case, decide.Proposal(action, params), plan, None)


def confirmed(at: Bench, times: int) -> None:
    """A person set the variable so often, and it helped each time."""
    for number in range(times):
        at.server.add_variable("batch", "500")["value"] = "500"
        row = fail(at, f"before_{number}")
        at.watch()
        (case,) = at.store.cases(status=["pending"])
        decided(at, case, "set_variable", BATCH)
        at.finish(row)
        at.watch()
    at.server.variables["batch"]["value"] = "500"
    at.clock.advance(days=2)  # what is relapsing is another matter


def verdict(at: Bench) -> dict[str, Any]:
    case = at.store.cases()[0]
    assert case.judgement
    return {check["name"]: check for check in case.judgement.document["gate"]["checks"]} | {
        "": case.judgement.document["decision"]
    }


def alone(at: Bench) -> None:
    at.desk.settings.actions["set_variable"] = "alone"  # type: ignore[index]  # as a file says


def now_fails(at: Bench) -> dict[str, Any]:
    row = fail(at, "tonight")
    row["end_date"] = at.clock.now().isoformat()
    return row


def test_by_default_it_is_a_persons(at_work: Bench) -> None:
    confirmed(at_work, 3)
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    at_work.watch("auto")
    assert "is a person's" in verdict(at_work)["action_allowed"]["reason"]
    assert at_work.server.variables["batch"]["value"] == "500"


def test_with_setting_grant_and_three_confirmations_it_is_done_alone(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    at_work.watch("auto")
    assert at_work.server.variables["batch"]["value"] == "100"
    assert at_work.store.cases()[0].status == "acting"


def test_what_takes_two_people_is_never_done_alone(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    settings = replace(at_work.desk.settings, two_people=("set_variable",))
    replace(at_work, desk=replace(at_work.desk, settings=settings)).watch("auto")
    assert "is a person's" in verdict(at_work)["action_allowed"]["reason"]
    assert at_work.server.variables["batch"]["value"] == "500"


@pytest.mark.parametrize("revoked", [False, True])
def test_what_it_did_alone_is_finished_only_while_it_may(at_work: Bench, revoked: bool) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    grant = at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    killed_after(at_work, "change_variable")
    with pytest.raises(Killed):
        at_work.watch("auto")
    assert at_work.server.variables["batch"]["value"] == "100"
    before = len(at_work.cleared())
    if revoked:
        at_work.store.revoke_grant(grant.id, "ben", at_work.clock.now())
    at_work.clock.advance(minutes=10)
    at_work.watch("ask")
    assert len(at_work.cleared()) == before
    at_work.watch("auto")
    assert len(at_work.cleared()) == before + (not revoked)
    assert at_work.store.cases()[0].status == ("needs_human" if revoked else "acting")


def test_two_confirmations_are_not_enough(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 2)
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    at_work.watch("auto")
    assert verdict(at_work)["evidence"]["reason"] == "2 of 3 verified outcomes of set_variable"
    assert at_work.server.variables["batch"]["value"] == "500"


def test_other_values_of_the_same_variable_are_no_confirmation(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    case = at_work.store.cases()[0]
    at_work.desk.knowledge.learn(
        case.incident,
        action="set_variable",
        params={"key": "batch", "value": "5"},
        cause="smaller yet",
        at=at_work.clock.now(),
    )
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    at_work.watch("auto")
    assert not verdict(at_work)["evidence"]["passed"]
    assert at_work.server.variables["batch"]["value"] == "500"


def test_a_grant_of_retries_covers_no_change(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    at_work.grant()
    now_fails(at_work)
    at_work.watch("auto")
    assert not verdict(at_work)["action_allowed"]["passed"]
    assert at_work.server.variables["batch"]["value"] == "500"


def test_what_is_hidden_is_never_overwritten_alone(at_work: Bench) -> None:
    alone(at_work)
    confirmed(at_work, 3)
    at_work.server.variables["batch"]["value"] = '{"password": "hunter2"}'
    at_work.grant(actions=("set_variable",))
    now_fails(at_work)
    at_work.watch("auto")
    assert at_work.server.variables["batch"]["value"] == '{"password": "hunter2"}'
    assert any("hides the old value" in said for said in at_work.warnings)


def test_an_upstream_that_nobody_vouched_for_never_runs_alone(at_work: Bench) -> None:
    at_work.server.add_dag("orders", {"pay": ["load"]}, tags=["aiops:rerun-safe:load"])
    at_work.desk.settings.actions["retry_upstream"] = "alone"  # type: ignore[index]
    for number in range(3):
        run = f"before_{number}"
        row = fail(at_work, run)
        at_work.server.add_instance("orders", "pay", "success", run_id=run)
        at_work.server.runs["orders", run]["state"] = "failed"
        at_work.watch()
        (case,) = at_work.store.cases(status=["pending"])
        decided(at_work, case, "retry_upstream", {"task_ids": "pay"})
        at_work.finish(row)
        at_work.watch()
    at_work.clock.advance(days=2)
    at_work.grant(actions=("retry_upstream",))
    now_fails(at_work)
    at_work.server.add_instance("orders", "pay", "success", run_id="tonight")
    at_work.server.runs["orders", "tonight"]["state"] = "failed"
    before = len(at_work.cleared())
    at_work.watch("auto")
    assert len(at_work.cleared()) == before
    assert any("pay would run anew" in said for said in at_work.warnings)


@pytest.mark.parametrize("action", CATALOGUE)
def test_who_may_by_default(action: str) -> None:
    free = action in ("retry", "retry_later", "none")
    assert who_may({}, action) == ("alone" if free else "person")
    assert who_may({action: "nobody"}, action) == "nobody"
    assert who_may({action: "alone"}, action, [action]) == "person"
    assert who_may({action: "nobody"}, action, [action]) == "nobody"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("actions: {mark_success: alone}", "never done alone"),
        ("actions: {retry: sometimes}", "nobody, person or alone"),
        ("actions: {dance: alone}", "expected actions"),
        ("two_people: [dance]", "expected actions"),
        ("two_people: retry", "a list such as"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Any, text: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(cwd=tmp_path, environ={"AIOPS_CONFIG": str(tmp_path / "config.yaml")})
    assert message in refused.value.message


def test_our_own_note_is_ours_whatever_the_cause_says(at_work: Bench) -> None:
    row = fail(at_work)
    at_work.watch()
    case = at_work.only()
    plan = respond.preview(at_work.desk, case.incident, "retry", {})
    cause = "db (primary) was\nbusy) " + "x" * 900
    decide.approve(at_work.desk, case, decide.Proposal("retry", {}, cause), plan, None)
    base = at_work.store.base_id()
    assert len(row["note"]) < 1000
    assert gate.foreign_word(row["note"], base) == ""
    assert "person" in gate.foreign_word(row["note"] + " (hands off)", base)
    assert "person" in gate.foreign_word(row["note"] + "\nhands off", base)


# ---- two people ----


def two(cli: Cli) -> str:
    config = cli.home / "two.yaml"
    config.write_text("two_people: [set_variable]\n")
    cli.environ["AIOPS_CONFIG"] = str(config)
    cli.server.add_variable("batch", "500")
    return cli.capture("orders", events=[REFUSED])


CHANGE = ("--action", "set_variable", "--set", "key=batch", "--set", "value=100", "--yes")


def test_the_first_yes_only_waits_for_the_second(cli: Cli) -> None:
    one = two(cli)
    said = cli.ok("approve", one, *CHANGE)
    assert "a second person has to approve it too" in said.err
    assert cli.status(one) == "pending"
    assert cli.server.variables["batch"]["value"] == "500"
    cli.ok("approve", one, *CHANGE)  # nobody is two people
    cli.environ["AIOPS_USER"] = "Ana"
    cli.ok("approve", one, *CHANGE)
    assert cli.server.variables["batch"]["value"] == "500"
    cli.environ["AIOPS_USER"] = "ben"
    cli.ok("approve", one, *CHANGE)
    assert cli.server.variables["batch"]["value"] == "100"
    shown = cli.ok("incidents", "show", one, "--json").json
    assert (shown["decided"]["by"], shown["decided"]["reason"]) == ("ben", "approved by Ana too")


def test_two_yeses_to_two_plans_are_not_enough(cli: Cli) -> None:
    one = two(cli)
    cli.ok("approve", one, *CHANGE)
    cli.environ["AIOPS_USER"] = "ben"
    cli.server.variables["batch"]["value"] = "400"
    cli.ok("approve", one, *CHANGE)
    assert cli.server.variables["batch"]["value"] == "400"


def test_a_first_yes_does_not_hold_for_ever(cli: Cli) -> None:
    one = two(cli)
    cli.ok("approve", one, *CHANGE)
    cli.environ["AIOPS_USER"] = "ben"
    cli.clock.advance(days=2)
    cli.ok("approve", one, *CHANGE)
    assert cli.server.variables["batch"]["value"] == "500"


def yes_by(cli: Cli, user: str, one: str, *more: str) -> str:
    """The variable's value after this person's yes."""
    cli.environ["AIOPS_USER"] = user
    cli.clock.advance(seconds=1)
    cli.ok("approve", one, *CHANGE, *more)
    return str(cli.server.variables["batch"]["value"])


def test_who_says_no_when_asked_again_takes_back_their_yes(cli: Cli) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one) == "500"
    cli.environ["AIOPS_USER"] = "cy"
    said = cli.type("approve", one, *CHANGE[:-1], keys="n\n")
    assert "withdrawn" not in said.err  # it is ana's
    cli.environ["AIOPS_USER"] = "ana"
    said = cli.type("approve", one, *CHANGE[:-1], keys="n\n")
    assert "your yes is withdrawn" in said.err
    assert yes_by(cli, "ben", one) == "500"
    assert yes_by(cli, "cy", one) == "100"  # ben's was the first


def test_a_no_to_the_question_in_triage_takes_back_a_yes(cli: Cli) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one) == "500"
    said = cli.type("triage", keys="e\nset_variable\nkey=batch, value=100\n\nn\nq\n")
    assert "your yes is withdrawn" in said.err
    assert yes_by(cli, "ben", one) == "500"


def test_a_rejection_ends_a_first_yes_though_it_is_taken_back(cli: Cli) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one) == "500"
    cli.clock.advance(seconds=1)
    cli.ok("reject", one, "--reason", "not so")
    with closing(cli.store()) as store:
        store.take_back(one, "ana", cli.clock.now())
    assert cli.status(one) == "pending"
    assert yes_by(cli, "ben", one) == "500"


def test_whoever_approves_something_else_ends_a_first_yes(cli: Cli) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one) == "500"
    cli.environ["AIOPS_USER"] = "cy"
    other = [part.replace("value=100", "value=50") for part in CHANGE]
    cli.ok("approve", one, *other)  # another plan: a first yes to that
    assert yes_by(cli, "ben", one) == "500"
    with cli.monkeypatch.context() as patch:
        patch.setattr("aiops_cli.actions.retry.apply", refused)
        cli.run("approve", one, "--action=retry", "--yes").refused(5, "not now")
    assert cli.status(one) == "pending"
    assert yes_by(cli, "dan", one) == "500"


def test_a_yes_that_was_taken_back_while_the_other_looked_counts_no_more(cli: Cli) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one) == "500"
    cli.environ["AIOPS_USER"] = "ben"
    original = decide.approve

    def approve(desk: Desk, case: Case, *args: Any) -> Case:
        ana = replace(desk, settings=replace(desk.settings, user="ana"))
        assert decide.no_to_own_yes(ana, case)
        return original(desk, case, *args)

    cli.monkeypatch.setattr(decide, "approve", approve)
    cli.ok("approve", one, *CHANGE)
    assert cli.server.variables["batch"]["value"] == "500"


def test_a_first_yes_is_used_up_by_the_act(at_work: Bench) -> None:
    """Killed before it changed anything, it needs two people once more."""
    at_work.server.add_variable("batch", "500")
    fail(at_work)
    at_work.watch()
    settings = replace(at_work.desk.settings, two_people=("set_variable",))

    def yes_of(user: str) -> None:
        desk = replace(at_work.desk, settings=replace(settings, user=user))
        decided(replace(at_work, desk=desk), at_work.only(), "set_variable", BATCH)

    yes_of("ana")
    killed_after(at_work, "change_variable", before=True)
    with pytest.raises(Killed):
        yes_of("ben")
    at_work.clock.advance(minutes=10)
    at_work.watch()
    assert at_work.only().status == "needs_human"
    yes_of("ben")
    assert at_work.server.variables["batch"]["value"] == "500"
    yes_of("ana")
    assert at_work.server.variables["batch"]["value"] == "100"


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("--rerun-safe", None, [("ana", None, True), ("ben", "pair", True)]),
        ("--not-rerun-safe", None, [("ana", None, False)]),
        ("--not-rerun-safe", "--rerun-safe", [("ana", None, False), ("ben", None, True)]),
        ("--rerun-safe", "--not-rerun-safe", [("ana", None, True), ("ben", None, False)]),
        (None, None, [("ben", "pair", True)]),
    ],
)
def test_what_both_said_of_running_twice_is_kept(
    cli: Cli, first: str | None, second: str | None, words: list[tuple[str, str | None, bool]]
) -> None:
    one = two(cli)
    assert yes_by(cli, "ana", one, *filter(None, [first])) == "500"
    # A no counts at once, a yes with the second person's.
    assert said_of_load(cli) == [word for word in words if word[0] == "ana" and not word[2]]
    assert cli.status(one) == "pending"
    assert yes_by(cli, "ben", one, *filter(None, [second])) == "100"
    assert said_of_load(cli) == words


def said_of_load(cli: Cli) -> list[tuple[str, str | None, bool]]:
    """By whom, of the pair or of the task, and what."""
    with closing(cli.store()) as store:
        (case,) = store.cases()
        found = store.vouches(case.incident.instance, "orders", "load")
    return [(one.by, one.fingerprint and "pair", one.safe) for one in found]


def refused(*_: Any) -> None:
    raise Refused("not now", "later")


def test_settings_of_two_programs_share_nothing(tmp_path: Any) -> None:
    first, second = (load(cwd=tmp_path, environ={}) for _ in range(2))
    assert first.actions == {}
    assert first.actions is not second.actions
