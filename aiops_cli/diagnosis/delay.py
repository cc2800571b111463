"""How long to wait before something is run again, and whose word that is. Pure.

Airflow's own retries are used up when a failure is seen here, so that haste helps nobody. The first
that speaks counts: the entry (or the person who approves), the log's Retry-After, how long such
outages lasted, the default.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from aiops_cli.incidents import Diagnosis
from knowledge.evidence import RERUN_ACTIONS, Healing

# A log is no one to be trusted with more: whoever can write a line of it could put a failure off.
LONGEST = timedelta(hours=24)
LOG = "the log's Retry-After"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AMOUNT = r"(?P<amount{n}>[0-9]{{1,6}}(?:\.[0-9]{{1,6}})?)[ \t]{{0,2}}"
_UNIT = r"(?P<unit{n}>s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)"
_END = r"(?![\w:-])(?!\.[0-9])"
# The header (RFC 9110, 10.2.3: seconds or a date), as logs and dumped headers have it, and the
# sentences that services say instead: there a bare number may count anything.
_SAID = re.compile(
    r"(?i)(?<![\w-])retry[-_]after['\"]?[ \t]{0,2}[:=,][ \t]{0,2}['\"]?(?:"
    + (_AMOUNT + _UNIT).format(n=1)
    + f"?{_END}"
    + r"|(?P<date>[a-z]{3},[ ][0-9]{2}[ ][a-z]{3}[ ][0-9]{4}[ ][0-9:]{8}[ ]GMT))"
    + r"|(?<![\w-])(?:retry(?:ing)?[ \t](?:after|in)|again[ \t]in)[ \t]"
    + (_AMOUNT + _UNIT).format(n=2)
    + _END
)


def retry_after(text: str, failed_at: datetime) -> timedelta | None:
    """What the log's last Retry-After asks for, above zero and at most LONGEST; None where none
    can be read. A date counts from the failure on, so that the answer stays the same."""
    found = None
    for said in _SAID.finditer(text):
        if said["date"]:
            seconds = _until(said["date"], failed_at)
        else:
            unit = (said["unit1"] or said["unit2"] or "s")[0].lower()
            seconds = float(said["amount1"] or said["amount2"]) * _UNITS[unit]
        if seconds > 0:
            found = min(timedelta(seconds=math.ceil(seconds)), LONGEST)
    return found


def _until(date: str, failed_at: datetime) -> float:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:  # no such day
        return 0.0
    return (at.replace(tzinfo=timezone.utc) - failed_at).total_seconds()


def timed(
    diagnosis: Diagnosis, text: str, failed_at: datetime, healing: Healing | None
) -> Diagnosis:
    """The diagnosis with the delay that its `retry_later` is to wait for, and whose word that is,
    where its entry names none. A `retry` that the record knows to help only after a while becomes
    one."""
    if diagnosis.action not in RERUN_ACTIONS:
        return diagnosis
    record = healing and (min(healing.after, LONGEST), _in_words(healing))
    if diagnosis.action == "retry":
        if record is None or healing is None or not healing.waiting:
            return diagnosis
        wait: tuple[timedelta, str] | None = record
    elif "delay" in diagnosis.params:
        return diagnosis
    else:
        asked = retry_after(text, failed_at)
        wait = (asked, LOG) if asked else record
    if wait is None:
        return diagnosis
    params = {**diagnosis.params, "delay": as_setting(wait[0])}
    return replace(diagnosis, action="retry_later", params=params, delay_from=wait[1])


def as_setting(wait: timedelta) -> str:
    """The duration as `delay` takes it, rounded up: 45s, 110m."""
    seconds = max(1, math.ceil(wait.total_seconds()))
    return f"{seconds}s" if seconds < 120 else f"{math.ceil(seconds / 60)}m"


def _in_words(healing: Healing) -> str:
    minutes = math.ceil(healing.after.total_seconds() / 60)
    long = f"{minutes // 60}h{minutes % 60:02}" if minutes >= 60 else f"{minutes} min"
    times = f"{healing.outages} times" if healing.outages > 1 else "once"
    what = "waiting ended it" if healing.waiting else "it was fixed"
    return f"{what} {times}, median {long}"
