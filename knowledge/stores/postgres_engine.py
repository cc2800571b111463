"""One Postgres database: reached, brought up to date by its owner, and used in transactions.

No session state: each transaction says for itself what it needs, and values are merged into the
statements here (psycopg's ClientCursor), so that a pooler may give every transaction another
session. psycopg is imported in here only when such a database is opened.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from knowledge.errors import StoreUnusable
from knowledge.stores.engine import Listed, Values

if TYPE_CHECKING:
    import psycopg

SCHEMA = "aiops"

CONNECT_SECONDS = 5
LOCK_SECONDS = 20
# A client that was stopped in the middle of a write must not keep the others from theirs.
IDLE_SECONDS = 10
# An entry has a few kilobytes: a statement stays far below the server's limit of 1 GB.
ROWS_AT_ONCE = 500

# The advisory locks that make writers take turns ("aiop"), and those who make an index.
_WRITERS = 0x61696F70
_INDEXERS = _WRITERS + 1

_PLACE = re.compile(r"(?<![:\w]):([a-z_]\w*)")

# Our own schema and the one that the extension lies in, whatever the role's search_path is; a
# backslash is one; and no query is compiled first, which from some thousand incidents on the server
# would do with some, and which takes longer than they do.
SETTINGS = (
    "SET LOCAL standard_conforming_strings = on; SET LOCAL jit = off;"
    f"SELECT set_config('search_path', concat_ws(', ', '{SCHEMA}', (SELECT "
    "extnamespace::regnamespace FROM pg_extension WHERE extname = 'vector')), true);"
)


def _reading() -> str:
    return (
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {SETTINGS}"
        f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"
    )


def _writing() -> str:
    # READ COMMITTED, so that what is read behind the lock is what the writer before has committed.
    # synchronous_commit, for a claim that a power cut takes back is an act done twice.
    return (
        f"BEGIN ISOLATION LEVEL READ COMMITTED; {SETTINGS}"
        "SET LOCAL synchronous_commit = on;"
        f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s';"
        f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s';"
        f"SELECT pg_advisory_xact_lock({_WRITERS})"
    )


def _migrating(turns: int) -> str:
    # Whoever has his turn is waited for: the index of many vectors takes minutes. Nobody else is,
    # for all who come to a table that somebody waits for wait behind him.
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED;"
        f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s';"
        "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;"
        f"SELECT pg_advisory_xact_lock({turns});"
        f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; {SETTINGS}"
    )


class Database:
    """See `knowledge.stores.engine.Engine`.

    A connection that was lost is made anew when the next transaction begins; what was being
    written when it was lost is told as unusable, and was either written wholly or not at all."""

    def __init__(self, dsn: str, where: str) -> None:
        self._dsn = dsn
        self.location = where
        self._connection = connect(dsn)
        self._lock = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._transaction(_writing()):
            yield

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._transaction(_reading()):
            yield

    @contextmanager
    def migration(self) -> Iterator[None]:
        """One transaction that changes the schema, while nobody else writes."""
        with self._transaction(_migrating(_WRITERS)):
            yield

    @contextmanager
    def indexing(self) -> Iterator[None]:
        """One transaction that makes an index. Others write meanwhile, but to the table of it."""
        with self._transaction(_migrating(_INDEXERS)):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with self._lock, usable(self.location):
            try:
                self._begin(begin)
                yield
                self._execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _begin(self, begin: str) -> None:
        """Nothing has been done yet, so a connection that was lost meanwhile may be made anew."""
        import psycopg

        try:
            self._execute(begin)
        except psycopg.OperationalError:
            if self._roll_back():  # refused, not lost
                raise
            self._connection = connect(self._dsn)
            self._execute(begin)

    def _roll_back(self) -> bool:
        """Whether the server answers. What a lost connection has begun, it rolls back by itself."""
        import psycopg

        try:
            self._execute("ROLLBACK")
        except psycopg.Error:
            self._connection.close()
            return False
        return True

    def _execute(self, statements: str) -> None:
        self._connection.execute(statements.encode())

    def script(self, statements: str) -> None:
        """Several statements without values."""
        self._execute(statements)

    def rows(self, sql: str, values: Values = ()) -> list[dict[str, Any]]:
        cursor = self._connection.execute(_translated(sql), _storable(values))
        return list(cursor.fetchall()) if cursor.description else []

    def row(self, sql: str, values: Values = ()) -> dict[str, Any] | None:
        return next(iter(self.rows(sql, values)), None)

    def insert(self, table: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return self.insert_all(table, [values])[0]

    def insert_all(self, table: str, several: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Many rows a statement, for each one waits for the network. What VALUES lists is taken,
        numbered and returned in its order."""
        inserted: list[dict[str, Any]] = []
        for start in range(0, len(several), ROWS_AT_ONCE):
            part = several[start : start + ROWS_AT_ONCE]
            statement = _insertion(table, tuple(part[0]), len(part))
            inserted += self.rows(statement, [value for row in part for value in row.values()])
        return inserted

    def among(self, column: str, listed: str, kind: Listed = "text") -> str:
        return f"{column} = ANY ({listed}::{kind}[])"

    def each(self, listed: str) -> str:
        return f"unnest({listed}::text[]) AS each (value)"

    def fits(self, column: str, glob: str) -> str:
        # LIKE's own special characters first, then ours become them; a "?" would be a place.
        escaped = glob
        for plain in ("\\", "%", "_"):
            escaped = f"replace({escaped}, '{plain}', '\\{plain}')"
        return f"{column} LIKE translate({escaped}, '*' || chr(63), '%_')"

    def json_at(self, column: str, *path: str) -> str:
        # json reads nothing of a text with a NUL or half a surrogate pair anywhere. They go, and
        # with them escaped backslashes, behind which a letter would look like one.
        readable = f"regexp_replace({column}, '\\\\{{2}}|\\\\u(0000|d[89a-f]..)', '', 'g')"
        return f"{readable}::json #>> '{{{','.join(path)}}}'"

    def now(self) -> datetime:
        """The server's clock, which all who share the database go by. Inside a transaction."""
        found = self.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now")
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=found[0]["now"])

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def location(dsn: str) -> str:
    """The database as a person may see it: no password, no options. Raises StoreUnusable."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        named = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    except (ProgrammingError, UnicodeDecodeError):  # which may quote the password
        named = {"host": "@@"}
    user, host, port, name = (named.get(key, "") for key in ("user", "host", "port", "dbname"))
    # A password with an @ or a / in it runs on into the parts that are shown.
    if "@" in host[1:] + name or (port and not port.replace(",", "").isdigit()):
        raise StoreUnusable(
            "knowledge base postgresql://…: the address cannot be read",
            "write AIOPS_KB as postgresql://user:password@host:5432/database, in the password "
            "%40 for @ and %2F for /",
        )
    return f"postgresql://{user}{'@' * bool(user)}{host}{':' * bool(port)}{port}/{name}"


def reach(dsn: str) -> Database:
    """Raises StoreUnusable."""
    from psycopg import ProgrammingError

    where = location(dsn)
    with usable(where):
        try:
            return Database(dsn, where)
        except ProgrammingError as error:
            raise StoreUnusable(
                f"knowledge base {where} cannot be asked for so ({first_line(error)})",
                "correct what follows the ? in AIOPS_KB",
            ) from error


def connect(dsn: str) -> psycopg.Connection[dict[str, Any]]:
    """A connection of its own, which gives up on a server that does not answer."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.rows import dict_row

    given = conninfo_to_dict(dsn)
    ours: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "aiops",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return psycopg.connect(
        dsn,
        autocommit=True,  # BEGIN is ours
        cursor_factory=psycopg.ClientCursor,  # prepares nothing: a pooler would lose it
        row_factory=dict_row,
        client_encoding="utf8",  # whatever the role's or the environment's is
        **{name: value for name, value in ours.items() if name not in given},
    )


