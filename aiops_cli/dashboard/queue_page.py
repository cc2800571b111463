"""What waits for a person, and the one incident that is looked at."""

from __future__ import annotations

import streamlit as st

from aiops_cli.dashboard import acts, incident_view, values
from aiops_cli.dashboard.parts import Visitor, guarded, opened, page_turn, show_flash, small, strong
from aiops_cli.decide import UNDECIDED

REFRESH = 10  # seconds; the list alone, so that nothing that is being typed is lost
PAGE = "queue-page"


def show(visitor: Visitor) -> None:
    chosen = st.query_params.get("incident")
    show_flash()
    if chosen is None:
        _filter()
        _waiting(visitor, None)
        return
    beside, main = st.columns([2, 3], gap="large")
    with beside, st.container(key="beside-incident"):
        _filter()
        _waiting(visitor, chosen)
    with main:
        if st.button("Back to the queue", key="back"):
            del st.query_params["incident"]
            st.rerun()
        with guarded("This incident cannot be shown"):
            incident_view.show(visitor, chosen)


def _filter() -> None:
    st.text_input(
        "DAG",
        key="queue-dag",
        placeholder="all, or a pattern such as orders_*",
        on_change=lambda: st.session_state.pop(PAGE, None),
    )


@st.fragment(run_every=REFRESH)
def _waiting(visitor: Visitor, chosen: str | None) -> None:
    with guarded("The queue cannot be read"):
        listed = acts.incidents(
            visitor.settings,
            instance=visitor.instance,
            statuses=UNDECIDED,
            dag=st.session_state.get("queue-dag", ""),
            snoozed=False,
            page=st.session_state.get(PAGE, 0),
        )
        if not listed.cases:
            strong("empty", "Nothing waits for a person.")
            small("empty", "What aiops watch finds next shows up here by itself.")
            if st.session_state.get(PAGE):
                page_turn(PAGE, more=False)
            return
        count = acts.waiting_count(visitor.settings, visitor.instance)
        small("count", f"waiting for a person: {count}; newest first")
        for case in listed.cases:
            row = values.row(case, listed.short[case.incident.id])
            shown = row.incident == chosen
            if opened(row.incident, row.name, (row.what, row.told), shown=shown):
                incident_view.look_at(row.incident)
        page_turn(PAGE, listed.more)
