"""One Airflow behind its REST API v2, asked and acted on: `seams.Airflow`.

That clears and notes behave as written here was recorded from running servers of 3.1.8 and
3.3.2; samples are in tests/recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aiops_cli.airflow import parse
from aiops_cli.airflow.parse import Document
from aiops_cli.airflow.questions import Questions, address, checked_ids, release
from aiops_cli.airflow.rights import Right, tried
from aiops_cli.airflow.transport import CLEAR_PATH
from aiops_cli.incidents import UNMAPPED, TaskInstance, TaskRef

# Where clearTaskInstances knows `prevent_running_task`; 3.1 refuses the whole call for it.
PREVENTS_RUNNING = (3, 3)
NOTE_LENGTH = 1000


class Gateway(Questions):
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
