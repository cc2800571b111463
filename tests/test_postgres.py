"""What only a database of many can get wrong: what is append-only for whom, rights, what sessions
bring along, addresses with passwords. How the schema comes about: test_postgres_migrations.py.
What breaks while it is used: test_postgres_faults.py."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import errors, sql

from knowledge.errors import StoreUnusable
from knowledge.records import ClaimState, DecisionKind, OutcomeName, status_of
from knowledge.stores import VectorSpace, open_store
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_engine import Database as Engine
from knowledge.stores.postgres_engine import location
from knowledge.stores.postgres_schema import migrate
from knowledge.stores.sql_cases import STATUS
from tests.postgres_database import APP, OWNER, Database, answer, contents, new_name, tables
from tests.samples import NOW, SPACE, added, embedded, fill, incident, unit

CHANGEABLE = {
    *("claims", "claim_tokens", "watermarks", "marks"),
    *("symptom_words", "word_counts", "vector_spaces", "vectors"),
    "schema_version",
}


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


def column(database: Database, table: str) -> str:
    """A column of the table that can be written."""
    found = answer(
        database.owner,
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) "
        "AND attnum > 0 AND attidentity = '' LIMIT 1",
        f"aiops.{table}",
    )
    return str(found[0][0])


# --- append-only -------------------------------------------------------------------------------


def test_every_table_is_guarded_or_meant_to_change_and_has_a_row_in_these_tests(
    full: PostgresStore, database: Database
) -> None:
    guarded = answer(
        database.owner,
        "SELECT tgrelid::regclass::text, tgenabled::text FROM pg_trigger WHERE tgname = ANY (%s)",
        ["append_only", "never_truncated"],
    )
    assert {enabled for _, enabled in guarded} == {"A"}
    names = sorted(str(table).removeprefix("aiops.") for table, _ in guarded)
    assert names[::2] == names[1::2]  # both, for each
    assert set(tables(database.owner)) == {*names} | CHANGEABLE
    assert not {*names} & CHANGEABLE
    assert [table for table, rows in contents(database.owner).items() if not rows] == []


@pytest.mark.parametrize("who", ["owner", "superuser of a replica"])
def test_what_is_written_can_be_neither_changed_nor_deleted(
    full: PostgresStore, database: Database, who: str
) -> None:
    before = contents(database.owner)
    with psycopg.connect(
        database.owner if who == "owner" else database.admin, autocommit=True
    ) as connection:
        if who != "owner":
            connection.execute("SET session_replication_role = replica")
        connection.execute("SET search_path = aiops")
        for table in before.keys() - CHANGEABLE:
            one = column(database, table)
            for statement in (
                f"UPDATE {table} SET {one} = {one}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table} CASCADE",
                f"MERGE INTO {table} AS t USING (SELECT 1) AS s ON true "
                f"WHEN MATCHED THEN UPDATE SET {one} = t.{one}",
            ):
                with pytest.raises(errors.RaiseException, match="append-only"):
                    connection.execute(statement.encode())
    assert contents(database.owner) == before


def test_the_programs_role_can_do_nothing_about_it(full: PostgresStore, database: Database) -> None:
    before = contents(database.owner)
    each = [
        "UPDATE aiops.{0} SET {1} = {1}",
        "DELETE FROM aiops.{}",
        "TRUNCATE aiops.{} CASCADE",
        "ALTER TABLE aiops.{} DISABLE TRIGGER ALL",
        "ALTER TABLE aiops.{} ADD COLUMN more int",
        "DROP TABLE aiops.{} CASCADE",
        "CREATE TRIGGER t AFTER INSERT ON aiops.{} EXECUTE FUNCTION aiops.refuse_change()",
    ]
    statements = [
        "SET session_replication_role = replica",
        "CREATE TABLE aiops.more (id int)",
        "CREATE TABLE public.more (id int)",
        "CREATE TEMPORARY TABLE more (id int)",
        "CREATE OR REPLACE FUNCTION aiops.refuse_change() RETURNS trigger LANGUAGE sql AS ''",
        "DROP FUNCTION aiops.refuse_change CASCADE",
        "DROP SCHEMA aiops CASCADE",
        f"SET ROLE {OWNER}",
        "UPDATE aiops.schema_version SET version = 0",
        "SELECT setval('aiops.decisions_seq_seq', 1)",
        # Which one is the newest is not for him to say.
        "INSERT INTO aiops.pauses (seq, paused, by, at, reason) OVERRIDING SYSTEM VALUE "
        "VALUES (1000000, 0, 'me', NULL, '')",
        *(
            statement.format(table, column(database, table))
            for statement in each
            for table in before.keys() - CHANGEABLE
        ),
    ]
    with psycopg.connect(database.app, autocommit=True) as connection:
        for statement in statements:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
    assert contents(database.owner) == before


def test_a_row_cannot_be_slipped_into_the_audit_log(
    full: PostgresStore, database: Database
) -> None:
    last = full.audit_head()
    for seq, prev in ((last.seq + 1, "x"), (last.seq + 2, last.hash), (0, ""), (-1, "")):
        with pytest.raises(psycopg.Error, match=r"append-only|audit_seq_check"):
            answer(
                database.app,
                "INSERT INTO aiops.audit (seq, at, what, ref, document, prev, hash) "
                "VALUES (%s, '', '', '', '', %s, '')",
                *(seq, prev),
            )


# --- rights ------------------------------------------------------------------------------------


def rights(dsn: str) -> set[tuple[object, ...]]:
    """Each table with what this role may do to it beside reading."""
    both = " UNION ".join(
        f"SELECT table_name, privilege_type FROM information_schema.{kind}_privileges "
        "WHERE table_schema = 'aiops' AND grantee = current_user AND privilege_type <> 'SELECT'"
        for kind in ("column", "table")
    )
    return set(answer(dsn, both))


def wait_for_the_end_of_sessions(database: Database) -> None:
    """What a session did is counted when it has ended."""
    deadline = time.monotonic() + 60
    while answer(
        database.admin,
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_programs_role_has_the_rights_that_the_program_uses_and_no_more(
    full: PostgresStore, database: Database
) -> None:
    """That they are enough, the contract shows: it is run as this role."""
    other = VectorSpace("other", 2, 1)
    waiting = full.unembedded(other, 10)  # of another embedder: built, and then in use
    full.embed(other, {symptom: (1.0, 0.0) for symptom, _ in waiting})
    assert full.switch_space(other)
    full.set_mark("starter", "anew")
    full.set_watermark("prod", NOW)
    full.close()
    wait_for_the_end_of_sessions(database)
    used = {
        (table, right)
        for table, *counts in answer(
            database.admin,
            "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables "
            "WHERE schemaname = 'aiops'",
        )
        for right, count in zip(("INSERT", "UPDATE", "DELETE"), counts, strict=True)
        if count
    }
    assert rights(database.app) == used
    may_insert = {table for table, right in used if right == "INSERT"}
    numbered = set()
    for table, column, insertable, identity in answer(
        database.app,
        "SELECT table_name, column_name, has_column_privilege("
        "format('aiops.%I', table_name), column_name, 'INSERT'), is_identity "
        "FROM information_schema.columns WHERE table_schema = 'aiops' "
        "AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = 'aiops')",
    ):
        assert insertable is (table in may_insert and identity == "NO"), (table, column)
        numbered |= {table} if identity == "YES" else set()
    assert len(numbered) > 10


def test_the_programs_role_may_read_everything_and_make_nothing(database: Database) -> None:
    assert answer(
        database.app,
        "SELECT has_schema_privilege('aiops', 'USAGE'), has_schema_privilege('aiops', 'CREATE'), "
        "has_database_privilege(current_database(), 'CREATE')",
    ) == [(True, False, False)]
    relations = "SELECT oid FROM pg_class WHERE relnamespace = 'aiops'::regnamespace"
    assert answer(
        database.app,
        f"SELECT bool_and(has_table_privilege(oid, 'SELECT')) FROM ({relations} "
        "AND relkind IN ('r', 'v')) AS t",
    ) == [(True,)]
    assert answer(
        database.app,
        f"SELECT bool_or(has_sequence_privilege(oid, 'USAGE,SELECT,UPDATE')) FROM ({relations} "
        "AND relkind = 'S') AS t",
    ) == [(False,)]


def test_migrating_again_takes_back_what_was_given_beside_it(database: Database) -> None:
    before = rights(database.app)
    answer(database.owner, f"GRANT ALL ON ALL TABLES IN SCHEMA aiops TO {APP}")
    answer(database.owner, f"GRANT CREATE ON SCHEMA aiops TO {APP}")
    assert rights(database.app) > before
    migrate(database.owner, APP)
    assert rights(database.app) == before
    with pytest.raises(errors.InsufficientPrivilege):
        answer(database.app, "CREATE TABLE aiops.more (id int)")


def test_a_role_with_an_odd_name(database: Database) -> None:
    role = f"""o'dd "{new_name()}" {{role}} $$ -- ; %s"""
    answer(database.admin, sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)).as_string())
    try:
        migrate(database.owner, role)
        with psycopg.connect(database.admin, autocommit=True) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            assert connection.execute("SELECT count(*) FROM aiops.base").fetchone() == (1,)
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("DELETE FROM aiops.base")
    finally:
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            answer(database.admin, sql.SQL(statement).format(sql.Identifier(role)).as_string())


