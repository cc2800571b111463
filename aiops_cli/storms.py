"""Published incidents → storms: what failed together told as one thing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiops_cli import groups
from aiops_cli.published import WAITING, action_word, status_word

Document = Mapping[str, Any]
STORM = 3  # so many members of one group are one line of a listing


@dataclass(frozen=True)
class Storm:
    """The members of one group in the order in which they were given; at least one."""

    members: tuple[Document, ...]

    @property
    def group(self) -> str:
        return str(self.members[0]["group"])

    @property
    def title(self) -> str:
        """What they share: a cause, or else their most common headline."""
        shared = groups.title(self.members[0]["group_key"] or "")
        return shared or self.headline

    @property
    def headline(self) -> str:
        told = Counter(doc["headline"] or "no error in the log" for doc in self.members)
        return told.most_common(1)[0][0]

    @property
    def size(self) -> str:
        """How many tasks of how many DAGs; how often where it is more than once each."""
        tasks = {(doc["dag_id"], doc["task_id"] or "(run)") for doc in self.members}
        dags = {doc["dag_id"] for doc in self.members}
        if len(tasks) == 1:
            ((dag, task),) = tasks
            return f"{dag}.{task} ×{len(self.members)}"
        times = f" ×{len(self.members)}" if len(self.members) > len(tasks) else ""
        return f"{_count(len(tasks), 'task')}{times}, {_count(len(dags), 'DAG')}"

    @property
    def first_failed(self) -> str:
        return str(min(doc["failed_at"] for doc in self.members))

    @property
    def last_failed(self) -> str:
        return str(max(doc["failed_at"] for doc in self.members))

    @property
    def actions(self) -> Counter[str]:
        """How often each action is proposed for those that wait, or where none does was decided."""
        return Counter(map(action_word, self.waiting or self.members))

    @property
    def statuses(self) -> Counter[str]:
        return Counter(map(status_word, self.members))

    @property
    def waiting(self) -> tuple[Document, ...]:
        return tuple(doc for doc in self.members if doc["status"] in WAITING)


def told(counts: Counter[str]) -> str:
    """`retry`, or `retry 9, ? 3` where they differ."""
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def folded(documents: Sequence[Document]) -> list[Document | Storm]:
    """The documents in order; those of a group with at least STORM of them as one storm, where
    the first of them stands. The instances of one mapped task are no storm but one failure."""
    members: dict[str, list[Document]] = {}
    for doc in documents:
        if doc["group"]:
            members.setdefault(doc["group"], []).append(doc)
    storms = {
        group: Storm(tuple(docs))
        for group, docs in members.items()
        if len(docs) >= STORM
        and len({(doc["dag_id"], doc["run_id"], doc["task_id"]) for doc in docs}) > 1
    }
    result: list[Document | Storm] = []
    for doc in documents:
        if doc["group"] not in storms:
            result.append(doc)
        elif doc is members[doc["group"]][0]:
            result.append(storms[doc["group"]])
    return result


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
