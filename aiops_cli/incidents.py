"""The program's plain types: what Airflow says, and what is made of it. Frozen, no behaviour.

`Incident`, `Excerpt` and `Signature` are stored, so they live in `knowledge.records`.
All times are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from knowledge.records import Excerpt, Incident, Match, Signature

__all__ = ["Excerpt", "Incident", "Match", "Signature"]

UNMAPPED = -1
TERMINAL_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True)
class TaskRef:
    """Names one task instance of one run; `map_index` is -1 where it is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = UNMAPPED

    def __str__(self) -> str:
        index = "" if self.map_index == UNMAPPED else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{index}"


@dataclass(frozen=True, slots=True)
class TaskInstance:
    """A task instance as Airflow has it now. `id` changes with every try; `state` is None for
    one that was cleared and not scheduled yet. `version` is the DAG version it ran on."""

    ref: TaskRef
    state: str | None
    try_number: int
    max_tries: int
    id: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    duration: float | None = None
    operator: str | None = None
    hostname: str | None = None
    pool: str | None = None
    queue: str | None = None
    note: str | None = None
    version: int | None = None
    rendered_fields: Mapping[str, Any] = field(default_factory=dict)
    queued_at: datetime | None = None
    scheduled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DagRun:
    """One run of a DAG. `run_type` is scheduled, manual, asset_triggered or backfill."""

    dag_id: str
    run_id: str
    state: str
    run_type: str
    run_after: datetime | None = None
    logical_date: datetime | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    version: int | None = None
    note: str | None = None
    queued_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Dag:
    """What the DAG's author said of it, and what Airflow knows. `version` is the latest, `file`
    relative to the `bundle`. `scheduled` is true where a timetable or assets start its runs,
    `next_run` when the next one is due (None where none is planned), `timeout` the
    dagrun_timeout in seconds."""

    dag_id: str
    is_paused: bool = False
    tags: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    version: int | None = None
    fileloc: str | None = None
    bundle: str | None = None
    file: str | None = None
    scheduled: bool = False
    next_run: datetime | None = None
    max_active_runs: int | None = None
    has_import_errors: bool = False
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a DAG's latest version."""

    task_id: str
    retries: int = 0
    downstream: tuple[str, ...] = ()
    operator: str | None = None
    pool: str | None = None
    owner: str | None = None
    trigger_rule: str = "all_success"
    is_mapped: bool = False


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """A DAG file that Airflow cannot import. `id` stays while the file stays broken; `seen_at`
    moves at each attempt to parse it."""

    id: int
    bundle: str
    file: str
    stack_trace: str
    seen_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """What tasks produce and DAGs are scheduled on. `producers` are (DAG id, task id)."""

    name: str
    uri: str
    producers: tuple[tuple[str, str], ...] = ()
    scheduled_dags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """That `asset` (its name) was updated at `when`, by the task instance `source` where a task
    did it; None where a person or something outside Airflow did."""

    asset: str
    uri: str
    when: datetime | None
    source: TaskRef | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """`open` is -1 or less where more run than there are slots, and None for an endless pool,
    whose `slots` are -1. With `include_deferred` deferred tasks take slots too."""

    name: str
    slots: int
    open: int | None = None
    include_deferred: bool = False


