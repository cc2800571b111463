"""`aiops pause` and `aiops resume`: the kill switch for acting alone, for everybody."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json


def pause(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Stop acting alone, for all who share the memory. People may still approve."""
    _set(ctx, True, reason, json)


def resume(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Allow acting alone again, within the grants."""
    _set(ctx, False, "", json)


def _set(ctx: typer.Context, paused: bool, reason: str, json: bool) -> None:
    from aiops_cli import services
    from knowledge.records import Pause
    from knowledge.redact import clean, redact

    chosen = settings(ctx)
    with services.store(chosen) as store:
        now, why = services.SystemClock().now(), redact(clean(reason))
        store.set_pause(Pause(paused, chosen.user, now, why))
        running = store.claims(["claimed", "acting"])
    if json:
        print_json({"paused": paused, "running": [claim.incident_id for claim in running]})
        return
    said = "paused: nothing is done alone" if paused else "resumed: grants hold again"
    console().print(said)
    if paused and running:
        ids = ", ".join(claim.incident_id for claim in running)
        console().print(f"already under way: {ids}")
