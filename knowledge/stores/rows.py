"""Records ↔ rows: how each record is written as columns and read back, on any SQL store.

Rows are dicts. Times are UTC ISO 8601 text with `Z`, always to the microsecond, so that the
order of the texts is the order of the times. Nested values are canonical JSON text, pure ASCII:
a lone surrogate or a NUL out of a hostile log must neither fail nor change on the way.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, get_args

from knowledge.records import (
    ACTIONS,
    Claim,
    Decision,
    Entry,
    EntryKind,
    Excerpt,
    Grant,
    Harm,
    Hold,
    Incident,
    Judgement,
    Lesson,
    Outcome,
    Pause,
    Remark,
    Signature,
    Snooze,
    Symptom,
    Trial,
    TrialOutcome,
    Voided,
    Vouch,
)

Row = Mapping[str, Any]
Params = dict[str, Any]


def time_text(at: datetime) -> str:
    """Raises ValueError for a naive time: guessing its zone would move it silently."""
    if at.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {at!r}")
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")[:-6] + "Z"


def optional_time_text(at: datetime | None) -> str | None:
    return None if at is None else time_text(at)


def parse_time(text: str) -> datetime:
    # Python 3.10's fromisoformat does not know the Z.
    return datetime.fromisoformat(text[:-1] + "+00:00")


def optional_parse_time(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text)


def json_text(value: Any) -> str:
    """Canonical: equal values give equal text. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def seconds(value: Any) -> float | None:
    """A duration out of nested JSON, which each database reads in its own way; None where it is
    no number."""
    try:
        return None if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


# --- entries ---------------------------------------------------------------------------------


def entry_content(entry: Entry) -> str:
    """What makes an entry this version of it: all but when it was made and whether it lives."""
    content = asdict(entry)
    del content["created_at"], content["retired"]
    return json_text(content)


def entry_document(entry: Entry) -> dict[str, Any]:
    """The whole entry as JSON."""
    content: dict[str, Any] = json.loads(entry_content(entry))
    return {**content, "created_at": time_text(entry.created_at), "retired": entry.retired}


def entry_of(document: Mapping[str, Any]) -> Entry:
    """Raises KeyError, TypeError or ValueError for what `entry_document` did not give."""
    content = {**document}
    created_at, retired = content.pop("created_at"), content.pop("retired")
    entry = read_entry(
        {"content": json_text(content), "created_at": created_at, "retired": retired}
    )
    texts = (entry.id, entry.source, entry.title, entry.cause, entry.explanation)
    lists = (entry.dags, entry.tags, [symptom.text for symptom in entry.symptoms])
    signed = [symptom.signature for symptom in entry.symptoms]
    optional = (entry.edited, entry.owner, entry.incident_id)
    if (
        entry_document(entry) != document
        or entry.kind not in get_args(EntryKind)
        or entry.action not in (None, *ACTIONS)
        or not all(isinstance(one, str) for one in (*texts, *itertools.chain(*lists)))
        or not is_id(entry.id)
        or not all(isinstance(one, str) for one in optional if one is not None)
        or not all(isinstance(one, bool) for one in (retired, entry.suggestion_only))
        or entry.safe_to_retry not in (None, True, False)
        or not isinstance(entry.params, dict)
        or not all(_is_signature(one) for one in signed)
    ):
        raise ValueError(f"{document.get('id')}: not as it was exported")
    return entry


def is_id(text: str) -> bool:
    """Whether it can be one of our ids, which are shown and typed: nothing that moves a cursor."""
    return text.isascii() and text.replace("-", "").isalnum()


def _is_signature(signature: Signature) -> bool:
    said = (signature.headline, signature.raised_from)
    texts = (signature.text, signature.fingerprint, signature.error_class, *said)
    return (
        all(isinstance(one, str) for one in texts)
        and isinstance(signature.frame, str | None)
        and isinstance(signature.place, str | None)
        and type(signature.version) is int
        and type(signature.line) in (int, type(None))
        and isinstance(signature.wrapper, bool)
    )


def read_entry(row: Row) -> Entry:
    content = json.loads(row["content"])
    content["symptoms"] = tuple(
        Symptom(symptom["text"], Signature(**symptom["signature"]))
        for symptom in content["symptoms"]
    )
    for name in ("dags", "tags"):
        content[name] = tuple(content[name])
    return Entry(**content, created_at=parse_time(row["created_at"]), retired=bool(row["retired"]))


# --- incidents and what is thought of them ---------------------------------------------------


