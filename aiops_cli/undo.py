"""Put back what an act changed in Airflow, and write down that it was put back.

What ran again has run; only values are put back, from the before-image that the plan kept, and
only where they still are what the act made of them. An act that was undone speaks against itself
from then on, as a rejection does.
"""

from __future__ import annotations

from aiops_cli.actions import changes
from aiops_cli.errors import Refused
from aiops_cli.examine import Desk, of_this_airflow, ref_of
from aiops_cli.published import changes_of
from aiops_cli.respond import close, may_change, renewed, stamp
from knowledge.records import Case, Decision
from knowledge.stores.rules import acts


def changed(case: Case) -> bool:
    """Whether the act that stands changed anything beside running tasks again."""
    decision = case.decision
    return decision is not None and acts(decision) and bool(decision.plan.get("changes"))


def undo(desk: Desk, case: Case, reason: str = "") -> Case:
    """Put back what the act on this incident changed. Raises Refused where it cannot be put back
    or somebody has changed it since: nothing was done then. AirflowError where Airflow refuses."""
    incident, act = case.incident, case.decision
    if act is None or not changed(case):
        raise Refused(f"nothing was changed for {incident.id}", "there is nothing to put back")
    may_change(desk)
    of_this_airflow(desk, incident)
    ref, made = ref_of(incident), changes_of(act.plan)
    back = changes.reverse(made)
    stands = changes.standing(desk.airflow, ref, made)
    if stands == "other":
        raise Refused(
            f"{changes.told_name(made[0])} was changed once more since: nothing was done",
            "look at it in Airflow: putting back what it was would undo somebody else's work",
        )
    claim, who = case.claim, desk.settings.user
    acting = claim is not None and claim.state == "acting"
    # First, so that whoever is at it runs nothing again on what is put back now.
    token = renewed(desk, incident, claim.token) if claim and acting else None
    if stands == "new":
        note = f"{stamp(desk, incident, act)}; undone by {who}"
        changes.make(desk.airflow, ref, back, note, lambda: None)
    if token is not None:
        close(desk, incident, token, act, "superseded", f"{who} undid it")
    why = f"undone: {reason}" if reason else "undone"
    now = desk.clock.now()
    desk.knowledge.store.record(
        Decision(incident.id, "reject", now, who, act.action, act.params, reason=why)
    )
    return desk.knowledge.store.case(incident.id)
