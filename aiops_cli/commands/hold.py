"""`aiops hold`: "I'm in there". While a hold is in force nothing is done alone."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge.records import Hold
    from knowledge.stores import Store


def hold(
    ctx: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="DAG id or glob, incident or group id; none lists them.")
    ] = None,
    duration: Annotated[str, typer.Argument(help="For how long: 30m, 2h.")] = "1h",
    reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Keep the tool's hands off a DAG or an incident while you work on it."""
    from aiops_cli import services
    from aiops_cli.config import typed_duration
    from knowledge.records import in_force
    from knowledge.redact import clean, redact

    chosen = settings(ctx)
    now = services.SystemClock().now()
    if release and target is None:
        raise UsageError("--release names no hold", "aiops hold lists them")
    unseen = False
    with services.store(chosen) as store:
        if target is None:
            shown = [one for one in store.holds() if in_force(one, now)]
        elif release:
            shown = [
                ended
                for one in _targets(store, target)
                for ended in store.end_hold(one, chosen.user, now)
            ]
        else:
            until = now + typed_duration(duration)
            targets = _targets(store, target)
            shown = [
                made(store, chosen.instance, one, chosen.user, now, until, redact(clean(reason)))
                for one in targets
            ]
            a_dag = targets == (target,) and not store.known_incidents(targets)
            unseen = a_dag and not store.cases(dag=target, limit=1)
    if json:
        print_json({"holds": [hold_document(one) for one in shown]})
        return
    from aiops_cli.render import hold_line

    for one in shown:
        console().print(hold_line(hold_document(one)), soft_wrap=True)
    if not shown:
        console(stderr=True).print("nothing is held")
    if unseen:
        told = f"no failure of a DAG {target!r} has been seen here: is that its name?"
        console(stderr=True).print(told)


def hold_document(one: Hold) -> dict[str, Any]:
    from aiops_cli.published import utc

    return {
        "hold": one.id,
        "instance": one.instance,
        "target": one.target,
        "by": one.by,
        "at": utc(one.at),
        "until": utc(one.until),
        "reason": one.reason or None,
        "ended_at": utc(one.ended_at),
    }


def _targets(store: Store, target: str) -> tuple[str, ...]:
    """The incidents of an incident's or a group's id; otherwise a DAG, as it was given."""
    from knowledge.errors import NotFound

    try:
        return store.find_ids(target)
    except NotFound as error:
        if "more than one" in error.message:
            raise  # a DAG of that name would be held, and the incident meant would not
        if not target.strip():
            raise UsageError("the DAG to be held has no name", "aiops hold 'orders_*' 2h") from None
        if re.fullmatch(r"[0-9]+[smhdw]?", target):
            raise UsageError(
                f"{target!r} is a length of time, not what is to be held",
                f"first what, then how long: aiops hold 'orders_*' {target}",
            ) from None
        return (target,)


def made(
    store: Store,
    instance: str,
    target: str,
    by: str,
    now: datetime,
    until: datetime,
    reason: str,
) -> Hold:
    """Store a hold on a DAG (or glob) or a full incident id."""
    from knowledge.records import Hold, short_hash

    one = Hold(
        id=short_hash("hold", uuid.uuid4()),
        instance=instance,
        target=target,
        by=by,
        at=now,
        until=until,
        reason=reason,
    )
    store.add_hold(one)
    return one
