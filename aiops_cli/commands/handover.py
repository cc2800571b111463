"""`aiops handover`: what happened, what waits, what is held, for the next shift."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json

if TYPE_CHECKING:
    from knowledge.records import Case

LOOK_BACK = timedelta(days=7)  # before the shift: what failed then may be decided or end in it


def handover(
    ctx: typer.Context,
    since: Annotated[str, typer.Option(help="The shift's length: 8h, 24h.")] = "8h",
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, to paste.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the next shift what happened, what waits and what is held."""
    from aiops_cli import services
    from aiops_cli.commands.hold import hold_document
    from aiops_cli.config import typed_duration
    from aiops_cli.published import incident_document, utc
    from knowledge.records import in_force

    chosen = settings(ctx)
    now = services.SystemClock().now()
    start = now - typed_duration(since)
    with services.store(chosen) as store:
        waiting = store.cases(status=["pending", "needs_human"], instance=ctx.obj.instance)
        acting = store.cases(status=["acting"], instance=ctx.obj.instance)
        lately = store.cases(
            status=["resolved", "failed", "rejected", "superseded"],
            instance=ctx.obj.instance,
            since=start - LOOK_BACK,
        )
        happened = [case for case in lately if _last_moved(case) >= start]
        holds = [one for one in store.holds() if in_force(one, now)]
        pause = store.pause()
        told = [case.incident for case in (*waiting, *acting, *happened)]
        groups = {one.group for one in told if one.group}
        short = store.shortest_prefixes([*(one.id for one in told), *groups])
    document = {
        "since": utc(start),
        "until": utc(now),
        "by": chosen.user,
        "paused": pause.paused,
        "paused_by": pause.by or None,
        "waiting": [incident_document(case) for case in waiting],
        "acting": [incident_document(case) for case in acting],
        "happened": [incident_document(case) for case in happened],
        "holds": [hold_document(one) for one in holds],
    }
    if json:
        print_json(document)
        return
    from aiops_cli.handover import as_markdown, as_text

    if markdown:
        console().print(as_markdown(document, short), soft_wrap=True)
    else:
        page(as_text(document, short))


def _last_moved(case: Case) -> datetime:
    """When it failed, was decided, ended or was called wrong, whichever came last."""
    moments = [case.incident.failed_at, *(one.at for one in case.outcomes)]
    moments += [one.at for one in (case.decision, case.harm) if one is not None]
    return max(moments)
