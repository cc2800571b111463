"""`aiops note` and `aiops snooze`: a word on an incident, and leaving one for later."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import UsageError


def note(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    text: Annotated[str, typer.Argument(help="What the others should know.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Leave a word on an incident, for whoever looks at it next."""
    from aiops_cli import services
    from aiops_cli.published import incident_document
    from knowledge.records import Remark
    from knowledge.redact import clean, redact

    word = redact(clean(text)).strip()
    if not word:
        raise UsageError("the note is empty", 'such as aiops note k3f9 "the vendor is called"')
    chosen = settings(ctx)
    with services.store(chosen) as store:
        ids = store.find_ids(id_)
        for one in ids:
            store.add_remark(Remark(one, chosen.user, services.SystemClock().now(), word))
        documents = [incident_document(store.case(one)) for one in ids]
    if json:
        print_json(documents[0] if len(documents) == 1 else {"incidents": documents})
    else:
        console(stderr=True).print(f"noted on {', '.join(ids)}")


def snooze(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    until: Annotated[str, typer.Argument(help="A time of day (05:00), or for how long (2h).")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Leave an incident for later: triage and the queue pass over it until then."""
    from aiops_cli import services
    from aiops_cli.published import incident_document, utc
    from aiops_cli.screen import local

    chosen = settings(ctx)
    now = services.SystemClock().now()
    wake = wake_time(until, now)
    with services.store(chosen) as store:
        ids = store.find_ids(id_)
        for one in ids:
            store.snooze(one, wake, chosen.user, now)
        documents = [incident_document(store.case(one)) for one in ids]
    if json:
        print_json(documents[0] if len(documents) == 1 else {"incidents": documents})
    else:
        console(stderr=True).print(f"{', '.join(ids)}: left until {local(utc(wake))}")


def wake_time(text: str, now: datetime) -> datetime:
    """`05:00` is the next time the reader's clock shows that; `2h` counts from now."""
    from datetime import timedelta, timezone

    from aiops_cli.config import typed_duration

    try:
        at = datetime.strptime(text, "%H:%M")  # noqa: DTZ007 -- a time of day on the local clock
    except ValueError:
        return now + typed_duration(text)
    wake = now.astimezone().replace(hour=at.hour, minute=at.minute, second=0, microsecond=0)
    if wake <= now:
        wake += timedelta(days=1)
    return wake.astimezone(timezone.utc)
