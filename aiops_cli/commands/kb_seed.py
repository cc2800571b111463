"""`aiops kb seed`: runbooks and old tickets into the knowledge base, or only shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from knowledge.base import SeedPlan
    from knowledge.runbooks import Reading


def seed(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(help="Runbooks (YAML, Markdown), tickets (JSONL), folders, quoted globs."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is understood; store nothing.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read runbooks into the knowledge base; twice changes nothing."""
    from aiops_cli import services
    from knowledge.runbooks import survey

    chosen = settings(ctx)
    reading = survey(paths, in_git=True)  # all of it, before any of it is stored
    if not dry_run:
        reading.checked()
    with services.knowledge_base(chosen) as knowledge:
        if dry_run:
            # What was refused has not vanished.
            scopes = () if reading.refused else reading.scopes
            plan = knowledge.plan_seed(reading.entries, files=reading.files, scopes=scopes)
        else:
            plan = knowledge.seed(
                reading.entries,
                files=reading.files,
                scopes=reading.scopes,
                by=chosen.user,
                at=services.SystemClock().now(),
            )
    if json:
        print_json(_counts(plan) | (_understood(plan, reading) if dry_run else {}))
        if reading.refused:
            raise typer.Exit(UsageError.exit_code)
        return
    for file, reason in reading.left_out:
        console(stderr=True).print(f"left out {file}: {reason}")
    if dry_run:
        page(_preview(plan))
        reading.checked()
    counts = _counts(plan)
    console().print(
        f"{counts['added']} added, {counts['changed']} changed, {counts['same']} as they were, "
        f"{counts['retired']} retired" + (" (dry run: nothing was stored)" if dry_run else "")
    )


def _counts(plan: SeedPlan) -> dict[str, Any]:
    return {
        "added": len(plan.added),
        "changed": len(plan.changed),
        "same": len(plan.same),
        "retired": len(plan.retired),
    }


def _understood(plan: SeedPlan, reading: Reading) -> dict[str, Any]:
    from aiops_cli.published import entry_document

    changes = {"added": plan.added, "changed": plan.changed, "same": plan.same}
    return {
        "entries": [
            entry_document(entry) | {"change": change}
            for change, entries in changes.items()
            for entry in entries
        ],
        "vanished": [entry_document(entry) for entry in plan.retired],
        "left_out": [{"file": file, "reason": reason} for file, reason in reading.left_out],
        "refused": [line for error in reading.refused for line in error.message.split("\n")],
    }


def _preview(plan: SeedPlan) -> RenderableType:
    """What is new, as it was understood, and what goes; what stays as it is is only counted."""
    from rich.console import Group

    from aiops_cli.published import entry_document
    from aiops_cli.screen import fields

    shown: list[RenderableType] = []
    for change, entries in (("add", plan.added), ("change", plan.changed)):
        for entry in entries:
            document = entry_document(entry)
            shown += [fields([(change, f"{entry.title}  ({entry.source})"), *_told(document)]), ""]
    gone = [("retire", f"{entry.title}  ({entry.source})") for entry in plan.retired]
    # Its file is what it was, or differs in what a person's retirement outlives.
    gone += [
        ("stays retired", f"{entry.title}  ({entry.source})")
        for entry in plan.same
        if entry.retired
    ]
    return Group(*shown, *([fields(gone), ""] if gone else []))


def _told(document: dict[str, Any]) -> list[tuple[str, object]]:
    action = " ".join(
        [
            document["action"] or "",
            *(f"{name}={value}" for name, value in document["params"].items()),
        ]
    ).strip()
    if document["suggestion_only"]:
        action = f"{action or 'advice'} (from prose: a suggestion, never done alone)"
    rows: list[tuple[str, object]] = [("  looks like", text) for text in document["symptoms"]]
    rows += [
        ("  cause", document["cause"]),
        ("  action", action or "none known: a person decides"),
        ("  why", document["explanation"]),
        (
            "  re-run",
            {True: "safe, it says", False: "not safe, it says", None: ""}[
                document["safe_to_retry"]
            ],
        ),
        ("  dags", ", ".join(document["dags"])),
        ("  tags", ", ".join(document["tags"])),
        ("  owner", document["owner"] or "nobody named"),
        ("  edited", document["edited"] or "no date: its age is not known"),
    ]
    return [(name, value) for name, value in rows if value]
