"""The fault matrix where the knowledge base is in Postgres: each way in which that can go wrong x
each command. What breaks in the middle of a statement is test_postgres_faults.py's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from knowledge.stores import postgres_engine
from tests.airflow_server import AirflowServer
from tests.cli import Cli, make
from tests.fault_commands import COMMANDS
from tests.fault_world import World, again, exported, lived_in, run, state, tells
from tests.faults import Fault, full_disk
from tests.postgres_database import APP, Database, answer, contents, made, new_name, with_login

Broken = Callable[[ExitStack, Database], str]


def unknown_database(_stack: ExitStack, database: Database) -> str:
    return with_login(database.app, "nowhere")


def unknown_role(_stack: ExitStack, database: Database) -> str:
    return with_login(database.app, database.name, "nobody_here")


def no_connection_left(_stack: ExitStack, database: Database) -> str:
    answer(database.owner, f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
    return database.app


def no_right(_stack: ExitStack, database: Database) -> str:
    answer(database.owner, f"REVOKE USAGE ON SCHEMA aiops FROM {APP}")
    return database.app


def no_tables(_stack: ExitStack, database: Database) -> str:
    answer(database.owner, "DROP SCHEMA aiops CASCADE")
    return database.app


def older(_stack: ExitStack, database: Database) -> str:
    answer(database.owner, "DELETE FROM aiops.schema_version WHERE version > 1")
    return database.app


def newer(_stack: ExitStack, database: Database) -> str:
    answer(database.owner, "INSERT INTO aiops.schema_version (version) VALUES (999)")
    return database.app


def read_only(_stack: ExitStack, database: Database) -> str:
    """As a standby is."""
    setting = f"ALTER DATABASE {database.name} SET default_transaction_read_only = on"
    answer(database.admin, setting)
    return database.app


def locked(stack: ExitStack, database: Database) -> str:
    """As by somebody's long transaction: it can be read."""
    owner = stack.enter_context(closing(psycopg.connect(database.owner)))
    named = "SELECT string_agg('aiops.' || tablename, ',') FROM pg_tables WHERE schemaname='aiops'"
    (tables,) = owner.execute(named).fetchone() or ("",)
    owner.execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE".encode())
    return database.app


class OfPostgres(NamedTuple):
    """As a Fault; `wrong` returns what AIOPS_KB is then."""

    kind: str
    wrong: Broken
    word: str

    def __str__(self) -> str:
        return self.wrong.__name__


FAULTS = (
    OfPostgres("s", unknown_database, "does not exist"),
    OfPostgres("s", unknown_role, "does not exist"),
    OfPostgres("s", no_connection_left, "too many connections"),
    OfPostgres("s", no_right, "permission denied"),
    OfPostgres("s", no_tables, "has no tables"),
    OfPostgres("s", older, "has schema 1"),
    OfPostgres("s", newer, "upgrade aiops"),
    OfPostgres("w", read_only, "is read-only"),
    OfPostgres("w", locked, "is locked by another"),
)
CELLS = [
    (fault, name)
    for fault in FAULTS
    for name, command in COMMANDS.items()
    if fault.kind in command.touches
    and not (fault.kind == "w" and full_disk in command.spared)
    and not (name == "kb migrate" and fault.wrong in (no_tables, older, no_right))  # the owner's
]


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres: str, schema_template: str
) -> Iterator[tuple[World, dict[str, Database], dict[str, str]]]:
    """The world, and for each fault a database that has it with its DSN: no cell changes one."""
    home = tmp_path_factory.mktemp("world")
    with ExitStack() as stack:
        server = stack.enter_context(AirflowServer())
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        whole = stack.enter_context(made(postgres, new_name(), schema_template))
        cli = make(server, home, patch)
        cli.environ["AIOPS_KB"] = whole.app
        ids, kept = lived_in(cli), state(server)
        copies = {
            str(fault): stack.enter_context(made(postgres, new_name(), whole.name))
            for fault in FAULTS
        }
        exported(cli)
        dsns = {str(fault): fault.wrong(stack, copies[str(fault)]) for fault in FAULTS}
        yield World(server, home, ids, kept), copies, dsns


@pytest.mark.parametrize(("fault", "name"), CELLS, ids=str)
def test_a_fault_of_postgres_is_told_and_nothing_is_lost(
    world: tuple[World, dict[str, Database], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: OfPostgres,
    name: str,
) -> None:
    known, copies, dsns = world
    monkeypatch.setattr(postgres_engine, "LOCK_SECONDS", 0.05)
    cli: Cli = again(known, tmp_path, monkeypatch)
    cli.environ["AIOPS_KB"] = dsns[str(fault)]
    if fault.kind == "w":  # something there is to write
        cli.server.add_failure("sales", "load")
    before = contents(copies[str(fault)].admin)
    said = run(cli, name, known.ids)
    tells(said, Fault(fault.kind, lambda _cli: None, 4, "knowledge_base", fault.word))
    assert "aiops-test" not in said.out + said.err  # the password
    assert cli.cleared() == []
    assert contents(copies[str(fault)].admin) == before
    assert not list(tmp_path.rglob("bug-*.txt"))
