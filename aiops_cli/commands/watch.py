"""`aiops watch`: poll, diagnose, act where the record and the grants allow it, settle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import AirflowError, UsageError
from knowledge.errors import StoreUnusable

if TYPE_CHECKING:
    from aiops_cli.examine import Desk
    from aiops_cli.watch import Mode
    from knowledge.records import Case

LONGEST_WAIT = 60  # seconds between two tries; the first wait is one, each other twice as long


def watch(
    ctx: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="One pass, for cron.")] = False,
    auto: Annotated[bool, typer.Option("--auto", help="Act within the grants.")] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Only write down what would have been done.")
    ] = False,
    ask: Annotated[bool, typer.Option("--ask", help="Leave everything to a person.")] = False,
    interval: Annotated[str | None, typer.Option(help="Between passes: 30s, 5m.")] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 10 where incidents wait for a person.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one incident a line.")] = False,
) -> None:
    """Poll, diagnose, and act where the record allows it. Prints what is new or changed."""
    from aiops_cli import services

    flags = [name for name, on in (("auto", auto), ("shadow", shadow), ("ask", ask)) if on]
    if len(flags) > 1:
        raise UsageError("--auto, --shadow and --ask exclude each other", "give one of them")
    chosen = settings(ctx, mode=flags[0] if flags else None, interval=interval)
    talk = console(stderr=True)
    # One slow model never blocks polling or settling: its answers count from a later pass on.
    with services.desk(chosen, asks="background") as desk:
        mode: Mode = chosen.mode
        away = 0  # seconds to the next try, while the knowledge base cannot be used
        while True:
            # A watcher outlives an outage, a login that ends and a locked file.
            try:
                mode = _mode(desk, chosen.mode, mode)  # a grant may come and go
                _pass(desk, mode, json)
            except StoreUnusable as error:
                if once:
                    raise
                if not away:
                    what = (
                        "nothing is done until it can be used again (tried at least once a minute)"
                    )
                    talk.print(f"{error.message}; {what}; {error.hint}", soft_wrap=True)
                away = min(2 * away or 1, LONGEST_WAIT)
                desk.clock.sleep(away)
                continue
            except AirflowError as error:
                if once:
                    raise
                talk.print(f"{error.message}; trying again in {chosen.interval}")
            if away:
                talk.print("the knowledge base can be used again")
                away = 0
            if once:
                _hear(desk, mode, json)
                break
            desk.clock.sleep(chosen.interval.total_seconds())
        waiting = exit_code and desk.knowledge.store.cases(
            status=["pending", "needs_human"], instance=desk.instance, snoozed=False, limit=1
        )
    if waiting:
        raise typer.Exit(10)


def _mode(desk: Desk, wanted: Mode, before: Mode) -> Mode:
    """Auto with nobody's leave is shadow, which is told when it begins."""
    now = desk.clock.now()
    granted = any(
        grant.revoked_at is None and (grant.until is None or grant.until > now)
        for grant in desk.knowledge.store.grants()
    )
    if wanted != "auto" or granted:
        return wanted
    if before != "shadow":
        said = "no grant is in force: shadow, nothing is done alone (aiops auto grant)"
        console(stderr=True).print(said)
    return "shadow"


def _pass(desk: Desk, mode: Mode, json: bool) -> None:
    from aiops_cli.watch import one_pass

    talk = console(stderr=True)
    for case in one_pass(desk, mode, talk.print):
        _tell(desk, case, json)


def _hear(desk: Desk, mode: Mode, json: bool) -> None:
    """There is no later pass: wait for the model, and look once more at what it was asked for."""
    advisor = desk.advisor
    if advisor is not None and advisor.wait(desk.settings.llm_timeout.total_seconds()):
        advisor.when = "stored"
        _pass(desk, mode, json)


def _tell(desk: Desk, case: Case, json: bool) -> None:
    from aiops_cli.published import incident_document

    document = incident_document(case)
    if json:
        print_json(document)
        return
    from aiops_cli.render import incident_line

    short = desk.knowledge.store.shortest_prefixes([case.incident.id])
    console().print(incident_line(document, short[case.incident.id]), soft_wrap=True)
