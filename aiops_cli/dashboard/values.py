"""Documents and records → the words and figures that a page shows. Pure."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console, RenderableType

from aiops_cli import groups, impact
from aiops_cli.incidents import Plan
from aiops_cli.published import (
    WAITING,
    incident_document,
    plan_document,
    proposed_action,
    spoken_against,
    status_word,
    utc,
)
from aiops_cli.render import status_text
from aiops_cli.render import task_name as task_name
from aiops_cli.render_plan import plan_text
from aiops_cli.report_value import Day, Failure, Report, what_came_of
from aiops_cli.screen import local, plain, span
from aiops_cli.storms import Storm, told
from knowledge.records import Brief, Case, Entry, Hold, Line, Match, Pause

Document = Mapping[str, Any]

# A colour in a list: waits for a yes, waits for somebody to find out, went wrong, ended well, the
# rest.
Tone = Literal["ask", "unknown", "bad", "good", "quiet"]

NO_ERROR = "no error in the log"
LISTED = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One incident, or one storm, in a list."""

    id: str
    name: str
    what: str
    told: str
    tone: Tone


def row(case: Case, short: str, holds: Sequence[Hold] = ()) -> Row:
    doc = incident_document(case)
    told = [
        where(doc) + short,
        local(doc["failed_at"], "%m-%d %H:%M %z"),
        *filter(None, [held(holds)]),
        _proposes(doc) if doc["status"] == "pending" else status(doc),
    ]
    name, tone = one_line(task_name(doc)), _tone(doc)
    return Row(case.incident.id, name, what(doc), " · ".join(told), tone)


def _proposes(doc: Document) -> str:
    action = proposed_action(doc)
    if spoken_against(doc):
        return "proposes nothing"
    if action is None:
        return "nothing is known of it"
    return does(action)


def does(action: str) -> str:
    """What an answer says is to be done, in a few words."""
    return "a person must fix it" if action == "none" else f"proposes {action}"


def _tone(doc: Document) -> Tone:
    if doc["status"] == "pending":
        return "unknown" if proposed_action(doc) in (None, "none") else "ask"
    tones: dict[str, Tone] = {"failed": "bad", "needs_human": "bad", "resolved": "good"}
    return tones.get(doc["status"], "quiet")


def storm_row(line: Line, short: str) -> Row:
    """A group whose newest failure stands for all."""
    incident = line.case.incident
    doc = incident_document(line.case)
    shared = groups.title(incident.group_key) or what(doc)
    newest = f"the newest is {task_name(doc)}, {local(doc['failed_at'], '%m-%d %H:%M %z')}"
    name = f"{line.count} failures together"
    told = one_line(f"{short} · {newest}")
    return Row(str(incident.group), name, one_line(shared), told, "bad")


def storm_told(storm: Storm) -> str:
    first, last = local(storm.first_failed), local(storm.last_failed)
    when = first if first == last else f"{first} to {last}"
    return one_line(f"{storm.size} · {when} · proposes {told(storm.actions)}")


def where(doc: Document) -> str:
    """Which Airflow, where it has been given a name."""
    return "" if doc["instance"] == "default" else f"{doc['instance']} · "


def what(doc: Document) -> str:
    return one_line(doc["headline"] or NO_ERROR)


def one_line(text: str) -> str:
    """Without line breaks and control characters."""
    return plain(text).plain


def facts(doc: Document) -> list[tuple[str, str]]:
    """(label, sentence) of what is known before any log is read: impact, changes, history."""
    return [(label.capitalize(), line.plain) for label, line in impact.lines(doc["context"])]


def log_lines(case: Case) -> str:
    """The excerpt with the numbers that its lines have in Airflow."""
    excerpt = case.incident.excerpt
    lines = excerpt.text.split("\n")
    numbers = [*excerpt.numbers, *([0] * len(lines))]
    width = len(str(max(excerpt.numbers, default=0)))
    return "\n".join(
        f"{number or '':>{width}}  {line}" for number, line in zip(numbers, lines, strict=False)
    )


