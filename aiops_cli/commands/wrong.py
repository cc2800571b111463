"""`aiops wrong`: an act that turned green but did harm. `aiops undo`: put back what was changed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json
from aiops_cli.errors import Refused


def wrong(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident id.")],
    reason: Annotated[str, typer.Option(help="What harm was done.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say that an act did harm: its answer and its task are blocked at once, for everybody."""
    from aiops_cli import decide, services
    from aiops_cli.published import incident_document

    chosen = settings(ctx)
    with services.knowledge_base(chosen) as knowledge:
        case = knowledge.store.case(id_)
        decided, others = decide.call_wrong(
            knowledge, case, by=chosen.user, at=services.SystemClock().now(), reason=reason
        )
        document = incident_document(knowledge.store.case(case.incident.id))
    acts: list[dict[str, Any]] = [
        {
            "incident": trial.incident_id,
            "dag_id": trial.dag_id,
            "task_id": trial.task_id,
            "outcome": trial.outcome,
        }
        for trial in others
    ]
    if json:
        print_json(document | {"other_acts": acts})
        return
    out = console()
    out.print(
        f"{case.incident.id}: {decided.action} of this failure is blocked everywhere, and "
        f"{case.incident.task_id} is not run again alone"
    )
    for act in acts:
        out.print(
            f"also done to {act['incident']}  {act['dag_id']}.{act['task_id']}: "
            f"{act['outcome'] or 'not settled'}"
        )


def undo(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident id.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: ARG001 -- the error boundary reads it
) -> None:
    """Put back what a state-changing action changed."""
    from aiops_cli import services

    with services.store(settings(ctx)) as store:
        case = store.case(id_)
    done = case.decision.action if case.decision else None
    if done in (None, "none"):
        raise Refused(f"nothing was done to {case.incident.id}", "there is nothing to put back")
    raise Refused(
        f"{done} cannot be undone: the task has run again, and nothing else was changed",
        "if that did harm, say so: aiops wrong ID --reason …",
    )
