"""DAGs for the end-to-end tests: each counts its runs in files, so that nothing runs unseen."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

from airflow.sdk import dag, get_current_context, task


def count(what: str) -> None:
    """One more line in the run's own file."""
    context = get_current_context()
    folder = Path(os.environ["AIRFLOW_HOME"], "counts")
    folder.mkdir(exist_ok=True)
    run = str(context["run_id"]).replace("/", "_")
    with (folder / f"{context['dag'].dag_id}.{run}.{what}").open("a") as file:
        file.write("ran\n")


def refused_on_the_first_try() -> None:
    """A real refused connection, on the first try of this task in this run only."""
    if get_current_context()["ti"].try_number == 1:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            socket.create_connection(taken.getsockname(), timeout=2)


@dag(schedule=None)
def e2e_flaky() -> None:
    """`load` fails on its first try; `extract` and `audit` succeed and must not run again."""

    @task
    def extract() -> None:
        count("extract")

    @task
    def audit() -> None:
        count("audit")

    @task
    def load() -> None:
        count("load")
        refused_on_the_first_try()

    @task
    def publish() -> None:
        count("publish")

    first = extract()
    first >> audit()
    first >> load() >> publish()


@dag(schedule=None)
def e2e_mapped() -> None:
    """Index 1 of three fails on its first try."""

    @task
    def convert(number: int) -> int:
        count(f"convert-{number}")
        if number == 1:
            refused_on_the_first_try()
        return number

    @task
    def collect(numbers: list[int]) -> None:
        count("collect")

    collect(convert.expand(number=[0, 1, 2]))


@dag(schedule=None)
def e2e_killed() -> None:
    """Kills itself, as the kernel does to a process without memory."""

    @task
    def train() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    train()


@dag(schedule=None)
def e2e_bug() -> None:
    """A data bug: the same every time."""

    @task
    def total() -> float:
        return sum(row["price"] for row in [{"price_cents": 3}])

    total()


@dag(schedule=None)
def e2e_ledger() -> None:
    """A failure in words of its own, which no shipped entry knows."""

    @task
    def close() -> None:
        raise ValueError("the ledger of the day does not close, the difference is too large")

    close()


e2e_flaky()
e2e_ledger()
e2e_mapped()
e2e_killed()
e2e_bug()
