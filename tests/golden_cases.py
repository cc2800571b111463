"""What the golden files show: one function a case, made of real judgements and documents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from aiops_cli import gate, listings, live, render
from aiops_cli.incidents import MASK, Change, Plan, PlannedClear, TaskRef
from aiops_cli.listings import told_together
from aiops_cli.published import (
    entry_document,
    failure_document,
    incident_document,
    judgement_document,
    plan_document,
    utc,
)
from aiops_cli.render_plan import plan_text
from aiops_cli.storms import Storm
from aiops_cli.tally import Lately, Tally, told
from knowledge.records import (
    Case,
    Decision,
    Evidence,
    Excerpt,
    Incident,
    Judgement,
    Outcome,
    Status,
    Symptom,
)
from tests.builders import (
    NOW,
    circumstances,
    diagnosis,
    entry,
    incident,
    match,
    signature,
    task_instance,
)

RUN = "scheduled__2026-03-01"
LONG_DAG = "warehouse_" + "very_" * 37 + "long"  # Airflow takes up to 250 characters
HOSTILE = (
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J [red]x[/] [link=http://evil]y[/link] :bomb: \r\n"
    "💥 失敗しました שגיאה \u202egnp.exe\u202c \x00\x08\u200b tab\there"
)
CONTEXT = {
    "max_tries": 3,
    "run_type": "scheduled",
    "run_after": "2026-03-01T01:00:00.000Z",
    "version": 42,
    "owners": ["payments", "airflow"],
    "blocks": ["audit", "mail", "publish"],
    "blocked": ["audit", "publish"],  # as Airflow says when the card is shown
    "retries": 3,
    "url": "http://airflow.example/dags/…",
}
CHANGED = {
    "last_success": "2026-02-28T02:00:00.000Z",
    "changed": [
        "DAG version v41 → v42",
        "connection orders_db edited 2026-02-28 02:51Z by dba-team",
    ],
    "earlier": ["success"],
}


def judged(
    about: Incident | None = None,
    status: Status = "pending",
    *,
    changed: bool = True,
    decision: Decision | None = None,
    outcome: Outcome | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The document of an incident, judged by the real gate in circumstances made of `fields`."""
    about = about or incident(context=CONTEXT)
    around = circumstances(incident=about, **fields)
    judgement = judgement_document(
        around.diagnosis, gate.judge(around), evidence=around.evidence, rerun=around.rerun.why
    )
    case = Case(
        about,
        status,
        outcome.outcome if outcome else None,
        Judgement(about.id, NOW, judgement),
        decision,
        (outcome,) if outcome else (),
    )
    document = incident_document(case)
    if changed:
        document["context"] = {**document["context"], **CHANGED}
    return document


def card(document: dict[str, Any]) -> RenderableType:
    return render.incident_card(document, "k3f9")


def nobody(**fields: Any) -> dict[str, Any]:
    unknown = diagnosis(action=None, cause="", by="nobody", confidence=None, **fields)
    return {"diagnosis": unknown, "evidence": Evidence("none"), "rerun": UNPROVEN, "grants": ()}


AT_212 = Excerpt("the line of the headline", (212,), 300)
UNPROVEN = gate.RerunSafety(False, "nobody has said that load may run twice")
PERSON = Decision("k3f9q2m7xa", "approve", NOW, "ana", "retry", cause="nightly restart", seq=1)
ALONE = replace(PERSON, kind="auto", by="cron", grant="grant00001")


def outcome(name: Any, detail: str = "") -> Outcome:
    return Outcome("k3f9q2m7xa", 1, NOW, name, detail, 2)


def novel() -> RenderableType:
    return card(
        judged(**nobody(matches=())) | {"context": CONTEXT | {"last_success": None, "changed": []}}
    )


def novel_near_miss() -> RenderableType:
    return card(judged(**nobody(matches=(match("retry", 0.71),))))


