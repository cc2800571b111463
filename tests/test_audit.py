"""The audit log: a chain over everything decided, in which whatever was altered is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from knowledge.records import Grant, Hold, Pause, Remark, Vouch
from knowledge.stores import AuditHead, LastingStore, migrate_store
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.sql_audit import LOGGED
from knowledge.stores.sqlite import SqliteStore
from tests.postgres_database import Database
from tests.samples import (
    HOUR,
    NOW,
    SPACE,
    SetClock,
    acted,
    added,
    decision,
    embedded,
    incident,
    lesson,
    opened,
    unit,
)

Tamper = Callable[[str], None]


@pytest.fixture(params=["sqlite", "postgres"])
def base(
    request: pytest.FixtureRequest, tmp_path: Path, store_clock: SetClock
) -> Iterator[tuple[LastingStore, Tamper]]:
    """A store in which everything that is logged has happened, and a way past its guards."""
    store: LastingStore
    if request.param == "sqlite":
        file = tmp_path / "knowledge.db"
        store = SqliteStore.open(str(file), store_clock.now)
        tamper: Tamper = lambda sql: with_sqlite(file, sql)  # noqa: E731
    else:
        database = request.getfixturevalue("database")
        store = PostgresStore.open(database.app, store_clock.now)
        tamper = lambda sql: with_postgres(database.owner, sql)  # noqa: E731
    everything(store)
    yield store, tamper
    store.close()


def everything(store: LastingStore) -> None:
    store.bind_instance("prod", "https://airflow.example")
    store.put_entries([embedded("entry-a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    added(store, incident(0), incident(1), incident(2))
    acted(store, incident(0))
    store.call_wrong(incident(0).id, "me", NOW, "paid twice")
    vouch = Vouch("default", "orders_etl", "t0", None, True, "me", NOW)
    store.record(decision(incident(2), "reject", reason="\ud800\0 odd"), [vouch])
    token, _ = opened(store, incident(1))
    store.release(incident(1).id, token)
    store.add_grant(Grant("grantone", ("retry",), ("*",), "me", NOW))
    store.revoke_grant("grantone", "me", NOW)
    store.load([], "another", "me", NOW)
    store.set_pause(Pause(True, "me", NOW))
    store.add_lessons([lesson()])
    store.add_hold(Hold("holdone", "default", "orders_*", "me", NOW))
    store.add_remark(Remark(incident(2).id, "me", NOW, "first yes of two"))
    store.snooze(incident(2).id, NOW + HOUR, "me", NOW)
    store.end_hold("holdone", "me", NOW)


def with_sqlite(file: Path, sql: str) -> None:
    """As somebody who owns the file."""
    connection = apsw.Connection(str(file))
    for (trigger,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute(sql)
    connection.close()


def with_postgres(owner: str, sql: str) -> None:
    """As the owner of the tables."""
    import psycopg

    with psycopg.connect(owner) as connection:
        connection.execute("SET search_path = aiops")
        for table in (*LOGGED, "audit"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER".encode())
        connection.execute(sql.encode())


def test_all_that_is_decided_or_allowed_is_logged(base: tuple[LastingStore, Tamper]) -> None:
    store, _ = base
    log = store.audit()
    assert {record.what for record in log} == set(LOGGED)
    assert [record.seq for record in log] == list(range(1, len(log) + 1))
    assert store.audit_head() == AuditHead(len(log), log[-1].hash)
    said = next(record for record in log if record.document.get("kind") == "reject")
    assert said.document["by"] == "oncall"
    assert said.document["incident_id"] == incident(2).id
    (entry,) = [record.document for record in log if record.what == "entries"]
    assert "content" not in entry, "a text may be long, and its digest says as much"
    report = store.audit_verify()
    assert report.faults == ()
    assert report.head == store.audit_head()


def test_what_is_kept_for_good_is_logged_or_known_not_to_be(tmp_path: Path) -> None:
    with closing(SqliteStore.open(str(tmp_path / "k.db"))):
        connection = apsw.Connection(str(tmp_path / "k.db"))
    kept = connection.execute("SELECT DISTINCT tbl_name FROM sqlite_schema WHERE type = 'trigger'")
    told = {name for (name,) in kept} - {*LOGGED, "audit"}
    assert told == {"base", "incidents", "judgements", "symptoms"}, "docs/knowledge-base.md says so"
    connection.close()


def test_the_log_can_be_read_from_a_time_on_or_its_end(
    base: tuple[LastingStore, Tamper], store_clock: SetClock
) -> None:
    store, _ = base
    store_clock.advance(HOUR)
    store.set_pause(Pause(False, "you", store_clock.now()))
    assert [record.document["by"] for record in store.audit(since=NOW + HOUR)] == ["you"]
    assert [record.seq for record in store.audit(limit=2)] == [
        store.audit_head().seq - 1,
        store.audit_head().seq,
    ]


def test_what_is_logged_cannot_be_changed_by_the_program(
    request: pytest.FixtureRequest, base: tuple[LastingStore, Tamper]
) -> None:
    store, _ = base
    head = store.audit_head()
    values = f"({head.seq + 1}, 'x', 'pauses', '9', '{{}}', 'forged', 'forged')"
    for statement in (
        "UPDATE audit SET at = 'x' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 1",
        f"INSERT INTO audit (seq, at, what, ref, document, prev, hash) VALUES {values}",
        f"INSERT INTO audit (seq, at, what, ref, document, prev, hash) "
        f"VALUES ({head.seq + 2}, 'x', 'pauses', '9', '{{}}', '{head.hash}', 'forged')",
    ):
        if isinstance(store, SqliteStore):
            connection = apsw.Connection(store.location.removeprefix("sqlite:///"))
            with pytest.raises(apsw.ConstraintError, match="append-only"):
                connection.execute(statement)
            connection.close()
        else:
            import psycopg

            with psycopg.connect(request.getfixturevalue("database").app) as session:
                session.execute("SET search_path = aiops")
                with pytest.raises(psycopg.Error, match=r"append-only|permission denied"):
                    session.execute(statement.encode())
    assert store.audit_verify().faults == ()


ALTERED = {
    "a decision": ("UPDATE decisions SET by = 'somebody' WHERE seq = 1", "decisions 1 was altered"),
    "an outcome": ("UPDATE outcomes SET outcome = 'failed'", "outcomes 1 was altered"),
    "an entry's text": (
        "UPDATE entries SET content = replace(content, 'A: x', 'A: y')",
        "entries 1 was altered",
    ),
    "a grant": ("UPDATE grants SET dags = '[\"payments\"]'", "grants 1 was altered"),
    "who said a first yes": ("UPDATE remarks SET by = 'somebody'", "remarks 1 was altered"),
    "a pause taken out": ("DELETE FROM pauses", "pauses 1 was removed"),
    "a grant slipped in": (
        "INSERT INTO grants (id, actions, dags, by, at, max_per_hour, max_per_dag_hour) "
        "VALUES ('mine', '[\"retry\"]', '[\"*\"]', 'me', 'now', 9, 9)",
        "was added past the log",
    ),
    "a row of the log": (
        "UPDATE audit SET document = replace(document, 'oncall', 'nobody') WHERE seq = 4",
        "row 4 of the log was altered",
    ),
    "its hash too": ("UPDATE audit SET hash = 'new' WHERE seq = 4", "row 5 of the log does not"),
    "a row of the log taken out": ("DELETE FROM audit WHERE seq = 4", "row 4 of the log was rem"),
    "its first row taken out": ("DELETE FROM audit WHERE seq = 1", "row 1 of the log was removed"),
    "two rows put in another order": (
        "UPDATE audit SET seq = 1000 WHERE seq = 4; UPDATE audit SET seq = 4 WHERE seq = 5;"
        "UPDATE audit SET seq = 5 WHERE seq = 1000",
        "row 4 of the log",
    ),
    "which row it is about": (
        f"UPDATE audit SET ref = '{10**30}' WHERE seq = 4",
        f"{10**30} was removed",
    ),
    "an outcome's decision": ("UPDATE audit SET ref = 'x' WHERE seq = 4", "x was removed"),
    "the whole log": ("DELETE FROM audit", "was added past the log"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_whatever_was_altered_is_found(base: tuple[LastingStore, Tamper], what: str) -> None:
    store, tamper = base
    statement, told = ALTERED[what]
    tamper(statement)
    faults = store.audit_verify().faults
    assert any(told in fault for fault in faults), faults


def test_a_tail_cut_off_with_its_rows_is_found_by_a_head_kept_elsewhere(
    base: tuple[LastingStore, Tamper],
) -> None:
    store, tamper = base
    first, head = store.audit()[3], store.audit_head()
    kept = [AuditHead(first.seq, first.hash), head]
    assert store.audit_verify(kept).faults == ()
    ended = [record for record in store.audit() if record.what == "hold_ends"]
    assert ended[-1].seq == head.seq
    tamper(f"DELETE FROM audit WHERE seq = {head.seq}; DELETE FROM hold_ends")
    assert store.audit_verify().faults == (), "nothing in the base tells"
    (fault,) = store.audit_verify(kept).faults
    assert "its tail was cut off" in fault
    # And another one grown in its place.
    store.end_hold("holdone", "somebody", NOW)
    (fault,) = store.audit_verify(kept).faults
    assert f"row {head.seq} of the log is another one than was seen before" in fault


def test_an_endless_list_of_faults_is_cut(base: tuple[LastingStore, Tamper]) -> None:
    store, tamper = base
    for _ in range(60):
        store.set_pause(Pause(True, "me", NOW))
    tamper("UPDATE audit SET hash = document || seq")
    faults = store.audit_verify().faults
    assert len(faults) == 101
    assert "more" in faults[-1]


def test_what_was_written_before_there_was_a_log_is_logged_by_the_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shutil import copy

    from knowledge.stores import rows, sqlite_engine

    older = tmp_path / "older"
    older.mkdir()
    for file in sqlite_engine.MIGRATIONS.glob("000[1-5]_*.sql"):
        copy(file, older)
    path = tmp_path / "knowledge.db"
    database = sqlite_engine.open_database(path, older)
    with database.write():
        database.insert("incidents", rows.incident_params(incident(0)))
        database.insert("decisions", rows.decision_params(decision(incident(0), "reject"), NOW))
    database.close()
    store = SqliteStore.open(str(path))
    assert [record.what for record in store.audit()] == ["decisions"]
    assert store.audit_verify().faults == ()
    store.close()


def test_remarks_older_than_their_logging_are_logged_by_the_upgrade_alone(
    base: tuple[LastingStore, Tamper], request: pytest.FixtureRequest
) -> None:
    store, tamper = base
    head = store.audit_head()
    tamper("DELETE FROM audit WHERE what IN ('remarks', 'snoozes', 'hold_ends')")
    tamper("DELETE FROM hold_ends")
    assert any("past the log" in fault for fault in store.audit_verify().faults)
    if isinstance(store, SqliteStore):
        file = store.location.removeprefix("sqlite:///")
        tamper("PRAGMA user_version = 11")
        SqliteStore.open(file).close()
    else:
        tamper("DELETE FROM schema_version WHERE version >= 6")
        migrate_store(request.getfixturevalue("database").owner)
    assert store.audit_verify().faults == ()
    assert [record.what for record in store.audit()[-2:]] == ["remarks", "snoozes"]
    assert store.audit_head().seq == head.seq - 1
    tamper(
        "INSERT INTO remarks (incident_id, by, at, text) "
        f"VALUES ('{incident(2).id}', 'x', '2026-01-01', 'first yes of two')"
    )
    assert any("remarks 2 was added past the log" in one for one in store.audit_verify().faults)


def test_migrating_once_more_logs_nothing(database: Database) -> None:
    """Else whoever empties the log, or slips a row past it, has it signed by the next migrate."""
    with closing(PostgresStore.open(database.app)) as store:
        everything(store)
        with_postgres(database.owner, "DELETE FROM audit")
        faults = store.audit_verify().faults
        migrate_store(database.owner)
        assert faults
        assert store.audit_verify().faults == faults
