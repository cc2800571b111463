"""What waits for a person, and the one incident that is looked at."""

from __future__ import annotations

import streamlit as st

from aiops_cli.dashboard import acts, incident_view, storm_view, values
from aiops_cli.dashboard.parts import Visitor, guarded, opened, page_turn, show_flash, small, strong
from aiops_cli.decide import UNDECIDED
from aiops_cli.storms import STORM

REFRESH = 10  # seconds; the list alone, so that nothing that is being typed is lost
PAGE = "queue-page"


def show(visitor: Visitor) -> None:
    incident, group = (st.query_params.get(name) for name in ("incident", "group"))
    show_flash()
    if incident is None and group is None:
        _filter()
        _waiting(visitor, None)
        return
    beside, main = st.columns([2, 3], gap="large")
    with beside, st.container(key="beside-incident"):
        _filter()
        _waiting(visitor, incident or group)
    with main:
        if st.button("Back to the queue", key="back"):
            st.query_params.clear()
            st.rerun()
        if incident is not None:
            with guarded("This incident cannot be shown"):
                incident_view.show(visitor, incident)
        elif group is not None:
            with guarded("This group cannot be shown"):
                storm_view.show(visitor, group)


def _filter() -> None:
    st.text_input(
        "DAG",
        key="queue-dag",
        placeholder="all, or a pattern such as orders_*",
        width=420,
        on_change=lambda: st.session_state.pop(PAGE, None),
    )


@st.fragment(run_every=REFRESH)
def _waiting(visitor: Visitor, chosen: str | None) -> None:
    with guarded("The queue cannot be read"):
        dag, page = st.session_state.get("queue-dag", ""), st.session_state.get(PAGE, 0)
        listed = acts.incidents(
            visitor.settings,
            instance=visitor.instance,
            statuses=UNDECIDED,
            dag=dag,
            snoozed=False,
            together=STORM,
            page=page,
        )
        count = acts.waiting_count(visitor.settings, visitor.instance)
        if not listed.lines:
            _nothing(dag, page, count)
            return
        small("count", f"waiting for a person: {count}; newest first")
        for line in listed.lines:
            storm, incident = line.count > 1, line.case.incident
            row = (
                values.storm_row(line, listed.short[str(incident.group)])
                if storm
                else values.row(
                    line.case, listed.short[incident.id], listed.holds.get(incident.id, ())
                )
            )
            shown = row.id == chosen
            if opened(row.id, row.name, (row.what, row.told), tone=row.tone, shown=shown):
                (storm_view.look_at if storm else incident_view.look_at)(row.id)
        page_turn(PAGE, listed.more)


def _nothing(dag: str, page: int, count: int) -> None:
    """Why the list is empty."""
    if page:
        strong("empty", "Nothing is left on this page.")
        page_turn(PAGE, more=False)
    elif dag:
        strong("empty", "Nothing that waits fits this pattern.")
        small("empty", f"waiting for a person in all: {count}")
    elif count:
        strong("empty", "Nothing waits for a person now.")
        small("empty", f"left for later: {count}; see the history, status pending")
    else:
        strong("empty", "Nothing waits for a person.")
        small("empty", "What aiops watch finds next shows up here by itself.")
