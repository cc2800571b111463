"""`aiops auto`: who may be acted on alone. Grants are kept in the knowledge base for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from knowledge.records import Grant


def grant(
    ctx: typer.Context,
    actions: Annotated[str, typer.Option(help="Actions, separated by commas: retry,retry_later.")],
    dags: Annotated[str, typer.Option(help="DAG globs, separated by commas.")],
    max_per_hour: Annotated[int, typer.Option(help="Acts an hour in all.", min=0)] = 10,
    max_per_dag_hour: Annotated[int, typer.Option(help="Acts an hour in one DAG.", min=0)] = 3,
    until: Annotated[str | None, typer.Option(help="Last day, as 2026-12-31, or 12h, 7d.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Allow actions on DAGs to run without a person, where the gate passes."""
    from aiops_cli import services
    from knowledge.records import Grant, short_hash

    chosen = settings(ctx)
    now = services.SystemClock().now()
    names, patterns = _split(actions), _split(dags)
    _check_actions(names)
    if not patterns:
        raise UsageError("--dags names no DAG", "such as --dags 'reporting_*'")
    made = Grant(
        id=short_hash("grant", names, patterns, chosen.user, now.isoformat()),
        actions=names,
        dags=patterns,
        by=chosen.user,
        at=now,
        max_per_hour=max_per_hour,
        max_per_dag_hour=max_per_dag_hour,
        until=_until(until, now),
    )
    with services.store(chosen) as store:
        store.add_grant(made)
    if json:
        print_json(_document(made))
    else:
        console().print(f"granted {made.id}: {_sentence(made)}")


def list_(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the grants, revoked and expired ones too."""
    from aiops_cli import services

    with services.store(settings(ctx)) as store:
        grants, pause = store.grants(), store.pause()
    if json:
        print_json(
            {
                "grants": [_document(each) for each in grants],
                "paused": pause.paused,
                "paused_by": pause.by or None,
            }
        )
        return
    if pause.paused:
        console(stderr=True).print(f"paused by {pause.by}: no grant holds until `aiops resume`")
    for each in grants:
        console().print(f"{each.id}  {_sentence(each)}")
    if not grants:
        console(stderr=True).print("no grants: nothing is acted on alone")


def revoke(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Grant id, or a unique start of it.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take a grant back, at once."""
    from aiops_cli import services

    chosen = settings(ctx)
    with services.store(chosen) as store:
        gone = store.revoke_grant(id_, chosen.user, services.SystemClock().now())
    if json:
        print_json(_document(gone))
    else:
        console().print(f"revoked {gone.id}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_actions(names: tuple[str, ...]) -> None:
    from aiops_cli.actions import CATALOGUE

    for name in names:
        if name not in CATALOGUE:
            raise UsageError(f"there is no action {name!r}", f"one of: {', '.join(CATALOGUE)}")
        if CATALOGUE[name].tier not in ("retry", "change"):
            raise UsageError(f"{name} cannot be granted", "it is a person's alone")
    if not names:
        raise UsageError("--actions names no action", "such as --actions retry")


def _until(text: str | None, now: datetime) -> datetime | None:
    """A duration from now, or the end of a day in local time."""
    if text is None:
        return None
    from datetime import datetime, timedelta, timezone

    from aiops_cli.config import typed_duration

    try:
        day = datetime.strptime(text, "%Y-%m-%d").astimezone() + timedelta(days=1)
    except ValueError:
        return now + typed_duration(text)
    if day <= now:
        raise UsageError(f"--until {text} is over", "name a day to come")
    return day.astimezone(timezone.utc)


def _sentence(made: Grant) -> str:
    text = (
        f"{', '.join(made.actions)} in {', '.join(made.dags)}, "
        f"at most {made.max_per_hour} an hour, {made.max_per_dag_hour} a DAG and hour, "
        f"by {made.by}"
    )
    if made.until:
        text += f", until {made.until.astimezone():%Y-%m-%d %H:%M %z}"
    return text + (f" (revoked by {made.revoked_by})" if made.revoked_at else "")


def _document(made: Grant) -> dict[str, Any]:
    from aiops_cli.published import utc

    return {
        "grant": made.id,
        "actions": list(made.actions),
        "dags": list(made.dags),
        "max_per_hour": made.max_per_hour,
        "max_per_dag_hour": made.max_per_dag_hour,
        "until": utc(made.until),
        "by": made.by,
        "at": utc(made.at),
        "revoked_at": utc(made.revoked_at),
        "revoked_by": made.revoked_by,
    }
