"""How it goes: what keeps failing, what it costs, and how much of it ends alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

from aiops_cli import services
from aiops_cli.config import Settings
from aiops_cli.dashboard import acts, incident_view, values
from aiops_cli.dashboard.parts import Visitor, guarded, opened, show_flash, small, strong, table
from aiops_cli.dashboard.values import Row
from aiops_cli.report import report
from aiops_cli.report_value import Report

KEPT = 30  # seconds
_COLOURS = {"resolved alone": "#2e9e4f", "others": "#8a96a3"}  # both on light and on dark
SINCE = {"7 days": 7, "30 days": 30, "90 days": 90}


def show(visitor: Visitor) -> None:
    show_flash()
    if incident_view.chosen(visitor, "Back to the overview"):
        return
    days = SINCE[st.segmented_control("Over", list(SINCE), default="7 days", required=True)]
    with guarded("The overview cannot be made"):
        _show(visitor, days)


def _show(visitor: Visitor, days: int) -> None:
    made, classes = _counted(visitor.settings, visitor.instance, days)
    if not made.incidents:
        strong("empty", f"Nothing failed in the last {days} days.")
        small("empty", "As far as this knowledge base has seen: aiops watch fills it.")
        return
    _figures(made)
    _tables(made, classes)


def _base(settings: Settings) -> str:
    return settings.kb


# Of 10,000 incidents it takes a second, and everybody who looks would wait for it.
@st.cache_data(
    ttl=KEPT, max_entries=len(SINCE), show_spinner="Counting", hash_funcs={Settings: _base}
)
def _counted(
    settings: Settings, instance: str | None, days: int
) -> tuple[Report, list[dict[str, object]]]:
    """The report and the error classes; kept by the knowledge base, the instance and the days."""
    since = timedelta(days=days)
    now = services.SystemClock().now()
    briefs = acts.briefs(settings, since, instance)
    made = report(briefs, since=now - since, until=now, instance=instance)
    return made, values.error_classes(briefs)


def _figures(made: Report) -> None:
    with st.container(horizontal=True):
        st.metric("Failures", made.incidents, border=True)
        st.metric(
            "Resolved alone", f"{100 * made.closed.alone / made.incidents:.0f} %", border=True
        )
        st.metric("Kinds that came back", made.recurring, border=True)
        st.metric("Waiting", made.closed.waiting, border=True)
        st.metric("Wrong acts", made.alone.wrong + made.people.wrong, border=True)
    days = values.share_alone(made.per_day)
    st.subheader("Resolved alone, by day")
    st.bar_chart(
        days, x="day", y=list(_COLOURS), color=list(_COLOURS.values()), x_label="", height=300
    )
    shares = [one["share alone %"] for one in days if one["share alone %"] is not None]
    if len(shares) > 1 and any(shares):  # a line has two ends
        st.line_chart(days, x="day", y="share alone %", x_label="", height=200)


def _tables(made: Report, classes: list[dict[str, object]]) -> None:
    st.subheader("What keeps coming back")
    _rows("again", values.clusters(made.failures), "Nothing failed twice.")
    left, right = st.columns(2)
    with left:
        st.subheader("Worst DAGs")
        table(values.worst_dags(made))
    with right:
        st.subheader("Error classes")
        table(classes)
    st.subheader("Time to retry")
    table(values.times(made))
    st.subheader("Wrong acts")
    _rows("wrong", values.wrong_acts(made), "No act was called wrong.")


def _rows(key: str, rows: Sequence[Row], none: str) -> None:
    if not rows:
        st.text(none)
    for number, row in enumerate(rows):
        if opened(f"{key}-{number}", row.name, (row.what, row.told), tone=row.tone):
            incident_view.look_at(row.id)
