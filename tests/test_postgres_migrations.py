"""The schema in Postgres: made, brought up to date, refused, by as many at once as like to."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from threading import Event

import psycopg
import pytest
from psycopg import errors

from knowledge.errors import SchemaTooNew, StoreUnusable
from knowledge.stores import open_store, postgres_schema
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_schema import MIGRATIONS, migrate
from tests.postgres_database import APP, OWNER, Database, answer, contents, made, new_name, tables
from tests.postgres_database import database as database_of
from tests.samples import NOW, SPACE, embedded, fill, unit

PAGE = Path(__file__).parent.parent / "docs" / "knowledge-base.md"
NEWEST = max(int(file.name[:4]) for file in MIGRATIONS.glob("[0-9]*.sql"))


@pytest.fixture
def store(database: Database) -> Iterator[PostgresStore]:
    """As the program's role."""
    store = PostgresStore.open(database.app)
    yield store
    store.close()


@pytest.fixture
def full(store: PostgresStore) -> PostgresStore:
    """A store with a row in every table."""
    fill(store)
    return store


@pytest.fixture
def migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of migrations that a test may add to, in place of ours."""
    folder = tmp_path / "migrations"
    copytree(MIGRATIONS, folder)
    monkeypatch.setattr(postgres_schema, "MIGRATIONS", folder)
    return folder


def test_a_database_without_tables_is_told(empty_database: Database) -> None:
    for dsn in (empty_database.app, empty_database.owner):
        with pytest.raises(StoreUnusable, match="has no tables") as caught:
            PostgresStore.open(dsn)
        assert "aiops kb migrate" in caught.value.hint


def test_many_may_migrate_at_once(empty_database: Database) -> None:
    probe = (
        "from knowledge.stores.postgres_schema import migrate;"
        f"print(migrate({empty_database.owner!r}, {APP!r}))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE) for _ in range(5)
    ]
    said = sorted(process.communicate(timeout=100)[0].decode().strip() for process in running)
    assert [process.returncode for process in running] == [0] * 5
    assert said == [f"(0, {NEWEST})", *[f"({NEWEST}, {NEWEST})"] * 4]
    assert answer(empty_database.owner, "SELECT version FROM aiops.schema_version ORDER BY 1") == [
        (number,) for number in range(1, NEWEST + 1)
    ]
    store = open_store(empty_database.app)
    assert store.base_id()
    store.close()


def test_migrating_again_changes_nothing(full: PostgresStore, database: Database) -> None:
    before = contents(database.owner)
    assert migrate(database.owner, APP) == (NEWEST, NEWEST)
    assert migrate(database.owner) == (NEWEST, NEWEST)
    assert contents(database.owner) == before


def test_an_older_database_is_refused_until_it_is_brought_up_to_date(
    full: PostgresStore, database: Database, migrations: Path
) -> None:
    cases, base = full.cases(), full.base_id()
    (migrations / f"{NEWEST + 1:04}_more.sql").write_text("CREATE TABLE more (x integer)")
    with pytest.raises(StoreUnusable) as caught:
        PostgresStore.open(database.app)
    assert f"has schema {NEWEST}, this aiops needs {NEWEST + 1}" in caught.value.message
    assert "aiops kb migrate" in caught.value.hint
    assert migrate(database.owner, APP) == (NEWEST, NEWEST + 1)
    assert "more" in tables(database.owner)
    again = PostgresStore.open(database.app)
    assert (again.cases(), again.base_id()) == (cases, base)
    again.close()
    assert full.cases() == cases  # who had it open goes on


def test_a_newer_database_is_refused(database: Database) -> None:
    answer(database.owner, "INSERT INTO aiops.schema_version (version) VALUES (999)")
    before = contents(database.owner)
    for refused in (PostgresStore.open, migrate):
        with pytest.raises(SchemaTooNew) as caught:
            refused(database.owner)
        assert "schema 999" in caught.value.message
        assert "upgrade" in caught.value.hint
    assert contents(database.owner) == before


def test_a_migration_that_fails_changes_nothing(
    full: PostgresStore, database: Database, migrations: Path
) -> None:
    before = contents(database.owner)
    (migrations / f"{NEWEST + 1:04}_more.sql").write_text("CREATE TABLE more (x integer)")
    (migrations / f"{NEWEST + 2:04}_broken.sql").write_text(
        "CREATE TABLE also (x integer); SELECT no_such_function()"
    )
    with pytest.raises(errors.UndefinedFunction, match="no_such_function"):
        migrate(database.owner)
    assert contents(database.owner) == before


def test_a_first_migration_that_fails_leaves_an_empty_database(
    empty_database: Database, migrations: Path
) -> None:
    (migrations / "0001_tables.sql").write_text("CREATE TABLE base (id text); SELECT nothing()")
    with pytest.raises(errors.UndefinedFunction):
        migrate(empty_database.owner)
    assert answer(empty_database.owner, "SELECT to_regnamespace('aiops')") == [(None,)]


def test_opening_while_somebody_migrates(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_all, go_on = Event(), Event()

    def wait(_database: object) -> None:
        made_all.set()
        assert go_on.wait(60)

    monkeypatch.setattr(postgres_schema, "_drop_former_indexes", wait)
    with ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate, empty_database.owner, APP)
        try:
            assert made_all.wait(60)
            with pytest.raises(StoreUnusable, match="has no tables"):
                PostgresStore.open(empty_database.owner)
        finally:
            go_on.set()
        assert migrating.result(60) == (0, NEWEST)
    PostgresStore.open(empty_database.app).close()


def test_without_the_extension_it_is_made_where_the_role_may(postgres: str) -> None:
    with made(postgres, new_name()) as database:
        answer(database.admin, f"CREATE SCHEMA aiops AUTHORIZATION {OWNER}")
        answer(database.admin, f"ALTER DATABASE {database.name} OWNER TO CURRENT_USER")
        with pytest.raises(StoreUnusable, match="lacks the extension pgvector") as caught:
            migrate(database.owner, APP)
        assert "CREATE EXTENSION vector" in caught.value.hint
        assert tables(database.owner) == []
        answer(database.admin, "CREATE EXTENSION vector")
        assert migrate(database.owner, APP) == (0, NEWEST)  # in the schema that was made for it
    with made(postgres, new_name()) as database:
        assert migrate(database.admin, APP) == (0, NEWEST)
        where = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
        assert answer(database.admin, where) == [("public",)]  # `pg_dump --schema=aiops` lacks it
        PostgresStore.open(database.app).close()


def test_the_extension_may_lie_in_a_schema_of_its_own(postgres: str) -> None:
    with made(postgres, new_name()) as database:
        answer(database.admin, 'CREATE SCHEMA "its, own"')
        answer(database.admin, 'GRANT USAGE ON SCHEMA "its, own" TO PUBLIC')
        answer(database.admin, 'CREATE EXTENSION vector SCHEMA "its, own"')
        migrate(database.owner, APP)
        store = PostgresStore.open(database.app)
        store.put_entries([embedded("entry-a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
        assert [one.entry.id for one in store.find_vector(unit(1, 0, 0), 5)] == ["entry-a"]
        store.close()


def test_made_as_the_page_says_the_programs_role_can_make_nothing(postgres: str) -> None:
    """The roles are there, and the database is called otherwise."""
    [statements] = re.findall("```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    outside, inside = statements.split("\\connect aiops\n")
    name = new_name()
    made_so = database_of(postgres, name)
    for statement in outside.splitlines():
        if not statement.startswith("CREATE ROLE"):
            answer(postgres, statement.replace("DATABASE aiops", f"DATABASE {name}"))
    try:
        for statement in inside.splitlines():
            answer(made_so.admin, statement)
        assert migrate(made_so.owner, APP) == (0, NEWEST)
        PostgresStore.open(made_so.app).close()
        for what in ("TABLE aiops.x", "TABLE public.x", "TEMPORARY TABLE x"):
            with pytest.raises(errors.InsufficientPrivilege):
                answer(made_so.app, f"CREATE {what} (id int)")
        with pytest.raises(errors.InsufficientPrivilege):
            answer(made_so.app, "CREATE SCHEMA x")
    finally:
        answer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def test_a_role_that_may_make_nothing_is_told(empty_database: Database) -> None:
    with pytest.raises(StoreUnusable, match="may not make tables there") as caught:
        migrate(empty_database.app)
    assert "owner of the database" in caught.value.hint


def test_a_pgvector_that_is_too_old_is_told(empty_database: Database) -> None:
    answer(
        empty_database.admin,
        "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'",
    )
    with pytest.raises(StoreUnusable, match=r"has pgvector 0\.7\.4; 0\.8 is needed") as caught:
        migrate(empty_database.owner)
    assert "ALTER EXTENSION vector UPDATE" in caught.value.hint
    assert tables(empty_database.owner) == []


def test_the_schema_of_another_program_is_left_alone(empty_database: Database) -> None:
    answer(empty_database.owner, "CREATE SCHEMA aiops")
    answer(empty_database.owner, "CREATE TABLE aiops.entries (theirs int)")
    with pytest.raises(StoreUnusable, match="another program"):
        migrate(empty_database.owner)
    assert tables(empty_database.owner) == ["entries"]


def test_a_database_that_cannot_hold_every_text_is_told(postgres: str) -> None:
    name = new_name()
    answer(
        postgres,
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 "
        f"LOCALE_PROVIDER libc LOCALE 'C' OWNER {OWNER}",
    )
    try:
        with pytest.raises(StoreUnusable, match="as SQL_ASCII; UTF8 is needed"):
            migrate(psycopg.conninfo.make_conninfo(postgres, dbname=name))
    finally:
        answer(postgres, f"DROP DATABASE {name}")
