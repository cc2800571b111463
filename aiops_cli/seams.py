"""The program's seams: small Protocols whose docstrings are the contract.

Every implementation and every fake of one passes the same tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from aiops_cli.incidents import (
    UNMAPPED,
    Asset,
    AssetEvent,
    Connection,
    ConnectionTest,
    Dag,
    DagRun,
    Event,
    Excerpt,
    Health,
    ImportFailure,
    Pool,
    Prompt,
    Question,
    Suggestion,
    Task,
    TaskInstance,
    TaskRef,
    Variable,
)


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""

    def sleep(self, seconds: float) -> None: ...


class Airflow(Protocol):
    """One Airflow, asked typed questions. Raises the AirflowError family and nothing else.

    Reads are repeated on connection errors, 429 and 5xx; changing calls never are by
    themselves: after an unclear answer (5xx, connection lost) they raise AirflowUnreachable
    and the caller re-reads before it repeats.
    """

    name: str
    url: str

    def version(self) -> str:
        """The server's version. Raises AirflowAnswer for one older than 3.1."""

    def health(self) -> Health: ...

    def failed(
        self,
        *,
        since: datetime,
        dag_id: str | None = None,
        task_id: str | None = None,
        run_id: str | None = None,
        behind: timedelta = timedelta(0),
    ) -> Iterator[TaskInstance]:
        """Task instances in state `failed` that ended at or after `since`, newest first, page by
        page. `dag_id` and `task_id` may be globs. Then, with `behind`, those that Airflow itself
        heard of since then though their worker, whose clock is up to so much behind, says that
        they ended before: one request more where there are none."""

    def troubled(
        self, *, since: datetime, until: datetime, dag_id: str | None = None
    ) -> Iterator[TaskInstance]:
        """Task instances whose newest try ended from `since` on and before `until`, and which are
        failed or had more than one try; page by page. `dag_id` may be a glob."""

    def task_instance(self, ref: TaskRef) -> TaskInstance:
        """Raises AirflowNotFound."""

    def tries(self, ref: TaskRef) -> tuple[TaskInstance, ...]:
        """All tries, oldest first, without ids. One that was cleared and waits is not among them
        until it starts."""

    def history(
        self,
        dag_id: str,
        task_id: str,
        *,
        map_index: int = UNMAPPED,
        until: datetime | None = None,
        limit: int = 20,
    ) -> tuple[TaskInstance, ...]:
        """The task's instances of this index in all runs, newest run first; with `until` in those
        that were due by then."""

    def run(self, dag_id: str, run_id: str) -> DagRun: ...

    def failed_runs(self, *, since: datetime) -> Iterator[DagRun]:
        """Runs in state `failed` that ended at or after `since`, newest first, page by page."""

    def newest_success(self, dag_id: str) -> DagRun | None:
        """The DAG's successful run with the latest run_after; None where it has none. One
        request."""

    def run_count(self, dag_id: str, *, since: datetime) -> int | None:
        """How many runs of the DAG ended at or after `since`, whatever their state; None where
        the server does not say. One request."""

    def active_runs(self, *, dag_id: str | None = None) -> Iterator[DagRun]:
        """Runs that are queued or running, oldest first."""

    def run_task_instances(
        self, dag_id: str, run_id: str, *, states: Sequence[str] = (), limit: int | None = None
    ) -> tuple[TaskInstance, ...]:
        """The run's task instances; with `states` those in one of them, ordered by the state's
        name."""

    def mapped_count(self, ref: TaskRef) -> int | None:
        """How many instances the task has in the run."""

    def unfinished(self, *, dag_id: str | None = None) -> Iterator[TaskInstance]:
        """Task instances that Airflow has taken up and not ended, oldest first. `dag_id` may be
        a glob."""

    def blockers(self, ref: TaskRef) -> tuple[str, ...]:
        """Why a task instance is not queued, in Airflow's words; empty for one that is."""

    def import_errors(self) -> tuple[ImportFailure, ...]:
        """Every DAG file that cannot be imported now."""

    def assets(self, dag_id: str) -> tuple[Asset, ...]:
        """Those that the DAG produces, reads or is scheduled on; the first 100."""

    def consumed_assets(self, dag_id: str, run_id: str) -> tuple[AssetEvent, ...]:
        """The updates of assets that started this run; empty for a run that assets did not
        start."""

    def deadlines(self, dag_id: str, run_id: str) -> tuple[datetime, ...]:
        """When Airflow itself expects the run to be done, earliest first; empty where nobody has
        said, and on a server that does not show it."""

    def pools(self) -> Mapping[str, Pool]: ...

    def dag(self, dag_id: str) -> Dag: ...

    def dags(self) -> Iterator[Dag]:
        """DAGs that are neither paused nor gone, by id. Without their version and timeout."""

    def tasks(self, dag_id: str) -> Mapping[str, Task]:
        """The tasks of the DAG's latest version, by id."""

    def events(
        self,
        *,
        since: datetime,
        until: datetime | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        task_id: str | None = None,
        names: Sequence[str] = (),
        limit: int = 100,
    ) -> tuple[Event, ...]:
        """Rows of the event log: the newest `limit` of them, oldest first. `names` restricts to
        these events."""

    def log(self, ref: TaskRef, try_number: int) -> Excerpt:
        """The excerpt of one try's log, redacted, read as a stream in bounded memory. A log that
        is gone gives an excerpt whose `notice` says so. Raises AirflowNotFound for a try that
        never was."""

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
        """Clear the failed (and upstream_failed) ones of these task instances in this run, and
        nothing else: never downstream or upstream, never running ones. Returns those that were
        (or would be) cleared; after the act they carry their new ids. An empty answer or
        AirflowConflict means that somebody else acted. Runs on the latest DAG version.

        Without `only_failed` all of them, whatever their state: a server before 3.3 then restarts
        a running one, where newer ones raise AirflowConflict. Only so does a task that ended
        `success` run again, an upstream for one; read each of them right before. `note` becomes
        the note of what is cleared, in the same act, where the server can do that (3.3 on);
        callers append it afterwards for those that cannot."""

    @property
    def clears_take_notes(self) -> bool:
        """Whether `clear` leaves its `note` in the same act."""

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, Any], note: str | None = None
    ) -> DagRun:
        """Start a run with this id, now and without a logical date. Where there is one of this
        id already, that one, whatever its conf: a repeat is harmless. `run_id` is made of
        letters, digits and `_.~:+-`. A run of a paused DAG stays queued. Raises AirflowNotFound,
        and AirflowAnswer for a conf or an id that the DAG does not take."""

    def mark(
        self, ref: TaskRef, state: Literal["success", "skipped"], note: str | None = None
    ) -> TaskInstance:
        """Set the state of this one task instance (of a mapped task always by its index) without
        running it; one that is in that state already is returned as it is. Airflow itself clears
        what stands failed or upstream_failed below it, and queues the run for that; where
        nothing does, the run stays as it is (see `requeue`). One that runs is stopped.
        `note` becomes its note in the same act."""

    def requeue(self, dag_id: str, run_id: str) -> DagRun:
        """Have the scheduler look at an ended run again: it runs what has no state yet, and ends
        the run anew by the states of its tasks. No task instance is changed by this."""

    def connection(self, connection_id: str) -> Connection:
        """As it stands in Airflow's own database. Raises AirflowNotFound, also for one that comes
        from the environment or a secrets backend, and AirflowForbidden."""

    def change_connection(self, connection_id: str, fields: Mapping[str, Any]) -> Connection:
        """Set exactly these of host, port, schema, login, password, description and extra (JSON
        text, which replaces all of extra); returns it as it stands then. Raises UsageError for
        another field or a value that holds MASK, Refused for an `extra` where Airflow hides a
        part of the present one."""

    def test_connection(self, connection_id: str) -> ConnectionTest | None:
        """What Airflow's api-server finds when it connects as is stored; None where it is not
        allowed to ([core] test_connection), cannot test this type, or does not answer."""

    def variable(self, key: str) -> Variable:
        """As it stands in Airflow's own database. Raises AirflowNotFound, also for one that comes
        from the environment or a secrets backend, and AirflowForbidden."""

    def change_variable(self, key: str, value: str) -> Variable:
        """Set the value and nothing else; a variable that is not there is made. Raises UsageError
        for a value that holds MASK, AirflowConflict where somebody else makes it meanwhile."""

    def pool(self, name: str) -> Pool: ...

    def resize_pool(self, name: str, slots: int) -> Pool:
        """Set the slots (-1: endless) and nothing else."""

    def xcoms(self, ref: TaskRef) -> tuple[str, ...]:
        """The keys that this task instance has written."""

    @property
    def deletes_xcoms(self) -> bool:
        """Whether this server can delete an XCom (3.2 on)."""

    def delete_xcom(self, ref: TaskRef, key: str) -> None:
        """One that is gone already is no error. Raises AirflowAnswer where the server cannot."""

    def append_note(self, ref: TaskRef, text: str) -> None:
        """Append to the task instance's note (at most 1,000 characters in all; what was there is
        kept whole, the new text is shortened where it must be)."""

    def link(self, ref: TaskRef, try_number: int) -> str:
        """The task instance's page in Airflow's UI."""

    def run_link(self, dag_id: str, run_id: str) -> str: ...


class Model(Protocol):
    """A language model that may suggest. It can only lower a decision, never raise one."""

    name: str

    def prompt(self, question: Question) -> Prompt:
        """What `suggest` sends to it. Raises ModelError."""

    def suggest(self, question: Question, told: Callable[[int], None] | None = None) -> Suggestion:
        """Its answer, validated, though its quotes are not. `told` gets the number of characters
        so far. Raises ModelError (`why`) when the model is down, slow, busy, was cut or does not
        keep to the schema."""


class Notifier(Protocol):
    def tell(self, title: str, body: str, *, key: str, over: bool = False) -> None:
        """Tell people; `key` is stable for an incident so that a pager groups messages, and
        `over` says that what the key stands for is over. Raises NotifyError where not every
        service was reached, within seconds."""
