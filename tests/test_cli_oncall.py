"""A night on call: hold, snooze, note, wrong, groups, and the handover to the next shift."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from aiops_cli.commands.remark import wake_time
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED

VENDOR = exception(
    "HTTPError",
    "503 Server Error: Service Unavailable for url: https://api.vendor.com/v1/{}",
)


def vendor_down(cli: Cli, *dags: str) -> list[str]:
    """Failures of many DAGs because of one host; returns the incidents' ids."""
    for dag in dags:
        event = exception(
            "HTTPError",
            f"503 Server Error: Service Unavailable for url: https://api.vendor.com/v1/{dag}",
        )
        cli.server.add_failure(dag, "fetch", events=[event])
    return [str(one["incident"]) for one in cli.ok("watch", "--once", "--json").lines]


# ---- hold ----


@pytest.mark.parametrize("target", ["orders", "ord*", "ID"])
def test_what_is_held_is_not_done_alone_and_a_person_may(cli: Cli, target: str) -> None:
    cli.mended()
    cli.ok("auto", "grant", "--actions", "retry", "--dags", "*")
    id_ = cli.capture("orders", events=[REFUSED], run_id="second", ended=cli.clock.now())
    cli.ok("hold", id_ if target == "ID" else target, "30m", "--reason", "looking at the database")
    for line in cli.ok("watch", "--once", "--auto", "--json").lines:
        assert (line["decision"], line["status"]) == ("ask", "pending")
    doc = cli.ok("diagnose", id_, "--json").json
    (check,) = [one for one in doc["gate"]["checks"] if not one["passed"]]
    assert check["name"] == "protected"
    assert "held by ana: looking at the database" in check["reason"]
    cli.ok("approve", id_, "--yes")


def test_a_hold_ends_by_itself_or_by_a_word(cli: Cli) -> None:
    assert "nothing is held" in cli.ok("hold").text
    (made,) = cli.ok("hold", "orders", "30m", "--json").json["holds"]
    assert (made["target"], made["by"], made["ended_at"]) == ("orders", "ana", None)
    assert [one["hold"] for one in cli.ok("hold", "--json").json["holds"]] == [made["hold"]]
    cli.ok("hold", "orders", "--release")
    assert cli.ok("hold", "--json").json["holds"] == []
    cli.ok("hold", "orders", "30m")
    cli.clock.advance(minutes=31)
    assert cli.ok("hold", "--json").json["holds"] == []


def test_a_hold_that_makes_no_sense(cli: Cli) -> None:
    cli.run("hold", "--release", "--json").told(2, "usage", "no hold")
    cli.run("hold", "orders", "soon", "--json").told(2, "usage", "soon")
    cli.run("hold", "orders", "2", "--json").told(2, "usage", "2h hours")  # not two seconds
    cli.run("hold", "2h", "--json").told(2, "usage", "not what is to be held")
    assert cli.ok("hold", "--json").json["holds"] == []
    cli.run("hold", "orders", "--release", "--json").told(2, "not_found", "no hold")


def test_a_hold_on_what_was_never_seen_may_be_misspelt(cli: Cli) -> None:
    id_ = cli.capture("orders", events=[BUG])
    for target in ("orders", "ord*", id_, id_[:4]):
        assert "is that its name?" not in cli.ok("hold", target, "30m").text
    assert "is that its name?" in cli.ok("hold", "ordres", "30m").err


# ---- snooze and note ----


@pytest.mark.parametrize("name", ["", "  "])
def test_a_hold_on_nothing_is_none(cli: Cli, name: str) -> None:
    cli.run("hold", name, "--json").told(2, "usage", "has no name")
    assert cli.ok("hold", "--json").json == {"holds": []}


def test_a_snoozed_incident_waits_and_is_told(cli: Cli) -> None:
    id_ = cli.capture("orders", events=[BUG])
    commands = (["incidents", "--exit-code"], ["watch", "--once", "--exit-code"])
    assert [cli.run(*command).code for command in commands] == [10, 10]
    doc = cli.ok("snooze", id_, "2h", "--json").json
    assert doc["status"] == "pending"
    assert doc["snoozed_until"].endswith("Z")
    assert "nothing waits" in cli.type("triage", keys="").text
    assert "left until" in cli.ok("incidents", "show", id_).out
    assert "left until" in cli.ok("handover").out
    assert "snoozed" in cli.ok("incidents").out
    for command in commands:  # nobody is called for it
        cli.ok(*command)


def test_what_waits_elsewhere_is_not_this_airflows_exit_code(cli: Cli, waiting: str) -> None:
    assert waiting
    assert cli.run("incidents", "--exit-code", "--instance=default").code == 10
    cli.ok("incidents", "--exit-code", "--instance=other")


