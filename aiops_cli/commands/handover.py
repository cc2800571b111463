"""`aiops handover`: what happened, what waits, what is held, for the next shift."""

from __future__ import annotations

from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json


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
        lately = store.cases(instance=ctx.obj.instance, since=start)
        holds = [one for one in store.holds() if in_force(one, now)]
        pause = store.pause()
        ids = {case.incident.id for case in (*waiting, *lately)}
        short = store.shortest_prefixes(ids)
    open_ids = {case.incident.id for case in waiting}
    document = {
        "since": utc(start),
        "until": utc(now),
        "by": chosen.user,
        "paused": pause.paused,
        "paused_by": pause.by or None,
        "waiting": [incident_document(case) for case in waiting],
        "acting": [incident_document(case) for case in lately if case.status == "acting"],
        "happened": [
            incident_document(case)
            for case in lately
            if case.status != "acting" and case.incident.id not in open_ids
        ],
        "holds": [hold_document(one) for one in holds],
    }
    if json:
        print_json(document)
        return
    from aiops_cli.handover import as_markdown, as_text

    if markdown:
        console().print(as_markdown(document, short), soft_wrap=True)
    else:
        console().print(as_text(document, short))