def not_sure() -> RenderableType:
    """Hardly below the bound: as many digits as tell the two apart."""
    return card(judged(**nobody(matches=(match("retry", 0.9284),))))


def no_action_named() -> RenderableType:
    """A page of one's own that only explains."""
    page = match(None, title="dim_customer is empty", cause="", source="wiki/dims.md:4")
    known = diagnosis(action=None, cause="", matches=(page,))
    return card(judged(diagnosis=known, evidence=Evidence("none")))


def lacking() -> RenderableType:
    known = diagnosis(action="update_connection", matches=(match("update_connection"),))
    return card(judged(diagnosis=known, evidence=Evidence("none"), rerun=UNPROVEN))


def waiting_for_its_time() -> RenderableType:
    later = replace(PERSON, action="retry_later")
    told = {"detail": "waits until 2026-03-01T04:15:30.564Z"}
    return card(judged(status="acting", decision=later) | told)


def raised_from() -> RenderableType:
    said = {
        "headline": "ValueError: the currencies cannot be read",
        "raised_from": "KeyError: 'currency'",
        "place": "/opt/airflow/dags/finance/rates.py:40 in load",
    }
    return card(judged(**nobody(matches=())) | said)


def near() -> RenderableType:
    found = match(
        "retry",
        0.94,
        edited="2024-02",
        explanation="The database is restarted at 03:00 and is back within two minutes.",
    )
    best = diagnosis(
        by="near", confidence=0.94, matches=(found,), explanation=found.entry.explanation
    )
    return card(judged(diagnosis=best, evidence=Evidence("none"), rerun=UNPROVEN, grants=()))


def exact_with_record() -> RenderableType:
    record = Evidence("task", fixed=3, relapsed=1)
    return card(judged(evidence=record))


def exact_none() -> RenderableType:
    found = match(
        "none", title="The partner sends rows without a price", kind="incident", source="m2q7ab3kdz"
    )
    known = diagnosis(
        action="none",
        cause="the partner sends rows without a price: ask their desk",
        matches=(found,),
    )
    broken = incident(
        context=CONTEXT, excerpt=AT_212, signature=signature("KeyError: 'unit_price'", line=1)
    )
    return card(judged(broken, diagnosis=known, evidence=Evidence("none"), changed=False))


def blocked() -> RenderableType:
    turned_down = Evidence("task", rejected=1, contradicted="ben rejected retry here on 2026-02-20")
    said_no = gate.RerunSafety(False, "ben said no on 2026-02-20 (it pays twice)", denied=True)
    return card(judged(evidence=turned_down, rerun=said_no))


def mapped() -> RenderableType:
    return card(
        judged(
            incident(map_index=7, task_id="count", context=CONTEXT | {"blocks": [], "blocked": []})
        )
    )


def killed() -> RenderableType:
    text = "task killed: return code -9 (SIGKILL)"
    lost = incident(
        context=CONTEXT,
        signature=signature("Killed: exit -9", headline=text, error_class="Killed"),
        excerpt=Excerpt(text, (0,), 1, notice="the worker's log is gone"),
    )
    pair = gate.RerunSafety(True, "ana approved this task and failure on 2026-02-01")
    return card(judged(lost, killed=True, rerun=pair))


def silent() -> RenderableType:
    quiet = incident(
        signature=signature("", headline="", error_class="", fingerprint=""), context={}
    )
    return card(judged(quiet, changed=False, **nobody(matches=())))


def acting() -> RenderableType:
    return card(judged(status="acting", decision=PERSON))


def resolved() -> RenderableType:
    return card(judged(status="resolved", decision=ALONE, outcome=outcome("fixed")))


def relapsed() -> RenderableType:
    came_back = outcome("relapsed", "the same failure came back: m2q7ab3kdz")
    return card(judged(status="failed", decision=PERSON, outcome=came_back))


def superseded() -> RenderableType:
    why = "somebody else has run it again (now running)"
    gone = Decision("k3f9q2m7xa", "superseded", NOW, "airflow", reason=why)
    return card(judged(status="superseded", decision=gone))


