"""`aiops diagnose`: what failed, why, and what fixed it before. Acts on nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.incidents import short_ids
from aiops_cli.commands.output import (
    console,
    is_terminal,
    page,
    print_json,
    progress,
    tell_where,
    thinking,
)
from aiops_cli.errors import (
    AirflowAuth,
    AirflowError,
    AirflowUnreachable,
    ModelError,
    UsageError,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from aiops_cli.capture import Failure
    from aiops_cli.config import Settings
    from aiops_cli.context import Snapshot
    from aiops_cli.examine import Desk
    from aiops_cli.incidents import Excerpt, TaskInstance

CARDS = 3  # so many incidents are shown whole; more as a table
CHUNK_BYTES = 64 * 1024
# From so many on they are shown in parts, as their logs are read; the first one soon.
PART, FIRST_PART = 100, 20
MEANWHILE = 15  # rows of what has failed, while the logs are read: a low screen has room for them
WHERE_NEXT = "one of them whole: aiops diagnose ID; all of them: aiops triage"


def diagnose(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="DAG id or glob, incident or group id, or a URL of Airflow's UI."),
    ] = None,
    task: Annotated[str | None, typer.Argument(help="Task id or glob.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this dag run.")] = None,
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    log: Annotated[
        str | None, typer.Option(help="Diagnose this log file (- for stdin), without Airflow.")
    ] = None,
    suggest: Annotated[
        bool | None,
        typer.Option("--suggest/--no-suggest", help="Ask the model about what is new."),
    ] = None,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Show what the model is shown.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what failed, why, and what fixed it before. Acts on nothing. Of a single failure a
    model is asked too, where one is set; what it makes of a new one (on a terminal, or with
    --suggest) is shown as unproven and remembered by nobody."""
    chosen = settings(ctx)
    if log is not None:
        if target or task or run:
            raise UsageError("--log takes no DAG, task or run", "give either a log or a target")
        _show([_of_log(chosen, log)], {}, json, single=True)
        return
    from aiops_cli import services
    from aiops_cli.config import typed_duration
    from aiops_cli.context import Snapshot

    with services.desk(chosen, waiting=lambda: thinking(chosen.llm)) as desk:
        head = None if json else _Head(desk)
        snapshot = Snapshot(desk.airflow, desk.clock.now() - typed_duration(since))
        documents = _named(desk, snapshot, target, task, run, head)
        single = documents is not None and len(documents) == 1
        if documents is None:
            found = _failures(desk, snapshot, target, task, run)
            first = list(islice(found, PART))
            if len(first) == PART and not json:
                _show_in_parts(desk, snapshot, chain(first, found))
                return
            documents = _all(desk, snapshot, chain(first, found), len(first), head)
        short = short_ids(desk.knowledge.store, documents)
        if head is not None:
            head.tell_where()
        if len(documents) == 1:
            wanted = is_terminal() if suggest is None else suggest
            _ask_model(desk, documents[0], wanted, show_prompt)
    if head is not None and head.shown and documents:
        from aiops_cli.render import incident_rest

        console().print(incident_rest(documents[0], short[documents[0]["incident"]]))
        _show_prompt(documents[0])
        return
    _show(documents, dict(short), json, single=single)
    if not documents and not json:
        console(stderr=True).print(f"no failed tries in the last {since}")


def _ask_model(desk: Desk, document: dict[str, Any], suggest: bool, show_prompt: bool) -> None:
    """Add to a document what a model makes of a failure that is like nothing known, and what it
    was shown."""
    from aiops_cli.examine import suggest as ask
    from aiops_cli.examine import what_is_asked
    from aiops_cli.published import opinion_document

    if desk.advisor is None:
        if show_prompt:
            console(stderr=True).print("no model is set: nothing is shown to one")
        return
    incident = desk.knowledge.store.case(document["incident"]).incident
    by = (document["diagnosis"] or {}).get("by")
    if suggest and by == "nobody" and document["status"] == "pending":
        document["suggestion"] = opinion_document(ask(desk, incident))
    if show_prompt:
        try:
            shown = desk.advisor.prompt(what_is_asked(desk, incident))
        except ModelError as error:  # how much it is shown depends on the model
            console(stderr=True).print(f"what it would be shown is not known: {error.message}")
            return
        document["prompt"] = [dict(message) for message in shown.messages]


