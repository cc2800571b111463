"""DAGs with a past: each fails in its own words, and something else ends it."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import BaseHook, dag, get_current_context, task

AT_ONCE = timedelta(seconds=1)


def first_time() -> bool:
    """In this run. On a busy machine a try may be lost before it begins, and leaves no trace."""
    context = get_current_context()
    run = f"{context['dag'].dag_id}.{context['run_id']}".replace("/", "_")
    began = Path(os.environ["AIRFLOW_HOME"], f"began-{run}")
    known = began.exists()
    began.touch()
    return not known


@dag(schedule=None)
def e2e_past_own() -> None:
    """Airflow's own retry heals it."""

    @task(retries=3, retry_delay=AT_ONCE)
    def load() -> None:
        if first_time():
            raise TimeoutError("the price feed took too long")

    load()


@dag(schedule=None)
def e2e_past_cleared() -> None:
    """A person's clear heals it."""

    @task
    def load() -> None:
        if first_time():
            raise ConnectionResetError("the mail server hung up")

    load()


@dag(schedule=None)
def e2e_past_below() -> None:
    """A person's clear of the task above heals it."""

    @task
    def extract() -> None:
        pass

    @task
    def load() -> None:
        if first_time():
            raise BufferError("what was extracted is empty")

    extract() >> load()


@dag(schedule=None)
def e2e_past_connection() -> None:
    """Another host in the connection heals it."""

    @task
    def load() -> None:
        connection = BaseHook.get_connection("e2e_warehouse")
        if connection.host == "old":
            raise OSError("there is no route to the warehouse")

    load()


@dag(schedule=None)
def e2e_past_code() -> None:
    """Another version of the DAG heals it."""

    @task
    def load(fixed: bool = False) -> None:
        if not fixed:
            raise LookupError("the column of prices was renamed")

    load()  # as it is


@dag(schedule=None)
def e2e_past_never() -> None:
    """Nothing heals it."""

    @task(retries=2, retry_delay=AT_ONCE)
    def load() -> None:
        raise ArithmeticError("the books of the day do not close")

    load()


e2e_past_own()
e2e_past_cleared()
e2e_past_below()
e2e_past_connection()
e2e_past_code()
e2e_past_never()
