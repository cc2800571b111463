"""The tables of a Postgres: made and brought up to date by their owner, checked by all others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowledge.errors import SchemaTooNew, StoreUnusable
from knowledge.stores.postgres_engine import SCHEMA, SETTINGS, Database, first_line, reach
from knowledge.stores.sql_audit import AuditTables

MIGRATIONS = Path(__file__).parent / "migrations" / "postgres"
_VERSIONS = f"{SCHEMA}.schema_version"
_INDEX = "vectors_of_space_"  # and the number of the space
MIN_PGVECTOR = (0, 8)  # the first with iterative index scans

# From so many vectors on an index is faster than looking at each (measured: 10,000 of 768
# dimensions took 29 ms without, 1 to 7 ms with); below, exact costs less than being wrong.
INDEX_FROM = 10_000
# At least, while it is made: enough for 100,000 vectors of the built-in embedder. What does not fit
# takes many times as long.
INDEX_MEMORY = "512MB"
MAX_INDEXED = 4_000  # dimensions; what halfvec can index
MAX_INDEXED_VECTOR = 2_000


def open_database(dsn: str) -> Database:
    """Raises StoreUnusable, also where the tables are missing or older than this program, and
    SchemaTooNew for those of a newer one."""
    database = reach(dsn)
    newest = max(_steps())
    try:
        with database.read():
            version = _version(database)
        if version < newest:
            has = f"has schema {version}, this aiops needs {newest}" if version else "has no tables"
            raise StoreUnusable(
                f"knowledge base {database.location} {has}",
                "its owner runs: aiops kb migrate (--role NAME for the role that others use)",
            )
    except BaseException:
        database.close()
        raise
    return database


def migrate(dsn: str, role: str | None = None) -> tuple[int, int]:
    """As the database's owner: make the tables or bring them up to date, give `role` what the
    program needs and no more, and then make the index of the vectors where it pays. Any number may
    do so at once. Returns the schema's version before and after. Raises StoreUnusable or
    SchemaTooNew; then nothing has changed, unless it was the index that could not be made."""
    steps = _steps()
    database = reach(dsn)
    try:
        with database.migration():
            _need_schema(database)
            before = _version(database)
            _need_vectors(database)
            for number in range(before + 1, max(steps) + 1):
                database.script(steps[number].read_text(encoding="utf-8"))
                database.insert("schema_version", {"version": number})
            if before < max(steps):  # at no other time: what was slipped past the log stays told
                AuditTables(database, database.now).log_the_past()
            _drop_former_indexes(database)
            if role is not None:
                _grant(database, role)
        with database.indexing():
            _index_vectors(database)
    finally:
        database.close()
    return before, max(steps)


def _steps() -> dict[int, Path]:
    return {int(file.name[:4]): file for file in sorted(MIGRATIONS.glob("[0-9]*.sql"))}


def _version(database: Database) -> int:
    """The schema's version, 0 where there is none. Raises SchemaTooNew."""
    if database.rows("SELECT to_regclass(?) IS NULL AS no", [_VERSIONS])[0]["no"]:
        return 0
    found = database.rows(f"SELECT coalesce(max(version), 0) AS version FROM {_VERSIONS}")
    version, newest = int(found[0]["version"]), max(_steps())
    if version > newest:
        raise SchemaTooNew(
            f"knowledge base {database.location} was brought up to date by a newer aiops "
            f"(schema {version}, this one knows {newest})",
            "upgrade aiops on this machine",
        )
    return version


def _need_schema(database: Database) -> None:
    """Make the schema with the table of its version, unless it is there and ours."""
    encoding = database.rows("SELECT current_setting('server_encoding') AS name")[0]["name"]
    if encoding != "UTF8":
        raise StoreUnusable(
            f"knowledge base {database.location} holds text as {encoding}; UTF8 is needed",
            "make another: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
        )
    if database.rows("SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(?)", [SCHEMA]):
        if database.rows("SELECT to_regclass(?) IS NULL AS no", [_VERSIONS])[0]["no"]:
            raise StoreUnusable(
                f"knowledge base {database.location}: its schema {SCHEMA} holds the tables of "
                "another program",
                "name another database",
            )
        return
    import psycopg

    try:
        # IF NOT EXISTS asks for the right to make it even where it exists.
        if database.rows("SELECT to_regnamespace(?) IS NULL AS no", [SCHEMA])[0]["no"]:
            database.script(f"CREATE SCHEMA {SCHEMA}")
        database.script(
            f"CREATE TABLE {_VERSIONS} "
            "(version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreUnusable(
            f"knowledge base {database.location}: this role may not make tables there "
            f"({first_line(error)})",
            "run aiops kb migrate as the owner of the database",
        ) from error


