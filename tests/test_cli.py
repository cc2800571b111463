"""The commands that look: failures, diagnose, incidents, log, open, doctor; and what holds for
every command."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from datetime import timedelta

import pytest

from aiops_cli.commands import output
from aiops_cli.main import COMMANDS, Group
from knowledge.records import incident_id
from tests.airflow_beside import stamp
from tests.airflow_server import exception
from tests.cli import BUG, Cli
from tests.desk import REFUSED
from tests.postgres_database import APP, OWNER

# ---- every command ----


def a_grant(cli: Cli) -> str:
    made = cli.ok("auto", "grant", "--actions", "retry", "--dags", "x", "--json")
    return str(made.json["grant"])


def an_entry(cli: Cli) -> str:
    texts = ("--title", "t", "--error", "ValueError: x", "--cause", "c")
    return str(cli.ok("kb", "add", *texts, "--json").json["entry"])


def runbook(cli: Cli) -> str:
    file = cli.home / "book.yaml"
    file.write_text("- title: t\n  error: 'ValueError: x'\n  cause: c\n  action: retry\n")
    return str(file)


# How each command is called so that it ends well; `{…}` is what it is about.
def exported(cli: Cli) -> str:
    file = cli.home / "knowledge.jsonl"
    file.write_text(cli.ok("kb", "export").out)
    return str(file)


def migration(cli: Cli) -> list[str]:
    """As the owner of the tables, where they are in Postgres."""
    cli.environ["AIOPS_KB"] = cli.environ["AIOPS_KB"].replace(APP, OWNER)
    return []


CALLS: dict[str, Callable[[Cli], list[str]]] = {
    "doctor": lambda cli: [],
    "failures": lambda cli: [],
    "diagnose": lambda cli: [],
    "learn": lambda cli: ["--since=1d"],
    "report": lambda cli: [],
    "backtest": lambda cli: [],
    "stuck": lambda cli: [],
    "watch": lambda cli: ["--once"],
    "incidents list": lambda cli: [],
    "incidents show": lambda cli: [cli.capture("orders", events=[REFUSED])],
    "approve": lambda cli: [cli.capture("orders", events=[REFUSED]), "--action=retry", "--yes"],
    "reject": lambda cli: [cli.capture("orders", events=[REFUSED]), "--reason", "no"],
    "log": lambda cli: [cli.capture("orders", events=[REFUSED])],
    "open": lambda cli: [cli.capture("orders", events=[REFUSED])],
    "auto grant": lambda cli: ["--actions", "retry", "--dags", "*"],
    "auto list": lambda cli: [],
    "auto revoke": lambda cli: [a_grant(cli)],
    "hold": lambda cli: ["orders"],
    "snooze": lambda cli: [cli.capture("orders", events=[REFUSED]), "2h"],
    "note": lambda cli: [cli.capture("orders", events=[REFUSED]), "the vendor is called"],
    "wrong": lambda cli: [cli.mended(), "--reason", "it paid twice"],
    "handover": lambda cli: [],
    "pause": lambda cli: [],
    "resume": lambda cli: [],
    "kb seed": lambda cli: [runbook(cli)],
    "kb add": lambda cli: ["--title", "t", "--error", "ValueError: x", "--cause", "c"],
    "kb list": lambda cli: [],
    "kb show": lambda cli: [an_entry(cli)],
    "kb search": lambda cli: ["ValueError: x"],
    "kb retire": lambda cli: [an_entry(cli), "--reason", "mended"],
    "kb lint": lambda cli: [],
    "kb export": lambda cli: [],
    "kb import": lambda cli: [exported(cli)],
    "kb reindex": lambda cli: [],
    "kb migrate": lambda cli: migration(cli),
    "kb stats": lambda cli: [],
    "audit list": lambda cli: [],
    "audit verify": lambda cli: [],
    "plugin install": lambda cli: [str(cli.home)],
}
NAMES = [
    f"{name} {sub}" if sub else name
    for name, entry in COMMANDS.items()
    for sub in (entry.commands if isinstance(entry, Group) else [""])
]


def test_every_command_is_called_below() -> None:
    # init and triage talk: test_init.py, test_cli_triage.py; undo refuses: test_cli_oncall.py; mcp
    # and dashboard go on: test_mcp.py, test_cli_dashboard_access.py
    assert {*CALLS, "init", "triage", "undo", "mcp", "dashboard"} == set(NAMES)


@pytest.mark.parametrize("name", CALLS)
def test_a_command_ends_well_and_prints_json_and_nothing_else(cli: Cli, name: str) -> None:
    streams = name in ("watch", "kb export")  # nothing but JSON, without being asked
    args = [*CALLS[name](cli), *([] if name == "kb export" else ["--json"])]
    said = cli.run(*name.split(), *args)
    assert said.code == 0, said
    if streams:
        assert all(isinstance(line, dict) for line in said.lines)
    else:
        assert isinstance(said.json, dict)
    assert said.out.startswith("{") or name == "watch"
    assert '"error": {' not in said.out


@pytest.mark.parametrize("name", CALLS)
def test_a_command_ends_well_and_talks_without_colour_in_a_pipe(cli: Cli, name: str) -> None:
    said = cli.run(*name.split(), *CALLS[name](cli))
    assert said.code == 0, said
    assert "\x1b" not in said.out + said.err
    assert not said.err.startswith("error")


@pytest.mark.file_only
def test_a_knowledge_base_in_a_new_folder_is_told_of(cli: Cli) -> None:
    """Of a mistyped name "no incidents" would read as all clear."""
    file = cli.home / "typo" / "knowledge.db"
    cli.environ["AIOPS_KB"] = f"sqlite:///{file}"
    said = cli.ok("incidents", "--json")
    told = f"warning: there was no folder {file.parent}: a new knowledge base is begun in it\n"
    assert said.err.startswith(told)
    assert said.json["incidents"] == []
    assert "warning" not in cli.ok("incidents").err


# ---- failures ----


@pytest.mark.file_only
def test_failures_are_data(cli: Cli) -> None:
    cli.two_failures()
    said = cli.ok("failures", "--json")
    found = {(row["dag_id"], row["task_id"], row["map_index"]) for row in said.json["failures"]}
    assert found == {("orders", "load", -1), ("sales", "count", 3)}
    assert said.err == ""
    text = cli.ok("failures")
    assert "orders.load" in text.out
    assert "sales.count[3]" in text.out
    assert text.err == ""
    assert not cli.kb.exists()  # nothing is stored


@pytest.mark.parametrize(
    ("args", "dags"),
    [
        (["orders"], ["orders"]),
        (["o*"], ["orders"]),
        (["*", "count"], ["sales"]),
        (["*", "c*"], ["sales"]),
        (["orders", "count"], []),
    ],
)
def test_failures_of_a_dag_and_a_task(cli: Cli, args: list[str], dags: list[str]) -> None:
    cli.two_failures()
    said = cli.ok("failures", *args, "--json")
    assert [row["dag_id"] for row in said.json["failures"]] == dags


def test_no_failures_are_said_on_stderr(cli: Cli) -> None:
    said = cli.ok("failures", "--since", "90m")
    assert (said.out, said.err) == ("", "no failed tries in the last 90m\n")
    assert cli.ok("failures", "--json").json == {"failures": []}


def test_failures_look_back_as_far_as_they_are_told(cli: Cli) -> None:
    ended = cli.clock.now() - timedelta(hours=3)
    cli.server.add_failure("orders", "load", ended=ended)
    assert cli.ok("failures", "--since", "2h", "--json").json["failures"] == []
    assert len(cli.ok("failures", "--since", "4h", "--json").json["failures"]) == 1


def test_names_are_whole_in_a_pipe_and_cut_with_a_sign_on_a_narrow_screen(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.server.add_failure("warehouse_" + "very_" * 10 + "long", "load", run_id="r" * 40)
    text = cli.ok("failures").out
    assert "warehouse_" + "very_" * 10 + "long.load" in text
    assert "r" * 40 in text
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli.ok("failures").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" in lines[1]


# ---- incidents ----


def test_incidents_are_filtered(cli: Cli) -> None:
    first = cli.capture("orders", events=[REFUSED])
    second = cli.capture("sales", events=[BUG])
    cli.ok("reject", second, "--reason", "no")

    def listed(*args: str) -> list[str]:
        documents = cli.ok("incidents", *args, "--json").json["incidents"]
        return sorted(doc["incident"] for doc in documents)

    assert listed() == sorted([first, second])
    assert listed("--status", "pending") == [first]
    assert listed("--status", "rejected") == [second]
    assert listed("--status", "rejected", "--status", "pending") == sorted([first, second])
    assert listed("--dag", "sal*") == [second]
    assert listed("--dag", "orders", "--status", "rejected") == []
    assert listed("--since", "1h") == sorted([first, second])
    assert len(listed("--limit", "1")) == 1
    cli.clock.advance(hours=2)
    assert listed("--since", "1h") == []
    assert listed("--instance", "default") == sorted([first, second])
    assert listed("--instance", "another") == []


def test_the_exit_code_says_whether_incidents_wait(cli: Cli) -> None:
    assert cli.run("incidents", "--exit-code").code == 0
    incident = cli.capture("orders", events=[REFUSED])
    assert cli.run("incidents", "--exit-code").code == 10
    said = cli.run("incidents", "--exit-code", "--json")
    assert said.code == 10
    assert len(said.json["incidents"]) == 1
    assert cli.run("incidents").code == 0
    cli.ok("reject", incident, "--reason", "no")
    assert cli.run("incidents", "--exit-code").code == 0


def test_incidents_need_no_airflow(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    asked = len(cli.server.requests)
    for args in (["incidents"], ["incidents", "show", incident], ["log", incident]):
        cli.ok(*args)
    assert len(cli.server.requests) == asked


def test_no_incidents_are_said_on_stderr(cli: Cli) -> None:
    said = cli.ok("incidents")
    assert (said.out, said.err) == ("", "no incidents\n")


def test_show_takes_any_unique_start_of_an_id(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    for start in (incident, incident[:4], incident[:7].upper()):
        assert cli.ok("incidents", "show", start, "--json").json["incident"] == incident
    card = cli.ok("incidents", "show", incident).out
    assert card.startswith(f"{incident[:4]}  orders.load  FAILED ")
    assert f"NEXT     approve {incident[:4]} --action …" in card


@pytest.mark.parametrize("command", [["incidents", "show"], ["log"], ["open"], ["approve"]])
@pytest.mark.parametrize("start", ["zzzz", "abc", ""])
def test_an_id_that_is_none(cli: Cli, command: list[str], start: str) -> None:
    cli.capture("orders", events=[REFUSED])
    said = cli.run(*command, start, "--json")
    assert said.code == 2
    assert said.json["error"]["code"] == "not_found"
    assert said.json["error"]["hint"]


def test_an_id_that_fits_several_names_them(cli: Cli) -> None:
    by_start: dict[str, list[str]] = {}
    two: list[str] = []
    for run in map(str, range(100_000)):
        id_ = incident_id("default", "orders", run, "load", -1, 1)
        by_start.setdefault(id_[:4], []).append(run)
        if len(by_start[id_[:4]]) == 2:
            two = by_start[id_[:4]]
            break
    for run in two:
        cli.server.add_failure("orders", "load", run_id=run, events=[REFUSED])
    ids = [doc["incident"] for doc in cli.ok("diagnose", "--json").json["incidents"]]
    said = cli.run("incidents", "show", ids[0][:4])
    assert said.code == 2
    assert all(id_ in said.err for id_ in ids)
    shown = cli.ok("incidents").out
    assert ids[0][:4] + " " not in shown  # the shortest unique start is shown


@pytest.mark.parametrize("command", ["failures", "diagnose"])
def test_a_task_is_named_as_lists_show_it(cli: Cli, command: str) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    cli.server.add_failure("orders", "group.count", map_index=3, events=[REFUSED])
    cli.server.add_failure("orders.eu", "load", events=[REFUSED])

    def named(text: str) -> set[tuple[str, str]]:
        found = cli.ok(command, text, "--json").json
        rows = found.get("failures") or found.get("incidents")
        return {(row["dag_id"], row["task_id"]) for row in rows}

    assert named("orders.load") == {("orders", "load")}
    assert named("orders.group.count[3]") == {("orders", "group.count")}
    assert named("orders.eu.load") == {("orders.eu", "load")}
    assert named("orders.eu") == {("orders.eu", "load")}
    cli.run(command, "nowhere.load", "--json").told(2, "usage", "nowhere.load")


# ---- log, open ----


def test_log_in_a_pipe_is_the_log_without_escapes(cli: Cli) -> None:
    event = {"event": "\x1b[31m[red]pulling[/red]\x1b[0m " + "x" * 300, "level": "info"}
    incident = cli.capture("orders", events=[event, REFUSED])
    said = cli.ok("log", incident)
    first = said.out.splitlines()[0]
    assert first.startswith("[")  # its level: no number before it
    assert "[red]pulling[/red] " + "x" * 300 in first  # one line of the log is one line
    assert "\x1b" not in said.out
    document = cli.ok("log", incident, "--json").json
    assert document["incident"] == incident
    assert len(document["numbers"]) == len(document["text"].split("\n"))
    assert document["cut"] is False
    assert document["notice"] is None


def test_a_log_can_become_a_symptom_that_is_recognised(cli: Cli) -> None:
    """`aiops log ID | aiops kb add --error -`, as the page on runbooks has it."""
    incident = cli.capture("orders", events=[{"event": "pulling", "level": "info"}, REFUSED])
    text = cli.ok("log", incident).out
    cli.ok("kb", "add", "--title", "it restarts", "--cause", "c", "--error", "-", stdin=text)
    document = cli.ok("diagnose", incident, "--json").json
    assert document["diagnosis"]["by"] == "exact"
    assert document["matches"][0]["title"] == "it restarts"


def test_what_is_nearest_is_told_anew_when_more_is_known(cli: Cli) -> None:
    """Also where it is not near enough to be an answer."""
    incident = cli.capture("orders", events=[exception("OddError", "gadget 7 lost its orbit")])
    for title, error in (("far", "OddError: gadget"), ("near", "OddError: gadget lost its way")):
        cli.ok("kb", "add", "--title", title, "--cause", "c", "--error", error)
        document = cli.ok("diagnose", incident, "--json").json
        assert document["decision"] == "novel"
        assert document["matches"][0]["title"] == title


def test_a_log_that_is_gone_is_told_on_stderr(cli: Cli) -> None:
    cli.server.add_failure("orders", "load")
    cli.server.logs.clear()
    (document,) = cli.ok("diagnose", "--json").json["incidents"]
    said = cli.ok("log", document["incident"])
    assert said.out == ""
    assert "no log" in said.err


def test_open_prints_the_address(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = cli.capture("orders", "count", map_index=2, events=[REFUSED])
    opened: list[str] = []

    def browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", browser)
    said = cli.ok("open", incident)
    assert said.out.startswith(f"{cli.server.url}/dags/orders/runs/")
    assert "/tasks/count/mapped/2" in said.out
    assert opened == []  # no browser from a script
    assert cli.ok("open", incident, "--json").json["url"] == said.out.strip()
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    cli.ok("open", incident)
    assert opened == [said.out.strip()]
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    assert "by hand" in cli.ok("open", incident).err


def test_open_of_what_is_no_task(cli: Cli) -> None:
    """A run has a page of its own, a file that cannot be imported none."""
    cli.server.add_dag("close", {"slow": []}, dag_run_timeout="PT2S")
    begun = stamp(cli.clock.now() - timedelta(seconds=20))
    cli.server.add_run("close", "night 1", start_date=begun)
    cli.server.add_instance("close", "slow", "skipped", run_id="night 1", start_date=begun)
    cli.server.add_import_error("orders.py", "ImportError: no module named x")
    cli.clock.advance(seconds=1)
    new = {one["kind"]: one for one in cli.ok("watch", "--once", "--json").lines}
    url = cli.ok("open", new["run"]["incident"]).out.strip()
    assert url == new["run"]["context"]["url"] == f"{cli.server.url}/dags/close/runs/night%201"
    assert "cut off while running: slow" in cli.ok("incidents", "show", new["run"]["incident"]).out
    assert cli.ok("open", new["import"]["incident"]).out.strip() == cli.server.url
