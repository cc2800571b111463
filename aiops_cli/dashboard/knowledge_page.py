"""What is known: found by an error text, each entry with its record."""

from __future__ import annotations

import streamlit as st

from aiops_cli.commands import typed
from aiops_cli.dashboard import acts, values
from aiops_cli.dashboard.parts import (
    Visitor,
    code,
    flash,
    guarded,
    heading,
    labelled,
    opened,
    page_turn,
    show_flash,
    small,
    strong,
)
from knowledge.records import Entry

PAGE = "knowledge-page"


def show(visitor: Visitor) -> None:
    show_flash()
    chosen = st.query_params.get("entry")
    if chosen is not None:
        if st.button("Back to what is known", key="back"):
            del st.query_params["entry"]
            st.rerun()
        with guarded("This entry cannot be shown"):
            _entry(visitor, chosen)
        return
    text = st.text_input(
        "Find what is known of", key="knowledge-text", placeholder="an error text, or words of one"
    )
    retired = st.toggle(
        "Retired ones too",
        key="knowledge-retired",
        on_change=lambda: st.session_state.pop(PAGE, None),
    )
    with guarded("The knowledge base cannot be read"):
        if text.strip():
            _found(visitor, text)
        else:
            _all(visitor, retired)


def _found(visitor: Visitor, text: str) -> None:
    known = acts.search(visitor.settings, text)
    if known.told:
        small("told", known.told)
    if not known.matches:
        strong("empty", "Nothing fits.")
        small("empty", "The text of the error itself finds most.")
    for match in known.matches:
        _row(match.entry, values.match_told(match))


def _all(visitor: Visitor, retired: bool) -> None:
    page = st.session_state.get(PAGE, 0)
    entries, more = acts.entries(visitor.settings, retired=retired, page=page)
    if entries:
        small("count", "your own first, the newest first")
    elif page:
        strong("empty", "Nothing is left on this page.")
    else:
        strong("empty", "Nothing is known yet.")
        small("empty", "What you approve is remembered; aiops kb seed takes in your runbooks.")
    for entry in entries:
        _row(entry, values.entry_told(entry))
    page_turn(PAGE, more)


def _row(entry: Entry, told: str) -> None:
    lines = (values.one_line(entry.cause), values.one_line(told))
    if opened(entry.id, values.one_line(entry.title), lines):
        st.query_params["entry"] = entry.id
        st.rerun()


def _entry(visitor: Visitor, id_: str) -> None:
    entry, record = acts.entry(visitor.settings, id_)
    heading(values.one_line(entry.title))
    small("told", values.one_line(values.entry_told(entry)))
    params = f"({typed.as_line(entry.params)})" if entry.params else ""
    rows = [
        ("Cause", entry.cause),
        ("Action", f"{entry.action or 'none is known'} {params}".strip()),
        ("Why", entry.explanation),
        ("Record", values.record_told(record)),
        ("Only in", ", ".join(entry.dags)),
        ("Tags", ", ".join(entry.tags)),
        ("Owner", entry.owner or ""),
        ("Edited", entry.edited or ""),
    ]
    labelled("entry", [(label, text) for label, text in rows if text])
    small("symptoms", "It answers to")
    for symptom in entry.symptoms:
        code(symptom.text)
    if visitor.may_act and not entry.retired:
        with st.form("retire"):
            reason = st.text_input("Why it is not true any more")
            if st.form_submit_button("Retire"):
                with guarded("It was not retired"):
                    acts.retire(visitor.settings, entry.id, reason)
                    flash("retired: it is never matched again")
                    st.rerun()
