"""DAGs of one task that fails on its first try, all in the same way."""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task


def paced(number: int) -> None:
    @dag(f"e2e_pace_{number}", schedule=None, tags=["aiops:rerun-safe"])
    def made() -> None:
        @task
        def load() -> None:
            if get_current_context()["ti"].try_number == 1:
                raise ConnectionError("the exchange hung up")

        load()

    made()


for number in range(10):
    paced(number)