class _Head:
    """What is known of a single failure before its log is read, shown at once: the log may be
    long in coming."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.told = self.shown = False

    def tell_where(self) -> None:
        """Once, above everything else."""
        if not self.told:
            tell_where(self.desk)
            self.told = True

    def show(self, document: dict[str, Any]) -> None:
        from aiops_cli.render import incident_head

        self.tell_where()
        id_ = document["incident"]
        short = self.desk.knowledge.store.shortest_prefixes([id_])[id_]
        console().print(incident_head(document, short))
        self.shown = True


def _show(documents: list[dict[str, Any]], short: dict[str, str], json: bool, single: bool) -> None:
    if json:
        print_json(documents[0] if single else {"incidents": documents})
        return
    from aiops_cli.listings import incident_table
    from aiops_cli.render import incident_card

    out = console()
    if len(documents) > CARDS:
        page(incident_table(documents, short))
        console(stderr=True).print(WHERE_NEXT)
        return
    for number, document in enumerate(documents):
        if number:
            out.print()
        out.print(incident_card(document, short.get(document["incident"], "-")))
        _show_prompt(document)


def _show_prompt(document: dict[str, Any]) -> None:
    for message in document.get("prompt", ()):
        console().print(f"\n--- {message['role']} ---\n{message['content']}", soft_wrap=True)


def _of_log(chosen: Settings, log: str) -> dict[str, Any]:
    """A log file without Airflow: nothing is stored."""
    from aiops_cli import services
    from aiops_cli.examine import examine_log

    excerpt = _excerpt(log)
    with services.knowledge_base(chosen) as knowledge:
        return examine_log(knowledge, chosen, excerpt, log, services.SystemClock().now())


def _excerpt(log: str) -> Excerpt:
    from aiops_cli.airflow.logs import read_excerpt

    def chunks(file: BinaryIO) -> Iterator[bytes]:
        return iter(lambda: file.read(CHUNK_BYTES), b"")

    if log == "-":
        return read_excerpt(chunks(sys.stdin.buffer))
    try:
        with Path(log).open("rb") as file:
            return read_excerpt(chunks(file))
    except OSError as error:
        raise UsageError(
            f"cannot read {log}: {error.strerror}", "name a file, or - for standard input"
        ) from None


def _show_in_parts(desk: Desk, snapshot: Snapshot, found: Iterator[tuple[str, Failure]]) -> None:
    """A table that grows as the logs are read; what was read is stored, whenever it ends."""
    from aiops_cli.listings import incident_table

    tell_where(desk)
    done = 0
    while part := list(islice(found, PART if done else FIRST_PART)):
        with _reading(desk, part) as tick:
            documents = []
            for document in _documents(desk, snapshot, part, whole=False):
                documents.append(document)
                tick(done + len(documents), None)
        short = short_ids(desk.knowledge.store, documents)
        console().print(incident_table(documents, short, "next" if done else "first"))
        done += len(part)
    console(stderr=True).print(WHERE_NEXT)


def _named(
    desk: Desk,
    snapshot: Snapshot,
    target: str | None,
    task: str | None,
    run: str | None,
    head: _Head | None,
) -> list[dict[str, Any]] | None:
    """The documents of what a URL, an incident's or a group's id names; None where `target` is
    none of these. `head` is shown where the log has still to be read."""
    from aiops_cli.airflow.links import parse_link
    from knowledge.errors import NotFound

    if target and target.startswith(("http://", "https://")):
        ref = parse_link(target, desk.airflow.url)
        pasted = _look_at(desk, snapshot, desk.airflow.task_instance(ref), head)
        return [pasted] if pasted else []
    if not target or task is not None or run is not None:
        return None
    try:
        ids = desk.knowledge.store.find_ids(target)
    except NotFound:
        return None  # then it is a DAG
    whole = len(ids) <= CARDS
    if len(ids) == 1:
        _may_ask(desk)
    return [_known(desk, snapshot, one, whole=whole) for one in ids]


def _failures(
    desk: Desk, snapshot: Snapshot, target: str | None, task: str | None, run: str | None
) -> Iterator[tuple[str, Failure]]:
    """What has failed, with the ids of the incidents. Raises UsageError for an unknown DAG; a
    healthy one is no error."""
    from aiops_cli import capture

    assert snapshot.since is not None  # noqa: S101 -- set by `diagnose`; narrows the type
    if target:
        target, task = capture.dag_and_task(desk.airflow, target, task)
    nothing = True
    with capture.of_dag(desk.airflow, target, "An incident's id needs 4 of its characters"):
        for one in capture.failures(
            snapshot,
            since=snapshot.since,
            instance=desk.instance,
            dag_id=target,
            task_id=task,
            run_id=run,
        ):
            nothing = False
            yield one
        if target and nothing and not any(sign in target for sign in "*?["):
            desk.airflow.dag(target)


def _all(
    desk: Desk,
    snapshot: Snapshot,
    found: Iterable[tuple[str, Failure]],
    count: int,
    head: _Head | None,
) -> list[dict[str, Any]]:
    """All documents; `head` is shown where there is just one."""
    if count == 1:
        ((_, failure),) = found
        with _told(failure):
            document = _look_at(desk, snapshot, failure, head)
            return [document] if document else []
        return []
    if head is not None:
        head.tell_where()
    several, documents = list(found), []
    with _reading(desk, several) as tick:
        for document in _documents(desk, snapshot, several, whole=count <= CARDS):
            documents.append(document)
            tick(len(documents), count)
    return documents


def _reading(
    desk: Desk, found: Sequence[tuple[str, Failure]]
) -> AbstractContextManager[Callable[[int, int | None], None]]:
    """Progress while logs are read; meanwhile a person sees what has failed, as `aiops failures`
    would tell it."""

    def table() -> RenderableType:
        from aiops_cli.incidents import TaskInstance
        from aiops_cli.listings import failure_table
        from aiops_cli.published import failure_document

        tasks = [one for _, one in found if isinstance(one, TaskInstance)][:MEANWHILE]
        return failure_table([failure_document(one, desk.instance, "") for one in tasks])

    return progress("reading logs", table)


def _documents(
    desk: Desk, snapshot: Snapshot, found: Iterable[tuple[str, Failure]], *, whole: bool
) -> Iterator[dict[str, Any]]:
    """The document of each failure, new or known, in order. Logs are read ahead, a few at a time;
    everything else is done here. What cannot be read is told."""
    from aiops_cli.context import surroundings
    from aiops_cli.examine import read, take_in
    from aiops_cli.incidents import TaskInstance
    from aiops_cli.pace import ahead
    from aiops_cli.published import incident_document

    store = desk.knowledge.store
    jobs = ((id_, failure, not store.known_incidents([id_])) for id_, failure in found)
    readings = ahead(
        jobs,
        lambda job: read(desk, snapshot, job[1]) if job[2] else None,
        desk.settings.concurrency,
    )
    for (id_, failure, new), reading in readings:
        document = None
        with _told(failure, desk):
            built = reading.result()
            if new:
                case = take_in(desk, snapshot, failure, built)
                if case is not None:  # else a run that failed because of a task after all
                    document = incident_document(case)
                    document["context"] |= surroundings(snapshot, case.incident) if whole else {}
            else:
                live = failure if isinstance(failure, TaskInstance) else None
                document = _look_again(desk, snapshot, id_, live, whole=whole)
        if document is not None:
            yield document


@contextmanager
def _told(failure: Failure, others: Desk | None = None) -> Iterator[None]:
    """What cannot be read of one failure is told, and the next one comes: with `others` also where
    Airflow answers, though not for this log. Raises AirflowUnreachable and AirflowAuth."""
    from aiops_cli.capture import name_of

    try:
        yield
    except AirflowError as error:
        from aiops_cli.settle import away

        gone = isinstance(error, (AirflowUnreachable, AirflowAuth))
        if gone and (others is None or away(others, error)):
            raise
        console(stderr=True).print(f"{name_of(failure)}: not read: {error.message}")


def _known(desk: Desk, snapshot: Snapshot, id_: str, *, whole: bool) -> dict[str, Any]:
    """A stored incident, as Airflow has its task instance now."""
    from aiops_cli.examine import of_this_airflow, ref_of

    about = desk.knowledge.store.case(id_).incident
    of_this_airflow(desk, about)
    live = desk.airflow.task_instance(ref_of(about)) if about.kind == "task" else None
    return _look_again(desk, snapshot, id_, live, whole=whole)


def _look_at(
    desk: Desk, snapshot: Snapshot, failure: Failure, head: _Head | None
) -> dict[str, Any] | None:
    """Diagnose one failure, new or known, with what surrounds it. None for a run that failed
    because of a task after all."""
    from aiops_cli import capture
    from aiops_cli.context import surroundings
    from aiops_cli.examine import examine
    from aiops_cli.incidents import TaskInstance
    from aiops_cli.published import incident_document
    from knowledge.records import Case

    _may_ask(desk)
    id_ = capture.id_of(failure, desk.instance)
    live = failure if isinstance(failure, TaskInstance) else None
    around = None
    if id_ not in desk.knowledge.store.known_incidents([id_]):
        if live and live.state != "failed":
            raise UsageError(f"{live.ref} has not failed: it is {live.state or 'cleared'}")
        if live and head:
            unread = capture.before_log(
                snapshot, live, instance=desk.instance, now=desk.clock.now()
            )
            around = surroundings(snapshot, unread)
            document = incident_document(Case(unread, "pending"))
            head.show(document | {"context": document["context"] | around})
        if examine(desk, snapshot, failure) is None:
            return None
    return _look_again(desk, snapshot, id_, live, around)


def _may_ask(desk: Desk) -> None:
    """Of a single failure somebody waits for the model; of many nobody would."""
    if desk.advisor is not None:
        desk.advisor.when = "now"


def _look_again(
    desk: Desk,
    snapshot: Snapshot,
    id_: str,
    live: TaskInstance | None,
    around: dict[str, Any] | None = None,
    *,
    whole: bool = True,
) -> dict[str, Any]:
    """What is known of a stored incident; `around` is what surrounds it, if that was asked for."""
    from aiops_cli.context import surroundings
    from aiops_cli.examine import judge
    from aiops_cli.published import incident_document

    case = desk.knowledge.store.case(id_)
    if case.status == "pending":
        case = judge(desk, snapshot, case.incident, live)
    document = incident_document(case)
    if whole:
        document["context"] |= around or surroundings(snapshot, case.incident)
    return document
