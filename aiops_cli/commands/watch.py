"""`aiops watch`: poll, diagnose, act where the record and the grants allow it, settle, tell."""

from __future__ import annotations

import fnmatch
import re
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aiops_cli.commands import output, settings, watch_ops
from aiops_cli.errors import AirflowError, UsageError
from knowledge.errors import EmbedderMismatch, StoreUnusable
from knowledge.redact import clean

if TYPE_CHECKING:
    from aiops_cli.commands.watch_report import Report
    from aiops_cli.config import Settings
    from aiops_cli.examine import Desk
    from aiops_cli.respond import Warn
    from aiops_cli.watch import Mode
    from knowledge.records import Grant

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
    terminal it shows what came in, what was done and what waits. Tells people by `notify`.
    Several Airflows are watched by `--instance prod,staging` or `--instance '*'`."""
    from aiops_cli import services
    from aiops_cli.commands.watch_report import reporting
    from aiops_cli.telling import Teller

    flags = [name for name, on in (("auto", auto), ("shadow", shadow), ("ask", ask)) if on]
    if len(flags) > 1:
        raise UsageError("--auto, --shadow and --ask exclude each other", "give one of them")
    several = _several(ctx, mode=flags[0] if flags else None, interval=interval)
    chosen = several[0]
    log = watch_ops.log_as_json() if log_format == "json" else None

    def warn(text: str) -> None:
        if log is not None:
            log.event("message", level="warning", message=text)
        elif sys.stderr:  # not by Rich, which would write past the live view, into its lines
            print(clean(text), file=sys.stderr, flush=True)

    notifier = services.notifier(chosen)
    try:
        with ExitStack() as stack:
            ending = stack.enter_context(watch_ops.ended_by_sigterm())
            # One slow model never blocks polling or settling: its answers count from a later
            # pass on.
            desks = stack.enter_context(services.desks(several, asks="background"))
            report = stack.enter_context(
                reporting(
                    desks,
                    warn,
                    log,
                    json=json,
                    live=not (once or json or log),
                    bar=once and not (json or log),
                    port=metrics_port,
                    files=(metrics_file, heartbeat_file),
                    teller=None if notifier is None else Teller(notifier, warn),
                    ending=ending,
                )
            )
            try:
                if once:
                    _once(report, warn)
                else:
                    _forever(report, warn)
            except EmbedderMismatch as error:
                # Somebody ran `kb reindex`: to wait is no help, settings are read at the start.
                report.without_knowledge(error.message)
                raise EmbedderMismatch(f"{error.message}: this watch ends", error.hint) from error
            waiting = exit_code and any(
                desk.knowledge.store.cases(
                    status=["pending", "needs_human"],
                    instance=desk.instance,
                    snoozed=False,
                    limit=1,
                )
                for desk in desks
            )
    except watch_ops.Terminated:
        if log is not None:
            log.event("ended", by="SIGTERM")
        raise typer.Exit(SIGTERM if once else 0) from None
    except KeyboardInterrupt:
        if once:
            raise
        if log is not None:  # how a watch is meant to end: no error
            log.event("ended", by="Ctrl-C")
        else:
            warn("the watch has ended; what it began, the next one settles")
        raise typer.Exit(output.INTERRUPTED) from None
    if waiting:
        raise typer.Exit(10)


def _several(ctx: typer.Context, **flags: str | None) -> list[Settings]:
    """The settings of each Airflow that --instance names: one, or several by commas and globs."""
    named = ctx.obj.instance
    if named is None or not re.search(r"[,*?\[]", named):
        return [settings(ctx, unknown="refuse", **flags)]
    known = settings(ctx, unknown="refuse", instance=None, **flags)
    names: list[str] = []
    for part in re.split(r"\s*,\s*", named.strip(" ,")):
        fits = fnmatch.filter(sorted(known.instances), part)
        names += fits or [known.airflow(part).name]
    return [settings(ctx, unknown="refuse", instance=one, **flags) for one in dict.fromkeys(names)]


def _once(report: Report, warn: Warn) -> None:
    desk = report.desks[0]
    mode = _mode(desk, desk.settings.mode, "off", warn)
    try:
        failed = {name: why for name, why in report.one_pass(mode).items() if why}
        advisor = desk.advisor
        # There is no later pass: wait for the model, and look once more at what it was asked for.
        wait = desk.settings.llm_timeout.total_seconds()
        if len(failed) < len(report.desks) and advisor is not None and advisor.wait(wait):
            advisor.when = "stored"
            again = report.one_pass(mode, left_out=failed)
            failed |= {name: why for name, why in again.items() if why}
    except StoreUnusable as error:
        report.without_knowledge(error.message)
        raise
    if not failed:
        return
    if len(report.desks) == 1:
        raise next(iter(failed.values()))
    for name, why in failed.items():
        warn(f"{name}: {why.message}; {why.hint}")
    raise AirflowError(
        f"{len(failed)} of {len(report.desks)} Airflows could not be read: {', '.join(failed)}",
        "why stands above; the next pass tries again",
    )


def _forever(report: Report, warn: Warn) -> None:
    """A watcher outlives an outage, a login that ends and a locked file."""
    from aiops_cli import services
    from aiops_cli.spool import Spool

    desk = report.desks[0]
    chosen, clock = desk.settings, desk.clock
    interval = chosen.interval.total_seconds()
    mode: Mode = chosen.mode
    leave: dict[str, Grant] | None = None
    spool = Spool(chosen.spool, desk.instance, warn) if chosen.spool else None
    outages: dict[str, Outage] = {}
    away = 0  # seconds to the next try, while the knowledge base cannot be used
    while True:
        try:
            mode = _mode(desk, chosen.mode, mode, warn)  # a grant may come and go
            leave = _tell_leave(desk, leave, warn)
            if spool:
                spool.begin(clock.now())
            resting = [name for name, one in outages.items() if one.again > clock.now()]
            failed = report.one_pass(mode, resting, patience=interval)
            if spool and desk.instance in failed and failed[desk.instance] is None:
                spool.end(desk.knowledge.store.known_incidents)
            services.keep_head(desk.knowledge)
        except StoreUnusable as error:
            if not away:
                what = "nothing is done until it can be used again (tried at least once a minute)"
                warn(f"{error.message}; {what}; {error.hint}")
            away = min(2 * away or 1, LONGEST_WAIT)
            outages.clear()
            report.without_knowledge(error.message)
            report.sleep(away)
            continue
        for one in report.desks:
            if one.instance in failed:
                said = _outage(outages, one.instance, failed[one.instance], one)
                if said:
                    warn(report.of(one, said))
        if away:
            warn("the knowledge base can be used again")
            away = 0
        if report.late:  # it was waited for, as long as the others have to rest
            continue
        # While its Airflow is away no file helps.
        woken = spool.due if spool and desk.instance not in outages else None
        report.sleep(min(interval, LONGEST_WAIT) if outages else interval, woken)


@dataclass(frozen=True)
class Outage:
    """An Airflow that cannot be read: how, and when it is tried again, after how long a rest."""

    kind: type[AirflowError]
    rest: timedelta
    again: datetime


def _outage(outages: dict[str, Outage], name: str, failed: AirflowError | None, desk: Desk) -> str:
    """Note how a pass over an Airflow ended; returned is what is to be said of it, "" mostly. One
    that stays away is tried ever more rarely, so that the others do not wait for its timeouts."""
    before = outages.pop(name, None)
    if failed is None:
        return "Airflow can be read again" if before else ""
    longest = timedelta(seconds=LONGEST_WAIT)
    rest = min(2 * before.rest if before else desk.settings.interval, longest)
    outages[name] = Outage(type(failed), rest, desk.clock.now() + rest)
    if before and before.kind is type(failed):
        return ""
    return f"{failed.message}; trying again, at least every {longest.seconds} s; {failed.hint}"


def _in_force(desk: Desk) -> dict[str, Grant]:
    now = desk.clock.now()
    return {
        grant.id: grant
        for grant in desk.knowledge.store.grants()
        if grant.revoked_at is None and (grant.until is None or grant.until > now)
    }


def _tell_leave(desk: Desk, before: dict[str, Grant] | None, warn: Warn) -> dict[str, Grant]:
    """Say which grants came and went since the last pass; returned are those in force."""
    from aiops_cli.commands.auto import sentence

    now = _in_force(desk)
    for id_, grant in now.items():
        if before is not None and id_ not in before:
            warn(f"granted: {sentence(grant)}")
    for id_, grant in (before or {}).items():
        if id_ not in now:
            warn(f"over: the grant of {sentence(grant)}")
    return now


def _mode(desk: Desk, wanted: Mode, before: Mode, warn: Warn) -> Mode:
    """Auto with nobody's leave is shadow, which is told when it begins."""
    if wanted != "auto" or _in_force(desk):
        return wanted
    if before != "shadow":
        warn("no grant is in force: shadow, nothing is done alone (aiops auto grant)")
    return "shadow"
