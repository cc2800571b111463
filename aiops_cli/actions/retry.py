"""Run a failed task instance again, and the tasks that it blocked: preview, then exactly that.

Two calls, never one: the task itself, then what stands below it by name and only where failed,
so that no sibling that succeeded runs again (a clear with `include_downstream` would).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiops_cli.errors import AirflowConflict, AirflowError, AirflowUnreachable, Refused
from aiops_cli.incidents import UNMAPPED, Plan, PlannedClear, Task, TaskInstance, TaskRef
from aiops_cli.seams import Airflow

BLOCKED_STATES = frozenset({"failed", "upstream_failed"})


def preview(airflow: Airflow, live: TaskInstance, action: str, params: Mapping[str, Any]) -> Plan:
    """What running `live` again would do now. Raises Refused where there is nothing to run."""
    ref = live.ref
    own = airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=True)
    if [task_instance.ref for task_instance in own] != [ref]:
        raise Refused(
            f"Airflow would clear {_listed(own)} instead of {ref}",
            "look at it in Airflow: its state has changed, or it is not failed any more",
        )
    tasks = airflow.tasks(ref.dag_id)
    below = downstream_ids(tasks, ref.task_id)
    blocked = [
        task_instance
        for task_instance in (airflow.run_task_instances(ref.dag_id, ref.run_id) if below else ())
        if task_instance.ref.task_id in below and task_instance.state in BLOCKED_STATES
    ]
    task = tasks.get(ref.task_id)
    return Plan(
        action=action,
        ref=ref,
        params=params,
        clears=(
            _planned(live, "task"),
            *(_planned(task_instance, "downstream") for task_instance in blocked),
        ),
        # A clear grants the whole retry budget again, not one more try.
        extra_tries=(task.retries if task else 0) + 1,
        version_from=live.version,
        version_to=airflow.dag(ref.dag_id).version,
    )


def apply(airflow: Airflow, plan: Plan, save: Callable[[dict[str, Any]], None]) -> None:
    """Do what `plan` says. `save` is given what has been done after each step (the id of the new
    try, what was cleared below, whether that was `as_planned`), so that a crash in between can
    be taken up. Raises Refused where somebody else acted in between: nothing was done then.
    """
    own, *below = plan.clears
    done: dict[str, Any] = {"new_id": _clear(airflow, own).id}
    save(done)
    names = sorted({planned.ref.task_id for planned in below})
    cleared = _clear_downstream(airflow, plan.ref, names) if names else []
    done["downstream"] = cleared
    done["as_planned"] = sorted(cleared) == sorted(str(planned.ref) for planned in below)
    save(done)


def revive(airflow: Airflow, ref: TaskRef) -> None:
    """Clear once more a task instance that was cleared and has no state in a finished run."""
    airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=False, only_failed=False)


def _clear(airflow: Airflow, own: PlannedClear) -> TaskInstance:
    """Clear the one task instance; returns it with its new id. An unclear answer (5xx, connection
    lost) is re-read before it is repeated, once: Airflow may have done it all the same."""
    try:
        return _clear_once(airflow, own)
    except AirflowUnreachable as unclear:
        if not unclear.unclear:
            raise
        live = _read_again(airflow, own, unclear)
        if _moved(live, own):
            return live
        try:
            return _clear_once(airflow, own)
        except AirflowUnreachable:
            raise unclear from None


def _clear_once(airflow: Airflow, own: PlannedClear) -> TaskInstance:
    """One call. That nothing was cleared is looked into: Refused where somebody else has acted,
    AirflowConflict where Airflow would not."""
    ref = own.ref
    refusal = AirflowConflict(f"Airflow cleared nothing for {ref}", "try again in a moment")
    try:
        cleared = airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=False)
        if cleared:
            return cleared[0]
    except AirflowConflict as conflict:
        refusal = conflict
    if _moved(_read_again(airflow, own, refusal), own):
        raise Refused(f"somebody else has run {ref} again", "nothing was done")
    raise refusal


def _moved(live: TaskInstance, own: PlannedClear) -> bool:
    return live.id != own.id or live.state != own.state


def _read_again(airflow: Airflow, own: PlannedClear, refusal: AirflowError) -> TaskInstance:
    """The task instance of now; where that cannot be read either, the refusal stands."""
    try:
        return airflow.task_instance(own.ref)
    except AirflowError:
        raise refusal from None


def _clear_downstream(airflow: Airflow, ref: TaskRef, names: Sequence[str]) -> list[str]:
    """Clear what the failure blocked. Repeating is harmless (only what is failed is cleared), so
    an unclear answer is simply asked again."""
    for repeat in (False, True):
        try:
            cleared = airflow.clear(ref.dag_id, ref.run_id, names, dry_run=False)
        except AirflowConflict:
            return []  # another clear of the same rows is under way: they run again by that
        except AirflowUnreachable:
            if repeat:
                raise
            continue
        return [str(task_instance.ref) for task_instance in cleared]
    raise AssertionError("unreachable: the second round returns or raises")


def downstream_ids(tasks: Mapping[str, Task], task_id: str) -> frozenset[str]:
    """The ids of everything below the task, without the task itself."""
    found: set[str] = set()
    todo = [task_id]
    while todo:
        task = tasks.get(todo.pop())
        for below in task.downstream if task else ():
            if below not in found:
                found.add(below)
                todo.append(below)
    return frozenset(found - {task_id})


def _planned(task_instance: TaskInstance, role: str) -> PlannedClear:
    return PlannedClear(
        ref=task_instance.ref,
        state=task_instance.state,
        try_number=task_instance.try_number,
        id=task_instance.id,
        role="task" if role == "task" else "downstream",
    )


def _named(ref: TaskRef) -> str | tuple[str, int]:
    return ref.task_id if ref.map_index == UNMAPPED else (ref.task_id, ref.map_index)


def _listed(task_instances: Sequence[TaskInstance]) -> str:
    return ", ".join(str(task_instance.ref) for task_instance in task_instances) or "nothing"
