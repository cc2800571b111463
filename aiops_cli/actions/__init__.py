"""The closed catalogue of actions: what each is called, risks and needs.

A name that is not here is never done, whoever says it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiops_cli.actions.values import conf_object, connection_fields, plain_value, pool_slots
from aiops_cli.config import parse_duration
from aiops_cli.errors import UsageError

Tier = Literal["read", "retry", "change", "irreversible"]


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of the catalogue; `params` are the names it takes, `needs` those of them that it
    cannot be done without."""

    name: str
    tier: Tier
    does: str
    params: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


# The params whose values are written into Airflow; the others are names of things there.
_WRITTEN = frozenset({"host", "schema", "login", "extra", "value", "conf"})
DEFAULT_DELAY = "15m"  # of retry_later, where nothing else is said

CATALOGUE: Mapping[str, Action] = {
    action.name: action
    for action in (
        Action("retry", "retry", "run the failed try again"),
        Action("retry_later", "retry", "run it again after a wait", ("delay",)),
        Action("none", "read", "nothing: a person must fix the cause"),
        Action("retry_upstream", "retry", "run the stale upstream again, then it", ("task_ids",)),
        Action(
            "clear_xcom",
            "change",
            "delete an upstream's XCom, run that again, then it",
            ("task_id", "keys"),
            ("task_id",),
        ),
        Action(
            "update_connection",
            "change",
            "change a connection, then retry",
            ("connection_id", "host", "port", "schema", "login", "extra"),
            ("connection_id",),
        ),
        Action("set_variable", "change", "set a variable, then retry", *(("key", "value"),) * 2),
        Action("resize_pool", "change", "resize a pool, then retry", *(("pool", "slots"),) * 2),
        Action(
            "trigger_dag", "change", "run another DAG, then retry", ("dag_id", "conf"), ("dag_id",)
        ),
        Action("mark_success", "irreversible", "mark the task instance as success"),
        Action("mark_skipped", "irreversible", "mark the task instance as skipped"),
    )
}


def who_may(named: Mapping[str, str], action: str, two_people: Collection[str] = ()) -> str:
    """`nobody`, `person` or `alone`: the setting's word, where it has one. By default only what
    runs the one task again may be done alone; what changes more is a person's, and so is what
    takes two people."""
    default = "alone" if action in ("retry", "retry_later", "none") else "person"
    word = named.get(action, default)
    return "person" if word == "alone" and action in two_people else word


def checked(name: str, params: Mapping[str, Any]) -> Action:
    """The action of this name, its params known to it, readable and nobody's secret: they are kept
    and shown. Raises UsageError otherwise."""
    action = CATALOGUE.get(name)
    if action is None:
        raise UsageError(f"there is no action {name!r}", f"one of: {', '.join(CATALOGUE)}")
    unknown = sorted(set(params) - set(action.params))
    if unknown:
        takes = ", ".join(action.params) or "no parameters"
        raise UsageError(f"{name} does not take {', '.join(unknown)}", f"it takes {takes}")
    if "delay" in params:
        parse_duration(str(params["delay"]))
    for one in _WRITTEN & set(params):
        # What makes a variable's value a secret may be its name: `db_password`.
        plain_value(str(params.get("key", one)) if one == "value" else one, params[one])
    return action


def lacks(name: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The params without which an action of this name and these `params` cannot be done; of a
    connection something has to change."""
    action = CATALOGUE[name]
    given = {one for one in params if one == "value" or str(params[one]).strip()}
    missing = [need for need in action.needs if need not in given]
    if name == "update_connection" and not set(params) - {"connection_id"}:
        missing.append("host, port, schema, login or extra")
    return tuple(missing)


def ready(name: str, params: Mapping[str, Any]) -> Action:
    """As `checked`, of what is to be done now: with all that it needs, and values that can be.
    Raises UsageError."""
    action = checked(name, params)
    if missing := lacks(name, params):
        given = " ".join(f"--set {need.partition(',')[0]}=…" for need in missing)
        told = f"give it: {given} (in triage: e)"
        raise UsageError(f"{name} needs {' and '.join(missing)}", told)
    if name == "update_connection":
        connection_fields(params)
    if name == "resize_pool":
        pool_slots(params)
    if name == "trigger_dag":
        conf_object(params)
    return action
