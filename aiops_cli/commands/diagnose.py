"""`aiops diagnose`: what failed, why, and what fixed it before. Acts on nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console, print_json, tell_where
from aiops_cli.errors import AirflowAuth, AirflowError, AirflowUnreachable, UsageError

if TYPE_CHECKING:
    from aiops_cli.config import Settings
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
        documents, single = _of_airflow(desk, target, task, run, since)
        short = desk.knowledge.store.shortest_prefixes([doc["incident"] for doc in documents])
        if not json:
            tell_where(desk)
    _show(documents, dict(short), json, single=single)
    if not documents and not json:
        console(stderr=True).print(f"no failed tries in the last {since}")


def _show(documents: list[dict[str, Any]], short: dict[str, str], json: bool, single: bool) -> None:
    if json:
        print_json(documents[0] if single else {"incidents": documents})
        return
    from aiops_cli.render import incident_card, incident_table

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
    desk: Desk, target: str | None, task: str | None, run: str | None, since: str
) -> tuple[list[dict[str, Any]], bool]:
    """The documents, and whether one thing was asked for."""
    from aiops_cli import capture
    from aiops_cli.airflow.links import parse_link
    from aiops_cli.config import parse_duration
    from aiops_cli.examine import ref_of
    from knowledge.errors import NotFound

    store = desk.knowledge.store
    snapshot = capture.Snapshot(desk.airflow)
    if target and target.startswith(("http://", "https://")):
        ref = parse_link(target, desk.airflow.url)
        return [_look_at(desk, snapshot, desk.airflow.task_instance(ref), whole=True)], True
    if target and task is None and run is None:
        try:
            known = store.case(target)
        except NotFound:
            pass  # then it is a DAG
        else:
            live = desk.airflow.task_instance(ref_of(known.incident))
            return [_look_again(desk, snapshot, known.incident.id, live)], True
    start = desk.clock.now() - parse_duration(since)
    found = list(desk.airflow.failed(since=start, dag_id=target, task_id=task, run_id=run))
    if target and not found and not any(sign in target for sign in "*?["):
        desk.airflow.dag(target)  # an unknown DAG is an error, a healthy one is not
    documents = []
    for failed in found:
        try:
            documents.append(_look_at(desk, snapshot, failed, whole=len(found) <= CARDS))
        except (AirflowUnreachable, AirflowAuth):
            raise
        except AirflowError as error:
            console(stderr=True).print(f"{failed.ref}: not read: {error.message}")
    return documents, False


def _look_at(desk: Desk, snapshot: Any, live: TaskInstance, *, whole: bool) -> dict[str, Any]:
    """Diagnose a failed try, new or known; `whole` adds what changed before it."""
    from aiops_cli import capture
    from aiops_cli.examine import examine

    id_ = capture.id_of(live, desk.instance)
    if id_ not in desk.knowledge.store.known_incidents([id_]):
        if live.state != "failed":
            raise UsageError(f"{live.ref} has not failed: it is {live.state or 'cleared'}")
        examine(desk, snapshot, live)
    return _look_again(desk, snapshot, id_, live, whole=whole)


def _look_again(
    desk: Desk, snapshot: Any, id_: str, live: TaskInstance, *, whole: bool = True
) -> dict[str, Any]:
    from aiops_cli import capture
    from aiops_cli.examine import judge
    from aiops_cli.published import incident_document

    case = desk.knowledge.store.case(id_)
    if case.status == "pending":
        case = judge(desk, snapshot, case.incident, live)
    document = incident_document(case)
    if whole:
        document["context"] |= capture.what_changed(desk.airflow, case.incident)
    return document
