"""`aiops failures`: failed tries as Airflow has them; nothing is stored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json

if TYPE_CHECKING:
    from aiops_cli.incidents import TaskInstance

PART = 100  # so many are shown at once: a page of Airflow's


def failures(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Argument(help="DAG id or glob.")] = None,
    task: Annotated[str | None, typer.Argument(help="Task id or glob.")] = None,
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List failed tries as Airflow has them, newest first."""
    from aiops_cli import capture, services
    from aiops_cli.config import typed_duration
    from aiops_cli.published import failure_document

    start = services.SystemClock().now() - typed_duration(since)
    airflow = services.airflow(settings(ctx))
    if dag:
        dag, task = capture.dag_and_task(airflow, dag, task)

    def failed() -> Iterator[TaskInstance]:
        with capture.of_dag(airflow, dag):
            yield from airflow.failed(since=start, dag_id=dag, task_id=task)

    found = failed()

    def documents(several: Iterable[TaskInstance]) -> list[dict[str, Any]]:
        name = airflow.name
        return [failure_document(o, name, airflow.link(o.ref, o.try_number)) for o in several]

    if json:
        print_json({"failures": documents(found)})
        return
    from aiops_cli.listings import failure_table

    first = list(islice(found, PART))
    if len(first) == PART:  # there may be thousands: shown as they come
        console().print(failure_table(documents(first), "first"))
        while more := list(islice(found, PART)):
            console().print(failure_table(documents(more), "next"))
    elif first:
        from aiops_cli.context import count_mapped

        told = documents(first)
        for place, count in count_mapped(airflow, first).items():
            told[place]["mapped"] = count
        page(failure_table(told))
    else:
        console(stderr=True).print(f"no failed tries in the last {since}")
