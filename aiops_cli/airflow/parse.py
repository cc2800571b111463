"""What Airflow's answers say: JSON documents → plain types, error bodies → a sentence.

Tolerant of other server versions: unknown fields are ignored, missing ones are None or the
type's default. A field of the wrong type raises AirflowAnswer that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, TypeVar

from aiops_cli.errors import AirflowAnswer
from aiops_cli.incidents import (
    MASK,
    UNMAPPED,
    Asset,
    AssetEvent,
    Connection,
    ConnectionTest,
    Dag,
    DagRun,
    Event,
    Health,
    ImportFailure,
    Pool,
    Task,
    TaskInstance,
    TaskRef,
    Variable,
)
from knowledge.redact import clean, redact

T = TypeVar("T")

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


class Document:
    """A JSON object whose fields are asked for by type. `name` is what messages call it."""

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise AirflowAnswer(
                f"Airflow's answer is not what its API promises: {name} is {_kind(value)}",
                "is this Airflow's own address? aiops doctor tells its version",
            )
        self._fields: Mapping[str, Any] = value
        self._name = name

    def text(self, field: str) -> str | None:
        return self._typed(field, str)

    def need(self, field: str) -> str:
        """A text that must be there: the names that everything else is told by."""
        value = self.text(field)
        if not value:
            raise self._wrong(field, "missing")
        return value

    def flag(self, field: str) -> bool:
        return self._typed(field, bool) or False

    def number(self, field: str) -> float | None:
        value = self._fields.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(field, _kind(value))
        return float(value)

    def whole(self, field: str) -> int | None:
        """Airflow writes some counts as 1.0."""
        value = self.number(field)
        if value is None:
            return None
        if not value.is_integer():
            raise self._wrong(field, str(value))
        return int(value)

    def time(self, field: str) -> datetime | None:
        text = self.text(field)
        if text is None:
            return None
        try:
            # Python 3.10 knows no "Z", and only 3 or 6 digits of a second.
            parts = re.fullmatch(r"(.*?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", text.strip())
            if parts is None:
                raise ValueError(text)
            fraction = (parts[2] or ".0")[:7].ljust(7, "0")
            zone = (parts[3] or "Z").replace("Z", "+00:00")
            zone = zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
            return datetime.fromisoformat(parts[1] + fraction + zone).astimezone(timezone.utc)
        except (ValueError, OverflowError):
            raise self._wrong(field, repr(text[:40])) from None

    def seconds(self, field: str) -> float | None:
        """A duration: ISO 8601 without years and months (`P1DT2H`), or a number of seconds."""
        value = self._fields.get(field)
        if not isinstance(value, str):
            return self.number(field)
        parts = _DURATION.fullmatch(value)
        if parts is None or value[-1] in "PT":
            raise self._wrong(field, repr(value[:40]))
        days, hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    def mapping(self, field: str) -> Mapping[str, Any]:
        return self._typed(field, dict) or {}

    def sequence(self, field: str) -> list[Any]:
        return self._typed(field, list) or []

    def rows(self, field: str) -> list[Document]:
        """The list that was asked for. It must be there: a proxy's friendly {"status": "ok"}
        must not read as "nothing failed"."""
        if self._fields.get(field) is None:
            raise self._wrong(field, "missing")
        return list(self.items(field))

    def inner(self, field: str) -> Document | None:
        value = self._fields.get(field)
        return None if value is None else Document(value, f"{self._name}.{field}")

    def items(self, field: str) -> Iterator[Document]:
        for index, value in enumerate(self.sequence(field)):
            yield Document(value, f"{self._name}.{field}[{index}]")

    def _typed(self, field: str, kind: type[T]) -> T | None:
        value = self._fields.get(field)
        if value is None or isinstance(value, kind):
            return value
        raise self._wrong(field, _kind(value))

    def _wrong(self, field: str, what: str) -> AirflowAnswer:
        return AirflowAnswer(
            f"Airflow's answer is not what its API promises: {self._name}.{field} is {what}",
            "a server that this version of aiops does not know? aiops doctor tells its version",
        )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def task_instance(answer: Document) -> TaskInstance:
    index = answer.whole("map_index")
    version = answer.inner("dag_version")
    return TaskInstance(
        ref=TaskRef(
            answer.need("dag_id"),
            answer.need("dag_run_id"),
            answer.need("task_id"),
            UNMAPPED if index is None else index,
        ),
        state=answer.text("state"),
        try_number=answer.whole("try_number") or 0,
        max_tries=answer.whole("max_tries") or 0,
        id=answer.text("id"),
        start_date=answer.time("start_date"),
        end_date=answer.time("end_date"),
        duration=answer.number("duration"),
        operator=answer.text("operator_name") or answer.text("operator"),
        hostname=answer.text("hostname") or None,
        pool=answer.text("pool"),
        queue=answer.text("queue"),
        note=answer.text("note"),
        version=version.whole("version_number") if version else None,
        rendered_fields=answer.mapping("rendered_fields"),
        queued_at=answer.time("queued_when"),
        scheduled_at=answer.time("scheduled_when"),
    )


def dag_run(answer: Document) -> DagRun:
    """`version` is the newest that any of the run's tasks ran on."""
    versions = [version.whole("version_number") for version in answer.items("dag_versions")]
    return DagRun(
        dag_id=answer.need("dag_id"),
        run_id=answer.need("dag_run_id"),
        state=answer.text("state") or "unknown",
        run_type=answer.text("run_type") or "unknown",
        run_after=answer.time("run_after"),
        logical_date=answer.time("logical_date"),
        start_date=answer.time("start_date"),
        end_date=answer.time("end_date"),
        version=max((number for number in versions if number is not None), default=None),
        note=answer.text("note"),
        queued_at=answer.time("queued_at"),
    )


