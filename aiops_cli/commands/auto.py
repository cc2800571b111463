"""`aiops auto`: who may be acted on alone. Grants are kept in the knowledge base for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import output, settings
from aiops_cli.commands.output import confirm, console, print_json
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from aiops_cli.config import Settings
    from aiops_cli.hindsight import Act, Hindsight
    from knowledge.records import Grant
    from knowledge.stores import Store

LOOKED_BACK = 30  # days that a dry run replays
TOLD = 8  # signatures a dry run has a line for
# Why a failure was left to people, by the check that did not pass.
LEFT = {
    "similarity": "not known by then",
    "evidence": "no outcome that speaks for it by then",
    "rerun_safe": "nobody had vouched for the task",
    "margin": "answered differently before",
    "action_allowed": "not an action of this grant, or a person must fix it",
    "protected": "protected",
    "live_state": "a backfill, or another run that is a person's",
}


def grant(
    ctx: typer.Context,
    actions: Annotated[str, typer.Option(help="Actions, separated by commas: retry,retry_later.")],
    dags: Annotated[str, typer.Option(help="DAG globs, separated by commas.")],
    max_per_hour: Annotated[int, typer.Option(help="Acts an hour in all.", min=0)] = 10,
    max_per_dag_hour: Annotated[int, typer.Option(help="Acts an hour in one DAG.", min=0)] = 3,
    until: Annotated[str, typer.Option(help="Last day, as 2026-12-31, or 12h, 7d.")] = "90d",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what it would have done in the last 30 days."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Allow actions on DAGs to run without a person, where the gate passes.

    A person at a terminal is shown what it would have done in the last 30 days, and asked.
    --dry-run shows that anywhere, and writes nothing."""
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
        if dry_run:
            _tell(made, _hindsight(store, made, chosen), json)
            return
        if output.is_terminal() and not yes:
            _ask_first(made, _hindsight(store, made, chosen))
        store.add_grant(made)
    _tell_all(chosen, made, "aiops may act alone")
    if json:
        print_json(_document(made))
    else:
        console().print(f"granted {made.id}: {sentence(made)}")


def _hindsight(store: Store, made: Grant, chosen: Settings) -> Hindsight:
    from datetime import timedelta

    from aiops_cli import services
    from aiops_cli.hindsight import look_back

    since = made.at - timedelta(days=LOOKED_BACK)
    with services.knowledge(chosen, store) as known, output.progress("looking back") as tick:
        return look_back(known, made, chosen, since, tick)


def _ask_first(made: Grant, past: Hindsight) -> None:
    """Ends the command where the grant is not wanted after all."""
    err = console(stderr=True)
    for line in _lines(past):
        err.print(line)
    if not confirm(f"grant {sentence(made)}?"):
        err.print("nothing is granted")
        raise typer.Exit


def _tell(made: Grant, past: Hindsight, json: bool) -> None:
    if json:
        print_json({"dry_run": True, "would_grant": _document(made), **_past_document(past)})
        return
    for line in _lines(past):
        console().print(line)


def _by_signature(past: Hindsight) -> list[list[Act]]:
    """The acts of each signature, the most frequent one first."""
    told: dict[str, list[Act]] = {}
    for act in past.acts:
        told.setdefault(act.incident.signature.fingerprint, []).append(act)
    return sorted(told.values(), key=len, reverse=True)