def rejected() -> RenderableType:
    no = replace(PERSON, kind="reject", reason="it would pay the suppliers twice")
    return card(judged(status="rejected", decision=no))


def needs_human() -> RenderableType:
    cut = outcome("unknown", "stopped between the decision and the act: look at it in Airflow")
    return card(judged(status="needs_human", decision=ALONE, outcome=cut))


def shadow() -> RenderableType:
    would = replace(PERSON, kind="shadow")
    return card(judged(decision=would, grants=()))


def log_file() -> RenderableType:
    absent = ("incident", "instance", "dag_id", "run_id", "task_id", "map_index", "try_number")
    log = {"log": "/tmp/attempt=1.log"}
    about = incident(context=log, excerpt=AT_212, signature=signature(line=1))
    document = judged(about, changed=False, live=None, evidence=Evidence("none"))
    return card(document | dict.fromkeys((*absent, "status")) | {"rerun": ""})


def hostile() -> RenderableType:
    about = incident(
        dag_id=LONG_DAG,
        task_id="load[red]",
        context=CONTEXT | {"owners": [HOSTILE], "blocked": [f"task_{n}" for n in range(40)]},
        excerpt=AT_212,
        signature=signature(HOSTILE + " " + "x" * 5000, line=1),
    )
    found = match("retry", title=HOSTILE, source=HOSTILE, edited="[b]now[/b]")
    best = diagnosis(
        cause=HOSTILE, explanation=HOSTILE, matches=(found,), params={"delay": "[blink]1m"}
    )
    document = judged(about, diagnosis=best)
    document["context"] |= {"changed": [HOSTILE], "notice": HOSTILE}
    return card(document)


def queue() -> RenderableType:
    documents = [
        judged(),
        judged(incident(task_id="count", map_index=7), "acting", decision=PERSON),
        judged(
            incident(task_id="publish"),
            "resolved",
            decision=replace(PERSON, action="retry_later"),
            outcome=outcome("fixed"),
        ),
        judged(incident(dag_id="sales"), "failed", decision=ALONE, outcome=outcome("relapsed")),
        judged(incident(dag_id="broken"), "resolved", decision=replace(PERSON, action="none")),
        judged(incident(dag_id="rerun"), "superseded", outcome=outcome("superseded")),
        judged(incident(dag_id="rates"), **nobody(matches=())),
        judged(incident(dag_id="lost"), "needs_human", outcome=outcome("unknown")),
        judged(incident(dag_id=LONG_DAG, signature=signature(HOSTILE + "y" * 5000))),
    ]
    short = {doc["incident"]: doc["incident"][:4] for doc in documents}
    return listings.incident_table(documents, short)


def _storm() -> list[dict[str, Any]]:
    """Twelve that cannot reach one vendor, one of them mended already."""
    shared: dict[str, Any] = {"group": "s7storm234", "group_key": "host:api.vendor.example:443"}
    several = [
        incident(
            dag_id=f"prices_{number % 4}",
            task_id=f"get_{number}",
            failed_at=NOW - timedelta(minutes=number),
            **shared,
        )
        for number in range(12)
    ]
    last = judged(several[-1], "resolved", decision=PERSON, outcome=outcome("fixed"))
    unknown = [judged(one, **nobody(matches=())) for one in several[:2]]
    return [*unknown, *map(judged, several[2:-1]), last]


def storm() -> RenderableType:
    documents = [*_storm(), judged(incident(dag_id="sales"))]
    short = {doc["incident"]: doc["incident"][:4] for doc in documents}
    return listings.incident_table(documents, short | {"s7storm234": "s7st"})


def storm_whole() -> RenderableType:
    documents = _storm()
    short = {doc["incident"]: doc["incident"][:4] for doc in documents}
    return listings.storm_card(Storm(tuple(documents)), short | {"s7storm234": "s7st"})


