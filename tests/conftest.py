"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from knowledge.stores import Store
from knowledge.stores.memory import MemoryStore
from knowledge.stores.postgres import PostgresStore
from knowledge.stores.postgres_schema import migrate
from knowledge.stores.sqlite import SqliteStore
from tests import pgbouncer as bouncer
from tests.airflow_server import AirflowServer
from tests.cli import Cli, make
from tests.desk import REFUSED
from tests.postgres_database import APP, Database, made, make_roles, new_name, template
from tests.postgres_server import PostgresServer, Run, open_run, own_server, shared_server
from tests.samples import SetClock

# A busy machine is no reason to fail. Where a change is gated, the same examples are tried every
# time: what a new one finds must not stop somebody else's change; everywhere else they differ.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("gate", settings.get_profile("here"), derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "here")


@pytest.fixture
def store_clock() -> SetClock:
    """The clock of the `store` fixture; it stands still until a test moves it."""
    return SetClock()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path, store_clock: SetClock) -> Iterator[Store]:
    """An empty store of each kind; the one in Postgres as the program's own role."""
    made: Store
    if request.param == "memory":
        made = MemoryStore(store_clock.now)
    elif request.param == "sqlite":
        made = SqliteStore.open(str(tmp_path / "kb" / "knowledge.db"), store_clock.now)
    else:
        made = PostgresStore.open(request.getfixturevalue("database").app, store_clock.now)
    yield made
    made.close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What the command line does, it does on both stores."""
    if "kept_in" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2].startswith("test_cli")
        only = next(metafunc.definition.iter_markers("file_only"), None)
        kinds = ["sqlite", "postgres"] if both and only is None else ["sqlite"]
        metafunc.parametrize("kept_in", kinds, ids=kinds if len(kinds) > 1 else [""])


@pytest.fixture
def cli(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> Iterator[Cli]:
    """The command line of somebody whose machine and Airflow are made for this test."""
    with AirflowServer() as server:
        made = make(server, tmp_path, monkeypatch)
        if kept_in == "postgres":
            made.environ["AIOPS_KB"] = request.getfixturevalue("database").app
        yield made
    reports = list(tmp_path.rglob("bug-*.txt"))
    assert reports == [], reports[0].read_text()  # nothing that a test does may end as a bug


@pytest.fixture
def waiting(cli: Cli) -> str:
    """The id of an incident that waits for a person; nobody has answered it before."""
    return cli.capture("orders", events=[REFUSED])


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, testrun_uid: str) -> Run:
    """This test run. It ends with the process that was called, whose children the workers are."""
    worker = hasattr(request.config, "workerinput")
    return Run(testrun_uid, os.getppid() if worker else os.getpid())


@pytest.fixture(scope="session")
def postgres(run: Run) -> str:
    """The superuser's DSN of a Postgres with pgvector that all workers share: the one that
    AIOPS_TEST_PG_DSN names, else one that is started here."""
    dsn = os.environ.get("AIOPS_TEST_PG_DSN") or shared_server(run).dsn
    make_roles(dsn)
    return dsn


@pytest.fixture(scope="session")
def empty_template(postgres: str) -> Iterator[str]:
    """The name of a database with pgvector and nothing else in it."""
    with template(postgres, new_name(), lambda dsn: None) as name:
        yield name


@pytest.fixture(scope="session")
def schema_template(postgres: str) -> Iterator[str]:
    """The name of a database with the schema of the knowledge base."""
    with template(postgres, new_name(), lambda dsn: migrate(dsn, APP)) as name:
        yield name


@pytest.fixture
def empty_database(postgres: str, empty_template: str) -> Iterator[Database]:
    """A database of this test alone with pgvector and nothing else in it."""
    with made(postgres, new_name(), empty_template) as database:
        yield database


@pytest.fixture
def database(postgres: str, schema_template: str) -> Iterator[Database]:
    """A database of this test alone with the schema of the knowledge base."""
    with made(postgres, new_name(), schema_template) as database:
        yield database


@pytest.fixture
def own_postgres(run: Run) -> Iterator[Callable[..., PostgresServer]]:
    """Starts a server of this test alone, to be killed, stopped or filled; its keywords are
    settings of Postgres."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(own_server(run, settings))


@pytest.fixture
def pgbouncer(run: Run) -> Iterator[Callable[..., str]]:
    """Starts PgBouncer, pooling transactions, in front of a database, and returns the program's
    DSN through it. Skips where PgBouncer could not be had."""
    program = bouncer.find()
    if program is None:
        pytest.skip("PgBouncer is not installed, and scripts/pgbouncer.sh could not get it")
    open_run(run)
    with ExitStack() as stack:
        yield lambda database, pool_size=4: stack.enter_context(
            bouncer.pooled(program, run.folder, database, pool_size)
        )