def diagnosed(doc: Document) -> list[tuple[str, str]]:
    """(label, sentence) of what it is, by whose word and how sure."""
    diagnosis = doc["diagnosis"]
    if diagnosis is None:
        return [("Diagnosis", "none yet: aiops watch makes it")]
    by = {
        "exact": "the very same failure is known",
        "near": "a similar failure is known",
        "model": "a language model says so",
        "nobody": "nothing like it is known",
    }[diagnosis["by"]]
    sure = diagnosis["confidence"]
    told = [
        ("Cause", diagnosis["cause"] or "not known"),
        ("Why", diagnosis["explanation"] or ""),
        ("Confidence", by if sure is None else f"{sure:.2f}: {by}"),
    ]
    record = doc["evidence"] or {}
    counted = [
        f"{name} {record[name]}"
        for name in ("fixed", "failed", "relapsed", "rejected")
        if record.get(name)
    ]
    if counted:
        where = {"task": "on this task", "dag": "in this DAG", "anywhere": "elsewhere"}
        told.append(("Record", f"{', '.join(counted)} {where.get(record['scope'], '')}".strip()))
    opinion = diagnosis.get("opinion")
    if opinion:
        said = opinion["unheard"] or f"{opinion['action']}: {opinion['cause']}"
        told.append(("Model", f"{opinion['model']}: {said}"))
    told += [("Note", f"{note['by']}: {note['text']}") for note in doc["notes"]]
    return [(label, text) for label, text in told if text]


def not_alone(doc: Document) -> list[str]:
    """Why it is not done without a person."""
    gate = doc["gate"]
    return [] if gate is None else [str(reason) for reason in gate["reasons"]]


def not_alone_of(docs: Sequence[Document]) -> str:
    """As `not_alone`, of several: a reason a line, with how many have it where not all do."""
    counted = Counter(reason for doc in docs for reason in not_alone(doc))
    return "\n".join(
        f"– {reason}" + (f" ({count} of {len(docs)})" if count < len(docs) else "")
        for reason, count in counted.most_common(LISTED)
    )


def checks(doc: Document) -> list[dict[str, str]]:
    """Every check of the gate, as a table."""
    return [
        {
            "check": one["name"].replace("_", " "),
            "passed": "yes" if one["passed"] else "no",
            "value": _figure(one["value"]),
            "bound": _figure(one["bound"]),
            "why": one["reason"] or "",
        }
        for one in (doc["gate"] or {}).get("checks", ())
    ]


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else str(value)


def matches(doc: Document) -> list[dict[str, str]]:
    return [
        {
            "similarity": "same" if one["found"] == "exact" else f"{one['similarity']:.2f}",
            "title": one["title"],
            "action": one["action"] or "?",
            "from": f"{one['kind']} {one['source']}",
        }
        for one in doc["matches"]
    ]


def plan_words(plan: Plan | Document | None) -> str:
    """What the command line shows before it asks."""
    if plan is None:
        return "nothing is run again: a person fixes the cause"
    return as_plain(plan_text(plan_document(plan) if isinstance(plan, Plan) else plan))


def standing(case: Case) -> str:
    """When it failed and how it stands, in a line."""
    doc = incident_document(case)
    tried = "" if doc["try_number"] is None else f"try {doc['try_number']} · "
    return one_line(f"{where(doc)}{tried}failed {local(doc['failed_at'])} · {status(doc)}")


def status(doc: Document) -> str:
    """How it stands, and by whose doing."""
    waits_for = {"pending": "waits for a person", "needs_human": "needs a person: look in Airflow"}
    told = one_line(status_text(doc).plain)
    word = status_word(doc)
    return waits_for.get(word, word) + told.removeprefix(word)


def as_plain(shown: RenderableType) -> str:
    """The words alone; the page breaks the lines."""
    out = io.StringIO()
    Console(file=out, width=2000, no_color=True, highlight=False).print(shown)
    return out.getvalue().rstrip("\n")


def waits(doc: Document) -> bool:
    return doc["status"] in WAITING


def held(holds: Sequence[Hold]) -> str:
    """Whose hands are in there, and until when; "" where nobody's are."""
    told = []
    for one in holds:
        until = f" until {local(utc(one.until))}" if one.until else ""
        told.append(f"held by {one.by}{until}" + (f": {one.reason}" if one.reason else ""))
    return one_line("; ".join(told))


