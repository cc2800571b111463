"""What failed together: one plan for all of it, one yes or one no."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from aiops_cli import decide
from aiops_cli.dashboard import acts, incident_view, values
from aiops_cli.dashboard.acts import Listed, ShownStorm
from aiops_cli.dashboard.parts import (
    Visitor,
    boxed,
    code,
    flash,
    go_to,
    guarded,
    heading,
    labelled,
    opened,
    pressed_unseen,
    problem,
    small,
    stale,
    strong,
)
from aiops_cli.errors import AiopsError
from aiops_cli.published import incident_document
from aiops_cli.storms import Storm
from knowledge.errors import KnowledgeError

_SHOWN = "shown-storm"  # the group, its members' states and the plans that were made for them


def look_at(group: str) -> None:
    """Go to a group; its plans are made anew."""
    go_to("group", group, anew=_SHOWN)


def show(visitor: Visitor, group: str) -> None:
    listed = acts.storm(visitor.settings, group)
    if not listed.lines:
        strong("decided", "Nothing of this group waits for a person any more.")
        small("decided", "The history has what was decided.")
        return
    storm = Storm(tuple(incident_document(line.case) for line in listed.lines))
    count = len(listed.lines)
    heading(f"{count} failures together: {values.one_line(storm.title)}")
    small("told", values.storm_told(storm))
    if listed.more:
        small("more", f"the newest {count}; the others are shown once these are decided")
    kept = st.session_state.get(_SHOWN)
    seen = kept if kept is not None and kept[0] == group else None
    if listed.holds:
        boxed("held", "\n".join(dict.fromkeys(map(values.held, listed.holds.values()))))
    why = values.not_alone_of(storm.members)
    if why:
        labelled("alone", [("Not done without a person, because", why)])
    _standing(visitor, group, seen[1] if seen else _states(listed))
    st.subheader("What yes to all would do")
    _plan(visitor, group, listed, seen[2] if seen else None)
    if visitor.may_act:
        _reject(visitor, listed)
    st.subheader("Each of them")
    for line in listed.lines:
        id_ = line.case.incident.id
        row = values.row(line.case, listed.short[id_], listed.holds.get(id_, ()))
        if opened(f"member-{row.id}", row.name, (row.what, row.told), tone=row.tone):
            incident_view.look_at(row.id)


def _states(listed: Listed) -> tuple[object, ...]:
    cases = [line.case for line in listed.lines]
    return tuple(values.looks(case, listed.holds.get(case.incident.id, ())) for case in cases)


@st.fragment(run_every=incident_view.REFRESH)
def _standing(visitor: Visitor, group: str, seen: tuple[object, ...]) -> None:
    """Where it is not what the page shows any more, it says so and leaves what is being typed
    alone."""
    with guarded("How it stands cannot be read"):
        if _states(acts.storm(visitor.settings, group)) != seen:
            stale(_SHOWN)


def _plan(visitor: Visitor, group: str, listed: Listed, seen: ShownStorm | None) -> None:
    """Every plan, and the yes to them: to none but those that were `seen`."""
    made = seen or _made(visitor, group, listed)
    if made is None:
        return
    names = {
        line.case.incident.id: values.one_line(values.task_name(incident_document(line.case)))
        for line in listed.lines
    }
    if made.shown:
        careful = {line.case.incident.id: decide.warning(line.case) for line in listed.lines}
        plans = ([careful.get(one.incident, ""), values.plan_words(one.plan)] for one in made.shown)
        told = "\n\n".join("\n".join(filter(None, lines)) for lines in plans)
        code(told, height=320 if len(made.shown) > 2 else "content")
    if made.refused:
        small("refused", "Left out")
        labelled("left", [(names.get(id_, id_), why) for id_, why in made.refused])
    if not made.shown:
        strong("nothing", "None of them can be approved as they are: open one to edit it.")
    elif visitor.may_act and st.button(
        f"Approve all {len(made.shown)}", key="approve-all", type="primary"
    ):
        if seen is None:
            pressed_unseen()
        else:
            _carry_out(visitor, seen)
    elif visitor.may_act and len(made.shown) > 1:
        small("canary", "Not sure? Open one of them below, approve that, and see how it ends.")


def _made(visitor: Visitor, group: str, listed: Listed) -> ShownStorm | None:
    """What is proposed now."""
    try:
        with st.spinner("Asking Airflow what it would do"):
            made = acts.plan_storm(visitor.settings, listed)
    except (AiopsError, KnowledgeError) as error:
        problem("It cannot be done now", error)
        st.button("Ask again", key="ask-again")
        return None
    st.session_state[_SHOWN] = group, _states(listed), made
    return made


def _carry_out(visitor: Visitor, made: ShownStorm) -> None:
    del st.session_state[_SHOWN]
    try:
        with st.spinner("Doing it"):
            told = acts.approve_storm(visitor.settings, made.shown)
    except (AiopsError, KnowledgeError) as error:
        problem("They were not approved", error)
        return
    _tell(told)


def _reject(visitor: Visitor, listed: Listed) -> None:
    with st.expander("Reject all"), st.form("reject-all", border=False):
        reason = st.text_input("Why it is wrong", placeholder="the vendor has to send it anew")
        if st.form_submit_button("Reject all"):
            with guarded("They were not rejected"):
                ids = [line.case.incident.id for line in listed.lines]
                _tell(acts.reject_storm(visitor.settings, ids, reason))


def _tell(told: Sequence[tuple[str, str]]) -> None:
    """What came of all, what came of several alike in one line."""
    alike: dict[str, list[str]] = {}
    for id_, text in told:
        alike.setdefault(text, []).append(id_)
    flash("\n".join(f"{_named(ids)}: {text}" for text, ids in alike.items()))
    st.rerun()


def _named(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else f"{len(ids)} of them"