def test_a_role_that_could_do_everything_is_refused(database: Database) -> None:
    before = rights(database.owner)
    with pytest.raises(StoreUnusable, match="owns the knowledge base") as caught:
        migrate(database.owner, OWNER)
    assert "CREATE ROLE" in caught.value.hint
    with pytest.raises(StoreUnusable, match="owns the knowledge base"):
        migrate(database.owner, "postgres")
    assert rights(database.owner) == before


def test_a_role_that_is_not_there_is_told_and_nothing_is_made(empty_database: Database) -> None:
    with pytest.raises(StoreUnusable, match="knows no role 'nobody here'") as caught:
        migrate(empty_database.owner, "nobody here")
    assert "CREATE ROLE" in caught.value.hint
    assert tables(empty_database.owner) == []


def test_a_role_without_rights_is_told_who_can_help(
    empty_database: Database, database: Database
) -> None:
    migrate(empty_database.owner)  # gives nobody anything
    with pytest.raises(StoreUnusable, match="may not be used so by this role") as caught:
        open_store(empty_database.app)
    assert "aiops kb migrate --role" in caught.value.hint
    answer(database.owner, f"REVOKE INSERT ON aiops.incidents FROM {APP}")
    answer(database.owner, f"REVOKE INSERT (id) ON aiops.incidents FROM {APP}")
    store = open_store(database.app)
    with pytest.raises(StoreUnusable, match="may not be used so by this role"):
        store.add_incident(incident())
    assert store.cases() == ()
    store.close()