def paused(pause: Pause) -> str:
    """That nothing is done alone now, and by whose word; "" where grants hold."""
    if not pause.paused:
        return ""
    why = f": {pause.reason}" if pause.reason else ""
    return one_line(f"paused by {pause.by}{why} · nothing is done alone; a yes here still counts")


def state(case: Case, holds: Sequence[Hold]) -> tuple[object, ...]:
    """What people and Airflow have said of it: a yes to what was shown before any of it changed is
    no yes to it now."""
    decision = case.decision.seq if case.decision else None
    harm = case.harm.at if case.harm else None
    return (
        *(case.incident.id, case.status, case.outcome, decision, harm),
        *(len(case.remarks), len(case.outcomes), case.snoozed_until),
        *(one.id for one in holds),
    )


def looks(case: Case, holds: Sequence[Hold]) -> tuple[object, ...]:
    """What makes a page that shows this case another one: its state, and what is thought of it."""
    document = case.judgement.document if case.judgement else {}
    gate = document.get("gate") or {}
    return (*state(case, holds), document.get("diagnosis"), gate.get("reasons"))


# ---- overview ----


def share_alone(days: Sequence[Day]) -> list[dict[str, object]]:
    """Per day of UTC, without its year, the percentage that was resolved alone; None on a day
    without a failure."""
    return [
        {
            "day": one.day[5:],
            "resolved alone": one.alone,
            "others": one.count - one.alone,
            "share alone %": round(100 * one.alone / one.count, 1) if one.count else None,
        }
        for one in days
    ]


def error_classes(briefs: Iterable[Brief]) -> list[dict[str, object]]:
    counted = Counter(one.error_class or "not named" for one in briefs)
    return [{"error": name, "failures": n} for name, n in counted.most_common(LISTED)]


def clusters(failures: Sequence[Failure]) -> list[Row]:
    """What keeps failing: a row each, which is that of the newest incident."""
    rows = []
    for one in failures:
        where = one.task if one.tasks == 1 else f"{one.task} and {one.tasks - 1} more"
        done = "; ".join(what_came_of(**asdict(fix)) for fix in one.fixes) or "nothing was done yet"
        name = one_line(f"{one.count} × {one.headline or NO_ERROR}")
        told = one_line(f"{where} · last seen {local(utc(one.last_seen))}")
        rows.append(Row(one.incident, name, one_line(done), told, "quiet"))
    return rows


def worst_dags(report: Report) -> list[dict[str, object]]:
    return [
        {
            "DAG": one.dag_id,
            "failures": one.count,
            "failed runs": one.failed_runs,
            "lost": span(one.lost),
        }
        for one in report.dags[:LISTED]
    ]


def times(report: Report) -> list[dict[str, object]]:
    several = (
        ("to retry, alone", report.times.retry_alone),
        ("to retry, by people", report.times.retry_people),
        ("until fixed, alone", report.times.fix_alone),
        ("until fixed, by people", report.times.fix_people),
    )
    return [
        {
            "time": name,
            "median": "–" if one.median is None else span(one.median),
            "90% within": "–" if one.p90 is None else span(one.p90),
            "of": one.count,
        }
        for name, one in several
    ]


def wrong_acts(report: Report) -> list[Row]:
    """Acts that somebody called wrong, and why."""
    return [
        Row(
            one.incident,
            one_line(f"{one.action} of {one.dag_id}.{one.task_id}"),
            one_line(one.reason),
            one_line(
                f"{'done alone' if one.alone else 'done by a person'} · "
                f"called wrong by {one.by}, {local(utc(one.at))}"
            ),
            "bad",
        )
        for one in report.wrong
    ]


# ---- knowledge ----


def entry_told(entry: Entry) -> str:
    known = does(entry.action) if entry.action else "no action is known"
    parts = [entry.kind, entry.source, known]
    return " · ".join([*parts, *(["retired"] if entry.retired else [])])


def match_told(match: Match) -> str:
    found = "the very same" if match.found == "exact" else f"similarity {match.similarity:.2f}"
    return f"{found} · {entry_told(match.entry)}"


def record_told(record: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in record.items() if count) or (
        "no outcome on record yet"
    )
