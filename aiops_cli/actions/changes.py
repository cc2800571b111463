"""What an action changes in Airflow beside running tasks again: worked out, made, put back.

A change names one field of one thing, and nothing else is touched. It is made only from the value
that was shown: what has changed meanwhile is somebody else's work. What Airflow hides is never
written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

from aiops_cli.actions.values import (
    MOST_SLOTS,
    connection_fields,
    names,
    plain_value,
    whole_number,
)
from aiops_cli.errors import (
    AirflowError,
    AirflowNotFound,
    AirflowUnreachable,
    Refused,
    UsageError,
)
from aiops_cli.incidents import MASK, Change, TaskRef
from aiops_cli.seams import Airflow
from knowledge.redact import redact

# What they change is there for all that fail of it, so that one act of several makes the change:
# what it is, and the param that names it.
SHARED: Mapping[str, tuple[str, str]] = {
    "update_connection": ("connection", "connection_id"),
    "set_variable": ("variable", "key"),
    "resize_pool": ("pool", "pool"),
}
EXTRA = "extra."  # begins the name of a field of a connection's extra
THERE = "there"  # what stands for an XCom: what it holds is neither read nor kept


def proposed(
    airflow: Airflow, own_run: str, ref: TaskRef, action: str, params: Mapping[str, Any]
) -> tuple[Change, ...]:
    """What the action would change now, beside what runs again; `own_run` is the id of a run that
    it may start. Raises Refused where there is nothing to change or it cannot be changed safely,
    UsageError for a value that cannot be."""
    if action == "update_connection":
        return _of_connection(airflow, params)
    if action == "set_variable":
        return _of_variable(airflow, params)
    if action == "resize_pool":
        return _of_pool(airflow, params)
    if action == "clear_xcom":
        return _of_xcom(airflow, ref, params)
    if action == "trigger_dag":
        return _of_dag(airflow, own_run, params)
    if action in MARKS:
        return (Change("state", str(ref), "state", "failed", MARKS[action]),)
    return ()


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
    now = [_now(airflow, ref, change) for change in changes]
    if all(_same(one, change.new) for one, change in zip(now, changes, strict=True)):
        return "new"
    same = all(_same(one, change.old) for one, change in zip(now, changes, strict=True))
    return "old" if same else "other"


def make(
    airflow: Airflow,
    ref: TaskRef,
    changes: Sequence[Change],
    note: str,
    renew: Callable[[], None],
) -> None:
    """Make them, and see that they are made. `renew` is called right before each changing call.
    Raises Refused where they are not to be made any more (nothing was changed then), Changed
    where something else came of it, and AirflowError."""
    if standing(airflow, ref, changes) != "old":
        raise Refused(
            f"{told_name(changes[0])} has changed since the plan was made: nothing was done",
            "look at the new plan and decide again",
        )
    for _, group in groupby(changes, lambda one: (one.kind, one.name)):
        together = tuple(group)
        renew()
        try:
            _make(airflow, ref, together, note)
        except AirflowUnreachable as unclear:
            # It may have come through all the same.
            if not unclear.unclear or not _came_through(airflow, ref, together):
                raise
    try:
        left = [one for one in changes if not _same(_now(airflow, ref, one), one.new)]
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
        left = proposed(airflow, "", ref, action, params)
    except SoAlready:
        return
    raise Refused(
        f"{told_name(left[0])} was to be changed first, and is not so: nothing was done",
        "look at the new plan and decide again",
    )


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


# ---- what each would be ----


def _of_connection(airflow: Airflow, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name = _needed(params, "connection_id")
    fields = connection_fields(params)
    try:
        known = _connection(airflow, name)
    except AirflowNotFound:
        raise Refused(
            f"Airflow has no connection {name} in its database",
            "one of the environment or a secrets backend is changed there",
        ) from None
    extra = any(field.startswith(EXTRA) for field in fields)
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
    name = _needed(params, "key")
    if "value" not in params:
        raise UsageError("set_variable needs a value", "such as --set value=500")
    value = params["value"]
    text = str(plain_value(name, value if isinstance(value, str) else json.dumps(value)))
    change = Change("variable", name, "value", _variable(airflow, name), text)
    return _news([change], f"variable {name}")


def _of_pool(airflow: Airflow, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name = _needed(params, "pool")
    slots = whole_number("slots", _needed(params, "slots"), 1, MOST_SLOTS)
    pools = airflow.pools()
    if name not in pools:
        raise Refused(f"Airflow has no pool {name}", f"it has: {', '.join(sorted(pools))}")
    return _news([Change("pool", name, "slots", pools[name].slots, slots)], f"pool {name}")


def _of_xcom(airflow: Airflow, ref: TaskRef, params: Mapping[str, Any]) -> tuple[Change, ...]:
    writer = replace(ref, task_id=_needed(params, "task_id"), map_index=-1)
    if writer.task_id == ref.task_id:
        raise UsageError(
            "a task's own XCom is deleted by running it again",
            "name the upstream that wrote what it reads",
        )
    if not airflow.deletes_xcoms:
        raise Refused(
            f"Airflow {airflow.version()} cannot delete XComs through its API",
            "running the upstream again writes them anew: "
            f"--action retry_upstream --set task_ids={writer.task_id}",
        )
    there = set(airflow.xcoms(writer))
    keys = names(params.get("keys", "return_value"))
    missing = [key for key in keys if key not in there]
    if missing or not keys:
        raise Refused(
            f"{writer} has no XCom {', '.join(missing)}",
            f"it has: {', '.join(sorted(there))}"
            if there
            else f"to run it again: --action retry_upstream --set task_ids={writer.task_id}",
        )
    return tuple(Change("xcom", writer.task_id, key, THERE, None) for key in keys)


def _of_dag(airflow: Airflow, own_run: str, params: Mapping[str, Any]) -> tuple[Change, ...]:
    name = _needed(params, "dag_id")
    conf = params.get("conf") or {}
    if isinstance(conf, str):
        try:
            conf = json.loads(conf)
        except ValueError:
            conf = None
    if not isinstance(conf, Mapping):
        raise UsageError("conf is no JSON object", """such as --set 'conf={"day": "2026-01-31"}'""")
    plain_value("conf", conf)
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


def _needed(params: Mapping[str, Any], name: str) -> str:
    value = str(params.get(name, "")).strip()
    if not value:
        raise UsageError(f"{name} is missing", f"--set {name}=…")
    return value


def _news(changes: Iterable[Change], what: str) -> tuple[Change, ...]:
    """Those that change anything; an old value that is somebody's secret is not kept."""
    news = tuple(one for one in changes if not _same(one.old, one.new))
    if not news:
        raise SoAlready(what)
    return tuple(replace(one, old=_kept(one)) for one in news)


