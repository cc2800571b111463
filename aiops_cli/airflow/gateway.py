"""One Airflow behind its REST API v2, asked and acted on: `seams.Airflow`.

That clears and notes behave as written here was recorded from running servers of 3.1.8 and
3.3.2; samples are in tests/recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from aiops_cli.airflow import parse
from aiops_cli.airflow.objects import Objects
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.questions import RUN, address, checked_ids, release
from aiops_cli.airflow.rights import Right, tried
from aiops_cli.airflow.transport import CLEAR_PATH
from aiops_cli.errors import AirflowConflict
from aiops_cli.incidents import NOTE_LENGTH, UNMAPPED, DagRun, TaskInstance, TaskRef

# Where clearTaskInstances knows `prevent_running_task`; 3.1 refuses the whole call for it.
PREVENTS_RUNNING = (3, 3)


class Gateway(Objects):
    """See `seams.Airflow`."""

    def rights(self) -> tuple[Right, ...]:
        """What this login may do, tried without changing anything."""
        self.version()
        return tried(self._transport)

    @property
    def token_expires(self) -> datetime | None:
        """When the token in use ends, where that is known."""
        return self._transport.token_expires

    # ---- acts ----

    @property
    def clears_take_notes(self) -> bool:
        return release(self.version()) >= PREVENTS_RUNNING

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]],
        *,
        dry_run: bool,
        only_failed: bool = True,
        note: str | None = None,
    ) -> tuple[TaskInstance, ...]:
        if not task_ids:
            return ()  # the API might take "none named" for "all"
        body: dict[str, Any] = {
            "dry_run": False,
            # Without run and tasks it would clear the failed tasks of all runs.
            "dag_run_id": run_id,
            "task_ids": [_named(task) for task in task_ids],
            "only_failed": only_failed,
            "include_upstream": False,
            "include_downstream": False,
            "include_future": False,
            "include_past": False,
            "reset_dag_runs": True,
            "run_on_latest_version": True,
        }
        if release(self.version()) >= PREVENTS_RUNNING:
            body["prevent_running_task"] = True
            # 3.1 refuses the whole call for this too. A note too long is left to append_note,
            # which shortens what is ours.
            if note and len(note) <= NOTE_LENGTH:
                body["note"] = note
        ids = checked_ids(dag_id=dag_id)
        checked_ids(run_id=run_id)
        if dry_run:
            answer = self._transport.rehearse_clear(f"preview a clear in {dag_id}", ids, body)
        else:
            what = f"clear tasks of {dag_id}"
            answer = self._transport.change("POST", CLEAR_PATH, what, ids, body)
        rows = Document(answer, "cleared tasks").rows("task_instances")
        return tuple(map(parse.task_instance, rows))

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, Any], note: str | None = None
    ) -> DagRun:
        ids = checked_ids(dag_id=dag_id)
        checked_ids(run_id=run_id)
        body: dict[str, Any] = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        if note:
            body["note"] = note[:NOTE_LENGTH]
        self.version()
        try:
            path, what = RUN.removesuffix("/{run_id}"), f"trigger {dag_id}"
            answer = self._transport.change("POST", path, what, ids, body)
        except AirflowConflict:
            return self.run(dag_id, run_id)
        return parse.dag_run(Document(answer, "run"))

    def mark(
        self, ref: TaskRef, state: Literal["success", "skipped"], note: str | None = None
    ) -> TaskInstance:
        # Without an index Airflow marks every instance of a mapped task; asked for one instance
        # it says that the index is missing.
        live = self.task_instance(ref)
        if live.state == state:
            return live
        path, ids = address(ref)
        body: dict[str, Any] = {"new_state": state}
        if note and len(note) <= NOTE_LENGTH:
            body["note"] = note
        try:
            answer = self._transport.change("PATCH", path, f"mark {ref} as {state}", ids, body)
        except AirflowConflict:
            live = self.task_instance(ref)
            if live.state == state:
                return live
            raise
        rows = Document(answer, "marked tasks").rows("task_instances")
        marked = [one for one in map(parse.task_instance, rows) if one.ref == ref]
        return marked[0] if marked else self.task_instance(ref)

    def requeue(self, dag_id: str, run_id: str) -> DagRun:
        ids = checked_ids(dag_id=dag_id, run_id=run_id)
        self.version()
        what = f"look again at run {run_id} of {dag_id}"
        answer = self._transport.change("PATCH", RUN, what, ids, {"state": "queued"})
        return parse.dag_run(Document(answer, "run"))

    def append_note(self, ref: TaskRef, text: str) -> None:
        note = self.task_instance(ref).note or ""
        if text in note:
            return
        room = NOTE_LENGTH - len(note) - (1 if note else 0)
        if len(text) > room:
            text = text[: room - 1] + "…" if room > 1 else ""
        if text:
            path, ids = address(ref)
            body = {"note": f"{note}\n{text}" if note else text}
            self._transport.change("PATCH", path, f"write a note on {ref}", ids, body)


def _named(task: str | tuple[str, int]) -> str | list[str | int]:
    if isinstance(task, str):
        return task
    return task[0] if task[1] == UNMAPPED else list(task)