def incident_params(incident: Incident) -> Params:
    return {
        "id": incident.id,
        "kind": incident.kind,
        "instance": incident.instance,
        "dag_id": incident.dag_id,
        "run_id": incident.run_id,
        "task_id": incident.task_id,
        "map_index": incident.map_index,
        "try_number": incident.try_number,
        "ti_id": incident.ti_id,
        "failed_at": time_text(incident.failed_at),
        "seen_at": time_text(incident.seen_at),
        "fingerprint": incident.signature.fingerprint,
        "signature": json_text(asdict(incident.signature)),
        "excerpt": json_text(asdict(incident.excerpt)),
        "context": json_text(incident.context),
        "group_id": incident.group,
        "group_key": incident.group_key,
    }


def read_incident(row: Row) -> Incident:
    excerpt = json.loads(row["excerpt"])
    return Incident(
        instance=row["instance"],
        dag_id=row["dag_id"],
        run_id=row["run_id"],
        task_id=row["task_id"],
        map_index=row["map_index"],
        try_number=row["try_number"],
        failed_at=parse_time(row["failed_at"]),
        seen_at=parse_time(row["seen_at"]),
        signature=Signature(**json.loads(row["signature"])),
        excerpt=Excerpt(**{**excerpt, "numbers": tuple(excerpt["numbers"])}),
        kind=row["kind"],
        ti_id=row["ti_id"],
        context=json.loads(row["context"]),
        group=row["group_id"],
        group_key=row["group_key"],
    )


def judgement_params(judgement: Judgement) -> Params:
    return {
        "incident_id": judgement.incident_id,
        "at": time_text(judgement.at),
        "document": json_text(judgement.document),
    }


def read_judgement(row: Row) -> Judgement:
    return Judgement(row["incident_id"], parse_time(row["at"]), json.loads(row["document"]))


def remark_params(remark: Remark) -> Params:
    return {**asdict(remark), "at": time_text(remark.at)}


def read_remark(row: Row) -> Remark:
    return Remark(row["incident_id"], row["by"], parse_time(row["at"]), row["text"])


def snooze_params(snooze: Snooze) -> Params:
    return {**asdict(snooze), "at": time_text(snooze.at), "until": time_text(snooze.until)}


def read_snooze(row: Row) -> Snooze:
    return Snooze(row["incident_id"], row["by"], parse_time(row["at"]), parse_time(row["until"]))


# --- decisions, claims, outcomes -------------------------------------------------------------


def decision_params(decision: Decision, recorded_at: datetime) -> Params:
    """`recorded_at` is the store's clock: the brakes never trust a caller's."""
    return {
        "incident_id": decision.incident_id,
        "kind": decision.kind,
        "at": time_text(decision.at),
        "recorded_at": time_text(recorded_at),
        "by": decision.by,
        "action": decision.action,
        "params": json_text(decision.params),
        "cause": decision.cause,
        "reason": decision.reason,
        "plan": json_text(decision.plan),
        "grant_id": decision.grant,
    }


def read_decision(row: Row) -> Decision:
    return Decision(
        incident_id=row["incident_id"],
        kind=row["kind"],
        at=parse_time(row["at"]),
        by=row["by"],
        action=row["action"],
        params=json.loads(row["params"]),
        cause=row["cause"],
        reason=row["reason"],
        plan=json.loads(row["plan"]),
        grant=row["grant_id"],
        seq=row["seq"],
    )


def outcome_params(outcome: Outcome) -> Params:
    return {**asdict(outcome), "at": time_text(outcome.at)}


def read_outcome(row: Row) -> Outcome:
    return Outcome(
        incident_id=row["incident_id"],
        decision=row["decision"],
        at=parse_time(row["at"]),
        outcome=row["outcome"],
        detail=row["detail"],
        try_number=row["try_number"],
    )


def read_claim(row: Row) -> Claim:
    return Claim(
        incident_id=row["incident_id"],
        state=row["state"],
        token=row["token"],
        owner=row["owner"],
        lease_until=parse_time(row["lease_until"]),
        ti_id=row["ti_id"],
        decision=row["decision"],
        not_before=optional_parse_time(row["not_before"]),
        progress=json.loads(row["progress"]),
    )


def harm_params(harm: Harm) -> Params:
    return {**asdict(harm), "at": time_text(harm.at)}


def read_harm(row: Row) -> Harm:
    return Harm(
        row["incident_id"], row["decision"], row["by"], parse_time(row["at"]), row["reason"]
    )


def read_voided(row: Row) -> Voided:
    return Voided(row["decision"], parse_time(row["at"]), row["by"])


