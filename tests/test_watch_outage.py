"""`aiops watch` outlives a knowledge base that goes away: said once, tried again ever more rarely,
nothing is done meanwhile, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import apsw
import psycopg
import pytest

from aiops_cli import services
from knowledge.stores import sqlite_engine
from tests.airflow_server import Fault
from tests.airflow_world import Request
from tests.cli import Cli
from tests.desk import REFUSED
from tests.postgres_database import Database
from tests.test_cli_kb_move import Letters

GONE = "nothing is done until it can be used again"
BACK = "the knowledge base can be used again"


@dataclass
class Outage:
    """Takes the knowledge base away, and gives it back."""

    start: Callable[[], object]
    end: Callable[[], object]


@pytest.fixture(params=["sqlite", "postgres"])
def outage(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Outage]:
    """Of a file that another process keeps locked, and of a server that lets nobody in."""
    if request.param == "sqlite":
        cli.monkeypatch.setattr(sqlite_engine, "BUSY_TIMEOUT_MS", 20)
        cli.store().close()
        with closing(apsw.Connection(str(cli.kb))) as other:
            yield Outage(
                lambda: other.execute("BEGIN IMMEDIATE"),
                lambda: other.execute("ROLLBACK"),
            )
        return
    database: Database = request.getfixturevalue("database")
    cli.environ["AIOPS_KB"] = database.app
    with psycopg.connect(request.getfixturevalue("postgres"), autocommit=True) as admin:

        def let_in(anybody: bool) -> None:
            admin.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS {anybody}".encode())
            if not anybody:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
                    "WHERE datname = %s",
                    [database.name],
                )

        yield Outage(lambda: let_in(False), lambda: let_in(True))


def watching(cli: Cli, happens: Mapping[int, Callable[[], object]]) -> list[float]:
    """What happens while `watch` waits for the nth time, from 1 on. Returned is how long it
    waits, as it does."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        cli.clock.advance(seconds=seconds)
        happens.get(len(waits), lambda: None)()

    cli.monkeypatch.setattr(cli.clock, "sleep", sleep)
    return waits


def stop() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("how", [["--json"], []], ids=["json", "text"])
def test_watch_outlives_an_outage_of_the_knowledge_base(
    cli: Cli, outage: Outage, how: list[str]
) -> None:
    def begin() -> None:
        outage.start()
        cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())

    waits = watching(cli, {1: begin, 9: outage.end, 10: outage.start, 12: stop})
    said = cli.run("watch", "--interval", "90s", *how)
    assert said.code == 130
    assert waits == [90, 1, 2, 4, 8, 16, 32, 60, 60, 90, 1, 2]  # anew in the second one
    assert "error: " not in said.err
    assert said.err.endswith("the watch has ended; what it began, the next one settles\n")
    assert said.err.count(GONE) == 2  # each once
    assert said.err.count(BACK) == 1
    assert said.err.index(GONE) < said.err.index(BACK) < said.err.rindex(GONE)
    outage.end()
    if how:
        assert [document["dag_id"] for document in said.lines] == ["orders"]
    else:
        assert said.out.count("orders.load") == 1
    assert len(cli.ok("incidents", "--json").json["incidents"]) == 1


def test_one_pass_does_not_wait(cli: Cli, outage: Outage) -> None:
    cli.server.add_failure("orders", "load", events=[REFUSED])
    waits = watching(cli, {})
    outage.start()
    said = cli.run("watch", "--once", "--json")
    said.told(4, "knowledge_base")
    assert GONE not in said.err
    assert waits == []
    outage.end()
    assert len(cli.ok("watch", "--once", "--json").lines) == 1


def test_nothing_is_done_while_it_is_away(cli: Cli, outage: Outage) -> None:
    """It goes away between the claim and the door, when the plan is looked at."""
    cli.mended()
    cli.ok("auto", "grant", "--actions=retry", "--dags=orders")
    cli.clock.advance(seconds=1)
    cli.server.add_failure(
        "orders", "load", run_id="second", events=[REFUSED], ended=cli.clock.now()
    )
    before = cli.cleared()
    take_fault, todo = cli.server.take_fault, [outage.start]

    def take(request: Request) -> Fault | None:
        if "clearTaskInstances" in request.path and todo:
            todo.pop()()
        return take_fault(request)

    cli.monkeypatch.setattr(cli.server, "take_fault", take)
    seen: list[int] = []
    waits = watching(cli, {1: lambda: seen.append(len(cli.cleared())), 2: outage.end, 4: stop})
    said = cli.run("watch", "--auto", "--interval", "10m")
    assert said.code == 130
    assert not todo
    assert waits[:2] == [1, 2]
    assert seen == [len(before)]
    assert said.err.count(GONE) == said.err.count(BACK) == 1
    assert len(cli.cleared()) - len(before) <= 1
    cli.ok("watch", "--once", "--auto")
    assert cli.cleared()[len(before) :].count(["load"]) <= 1


def test_another_embedder_ends_the_watch_with_a_word(cli: Cli) -> None:
    """Somebody runs `aiops kb reindex` with another embedder while it watches."""
    prom = cli.home / "aiops.prom"

    def reindexed() -> None:
        own = services.embedder
        with cli.monkeypatch.context() as patch:
            patch.setattr(services, "embedder", lambda *_: Letters())
            cli.ok("kb", "reindex")
        assert services.embedder is own
        cli.server.add_failure("orders", "load", events=[REFUSED], ended=cli.clock.now())

    waits = watching(cli, {1: reindexed})
    said = cli.run("watch", "--metrics-file", str(prom))
    assert waits == [30]
    said.refused(4, "holds vectors of letters", "AIOPS_EMBEDDER=letters", "this watch ends")
    assert 'result="knowledge_base"} 1' in prom.read_text()
    assert cli.cleared() == []
