"""`aiops watch`: poll, diagnose, act where the record and the grants allow it, settle, tell."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aiops_cli.commands import settings, watch_ops
from aiops_cli.commands.output import console
from aiops_cli.errors import AirflowError, UsageError
from knowledge.errors import StoreUnusable

if TYPE_CHECKING:
    from aiops_cli.commands.watch_report import Report
    from aiops_cli.config import Settings
    from aiops_cli.examine import Desk
    from aiops_cli.respond import Warn
    from aiops_cli.watch import Mode

LONGEST_WAIT = 60  # seconds between two tries; the first wait is one, each other twice as long
SIGTERM = 128 + 15  # what a shell reports of a program that was ended by it


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
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            metavar="FORMAT", help="What is said on stderr: text, or json, an object a line."
        ),
    ] = "text",
    metrics_port: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]N", help="Serve figures for Prometheus, on 127.0.0.1."),
    ] = None,
    metrics_file: Annotated[
        Path | None, typer.Option(help="Write the figures into this file after each pass.")
    ] = None,
    heartbeat_file: Annotated[
        Path | None, typer.Option(help="Touch this file after each whole pass.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one incident a line.")] = False,
) -> None:
    """Poll, diagnose, and act where the record allows it. Prints what is new or changed; on a
    terminal it shows what came in, what was done and what waits. Tells people by `notify`."""
    from aiops_cli import services
    from aiops_cli.commands.watch_report import reporting
    from aiops_cli.telling import Teller

    flags = [name for name, on in (("auto", auto), ("shadow", shadow), ("ask", ask)) if on]
    if len(flags) > 1:
        raise UsageError("--auto, --shadow and --ask exclude each other", "give one of them")
    chosen = settings(ctx, mode=flags[0] if flags else None, interval=interval)
    log = watch_ops.log_as_json() if log_format == "json" else None

    def warn(text: str) -> None:
        if log is None:
            console(stderr=True).print(text, soft_wrap=True)
        else:
            log.event("message", level="warning", message=text)

    notifier = services.notifier(chosen)
    try:
        with ExitStack() as stack:
            stack.enter_context(watch_ops.ended_by_sigterm())
            # One slow model never blocks polling or settling: its answers count from a later
            # pass on.
            desk = stack.enter_context(services.desk(chosen, asks="background"))
            report = stack.enter_context(
                reporting(
                    desk,
                    warn,
                    log,
                    json=json,
                    live=not (once or json or log),
                    port=metrics_port,
                    files=(metrics_file, heartbeat_file),
                    teller=None if notifier is None else Teller(notifier, warn),
                )
            )
            if once:
                _once(desk, report, warn)
            else:
                _forever(desk, report, chosen, warn)
            waiting = exit_code and desk.knowledge.store.cases(
                status=["pending", "needs_human"], instance=desk.instance, snoozed=False, limit=1
            )
    except watch_ops.Terminated:
        if log is not None:
            log.event("ended", by="SIGTERM")
        raise typer.Exit(SIGTERM if once else 0) from None
    if waiting:
        raise typer.Exit(10)


def _once(desk: Desk, report: Report, warn: Warn) -> None:
    mode = _mode(desk, desk.settings.mode, "off", warn)
    try:
        failed = report.one_pass(mode)
        advisor = desk.advisor
        # There is no later pass: wait for the model, and look once more at what it was asked for.
        wait = desk.settings.llm_timeout.total_seconds()
        if failed is None and advisor is not None and advisor.wait(wait):
            advisor.when = "stored"
            failed = report.one_pass(mode)
    except StoreUnusable as error:
        report.ended("knowledge_base", error.message)
        raise
    if failed is not None:
        raise failed


def _forever(desk: Desk, report: Report, chosen: Settings, warn: Warn) -> None:
    """A watcher outlives an outage, a login that ends and a locked file."""
    from aiops_cli import services
    from aiops_cli.spool import Spool

    mode: Mode = chosen.mode
    spool = Spool(chosen.spool, desk.instance, warn) if chosen.spool else None
    away = 0  # seconds to the next try, while the knowledge base cannot be used
    while True:
        try:
            mode = _mode(desk, chosen.mode, mode, warn)  # a grant may come and go
            if spool:
                spool.begin(desk.clock.now())
            failed: AirflowError | None = report.one_pass(mode)
            if spool and failed is None:
                spool.end(desk.knowledge.store.known_incidents)
            services.keep_head(desk.knowledge)
        except StoreUnusable as error:
            if not away:
                what = "nothing is done until it can be used again (tried at least once a minute)"
                warn(f"{error.message}; {what}; {error.hint}")
            away = min(2 * away or 1, LONGEST_WAIT)
            report.ended("knowledge_base", error.message)
            report.sleep(away)
            continue
        if failed is not None:
            warn(f"{failed.message}; trying again in {chosen.interval}")
        if away:
            warn("the knowledge base can be used again")
            away = 0
        # While Airflow is away no file helps.
        woken = spool.due if spool and failed is None else None
        report.sleep(chosen.interval.total_seconds(), woken)


def _mode(desk: Desk, wanted: Mode, before: Mode, warn: Warn) -> Mode:
    """Auto with nobody's leave is shadow, which is told when it begins."""
    now = desk.clock.now()
    granted = any(
        grant.revoked_at is None and (grant.until is None or grant.until > now)
        for grant in desk.knowledge.store.grants()
    )
    if wanted != "auto" or granted:
        return wanted
    if before != "shadow":
        warn("no grant is in force: shadow, nothing is done alone (aiops auto grant)")
    return "shadow"
