"""What every page is made of: texts that nothing reads as Markdown, errors in words, page turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from aiops_cli.config import Settings
from aiops_cli.dashboard.values import Tone
from aiops_cli.errors import AiopsError
from knowledge.errors import KnowledgeError
from knowledge.redact import clean


@dataclass(frozen=True)
class Visitor:
    """Who looks: `settings` have their name; `instance` is the one Airflow to be shown, or None
    for all; `why_not` says why they may not decide, or is ""."""

    settings: Settings
    instance: str | None
    why_not: str = ""

    @property
    def may_act(self) -> bool:
        return not self.why_not


def plain_text(text: str) -> None:
    """Words that nothing reads as Markdown, without what cannot be seen."""
    st.text(clean(text))


def boxed(key: str, text: str) -> None:
    """What must not be overlooked, in a box. `key` is one of the style's."""
    with st.container(border=True, key=key):
        plain_text(text)


def code(text: str, height: int | Literal["content"] = "content") -> None:
    """Lines as they are, without what cannot be seen."""
    st.code(clean(text), language=None, wrap_lines=True, height=height)


def table(rows: Sequence[Mapping[str, object]]) -> None:
    """A data frame, whose cells nothing reads as Markdown."""
    st.dataframe(
        [
            {name: clean(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            for row in rows
        ],
        hide_index=True,
    )


def heading(text: str) -> None:
    """What the page is about, once on it. `st.header` would read it as Markdown."""
    with st.container(key="heading"):
        plain_text(text)


def strong(key: str, text: str) -> None:
    """A line that stands out. `key` is unique on the page."""
    with st.container(key=f"strong-{key}"):
        plain_text(text)


def small(key: str, text: str, *, width: Literal["stretch", "content"] = "stretch") -> None:
    """A line that stands back."""
    with st.container(key=f"soft-{key}", width=width):
        plain_text(text)


def labelled(key: str, rows: Sequence[tuple[str, str]]) -> None:
    """Sentences, each below its name, where it has one."""
    for number, (label, text) in enumerate(rows):
        with st.container(gap=None):
            if label:
                small(f"{key}-{number}", label)
            plain_text(text)


def opened(
    id_: str, name: str, lines: Sequence[str], *, tone: Tone = "quiet", shown: bool = False
) -> bool:
    """One thing in a list; whether its button was pressed. `shown` is the one beside the list. The
    `tone` is the colour of its edge, which says nothing that the words do not."""
    key = f"row-{tone}-{id_}"
    with st.container(border=True, key=key, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None, width="stretch"):
            strong(id_, name)
            for line in lines[:-1]:
                plain_text(line)
            small(id_, lines[-1])
        return st.button("Shown" if shown else "Open", key=f"open-{id_}", disabled=shown)


def problem(what: str, error: AiopsError | KnowledgeError) -> None:
    """What went wrong, in words. `what` is one of ours; the rest may quote anything."""
    with st.container(border=True, gap="small"):
        st.error(what)
        plain_text(error.message)
        if error.hint:
            plain_text(error.hint)


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Tells what goes wrong inside, and goes on behind it."""
    try:
        yield
    except (AiopsError, KnowledgeError) as error:
        problem(what, error)


def page_turn(key: str, more: bool) -> None:
    """Buttons to the page before and after; the number is kept under `key`."""
    page = st.session_state.get(key, 0)
    with st.container(horizontal=True, key=f"turn-{key}"):
        if page and st.button("Newer", key=f"newer-{key}"):
            st.session_state[key] = page - 1
            st.rerun()
        if more and st.button("Older", key=f"older-{key}"):
            st.session_state[key] = page + 1
            st.rerun()


def go_to(name: str, id_: str, *, anew: str) -> None:
    """To the page `?name=id_`, which forgets what it kept under `anew`."""
    st.session_state.pop(anew, None)
    st.query_params.clear()
    st.query_params[name] = id_
    st.rerun()


def stale(key: str) -> None:
    """The page is not as it was any more. It is made anew when the person says so, without what
    it kept under `key`: they may be typing."""
    with st.container(key="stale"):
        st.warning("This has changed since the page was made.")
        if st.button("Show it as it is now", key="anew"):
            st.session_state.pop(key, None)
            st.rerun()


def pressed_unseen() -> None:
    """A second click, struck before the page was made anew, is no yes to what it shows now."""
    st.warning("This plan has just been made: nothing was done. Look at it, then say yes.")


def flash(text: str) -> None:
    """Kept over the next run of the page, and shown by it."""
    st.session_state["flash"] = text


def show_flash() -> None:
    text = st.session_state.pop("flash", None)
    if text:
        boxed("flash", text)
