"""`aiops triage`: walk what waits for a person, one incident after the other.

Every decision is stored as it is made, so it can be left at any time and taken up again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import confirm, console, is_terminal, tell_where
from aiops_cli.errors import AiopsError, UsageError
from knowledge.errors import KnowledgeError

if TYPE_CHECKING:
    from aiops_cli.examine import Desk
    from knowledge.records import Case

KEYS = "a approve · e edit · r reject · s skip · l log · o open · q quit"


class _Quit(Exception):
    """The person has had enough for now."""


def triage(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Option(help="DAG id or glob.")] = None,
) -> None:
    """Walk through what waits for a person: approve, edit, reject, skip."""
    if not is_terminal():
        raise UsageError(
            "triage needs a terminal", "in a script: aiops incidents, approve and reject"
        )
    from aiops_cli import services, watch

    talk = console(stderr=True)
    with services.desk(settings(ctx)) as desk:
        for _ in watch.one_pass(desk, "ask", talk.print):
            pass  # settled and captured; what waits is asked for below
        tell_where(desk)
        store = desk.knowledge.store
        waiting = [
            case.incident.id
            for status in ("needs_human", "pending")
            for case in store.cases(status=[status], instance=desk.instance, dag=dag, snoozed=False)
        ]
        if not waiting:
            talk.print("nothing waits for a person")
        for number, id_ in enumerate(waiting):
            try:
                _one(desk, id_, f"{len(waiting) - number} left")
            except _Quit:
                talk.print(f"{len(waiting) - number} still wait; aiops triage goes on")
                return


def _one(desk: Desk, id_: str, left: str) -> None:
    """Show one incident and ask until it is decided or skipped."""
    from aiops_cli.context import Snapshot, surroundings
    from aiops_cli.published import incident_document
    from aiops_cli.render import incident_card

    out = console(stderr=True)
    case = desk.knowledge.store.case(id_)
    document = incident_document(case)
    document["context"] |= surroundings(Snapshot(desk.airflow), case.incident)
    short = desk.knowledge.store.shortest_prefixes([id_])[id_]
    out.print()
    out.print(incident_card(document, short))
    while True:
        key = _ask(f"{left}  [{KEYS}] ").lower()[:1]
        try:
            if key == "q":
                raise _Quit
            if key == "s":
                return
            if key == "l":
                _log(case)
            elif key == "o":
                _open(desk, case)
            elif key in ("a", "e", "r") and _decide(desk, case, key):
                return
        except (AiopsError, KnowledgeError) as error:
            out.print(f"{error.message}" + (f" ({error.hint})" if error.hint else ""))
            if desk.knowledge.store.case(id_).status not in ("pending", "needs_human"):
                return  # superseded, or somebody else was faster


def _ask(question: str) -> str:
    """One answer; Ctrl-D means quit, Ctrl-C ends the command (what was decided is stored)."""
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
        raise _Quit
    return answer.strip()


def _decide(desk: Desk, case: Case, key: str) -> bool:
    """Approve, edit or reject; False where the person thought better of it."""
    from aiops_cli import decide, respond
    from aiops_cli.published import plan_document
    from aiops_cli.render import plan_text

    out = console(stderr=True)
    if key == "r":
        reason = _ask("why not? ")
        if not reason:
            return False
        decide.reject(
            desk.knowledge, case, by=desk.settings.user, at=desk.clock.now(), reason=reason
        )
        out.print("rejected")
        return True
    action = cause = None
    if key == "e":
        known = case.judgement.document["diagnosis"]["action"] if case.judgement else None
        action = _ask(f"action [{known or 'retry'}] ") or known or "retry"
        cause = _ask("cause, for next time [as it is] ") or None
    proposed = decide.proposal(case, action, {}, cause)
    plan = None
    if proposed.action != "none":
        plan = respond.preview(desk, case.incident, proposed.action, proposed.params)
        out.print(plan_text(plan_document(plan)))
    if not confirm("do this?" if plan else "nothing is run again: a person fixes it. Right?"):
        return False
    decide.approve(desk, case, proposed, plan, None)
    begun = "waits for its time" if proposed.action == "retry_later" else "runs again"
    out.print(begun if plan else "noted")
    return True


def _log(case: Case) -> None:
    from aiops_cli.render import excerpt_text

    incident = case.incident
    shown = excerpt_text(incident.excerpt.text, incident.excerpt.numbers, incident.signature.line)
    console(stderr=True).print(shown, soft_wrap=True)


def _open(desk: Desk, case: Case) -> None:
    import webbrowser

    from aiops_cli.examine import ref_of

    link = desk.airflow.link(ref_of(case.incident), case.incident.try_number)
    console(stderr=True).print(link, soft_wrap=True)
    webbrowser.open(link)
