"""`aiops audit`: who decided what, and that nothing of it was altered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json
from aiops_cli.errors import KnowledgeBaseError, UsageError

if TYPE_CHECKING:
    from knowledge.stores import AuditHead, AuditRecord


def audit(
    ctx: typer.Context,
    since: Annotated[str | None, typer.Option(help="How far back: 90m, 24h, 7d.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1)] = 50,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what was decided, allowed and changed, by whom; the newest last."""
    from aiops_cli import services
    from aiops_cli.config import typed_duration

    start = None
    if since is not None:
        start = services.SystemClock().now() - typed_duration(since)
    with services.store(settings(ctx)) as store:
        records = store.audit(since=start, limit=limit)
    if json:
        print_json({"audit": [_document(record) for record in records]})
    elif records:
        from aiops_cli.listings import audit_table

        page(audit_table([_document(record) for record in records]))
    else:
        console(stderr=True).print("nothing was decided" + (" since then" if since else " yet"))


def verify(
    ctx: typer.Context,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="SEQ:HASH", help="A head noted elsewhere; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that no row of the log, and nothing that was logged, was altered, removed or put in
    another order, and that its tail was not cut since this machine saw it. Exit code 4 where
    something was."""
    from aiops_cli import anchors, services

    heads = [_head(text) for text in head or ()]
    with services.store(settings(ctx)) as store:
        seen = anchors.kept(store.base_id())
        report = store.audit_verify([*heads, *([seen] if seen else [])])
        if not report.faults:
            anchors.keep(store, lambda text: typer.echo(f"warning: {text}", err=True))
        where = anchors.place(store.base_id())
    told = f"{report.head.seq}:{report.head.hash}"
    if json:
        faults = list(report.faults)
        row = seen.seq if seen else None
        print_json({"rows": report.head.seq, "head": told, "seen_before": row, "faults": faults})
    elif not report.faults:
        also = (
            f", and goes on from what this machine saw before (row {seen.seq})"
            if seen
            else "; this machine had seen none of them before, so a cut tail would not show"
        )
        console().print(f"{report.head.seq} rows, none altered{also}", soft_wrap=True)
        console().print(f"head {told}", soft_wrap=True)
    else:
        for fault in report.faults:
            console().print(fault, soft_wrap=True)
    if report.faults and json:
        raise typer.Exit(KnowledgeBaseError.exit_code)
    if report.faults:
        raise KnowledgeBaseError(
            f"the audit log does not hold: {len(report.faults)} faults",
            f"find out who had access; if an older copy was put back on purpose, remove {where}",
        )


def _head(text: str) -> AuditHead:
    from knowledge.stores import AuditHead

    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != 64:
        raise UsageError(f"--head {text!r} is no head", "give it as verify printed it: 12:3f…")
    return AuditHead(int(number), digest)


def _document(record: AuditRecord) -> dict[str, Any]:
    from aiops_cli.published import utc

    row = record.document
    return {
        "seq": record.seq,
        "at": utc(record.at),
        "what": record.what,
        "ref": record.ref,
        "by": row.get("by"),
        "incident": row.get("incident_id"),
        "row": row,
        "hash": record.hash,
    }
