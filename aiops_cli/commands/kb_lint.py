"""`aiops kb lint`: what is wrong with what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json

if TYPE_CHECKING:
    from knowledge.lint import Finding


def lint(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which entries contradict or repeat each other, mislead, are unfinished or never used,
    why it matters and what to do about it. Changes nothing."""
    from aiops_cli import services
    from aiops_cli.actions import CATALOGUE
    from knowledge.lint import STALE_AFTER
    from knowledge.lint import lint as look

    with services.knowledge_base(settings(ctx)) as knowledge:
        store = knowledge.store
        entries, now = store.entries(), services.SystemClock().now()
        ids = [entry.id for entry in entries]
        findings = look(
            entries,
            trials=store.trials(),
            uses=store.uses(ids),
            lately=store.uses(ids, since=now - STALE_AFTER),
            takes={action.name: action.params for action in CATALOGUE.values()},
            now=now,
        )
    documents = [_document(finding) for finding in findings]
    if json:
        print_json({"findings": documents})
    elif documents:
        from aiops_cli.listings import finding_list

        page(finding_list(documents))
    else:
        own = sum(not entry.starter for entry in entries)
        console(stderr=True).print(f"nothing is wrong with your {own} entries")


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "what": finding.what,
        "why": finding.why,
        "todo": finding.todo,
        "commands": list(finding.commands),
        "similarity": finding.similarity,
        "entries": [
            {
                "entry": entry.id,
                "kind": entry.kind,
                "title": entry.title,
                "source": entry.source,
                "action": entry.action,
            }
            for entry in finding.entries
        ],
    }