def dag(answer: Document) -> Dag:
    """Out of a DAG's details, or of the shorter row of a list (without version and timeout)."""
    version = answer.inner("latest_dag_version")
    return Dag(
        dag_id=answer.need("dag_id"),
        is_paused=answer.flag("is_paused"),
        tags=tuple(tag.need("name") for tag in answer.items("tags")),
        owners=tuple(str(owner) for owner in answer.sequence("owners")),
        version=version.whole("version_number") if version else None,
        fileloc=answer.text("fileloc"),
        bundle=answer.text("bundle_name"),
        file=answer.text("relative_fileloc"),
        scheduled=answer.text("timetable_summary") is not None,
        next_run=answer.time("next_dagrun_run_after"),
        max_active_runs=answer.whole("max_active_runs"),
        has_import_errors=answer.flag("has_import_errors"),
        timeout=answer.seconds("dag_run_timeout"),
    )


def import_failure(answer: Document) -> ImportFailure:
    return ImportFailure(
        id=answer.whole("import_error_id") or 0,
        bundle=answer.text("bundle_name") or "",
        file=answer.need("filename"),
        stack_trace=answer.text("stack_trace") or "",
        seen_at=answer.time("timestamp"),
    )


def asset(answer: Document) -> Asset:
    uri = answer.text("uri") or ""
    return Asset(
        name=answer.text("name") or uri,
        uri=uri,
        producers=tuple(
            (row.need("dag_id"), row.need("task_id")) for row in answer.items("producing_tasks")
        ),
        scheduled_dags=tuple(row.need("dag_id") for row in answer.items("scheduled_dags")),
    )


def pool(answer: Document) -> Pool:
    slots = answer.whole("slots") or 0
    return Pool(
        answer.need("name"),
        slots,
        None if slots < 0 else answer.whole("open_slots"),
        answer.flag("include_deferred"),
    )


