"""Polling: what has failed in Airflow → Incidents.

Three lists a pass: failed task instances, failed runs, import errors. A run is an incident only
where none of its tasks failed (a timeout leaves them skipped), an import error once for each
cause. What a try's own log does not say (a lost worker writes nothing) is in the event log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from aiops_cli.context import Snapshot, context_of, context_of_run
from aiops_cli.errors import AirflowError, AirflowForbidden, AirflowNotFound, UsageError
from aiops_cli.incidents import (
    UNMAPPED,
    DagRun,
    Event,
    Excerpt,
    ImportFailure,
    Incident,
    Signature,
    TaskInstance,
)
from aiops_cli.seams import Airflow
from knowledge.records import incident_id, short_hash
from knowledge.redact import clean, redact
from knowledge.signature import sign

Failure = TaskInstance | DagRun | ImportFailure

STACK_LENGTH = 20_000  # characters of an import error's stack trace that are kept, its end
# A worker's clock may be so much behind the others': a time zone taken for UTC is 14 hours at most.
CLOCKS = timedelta(days=1)
NAMED = 10  # of the tasks that a timeout cut off, and of DAGs that may have been meant


def poll(snapshot: Snapshot, *, since: datetime, instance: str) -> Mapping[str, Failure]:
    """Everything that has failed at or after `since`, by the id its incident has; also what a
    worker whose clock is behind says to have failed before."""
    return dict(failures(snapshot, since=since, instance=instance, behind=CLOCKS))


def dag_and_task(airflow: Airflow, name: str, task: str | None) -> tuple[str, str | None]:
    """`dag.task` or `dag.task[3]`, as lists show it, taken apart; anything else as it is. Both
    names may hold dots, so Airflow is asked which DAG there is."""
    dots = [place for place, sign in enumerate(name) if sign == "."]
    if task is not None or not dots or any(sign in name for sign in "*?"):
        return name, task
    for place in (len(name), *reversed(dots)):
        try:
            airflow.dag(name[:place])
        except (AirflowNotFound, AirflowForbidden):
            continue
        rest = re.sub(r"\[[0-9]+\]$", "", name[place + 1 :])
        return name[:place], rest or None
    return name, None


@contextmanager
def of_dag(airflow: Airflow, name: str | None, else_: str = "") -> Iterator[None]:
    """That Airflow has no DAG of this name is told as a slip of who typed it, with what it may
    have meant; `else_` says what else it may have been. Raises UsageError."""
    try:
        yield
    except AirflowNotFound:
        near = ", ".join(_like(airflow, name or ""))
        hints = (f"did you mean {near}?" if near else "aiops failures lists what there is", else_)
        raise UsageError(f"no DAG is named {name!r}", " ".join(filter(None, hints))) from None


def _like(airflow: Airflow, name: str) -> list[str]:
    """DAGs whose ids hold the name, or else the one that is spelt most alike."""
    import difflib  # only for a mistake

    try:
        ids = [dag.dag_id for dag in airflow.dags()]
    except AirflowError:
        return []
    holding = [id_ for id_ in ids if name.lower() in id_.lower()]
    return holding[:NAMED] or difflib.get_close_matches(name, ids, n=1)


def failures(
    snapshot: Snapshot,
    *,
    since: datetime,
    instance: str,
    dag_id: str | None = None,
    task_id: str | None = None,
    run_id: str | None = None,
    behind: timedelta = timedelta(0),
) -> Iterator[tuple[str, Failure]]:
    """What has failed at or after `since` with the id its incident has, page by page: tasks, then
    runs without a failed task among those, then every file that cannot be imported now. A task
    or a run leaves out what is neither; `dag_id` (a DAG's id, or a file's name) and `task_id` may
    be globs. `behind` is how far a worker's clock may be behind: what it dates back is found too.
    Raises AirflowNotFound for a DAG that there is not."""
    explained = set()
    unknown: AirflowNotFound | None = None
    nothing = True
    airflow = snapshot.airflow
    try:
        for failed in airflow.failed(
            since=since, dag_id=dag_id, task_id=task_id, run_id=run_id, behind=behind
        ):
            nothing = False
            explained.add((failed.ref.dag_id, failed.ref.run_id))
            yield id_of(failed, instance), failed
    except AirflowNotFound as error:
        unknown = error  # a DAG whose file was never read without an error, or a file's name
    if task_id is None:
        for run in snapshot.failed_runs(since):
            wanted = fnmatchcase(run.dag_id, dag_id or "*") and run_id in (None, run.run_id)
            if wanted and (run.dag_id, run.run_id) not in explained and run.end_date is not None:
                nothing = False
                yield id_of(run, instance), run
    if task_id is None and run_id is None:
        for broken in snapshot.import_errors() or ():
            if _is_of(snapshot, broken, dag_id):
                nothing = False
                yield id_of(broken, instance), broken
    if unknown is not None and nothing:
        raise unknown


def _is_of(snapshot: Snapshot, broken: ImportFailure, dag_id: str | None) -> bool:
    """Whether the file is one that was asked for: by its name, which is often its DAG's too, or
    by a DAG that it held once."""
    file = PurePosixPath(broken.file)
    if dag_id is None or any(fnmatchcase(n, dag_id) for n in (broken.file, file.name, file.stem)):
        return True
    dag = None if any(sign in dag_id for sign in "*?[") else snapshot.dag(dag_id)
    return dag is not None and (dag.bundle, dag.file) == (broken.bundle, broken.file)


def id_of(failure: Failure, instance: str) -> str:
    """The id that the incident of this failure has."""
    return incident_id(instance, *_key(failure))


def name_of(failure: Failure) -> str:
    """What a message calls it."""
    if isinstance(failure, TaskInstance):
        return str(failure.ref)
    return f"run of {failure.dag_id}" if isinstance(failure, DagRun) else failure.file


def _key(failure: Failure) -> tuple[str, str, str, int, int]:
    """DAG, run, task, map index and try. A run has no tries: the second it ended in stands for
    one, so that a run which was cleared and fails again is another incident. An import error
    belongs to a file; its Airflow id stays until the file was fine in between, and the hash of
    its stack tells one cause from the next."""
    if isinstance(failure, TaskInstance):
        ref = failure.ref
        return ref.dag_id, ref.run_id, ref.task_id, ref.map_index, failure.try_number
    if isinstance(failure, DagRun):
        ended = int(failure.end_date.timestamp()) if failure.end_date else 0
        return failure.dag_id, failure.run_id, "", UNMAPPED, ended
    # A bundle's folder changes with each version of it.
    stack = re.sub(r'"[^"\n]*/', '"', failure.stack_trace)
    return "", f"{failure.bundle}/{failure.file}", short_hash(stack), UNMAPPED, failure.id


def build_incident(
    snapshot: Snapshot, failure: Failure, *, instance: str, now: datetime
) -> Incident | None:
    """The incident of one failure: what was said of it as a signed excerpt, and its context. One
    request for the log; None for a run that failed because of its tasks after all."""
    if isinstance(failure, TaskInstance):
        return _of_task(snapshot, failure, instance, now)
    if isinstance(failure, DagRun):
        return _of_run(snapshot, failure, instance, now)
    return _of_import(failure, instance, now)


def _incident(failure: Failure, instance: str, now: datetime, **fields: Any) -> Incident:
    dag_id, run_id, task_id, map_index, try_number = _key(failure)
    return Incident(
        instance=instance,
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        try_number=try_number,
        seen_at=now,
        **fields,
    )


# ---- tasks ----


def before_log(
    snapshot: Snapshot, failed: TaskInstance, *, instance: str, now: datetime
) -> Incident:
    """What is known of a failed try without its log: an incident without excerpt and signature."""
    return _incident(
        failed,
        instance,
        now,
        failed_at=failed.end_date or now,
        signature=sign(""),
        excerpt=Excerpt(text=""),
        ti_id=failed.id,
        context=context_of(snapshot, failed),
    )


def _of_task(snapshot: Snapshot, failed: TaskInstance, instance: str, now: datetime) -> Incident:
    unread = before_log(snapshot, failed, instance=instance, now=now)
    context = dict(unread.context)
    excerpt = log_of(snapshot.airflow, failed)
    if excerpt.notice:
        context["notice"] = excerpt.notice
    try:
        lost = snapshot.lost(failed)
    except AirflowForbidden as error:
        lost = None
        context["unread"] = [f"event log (lost workers): {error.message}"]
    excerpt, signature = signed(excerpt, lost)
    return replace(unread, signature=signature, excerpt=excerpt, context=context)


def unread(
    snapshot: Snapshot, failure: TaskInstance | DagRun, *, instance: str, now: datetime, notice: str
) -> Incident:
    """What is left of a failed try or run of which Airflow never sends what `build_incident` asks
    for: where it stands, and a notice that says so. It is like nothing that is known."""
    context: dict[str, Any] = {}
    if isinstance(failure, TaskInstance):
        context["url"] = snapshot.airflow.link(failure.ref, failure.try_number)
        with suppress(AirflowError):
            context = context_of(snapshot, failure)
    else:
        context["url"] = snapshot.airflow.run_link(failure.dag_id, failure.run_id)
    return _incident(
        failure,
        instance,
        now,
        kind="task" if isinstance(failure, TaskInstance) else "run",
        failed_at=failure.end_date or now,
        signature=sign(""),
        excerpt=Excerpt(text="", notice=notice),
        ti_id=failure.id if isinstance(failure, TaskInstance) else None,
        context={**context, "notice": notice},
    )


def log_of(airflow: Airflow, failed: TaskInstance) -> Excerpt:
    """What is left of a try's log; where nothing is, its notice says why."""
    try:
        return airflow.log(failed.ref, failed.try_number)
    except AirflowNotFound:
        return Excerpt(text="", notice="Airflow has no log of this try")
    except AirflowForbidden as error:  # known all the same, and for a person to look at
        return Excerpt(text="", notice=f"the log cannot be read: {error.message}")


