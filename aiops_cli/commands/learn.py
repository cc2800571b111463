"""`aiops learn`: what Airflow's own history teaches. Changes nothing in Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json, progress

if TYPE_CHECKING:
    from rich.console import RenderableType

TOP = 10  # failures that are listed


def learn(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Argument(help="DAG id or glob.")] = None,
    since: Annotated[
        str, typer.Option(help="How far back (30d, 12w). Airflow may keep less.")
    ] = "90d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and tell; store nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Learn from Airflow's own history what ended each failure: a re-run, by whom, or a change.

    Can be stopped at any time: the next run goes on from there. What was learned is not read
    again."""
    from aiops_cli import learning, services
    from aiops_cli.config import typed_duration

    chosen = settings(ctx)
    length = typed_duration(since)
    with services.desk(chosen) as desk, progress("days of history") as tick:
        first = desk.clock.now() - length
        learned = learning.learn(desk, since=first, dag=dag, dry_run=dry_run, tick=tick)
        document: dict[str, Any] = learning.document(desk, learned, top=TOP, dry_run=dry_run)
    if json:
        print_json(document)
        return
    page(_shown(document))
    if dry_run:
        console(stderr=True).print("nothing was stored")


def _shown(document: dict[str, Any]) -> RenderableType:
    from aiops_cli.screen import fields

    entries = document["entries"]
    rows: list[tuple[str, object]] = [
        (
            "read",
            f"{document['task_instances']:,} task instances that failed, "
            f"{document['since'][:10]} to {document['until'][:10]}",
        ),
        (
            "learned",
            f"{document['lessons']:,} lesson{'' if document['lessons'] == 1 else 's'}"
            + (
                f"; of the entries {entries['added']:,} new, {entries['changed']:,} changed"
                if document["stored"]
                else ""
            ),
        ),
    ]
    if document["never_run_again"]:
        rows.append(
            ("left", f"{document['never_run_again']:,} are failed still: nothing came after")
        )
    if document["by_aiops"]:
        rows.append(("own", f"{document['by_aiops']:,} tries were run again by aiops: not learned"))
    if refused := [f"{one['dag_id']} since {one['since'][:10]}" for one in document["refused"]]:
        more = f" and {len(refused) - TOP} more" if len(refused) > TOP else ""
        named = ", ".join(refused[:TOP]) + more
        rows.append(("no right", f"{named}: read as soon as this login may"))
    rows += [("not read", f"{one['tries']:,} tries: {one['reason']}") for one in document["unread"]]
    rows += [
        ("answers" if not n else "", _answer(one)) for n, one in enumerate(document["answers"])
    ]
    for number, one in enumerate(document["failures"]):
        told = "; ".join(map(_answer, one["answers"]))
        headline = one["headline"] or one["fingerprint"]
        rows.append(("failures" if not number else "", f"{one['lessons']:,}x {headline}: {told}"))
    return fields(rows)


def _answer(one: dict[str, Any]) -> str:
    known = {"person": "a person", "airflow": "Airflow's own retry", "machine": "a machine"}
    who = known[one["by"]]
    counts = ", ".join(
        f"{name} {one[name]}" for name in ("fixed", "failed", "unknown") if one[name]
    )
    return f"{one['action']} by {who}: {counts}"
