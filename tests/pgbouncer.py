"""PgBouncer in front of a database of the tests, pooling transactions."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from knowledge.stores import Store
from tests.postgres_database import Database
from tests.postgres_server import ROOT, USER, PostgresServerError, give_away

START_SECONDS = 30


def find() -> str | None:
    """PgBouncer as scripts/pgbouncer.sh unpacked it, else the system's."""
    own = ROOT / ".envs" / "pgbouncer" / "pgbouncer"
    return (
        str(own)
        if own.exists()
        else shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    )


@contextlib.contextmanager
def pooled(program: str, base: Path, database: Database, pool_size: int) -> Iterator[str]:
    """PgBouncer with `pool_size` connections for the program's role, in a folder of its own under
    `base`. Yields the program's DSN through it."""
    from psycopg.conninfo import conninfo_to_dict

    folder = Path(tempfile.mkdtemp(prefix="bouncer-", dir=base))
    give_away(folder)
    target = conninfo_to_dict(database.app)
    known = {
        key: target[key] for key in ("host", "port", "user", "password", "dbname") if key in target
    }
    settings = {
        "listen_addr": "",
        "unix_socket_dir": folder,
        "pool_mode": "transaction",
        "default_pool_size": pool_size,
        "max_client_conn": 200,
        "auth_type": "any",  # the login is in the line of the database
        "logfile": folder / "log",
    }
    if USER:
        settings["user"] = USER.pw_name  # it refuses to stay root
    ini = folder / "pgbouncer.ini"
    ini.write_text(
        "[databases]\n"
        + f"{database.name} = {' '.join(f'{key}={value}' for key, value in known.items())}\n"
        + "[pgbouncer]\n"
        + "".join(f"{key} = {value}\n" for key, value in settings.items())
    )
    process = subprocess.Popen(
        [program, "-q", str(ini)],  # it writes to its log alone
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    dsn = f"postgresql://{target['user']}@/{database.name}?host={folder}&port=6432"
    try:
        wait_for(dsn, process, folder / "log")
        yield dsn
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def wait_for(dsn: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when `process` answers at `dsn`."""
    import psycopg

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text() if log.exists() else ""
                raise PostgresServerError(f"PgBouncer does not answer: {error}\n{said}") from error
            time.sleep(0.02)
        else:
            return


def in_turns(*stores: Store) -> Store:
    """All of them as one, each call going to the next: what one client leaves behind in a session,
    or thinks it finds there, meets the other."""

    class InTurns:
        def __init__(self) -> None:
            self._next = itertools.cycle(stores)

        def __getattr__(self, name: str) -> Any:
            return getattr(next(self._next), name)

    return cast("Store", InTurns())
