"""Databases for single tests, copied from a template, and the two roles that use them."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

OWNER, APP = "aiops_owner", "aiops_app"
# The same in every run: several may use one server (AIOPS_TEST_PG_DSN) at a time.
PASSWORD = "aiops-test"
LOCK = 0x61696F7073  # of this file alone, in the database that AIOPS_TEST_PG_DSN names


@dataclass(frozen=True)
class Database:
    """One database, as each role reaches it: a superuser, the owner, who may change the schema,
    and the program's own role, which may not."""

    name: str
    admin: str
    owner: str
    app: str


def new_name() -> str:
    """A name that no other database has, also where several runs share a server."""
    return f"aiops_test_{uuid.uuid4().hex[:16]}"


def database(admin: str, name: str) -> Database:
    """The ways to the database `name` of the server that the superuser's DSN `admin` names."""
    return Database(
        name, with_login(admin, name), with_login(admin, name, OWNER), with_login(admin, name, APP)
    )


def with_login(dsn: str, name: str, role: str = "") -> str:
    """`dsn` as a URI for the database `name`, with the login of `role`, else with its own."""
    from psycopg.conninfo import conninfo_to_dict

    parts = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    user = role or parts.get("user", "")
    password = PASSWORD if role else parts.get("password", "")
    login = quote(user, "") + (":" + quote(password, "") if password else "")
    rest = {key: part for key, part in parts.items() if key not in {"user", "password", "dbname"}}
    return f"postgresql://{login}@/{quote(name, '')}?{urlencode(rest, safe='/', quote_via=quote)}"


def make_roles(admin: str) -> None:
    """Make the two roles unless they are there."""
    import psycopg

    with psycopg.connect(admin) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        for role in (OWNER, APP):
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).rowcount:
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")


@contextlib.contextmanager
def made(admin: str, name: str, template: str = "template0") -> Iterator[Database]:
    """A database that belongs to the owner, a copy of `template`; dropped in the end, whoever is
    still connected."""
    import psycopg
    from psycopg import sql

    new, old = sql.Identifier(name), sql.Identifier(template)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                new, sql.Identifier(OWNER), old
            )
        )
        # Nobody but the owner makes tables here, not even temporary ones.
        connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(new))
    try:
        yield database(admin, name)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(new))


@contextlib.contextmanager
def template(admin: str, name: str, migrate: Callable[[str], object]) -> Iterator[str]:
    """A database to copy: with pgvector, then as `migrate` leaves it, called with the owner's
    DSN. Yields its name."""
    import psycopg

    with made(admin, name) as database:
        with psycopg.connect(database.admin) as connection:
            connection.execute("CREATE EXTENSION vector")
        migrate(database.owner)
        yield name


def answer(dsn: str, query: str, *values: object) -> list[tuple[object, ...]]:
    """The rows that a query has, if any."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def tables(dsn: str) -> list[str]:
    """The names of the tables of the knowledge base, none where it was not made."""
    found = answer(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'aiops' ORDER BY 1")
    return [str(name) for (name,) in found]


def contents(dsn: str) -> dict[str, list[str]]:
    """Every row of every table of the knowledge base, as text."""
    import psycopg

    with psycopg.connect(dsn) as connection:
        return {
            table: [
                str(row)
                for row in connection.execute(
                    f"SELECT t::text FROM aiops.{table} AS t ORDER BY 1".encode()
                )
            ]
            for table in tables(dsn)
        }
