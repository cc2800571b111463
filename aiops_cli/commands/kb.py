"""`aiops kb`: what is known, and from where."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json
from aiops_cli.errors import UsageError


def seed(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Runbooks: YAML, Markdown, or folders.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read runbooks into the knowledge base; twice changes nothing."""
    from aiops_cli import services
    from knowledge.runbooks import read_runbooks

    chosen = settings(ctx)
    entries = read_runbooks(paths)  # all of it, before any of it is stored
    with services.knowledge_base(chosen) as knowledge:
        done = knowledge.seed(
            entries,
            folders=[path.resolve().name for path in paths if path.is_dir()],
            by=chosen.user,
            at=services.SystemClock().now(),
        )
    if json:
        print_json(
            {
                "added": done.added,
                "changed": done.changed,
                "same": done.same,
                "retired": done.retired,
            }
        )
    else:
        console().print(
            f"{done.added} added, {done.changed} changed, {done.same} as they were, "
            f"{done.retired} retired"
        )


def add(
    ctx: typer.Context,
    title: Annotated[str, typer.Option(help="What it is, in a line.")],
    error: Annotated[list[str], typer.Option(help="A real error text; - reads stdin.")],
    cause: Annotated[str, typer.Option(help="Why it happens.")],
    action: Annotated[str | None, typer.Option(help="What fixes it, from the catalogue.")] = None,
    dag: Annotated[list[str] | None, typer.Option(help="Only in these DAGs (globs).")] = None,
    safe_to_retry: Annotated[
        bool | None, typer.Option("--safe-to-retry/--not-safe-to-retry")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Add one entry by hand."""
    from aiops_cli import services
    from aiops_cli.actions import CATALOGUE
    from aiops_cli.published import entry_document
    from knowledge.base import symptom
    from knowledge.records import Entry, short_hash
    from knowledge.redact import clean, redact

    if action is not None and action not in CATALOGUE:
        raise UsageError(f"there is no action {action!r}", f"one of: {', '.join(CATALOGUE)}")
    for name, value in (("title", title), ("cause", cause)):
        if not value.strip():
            raise UsageError(f"--{name} is empty", "it is what people read at night")
    texts = [sys.stdin.read() if text == "-" else text for text in error]
    symptoms = tuple(symptom(text) for text in texts)
    if not all(each.signature.text for each in symptoms):
        raise UsageError("an error text is empty", "give the error as the log has it")
    chosen = settings(ctx)
    entry = Entry(
        id=short_hash("added", title, *texts),
        kind="runbook",
        source=f"added by {chosen.user}",
        title=redact(clean(title)),
        symptoms=symptoms,
        cause=redact(clean(cause)),
        created_at=services.SystemClock().now(),
        action=action,
        safe_to_retry=safe_to_retry,
        dags=tuple(dag or ()),
        owner=chosen.user,
    )
    with services.knowledge_base(chosen) as knowledge:
        knowledge.put([entry], entry.created_at)
    if json:
        print_json(entry_document(entry))
    else:
        console().print(f"added {entry.id}: {entry.title}")


def list_(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option(help="runbook, incident or history.")] = None,
    retired: Annotated[bool, typer.Option("--retired", help="Retired ones too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the entries."""
    from aiops_cli import services
    from aiops_cli.published import entry_document

    if kind not in (None, "runbook", "incident", "history"):
        raise UsageError(f"there is no kind {kind!r}", "one of: runbook, incident, history")
    with services.knowledge_base(settings(ctx)) as knowledge:
        entries = knowledge.store.entries(kind=kind, retired=retired)
    _show_all([entry_document(entry) for entry in entries], json, "nothing is known yet")


def search(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="An error text or words; - reads stdin.")],
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=50)] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find entries that fit a text."""
    from aiops_cli import services
    from aiops_cli.published import entry_document
    from knowledge.base import symptom

    wanted = sys.stdin.read() if text == "-" else text
    with services.knowledge_base(settings(ctx)) as knowledge:
        matches = knowledge.find(symptom(wanted).signature, limit=limit)
    found = [
        entry_document(match.entry)
        | {"similarity": round(match.similarity, 4), "found": match.found}
        for match in matches
    ]
    _show_all(found, json, "nothing fits")


def show(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Entry id, or a unique start of it.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one entry and what came of it."""
    from aiops_cli import services
    from aiops_cli.published import entry_document
    from knowledge.evidence import tally

    with services.knowledge_base(settings(ctx)) as knowledge:
        entry = knowledge.store.entry(id_)
        prints = {each.signature.fingerprint for each in entry.symptoms}
        record = tally(knowledge.store.trials(fingerprints=prints), entry.action)
    document = entry_document(entry) | {"record": record}
    if json:
        print_json(document)
        return
    from aiops_cli.render import entry_card

    console().print(entry_card(document))


def retire(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Entry ids.")],
    reason: Annotated[str, typer.Option(help="Why it is not true any more.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take entries out of use: never matched again, still readable."""
    from aiops_cli import services
    from aiops_cli.published import entry_document

    chosen = settings(ctx)
    with services.store(chosen) as store:
        full = [store.entry(one).id for one in dict.fromkeys(ids)]
        done = store.retire_entries(full, chosen.user, services.SystemClock().now(), reason)
        documents = [entry_document(store.entry(one)) for one in full]
    if json:
        print_json({"entries": documents})
    else:
        console(stderr=True).print(f"{done} retired")


def stats(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count what is known, what was seen, and what came of it."""
    from collections import Counter

    from aiops_cli import services

    with services.knowledge_base(settings(ctx)) as knowledge:
        store = knowledge.store
        entries, everything = store.entries(), store.entries(retired=True)
        trials, space = store.trials(), store.vector_space()
        document: dict[str, Any] = {
            "location": store.location,
            "base": store.base_id(),
            "entries": dict(Counter(entry.kind for entry in entries)),
            "starter": sum(entry.source.startswith("starter/") for entry in entries),
            "retired": len(everything) - len(entries),
            "incidents": dict(store.counts()),
            "acts": dict(Counter(trial.outcome or "not settled" for trial in trials)),
            "alone": sum(trial.mode == "auto" for trial in trials),
            "embedder": space.embedder if space else None,
        }
    if json:
        print_json(document)
        return
    from aiops_cli.screen import fields

    def told(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

    console().print(
        fields(
            [
                ("knowledge base", document["location"]),
                ("entries", f"{told(document['entries'])} ({document['starter']} came with aiops)"),
                ("retired", document["retired"]),
                ("incidents", told(document["incidents"])),
                ("acts", f"{told(document['acts'])} ({document['alone']} alone)"),
                ("embedder", document["embedder"] or "no vectors yet"),
            ]
        )
    )


def _show_all(documents: list[dict[str, Any]], json: bool, nothing: str) -> None:
    if json:
        print_json({"entries": documents})
    elif documents:
        from aiops_cli.render import entry_table

        page(entry_table(documents))
    else:
        console(stderr=True).print(nothing)
