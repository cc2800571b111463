"""`aiops pause` and `aiops resume`: the kill switch for acting alone, for everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge.stores import Store

_TOLD = {
    "called_off": "called off, waits for a person again",
    "waiting": "waits, approved by a person",
    "running": "already under way",
}


def pause(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Stop acting alone, for all who share the knowledge base. People may still approve."""
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
        acts = _under_way(store, chosen.user, now, call_off=paused)
    if json:
        print_json({"paused": paused, **acts})
        return
    said = "paused: nothing is done alone" if paused else "resumed: grants hold again"
    console().print(said)
    for kind, ids in acts.items():
        if paused and ids:
            console().print(f"{_TOLD[kind]}: {', '.join(ids)}")


def _under_way(store: Store, by: str, now: datetime, *, call_off: bool) -> dict[str, list[str]]:
    """What has been begun, by what becomes of it. What the tool alone has begun and what only
    waits for its time is called off here: perhaps nobody watches, or it is resumed before anybody
    has looked."""
    from aiops_cli import decide

    acts: dict[str, list[str]] = {"called_off": [], "waiting": [], "running": []}
    for claim in store.claims(["claimed", "acting"]):
        case = store.case(claim.incident_id)
        alone = case.decision is not None and case.decision.kind == "auto"
        kind = "waiting" if decide.waiting_claim(case) else "running"
        if kind == "waiting" and alone and call_off:  # else a watcher was faster
            kind = "called_off" if decide.call_off(store, case, by, now) else "running"
        acts[kind].append(claim.incident_id)
    return acts