def failures() -> RenderableType:
    rows = [
        task_instance(end_date=NOW, operator="@task", try_number=4, max_tries=3, duration=3.2),
        task_instance(
            ref=TaskRef("sales", "manual__2026-03-01T00:00:00+00:00", "count", 7),
            end_date=NOW - timedelta(minutes=7),
            operator="PythonOperator",
        ),
        task_instance(ref=TaskRef(LONG_DAG, HOSTILE, "load"), end_date=NOW, operator=HOSTILE),
        task_instance(end_date=None, operator=None),
    ]
    return listings.failure_table([failure_document(row, "prod", "http://a/") for row in rows])


def clears(*below: TaskRef) -> tuple[PlannedClear, ...]:
    own = PlannedClear(TaskRef("orders_etl", RUN, "load"), "failed", 4, "a", "task")
    blocked = [PlannedClear(ref, "upstream_failed", 0, "b", "downstream") for ref in below]
    return own, *blocked


def planned(tries: int, version: int, *below: TaskRef) -> RenderableType:
    ref = TaskRef("orders_etl", RUN, "load")
    made = Plan("retry", ref, {}, clears(*below), tries, version_from=42, version_to=version)
    return plan_text(plan_document(made))


def plan() -> RenderableType:
    mails = (TaskRef("orders_etl", RUN, "mail", n) for n in range(3))
    return planned(4, 43, TaskRef("orders_etl", RUN, "publish"), *mails)


def plan_alone() -> RenderableType:
    return planned(1, 42)


def plan_later() -> RenderableType:
    """It does not run at once, and needs somebody to watch."""
    made = Plan("retry_later", TaskRef("orders_etl", RUN, "load"), {}, clears(), 1)
    own = Plan("retry_later", TaskRef("orders_etl", RUN, "load"), {"delay": "1h"}, clears(), 1)
    plans = (plan_text(plan_document(one)) for one in (made, own))
    return Group(*plans)


def later() -> RenderableType:
    found = match("retry_later", 0.94)
    best = diagnosis(action="retry_later", by="near", confidence=0.94, matches=(found,))
    return card(judged(diagnosis=best, evidence=Evidence("none")))


def plan_changes() -> RenderableType:
    """A connection, what Airflow hides, an upstream that runs anew, another DAG, a mark."""
    ref = TaskRef("orders_etl", RUN, "load")

    def connection(field: str, old: object, new: object) -> Change:
        return Change("connection", "orders_db", field, old, new)

    moved = connection("host", "db1.example.com", "db2.example.com"), connection("port", None, 5433)
    hidden = (connection("extra.options", MASK, "-c statement_timeout=0"),)
    long = Change("variable", "batch", "value", "x" * 500, HOSTILE)
    run = Change("dag run", "load_prices", "aiops__k3f9q2m7xa", None, {"day": "2026-01-31"})
    xcom = Change("xcom", "extract", "rows", "there", None)
    above = PlannedClear(replace(ref, task_id="extract"), "success", 1, "u", "upstream")
    told = ("asset prices of vendor.fetch was written 2026-11-22 03:20 UTC, after it was read",)
    plans = (
        Plan("update_connection", ref, {}, clears(replace(ref, task_id="x")), 1, changes=moved),
        Plan("update_connection", ref, {}, clears(), 1, changes=hidden, no_undo="it is hidden"),
        Plan("set_variable", ref, {}, clears(), 1, changes=(long,)),
        Plan("retry_upstream", ref, {}, (above, *clears()), 3, told=told),
        Plan("clear_xcom", ref, {}, (above, *clears()), 1, changes=(xcom,), no_undo="not kept"),
        Plan("trigger_dag", ref, {}, clears(), 1, changes=(run,), no_undo="it runs"),
        Plan(
            "mark_success",
            ref,
            changes=(Change("state", str(ref), "state", "failed", "success"),),
            no_undo="it counts as done",
        ),
    )
    return Group(*(plan_text(plan_document(one)) for one in plans))


