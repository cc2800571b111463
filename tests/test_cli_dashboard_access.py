"""`aiops dashboard`: how it is started, who reaches it, and who may decide there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from streamlit import net_util
from streamlit.web import cli as streamlit_cli

from aiops_cli.commands import dashboard as command
from aiops_cli.dashboard import acts, frame
from aiops_cli.errors import Refused
from scripts.airflow_box import free_port
from tests import dashboard_pages
from tests.cli import Cli
from tests.dashboard_pages import SECONDS, Page, answered, came_with, opened
from tests.desk import REFUSED

page = dashboard_pages.page

# ---- who may ----


@pytest.mark.file_only
def test_read_only_shows_all_and_offers_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    id_ = answered(cli)
    looked = opened(cli, monkeypatch, read_only=True).look(incident=id_)
    assert "read only" in looked.text
    assert "retry orders.load  in second" in looked.text
    assert not {"Approve", "Reject", "Remember it", "Show what it would do"} & {*looked.buttons()}


@pytest.mark.file_only
def test_the_proxy_names_who_acts(cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    id_ = answered(cli)
    came_with(monkeypatch, ("X-Forwarded-User", "ben@example.com\x1b[31m"))
    named = opened(cli, monkeypatch, user_header="X-Forwarded-User").look(incident=id_)
    assert "you decide as ben@example.com" in named.text
    named.press("Approve")
    assert cli.ok("incidents", "show", id_, "--json").json["decided"]["by"] == "ben@example.com"
    came_with(monkeypatch)
    named.look(incident=id_)
    assert "no X-Forwarded-User came with the request" in named.text


@pytest.mark.file_only
@pytest.mark.parametrize(
    "sent",
    [
        [],
        ["", " \t"],
        [" \x1b[2J "],
        # The proxy adds its own beside what the browser sent.
        ["ana", "ben"],
        ["ben", "ana"],
        ["ben", "ben"],
    ],
)
def test_a_name_that_the_proxy_alone_did_not_give_is_none(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page, sent: list[str]
) -> None:
    id_ = answered(cli)
    came_with(monkeypatch, *(("x-forwarded-user", name) for name in sent))
    around = opened(cli, monkeypatch, user_header="X-Forwarded-User").look(incident=id_)
    came = "several" if len(sent) > 1 else "no"
    assert f"{came} X-Forwarded-User came with the request" in around.text
    assert "retry orders.load  in second" in around.text
    assert not {"Approve", "Reject", "Remember it"} & {*around.buttons()}


def test_what_takes_two_takes_two_names(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    """Ana's second click is no second person; Ben's is, and the story has both."""
    config = Path(cli.environ["AIOPS_CONFIG"])
    config.write_text(config.read_text() + "two_people: [retry]\n")
    id_ = cli.capture("orders", events=[REFUSED])
    named = opened(cli, monkeypatch, user_header="X-Forwarded-User")
    for name in ("ana", "Ana"):
        came_with(monkeypatch, ("X-Forwarded-User", name))
        named.look(incident=id_).choose("Action", "retry").press("Show what it would do")
        named.press("Approve")
        assert "a second person has to approve it too" in named.text
        assert (cli.status(id_), cli.cleared()) == ("pending", [])
    came_with(monkeypatch, ("X-Forwarded-User", "ben"))
    named.look(incident=id_).choose("Action", "retry").press("Show what it would do")
    named.press("Approve")
    assert (cli.status(id_), cli.cleared()) == ("acting", [["load"]])
    assert "note by ana: first yes of two to retry" in named.text
    assert "ben approved retry: approved by " in named.text


@pytest.mark.file_only
def test_a_header_that_nobody_set_names_nobody(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    id_ = answered(cli)
    names = ("X-Forwarded-User", "Remote-User", "user_header", "X-Auth-Request-Email")
    came_with(monkeypatch, *((name, "mallory") for name in names))
    page.look(incident=id_, user_header="X-Forwarded-User", user="mallory")
    assert "you decide as ana" in page.text
    page.press("Approve")
    assert cli.ok("incidents", "show", id_, "--json").json["decided"]["by"] == "ana"


@pytest.mark.file_only
def test_read_only_is_not_lifted_from_a_browser(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, page: Page
) -> None:
    """Not by an address, and not by a button that is pressed all the same."""
    id_ = answered(cli)
    (entry,) = cli.ok("kb", "list", "--json").json["entries"]
    looked = opened(cli, monkeypatch, read_only=True)
    looked.look(incident=id_, read_only="false", embed="true", user_header="X")
    assert "read only" in looked.text
    settings = replace(frame._settings(None), read_only=True)
    shown = acts.plan(settings, id_, acts.Edit())
    before = cli.counts()
    for change in (
        lambda: acts.approve(settings, shown),
        lambda: acts.approve_storm(settings, [shown]),
        lambda: acts.reject(settings, id_, "no", ""),
        lambda: acts.reject_storm(settings, [id_], "no"),
        lambda: acts.remember(settings, id_, cause="c", action="none", params={}),
        lambda: acts.retire(settings, entry["entry"], "old"),
    ):
        with pytest.raises(Refused, match="read only"):
            change()
    assert cli.counts() == before
    assert cli.status(id_) == "pending"


# ---- starting it ----


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Streamlit is started with."""
    given: list[str] = []
    monkeypatch.setattr(streamlit_cli, "main", lambda args, standalone_mode: given.extend(args))
    monkeypatch.setattr(net_util, "get_external_ip", None)  # put back afterwards
    return given


