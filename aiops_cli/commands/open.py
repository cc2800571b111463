"""`aiops open`: an incident's task in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json


def open_(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    json: Annotated[bool, typer.Option("--json", help="Print the address as JSON.")] = False,
) -> None:
    """Open an incident's task in the browser, of a group the newest one's; of a failed run the
    run, of a file that cannot be imported Airflow itself. Prints the address."""
    from aiops_cli import services
    from aiops_cli.commands.output import is_terminal
    from aiops_cli.examine import page_of

    chosen = settings(ctx)
    with services.store(chosen) as store:
        incident = store.case(store.find_ids(id_)[0]).incident
    link = page_of(services.airflow(chosen, incident.instance), incident)
    if json:
        print_json({"incident": incident.id, "url": link})
        return
    console().print(link, soft_wrap=True)
    if is_terminal():
        import webbrowser

        if not webbrowser.open(link):
            console(stderr=True).print("no browser could be opened: open the address by hand")
