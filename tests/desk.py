"""A desk for tests: the real gateway, the local Airflow, the in-memory store, a clock to set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from aiops_cli import config, watch
from aiops_cli.airflow.gateway import Gateway
from aiops_cli.airflow.login import Login
from aiops_cli.airflow.transport import Timeouts, Transport
from aiops_cli.examine import Desk
from aiops_cli.watch import Mode
from knowledge.base import KnowledgeBase
from knowledge.embedders import BuiltinEmbedder
from knowledge.records import Case, Grant
from knowledge.stores.memory import MemoryStore
from tests.airflow_server import AirflowServer, exception

REFUSED = exception("ConnectionRefusedError", "[Errno 111] Connection refused")


@dataclass
class SetClock:
    """A clock that moves when told to; sleeping moves it."""

    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def advance(self, **delta: float) -> None:
        self.time += timedelta(**delta)


@dataclass
class Bench:
    """A desk and the Airflow behind it."""

    desk: Desk
    server: AirflowServer
    clock: SetClock
    warnings: list[str] = field(default_factory=list)

    @property
    def store(self) -> MemoryStore:
        store = self.desk.knowledge.store
        assert isinstance(store, MemoryStore)
        return store

    def watch(self, mode: Mode = "ask") -> list[Case]:
        """One pass, a moment later than whatever was done before."""
        self.clock.advance(seconds=1)
        return list(watch.one_pass(self.desk, mode, self.warnings.append))

    def finish(self, row: dict[str, Any], state: str = "success", events: Any = ()) -> None:
        """The cleared instance has run again, now by the desk's clock."""
        self.server.finish(row, state, events)
        row["end_date"] = self.clock.now().isoformat()

    def only(self) -> Case:
        (case,) = self.store.cases()
        return case

    def cleared(self) -> list[list[Any]]:
        """The task ids of every clear that was not a dry run, in order."""
        return [
            request.body["task_ids"]
            for request in self.server.sent("POST")
            if request.path.endswith("/clearTaskInstances") and not request.body["dry_run"]
        ]

    def grant(self, **fields: Any) -> Grant:
        known: dict[str, Any] = {
            "id": "grant00001",
            "actions": ("retry", "retry_later"),
            "dags": ("*",),
            "by": "ana",
            "at": self.clock.now(),
        }
        made = Grant(**{**known, **fields})
        self.store.add_grant(made)
        return made


@contextmanager
def bench(
    version: str = "3.3.2", clock: SetClock | None = None, **settings: str
) -> Iterator[Bench]:
    """`settings` are dotted settings with __ for the dot, as in gate__trust_retries="true"."""
    clock = clock or SetClock()
    with AirflowServer(version) as server:
        transport = Transport(
            server.url,
            Login(server.username, server.password),
            timeouts=Timeouts(connect=5, read=5, log=5),
            clock=clock,
        )
        # What is approved here fails again within minutes; tests of the day have their own.
        given = {"gate__vouch_after": "1s", **settings}
        overrides = {name.replace("__", "."): value for name, value in given.items()}
        chosen = config.load(
            cwd=Path("/nonexistent"),
            environ={"AIOPS_USER": "ana", "AIOPS_KB": "sqlite:////nonexistent/kb.db"},
            overrides=overrides,
        )
        knowledge = KnowledgeBase(MemoryStore(clock.now), BuiltinEmbedder())
        yield Bench(Desk(Gateway(transport, "prod"), knowledge, chosen, clock), server, clock)
