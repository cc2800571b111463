"""One pass, and the loop of passes: settle, capture, judge again, act where the gate lets it.

Two watchers on one knowledge base are safe: what either does is claimed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from aiops_cli import capture, gate, respond, watch_reading
from aiops_cli.context import Snapshot
from aiops_cli.errors import AirflowError, AirflowNotFound, Refused
from aiops_cli.examine import Desk, judge, ref_of
from aiops_cli.incidents import TaskInstance
from aiops_cli.noticing import notice
from aiops_cli.respond import Warn
from aiops_cli.settle import away, settle
from knowledge.errors import DoorClosed
from knowledge.records import Case, Decision, Grant, Limits, short_hash
from knowledge.stores.rules import breaker_word

Mode = Literal["off", "ask", "shadow", "auto"]
Able = tuple[Case, capture.Failure | None]  # what may be done alone, as Airflow has it now

# Who has not looked for so long says how much there is to catch up on; a cron job looks more often.
GAP = timedelta(minutes=30)

# What has waited longer is asked for one by one: the list would become too long.
LONGEST_WAIT = timedelta(days=7)
OLD_EVERY = timedelta(hours=1)


def one_pass(
    desk: Desk, mode: Mode, warn: Warn, tick: Callable[[int, int], None] = lambda _done, _of: None
) -> Iterator[Case]:
    """Settle what was acted on, capture what has failed since the last pass, judge again what
    waits, and (mode auto) act within the grants. Yields every incident that is new or changed;
    `tick` is told how many of how many new failures have been read.

    What cannot be read now is warned of and left for the next pass. Raises AirflowUnreachable
    or AirflowAuth where nothing can be read at all.
    """
    yield from settle(desk, mode, warn)
    store, began = desk.knowledge.store, desk.clock.now()
    pending = store.cases(status=["pending"], instance=desk.instance)
    since = _since(desk, pending)
    snapshot = Snapshot(desk.airflow, since)
    failed = capture.poll(snapshot, since=since, instance=desk.instance)
    known = store.known_incidents(failed)
    new = {id_: failure for id_, failure in failed.items() if id_ not in known}
    _tell_of_gap(desk, len(new), mode, warn)
    reading = watch_reading.begun(desk, snapshot, warn, lambda done: tick(done, len(new)), new)
    # What failed too long ago to be acted on alone keeps nothing waiting that did not, and what
    # Airflow did not send before keeps nothing waiting at all.
    late = began - desk.settings.gate.recent
    untried = [failure for id_, failure in new.items() if id_ not in reading.tried]
    fresh = [failure for failure in untried if watch_reading.end(failure, began) >= late]
    old = [failure for failure in untried if watch_reading.end(failure, began) < late]
    again = [new[id_] for id_, _ in sorted(reading.tried.items(), key=lambda one: one[1].last)]
    able: list[Able] = []
    for case, failure in watch_reading.captured(reading, fresh):
        if _may_act(mode, case):
            able.append((case, failure))
        else:
            yield _shadowed(desk, mode, case)
    rests_on = _rests_on(desk)
    news = store.mark(f"judged {desk.instance}") != rests_on
    left_before = _left_for_later(desk)
    for case in pending:
        if left_before is not None and case.incident.failed_at < left_before:
            continue
        if case.incident.id in failed and not news and _waits_for_news(case):
            continue
        changed = _look_again(desk, snapshot, case, failed.get(case.incident.id), warn)
        if changed is not None and _may_act(mode, changed):
            able.append((changed, failed.get(case.incident.id)))
        elif changed is not None:
            after = _shadowed(desk, mode, changed)
            if after.status != case.status or _answer(after) != _answer(case):
                yield after
    for case, seen in _canaries_first(able):
        yield _act(desk, snapshot, case, seen, warn)
    store.set_mark(f"judged {desk.instance}", rests_on)
    if reading.enough:
        reading.leave(old)
        old = []
    for several in (old, again):
        for case, _ in watch_reading.captured(reading, several):
            if not _may_act(mode, case):  # else it is acted on, and told of, by the next pass
                yield _shadowed(desk, mode, case)
    watch_reading.ended(reading, failed.values())
    store.set_mark(_looked(desk), began.isoformat())
    notice(desk, warn)


def _tell_of_gap(desk: Desk, new: int, mode: Mode, warn: Warn) -> None:
    """Once, where nobody has looked for some time: how much there is to read."""
    mark = desk.knowledge.store.mark(_looked(desk))
    gap = None if mark is None else desk.clock.now() - datetime.fromisoformat(mark)
    if not new or (gap is not None and gap < GAP):
        return
    why = "the first look" if gap is None else f"nobody has looked for {_span(gap)}"
    what = f"{new} failure{'s' * (new > 1)} to catch up on, newest first"
    alone = f"; alone only what failed within {_span(desk.settings.gate.recent)}"
    warn(f"{why}: {what}{alone if mode == 'auto' else ''}")


def _looked(desk: Desk) -> str:
    return f"looked {desk.instance}"


def _span(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.2g} h"


def _left_for_later(desk: Desk) -> datetime | None:
    """What waits for a week is asked for one by one, so only once an hour: what failed before this
    is left alone now. None: it is their turn."""
    store, now, mark = desk.knowledge.store, desk.clock.now(), f"looked at old {desk.instance}"
    last = store.mark(mark)
    if last is not None and now - datetime.fromisoformat(last) < OLD_EVERY:
        return now - LONGEST_WAIT
    store.set_mark(mark, now.isoformat())
    return None


def _since(desk: Desk, pending: Sequence[Case]) -> datetime:
    """From the last complete pass on, with an overlap, and far enough back for one list to tell
    of all that is pending; the first look goes back `lookback`."""
    now = desk.clock.now()
    mark = desk.knowledge.store.watermark(desk.instance)
    start = now - desk.settings.lookback if mark is None else mark - watch_reading.OVERLAP
    waiting = [case.incident.failed_at for case in pending if case.incident.kind == "task"]
    return min([start, *(at for at in waiting if now - at < LONGEST_WAIT)])


def _rests_on(desk: Desk) -> str:
    """What judgements rest on beside Airflow: the knowledge base and the settings."""
    settings = desk.settings
    rules = (settings.gate, settings.rerun_safe, settings.protected, settings.paused)
    return short_hash(desk.knowledge.store.revision(), rules)


def _waits_for_news(case: Case) -> bool:
    """Whether nothing but new knowledge or a new record can change the judgement."""
    if case.judgement is None:
        return False
    document = case.judgement.document
    opinion = document["diagnosis"].get("opinion")
    if opinion and opinion["unheard"]:  # it may be heard by now
        return False
    failed = {check["name"] for check in document["gate"]["checks"] if not check["passed"]}
    return bool(failed & {"similarity", "margin", "evidence"})


def _look_again(
    desk: Desk,
    snapshot: Snapshot,
    case: Case,
    polled: capture.Failure | None,
    warn: Warn,
) -> Case | None:
    """A pending incident in the light of what is known now; superseded where somebody else
    acted. None where Airflow does not answer for it."""
    live = polled if isinstance(polled, TaskInstance) else None
    try:
        if case.incident.kind != "task":
            changed = capture.superseded(snapshot, case.incident)
        else:
            live = live or desk.airflow.task_instance(ref_of(case.incident))
            changed = gate.changed_since(case.incident, live)
        if changed:
            respond.supersede(desk, case.incident, changed)
            return desk.knowledge.store.case(case.incident.id)
        return judge(desk, snapshot, case.incident, live)
    except AirflowNotFound:
        respond.supersede(desk, case.incident, "it is gone from Airflow")
        return desk.knowledge.store.case(case.incident.id)
    except (AirflowError, DoorClosed) as error:
        if away(desk, error):
            raise
        warn(f"{case.incident.id}: not looked at again: {error.message}")
        return None


def _shadowed(desk: Desk, mode: Mode, case: Case) -> Case:
    """In shadow, write down what would have been done."""
    if mode != "shadow" or case.status != "pending" or case.judgement is None:
        return case
    document = case.judgement.document
    if case.decision is not None or not _would_act(document):
        return case
    decision = Decision(
        case.incident.id,
        "shadow",
        desk.clock.now(),
        by=desk.settings.user,
        action=document["diagnosis"]["action"],
        params=document["diagnosis"]["params"],
        cause=document["diagnosis"]["cause"],
        grant=document["gate"]["grant"],
    )
    return respond.decide(desk.knowledge, decision)


def _may_act(mode: Mode, case: Case) -> bool:
    return (
        mode == "auto"
        and case.status == "pending"
        and case.judgement is not None
        and case.judgement.document["decision"] == "auto"
    )


def _canaries_first(able: Sequence[Able]) -> list[Able]:
    """Of each storm the one first whose failing once more costs least: what blocks nothing, and
    of those the shortest. Storms and single failures keep their order."""
    first_of: dict[str, int] = {}
    for place, (case, _) in enumerate(able):
        first_of.setdefault(case.incident.group or case.incident.id, place)

    def order(one: Able) -> tuple[int, int, float]:
        incident = one[0].incident
        context = incident.context
        storm = first_of[incident.group or incident.id]
        return storm, len(context.get("blocks") or ()), context.get("duration") or 0.0

    return sorted(able, key=order)


def _act(
    desk: Desk,
    snapshot: Snapshot,
    case: Case,
    failure: capture.Failure | None,
    warn: Warn,
) -> Case:
    """Act alone, unless another of its storm has to be waited for: then that is written down."""
    store = desk.knowledge.store
    if breaker_word(store.acts_alone(case.incident.id), desk.settings.gate.max_per_storm):
        live = failure if isinstance(failure, TaskInstance) else None
        return judge(desk, snapshot, case.incident, live)
    if case.judgement is None:
        raise AssertionError(f"{case.incident.id} is to be acted on without a judgement")
    document = case.judgement.document
    diagnosis, grant_id = document["diagnosis"], document["gate"]["grant"]
    grant = next(grant for grant in desk.knowledge.store.grants() if grant.id == grant_id)
    try:
        return respond.act(
            desk,
            case.incident,
            action=diagnosis["action"],
            params=diagnosis["params"],
            by=desk.settings.user,
            kind="auto",
            cause=diagnosis["cause"],
            limits=_limits(desk, grant),
            grant=grant_id,
        )
    except (AirflowError, Refused, DoorClosed) as refusal:
        if away(desk, refusal):
            raise
        warn(f"{case.incident.id}: not acted on: {refusal.message}")
        return desk.knowledge.store.case(case.incident.id)


def _answer(case: Case) -> tuple[object, object]:
    document = case.judgement.document if case.judgement else {}
    return document.get("decision"), document.get("diagnosis", {}).get("action")


def _would_act(document: Mapping[str, Any]) -> bool:
    """Whether the gate passes, or would if a grant covered it: what shadow mode writes down."""
    failed = [check for check in document["gate"]["checks"] if not check["passed"]]
    return all(check["value"] == gate.NO_GRANT for check in failed)


def _limits(desk: Desk, grant: Grant) -> Limits:
    """The stricter of what the grant and the settings allow."""
    settings = desk.settings.gate
    return Limits(
        per_hour=min(grant.max_per_hour, settings.max_per_hour),
        per_dag_hour=min(grant.max_per_dag_hour, settings.max_per_dag_hour),
        per_task_instance_day=settings.attempts_per_day,
        per_storm=settings.max_per_storm,
    )