def _lines(past: Hindsight) -> list[str]:
    """What a grant would have done, in lines that can be read tired."""
    from collections import Counter

    from aiops_cli.screen import plain

    acts = past.acts
    lines = [
        f"of {past.incidents} failures in the last {LOOKED_BACK} days "
        f"it would have acted on {len(acts)}"
    ]
    if acts:
        then = Counter[str](act.then for act in acts)
        words = {
            "same": "a person did the same",
            "otherwise": "did otherwise",
            "rejected": "rejected it",
            "by_hand": "acted in Airflow",
            "alone": "already done alone",
            "undecided": "nobody decided",
        }
        told = [f"{words[name]} {then[name]}" for name in words if then[name]]
        lines.append(f"in truth: {', '.join(told)}")
        lines.append(f"what came of the same act: {_ends(acts)}")
    folded = _by_signature(past)
    for group in folded[:TOLD]:
        headline = plain(group[0].incident.signature.headline).plain[:48]
        tasks = sorted({f"{act.incident.dag_id}.{act.incident.task_id}" for act in group})
        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        lines.append(f"  {len(group)}x {headline} · {tasks[0]}{more} · {_ends(group)}")
    if len(folded) > TOLD:
        lines.append(f"  and {len(folded) - TOLD} more signatures: --json has all")
    if past.stopped:
        told = [f"{name} {count}" for name, count in past.stopped.items()]
        lines.append(f"stopped by a brake alone: {', '.join(told)}")
    if past.left:
        ordered = sorted(past.left.items(), key=lambda item: -item[1])
        told = [f"{LEFT.get(name, name)} {count}" for name, count in ordered]
        lines.append(f"left to people: {'; '.join(told)}")
    if past.unheard:
        lines.append(f"answers to similar failures are not in this: {past.unheard}")
        lines.append("a grant may act on more than this")
    return lines


def _ends(acts: list[Act] | tuple[Act, ...]) -> str:
    from collections import Counter

    ends = Counter(act.outcome or "unknown" for act in acts if act.then != "rejected")
    return ", ".join(f"{name} {count}" for name, count in ends.most_common()) or "rejected"


def _past_document(past: Hindsight) -> dict[str, Any]:
    from collections import Counter

    from aiops_cli.published import utc

    def counted(acts: list[Act] | tuple[Act, ...]) -> dict[str, Any]:
        then = Counter[str](act.then for act in acts)
        ends = Counter[str | None](act.outcome for act in acts)
        names = ("same", "otherwise", "rejected", "alone", "by_hand", "undecided")
        outcomes = ("fixed", "failed", "relapsed", "wrong", "superseded", "unknown")
        return {
            "acts": len(acts),
            "then": {name: then[name] for name in names},
            "outcomes": {name: ends[name] for name in outcomes},
        }

    return {
        "since": utc(past.since),
        "incidents": past.incidents,
        **counted(past.acts),
        "stopped": dict(past.stopped),
        "left": dict(past.left),
        "without_similar": past.unheard or None,
        "signatures": [
            {
                "fingerprint": group[0].incident.signature.fingerprint,
                "headline": group[0].incident.signature.headline or None,
                "actions": sorted({act.action for act in group}),
                "incidents": [act.incident.id for act in group],
                **counted(group),
            }
            for group in _by_signature(past)
        ],
    }


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
        console().print(f"{each.id}  {sentence(each)}")
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
    _tell_all(chosen, gone, "aiops may not act alone any more")
    if json:
        print_json(_document(gone))
    else:
        console().print(f"revoked {gone.id}")


def _tell_all(chosen: Settings, made: Grant, title: str) -> None:
    """Whoever is told of failures is told who gave or took leave to act alone. A service that is
    down keeps no grant from being given or taken back."""
    from aiops_cli import services
    from aiops_cli.errors import NotifyError

    notifier = services.notifier(chosen)
    if notifier is None:
        return
    key = f"aiops-grant-{made.id}"
    try:
        notifier.tell(f"{title}: {sentence(made)}", "aiops auto list", key=key)
    except NotifyError as error:
        console(stderr=True).print(f"not everybody was told: {error.message}")


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


def _until(text: str, now: datetime) -> datetime:
    """A duration from now, or the end of a day in local time: no leave is for ever."""
    from datetime import datetime, timedelta, timezone

    from aiops_cli.config import typed_duration

    try:
        day = datetime.strptime(text, "%Y-%m-%d").astimezone() + timedelta(days=1)
    except ValueError:
        return now + typed_duration(text)
    if day <= now:
        raise UsageError(f"--until {text} is over", "name a day to come")
    return day.astimezone(timezone.utc)


def sentence(made: Grant) -> str:
    """A grant in words, as it is told to everybody."""
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
