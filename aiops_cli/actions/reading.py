"""How what an action changes stands in Airflow now, as a change keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from aiops_cli.errors import AirflowNotFound
from aiops_cli.incidents import MASK, UNMAPPED, Change, TaskRef
from aiops_cli.seams import Airflow
from knowledge.redact import redact

EXTRA = "extra."  # begins the name of a field of a connection's extra
THERE = "there"  # what stands for an XCom: what it holds is neither read nor kept


def now(airflow: Airflow, ref: TaskRef, change: Change) -> Any:
    """What the field holds now, as a change would keep it."""
    found: Any = None
    if change.kind == "connection":
        found = connection(airflow, change.name).get(change.field)
    elif change.kind == "variable":
        found = variable(airflow, change.name)
    elif change.kind == "pool":
        pool = airflow.pools().get(change.name)
        found = pool.slots if pool else None
    elif change.kind == "xcom":
        keys = airflow.xcoms(writer(ref, change.name))
        found = THERE if change.field in keys else None
    elif change.kind == "dag run":
        try:
            airflow.run(change.name, change.field)
            found = change.new
        except AirflowNotFound:
            found = None
    else:
        found = airflow.task_instance(ref).state
    return found if same(found, change.new) else kept(replace(change, old=found))


def same(one: Any, other: Any) -> bool:
    """Equal as Airflow keeps it: it writes a variable's JSON in its own spacing."""
    if isinstance(one, str) and isinstance(other, str) and one != other:
        try:
            return one[:1] in "[{" and bool(json.loads(one) == json.loads(other))
        except ValueError:
            return False
    return type(one) is type(other) and bool(one == other)


def connection(airflow: Airflow, name: str) -> dict[str, Any]:
    """Its fields, those of its extra as `extra.NAME`; the extra as a whole is under ""."""
    found = airflow.connection(name)
    extra = _parsed(found.extra)
    fields: dict[str, Any] = {
        "host": found.host,
        "port": found.port,
        "schema": found.schema,
        "login": found.login,
        "": extra if extra is not None else found.extra or "",
    }
    return fields | {EXTRA + key: value for key, value in (extra or {}).items()}


def _parsed(extra: str | None) -> dict[str, Any] | None:
    """None for an extra that is no JSON object."""
    try:
        found = json.loads(extra or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def variable(airflow: Airflow, name: str) -> str | None:
    try:
        return airflow.variable(name).value
    except AirflowNotFound:
        return None


def kept(change: Change) -> Any:
    if change.old is None or isinstance(change.old, int):
        return change.old
    text = change.old if isinstance(change.old, str) else json.dumps(change.old)
    told = f"{change.field}={text}"
    secret = MASK in text or redact(text) != text or redact(told) != told
    return MASK if secret else change.old


def writer_name(ref: TaskRef) -> str:
    """`extract`, or of a mapped task `extract[2]`: no task's id has a bracket."""
    return ref.task_id if ref.map_index == UNMAPPED else f"{ref.task_id}[{ref.map_index}]"


def writer(ref: TaskRef, name: str) -> TaskRef:
    """The task instance in the run of `ref` that `_writer_name` names."""
    task_id, _, index = name.removesuffix("]").partition("[")
    return replace(ref, task_id=task_id, map_index=int(index or UNMAPPED))
