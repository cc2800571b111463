"""`aiops reject`: a person says no. Acts on nothing, and learns."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json


def reject(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Incident or group ids.")],
    reason: Annotated[str, typer.Option(help="Why not.")],
    action: Annotated[
        str | None, typer.Option(help="What is right instead: none (a person must fix it).")
    ] = None,
    cause: Annotated[str | None, typer.Option(help="What it was, for next time.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Do not act on incidents, and learn from it."""
    from aiops_cli import decide, services
    from aiops_cli.published import incident_document

    chosen = settings(ctx)
    with services.knowledge_base(chosen) as knowledge:
        cases = decide.meant(knowledge.store, ids).values()
        documents = [
            incident_document(
                decide.reject(
                    knowledge,
                    case,
                    by=chosen.user,
                    at=services.SystemClock().now(),
                    reason=reason,
                    action=action,
                    cause=cause or "",
                )
            )
            for case in cases
        ]
    if json:
        print_json(documents[0] if len(documents) == 1 else {"incidents": documents})
    else:
        for document in documents:
            console(stderr=True).print(f"{document['incident']}: rejected, nothing was done")
