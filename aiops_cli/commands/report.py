"""`aiops report`: what a week of failures says, and the runbook it calls for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, page, print_json, progress
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from aiops_cli.config import Settings
    from aiops_cli.report import DagKey
    from aiops_cli.runbook_draft import Seen
    from knowledge.records import Brief
    from knowledge.stores import Store

LOOKED_UP = 50  # kinds of failure, the most frequent ones, are looked for in the runbooks
ASKED = 20  # tasks of each of them, those decided on last, whether they may run again


def report(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="With --draft-runbook: where to; stdout otherwise.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back: 7d, 30d.")] = "7d",
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown, to paste.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts.")
    ] = None,
    draft_runbook: Annotated[
        bool,
        typer.Option("--draft-runbook", help="Write a runbook to edit, from what people did."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what keeps failing, what it costs, what fixed it, and who did: for a weekly review."""
    from aiops_cli import services
    from aiops_cli.config import typed_duration
    from knowledge.lessons import briefs_apart

    if sum((markdown, html is not None, draft_runbook, json)) > 1:
        raise UsageError(
            "--json, --markdown, --html and --draft-runbook exclude each other", "take one of them"
        )
    if file is not None and not draft_runbook:
        raise UsageError(f"{file}: only --draft-runbook takes a file", "see aiops report --help")
    chosen = settings(ctx)
    now = services.SystemClock().now()
    start = now - typed_duration(since)
    with services.store(chosen) as store:
        found = store.briefs(since=start, instance=ctx.obj.instance)
        briefs = briefs_apart(found, chosen.machine_logins)
        unwritten = _unwritten(store, briefs)
        if draft_runbook:
            _draft(_seen(store, briefs, unwritten), now, file)
            return
        document = _document(chosen, briefs, unwritten, start, now, ctx.obj.instance)
        short = store.shortest_prefixes(
            {one["incident"] for key in ("wrong", "failures", "novel") for one in document[key]}
        )
    if json:
        print_json(document)
    else:
        _tell(document, short, html, markdown)


def _document(
    chosen: Settings,
    briefs: Sequence[Brief],
    unwritten: Sequence[str],
    start: datetime,
    now: datetime,
    instance: str | None,
) -> dict[str, Any]:
    from aiops_cli import report as counted
    from aiops_cli.report_value import LISTED, document

    runs, missing = _runs(chosen, counted.worst_dags(briefs)[:LISTED], start)
    made: dict[str, Any] = document(
        counted.report(
            briefs,
            since=start,
            until=now,
            instance=instance,
            runs=runs,
            unwritten=unwritten,
            missing=missing,
        )
    )
    return made


def _tell(
    document: Mapping[str, Any], short: Mapping[str, str], html: Path | None, markdown: bool
) -> None:
    from aiops_cli.report_text import as_markdown, as_text

    if html is not None:
        from aiops_cli.page import save
        from aiops_cli.report_page import as_html

        save(html, as_html(document, short))
    elif markdown:
        console().print(as_markdown(document, short), soft_wrap=True)
    else:
        page(as_text(document, short))


def _runs(
    chosen: Settings, dags: Sequence[DagKey], since: datetime
) -> tuple[dict[DagKey, int], list[str]]:
    """How many runs of each DAG ended, as its Airflow counts them, and what kept one from being
    asked: the record is told without it."""
    from aiops_cli import services
    from aiops_cli.errors import AirflowError, AirflowForbidden, AirflowNotFound, ConfigError

    found: dict[DagKey, int] = {}
    missing = []
    with progress("counting runs") as told:
        for instance in dict.fromkeys(instance for instance, _ in dags):
            try:
                airflow = services.airflow(chosen, instance)
                for _, dag in (key for key in dags if key[0] == instance):
                    told(len(found), len(dags))
                    try:
                        count = airflow.run_count(dag, since=since)
                    except (AirflowNotFound, AirflowForbidden):
                        continue  # gone, or not to be read: its rate is not known
                    if count is not None:
                        found[instance, dag] = count
            except (AirflowError, ConfigError) as error:
                missing.append(f"failure rates of {instance} are missing: {error.message}")
    return found, missing


# ---- what no runbook answers to ----


def _unwritten(store: Store, briefs: Sequence[Brief]) -> list[str]:
    """The fingerprints that no live runbook entry answers to, the most frequent first."""
    from aiops_cli.report import by_signature

    return [
        one.fingerprint
        for one in by_signature(briefs)[:LOOKED_UP]
        if not _in_a_runbook(store, one.fingerprint, one.incident)
    ]


def _in_a_runbook(store: Store, fingerprint: str, incident_id: str) -> bool:
    """Whether an entry has this very failure, or was near enough when it was judged last."""
    if any(found.entry.kind == "runbook" for found in store.find_exact(fingerprint)):
        return True
    judgement = store.case(incident_id).judgement
    if judgement is None:
        return False
    document = judgement.document
    bounds = [
        check["bound"]
        for check in (document.get("gate") or {}).get("checks", ())
        if check["name"] == "similarity" and isinstance(check["bound"], int | float)
    ]
    return any(
        match["kind"] == "runbook" and bounds and match["similarity"] >= bounds[0]
        for match in document.get("matches", ())
    )


def _seen(store: Store, briefs: Sequence[Brief], fingerprints: Sequence[str]) -> list[Seen]:
    """All that is known of each of these failures."""
    from aiops_cli.runbook_draft import Seen, tasks_decided_on

    members: dict[str, list[Brief]] = {one: [] for one in fingerprints}
    for brief in briefs:
        if brief.fingerprint in members:
            members[brief.fingerprint].append(brief)
    return [
        Seen(
            own,
            store.case(own[-1].incident_id).incident,
            [
                vouch
                for task in tasks_decided_on(own)[:ASKED]
                for vouch in store.vouches(*task)
                if vouch.fingerprint in (None, fingerprint)
            ],
        )
        for fingerprint, own in members.items()
    ]


def _draft(several: Sequence[Seen], now: datetime, file: Path | None) -> None:
    from aiops_cli.runbook_draft import draft

    if file is not None and file.exists():
        raise UsageError(f"{file} is there already", "a draft overwrites nothing: name another one")
    text, count, left_out = draft(several, now)
    talk = console(stderr=True)
    if not count:
        talk.print(
            f"nothing to draft: of {len(left_out)} kinds of failure that no runbook answers to "
            "nobody has named a cause or done what helped"
            if left_out
            else "nothing to draft: runbooks answer to all that failed"
        )
        return
    if file is None:
        console().print(text, soft_wrap=True)
        return
    from aiops_cli.page import save

    save(file, text + "\n")
    talk.print(f"{count} entries drafted; edit {file}, then: aiops kb seed {file}")
