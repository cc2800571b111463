"""What an action would do now, exactly → Plan. Reads Airflow, changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aiops_cli.actions import changes, retry
from aiops_cli.actions.graph import between
from aiops_cli.actions.proposed import SHARED, proposed
from aiops_cli.actions.upstream import Source, stale
from aiops_cli.actions.values import names
from aiops_cli.errors import AirflowForbidden, AirflowNotFound, Refused
from aiops_cli.incidents import AssetEvent, Plan, TaskInstance, TaskRef
from aiops_cli.seams import Airflow

MAX_TASKS = 50  # so many may run anew above a failed task before somebody says that it is right
RUN_ID = "aiops__{incident}"  # of a run that is started: asked for twice, it is there once

# The rendered field of an ExternalTaskSensor, and of what is made after it, that names a DAG.
WAITS_FOR = "external_dag_id"


def preview(
    airflow: Airflow,
    incident_id: str,
    live: TaskInstance,
    action: str,
    params: Mapping[str, Any],
    *,
    max_tasks: int = MAX_TASKS,
    after: str = "",
) -> Plan:
    """What doing `action` for the failed task instance `live` would do now, or with `after` as soon
    as the act on that incident has made the changes, which are the same. Raises Refused where
    there is nothing to do, where it cannot be done safely or would run more than `max_tasks`
    anew; UsageError for params that cannot be; AirflowError."""
    ref = live.ref
    own_run = RUN_ID.format(incident=incident_id)
    made = () if after else proposed(airflow, own_run, ref, action, params, max_tasks)
    told: tuple[str, ...] = ()
    if action in changes.MARKS:
        plan = _marked(airflow, live, action, params)
    elif action == "retry_upstream":
        run = airflow.run_task_instances(ref.dag_id, ref.run_id)
        named = names(params.get("task_ids", ()))
        found = stale(ref, airflow.tasks(ref.dag_id), run, named, _sources(airflow, ref, run))
        told = found.told
        plan = retry.preview(airflow, live, action, params, again=found.names)
    elif action == "clear_xcom":
        # Whoever wrote it writes it anew, and what lies between has read what was wrong.
        writer = str(params["task_id"]).strip()
        again = {writer, *between(airflow.tasks(ref.dag_id), writer, ref.task_id)}
        plan = retry.preview(airflow, live, action, params, again=again)
    else:
        plan = retry.preview(airflow, live, action, params)
    anew = [one for one in plan.clears if one.role == "upstream"]
    if len(anew) > max_tasks:
        raise Refused(
            f"it would run {len(anew)} task instances anew above {ref}, more than {max_tasks}",
            "if that is right: --max-tasks, or name the task: --set task_ids=…",
        )
    told = (*plan.told, *told)
    plan = replace(plan, changes=made, no_undo=changes.no_undo(made), told=told)
    return following(plan, after) if after else plan


def following(plan: Plan, first: str) -> Plan:
    """What is left of it where the act on the incident `first` makes the same change."""
    kind, named_by = SHARED[plan.action]
    told = f"{kind} {plan.params[named_by]} is changed for {first}; after that this runs again"
    return replace(plan, changes=(), no_undo="", told=(*plan.told, told), after=first)


def _marked(airflow: Airflow, live: TaskInstance, action: str, params: Mapping[str, Any]) -> Plan:
    """A mark runs nothing but what the failure blocked."""
    ref = live.ref
    clears, told = retry.below(airflow, live, airflow.tasks(ref.dag_id))
    return Plan(
        action=action,
        ref=ref,
        params=params,
        clears=clears,
        version_from=live.version,
        version_to=airflow.dag(ref.dag_id).version,
        told=told,
    )


def _sources(airflow: Airflow, ref: TaskRef, run: Sequence[TaskInstance]) -> tuple[Source, ...]:
    """What the run reads from elsewhere: the assets that started it, and the DAGs that its
    sensors waited for. What this login may not see is left out."""
    found: list[Source] = []
    with suppress(AirflowForbidden, AirflowNotFound):
        for event in airflow.consumed_assets(ref.dag_id, ref.run_id):
            found += _producer(airflow, event)
    for one in run:
        other = one.rendered_fields.get(WAITS_FOR)
        if isinstance(other, str) and other != ref.dag_id:
            found += _run_of(airflow, other, one.ref)
    return tuple(found)


def _producer(airflow: Airflow, event: AssetEvent) -> Iterator[Source]:
    """The task instance that updated the asset, as it is now."""
    if event.source is not None:
        with suppress(AirflowForbidden, AirflowNotFound):
            live = airflow.task_instance(event.source)
            name = f"asset {event.asset} of {event.source}"
            yield Source(name, None, live.end_date, live.state)


def _run_of(airflow: Airflow, dag_id: str, sensor: TaskRef) -> Iterator[Source]:
    """The other DAG's run for the same time, which has the same id where both run on the same
    schedule; of another schedule nothing is known here."""
    with suppress(AirflowForbidden, AirflowNotFound):
        run = airflow.run(dag_id, sensor.run_id)
        yield Source(f"{dag_id} ({run.run_id})", sensor.task_id, run.end_date, run.state)
