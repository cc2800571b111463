"""`aiops approve`: a person says yes. Acts, and learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import deeds, settings, typed
from aiops_cli.commands.output import confirm, console, print_json
from aiops_cli.errors import AiopsError, Refused
from knowledge.errors import DoorClosed

if TYPE_CHECKING:
    from aiops_cli.decide import Proposal
    from aiops_cli.examine import Desk
    from knowledge.records import Case


def approve(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Incident or group ids.")],
    action: Annotated[str | None, typer.Option(help="Instead of the proposed action.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="A parameter of the action.")
    ] = None,
    cause: Annotated[str | None, typer.Option(help="What it was, for next time.")] = None,
    rerun_safe: Annotated[
        bool | None,
        typer.Option(
            "--rerun-safe/--not-rerun-safe", help="Whether this task may run twice, ever."
        ),
    ] = None,
    max_tasks: Annotated[
        int | None, typer.Option(min=0, help="How many may run anew above a failed task.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Act on incidents, and learn from it. Returns after acting; watch settles."""
    from aiops_cli import decide, services
    from aiops_cli.published import incident_document

    params = typed.of_pairs(set_ or [])
    documents = []
    refusals: list[AiopsError] = []
    refused: dict[str, list[str]] = {}  # by what was said, which is told once
    changed: dict[str, str] = {}  # by what several may share: who of them changes it
    chosen = settings(ctx, unknown="tell" if dry_run else "refuse")
    with services.desk(chosen) as desk:
        cases = decide.meant(desk.knowledge.store, ids)
        for id_, case in cases.items():
            try:
                proposed = decide.proposal(case, action, params, cause)
                shared = decide.shared_change(proposed)
                after = changed.get(shared, "")
                done = _one(desk, case, proposed, rerun_safe, max_tasks, after, dry_run, yes, json)
            except (AiopsError, DoorClosed) as error:
                if len(cases) == 1:
                    raise
                # What was done to the others is done, and is told all the same.
                words, last = deeds.worded(error), decide.ends_all(error)
                words += "; what came after it was not tried" if last else ""
                refused.setdefault(words, []).append(id_)
                if isinstance(error, DoorClosed):
                    error = Refused(error.message, error.hint)
                refusals.append(error)
                if last:
                    break
            else:
                if done is not None:
                    if shared:
                        changed.setdefault(shared, id_)
                    documents.append(done if dry_run else incident_document(done))
    for words, of in refused.items():
        more = f" and {len(of) - 1} more" if len(of) > 1 else ""
        console(stderr=True).print(words if of[0] in words else f"{of[0]}{more}: {words}")
    if json:
        one = len(cases) == 1 and documents
        errors = [{"code": e.code, "message": e.message, "hint": e.hint} for e in refusals]
        some = {"incidents": documents} | ({"errors": errors} if errors else {})
        print_json(documents[0] if one else some)
    if refusals:
        raise typer.Exit(refusals[0].exit_code)


def _one(
    desk: Desk,
    case: Case,
    proposed: Proposal,
    rerun_safe: bool | None,
    max_tasks: int | None,
    after: str,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> Any:
    """Show the plan, ask, act; `after` is the incident whose act makes the change for this one
    too. Returns the case, the plan's document for a dry run, or None where the person said no."""
    from aiops_cli import decide, respond
    from aiops_cli.actions.plans import MAX_TASKS
    from aiops_cli.published import plan_document
    from aiops_cli.render_plan import plan_text, rerun_text

    talk = console(stderr=True)
    if proposed.action == "none":
        said = "nothing is run again: a person fixes the cause"
        if dry_run:
            if not json:
                console().print(f"{case.incident.id}: {said}")
            return {"action": "none", "params": {}, "clears": []}
        noted = decide.approve(desk, case, proposed, None, rerun_safe)
        if not json:
            talk.print(f"{case.incident.id}: noted; {said}")
        return noted
    plan = respond.preview(
        desk,
        case.incident,
        proposed.action,
        proposed.params,
        dry_run=dry_run,
        max_tasks=MAX_TASKS if max_tasks is None else max_tasks,
        after=after,
    )
    document = plan_document(plan)
    warning = decide.warning(case)
    asks = not yes and not dry_run
    word = warning or rerun_text(case.judgement.document if case.judgement else {})
    if word and (asks or not json):
        talk.print(word)
    if dry_run:
        if not json:
            console().print(plan_text(document))
        return document
    if asks or not json:  # nobody says yes to what they have not seen
        talk.print(plan_text(document))
    if asks and not confirm("do this?"):
        taken_back = "; your yes is withdrawn" if decide.no_to_own_yes(desk, case) else ""
        talk.print(f"{case.incident.id}: nothing was done{taken_back}")
        return None
    done = decide.approve(desk, case, proposed, plan, rerun_safe)
    if not json:
        talk.print(f"{case.incident.id}: {typed.begun(done)}")
    return done
