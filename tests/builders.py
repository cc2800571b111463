"""Small builders of the plain types, so that a test names only what it is about."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from aiops_cli import gate
from aiops_cli.incidents import Dag, DagRun, Diagnosis, Health, TaskInstance, TaskRef
from knowledge.records import (
    Entry,
    Evidence,
    Excerpt,
    Grant,
    Incident,
    Match,
    Signature,
    Symptom,
    Trial,
    Vouch,
)

NOW = datetime(2026, 3, 1, 3, 4, tzinfo=timezone.utc)


def signature(text: str = "ConnectionRefusedError: [Errno 111]", **fields: Any) -> Signature:
    known = {"fingerprint": f"fp-{text}", "error_class": text.split(":")[0], "headline": text}
    return Signature(text, **{**known, **fields})


def incident(**fields: Any) -> Incident:
    known: dict[str, Any] = {
        "instance": "prod",
        "dag_id": "orders_etl",
        "run_id": "scheduled__2026-03-01",
        "task_id": "load",
        "map_index": -1,
        "try_number": 1,
        "failed_at": NOW,
        "seen_at": NOW,
        "signature": signature(),
        "excerpt": Excerpt("ConnectionRefusedError: [Errno 111]", (1,), 1),
        "ti_id": "ti-1",
        "context": {"retries": 3, "blocks": ["publish"], "url": "http://airflow/…"},
    }
    return Incident(**{**known, **fields})


def entry(action: str | None = "retry", **fields: Any) -> Entry:
    known: dict[str, Any] = {
        "id": f"entry-{action}",
        "kind": "runbook",
        "source": "orders.yaml:4",
        "title": "The orders database restarts at night",
        "symptoms": (Symptom("ConnectionRefusedError", signature()),),
        "cause": "nightly restart",
        "created_at": NOW,
        "action": action,
    }
    return Entry(**{**known, **fields})


def match(action: str | None = "retry", similarity: float = 1.0, **fields: Any) -> Match:
    return Match(entry(action, **fields), similarity, "exact" if similarity == 1.0 else "near")


def trial(outcome: Any = "fixed", **fields: Any) -> Trial:
    known: dict[str, Any] = {
        "incident_id": "aaaaaaaaaa",
        "instance": "prod",
        "dag_id": "orders_etl",
        "run_id": "scheduled__2026-02-01",
        "task_id": "load",
        "map_index": -1,
        "fingerprint": signature().fingerprint,
        "action": "retry",
        "params": {},
        "mode": "person",
        "at": NOW,
    }
    return Trial(**{**known, "outcome": outcome, **fields})


def vouch(safe: bool = True, fingerprint: str | None = None, **fields: Any) -> Vouch:
    known: dict[str, Any] = {
        "instance": "prod",
        "dag_id": "orders_etl",
        "task_id": "load",
        "by": "ana",
        "at": NOW,
    }
    return Vouch(**{**known, "safe": safe, "fingerprint": fingerprint, **fields})


def grant(**fields: Any) -> Grant:
    known: dict[str, Any] = {
        "id": "grant00001",
        "actions": ("retry", "retry_later"),
        "dags": ("orders_*",),
        "by": "ana",
        "at": NOW,
    }
    return Grant(**{**known, **fields})


def task_instance(**fields: Any) -> TaskInstance:
    known: dict[str, Any] = {
        "ref": TaskRef("orders_etl", "scheduled__2026-03-01", "load"),
        "state": "failed",
        "try_number": 1,
        "max_tries": 0,
        "id": "ti-1",
    }
    return TaskInstance(**{**known, **fields})


def diagnosis(**fields: Any) -> Diagnosis:
    known: dict[str, Any] = {
        "action": "retry",
        "cause": "nightly restart",
        "by": "exact",
        "confidence": 1.0,
        "matches": (match(),),
    }
    return Diagnosis(**{**known, **fields})


def circumstances(**fields: Any) -> gate.Circumstances:
    """Circumstances in which every check passes, but for what a test changes."""
    known: dict[str, Any] = {
        "incident": incident(),
        "diagnosis": diagnosis(),
        "bounds": gate.Bounds(0.93, 0.05),
        "now": NOW,
        "evidence": Evidence("task", fixed=1),
        "rerun": gate.RerunSafety(True, "tag aiops:rerun-safe", for_task=True),
        "grants": (grant(),),
        "base_id": "base",
        "dag": Dag("orders_etl"),
        "run": DagRun("orders_etl", "scheduled__2026-03-01", "failed", "scheduled"),
        "live": task_instance(),
        "health": Health(),
    }
    return gate.Circumstances(**{**known, **fields})
