"""What breaks while Postgres is used: clients, sessions, the server and its disk. Nothing is half
done, nothing committed is lost, and who asks is told what happened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from knowledge.errors import StoreUnusable
from knowledge.stores import postgres_engine
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_engine import Database as Engine
from knowledge.stores.postgres_schema import migrate
from tests import claim_worker
from tests.postgres_database import APP, PASSWORD, Database, answer, made, make_roles, new_name
from tests.postgres_server import PostgresServer, Run, own_server
from tests.samples import added, incident

SECONDS = 60  # far more than anything here takes

# Another process in the middle of a write; it says so, and ends it when it is told to.
WRITING = """
import sys
from knowledge.errors import StoreUnusable
from knowledge.stores import open_store, postgres_engine
from tests.samples import incident
from knowledge.stores import rows
postgres_engine.IDLE_SECONDS = float(sys.argv[2])
store = open_store(sys.argv[1])
try:
    with store._db.write():
        store._db.insert("incidents", rows.incident_params(incident(7)))
        print("writing", flush=True)
        sys.stdin.readline()
        store._db.insert("incidents", rows.incident_params(incident(8)))
    print("written")
except StoreUnusable as error:
    print(error.message)
"""


@pytest.fixture
def store(database: Database) -> Iterator[PostgresStore]:
    store = PostgresStore.open(database.app)
    yield store
    store.close()


@pytest.fixture(scope="module")
def server(run: Run) -> Iterator[PostgresServer]:
    """A server to break; who has broken it mends it."""
    with own_server(run, {}) as server:
        make_roles(server.dsn)
        yield server


@pytest.fixture
def own(server: PostgresServer) -> Iterator[Database]:
    """A knowledge base on the server to break."""
    with made(server.dsn, new_name()) as database:
        migrate(database.admin, APP)
        yield database


@pytest.fixture
def fragile(own: Database) -> Iterator[PostgresStore]:
    store = PostgresStore.open(own.app)
    yield store
    store.close()


@contextmanager
def somebody_writing(
    database: Database, idle_seconds: float = SECONDS
) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in the middle of a write now."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, database.app, str(idle_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def end_sessions(database: Database) -> None:
    """As an administrator does it, and a pooler or a firewall that has lost its patience."""
    with psycopg.connect(database.admin) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename = %s",
            [APP],
        )


def told(act: Callable[[], object], words: str) -> StoreUnusable:
    """It is refused in these words, with a hint, and without a password anywhere."""
    with pytest.raises(StoreUnusable, match=words) as caught:
        act()
    error = caught.value
    assert error.hint
    said = "".join(traceback.format_exception(error))
    assert PASSWORD not in f"{error.message} {error.hint} {error!r} {said}"
    return error


def write(store: PostgresStore, number: int, then: Callable[[], object] = lambda: None) -> None:
    """One incident, and something that happens before it is committed."""
    with store._db.write():
        store._db.insert("instances", {"name": f"i{number}", "url": "u"})
        then()
        store._db.rows("SELECT 1")


def names(store: PostgresStore) -> list[str]:
    with store._db.read():
        return [row["name"] for row in store._db.rows("SELECT name FROM instances ORDER BY name")]


# --- clients -----------------------------------------------------------------------------------


def test_a_client_that_is_killed_in_the_middle_of_a_write(
    store: PostgresStore, database: Database
) -> None:
    with somebody_writing(database) as other:
        other.kill()
        other.wait()
        added(store, incident(1))  # at once, though the other held the lock
    assert [case.incident for case in store.cases()] == [incident(1)]


def test_a_client_that_is_stopped_in_the_middle_of_a_write_keeps_nobody_from_theirs(
    store: PostgresStore, database: Database
) -> None:
    with somebody_writing(database, idle_seconds=0.5) as other:
        other.send_signal(signal.SIGSTOP)
        added(store, incident(1))
        other.send_signal(signal.SIGCONT)
        said, _ = other.communicate("go on\n", timeout=SECONDS)
    assert "rolled back what had stood still for too long" in said
    assert [case.incident for case in store.cases()] == [incident(1)]


def test_a_client_that_goes_on_in_time_writes_all_of_it(
    store: PostgresStore, database: Database
) -> None:
    with somebody_writing(database) as other:
        assert store.cases() == ()  # who reads waits for nobody
        assert other.communicate("go on\n", timeout=SECONDS)[0] == "written\n"
    assert len(store.cases()) == 2


def test_a_lock_held_too_long_is_told(
    store: PostgresStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_engine, "LOCK_SECONDS", 0.1)
    with somebody_writing(database) as other:
        told(lambda: store.add_incident(incident(1)), "is locked by another process")
        other.communicate("go on\n", timeout=SECONDS)
    with psycopg.connect(database.owner) as owner:
        owner.execute("LOCK TABLE aiops.incidents")  # as a migration does it
        told(store.cases, "is locked by another process")
        told(lambda: store.add_incident(incident(1)), "is locked by another process")
    added(store, incident(1))
    assert len(store.cases()) == 3


def test_killed_processes_never_act_twice_and_lose_nothing(
    store: PostgresStore, database: Database, tmp_path: Path
) -> None:
    every = [incident(number) for number in range(120)]
    added(store, *every)
    tally = claim_worker.run(
        database.app, tmp_path / "acts", processes=4, kills=3, stops=1, tries=120, seed=7
    )
    assert set(tally.acts.values()) == {1}
    assert tally.done | tally.needs_human == {one.id for one in every}
    assert not tally.done & tally.needs_human
    assert tally.done <= tally.acts.keys()
    assert len(tally.done) > 80
    assert store.audit_verify().faults == ()


# --- sessions ----------------------------------------------------------------------------------


def test_a_session_that_is_lost_between_transactions_is_not_noticed(
    store: PostgresStore, database: Database
) -> None:
    added(store, incident(0))
    end_sessions(database)
    assert len(store.cases()) == 1
    end_sessions(database)
    added(store, incident(1))
    assert len(store.cases()) == 2


@pytest.mark.parametrize("lost", ["ended by the server", "gone without a word"])
def test_a_session_that_is_lost_inside_a_transaction(
    store: PostgresStore, database: Database, lost: str
) -> None:
    def lose() -> None:
        if lost == "ended by the server":
            end_sessions(database)
        else:
            assert isinstance(store._db, Engine)
            _cut(store._db)

    write(store, 0)
    error = told(lambda: write(store, 1, lose), "cannot be reached")
    assert "wholly or not at all" in error.hint
    assert names(store) == ["i0"]
    write(store, 2)
    assert names(store) == ["i0", "i2"]


def _cut(engine: Engine) -> None:
    """The network is gone: both directions."""
    with socket.socket(fileno=os.dup(engine._connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def test_ctrl_c_while_a_statement_runs(store: PostgresStore, database: Database) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    def once_it_runs() -> None:
        running = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
        while not answer(database.admin, running):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)  # SIGALRM belongs to the tests' own timeout

    before = signal.signal(signal.SIGUSR1, interrupt)
    started = time.monotonic()
    somebody = Thread(target=once_it_runs)
    somebody.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            write(store, 1, partial(store._db.rows, "SELECT pg_sleep(60)"))
    finally:
        signal.signal(signal.SIGUSR1, before)
        somebody.join()
    assert time.monotonic() - started < SECONDS / 2
    write(store, 2)
    assert names(store) == ["i2"]


def test_a_statement_that_takes_longer_than_the_role_may(database: Database) -> None:
    with psycopg.connect(database.admin) as connection:
        limit = f"ALTER ROLE {APP} IN DATABASE {database.name} SET statement_timeout = '50ms'"
        connection.execute(limit.encode())
    with closing(PostgresStore.open(database.app)) as store:
        slow = partial(store._db.rows, "SELECT pg_sleep(60)")
        told(partial(write, store, 1, slow), "took too long")
        write(store, 2)
        assert names(store) == ["i2"]


# --- reaching it -------------------------------------------------------------------------------


def test_an_unknown_database_and_an_unknown_role(database: Database) -> None:
    for place in ({"dbname": "nowhere"}, {"user": "nobody-here"}):
        dsn = psycopg.conninfo.make_conninfo(database.app, **place)
        told(partial(PostgresStore.open, dsn), "does not exist")


def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_engine, "CONNECT_SECONDS", 2)  # the least there is
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        told(
            lambda: PostgresStore.open(f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/kb"),
            f"postgresql://me@127.0.0.1:{port}/kb cannot be reached",
        )
    assert time.monotonic() - started < SECONDS / 2


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    dsn = f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/kb"
    told(lambda: PostgresStore.open(dsn), "[Cc]onnection refused")
    told(lambda: migrate(dsn), "[Cc]onnection refused")


def test_too_many_connections(store: PostgresStore, database: Database) -> None:
    with psycopg.connect(database.owner) as connection:
        limit = f"ALTER DATABASE {database.name} CONNECTION LIMIT 1"
        connection.execute(limit.encode())
    told(lambda: PostgresStore.open(database.app), "too many connections")
    assert store.cases() == ()  # who is in stays in


def test_a_wrong_password(own: Database, server: PostgresServer) -> None:
    rules = server.folder / "data" / "pg_hba.conf"
    trusted = rules.read_text()

    def obey(text: str) -> None:
        rules.write_text(text)
        with psycopg.connect(server.dsn) as connection:
            connection.execute("SELECT pg_reload_conf()")

    obey("local all postgres trust\nlocal all all scram-sha-256\n")
    try:
        deadline = time.monotonic() + SECONDS
        wrong = psycopg.conninfo.make_conninfo(own.app, password=f"not {PASSWORD}")
        while True:  # the server reads its rules in its own time
            try:
                PostgresStore.open(wrong).close()
            except StoreUnusable:
                break
            assert time.monotonic() < deadline
        told(lambda: PostgresStore.open(wrong), "password authentication failed")
        PostgresStore.open(own.app).close()
    finally:
        obey(trusted)


# --- a database that cannot be written ---------------------------------------------------------


def read_only(store: PostgresStore) -> None:
    """It can be read, and says that it cannot be written."""
    assert [case.incident for case in store.cases()] == [incident(0)]
    assert store.find_text(["x"], 5) == ()
    error = told(lambda: store.add_incident(incident(1)), "cannot be written: it is read-only")
    assert "primary" in error.hint
    assert len(store.cases()) == 1


def test_a_database_that_is_set_read_only(store: PostgresStore, database: Database) -> None:
    added(store, incident(0))
    with psycopg.connect(database.admin) as connection:
        setting = f"ALTER DATABASE {database.name} SET default_transaction_read_only = on"
        connection.execute(setting.encode())
    with closing(PostgresStore.open(database.app)) as again:
        read_only(again)


def test_a_hot_standby(fragile: PostgresStore, own: Database, server: PostgresServer) -> None:
    added(fragile, incident(0))
    mark = server.folder / "data" / "standby.signal"
    server.stop()
    mark.touch()
    server.start()
    try:
        read_only(fragile)  # as one that was the primary a moment ago
        with closing(PostgresStore.open(own.app)) as again:
            read_only(again)
    finally:
        server.stop()
        mark.unlink()
        server.start()
    added(fragile, incident(1))


# --- the server --------------------------------------------------------------------------------


def test_a_server_that_is_killed_in_the_middle_of_a_write(
    fragile: PostgresStore, server: PostgresServer
) -> None:
    write(fragile, 0)
    told(lambda: write(fragile, 1, server.kill), "cannot be reached")
    told(fragile.cases, "cannot be reached")
    server.start()
    assert names(fragile) == ["i0"]
    write(fragile, 2)
    assert names(fragile) == ["i0", "i2"]


def test_a_server_that_is_stopped_for_a_while(
    fragile: PostgresStore, server: PostgresServer
) -> None:
    write(fragile, 0)
    server.stop()
    for _ in range(2):
        told(fragile.cases, "cannot be reached")
        told(lambda: write(fragile, 1), "cannot be reached")
    server.start()
    write(fragile, 2)
    assert names(fragile) == ["i0", "i2"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the files of others")
def test_a_full_disk_loses_nothing(own: Database, server: PostgresServer) -> None:
    # Noise, for what can be compressed needs no room.
    big = {"text": os.urandom(3 << 20).hex()}
    with closing(PostgresStore.open(own.app)) as store:
        added(store, incident(0))
    server.limit_files(2 << 20)
    try:
        with closing(PostgresStore.open(own.app)) as store:
            told(lambda: store.add_incident(incident(1, context=big)), "could not extend file")
            assert [case.incident for case in store.cases()] == [incident(0)]
            added(store, incident(2))  # what has room is written
    finally:
        server.limit_files(None)
    with closing(PostgresStore.open(own.app)) as store:
        assert store.add_incident(incident(1, context=big))
        assert len(store.cases()) == 3


def test_a_full_disk_is_told_as_such() -> None:
    def full() -> None:
        with postgres_engine.usable("postgresql://db/kb"):
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")

    told(full, "cannot grow: its disk is full")