@contextmanager
def usable(where: str) -> Iterator[None]:
    """Turns what Postgres says of a database that cannot be used into StoreUnusable. Everything
    else (a broken constraint, a wrong statement) is a bug and passes."""
    import psycopg
    from psycopg import errors

    words: tuple[tuple[type[psycopg.Error], str, str], ...] = (
        (
            errors.LockNotAvailable,
            "is locked by another process",
            "try again when that has ended; pg_stat_activity names it",
        ),
        (
            errors.InsufficientPrivilege,
            "may not be used so by this role",
            "its owner runs: aiops kb migrate --role ROLE",
        ),
        (
            errors.ReadOnlySqlTransaction,
            "cannot be written: it is read-only",
            "name the primary server, not a replica",
        ),
        (errors.DiskFull, "cannot grow: its disk is full", "free some space; nothing was lost"),
        (errors.OutOfMemory, "is out of memory", "try again when the server has less to do"),
        (errors.QueryCanceled, "took too long", "try again; the role has a statement_timeout"),
        (
            errors.IdleInTransactionSessionTimeout,
            "rolled back what had stood still for too long",
            "try again; nothing of it was written",
        ),
        (errors.SerializationFailure, "was being changed meanwhile", "try again"),
        (errors.DeadlockDetected, "was being changed meanwhile", "try again"),
        (errors.ProgramLimitExceeded, "cannot hold this", "nothing of it was written"),
        (errors.UndefinedTable, "has lost tables", "restore a backup, or migrate a new database"),
        (errors.DataCorrupted, "is damaged", "restore a backup"),
        (errors.IndexCorrupted, "is damaged", "its owner runs: REINDEX DATABASE"),
        # Among others a file that cannot grow for another reason than a full disk.
        (
            errors.InternalError_,
            "has failed",
            "see the server's log; what was being written was rolled back",
        ),
        # Cannot be reached, was shut down, has no room for one more, refused the login, …
        (
            psycopg.OperationalError,
            "cannot be reached",
            "check that it runs, and the login in AIOPS_KB; what was being written is there "
            "wholly or not at all",
        ),
        (psycopg.InterfaceError, "cannot be reached", "check that it runs, and AIOPS_KB"),
    )
    try:
        yield
    except psycopg.Error as error:
        for kind, what, hint in words:
            if isinstance(error, kind):
                raise StoreUnusable(
                    f"knowledge base {where} {what} ({first_line(error)})", hint
                ) from error
        raise


def first_line(error: Exception) -> str:
    """The first line of what the server says, which for some errors has many."""
    return str(error).strip().partition("\n")[0]


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    """`:name` and `?` as psycopg has them."""
    places = _PLACE.sub(r"%(\1)s", sql.replace("%", "%%"))
    return places.replace("?", "%s").encode()


@lru_cache(maxsize=64)
def _insertion(table: str, columns: tuple[str, ...], rows: int) -> str:
    named = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join("?" for _ in columns)
    several = ", ".join([f"({places})"] * rows)
    return f"INSERT INTO {table} ({named}) VALUES {several} RETURNING *"


def _storable(values: Values) -> Values:
    if isinstance(values, Mapping):
        return {name: _storable_value(value) for name, value in values.items()}
    return [_storable_value(value) for value in values]


def _storable_value(value: Any) -> Any:
    """Text that the server can hold: no lone surrogates, which arguments of a shell and logs may
    carry, and no NUL."""
    if isinstance(value, list):
        return [_storable_value(one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return value
