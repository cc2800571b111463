"""A mapped task all of whose instances fail in the same way, each on its first try only."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import dag, get_current_context, task


@dag(schedule=None, tags=["aiops:rerun-safe"], max_active_tasks=64)
def e2e_storm() -> None:
    @task
    def numbers() -> list[int]:
        return list(range(int(get_current_context()["dag_run"].conf["size"])))

    @task
    def convert(number: int) -> None:
        context = get_current_context()
        folder = Path(os.environ["AIRFLOW_HOME"], "counts")
        folder.mkdir(exist_ok=True)
        with (folder / f"e2e_storm.{context['run_id']}.convert-{number}").open("a") as file:
            file.write("ran\n")
        if context["ti"].try_number == 1:
            raise ConnectionError("the warehouse ended the session")

    convert.expand(number=numbers())


e2e_storm()
