"""One pass, and the loop of passes: settle, capture, judge again, act where the gate lets it.

Two watchers on one knowledge base are safe: what either does is claimed first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from aiops_cli import capture, gate, respond
from aiops_cli.context import Snapshot
from aiops_cli.errors import AirflowAuth, AirflowError, AirflowUnreachable, Refused
from aiops_cli.examine import Desk, examine, judge, ref_of
from aiops_cli.incidents import TaskInstance
from aiops_cli.respond import Warn
from knowledge.errors import DoorClosed
from knowledge.records import Case, Decision, Grant, Limits

Mode = Literal["off", "ask", "shadow", "auto"]

# Looked at again on every pass: clocks differ, and Airflow writes an end date some time after
# the end. What is known already costs no request.
OVERLAP = timedelta(hours=1)


def one_pass(desk: Desk, mode: Mode, warn: Warn) -> Iterator[Case]:
    """Settle what was acted on, capture what has failed since the last pass, judge again what
    waits, and (mode auto) act within the grants. Yields every incident that is new or changed.

    What cannot be read now is warned of and left for the next pass. Raises AirflowUnreachable
    or AirflowAuth where nothing can be read at all.
    """
    yield from respond.settle(desk, warn)
    since = _since(desk)
    snapshot = Snapshot(desk.airflow, since)
    started = desk.clock.now()
    failed = capture.poll(snapshot, since=since, instance=desk.instance)
    store = desk.knowledge.store
    known = store.known_incidents(failed)
    complete = True
    for id_, failure in failed.items():
        if id_ in known:
            continue
        try:
            case = examine(desk, snapshot, failure)
        except (AirflowUnreachable, AirflowAuth):
            raise
        except AirflowError as error:
            complete = False
            warn(f"{capture.name_of(failure)}: not read yet: {error.message}")
            continue
        if case is not None:
            yield _follow_up(desk, mode, case, warn)
    for case in store.cases(status=["pending"], instance=desk.instance):
        if case.incident.id in failed and case.incident.id not in known:
            continue  # judged a moment ago
        changed = _look_again(desk, snapshot, case, failed.get(case.incident.id), warn)
        if changed is not None:
            after = _follow_up(desk, mode, changed, warn)
            if after.status != case.status or _answer(after) != _answer(case):
                yield after
    if complete:
        store.set_watermark(desk.instance, started)


def _since(desk: Desk) -> datetime:
    """From the last complete pass on, with an overlap; the first look goes back `lookback`."""
    mark = desk.knowledge.store.watermark(desk.instance)
    return desk.clock.now() - desk.settings.lookback if mark is None else mark - OVERLAP


def _look_again(
    desk: Desk,
    snapshot: Snapshot,
    case: Case,
    polled: capture.Failure | None,
    warn: Warn,
) -> Case | None:
    """A pending incident in the light of what is known now; superseded where somebody else
    acted. None where Airflow does not answer for it."""
    live = polled if isinstance(polled, TaskInstance) else None
    try:
        if case.incident.kind != "task":
            changed = capture.superseded(snapshot, case.incident)
        else:
            live = live or desk.airflow.task_instance(ref_of(case.incident))
            changed = gate.changed_since(case.incident, live)
        if changed:
            respond.supersede(desk, case.incident, changed)
            return desk.knowledge.store.case(case.incident.id)
        return judge(desk, snapshot, case.incident, live)
    except (AirflowUnreachable, AirflowAuth):
        raise
    except (AirflowError, DoorClosed) as error:
        warn(f"{case.incident.id}: not looked at again: {error.message}")
        return None


def _follow_up(desk: Desk, mode: Mode, case: Case, warn: Warn) -> Case:
    """Act alone where the verdict and the mode say so, or note what would have been done."""
    if case.status != "pending" or case.judgement is None:
        return case
    document = case.judgement.document
    diagnosis, grant_id = document["diagnosis"], document["gate"]["grant"]
    if mode == "shadow" and case.decision is None and _would_act(document):
        decision = Decision(
            case.incident.id,
            "shadow",
            desk.clock.now(),
            by=desk.settings.user,
            action=diagnosis["action"],
            params=diagnosis["params"],
            cause=diagnosis["cause"],
            grant=grant_id,
        )
        return respond.decide(desk.knowledge, decision)
    if mode != "auto" or document["decision"] != "auto":
        return case
    grant = next(grant for grant in desk.knowledge.store.grants() if grant.id == grant_id)
    try:
        return respond.act(
            desk,
            case.incident,
            action=diagnosis["action"],
            params=diagnosis["params"],
            by=desk.settings.user,
            kind="auto",
            cause=diagnosis["cause"],
            limits=_limits(desk, grant),
            grant=grant_id,
        )
    except (AirflowUnreachable, AirflowAuth):
        raise
    except (AirflowError, Refused, DoorClosed) as refusal:
        warn(f"{case.incident.id}: not acted on: {refusal.message}")
        return desk.knowledge.store.case(case.incident.id)


def _answer(case: Case) -> tuple[object, object]:
    document = case.judgement.document if case.judgement else {}
    return document.get("decision"), document.get("diagnosis", {}).get("action")


def _would_act(document: Mapping[str, Any]) -> bool:
    """Whether the gate passes, or would if a grant covered it: what shadow mode writes down."""
    failed = [check for check in document["gate"]["checks"] if not check["passed"]]
    return all(check["value"] == gate.NO_GRANT for check in failed)


def _limits(desk: Desk, grant: Grant) -> Limits:
    """The stricter of what the grant and the settings allow."""
    settings = desk.settings.gate
    return Limits(
        per_hour=min(grant.max_per_hour, settings.max_per_hour),
        per_dag_hour=min(grant.max_per_dag_hour, settings.max_per_dag_hour),
        per_task_instance_day=settings.attempts_per_day,
    )