@pytest.mark.parametrize(
    ("text", "hours"), [("2h", 2.0), ("90m", 1.5), ("04:30", 0.5), ("03:00", 23.0)]
)
def test_until_when(monkeypatch: pytest.MonkeyPatch, text: str, hours: float) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    now = datetime(2026, 3, 1, 4, 0, tzinfo=timezone.utc)
    assert wake_time(text, now) == now + timedelta(hours=hours)


def test_a_note_is_shown_to_whoever_looks_next(cli: Cli) -> None:
    id_ = cli.capture("orders", events=[BUG])
    doc = cli.ok("note", id_, "vendor called\x1b[2J, password=hunter2pass", "--json").json
    (note,) = doc["notes"]
    assert note["by"] == "ana"
    assert note["text"].startswith("vendor called")
    assert "hunter2pass" not in note["text"]
    assert "\x1b" not in note["text"]
    assert "ana: vendor called" in cli.ok("incidents", "show", id_).text
    cli.run("note", id_, "  ", "--json").told(2, "usage", "empty")


# ---- the whole story ----


def test_an_incident_is_shown_with_all_that_was_said_and_done(cli: Cli) -> None:
    id_ = cli.mended()
    cli.ok("note", id_, "the vendor was told")
    cli.ok("wrong", id_, "--reason", "it paid twice")
    said = cli.ok("incidents", "show", id_)
    events = cli.ok("incidents", "show", id_, "--json").json["story"]
    told = [
        "failed: ConnectionRefusedError",
        "seen by aiops",
        "judged: proposes nothing",
        "ana approved retry",
        "ana vouched: load may run again",
        "checked: retry fixed, turned green (try 2)",
        "note by ana: the vendor was told",
        "ana says it did harm (retry): it paid twice",
    ]
    for start in told:
        assert [one for one in events if one["what"].startswith(start)], (start, events)
        assert start in said.text
    assert [one["at"] for one in events] == sorted(one["at"] for one in events)
    assert "The plan of retry" in said.out


def test_what_the_card_tells_is_not_told_twice(cli: Cli) -> None:
    waiting = cli.capture("orders", events=[REFUSED])
    assert "STORY" not in cli.ok("incidents", "show", waiting).out
    cli.ok("note", waiting, "I look at it")
    assert "note by ana: I look at it" in cli.ok("incidents", "show", waiting).out


# ---- wrong and undo ----


def test_what_did_harm_is_blocked_everywhere_at_once(cli: Cli) -> None:
    id_ = cli.mended()
    cli.ok("auto", "grant", "--actions", "retry", "--dags", "*")
    doc = cli.ok("wrong", id_, "--reason", "it paid twice", "--json").json
    assert doc["wrong"]["reason"] == "it paid twice"
    assert doc["other_acts"] == []
    cli.server.add_dag("sales", {"load": []}, tags=["aiops:rerun-safe"])
    for dag in ("orders", "sales"):
        cli.server.add_failure(dag, "load", run_id="next", events=[REFUSED], ended=cli.clock.now())
    cli.clock.advance(seconds=1)
    lines = cli.ok("watch", "--once", "--auto", "--json").lines
    decisions = {line["dag_id"]: line["decision"] for line in lines if line["run_id"] == "next"}
    assert decisions == {"orders": "blocked", "sales": "blocked"}


def test_wrong_lists_the_other_acts_of_the_same_answer(cli: Cli) -> None:
    first, second = cli.mended(), cli.mended("sales")
    said = cli.ok("wrong", first, "--reason", "it paid twice")
    there = f"the same was done to {second} sales.load, and its outcome stays fixed: look whether"
    assert there in said.text
    assert cli.ok("incidents", "show", second, "--json").json["wrong"] is None


def test_wrong_needs_an_act(cli: Cli) -> None:
    id_ = cli.capture("orders", events=[BUG])
    cli.run("wrong", id_, "--reason", "no", "--json").told(2, "not_found")


def test_a_retry_cannot_be_undone_and_says_so(cli: Cli) -> None:
    cli.run("undo", cli.mended(), "--json").told(5, "refused", "cannot be undone")
    cli.run("undo", cli.capture("sales", events=[BUG]), "--json").told(5, "refused", "nothing")


def waiting_retry(cli: Cli, *dags: str) -> list[str]:
    """Approved retries that wait for their time; returns the incidents' ids."""
    ids = vendor_down(cli, *dags)
    cli.ok("approve", *ids, "--action=retry_later", "--set=delay=10m", "--yes")
    assert {cli.status(id_) for id_ in ids} == {"acting"}
    return ids


