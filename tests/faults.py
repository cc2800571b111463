"""What can go wrong, in one table: FAULTS x COMMANDS is the matrix of test_fault_matrix.py.

A fault is of a kind, and a command touches kinds: where both meet, the command tells of it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiops_cli.airflow import transport
from aiops_cli.airflow.transport import Timeouts
from tests.cli import Cli

ROOT = os.geteuid() == 0  # may write everywhere


@dataclass(frozen=True)
class Fault:
    """`wrong` breaks something of a `kind`; who touches it ends with `code`, and tells it under
    this name with this word."""

    kind: str
    wrong: Callable[[Cli], None]
    code: int
    name: str
    word: str

    def __str__(self) -> str:
        return self.wrong.__name__


@dataclass(frozen=True)
class Command:
    """`args` are those after its name; `touches` says which kinds of fault reach it: (a)irflow,
    the (s)tore read, the store (w)ritten, (i)ncidents named by an id. The settings (c) are read
    by all. `code` is how it ends where all is well; `spared` are faults that are none for it."""

    touches: str
    args: Callable[[Cli, str], list[str]]
    code: int = 0
    json: bool = True
    keys: str = ""  # typed, where it talks
    spared: tuple[Callable[[Cli], None], ...] = ()


# ---- Airflow ----


def no_airflow(cli: Cli) -> None:
    """Nothing listens at the address any more."""

    def refused(*_: Any) -> Any:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    cli.monkeypatch.setattr(socket.socket, "connect", refused)


def unknown_host(cli: Cli) -> None:
    def nobody(host: str, *_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    cli.monkeypatch.setattr(socket, "getaddrinfo", nobody)


def no_tls(cli: Cli) -> None:
    """An https:// address at which plain HTTP is spoken. The instance's name must not be bound to
    another address, so that what is stored of that name is not asked for there."""
    url = cli.server.url.replace("http:", "https:")
    cli.environ |= {"AIOPS_AIRFLOW_URL": url, "AIOPS_INSTANCE": "elsewhere"}


def ctrl_c_at_airflow(cli: Cli) -> None:
    _interrupts(cli, transport.Transport, "_send")


def _interrupts(cli: Cli, owner: object, name: str) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    cli.monkeypatch.setattr(owner, name, interrupted)


def wrong_password(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_PASSWORD"] = "wrong"


def no_login(cli: Cli) -> None:
    del cli.environ["AIOPS_AIRFLOW_PASSWORD"]


def wrong_token(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_TOKEN"] = "not-a-token"


def html(cli: Cli) -> None:
    page = b"<!doctype html><title>Sign in</title>"
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=200, body=page)


def moved(cli: Cli) -> None:
    headers = {"Location": "https://login.example/"}
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=302, headers=headers)


def overloaded(cli: Cli) -> None:
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=503)


def silent(cli: Cli) -> None:
    cli.monkeypatch.setattr(transport, "Timeouts", lambda: Timeouts(0.05, 0.05, 0.05))
    cli.server.fault("GET /api/v2/(?!version)", times=99, hang=30)


def cut(cli: Cli) -> None:
    cli.server.fault("GET /api/v2/(?!version)", times=99, drop_after=-1)


def forbidden(cli: Cli) -> None:
    body = b'{"detail":"Forbidden"}'
    cli.server.fault("GET /api/v2/dags/.*/taskInstances", times=99, status=403, body=body)


def website(cli: Cli) -> None:
    """An address at which something else lives."""
    page = b"<!doctype html><title>Not found</title>"
    cli.server.fault("", times=99, status=404, body=page)


def unconfigured(cli: Cli) -> None:
    del cli.environ["AIOPS_AIRFLOW_URL"]


def corrupt(cli: Cli) -> None:
    data = bytearray(cli.kb.read_bytes())
    data[200:] = os.urandom(len(data) - 200)
    cli.kb.write_bytes(bytes(data))
    for name in ("-wal", "-shm"):
        cli.kb.with_name(cli.kb.name + name).unlink(missing_ok=True)


def no_database(cli: Cli) -> None:
    cli.kb.write_bytes(b"hello " * 1000)


def newer(cli: Cli) -> None:
    _execute(cli, "PRAGMA user_version = 999")


def foreign(cli: Cli) -> None:
    cli.kb.unlink()
    _execute(cli, "CREATE TABLE theirs (a)")


def a_folder(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}"


def below_a_file(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}/config.yaml/knowledge.db"


def unwritable(cli: Cli) -> None:
    folder = cli.home / "locked"
    folder.mkdir(mode=0o500)
    cli.environ["AIOPS_KB"] = f"sqlite:///{folder}/knowledge.db"


def in_proc(cli: Cli) -> None:
    """A folder in which nobody, not even root, can make a file."""
    cli.environ["AIOPS_KB"] = "sqlite:////proc/self/knowledge.db"


def locked(cli: Cli) -> None:
    import apsw

    from knowledge.stores import sqlite_engine

    cli.monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_MS", 20)
    holder = apsw.Connection(str(cli.kb))
    holder.execute("BEGIN EXCLUSIVE")
    cli.monkeypatch.setattr(cli, "holder", holder, raising=False)  # kept open with the test


def full_disk(cli: Cli) -> None:
    """No room for a row, whatever room the file has left in its pages."""
    import apsw

    _at_a_new_row(cli, apsw.FullError("database or disk is full"))


def ctrl_c_at_a_write(cli: Cli) -> None:
    """In the middle of the first transaction that writes anything."""
    _at_a_new_row(cli, KeyboardInterrupt())


def _at_a_new_row(cli: Cli, error: BaseException) -> None:
    from knowledge.stores import sqlite_engine

    rows = sqlite_engine.Database.rows

    def refused(self: sqlite_engine.Database, sql: str, values: Any = ()) -> Any:
        if sql.lstrip().startswith("INSERT"):
            raise error
        return rows(self, sql, values)

    cli.monkeypatch.setattr(sqlite_engine.Database, "rows", refused)


def ctrl_c_at_the_base(cli: Cli) -> None:
    from knowledge.stores import sqlite

    _interrupts(cli, sqlite, "open_database")


def postgres(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = "postgresql://me:hunter2pass@127.0.0.1:9/aiops"


def _execute(cli: Cli, statement: str) -> None:
    import apsw

    with closing(apsw.Connection(str(cli.kb))) as connection:
        connection.execute(statement)


# ---- the disk and the settings ----


def unwritable_file(cli: Cli) -> None:
    """As on a file system that was remounted read-only."""
    import apsw

    hooks = [*apsw.connection_hooks, lambda c: c.execute("PRAGMA query_only = ON")]
    cli.monkeypatch.setattr(apsw, "connection_hooks", hooks)


def broken_settings(cli: Cli) -> None:
    Path(cli.environ["AIOPS_CONFIG"]).write_text("airflow:\n  url: [\n")


def unknown_setting(cli: Cli) -> None:
    Path(cli.environ["AIOPS_CONFIG"]).write_text("mdoe: auto\n")


def absent_settings(cli: Cli) -> None:
    cli.environ["AIOPS_CONFIG"] = str(cli.home / "absent.yaml")


def wrong_value(cli: Cli) -> None:
    cli.environ["AIOPS_INSTANCE"] = "no/where"


def unknown_id(cli: Cli) -> None:
    """Nothing is broken: what is asked for is not there."""


FAULTS: tuple[Fault, ...] = (
    Fault("a", no_airflow, 3, "airflow_unreachable", "connection refused"),
    Fault("a", unknown_host, 3, "airflow_unreachable", "name"),
    Fault("a", no_tls, 3, "airflow_unreachable", "no secure connection"),
    Fault("a", ctrl_c_at_airflow, 130, "interrupted", "nothing was lost"),
    Fault("a", wrong_password, 3, "airflow_auth", "refused the login of oncall"),
    Fault("a", no_login, 3, "airflow_auth", "AIOPS_AIRFLOW_PASSWORD"),
    Fault("a", wrong_token, 3, "airflow_auth", "refused the token"),
    Fault("a", html, 3, "airflow_auth", "Sign in"),
    Fault("a", moved, 3, "airflow_auth", "sends on to https://login.example/"),
    Fault("a", overloaded, 3, "airflow_unreachable", "status 503"),
    Fault("a", silent, 3, "airflow_unreachable", "no answer in time"),
    Fault("a", cut, 3, "airflow_unreachable", "broke off"),
    Fault("a", forbidden, 3, "airflow_forbidden", "Viewer"),
    Fault("a", website, 3, "airflow_answer", "check airflow.url"),
    Fault("a", unconfigured, 2, "config", "AIOPS_AIRFLOW_URL"),
    Fault("s", corrupt, 4, "knowledge_base", "is damaged"),
    Fault("s", no_database, 4, "knowledge_base", "is not a knowledge base"),
    Fault("s", newer, 4, "knowledge_base", "was written by a newer aiops"),
    Fault("s", foreign, 4, "knowledge_base", "is the database of another program"),
    Fault("s", a_folder, 4, "knowledge_base", "cannot be opened"),
    Fault("s", below_a_file, 4, "knowledge_base", "is not a folder"),
    *(() if ROOT else (Fault("s", unwritable, 4, "knowledge_base", "the folder and its rights"),)),
    *(
        (Fault("s", in_proc, 4, "knowledge_base", "cannot be made"),)
        if Path("/proc/self").exists()
        else ()
    ),
    Fault("s", postgres, 4, "knowledge_base", "me@127.0.0.1:9/aiops"),
    Fault("s", ctrl_c_at_the_base, 130, "interrupted", "nothing was lost"),
    Fault("w", locked, 4, "knowledge_base", "is locked by another"),
    Fault("w", unwritable_file, 4, "knowledge_base", "cannot be written"),
    Fault("w", full_disk, 4, "knowledge_base", "the disk is full"),
    Fault("w", ctrl_c_at_a_write, 130, "interrupted", "nothing was lost"),
    Fault("c", broken_settings, 2, "config", "config.yaml:3: broken YAML"),
    Fault("c", unknown_setting, 2, "config", "did you mean mode?"),
    Fault("c", absent_settings, 2, "config", "does not exist"),
    Fault("c", wrong_value, 2, "config", "expected a name"),
    Fault("i", unknown_id, 2, "not_found", "'zzzz'"),
)


def _runbook(cli: Cli, _id: str) -> list[str]:
    file = cli.home / "book.yaml"
    file.write_text("- title: t\n  error: 'ValueError: x'\n  cause: c\n  action: retry\n")
    return [str(file)]


def _export(cli: Cli, _id: str) -> list[str]:
    return [str(cli.home / "export.jsonl")]


COMMANDS: dict[str, Command] = {
    "init": Command(
        "cas",
        lambda cli, id_: ["--yes"],
        # It tries the rights one by one, and makes the settings that are not there.
        spared=(unconfigured, forbidden, absent_settings),
    ),
    "doctor": Command("cas", lambda cli, id_: [], spared=(forbidden,)),
    "triage": Command("cas", lambda cli, id_: [], json=False, keys="s\n"),
    "failures": Command("ca", lambda cli, id_: []),
    "diagnose": Command("casw", lambda cli, id_: []),
    "diagnose ID": Command("cas", lambda cli, id_: [id_], spared=(no_tls,)),
    "stuck": Command("ca", lambda cli, id_: []),
    "watch": Command("casw", lambda cli, id_: ["--once"]),
    "watch auto": Command("casw", lambda cli, id_: ["--once", "--auto"]),
    "approve": Command(
        "caswi", lambda cli, id_: [id_, "--action=retry", "--yes"], spared=(no_tls,)
    ),
    "approve dry": Command(
        "casi", lambda cli, id_: [id_, "--action=retry", "--dry-run"], spared=(no_tls,)
    ),
    "approve none": Command("cswi", lambda cli, id_: [id_, "--action=none", "--cause=c"]),
    "reject": Command("cswi", lambda cli, id_: [id_, "--reason=no"]),
    "incidents": Command("cs", lambda cli, id_: []),
    "incidents show": Command("csi", lambda cli, id_: [id_]),
    "log": Command("csi", lambda cli, id_: [id_]),
    "open": Command("csi", lambda cli, id_: [id_]),
    "hold": Command("csw", lambda cli, id_: ["orders"]),
    "hold list": Command("cs", lambda cli, id_: []),
    "snooze": Command("cswi", lambda cli, id_: [id_, "2h"]),
    "note": Command("cswi", lambda cli, id_: [id_, "the vendor is called"]),
    "wrong": Command("csi", lambda cli, id_: [id_, "--reason=it paid twice"], code=2),
    "undo": Command("csi", lambda cli, id_: [id_], code=5),
    "handover": Command("cs", lambda cli, id_: []),
    "pause": Command("csw", lambda cli, id_: []),
    "resume": Command("csw", lambda cli, id_: []),
    "auto grant": Command("csw", lambda cli, id_: ["--actions=retry", "--dags=*", "--yes"]),
    "auto list": Command("cs", lambda cli, id_: []),
    "auto revoke": Command("csi", lambda cli, id_: [id_], code=2),
    "audit": Command("cs", lambda cli, id_: []),
    "audit verify": Command("cs", lambda cli, id_: []),
    "learn": Command("cas", lambda cli, id_: ["--since=1d"]),
    "backtest": Command("cs", lambda cli, id_: []),
    "report": Command("cs", lambda cli, id_: []),
    "plugin install": Command("", lambda cli, id_: [str(cli.home)]),
    "kb seed": Command("csw", _runbook),
    "kb seed dry": Command("cs", lambda cli, id_: [*_runbook(cli, id_), "--dry-run"]),
    "kb add": Command("csw", lambda cli, id_: ["--title=t", "--error=ValueError: x", "--cause=c"]),
    "kb list": Command("cs", lambda cli, id_: []),
    "kb show": Command("csi", lambda cli, id_: [id_], code=2),
    "kb search": Command("cs", lambda cli, id_: ["ValueError: x"]),
    "kb retire": Command("csi", lambda cli, id_: [id_, "--reason=no longer"], code=2),
    "kb lint": Command("cs", lambda cli, id_: []),
    "kb export": Command("cs", lambda cli, id_: [], json=False),
    "kb import": Command("csw", _export),
    "kb reindex": Command(
        "csw", lambda cli, id_: [], spared=(unwritable_file, full_disk, ctrl_c_at_a_write)
    ),  # it asks for the right to write, and finds nothing to make
    "kb migrate": Command("cs", lambda cli, id_: []),
    "kb stats": Command("cs", lambda cli, id_: []),
}
CELLS = [
    (fault, name)
    for fault in FAULTS
    for name, command in COMMANDS.items()
    if fault.kind in command.touches and fault.wrong not in command.spared
]