# What Airflow shows instead of a secret. Never sent back: it would become the value.
MASK = "***"


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection of Airflow's own database, without its password. `extra` is JSON text with
    MASK for the values that Airflow hides."""

    connection_id: str
    conn_type: str
    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    description: str | None = None
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What Airflow's own test of a connection found; `message` is redacted."""

    passed: bool
    message: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of Airflow's own database. Airflow writes the `value` that is JSON in its own
    spacing. `masked`: it hides all of it or a part, so that the value cannot be put back."""

    key: str
    value: str | None
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A row of Airflow's event log: who did what, or what the scheduler noticed."""

    id: int
    when: datetime
    event: str
    owner: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    try_number: int | None = None
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What /monitor/health says. `problems` names each part that is not healthy."""

    problems: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a model answered, validated and cleaned; unproven. It has no params: those come from
    matches and runbooks alone. `prompt_version` says which prompt it answered."""

    action: str
    cause: str
    confidence: float
    explanation: str
    quotes: tuple[str, ...]
    model: str
    prompt_version: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a model said of a failure that is like a known one: its suggestion and whether its
    quotes stand in what it was shown, or (`unheard`) why there is none."""

    model: str
    suggestion: Suggestion | None = None
    quotes_stand: bool = False
    unheard: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What it is and what to do. `action` is a name of the closed catalogue or None where
    nobody knows; `confidence` (0 to 1) is the similarity, lowered by a model where one spoke.
    `entry` is the id of the entry it rests on, `lead` how far its similarity is ahead of the
    best match with a different action (None where there is none). `tried` tells of what people
    decided about such failures that has never helped: it is not what is proposed."""

    action: str | None
    cause: str
    by: Literal["exact", "near", "model", "nobody"]
    confidence: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    explanation: str = ""
    quotes: tuple[str, ...] = ()
    entry: str | None = None
    lead: float | None = None
    matches: tuple[Match, ...] = ()
    opinion: Opinion | None = None  # a model's, where one is set and the match is a near one
    tried: tuple[str, ...] = ()
    delay_from: str = ""  # whose word the delay in `params` is, where no entry named it


@dataclass(frozen=True, slots=True)
class Known:
    """A match as a model is told of it. `record` is what came of its action before, in words."""

    match: Match
    record: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked about one failure. `line` is the 1-based number of the excerpt's
    line that tells most; `facts` are what Airflow knows of the task, by name; `known` are the
    best matches, the most similar first; `actions` is the closed list, each with what it does."""

    excerpt: str
    line: int | None
    facts: Mapping[str, str]
    known: tuple[Known, ...]
    actions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to a model: the messages (`role` and `content`), the JSON schema of the answer,
    and the part of the excerpt that is in it."""

    messages: tuple[Mapping[str, str], ...]
    schema: Mapping[str, Any]
    shown: str


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the gate: what was measured, against which bound. `value` None: does not
    apply. `reason` is the sentence for a person, given where it did not pass. `blocks` marks a
    check that no approval count can mend: the verdict is `blocked`, not `ask`."""

    name: str
    passed: bool
    value: float | int | str | bool | None = None
    bound: float | int | str | bool | None = None
    reason: str = ""
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """May it be done without a person? Every check is named."""

    decision: Literal["auto", "ask", "novel", "blocked"]
    checks: tuple[Check, ...]
    grant: str | None = None

    @property
    def passed(self) -> bool:
        return self.decision == "auto"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Each once: where no action is known, several checks say so."""
        return tuple(dict.fromkeys(check.reason for check in self.checks if not check.passed))


NOTE_LENGTH = 1000  # characters of a task instance's note that Airflow keeps


@dataclass(frozen=True, slots=True)
class PlannedClear:
    """One task instance that a plan would run again. `try_number` and `id` are those of now. What
    is `upstream` ran already and runs anew, whatever came of it."""

    ref: TaskRef
    state: str | None
    try_number: int
    id: str | None
    role: Literal["upstream", "task", "downstream"]


ChangeKind = Literal["connection", "variable", "pool", "xcom", "dag run", "state"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a plan changes beside running tasks again: the `field` of what is called
    `name`. What is made has no `old`, what is removed no `new`; both are JSON, and MASK where
    Airflow does not show them."""

    kind: ChangeKind
    name: str
    field: str
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action would do, exactly. Shown before, compared with what was done after.

    `clears` run again; `extra_tries` is how many tries the clear grants the task anew (a clear
    grants the whole retry budget again). `version_from` → `version_to` is the DAG version of
    the failed try and of the new one. `changes` come before anything runs again; `no_undo` says
    why they cannot be put back, `told` what a person should know before saying yes. `after` is
    the incident whose act makes the changes for this one too: only what is left of it is done.
    """

    action: str
    ref: TaskRef
    params: Mapping[str, Any] = field(default_factory=dict)
    clears: tuple[PlannedClear, ...] = ()
    extra_tries: int = 0
    version_from: int | None = None
    version_to: int | None = None
    changes: tuple[Change, ...] = ()
    no_undo: str = ""
    told: tuple[str, ...] = ()
    after: str = ""