def signed(excerpt: Excerpt, lost: Event | None) -> tuple[Excerpt, Signature]:
    """A log with its signature, and with what the scheduler noticed of a try that it lost."""
    if lost is None:
        return excerpt, sign(excerpt.text, excerpt.numbers)
    return _with_word(excerpt, f"{lost.event}: {lost.extra or ''}")


def _with_word(excerpt: Excerpt, word: str) -> tuple[Excerpt, Signature]:
    """The scheduler's word below the log. It alone is the signature: whatever the log says of
    an exception before, the task was running when its worker was lost, and may still run."""
    line = " ".join(redact(clean(word)).split())
    lines = [*(excerpt.text.split("\n") if excerpt.text else ()), line]
    signature = replace(sign(line), line=len(lines))
    numbers = (*excerpt.numbers, 0)
    return replace(excerpt, text="\n".join(lines), numbers=numbers), signature


# ---- runs ----


def _of_run(snapshot: Snapshot, run: DagRun, instance: str, now: datetime) -> Incident | None:
    """A run that failed without a failed task. One request: the states are listed by name, so a
    failed task, which may have failed long before its run, comes first. A failed task that a
    person has marked as success leaves its run failed: that is nobody's incident."""
    tasks = snapshot.airflow.run_task_instances(
        run.dag_id, run.run_id, states=("failed", "skipped"), limit=100
    )
    if tasks and tasks[0].state == "failed":
        return None
    dag = snapshot.dag(run.dag_id, whole=True)
    timeout = dag.timeout if dag else None
    took = None
    if run.start_date and run.end_date:
        took = (run.end_date - run.start_date).total_seconds()
    cut_off = sorted({t.ref.task_id for t in tasks if t.start_date and not t.end_date})
    if timeout is not None and took is not None and took >= timeout:
        word = f"DagRunTimeout: the run took longer than its dagrun_timeout of {timeout:.0f} s"
    elif cut_off:
        word = "DagRunFailed: the run was ended while its tasks were running"
    else:
        return None
    named = ", ".join(cut_off[:NAMED]) + "…" * (len(cut_off) > NAMED)
    lines = [word, *([f"cut off while running: {redact(clean(named))}"] if cut_off else [])]
    notice = "a run has no log of its own"
    return _incident(
        run,
        instance,
        now,
        kind="run",
        failed_at=run.end_date or now,
        signature=sign(word),
        excerpt=Excerpt("\n".join(lines), (0,) * len(lines), notice=notice),
        context={
            **context_of_run(snapshot, run.dag_id, run.run_id),
            "duration": None if took is None else round(took),
            "timeout": timeout,
            "cut_off": cut_off,
            "version": run.version,
            "url": snapshot.airflow.run_link(run.dag_id, run.run_id),
        },
    )