def _kept(change: Change) -> Any:
    if change.old is None or isinstance(change.old, int):
        return change.old
    text = change.old if isinstance(change.old, str) else json.dumps(change.old)
    told = f"{change.field}={text}"
    secret = MASK in text or redact(text) != text or redact(told) != told
    return MASK if secret else change.old


# ---- reading and writing ----


def _now(airflow: Airflow, ref: TaskRef, change: Change) -> Any:
    """What the field holds now, as a change would keep it."""
    found: Any = None
    if change.kind == "connection":
        found = _connection(airflow, change.name).get(change.field)
    elif change.kind == "variable":
        found = _variable(airflow, change.name)
    elif change.kind == "pool":
        pool = airflow.pools().get(change.name)
        found = pool.slots if pool else None
    elif change.kind == "xcom":
        keys = airflow.xcoms(replace(ref, task_id=change.name, map_index=-1))
        found = THERE if change.field in keys else None
    elif change.kind == "dag run":
        try:
            airflow.run(change.name, change.field)
            found = change.new
        except AirflowNotFound:
            found = None
    else:
        found = airflow.task_instance(ref).state
    return found if _same(found, change.new) else _kept(replace(change, old=found))


def _same(one: Any, other: Any) -> bool:
    """Equal as Airflow keeps it: it writes a variable's JSON in its own spacing."""
    if isinstance(one, str) and isinstance(other, str) and one != other:
        try:
            return one[:1] in "[{" and bool(json.loads(one) == json.loads(other))
        except ValueError:
            return False
    return type(one) is type(other) and bool(one == other)


def _connection(airflow: Airflow, name: str) -> dict[str, Any]:
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


def _variable(airflow: Airflow, name: str) -> str | None:
    try:
        return airflow.variable(name).value
    except AirflowNotFound:
        return None


def _make(airflow: Airflow, ref: TaskRef, changes: Sequence[Change], note: str) -> None:
    """One call for each thing that is changed."""
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
                airflow.delete_xcom(replace(ref, task_id=one.name, map_index=-1), one.field)
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
        one.field: one.new for one in changes if not one.field.startswith(EXTRA)
    }
    inner = {one.field.removeprefix(EXTRA): one.new for one in changes if EXTRA in one.field}
    if inner:
        known = _connection(airflow, changes[0].name)[""]
        if not isinstance(known, dict):
            raise Refused(
                f"the extra of connection {changes[0].name} is no JSON object",
                "change it in Airflow's UI",
            )
        merged = {**known, **inner}
        body["extra"] = json.dumps({k: v for k, v in merged.items() if v is not None})
    return body