def excerpt() -> RenderableType:
    text = "[INFO] start\n… 97 lines left out …\nTraceback (most recent call last):\n"
    text += f'  File "orders.py", line 13, in load\n{HOSTILE}\n{"z" * 5000}'
    return render.excerpt_text(text, (1, 0, 99, 99, 100, 101, 1204), 5)


def entries() -> RenderableType:
    known = [
        entry_document(entry("retry")),
        entry_document(
            entry(
                "none",
                id="entry-x",
                source="runbooks/very/deep/folder/of/the/data/team/orders.md:40",
                retired=True,
            )
        ),
        entry_document(entry(None, id="entry-y", title=HOSTILE)),
    ]
    return render.entry_table(known)


def findings() -> RenderableType:
    """More entries than are shown, and titles that nobody should trust."""
    known = [
        {"entry": f"entry{number:05}", "title": HOSTILE, "source": "orders.yaml:4", "action": None}
        for number in range(10)
    ]
    pair = {
        "kind": "contradiction",
        "what": "2 entries answer one failure differently: retry against none",
        "why": "nothing is done alone about it while they disagree, and a person is told one",
        "todo": "keep what is true, or give them DAGs that do not overlap",
        "commands": ['aiops kb retire entry00001 --reason "entry00000 is right"'],
        "entries": known[:2],
    }
    many = {**pair, "kind": "never_matched", "what": f"10 of {HOSTILE}", "entries": known}
    return listings.finding_list([pair, many])


def search() -> RenderableType:
    return render.entry_table(
        [entry_document(entry("retry")) | {"similarity": 0.9312, "found": "near"}]
    )


def entry_whole() -> RenderableType:
    whole = entry(
        "retry_later",
        params={"delay": "15m"},
        explanation="It comes back by itself; if it does not, page the DBA on duty.",
        safe_to_retry=True,
        dags=("orders_*", "sales"),
        edited="2024-02",
        symptoms=(
            Symptom("ConnectionRefusedError: [Errno 111]", signature()),
            Symptom(HOSTILE, signature()),
        ),
    )
    return render.entry_card(
        entry_document(whole) | {"record": {"fixed": 3, "failed": 0, "relapsed": 1}}
    )


def doctor() -> RenderableType:
    return render.check_table(
        [
            ("ok", "airflow", "prod: 3.3.2 at https://airflow.example.com", ""),
            ("warn", "rights", "may not clear task instances", "needed for: retry, approve"),
            (
                "fail",
                "knowledge base",
                f"knowledge base /home/ana/{'deep/' * 20}knowledge.db is damaged",
                "restore a copy (knowledge.db.bak-1), or move it away and seed anew",
            ),
            ("warn", "settings", HOSTILE, ""),
        ]
    )


def header() -> RenderableType:
    return render.header("prod", [], "ana", "shadow", str(utc(NOW)))


def header_unhealthy() -> RenderableType:
    return render.header("prod", ["scheduler", "triggerer"], "ana", "paused", str(utc(NOW)))


def watch_lines() -> RenderableType:
    documents = [
        judged(),
        judged(grants=(), rerun=UNPROVEN),
        judged(**nobody(matches=())),
        judged(status="acting", decision=ALONE),
        judged(status="resolved", decision=ALONE, outcome=outcome("fixed")),
        judged(status="failed", decision=ALONE, outcome=outcome("failed")),
        judged(incident(dag_id="sales", signature=signature(HOSTILE)), grants=()),
    ]
    lines = [render.incident_line(doc, "k3f9") for doc in documents]
    return Text("\n").join(lines)