def test_a_retry_that_waits_is_called_off(cli: Cli) -> None:
    (id_,) = waiting_retry(cli, "prices")
    assert cli.ok("undo", id_, "--json").json["status"] == "pending"
    cli.run("undo", id_, "--json").told(5, "refused", "nothing to put back")
    cli.clock.advance(minutes=11)
    cli.ok("watch", "--once")
    assert cli.cleared() == []
    cli.ok("approve", id_, "--action=retry", "--yes")
    assert cli.cleared() == [["fetch"]]


def test_what_has_begun_is_not_called_off(cli: Cli) -> None:
    (id_,) = waiting_retry(cli, "prices")
    cli.clock.advance(minutes=11)
    cli.ok("watch", "--once")
    assert cli.cleared() == [["fetch"]]
    cli.run("undo", id_, "--json").told(5, "refused", "cannot be undone")
    assert cli.status(id_) == "acting"


def test_what_waits_has_done_no_harm_yet(cli: Cli) -> None:
    (id_,) = waiting_retry(cli, "prices")
    cli.run("wrong", id_, "--reason=x", "--json").told(5, "refused", f"aiops undo {id_}")


def test_who_is_in_there_is_not_disturbed_by_an_earlier_approval(cli: Cli) -> None:
    (id_,) = waiting_retry(cli, "prices")
    cli.clock.advance(minutes=1)
    cli.ok("hold", "prices", "1h")
    cli.clock.advance(minutes=10)
    assert "ana holds it" in cli.ok("watch", "--once").err
    assert cli.cleared() == []
    assert cli.status(id_) == "pending"


def test_what_was_approved_in_spite_of_a_hold_is_done(cli: Cli) -> None:
    cli.ok("hold", "prices", "1h")
    cli.clock.advance(minutes=1)
    waiting_retry(cli, "prices")
    cli.clock.advance(minutes=11)
    cli.ok("watch", "--once")
    assert cli.cleared() == [["fetch"]]


@pytest.mark.parametrize("reason", ["", "  ", "\x1b[0m"])
def test_a_reason_says_something(cli: Cli, reason: str) -> None:
    done = cli.mended()
    waiting = cli.capture("sales", events=[BUG])
    for command, id_ in (("reject", waiting), ("wrong", done)):
        said = cli.run(command, id_, f"--reason={reason}", "--json")
        said.told(2, "usage", "the reason is empty")
    assert cli.status(waiting) == "pending"


# ---- groups ----


def test_an_act_on_a_group_is_called_off_or_called_wrong_by_its_id(cli: Cli) -> None:
    ids = waiting_retry(cli, "prices", "stock", "users")
    group = cli.ok("incidents", "show", ids[0], "--json").json["group"]
    assert len(cli.ok("undo", group, "--json").json["incidents"]) == 3
    assert {cli.status(id_) for id_ in ids} == {"pending"}
    cli.run("wrong", group, "--reason=x", "--json").told(2, "not_found")
    cli.ok("approve", ids[0], ids[1], "--action=retry", "--yes")
    wrong = cli.ok("wrong", group, "--reason=it paid twice", "--json").json["incidents"]
    assert {one["incident"] for one in wrong} == set(ids[:2])


def test_one_host_that_is_down_is_one_group(cli: Cli) -> None:
    ids = vendor_down(cli, "prices", "stock", "users")
    docs = [cli.ok("incidents", "show", id_, "--json").json for id_ in ids]
    (group,) = {doc["group"] for doc in docs}
    assert docs[0]["group_key"] == "host:api.vendor.com"
    done = cli.ok("reject", group, "--reason", "the vendor is down", "--json").json["incidents"]
    assert {doc["incident"] for doc in done} == set(ids)
    assert {doc["status"] for doc in done} == {"rejected"}


def test_a_group_is_approved_member_by_member_those_that_still_wait(cli: Cli) -> None:
    ids = vendor_down(cli, "prices", "stock", "users")
    cli.ok("reject", ids[0], "--reason", "not this one")
    group = cli.ok("incidents", "show", ids[1], "--json").json["group"]
    done = cli.ok("approve", group, "--action", "retry", "--yes", "--json").json["incidents"]
    assert {doc["incident"] for doc in done} == set(ids[1:])


def test_a_later_failure_of_the_same_kind_is_another_group(cli: Cli) -> None:
    (first,) = vendor_down(cli, "prices")
    cli.clock.advance(hours=2)
    event = VENDOR
    second = cli.capture("stock", events=[event], ended=cli.clock.now())
    groups = [cli.ok("incidents", "show", id_, "--json").json["group"] for id_ in (first, second)]
    assert groups[0] != groups[1]


