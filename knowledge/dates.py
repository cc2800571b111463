"""Dates as people write them → the last day they can mean."""

from __future__ import annotations

import calendar
import re
from datetime import date

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = rf"({'|'.join(_MONTHS)})[a-z]*\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"((?:19|20)\d\d)"

_YEAR_FIRST = re.compile(rf"(?<!\d){_YEAR}([-/.])(\d{{1,2}})(?:\2(\d{{1,2}}))?(?!\d)")
_YEAR_LAST = re.compile(rf"(?<!\d)(\d{{1,2}})([-/.])(\d{{1,2}})\2{_YEAR}(?!\d)")
_DAY_NAME = re.compile(rf"\b(?:{_DAY}[ .-]+)?{_NAME}[ ,-]+{_YEAR}\b", re.IGNORECASE)
_NAME_DAY = re.compile(rf"\b{_NAME} {_DAY},? +{_YEAR}\b", re.IGNORECASE)
_YEAR_ALONE = re.compile(rf"\s*{_YEAR}\s*")


def last_day(text: str) -> date | None:
    """The last day that the first date in the text can mean: 2024-02 is its 29th, 2024 its 31st
    of December, 03/04/2024 the later of its two readings. None where there is no date in it."""
    if found := _YEAR_FIRST.search(text):
        return _date(found[1], found[3], found[4])
    if found := _YEAR_LAST.search(text):
        readings = [_date(found[4], found[1], found[3]), _date(found[4], found[3], found[1])]
        return max((one for one in readings if one), default=None)
    if found := _NAME_DAY.search(text):
        return _date(found[3], _month(found[1]), found[2])
    if found := _DAY_NAME.search(text):
        return _date(found[3], _month(found[2]), found[1])
    if found := _YEAR_ALONE.fullmatch(text):
        return date(int(found[1]), 12, 31)
    return None


def _month(name: str) -> int:
    return _MONTHS.index(name.lower()) + 1


def _date(year: str, month: str | int, day: str | None) -> date | None:
    y, m = int(year), int(month)
    if not 1 <= m <= 12:
        return None
    last = calendar.monthrange(y, m)[1]
    d = int(day or last)
    return date(y, m, d) if 1 <= d <= last else None
