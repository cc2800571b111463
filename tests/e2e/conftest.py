"""A real Airflow for each tested version, booted once and shared by the session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.airflow_box import AirflowBox

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


@pytest.fixture(scope="session", params=VERSIONS)
def airflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowBox]:
    """A running Airflow with the examples. `airflow.dags` is a copy that a test may add to; one
    that adds a broken file removes it again."""
    home = tmp_path_factory.mktemp(f"airflow-{request.param}")
    shutil.copytree(
        ROOT / "examples" / "dags", home / "dags", ignore=shutil.ignore_patterns("__pycache__")
    )
    env = ROOT / ".envs" / f"airflow-{request.param}"
    with AirflowBox(env, home, home / "dags", version=request.param) as box:
        yield box
