"""Published documents → Rich renderables. Never prints, never decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiops_cli import gate, impact
from aiops_cli.actions import DEFAULT_DELAY, lacks
from aiops_cli.published import LEFT, WAITING, WAITS, nothing_proposed, proposed_action, status_word
from aiops_cli.screen import Fitted, Trimmed, fields, local, one_line, plain, table
from knowledge.redact import clean

Document = Mapping[str, Any]
LABEL_WIDTH = 9
HEADLINE_LENGTH = 300  # some exceptions carry a whole query or answer; `aiops log` has it all
UNPROVEN = "re-run unproven"
WIDE = 100  # in a narrower window two texts of a line do not fit beside each other
NEAR_MISS = 0.1  # so little below the bound it may well be that: it is told what that would mean

STATUS_STYLE = {
    "pending": "yellow",
    "acting": "cyan",
    "resolved": "green",
    "failed": "red",
    "needs_human": "bold red",
    LEFT: "yellow",
}


def task_name(doc: Document) -> str:
    if doc["dag_id"] is None:  # a DAG file that cannot be imported, or a log without Airflow
        return str(doc["context"].get("file") or doc["context"].get("log"))
    if doc["task_id"] is None:
        return f"{doc['dag_id']} (run)"
    index = "" if doc["map_index"] == -1 else f"[{doc['map_index']}]"
    return f"{doc['dag_id']}.{doc['task_id']}{index}"


def header(instance: str, problems: Sequence[str], user: str, mode: str, now: str) -> Text:
    """Where one is: which Airflow and how it is, as whom one decides, and how auto stands."""
    health = f"Airflow unhealthy: {', '.join(problems)}" if problems else "Airflow healthy"
    clock = local(now, "%H:%M %z")
    return plain(f"{instance} · {clock} · {health} · you: {user} · auto: {mode}", "dim")


def incident_card(doc: Document, short: str) -> RenderableType:
    """One incident as a person reads it at night: what failed and its impact, what changed, what
    is known, what is proposed and why it may or may not happen alone, and the next keys."""
    return Group(incident_head(doc, short), incident_rest(doc, short))


def incident_head(doc: Document, short: str) -> RenderableType:
    """The part of the card that is known before any log is read."""
    name = plain(task_name(doc), "bold")
    head = name if doc["incident"] is None else Text.assemble((short, "bold cyan"), "  ", name)
    if doc["incident"] is not None:
        head.append("  FAILED", "bold red")
        head.append(f" {local(doc['failed_at'])}{_tries(doc)}")
    return Trimmed(Group(head, _grid(impact.lines(doc["context"]))))


def incident_rest(doc: Document, short: str) -> RenderableType:
    return Trimmed(_grid(_card_lines(doc, short)))


def _grid(lines: Sequence[tuple[str, RenderableType]]) -> Table:
    grid = Table.grid(padding=(0, 1), pad_edge=False)
    grid.add_column(width=LABEL_WIDTH - 1, no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for label, text in lines:
        grid.add_row(label, text)
    return grid


def _tries(doc: Document) -> str:
    most = doc["context"].get("max_tries")
    if doc["try_number"] is None:  # a run or a file
        return ""
    return f", try {doc['try_number']}" + (f" of {most + 1}" if isinstance(most, int) else "")


def _card_lines(doc: Document, short: str) -> list[tuple[str, Text]]:
    context = doc["context"]
    lines: list[tuple[str, Text]] = []
    what = doc["headline"] or "the log says nothing of an error"
    if len(what) > HEADLINE_LENGTH:
        what = what[:HEADLINE_LENGTH] + "…"
    where = f"  (log line {doc['line']})" if doc.get("line") else ""
    lines.append(("WHAT", plain(what + where)))
    if doc["raised_from"]:
        lines.append(("FROM", plain(doc["raised_from"])))
    if context.get("notice"):
        lines.append(("LOG", plain(context["notice"])))
    if context.get("source"):
        lines.append(("CODE", plain(f"line {context['line']}: {context['source']}")))
    elif doc["place"]:
        lines.append(("CODE", plain(doc["place"])))
    lines.append(("KNOWN", _known(doc)))
    opinion = (doc["diagnosis"] or {}).get("opinion")
    if opinion:
        lines.append(("MODEL", plain(_opinion(opinion, doc["diagnosis"]["action"]))))
    lines.extend(("NOTE", plain(f"{note['by']}: {note['text']}")) for note in doc["notes"])
    if doc["wrong"]:
        told = f"{doc['wrong']['by']} says it did harm: {doc['wrong']['reason']}"
        lines.append(("WRONG", plain(told, "bold red")))
    if doc["incident"] is None:
        return [*lines, *_proposal(doc)]
    if doc["status"] in WAITING:
        lines.extend(_proposal(doc))
    if doc.get("suggestion"):
        lines.append(("SUGGESTS", plain(_suggestion(doc["suggestion"]))))
    if doc["status"] != "pending" or doc["snoozed_until"]:
        lines.append(("STATUS", status_text(doc)))
    newer = context.get("newer_version")
    if doc["status"] in WAITING and newer:
        told = f"code v{newer} since it failed on v{context['version']}: approve {short}"
        lines.append(("NEWER", plain(f"{told} --action retry runs it on that")))
    if doc["status"] == "acting" and str(doc["detail"]).startswith(WAITS):
        lines.append(("NEXT", Text(f"undo {short} | log {short} | open {short}", "dim")))
    if doc["status"] in WAITING:
        action = proposed_action(doc)
        missing = " --action …" if doc["kind"] == "task" else " --action none --cause …"
        lacking = action and lacks(action, doc["diagnosis"]["params"])
        approve = f"approve {short}" + (" --set …" if lacking else "" if action else missing)
        keys = f"{approve} | reject {short} --reason … | log {short} | open {short}"
        lines.append(("NEXT", Text(keys, "dim")))
    return lines


def _known(doc: Document) -> Text:
    matches = doc["matches"]
    diagnosis = doc["diagnosis"] or {}
    if not matches:
        return plain("nothing like it")
    best = matches[0]
    if diagnosis.get("by") == "nobody":
        return _not_sure(best, doc["gate"])
    found = "exact" if best["found"] == "exact" else f"near {best['similarity']:.2f}"
    record = doc.get("evidence") or {}
    told = ", ".join(
        f"{name} {record[name]}"
        for name in ("fixed", "failed", "relapsed", "rejected")
        if record.get(name)
    )
    scope = {"task": "here", "dag": "in this DAG", "anywhere": "elsewhere"}.get(
        record.get("scope", ""), ""
    )
    proof = f"{best['action']} {told} {scope}".rstrip() if told else "no outcome on record yet"
    text = plain(f"{found}: {best['title']}; {proof}")
    text.append("\n")
    text.append(plain(f"{best['kind']} {best['source']}" + _edited(best), "dim"))
    return text


def _not_sure(best: Document, judged: Document) -> Text:
    """What is nearest, and what it would be if it is that, where little is missing."""
    bound = next(one["bound"] for one in judged["checks"] if one["name"] == "similarity")
    nearest, needed = gate.apart(best["similarity"], bound)
    if best["similarity"] < bound - NEAR_MISS:
        return plain(f"nothing like it; nearest {nearest}: {best['title']}")
    text = plain(f"not sure: nearest {nearest} (needs {needed}): {best['title']}")
    if best["cause"]:
        text.append("\n").append(plain(f"if it is that: {best['cause']}", "dim"))
    return text


def _opinion(opinion: Document, action: str | None) -> str:
    """What a model says of a near match."""
    if opinion["unheard"]:
        return f"{opinion['model']} not heard: {opinion['unheard']}"
    sure = f"({opinion['confidence']:.2f})"
    if opinion["action"] != action:
        return f"{opinion['model']} says {opinion['action']} {sure}: {opinion['cause']}"
    stand = "" if opinion["quotes_stand"] else ", but what it quotes is not in the log"
    return f"{opinion['model']} agrees {sure}{stand}: {opinion['cause']}"


def _suggestion(opinion: Document) -> str:
    """What a model makes of something new: nobody has proven any of it."""
    if opinion["unheard"]:
        return f"nothing: {opinion['model']} was not heard: {opinion['unheard']}"
    stand = "" if opinion["quotes_stand"] else "; what it quotes is not in the log"
    return (
        f"{opinion['action']}, says {opinion['model']} ({opinion['confidence']:.2f}), unproven: "
        f"{opinion['cause']}{stand}"
    )


def _edited(match: Document) -> str:
    return f", edited {match['edited']}" if match.get("edited") else ""


def _proposal(doc: Document) -> list[tuple[str, Text]]:
    diagnosis, gate = doc["diagnosis"], doc["gate"]
    if diagnosis is None or gate is None:
        return []
    lines = []
    if diagnosis["cause"]:
        lines.append(("CAUSE", plain(diagnosis["cause"])))
    if diagnosis["explanation"]:
        lines.append(("WHY", plain(diagnosis["explanation"])))
    lines.extend(("TRIED", plain(told)) for told in diagnosis.get("tried", ()))
    action = diagnosis["action"]
    checks = {check["name"]: check for check in gate["checks"]}
    rerun = checks["rerun_safe"]
    if action not in (None, "none") and doc["rerun"]:
        why = str(rerun["reason"]).removeprefix(f"{UNPROVEN}: ")
        said = f"safe: {doc['rerun']}" if rerun["passed"] else f"unproven: {why}"
        lines.append(("RE-RUN", plain(said)))
    lines.append(("PROPOSE", plain(_proposed(doc), "bold")))
    if doc["status"] == "pending":  # nothing is done alone of a log file, or a second time
        # What is new fails most checks: that it is new says it all. RE-RUN has said why not.
        reasons = gate["reasons"][:1] if doc["decision"] == "novel" else gate["reasons"]
        told = [UNPROVEN if reason == rerun["reason"] else reason for reason in reasons]
        lines.append(("ALONE", plain("yes" if gate["passed"] else f"no: {' · '.join(told)}")))
    return lines


def _proposed(doc: Document) -> str:
    action, context = doc["diagnosis"]["action"], doc["context"]
    if nothing := nothing_proposed(doc):
        return nothing
    said = doc["diagnosis"]["params"]
    if action == "retry_later":
        said = {"delay": DEFAULT_DELAY} | said
    if missing := lacks(action, said):
        return f"{action}: needs {' and '.join(missing)}"
    params = ", ".join(f"{name}={value}" for name, value in said.items())
    if doc["diagnosis"].get("delay_from"):
        params += f": {doc['diagnosis']['delay_from']}"
    task = f" {doc['task_id']}" if doc["task_id"] else ""
    text = f"{action}{task}" + (f" ({params})" if params else "")
    blocked = context.get("blocked")
    if blocked:
        text += f", then the {len(blocked)} it blocks"
    elif context.get("blocks") and blocked is None:  # as in impact
        text += ", then what it blocks"
    if context.get("retries") is not None:
        text += f"; grants {_count(context['retries'] + 1, 'more try', 'more tries')}"
    return text


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def status_text(doc: Document) -> Text:
    word = status_word(doc)
    text = Text(word, STATUS_STYLE.get(word, ""))
    decided = doc.get("decided")
    parts = []
    if decided:
        action, by = decided["action"], decided["by"]
        said_so = {
            "approve": f"{action} approved by {by}",
            "auto": f"{action}, done alone",
            "reject": f"{action} turned down by {by}" if action else f"by {by}",
            "shadow": f"would have done {action}",
        }
        if decided.get("undone"):
            said_so["reject"] = f"{by} put back what {action} had changed"
        parts.extend([said_so[decided["kind"]]] if decided["kind"] in said_so else [])
    if doc["outcome"] not in (None, doc["status"]):
        parts.append(str(doc["outcome"]))
    if doc.get("snoozed_until"):
        parts.append(f"left until {local(doc['snoozed_until'])}")
    said = doc.get("detail") or (decided or {}).get("reason")
    if decided and decided.get("undone"):
        said = decided["reason"].removeprefix("undone").removeprefix(": ")
    if said and str(said).startswith(WAITS):
        said = WAITS + local(str(said).removeprefix(WAITS))
    if said:
        parts.append(str(said))
    if parts:
        text.append(" · ")
        text.append(plain(" · ".join(parts)))
    return text


def hold_line(doc: Document) -> Text:
    """A hold on one line."""
    until = f"until {local(doc['until'])}" if doc["until"] else "until released"
    ended = " (ended)" if doc["ended_at"] else ""
    text = Text.assemble((doc["hold"], "cyan"), "  ", plain(doc["target"], "bold"))
    why = f": {doc['reason']}" if doc["reason"] else ""
    return text.append(plain(f"  held by {doc['by']} {until}{ended}{why}"))


def incident_line(doc: Document, short: str, *, reasons: bool = True) -> Text:
    """One incident on one line, for a stream of them; with what stands against acting alone."""
    text = Text.assemble((short, "cyan"), f"  {local(doc['failed_at'])}  ")
    text.append(plain(task_name(doc), "bold"))
    text.append("  ")
    text.append(status_text(doc))
    if doc["status"] == "pending" and doc["gate"]:
        text.append(f" · {doc['decision']}", "yellow")
        text.append(plain(f" · {doc['headline'] or 'no error in the log'}"))
        if action := proposed_action(doc):
            text.append(plain(f" → {action}"))
        if reasons and doc["decision"] not in ("novel", "auto"):
            text.append(plain(f" ({'; '.join(doc['gate']['reasons'])})", "dim"))
    return text


def excerpt_text(text: str, numbers: Sequence[int], mark: int | None) -> Text:
    """A log excerpt with the log's line numbers, or without where there are none; `mark` is the
    headline's line of the excerpt."""
    width = len(str(max(numbers, default=0)))
    shown = Text()
    for index, line in enumerate(text.split("\n")):
        style = "bold" if index + 1 == mark else ""
        if numbers:
            number = numbers[index] if index < len(numbers) else 0
            shown.append(f"{number or '':>{width}} ", "dim")
        shown.append(clean(line), style)
        shown.append("\n")
    shown.right_crop(1)
    return shown


