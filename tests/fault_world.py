"""Where the cells of the fault matrix take place, and how a command of it is called."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from aiops_cli.main import COMMANDS as TABLE
from aiops_cli.main import Group
from tests.airflow_server import AirflowServer
from tests.cli import BUG, Cli, Said, make
from tests.desk import REFUSED
from tests.fault_commands import COMMANDS
from tests.faults import Fault

CHANGING = ("dags", "tasks", "instances", "runs", "past", "events", "connections")
MOVE = ("--action=update_connection", "--set=connection_id=db", "--set=host=db2.example.com")


class World(NamedTuple):
    """An Airflow with a failure that was captured and one that was acted on, and the files of
    whoever did: made once, for a cell takes less than its making. `ids` are those of what a
    Command may be `of`."""

    server: AirflowServer
    files: Path
    ids: dict[str, str]
    state: dict[str, object]


def state(server: AirflowServer) -> dict[str, object]:
    return {name: getattr(server, name) for name in CHANGING}


def lived_in(cli: Cli) -> dict[str, str]:
    """The ids of what is there to name: a failure that waits, an act that can be put back, an
    entry and a grant."""
    waiting = cli.capture("orders", events=[REFUSED])
    cli.server.add_connection("db", host="db1.example.com")
    row = cli.server.add_failure("prices", "load", events=[BUG])
    cli.clock.advance(seconds=1)
    (acted,) = cli.ok("watch", "--once", "--json").lines
    cli.ok("approve", acted["incident"], *MOVE, "--yes")
    cli.server.finish(row)
    cli.ok("watch", "--once")
    entry = cli.ok("kb", "add", "--title=kept", "--error=OSError: kept", "--cause=c", "--json")
    grant = cli.ok("auto", "grant", "--actions=retry", "--dags=no_such_*", "--yes", "--json")
    return {
        "waiting": waiting,
        "acted": acted["incident"],
        "entry": entry.json["entry"],
        "grant": grant.json["grant"],
    }


def exported(cli: Cli) -> None:
    """A file for `kb import`, with an entry that the knowledge base gets now."""
    cli.ok("kb", "add", "--title=t", "--error=ValueError: x", "--cause=c")
    cli.ok("kb", "export", str(cli.home / "export.jsonl"))
    shutil.rmtree(cli.home / ".local")  # where this machine keeps what it has seen of the log


def again(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The world as it was, and a copy of the files."""
    for name, value in world.state.items():
        setattr(world.server, name, copy.deepcopy(value))
    world.server.faults, world.server.requests = [], []
    shutil.copytree(world.files, home, dirs_exist_ok=True)
    return make(world.server, home, monkeypatch)


def line(cli: Cli, name: str, ids: dict[str, str]) -> list[str]:
    """The command line of a name in COMMANDS: its words are those of the program's table."""
    head, _, tail = name.partition(" ")
    table = TABLE[head]
    word = tail.partition(" ")[0]
    sub = [word] if isinstance(table, Group) and word in table.commands else []
    return [
        head,
        *sub,
        *COMMANDS[name].args(cli, ids[COMMANDS[name].of]),
        *(["--json"] if COMMANDS[name].json else []),
    ]


def run(cli: Cli, name: str, ids: dict[str, str]) -> Said:
    typed = COMMANDS[name].keys
    return cli.type(*line(cli, name, ids), keys=typed) if typed else cli.run(*line(cli, name, ids))


def changed(cli: Cli) -> list[str]:
    """What Airflow was asked to change, by whoever is no rehearsal."""
    return [
        f"{request.method} {request.path}"
        for request in cli.server.requests
        if request.method != "GET"
        and request.path != "/auth/token"
        and not (isinstance(request.body, dict) and request.body.get("dry_run"))
    ]


def tells(said: Said, fault: Fault) -> None:
    """As an error, in JSON where that was asked for, or as one of doctor's findings."""
    if not said.out.startswith("{"):
        said.refused(fault.code, fault.word)
    elif "checks" not in said.json:
        said.told(fault.code, fault.name, fault.word)
    else:
        assert said.code == fault.code, said
        failed = [check for check in said.json["checks"] if check["status"] == "fail"]
        assert failed
        assert all(check["todo"] for check in failed)
        assert any(fault.word in f"{check['found']} {check['todo']}" for check in failed), said
