"""`aiops kb`: what is known, and from where."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json
from aiops_cli.errors import UsageError
from knowledge.errors import ModelUnavailable

if TYPE_CHECKING:
    from knowledge.records import Entry


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
    from aiops_cli.published import entry_document
    from knowledge.base import symptom
    from knowledge.records import Entry, short_hash
    from knowledge.redact import clean, redact

    _check(None, action)
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


Kind = Annotated[str | None, typer.Option(help="Only of this kind: runbook, incident or history.")]
Action = Annotated[str | None, typer.Option(help="Only with this action.")]


def list_(
    ctx: typer.Context,
    words: Annotated[
        str | None, typer.Argument(help="Only with this in its title, cause or symptoms.")
    ] = None,
    kind: Kind = None,
    source: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Only from here; starter/ came with aiops.")
    ] = None,
    action: Action = None,
    dag: Annotated[str | None, typer.Option(help="Only those written for this DAG.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    retired: Annotated[bool, typer.Option("--retired", help="Retired ones too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the entries, one's own first; those that came with aiops are counted, unless a filter
    asks for them."""
    from aiops_cli import services
    from aiops_cli.published import entry_document

    _check(kind, action)
    with services.knowledge_base(settings(ctx)) as knowledge:
        known = knowledge.store.entries(kind=kind, source=source, retired=retired)
    entries = [
        entry
        for entry in known
        if (action is None or entry.action == action)
        and (dag is None or (entry.dags and _answers_for(entry, dag)))
        and (tag is None or tag in entry.tags)
        and (words is None or _says(entry, words))
    ]
    own = [entry for entry in entries if not entry.starter]
    shipped = [entry for entry in entries if entry.starter]
    filtered = any((words, kind, source, action, dag, tag))
    counted = bool(shipped) and not (json or filtered)
    shown = own if counted else own + shipped
    nothing = "no entry fits" if filtered else "nothing is known yet"
    if shown or not counted:
        _show_all([entry_document(entry) for entry in shown], json, nothing)
    if counted:
        told = "more came" if own else "came"
        talk = f"{len(shipped)} {told} with aiops: aiops kb list --source starter/"
        console(stderr=True).print(talk if own else f"nothing of your own is known yet; {talk}")


def search(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="An error text or words; - reads stdin.")],
    kind: Kind = None,
    action: Action = None,
    dag: Annotated[
        str | None, typer.Option(help="As for this DAG: not what is written for others.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=50)] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find entries that fit a text. What a filter leaves out though it fits better is told."""
    from aiops_cli import services
    from aiops_cli.published import entry_document
    from knowledge.base import symptom

    _check(kind, action)
    wanted = sys.stdin.read() if text == "-" else text
    with services.knowledge_base(settings(ctx)) as knowledge:
        signature = symptom(wanted).signature
        try:
            # What a filter leaves out must not take the place of what it asks for.
            matches = knowledge.find(signature, deep=any((kind, action, dag)))
        except ModelUnavailable as error:
            matches = knowledge.exact(signature)
            told = f"only the very same failures were looked for: {error.message}"
            console(stderr=True).print(told)
    fitting = [
        match
        for match in matches
        if (kind is None or match.entry.kind == kind)
        and (action is None or match.entry.action == action)
        and (dag is None or _answers_for(match.entry, dag))
    ]
    found = [
        entry_document(match.entry)
        | {"similarity": round(match.similarity, 4), "found": match.found}
        for match in fitting[:limit]
    ]
    _show_all(found, json, "nothing fits")
    if matches and matches[0] not in fitting:
        best = matches[0]
        console(stderr=True).print(
            f"left out by the filters: {best.entry.id} fits best ({best.similarity:.2f})"
        )


def show(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Entry id, or a unique start of it.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one entry and what came of it."""
    from aiops_cli import services
    from aiops_cli.published import entry_document

    with services.knowledge_base(settings(ctx)) as knowledge:
        entry = knowledge.store.entry(id_)
        record = knowledge.record(entry)
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
    """Count what is known, how old and how much used it is, and what came of it."""
    from collections import Counter

    from aiops_cli import services
    from knowledge.lint import written_on

    chosen = settings(ctx)
    with services.store(chosen) as store, services.knowledge(chosen, store):
        entries, everything = store.entries(), store.entries(retired=True)
        own = [entry for entry in entries if not entry.starter]
        uses = store.uses([entry.id for entry in entries])
        trials, space = store.trials(), store.vector_space()
        today = services.SystemClock().now().date()
        ages = sorted((today - written_on(entry)).days for entry in own)
        document: dict[str, Any] = {
            "location": store.location,
            "base": store.base_id(),
            "entries": dict(Counter(entry.kind for entry in entries)),
            "starter": len(entries) - len(own),
            "own": len(own),
            "used": sum(bool(uses[entry.id]) for entry in own),
            "starter_used": sum(bool(uses[entry.id]) for entry in entries if entry.starter),
            "age_days": {"newest": ages[0], "median": ages[len(ages) // 2], "oldest": ages[-1]}
            if ages
            else None,
            "actions": dict(Counter(entry.action or "not known" for entry in own)),
            "retired": len(everything) - len(entries),
            "incidents": dict(store.counts()),
            "acts": dict(Counter(trial.outcome or "not settled" for trial in trials)),
            "alone": sum(trial.mode == "auto" for trial in trials),
            "embedder": space.embedder if space else None,
            "advice": store.advice() or None,
        }
    if json:
        print_json(document)
        return
    from aiops_cli.screen import fields

    def told(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

    age = document["age_days"]
    console().print(
        fields(
            [
                ("knowledge base", document["location"]),
                ("entries", f"{told(document['entries'])} ({document['starter']} came with aiops)"),
                (
                    "used",
                    f"{document['used']} of {document['own']} of your own, "
                    f"{document['starter_used']} of those that came with aiops",
                ),
                ("actions", told(document["actions"])),
                (
                    "age in days",
                    f"newest {age['newest']}, half under {age['median']}, oldest {age['oldest']}"
                    if age
                    else "none of your own",
                ),
                ("retired", document["retired"]),
                ("incidents", told(document["incidents"])),
                ("acts", f"{told(document['acts'])} ({document['alone']} alone)"),
                ("embedder", document["embedder"] or "no vectors yet"),
                *([("advice", document["advice"])] if document["advice"] else []),
            ]
        )
    )


def _check(kind: str | None, action: str | None) -> None:
    from aiops_cli.actions import CATALOGUE

    if kind not in (None, "runbook", "incident", "history"):
        raise UsageError(f"there is no kind {kind!r}", "one of: runbook, incident, history")
    if action is not None and action not in CATALOGUE:
        raise UsageError(f"there is no action {action!r}", f"one of: {', '.join(CATALOGUE)}")


def _answers_for(entry: Entry, dag: str) -> bool:
    """Whether it answers for this DAG, as in `diagnosis.ladder`."""
    return not entry.dags or any(fnmatchcase(dag, pattern) for pattern in entry.dags)


def _says(entry: Entry, words: str) -> bool:
    texts = (entry.title, entry.cause, *(one.text for one in entry.symptoms))
    return any(words.casefold() in text.casefold() for text in texts)


def _show_all(documents: list[dict[str, Any]], json: bool, nothing: str) -> None:
    if json:
        print_json({"entries": documents})
    elif documents:
        from aiops_cli.render import entry_table

        page(entry_table(documents))
    else:
        console(stderr=True).print(nothing)
