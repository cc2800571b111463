"""Put back what an act changed in Airflow, and write down that it was put back.

What ran again has run; only values are put back, from the before-image that the plan kept, and
only where they still are what the act made of them. An act that was undone speaks against itself
from then on, as a rejection does.
"""

from __future__ import annotations

from aiops_cli.actions import changes
from aiops_cli.errors import Refused
from aiops_cli.examine import Desk, of_this_airflow, ref_of
from aiops_cli.published import UNDID, changes_of
from aiops_cli.respond import close, may_change, renewed
from knowledge.records import Case, Decision, Story
from knowledge.stores.rules import acts


def open_change(story: Story) -> Decision | None:
    """The last act of the incident that changed anything beside running tasks again and was not
    undone, whatever was decided after it. One that can be put back goes before those that
    cannot."""
    void = {one.decision for one in story.voided}
    standing = [one for one in story.decisions if one.seq not in void]
    undone = {one.plan.get(UNDID) for one in standing}
    made = [one for one in standing if acts(one) and one.plan.get("changes")]
    left = [one for one in made if one.seq not in undone]
    return max(left, key=lambda one: (not one.plan.get("no_undo"), one.seq), default=None)


def undo(desk: Desk, case: Case, reason: str = "") -> Case:
    """Put back what the acts on this incident changed last. Raises Refused where it cannot be put
    back, somebody has changed it since or is about to act: nothing was done then. AirflowError
    where Airflow refuses."""
    incident, store = case.incident, desk.knowledge.store
    story = store.story(incident.id)
    act = open_change(story)
    if act is None:
        raise Refused(f"nothing was changed for {incident.id}", "there is nothing to put back")
    may_change(desk)
    of_this_airflow(desk, incident)
    claim, who = store.case(incident.id).claim, desk.settings.user
    if claim is not None and claim.state == "claimed":
        raise Refused(
            f"{claim.owner} is acting on {incident.id}: nothing was done",
            f"see what comes of it first: aiops incidents show {incident.id}",
        )
    ref, made = ref_of(incident), changes_of(act.plan)
    back = changes.reverse(made)
    stands = changes.standing(desk.airflow, ref, made)
    if stands == "other":
        raise Refused(
            f"{changes.told_name(made[0])} was changed once more since: nothing was done",
            "look at it in Airflow: putting back what it was would undo somebody else's work",
        )
    running = next((o for o in story.decisions if claim and o.seq == claim.decision), None)
    token = None
    if claim is not None and claim.state == "acting" and running is not None:
        # First, so that whoever is at it runs nothing again on what is put back now.
        token = renewed(desk, incident, claim.token)
    if stands == "new":
        changes.make(desk.airflow, ref, back, "", lambda: None)
    if token is not None and running is not None:
        close(desk, incident, token, running, "superseded", f"{who} undid {act.action}")
    why = f"undone: {reason}" if reason else "undone"
    store.record(
        Decision(
            incident.id,
            "reject",
            desk.clock.now(),
            who,
            act.action,
            act.params,
            reason=why,
            plan={UNDID: act.seq},
        )
    )
    return store.case(incident.id)
