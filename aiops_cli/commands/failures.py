"""`aiops failures`: failed tries as Airflow has them; nothing is stored."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json


def failures(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Argument(help="DAG id or glob.")] = None,
    task: Annotated[str | None, typer.Argument(help="Task id or glob.")] = None,
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List failed tries as Airflow has them, newest first."""
    from aiops_cli import services
    from aiops_cli.config import parse_duration
    from aiops_cli.published import failure_document

    start = services.SystemClock().now() - parse_duration(since)
    airflow = services.airflow(settings(ctx))
    failed = list(airflow.failed(since=start, dag_id=dag, task_id=task))
    found = [
        failure_document(one, airflow.name, airflow.link(one.ref, one.try_number)) for one in failed
    ]
    if json:
        print_json({"failures": found})
    elif found:
        from aiops_cli.context import count_mapped
        from aiops_cli.listings import failure_table

        for one, count in count_mapped(airflow, failed).items():
            found[one]["mapped"] = count
        console().print(failure_table(found))
    else:
        console(stderr=True).print(f"no failed tries in the last {since}")
