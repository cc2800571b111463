"""`aiops triage`: walk what waits for a person, one incident or group after the other.

Every decision is stored as it is made, so it can be left at any time and taken up again.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops_cli.commands import deeds, drafts, put_back, settings
from aiops_cli.commands.deeds import Item
from aiops_cli.commands.keys import Ended, Gone, ask_key, leaving_whole
from aiops_cli.commands.output import (
    console,
    is_terminal,
    page,
    progress,
    tell_where,
    thinking,
)
from aiops_cli.commands.put_back import Deeds
from aiops_cli.errors import AiopsError, UsageError
from knowledge.errors import KnowledgeError

if TYPE_CHECKING:
    from aiops_cli.examine import Desk
    from knowledge.records import Case

Does = Callable[["Desk", Item, list["Case"], Deeds], bool]

KEYS = "a approve · e edit · r reject · n new · z snooze · s skip · ? help"
GROUP_KEYS = "all: a approve · e edit · r reject · x expand · s skip · ? help"
HELP = """\
a  approve: shows what it would do, then asks   z  snooze: leave it for later
e  edit: another action, parameters or cause    s  skip: asked again next time
r  reject, with the reason                      x  expand a group: one by one
n  new: remember what it is, do nothing         l  log     o  open in a browser
h  hold its DAG: nothing is done alone there    u  undo what was done last
                                                q  quit: the rest waits on
