"""`aiops log`: an incident's log excerpt as it was captured."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json


def log(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show an incident's log excerpt; of a group the newest one's. On a terminal with the numbers
    its lines have in Airflow."""
    from aiops_cli import services

    with services.store(settings(ctx)) as store:
        incident = store.case(store.find_ids(id_)[0]).incident
    excerpt = incident.excerpt
    if json:
        print_json(
            {
                "incident": incident.id,
                "text": excerpt.text,
                "numbers": list(excerpt.numbers),
                "total_lines": excerpt.total_lines,
                "cut": excerpt.cut,
                "notice": excerpt.notice or None,
            }
        )
        return
    if excerpt.notice:
        console(stderr=True).print(excerpt.notice)
    if excerpt.text:
        from aiops_cli.render import excerpt_text

        # Into a pipe the log goes as it is: to grep, or to become a symptom of an entry.
        numbers = excerpt.numbers if console().is_terminal else ()
        shown = excerpt_text(excerpt.text, numbers, incident.signature.line)
        page(shown, soft_wrap=True)
