"""Shell completion, asked as the scripts that Typer writes for the shells ask."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from aiops_cli import config
from aiops_cli.commands import completion
from aiops_cli.main import COMMANDS
from knowledge.records import STATUSES
from knowledge.stores.postgres_engine import CONNECT_SECONDS
from tests.cli import BUG, Cli
from tests.desk import REFUSED


def asked(cli: Cli, line: str, shell: str = "bash") -> list[str]:
    """What the shell gets for Tab at the end of the line."""
    words = line.split()
    number = len(words) - (0 if line.endswith(" ") else 1)
    said = subprocess.run(
        [sys.executable, "-m", "aiops_cli"],
        env=cli.process_environ()
        | {
            "_AIOPS_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line.replace(" ", "\n"),  # as Typer's script for bash joins them
            "COMP_CWORD": str(number),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
        cwd=cli.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, ""), said
    return said.stdout.split("\n")[:-1] if said.stdout != "\n" else []


def test_commands_and_options(cli: Cli) -> None:
    assert asked(cli, "aiops ") == list(COMMANDS)
    assert asked(cli, "aiops tri") == ["triage"]
    assert asked(cli, "aiops incidents ") == ["list", "show"]
    assert asked(cli, "aiops incidents --st") == ["--status"]  # of the one that is meant
    assert "--rerun-safe" in asked(cli, "aiops approve --re")


def test_fixed_values(cli: Cli) -> None:
    assert asked(cli, "aiops incidents --status ") == list(STATUSES)
    assert asked(cli, "aiops approve x --action retry_") == ["retry_later", "retry_upstream"]
    assert asked(cli, "aiops kb list --kind h") == ["history"]
    assert asked(cli, "aiops watch --instance ") == ["default"]
    assert asked(cli, "aiops --instance ") == ["default"]
    assert not cli.kb.exists()  # a Tab makes no knowledge base


def test_what_follows_an_equals_sign_in_bash(cli: Cli) -> None:
    """bash splits words there."""
    incident = cli.capture("orders", events=[REFUSED])
    assert asked(cli, "aiops approve x --action = retry_") == ["retry_later", "retry_upstream"]
    assert "none" in asked(cli, "aiops approve x --action =")
    assert asked(cli, "aiops auto grant --actions = retry --dags = o") == ["orders"]
    assert incident[:4] in asked(cli, "aiops approve --action = none ")


def test_ids_and_names_come_from_the_knowledge_base_without_airflow(cli: Cli) -> None:
    orders = cli.capture("orders", events=[REFUSED])
    sales = cli.capture("sales", task="count", events=[BUG])
    grant = cli.ok("auto", "grant", "--actions=retry", "--dags=*", "--json").json["grant"]
    entry = cli.ok(
        *("kb", "add", "--title=t", "--error=ValueError: x", "--cause=c", "--json")
    ).json["entry"]
    requests = len(cli.server.requests)
    groups = [cli.ok("incidents", "show", one, "--json").json["group"] for one in (orders, sales)]
    short = {one[:4] for one in (orders, sales, *groups)}
    for line in ("approve ", "reject ", "log ", "incidents show ", "note ", "wrong ", "snooze "):
        assert set(asked(cli, f"aiops {line}")) == short, line
    assert asked(cli, f"aiops approve {orders[:2]}")[0] == orders[:4]
    assert asked(cli, f"aiops approve {orders[:6]}") == [orders]  # longer than the shortest
    assert asked(cli, "aiops failures ") == ["orders", "sales"]
    assert asked(cli, "aiops failures sales ") == ["count"]
    assert asked(cli, "aiops triage --dag o") == ["orders"]
    assert {"orders", "sales", *short} == set(asked(cli, "aiops diagnose "))
    assert entry in asked(cli, "aiops kb show ")
    assert orders[:4] not in asked(cli, "aiops kb show ")
    assert grant in asked(cli, "aiops auto revoke ")
    assert len(cli.server.requests) == requests


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_the_help_too(cli: Cli, shell: str) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    (line,) = [one for one in asked(cli, "aiops log ", shell) if incident[:4] in one]
    assert "orders.load pending" in line


@pytest.mark.parametrize("broken", ["settings", "base"])
def test_what_is_broken_is_not_told_at_a_tab(cli: Cli, broken: str) -> None:
    cli.capture("orders", events=[REFUSED])
    if broken == "settings":
        (cli.home / "config.yaml").write_text("mdoe: auto\n")
    else:
        cli.kb.write_bytes(b"no database" * 1000)
    assert asked(cli, "aiops log ") == []
    assert asked(cli, "aiops tri") == ["triage"]


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_tab_writes_nothing(cli: Cli) -> None:
    incident = cli.capture("orders", events=[REFUSED])
    before = everything(cli.kb.parent)
    assert asked(cli, "aiops log ")[0] == incident[:4]
    assert everything(cli.kb.parent) == before


@pytest.mark.parametrize("open_elsewhere", [False, True])
def test_a_tab_does_not_migrate_an_older_knowledge_base(cli: Cli, open_elsewhere: bool) -> None:
    import apsw

    cli.capture("orders", events=[REFUSED])
    other = apsw.Connection(str(cli.kb))
    other.execute("PRAGMA user_version = 1")
    if not open_elsewhere:  # else it stands in the log beside the file only
        other.close()
    before = everything(cli.kb.parent)
    assert asked(cli, "aiops log ") == []
    assert asked(cli, "aiops failures ") == []
    assert everything(cli.kb.parent).keys() == before.keys()  # no copy of it, and nothing else
    other.close()
    now = apsw.Connection(str(cli.kb))
    assert now.pragma("user_version") == 1
    now.close()


def test_of_a_base_that_others_have_open_all_is_offered(cli: Cli) -> None:
    """A watch keeps it open from its making on: what the file itself says is old then."""
    with closing(cli.store()):
        incident = cli.capture("orders", events=[REFUSED])
        assert asked(cli, "aiops log ")[0] == incident[:4]


def test_a_server_that_does_not_answer_is_not_waited_for(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, says nothing
        port = silent.getsockname()[1]
        cli.environ["AIOPS_KB"] = f"postgresql://aiops@127.0.0.1:{port},127.0.0.1:{port}/aiops"
        start = time.monotonic()
        assert asked(cli, "aiops log ") == []
        assert time.monotonic() - start < CONNECT_SECONDS  # of the first of two addresses


def test_only_what_fits_is_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "RECENT", 1)
    cli.capture("orders", events=[REFUSED])
    cli.capture("sales", task="count", events=[BUG])

    def offered(offers: completion.Offers, begun: str, **given: str) -> list[str]:
        settings = config.load(cwd=cli.home, environ=cli.environ, overrides={})
        return [offer.value for offer in offers(settings, given, begun)]

    assert len(offered(completion._dags, "")) == 1
    assert offered(completion._dags, "or") == ["orders"]
    assert offered(completion._dags, "sa") == ["sales"]
    assert offered(completion._tasks, "l", dag="orders") == ["load"]
    assert offered(completion._tasks, "c", dag="orders") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_shown_and_installed(cli: Cli, shell: str) -> None:
    code = (
        "from typer import _completion_shared as s; s._get_shell_name = lambda: None;"
        "from aiops_cli.__main__ import main; main()"
    )

    def run(option: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, option],
            cwd=cli.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=cli.process_environ() | {"SHELL": f"/bin/{shell}"},
        )

    shown = run("--show-completion")
    assert shown.returncode == 0, shown
    assert "_AIOPS_COMPLETE=complete_" in shown.stdout
    installed = run("--install-completion")
    assert installed.returncode == 0, installed
    assert f"{shell} completes aiops" in installed.stdout
    written = [
        path.read_text() for path in cli.home.rglob("*") if path.is_file() and "aiops" in path.name
    ]
    assert any("_AIOPS_COMPLETE=complete_" in text for text in written)


def test_an_unknown_shell_is_told(cli: Cli) -> None:
    cli.monkeypatch.setenv("SHELL", "/bin/nosh")
    from typer import _completion_shared

    cli.monkeypatch.setattr(_completion_shared, "_get_shell_name", lambda: None)
    said = cli.run("--install-completion")
    assert said.code == 2
    assert "no completion is known for nosh" in said.err
