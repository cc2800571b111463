"""`aiops kb reindex` and `migrate`: what the knowledge base is kept in."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json, progress


def reindex(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the vectors of the embedder that the settings name, beside those in use, and use them
    once all are there. What was made before an interruption is not made again."""
    from aiops_cli import services
    from knowledge.base import KnowledgeBase

    chosen = settings(ctx)
    now = services.SystemClock().now()
    with services.store(chosen) as store, closing(services.embedder(chosen, None)) as embedder:
        knowledge = KnowledgeBase(store, embedder)
        was = store.vector_space()
        with progress("vectors made") as told:
            made = knowledge.reindex(now, told)
        knowledge.seed_starter(now)
        space = knowledge.space
    if json:
        print_json({"made": made, "was": was and was.embedder, "embedder": space.embedder})
    elif made or was != space:
        console().print(f"{made} vectors made; {space.embedder} is in use")
    else:
        console().print(f"{space.embedder} is in use already; nothing to make")


def migrate(
    ctx: typer.Context,
    role: Annotated[
        str | None, typer.Option(help="The Postgres role that the program uses; gets its rights.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make the tables of a knowledge base in Postgres or bring them up to date, as their owner.
    A file is brought up to date whenever it is opened."""
    from aiops_cli.errors import UsageError
    from knowledge.stores import POSTGRES, migrate_store

    chosen = settings(ctx)
    if role is not None and not chosen.kb.startswith(POSTGRES):
        raise UsageError("--role is for a knowledge base in Postgres", "leave it away")
    versions = migrate_store(chosen.kb, role)
    before, after = versions or (None, None)
    if json:
        print_json({"before": before, "after": after, "role": role})
        return
    if versions is None:
        told = "a file is brought up to date whenever it is opened; this one is"
    elif before == after:
        told = f"up to date: schema {after}"
    else:
        told = f"schema {before} → {after}" if before else f"tables made: schema {after}"
    console().print(told + (f"; {role} may use them" if role else ""))