def _need_vectors(database: Database) -> None:
    """Make the extension, or say who can."""
    import psycopg

    asked = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    if not database.rows(asked):
        try:
            # Not in our schema: it would be no part of a backup of that.
            database.script(f"CREATE EXTENSION vector SCHEMA public; {SETTINGS}")
        except psycopg.Error as error:
            raise StoreUnusable(
                f"knowledge base {database.location} lacks the extension pgvector "
                f"({first_line(error)})",
                "install pgvector on the server; then a superuser runs in this database: "
                "CREATE EXTENSION vector",
            ) from error
    has = str(database.rows(asked)[0]["extversion"])
    if tuple(int(part) for part in has.split(".")[:2]) < MIN_PGVECTOR:
        raise StoreUnusable(
            f"knowledge base {database.location} has pgvector {has}; 0.8 is needed",
            "upgrade it on the server, then a superuser runs in this database: "
            "ALTER EXTENSION vector UPDATE",
        )


def _grant(database: Database, role: str) -> None:
    """What grants.sql gives, and nothing that was given before."""
    from psycopg import sql

    found = database.row(
        "SELECT pg_has_role(r.oid, t.relowner, 'MEMBER') AS owns FROM pg_roles AS r "
        "JOIN pg_class AS t ON t.oid = to_regclass(?) WHERE r.rolname = ?",
        [_VERSIONS, role],
    )
    if found is None:
        raise StoreUnusable(
            f"knowledge base {database.location} knows no role {role!r}",
            "make it: CREATE ROLE … LOGIN PASSWORD …",
        )
    if found["owns"]:
        raise StoreUnusable(
            f"the role {role!r} owns the knowledge base {database.location}, or may all that its "
            "owner may: nothing could keep it from changing what is written",
            "make a role for the program: CREATE ROLE … LOGIN PASSWORD …",
        )
    grants = (MIGRATIONS / "grants.sql").read_text(encoding="utf-8")
    database.script(grants.replace("{role}", sql.Identifier(role).as_string()))


def _drop_former_indexes(database: Database) -> None:
    """Those of embedders that are not in use any more."""
    active = database.row("SELECT id FROM vector_spaces WHERE state = 'active'")
    for row in database.rows(
        "SELECT indexname FROM pg_indexes WHERE schemaname = ? AND indexname ^@ ? "
        "AND indexname <> ?",
        [SCHEMA, _INDEX, f"{_INDEX}{active['id'] if active else ''}"],
    ):
        database.script(f"DROP INDEX {row['indexname']}")


def _index_vectors(database: Database) -> None:
    """An index on the vectors in use, where they lack one and are many."""
    space = _unindexed(database)
    if space is None:
        return
    kind = indexed_type(space["dimensions"])
    operators = f"{kind.partition('(')[0]}_cosine_ops"
    database.script(
        # Several processes would share their memory in /dev/shm, of which a container has 64 MB.
        "SET LOCAL max_parallel_maintenance_workers = 0;"
        f"SELECT set_config('maintenance_work_mem', '{INDEX_MEMORY}', true) WHERE "
        "pg_size_bytes(current_setting('maintenance_work_mem')) "
        f"< pg_size_bytes('{INDEX_MEMORY}');"
        f"CREATE INDEX {_INDEX}{int(space['id'])} ON vectors "
        f"USING hnsw ((embedding::{kind}) {operators}) WHERE space = {int(space['id'])}"
    )


def lacks_index(database: Database) -> bool:
    """Whether `migrate` would make the index of the vectors in use. Inside a transaction."""
    return _unindexed(database) is not None


def _unindexed(database: Database) -> Mapping[str, Any] | None:
    """The space in use, where an index of its vectors would pay and is not there."""
    active = database.row("SELECT id, dimensions FROM vector_spaces WHERE state = 'active'")
    if active is None or active["dimensions"] > MAX_INDEXED:
        return None
    if database.row(
        "SELECT 1 AS there FROM pg_indexes WHERE schemaname = ? AND indexname = ?",
        [SCHEMA, f"{_INDEX}{active['id']}"],
    ):
        return None
    counted = database.rows("SELECT count(*) AS n FROM vectors WHERE space = ?", [active["id"]])
    return active if counted[0]["n"] >= INDEX_FROM else None


def indexed_type(dimensions: int) -> str:
    """The type that an index of vectors of so many dimensions can have, and searches must name."""
    kind = "vector" if dimensions <= MAX_INDEXED_VECTOR else "halfvec"
    return f"{kind}({int(dimensions)})"
