"""`aiops diagnose`: what failed, why, and what fixed it before. Acts on nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.incidents import short_ids
from aiops_cli.commands.output import console, print_json, tell_where
from aiops_cli.errors import AirflowAuth, AirflowError, AirflowUnreachable, UsageError

if TYPE_CHECKING:
    from aiops_cli.capture import Failure
    from aiops_cli.config import Settings
    from aiops_cli.context import Snapshot
    from aiops_cli.examine import Desk
    from aiops_cli.incidents import Excerpt, TaskInstance

CARDS = 3  # so many incidents are shown whole; more as a table
CHUNK_BYTES = 64 * 1024


def diagnose(
    ctx: typer.Context,
    target: Annotated[
        str | None, typer.Argument(help="DAG id or glob, incident id, or a URL of Airflow's UI.")
    ] = None,
    task: Annotated[str | None, typer.Argument(help="Task id or glob.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this dag run.")] = None,
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h, 7d.")] = "24h",
    log: Annotated[
        str | None, typer.Option(help="Diagnose this log file (- for stdin), without Airflow.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what failed, why, and what fixed it before. Acts on nothing."""
    chosen = settings(ctx)
    if log is not None:
        if target or task or run:
            raise UsageError("--log takes no DAG, task or run", "give either a log or a target")
        _show([_of_log(chosen, log)], {}, json, single=True)
        return
    from aiops_cli import services

    with services.desk(chosen) as desk:
        head = None if json else _Head(desk)
        documents, single = _of_airflow(desk, target, task, run, since, head)
        short = short_ids(desk.knowledge.store, documents)
        if head is not None and not head.shown:
            tell_where(desk)
    if head is not None and head.shown and documents:
        from aiops_cli.render import incident_rest

        console().print(incident_rest(documents[0], short[documents[0]["incident"]]))
        return
    _show(documents, dict(short), json, single=single)
    if not documents and not json:
        console(stderr=True).print(f"no failed tries in the last {since}")


class _Head:
    """What is known of a single failure before its log is read, shown at once: the log may be
    long in coming."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.shown = False

    def show(self, document: dict[str, Any]) -> None:
        from aiops_cli.render import incident_head

        tell_where(self.desk)
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
        out.print(incident_table(documents, short))
        console(stderr=True).print(
            "one of them whole: aiops diagnose ID; all of them: aiops triage"
        )
        return
    for number, document in enumerate(documents):
        if number:
            out.print()
        out.print(incident_card(document, short.get(document["incident"], "-")))


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
        raise UsageError(f"cannot read {log}: {error.strerror}") from None


def _of_airflow(
    desk: Desk,
    target: str | None,
    task: str | None,
    run: str | None,
    since: str,
    head: _Head | None,
) -> tuple[list[dict[str, Any]], bool]:
    """The documents, and whether one thing was asked for. `head` is shown where there is just
    one, and its log has still to be read."""
    from aiops_cli import capture
    from aiops_cli.airflow.links import parse_link
    from aiops_cli.config import parse_duration
    from aiops_cli.context import Snapshot
    from knowledge.errors import NotFound

    store = desk.knowledge.store
    start = desk.clock.now() - parse_duration(since)
    snapshot = Snapshot(desk.airflow)
    if target and target.startswith(("http://", "https://")):
        ref = parse_link(target, desk.airflow.url)
        pasted = _look_at(desk, snapshot, desk.airflow.task_instance(ref), head, whole=True)
        return [pasted] if pasted else [], True
    if target and task is None and run is None:
        try:
            ids = store.find_ids(target)
        except NotFound:
            pass  # then it is a DAG
        else:
            whole = len(ids) <= CARDS
            return [_known(desk, snapshot, one, whole=whole) for one in ids], len(ids) == 1
    found = capture.poll(
        snapshot, since=start, instance=desk.instance, dag_id=target, task_id=task, run_id=run
    )
    if target and not found and not any(sign in target for sign in "*?["):
        desk.airflow.dag(target)  # an unknown DAG is an error, a healthy one is not
    documents = []
    for failure in found.values():
        alone = len(found) == 1
        try:
            document = _look_at(
                desk, snapshot, failure, head if alone else None, whole=len(found) <= CARDS
            )
        except (AirflowUnreachable, AirflowAuth):
            raise
        except AirflowError as error:
            name = capture.name_of(failure)
            console(stderr=True).print(f"{name}: not read: {error.message}")
        else:
            documents += [document] if document else []
    return documents, False


def _known(desk: Desk, snapshot: Snapshot, id_: str, *, whole: bool) -> dict[str, Any]:
    """A stored incident, as Airflow has its task instance now."""
    from aiops_cli.examine import ref_of

    about = desk.knowledge.store.case(id_).incident
    live = desk.airflow.task_instance(ref_of(about)) if about.kind == "task" else None
    return _look_again(desk, snapshot, id_, live, whole=whole)


def _look_at(
    desk: Desk, snapshot: Snapshot, failure: Failure, head: _Head | None, *, whole: bool
) -> dict[str, Any] | None:
    """Diagnose a failure, new or known; `whole` adds what surrounds it. None for a run that
    failed because of a task after all."""
    from aiops_cli import capture
    from aiops_cli.context import surroundings
    from aiops_cli.examine import examine
    from aiops_cli.incidents import TaskInstance
    from aiops_cli.published import incident_document
    from knowledge.records import Case

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
    return _look_again(desk, snapshot, id_, live, around, whole=whole)


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
