"""`aiops incidents`: the queue and the history, from the knowledge base alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from knowledge.stores import Store

Document = Mapping[str, Any]

# It failed, it was seen, it was judged: the card tells these.
UNTOLD = 3


def incidents(
    ctx: typer.Context,
    status: Annotated[
        list[str] | None, typer.Option(help="Only these: pending, acting, resolved, failed, …")
    ] = None,
    dag: Annotated[str | None, typer.Option(help="DAG id or glob.")] = None,
    since: Annotated[str | None, typer.Option(help="How far back: 90m, 24h, 7d.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1)] = 100,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 where incidents wait for a person.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List incidents, newest first."""
    from aiops_cli import services
    from aiops_cli.published import incident_document
    from knowledge.records import STATUSES

    unknown = sorted(set(status or ()) - set(STATUSES))
    if unknown:
        raise UsageError(f"there is no status {unknown[0]!r}", f"one of: {', '.join(STATUSES)}")
    start = None
    if since is not None:
        from aiops_cli.config import typed_duration

        start = services.SystemClock().now() - typed_duration(since)
    with services.store(settings(ctx)) as store:
        cases = store.cases(
            status=[name for name in STATUSES if name in (status or ())],
            instance=ctx.obj.instance,
            dag=dag,
            since=start,
            limit=limit,
        )
        documents = [incident_document(case) for case in cases]
        short = {} if json else short_ids(store, documents)
        waiting = exit_code and store.cases(
            status=["pending", "needs_human"], instance=ctx.obj.instance, snoozed=False, limit=1
        )
    if json:
        print_json({"incidents": documents})
    elif documents:
        from aiops_cli.listings import incident_table

        page(incident_table(documents, short))
    else:
        console(stderr=True).print("no incidents")
    if waiting:
        raise typer.Exit(10)


def short_ids(store: Store, documents: Sequence[Document]) -> Mapping[str, str]:
    """Of the incidents and of their groups."""
    groups = {doc["group"] for doc in documents if doc["group"]}
    return store.shortest_prefixes([*(doc["incident"] for doc in documents), *groups])


def show(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one incident with everything that was written of it, or a group with its members."""
    from aiops_cli import services
    from aiops_cli.published import incident_document
    from aiops_cli.story import plans, story

    with services.store(settings(ctx)) as store:
        cases = [store.case(one) for one in store.find_ids(id_)]
        documents = [incident_document(case) for case in cases]
        short = short_ids(store, documents)
        written = store.story(cases[0].incident.id)
    if len(documents) > 1:
        if json:
            print_json({"incidents": documents})
        else:
            page(_storm(documents, short))
        return
    document = documents[0] | {"story": story(cases[0], written)}
    if json:
        print_json(document)
    else:
        page(_whole(document, short[document["incident"]], plans(written)))


def _storm(documents: Sequence[Document], short: Mapping[str, str]) -> RenderableType:
    from aiops_cli.listings import storm_card
    from aiops_cli.storms import Storm

    return storm_card(Storm(tuple(documents)), short)


def _whole(document: Document, short: str, plans: Sequence[tuple[str, Document]]) -> RenderableType:
    """The card; where more was said or done than it has room for, the story; and each plan that
    was carried out."""
    from rich.console import Group  # as `page`: not for --json
    from rich.text import Text

    from aiops_cli.render import incident_card
    from aiops_cli.render_plan import plan_text
    from aiops_cli.screen import fields
    from aiops_cli.story import told

    parts = [incident_card(document, short)]
    if len(document["story"]) > UNTOLD:
        parts += [Text("\nSTORY", "bold"), fields(told(document["story"]))]
    for name, plan in plans:
        parts += [Text(f"\n{name}", "bold"), plan_text(plan)]
    return Group(*parts)