def watch_storm_lines() -> RenderableType:
    """What a pass brought in a pipe: storms and mapped tasks are one line each."""
    storm = [
        judged(
            incident(dag_id=f"orders_{number}", group="s7aaaaaaaa", group_key="host:db:5432"),
            grants=(),
            rerun=UNPROVEN,
        )
        for number in range(50)
    ]
    mapped = [judged(incident(dag_id="files", map_index=i), **nobody(matches=())) for i in (1, 2)]
    single = judged(incident(dag_id="stocks"), status="acting", decision=ALONE)
    lines = told_together([*storm, single, *mapped])
    short = {live.id_of(line): live.id_of(line)[:4] for line in lines}
    return Text("\n").join(live.line_text(line, short, named=True) for line in lines)


def short_of(lately: Lately) -> dict[str, str]:
    lines = [*live.newest(lately.came), *live.newest(lately.done)]
    return {live.id_of(line): live.id_of(line)[:4] for line in lines}


def watch_view() -> RenderableType:
    tally, lately = Tally("prod", "shadow", began_at=NOW - timedelta(seconds=3)), Lately()
    for document in (
        judged(grants=(), rerun=UNPROVEN),
        judged(incident(dag_id="sales", signature=signature(HOSTILE)), grants=()),
        judged(incident(dag_id=LONG_DAG), **nobody(matches=())),
        judged(incident(dag_id="stocks"), status="acting", decision=ALONE),
        judged(
            incident(dag_id="prices"), status="resolved", decision=ALONE, outcome=outcome("fixed")
        ),
    ):
        lately.add(told(document))
    tally.counts = {"pending": 3, "needs_human": 1, "acting": 1, "resolved": 12}
    tally.ended("whole", NOW)
    tally.next_at = NOW + timedelta(seconds=30)
    return live.watch_view([tally], lately, short_of(lately))


def watch_view_storm() -> RenderableType:
    """A storm, a mapped task, and one of two Airflows that cannot be read."""
    prod, staging = (Tally(name, "auto", began_at=NOW) for name in ("prod", "staging"))
    lately = Lately()
    for number in range(50):
        one = incident(dag_id=f"orders_{number}", group="s7aaaaaaaa", group_key="host:db:5432")
        lately.add(told(judged(one, grants=(), rerun=UNPROVEN)))
    for number in range(12):
        one = incident(instance="staging", dag_id="files", map_index=number)
        lately.add(told(judged(one, **nobody(matches=()))))
    one = incident(dag_id="orders_7", group="s7aaaaaaaa", group_key="host:db:5432")
    lately.add(told(judged(one, status="acting", decision=ALONE)))
    prod.counts, staging.counts = {"pending": 49, "acting": 1}, {"pending": 12}
    prod.begun("auto", NOW)
    prod.reading = (51, 5_000)
    staging.ended(
        "airflow", NOW, "Airflow at http://staging.example cannot be reached: connection refused"
    )
    staging.next_at = NOW + timedelta(seconds=60)
    return live.watch_view([prod, staging], lately, short_of(lately))


def watch_view_idle() -> RenderableType:
    tally = Tally("prod", "ask")
    tally.trouble = "Airflow at http://airflow.example cannot be reached: connection refused"
    return live.watch_view([tally], Lately(), {})


CASES: tuple[Callable[[], RenderableType], ...] = (
    *(not_sure, no_action_named, lacking, waiting_for_its_time),
    *(novel, novel_near_miss, near, exact_with_record, exact_none, blocked, mapped, killed, silent),
    *(acting, resolved, relapsed, superseded, rejected, needs_human, shadow, log_file, hostile),
    *(
        raised_from,
        queue,
        storm,
        storm_whole,
        failures,
        plan,
        plan_alone,
        plan_later,
        later,
        plan_changes,
        excerpt,
        entries,
        findings,
        search,
        entry_whole,
        doctor,
    ),
    *(header, header_unhealthy, watch_lines, watch_storm_lines),
    *(watch_view, watch_view_storm, watch_view_idle),
)

# The terminal itself wraps these.
SOFT = (excerpt, watch_lines, watch_storm_lines, header, header_unhealthy)
