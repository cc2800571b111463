"""A DAG file that Airflow cannot even import: the module it needs was renamed.

It has a folder of its own, so that the healthy examples stay healthy.
"""

from __future__ import annotations

from airflow.sdk import dag, task
from warehouse_tools import load_orders  # moved in the last release


@dag(schedule=None, tags=["example"])
def orders_load() -> None:
    """Never gets this far."""

    @task
    def load() -> None:
        load_orders()

    load()


orders_load()
