"""A real Airflow for each tested version, booted once and shared by the session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.airflow_box import AirflowBox

ROOT = Path(__file__).parents[2]
VERSIONS = os.environ.get("AIOPS_E2E_VERSIONS", "3.3.2 3.1.8").split()


@pytest.fixture(scope="session", params=VERSIONS)
def airflow(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowBox]:
    """A running Airflow with the examples. `airflow.dags` is a copy that a test may add to; one
    that adds a broken file removes it again."""
    home = tmp_path_factory.mktemp(f"airflow-{request.param}")
    shutil.copytree(ROOT / "examples" / "dags", home / "dags")
    env = ROOT / ".envs" / f"airflow-{request.param}"
    with AirflowBox(env, home, home / "dags", version=request.param) as box:
        yield box
