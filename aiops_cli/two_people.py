"""Actions that two people have to approve: the first yes waits on the incident for another one.

The first yes is a remark, which everybody sees, with a digest of the plan that was shown: who says
the second must have seen the same. Nobody's own yes counts twice. It is over as soon as its author
or anybody else decides otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiops_cli.incidents import Plan
from aiops_cli.published import plan_document
from knowledge.records import Case, Remark, short_hash

_OURS = "first yes of two "
_GIVEN = _OURS + "to "
_SAID = {True: "; it may run twice", False: "; it may not run twice", None: ""}


@dataclass(frozen=True, slots=True)
class FirstYes:
    """`rerun_safe` is what its author said of running the task twice, if anything."""

    by: str
    at: datetime
    rerun_safe: bool | None


def first_yes(
    case: Case, plan: Plan, by: str, at: datetime, rerun_safe: bool | None = None
) -> Remark:
    """The remark that a first yes leaves."""
    return Remark(case.incident.id, by, at, _text(plan) + _SAID[rerun_safe])


def withdrawn(case: Case, by: str, at: datetime, why: str) -> Remark:
    """The remark after which the first yes counts no more."""
    return Remark(case.incident.id, by, at, f"{_OURS}is withdrawn: {why}")


def waiting(case: Case) -> Remark | None:
    """The first yes that stands: the last word of ours, unless it was withdrawn, or the incident
    has been decided since."""
    last = next((one for one in reversed(case.remarks) if one.text.startswith(_OURS)), None)
    if last is None or not last.text.startswith(_GIVEN):
        return None
    decision = case.decision
    over = decision is not None and decision.kind != "shadow" and decision.at >= last.at
    return None if over else last


def is_by(remark: Remark | None, user: str) -> bool:
    """Whether it is this person's. Ana and ana are one person."""
    return remark is not None and _name(remark.by) == _name(user)


def other_yes(case: Case, plan: Plan, by: str, at: datetime, within: timedelta) -> FirstYes | None:
    """Another person's yes to the very same plan that stands, not older than `within`."""
    last = waiting(case)
    if last is None or is_by(last, by) or at - last.at > within:
        return None
    said = {_text(plan) + words: word for word, words in _SAID.items()}
    return FirstYes(last.by, last.at, said[last.text]) if last.text in said else None


def _name(user: str) -> str:
    return user.strip().casefold()


def _text(plan: Plan) -> str:
    shown = json.dumps(plan_document(plan), sort_keys=True)
    return f"{_GIVEN}{plan.action} ({short_hash(shown)}): a second person has to approve it too"
