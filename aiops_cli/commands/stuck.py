"""`aiops stuck`: what does not move, and why. Acts on nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json, progress


def stuck(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Argument(help="DAG id or glob.")] = None,
    after: Annotated[
        str | None,
        typer.Option(help="Everything older than this (30m, 6h), whatever its history."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what waits or runs far longer than it used to, which runs are missing, and why."""
    from aiops_cli import services
    from aiops_cli.config import typed_duration
    from aiops_cli.stuck import document, find

    chosen = settings(ctx)
    airflow = services.airflow(chosen)
    limit = None if after is None else typed_duration(after)
    talk = console(stderr=True)
    with progress("asking Airflow") as tick:
        found = find(
            airflow,
            services.SystemClock().now(),
            dag_id=dag,
            after=limit,
            at_once=chosen.concurrency,
            tick=tick,
        )
    for note in found.notes:
        talk.print(note)
    documents = [document(one, airflow) for one in found.stuck]
    if json:
        print_json({"stuck": documents})
    elif documents:
        from aiops_cli.listings import stuck_table

        page(stuck_table(documents))
    else:
        talk.print("nothing is stuck")
