"""Behind PgBouncer, which gives each transaction any session: the contract on claims and doors, by
two clients that take turns, what every command asks, and what a pooler must never be asked to keep.
Everything else that a store is asked: test_store_twin.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from aiops_cli import services
from knowledge.errors import StoreUnusable
from knowledge.stores import Store, postgres_engine
from knowledge.stores.postgres import PostgresStore
from tests.cli import Cli
from tests.desk import REFUSED
from tests.pgbouncer import in_turns
from tests.postgres_database import Database
from tests.samples import SetClock, added, fill, incident, unit
from tests.test_cli_kb_move import Letters
from tests.test_store_contract_acting import *  # noqa: F403 -- the contract, on the store below


@pytest.fixture
def pooled(database: Database, pgbouncer: Callable[..., str]) -> str:
    """The way to a database of which the pooler keeps two sessions."""
    return pgbouncer(database, pool_size=2)


@pytest.fixture
def store(pooled: str, store_clock: SetClock) -> Iterator[Store]:
    with (
        closing(PostgresStore.open(pooled, store_clock.now)) as one,
        closing(PostgresStore.open(pooled, store_clock.now)) as two,
    ):
        yield in_turns(one, two)


def test_many_share_few_sessions(pooled: str) -> None:
    def add(number: int) -> bool:
        with closing(PostgresStore.open(pooled)) as store:
            return store.add_incident(incident(number % 5)) and len(store.cases()) > 0

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(40))) == 5


def test_every_command(cli: Cli, pooled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But `kb migrate`, which is to go to the server itself."""
    cli.environ["AIOPS_KB"] = pooled
    one = cli.mended()
    cli.server.add_failure("sales", "load", events=[REFUSED], ended=cli.clock.now())
    cli.ok("diagnose")
    [two] = [
        case["incident"]
        for case in cli.ok("incidents", "--status=pending", "--json").json["incidents"]
    ]
    runbook, kept = cli.home / "db.yaml", str(cli.home / "kept.jsonl")
    runbook.write_text("- {title: db, error: 'OperationalError: away', cause: away, action: retry}")
    for line in (
        "doctor", f"diagnose {two}", "incidents", f"incidents show {one}", f"log {two}",
        "hold sales", "hold list", f"snooze {two} 2h", f"note {two} called",
        f"approve {two} --action=retry --rerun-safe --yes", "watch --once",
        "auto grant --actions=retry --dags=* --yes", "auto list", "watch --once --auto",
        f"wrong {one} --reason=twice", "pause", "resume", "handover", "stuck", "report",
        "learn --since=1d", "backtest", f"kb seed {runbook}", "kb list", "kb search away",
        "kb add --title=t --error=E --cause=c", "kb lint", "kb stats", f"kb export {kept}",
        f"kb import {kept}", "kb reindex", "audit", "audit verify",
    ):  # fmt: skip
        cli.ok(*line.split())
    monkeypatch.setattr(services, "embedder", lambda *_: Letters())
    cli.ok("kb", "reindex")
    assert "holds vectors of" not in cli.ok("kb", "search", "away").text
    cli.ok("audit", "verify")


def test_sessions_are_left_as_they_were_found(
    store: Store, pooled: str, database: Database
) -> None:
    fill(store)
    assert store.find_vector(unit(1, 0, 0), 5)
    names = ("search_path", "lock_timeout", "idle_in_transaction_session_timeout")
    asked = ", ".join(f"current_setting('{name}')" for name in names).encode()
    with psycopg.connect(database.app) as fresh:
        expected = fresh.execute(b"SELECT " + asked).fetchone()
    with (
        psycopg.connect(pooled, prepare_threshold=None) as one,
        psycopg.connect(pooled, prepare_threshold=None) as two,
    ):
        sessions = set()
        for client in (one, two):  # each in a transaction: both sessions are seen
            found = client.execute(b"SELECT pg_backend_pid(), " + asked).fetchone() or ()
            sessions.add(found[0])
            assert found[1:] == expected
            left = b"SELECT name FROM pg_prepared_statements UNION ALL SELECT name FROM pg_cursors"
            assert client.execute(left).fetchall() == []
        assert len(sessions) == 2


def test_a_session_that_the_pooler_has_lost(store: Store, database: Database) -> None:
    """What is under way then is told or, where nothing was done yet, done in another session."""
    added(store, incident(0))
    with psycopg.connect(database.admin) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    for number in (1, 2, 3):
        try:
            store.add_incident(incident(number))
        except StoreUnusable:
            store.add_incident(incident(number))
    assert len(store.cases()) == 4


def test_a_client_that_stands_still_loses_its_session(
    pooled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_engine, "IDLE_SECONDS", 0.2)
    with closing(PostgresStore.open(pooled)) as slow, closing(PostgresStore.open(pooled)) as store:

        def stand_still() -> None:
            with slow._db.write():
                slow._db.insert("instances", {"name": "slow", "url": "u"})
                added(store, incident(1))  # waits until the server has had enough
                slow._db.insert("instances", {"name": "slower", "url": "u"})

        with pytest.raises(StoreUnusable):
            stand_still()
        slow.bind_instance("slow", "http://other")  # nothing was left of it
        assert len(store.cases()) == 1