Ctrl-C leads back to the question, twice leaves; Ctrl-D quits. What is decided
is stored at once."""

MEMBERS = 15  # of a group are named: the keys below them must not scroll the rest away

# After these the item is done with; the others lead back to its question.
DECIDES: Mapping[str, Does] = {
    "a": deeds.approve,
    "e": deeds.edit,
    "r": deeds.reject,
    "z": deeds.snooze,
}
ADDS: Mapping[str, Does] = {"n": deeds.remember, "h": deeds.hold}


def triage(
    ctx: typer.Context,
    dag: Annotated[str | None, typer.Option(help="DAG id or glob.")] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest/--no-suggest", help="Ask the model about what is new.")
    ] = True,
) -> None:
    """Walk through what waits for a person: approve, edit, reject, remember, hold, snooze."""
    if not is_terminal():
        raise UsageError(
            "triage needs a terminal", "in a script: aiops incidents, approve and reject"
        )
    from aiops_cli import services, watch

    talk = console(stderr=True)
    chosen = settings(ctx, unknown="refuse")
    with services.desk(chosen, waiting=lambda: thinking(chosen.llm)) as desk:
        with progress("reading logs") as tick:
            for _ in watch.one_pass(desk, "ask", talk.print, tick):
                pass  # settled and captured; what waits is asked for below
        tell_where(desk)
        if desk.advisor is not None and suggest:
            desk.advisor.when = "now"  # a person waits, for one failure at a time
        queue = _queue(desk, dag)
        if not queue:
            talk.print("nothing waits for a person")
        done: Deeds = []
        with leaving_whole(lambda: _keep_typed(queue)):
            try:
                while queue or _on_second_thought(queue, done):
                    _walk(desk, queue, done)
            except Ended:
                left = sum(len(item.ids) for item in queue)
                if left:
                    talk.print(f"{left} still wait; aiops triage goes on")


def _keep_typed(queue: deque[Item]) -> None:
    """Kept first: what is told to a terminal that is gone raises."""
    drafts.keep({id_: item.typed for item in queue for id_ in item.ids})
    for item in queue:
        item.tell_typed()


def _queue(desk: Desk, dag: str | None) -> deque[Item]:
    """What waits, what needs a human first; the members of a group as one item, where the first
    of them stands. What was typed about them the last time is offered again."""
    items: dict[str, Item] = {}
    kept = drafts.kept()
    for status in ("needs_human", "pending"):
        for case in desk.knowledge.store.cases(
            status=[status], instance=desk.instance, dag=dag, snoozed=False
        ):
            incident = case.incident
            item = items.setdefault(incident.group or incident.id, Item([]))
            item.ids.append(incident.id)
            item.typed |= kept.get(incident.id, {})
    return deque(items.values())


def _walk(desk: Desk, queue: deque[Item], done: Deeds) -> None:
    """Show the first item and ask until it is decided, skipped or expanded; it leaves the queue
    then. Raises Ended where the person has had enough, and KeyboardInterrupt for a second Ctrl-C
    in a row."""
    out = console(stderr=True)
    show, interrupted = True, False
    while True:
        item = queue[0]
        cases = _waiting(desk, item)
        if not cases:  # decided, or somebody else was faster
            item.tell_typed()
            queue.popleft().done_with()
            return
        item.ids = [case.incident.id for case in cases]
        if show:
            _show(desk, cases)
        show = False
        left = sum(len(each.ids) for each in queue)
        keys = GROUP_KEYS if len(cases) > 1 else KEYS
        try:
            key = ask_key(f"{left} left  [{keys}] ")
            interrupted = False
            if key == "q":
                raise Ended
            if key == "s" or key in DECIDES:
                if key == "s" or DECIDES[key](desk, item, cases, done):
                    _leave(desk, queue, key)
                    return
            elif key in ADDS:
                if ADDS[key](desk, item, cases, done) and key == "n":
                    _judge_again(desk, cases[0])
                    show = True
            elif key == "u":
                _put_back(queue, put_back.undo(done))
                show = True
            elif key == "x" and len(cases) > 1:
                queue.popleft()
                queue.extendleft(reversed(item.one_by_one(item.ids)))
                return
            elif key == "l":
                _log(cases[0])
            elif key == "o":
                _open(desk, cases[0])
            elif key == "?":
                out.print(HELP)
        except Gone:
            raise
        except KeyboardInterrupt:
            print(file=sys.stderr)
            if interrupted:
                raise
            interrupted = True
            out.print("back to the question; Ctrl-C again leaves")
            _tell_decided(desk, item)
        except (AiopsError, KnowledgeError) as error:
            out.print(deeds.worded(error))


def _on_second_thought(queue: deque[Item], done: Deeds) -> bool:
    """At the end, the last chance to take back what was done last. Raises Ended."""
    while done and not queue and ask_key("all seen  [u undo · Enter ends] ") == "u":
        _put_back(queue, put_back.undo(done))
    return bool(queue)


def _waiting(desk: Desk, item: Item) -> list[Case]:
    cases = [desk.knowledge.store.case(id_) for id_ in item.ids]
    return [case for case in cases if case.status in ("needs_human", "pending")]


def _leave(desk: Desk, queue: deque[Item], key: str) -> None:
    """Go on to the next item. Of a group, what was refused and waits still is asked for by
    itself; what was too many to be approved at once stays a group."""
    item = queue.popleft()
    if key == "s":
        item.put_aside()
    else:
        item.done_with()
    if key == "s" or len(item.ids) == 1:
        return
    if key in "ae" and (later := item.ids[deeds.AT_ONCE :]):
        item.ids = item.ids[: deeds.AT_ONCE]
        queue.appendleft(Item(later, dict(item.typed)))
    rest = [case.incident.id for case in _waiting(desk, item) if case.snoozed_until is None]
    queue.extendleft(reversed(item.one_by_one(rest)))


def _put_back(queue: deque[Item], ids: list[str]) -> None:
    """What was taken back waits again, before the others."""
    there = {id_ for item in queue for id_ in item.ids}
    if not there.issuperset(ids):
        queue.appendleft(Item([id_ for id_ in ids if id_ not in there]))


def _tell_decided(desk: Desk, item: Item) -> None:
    """An interrupted act may have been done: then it is settled by the next pass."""
    for id_ in item.ids:
        status = desk.knowledge.store.case(id_).status
        if status not in ("needs_human", "pending"):
            console(stderr=True).print(f"{id_} is {status}; aiops watch --once settles it")


def _judge_again(desk: Desk, case: Case) -> None:
    """In the light of what was just learned."""
    from aiops_cli.context import Snapshot
    from aiops_cli.examine import judge, ref_of

    about = case.incident
    live = desk.airflow.task_instance(ref_of(about)) if about.kind == "task" else None
    judge(desk, Snapshot(desk.airflow), about, live)


def _show(desk: Desk, cases: list[Case]) -> None:
    from aiops_cli.context import Snapshot, newer_code, surroundings
    from aiops_cli.listings import storm_card
    from aiops_cli.published import incident_document
    from aiops_cli.render import incident_card
    from aiops_cli.storms import Storm

    out = console(stderr=True)
    out.print()
    documents = [incident_document(case) for case in cases]
    group = cases[0].incident.group
    ids = [doc["incident"] for doc in documents] + ([group] if group else [])
    short = desk.knowledge.store.shortest_prefixes(ids)
    if len(cases) > 1:
        snapshot = Snapshot(desk.airflow)
        for case, doc in zip(cases, documents, strict=True):
            doc["context"] |= newer_code(snapshot, case.incident)
        out.print(storm_card(Storm(tuple(documents)), short, MEMBERS))
        return
    if desk.advisor is not None and desk.advisor.when == "now":
        documents = [_with_model(desk, cases[0], documents[0])]
    (document,) = documents
    document["context"] |= surroundings(Snapshot(desk.airflow), cases[0].incident)
    out.print(incident_card(document, short[document["incident"]]))


def _with_model(desk: Desk, case: Case, document: dict[str, Any]) -> dict[str, Any]:
    """The document with what a model says: of a near match, or unproven of something new."""
    from aiops_cli.examine import suggest
    from aiops_cli.published import incident_document, opinion_document

    diagnosis = document["diagnosis"] or {}
    if (diagnosis.get("opinion") or {}).get("unheard"):
        _judge_again(desk, case)
        return incident_document(desk.knowledge.store.case(case.incident.id))
    if diagnosis.get("by") == "nobody":
        return document | {"suggestion": opinion_document(suggest(desk, case.incident))}
    return document


def _log(case: Case) -> None:
    from aiops_cli.render import excerpt_text

    excerpt, signature = case.incident.excerpt, case.incident.signature
    if excerpt.notice:
        console(stderr=True).print(excerpt.notice)
    if excerpt.text:
        shown = excerpt_text(excerpt.text, excerpt.numbers, signature.line)
        page(shown, stderr=True, soft_wrap=True)


def _open(desk: Desk, case: Case) -> None:
    import webbrowser

    from aiops_cli.examine import page_of

    link = page_of(desk.airflow, case.incident)
    console(stderr=True).print(link, soft_wrap=True)
    webbrowser.open(link)
