"""DAGs whose failures Airflow's plugin is to hand on, and one that it is not to."""

from __future__ import annotations

from datetime import timedelta

from aiops_airflow_plugin import on_failure_callback
from airflow.sdk import dag, task


@dag(schedule=None)
def e2e_spooled() -> None:
    """Fails at once; index 1 of two."""

    @task
    def count(number: int) -> None:
        if number:
            raise ValueError("the day has 25 hours")

    count.expand(number=[0, 1])


@dag(schedule=None)
def e2e_retried() -> None:
    """Fails twice, and Airflow itself repeats it once."""

    @task(retries=1, retry_delay=timedelta(seconds=1), on_failure_callback=on_failure_callback)
    def count() -> None:
        raise ValueError("the day has 23 hours")

    count()


e2e_spooled()
e2e_retried()
