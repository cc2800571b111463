"""What can go wrong, in one table: FAULTS x fault_commands.COMMANDS is the matrix of
test_fault_matrix.py.

A fault is of a kind: of (a)irflow, of what is to be (p)ut into it, of the (s)tore, of what is
(w)ritten into that, of the (c)onfiguration or of an (i)d that is named. A command touches kinds:
where both meet, the command tells of it.
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


def gateway_page(cli: Cli) -> None:
    page = b"<html><title>502 Bad Gateway</title>"
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=502, body=page)


def rate_limited(cli: Cli) -> None:
    headers = {"Retry-After": "1"}
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=429, headers=headers)


def another_shape(cli: Cli) -> None:
    """JSON, and not what the API promises."""
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=200, body=b"[]")


def half_an_answer(cli: Cli) -> None:
    """As a proxy with a limit cuts it, with a length that fits."""
    cli.server.fault("GET /api/v2/(?!version)", times=99, status=200, body=b'{"task_inst')


def nonsense_as_gzip(cli: Cli) -> None:
    headers = {"Content-Encoding": "gzip"}
    cli.server.fault(
        "GET /api/v2/(?!version)", times=99, status=200, body=b"nonsense", headers=headers
    )


def cut_in_the_body(cli: Cli) -> None:
    cli.server.fault("GET /api/v2/(?!version)", times=99, drop_after=20)


def too_old(cli: Cli) -> None:
    body = b'{"version":"3.0.6","git_version":null}'
    cli.server.fault("GET /api/v2/version", times=99, status=200, body=body)


def no_token_command(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_TOKEN_COMMAND"] = "sh -c 'echo sealed >&2; exit 3'"


def another_ones_token(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_TOKEN_COMMAND"] = "echo of-another-airflow"


def no_ca_file(cli: Cli) -> None:
    cli.environ["AIOPS_AIRFLOW_CA_FILE"] = "/no/such.pem"


def proxy_down(cli: Cli) -> None:
    """See `no_tls` for the name."""
    cli.monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    cli.environ |= {"AIOPS_AIRFLOW_URL": "http://airflow.test", "AIOPS_INSTANCE": "elsewhere"}


def forbidden(cli: Cli) -> None:
    body = b'{"detail":"Forbidden"}'
    cli.server.fault("GET /api/v2/dags/.*/taskInstances", times=99, status=403, body=body)


def website(cli: Cli) -> None:
    """An address at which something else lives."""
    page = b"<!doctype html><title>Not found</title>"
    cli.server.fault("", times=99, status=404, body=page)


def unconfigured(cli: Cli) -> None:
    del cli.environ["AIOPS_AIRFLOW_URL"]


# ---- what is put into Airflow ----


def read_only(cli: Cli) -> None:
    (cli.home / "aiops.yaml").write_text("read_only: true\n")


def a_viewer(cli: Cli) -> None:
    name, password = cli.server.viewer
    cli.environ |= {"AIOPS_AIRFLOW_USERNAME": name, "AIOPS_AIRFLOW_PASSWORD": password}


def refused_change(cli: Cli) -> None:
    body = b'{"detail":"Extra inputs are not permitted"}'
    cli.server.fault("(PATCH|POST) /api/v2", times=99, status=422, body=body)


def broken_change(cli: Cli) -> None:
    cli.server.fault("(PATCH|POST) /api/v2", times=99, status=500)


# ---- the store ----


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
    Fault("a", gateway_page, 3, "airflow_unreachable", "502 Bad Gateway"),
    Fault("a", rate_limited, 3, "airflow_unreachable", "status 429"),
    Fault("a", another_shape, 3, "airflow_answer", "not what its API promises"),
    Fault("a", half_an_answer, 3, "airflow_answer", "not JSON"),
    Fault("a", nonsense_as_gzip, 3, "airflow_unreachable", "cannot be unpacked"),
    Fault("a", cut_in_the_body, 3, "airflow_unreachable", "broke off"),
    Fault("a", too_old, 3, "airflow_answer", "3.1 or newer"),
    Fault("a", no_token_command, 3, "airflow_auth", "ended with 3: sealed"),
    Fault("a", another_ones_token, 3, "airflow_auth", "run airflow.token_command by hand"),
    Fault("a", no_ca_file, 2, "config", "/no/such.pem cannot be read"),
    Fault("a", proxy_down, 3, "airflow_unreachable", "its proxy cannot be reached"),
    Fault("a", forbidden, 3, "airflow_forbidden", "Viewer"),
    Fault("a", website, 3, "airflow_answer", "check airflow.url"),
    Fault("a", unconfigured, 2, "config", "AIOPS_AIRFLOW_URL"),
    Fault("p", read_only, 5, "refused", "read only"),
    Fault("p", a_viewer, 3, "airflow_forbidden", "role"),
    Fault("p", refused_change, 3, "airflow_answer", "Extra inputs"),
    Fault("p", broken_change, 3, "airflow_unreachable", "status 500"),
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
