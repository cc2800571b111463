"""The task graph of a DAG: what stands below a task, above it, and between two. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from aiops_cli.incidents import Task


def downstream_ids(tasks: Mapping[str, Task], task_id: str) -> frozenset[str]:
    """The ids of everything below the task, without the task itself."""
    return _reached({name: task.downstream for name, task in tasks.items()}, task_id)


def upstream_ids(tasks: Mapping[str, Task], task_id: str) -> frozenset[str]:
    """The ids of everything above the task, without the task itself."""
    return _reached(_above(tasks), task_id)


def direct_upstream(tasks: Mapping[str, Task], task_id: str) -> tuple[str, ...]:
    """The tasks that it follows at once, by name."""
    return tuple(sorted(_above(tasks).get(task_id, ())))


def between(tasks: Mapping[str, Task], above: str, task_id: str) -> frozenset[str]:
    """Everything on a way from `above` down to the task, without the two."""
    return downstream_ids(tasks, above) & upstream_ids(tasks, task_id)


def _above(tasks: Mapping[str, Task]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, task in tasks.items():
        for below in task.downstream:
            found.setdefault(below, []).append(name)
    return {name: tuple(above) for name, above in found.items()}


def _reached(edges: Mapping[str, tuple[str, ...]], start: str) -> frozenset[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        for name in edges.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return frozenset(found - {start})
