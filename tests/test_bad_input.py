"""What can be wrong in what was asked, and of which faults.py knows one command alone: one clear
message, what to do, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.desk import REFUSED
from tests.faults import FAULTS, Fault

# ---- Airflow ----


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.kind == "a"], ids=str)
def test_the_secrets_of_a_login_are_never_told(cli: Cli, fault: Fault) -> None:
    cli.capture("orders", events=[REFUSED])
    cli.environ["AIOPS_AIRFLOW_PASSWORD"] = "hunter2pass"
    fault.wrong(cli)
    said = cli.run("failures", "--json")
    assert said.code == fault.code
    assert "hunter2pass" not in said.out + said.err
    assert "not-a-token" not in said.out + said.err


def test_a_login_that_may_only_look_cannot_approve(cli: Cli, waiting: str) -> None:
    name, password = cli.server.viewer
    cli.environ |= {"AIOPS_AIRFLOW_USERNAME": name, "AIOPS_AIRFLOW_PASSWORD": password}
    said = cli.run("approve", waiting, "--action=retry", "--yes", "--json")
    said.told(3, "airflow_forbidden", "it takes the role User")
    assert cli.cleared() == []
    assert cli.status(waiting) == "pending"
    cli.environ |= {
        "AIOPS_AIRFLOW_USERNAME": cli.server.username,
        "AIOPS_AIRFLOW_PASSWORD": cli.server.password,
    }
    cli.ok("approve", waiting, "--action=retry", "--yes")  # no claim was left behind


@pytest.mark.parametrize("status", [403, 404, 422])
def test_an_act_that_airflow_refuses_gives_the_claim_back(
    cli: Cli, waiting: str, status: int
) -> None:
    """The plan was shown and the act is refused: nothing was done, and it may be tried again."""
    body = b'{"detail":"Refused"}'
    cli.at_the_act(lambda: cli.server.fault("POST .*/clear", status=status, body=body))
    said = cli.run("approve", waiting, "--action=retry", "--yes", "--json")
    assert said.code == 3
    assert cli.status(waiting) == "pending"
    cli.ok("approve", waiting, "--action=retry", "--yes")
    assert cli.status(waiting) == "acting"


@pytest.mark.parametrize("command", [["diagnose"], ["failures"]])
def test_an_unknown_dag(cli: Cli, waiting: str, command: list[str]) -> None:
    cli.server.add_dag("shop_orders_etl", {"load": []})
    cli.server.add_dag("shop_returns", {"load": []})
    said = cli.run(*command, "no_such_dag", "--json")
    said.told(2, "usage", "no DAG is named 'no_such_dag'", "aiops failures")
    told = "no DAG is named 'shop' did you mean shop_orders_etl, shop_returns?"
    cli.run(*command, "shop", "--json").told(2, "usage", told)
    cli.run(*command, "orderz", "--json").told(2, "usage", "did you mean orders?")


def test_a_start_of_an_id_that_is_too_short(cli: Cli, waiting: str) -> None:
    cli.run("diagnose", waiting[:3], "--json").told(2, "usage", "id needs 4 of its characters")


def test_an_address_of_another_server_or_page(cli: Cli, waiting: str) -> None:
    for url in ("https://other.example/dags/orders/runs/r/tasks/load", f"{cli.server.url}/home"):
        said = cli.run("diagnose", url, "--json")
        said.told(2, "usage")


def test_an_older_airflow(cli: Cli) -> None:
    version = b'{"version":"2.11.0","git_version":null}'
    cli.server.fault("GET /api/v2/version", times=9, status=200, body=version)
    said = cli.run("doctor")
    assert said.code == 3
    assert "2.11.0" in said.text


def test_a_name_that_means_two_airflows(cli: Cli, waiting: str) -> None:
    """Two laptops that name one address differently, or one name for two, would act twice."""
    cli.environ["AIOPS_AIRFLOW_URL"] = "http://another.example"
    said = cli.run("watch", "--once", "--json")
    said.told(4, "knowledge_base", "default", "another.example")


# ---- settings ----


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("airflow:\n  url: [", 2, ""),
        ("mode: auto\nmode: ask\n", 2, "mode"),
        ("interval: soon\n", 1, "expected a duration"),
        ("mdoe: auto\n", 1, "did you mean mode?"),
        ("gate:\n  similarity: 7\n", 2, "expected a number from 0 to 1"),
        ("\tmode: auto\n", 1, ""),
        ("- mode\n", 1, ""),
        ("mode: \x07\n", 1, ""),
    ],
)
@pytest.mark.parametrize("command", [["incidents"], ["doctor"], ["kb", "list"], ["pause"]])
def test_a_broken_config_names_file_line_and_reason(
    cli: Cli, text: str, line: int, reason: str, command: list[str]
) -> None:
    file = Path(cli.environ["AIOPS_CONFIG"])
    file.write_text(text)
    said = cli.run(*command, "--json")
    assert said.code == 2
    error = said.json["error"]
    assert error["code"] == "config"
    assert error["message"].startswith(f"{file}:{line}: ")
    assert reason in error["message"] + error["hint"]


def test_a_projects_file_may_not_redirect_the_login(cli: Cli) -> None:
    (cli.home / "aiops.yaml").write_text("mode: ask\nairflow:\n  url: http://evil.example\n")
    said = cli.run("failures", "--json")
    said.told(2, "config", "aiops.yaml:3: airflow.url may not be set by a project's file")
    assert cli.server.requests == []


def test_a_config_that_is_not_there(cli: Cli) -> None:
    cli.environ["AIOPS_CONFIG"] = str(cli.home / "absent.yaml")
    cli.run("incidents", "--json").told(2, "config", "absent.yaml", "does not exist")


# ---- runbooks ----

GOOD = "- title: t\n  error: 'ValueError: x'\n  cause: c\n  action: retry\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "- title: [\n", None),
        (GOOD + "- title: u\n  error: 'KeyError: y'\n  cause: c\n  action: dance\n", 8),
        (GOOD + "- title: u\n  cause: c\n", 5),
        (GOOD + "- just text\n", 5),
    ],
)
def test_a_broken_runbook_stores_nothing_of_it_or_of_the_others(
    cli: Cli, text: str, line: int | None
) -> None:
    (cli.home / "good.yaml").write_text(GOOD.replace("ValueError", "OSError"))
    cli.ok("kb", "seed", str(cli.home / "good.yaml"))
    before = cli.counts()
    (cli.home / "better.yaml").write_text(GOOD.replace("ValueError", "TypeError"))
    bad = cli.home / "bad.yaml"
    bad.write_text(text)
    files = [str(cli.home / "better.yaml"), str(bad)]
    said = cli.run("kb", "seed", *files, "--json")
    said.told(2, "runbook", f"{bad}:{line or ''}")
    assert re.search(r"bad\.yaml:\d+: \S", said.json["error"]["message"])
    assert cli.counts() == before


@pytest.mark.parametrize("name", ["absent.yaml", "empty", "text.txt", "binary.yaml"])
def test_runbooks_that_are_none(cli: Cli, name: str) -> None:
    (cli.home / "empty").mkdir()
    (cli.home / "text.txt").write_text("hello")
    (cli.home / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01" * 100)
    said = cli.run("kb", "seed", str(cli.home / name), "--json")
    said.told(2, "runbook", name)
    assert cli.counts() == () or cli.counts()[0] == 0


# ---- options and values ----


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["failures", "--since", "yesterday"], "not a duration"),
        (["failures", "--since", ""], "not a duration"),
        (["failures", "--since", "-1h"], "not a duration"),
        (["failures", "--since", "999999999w"], "not a duration"),
        (["diagnose", "--since", "soon"], "not a duration"),
        (["incidents", "--since", "soon"], "not a duration"),
        (["incidents", "--status", "open"], "there is no status 'open'"),
        (["incidents", "--limit", "0"], "--limit"),
        (["incidents", "--limit", "many"], "--limit"),
        (["watch", "--once", "--interval", "0"], "interval"),
        (["watch", "--once", "--interval", "soon"], "interval"),
        (["--instance", "nowhere", "failures"], "no Airflow instance is named 'nowhere'"),
        (["failures", "--instance", "no/where"], "expected a name"),
        (["approve"], "ID"),
        (["approve", "abcd", "--bogus"], "--bogus"),
        (["faillures"], "did you mean failures?"),
        (["kb", "serach", "x"], "did you mean search?"),
        (["retry", "k3f9"], "did you mean approve?"),
        (["ls"], "did you mean incidents?"),
        (["incidents", "shwo"], ""),
        (["open"], "ID"),
    ],
)
def test_options_and_values(cli: Cli, args: list[str], word: str) -> None:
    said = cli.run(*args, "--json")
    assert said.code == 2, said
    error = said.json["error"]
    assert error["hint"] or "expected" in error["message"]
    assert word.lower() in f"{error['message']} {error['hint']}".lower()
    assert cli.server.requests == []


@pytest.mark.parametrize("name", ["../../etc/x", "a/b", "%2e%2e", "x\x1b[31m", "ü", "*", "' OR 1"])
def test_strange_names_reach_nothing_else(cli: Cli, waiting: str, name: str) -> None:
    for command in (["failures", name], ["diagnose", name], ["incidents", "--dag", name]):
        said = cli.run(*command)
        assert said.code in (0, 2), said
        assert "\x1b" not in said.out + said.err
    for request in cli.server.requests:
        assert request.path.startswith(("/api/v2/", "/ui/dags/", "/auth/token"))
        assert "/../" not in request.path
    assert cli.status(waiting) == "pending"