def entry_table(docs: Sequence[Document]) -> RenderableType:
    """In a narrow window the source stands below the title, for neither would be readable."""
    scored = any("similarity" in doc for doc in docs)
    sources = [doc["source"] + (" (retired)" if doc.get("retired") else "") for doc in docs]

    def lay_out(width: int) -> RenderableType:
        wide = width >= WIDE
        rows = table(
            *("ENTRY", *(["SIM"] if scored else []), "ACTION", "TITLE"),
            *(["SOURCE"] if wide else []),
            narrow=("TITLE", "SOURCE"),
        )
        for doc, source in zip(docs, sources, strict=True):
            rows.add_row(
                Text(doc["entry"], "cyan"),
                *([f"{doc['similarity']:.2f}"] if scored else []),
                plain(doc["action"] or "?"),
                one_line(doc["title"]),
                *([one_line(source)] if wide else []),
            )
        below = [] if wide else [one_line(f"      {source}", "dim") for source in sources]
        return Trimmed(rows, below)

    return Fitted(lay_out)


def entry_card(doc: Document) -> RenderableType:
    """One entry, with what came of its action."""
    record = ", ".join(f"{name} {count}" for name, count in doc["record"].items() if count)
    safe = {True: "yes", False: "no", None: "nobody has said so"}[doc["safe_to_retry"]]
    rows: list[tuple[str, object]] = [
        ("entry", f"{doc['entry']}  {doc['title']}" + ("  (retired)" if doc["retired"] else "")),
        ("source", f"{doc['kind']} {doc['source']}" + _edited(doc)),
        ("cause", doc["cause"]),
        ("action", doc["action"] or "not known"),
        ("record", record or "no outcome yet"),
        ("safe to retry", safe),
    ]
    if doc["params"]:
        rows.append(("params", ", ".join(f"{k}={v}" for k, v in doc["params"].items())))
    if doc["explanation"]:
        rows.append(("why", doc["explanation"]))
    if doc["dags"]:
        rows.append(("dags", ", ".join(doc["dags"])))
    rows.extend(("symptom", symptom) for symptom in doc["symptoms"])
    return fields(rows)


def check_table(rows: Sequence[tuple[str, str, str, str]]) -> RenderableType:
    """Doctor's findings: (mark, name, what was found, what to do)."""
    grid = Table.grid(padding=(0, 1), pad_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    style = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for mark, name, found, todo in rows:
        text = plain(found)
        if todo:
            text.append("\n→ ")
            text.append(plain(todo))
        grid.add_row(Text(mark, style.get(mark, "")), name, text)
    return Trimmed(grid)