def asset_event(answer: Document) -> AssetEvent:
    uri, index = answer.text("uri") or "", answer.whole("source_map_index")
    dag_id, run_id = answer.text("source_dag_id"), answer.text("source_run_id")
    task_id, source = answer.text("source_task_id"), None
    if dag_id and run_id and task_id:
        source = TaskRef(dag_id, run_id, task_id, UNMAPPED if index is None else index)
    return AssetEvent(answer.text("name") or uri, uri, answer.time("timestamp"), source)


def connection(answer: Document) -> Connection:
    """The password is not even looked at."""
    return Connection(
        connection_id=answer.need("connection_id"),
        conn_type=answer.need("conn_type"),
        host=answer.text("host"),
        port=answer.whole("port"),
        schema=answer.text("schema"),
        login=answer.text("login"),
        description=answer.text("description"),
        extra=answer.text("extra"),
    )


def connection_test(answer: Document) -> ConnectionTest:
    message = " ".join(redact(clean(answer.text("message") or "")).split())
    return ConnectionTest(answer.flag("status"), message)


def variable(answer: Document) -> Variable:
    value = answer.text("value")
    return Variable(answer.need("key"), value, MASK in (value or ""))


def task(answer: Document) -> Task:
    return Task(
        task_id=answer.need("task_id"),
        retries=answer.whole("retries") or 0,
        downstream=tuple(str(task_id) for task_id in answer.sequence("downstream_task_ids")),
        operator=answer.text("operator_name"),
        pool=answer.text("pool"),
        owner=answer.text("owner"),
        trigger_rule=answer.text("trigger_rule") or "all_success",
        is_mapped=answer.flag("is_mapped"),
    )


def event(answer: Document) -> Event:
    number, when = answer.whole("event_log_id"), answer.time("when")
    return Event(
        id=number or 0,
        when=when or datetime.fromtimestamp(0, timezone.utc),
        event=answer.text("event") or "",
        owner=answer.text("owner"),
        dag_id=answer.text("dag_id"),
        run_id=answer.text("run_id"),
        task_id=answer.text("task_id"),
        map_index=answer.whole("map_index"),
        try_number=answer.whole("try_number"),
        extra=answer.text("extra"),
    )


def health(answer: Document) -> Health:
    """A triggerer or DAG processor without a status was never started here: no problem of ours."""
    problems = []
    for name in ("metadatabase", "scheduler", "dag_processor", "triggerer"):
        part = answer.inner(name)
        status = part.text("status") if part else None
        if status is None and name in ("dag_processor", "triggerer"):
            continue
        if status != "healthy":
            problems.append(f"{name}: {status or 'unknown'}")
    return Health(tuple(problems))


# ---- error bodies ----


def error_detail(body: bytes) -> str:
    """What an error body says: {"detail": text | {reason…} | [pydantic's list]}, problem+json of
    old servers, or a web page's title. A validation error's input is left out: it repeats what
    was sent, a password included."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return not_json(body)
    detail = document.get("detail", document.get("error")) if isinstance(document, dict) else None
    if isinstance(detail, str):
        return re.sub(r"\[type=.*?input_value=.*", "", detail, flags=re.DOTALL)
    if isinstance(detail, dict):
        return "; ".join(f"{key}: {value}" for key, value in detail.items())
    if isinstance(detail, list):
        problems = (item for item in detail if isinstance(item, dict))
        return "; ".join(f"{_dotted(item.get('loc'))}: {item.get('msg')}" for item in problems)
    return "no reason given"


def _dotted(location: Any) -> str:
    return ".".join(map(str, location)) if isinstance(location, list) else str(location)


def not_json(body: bytes) -> str:
    """What a body is that is no JSON: a web page with its title, nothing, or something else."""
    text = body[:65536].decode("utf-8", "replace")
    if not text.strip():
        return "an empty body"
    title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
    if title:
        return f"a web page ({' '.join(title[1].split())})"
    return "a web page" if text.lstrip().startswith("<") else "something that is not JSON"
