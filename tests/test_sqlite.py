"""What only a file can get wrong: what is append-only, how it is opened, older versions, others at
the same time. What breaks while it is used: test_sqlite_faults.py."""

from __future__ import annotations

import itertools
import subprocess
import sys
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from shutil import copy, copytree

import apsw
import pytest

from knowledge.errors import SchemaTooNew, StoreUnusable
from knowledge.records import (
    ClaimState,
    DecisionKind,
    Outcome,
    OutcomeName,
    Remark,
    status_of,
)
from knowledge.stores import PutCounts, open_store, rows
from knowledge.stores.sql_cases import STATUS
from knowledge.stores.sqlite import SqliteStore
from knowledge.stores.sqlite_engine import MIGRATIONS, open_database
from tests.samples import NOW, SPACE, decision, embedded, fill, incident, unit

CHANGEABLE = {"claims", "claim_tokens", "watermarks", "marks", "vector_spaces"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb" / "knowledge.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(str(path))
    yield store
    store.close()


@pytest.fixture
def full(store: SqliteStore) -> SqliteStore:
    """A store with a row in every table."""
    fill(store)
    return store


def raw(path: Path) -> apsw.Connection:
    """A connection of another program that has the file open."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    return connection


def tables(connection: apsw.Connection) -> list[str]:
    return [
        str(name)
        for (name,) in connection.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
            "AND name NOT GLOB 'sqlite_*' AND name NOT GLOB 'vec_*'"
        )
    ]


# --- append-only -------------------------------------------------------------------------------


def test_every_table_is_strict_and_has_a_row_in_these_tests(full: SqliteStore, path: Path) -> None:
    connection = raw(path)
    for table in tables(connection):
        assert connection.execute(
            "SELECT strict FROM pragma_table_list WHERE name = ?", [table]
        ).fetchone() == (1,), table
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() != (0,), table
    connection.close()


def test_what_is_written_can_be_neither_changed_nor_deleted_nor_replaced(
    full: SqliteStore, path: Path
) -> None:
    connection = raw(path)
    guarded = [table for table in tables(connection) if table not in CHANGEABLE]
    assert len(guarded) >= 14
    for table in guarded:
        columns = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
        before = connection.execute(f"SELECT * FROM {table}").fetchall()
        unique = unique_keys(connection, table)
        copied = ", ".join(columns)
        shifted = [
            ", ".join(
                f"{column} + 1000" if column in others and column in ("seq", "id") else column
                for column in columns
            )
            for others in ([key for key in unique if key != kept] for kept in unique)
        ]
        for statement in (
            f"UPDATE {table} SET {columns[-1]} = {columns[-1]}",
            f"UPDATE OR REPLACE {table} SET {columns[0]} = {columns[0]}",
            f"DELETE FROM {table}",
            f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
            f"REPLACE INTO {table} SELECT * FROM {table}",
            f"INSERT INTO {table} ({copied}) SELECT * FROM {table} WHERE true "
            f"ON CONFLICT DO UPDATE SET {columns[-1]} = {columns[-1]}",
            *(
                f"REPLACE INTO {table} ({copied}) SELECT {values} FROM {table}"
                for values in shifted
            ),
        ):
            with pytest.raises(apsw.ConstraintError, match="append-only"):
                connection.execute(statement)
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
    connection.close()


def unique_keys(connection: apsw.Connection, table: str) -> list[str]:
    """The columns that REPLACE could collide on: the primary key and every unique one."""
    primary = [
        str(name)
        for _, name, _, _, _, key in connection.execute(f"PRAGMA table_info({table})")
        if key
    ]
    for _, index, unique, *_ in connection.execute(f"PRAGMA index_list({table})").fetchall():
        if unique:
            indexed = connection.execute(f"PRAGMA index_info({index})").fetchall()
            primary += [str(name) for _, _, name in indexed]
    return list(dict.fromkeys(primary))


def test_every_unique_key_is_guarded_against_replace(store: SqliteStore, path: Path) -> None:
    connection = raw(path)
    for table in tables(connection):
        if table in CHANGEABLE:
            continue
        (guard,) = connection.execute(
            "SELECT sql FROM sqlite_schema WHERE name = ?", [f"{table}_no_replace"]
        ).fetchone() or [""]
        for key in unique_keys(connection, table):
            assert f"{key} = NEW.{key}" in str(guard), (table, key)
    connection.close()


def test_a_row_cannot_be_slipped_in_before_the_first(full: SqliteStore, path: Path) -> None:
    connection = raw(path)
    for seq in (0, -1):
        with pytest.raises(apsw.ConstraintError):
            connection.execute(
                "INSERT INTO pauses (seq, paused, by, at, reason) VALUES (?, 1, '', NULL, '')",
                [seq],
            )
    connection.close()


# --- status ------------------------------------------------------------------------------------


def test_status_in_sql_is_the_one_rule() -> None:
    claims: list[ClaimState | None] = [None, "claimed", "acting", "done", "needs_human"]
    kinds: list[DecisionKind | None] = [
        None, "approve", "reject", "auto", "shadow", "superseded",
    ]  # fmt: skip
    outcomes: list[OutcomeName | None] = [
        None, "fixed", "failed", "relapsed", "superseded", "unknown",
    ]  # fmt: skip
    connection = apsw.Connection(":memory:")
    for claim, kind, action, outcome in itertools.product(
        claims, kinds, [None, "none", "retry"], outcomes
    ):
        (given,) = connection.execute(
            f"SELECT {STATUS} FROM (SELECT ? AS claim, ? AS decision, ? AS action, ? AS outcome)",
            [claim, kind, action, outcome],
        ).fetchall()[0]
        assert given == status_of(claim, kind, action, outcome), (claim, kind, action, outcome)
    connection.close()


# --- opening -----------------------------------------------------------------------------------


def test_a_new_file_is_private_and_set_up_for_safety(store: SqliteStore, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert store.location == f"sqlite:///{path}"
    with store._db.read():
        assert {
            name: store._db.rows(f"PRAGMA {name}")[0].popitem()[1]
            for name in ("journal_mode", "synchronous", "foreign_keys", "page_size")
        } == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "page_size": 16384}


def test_what_is_stored_outlives_the_process(full: SqliteStore, path: Path) -> None:
    cases, base = full.cases(), full.base_id()
    full.close()
    again = open_store(f"sqlite:///{path}")
    assert again.cases() == cases
    assert again.base_id() == base
    assert [one.entry.id for one in again.find_vector(unit(1, 0, 0), 5)] == ["entry-b"]
    assert [one.entry.id for one in again.find_text(["x"], 5)] == ["entry-b"]
    again.close()


def test_reading_the_queue_loads_neither_vectors_nor_the_interpreters_sqlite(path: Path) -> None:
    SqliteStore.open(str(path)).close()
    probe = (
        "import sys; from knowledge.stores import open_store;"
        "assert 'apsw' not in sys.modules;"
        f"store = open_store('sqlite:///{path}');"
        "store.cases(status=['pending'], limit=50); store.claims(['acting']); store.pause();"
        "dear = {'sqlite3', 'sqlite_vec', 'knowledge.ranking', 'importlib.resources'};"
        "print(*dear & sys.modules.keys())"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert run.stdout == "\n"


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\0" * 5000])
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreUnusable) as caught:
        SqliteStore.open(str(path))
    assert "is not a knowledge base" in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == content


def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = raw(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT); PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnusable, match="another program"):
        SqliteStore.open(str(path))
    assert path.read_bytes() == before


# --- versions ----------------------------------------------------------------------------------


def test_a_newer_file_is_refused_and_left_alone(store: SqliteStore, path: Path) -> None:
    store.close()
    connection = raw(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew) as caught:
        SqliteStore.open(str(path))
    assert "999" in caught.value.message
    assert "upgrade" in caught.value.hint
    assert path.read_bytes() == before


@pytest.fixture
def newer(tmp_path: Path) -> tuple[Path, int]:
    """A folder with one more migration, and the version that it leads to."""
    folder = tmp_path / "migrations"
    copytree(MIGRATIONS, folder)
    version = max(int(file.name[:4]) for file in folder.glob("*.sql")) + 1
    (folder / f"{version:04}_more.sql").write_text("CREATE TABLE more (x INTEGER) STRICT;")
    return folder, version


def test_an_older_file_is_backed_up_and_brought_up_to_date(
    full: SqliteStore, path: Path, newer: tuple[Path, int]
) -> None:
    cases = full.cases()
    folder, version = newer
    database = open_database(path, folder)  # while another process has it open
    with database.write():
        database.insert("more", {"x": 1})
    database.close()
    assert full.cases() == cases
    backup = path.with_name(f"{path.name}.bak-{version - 1}")
    assert backup.stat().st_mode & 0o777 == 0o600
    copy = SqliteStore.open(str(backup))
    assert copy.cases() == cases
    copy.close()
    with pytest.raises(SchemaTooNew):
        SqliteStore.open(str(path))
    assert sorted(file.name for file in path.parent.glob("*.part")) == []


def test_a_file_of_the_first_schema_is_brought_up_to_date(path: Path, tmp_path: Path) -> None:
    """As 0001 and 0002 made it, before incidents had a key of their group."""
    first = tmp_path / "first"
    first.mkdir()
    for file in sorted(MIGRATIONS.glob("000[12]_*.sql")):
        copy(file, first)
    database = open_database(path, first)
    old, grouped = incident(0), incident(1, group="s7storm234")
    with database.write():
        for one in (old, grouped):
            columns = rows.incident_params(one)
            del columns["group_key"]
            database.insert("incidents", columns)
        made = decision(old, "approve")
        seq = database.insert("decisions", rows.decision_params(made, NOW))["seq"]
        database.insert("outcomes", rows.outcome_params(Outcome(old.id, seq, NOW, "fixed")))
    database.close()

    store = SqliteStore.open(str(path))
    assert store.case(old.id).incident == old
    assert store.case(old.id).status == "resolved"
    assert store.find_ids("s7storm234") == (grouped.id,)
    assert store.recent_group("default", "", NOW, NOW) is None
    store.call_wrong(old.id, "me", NOW, "paid twice")
    assert [trial.outcome for trial in store.trials()] == ["wrong"]
    store.add_remark(Remark(grouped.id, "me", NOW, "still there"))
    store.close()

    backup = path.with_name(f"{path.name}.bak-2")
    assert backup.stat().st_mode & 0o777 == 0o600
    before = open_database(backup, first)  # a newer one would be refused
    with before.read():
        kept = before.rows("SELECT id FROM incidents ORDER BY seq")
    before.close()
    assert [row["id"] for row in kept] == [old.id, grouped.id]


def test_the_vectors_of_an_older_file_stay_in_use(path: Path, tmp_path: Path) -> None:
    """As up to 0005 there was one table of them, named by its dimensions."""
    older = tmp_path / "older"
    older.mkdir()
    for file in MIGRATIONS.glob("000[1-5]_*.sql"):
        copy(file, older)
    one = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    content = rows.entry_content(one.entry)
    columns = {"id": one.entry.id, "kind": one.entry.kind, "source": one.entry.source}
    times = {"created_at": rows.time_text(NOW), "recorded_at": rows.time_text(NOW)}
    database = open_database(path, older)
    with database.write():
        database.load_vectors()
        database.insert("vector_space", {"only": 1, **asdict(SPACE)})
        database.rows("CREATE VIRTUAL TABLE vec_3 USING vec0 (embedding float[3])")
        digest = sha256(content.encode()).hexdigest()
        database.insert("entries", {**columns, **times, "content": content, "digest": digest})
        fingerprint = one.entry.symptoms[0].signature.fingerprint
        database.insert("symptoms", {"entry": 1, "position": 0, "fingerprint": fingerprint})
        vector = array("f", one.vectors[0]).tobytes()
        database.rows("INSERT INTO vec_3 (rowid, embedding) VALUES (1, ?)", [vector])
    database.close()

    store = SqliteStore.open(str(path))
    assert store.vector_space() == SPACE
    assert [found.entry for found in store.find_vector(unit(1, 0, 0), 5)] == [one.entry]
    assert store.put_entries([one], SPACE, NOW) == PutCounts(same=1)
    other = replace(SPACE, embedder="other")
    store.embed(other, {number: unit(0, 1, 0) for number, _ in store.unembedded(other, 9)})
    assert store.switch_space(other)
    assert [found.entry for found in store.find_vector(unit(0, 1, 0), 5)] == [one.entry]
    assert store.audit_verify().faults == ()
    store.close()


def test_a_migration_that_fails_changes_nothing(
    full: SqliteStore, path: Path, newer: tuple[Path, int]
) -> None:
    cases = full.cases()
    folder, version = newer
    (folder / f"{version + 1:04}_broken.sql").write_text(
        "CREATE TABLE also (x INTEGER) STRICT; SELECT no_such_function();"
    )
    with pytest.raises(apsw.SQLError, match="no_such_function"):
        open_database(path, folder)
    assert full.cases() == cases
    reopened = SqliteStore.open(str(path))
    assert reopened.cases() == cases
    reopened.close()


def test_a_new_file_needs_no_backup(store: SqliteStore, path: Path) -> None:
    assert list(path.parent.glob("*.bak*")) == []


# --- others at the same time -------------------------------------------------------------------


def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    probe = (
        f"from knowledge.stores import open_store; print(open_store('sqlite:///{path}').base_id())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE) for _ in range(6)
    ]
    answers = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0] * 6
    assert len(set(answers)) == 1
    assert answers[0].strip()


def test_threads_may_share_a_store(store: SqliteStore) -> None:
    def add(number: int) -> bool:
        return store.add_incident(incident(number % 20)) and len(store.cases()) > 0

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(add, range(80))) == 20
    assert len(store.cases()) == 20
