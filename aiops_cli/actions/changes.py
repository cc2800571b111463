"""What an action changes in Airflow beside running tasks again: worked out, made, put back.

A change names one field of one thing, and nothing else is touched. It is made only from the value
that was shown: what has changed meanwhile is somebody else's work. What Airflow hides is never
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from aiops_cli.actions import reading
from aiops_cli.errors import (
    AirflowError,
    AirflowUnreachable,
    Refused,
)
from aiops_cli.incidents import MASK, Change, TaskRef
from aiops_cli.seams import Airflow

MARKS: Mapping[str, Literal["success", "skipped"]] = {
    "mark_success": "success",
    "mark_skipped": "skipped",
}


def no_undo(changes: Sequence[Change]) -> str:
    """Why `aiops undo` cannot put them back, or "": said before the yes."""
    for change in changes:
        if change.kind == "xcom":
            return "the XCom is not kept: the task that wrote it writes it anew"
        if change.kind == "dag run":
            return "a run that was started is not taken back"
        if change.kind == "state":
            return "it counts as done from then on, and what follows it runs"
        if change.kind == "variable" and change.old is None:
            return f"variable {change.name} is new: delete it in Airflow"
        if change.old == MASK:
            return f"Airflow hides the old value of {told_name(change)}"
    return ""


def told_name(change: Change) -> str:
    """`connection orders_db: host`."""
    return f"{change.kind} {change.name}: {change.field}"


def standing(
    airflow: Airflow, ref: TaskRef, changes: Sequence[Change]
) -> Literal["old", "new", "other"]:
    """How what they are about stands now: as before all of them, as after, or otherwise. `ref` is
    the failed task instance."""
    now = [reading.now(airflow, ref, change) for change in changes]
    if all(reading.same(one, change.new) for one, change in zip(now, changes, strict=True)):
        return "new"
    same = all(reading.same(one, change.old) for one, change in zip(now, changes, strict=True))
    return "old" if same else "other"


def make(
    airflow: Airflow,
    ref: TaskRef,
    changes: Sequence[Change],
    note: str,
    renew: Callable[[], None],
) -> None:
    """Make them, which are of one thing or the XComs of one task, and see that they are made.
    `renew` is called right before. Raises Refused where they are not to be made any more (nothing
    was changed then), Changed where something else came of it, and AirflowError."""
    if standing(airflow, ref, changes) != "old":
        raise Refused(
            f"{told_name(changes[0])} has changed since the plan was made: nothing was done",
            "look at the new plan and decide again",
        )
    renew()
    try:
        _make(airflow, ref, changes, note)
    except AirflowUnreachable as unclear:
        # It may have come through all the same.
        if not unclear.unclear or not _came_through(airflow, ref, changes):
            raise
    try:
        left = [one for one in changes if not reading.same(reading.now(airflow, ref, one), one.new)]
    except AirflowError as unseen:
        unseen.unclear = True  # it is made, and must not be taken for never done
        raise
    if left:
        raise Changed(left)


def _came_through(airflow: Airflow, ref: TaskRef, changes: Sequence[Change]) -> bool:
    try:
        return standing(airflow, ref, changes) == "new"
    except AirflowError:
        return False


class Changed(Refused):
    """What was done is not what was planned."""

    def __init__(self, left: Sequence[Change]) -> None:
        what = ", ".join(map(told_name, left))
        super().__init__(
            f"Airflow took the change and does not show it: {what}",
            "nothing was run again: look at it in Airflow",
        )


def reverse(changes: Sequence[Change]) -> tuple[Change, ...]:
    """The changes that put these back. Raises Refused where that cannot be."""
    why = no_undo(changes)
    if why:
        raise Refused(f"it cannot be undone: {why}", "put it right in Airflow")
    return tuple(replace(one, old=one.new, new=one.old) for one in reversed(changes))


def _make(airflow: Airflow, ref: TaskRef, changes: Sequence[Change], note: str) -> None:
    """One call, or one for each XCom."""
    change = changes[0]
    if change.kind == "connection":
        airflow.change_connection(change.name, _body(airflow, changes))
    elif change.kind == "variable":
        airflow.change_variable(change.name, change.new)
    elif change.kind == "pool":
        airflow.resize_pool(change.name, change.new)
    elif change.kind == "xcom":
        for number, one in enumerate(changes):
            try:
                airflow.delete_xcom(reading.writer(ref, one.name), one.field)
            except AirflowError as error:
                error.unclear = error.unclear or number > 0  # those before it are gone
                raise
    elif change.kind == "dag run":
        airflow.trigger(change.name, change.field, change.new, note)
    else:
        airflow.mark(ref, change.new, note)


def _body(airflow: Airflow, changes: Sequence[Change]) -> dict[str, Any]:
    """The named fields; an extra goes as a whole, so that what it holds is read first."""
    body: dict[str, Any] = {
        one.field: one.new for one in changes if not one.field.startswith(reading.EXTRA)
    }
    inner = {
        one.field.removeprefix(reading.EXTRA): one.new
        for one in changes
        if reading.EXTRA in one.field
    }
    if inner:
        known = reading.connection(airflow, changes[0].name)[""]
        if not isinstance(known, dict):
            raise Refused(
                f"the extra of connection {changes[0].name} is no JSON object",
                "change it in Airflow's UI",
            )
        merged = {**known, **inner}
        body["extra"] = json.dumps({k: v for k, v in merged.items() if v is not None})
    return body
