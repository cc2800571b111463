"""`aiops wrong`: an act that turned green but did harm. `aiops undo`: put back what was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import confirm, console, print_json
from aiops_cli.errors import Refused

if TYPE_CHECKING:
    from knowledge.records import Case, Decision
    from knowledge.stores import Store


def wrong(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    reason: Annotated[str, typer.Option(help="What harm was done.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say that an act did harm: its answer and its task are blocked at once, for everybody."""
    from aiops_cli import decide, services
    from aiops_cli.published import incident_document

    chosen = settings(ctx)
    documents = []
    with services.knowledge_base(chosen) as knowledge:
        for case in _acted_on(knowledge.store, id_):
            id_ = case.incident.id
            decided, others = decide.call_wrong(
                knowledge, case, by=chosen.user, at=services.SystemClock().now(), reason=reason
            )
            acts: list[dict[str, Any]] = [
                {
                    "incident": trial.incident_id,
                    "dag_id": trial.dag_id,
                    "task_id": trial.task_id,
                    "outcome": trial.outcome,
                }
                for trial in others
            ]
            document = incident_document(knowledge.store.case(id_)) | {"other_acts": acts}
            documents.append((document, decided.action))
    if json:
        shown = [document for document, _ in documents]
        print_json(shown[0] if len(shown) == 1 else {"incidents": shown})
        return
    out = console()
    for document, action in documents:
        out.print(
            f"{document['incident']}: {action} of this failure is blocked everywhere, and "
            f"{document['task_id']} is not run again alone"
        )
        for act in document["other_acts"]:
            out.print(
                f"the same was done to {act['incident']}  {act['dag_id']}.{act['task_id']}, and "
                f"its outcome stays {act['outcome'] or 'open'}: look whether it did harm there, too"
            )


def _acted_on(store: Store, id_: str) -> list[Case]:
    """Of a group those that something was done to; of one where nothing was, all, so that the
    refusal is told."""
    cases = [store.case(full) for full in store.find_ids(id_)]
    return [case for case in cases if _done(case)] or cases


def _done(case: Case) -> str | None:
    """The action that was carried out, or is going to be."""
    action = case.decision.action if case.decision else None
    acts = case.decision is not None and case.decision.kind in ("approve", "auto")
    return action if acts and action != "none" else None


def undo(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Incident or group id.")],
    reason: Annotated[str, typer.Option(help="Why, for the others and for next time.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put back what a state-changing action changed, or call off what waits for its time."""
    from aiops_cli import decide, services
    from aiops_cli.published import incident_document
    from aiops_cli.undo import open_change
    from aiops_cli.undo import undo as put_back
    from knowledge.redact import clean, redact

    talk = console(stderr=True)
    with services.desk(settings(ctx, unknown="refuse")) as desk:
        store = desk.knowledge.store
        cases = [store.case(full) for full in store.find_ids(id_)]
        by, now = desk.settings.user, desk.clock.now()
        called_off = [case for case in cases if decide.call_off(store, case, by, now)]
        acts = {case.incident.id: open_change(store.story(case.incident.id)) for case in cases}
        made = [(case, act) for case in cases if (act := acts[case.incident.id]) is not None]
        if not called_off and not made:
            _refuse(cases)
        if not called_off and not yes and not _sure([act for _, act in made]):
            talk.print("nothing was done")
            return
        for case in called_off:
            if not json:
                waits = f"{_done(case)} is called off; it waits for a person again"
                talk.print(f"{case.incident.id}: {waits}")
        for case, act in made:
            how = f"stays so; to put that back: aiops undo {case.incident.id}"
            if not called_off:
                put_back(desk, case, redact(clean(reason)))
                how = "is as it was before"
            if not json:  # at once: the next one may be refused
                talk.print(f"{case.incident.id}: what {act.action} changed {how}")
        undone = called_off or [case for case, _ in made]
        documents = [incident_document(store.case(case.incident.id)) for case in undone]
    if json:
        print_json(documents[0] if len(documents) == 1 else {"incidents": documents})


def _sure(acts: list[Decision]) -> bool:
    from aiops_cli.render_plan import changes_text

    for act in acts:
        console(stderr=True).print(changes_text(act.plan["changes"], back=True))
    return confirm("put this back?")


def _refuse(cases: list[Case]) -> None:
    case = next(filter(_done, cases), None)
    if case is None:
        raise Refused(
            f"no act on {cases[0].incident.id} stands: nothing to put back",
            f"what was done and undone: aiops incidents show {cases[0].incident.id}",
        )
    first = case.decision.plan.get("after") if case.decision else None
    if first:
        raise Refused(
            f"{_done(case)} ran {case.incident.id} again on what was changed for {first}",
            f"to put that back: aiops undo {first}",
        )
    raise Refused(
        f"{_done(case)} cannot be undone: the task has run again, and nothing else was changed",
        f"if that did harm, say so: aiops wrong {case.incident.id} --reason …",
    )
