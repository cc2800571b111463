"""DAGs for the tests of single calls: what they read, they read for real."""

from __future__ import annotations

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import Asset, dag, task

RATES = Asset("e2e_rates", uri="x-e2e://rates")


@dag(schedule=None)
def e2e_source() -> None:
    """Updates the asset that starts `e2e_reader`."""

    @task(outlets=[RATES])
    def publish() -> int:
        return 1

    publish()


@dag(schedule=[RATES])
def e2e_reader() -> None:
    @task
    def read() -> int:
        return 1

    read()


@dag(schedule=None)
def e2e_waits() -> None:
    """Its sensor gives up soon: no run of the other DAG has its logical date."""
    ExternalTaskSensor(
        task_id="wait",
        external_dag_id="e2e_source",
        external_task_id="publish",
        timeout=2,
        poke_interval=1,
    )


@dag(schedule=None)
def e2e_chain() -> None:
    """`load` needs what `first` wrote to be a list; `part` fails for one index of three."""

    @task
    def first() -> list[int]:
        return [1, 2]

    @task
    def load(numbers: list[int]) -> None:
        if len(numbers) < 3:
            raise ValueError(f"only {numbers}")

    @task
    def after() -> None: ...

    @task
    def part(number: int) -> int:
        return 1 // (number - 1)

    load(first()) >> after()
    part.expand(number=[0, 1, 2])


e2e_source()
e2e_reader()
e2e_waits()
e2e_chain()
