"""The task that fails is not the one to blame: what it needs was never delivered. Running it
again helps only after the task before it has run again.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import dag, task


@dag(schedule=None, tags=["example"])
def inventory_snapshot() -> None:
    """The export is green but wrote nothing, because nothing was new. The load then misses
    its file.

    Fails: `load` with `FileNotFoundError`
    """

    @task
    def export() -> str:
        return str(Path(os.environ["AIRFLOW_HOME"], "exports", "inventory.csv"))

    @task
    def load(path: str) -> int:
        return len(Path(path).read_text().splitlines())

    load(export())


@dag(schedule=None, tags=["example"])
def customer_segments() -> None:
    """The query is green but found no segment, so that there is nothing to count.

    Fails: `count_members` with `'NoneType' object is not subscriptable`
    """

    @task
    def query_segments() -> dict[str, list[int]] | None:
        return None

    @task
    def count_members(segments: dict[str, list[int]]) -> int:
        return len(segments["loyal"])

    count_members(query_segments())


@dag(schedule=None, tags=["example"])
def partner_delivery() -> None:
    """The sensor waits for a file that the partner does not send today.

    Fails: `wait_for_file` with `AirflowSensorTimeout`
    """

    @task.sensor(poke_interval=1, timeout=2, mode="poke")
    def wait_for_file() -> bool:
        return Path(os.environ["AIRFLOW_HOME"], "inbox", "delivery.csv").exists()

    @task
    def load_file() -> bool:
        return True

    wait_for_file() >> load_file()


inventory_snapshot()
customer_segments()
partner_delivery()
