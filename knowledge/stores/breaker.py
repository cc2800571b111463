"""The circuit breaker of acting alone: when it opens, half-opens and closes. Pure.

Nothing of it is stored: its state follows from the acts and what became of them, so that all who
share a knowledge base see the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from knowledge.records import Breaker

# Acts of the tool alone that went wrong open a breaker: one of the same signature, or three of any
# within a day.
WRONG_OF_SIGNATURE = 1
WRONG_IN_ALL = 3
DAY = timedelta(days=1)
# What went wrong longer ago opens nothing any more: then the record speaks against it, or not.
MEMORY = timedelta(days=30)

WRONG = ("failed", "relapsed", "wrong")
# One that ran a task again and turned it green went right, though the failure came back: how often
# that may be is the record's affair (knowledge.evidence). The SQL of it names them too.
RERUNS = ("retry", "retry_later")


class End(NamedTuple):
    """An act of the tool alone that did not end well: when that became known, and how it ended
    (one of WRONG, or unknown). A relapse of what ran a task again (RERUNS) is none."""

    known: datetime
    outcome: str


Fixed = Callable[[datetime, datetime], bool]  # an act begun from then on was known to be by then
Running = Callable[[datetime], bool]  # an act begun from then on is not settled


def breaker(
    ends: Iterable[End], threshold: int, now: datetime, *, fixed: Fixed, running: Running
) -> Breaker:
    """The state of the breaker that `threshold` acts gone wrong within a day open.

    It opens when the last of them becomes known, for a day. Then it is half open: the next act is
    its canary. Fixed, the canary closes it; gone wrong, or with an end that nobody can tell, it
    opens it for another day; superseded, it was none. What was begun before it was half open
    closes nothing, and what was still under way and goes wrong keeps it open longer.
    """
    opened: datetime | None = None
    lately: list[datetime] = []
    for end in sorted(ends):
        if opened is not None and fixed(opened + DAY, end.known):
            opened, lately = None, []
        if end.outcome in WRONG:
            lately = [*(at for at in lately if end.known - at < DAY), end.known]
        if opened is not None or len(lately) >= threshold:
            opened = end.known
    if opened is None or fixed(opened + DAY, now):
        return Breaker()
    if now < opened + DAY:
        return Breaker("open", opened + DAY)
    return Breaker("trying" if running(opened + DAY) else "half open")
