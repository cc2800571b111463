"""What a login may do, tried without changing anything; and a login that may only read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiops_cli.actions import CATALOGUE
from aiops_cli.airflow.gateway import Gateway
from aiops_cli.airflow.login import Login
from aiops_cli.airflow.rights import NEEDS, NOTHING, Right, permitted
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import AirflowUnreachable
from tests.airflow_server import AirflowServer
from tests.cli import Cli
from tests.desk import REFUSED, SetClock
from tests.test_login import jwt

REPAIRS = {"update_connection", "set_variable", "resize_pool"}


@pytest.fixture(params=["3.1.8", "3.3.2"])
def server(request: pytest.FixtureRequest) -> Iterator[AirflowServer]:
    with AirflowServer(request.param) as server:
        server.add_failure("orders", "load")
        yield server


def rights(server: AirflowServer, login: tuple[str, str], **options: Any) -> tuple[Right, ...]:
    return Gateway(Transport(server.url, Login(*login), clock=SetClock(), **options)).rights()


def test_every_action_of_the_catalogue_has_its_rights() -> None:
    assert NEEDS.keys() == CATALOGUE.keys()


def test_rights_by_role(server: AirflowServer) -> None:
    before = json.dumps(list(server.instances.values()))
    all_of = set(CATALOGUE) - ({"clear_xcom"} if not server.modern else set())
    for login, may in (
        (server.viewer, {"none"}),
        (server.user, all_of - REPAIRS),
        ((server.username, server.password), all_of),
    ):
        found = rights(server, login)
        assert all(right.allowed for right in found if right.role == "Viewer")
        assert {name for name, allowed in permitted(found).items() if allowed} == may
    assert json.dumps(list(server.instances.values())) == before


def test_nothing_that_could_exist_is_ever_named(server: AirflowServer) -> None:
    rights(server, (server.username, server.password))
    changing = [r for r in server.requests if r.method != "GET" and r.path != "/auth/token"]
    assert {r.method for r in changing} == {"POST", "PATCH", "DELETE"}
    assert all(NOTHING in r.path for r in changing)
    assert [r.body["dry_run"] for r in changing if "clear" in r.path] == [True]


def test_an_older_airflow_does_not_offer_to_delete_xcoms() -> None:
    with AirflowServer("3.1.8") as server:
        (xcoms,) = [
            r for r in rights(server, (server.username, server.password)) if "XCom" in r.name
        ]
        assert (xcoms.allowed, xcoms.problem) == (None, "this Airflow does not offer it")
        assert permitted([xcoms])["clear_xcom"] is None


def test_with_read_only_no_change_is_tried(server: AirflowServer) -> None:
    found = rights(server, (server.username, server.password), read_only=True)
    assert {right.role for right in found} == {"Viewer"}
    assert {r.method for r in server.requests if r.path != "/auth/token"} == {"GET"}


def test_a_gateway_that_refuses_some_methods_hides_no_other_right(server: AirflowServer) -> None:
    server.fault("PATCH .*taskInstances", status=501, body=b"<html>no", times=9)
    found = {right.name: right for right in rights(server, (server.username, server.password))}
    assert found["set the state of task instances"].allowed is None
    assert "501" in found["set the state of task instances"].problem
    assert found["edit connections"].allowed is True


def test_an_airflow_that_cannot_be_read_is_told(server: AirflowServer) -> None:
    server.fault("GET .*eventLogs", status=503, times=9)
    with pytest.raises(AirflowUnreachable, match="503"):
        rights(server, (server.username, server.password))


# ---- doctor ----


def doctor(cli: Cli, code: int = 0) -> Any:
    said = cli.run("doctor", "--json")
    assert said.code == code, said
    return said.json


def found(document: Any, name: str) -> dict[str, str]:
    return {c["status"]: c["found"] for c in document["checks"] if c["name"] == name}


def as_user(cli: Cli, login: tuple[str, str]) -> None:
    cli.environ |= dict(
        zip(("AIOPS_AIRFLOW_USERNAME", "AIOPS_AIRFLOW_PASSWORD"), login, strict=True)
    )


def test_doctor_lists_the_actions_that_this_login_may_do(cli: Cli) -> None:
    as_user(cli, cli.server.user)
    document = doctor(cli)
    may = {each["action"]: each["allowed"] for each in document["actions"]}
    assert list(may) == list(CATALOGUE)
    assert {action for action, allowed in may.items() if not allowed} == REPAIRS
    assert not found(document, "rights").get("warn")  # few should edit connections
    said = cli.ok("doctor").text
    assert "info rights may not edit connections → needed for: update_connection" in said
    assert "the role Op has it" in said
    assert "may clear task instances" in said
    allowed = ", ".join(action for action in CATALOGUE if action not in (*REPAIRS, "none"))
    assert f"ok actions may do {allowed}" in said


def test_doctor_of_who_only_reads(cli: Cli) -> None:
    cli.environ["AIOPS_CONFIG"] = str(cli.home / "mine.yaml")
    (cli.home / "mine.yaml").write_text("read_only: true\n")
    document = doctor(cli)
    assert "read_only is set: nothing is ever changed" in found(document, "rights")["ok"]
    assert [a["action"] for a in document["actions"] if a["allowed"]] == ["none"]


@pytest.mark.parametrize(
    ("minutes", "status", "text"),
    [(40, "ok", "expires in 40 min"), (10, "warn", "expires in 10 min"), (-5, "warn", "expired")],
)
def test_doctor_tells_a_tokens_end_beforehand(
    cli: Cli, minutes: int, status: str, text: str
) -> None:
    token = jwt(cli.clock.now().timestamp() + minutes * 60 + 30)
    cli.server.tokens[token] = "oncall"
    for name in ("USERNAME", "PASSWORD"):
        del cli.environ[f"AIOPS_AIRFLOW_{name}"]
    cli.environ["AIOPS_AIRFLOW_TOKEN"] = token
    said = cli.run("doctor", "--json")
    assert text in found(said.json, "login")[status]
    assert said.err == ""  # told once, as a finding
    # Every other command says so on stderr, once, and goes on.
    said = cli.ok("failures", "--json")
    assert said.err.count("warning: the token for Airflow") == (minutes < 15)
    assert token not in said.err


def test_doctor_warns_of_an_unsafe_way(cli: Cli) -> None:
    file = Path(cli.environ["AIOPS_CONFIG"])
    file.write_text(f"airflow: {{url: '{cli.server.url}', verify_tls: false}}\n")
    document = doctor(cli)
    assert "WHOEVER IS ON THE WAY" in found(document, "tls")["warn"]
    file.write_text("")
    assert not found(doctor(cli), "tls")  # http to this machine goes nowhere
    cli.environ["AIOPS_AIRFLOW_URL"] = "http://192.0.2.1:9"
    file.write_text("airflow: {proxy: 'http://127.0.0.1:9'}\n")
    assert "travels in clear" in found(doctor(cli, code=3), "tls")["warn"]


# ---- a login that may only read ----


def test_who_may_only_read_can_use_every_reading_command(cli: Cli) -> None:
    cli.two_failures()
    as_user(cli, cli.server.viewer)
    assert len(cli.ok("failures", "--json").json["failures"]) == 2
    seen = cli.ok("diagnose", "orders", "--json").json["incidents"]
    assert len(cli.ok("diagnose", "--json").json["incidents"]) == 2
    (incident,) = [one["incident"] for one in seen]
    for command in (
        ["diagnose", incident],
        ["diagnose", "orders", "load"],
        ["incidents", "list"],
        ["incidents", "show", incident],
        ["log", incident],
        ["watch", "--once", "--shadow"],
        ["watch", "--once"],
        ["kb", "list"],
        ["kb", "search", "connection refused"],
        ["doctor"],
    ):
        assert "may not" not in cli.ok(*command).err, command
    sent = [r for r in cli.server.sent("POST") if "clearTaskInstances" in r.path]
    assert all(r.body["dry_run"] for r in sent)


def test_who_may_only_read_is_refused_an_act_and_loses_nothing(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    as_user(cli, cli.server.viewer)
    said = cli.run("approve", incident, "--action", "retry", "--yes")
    assert said.code == 3
    assert "the role User" in said.text
    assert cli.status(incident) == "pending"
    as_user(cli, (cli.server.username, cli.server.password))
    cli.ok("approve", incident, "--action", "retry", "--yes")
    assert cli.status(incident) == "acting"