# ---- DAG files ----

_FRAME = re.compile(
    r'^ *File "(?P<path>[^"\n]+)", line (?P<line>\d+)(?:, in [^\n]*)?'
    # A frame of Python's own has no source line: the next frame follows at once.
    r'(?:\n(?P<source> +(?!File ")[^\n ][^\n]*))?$',
    re.MULTILINE,
)


def _of_import(broken: ImportFailure, instance: str, now: datetime) -> Incident:
    text = redact(clean(broken.stack_trace)).strip("\n")
    kept = text[-STACK_LENGTH:]
    lines = kept.split("\n")
    first = text.count("\n") + 2 - len(lines)
    numbers = tuple(range(first, first + len(lines)))
    return _incident(
        broken,
        instance,
        now,
        kind="import",
        failed_at=now,  # Airflow moves its own time at each attempt to parse the file
        signature=sign(kept, numbers),
        excerpt=Excerpt(kept, numbers, total_lines=text.count("\n") + 1, cut=kept != text),
        context={"bundle": broken.bundle, "file": broken.file, **offending_line(text, broken.file)},
    )


def offending_line(stack_trace: str, file: str) -> dict[str, Any]:
    """Where to look: the innermost frame in the DAG file itself (`at` its path, `line`, and the
    `source` where the trace has it), or else the innermost of all, in what the file imports."""
    frames = list(_FRAME.finditer(stack_trace))
    if not frames:
        return {"at": None, "line": None, "source": None}
    own = [frame for frame in frames if _is_file(frame["path"], file)]
    frame = (own or frames)[-1]
    source = (frame["source"] or "").strip()
    return {"at": frame["path"], "line": int(frame["line"]), "source": source or None}


def _is_file(path: str, file: str) -> bool:
    wanted = PurePosixPath(file.replace("\\", "/")).parts
    return PurePosixPath(path.replace("\\", "/")).parts[-len(wanted) :] == wanted


# ---- what has gone by itself ----


def superseded(snapshot: Snapshot, incident: Incident) -> str:
    """Why a failed run or an import error is not one any more, or "". At most one request, and
    none for a run that was polled."""
    if incident.kind == "run":
        run = snapshot.run(incident.dag_id, incident.run_id)
        if run is None:
            return "the run is gone"
        if run.state == "failed" and id_of(run, incident.instance) == incident.id:
            return ""
        return f"somebody else has run it again (now {run.state})"
    broken = snapshot.import_errors()
    if broken is None or any(id_of(one, incident.instance) == incident.id for one in broken):
        return ""
    file = incident.context.get("bundle"), incident.context.get("file")
    if any((one.bundle, one.file) == file for one in broken):
        return "the file fails in another way now"
    return "the file can be imported again"