# --- filters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "columns"),
    {
        "entries": "id kind source",
        "symptoms": "id entry fingerprint",
        "vectors": "space symptom",
        "incidents": "id failed_at instance dag_id fingerprint group_id",
        "judgements": "incident_id at",
        "decisions": "seq incident_id kind at",
        "outcomes": "incident_id decision at",
        "harms": "incident_id decision",
        "vouches": "instance",
        "claims": "incident_id ti_id state",
        "lessons": "incident_id fingerprint",
        "audit": "seq at what",
    }.items(),
)
def test_what_is_filtered_by_has_an_index(database: Database, table: str, columns: str) -> None:
    indexed = answer(
        database.owner,
        "SELECT DISTINCT attname::text FROM pg_index JOIN pg_attribute "
        "ON attrelid = indrelid AND attnum = indkey[0] WHERE indrelid = to_regclass(%s)",
        f"aiops.{table}",
    )
    assert {name for (name,) in indexed} >= {*columns.split()}


# --- status ------------------------------------------------------------------------------------


def test_status_in_sql_is_the_one_rule(store: PostgresStore) -> None:
    claims: list[ClaimState | None] = [None, "claimed", "acting", "done", "needs_human"]
    kinds: list[DecisionKind | None] = [
        None, "approve", "reject", "auto", "shadow", "superseded",
    ]  # fmt: skip
    outcomes: list[OutcomeName | None] = [
        None, "fixed", "failed", "relapsed", "superseded", "unknown",
    ]  # fmt: skip
    every = list(itertools.product(claims, kinds, [None, "none", "retry"], outcomes))
    names = ("claim", "decision", "action", "outcome")
    with store._db.read():
        found = store._db.rows(
            f"SELECT *, {STATUS} AS status FROM unnest(:claim::text[], :decision::text[], "
            f":action::text[], :outcome::text[]) AS given ({', '.join(names)})",
            {name: [values[place] for values in every] for place, name in enumerate(names)},
        )
    assert len(found) == len(every)
    for row in found:
        assert row["status"] == status_of(*(row[name] for name in names)), row


# --- sessions ----------------------------------------------------------------------------------


def test_threads_may_share_a_store(store: PostgresStore) -> None:
    def add(number: int) -> bool:
        return store.add_incident(incident(number % 20)) and len(store.cases()) > 0

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(add, range(80))) == 20
    assert len(store.cases()) == 20


