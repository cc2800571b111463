"""All incidents with filters, and the full story of one."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from aiops_cli.dashboard import acts, incident_view, values
from aiops_cli.dashboard.parts import Visitor, guarded, opened, page_turn, show_flash, small, strong
from knowledge.records import STATUSES

PAGE = "history-page"
SINCE = {
    "24 hours": timedelta(hours=24),
    "7 days": timedelta(days=7),
    "30 days": timedelta(days=30),
    "ever": None,
}


def show(visitor: Visitor) -> None:
    show_flash()
    if incident_view.chosen(visitor, "Back to the history"):
        return

    def from_the_start() -> None:
        st.session_state.pop(PAGE, None)

    first, second, third = st.columns(3)
    statuses = first.multiselect(
        "Status", STATUSES, key="history-status", placeholder="all", on_change=from_the_start
    )
    dag = second.text_input(
        "DAG",
        key="history-dag",
        placeholder="all, or a pattern such as orders_*",
        on_change=from_the_start,
    )
    since = third.selectbox(
        "Failed within", list(SINCE), index=1, key="history-since", on_change=from_the_start
    )
    with guarded("The history cannot be read"):
        listed = acts.incidents(
            visitor.settings,
            instance=visitor.instance,
            statuses=statuses,
            dag=dag,
            since=SINCE[since or "ever"],
            page=st.session_state.get(PAGE, 0),
        )
        if not listed.lines:
            strong("empty", "No incident fits.")
            small("empty", "Look further back, or leave a filter out.")
        for line in listed.lines:
            id_ = line.case.incident.id
            row = values.row(line.case, listed.short[id_], listed.holds.get(id_, ()))
            if opened(row.id, row.name, (row.what, row.told), tone=row.tone):
                incident_view.look_at(row.id)
        page_turn(PAGE, listed.more)
