"""Briefs for tests of the report: one call an incident, and a week that has some of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

from aiops_cli.report import report
from aiops_cli.report_value import Report
from knowledge.records import (
    Brief,
    Decision,
    DecisionKind,
    Harm,
    Lesson,
    Outcome,
    OutcomeName,
    Signature,
    short_hash,
)

SINCE = datetime(2026, 3, 2, 3, 4, tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=7)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
FULL = "OSError: [Errno 28] No space left on device"
COLUMN = "KeyError: 'unit_price'"

_numbers = count(1)


def decided(
    kind: DecisionKind = "approve",
    action: str | None = "retry",
    *,
    after: timedelta = MINUTE,
    by: str = "ana",
    **fields: Any,
) -> Decision:
    """A decision so long after the failure; its seq is the next one."""
    known = {"at": SINCE + after, "by": "cron" if kind == "auto" else by, "action": action}
    return Decision("", kind, **{**known, "seq": next(_numbers), **fields})


def brief(
    *decisions: Decision,
    outcome: OutcomeName | Sequence[OutcomeName] = (),
    fixed_after: timedelta = HOUR,
    wrong: str = "",
    at: timedelta = timedelta(),
    what: str = REFUSED,
    **fields: Any,
) -> Brief:
    """An incident that failed `at` after SINCE. The outcomes are the last decision's, seen so long
    after the failure; `wrong` says that it did harm."""
    number = next(_numbers)
    own = short_hash("incident", number)
    failed = SINCE + at
    outcomes = (outcome,) if isinstance(outcome, str) else outcome
    moved = tuple(
        Decision(
            own,
            one.kind,
            one.at + at,
            one.by,
            one.action,
            one.params,
            one.cause,
            one.reason,
            seq=one.seq,
        )
        for one in decisions
    )
    last = moved[-1].seq if moved else 0
    known: dict[str, Any] = {
        "incident_id": own,
        "kind": "task",
        "instance": "default",
        "dag_id": "orders_etl",
        "run_id": f"run{number}",
        "task_id": "load",
        "failed_at": failed,
        "seen_at": failed,
        "fingerprint": short_hash(what),
        "error_class": what.split(":")[0],
        "headline": what,
        "duration": 60.0,
        "decisions": moved,
        "outcomes": tuple(
            Outcome(own, last, failed + fixed_after, name, try_number=2) for name in outcomes
        ),
        "harms": (Harm(own, last, "bo", failed + HOUR, wrong),) if wrong else (),
    }
    return Brief(**{**known, **fields})


def alone(outcome: OutcomeName | Sequence[OutcomeName] = "fixed", **fields: Any) -> Brief:
    """The tool retried it by itself within ten seconds."""
    acted = decided("auto", after=timedelta(seconds=10))
    return brief(acted, outcome=outcome, fixed_after=5 * MINUTE, **fields)


def approved(
    action: str = "retry", outcome: OutcomeName | Sequence[OutcomeName] = "fixed", **fields: Any
) -> Brief:
    by = fields.pop("by", "ana")
    cause = fields.pop("cause", "")
    return brief(decided("approve", action, by=by, cause=cause), outcome=outcome, **fields)


def undone(
    outcome: OutcomeName | Sequence[OutcomeName] = "fixed", kind: DecisionKind = "approve"
) -> Brief:
    """The variable was set by an act, and put back by somebody the day after."""
    act = decided(kind, "set_variable", params={"key": "a", "value": "1"})
    no = decided("reject", "set_variable", after=DAY, by="bo", params=act.params, reason="undone")
    before = brief(act, outcome=outcome)
    return replace(before, decisions=(*before.decisions, brief(no).decisions[0]))


def in_airflow(action: str | None = "retry", outcome: Any = "fixed", **fields: Any) -> Brief:
    """Somebody was faster, in Airflow itself; it is known what that was, and ended in an hour."""
    mode = fields.pop("mode", "person")
    one = brief(*fields.pop("before", ()), decided("superseded", None, by="airflow"), **fields)
    lesson = Lesson(
        one.instance,
        one.dag_id,
        one.run_id,
        one.task_id,
        -1,
        1,
        one.failed_at,
        Signature(one.headline, one.fingerprint, one.error_class, headline=one.headline),
        mode,
        one.failed_at + MINUTE,
        outcome,
        one.failed_at + DAY,
        action,
        by="dba",
        ended_at=one.failed_at + HOUR,
    )
    return replace(one, lesson=lesson)


def counted(*briefs: Brief, **fields: Any) -> Report:
    return report(briefs, **{"since": SINCE, "until": UNTIL, **fields})


def week() -> list[Brief]:
    """A week that has some of everything, oldest first, with the same ids each time it is told."""
    global _numbers  # ids are hashes of what is counted here
    before, _numbers = _numbers, count(1)
    refused = [alone(at=DAY * (number % 5) + HOUR * number) for number in range(7)]
    refused += [
        approved(at=DAY * 2 + HOUR, cause="the orders database restarts at night"),
        alone("relapsed", at=DAY * 3, dag_id="sales", task_id="count"),
        alone(wrong="it loaded the orders twice", at=DAY * 4),
    ]
    full = [
        approved(
            "retry_later",
            at=DAY * number,
            what=FULL,
            cause="old exports fill the disk",
            by="bo",
            dag_id="reporting_" + "very_" * 10 + "long",
            task_id="export",
            fixed_after=3 * HOUR,
        )
        for number in range(3)
    ]
    column = [
        brief(
            decided("approve", "none", by="ana", cause="the vendor renamed a column"),
            at=DAY * 5,
            what=COLUMN,
            dag_id="prices",
            task_id="parse",
        ),
        brief(at=DAY * 6, what=COLUMN, dag_id="prices", task_id="parse"),
    ]
    others = [
        brief(decided("shadow"), decided(), outcome="fixed", at=DAY * 6, dag_id="sales"),
        brief(decided("shadow"), decided("reject", reason="posts to the bank"), at=DAY * 6),
        brief(decided("shadow"), decided("superseded", None), at=DAY * 6),
        brief(decided("shadow"), at=DAY * 6 + HOUR),
        approved(outcome="failed", at=DAY * 6, what="TimeoutError: the warehouse", dag_id="sales"),
    ]
    _numbers = before
    return sorted([*refused, *full, *column, *others], key=lambda one: one.failed_at)


RUNS: Mapping[tuple[str, str], int] = {
    ("default", "orders_etl"): 168,
    ("default", "sales"): 7,
}