def test_an_interrupted_write_leaves_nothing(store: PostgresStore) -> None:
    def interrupted() -> None:
        with store._db.write():
            store._db.insert("instances", {"name": "x", "url": "y"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    store.bind_instance("x", "http://other")


def test_a_session_is_left_as_it_was_found(full: PostgresStore, database: Database) -> None:
    """So that who gets it next from a pooler finds nothing of ours."""
    names = "search_path", "lock_timeout", "idle_in_transaction_session_timeout"
    full.find_vector(unit(1, 0, 0), 5)
    assert isinstance(full._db, Engine)
    ours = full._db._connection
    with psycopg.connect(database.app) as fresh:
        fresh.execute("SELECT '[1]'::vector")  # the extension brings settings along
        for name in (*names, "hnsw.ef_search", "enable_indexscan", "synchronous_commit", "jit"):
            expected = fresh.execute("SELECT current_setting(%s)", [name]).fetchone()
            (found,) = ours.execute("SELECT current_setting(%s)", [name]).fetchall()
            assert (*found.values(),) == expected, name
    left = b"SELECT name FROM pg_prepared_statements UNION ALL SELECT name FROM pg_cursors"
    assert ours.execute(left).fetchall() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search_path", "''"),
        ("search_path", "nowhere, pg_catalog"),
        ("client_encoding", "latin1"),
        ("standard_conforming_strings", "off"),
        ("default_transaction_isolation", "serializable"),
        ("bytea_output", "escape"),
        ("datestyle", "'SQL, DMY'"),
        ("timezone", "'Asia/Kathmandu'"),
        ("extra_float_digits", "-15"),
        ("jit", "on"),
    ],
)
def test_whatever_a_role_has_set_for_itself(database: Database, name: str, value: str) -> None:
    answer(database.admin, f"ALTER ROLE {APP} IN DATABASE {database.name} SET {name} = {value}")
    store = PostgresStore.open(database.app)
    one = incident(context={"text": "back\\slash 'quoted' “curly” \U0001f600 %s ? :name"})
    assert store.add_incident(one)
    assert [case.incident for case in store.cases(dag="orders_*")] == [one]
    store.put_entries([embedded("entry-a", ("A: x", unit(1, 2, 3)))], SPACE, NOW)
    assert [found.entry.id for found in store.find_vector(unit(1, 2, 3), 5)] == ["entry-a"]
    assert [found.entry.id for found in store.find_text(["x"], 5)] == ["entry-a"]
    store.close()


def test_no_query_is_compiled(store: PostgresStore) -> None:
    for begun in (store._db.read(), store._db.write()):
        with begun:
            assert store._db.row("SELECT current_setting('jit') AS now") == {"now": "off"}


def test_what_is_committed_is_on_the_disk_whatever_the_role_has_set(database: Database) -> None:
    """A claim that a power cut takes back would be an act done twice."""
    setting = "synchronous_commit"
    answer(database.admin, f"ALTER ROLE {APP} IN DATABASE {database.name} SET {setting} = off")
    store = PostgresStore.open(database.app)
    with store._db.write():
        assert store._db.row("SELECT current_setting(?) AS now", [setting]) == {"now": "on"}
    store.close()


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:hunter2@db:5433/kb", "postgresql://me@db:5433/kb"),
        ("postgresql://me@db/kb?password=hunter2&sslmode=require", "postgresql://me@db/kb"),
        ("postgresql:///kb?host=/run/postgresql", "postgresql:///run/postgresql/kb"),
        ("postgresql://me:hunter2@a:1,b:2/kb", "postgresql://me@a,b:1,2/kb"),
        ("postgresql://", "postgresql:///"),
    ],
)
def test_the_address_is_shown_without_its_password(dsn: str, shown: str) -> None:
    assert location(dsn) == shown


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12))
@example("%80")  # no UTF-8 once it is unescaped
def test_no_part_of_a_password_is_ever_shown(strange: str) -> None:
    """Whatever is in it, be it not escaped as it should be."""
    try:
        shown = location(f"postgresql://me:hunter2{strange}hunter2@db:5432/kb")
    except StoreUnusable as refused:
        shown = f"{refused.message} {refused.hint} {refused!r} {refused.__cause__!r}"
    assert "hunter2" not in shown


@pytest.mark.parametrize("dsn", ["postgresql://me:p@ss@db/kb", "postgresql://me:p/ss@db/kb"])
def test_a_password_that_is_not_escaped_is_told(dsn: str) -> None:
    with pytest.raises(StoreUnusable, match="cannot be read") as caught:
        PostgresStore.open(dsn)
    assert "%40 for @" in caught.value.hint


def test_an_option_that_makes_no_sense_is_told() -> None:
    with pytest.raises(StoreUnusable, match="connect_timeout") as caught:
        PostgresStore.open("postgresql://me:hunter2@127.0.0.1:1/kb?connect_timeout=soon")
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_a_store_shows_no_password(store: PostgresStore, database: Database) -> None:
    password = psycopg.conninfo.conninfo_to_dict(database.app)["password"]
    assert str(password) not in f"{store!r} {store._db!r} {store.location}"


def test_what_was_added_is_there_for_the_next(store: PostgresStore, database: Database) -> None:
    added(store, incident(0))
    other = open_store(database.app)
    assert other.cases() == store.cases()
    assert other.base_id() == store.base_id()
    other.close()
