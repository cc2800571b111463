"""What breaks while a file is used: clients, the disk, rights, damage. Nothing is half done,
nothing committed is lost, and who asks is told what happened. For Postgres:
test_postgres_faults.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from knowledge.errors import StoreUnusable
from knowledge.stores import sqlite_engine
from knowledge.stores.sqlite import SqliteStore
from tests import claim_worker
from tests.samples import added, fill, incident

SECONDS = 60  # far more than anything here takes

# Another process in the middle of a write, some of which is in the file already.
WRITING = """
import sys
from knowledge.stores import open_store, rows
from tests.samples import incident
store = open_store(sys.argv[1])
with store._db.write():
    store._db.insert("incidents", rows.incident_params(incident(7, context={"x": "x" * 8_000_000})))
    print("writing", flush=True)
    sys.stdin.readline()
"""

# One that finds the disk full from a file of 4 MiB on, and goes on.
FULL = """
import resource, sys
from knowledge.errors import StoreUnusable
from knowledge.stores import open_store
from tests.samples import incident
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
store = open_store(sys.argv[1])
try:
    store.add_incident(incident(1, context={"x": "x" * 8_000_000}))
except StoreUnusable as error:
    print(error.message, error.hint, sep="; ")
print(len(store.cases()), store.add_incident(incident(2)))
"""

# One that reads and writes, as somebody whom the rights of files bind: root gives up that they
# do not (prctl 24 is PR_CAPBSET_DROP, 1 is CAP_DAC_OVERRIDE), which begins with the next program.
BOUND = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1); os.execv(sys.argv[1], sys.argv[1:])"
)
READING = """
import sys
from knowledge.errors import StoreUnusable
from knowledge.stores import open_store
from tests.samples import incident, unit
try:
    store = open_store(sys.argv[1])
    found = store.find_text(["x"], 5), store.find_vector(unit(1, 0, 0), 5)
    print("read", len(store.cases()), *map(len, found))
    store.add_incident(incident(7))
except StoreUnusable as error:
    print(error.message, error.hint, sep="; ")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb" / "knowledge.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(str(path))
    yield store
    store.close()


