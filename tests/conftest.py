"""Fixtures that several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from knowledge.stores import Store
from knowledge.stores.memory import MemoryStore
from knowledge.stores.sqlite import SqliteStore
from tests.airflow_server import AirflowServer
from tests.cli import Cli, make
from tests.desk import REFUSED
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


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path, store_clock: SetClock) -> Iterator[Store]:
    """An empty store of each kind."""
    made: Store = (
        MemoryStore(store_clock.now)
        if request.param == "memory"
        else SqliteStore.open(str(tmp_path / "kb" / "knowledge.db"), store_clock.now)
    )
    yield made
    made.close()


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """The command line of somebody whose machine and Airflow are made for this test."""
    with AirflowServer() as server:
        yield make(server, tmp_path, monkeypatch)
    reports = list(tmp_path.rglob("bug-*.txt"))
    assert reports == [], reports[0].read_text()  # nothing that a test does may end as a bug


@pytest.fixture
def waiting(cli: Cli) -> str:
    """The id of an incident that waits for a person; nobody has answered it before."""
    return cli.capture("orders", events=[REFUSED])
