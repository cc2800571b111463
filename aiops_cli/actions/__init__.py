"""The closed catalogue of actions: what each is called, risks and needs.

A name that is not here is never done, whoever says it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiops_cli.actions.values import plain_value
from aiops_cli.config import parse_duration
from aiops_cli.errors import UsageError

Tier = Literal["read", "retry", "change", "irreversible"]


@dataclass(frozen=True, slots=True)
class Action:
    """One entry of the catalogue; `params` are the names it takes."""

    name: str
    tier: Tier
    does: str
    params: tuple[str, ...] = ()


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
        ),
        Action(
            "update_connection",
            "change",
            "change a connection, then retry",
            ("connection_id", "host", "port", "schema", "login", "extra"),
        ),
        Action("set_variable", "change", "set a variable, then retry", ("key", "value")),
        Action("resize_pool", "change", "resize a pool, then retry", ("pool", "slots")),
        Action("trigger_dag", "change", "run another DAG, then retry", ("dag_id", "conf")),
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
