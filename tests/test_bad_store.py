"""A knowledge base that cannot be used: said once, left as it is, and nothing is acted on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli import Cli
from tests.desk import REFUSED

ROOT = os.geteuid() == 0  # may write everywhere

Break = Callable[[Cli], None]


# ---- the knowledge base ----


def corrupt(cli: Cli) -> None:
    data = bytearray(cli.kb.read_bytes())
    data[200:] = os.urandom(len(data) - 200)
    cli.kb.write_bytes(bytes(data))
    for name in ("-wal", "-shm"):
        cli.kb.with_name(cli.kb.name + name).unlink(missing_ok=True)


def no_database(cli: Cli) -> None:
    cli.kb.write_bytes(b"hello " * 1000)


def newer(cli: Cli) -> None:
    _execute(cli, "PRAGMA user_version = 999")


def foreign(cli: Cli) -> None:
    cli.kb.unlink()
    _execute(cli, "CREATE TABLE theirs (a)")


def a_folder(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}"


def below_a_file(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = f"sqlite:///{cli.home}/config.yaml/knowledge.db"


def unwritable(cli: Cli) -> None:
    folder = cli.home / "locked"
    folder.mkdir(mode=0o500)
    cli.environ["AIOPS_KB"] = f"sqlite:///{folder}/knowledge.db"


def in_proc(cli: Cli) -> None:
    """A folder in which nobody, not even root, can make a file."""
    cli.environ["AIOPS_KB"] = "sqlite:////proc/self/knowledge.db"


def locked(cli: Cli) -> None:
    import apsw

    from knowledge.stores import sqlite_engine

    cli.monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_MS", 20)
    holder = apsw.Connection(str(cli.kb))
    holder.execute("BEGIN EXCLUSIVE")
    cli.monkeypatch.setattr(cli, "holder", holder, raising=False)  # kept open with the test


def postgres(cli: Cli) -> None:
    cli.environ["AIOPS_KB"] = "postgresql://me:hunter2pass@db/aiops"


def _execute(cli: Cli, statement: str) -> None:
    import apsw

    with closing(apsw.Connection(str(cli.kb))) as connection:
        connection.execute(statement)


STORES: tuple[tuple[Break, str], ...] = (
    (corrupt, "is damaged"),
    (no_database, "is not a knowledge base"),
    (newer, "was written by a newer aiops"),
    (foreign, "is the database of another program"),
    (a_folder, ""),
    (below_a_file, "is not a folder"),
    *(() if ROOT else ((unwritable, "check the folder and its rights"),)),
    *(((in_proc, ""),) if Path("/proc/self").exists() else ()),
    (postgres, ""),
)
KB_COMMANDS: dict[str, list[str]] = {
    "incidents": ["incidents"],
    "show": ["incidents", "show", "abcd"],
    "watch": ["watch", "--once"],
    "diagnose": ["diagnose"],
    "approve": ["approve", "abcd", "--action=retry", "--yes"],
    "kb list": ["kb", "list"],
    "kb add": ["kb", "add", "--title=t", "--error=ValueError: x", "--cause=c"],
    "grant": ["auto", "grant", "--actions=retry", "--dags=*"],
    "pause": ["pause"],
}


@pytest.mark.parametrize("command", KB_COMMANDS)
@pytest.mark.parametrize("wrong", STORES, ids=lambda wrong: str(wrong[0].__name__))
def test_the_knowledge_base(cli: Cli, waiting: str, wrong: tuple[Break, str], command: str) -> None:
    break_it, word = wrong
    break_it(cli)
    kept = cli.kb.read_bytes() if cli.kb.exists() else b""
    said = cli.run(*KB_COMMANDS[command], "--json")
    said.told(4, "knowledge_base", word)
    assert "hunter2pass" not in said.out + said.err
    assert cli.kb.read_bytes() == kept  # the file is left as it is, for whoever saves it
    assert cli.cleared() == []


@pytest.mark.parametrize("command", ["kb add", "grant", "pause", "watch"])
def test_a_locked_knowledge_base(cli: Cli, waiting: str, command: str) -> None:
    cli.server.add_failure("sales", "load", events=[REFUSED])
    locked(cli)
    cli.run(*KB_COMMANDS[command], "--json").told(4, "knowledge_base", "is locked by another")
    cli.holder.close()  # type: ignore[attr-defined]  # set by `locked`
    assert cli.status(waiting) == "pending"
    cli.ok(*KB_COMMANDS[command])


def test_a_base_that_is_locked_at_the_door_does_not_act(cli: Cli, waiting: str) -> None:
    locked(cli)
    said = cli.run("approve", waiting, "--action=retry", "--yes", "--json")
    said.told(4, "knowledge_base", "is locked by another")
    assert cli.cleared() == []
