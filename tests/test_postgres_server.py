"""What the tests of the store rely on: the servers that the fixtures start."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.janitor import naming
from tests.pgbouncer import find as find_pgbouncer
from tests.postgres_database import APP, OWNER, Database, database, made, new_name, template
from tests.postgres_server import ROOT, PostgresServer

PATIENCE_SECONDS = 60


def answer(dsn: str, query: str) -> object:
    """The one value that `query` has at `dsn`."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_the_server_has_pgvector(empty_database: Database) -> None:
    assert answer(empty_database.app, "SELECT '[1,2]'::vector <-> '[1,3]'") == 1.0


@pytest.mark.parametrize("time", [1, 2])
def test_each_test_has_an_empty_database(empty_database: Database, time: int) -> None:
    with psycopg.connect(empty_database.owner) as connection:
        connection.execute("CREATE TABLE left_over (id int)")  # the second time this would fail


def test_each_role_is_who_it_should_be(empty_database: Database) -> None:
    assert answer(empty_database.owner, "SELECT current_user") == OWNER
    assert answer(empty_database.app, "SELECT current_user") == APP
    is_superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
    assert [
        answer(dsn, is_superuser)
        for dsn in (empty_database.admin, empty_database.owner, empty_database.app)
    ] == [True, False, False]


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE t (id int)", "CREATE TEMPORARY TABLE t (id int)", "CREATE SCHEMA s"],
)
def test_the_programs_role_makes_no_tables(empty_database: Database, statement: str) -> None:
    with (
        psycopg.connect(empty_database.app) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_a_template_is_copied_with_what_the_owner_made(postgres: str) -> None:
    def migrate(dsn: str) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE entries (id int, vector vector(2))")
            connection.execute(f"GRANT SELECT ON entries TO {APP}")

    with template(postgres, new_name(), migrate) as old, made(postgres, new_name(), old) as new:
        assert answer(new.app, "SELECT count(*) FROM entries") == 0


def test_a_database_is_dropped_though_somebody_is_connected(postgres: str) -> None:
    with made(postgres, new_name()) as made_here:
        connection = psycopg.connect(made_here.app)
    assert not answer(
        postgres, f"SELECT count(*) FROM pg_database WHERE datname='{made_here.name}'"
    )
    connection.close()


@pytest.mark.parametrize(
    "admin",
    ["postgresql://root:s%2Fc@db.example:5433/x?sslmode=require", "host=/run/pg user=root"],
)
def test_ways_to_a_database_of_any_server(admin: str) -> None:
    ways = database(admin, "kb")
    before = psycopg.conninfo.conninfo_to_dict(admin)
    assert psycopg.conninfo.conninfo_to_dict(ways.admin) == {**before, "dbname": "kb"}
    app = psycopg.conninfo.conninfo_to_dict(ways.app)
    assert (app["user"], app["dbname"], app["host"]) == (APP, "kb", before["host"])
    assert app["password"] != before.get("password")


# ---- own servers --------------------------------------------------------------------------------


def test_own_server_is_killed_and_recovers(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres()
    assert answer(server.dsn, "SHOW fsync") == "on"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection = psycopg.connect(server.dsn)
    connection.execute("INSERT INTO t VALUES (2)")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        connection.commit()
    connection.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)
    server.start()
    assert answer(server.dsn, "SELECT array_agg(id) FROM t") == [1]
    server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)


def test_own_server_takes_settings(own_postgres: Callable[..., PostgresServer]) -> None:
    assert answer(own_postgres(work_mem="'3MB'").dsn, "SHOW work_mem") == "3MB"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of others")
def test_own_server_can_be_full(own_postgres: Callable[..., PostgresServer]) -> None:
    server = own_postgres()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (filler text)")
        connection.execute("ALTER TABLE t ALTER filler SET STORAGE PLAIN")
    fill = "INSERT INTO t SELECT repeat('x', 4000) FROM generate_series(1, 1000)"
    server.limit_files(2 << 20)
    with psycopg.connect(server.dsn) as connection:
        with pytest.raises(psycopg.Error, match="could not extend file"):
            connection.execute(fill)
        connection.rollback()
    assert answer(server.dsn, "SELECT count(*) FROM t") == 0
    server.limit_files(None)
    with psycopg.connect(server.dsn) as connection:
        connection.execute(fill)


# ---- PgBouncer ----------------------------------------------------------------------------------


def test_pgbouncer_pools_transactions(
    empty_database: Database, pgbouncer: Callable[..., str]
) -> None:
    dsn = pgbouncer(empty_database, pool_size=1)
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as two:
        seen = []
        for client in (one, two, one, two):
            seen += client.execute("SELECT pg_backend_pid(), current_user").fetchall()
            client.commit()
    assert seen == [(seen[0][0], APP)] * 4  # two sessions, one connection behind them


# ---- the end of a run ---------------------------------------------------------------------------

WAITING = """
import time
from pathlib import Path
import psycopg
from tests import pgbouncer

def test_waits(request, run, empty_database):
    if pgbouncer.find():
        request.getfixturevalue("pgbouncer")(empty_database)
    connection = psycopg.connect(empty_database.app)
    started = Path(FILE)
    started.with_suffix(".new").write_text(f"{run.folder}\\n{run.memory}")
    started.with_suffix(".new").rename(started)
    time.sleep(600)
"""


def test_nothing_is_left_of_a_run_that_was_killed(tmp_path: Path) -> None:
    started, test = tmp_path / "started", tmp_path / "test_waits.py"
    test.write_text(WAITING.replace("FILE", repr(str(started))))
    # Rewriting the asserts of every helper would be most of what this test takes.
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", "1", "--assert=plain"]
    said = tmp_path / "said"
    with said.open("w") as output:
        run = subprocess.Popen(
            [*command, "--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base"), str(test)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "AIOPS_TEST_PG_DSN"},
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not started.exists():
        assert run.poll() is None, said.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    folders = {Path(line) for line in started.read_text().splitlines()}
    expected = 3 if find_pgbouncer() else 2  # with Postgres and the janitor
    assert len({pid for folder in folders for pid in naming(folder)}) == expected

    run.kill()
    run.wait()
    while any(naming(folder) or folder.exists() for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.05)
