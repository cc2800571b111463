"""Run a failed task instance again, and the tasks that it blocked: preview, then exactly that.

Two calls, never one: the task itself (and what has to run anew above it, by name), then what
it blocked below by name, so that nothing that ran of itself there runs again, whether it succeeded
or failed (a clear with `include_downstream` would): a task of another trigger rule may have sent
its invoices, and its failure waits for its own yes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any, Literal

from aiops_cli.actions.graph import downstream_ids
from aiops_cli.errors import AirflowConflict, AirflowError, AirflowUnreachable, Refused
from aiops_cli.incidents import UNMAPPED, Plan, PlannedClear, Task, TaskInstance, TaskRef
from aiops_cli.seams import Airflow

BLOCKED = "upstream_failed"
# Cleared all the same, a server before 3.3 would restart them.
UNDER_WAY = frozenset(
    {
        "running",
        "queued",
        "scheduled",
        "deferred",
        "restarting",
        "up_for_retry",
        "up_for_reschedule",
    }
)


class Overtaken(Refused):
    """Somebody else has run it again: nothing was done."""

    def __init__(self, ref: TaskRef) -> None:
        super().__init__(f"somebody else has run {ref} again", "nothing was done")


class OtherwiseCleared(Refused):
    """Airflow has run again something else than was planned."""

    def __init__(self, planned: Sequence[PlannedClear], cleared: Sequence[TaskInstance]) -> None:
        named = ", ".join(str(one.ref) for one in planned)
        super().__init__(
            f"Airflow has run {_listed(cleared)} again where {named} was planned",
            "nothing more was done: look at the run in Airflow",
        )


Step = Callable[[], None]
Save = Callable[[dict[str, Any]], None]


def preview(
    airflow: Airflow,
    live: TaskInstance,
    action: str,
    params: Mapping[str, Any],
    *,
    again: Collection[str] = (),
) -> Plan:
    """What running `live` again would do now: the task itself, and what it blocks below it.
    `again` are tasks above it that run anew before it, whatever came of them. Raises Refused where
    there is nothing to run."""
    ref = live.ref
    first = _rehearsed(airflow, live, again)
    tasks = airflow.tasks(ref.dag_id)
    task = tasks.get(ref.task_id)
    after, told = below(airflow, live, tasks)
    return Plan(
        action=action,
        ref=ref,
        params=params,
        clears=(*first, *after),
        # A clear grants the whole retry budget again, not one more try.
        extra_tries=(task.retries if task else 0) + 1,
        version_from=live.version,
        version_to=airflow.dag(ref.dag_id).version,
        told=told,
    )


def _rehearsed(
    airflow: Airflow, live: TaskInstance, again: Collection[str]
) -> tuple[PlannedClear, ...]:
    """What the first call would clear: what runs anew above, then the task itself."""
    above = (_planned(one, "upstream") for one in _above(airflow, live, again))
    return (*above, _planned(live, "task"))


def _above(
    airflow: Airflow, live: TaskInstance, again: Collection[str]
) -> tuple[TaskInstance, ...]:
    """What runs anew before the task. Raises Refused where Airflow would clear something else."""
    ref = live.ref
    names = [*sorted(again), _named(ref)]
    found = airflow.clear(ref.dag_id, ref.run_id, names, dry_run=True, only_failed=not again)
    above = tuple(one for one in found if one.ref != ref)
    if len(above) != len(found) - 1 or (above and not again):
        raise Refused(
            f"Airflow would clear {_listed(found)} instead of {ref}",
            "look at it in Airflow: its state has changed, or it is not failed any more",
        )
    running = [one for one in above if one.state in UNDER_WAY]
    if running:
        raise Refused(f"{_listed(running)} is under way", "wait until it has ended")
    return above


def below(
    airflow: Airflow, live: TaskInstance, tasks: Mapping[str, Task]
) -> tuple[tuple[PlannedClear, ...], tuple[str, ...]]:
    """What would run again below `live` in a DAG of these `tasks`, and what is said of that which
    would not."""
    names = downstream_ids(tasks, live.ref.task_id)
    stopped, ran = blocked(airflow, live.ref, tasks, names)
    told = f"not run again, for it ran and failed itself: {', '.join(sorted(ran))}"
    return tuple(_planned(one, "downstream") for one in stopped), (told,) if ran else ()


def blocked(
    airflow: Airflow, ref: TaskRef, tasks: Mapping[str, Task], names: Set[str]
) -> tuple[list[TaskInstance], frozenset[str]]:
    """Of the tasks of these names in the run of `ref`: the instances that never ran because of a
    failure above them, and the names that ran and failed themselves. A name is cleared whole, so
    that one task instance of it that ran and failed leaves out the name; and what stands below it,
    which would be blocked by it again at once."""
    states = (BLOCKED, "failed")
    run = airflow.run_task_instances(ref.dag_id, ref.run_id, states=states) if names else ()
    below = [one for one in run if one.ref.task_id in names]
    ran = frozenset(one.ref.task_id for one in below if one.state == "failed")
    left = ran.union(*(downstream_ids(tasks, name) for name in ran))
    return [one for one in below if one.state == BLOCKED and one.ref.task_id not in left], ran


def apply(airflow: Airflow, plan: Plan, note: str, renew: Step, save: Save) -> None:
    """Run again what `plan` says. `note` is left on the task instance by the clear itself. `renew`
    is called right before each changing call and raises where it must not be made any more. `save`
    is given what has been done after each step (the id of the new try, what was cleared below,
    whether that was `as_planned`), so that a crash in between can be taken up. Raises Refused
    where somebody else acted in between: nothing was run again then.
    """
    first = [planned for planned in plan.clears if planned.role != "downstream"]
    after = [planned for planned in plan.clears if planned.role == "downstream"]
    done: dict[str, Any] = {}
    if first:
        again = _clear(airflow, first, note, renew)
        done["new_id"] = again[-1].id
        save(done)
        if {one.ref for one in again} != {planned.ref for planned in first}:
            raise OtherwiseCleared(first, again)
    names = sorted({planned.ref.task_id for planned in after})
    cleared = _clear_downstream(airflow, plan.ref, names, renew) if names else []
    done["downstream"] = cleared
    done["as_planned"] = sorted(cleared) == sorted(str(planned.ref) for planned in after)
    save(done)


def revive(airflow: Airflow, ref: TaskRef) -> None:
    """Clear once more a task instance that was cleared and has no state in a finished run."""
    airflow.clear(ref.dag_id, ref.run_id, [_named(ref)], dry_run=False, only_failed=False)


def _clear(
    airflow: Airflow, first: Sequence[PlannedClear], note: str, renew: Step
) -> Sequence[TaskInstance]:
    """Make the first call; returns what runs again, the task itself last, with new ids. An
    unclear answer (5xx, connection lost) is re-read before it is repeated, once: Airflow may have
    done it all the same."""
    own = first[-1]
    try:
        return _clear_once(airflow, first, note, renew)
    except AirflowUnreachable as unclear:
        if not unclear.unclear:
            raise
        live = _read_again(airflow, own, unclear)
        if _moved(live, own):
            # Where a clear takes its note along, the note says whose clear it was; elsewhere the
            # one that was under way is taken for the one that came through.
            if note in (live.note or "").splitlines() or not airflow.clears_take_notes:
                return [*(airflow.task_instance(one.ref) for one in first[:-1]), live]
            raise unclear from None
        try:
            return _clear_once(airflow, first, note, renew)
        except (AirflowUnreachable, Refused):
            # The first call may have arrived late: that is for settle to find out.
            raise unclear from None


def _clear_once(
    airflow: Airflow, first: Sequence[PlannedClear], note: str, renew: Step
) -> Sequence[TaskInstance]:
    """One call, of what is still as it was planned. That nothing was cleared is looked into:
    Refused where somebody else has acted, AirflowConflict where Airflow would not."""
    *above, own = first
    ref = own.ref
    renew()
    live = airflow.task_instance(ref)
    if _moved(live, own):
        raise Overtaken(ref)
    now = _above(airflow, live, {one.ref.task_id for one in above}) if above else ()
    if [_planned(one, "upstream") for one in now] != above:
        raise Refused("what would run again above it has changed", "look at the new plan")
    refusal = AirflowConflict(f"Airflow cleared nothing for {ref}", "try again in a moment")
    both: str | None = f"{live.note}\n{note}" if live.note else note
    if any((one.note or "") != (live.note or "") for one in now):
        both = None  # it becomes the note of all of them, over people's own
    names = [*sorted({one.ref.task_id for one in above}), _named(ref)]
    try:
        cleared = airflow.clear(
            ref.dag_id, ref.run_id, names, dry_run=False, only_failed=not above, note=both
        )
        itself = [one for one in cleared if one.ref == ref]
        if itself:
            return [*(one for one in cleared if one.ref != ref), *itself]
    except AirflowConflict as conflict:
        refusal = conflict
    if _moved(_read_again(airflow, own, refusal), own):
        raise Overtaken(ref)
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


def _planned(
    task_instance: TaskInstance, role: Literal["upstream", "task", "downstream"]
) -> PlannedClear:
    return PlannedClear(
        ref=task_instance.ref,
        state=task_instance.state,
        try_number=task_instance.try_number,
        id=task_instance.id,
        role=role,
    )


def _named(ref: TaskRef) -> str | tuple[str, int]:
    return ref.task_id if ref.map_index == UNMAPPED else (ref.task_id, ref.map_index)


def _listed(task_instances: Sequence[TaskInstance]) -> str:
    return ", ".join(str(task_instance.ref) for task_instance in task_instances) or "nothing"