@pytest.mark.file_only
def test_it_is_for_this_machine_alone_and_calls_nobody(cli: Cli, flags: list[str]) -> None:
    port = free_port()
    said = cli.ok("dashboard", f"--port={port}")
    assert f"http://127.0.0.1:{port}" in said.err
    assert "warning" not in said.err
    assert flags[:2] == ["run", str(command.SCRIPT)]
    assert Path(flags[1]).is_file()
    assert {
        "--server.address=127.0.0.1",
        f"--server.port={port}",
        "--server.enableXsrfProtection=true",
        "--server.enableCORS=true",
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    } < {*flags}
    hosts = [flag for flag in flags if flag.startswith("--server.allowedHosts")]
    assert [flag.partition("=")[2] for flag in hosts] == ["127.0.0.1", "::1", "localhost"]
    given = json.loads(flags[-1])
    assert given == {
        "instance": None,
        "read_only": False,
        "user_header": None,
        "public_host": None,
    }
    frame.Access(**given)
    assert net_util.get_external_ip() is None  # and asks nobody


@pytest.mark.file_only
def test_open_to_a_network_it_warns_where_nobody_is_named(cli: Cli, flags: list[str]) -> None:
    port = free_port()
    warning = f"whoever reaches 0.0.0.0:{port} may decide as ana"
    everywhere = ("dashboard", "--host=0.0.0.0", f"--port={port}")
    assert warning in cli.ok(*everywhere).text
    assert warning not in cli.ok(*everywhere, "--read-only").text
    named = ("--user-header", "X-Forwarded-User", "--public-host", "aiops.example.com")
    assert warning not in cli.ok(*everywhere, *named).text
    assert "--browser.serverAddress=aiops.example.com" in flags
    assert "--server.allowedHosts=aiops.example.com" in flags


@pytest.mark.file_only
def test_without_its_package_it_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit", None)
    said = cli.run("dashboard")
    said.refused(2, "aiops dashboard needs the package streamlit", "aiops-cli[dashboard]")


@pytest.mark.file_only
def test_a_knowledge_base_that_cannot_be_used_is_told_at_once(cli: Cli, flags: list[str]) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}"
    assert cli.run("dashboard").code == 4
    assert flags == []


@pytest.mark.file_only
@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_where_it_cannot_listen_it_says_so(cli: Cli, flags: list[str], host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = cli.run("dashboard", f"--host={host}", f"--port={port}")
    said.refused(2, f"nothing can listen on {host}:{port}", "choose another --port")
    assert flags == []


@pytest.mark.file_only
def test_it_is_served_behind_the_guard(cli: Cli) -> None:
    """A page of another port of this machine, which Streamlit would let in, gets no connection."""
    own = f"127.0.0.1:{free_port()}"
    with (
        (cli.home / "out").open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "aiops_cli", "dashboard", f"--port={own.rpartition(':')[2]}"],
            env=cli.process_environ(),
            cwd=cli.home,
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            page = served(process, f"http://{own}/")
            assert page.headers["x-frame-options"] == "DENY"
            assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
            assert asked(own, f"http://{own}") == 101
            assert asked(own, "http://localhost:3000") == 403
            assert asked(own, "null") == 403
        finally:
            process.terminate()


def served(process: subprocess.Popen[bytes], url: str) -> httpx.Response:
    end = time.monotonic() + SECONDS
    while True:
        try:
            return httpx.get(url)
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)


def asked(own: str, origin: str) -> int:
    """The answer to who asks for a page's connection."""
    headers = {
        "Origin": origin,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with httpx.stream("GET", f"http://{own}/_stcore/stream", headers=headers) as answer:
        return answer.status_code


def test_streamlit_knows_every_flag(flags: list[str]) -> None:
    """One that it does not know would end it."""
    from streamlit import config

    config.get_config_options()
    known = set(config._config_options_template)
    asked = {flag.partition("=")[0] for flag in command._flags("127.0.0.1", 8501, "a.example")}
    assert {flag.removeprefix("--") for flag in asked} <= known


def test_none_of_its_files_hides_another_module() -> None:
    """Streamlit puts the script's folder first on the path."""
    own = {path.stem for path in command.SCRIPT.parent.glob("*.py")}
    others = {*sys.stdlib_module_names, *(name.partition(".")[0] for name in sys.modules)}
    assert own & others == {"__init__"} & others