def read_trial(row: Row) -> Trial:
    outcome: TrialOutcome | None = row["outcome"]
    if row["kind"] == "reject":
        outcome = "rejected"
    elif row["wrong"]:
        outcome = "wrong"
    elif row["undone"] and outcome in ("fixed", "relapsed"):
        outcome = "superseded"
    return Trial(
        incident_id=row["incident_id"],
        instance=row["instance"],
        dag_id=row["dag_id"],
        run_id=row["run_id"],
        task_id=row["task_id"],
        map_index=row["map_index"],
        fingerprint=row["fingerprint"],
        action=row["action"],
        params=json.loads(row["params"]),
        mode="auto" if row["kind"] == "auto" else "person",
        at=parse_time(row["at"]),
        outcome=outcome,
        version=version_of(row["version"]),
        signature_version=version_of(row["signature_version"]) or 0,
        failed_at=parse_time(row["failed_at"]),
        after=row["after"] or "",
    )


def lesson_params(lesson: Lesson) -> Params:
    return {
        "incident_id": lesson.incident_id,
        "instance": lesson.instance,
        "dag_id": lesson.dag_id,
        "run_id": lesson.run_id,
        "task_id": lesson.task_id,
        "map_index": lesson.map_index,
        "try_number": lesson.try_number,
        "failed_at": time_text(lesson.failed_at),
        "fingerprint": lesson.signature.fingerprint,
        "signature": json_text(asdict(lesson.signature)),
        "mode": lesson.mode,
        "at": time_text(lesson.at),
        "outcome": lesson.outcome,
        "seen_at": time_text(lesson.seen_at),
        "action": lesson.action,
        "params": json_text(lesson.params),
        "by": lesson.by,
        "detail": lesson.detail,
        "ended_at": optional_time_text(lesson.ended_at),
        "version": lesson.version,
    }


def read_lesson(row: Row) -> Lesson:
    return Lesson(
        instance=row["instance"],
        dag_id=row["dag_id"],
        run_id=row["run_id"],
        task_id=row["task_id"],
        map_index=row["map_index"],
        try_number=row["try_number"],
        failed_at=parse_time(row["failed_at"]),
        signature=Signature(**json.loads(row["signature"])),
        mode=row["mode"],
        at=parse_time(row["at"]),
        outcome=row["outcome"],
        seen_at=parse_time(row["seen_at"]),
        action=row["action"],
        params=json.loads(row["params"]),
        by=row["by"],
        detail=row["detail"],
        ended_at=optional_parse_time(row["ended_at"]),
        version=row["version"],
    )


def version_of(value: Any) -> int | None:
    """The version that an incident's context tells; it may come out of somebody's export."""
    return int(value) if str(value).isdecimal() else None


def vouch_params(vouch: Vouch) -> Params:
    return {**asdict(vouch), "safe": int(vouch.safe), "at": time_text(vouch.at)}


def read_vouch(row: Row) -> Vouch:
    return Vouch(
        instance=row["instance"],
        dag_id=row["dag_id"],
        task_id=row["task_id"],
        fingerprint=row["fingerprint"],
        safe=bool(row["safe"]),
        by=row["by"],
        at=parse_time(row["at"]),
        reason=row["reason"],
    )


# --- leave to act alone ----------------------------------------------------------------------


def grant_params(grant: Grant) -> Params:
    return {
        "id": grant.id,
        "actions": json_text(grant.actions),
        "dags": json_text(grant.dags),
        "by": grant.by,
        "at": time_text(grant.at),
        "max_per_hour": grant.max_per_hour,
        "max_per_dag_hour": grant.max_per_dag_hour,
        "until": optional_time_text(grant.until),
    }


def read_grant(row: Row) -> Grant:
    return Grant(
        id=row["id"],
        actions=tuple(json.loads(row["actions"])),
        dags=tuple(json.loads(row["dags"])),
        by=row["by"],
        at=parse_time(row["at"]),
        max_per_hour=row["max_per_hour"],
        max_per_dag_hour=row["max_per_dag_hour"],
        until=optional_parse_time(row["until"]),
        revoked_at=optional_parse_time(row["revoked_at"]),
        revoked_by=row["revoked_by"],
    )


def pause_params(pause: Pause) -> Params:
    return {
        "paused": int(pause.paused),
        "by": pause.by,
        "at": optional_time_text(pause.at),
        "reason": pause.reason,
    }


def read_pause(row: Row) -> Pause:
    return Pause(bool(row["paused"]), row["by"], optional_parse_time(row["at"]), row["reason"])


def hold_params(hold: Hold) -> Params:
    return {
        "id": hold.id,
        "instance": hold.instance,
        "target": hold.target,
        "by": hold.by,
        "at": time_text(hold.at),
        "until": optional_time_text(hold.until),
        "reason": hold.reason,
    }


def read_hold(row: Row) -> Hold:
    return Hold(
        id=row["id"],
        instance=row["instance"],
        target=row["target"],
        by=row["by"],
        at=parse_time(row["at"]),
        until=optional_parse_time(row["until"]),
        reason=row["reason"],
        ended_at=optional_parse_time(row["ended_at"]),
        ended_by=row["ended_by"],
    )
