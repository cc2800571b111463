"""What a login may do in Airflow, tried without changing anything.

Rights are checked before names are looked up: a request for something that cannot exist is
answered 403 to those who may not and 404 to those who may. Seen so on 3.1.8 and 3.3.2 for the
roles viewer, user, op and admin. From 3.3 on, the tries with connections, variables and pools
leave rows in Airflow's audit log, under the name that cannot exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiops_cli.airflow.answers import NotOffered
from aiops_cli.airflow.questions import DAG, RUN, TASK
from aiops_cli.airflow.transport import Transport
from aiops_cli.errors import (
    AirflowAnswer,
    AirflowForbidden,
    AirflowNotFound,
    AirflowUnreachable,
)

NOTHING = "aiops.probe.no.such"
_IDS = {"dag_id": NOTHING, "run_id": NOTHING, "task_id": NOTHING, "key": NOTHING}

CLEAR = "clear task instances"
MARK = "set the state of task instances"
CONNECTIONS = "edit connections"
VARIABLES = "edit variables"
POOLS = "edit pools"
XCOMS = "delete XComs"
TRIGGER = "trigger DAG runs"

# What each action of the catalogue needs.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "retry": (CLEAR,),
    "retry_later": (CLEAR,),
    "retry_upstream": (CLEAR,),
    "clear_xcom": (XCOMS, CLEAR),
    "update_connection": (CONNECTIONS, CLEAR),
    "set_variable": (VARIABLES, CLEAR),
    "resize_pool": (POOLS, CLEAR),
    "trigger_dag": (TRIGGER, CLEAR),
    "mark_success": (MARK,),
    "mark_skipped": (MARK,),
}


class Right(NamedTuple):
    """One right, what needs it, and the least role that has it; `allowed` is None where that
    could not be found out, and `problem` says why."""

    name: str
    use: str
    role: str
    allowed: bool | None
    problem: str = ""


class _Try(NamedTuple):
    method: str
    path: str
    body: Mapping[str, Any] = {}
    query: tuple[tuple[str, str], ...] = ()


_ONE = (("limit", "1"),)
_READS: tuple[tuple[str, str, _Try], ...] = (
    (
        "read task instances",
        "everything",
        _Try("GET", RUN.format(dag_id="~", run_id="~") + "/taskInstances", query=_ONE),
    ),
    (
        "read the event log",
        "what changed, lost workers",
        _Try("GET", "/api/v2/eventLogs", {}, _ONE),
    ),
    ("read DAGs", "owners, tags, what a failure blocks", _Try("GET", DAG + "/details")),
    ("read logs", "diagnose", _Try("GET", TASK + "/logs/1")),
)
_CONNECTION, _VARIABLE = "/api/v2/connections/{key}", "/api/v2/variables/{key}"
# Of several tries each must be allowed. Reading comes first: it leaves no row in the audit log.
_CHANGES: tuple[tuple[str, str, tuple[_Try, ...]], ...] = (
    (
        CLEAR,
        "User",
        (
            _Try(
                "POST",
                DAG + "/clearTaskInstances",
                {"dry_run": True, "dag_run_id": NOTHING, "task_ids": [NOTHING]},
            ),
        ),
    ),
    (MARK, "User", (_Try("PATCH", TASK, {"new_state": "success"}),)),
    (TRIGGER, "User", (_Try("POST", DAG + "/dagRuns", {"logical_date": None}),)),
    (
        CONNECTIONS,
        "Op",
        (
            _Try("GET", _CONNECTION),
            _Try("PATCH", _CONNECTION, {"connection_id": NOTHING, "conn_type": "http"}),
        ),
    ),
    (
        VARIABLES,
        "Op",
        (_Try("GET", _VARIABLE), _Try("PATCH", _VARIABLE, {"key": NOTHING, "value": ""})),
    ),
    (
        POOLS,
        "Op",
        (
            _Try(
                "PATCH",
                "/api/v2/pools/{key}",
                {"pool": NOTHING, "slots": 1, "include_deferred": False},
            ),
        ),
    ),
    (XCOMS, "User", (_Try("DELETE", TASK + "/xcomEntries/{key}"),)),
)


def tried(transport: Transport) -> tuple[Right, ...]:
    """Every right that matters here; with `read_only` those of reading alone. Raises AirflowError
    where Airflow does not answer or the login is refused."""
    rights = [
        Right(name, use, "Viewer", *_allowed(transport, name, (one,))) for name, use, one in _READS
    ]
    for name, role, tries in () if transport.read_only else _CHANGES:
        actions = ", ".join(action for action, needs in NEEDS.items() if needs[:1] == (name,))
        use = f"approve, {actions}" if name == CLEAR else actions
        rights.append(Right(name, use, role, *_allowed(transport, name, tries)))
    return tuple(rights)


def permitted(rights: Sequence[Right]) -> dict[str, bool | None]:
    """Of each action of the catalogue, whether the rights allow it; None where that is not known
    or this Airflow does not offer what it needs."""
    held = {right.name: right.allowed for right in rights}
    answers = {action: [held.get(name) for name in needs] for action, needs in NEEDS.items()}
    return {
        action: False if False in found else None if None in found else True
        for action, found in answers.items()
    }


def _allowed(transport: Transport, name: str, tries: tuple[_Try, ...]) -> tuple[bool | None, str]:
    for method, path, body, query in tries:
        try:
            if method == "GET":
                transport.get(path, name, _IDS, query)
            else:
                transport.change(method, path, name, _IDS, body)
        except AirflowNotFound:
            continue
        except AirflowForbidden:
            return False, ""
        except NotOffered:
            return None, "this Airflow does not offer it"
        except (AirflowAnswer, AirflowUnreachable) as error:
            if method == "GET":
                raise
            return None, error.message  # some gateways refuse a PATCH or a DELETE of any kind
    return True, ""
