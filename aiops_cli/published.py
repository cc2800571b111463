"""The published JSON of an incident (design, section 4). Other programs are built on it: keys
may be added, never renamed, and are null where absent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from aiops_cli.incidents import Change, Check, Diagnosis, Opinion, Plan, TaskInstance, Verdict
from knowledge.records import Case, Entry, Evidence, Incident, Match

SHOWN_MATCHES = 5
WAITING = ("pending", "needs_human")
LEFT = "left to a person"
WAITS = "waits until "  # before the time of what is done later, in `detail`
UNDID = "undid"  # in the plan of a rejection: the number of the decision whose change it put back


def utc(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with Z."""
    if moment is None:
        return None
    text = moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def judgement_document(
    diagnosis: Diagnosis,
    verdict: Verdict,
    *,
    evidence: Evidence,
    rerun: str,
    bound: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The members `matches`, `diagnosis`, `gate`, `decision`, and beside them `evidence` (the
    record at the narrowest scope that has any) and `rerun` (in whose word it may run again)."""
    best = diagnosis.matches[0].similarity if diagnosis.matches else None
    return {
        "matches": [match_document(match) for match in diagnosis.matches[:SHOWN_MATCHES]],
        "diagnosis": {
            "action": diagnosis.action,
            "params": dict(diagnosis.params),
            "cause": diagnosis.cause,
            "explanation": diagnosis.explanation,
            "confidence": None if diagnosis.confidence is None else round(diagnosis.confidence, 4),
            "by": diagnosis.by,
            "quotes": list(diagnosis.quotes),
            "entry": diagnosis.entry,
            "delay_from": diagnosis.delay_from or None,
            "tried": list(diagnosis.tried),
            "opinion": opinion_document(diagnosis.opinion),
        },
        "gate": {
            "passed": verdict.passed,
            "similarity": None if best is None else round(best, 4),
            "reasons": list(verdict.reasons),
            "checks": [check_document(check) for check in verdict.checks],
            "grant": verdict.grant,
            "bound": None if bound is None else dict(bound),
        },
        "decision": verdict.decision,
        "evidence": {
            "scope": evidence.scope,
            "fixed": evidence.fixed,
            "failed": evidence.failed,
            "relapsed": evidence.relapsed,
            "rejected": evidence.rejected,
            "worn": evidence.worn,
            "contradicted": evidence.contradicted or None,
        },
        "rerun": rerun,
    }


def spoken_against(document: Mapping[str, Any]) -> str:
    """What the record says against the action of a judgement, or of an incident's document, or "".
    Such an action is proposed to nobody: a person has to name it."""
    return str((document.get("evidence") or {}).get("contradicted") or "")


def proposed_action(document: Mapping[str, Any]) -> str | None:
    """The action that is proposed; None where none is known, or the record speaks against it."""
    diagnosis = document.get("diagnosis") or {}
    return None if spoken_against(document) else diagnosis.get("action")


def action_word(document: Mapping[str, Any]) -> str:
    """What a list says beside an incident: of one that waits what is proposed, of one that is
    decided what was decided, which may have been something else, or "-" for nothing."""
    if document["status"] in WAITING:
        return proposed_action(document) or "unknown"
    return (document["decided"] or {}).get("action") or "-"


def nothing_proposed(document: Mapping[str, Any]) -> str:
    """Why nothing is to be run again, in a sentence; "" where something is proposed."""
    diagnosis = document.get("diagnosis") or {}
    if against := spoken_against(document):
        return f"nothing: {against}"
    if diagnosis.get("action") is None and diagnosis.get("by", "nobody") != "nobody":
        return "nothing: what is known of it names no action"
    if diagnosis.get("action") is None:
        return "nothing: nobody has answered this before"
    if diagnosis["action"] == "none":
        return "nothing to run again: a person must fix the cause"
    return ""


def opinion_document(opinion: Opinion | None) -> dict[str, Any] | None:
    """What a model said, or why it was not heard (`unheard`); None where none was to be asked."""
    if opinion is None:
        return None
    said = opinion.suggestion
    return {
        "model": opinion.model,
        "action": said.action if said else None,
        "cause": said.cause if said else None,
        "explanation": said.explanation if said else None,
        "confidence": said.confidence if said else None,
        "quotes": list(said.quotes) if said else [],
        "quotes_stand": opinion.quotes_stand,
        "unheard": opinion.unheard or None,
    }


def match_document(match: Match) -> dict[str, Any]:
    entry = match.entry
    return {
        "entry": entry.id,
        "kind": entry.kind,
        "title": entry.title,
        "found": match.found,
        "similarity": round(match.similarity, 4),
        "action": entry.action,
        "source": entry.source,
        "edited": entry.edited,
        "cause": entry.cause,
    }


def check_document(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "passed": check.passed,
        "value": check.value,
        "bound": check.bound,
        "reason": None if check.passed else check.reason,
    }


def incident_document(case: Case) -> dict[str, Any]:
    """One incident as it stands in the store."""
    incident = case.incident
    judged = dict(case.judgement.document) if case.judgement else {}
    decision = case.decision
    return {
        "incident": incident.id,
        "kind": incident.kind,
        "group": incident.group,
        "instance": incident.instance,
        **_names(incident),
        "fingerprint": incident.signature.fingerprint,
        "error_class": incident.signature.error_class or None,
        "headline": incident.signature.headline or None,
        "raised_from": incident.signature.raised_from or None,
        "place": incident.signature.place,
        "matches": judged.get("matches", []),
        "diagnosis": judged.get("diagnosis"),
        "gate": judged.get("gate"),
        "decision": judged.get("decision"),
        "evidence": judged.get("evidence"),
        "rerun": judged.get("rerun"),
        "status": case.status,
        "outcome": case.outcome,
        "failed_at": utc(incident.failed_at),
        "seen_at": utc(incident.seen_at),
        "signature": incident.signature.text,
        "line": _log_line(incident),
        "context": dict(incident.context),
        "decided": None
        if decision is None
        else {
            "kind": decision.kind,
            "by": decision.by,
            "at": utc(decision.at),
            "action": decision.action,
            "params": dict(decision.params),
            "cause": decision.cause or None,
            "reason": decision.reason or None,
            "plan": None if UNDID in decision.plan else dict(decision.plan) or None,
            "undone": UNDID in decision.plan,
        },
        "detail": _detail(case),
        "group_key": incident.group_key or None,
        "notes": [{"by": r.by, "at": utc(r.at), "text": r.text} for r in case.remarks],
        "snoozed_until": utc(case.snoozed_until),
        "wrong": None
        if case.harm is None
        else {"by": case.harm.by, "at": utc(case.harm.at), "reason": case.harm.reason},
    }


def status_word(document: Mapping[str, Any]) -> str:
    """An incident's status as a person is told it: what was put back is no plain rejection, and
    what a person has to mend is not known to be mended."""
    decided, status = document.get("decided") or {}, str(document["status"])
    if status == "rejected" and decided.get("undone"):
        return "undone"
    if status == "resolved" and decided.get("action") == "none" and document["outcome"] is None:
        return LEFT
    return status


def _names(incident: Incident) -> dict[str, Any]:
    """A failed run has no task, an import error no DAG: Airflow knows only its file."""
    task = incident.kind == "task"
    return {
        "dag_id": None if incident.kind == "import" else incident.dag_id,
        "run_id": None if incident.kind == "import" else incident.run_id,
        "task_id": incident.task_id if task else None,
        "map_index": incident.map_index if task else None,
        "try_number": incident.try_number if task else None,
    }


def _log_line(incident: Incident) -> int | None:
    """The number in Airflow's log of the line that the headline stands on."""
    line, numbers = incident.signature.line, incident.excerpt.numbers
    return numbers[line - 1] or None if line and line <= len(numbers) else None


def _detail(case: Case) -> str | None:
    """The newest word on what has become of it."""
    if case.claim is not None and case.claim.state == "acting":
        if case.claim.not_before is not None and not case.claim.progress:
            return f"{WAITS}{utc(case.claim.not_before)}"
        return case.claim.progress.get("waiting")
    return case.outcomes[-1].detail or None if case.outcomes else None


def plan_document(plan: Plan) -> dict[str, Any]:
    return {
        "action": plan.action,
        "params": dict(plan.params),
        "dag_id": plan.ref.dag_id,
        "run_id": plan.ref.run_id,
        "clears": [
            {
                "task_id": item.ref.task_id,
                "map_index": item.ref.map_index,
                "state": item.state,
                "try_number": item.try_number,
                "role": item.role,
            }
            for item in plan.clears
        ],
        "extra_tries": plan.extra_tries,
        "version_from": plan.version_from,
        "version_to": plan.version_to,
        "changes": [
            {
                "kind": change.kind,
                "name": change.name,
                "field": change.field,
                "old": change.old,
                "new": change.new,
            }
            for change in plan.changes
        ],
        "no_undo": plan.no_undo or None,
        "told": list(plan.told),
        "after": plan.after or None,
    }


def changes_of(document: Mapping[str, Any]) -> tuple[Change, ...]:
    """The changes of a plan as it was stored."""
    return tuple(Change(**one) for one in document.get("changes", ()))


def failure_document(failed: TaskInstance, instance: str, link: str) -> dict[str, Any]:
    """One row of `aiops failures`."""
    return {
        "instance": instance,
        "dag_id": failed.ref.dag_id,
        "run_id": failed.ref.run_id,
        "task_id": failed.ref.task_id,
        "map_index": failed.ref.map_index,
        "try_number": failed.try_number,
        "max_tries": failed.max_tries,
        "state": failed.state,
        "operator": failed.operator,
        "start_date": utc(failed.start_date),
        "end_date": utc(failed.end_date),
        "duration": None if failed.duration is None else round(failed.duration),
        "url": link,
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    return {
        "entry": entry.id,
        "kind": entry.kind,
        "source": entry.source,
        "title": entry.title,
        "symptoms": [symptom.text for symptom in entry.symptoms],
        "cause": entry.cause,
        "action": entry.action,
        "params": dict(entry.params),
        "explanation": entry.explanation,
        "safe_to_retry": entry.safe_to_retry,
        "suggestion_only": entry.suggestion_only,
        "dags": list(entry.dags),
        "tags": list(entry.tags),
        "edited": entry.edited,
        "owner": entry.owner,
        "retired": entry.retired,
        "created_at": utc(entry.created_at),
    }
