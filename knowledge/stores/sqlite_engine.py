"""One SQLite file: opened safely, brought up to date, and used in transactions.

apsw is the driver because many interpreters' own sqlite3 can neither load sqlite-vec nor is free
of the WAL-reset bug of SQLite before 3.51.3. It is imported in here only when a file is opened.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.errors import SchemaTooNew, StoreUnusable
from knowledge.stores.engine import Listed, Values

if TYPE_CHECKING:
    import apsw

MIGRATIONS = Path(__file__).parent / "migrations" / "sqlite"
APPLICATION_ID = 0x61696F70  # "aiop", in the file's header: tells our files from others'
BUSY_TIMEOUT_MS = 15_000

# 16 KB pages and mmap make a vector scan about a third cheaper (measured at 100,000 rows).
PAGE_SIZE = 16_384
MMAP_SIZE = 1 << 30
SCRATCH_KB = 32_000


class Database:
    """See `knowledge.stores.engine.Engine`."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.RLock()
        self._inside = False  # a transaction that somebody will end
        self._vectors_loaded = False

    @contextmanager
    def write(self) -> Iterator[None]:
        # IMMEDIATE, because a read that turns into a write fails at once under contention; the
        # busy timeout only helps whoever asks for the write lock first.
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock, usable(self._path):
            if self._connection.in_transaction and not self._inside:
                # Ctrl-C came between a BEGIN and what would have ended it.
                self._connection.execute("ROLLBACK")
            with transaction(self._connection, begin):
                self._inside = True
                try:
                    yield
                finally:
                    self._inside = False

    def rows(self, sql: str, values: Values = ()) -> list[dict[str, Any]]:
        cursor = self._connection.execute(sql, _storable(values))
        names: list[str] = []
        result = []
        for row in cursor:
            names = names or [column[0] for column in cursor.get_description()]
            result.append(dict(zip(names, row, strict=True)))
        return result

    def row(self, sql: str, values: Values = ()) -> dict[str, Any] | None:
        return next(iter(self.rows(sql, values)), None)

    def insert(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        columns = ", ".join(f'"{name}"' for name in values)
        places = ", ".join(f":{name}" for name in values)
        # Names of tables and columns come from this package, values are bound.
        return self.rows(f"INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING *", values)[
            0
        ]

    def insert_all(self, table: str, several: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [self.insert(table, values) for values in several]

    def among(self, column: str, listed: str, kind: Listed = "text") -> str:  # noqa: ARG002 (JSON)
        return f"{column} IN (SELECT value FROM {self.each(listed)})"

    def each(self, listed: str) -> str:
        return f"json_each({listed})"

    def fits(self, column: str, glob: str) -> str:
        # As rules.glob_pattern does it.
        return f"{column} GLOB replace({glob}, '[', '[[]')"

    def json_at(self, column: str, *path: str) -> str:
        steps = "".join(f"[{step}]" if step.isdigit() else f".{step}" for step in path)
        return f"json_extract({column}, '${steps}')"

    def load_vectors(self) -> None:
        """Make vec0 tables usable. Raises StoreUnusable where sqlite-vec cannot be loaded."""
        if self._vectors_loaded:
            return
        import apsw
        import sqlite_vec  # imports the interpreter's sqlite3: 20 ms that few commands need

        self._connection.enable_load_extension(True)
        try:
            self._connection.load_extension(sqlite_vec.loadable_path())
        except apsw.ExtensionLoadingError as error:
            raise StoreUnusable(
                f"sqlite-vec cannot be loaded: {error}", "reinstall it: pip install -U sqlite-vec"
            ) from error
        finally:
            self._connection.enable_load_extension(False)
        self._vectors_loaded = True

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def open_database(
    path: Path,
    migrations: Path = MIGRATIONS,
    upgraded: Callable[[Database], None] = lambda _: None,
) -> Database:
    """Open the file, made and brought up to date where needed; its folder is made private.
    `upgraded` finishes an upgrade, in its transaction.

    Raises StoreUnusable, or SchemaTooNew for a file that a newer program has written; neither
    changes the file."""
    import apsw  # 3 ms and a shared library that --help does not need

    _make_private(path)
    with usable(path):
        connection = apsw.Connection(str(path))
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            _upgrade(connection, path, migrations, upgraded)
            connection.execute(
                "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;"
                f"PRAGMA mmap_size = {MMAP_SIZE}"
            )
        except BaseException:
            connection.close()
            raise
    return Database(connection, path)


def open_in_memory() -> Database:
    """A database with all tables that nobody else can open. What is more than SCRATCH_KB lies in a
    file without a name, which SQLite makes and which ends with the connection."""
    import apsw  # as in open_database

    path = Path(":memory:")
    connection = apsw.Connection("")
    _upgrade(connection, path, MIGRATIONS, lambda _: None)
    connection.execute(
        f"PRAGMA foreign_keys = ON; PRAGMA journal_mode = MEMORY; PRAGMA cache_size = -{SCRATCH_KB}"
    )
    return Database(connection, path)


@contextmanager
def transaction(connection: apsw.Connection, begin: str) -> Iterator[None]:
    """Committed at the end, rolled back on any exception."""
    import apsw  # as in open_database

    try:
        connection.execute(begin)
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Ctrl-C may come when this has begun and the `with` has not: it ends when it is collected,
        # perhaps after the connection, which rolls back by itself.
        with suppress(apsw.ConnectionClosedError):
            # A full disk or a lost file ends the transaction by itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turns what SQLite says of an unusable file into StoreUnusable. Everything else (a broken
    constraint, a wrong statement) is a bug and passes."""
    import apsw

    words: tuple[tuple[type[Exception], str, str], ...] = (
        (apsw.NotADBError, "is not a knowledge base", "name another file, or move this one away"),
        (
            apsw.CorruptError,
            "is damaged",
            f"restore a copy ({path.name}.bak-…), or move it away and seed anew",
        ),
        (apsw.BusyError, "is locked by another process", "try again when that has ended"),
        (apsw.LockedError, "is locked by another process", "try again when that has ended"),
        (
            apsw.ReadOnlyError,
            "cannot be written",
            "check the rights of the file and its folder",
        ),
        (apsw.PermissionsError, "cannot be used", "check its owner and rights"),
        (apsw.AuthError, "cannot be used", "check its owner and rights"),
        (apsw.CantOpenError, "cannot be opened", "check the folder and its rights"),
        (apsw.FullError, "cannot grow: the disk is full", "free some space; nothing was lost"),
        (
            apsw.IOError,  # a quota that is used up, too: SQLite takes only ENOSPC for a full disk
            "cannot be read or written",
            "check the disk: that it has room, and is a local one",
        ),
        (apsw.ProtocolError, "cannot be locked", "keep it on a local disk, not on a network one"),
    )
    try:
        yield
    except apsw.Error as error:
        for kind, what, hint in words:
            if isinstance(error, kind):
                raise StoreUnusable(f"knowledge base {path} {what} ({error})", hint) from error
        raise


def _storable(values: Values) -> Values:
    if isinstance(values, Mapping):
        return {name: _storable_value(value) for name, value in values.items()}
    return [_storable_value(value) for value in values]


def _storable_value(value: Any) -> Any:
    """Lists as JSON, and text that UTF-8 can hold: arguments of a shell and logs may carry lone
    surrogates."""
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _make_private(path: Path) -> None:
    """Make the folder and an empty file that nobody else may read: log excerpts are in it."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # O_EXCL: a file that is there is left to SQLite, for closing a second descriptor of an
        # open database drops its locks.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not path.parent.is_dir():
            raise StoreUnusable(
                f"knowledge base {path}: {path.parent} is not a folder", "name another place"
            ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise StoreUnusable(
            f"knowledge base {path} cannot be made: {getattr(error, 'strerror', error)}",
            "check the folder and its rights, or name another place",
        ) from error


def _upgrade(
    connection: apsw.Connection,
    path: Path,
    folder: Path,
    upgraded: Callable[[Database], None],
) -> None:
    """Apply the migrations that are missing, all in one transaction, after a backup."""
    steps = {int(file.name[:4]): file for file in sorted(folder.glob("[0-9]*.sql"))}
    newest = max(steps)
    with transaction(connection, "BEGIN"):
        if _version(connection, path, newest) == newest:
            return
    _turn_on_wal(connection)
    with transaction(connection, "BEGIN IMMEDIATE"):
        version = _version(connection, path, newest)  # another process may have been faster
        if 0 < version < newest:
            _back_up(path, version)
        for number in range(version + 1, newest + 1):
            connection.execute(steps[number].read_text(encoding="utf-8"))
        connection.execute(
            f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}"
        )
        if 0 < version < newest:
            upgraded(Database(connection, path))


def _turn_on_wal(connection: apsw.Connection) -> None:
    """WAL, and larger pages where the file is still empty; neither works inside a transaction.

    The busy timeout does not hold for this step, and several processes may make the file."""
    import apsw

    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}; PRAGMA journal_mode = WAL")
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _version(connection: apsw.Connection, path: Path, newest: int) -> int:
    """The file's schema version, 0 for an empty file. Called in a transaction, so that what it
    reads is of one moment. Raises StoreUnusable for a file of another program, SchemaTooNew for
    one of a newer version of this one."""
    version = int(connection.pragma("user_version"))
    if connection.pragma("application_id") != APPLICATION_ID:
        if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall():
            raise StoreUnusable(f"{path} is the database of another program", "name another file")
        return 0
    if version > newest:
        raise SchemaTooNew(
            f"knowledge base {path} was written by a newer aiops "
            f"(schema {version}, this one knows {newest})",
            "upgrade aiops on this machine",
        )
    return version


def _back_up(path: Path, version: int) -> None:
    """Copy what is committed to `<path>.bak-<version>`, whole or not at all."""
    import apsw

    target = path.with_name(f"{path.name}.bak-{version}")
    part = path.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    source, copy = apsw.Connection(str(path)), apsw.Connection(str(part))
    try:
        with copy.backup("main", source, "main") as backup:
            backup.step()
    finally:
        copy.close()
        source.close()
    part.replace(target)
