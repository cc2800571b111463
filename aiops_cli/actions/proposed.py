"""What an action would change now: worked out and checked, nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from aiops_cli.actions import reading
from aiops_cli.actions.changes import MARKS, told_name
from aiops_cli.actions.values import (
    conf_object,
    connection_fields,
    names,
    plain_value,
    pool_slots,
)
from aiops_cli.errors import AirflowNotFound, Refused, UsageError
from aiops_cli.incidents import MASK, Change, TaskRef
from aiops_cli.seams import Airflow

# What they change is there for all that fail of it, so that one act of several makes the change:
# what it is, and the param that names it.
SHARED: Mapping[str, tuple[str, str]] = {
    "update_connection": ("connection", "connection_id"),
    "set_variable": ("variable", "key"),
    "resize_pool": ("pool", "pool"),
}


class SoAlready(Refused):
    """There is nothing to change."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is so already: there is nothing to change",
            "to run the task again: --action retry",
        )


def check_made(airflow: Airflow, ref: TaskRef, action: str, params: Mapping[str, Any]) -> None:
    """Raises Refused where what another act was to change is not so: nothing is run again then."""
    try:
        left = proposed(airflow, "", ref, action, params, most=0)
    except SoAlready:
        return
    raise Refused(
        f"{told_name(left[0])} was to be changed first, and is not so: nothing was done",
        "look at the new plan and decide again",
    )


def proposed(
    airflow: Airflow,
    own_run: str,
    ref: TaskRef,
    action: str,
    params: Mapping[str, Any],
    most: int,
) -> tuple[Change, ...]:
    """What the action would change now, beside what runs again; the params are `ready`. `own_run`
    is the id of a run that it may start, `most` how many task instances above the failed one it may
    be about. Raises Refused where there is nothing to change or it cannot be changed safely,
    UsageError for a value that cannot be."""
    if action == "update_connection":
        return _of_connection(airflow, params)
    if action == "set_variable":
        return _of_variable(airflow, params)
    if action == "resize_pool":
        return _of_pool(airflow, params)
    if action == "clear_xcom":
        return _of_xcom(airflow, ref, params, most)
    if action == "trigger_dag":
        return _of_dag(airflow, own_run, params)
    if action in MARKS:
        return (Change("state", str(ref), "state", "failed", MARKS[action]),)
    return ()


def _of_connection(airflow: Airflow, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name = _name(params, "connection_id")
    fields = connection_fields(params)
    try:
        known = reading.connection(airflow, name)
    except AirflowNotFound:
        raise Refused(
            f"Airflow has no connection {name} in its database",
            "one of the environment or a secrets backend is changed there",
        ) from None
    extra = any(field.startswith(reading.EXTRA) for field in fields)
    if extra and not isinstance(known[""], dict):
        raise Refused(
            f"the extra of connection {name} is no JSON object", "change it in Airflow's UI"
        )
    if extra and MASK in json.dumps(known[""]):
        raise Refused(
            f"the extra of connection {name} holds values that Airflow hides",
            "change it in Airflow's UI, then approve with --action retry",
        )
    found = (
        Change("connection", name, field, known.get(field), value)
        for field, value in fields.items()
    )
    return _news(found, f"connection {name}")


def _of_variable(airflow: Airflow, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name = _name(params, "key")
    value = params["value"]
    text = str(plain_value(name, value if isinstance(value, str) else json.dumps(value)))
    change = Change("variable", name, "value", reading.variable(airflow, name), text)
    return _news([change], f"variable {name}")


def _of_pool(airflow: Airflow, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name, slots = _name(params, "pool"), pool_slots(params)
    pools = airflow.pools()
    if name not in pools:
        raise Refused(f"Airflow has no pool {name}", f"it has: {', '.join(sorted(pools))}")
    return _news([Change("pool", name, "slots", pools[name].slots, slots)], f"pool {name}")


def _of_xcom(
    airflow: Airflow, ref: TaskRef, params: Mapping[str, Any], most: int
) -> tuple[Change, ...]:
    name = _name(params, "task_id")
    if name == ref.task_id:
        raise UsageError(
            "a task's own XCom is deleted by running it again",
            "name the upstream that wrote what it reads",
        )
    if not airflow.deletes_xcoms:
        raise Refused(
            f"Airflow {airflow.version()} cannot delete XComs through its API",
            "running the upstream again writes them anew: "
            f"--action retry_upstream --set task_ids={name}",
        )
    keys = names(params.get("keys", "return_value"))
    # Of a mapped task each index has its own, and some may have skipped writing it.
    written = {one: airflow.xcoms(one) for one in _instances(airflow, ref, name, most)}
    there = {key for found in written.values() for key in found}
    missing = [key for key in keys if key not in there]
    if missing or not keys:
        raise Refused(
            f"{ref.dag_id}.{name} has no XCom {', '.join(missing)} in {ref.run_id}",
            f"it has: {', '.join(sorted(there))}"
            if there
            else f"to run it again: --action retry_upstream --set task_ids={name}",
        )
    return tuple(
        Change("xcom", reading.writer_name(one), key, reading.THERE, None)
        for one, found in written.items()
        for key in keys
        if key in found
    )


def _instances(airflow: Airflow, ref: TaskRef, task_id: str, most: int) -> list[TaskRef]:
    """The task's instances in the run, by index. Raises Refused for more than `most`."""
    run = airflow.run_task_instances(ref.dag_id, ref.run_id)
    found = sorted((one.ref for one in run if one.ref.task_id == task_id), key=_index)
    if len(found) > most:
        raise Refused(
            f"it would run {len(found)} instances of {ref.dag_id}.{task_id} anew, more than {most}",
            "if that is right: --max-tasks",
        )
    return found


def _index(ref: TaskRef) -> int:
    return ref.map_index


def _of_dag(airflow: Airflow, own_run: str, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name, conf = _name(params, "dag_id"), conf_object(params)
    if airflow.dag(name).is_paused:
        raise Refused(f"{name} is paused in Airflow: a run of it would wait", "unpause it first")
    try:
        run = airflow.run(name, own_run)
    except AirflowNotFound:
        return (Change("dag run", name, own_run, None, dict(conf)),)
    raise Refused(
        f"{name} was run for this incident already: {own_run} is {run.state}",
        "when it is through, run the task again: --action retry",
    )


def _name(params: Mapping[str, Any], param: str) -> str:
    return str(params[param]).strip()


def _news(changes: Iterable[Change], what: str) -> tuple[Change, ...]:
    """Those that change anything; an old value that is somebody's secret is not kept."""
    news = tuple(one for one in changes if not reading.same(one.old, one.new))
    if not news:
        raise SoAlready(what)
    return tuple(replace(one, old=reading.kept(one)) for one in news)
