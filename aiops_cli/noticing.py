"""What people did in Airflow's UI about incidents that waited, noticed on a pass.

An incident that somebody else was faster with is superseded at once; once its new tries have ended
it becomes a lesson, as if it had been mined.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from aiops_cli.errors import AirflowAuth, AirflowError, AirflowNotFound, AirflowUnreachable
from aiops_cli.examine import Desk, ref_of
from aiops_cli.incidents import TERMINAL_STATES, TaskInstance
from aiops_cli.learning import began_above, look, naming
from aiops_cli.mining import Ending, endings, lesson_of
from knowledge.errors import ModelUnavailable
from knowledge.records import Case, Incident

# How long, and how many at once, a pass asks what became of what somebody else ran again.
NOTICE_FOR = timedelta(days=7)
NOTICED_AT_ONCE = 20

Warn = Callable[[str], None]


def notice(desk: Desk, warn: Warn) -> None:
    """Learn from what people did in Airflow's UI about incidents that waited: once their new tries
    have ended. What cannot be told by then is not asked for again.

    Raises AirflowUnreachable and AirflowAuth.
    """
    store, now = desk.knowledge.store, desk.clock.now()
    name, revision = f"noticed {desk.instance}", store.revision()
    mark = json.loads(store.mark(name) or "{}")
    if mark.get("revision") == revision:  # nothing was open, and nobody has decided anything since
        return
    cases = {
        case.incident.id: case
        for case in store.cases(
            status=["superseded"], instance=desk.instance, since=now - NOTICE_FOR
        )
        if case.incident.kind == "task" and case.decision and case.decision.kind == "superseded"
    }
    done, learned = set(mark.get("done", ())) & cases.keys(), store.known_lessons(cases)
    for case in [case for id_, case in cases.items() if id_ not in done][:NOTICED_AT_ONCE]:
        try:
            if case.incident.id in learned:  # perhaps when the embedder was away
                _make_entries(desk, case.incident)
                done.add(case.incident.id)
            elif _learn_of(desk, case):
                done.add(case.incident.id)
        except (AirflowUnreachable, AirflowAuth):
            raise
        except AirflowNotFound:
            done.add(case.incident.id)
        except (AirflowError, ModelUnavailable) as error:
            warn(f"{case.incident.id}: what became of it is not known yet: {error.message}")
    told = {"done": sorted(done), "revision": revision if done == cases.keys() else None}
    if told != mark:
        store.set_mark(name, json.dumps(told))


def _learn_of(desk: Desk, case: Case) -> bool:
    """Whether what somebody did about an incident is over; then it is learned from."""
    incident = case.incident
    live = desk.airflow.task_instance(ref_of(incident))
    if live.state not in TERMINAL_STATES:
        return False
    seen, _ = look(desk.airflow, live, partial(began_above, desk.airflow))
    number = incident.try_number
    for ending in endings(seen, frozenset([number])):
        if ending.failed.try_number == number and incident.signature.text:
            _remember(desk, case, ending, live)
    return True


def _remember(desk: Desk, case: Case, ending: Ending, live: TaskInstance) -> None:
    incident = case.incident
    lesson = lesson_of(
        ending,
        incident.signature,
        naming(incident.excerpt.text, live),
        instance=incident.instance,
        seen_at=desk.clock.now(),
    )
    desk.knowledge.store.add_lessons([lesson])
    _make_entries(desk, incident)


def _make_entries(desk: Desk, incident: Incident) -> None:
    desk.knowledge.learn_history([incident.signature.fingerprint], desk.clock.now())
