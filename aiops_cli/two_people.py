"""Actions that two people have to approve: the first yes waits on the incident for another one.

The first yes is a remark, which everybody sees, with a digest of the plan that was shown: who says
the second must have seen the same. Nobody's own yes counts twice.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from aiops_cli.incidents import Plan
from aiops_cli.published import plan_document
from knowledge.records import Case, Remark, short_hash

_FIRST = "first yes of two to"


def first_yes(case: Case, plan: Plan, by: str, at: datetime) -> Remark:
    """The remark that a first yes leaves."""
    return Remark(case.incident.id, by, at, _text(plan))


def other_yes(case: Case, plan: Plan, by: str, at: datetime, within: timedelta) -> Remark | None:
    """Another person's yes to the very same plan, not older than `within`."""
    same = [
        one
        for one in case.remarks
        if one.text == _text(plan) and _name(one.by) != _name(by) and at - one.at <= within
    ]
    return same[-1] if same else None


def _name(user: str) -> str:
    """Ana and ana are one person."""
    return user.strip().casefold()


def _text(plan: Plan) -> str:
    shown = json.dumps(plan_document(plan), sort_keys=True)
    return f"{_FIRST} {plan.action} ({short_hash(shown)}): a second person has to approve it too"