def said(code: str, path: Path, *before: str) -> list[str]:
    """What another process that runs this code on the file prints."""
    command = [*before, sys.executable, "-c", code, f"sqlite:///{path}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS)
    return done.stdout.splitlines()


# --- clients -----------------------------------------------------------------------------------


def test_a_client_that_is_killed_in_the_middle_of_a_write(store: SqliteStore, path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    before = log.stat().st_size
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, f"sqlite:///{path}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "writing\n"
            assert log.stat().st_size > before + 1_000_000, "half of it is in the file"
        finally:
            other.kill()
    added(store, incident(1))  # at once, though the other held the lock
    assert [case.incident for case in store.cases()] == [incident(1)]
    with store._db.read():
        assert store._db.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_lock_held_too_long_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_MS", 20)
    store = SqliteStore.open(str(path))
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnusable, match="locked by another process"):
        store.add_incident(incident())
    assert store.cases() == ()
    other.execute("ROLLBACK")
    assert store.add_incident(incident())
    other.close()
    store.close()


def test_killed_processes_never_act_twice_and_lose_nothing(path: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(str(path))
    every = [incident(number) for number in range(200)]
    added(store, *every)
    store.close()
    tally = claim_worker.run(
        f"sqlite:///{path}", tmp_path / "acts", processes=4, kills=6, stops=1, tries=200, seed=7
    )
    assert set(tally.acts.values()) == {1}
    assert tally.done | tally.needs_human == {one.id for one in every}
    assert not tally.done & tally.needs_human
    assert tally.done <= tally.acts.keys()
    assert len(tally.done) > 150
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_transaction_that_ctrl_c_left_open_is_given_up(store: SqliteStore) -> None:
    """It may come right behind BEGIN, where nothing stands ready to end it."""
    connection = store._db._connection  # type: ignore[attr-defined]  # as an interrupt leaves it
    connection.execute("BEGIN IMMEDIATE; INSERT INTO marks (name, value) VALUES ('half', 'done')")
    store.set_mark("whole", "done")
    assert (store.mark("half"), store.mark("whole")) == (None, "done")


def test_a_transaction_that_is_collected_after_its_connection_is_no_error(tmp_path: Path) -> None:
    """Ctrl-C came between its beginning and the `with`: Python would print a traceback."""
    connection = apsw.Connection(str(tmp_path / "some.db"))
    begun = sqlite_engine.transaction(connection, "BEGIN IMMEDIATE").gen
    next(begun)
    connection.close()
    begun.close()


def test_a_transaction_inside_another_is_refused_and_ends_both(store: SqliteStore) -> None:
    with pytest.raises(apsw.SQLError, match="within a transaction"), store._db.write():
        store.set_mark("inner", "done")
    assert store.mark("inner") is None


def test_an_interrupted_write_leaves_nothing(store: SqliteStore) -> None:
    def interrupted() -> None:
        with store._db.write():
            store._db.insert("instances", {"name": "x", "url": "y"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    store.bind_instance("x", "http://other")


# --- a file that cannot be written -------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="tested where it is known what happens")
def test_a_disk_without_room_loses_nothing(store: SqliteStore, path: Path) -> None:
    added(store, incident(0))
    told, goes_on = said(FULL, path)
    assert "cannot be read or written" in told
    assert "that it has room" in told
    assert goes_on == "1 True", "what has room is written"
    assert {case.incident.task_id for case in store.cases()} == {"t0", "t2"}
    assert store.add_incident(incident(1))


def test_a_full_disk_is_told_as_such(store: SqliteStore) -> None:
    added(store, incident(0))
    with store._db.read():
        pages = store._db.rows("PRAGMA page_count")[0]["page_count"]
        store._db.rows(f"PRAGMA max_page_count = {pages}")
    big = {"text": "x" * 1_000_000}
    with pytest.raises(StoreUnusable, match="full"):
        store.add_incident(incident(1, context=big))
    assert [case.incident for case in store.cases()] == [incident(0)]
    with store._db.read():
        store._db.rows("PRAGMA max_page_count = 1000000")
    assert store.add_incident(incident(1, context=big))


@pytest.mark.skipif(sys.platform != "linux", reason="root may write anywhere elsewhere")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_must_not_be_written_is_told(store: SqliteStore, path: Path, what: str) -> None:
    """In a folder that must not be written SQLite cannot even read: its locks need a file there."""
    fill(store)
    store.close()
    locked = path if what == "file" else path.parent
    mode = locked.stat().st_mode
    locked.chmod(mode & ~0o222)
    try:
        *read, told = said(READING, path, sys.executable, "-c", BOUND)
    finally:
        locked.chmod(mode)
    assert read == (["read 2 1 1"] if what == "file" else [])
    assert "cannot be written" in told
    assert "rights of the file and its folder" in told
    with_rights = SqliteStore.open(str(path))
    assert len(with_rights.cases()) == 2
    with_rights.close()


@pytest.mark.skipif(sys.platform != "linux", reason="as above")
def test_a_folder_without_the_right_to_write_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        [told] = said(READING, tmp_path / "kb" / "knowledge.db", sys.executable, "-c", BOUND)
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be made" in told


@pytest.mark.parametrize(
    "place", ["file/knowledge.db", "file/below/knowledge.db", "folder", "\0", "x" * 300]
)
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("here already")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreUnusable) as caught:
        SqliteStore.open(str(tmp_path / place))
    assert caught.value.hint
    assert (tmp_path / "file").read_text() == "here already"


# --- damage ------------------------------------------------------------------------------------


def test_a_damaged_page_is_told(store: SqliteStore, path: Path) -> None:
    fill(store)
    store.close()
    content = bytearray(path.read_bytes())
    content[16384:] = b"\xff" * (len(content) - 16384)
    path.write_bytes(content)
    with pytest.raises(StoreUnusable, match="damaged"):
        SqliteStore.open(str(path)).cases()


def test_a_cut_file_is_told(store: SqliteStore, path: Path) -> None:
    fill(store)
    store.close()
    path.write_bytes(path.read_bytes()[: 16384 * 2])
    with pytest.raises(StoreUnusable):
        SqliteStore.open(str(path)).cases()
