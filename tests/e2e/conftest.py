"""A real Airflow for each tested version, booted once and shared by the session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.airflow_box import AirflowBox
from tests.postgres_server import FORGETFUL, Run, own_server

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VERSIONS = os.environ.get("AIOPS_E2E_VERSIONS", "3.3.2 3.1.8").split()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a real Airflow, whose start counts as the first test's."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest, airflow: AirflowBox) -> Callable[[str], None]:
    """Tells what was measured, at the end of the run: no clock decides a test."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return lambda text: figures.append(f"Airflow {airflow.version}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("measured")
    for line in figures:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session", params=VERSIONS)
def airflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run: Run
) -> Iterator[AirflowBox]:
    """A running Airflow with the examples. `airflow.dags` is a copy that a test may add to; one
    that adds a broken file removes it again. Its database is a Postgres, as in production: a busy
    machine keeps SQLite locked for minutes, and the API with it."""
    home = tmp_path_factory.mktemp(f"airflow-{request.param}")
    shutil.copytree(
        ROOT / "examples" / "dags", home / "dags", ignore=shutil.ignore_patterns("__pycache__")
    )
    (home / "plugins").mkdir()
    shutil.copy(ROOT / "aiops_cli" / "plugin" / "aiops_airflow_plugin.py", home / "plugins")
    env = ROOT / ".envs" / f"airflow-{request.param}"
    with own_server(run, {**FORGETFUL, "autovacuum": "on"}) as postgres:
        where = f"//postgres@/postgres?host={postgres.folder}"
        settings = {
            "AIOPS_SPOOL": str(home / "spool"),
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2:{where}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg:{where}",
        }
        with AirflowBox(env, home, home / "dags", version=request.param, settings=settings) as box:
            yield box
