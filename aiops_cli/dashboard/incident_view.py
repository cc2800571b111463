"""One incident: its error, its diagnosis, its plan, and what a person may say of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import streamlit as st

from aiops_cli import decide, story
from aiops_cli.actions import CATALOGUE
from aiops_cli.commands import typed
from aiops_cli.dashboard import acts, values
from aiops_cli.dashboard.acts import Edit, Shown
from aiops_cli.dashboard.parts import (
    Visitor,
    boxed,
    code,
    flash,
    go_to,
    guarded,
    heading,
    labelled,
    plain_text,
    pressed_unseen,
    problem,
    small,
    stale,
    table,
)
from aiops_cli.errors import AiopsError
from aiops_cli.published import incident_document, proposed_action
from aiops_cli.render import task_name
from knowledge.errors import KnowledgeError
from knowledge.records import Case

REFRESH = 5  # seconds, of the line that tells how it stands

_SHOWN = "shown"  # the plan that is looked at, with the state of the incident it was made for
_SAFE = {
    "this task, after this failure": None,
    "this task, whatever fails": True,
    "not by itself: it may not run twice": False,
}


def look_at(id_: str) -> None:
    """Go to an incident; its plan is made anew."""
    go_to("incident", id_, anew=_SHOWN)


def chosen(visitor: Visitor, back: str) -> bool:
    """Show the incident that the page's address names, below a button that leads `back`. False
    where it names none."""
    id_ = st.query_params.get("incident")
    if id_ is None:
        return False
    if st.button(back, key="back"):
        st.query_params.clear()
        st.rerun()
    with guarded("This incident cannot be shown"):
        show(visitor, id_)
    return True


def show(visitor: Visitor, id_: str) -> None:
    case, holds = acts.incident(visitor.settings, id_)
    id_ = case.incident.id
    written = acts.story(visitor.settings, id_)
    doc = incident_document(case)
    heading(values.one_line(task_name(doc)))
    kept, looks = _kept(id_), values.looks(case, holds)
    _standing(visitor, id_, looks if kept is None else kept[0])
    labelled("fact", values.facts(doc))
    st.subheader("What failed")
    plain_text(values.what(doc))
    notice = case.incident.excerpt.notice
    if notice:
        small("notice", notice)
    if case.incident.excerpt.text:
        lines = values.log_lines(case)
        code(lines, _height(lines))
    st.subheader("What it is")
    labelled("diagnosed", values.diagnosed(doc))
    like = values.matches(doc)
    if like:
        with st.expander("What is like it"):
            table(like)
    if values.waits(doc):
        _decide(visitor, case, looks, None if kept is None else kept[1])
    st.subheader("The story")
    labelled("story", story.told(story.story(case, written)))
    for number, (name, plan) in enumerate(story.plans(written)):
        small(f"done-{number}", name)
        code(values.plan_words(plan))


def _kept(id_: str) -> tuple[tuple[object, ...], Shown] | None:
    """The plan that an earlier run of this page has shown."""
    kept: tuple[tuple[object, ...], Shown] | None = st.session_state.get(_SHOWN)
    return kept if kept is not None and kept[1].incident == id_ else None


def _height(lines: str) -> int | Literal["content"]:
    """A long log scrolls, so that what is said of it stays in reach."""
    return 320 if lines.count("\n") > 14 else "content"


@st.fragment(run_every=REFRESH)
def _standing(visitor: Visitor, id_: str, seen: tuple[object, ...]) -> None:
    """How it stands now. Where that is not what the page shows, it says so and leaves what is
    being typed alone."""
    with guarded("How it stands cannot be read"):
        case, holds = acts.incident(visitor.settings, id_)
        small("standing", values.standing(case))
        if holds:
            boxed("held", values.held(holds))
        if values.looks(case, holds) != seen:
            stale(_SHOWN)


def _decide(visitor: Visitor, case: Case, looks: tuple[object, ...], seen: Shown | None) -> None:
    id_, doc = case.incident.id, incident_document(case)
    st.subheader("What is proposed")
    plain_text(story.proposed(doc))
    why = values.not_alone_of([doc])
    if why:
        labelled("alone", [("Not done without a person, because", why)])
    with st.expander("Every check of the gate"):
        table(values.checks(doc))
    _plan(visitor, case, looks, seen)
    if visitor.may_act:
        _edit(visitor, case, doc, looks)
        _reject(visitor, id_)
        _remember(visitor, case, doc)


def _plan(visitor: Visitor, case: Case, looks: tuple[object, ...], seen: Shown | None) -> None:
    """The exact plan, and the yes to it: to none but the one that was `seen`."""
    known = proposed_action(incident_document(case))
    shown = seen or (_made(visitor, case, looks) if known else None)
    if shown is None:
        return
    small("plan", "What yes would do")
    code(values.plan_words(shown.plan))
    if shown.proposed.cause:
        small("said", f"remembered as: {values.one_line(shown.proposed.cause)}")
    if shown.edit.rerun_safe is not None:
        word = "may run again" if shown.edit.rerun_safe else "may not run again by itself"
        small("vouched", f"your yes also says that this task {word}, whatever fails")
    careful = decide.warning(case)
    if careful:
        boxed("careful", careful)
    if not visitor.may_act:
        return
    if shown.edit != Edit() and st.button("Back to what was proposed", key="unedit"):
        del st.session_state[_SHOWN]
        st.rerun()
    if st.button("Approve", key="approve", type="primary"):
        if seen is None:
            pressed_unseen()
        else:
            _carry_out(visitor, seen)


def _made(visitor: Visitor, case: Case, looks: tuple[object, ...]) -> Shown | None:
    """What is proposed now."""
    try:
        with st.spinner("Asking Airflow what it would do"):
            made = acts.plan(visitor.settings, case.incident.id, Edit())
    except (AiopsError, KnowledgeError) as error:
        problem("It cannot be done now", error)
        st.button("Ask again", key="ask-again")
        return None
    st.session_state[_SHOWN] = looks, made
    return made


def _carry_out(visitor: Visitor, shown: Shown) -> None:
    del st.session_state[_SHOWN]
    try:
        with st.spinner("Doing it"):
            done = acts.approve(visitor.settings, shown)
    except (AiopsError, KnowledgeError) as error:
        problem("It was not approved", error)
        return
    flash(f"{shown.incident}: {typed.begun(done)}")
    st.rerun()


def _edit(visitor: Visitor, case: Case, doc: Mapping[str, Any], looks: tuple[object, ...]) -> None:
    id_ = case.incident.id
    known = doc["diagnosis"] or {}
    actions = list(CATALOGUE)
    first = known.get("action") or "retry"
    with st.expander("Do something else"), st.form(f"edit-{id_}", border=False):
        index = actions.index(first) if first in actions else 0
        action = st.selectbox("Action", actions, index=index) or first
        takes = "; ".join(
            f"{one.name}: {', '.join(one.params)}" for one in CATALOGUE.values() if one.params
        )
        line = st.text_input(
            "Parameters", value=typed.as_line(known.get("params") or {}), placeholder="delay=30m"
        )
        small("takes", f"K=V, K=V; {takes}")
        cause = st.text_input("Cause, for next time", value=known.get("cause") or "")
        again = st.selectbox("May run again", list(_SAFE)) or ""
        if st.form_submit_button("Show what it would do"):
            with guarded("This cannot be done"):
                names = CATALOGUE[action].params
                params = typed.of_line(line, names) if names else {}
                edit = Edit(action, params, cause, _SAFE.get(again))
                made = acts.plan(visitor.settings, id_, edit)
                st.session_state[_SHOWN] = looks, made
                st.rerun()


def _reject(visitor: Visitor, id_: str) -> None:
    with st.expander("Reject"), st.form(f"reject-{id_}", border=False):
        reason = st.text_input("Why it is wrong", placeholder="the vendor has to send it anew")
        cause = st.text_input(
            "What it really is", placeholder="left empty, only the no is remembered"
        )
        if st.form_submit_button("Reject"):
            with guarded("It was not rejected"):
                acts.reject(visitor.settings, id_, reason, cause)
                flash(f"{id_}: rejected")
                st.rerun()


def _remember(visitor: Visitor, case: Case, doc: Mapping[str, Any]) -> None:
    id_ = case.incident.id
    with st.expander("This is new, remember it as …"), st.form(f"remember-{id_}", border=False):
        cause = st.text_input("Its cause", value=(doc["diagnosis"] or {}).get("cause") or "")
        others = [name for name in CATALOGUE if name != "none"]
        action = st.selectbox("What is right", ["none", *others]) or "none"
        line = st.text_input("Its parameters", placeholder="delay=30m")
        if st.form_submit_button("Remember it"):
            with guarded("It was not remembered"):
                names = CATALOGUE[action].params
                params = typed.of_line(line, names) if names else {}
                acts.remember(visitor.settings, id_, cause=cause, action=action, params=params)
                flash(f"{id_}: remembered; nothing was done in Airflow")
                st.rerun()