# ---- handover ----


def test_the_next_shift_is_told_what_waits_what_happened_and_what_is_held(cli: Cli) -> None:
    mended = cli.mended()
    waiting = cli.capture("sales", events=[BUG])
    cli.ok("note", waiting, "`rm -rf` is not the answer")
    cli.ok("hold", "sales", "1h")
    cli.ok("pause")
    doc = cli.ok("handover", "--since=2d", "--json").json
    assert [one["incident"] for one in doc["waiting"]] == [waiting]
    assert [one["incident"] for one in doc["happened"]] == [mended]
    assert [one["target"] for one in doc["holds"]] == ["sales"]
    assert doc["paused"] is True
    text = cli.ok("handover", "--since=2d").out
    assert text.index("WAITS FOR A PERSON: 1") < text.index("HAPPENED: 1") < text.index("HELD: 1")
    markdown = cli.ok("handover", "--since=2d", "--markdown").out
    assert "## Waits for a person (1)" in markdown
    assert "`'rm -rf' is not the answer`" in markdown


def test_what_failed_before_the_shift_and_was_dealt_with_in_it_is_told(cli: Cli) -> None:
    mended, running = (
        cli.server.add_failure(dag, "load", events=[REFUSED]) for dag in ("orders", "sales")
    )
    ids = [str(one["incident"]) for one in cli.ok("watch", "--once", "--json").lines]
    older = cli.capture("prices", events=[BUG])
    cli.ok("reject", older, "--reason=known")
    cli.clock.advance(hours=20)
    cli.ok("approve", *ids, "--action=retry", "--yes")
    cli.server.finish(mended)
    cli.ok("watch", "--once")
    doc = cli.ok("handover", "--since=8h", "--json").json
    assert [one["dag_id"] for one in doc["acting"]] == ["sales"]
    assert [one["dag_id"] for one in doc["happened"]] == ["orders"]
    assert doc["waiting"] == []
    cli.clock.advance(hours=9)
    later = cli.ok("handover", "--since=8h", "--json").json
    assert (len(later["acting"]), later["happened"]) == (1, [])
    assert running["state"] is None


@pytest.mark.parametrize("form", [[], ["--markdown"]])
def test_a_storm_is_one_line_of_the_handover(cli: Cli, form: list[str]) -> None:
    ids = vendor_down(cli, *(f"vendor_{number}" for number in range(9)))
    group = cli.ok("incidents", "show", ids[0], "--json").json["group"]
    cli.ok("note", group, "the vendor is called")
    out = cli.ok("handover", *form).out
    (line,) = [line for line in out.splitlines() if "api.vendor.com does not answer" in line]
    assert group[:4] in line
    assert "9 pending" in line
    assert out.count("the vendor is called") == 1
    assert "vendor_3" not in out


def test_a_mapped_task_is_one_line_of_the_handover(cli: Cli) -> None:
    for index in range(4):
        cli.server.add_failure("orders", "convert", map_index=index, events=[BUG])
    cli.ok("watch", "--once")
    out = cli.ok("handover").out
    assert "WAITS FOR A PERSON: 4" in out
    assert "orders.convert[0-3] 4 of 4  → unknown" in out
    assert out.count("orders.convert") == 1
    assert cli.ok("handover", "--markdown").out.count("orders.convert[0-3]") == 1


def test_an_empty_night(cli: Cli) -> None:
    said = cli.ok("handover").out
    assert "WAITS FOR A PERSON: none" in said
    assert "None." in cli.ok("handover", "--markdown").out


# ---- the knowledge base ----


def test_what_is_retired_answers_no_more(cli: Cli) -> None:
    texts = ("--title", "t", "--error", "ValueError: x", "--cause", "c", "--json")
    entry = cli.ok("kb", "add", *texts).json["entry"]
    (done,) = cli.ok("kb", "retire", entry[:5], "--reason", "mended", "--json").json["entries"]
    assert (done["entry"], done["retired"]) == (entry, True)
    assert all(
        one["entry"] != entry
        for one in cli.ok("kb", "search", "ValueError: x", "--json").json["entries"]
    )
    cli.run("kb", "retire", "nosuchid", "--reason", "x", "--json").told(2, "not_found")


def test_what_is_known_is_counted(cli: Cli) -> None:
    cli.mended()
    counted = cli.ok("kb", "stats", "--json").json
    assert counted["entries"]["incident"] == 1
    assert counted["incidents"]["resolved"] == 1
    assert counted["acts"] == {"fixed": 1}
    assert counted["alone"] == 0
    assert "fixed 1 (0 alone)" in cli.ok("kb", "stats").text
