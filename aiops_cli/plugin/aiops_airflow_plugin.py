"""Tells aiops of each failure at once: an Airflow plugin in one file.

`aiops plugin install DIR` puts it into Airflow's plugins folder; then Airflow is restarted. No DAG
changes. Each task try, run and DAG file that has failed leaves a small file in the spool folder,
AIOPS_SPOOL (else `aiops-spool` in AIRFLOW_HOME), which wakes `aiops watch`. It holds ids and the
name of an exception, never its text. Where one is lost nothing is: aiops asks Airflow itself for
everything, and at its own pace where no file comes.

Needs the standard library and Airflow 3.1 or newer. Nothing here raises or keeps a task waiting.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

MOST_FILES = 500  # then the oldest go
MOST_BYTES = 1_000_000
LARGEST = 8_000  # bytes of one file: three ids of 250 characters, or a path of 4096 bytes, fit
PATIENCE = 0.25  # seconds for a folder that hangs, such as one on a network

_OWN = re.compile(r"aiops-[0-9]{20}-[0-9a-f]{8}\.(json|part)")  # sorted by name: by time
_log = logging.getLogger(__name__)
_hung: threading.Thread | None = None  # a writer that was waited for in vain


class Listener:
    """What Airflow calls, in the process of the task, of the scheduler or of the DAG processor."""

    @hookimpl
    def on_task_instance_failed(self, task_instance: Any, error: Any) -> None:
        # Also called for a try that Airflow itself will repeat.
        _hand_on(lambda: _of_task(task_instance, error) if _failed(task_instance) else None)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        _hand_on(lambda: _of_run(dag_run, msg))

    @hookimpl
    def on_new_dag_import_error(self, filename: str) -> None:
        _hand_on(lambda: {"kind": "import", "file": str(filename)})


class AiopsPlugin(AirflowPlugin):
    """What Airflow looks for in its plugins folder."""

    name = "aiops"
    listeners = [Listener()]  # noqa: RUF012 -- as Airflow has it


def on_failure_callback(context: Mapping[str, Any]) -> None:
    """For single DAGs or tasks, where nobody may install a listener for all of them:
    `@dag(default_args={"on_failure_callback": on_failure_callback})`. As a DAG's own callback it
    hands on that the run failed."""
    _hand_on(lambda: _of_callback(context))


def _failed(task_instance: Any) -> bool:
    state = task_instance.state
    return str(getattr(state, "value", state)) == "failed"


def _of_callback(context: Mapping[str, Any]) -> dict[str, Any]:
    if "reason" in context:  # a DAG's own: `ti`, where there is one, need not have failed
        ids = {"dag_id": str(context["dag"].dag_id), "run_id": str(context["run_id"])}
        return {"kind": "run", **ids, "reason": str(context["reason"])[:100]}
    return _of_task(context["ti"], context.get("exception"))


def _of_task(task_instance: Any, error: Any) -> dict[str, Any]:
    index = task_instance.map_index
    return {
        "kind": "task",
        "dag_id": str(task_instance.dag_id),
        "run_id": str(task_instance.run_id),
        "task_id": str(task_instance.task_id),
        "map_index": -1 if index is None else int(index),
        "try_number": int(task_instance.try_number),
        # Its text may hold a login, and is in the log.
        "error": type(error).__name__[:250] if isinstance(error, BaseException) else None,
    }


def _of_run(dag_run: Any, reason: str) -> dict[str, Any]:
    ids = {"dag_id": str(dag_run.dag_id), "run_id": str(dag_run.run_id)}
    return {"kind": "run", **ids, "reason": str(reason)[:100]}


def _hand_on(facts: Callable[[], dict[str, Any] | None]) -> None:
    """Write what `facts` says, if anything. A folder that hangs is waited for once in a process,
    not at each failure."""
    global _hung
    try:
        said = facts()  # here: what it asks may belong to this thread's database session
        if said is None or (_hung is not None and _hung.is_alive()):
            return
        writer = threading.Thread(target=_write, args=(said,), daemon=True)
        writer.start()
        writer.join(PATIENCE)
        if writer.is_alive():
            _hung = writer
    except Exception:  # noqa: BLE001 -- whatever it is, a task must not hear of it
        _log.debug("not handed on to aiops", exc_info=True)


def _write(facts: dict[str, Any]) -> None:
    try:
        # A file's name may be no text; the reader takes what stands for its bytes, too.
        data = json.dumps(facts, ensure_ascii=False).encode(errors="surrogatepass")
        if len(data) > LARGEST:
            return
        folder = spool()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder)
        # Its group may read it only where somebody has opened the folder to the group.
        mode = 0o640 if folder.stat().st_mode & 0o070 else 0o600
        name = f"aiops-{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        part = folder / f"{name}.part"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                os.fchmod(file.fileno(), mode)  # a daemon's umask may keep the group out
                file.write(data)
            part.rename(folder / f"{name}.json")  # whole or not at all
        finally:
            part.unlink(missing_ok=True)  # of a disk that is full
    except Exception:  # noqa: BLE001 -- as above, in a thread that nobody looks after
        _log.debug("not handed on to aiops", exc_info=True)


def spool() -> Path:
    """The folder that is written to."""
    home = os.environ.get("AIRFLOW_HOME") or "~/airflow"  # as Airflow itself has it
    return Path(os.environ.get("AIOPS_SPOOL") or f"{home}/aiops-spool").expanduser()


def _make_room(folder: Path) -> None:
    """Remove the oldest files beyond the bounds. Raises OSError for a folder in which too much
    else lies to look through."""
    own = []
    with os.scandir(folder) as entries:
        for seen, entry in enumerate(entries):
            if seen >= 2 * MOST_FILES:
                raise OSError(f"{folder} is full of other files")
            if _OWN.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # renamed or read, just now
                    own.append((entry.name, entry.stat(follow_symlinks=False).st_size))
    left, size = len(own), sum(size for _, size in own)
    for name, its_size in sorted(own):
        if left < MOST_FILES and size + LARGEST <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):  # another process was faster
            (folder / name).unlink()
        left, size = left - 1, size - its_size
