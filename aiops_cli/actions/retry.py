"""Run a failed task instance again, and the tasks that it blocked: preview, then exactly that.

Two calls, never one: the task itself, then what stands below it by name and only where failed,
so that no sibling that succeeded runs again (a clear with `include_downstream` would).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from aiops_cli.errors import AirflowConflict, AirflowError, AirflowUnreachable, Refused
from aiops_cli.incidents import UNMAPPED, Plan, PlannedClear, Task, TaskInstance, TaskRef
from aiops_cli.seams import Airflow

BLOCKED = "upstream_failed"

Step = Callable[[], None]
Save = Callable[[dict[str, Any]], None]


def preview(
    airflow: Airflow,
    live: TaskInstance,
    action: str,
    params: Mapping[str, Any],
    *,
    alone: bool = False,
) -> Plan:
    """What running `live` again would do now: the task itself, and what stands failed or blocked
    below it. `alone` leaves out what really ran and failed there: nobody has vouched for that.
    Raises Refused where there is nothing to run."""
    ref = live.ref
    own = airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=True)
    if [task_instance.ref for task_instance in own] != [ref]:
        raise Refused(
            f"Airflow would clear {_listed(own)} instead of {ref}",
            "look at it in Airflow: its state has changed, or it is not failed any more",
        )
    tasks = airflow.tasks(ref.dag_id)
    below = downstream_ids(tasks, ref.task_id)
    run = airflow.run_task_instances(ref.dag_id, ref.run_id) if below else ()
    task = tasks.get(ref.task_id)
    return Plan(
        action=action,
        ref=ref,
        params=params,
        clears=(_planned(live, "task"), *_below(run, below, alone)),
        # A clear grants the whole retry budget again, not one more try.
        extra_tries=(task.retries if task else 0) + 1,
        version_from=live.version,
        version_to=airflow.dag(ref.dag_id).version,
    )


def _below(
    run: Sequence[TaskInstance], below: Collection[str], alone: bool
) -> tuple[PlannedClear, ...]:
    """What would run again downstream. A name is cleared whole, so that one task instance of it
    that may not be run again leaves out the name."""
    stopped = [one for one in run if one.ref.task_id in below and one.state in (BLOCKED, "failed")]
    ran = {one.ref.task_id for one in stopped if one.state == "failed"} if alone else set()
    return tuple(_planned(one, "downstream") for one in stopped if one.ref.task_id not in ran)


def apply(airflow: Airflow, plan: Plan, note: str, renew: Step, save: Save) -> None:
    """Do what `plan` says. `note` is left on the task instance by the clear itself. `renew` is
    called right before each changing call and raises where it must not be made any more. `save`
    is given what has been done after each step (the id of the new try, what was cleared below,
    whether that was `as_planned`), so that a crash in between can be taken up. Raises Refused
    where somebody else acted in between: nothing was done then.
    """
    own, *below = plan.clears
    done: dict[str, Any] = {"new_id": _clear(airflow, own, note, renew).id}
    save(done)
    names = sorted({planned.ref.task_id for planned in below})
    cleared = _clear_downstream(airflow, plan.ref, names, renew) if names else []
    done["downstream"] = cleared
    done["as_planned"] = sorted(cleared) == sorted(str(planned.ref) for planned in below)
    save(done)


def revive(airflow: Airflow, ref: TaskRef) -> None:
    """Clear once more a task instance that was cleared and has no state in a finished run."""
    airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=False, only_failed=False)


def _clear(airflow: Airflow, own: PlannedClear, note: str, renew: Step) -> TaskInstance:
    """Clear the one task instance; returns it with its new id. An unclear answer (5xx, connection
    lost) is re-read before it is repeated, once: Airflow may have done it all the same."""
    try:
        return _clear_once(airflow, own, note, renew)
    except AirflowUnreachable as unclear:
        if not unclear.unclear:
            raise
        live = _read_again(airflow, own, unclear)
        if _moved(live, own):
            # Where a clear takes its note along, the note says whose clear it was; elsewhere the
            # one that was under way is taken for the one that came through.
            if note in (live.note or "").splitlines() or not airflow.clears_take_notes:
                return live
            raise unclear from None
        try:
            return _clear_once(airflow, own, note, renew)
        except (AirflowUnreachable, Refused):
            # The first call may have arrived late: that is for settle to find out.
            raise unclear from None


def _clear_once(airflow: Airflow, own: PlannedClear, note: str, renew: Step) -> TaskInstance:
    """One call, of a task instance that is still what was planned. That nothing was cleared is
    looked into: Refused where somebody else has acted, AirflowConflict where Airflow would not."""
    ref = own.ref
    renew()
    live = airflow.task_instance(ref)
    if _moved(live, own):
        raise Refused(f"somebody else has run {ref} again", "nothing was done")
    refusal = AirflowConflict(f"Airflow cleared nothing for {ref}", "try again in a moment")
    both = f"{live.note}\n{note}" if live.note else note
    try:
        cleared = airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=False, note=both)
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


def _clear_downstream(
    airflow: Airflow, ref: TaskRef, names: Sequence[str], renew: Step
) -> list[str]:
    """Clear what the failure blocked. Repeating is harmless (only what is failed is cleared), so
    an unclear answer is simply asked again."""
    for repeat in (False, True):
        renew()
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
